// Questions about the recording: to a chat model that hears it, or reads its transcript where the file is big.

import { isCancelled, postJson } from "./api.js";
import { byId, element } from "./dom.js";
import { listedModels } from "./models.js";
import { currentRecording } from "./recording.js";
import { showChat } from "./snippets.js";
import { EventReader } from "./sse.js";

const MAX_SENT_BYTES = 4_000_000;
const MAX_TOKENS = 400; // small models do not always find an end
const FORMATS = ["wav", "mp3", "flac", "mp4", "mpeg", "mpga", "m4a", "aac", "ogg", "oga", "opus", "webm"];

let messages = [];
let asked = null; // the file that they are about
let work = null;

export function startAsking() {
  byId("question-form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask(byId("question").value.trim());
  });
  byId("question").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!byId("send").disabled) byId("question-form").requestSubmit();
  });
  byId("stop").addEventListener("click", () => work?.abort());
}

// What may be asked now, after another recording, transcript or list of models.
export function refreshAsking() {
  byId("ask").hidden = !listedModels().some(({ task }) => task === "chat");
  const { file } = currentRecording();
  if (file !== asked) forget(file);
  const missing = whatIsMissing();
  byId("question").disabled = Boolean(missing);
  byId("send").disabled = Boolean(missing) || work !== null;
  byId("ask-hint").textContent = missing ?? `The model gets the ${isSent(file) ? "recording" : "transcript"}.`;
}

function forget(file) {
  work?.abort();
  [messages, asked] = [[], file];
  byId("conversation").replaceChildren();
  byId("ask-problem").textContent = "";
}

const isSent = (file) => file.size <= MAX_SENT_BYTES;

function whatIsMissing() {
  const { file, answer } = currentRecording();
  if (!file) return "Needs a recording.";
  return isSent(file) || answer?.text ? null : "So big a file needs its transcript first.";
}

async function ask(question) {
  if (!question) return;
  const about = messages;
  const kept = about.length;
  work = new AbortController();
  setAsking(true);
  byId("question").value = "";
  say("user", question);
  const reply = say("assistant", "…");
  try {
    about.push({ role: "user", content: about.length ? question : await firstContent(question) });
    about.push({ role: "assistant", content: await answerTo(about, question, reply) });
  } catch (error) {
    about.length = kept; // so that it may be asked again
    byId("question").value ||= question;
    if (!isCancelled(error)) byId("ask-problem").textContent = error.message;
    if (reply.textContent === "…") reply.textContent = isCancelled(error) ? "Stopped." : "No answer.";
  }
  work = null;
  setAsking(false);
  reply.ariaBusy = "false";
}

async function answerTo(about, question, reply) {
  const { file, answer } = currentRecording();
  const body = { model: byId("chat-model").value, messages: about, max_completion_tokens: MAX_TOKENS, stream: true };
  showChat(body, file);
  try {
    return await read(body, reply);
  } catch (error) {
    // a model that hears nothing, or not so long a recording, may still read what was said in it
    if (error.status !== 400 || about.length > 1 || !isSent(file) || !answer?.text) throw error;
    about[0].content = withTranscript(answer, question);
    showChat(body, file);
    return read(body, reply);
  }
}

const withTranscript = ({ text }, question) => `This is the transcript of a recording:\n\n${text}\n\n${question}`;

function setAsking(isAsking) {
  if (isAsking) byId("ask-problem").textContent = "";
  // neither is there afterwards, or can be pressed
  if ([byId("stop"), byId("send")].includes(document.activeElement)) byId("question").focus();
  byId("stop").hidden = !isAsking;
  refreshAsking();
}

function say(role, text) {
  const said = element("p", { className: `said ${role}`, dir: "auto", textContent: text });
  if (role === "assistant") said.ariaBusy = "true"; // read out when it is whole
  byId("conversation").append(said);
  byId("conversation").scrollTop = byId("conversation").scrollHeight;
  return said;
}

async function firstContent(question) {
  const { file, answer } = currentRecording();
  if (!isSent(file)) return withTranscript(answer, question);
  const extension = file.name.split(".").at(-1).toLowerCase();
  const format = FORMATS.includes(extension) ? extension : "wav"; // a hint only
  const audio = { type: "input_audio", input_audio: { data: await toBase64(file), format } };
  return [{ type: "text", text: question }, audio];
}

function toBase64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("The file cannot be read."));
    reader.readAsDataURL(file);
  });
}

async function read(body, reply) {
  const response = await postJson("/v1/chat/completions", body, work.signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const events = new EventReader();
  let text = "";
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    for (const event of events.read(piece.value)) {
      text += event.choices[0]?.delta.content ?? "";
      if (text) reply.textContent = text;
    }
  }
  return text;
}
