// A colour for each speaker, in the order of appearance.

const NUM_COLOURS = 8;

export function newVoices() {
  const speakers = [];
  return (speaker) => {
    if (!speakers.includes(speaker)) speakers.push(speaker);
    return `voice-${speakers.indexOf(speaker) % NUM_COLOURS}`;
  };
}
