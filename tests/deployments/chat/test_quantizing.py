"""8 bits on the default chat model itself: what they cost."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from deployments.chat.attention import Part, Step, reading
from deployments.chat.loading import load_model, load_processor, tokenizer_of
from deployments.chat.quantizing import quantize
from deployments.chat.slots import Slots
from deployments.compat.torch import has_int8
from deployments.decoding.devices import Precision
from models.sources import resolve

pytestmark = pytest.mark.skipif(not has_int8(), reason="this build of torch has no kernels for it")

CPU = torch.device("cpu")
TEXT = """The first lighthouse of which we know was built in Alexandria about 280 years before Christ. Its fire was seen
thirty miles out at sea, and sailors trusted it for more than a thousand years, until earthquakes brought it down. Other
harbours had towers of wood, on which coal was burnt in iron baskets; a keeper carried it up the stairs every night."""


def logprobs(model: PreTrainedModel, token_ids: Tensor) -> Tensor:
    num_tokens = token_ids.shape[1]
    with torch.inference_mode(), reading(Step(Slots(), [Part(0, 0, num_tokens)], 0, CPU)):
        logits = model(input_ids=token_ids, position_ids=torch.arange(num_tokens)[None], use_cache=False).logits[0]
    return torch.log_softmax(logits.float(), dim=-1)


def test_what_may_be_said_next_is_nearly_the_same() -> None:
    """KL divergence a token: without the channels' scales it was 0.034 on another text."""
    source = resolve("embedded:smollm2-135m-instruct")
    model = load_model(source, CPU, torch.float32)
    tokenizer = tokenizer_of(load_processor(source, model))
    token_ids = torch.tensor([tokenizer.encode(TEXT)])
    exact = logprobs(model, token_ids)
    quantize(model, tokenizer, Precision(torch.float32, torch.float32, has_int8_weights=True))
    assert not [name for name, module in model.named_modules() if type(module) is nn.Linear]
    rough = logprobs(model, token_ids)
    divergence = (exact.exp() * (exact - rough)).sum(dim=-1).mean()
    assert 0 < float(divergence) < 0.02
