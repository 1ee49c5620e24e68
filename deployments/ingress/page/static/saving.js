// The transcript as a file. The server's own formats are made here of its answer, so that nothing is heard twice.

import { offerCopy } from "./copying.js";
import { byId, save } from "./dom.js";
import { toSrt, toVtt } from "./subtitles.js";

const FORMATS = {
  txt: { type: "text/plain", of: ({ text }) => `${text}\n` },
  srt: { type: "application/x-subrip", of: ({ segments }) => toSrt(segments) },
  vtt: { type: "text/vtt", of: ({ segments }) => toVtt(segments) },
  json: { type: "application/json", of: (answer) => JSON.stringify(answer, null, 2) },
};

const NEED_TIMES = ["srt", "vtt"];

// `current()`: {file, answer}.
export function startSaving(current) {
  for (const button of buttons()) {
    button.addEventListener("click", () => {
      const { file, answer } = current();
      const { type, of } = FORMATS[button.dataset.save];
      save(`${file.name.replace(/\.[^.]*$/, "")}.${button.dataset.save}`, of(answer), type);
    });
  }
  offerCopy(byId("copy-text"), () => current().answer.text);
}

export function allowSaving(answer) {
  for (const button of buttons()) button.disabled = NEED_TIMES.includes(button.dataset.save) && !answer.segments.length;
}

const buttons = () => document.querySelectorAll("[data-save]");
