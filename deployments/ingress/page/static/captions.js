// Captions as they are spoken: what is still being said below what was said.

import { byId, element } from "./dom.js";
import { newVoices } from "./voices.js";

const partials = new Map(); // item to its paragraph
const withSpeakers = new Set(); // items that came as segments

let voiceOf = newVoices();

export function clearCaptions() {
  partials.clear();
  withSpeakers.clear();
  voiceOf = newVoices();
  byId("captions").replaceChildren();
  byId("partial").replaceChildren();
}

export const captionsText = () => [...byId("captions").children].map(({ innerText }) => innerText).join("\n");

export function addDelta(item, text) {
  if (!partials.has(item)) {
    partials.set(item, element("p", { dir: "auto" }));
    byId("partial").append(partials.get(item));
  }
  partials.get(item).append(text);
  keepEndInView();
}

// Only now a screen reader is told: half a sentence would be read again and again.
export function finish(item, text) {
  partials.get(item)?.remove();
  partials.delete(item);
  const isNew = !withSpeakers.delete(item); // else its segments have said it all
  if (isNew && text.trim()) byId("captions").append(element("p", { dir: "auto", textContent: text.trim() }));
  keepEndInView();
}

// As far as it was heard: the rest will not come.
export const finishPartial = (item) => finish(item, partials.get(item)?.textContent ?? "");
export const finishPartials = () => [...partials.keys()].forEach(finishPartial);

export function addSpeaker({ item_id, speaker, text }) {
  withSpeakers.add(item_id);
  const name = element("span", { className: `speaker ${voiceOf(speaker)}`, textContent: `Speaker ${speaker}` });
  byId("captions").append(element("p", { dir: "auto" }, name, text.trim()));
  keepEndInView();
}

function keepEndInView() {
  byId("captions-box").scrollTop = byId("captions-box").scrollHeight;
}
