// SubRip and WebVTT of segments, as the server itself writes them: lines of at most 42 characters.

const MAX_LINE_WIDTH = 42;

export function toSrt(segments) {
  return cuesOf(segments)
    .map(({ start, end, text }, index) => `${index + 1}\n${stamp(start, ",")} --> ${stamp(end, ",")}\n${text}\n\n`)
    .join("");
}

export function toVtt(segments) {
  const cues = cuesOf(segments).map(
    ({ start, end, text }) => `${stamp(start, ".")} --> ${stamp(end, ".")}\n${escape(text)}\n\n`,
  );
  return `WEBVTT\n\n${cues.join("")}`;
}

// In milliseconds, without overlaps and empty ones.
function cuesOf(segments) {
  const shown = segments.filter(({ text }) => text.trim());
  return shown.map((segment, index) => {
    const start = Math.round(segment.start * 1000);
    const next = index + 1 < shown.length ? Math.round(shown[index + 1].start * 1000) : Infinity;
    const end = Math.max(start, Math.min(Math.round(segment.end * 1000), next));
    const name = segment.speaker ? `${segment.speaker}: ` : "";
    return { start, end, text: wrap(name + segment.text) };
  });
}

// A word longer than a line, as scripts without spaces have it, is cut where the line ends.
function wrap(text) {
  const lines = [[]];
  for (const word of text.trim().split(/\s+/)) {
    const letters = [...word];
    for (let used = lengthWithSpace(lines); used + letters.length > MAX_LINE_WIDTH; used = 0) {
      const room = letters.length > MAX_LINE_WIDTH ? MAX_LINE_WIDTH - used : 0;
      if (room > 0) add(lines, letters.splice(0, room));
      lines.push([]);
    }
    if (letters.length) add(lines, letters);
  }
  return lines.map((line) => line.join("")).join("\n");
}

const lengthWithSpace = (lines) => (lines.at(-1).length ? lines.at(-1).length + 1 : 0);

const add = (lines, letters) => lines.at(-1).push(...(lines.at(-1).length ? [" "] : []), ...letters);

function stamp(milliseconds, mark) {
  const seconds = Math.floor(milliseconds / 1000);
  const clock = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const digits = (number, length) => String(number).padStart(length, "0");
  return `${clock.map((part) => digits(part, 2)).join(":")}${mark}${digits(milliseconds % 1000, 3)}`;
}

const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
