// One session of /v1/realtime. The socket gets a secret that soon expires, never the key.

import { ApiError, postJson } from "./api.js";
import { toBase64 } from "./pcm.js";

const SECRETS = "/v1/realtime/client_secrets";
const LAST_WORDS_MS = 10_000;

export function sessionOf({ model, language }) {
  const delay = model.family === "diarize" ? {} : { delay: "low" }; // who speaks is told of whole turns
  const transcription = { model: model.id, ...delay, ...(language && { language }) };
  return { type: "transcription", audio: { input: { transcription, turn_detection: { type: "server_vad" } } } };
}

export async function askForSecret(session) {
  return (await (await postJson(SECRETS, { session })).json()).value;
}

export class Realtime extends EventTarget {
  #socket;
  #isSpeaking = false; // and the server has not yet cut it off
  #awaited = new Set(); // items whose text is still to come
  #isEnding = false;

  // Resolves when sound may be sent. Every event of the server is dispatched as "event", the end as "end",
  // with whether it was wanted and nothing was still to come.
  async connect(secret) {
    const url = new URL("/v1/realtime", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.#socket = new WebSocket(url, ["realtime", `openai-insecure-api-key.${secret}`]);
    this.#socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    await new Promise((resolve, reject) => {
      this.#socket.onopen = resolve;
      this.#socket.onclose = () => reject(new ApiError("The server did not open a live connection."));
    });
    this.#socket.onclose = () => this.dispatchEvent(new CustomEvent("end", { detail: this.#isDone }));
  }

  // Before the connection is there, sound is dropped.
  append(piece) {
    this.#send({ type: "input_audio_buffer.append", audio: toBase64(piece) });
  }

  // What was begun is waited for, but not for ever.
  end() {
    this.#isEnding = true;
    setTimeout(() => this.#socket.close(), LAST_WORDS_MS);
    if (this.#isSpeaking) this.#commit();
    this.#closeWhenDone();
  }

  #commit() {
    this.#send({ type: "input_audio_buffer.commit" });
  }

  get #isDone() {
    return this.#isEnding && !this.#isSpeaking && this.#awaited.size === 0;
  }

  #closeWhenDone() {
    if (this.#isDone) this.#socket.close();
  }

  #send(event) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(event));
  }

  #receive(event) {
    if (event.type === "input_audio_buffer.speech_started") {
      this.#isSpeaking = true;
      if (this.#isEnding) this.#commit(); // it was on its way when the end was asked for
    }
    if (event.type === "input_audio_buffer.committed") {
      this.#isSpeaking = false;
      this.#awaited.add(event.item_id);
    }
    if (/transcription\.(completed|failed)$/.test(event.type)) this.#awaited.delete(event.item_id);
    this.dispatchEvent(new CustomEvent("event", { detail: event }));
    this.#closeWhenDone();
  }
}
