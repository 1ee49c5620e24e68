"""What is minimised: the tokens, the phone of each frame, and where the decoder looks."""

import torch
from torch import Tensor
from torch.nn import functional

from models.training.precision import reduced_precision
from models.training.whisper.batches import Batch
from models.training.whisper.labels import SILENCE, UNLABELLED
from models.training.whisper.model import CrossAttention, Learner
from models.training.whisper.settings import Stage
from models.training.whisper.tokenizer import NUM_TIMESTAMPS, Vocabulary
from models.training.whisper.windows import IGNORED

SMOOTHING = 0.02
SILENCE_WEIGHT = 0.2
"""Of a silent frame: there are many, and they are easy."""
SMEAR = 3
"""Timestamps this many frames off are still partly right."""
LEAST_LOG_MASS = -12.0
"""Attention further off than this is not pulled harder."""

Losses = tuple[Tensor, dict[str, Tensor]]


class Objectives:
    """The loss of one batch.

    Cross attention is guided where it is known when each token is spoken: head 0 of the first layer puts its mass on
    the token that was read, head 0 of the layers above on the token that is to be said, and head 1 of the last layer on
    the boundary that a timestamp names (the idea of guided attention: Tachibana et al. 2018,
    https://arxiv.org/abs/1710.08969).
    """

    def __init__(self, learner: Learner, vocabulary: Vocabulary, stage: Stage, device: str) -> None:
        self._learner, self._vocabulary, self._device = learner, vocabulary, device
        self._weights, self._p_misread = stage.weights, stage.content.p_misread
        last = learner.whisper.config.decoder_layers - 1
        self._guided = range(min(1, last), last + 1)
        self._last = last
        self._phone_weights = torch.ones(learner.frame_head.out_features, device=device)
        self._phone_weights[SILENCE] = SILENCE_WEIGHT

    def __call__(self, batch: Batch) -> Losses:
        batch = batch.to(self._device)
        with reduced_precision(self._device):
            encoded = self._learner.encode(batch.mel, batch.offsets) if batch.encoded is None else batch.encoded
            phones = self._learner.frame_head(encoded)
            tokens = misread(batch.tokens, self._p_misread, self._vocabulary.end)
            hidden, attention = self._learner.decode(tokens, encoded)
            is_asked = batch.labels != IGNORED
            logits = self._learner.logits(hidden[is_asked])
            words, times = self._attention(batch, attention)
        total, text, timestamps = self._tokens(logits.float(), batch.labels[is_asked])
        frames = functional.cross_entropy(
            phones.float().flatten(0, 1), batch.phones.flatten(), self._phone_weights, ignore_index=UNLABELLED
        )
        total = total + self._weights.frames * frames + self._weights.attention * (words + 0.5 * times)
        return total, {"text": text, "time": timestamps, "frames": frames, "words": words, "times": times}

    def _tokens(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(the loss, the mean of the text's part, the mean of the timestamps' part)."""
        log_probabilities = logits.log_softmax(-1)
        is_time = labels >= self._vocabulary.timestamps
        exact = functional.nll_loss(log_probabilities, labels, reduction="none")
        text = exact[~is_time]
        times = smeared_loss(log_probabilities[is_time], labels[is_time], self._vocabulary.timestamps)
        smoothing = -log_probabilities[~is_time, : self._vocabulary.end].mean()
        loss = (text.sum() + self._weights.timestamps * times.sum()) / len(labels) + SMOOTHING * smoothing
        return loss, text.mean(), _mean(times)

    def _attention(self, batch: Batch, attention: CrossAttention) -> tuple[Tensor, Tensor]:
        """(loss of the heads that follow the words, loss of the head that finds the boundaries)."""
        is_known = batch.spans[..., 1] >= 0
        spans = batch.spans[is_known]
        is_time = batch.labels[is_known] >= self._vocabulary.timestamps
        log_weights = [attention.log_weights(layer, 0, is_known) for layer in self._guided]
        losses = [self._look_back(batch, attention)] if self._last > 0 else []
        losses += [_mean(outside_loss(layer_weights, spans)) for layer_weights in log_weights]
        # the last layer's head is the one that word times are read from
        broad = _mean(broad_loss(log_weights[-1][~is_time], spans[~is_time]))
        boundaries = attention.log_weights(self._last, 1, is_known)[is_time]
        return torch.stack(losses).mean() + broad, _mean(outside_loss(boundaries, spans[is_time]))

    def _look_back(self, batch: Batch, attention: CrossAttention) -> Tensor:
        """The first layer finds what was read: the layers above then know from where to listen on."""
        spans = functional.pad(batch.spans, (0, 0, 1, 0), value=-1.0)[:, :-1]
        is_known = spans[..., 1] >= 0
        return _mean(outside_loss(attention.log_weights(0, 0, is_known), spans[is_known]))


def misread(tokens: Tensor, share: float, num_texts: int) -> Tensor:
    """Some of the text's tokens, whose ids are below `num_texts`, are others; special ones stay."""
    is_drawn = (torch.rand(tokens.shape, device=tokens.device) < share) & (tokens < num_texts)
    return torch.where(is_drawn, torch.randint_like(tokens, num_texts), tokens)


def smeared_loss(log_probabilities: Tensor, labels: Tensor, first: int) -> Tensor:
    """Cross entropy against a bell of timestamps around the right one, shape (tokens,); `first` is the id of 0.00."""
    steps = torch.arange(-SMEAR, SMEAR + 1, device=labels.device)
    bell = torch.softmax(-0.5 * steps.float() ** 2, 0)
    near = (labels[:, None] + steps).clamp(first, first + NUM_TIMESTAMPS - 1)
    return -(log_probabilities.gather(1, near) * bell).sum(1)


def outside_loss(log_weights: Tensor, spans: Tensor) -> Tensor:
    """-log of the attention that falls into each token's span.

    Args:
        log_weights: shape (tokens, frames).
        spans: first and last frame, shape (tokens, 2).
    """
    inside = torch.where(_is_inside(log_weights, spans, 0.0), log_weights, torch.full_like(log_weights, -1e4))
    return -inside.logsumexp(-1).clamp(min=LEAST_LOG_MASS)


def broad_loss(log_weights: Tensor, spans: Tensor) -> Tensor:
    """Divergence of a uniform distribution over each token's inner span from the attention; shapes as above.

    Without it a head looks at one frame of the token, and the time warping that word times come from needs plateaus.
    """
    core = _is_inside(log_weights, spans, 0.5).float()
    count = core.sum(1)
    log_floored = (log_weights.exp() + 1e-3).log()
    loss = -(log_floored * core).sum(1) / count.clamp(min=1) - count.clamp(min=1).log()
    return loss[count > 0]


def _is_inside(log_weights: Tensor, spans: Tensor, margin: float) -> Tensor:
    frames = torch.arange(log_weights.shape[1], device=log_weights.device)
    return (frames >= spans[:, :1] + margin) & (frames <= spans[:, 1:] - margin)


def _mean(values: Tensor) -> Tensor:
    """The mean; 0 of nothing."""
    return values.sum() / max(1, len(values))
