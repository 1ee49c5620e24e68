// Sound as the realtime API wants it: 24 kHz, mono, 16 bit, little-endian.

export const RATE_HZ = 24_000;

const PIECE_SAMPLES = RATE_HZ / 10;

// Samples of any rate from 24 kHz on in, pieces of a tenth of a second out.
export class PcmEncoder {
  #ratio;
  #piece = new DataView(new ArrayBuffer(2 * PIECE_SAMPLES));
  #numWritten = 0;
  #sum = 0;
  #numSummed = 0;
  #due;

  constructor(sourceRateHz) {
    this.#ratio = sourceRateHz / RATE_HZ;
    this.#due = this.#ratio;
  }

  // `onPiece` gets an ArrayBuffer of its own each time. Of a higher rate the samples between two are averaged.
  encode(samples, onPiece) {
    for (const sample of samples) {
      this.#sum += sample;
      this.#numSummed += 1;
      this.#due -= 1;
      if (this.#due >= 0.5) continue;
      this.#due += this.#ratio;
      this.#write(this.#sum / this.#numSummed, onPiece);
      this.#sum = this.#numSummed = 0;
    }
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
