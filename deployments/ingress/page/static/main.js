// The page: every card is started, and the models are asked for.

import { refreshAsking, startAsking } from "./ask.js";
import { byId, setText } from "./dom.js";
import { startKey } from "./key.js";
import { fillLanguages } from "./languages.js";
import { startLive } from "./live.js";
import { chosenModel, listedModels, loadModels } from "./models.js";
import { startRecording } from "./recording.js";
import { startSnippets } from "./snippets.js";
import { refreshStatus, startStatus } from "./status.js";

async function refreshModels() {
  try {
    await loadModels();
    setText("problem", "");
  } catch (error) {
    if (error.status !== 401) setText("problem", error.message); // the key's own form tells that
  }
  byId("listen").disabled = !chosenModel();
  refreshAsking();
}

// While the server starts it may not tell them yet. Without a key it never will.
function retryModels() {
  if (listedModels().length === 0 && byId("key-form").hidden) refreshModels();
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
startStatus(retryModels);
