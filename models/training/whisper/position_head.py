"""An attention head that copies where it looks.

To write a timestamp is to look at the right frame and to say its number. The second half can be solved in closed form:
a ridge regression from the encoder's output to the embedding of the frame's timestamp, its best approximation of the
rank of one head put into that head's value and output projections. What remains to be learned is where to look, and
that is what guided attention teaches.
"""

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from models.training.whisper.batches import Batch
from models.training.whisper.model import Learner, write_timestamps
from models.training.whisper.tokenizer import Vocabulary

HEAD = 1
RIDGE = 1e-2
ADDED_NORM = 9.5
"""Norm that the head adds to the decoder's hidden state, well above that of the other heads."""


@torch.no_grad()
def copy_positions(learner: Learner, vocabulary: Vocabulary, batches: Iterator[Batch], num_batches: int) -> None:
    """Writes the fit into the second head of the last layer's cross attention, and new timestamp embeddings."""
    whisper = learner.whisper
    write_timestamps(whisper, vocabulary)
    hidden, frames = _examples(learner, islice(batches, num_batches))
    targets = whisper.model.decoder.embed_tokens.weight[vocabulary.timestamps :]
    attention = whisper.model.decoder.layers[-1].encoder_attn
    rank = attention.head_dim
    mean = hidden.mean(0)
    fit = ridge(hidden - mean, (targets - targets.mean(0))[frames])
    left, singular, right = torch.linalg.svd(fit)
    root = singular[:rank].sqrt()
    rows = slice(HEAD * rank, (HEAD + 1) * rank)
    added = ((hidden - mean) @ fit).norm(dim=1).mean()
    attention.v_proj.weight[rows] = (left[:, :rank] * root).T
    attention.v_proj.bias[rows] = -mean @ (left[:, :rank] * root)
    attention.out_proj.weight[:, rows] = (right[:rank] * root[:, None]).T * (ADDED_NORM / added)


def _examples(learner: Learner, batches: Iterator[Batch]) -> tuple[Tensor, Tensor]:
    """The encoder's output, shape (frames, width), and the position of each frame, shape (frames,)."""
    hidden, positions = [], []
    device = next(learner.parameters()).device
    for batch in batches:
        encoded = learner.encode(batch.mel.to(device), batch.offsets.to(device))
        steps = torch.arange(encoded.shape[1], device=device)
        hidden.append(encoded.flatten(0, 1))
        positions.append((batch.offsets.to(device)[:, None] + steps).flatten())
    return torch.cat(hidden), torch.cat(positions)


def ridge(inputs: Tensor, targets: Tensor) -> Tensor:
    """The map of least squares with a penalty relative to the inputs' variance, shape (inputs' width, targets')."""
    penalty = RIDGE * len(inputs) * inputs.var(0).mean()
    gram = inputs.T @ inputs + penalty * torch.eye(inputs.shape[1], device=inputs.device)
    return torch.linalg.solve(gram, inputs.T @ targets)
