"""Audio language models by transformers' own modules, written token by token in a batch that rows join at any step."""

import logging
import sys
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from deployments.chat.attention import Part, Step, reading
from deployments.chat.batch import Batch, Piece, in_blocks, parted
from deployments.chat.defaults import sampling_defaults
from deployments.chat.engine import ChatEngineArgs, ChatOutput
from deployments.chat.loading import audio_token_id, load_model, load_processor, tokenizer_of
from deployments.chat.packed_model import PackedModel, Ready
from deployments.chat.prompts import Prompter
from deployments.chat.quantizing import quantize
from deployments.chat.row import Prompt, Row
from deployments.chat.sampling import TokenChooser
from deployments.chat.slots import POSITIONS_AT_ONCE, Slots
from deployments.chat.vocabulary import Vocabulary
from deployments.decoding.devices import resolve_precision
from deployments.decoding.memory import budget_of
from deployments.engines import GB, StepOutput
from pipelines.chat_types import ChatModelInfo, Message, SamplingOptions
from pipelines.errors import ConfigurationError, InvalidRequest, ModelUnavailable

logger = logging.getLogger("ray.serve")

STRETCHED = frozenset({"longrope", "dynamic"})

TOKENS_PER_STEP = {"cpu": 128, "cuda": 2048}
"""Of prompts: everybody's next token waits for them."""

USUAL_TOKENS = 2048
"""Of prompt and answer: for so many rows of this length as there is memory for, requests come aboard."""

USUAL_ANSWER = 1024
"""Reserved at first, however long an answer may be: many always say the most. More is taken if there is room."""


