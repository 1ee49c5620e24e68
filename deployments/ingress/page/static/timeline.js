// Who speaks when: a lane for each speaker. The transcript says the same in words, so this is a picture.

import { byId, element } from "./dom.js";
import { seek } from "./player.js";

let duration = 0;
let playheads = [];

export function clearTimeline() {
  playheads = [];
  byId("timeline").hidden = true;
}

export function drawTimeline(segments, voiceOf) {
  duration = Math.max(...segments.map(({ end }) => end), 0.001);
  playheads = [];
  const named = [...new Set(segments.map(({ speaker }) => speaker))];
  byId("timeline").replaceChildren(...named.map((name) => lane(name, segments, voiceOf)));
  byId("timeline").hidden = false;
}

function lane(speaker, segments, voiceOf) {
  const track = element("div", { className: "track" });
  for (const { start, end } of segments.filter((segment) => segment.speaker === speaker)) {
    const turn = element("div", { className: "turn" });
    turn.style.left = share(start);
    turn.style.width = share(end - start);
    track.append(turn);
  }
  const playhead = element("div", { className: "playhead" });
  playheads.push(playhead);
  track.append(playhead);
  track.addEventListener("click", ({ clientX }) => {
    const { left, width } = track.getBoundingClientRect();
    seek(((clientX - left) / width) * duration);
  });
  const name = element("span", { className: "lane-name", textContent: speaker, title: `Speaker ${speaker}` });
  return element("div", { className: `lane ${voiceOf(speaker)}` }, name, track);
}

const share = (seconds) => `${(100 * seconds) / duration}%`;

export function movePlayhead(seconds) {
  for (const playhead of playheads) playhead.style.left = share(Math.min(seconds, duration));
}
