// The page: every card is started, and the models are asked for.

import { refreshAsking, startAsking } from "./ask.js";
import { byId } from "./dom.js";
import { startKey } from "./key.js";
import { fillLanguages } from "./languages.js";
import { startLive } from "./live.js";
import { chosenModel, loadModels } from "./models.js";
import { startRecording } from "./recording.js";
import { startSnippets } from "./snippets.js";
import { refreshStatus, startStatus } from "./status.js";

async function refreshModels() {
  try {
    await loadModels();
    byId("problem").textContent = "";
  } catch (error) {
    if (error.status !== 401) byId("problem").textContent = error.message; // the key's own form tells that
  }
  byId("listen").disabled = !chosenModel();
  refreshAsking();
}

fillLanguages();
startKey(refreshModels);
startRecording(() => {
  refreshAsking();
  refreshStatus();
});
startLive();
startAsking();
startSnippets();
await refreshModels();
startStatus();