class TransformersChat:
    """A `ChatEngine`: continuous batching for whatever `AutoModelForMultimodalLM` or `AutoModelForCausalLM` loads."""

    def __init__(self, args: ChatEngineArgs) -> None:
        torch.set_num_threads(args.num_threads)
        device = torch.device(args.device)
        precision = resolve_precision(args.dtype, device, on_gpu=torch.bfloat16)
        model = load_model(args.source, device, precision.dtype)
        processor = load_processor(args.source, model)
        if precision.has_int8_weights:
            quantize(model, tokenizer_of(processor), precision)
        config = model.config.get_text_config()
        self._model = PackedModel(model)
        self._vocabulary = Vocabulary(tokenizer_of(processor), model.generation_config, config.vocab_size)
        self._chooser: TokenChooser | None = None
        num_tokens = _affordable_tokens(args, model)
        max_tokens = min(_context_length(args, config), num_tokens or sys.maxsize)
        token_id = audio_token_id(model)
        self._prompter = Prompter(processor, token_id, max_tokens)
        sampling = sampling_defaults(model.generation_config)
        self.info = ChatModelInfo(token_id is not None, self._prompter.max_audio_s(), max_tokens, sampling)
        self._tokens_per_step = TOKENS_PER_STEP[device.type]
        self._waiting: list[Row] = []
        self._batch = Batch(max_tokens, num_tokens)
        self.max_rows = None if num_tokens is None else num_tokens // in_blocks(min(max_tokens, USUAL_TOKENS))
        self._has_failed_to_read = False
        self._lets_pass = False
        """Whether prompts that are read at once go before one that is half read, as in every other step."""

    def prepare(self, messages: Sequence[Message]) -> Prompt:
        return self._prompter.prepare(messages)

    def add(self, request_id: str, prompt: Prompt, options: SamplingOptions, written: Sequence[int] = ()) -> None:
        unknown = [token_id for token_id in options.logit_bias if not 0 <= token_id < self._vocabulary.size]
        if unknown:
            raise InvalidRequest(f"logit_bias: this model has no token {unknown[0]}.", "logit_bias")
        room = self.info.max_context_tokens - prompt.num_tokens
        max_tokens = min(options.max_tokens or room, room)
        row = Row(request_id, prompt, options, max_tokens, self._vocabulary)
        row.resume(written)
        row.reserve(min(options.max_tokens or USUAL_ANSWER, USUAL_ANSWER))
        self._waiting.append(row)

    @torch.inference_mode()
    def abort(self, request_id: str) -> None:
        self._waiting = [row for row in self._waiting if row.request_id != request_id]
        for row in [row for row in self._batch.rows if row.request_id == request_id]:
            self._batch.leave(row)
        self._forget_if_empty()

    def _forget_if_empty(self) -> None:
        """The chooser holds the rows it is for."""
        if not self._batch.rows:
            self._chooser = None

    @torch.inference_mode()
    def step(self) -> list[ChatOutput]:
        """Write a token for everybody, and read of the prompts that wait as many tokens as a step has room for."""
        self._prolong()
        writing = [Piece(row, row.num_read, row.num_tokens) for row in self._batch.writing]
        pieces = self._next_pieces()
        is_heard = any(piece.is_heard for piece in pieces)
        groups = [writing, pieces] if is_heard else [[*writing, *pieces]]
        ready, failed = self._read([group for group in groups if group])
        ready += self._fork(failed)
        return failed + self._choose(ready)

    def _prolong(self) -> None:
        """Who has written all that was reserved gets more, or waits until others have left, and is read again."""
        for row in self._batch.writing:
            if row.num_tokens > row.reserved and not self._batch.prolong(row):
                self._batch.leave(row)
                row.start_over()
                row.reserve(USUAL_ANSWER)
                self._waiting.insert(0, row)

    def _next_pieces(self) -> list[Piece]:
        """What is read of the prompts; one with audio is read by itself."""
        half_read = self._batch.reading
        self._lets_pass = bool(half_read) and not self._lets_pass
        pieces = self._short_pieces() if self._lets_pass else []
        room = self._tokens_per_step - sum(piece.num_tokens for piece in pieces)
        for row in [*half_read, *self._waiting]:
            is_waiting = row not in half_read
            if is_waiting and self._awaits_twin(row):
                continue
            piece = Piece.next(row, room)
            if piece is None or (piece.is_heard and pieces):
                break
            if is_waiting and not self._batch.has_room(row):
                break
            if is_waiting:
                self._board(row)
            pieces.append(piece)
            room -= piece.num_tokens
            if piece.is_heard or not piece.is_whole:
                break
        return pieces

    def _short_pieces(self) -> list[Piece]:
        """Of those who wait while a long prompt is read: whose own is read within this step."""
        pieces: list[Piece] = []
        room = self._tokens_per_step
        for row in list(self._waiting):
            if self._awaits_twin(row):
                continue
            if not self._batch.has_room(row):
                break  # who waits for room is not overtaken
            piece = None if row.prompt.has_audio else Piece.next(row, room)
            if piece is None or not piece.is_whole:
                continue
            try:
                self._board(row, passes=True)
            except Exception:  # no memory to make way: it comes aboard later
                logger.exception("A short prompt could not pass a long one")
                break
            pieces.append(piece)
            room -= piece.num_tokens
        return pieces

    def _board(self, row: Row, passes: bool = False) -> None:
        self._batch.board(row, passes)
        self._waiting.remove(row)

    def _awaits_twin(self, row: Row) -> bool:
        """Whether its prompt is read for somebody else just now, or has been."""
        return not row.written and self._batch.twin(row) is not None

    def _read(self, groups: list[list[Piece]]) -> tuple[list[Ready], list[ChatOutput]]:
        """Also returns whose prompt failed. Where a group fails, those who write are read without the others, and each
        of the others alone, so that nobody is taken along."""
        ready: list[Ready] = []
        failed: list[ChatOutput] = []
        while groups:
            group, *groups = groups
            try:
                ready.append(self._model.read(self._batch, group))
            except Exception:
                writing, reading = parted(group)
                if not reading:
                    raise
                if len(group) > 1:
                    groups = [part for part in (writing, *([piece] for piece in reading)) if part] + groups
                    continue
                self._batch.leave(group[0].row)
                if not (ready or groups) and (self._has_failed_to_read or not self._waiting):
                    raise  # the loop counts it: a model that can read nothing must be replaced
                failed.append(_failure(group[0].row))
        if ready or failed:
            self._has_failed_to_read = not ready
        return ready, failed

    def _fork(self, failed: list[ChatOutput]) -> list[Ready]:
        """Whose prompt was read for somebody else comes aboard; who finds no room has `failed`."""
        forked: list[Row] = []
        for row in list(self._waiting):
            if not self._batch.has_room(row):
                break  # who waits for room is not overtaken
            twin = None if row.written else self._batch.twin(row)
            if twin is None or twin.first_logits is None:
                continue
            self._waiting.remove(row)
            try:
                self._batch.fork(row, twin)
            except Exception:
                failed.append(_failure(row))
            else:
                forked.append(row)
        logits = [row.first_logits for row in forked if row.first_logits is not None]
        return [Ready(forked, torch.stack(logits))] if forked else []

    def _choose(self, ready: Sequence[Ready]) -> list[ChatOutput]:
        """Everybody's next token; whose last one it is, leaves."""
        rows = [row for one in ready for row in one.rows]
        if not rows:
            return []
        logits = ready[0].logits if len(ready) == 1 else torch.cat([one.logits for one in ready])
        if self._chooser is None or self._chooser.rows != rows:
            self._chooser = TokenChooser(self._vocabulary, rows, logits.shape[-1], logits.device)
        chosen = self._chooser.choose(logits)
        deltas = [row.accept(*choice) for row, choice in zip(rows, chosen, strict=True)]
        for row, delta in zip(rows, deltas, strict=True):
            if delta.finish_reason:
                self._batch.leave(row)
        self._forget_if_empty()
        return [
            StepOutput(row.request_id, delta, is_last=delta.finish_reason is not None)
            for row, delta in zip(rows, deltas, strict=True)
            if delta.is_news
        ]


