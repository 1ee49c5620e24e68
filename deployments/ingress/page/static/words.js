// Where the words of a transcript stand in the text of its segments.

// Pieces of `segment`'s text in order: {text, word}, where `word` is null between words. Takes its words from `queue`.
export function piecesOf(segment, queue) {
  const pieces = [];
  let at = 0;
  while (queue.length && queue[0].start < segment.end) {
    const word = queue.shift();
    const found = segment.text.indexOf(word.word.trim(), at);
    if (found < 0) continue;
    pieces.push({ text: segment.text.slice(at, found), word: null });
    at = found + word.word.trim().length;
    pieces.push({ text: segment.text.slice(found, at), word });
  }
  pieces.push({ text: segment.text.slice(at), word: null });
  return pieces.filter(({ text }) => text);
}
