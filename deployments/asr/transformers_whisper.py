"""Whisper by transformers' own modules, decoded token by token in a batch that rows join and leave at any step."""

import random
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from deployments.asr.alignment import Aligner
from deployments.asr.cache import WhisperCache
from deployments.asr.checkpoints import is_distilled, load_whisper
from deployments.asr.review import Reviewer
from deployments.asr.row import Attempt, Row
from deployments.asr.sampling import TokenChooser
from deployments.asr.vocabulary import TASKS, Vocabulary
from deployments.decoding.batch import Batch
from deployments.decoding.devices import resolve_dtype
from deployments.engines import EngineArgs, StepOutput
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioChunk, SpeechSegment
from pipelines.errors import InvalidRequest, UnsupportedLanguage
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, RecognizerInfo
from pipelines.whisper import TEMPERATURE_LADDER

MAX_WINDOWS_PER_CHUNK = 12
"""A chunk's own window, and the stretches of it that the decoder skipped."""


class TransformersWhisper:
    """An `AsrEngine`: continuous batching over greedy or sampled decoding with Whisper's fallback ladder."""

    def __init__(self, args: EngineArgs) -> None:
        torch.set_num_threads(args.num_threads)
        self._device = torch.device(args.device)
        dtype = resolve_dtype(args.dtype, self._device, on_gpu=torch.float16)
        checkpoint = load_whisper(args.source, dtype)
        self._model = checkpoint.model.eval().to(self._device)  # type: ignore[arg-type]
        self._features = checkpoint.features
        self._vocabulary = Vocabulary(checkpoint.tokenizer, self._model.generation_config)
        self._chooser = TokenChooser(self._vocabulary)
        self._reviewer = Reviewer(self._vocabulary, Aligner(self._model))
        self._max_length: int = self._model.config.max_target_positions
        self._waiting: list[Row] = []
        self._batch: Batch[Row, WhisperCache] = Batch(WhisperCache)
        languages = frozenset(self._vocabulary.language_ids) or frozenset({"en"})
        translates = self._vocabulary.task_ids and not is_distilled(self._model.config)
        self.info = RecognizerInfo(languages, frozenset(TASKS if translates else TASKS[:1]))

    def add(self, request_id: str, chunk: AudioChunk, options: DecodingOptions) -> None:
        if options.language is not None and options.language not in self.info.languages:
            raise UnsupportedLanguage(f"This model does not know the language '{options.language}'.")
        if options.task not in self.info.tasks:
            raise InvalidRequest("This model cannot translate.", "model")
        seed = options.seed
        if seed is None:  # temperature 0 must be repeatable, also on its fallback ladder
            seed = random.getrandbits(63) if options.temperature > 0 else 0
        row = Row(
            request_id=request_id,
            chunk=chunk,
            options=options,
            seed=seed,
            language=options.language or ("en" if not self._vocabulary.language_ids else None),
            window=SpeechSegment(chunk.offset_s, chunk.end_s),
            attempt=Attempt(options.temperature),
            generator=torch.Generator(),
        )
        row.start(options.temperature)
        self._waiting.append(row)

    def abort(self, request_id: str) -> None:
        self._waiting = [row for row in self._waiting if row.request_id != request_id]
        self._batch.keep([row for row in self._batch.rows if row.request_id != request_id])

    @torch.inference_mode()
    def step(self) -> list[StepOutput[ChunkTranscript]]:
        if self._waiting:
            self._prefill()
        if self._batch.rows:
            self._decode()
        done = [row for row in self._batch.rows if self._is_done(row)]
        self._batch.keep([row for row in self._batch.rows if row not in done])
        return [output for row in done for output in self._finish(row)]

    # Prefill

    def _prefill(self) -> None:
        """Encode and read what waits, and let it join the batch."""
        rows, self._waiting = self._waiting, []
        self._encode([row for row in rows if row.encoded is None])
        self._detect_language([row for row in rows if row.language is None])
        for row in rows:
            assert row.language is not None
            row.prefix = row.prefix or self._vocabulary.prefix(row.options, row.language)
        # Prefixes of one length are read together: no padding, so nothing to mask.
        rows.sort(key=lambda row: len(row.prefix))
        for _, group in groupby(rows, key=lambda row: len(row.prefix)):
            self._read_prefix(list(group))

    def _encode(self, rows: list[Row]) -> None:
        if not rows:
            return
        features = self._features(
            [row.samples for row in rows],
            sampling_rate=SAMPLE_RATE_HZ,
            return_tensors="pt",
            device=str(self._device),
        ).input_features
        encoded = self._model.model.encoder(features.to(self._device, self._model.dtype)).last_hidden_state
        for row, row_encoded in zip(rows, encoded, strict=True):
            row.encoded = row_encoded.clone()

    def _detect_language(self, rows: list[Row]) -> None:
        if not rows:
            return
        start = torch.full((len(rows), 1), self._vocabulary.start_of_transcript, device=self._device)
        hidden = self._model.model.decoder(
            input_ids=start, encoder_hidden_states=_stack(rows), use_cache=False
        ).last_hidden_state
        logits = self._model.proj_out(hidden[:, -1]).float()
        for row, row_logits in zip(rows, logits, strict=True):
            ids = self._vocabulary.language_ids
            candidates = [language for language in row.options.languages if language in ids] or list(ids)
            best = row_logits[[ids[language] for language in candidates]].argmax()
            row.language = candidates[int(best)]

    def _read_prefix(self, rows: list[Row]) -> None:
        cache = WhisperCache()
        hidden = self._model.model.decoder(
            input_ids=torch.tensor([row.prefix for row in rows], device=self._device),
            encoder_hidden_states=_stack(rows),
            past_key_values=cache.both,
            use_cache=True,
        ).last_hidden_state
        cache.num_tokens = [len(row.prefix) for row in rows]
        for row, row_hidden in zip(rows, hidden, strict=True):
            start = row.prefix.index(self._vocabulary.start_of_transcript)
            probabilities = self._model.proj_out(row_hidden[start]).float().softmax(dim=-1)
            row.no_speech_prob = float(probabilities[self._vocabulary.no_speech])
        self._batch.join(rows, cache)
        self._choose(rows, hidden[:, -1])

    # Decode

    def _decode(self) -> None:
        """One token for everybody aboard."""
        rows, cache = self._batch.rows, self._batch.cache
        last = torch.tensor([[row.attempt.tokens[-1]] for row in rows], device=self._device)
        positions = torch.tensor([[length] for length in cache.num_tokens], device=self._device)
        hidden = self._model.model.decoder(
            input_ids=last,
            attention_mask=cache.attention_mask(1, self._device),
            # cross-attention reads the cache; this only tells the decoder that there is one
            encoder_hidden_states=last.new_zeros((len(rows), 1, self._model.config.d_model), dtype=self._model.dtype),
            past_key_values=cache.both,
            position_ids=positions,
            use_cache=True,
        ).last_hidden_state
        cache.num_tokens = [length + 1 for length in cache.num_tokens]
        # A row that chose its last token when it joined is carried one step more, and writes nothing.
        writing = [position for position, row in enumerate(rows) if not self._is_done(row)]
        if writing:
            self._choose([rows[position] for position in writing], hidden[writing, -1])

    def _choose(self, rows: list[Row], hidden: Tensor) -> None:
        logits = self._model.proj_out(hidden).float()
        tokens, logprobs = self._chooser.choose(logits, [row.choice for row in rows])
        for row, token, logprob in zip(rows, tokens, logprobs, strict=True):
            row.attempt.tokens.append(token)
            row.attempt.logprobs.append(logprob)

    def _is_done(self, row: Row) -> bool:
        if row.attempt.tokens[-1] == self._vocabulary.end_of_text:
            return True
        if len(row.attempt.tokens) < self._max_new_tokens(row):
            return False
        row.attempt.finish_reason = "length"
        return True

    def _max_new_tokens(self, row: Row) -> int:
        room = min(self._max_length // 2, self._max_length - len(row.prefix))
        return min(room, row.options.max_tokens or room)

    # Finish

    def _finish(self, row: Row) -> list[StepOutput[ChunkTranscript]]:
        """Accept the window, or try it hotter; then decode what it skipped, or leave for good."""
        if self._reviewer.must_retry(row):
            row.failed_attempts.append(row.attempt)
            row.start(TEMPERATURE_LADDER[len(row.failed_attempts)])
            self._waiting.append(row)
            return []
        row.attempt = self._reviewer.best_attempt(row)
        row.num_windows += 1
        row.num_output_tokens += len(row.attempt.tokens)
        if row.attempt.finish_reason == "length":
            row.finish_reason = "length"
        self._reviewer.accept(row)
        if row.skipped and row.num_windows < MAX_WINDOWS_PER_CHUNK:
            row.window = row.skipped.pop(0)
            row.encoded = None
            row.failed_attempts = []
            row.start(row.options.temperature)
            self._waiting.append(row)
            return []
        return [StepOutput(row.request_id, self._transcript(row))]

    def _transcript(self, row: Row) -> ChunkTranscript:
        assert row.language is not None
        return ChunkTranscript(
            index=row.chunk.index,
            language=row.language,
            segments=tuple(sorted(row.segments, key=lambda segment: segment.start_s)),
            finish_reason=row.finish_reason,
            num_prompt_tokens=max(row.prefix.index(self._vocabulary.start_of_transcript) - 1, 0),
            num_output_tokens=row.num_output_tokens,
        )


def _stack(rows: Sequence[Row]) -> Tensor:
    return torch.stack([row.encoded for row in rows if row.encoded is not None])
