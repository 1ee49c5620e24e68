// Server-sent events: JSON in `data:` lines, with blank ones between.

import { ApiError } from "./api.js";

export class EventReader {
  #rest = "";

  // The events that `text` completes, one by one: what came before an error is not lost with it.
  *read(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: {")) yield eventOf(line.slice(6));
    }
  }
}

function eventOf(data) {
  const event = JSON.parse(data);
  if (event.error) throw new ApiError(event.error.message, 200, event.error.code);
  return event;
}
