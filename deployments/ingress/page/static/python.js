// Requests as lines for OpenAI's Python SDK. What JSON writes of texts and lists is Python too.

import { hasKey } from "./key.js";

const BASE64 = "from base64 import b64encode\n";

// What the SDK does not know, of translations or of all, but sends as it is.
const UNKNOWN = { translations: ["language"], transcriptions: ["stream_include_times"] };

const RUNS = {
  text: ['    if event.type == "transcript.text.delta":', '        print(event.delta, end="", flush=True)'],
  speakers: ['    if event.type == "transcript.text.segment":', "        print(event.speaker, event.text)"],
};

export function pythonOfForm({ path, fields }) {
  return `${head()}\n\n${callOf(path.split("/").at(-1), fields)}`;
}

function callOf(kind, fields) {
  const call = (told) => `client.audio.${kind}.create(${block(argumentsOf(UNKNOWN[kind], told))})`;
  if (kind === "translations") return `answer = ${call(fields.filter(isPlain))}\nprint(answer.text)`;
  const isTalk = fields.some(([, value]) => value === "diarized_json");
  return [`stream = ${call(fields)}`, "for event in stream:", ...RUNS[isTalk ? "speakers" : "text"]].join("\n");
}

// The SDK streams no translations.
const isPlain = ([name]) => !name.startsWith("stream");

function argumentsOf(unknown, fields) {
  const lists = new Map();
  for (const [name, value] of fields) lists.set(name, [...(lists.get(name) ?? []), value]);
  const told = [...lists].map(([name, values]) => [name.replace("[]", ""), valueOf(name, values)]);
  const [own, more] = [false, true].map((isMore) => told.filter(([name]) => unknown.includes(name) === isMore));
  const extra = more.map(([name, value]) => `${text(name)}: ${value}`).join(", ");
  return [...own.map(([name, value]) => `${name}=${value}`), ...(extra ? [`extra_body={${extra}}`] : [])];
}

function valueOf(name, values) {
  if (name === "file") return `open(${text(values[0].name)}, "rb")`;
  if (name.startsWith("stream")) return "True";
  return name.endsWith("[]") ? `[${values.map(text).join(", ")}]` : text(values[0]);
}

export function pythonOfChat({ model, messages, max_completion_tokens }, file) {
  const written = JSON.stringify(messages, null, 4);
  const audio = written.replace(/"data": "[^"]*"/g, '"data": audio');
  const read = `audio = b64encode(open(${text(file.name)}, "rb").read()).decode()`;
  const limit = `max_completion_tokens=${max_completion_tokens}`;
  const told = [`model=${text(model)}`, `messages=${indented(audio)}`, limit, "stream=True"];
  const call = `client.chat.completions.create(${block(told)})`;
  const print = 'for chunk in stream:\n    print(chunk.choices[0].delta.content or "", end="", flush=True)';
  const begin = audio === written ? [head()] : [`${BASE64}\n${head()}`, read];
  return [...begin, `stream = ${call}\n${print}`].join("\n\n");
}

export function pythonOfSession(session) {
  return `# pip install 'openai[realtime]'
${BASE64}
${head()}

pcm = open("speech.pcm", "rb").read()  # 24 kHz, mono, 16 bit

with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
    connection.session.update(session=${indented(JSON.stringify(session, null, 4))})
    connection.input_audio_buffer.append(audio=b64encode(pcm).decode())
    for event in connection:
        if event.type == "conversation.item.input_audio_transcription.completed":
            print(event.transcript)`;
}

function head() {
  const key = hasKey() ? 'os.environ["OPENAI_API_KEY"]' : '"unused"';
  const client = `client = OpenAI(base_url="${location.origin}/v1", api_key=${key})`;
  return `${hasKey() ? "import os\n\n" : ""}from openai import OpenAI\n\n${client}`;
}

const text = (value) => JSON.stringify(value);
const block = (told) => `\n${told.map((one) => `    ${one},\n`).join("")}`;
const indented = (json) => json.replaceAll("\n", "\n    ");
