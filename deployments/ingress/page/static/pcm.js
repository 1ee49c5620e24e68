// Sound as the realtime API wants it: 24 kHz, mono, 16 bit, little-endian.

export const RATE_HZ = 24_000;

const PIECE_SAMPLES = RATE_HZ / 10;

// Samples of any rate in, pieces of a tenth of a second out.
export class PcmEncoder {
  #ratio;
  #piece = new DataView(new ArrayBuffer(2 * PIECE_SAMPLES));
  #numWritten = 0;
  #sum = 0;
  #numSummed = 0;
  #before = 0;
  #due; // the next sample, in samples of the source behind the last one that came

  constructor(sourceRateHz) {
    this.#ratio = sourceRateHz / RATE_HZ;
    this.#due = this.#ratio;
  }

  // `onPiece` gets an ArrayBuffer of its own each time.
  encode(samples, onPiece) {
    for (const sample of samples) {
      this.#sum += sample;
      this.#numSummed += 1;
      this.#due -= 1;
      while (this.#due < 0.5) {
        this.#write(this.#ratio < 1 ? this.#between(sample) : this.#sum / this.#numSummed, onPiece);
        this.#due += this.#ratio;
        this.#sum = this.#numSummed = 0;
      }
      this.#before = sample;
    }
  }

  // Of a lower rate, on a straight line from the sample before. (Of a higher one, all that came since are averaged.)
  #between(sample) {
    return this.#before + (sample - this.#before) * (this.#due + 0.5);
  }

  #write(sample, onPiece) {
    const loud = Math.max(-1, Math.min(1, sample)) * 32_767;
    this.#piece.setInt16(2 * this.#numWritten, Math.round(loud), true);
    this.#numWritten += 1;
    if (this.#numWritten < PIECE_SAMPLES) return;
    onPiece(this.#piece.buffer.slice(0));
    this.#numWritten = 0;
  }
}

export function toBase64(buffer) {
  return btoa(String.fromCharCode(...new Uint8Array(buffer)));
}
