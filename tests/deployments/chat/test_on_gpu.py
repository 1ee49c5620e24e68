"""Steps of chat on a GPU that has no numbers (`tests.support.fake_gpu`). Prompts without audio: where that belongs in a
prompt, transformers finds by looking at the numbers."""

from pathlib import Path

import pytest
import torch

from deployments.chat.engine import ChatEngineArgs
from deployments.chat.loading import load_model
from deployments.chat.packed_model import PackedModel
from deployments.chat.transformers_chat import TransformersChat
from pipelines.chat_types import Message, SamplingOptions, TextPart
from tests.support.fake_gpu import fake_gpu

ALL_OPTIONS = [
    SamplingOptions(seed=1, temperature=0.0, logit_bias={7: 2.0}),
    SamplingOptions(seed=2, top_p=0.5, top_k=9, min_p=0.1, top_logprobs=3),
    SamplingOptions(seed=3, repetition_penalty=1.2, frequency_penalty=0.5, presence_penalty=0.1),
]


@pytest.mark.parametrize("options", [ALL_OPTIONS[:1], ALL_OPTIONS], ids=["one", "all options"])
def test_a_step_waits_once(checkpoint: Path, options: list[SamplingOptions], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TransformersChat(ChatEngineArgs(str(checkpoint), "cpu", "float32"))
    for number, one in enumerate(options):
        prompt = engine.prepare([Message("user", (TextPart("Who is there? " * (1 + number)),))])
        engine.add(str(number), prompt, one)
    with fake_gpu() as watch:
        on_gpu = PackedModel(load_model(str(checkpoint), torch.device("cuda"), torch.bfloat16))
        monkeypatch.setattr(engine, "_model", on_gpu)
        engine.step()
        assert len(engine._batch.writing) == len(options)
        watch.waits.clear()
        for _ in range(3):
            engine.step()
            assert dict(watch.waits) == {"read": 1}
            watch.waits.clear()
    assert all(layer.keys.is_cuda for layer in engine._batch.slots._layers.values())
