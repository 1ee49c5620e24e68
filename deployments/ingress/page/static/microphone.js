// The microphone as a stream of PCM.

import { RATE_HZ } from "./pcm.js";
import { closeMicrophone, openMicrophone } from "./recorder.js";

// A function that ends it. `onPiece` gets an ArrayBuffer for every tenth of a second.
export async function listen(onPiece) {
  const stream = await openMicrophone();
  let source = null;
  const end = () => {
    closeMicrophone(stream);
    if (source && source.context.state !== "closed") source.context.close();
  };
  try {
    source = sourceOf(stream);
    await tap(source, onPiece);
  } catch (error) {
    end();
    throw error;
  }
  return end;
}

async function tap(source, onPiece) {
  await source.context.audioWorklet.addModule("/page/pcm-worklet.js");
  const mono = { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" };
  const node = new AudioWorkletNode(source.context, "pcm", mono);
  node.port.onmessage = ({ data }) => onPiece(data);
  source.connect(node);
}

// Firefox does not change the rate of a microphone; then the worklet does.
function sourceOf(stream) {
  try {
    return sourceIn(new AudioContext({ sampleRate: RATE_HZ }), stream);
  } catch {
    return sourceIn(new AudioContext(), stream);
  }
}

function sourceIn(context, stream) {
  try {
    return context.createMediaStreamSource(stream);
  } catch (error) {
    context.close();
    throw error;
  }
}