def _failure(row: Row) -> ChatOutput:
    logger.exception("A prompt could not be read")
    return StepOutput(row.request_id, ModelUnavailable("The model failed on this request."), is_last=True)


def _affordable_tokens(args: ChatEngineArgs, model: PreTrainedModel) -> int | None:
    """For whose keys and values there is memory, of all rows together; a layer grows beside its smaller self."""
    budget = budget_of(args)
    if budget is None:
        return None
    token_bytes = _bytes_of_a_token(model)
    num_tokens = budget.num_rows(POSITIONS_AT_ONCE * token_bytes, f"a conversation of {POSITIONS_AT_ONCE} tokens")
    num_tokens *= POSITIONS_AT_ONCE
    logger.info("%d tokens of %s: %.1f GB", num_tokens, args.source, num_tokens * token_bytes / GB)
    return num_tokens


@torch.inference_mode()
def _bytes_of_a_token(model: PreTrainedModel) -> float:
    """Measured: what a configuration calls a head's width is not always that of its keys, or of its values. Another
    layer's are added."""
    slots, places = Slots(), torch.arange(POSITIONS_AT_ONCE, device=model.device)[None]
    with reading(Step(slots, [Part(0, 0, POSITIONS_AT_ONCE)], 0, model.device)):
        model.get_decoder()(input_ids=torch.zeros_like(places), position_ids=places, use_cache=False)
    return slots.num_bytes / POSITIONS_AT_ONCE * (1 + 1 / slots.num_layers)


def _context_length(args: ChatEngineArgs, config: Any) -> int:
    own_limit, unstretched = getattr(config, "max_position_embeddings", None), _unstretched(config)
    if unstretched:
        logger.info("Its context is %d tokens: beyond, one row's length would move the others' positions", unstretched)
    limits = [limit for limit in (args.max_context_tokens, own_limit, unstretched) if limit]
    if not limits:
        raise ConfigurationError(f"'{args.source}' does not say how long its context is: set max_context_tokens.")
    return min(limits)


def _unstretched(config: Any) -> int | None:
    """How far the rotary embedding is the same for all lengths, where transformers chooses it by the longest row of a
    step ("longrope", "dynamic"); None for all others."""
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = [kind for kind in (parameters, *parameters.values()) if isinstance(kind, dict)]
    if not any(kind.get("rope_type") in STRETCHED for kind in kinds):
        return None
    original = [kind.get("original_max_position_embeddings") for kind in kinds]
    own = getattr(config, "original_max_position_embeddings", None), getattr(config, "max_position_embeddings", None)
    return next((int(limit) for limit in (*original, *own) if limit), None)
