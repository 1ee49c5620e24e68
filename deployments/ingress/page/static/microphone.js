// The microphone as a stream of PCM.

import { RATE_HZ } from "./pcm.js";
import { closeMicrophone, openMicrophone } from "./recorder.js";

// A function that ends it. `onPiece` gets an ArrayBuffer for every tenth of a second.
export async function listen(onPiece) {
  const stream = await openMicrophone();
  const { context, source } = sourceOf(stream);
  await context.audioWorklet.addModule("/page/pcm-worklet.js");
  const mono = { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" };
  const node = new AudioWorkletNode(context, "pcm", mono);
  node.port.onmessage = ({ data }) => onPiece(data);
  source.connect(node);
  return () => {
    closeMicrophone(stream);
    if (context.state !== "closed") context.close();
  };
}

// Firefox does not change the rate of a microphone; then the worklet does.
function sourceOf(stream) {
  const context = new AudioContext({ sampleRate: RATE_HZ });
  try {
    return { context, source: context.createMediaStreamSource(stream) };
  } catch {
    context.close();
    const own = new AudioContext();
    return { context: own, source: own.createMediaStreamSource(stream) };
  }
}
