// What the microphone hears, as a file.

const NO_MICROPHONE = "Browsers lend the microphone to pages on https:// or localhost only.";

const BITS_PER_SECOND = 48_000; // more than an hour within the API's 25 MB

export async function openMicrophone() {
  if (!navigator.mediaDevices) throw new Error(NO_MICROPHONE);
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    throw new Error(error.name === "NotFoundError" ? "There is no microphone." : "The microphone was not allowed.");
  }
}

export const closeMicrophone = (stream) => stream.getTracks().forEach((track) => track.stop());

// A function that ends the recording, and resolves to its file.
export async function record() {
  const stream = await openMicrophone();
  try {
    return startRecorder(stream);
  } catch (error) {
    closeMicrophone(stream);
    throw error;
  }
}

function startRecorder(stream) {
  const recorder = new MediaRecorder(stream, { audioBitsPerSecond: BITS_PER_SECOND });
  const pieces = [];
  recorder.addEventListener("dataavailable", ({ data }) => pieces.push(data));
  const file = new Promise((resolve) => {
    recorder.addEventListener("stop", () => {
      closeMicrophone(stream);
      resolve(fileOf(pieces, recorder.mimeType));
    });
  });
  recorder.start();
  return () => {
    if (recorder.state !== "inactive") recorder.stop(); // it stops by itself when the microphone is taken away
    return file;
  };
}

function fileOf(pieces, type) {
  const extension = /mp4|webm|ogg/.exec(type)?.[0] ?? "webm";
  const clock = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
  return new File(pieces, `recording-${clock}.${extension}`, { type });
}
