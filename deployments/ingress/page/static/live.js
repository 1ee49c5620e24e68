// The card of live captions: the microphone to /v1/realtime, captions back.

import { addDelta, addSpeaker, captionsText, clearCaptions, finish, finishPartial, finishPartials } from "./captions.js";
import { byId, save, whileDisabled } from "./dom.js";
import { listen } from "./microphone.js";
import { chosenLanguage, chosenModel } from "./models.js";
import { askForSecret, Realtime, sessionOf } from "./realtime.js";
import { showSession } from "./snippets.js";

const TRANSCRIPTION = "conversation.item.input_audio_transcription";

const EVENTS = {
  "input_audio_buffer.speech_started": () => sayWhileListening("Hearing you"),
  "input_audio_buffer.speech_stopped": () => sayWhileListening("Listening"),
  [`${TRANSCRIPTION}.delta`]: ({ item_id, delta }) => addDelta(item_id, delta),
  [`${TRANSCRIPTION}.completed`]: ({ item_id, transcript }) => finish(item_id, transcript),
  [`${TRANSCRIPTION}.failed`]: ({ item_id, error }) => {
    finishPartial(item_id);
    complain(error.message);
  },
  [`${TRANSCRIPTION}.segment`]: addSpeaker,
  error: ({ error }) => complain(error.message),
};

const say = (text) => (byId("live-state").textContent = text);
const sayWhileListening = (text) => isEnding || say(text);
const complain = (text) => (byId("live-problem").textContent = text);

let stop = null; // while it listens
let isEnding = false; // and only the last words are waited for

export function startLive() {
  byId("listen").addEventListener("click", () => whileDisabled(byId("listen"), stop ?? start));
  byId("save-captions").addEventListener("click", () => save("captions.txt", `${captionsText()}\n`));
}

async function start() {
  complain("");
  say("Asking the server");
  try {
    await open(sessionOf({ model: chosenModel(), language: chosenLanguage() }));
  } catch (error) {
    say("");
    complain(error.message);
  }
}

async function open(session) {
  showSession(session);
  const secret = await askForSecret(session);
  const realtime = new Realtime();
  realtime.addEventListener("event", ({ detail }) => EVENTS[detail.type]?.(detail));
  const silence = await listen((piece) => realtime.append(piece));
  clearCaptions();
  try {
    await realtime.connect(secret);
  } catch (error) {
    silence();
    throw error;
  }
  const ended = new Promise((resolve) => realtime.addEventListener("end", resolve));
  ended.then(({ detail: isWhole }) => {
    silence();
    finishPartials();
    showStopped();
    if (!isWhole) complain("The server ended the live connection.");
  });
  showListening(() => {
    silence();
    isEnding = true;
    say("Waiting for the last words");
    realtime.end();
    return ended;
  });
}

function showListening(end) {
  stop = end;
  isEnding = false;
  byId("listen").classList.add("active");
  byId("listen-text").textContent = "Stop listening";
  byId("captions-box").hidden = false;
  byId("save-captions").hidden = true;
  say("Listening");
}

function showStopped() {
  stop = null;
  byId("listen").classList.remove("active");
  byId("listen-text").textContent = "Start listening";
  byId("captions-box").hidden = byId("save-captions").hidden = !captionsText();
  say("");
}
