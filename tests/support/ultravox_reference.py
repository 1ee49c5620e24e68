"""Ultravox in plain torch, up to the language model's own `generate`: what the published code computes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, WhisperFeatureExtractor, WhisperModel

from pipelines.audio import from_pcm
from pipelines.chat_types import AudioPart, TextPart
from tests.support.chat_checkpoints import NUM_MELS
from tests.support.driving import Conversation
from tests.support.ultravox_checkpoints import AUDIO_TOKEN

MAX_TOKENS = 12
WINDOW = 3_000


class Reference:
    """`text` and `encoder` may be changed."""

    def __init__(self, directory: Path) -> None:
        self.config = json.loads((directory / "config.json").read_text())
        self.weights = load_file(directory / "model.safetensors")
        self.text = AutoModelForCausalLM.from_pretrained(directory / "text", dtype=torch.float32).eval()
        whisper = WhisperModel.from_pretrained(directory / "audio", dtype=torch.float32, attn_implementation="eager")
        self.encoder = whisper.eval().encoder
        self.tokenizer = AutoTokenizer.from_pretrained(directory / "text")

    @torch.inference_mode()
    def answer(self, conversation: Conversation, num_known: int = 400) -> list[int]:
        """num_known: tokens that the tokenizer knows; those from there on are padding of the output layer."""
        audios = [part for message in conversation for part in message.parts if isinstance(part, AudioPart)]
        heard = self.heard([from_pcm(audio.pcm) for audio in audios]) if audios else []
        embed = self.text.get_input_embeddings()
        texts = self.template(conversation).split(AUDIO_TOKEN)
        assert len(texts) == len(heard) + 1
        pieces = [embed(torch.tensor(self.ids(texts[0])))]
        for audio, text in zip(heard, texts[1:], strict=True):
            pieces += [audio, embed(torch.tensor(self.ids(text), dtype=torch.long))]
        whole = torch.cat(pieces)[None]
        ends = self.text.generation_config.eos_token_id
        written: list[int] = self.text.generate(
            inputs_embeds=whole,
            attention_mask=torch.ones(whole.shape[:2], dtype=torch.long),
            max_new_tokens=MAX_TOKENS,
            do_sample=False,
            suppress_tokens=list(range(num_known, self.text.config.vocab_size)) or None,
        )[0].tolist()
        return written[:-1] if written[-1] in ends else written

    def ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def template(self, conversation: Conversation) -> str:
        turns = [
            {
                "role": message.role,
                "content": "".join(part.text if isinstance(part, TextPart) else AUDIO_TOKEN for part in message.parts),
            }
            for message in conversation
        ]
        text: str = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        return text

    def heard(self, audios: Sequence[Any]) -> list[Tensor]:
        """Embeddings of each audio, (tokens, width); all are as long as the longest."""
        longest = -(-max(len(samples) for samples in audios) // 160) * 160
        padded = [np.pad(samples, (0, longest - len(samples))) for samples in audios]
        features = WhisperFeatureExtractor(feature_size=NUM_MELS)(
            padded, sampling_rate=16_000, padding=False, truncation=False, return_tensors="pt"
        )["input_features"]
        width = min(features.shape[-1], WINDOW)
        found = []
        for number, samples in enumerate(audios):
            length = -(-len(samples) // 160)
            windows = []
            for first in range(0, length, WINDOW):
                window = torch.zeros(NUM_MELS, width)
                there = features[number, :, first : first + width]
                window[:, : there.shape[-1]] = there
                windows.append(self.window(window, min(length - first, width)))
            found.append(torch.cat(windows))
        return found

    def window(self, features: Tensor, num_frames: int) -> Tensor:
        states = functional.gelu(self.encoder.conv1(features[None]))
        states = functional.gelu(self.encoder.conv2(states)).transpose(1, 2)
        states = states + self.encoder.embed_positions.weight[: states.shape[1]]
        size, num_heard = states.shape[1], (num_frames + 1) // 2
        mask = torch.zeros(size, size)
        mask[:, num_heard:] = -torch.inf
        if block := self.config.get("audio_latency_block_size"):
            for query in range(size):
                mask[query, (query // block + 1) * block :] = -torch.inf
        for layer in self.encoder.layers:
            states = layer(states, mask[None, None])
        return self.project(self.encoder.layer_norm(states)[0])[: -(-num_frames // 16)]

    def project(self, states: Tensor) -> Tensor:
        weights = {name.split(".", 1)[1]: w for name, w in self.weights.items() if name.startswith("multi_modal")}
        stack = self.config["stack_factor"]
        room = torch.zeros(-(-len(states) // stack) * stack, states.shape[1])
        room[: len(states)] = states
        stacked = norm(room.reshape(-1, stack * states.shape[1]), weights["ln_pre.weight"])
        inner = stacked @ weights["linear_1.weight"].T
        if self.config["projector_act"] == "swiglu":
            half = inner.shape[1] // 2
            gates = inner[:, half:]
            inner = inner[:, :half] * gates * torch.sigmoid(gates)
        else:
            inner = functional.relu(inner)
        if "ln_mid.weight" in weights:
            return norm(inner, weights["ln_mid.weight"]) @ weights["linear_2.weight"].T
        return norm(inner @ weights["linear_2.weight"].T, weights["ln_post.weight"])


def norm(states: Tensor, weight: Tensor) -> Tensor:
    return states / torch.sqrt((states**2).mean(-1, keepdim=True) + 1e-6) * weight
