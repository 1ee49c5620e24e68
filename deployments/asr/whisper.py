"""Whisper, decoded token by token in a batch that rows join and leave at any step."""

import logging
import random
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import groupby
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from deployments.asr.alignment import alignment_heads, first_frames
from deployments.asr.batch import Batch
from deployments.asr.checkpoints import is_distilled, load_whisper
from deployments.asr.engine import AsrEngineArgs, AsrOutput
from deployments.asr.hearing import Ear
from deployments.asr.languages import PLAIN_PROBABILITY, LanguageDetector
from deployments.asr.network import WhisperNetwork
from deployments.asr.review import Reviewer
from deployments.asr.row import Attempt, Row
from deployments.asr.vocabulary import TASKS, Vocabulary
from deployments.asr.writing import DecodedWindow, Writer
from deployments.decoding.devices import resolve_precision
from deployments.decoding.memory import budget_of
from deployments.engines import StepOutput
from pipelines.audio_types import AudioChunk, SpeechSegment
from pipelines.errors import InvalidRequest, ModelUnavailable, UnsupportedLanguage
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, HeardLanguage, RecognizerInfo, Segment
from pipelines.whisper import TEMPERATURE_LADDER

logger = logging.getLogger("ray.serve")

MAX_WAIT_S = 0.05
"""For words that are being timed; meanwhile somebody may have come."""


