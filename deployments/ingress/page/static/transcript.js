// The transcript beside its player: lines and words that light up, and that lead to their moment.

import { byId, element, formatTime } from "./dom.js";
import { seek, toggle } from "./player.js";
import { Spans } from "./spans.js";
import { piecesOf } from "./words.js";

const SLACK_S = 0.02; // a word that was jumped to has begun, whatever the player made of its time

const box = () => byId("transcript");

let lines = new Spans();
let words = new Spans();
let lastSpeaker = null;
let position = 0;

export function clearTranscript() {
  [lines, words, lastSpeaker, position] = [new Spans(), new Spans(), null, 0];
  box().replaceChildren();
}

// Segments may come one by one; `times` are those of words, where there are any.
export function addLines(segments, voiceOf, times = []) {
  const queue = [...times];
  for (const segment of segments) box().append(lineOf(segment, voiceOf, queue));
}

function lineOf(segment, voiceOf, queue) {
  const text = element("div", { dir: "auto" }, ...speakerOf(segment, voiceOf), ...piecesOf(segment, queue).map(nodeOf));
  const time = element("button", { type: "button", tabIndex: -1, textContent: formatTime(segment.start) });
  time.ariaLabel = `Play from ${formatTime(segment.start)}`;
  const node = element("div", { className: "line" }, time, text);
  node.dataset.start = segment.start;
  lines.add(segment, node);
  return node;
}

function speakerOf({ speaker }, voiceOf) {
  if (!speaker || speaker === lastSpeaker) return [];
  lastSpeaker = speaker;
  return [element("span", { className: `speaker ${voiceOf(speaker)}`, textContent: `Speaker ${speaker}` })];
}

function nodeOf({ text, word }) {
  if (!word) return document.createTextNode(text);
  const node = element("span", { className: "word", textContent: text });
  node.dataset.start = word.start;
  words.add(word, node);
  return node;
}

export function showTime(seconds) {
  position = seconds + SLACK_S;
  words.light(position);
  const line = lines.light(position);
  if (line) keepInView(line);
}

// Inside its own box alone: the page does not move under the reader.
function keepInView(node) {
  const above = node.offsetTop - box().scrollTop;
  if (above < 0 || above + node.offsetHeight > box().clientHeight) box().scrollTop = node.offsetTop - 16;
}

export function startTranscript() {
  box().addEventListener("click", ({ target }) => {
    const marked = target.closest(".word") ?? target.closest(".line");
    if (marked) seek(Number(marked.dataset.start));
  });
  box().addEventListener("keydown", onKey);
}

function onKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const small = words.isEmpty ? lines : words;
  const moves = { ArrowLeft: [small, -1], ArrowRight: [small, 1], ArrowUp: [lines, -1], ArrowDown: [lines, 1] };
  if (event.key === " ") toggle();
  else if (event.key in moves) move(...moves[event.key]);
  else return;
  event.preventDefault();
}

function move(spans, step) {
  const start = spans.startBeside(position, step);
  if (start === null) return;
  showTime(start); // the player takes a moment, and the next key may come before
  seek(start);
}
