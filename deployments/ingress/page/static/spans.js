// Pieces of a transcript in the order of their times, one of which may be lit.

export class Spans {
  #spans = [];
  #lit = null;

  get isEmpty() {
    return this.#spans.length === 0;
  }

  add({ start, end }, node) {
    this.#spans.push({ start, end, node });
  }

  // Lights the one that is heard at `seconds`, and no other: its node, or null.
  light(seconds) {
    const span = this.#spans[this.#lastBegun(seconds)];
    const node = span && seconds <= span.end ? span.node : null;
    if (node !== this.#lit) {
      this.#lit?.classList.remove("current");
      node?.classList.add("current");
      this.#lit = node;
    }
    return node;
  }

  // When the one `step` behind the last that has begun begins, or null.
  startBeside(seconds, step) {
    return this.#spans[Math.max(this.#lastBegun(seconds) + step, 0)]?.start ?? null;
  }

  #lastBegun(seconds) {
    let low = 0;
    let high = this.#spans.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#spans[middle].start <= seconds) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}
