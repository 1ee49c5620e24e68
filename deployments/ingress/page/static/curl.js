// Requests as lines for a shell.

import { hasKey } from "./key.js";

export function curlOfForm({ path, fields }) {
  const isStreamed = fields.some(([name]) => name === "stream");
  const [, file] = fields.find(([, value]) => value instanceof File);
  const texts = fields.filter(([, value]) => value !== file).map(([name, value]) => `${name}=${value}`);
  const parts = [...texts, partOf(file)].map((part) => `-F ${quote(part)}`);
  return lines([`curl ${isStreamed ? "-N " : ""}${location.origin}${path}`, ...keyLine(), ...parts]);
}

// The audio is not written out: the shell reads it in. What else it would take for its own is kept from it.
export function curlOfChat(body, file) {
  const json = JSON.stringify(body, null, 2).replace(/[\\$`]/g, "\\$&");
  const read = `$(base64 < ${quote(file.name)} | tr -d '\\n')`;
  const audio = json.replace(/"data": "[^"]*"/g, () => `"data": "${read}"`);
  return `${jsonHead("/v1/chat/completions", "-N ")} <<JSON\n${audio}\nJSON`;
}

export function curlOfSession(session) {
  const json = JSON.stringify({ session }, null, 2);
  const head = jsonHead("/v1/realtime/client_secrets", "");
  return `# a secret for one session; the session itself is a WebSocket\n${head} <<'JSON'\n${json}\nJSON`;
}

const jsonHead = (path, options) =>
  lines([`curl ${options}${location.origin}${path}`, ...keyLine(), `-H "Content-Type: application/json"`, "-d @-"]);

const keyLine = () => (hasKey() ? [`-H "Authorization: Bearer $OPENAI_API_KEY"`] : []);

const lines = (parts) => parts.join(" \\\n  ");

// curl has a meaning of its own for commas and semicolons.
const partOf = ({ name }) => (/[",;\\]/.test(name) ? `file=@"${name.replace(/["\\]/g, "\\$&")}"` : `file=@${name}`);

const quote = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
