// What the server does now. Asked for only while somebody looks.

import { byId, element, formatTime, setText } from "./dom.js";
import { listedModels } from "./models.js";

const EVERY_MS = 5_000;
const RUNNING = "vllm:num_requests_running";
const WAITING = "vllm:num_requests_waiting";

let timer = null;
let onLook = () => {};
let drawn = null; // the list of models that the table shows
const cells = new Map(); // of its numbers

// `looked` is called whenever the server was asked.
export function startStatus(looked) {
  onLook = looked;
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : refreshStatus()));
  refreshStatus();
}

export async function refreshStatus() {
  try {
    const [health, metrics] = await Promise.all([fetch("/health"), fetch("/metrics")]);
    show(await health.json(), samplesOf(await metrics.text()));
  } catch {
    showState("away", "Not reachable", "The server does not answer.");
  }
  onLook();
  clearTimeout(timer); // another one may have been quicker
  if (!document.hidden) timer = setTimeout(refreshStatus, EVERY_MS);
}

// Of Prometheus' text: {name, labels, value}.
function samplesOf(text) {
  const lines = text.matchAll(/^([\w:]+)(?:\{(.*)\})? (\S+)$/gm);
  return [...lines].map(([, name, labels = "", value]) => ({ name, labels: labelsOf(labels), value: Number(value) }));
}

function labelsOf(text) {
  const pairs = text.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g);
  return Object.fromEntries([...pairs].map(([, name, value]) => [name, value]));
}

function show({ status, unavailable = [], failed = {} }, samples) {
  const [running, waiting] = [RUNNING, WAITING].map((name) => total(samples, name));
  const load = running + waiting ? `${running} running, ${waiting} waiting` : "idle";
  if (status === "healthy") showState("ready", `Ready, ${load}`, "Every deployment can answer.");
  else showState("away", "Not ready", `Not ready: ${unavailable.map((name) => reasonOf(name, failed)).join(" ")}`);
  showModels(samples);
  const audio = total(samples, "auricle_audio_seconds_total");
  const requests = total(samples.filter(({ labels }) => labels.endpoint?.startsWith("/v1/")), "auricle_requests_total");
  byId("server-totals").textContent = `Requests since its start: ${requests}. Audio: ${formatTime(audio)}.`;
}

const reasonOf = (name, failed) => (failed[name] ? `${name}: ${failed[name]}` : `${name}.`);

function showState(kind, short, long) {
  byId("state").className = `state ${kind}`;
  setText("state-text", short);
  setText("server-state", long);
}

function total(samples, wanted) {
  return samples.filter(({ name }) => name === wanted).reduce((sum, { value }) => sum + value, 0);
}

function showModels(samples) {
  if (drawn !== listedModels()) drawModels();
  for (const [id, { running, waiting }] of cells) {
    const ofModel = (name) => total(samples.filter(({ labels }) => labels.model_name === id), name);
    running.textContent = ofModel(RUNNING);
    waiting.textContent = ofModel(WAITING);
  }
}

function drawModels() {
  drawn = listedModels();
  cells.clear();
  byId("server-models").replaceChildren(...drawn.filter(({ id, root }) => id === root).map(rowOf));
}

function rowOf({ id, task }) {
  const [running, waiting] = [element("td"), element("td")];
  cells.set(id, { running, waiting });
  const does = element("td", { textContent: task === "chat" ? "chat" : "speech to text" });
  return element("tr", {}, element("td", {}, id, ...aliasesOf(id)), does, running, waiting);
}

function aliasesOf(root) {
  const aliases = drawn.filter((card) => card.root === root && card.id !== root).map(({ id }) => id);
  if (!aliases.length) return [];
  const summary = element("summary", { textContent: `${aliases.length} more names` });
  return [element("details", {}, summary, aliases.join(", "))];
}
