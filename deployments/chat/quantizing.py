"""A language model's linear layers in 8 bits.

Some channels of what these layers are given are a hundred times as large as the others, in every model of this kind,
and would take all 8 bits for themselves. Half of their size is moved into the weights: G. Xiao et al., "SmoothQuant",
2023, equation 4 with a strength of 0.5. SmolLM2 135M on 1,500 tokens of a manual: KL divergence from float32 of 0.034 a
token without and 0.015 with it, perplexity of 20.0 and 19.5 (float32: 19.4).
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from deployments.chat.attention import Part, Step, reading
from deployments.chat.slots import Slots
from deployments.decoding.devices import Precision
from deployments.decoding.linear import Int8Linear, Int8Module, output

ADAPTERS = frozenset({"lora_A", "lora_B"})
"""Small, and peft looks into their weights."""

SAMPLE = """The weather in Madrid was fine when we arrived, but by the evening it had begun to rain, and we stayed in.
What is said in this recording? Summarise it in three sentences: who speaks, to whom, and why? "I don't know," she said.
Das Wetter war gut, aber am Abend regnete es; wir blieben zu Hause und lasen. ¿De qué trata la reunión de hoy? Elle a
duré deux heures, et personne n'a pris de notes. Встреча длилась два часа. 会议持续了两个小时。今日はとても暑いです。
{"speaker": "SPEAKER_00", "start": 12.48, "end": 15.02, "words": ["thank", "you", "for", "calling"]}
def mean(numbers: list[float]) -> float: return sum(numbers) / len(numbers)  # 1 + 2 = 3, 2024-05-17, 37.5 %
1. Open the file. 2. Read it. 3. Close it. And so, my fellow Americans, ask not what your country can do for you."""
"""Of the kinds of text that are read and written here; which channels are large hardly depends on it."""


@torch.inference_mode()
def quantize(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, precision: Precision) -> None:
    """Put 8-bit layers in the place of all linear ones of the decoder, and of the output."""
    decoder = model.get_decoder()
    largest = _largest_inputs(decoder, torch.tensor([tokenizer.encode(SAMPLE, add_special_tokens=False)]))
    for name, module in list(decoder.named_modules()):
        if type(module) is nn.Linear and not ADAPTERS.intersection(name.split(".")):
            scales = _scales(module.weight, largest[name]) if name in largest else None
            decoder.set_submodule(name, Int8Module(Int8Linear(module.weight, module.bias, scales)))
    model.set_output_embeddings(Int8Module(output(model.get_output_embeddings(), precision)))


def _scales(weight: Tensor, largest: Tensor) -> Tensor:
    """(in,): what each channel is divided by, and its weights multiplied with."""
    weights = weight.abs().amax(dim=0).float()
    scales = (largest / weights).sqrt()
    # a channel that the sample does not use may be used later
    return torch.where((largest > 0) & (weights > 0), scales, 1.0)


def _largest_inputs(decoder: PreTrainedModel, token_ids: Tensor) -> dict[str, Tensor]:
    """By the name of a layer that was used, (in,): the largest that each channel was."""
    largest: dict[str, Tensor] = {}

    def watch(name: str) -> "torch.utils.hooks.RemovableHandle":
        def look(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            seen = args[0].float().abs().flatten(0, -2).amax(dim=0)
            largest[name] = torch.maximum(largest[name], seen) if name in largest else seen

        return decoder.get_submodule(name).register_forward_pre_hook(look)

    hooks = [watch(name) for name, module in decoder.named_modules() if type(module) is nn.Linear]
    num_tokens = token_ids.shape[1]
    try:
        with reading(Step(Slots(), [Part(0, 0, num_tokens)], 0, token_ids.device)):
            decoder(input_ids=token_ids, position_ids=torch.arange(num_tokens)[None], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return largest
