// The card of the recording: a file goes in, a transcript comes out.

import { isCancelled } from "./api.js";
import { askBeforeLeaving, byId, formatBytes, save } from "./dom.js";
import { chosenLanguage, chosenModel, wantsTranslation } from "./models.js";
import { loadPlayer, startPlayer } from "./player.js";
import { allowSaving, startSaving } from "./saving.js";
import { showRequest } from "./snippets.js";
import { startSources } from "./sources.js";
import { clearTimeline, drawTimeline, movePlayhead } from "./timeline.js";
import { addLines, clearTranscript, showTime, startTranscript } from "./transcript.js";
import { requestOf, transcribe } from "./transcribe.js";
import { newVoices } from "./voices.js";

let file = null;
let isSafe = true; // or it is here only, and nobody has its text or its sound
let answer = null;
let voiceOf = newVoices();
let work = new AbortController();
let onChange = () => {};

export const currentRecording = () => ({ file, answer });

// `changed` is called when there is another file or another transcript.
export function startRecording(changed) {
  onChange = changed;
  startTranscript();
  startSaving(currentRecording);
  startPlayer((seconds) => {
    showTime(seconds);
    movePlayhead(seconds);
  });
  startSources(take);
  byId("save-recording").addEventListener("click", saveRecording);
  askBeforeLeaving(() => !isSafe);
  byId("again").addEventListener("click", run);
  byId("cancel").addEventListener("click", () => work.abort());
}

function take(chosen, isOwn = false) {
  file = chosen;
  isSafe = !isOwn;
  byId("save-recording").hidden = !isOwn;
  byId("drop-zone").classList.add("filled");
  byId("file-name").textContent = `${file.name} (${formatBytes(file.size)})`;
  byId("choose").textContent = "Another file";
  loadPlayer(file);
  run();
}

function saveRecording() {
  save(file.name, file, file.type);
  isSafe = true;
}

async function run() {
  work.abort();
  work = new AbortController();
  clear();
  const model = chosenModel();
  if (!model) {
    setWorking(false);
    fail("This server has no model that transcribes, or wants a key before it says so.");
    return;
  }
  await workOn({ file, model, language: chosenLanguage(), translate: wantsTranslation() }, work.signal);
}

async function workOn(job, signal) {
  const startedAt = Date.now();
  setWorking(true);
  showRequest(requestOf(job));
  try {
    answer = await transcribe(job, signal, watch(job.model));
    isSafe = true;
    showAnswer((Date.now() - startedAt) / 1000);
  } catch (error) {
    if (signal !== work.signal) return; // another one has begun
    fail(isCancelled(error) ? "" : error.message);
  }
  setWorking(false);
  onChange();
}

function clear() {
  answer = null;
  voiceOf = newVoices();
  clearTranscript();
  clearTimeline();
  byId("streamed").textContent = "";
  byId("problem").textContent = "";
  for (const id of ["transcript", "transcript-hint", "downloads"]) byId(id).hidden = true;
  byId("streamed").hidden = false;
  byId("result").hidden = false;
  onChange();
}

// Of the two buttons one is there, and has the focus if the other had it.
function setWorking(isWorking) {
  const [shown, gone] = isWorking ? [byId("cancel"), byId("again")] : [byId("again"), byId("cancel")];
  const hadFocus = document.activeElement === gone;
  byId("work").hidden = !isWorking;
  byId("again").hidden = isWorking;
  if (hadFocus) shown.focus();
}

function watch(model) {
  const isTalk = model.family === "diarize";
  return {
    onSent: showSent,
    onDelta: (text) => {
      if (!isTalk) byId("streamed").append(text);
    },
    onSegment: (segment) => {
      byId("transcript").hidden = false;
      addLines([segment], voiceOf);
    },
  };
}

function showSent(share) {
  if (share < 1) {
    byId("progress").value = share;
    byId("stage").textContent = "Sending";
  } else {
    byId("progress").removeAttribute("value"); // nobody knows how long it takes from here
    byId("stage").textContent = "Listening";
  }
}

function showAnswer(seconds) {
  const { text, segments, words } = answer;
  byId("stage").textContent = text.trim() ? `Done in ${seconds.toFixed(1)} s.` : "No speech was heard.";
  if (segments.length) {
    clearTranscript();
    addLines(segments, voiceOf, words);
    byId("streamed").hidden = true;
    byId("transcript").hidden = false;
    byId("transcript-hint").hidden = false;
  } else {
    byId("streamed").textContent = text;
  }
  if (segments.some(({ speaker }) => speaker)) drawTimeline(segments, voiceOf);
  byId("downloads").hidden = !text.trim();
  allowSaving(answer);
}

function fail(message) {
  byId("stage").textContent = message ? "" : "Cancelled.";
  byId("problem").textContent = message;
}
