"""Silero VAD by onnxruntime, many frames a call.

The `silero-vad` wheel carries the weights; importing its Python package would pull in torch for nothing.
Its "sequence" export runs the recurrent network over a block of frames inside one call: measured here
2 times as fast as the frame-by-frame export and 8 times as fast as TorchScript, with equal probabilities.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from pipelines.audio_types import Samples
from pipelines.vad import FRAME_SAMPLES

CONTEXT_SAMPLES = 64
FRAMES_AT_ONCE = 1_000
"""What the network takes in memory grows with it."""


class SileroModel:
    """The weights; safe to share between threads."""

    def __init__(self, num_threads: int = 1) -> None:
        package = find_spec("silero_vad")
        assert package is not None, "silero-vad is a dependency"
        assert package.origin is not None
        path = Path(package.origin).parent / "data" / "silero_vad_16k_sequence.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class SileroStream:
    """One upload's speech probabilities: feeding it whole or in pieces gives the same numbers."""

    def __init__(self, model: SileroModel) -> None:
        self._session = model.session
        self._hidden = np.zeros((1, 1, 128), np.float32)
        self._cell = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT_SAMPLES, np.float32)
        self._rest: Samples = np.zeros(0, np.float32)

    def push(self, samples: Samples) -> NDArray[np.float32]:
        """Probability of speech for every frame of 32 ms that is now complete."""
        samples = np.concatenate((self._rest, samples))
        num_frames = len(samples) // FRAME_SAMPLES
        self._rest = samples[num_frames * FRAME_SAMPLES :].copy()
        blocks = range(0, num_frames * FRAME_SAMPLES, FRAMES_AT_ONCE * FRAME_SAMPLES)
        whole = samples[: num_frames * FRAME_SAMPLES]
        found = [self._run(whole[start : start + FRAMES_AT_ONCE * FRAME_SAMPLES]) for start in blocks]
        return np.concatenate([np.zeros(0, np.float32), *found])

    def finish(self) -> NDArray[np.float32]:
        """The last frame, filled up with silence."""
        if not len(self._rest):
            return np.zeros(0, np.float32)
        return self._run(np.pad(self._rest, (0, FRAME_SAMPLES - len(self._rest))))

    def _run(self, samples: Samples) -> NDArray[np.float32]:
        if not len(samples):
            return np.zeros(0, np.float32)
        frames = samples.reshape(-1, FRAME_SAMPLES)
        contexts = np.concatenate((self._context[None], frames[:-1, -CONTEXT_SAMPLES:]))
        self._context = frames[-1, -CONTEXT_SAMPLES:].copy()
        probabilities, self._hidden, self._cell = self._session.run(
            ["speech_probs", "hn", "cn"],
            {"input": np.concatenate((contexts, frames), axis=1), "h": self._hidden, "c": self._cell},
        )
        flat: NDArray[np.float32] = np.asarray(probabilities, np.float32).reshape(-1)
        return flat
