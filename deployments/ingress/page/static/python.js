// Requests as lines for OpenAI's Python SDK. What JSON writes of texts and lists is Python too.

import { hasKey } from "./key.js";

const BASE64 = "from base64 import b64encode\n";

// What the SDK does not know of translations, but sends as it is.
const UNKNOWN = ["language", "timestamp_granularities"];

const RUNS = {
  text: ['    if event.type == "transcript.text.delta":', '        print(event.delta, end="", flush=True)'],
  speakers: ['    if event.type == "transcript.text.segment":', "        print(event.speaker, event.text)"],
};

export function pythonOfForms(requests) {
  // The SDK streams no translations.
  const told = requests.filter(({ path, fields }) => !(isTranslation(path) && isStreamed(fields)));
  return [head(), ...told.map(callOf)].join("\n\n");
}

const isTranslation = (path) => path.endsWith("translations");
const isStreamed = (fields) => fields.some(([name]) => name === "stream");

function callOf({ path, fields }) {
  const call = `client.audio.${path.split("/").at(-1)}.create(${block(argumentsOf(path, fields))})`;
  if (!isStreamed(fields)) return `answer = ${call}\nprint(answer.text)`;
  const isTalk = fields.some(([, value]) => value === "diarized_json");
  return [`stream = ${call}`, "for event in stream:", ...RUNS[isTalk ? "speakers" : "text"]].join("\n");
}

function argumentsOf(path, fields) {
  const lists = new Map();
  for (const [name, value] of fields) lists.set(name, [...(lists.get(name) ?? []), value]);
  const told = [...lists].map(([name, values]) => [name.replace("[]", ""), valueOf(name, values)]);
  if (!isTranslation(path)) return told.map(([name, value]) => `${name}=${value}`);
  const [own, more] = [false, true].map((isMore) => told.filter(([name]) => UNKNOWN.includes(name) === isMore));
  const extra = more.map(([name, value]) => `${text(name)}: ${value}`).join(", ");
  return [...own.map(([name, value]) => `${name}=${value}`), ...(extra ? [`extra_body={${extra}}`] : [])];
}

function valueOf(name, values) {
  if (name === "file") return `open(${text(values[0].name)}, "rb")`;
  if (name === "stream") return "True";
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