class WhisperEngine:
    """An `AsrEngine`: continuous batching over greedy or sampled decoding with Whisper's fallback ladder.

    A window is encoded once and stays in its slot until it has an answer, however often it is tried.
    """

    def __init__(self, args: AsrEngineArgs) -> None:
        torch.set_num_threads(args.num_threads)
        device = torch.device(args.device)
        precision = resolve_precision(args.dtype, device, on_gpu=torch.float16)
        checkpoint = load_whisper(args.source, precision.dtype)
        model = checkpoint.model.eval().to(device)  # type: ignore[arg-type]
        self._vocabulary = Vocabulary(checkpoint.tokenizer, model.generation_config)
        self._network = WhisperNetwork(model, precision, alignment_heads(model))
        self._ear = Ear(self._network, checkpoint.features, args.cache_mb, args.padding_s)
        config = model.config
        del checkpoint, model  # the network has its own copy, and what is loaded is about to be counted
        budget = budget_of(args, kept_bytes=args.cache_mb * 1_000_000)
        has_graphs = device.type == "cuda" and args.cuda_graphs == "auto"
        self._batch = Batch(self._network, self._vocabulary, config.vocab_size, budget, has_graphs)
        self.row_bytes, self.max_rows = self._batch.row_bytes, self._batch.max_rows
        self._languages = LanguageDetector(self._network, self._vocabulary, self._batch.slots)
        self._max_length: int = config.max_target_positions
        self._reviewer = Reviewer(self._vocabulary)
        self._writer = Writer(self._vocabulary, config.median_filter_width)
        self._threads = ThreadPoolExecutor(1, "write")
        self._writes_timestamps = args.timestamps == "tokens"
        self._waiting: list[Row] = []
        self._leaving: list[Row] = []
        """Whose words are still being timed."""
        languages = frozenset(self._vocabulary.language_ids) or frozenset({"en"})
        translates = self._vocabulary.task_ids and not is_distilled(config)
        self.info = RecognizerInfo(languages, frozenset(TASKS if translates else TASKS[:1]))
        first_frames(np.zeros((1, 1), np.float32))  # compiled at load, so that no request waits for it

    def add(self, request_id: str, chunk: AudioChunk, options: DecodingOptions) -> None:
        if options.language is not None and options.language not in self.info.languages:
            raise UnsupportedLanguage(f"This model does not know the language '{options.language}'.")
        if options.task not in self.info.tasks:
            raise InvalidRequest("This model cannot translate.", "model")
        seed = options.seed
        if seed is None:  # temperature 0 must be repeatable, also on its fallback ladder
            seed = random.getrandbits(63) if options.temperature > 0 else 0
        language = options.language or (None if self._vocabulary.language_ids else "en")
        row = Row(
            request_id=request_id,
            chunk=chunk,
            options=options,
            seed=seed,
            is_timed=self._writes_timestamps and options.timestamp_tokens,
            heard=HeardLanguage(language) if language else None,
            attempt=Attempt(options.temperature),
        )
        row.start(options.temperature)
        self._waiting.append(row)

    @torch.inference_mode()
    def abort(self, request_id: str) -> None:
        self._waiting = [row for row in self._waiting if row.request_id != request_id]
        self._batch.leave([row for row in self._batch.rows if row.request_id == request_id])
        for row in [row for row in self._leaving if row.request_id == request_id]:
            self._leaving.remove(row)
            if row.segments:
                row.segments.cancel()

    @torch.inference_mode()
    def step(self) -> list[AsrOutput]:
        outputs = self._board()
        outputs += self._finish_rows()
        if self._batch.rows:
            self._batch.go_on()
            outputs += self._finish_rows()
        return outputs + self._written()

    # Joining

    def _board(self) -> list[AsrOutput]:
        """Encode what waits, and let it join."""
        if self._ear.is_gathering(self._waiting, len(self._batch.rows)):
            return []
        waiting, self._waiting = self._waiting, []
        encoded: dict[Row, Tensor] = {}
        kinds: dict[Row, tuple[int, ...]] = {}
        failed: dict[Row, Exception] = {}
        for row in waiting:
            with self._failing([row], failed):
                kinds[row] = self._kind(row)
        for rows in self._ear.groups(list(kinds)):
            encoded |= self._heard(rows, failed)
        # Those who are told as much as each other read it together: no padding, so nothing to mask.
        kinds = {row: (len(heard), *kinds[row]) for row, heard in encoded.items()}
        for _, group in groupby(sorted(encoded, key=kinds.__getitem__), key=kinds.__getitem__):
            rows = list(group)
            with self._failing(rows, failed):
                self._take_aboard(rows, torch.stack([encoded[row] for row in rows]))
        if failed and not self._batch.rows and not self._leaving:
            raise next(iter(failed.values()))  # the loop counts it: a model that can hear nothing must be replaced
        return _failures(failed)

    @contextmanager
    def _failing(self, rows: Sequence[Row], failed: dict[Row, Exception]) -> Iterator[None]:
        """What goes wrong, such as memory that runs out, concerns these rows alone, and they leave."""
        try:
            yield
        except Exception as error:
            logger.exception("A window failed")
            failed.update(dict.fromkeys(rows, error))
            self._batch.leave(rows)
            self._leaving = [row for row in self._leaving if row not in failed]

    def _heard(self, rows: Sequence[Row], failed: dict[Row, Exception]) -> dict[Row, Tensor]:
        """Where they fail together, each is tried alone."""
        heard: dict[Row, Tensor] = {}
        failed_together: dict[Row, Exception] = {}
        with self._failing(rows, failed_together):
            heard = dict(zip(rows, self._ear.hear(rows), strict=True))
        if len(failed_together) <= 1:
            failed |= failed_together
            return heard
        for row in rows:
            heard |= self._heard([row], failed)
        return heard

    def _kind(self, row: Row) -> tuple[bool, int, int, bool]:
        language = row.heard.language if row.heard else next(iter(self._vocabulary.language_ids))
        num_told = len(self._vocabulary.prefix(row.options, language, row.is_timed))
        return row.heard is None, num_told, len(row.attempt.tokens), row.is_timed

    def _take_aboard(self, rows: Sequence[Row], encoded: Tensor) -> None:
        slots = self._batch.take(rows, encoded)
        if rows[0].heard is None:
            self._detect_language(rows, slots)
            slots = slice(slots.start, len(self._batch.rows))
        if slots.start < slots.stop:
            self._batch.begin(slots)

    def _detect_language(self, rows: Sequence[Row], slots: slice) -> None:
        """Rows whose language changes leave."""
        for slot, (row, heard) in enumerate(zip(rows, self._languages.detect(rows, slots), strict=True), slots.start):
            row.heard = heard
            if row.options.may_change and heard.probability < PLAIN_PROBABILITY:
                row.change = self._languages.change(row, slot)
        changing = [row for row in rows if row.change]
        self._batch.leave(changing)
        self._leaving += changing

    # Leaving

    def _finish_rows(self) -> list[AsrOutput]:
        """Accept windows that have ended, or try them hotter, in their slots: until nobody there has ended."""
        failed: dict[Row, Exception] = {}
        while done := [row for row in self._batch.rows if self._is_done(row)]:
            for row in done:
                with self._failing([row], failed):
                    self._finish(row)
        return _failures(failed)

    def _finish(self, row: Row) -> None:
        if not isfinite(row.attempt.avg_logprob):
            raise FloatingPointError("the model's answer is no number")
        if self._reviewer.must_retry(row):
            self._retry(row)
        else:
            self._accept(row)
            self._batch.leave([row])
            self._leaving.append(row)

    def _is_done(self, row: Row) -> bool:
        if row.attempt.tokens[-1] == self._vocabulary.end_of_text or self._reviewer.cut_loop(row.attempt):
            return True
        if len(row.attempt.tokens) < self._max_new_tokens(row):
            return False
        row.attempt.finish_reason = "length"
        return True

    def _max_new_tokens(self, row: Row) -> int:
        """All that there is room for: scripts that Whisper writes byte by byte take ten times the tokens of English,
        and 30 s of them more than half of it, where the reference implementation stops."""
        room = self._max_length - len(row.prefix)
        return min(room, row.options.max_tokens or room)

    def _retry(self, row: Row) -> None:
        row.failed_attempts.append(row.attempt)
        row.start(TEMPERATURE_LADDER[len(row.failed_attempts)])
        self._batch.begin_again(row)

    def _accept(self, row: Row) -> None:
        last, row.attempt = row.attempt, self._reviewer.best_attempt(row)
        if not self._reviewer.is_heard(row):
            return
        decoded = DecodedWindow(
            SpeechSegment(row.chunk.offset_s, row.chunk.end_s),
            row.speech,
            row.attempt,
            row.no_speech_prob,
            row.options,
            row.is_timed,
            self._scores(row, is_in_slot=row.attempt is last),
        )
        row.segments = self._write(decoded)

    def _scores(self, row: Row, is_in_slot: bool) -> Tensor | None:
        """What `DecodedWindow` wants of them."""
        if not row.options.has_times or (row.is_timed and not row.options.word_timestamps):
            return None
        return self._batch.scores(row, is_in_slot)

    def _write(self, decoded: DecodedWindow) -> "Future[list[Segment]]":
        """Words are timed on a thread of their own, so that nobody's next token waits for it."""
        if decoded.scores is not None:
            return self._threads.submit(self._writer.write, decoded)
        written: Future[list[Segment]] = Future()
        written.set_result(self._writer.write(decoded))
        return written

    def _written(self) -> list[AsrOutput]:
        """Of those who have left the batch, whose words all have their times."""
        if self._leaving and not self._batch.rows:
            wait([row.segments for row in self._leaving[:1] if row.segments], timeout=MAX_WAIT_S)
        done = [row for row in self._leaving if row.segments is None or row.segments.done()]
        self._leaving = [row for row in self._leaving if row not in done]
        return [StepOutput(row.request_id, self._transcript(row), lookups=row.lookups) for row in done]

    def _transcript(self, row: Row) -> ChunkTranscript | ModelUnavailable:
        assert row.heard is not None
        if row.change:
            return ChunkTranscript(row.chunk.index, row.heard.language, change=row.change)
        try:
            segments = row.segments.result() if row.segments else []
        except Exception:
            logger.exception("A window's words could not be timed")
            return ModelUnavailable("The model failed on this request.")
        return ChunkTranscript(
            index=row.chunk.index,
            language=row.heard.language,
            is_language_sure=row.heard.is_sure,
            segments=tuple(segments),
            finish_reason=row.attempt.finish_reason,
            num_prompt_tokens=max(row.prefix.index(self._vocabulary.start_of_transcript) - 1, 0),
            num_output_tokens=len(row.attempt.tokens),
        )


def _failures(failed: Iterable[Row]) -> list[AsrOutput]:
    failure = ModelUnavailable("The model failed on this request.")
    return [StepOutput(row.request_id, failure) for row in failed]
