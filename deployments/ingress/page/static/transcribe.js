// A recording to text: first as it is heard, then with the time of every word where the model tells it.

import { ApiError, postForm } from "./api.js";
import { EventReader } from "./sse.js";

const CUT_OFF = "The server's answer ended before the transcript was whole.";
const TIMES = [
  ["response_format", "verbose_json"],
  ["timestamp_granularities[]", "word"],
  ["timestamp_granularities[]", "segment"],
];
const SPEAKERS = [
  ["response_format", "diarized_json"],
  ["chunking_strategy", "auto"],
];

// The requests that a job takes, in turn.
export function requestsOf({ file, model, language, translate }) {
  const path = translate ? "/v1/audio/translations" : "/v1/audio/transcriptions";
  const common = [["file", file], ["model", model.id], ...(language ? [["language", language]] : [])];
  if (model.family === "diarize") return [{ path, fields: [...common, ...SPEAKERS, ["stream", "true"]] }];
  const text = { path, fields: [...common, ["stream", "true"]] };
  return model.family === "whisper" ? [text, { path, fields: [...common, ...TIMES] }] : [text];
}

// `watch`: onSent(share), onDelta(text), onSegment(segment), onText(answer) when only times are missing.
export async function transcribe(job, signal, watch) {
  const [streamed, timed] = requestsOf(job);
  const answer = await stream(streamed, signal, watch);
  if (!timed) return answer;
  watch.onText(answer);
  return JSON.parse(await postForm(timed.path, timed.fields, { signal }));
}

async function stream({ path, fields }, signal, { onSent, onDelta, onSegment }) {
  const reader = new EventReader();
  const segments = [];
  let read = 0;
  let text = null;
  const take = (body) => {
    const fresh = body.slice(read);
    read = body.length;
    for (const event of reader.read(fresh)) {
      if (event.type === "transcript.text.delta") onDelta(event.delta);
      if (event.type === "transcript.text.done") text = event.text;
      if (event.type === "transcript.text.segment") onSegment(segments[segments.push(segmentOf(event)) - 1]);
    }
  };
  take(await postForm(path, fields, { signal, onSent, onText: take }));
  if (text === null) throw new ApiError(CUT_OFF);
  return segments.length ? { text, segments } : { text };
}

// The event is also a chunk in another form, which nobody wants to save.
const segmentOf = ({ id, start, end, speaker, text }) => ({ id, start, end, speaker, text });
