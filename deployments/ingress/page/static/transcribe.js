// A recording to text, as it is heard: with the time of every word, or with who says what.

import { ApiError, postForm } from "./api.js";
import { EventReader } from "./sse.js";

const CUT_OFF = "The server's answer ended before the transcript was whole.";
const SPEAKERS = [
  ["response_format", "diarized_json"],
  ["chunking_strategy", "auto"],
  ["stream", "true"],
];
const TIMES = [
  ["stream", "true"],
  ["stream_include_times", "true"],
];

export function requestOf({ file, model, language, translate }) {
  const path = translate ? "/v1/audio/translations" : "/v1/audio/transcriptions";
  const common = [["file", file], ["model", model.id], ...(language ? [["language", language]] : [])];
  return { path, fields: [...common, ...(model.family === "diarize" ? SPEAKERS : TIMES)] };
}

// `watch`: onSent(share), onDelta(text), onSegment(segment) of a speaker.
export async function transcribe(job, signal, { onSent, onDelta, onSegment }) {
  const { path, fields } = requestOf(job);
  const reader = new EventReader();
  const answer = { text: null, segments: [], words: [] };
  let read = 0;
  const take = (body) => {
    const fresh = body.slice(read);
    read = body.length;
    for (const event of reader.read(fresh)) {
      if (event.type === "transcript.text.delta") {
        onDelta(event.delta);
        addTimes(answer, event);
      }
      if (event.type === "transcript.text.done") answer.text = event.text;
      if (event.type === "transcript.text.segment") onSegment(answer.segments[answer.segments.push(segmentOf(event)) - 1]);
    }
  };
  take(await postForm(path, fields, { signal, onSent, onText: take }));
  if (answer.text === null) throw new ApiError(CUT_OFF);
  return answer;
}

function addTimes({ segments, words }, { start, end, delta, words: told }) {
  if (!told) return; // a speaker's segment tells them
  segments.push({ id: segments.length, start, end, text: delta });
  words.push(...told);
}

// The event is also a chunk in another form, which nobody wants to save.
const segmentOf = ({ id, start, end, speaker, text }) => ({ id, start, end, speaker, text });
