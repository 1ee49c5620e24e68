"""Audio language models by transformers' own modules, written token by token in a batch that rows join at any step."""

import inspect
import logging
from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from deployments.chat.defaults import sampling_defaults
from deployments.chat.engine import ChatEngineArgs, ChatOutput
from deployments.chat.families.table import family_of
from deployments.chat.loading import audio_token_id, load_model, load_processor, tokenizer_of
from deployments.chat.prompts import Prompter
from deployments.chat.row import Prompt, Row
from deployments.chat.sampling import TokenChooser
from deployments.chat.vocabulary import Vocabulary
from deployments.compat.transformers import first_inputs, prompt_positions
from deployments.decoding.batch import Batch
from deployments.decoding.cache import BatchCache
from deployments.decoding.devices import resolve_dtype
from deployments.engines import StepOutput
from pipelines.chat_types import ChatDelta, ChatModelInfo, Message, SamplingOptions
from pipelines.errors import ConfigurationError, InvalidRequest, ModelUnavailable

logger = logging.getLogger("ray.serve")


class TransformersChat:
    """A `ChatEngine`: continuous batching for whatever `AutoModelForMultimodalLM` or `AutoModelForCausalLM` loads."""

    def __init__(self, args: ChatEngineArgs) -> None:
        torch.set_num_threads(args.num_threads)
        self._device = torch.device(args.device)
        dtype = resolve_dtype(args.dtype, self._device, on_gpu=torch.bfloat16)
        self._model = load_model(args.source, self._device, dtype)
        before_step = family_of(self._model).before_step
        self._before_step = before_step(self._model) if before_step else None
        processor = load_processor(args.source, self._model)
        config = self._model.config.get_text_config()
        self._vocabulary = Vocabulary(tokenizer_of(processor), self._model.generation_config, config.vocab_size)
        self._chooser: TokenChooser | None = None
        max_tokens = _context_length(args, getattr(config, "max_position_embeddings", None))
        token_id = audio_token_id(self._model)
        self._prompter = Prompter(processor, token_id, max_tokens)
        sampling = sampling_defaults(self._model.generation_config)
        self.info = ChatModelInfo(token_id is not None, self._prompter.max_audio_s(), max_tokens, sampling)
        parameters = inspect.signature(self._model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self._waiting: deque[Row] = deque()
        self._batch: Batch[Row, BatchCache] = Batch(BatchCache)
        self._has_just_prefilled = False
        self._has_failed_to_read = False

    def prepare(self, messages: Sequence[Message]) -> Prompt:
        return self._prompter.prepare(messages)

    def add(self, request_id: str, prompt: Prompt, options: SamplingOptions) -> None:
        unknown = [token_id for token_id in options.logit_bias if not 0 <= token_id < self._vocabulary.size]
        if unknown:
            raise InvalidRequest(f"logit_bias: this model has no token {unknown[0]}.", "logit_bias")
        room = self.info.max_context_tokens - prompt.num_tokens
        max_tokens = min(options.max_tokens or room, room)
        self._waiting.append(Row(request_id, prompt, options, max_tokens, self._vocabulary))

    def abort(self, request_id: str) -> None:
        self._waiting = deque(row for row in self._waiting if row.request_id != request_id)
        self._batch.keep([row for row in self._batch.rows if row.request_id != request_id])

    @torch.inference_mode()
    def step(self) -> list[ChatOutput]:
        """Reading and writing take turns, so a long prompt holds up everybody's next token once."""
        is_prefilling = bool(self._waiting) and not (self._batch.rows and self._has_just_prefilled)
        self._has_just_prefilled = is_prefilling
        if is_prefilling:
            return self._prefill(self._waiting.popleft())
        return self._decode() if self._batch.rows else []

    def _prefill(self, row: Row) -> list[ChatOutput]:
        """Prompts are read one by one: they share no shape, and one that fails takes nobody with it."""
        try:
            logits = self._logits_of(row)
        except Exception:
            if not self._batch.rows and (self._has_failed_to_read or not self._waiting):
                raise  # the loop counts it: a model that can read nothing must be replaced
            self._has_failed_to_read = True
            logger.exception("A prompt could not be read")
            failure = ModelUnavailable("The model failed on this request.")
            return [StepOutput(row.request_id, failure, is_last=True)]
        return self._finish([row], logits)

    def _logits_of(self, row: Row) -> Tensor:
        """(1, vocabulary)"""
        cache = BatchCache()
        inputs = {
            name: value.to(self._device, self._model.dtype if value.is_floating_point() else None)
            for name, value in row.prompt.inputs.items()
        }
        token_ids = inputs.pop("input_ids")
        inputs |= {"past_key_values": cache.layers, "use_cache": True, **self._last_only}  # type: ignore[dict-item]
        positions = prompt_positions(self._model, token_ids, inputs)
        ready = first_inputs(self._model, token_ids, positions, inputs)
        self._announce([row])
        logits = self._model(**ready, return_dict=True).logits[:, -1]
        cache.num_tokens = [row.prompt.num_tokens]
        row.position = positions[..., 0, -1] + 1
        self._batch.join([row], cache)
        return logits.float()

    def _decode(self) -> list[ChatOutput]:
        rows, cache = self._batch.rows, self._batch.cache
        last = torch.tensor([[row.written[-1]] for row in rows], device=self._device)
        positions = torch.stack([row.position for row in rows], dim=-1)[..., None]
        self._announce(rows)
        logits = self._model(
            input_ids=last,
            attention_mask=cache.attention_mask(1, self._device),
            position_ids=positions,
            past_key_values=cache.layers,
            use_cache=True,
            return_dict=True,
        ).logits[:, -1]
        cache.num_tokens = [length + 1 for length in cache.num_tokens]
        for row in rows:
            row.position = row.position + 1
        return self._finish(rows, logits.float())

    def _announce(self, rows: list[Row]) -> None:
        if self._before_step:
            self._before_step(rows)

    def _finish(self, rows: list[Row], logits: Tensor) -> list[ChatOutput]:
        """Choose everybody's next token, and let go of those whose last one it is."""
        self._has_failed_to_read = False
        if self._chooser is None or self._chooser.rows is not rows:
            self._chooser = TokenChooser(self._vocabulary, rows, logits.shape[-1], logits.device)
        chosen = self._chooser.choose(logits)
        deltas = [row.accept(*choice) for row, choice in zip(rows, chosen, strict=True)]
        done = [row for row, delta in zip(rows, deltas, strict=True) if delta.finish_reason]
        self._batch.keep([row for row in self._batch.rows if row not in done])
        return [
            StepOutput(row.request_id, delta, is_last=delta.finish_reason is not None)
            for row, delta in zip(rows, deltas, strict=True)
            if _is_news(delta)
        ]


def _context_length(args: ChatEngineArgs, own_limit: int | None) -> int:
    limits = [limit for limit in (args.max_context_tokens, own_limit) if limit]
    if not limits:
        raise ConfigurationError(f"'{args.source}' does not say how long its context is: set max_context_tokens.")
    return min(limits)


def _is_news(delta: ChatDelta) -> bool:
    return bool(delta.text or delta.tokens or delta.finish_reason)
