"""Silero VAD's network of 16 kHz, in numpy, for many frames at once.

A frame of 32 ms is heard on its own but for the LSTM, whose state goes from one to the next. So the spectra and the
four convolutions of a block are matrix products over all its frames, and only the LSTM's own product is done frame by
frame. Each convolution hears a whole frame, of four spectra at most: it is written out as one matrix.

The architecture is that of the package's TorchScript (https://github.com/snakers4/silero-vad, `VADRNNJIT`). Of its
ONNX exports the fastest, which runs many frames in one call as well, takes two to three times as long.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deployments.compat.silero import weights
from pipelines.audio_types import Samples
from pipelines.vad import FRAME_SAMPLES

Floats = NDArray[np.float32]

CONTEXT_SAMPLES = 64
FRAMES_AT_ONCE = 320
"""What the network takes in memory grows with it."""

HOP, PADDING = 128, 64
NUM_SPECTRA = 4
STRIDES = (1, 2, 2, 1)
WIDTH = 128
HALF = np.float32(0.5)


@dataclass(slots=True)
class Memory:
    """The LSTM's state, (128,) each."""

    hidden: Floats = field(default_factory=lambda: np.zeros(WIDTH, np.float32))
    cell: Floats = field(default_factory=lambda: np.zeros(WIDTH, np.float32))


class SileroModel:
    """The weights; safe to share between threads."""

    def __init__(self) -> None:
        named = weights()
        self._waves = _transposed(named["stft.forward_basis_buffer"][:, 0])
        self._layers, length = [], NUM_SPECTRA
        for number, stride in enumerate(STRIDES):
            kernel, bias = (named[f"encoder.{number}.reparam_conv.{name}"] for name in ("weight", "bias"))
            matrix, length = _as_matrix(kernel, length, stride), -(-length // stride)
            self._layers.append((matrix, np.tile(bias, length)))
        order = np.r_[0 : 2 * WIDTH, 3 * WIDTH : 4 * WIDTH, 2 * WIDTH : 3 * WIDTH]  # what is new comes last
        # sigmoid(x) = tanh(x / 2) / 2 + 1 / 2: of halved gates one tanh does for all.
        scale = np.repeat(np.array([0.5, 0.5, 0.5, 1], np.float32), WIDTH)
        inward, recurrent = (named[f"decoder.rnn.weight_{name}"][order] * scale[:, None] for name in ("ih", "hh"))
        self._gates, self._recurrent = _transposed(inward), recurrent
        self._gates_bias = (named["decoder.rnn.bias_ih"] + named["decoder.rnn.bias_hh"])[order] * scale
        self._output = named["decoder.decoder.2.weight"].reshape(WIDTH)
        self._output_bias = named["decoder.decoder.2.bias"]

    def __call__(self, frames: Floats, memory: Memory) -> Floats:
        """Probabilities of speech.

        Args:
            frames: (frames, 576): each the last 64 samples of the one before, and its own 512.
            memory: what frames before these left; changed.
        """
        hidden = self._remember(self._heard(frames), memory)
        logits: Floats = np.maximum(hidden, 0) @ self._output + self._output_bias
        return HALF * np.tanh(HALF * logits) + HALF

    def _heard(self, frames: Floats) -> Floats:
        """What each frame alone says to the LSTM's gates: (frames, 512)."""
        heard = self._spectra(frames)
        for matrix, bias in self._layers:
            heard = heard @ matrix
            heard += bias
            np.maximum(heard, 0, out=heard)
        return heard @ self._gates + self._gates_bias

    def _spectra(self, frames: Floats) -> Floats:
        """Magnitudes of four spectra of each, one behind the other."""
        mirrored = frames[:, -2 : -2 - PADDING : -1]
        hops = np.concatenate((frames, mirrored), axis=1).reshape(len(frames), -1, HOP)
        waves = np.concatenate((hops[:, :-1], hops[:, 1:]), axis=2).reshape(-1, 2 * HOP) @ self._waves
        np.square(waves, out=waves)
        real, imaginary = waves[:, : HOP + 1], waves[:, HOP + 1 :]
        return np.sqrt(real + imaginary).reshape(len(frames), -1)

    def _remember(self, heard: Floats, memory: Memory) -> Floats:
        """The LSTM's hidden states: (frames, 128)."""
        states = np.empty((len(heard), WIDTH), np.float32)
        hidden, cell, recurrent = memory.hidden, memory.cell.copy(), self._recurrent
        gates = np.empty(4 * WIDTH, np.float32)
        opened, (let_in, kept, shown, new) = gates[: 3 * WIDTH], gates.reshape(4, WIDTH)
        for row, state in zip(heard, states, strict=True):
            np.dot(recurrent, hidden, out=gates)
            gates += row
            np.tanh(gates, out=gates)
            opened *= HALF
            opened += HALF
            new *= let_in
            cell *= kept
            cell += new
            np.tanh(cell, out=state)
            state *= shown
            hidden = state
        memory.hidden, memory.cell = hidden.copy(), cell
        return states


class SileroStream:
    """One upload's speech probabilities: feeding it whole or in pieces gives the same numbers."""

    def __init__(self, model: SileroModel) -> None:
        self._model = model
        self._memory = Memory()
        self._context = np.zeros(CONTEXT_SAMPLES, np.float32)
        self._rest: Samples = np.zeros(0, np.float32)

    def push(self, samples: Samples) -> Floats:
        """Probability of speech for every frame of 32 ms that is now complete."""
        samples = np.concatenate((self._rest, samples))
        num_frames = len(samples) // FRAME_SAMPLES
        self._rest = samples[num_frames * FRAME_SAMPLES :].copy()
        frames = samples[: num_frames * FRAME_SAMPLES].reshape(num_frames, FRAME_SAMPLES)
        found = [self._judge(frames[at : at + FRAMES_AT_ONCE]) for at in range(0, num_frames, FRAMES_AT_ONCE)]
        return np.concatenate([np.zeros(0, np.float32), *found])

    def finish(self) -> Floats:
        """The last frame, filled up with silence."""
        if not len(self._rest):
            return np.zeros(0, np.float32)
        return self._judge(np.pad(self._rest, (0, FRAME_SAMPLES - len(self._rest)))[None])

    def _judge(self, frames: Floats) -> Floats:
        contexts = np.concatenate((self._context[None], frames[:-1, -CONTEXT_SAMPLES:]))
        self._context = frames[-1, -CONTEXT_SAMPLES:].copy()
        return self._model(np.concatenate((contexts, frames), axis=1), self._memory)


def _transposed(matrix: Floats) -> Floats:
    return np.ascontiguousarray(matrix.T)


def _as_matrix(kernel: Floats, length: int, stride: int) -> Floats:
    """A convolution over `length` steps, with a silent one before and behind them, as (length * in, steps * out)."""
    num_out, num_in, size = kernel.shape
    starts = range(0, length, stride)
    matrix = np.zeros((length + 2, num_in, len(starts), num_out), np.float32)
    for step, start in enumerate(starts):
        matrix[start : start + size, :, step] = kernel.transpose(2, 1, 0)
    return matrix[1:-1].reshape(length * num_in, len(starts) * num_out)
