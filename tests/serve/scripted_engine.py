"""Speech recognisers without a model, for `engine: tests.serve.scripted_engine:<Class>`: they do as they are told.

Every one takes as many seconds over a chunk as the request's prompt says, or else the model's `source`.
"""

import os
import time
from dataclasses import replace
from typing import ClassVar

from deployments.asr.engine import AsrEngineArgs
from deployments.engines import StepOutput
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioChunk
from pipelines.errors import InvalidRequest
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, RecognizerInfo, Segment, Word
from tests.serve.cancelling import Cancelling
from tests.serve.coded_audio import NUMBER_SAMPLES, read_code
from tests.serve.records import Records

STEP_S = 0.01


class CodeReader:
    """Reads what it hears: the text is `first-last` sample of every chunk, the words the numbers in between."""

    info: ClassVar[RecognizerInfo] = RecognizerInfo(frozenset({"en", "de"}))

    def __init__(self, args: AsrEngineArgs) -> None:
        self._default_s = float(args.source)
        self._aboard: dict[str, tuple[float, AudioChunk, DecodingOptions]] = {}

    def add(self, request_id: str, chunk: AudioChunk, options: DecodingOptions) -> None:
        self._aboard[request_id] = (time.monotonic() + self._seconds(chunk, options.prompt), chunk, options)

    def step(self) -> list[StepOutput[ChunkTranscript]]:
        time.sleep(STEP_S)
        now = time.monotonic()
        ready = [request_id for request_id, (due, _, _) in self._aboard.items() if due <= now]
        return [StepOutput(request_id, self._answer(*self._aboard[request_id][1:], request_id)) for request_id in ready]

    def abort(self, request_id: str) -> None:
        self._aboard.pop(request_id, None)

    def _seconds(self, chunk: AudioChunk, prompt: str) -> float:
        return float(prompt) if prompt else self._default_s

    def _answer(self, chunk: AudioChunk, options: DecodingOptions, request_id: str) -> ChunkTranscript:
        del self._aboard[request_id]
        first, last = read_code(chunk.waveform.samples)
        words = []
        for number in range(-(-first // NUMBER_SAMPLES), last // NUMBER_SAMPLES):
            start_s = chunk.offset_s + (number * NUMBER_SAMPLES - first) / SAMPLE_RATE_HZ
            words.append(Word(f" {number}", start_s, start_s + NUMBER_SAMPLES / SAMPLE_RATE_HZ, 1.0))
        return _transcript(chunk, f" {first}-{last}", tuple(words))


class Slow(CodeReader):
    """Answers with its process, its GPU and how many chunks are aboard.

    Prompts beside a number of seconds: `refuse` at once, `fail` in a step, `die` with the whole process, `cancel` the
    replica's own tasks, once; `fail later` at the second chunk, `refuse later` too, while the chunks behind it would
    take 100 s.
    """

    def __init__(self, args: AsrEngineArgs) -> None:
        super().__init__(args)
        self._cancelling = Cancelling()

    def add(self, request_id: str, chunk: AudioChunk, options: DecodingOptions) -> None:
        if options.prompt == "refuse":
            raise InvalidRequest("This engine refuses.", "prompt", "refused")
        if options.prompt == "refuse later" and chunk.index == 1:
            time.sleep(1)  # meanwhile the next chunks arrive
            raise InvalidRequest("This engine refuses.", "prompt", "refused")
        super().add(request_id, chunk, options)

    def _seconds(self, chunk: AudioChunk, prompt: str) -> float:
        if prompt == "refuse later":
            return 100.0 if chunk.index else 0.0
        return 0.0 if prompt.startswith(("fail", "die", "cancel")) else super()._seconds(chunk, prompt)

    def _answer(self, chunk: AudioChunk, options: DecodingOptions, request_id: str) -> ChunkTranscript:
        if options.prompt == "fail" or (options.prompt == "fail later" and chunk.index > 0):
            raise FloatingPointError("this step fails, with secret details")
        if options.prompt == "die":
            os._exit(1)
        if options.prompt == "cancel" and self._cancelling.cancel_once(chunk.index):
            time.sleep(1)  # meanwhile nobody waits any more
        num_aboard = len(self._aboard)
        del self._aboard[request_id]
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES") or "none"
        return _transcript(chunk, f" pid={os.getpid()} gpu={gpu} aboard={num_aboard}", ())


class Talker(CodeReader):
    """Says the numbers that it hears, and writes down when. `source` is the directory of its records.

    Takes as many seconds over a chunk as the request's hotwords say, or with `wait` until the records are released.
    """

    def __init__(self, args: AsrEngineArgs) -> None:
        super().__init__(replace(args, source="0"))
        self._records = Records(args.source)

    def add(self, request_id: str, chunk: AudioChunk, options: DecodingOptions) -> None:
        (said,) = options.keywords or ("0",)
        super().add(request_id, chunk, replace(options, prompt="inf" if said == "wait" else said))
        self._records.write("asr", "begins", index=chunk.index)

    def step(self) -> list[StepOutput[ChunkTranscript]]:
        if self._records.is_released:
            self._aboard = {request_id: (0.0, *asked) for request_id, (_, *asked) in self._aboard.items()}
        return super().step()

    def _answer(self, chunk: AudioChunk, options: DecodingOptions, request_id: str) -> ChunkTranscript:
        transcript = super()._answer(chunk, options, request_id)
        self._records.write("asr", "ends", index=chunk.index)
        (segment,) = transcript.segments
        words = tuple(replace(word, text=word.text.strip()) for word in segment.words)
        text = "".join(f" {word.text}" for word in words)
        return replace(transcript, segments=(replace(segment, text=text, words=words),))


def _transcript(chunk: AudioChunk, text: str, words: tuple[Word, ...]) -> ChunkTranscript:
    segment = Segment(
        start_s=chunk.offset_s,
        end_s=chunk.end_s,
        text=text,
        tokens=(),
        temperature=0.0,
        avg_logprob=-0.1,
        compression_ratio=1.0,
        no_speech_prob=0.0,
        words=words,
    )
    return ChunkTranscript(chunk.index, "en", (segment,), num_output_tokens=1)
