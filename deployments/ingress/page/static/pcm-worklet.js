// On the thread of the sound: hands over pieces as they are full.

import { PcmEncoder } from "./pcm.js";

class PcmProcessor extends AudioWorkletProcessor {
  #encoder = new PcmEncoder(sampleRate);

  process([[samples]]) {
    if (samples) this.#encoder.encode(samples, (piece) => this.port.postMessage(piece, [piece]));
    return true;
  }
}

registerProcessor("pcm", PcmProcessor);
