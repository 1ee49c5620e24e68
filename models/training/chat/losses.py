"""What the chat model learns from: the answers, and at first also where and when they are heard."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.training.chat.batches import Batch
from models.training.chat.model import ChatModel, positions_of
from models.training.chat.rows import IGNORED
from models.training.chat.settings import ChatSettings
from models.training.precision import reduced_precision

FLOOR = -12.0  # a head that looks elsewhere altogether must not make the others forget


class ChatLoss:
    """Callable for `Run.train`: (loss, its parts) of a batch. `fraction` tells how far the run is."""

    def __init__(self, model: ChatModel, settings: ChatSettings, fraction: Callable[[], float], device: str) -> None:
        self._model, self._settings, self._fraction, self._device = model, settings, fraction, device

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        batch = batch.to(self._device)
        guidance = self._settings.guidance
        with reduced_precision(self._device):
            states = self._model.hidden_states(batch.tokens, self._audio(batch))
            answers = self._cross_entropy(states[-1][:, :-1], batch.labels[:, 1:])
            looked = [guided_attention(self._model, states, batch.spans, *head) for head in guidance.heads]
            heard = self._cross_entropy(states[-1], batch.heard)
        attention = torch.stack(looked).mean()
        left = 1 - (1 - guidance.remains) * self._fraction()
        loss = answers + left * (guidance.heard * heard + guidance.attention * attention)
        if batch.mel is None:
            return loss, {"text": answers, "reading": attention}
        return loss, {"answers": answers, "heard": heard, "attention": attention}

    def _audio(self, batch: Batch) -> Tensor | None:
        """What is heard at all audio positions, (positions of all rows, encoder width); None without audio."""
        if batch.mel is None:
            return None
        with torch.set_grad_enabled(self._fraction() >= self._settings.encoder_frozen_until):
            states = self._model.encode(batch.mel, batch.frames)
        valid = torch.arange(states.shape[1], device=states.device) < positions_of(batch.frames)[:, None]
        return states[valid]

    def _cross_entropy(self, states: Tensor, labels: Tensor) -> Tensor:
        known = labels != IGNORED
        if not known.any():
            return states.new_zeros((), dtype=torch.float32)
        logits = states[known] @ self._model.vocabulary_weight.T
        return nn.functional.cross_entropy(logits.float(), labels[known])


def guided_attention(model: ChatModel, states: tuple[Tensor, ...], spans: Tensor, layer: int, head: int) -> Tensor:
    """-log of the attention that falls into the span in which the predicted token is heard or read, its mean.

    Args:
        states: as `ChatModel.hidden_states` gives them.
        spans: (batch, positions, 2), first and last position; negative where a token is not heard or read.
    """
    weights = model.attention_scores(states[layer], layer, head)[:, :-1]
    spans = spans[:, 1:]  # a position predicts the token after it
    known = spans[..., 0] >= 0
    if not known.any():
        return weights.new_zeros(())
    chosen, (first, last) = weights[known], spans[known].T
    places = torch.arange(chosen.shape[1], device=chosen.device)
    inside = (places >= first[:, None]) & (places <= last[:, None])
    return -chosen.masked_fill(~inside, -torch.inf).logsumexp(-1).clamp(min=FLOOR).mean()
