// The recording's sound, and where it is.

import { byId } from "./dom.js";

const FAR_AWAY_S = 1e7;

const audio = () => byId("player");

export function loadPlayer(file) {
  URL.revokeObjectURL(audio().src);
  byId("player-problem").textContent = "";
  audio().src = URL.createObjectURL(file);
}

export function seek(seconds) {
  audio().currentTime = seconds;
  if (audio().paused) audio().play().catch(() => {}); // what cannot be played says so itself
}

export function toggle() {
  if (audio().paused) audio().play().catch(() => {});
  else audio().pause();
}

// `onTime` gets the position at every frame while it plays, and whenever it was moved.
export function startPlayer(onTime) {
  const tell = () => onTime(audio().currentTime);
  const follow = () => {
    tell();
    if (!audio().paused) requestAnimationFrame(follow);
  };
  audio().addEventListener("play", follow);
  audio().addEventListener("seeked", tell);
  audio().addEventListener("loadedmetadata", findLength);
  audio().addEventListener("error", () => {
    byId("player-problem").textContent = "This browser cannot play the file. The server can read it all the same.";
  });
}

// What a browser has recorded does not say how long it is, until somebody has looked at its end.
function findLength() {
  if (Number.isFinite(audio().duration)) return;
  audio().currentTime = FAR_AWAY_S;
  audio().addEventListener("durationchange", () => (audio().currentTime = 0), { once: true });
}
