"""From the trained modules to a directory that transformers loads."""

from pathlib import Path

import torch
from transformers import Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor

from models.training.chat.model import ChatModel


def export(model: ChatModel, processor: Qwen2AudioProcessor, directory: Path) -> None:
    """Write weights (float16), configurations, tokenizer, feature extractor and chat template."""
    inner = Qwen2AudioForConditionalGeneration(model.config)
    # a copy, whose embeddings and output layer are no longer one tensor: transformers does not tie them here
    inner.load_state_dict({name: value.cpu().clone() for name, value in model.inner.state_dict().items()})
    inner.generation_config = model.inner.generation_config
    inner.to(torch.float16).save_pretrained(directory)
    processor.save_pretrained(directory)
