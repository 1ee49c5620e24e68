// Where recordings come from: a file that is chosen or dropped, and the microphone.

import { askBeforeLeaving, byId, formatTime, whileDisabled } from "./dom.js";
import { record } from "./recorder.js";

// `take` gets every file, and whether it was recorded here.
export function startSources(take) {
  byId("choose").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    target.value = ""; // the same file may be chosen again
    if (file) take(file);
  });
  startDropping(take);
  startMicrophone(take);
}

// Anywhere on the page: a file that misses its mark would replace the page.
function startDropping(take) {
  const mark = (isOver) => document.body.classList.toggle("dragging", isOver);
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    mark(true);
  });
  addEventListener("dragleave", ({ relatedTarget }) => relatedTarget || mark(false));
  addEventListener("drop", (event) => {
    mark(false);
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    take(event.dataTransfer.files[0]);
  });
}

// The button begins and ends a recording in turn.
function startMicrophone(take) {
  let finish = null;
  const button = byId("record");
  const turn = async () => {
    byId("problem").textContent = "";
    try {
      if (finish) {
        const file = await finish();
        finish = null;
        take(file, true);
      } else finish = showClock(await record());
    } catch (error) {
      byId("problem").textContent = error.message;
    }
  };
  askBeforeLeaving(() => finish !== null);
  button.addEventListener("click", () => whileDisabled(button, turn)); // the browser may ask first
}

function showClock(finish) {
  const button = byId("record");
  const startedAt = Date.now();
  const tick = () => (button.textContent = `Stop recording (${formatTime((Date.now() - startedAt) / 1000)})`);
  const timer = setInterval(tick, 500);
  tick();
  button.classList.add("active");
  return () => {
    clearInterval(timer);
    button.textContent = "Record";
    button.classList.remove("active");
    return finish();
  };
}
