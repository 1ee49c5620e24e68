// The card of the recording: a file goes in, a transcript comes out.

import { isCancelled } from "./api.js";
import { byId, formatBytes, formatTime } from "./dom.js";
import { chosenLanguage, chosenModel, wantsTranslation } from "./models.js";
import { loadPlayer, startPlayer } from "./player.js";
import { record } from "./recorder.js";
import { allowSaving, startSaving } from "./saving.js";
import { showRequests } from "./snippets.js";
import { clearTimeline, drawTimeline, movePlayhead } from "./timeline.js";
import { addLines, clearTranscript, showTime, startTranscript } from "./transcript.js";
import { requestsOf, transcribe } from "./transcribe.js";
import { newVoices } from "./voices.js";

let file = null;
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
  byId("choose").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", ({ target }) => target.files.length && take(target.files[0]));
  byId("again").addEventListener("click", run);
  byId("cancel").addEventListener("click", () => work.abort());
  byId("record").addEventListener("click", startMicrophone);
  startDropping();
}

// Anywhere on the page: a file that misses its mark would replace the page.
function startDropping() {
  const mark = (isOver) => document.body.classList.toggle("dragging", isOver);
  addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(true);
  });
  addEventListener("dragleave", ({ relatedTarget }) => relatedTarget || mark(false));
  addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
}

async function startMicrophone() {
  const button = byId("record");
  let finish;
  try {
    finish = await record();
  } catch (error) {
    byId("problem").textContent = error.message;
    return;
  }
  const startedAt = Date.now();
  const tick = () => (button.textContent = `Stop recording (${formatTime((Date.now() - startedAt) / 1000)})`);
  const timer = setInterval(tick, 500);
  tick();
  button.classList.add("active");
  button.removeEventListener("click", startMicrophone);
  button.addEventListener("click", stop, { once: true });

  async function stop() {
    clearInterval(timer);
    button.textContent = "Record";
    button.classList.remove("active");
    button.addEventListener("click", startMicrophone);
    take(await finish());
  }
}

function take(chosen) {
  file = chosen;
  byId("file").value = ""; // the same file may be chosen again
  byId("drop-zone").classList.add("filled");
  byId("file-name").textContent = `${file.name} (${formatBytes(file.size)})`;
  byId("choose").textContent = "Another file";
  loadPlayer(file);
  run();
}

async function run() {
  work.abort();
  work = new AbortController();
  const { signal } = work;
  clear();
  const model = chosenModel();
  if (!model) return fail("This server has no model that transcribes, or wants a key before it says so.");
  const job = { file, model, language: chosenLanguage(), translate: wantsTranslation() };
  const startedAt = Date.now();
  setWorking(true);
  showRequests(requestsOf(job));
  try {
    answer = await transcribe(job, signal, watch());
    showAnswer((Date.now() - startedAt) / 1000);
  } catch (error) {
    if (signal !== work.signal) return; // another one has begun
    if (answer) showAnswer(0); // without its times
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

function setWorking(isWorking) {
  byId("work").hidden = !isWorking;
  byId("again").hidden = isWorking;
}

function watch() {
  const isTalk = chosenModel().family === "diarize";
  return {
    onSent: showSent,
    onDelta: (text) => {
      if (!isTalk) byId("streamed").append(text);
    },
    onSegment: (segment) => {
      byId("transcript").hidden = false;
      addLines([segment], voiceOf);
    },
    onText: (found) => {
      answer = found;
      byId("stage").textContent = "Finding when each word was said";
    },
  };
}

function showSent(share) {
  if (share < 1) {
    byId("progress").value = share;
    byId("stage").textContent = `Sending: ${Math.floor(100 * share)} %`;
  } else {
    byId("progress").removeAttribute("value"); // nobody knows how long it takes from here
    byId("stage").textContent = "Listening";
  }
}

function showAnswer(seconds) {
  const { text, segments, words } = answer;
  byId("stage").textContent = text.trim() ? `Done in ${seconds.toFixed(1)} s.` : "No speech was heard.";
  if (segments?.length) {
    clearTranscript();
    addLines(segments, voiceOf, words);
    byId("streamed").hidden = true;
    byId("transcript").hidden = false;
    byId("transcript-hint").hidden = false;
  } else {
    byId("streamed").textContent = text;
  }
  if (segments?.some(({ speaker }) => speaker)) drawTimeline(segments, voiceOf);
  byId("downloads").hidden = !text.trim();
  allowSaving(answer);
}

function fail(message) {
  byId("stage").textContent = message ? "" : "Cancelled.";
  byId("problem").textContent = message;
}
