"""The engines of docs/engines.md: each alone, driven as in production, and all of them in one graph."""

import asyncio
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import httpx
import numpy as np
import pytest
import torch
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    pipeline,
)

from deployments.asr.engine import AsrEngineArgs
from deployments.chat.engine import ChatEngineArgs
from deployments.decoding.loop import EngineLoop
from deployments.diarization.engine import Cancelled, DiarizerArgs
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioChunk, AudioStretch, Waveform
from pipelines.chat_types import ChatDelta, Message, SamplingOptions, TextPart, join_deltas
from pipelines.errors import ContextLengthExceeded, InvalidRequest
from pipelines.transcript_types import ChunkTranscript, DecodingOptions
from tests.conftest import JFK, ROOT, RunningServer, Server
from tests.documents import blocks, write_files
from tests.scripted.recordings import load
from tests.serve.conftest import light, serve_config
from tests.serve.tools import TIMEOUT_S, post

PAGE = ROOT / "docs" / "engines.md"
MODULES = ("ctc_engine", "pitch_engine", "echo_engine")
TALK = ROOT / "tests" / "data" / "conversations" / "libri-00.opus"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines")
    write_files(PAGE, path)
    return path


@pytest.fixture(scope="module")
def modules(directory: Path) -> Iterator[dict[str, ModuleType]]:
    sys.path.insert(0, str(directory))
    yield {name: import_module(name) for name in MODULES}
    sys.path.remove(str(directory))


@pytest.fixture(scope="module")
def checkpoint(directory: Path) -> str:
    """A small random wav2vec 2.0 that spells a, b and c."""
    path = directory / "ctc"
    path.mkdir()
    vocabulary = {"<pad>": 0, "<unk>": 1, "|": 2, "a": 3, "b": 4, "c": 5}
    (path / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = Wav2Vec2CTCTokenizer(str(path / "vocab.json"), bos_token=None, eos_token=None)
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, pad_token_id=0,
    )  # fmt: skip
    Wav2Vec2ForCTC(config).eval().save_pretrained(path)
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(return_attention_mask=False), tokenizer).save_pretrained(path)
    return str(path)


def chunks() -> list[AudioChunk]:
    samples = load(JFK.path)
    return [AudioChunk(index, index * 5.0, Waveform(samples[index * 80_000 :][:80_000])) for index in range(2)]


async def transcripts(engine: object, *asked: AudioChunk) -> list[ChunkTranscript]:
    loop: EngineLoop[ChunkTranscript] = EngineLoop(engine, max_batch_size=4, max_step_s=60)
    try:
        answers = await asyncio.gather(*[loop.run(chunk, DecodingOptions()) for chunk in asked])
    finally:
        loop.stop()
    return [transcript for transcript, _ in answers]


async def test_ctc_answers_alike_alone_and_beside_others(modules: dict[str, ModuleType], checkpoint: str) -> None:
    engine = modules["ctc_engine"].CtcEngine(AsrEngineArgs(checkpoint))
    first, second = chunks()
    together = await transcripts(engine, first, second)
    assert together == [*await transcripts(engine, first), *await transcripts(engine, second)]
    (segment,) = together[1].segments
    assert segment.words
    assert all(5.0 <= word.start_s <= word.end_s <= 10.0 for word in segment.words)


async def test_ctc_writes_what_transformers_own_pipeline_writes(
    modules: dict[str, ModuleType], checkpoint: str
) -> None:
    engine = modules["ctc_engine"].CtcEngine(AsrEngineArgs(checkpoint))
    own = pipeline("automatic-speech-recognition", checkpoint)
    for chunk, transcript in zip(chunks(), await transcripts(engine, *chunks()), strict=True):
        expected = own({"raw": chunk.waveform.samples, "sampling_rate": SAMPLE_RATE_HZ})["text"]
        assert transcript.segments[0].text.split() == expected.split()


def test_ctc_refuses_to_translate(modules: dict[str, ModuleType], checkpoint: str) -> None:
    engine = modules["ctc_engine"].CtcEngine(AsrEngineArgs(checkpoint))
    with pytest.raises(InvalidRequest):
        engine.add("a", chunks()[0], DecodingOptions(task="translate"))


def hum(hz: float, seconds: float) -> np.ndarray:
    time_s = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (0.3 * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)


def test_pitch_tells_a_low_voice_from_a_high_one(modules: dict[str, ModuleType]) -> None:
    diarizer = modules["pitch_engine"].PitchDiarizer(DiarizerArgs("none"))
    samples = np.concatenate([hum(110, 2), hum(220, 1.5), np.zeros(8_000, np.float32), hum(110, 1)])
    stretch = AudioStretch(0, 100.0, (samples * 32_767).astype(np.int16))
    found = diarizer.diarize(stretch, lambda: False)
    turns = [(turn.start_s, turn.end_s, turn.speaker) for turn in found.exclusive_turns]
    assert turns == [(100.0, 102.0, 0), (102.0, 103.5, 1), (104.0, 105.0, 0)]
    assert found.voices.keys() == {0, 1}
    assert diarizer.embed(Waveform(hum(220, 2))).tolist() == [0, 4]
    with pytest.raises(Cancelled):
        diarizer.diarize(stretch, lambda: True)


async def test_echo_goes_on_behind_what_another_replica_wrote(modules: dict[str, ModuleType]) -> None:
    engine = modules["echo_engine"].EchoEngine(ChatEngineArgs("echo"))
    prompt = engine.prepare([Message("user", (TextPart("one two three"),))])
    loop: EngineLoop[ChatDelta] = EngineLoop(engine, max_batch_size=4, max_step_s=60)
    try:
        for written, text in (((), "one two three"), ((0, 1), " three")):
            told = [
                delta async for deltas, _ in loop.stream(prompt, SamplingOptions(seed=0), written) for delta in deltas
            ]
            assert (join_deltas(told).text, told[-1].finish_reason) == (text, "stop")
    finally:
        loop.stop()


def test_echo_has_a_context(modules: dict[str, ModuleType]) -> None:
    engine = modules["echo_engine"].EchoEngine(ChatEngineArgs("echo", max_context_tokens=16))
    with pytest.raises(ContextLengthExceeded):
        engine.prepare([Message("user", (TextPart("word " * 9),))])


@pytest.fixture(scope="module")
def server(directory: Path, checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    ctc = {"id": "my-ctc", "engine": "ctc_engine:CtcEngine", "source": checkpoint, "aliases": ["gpt-diarize"]}
    echo = {"id": "echo", "task": "chat", "engine": "echo_engine:EchoEngine"}
    deployments = [light(name) for name in ("ingress", "audio", "asr-my-ctc", "chat-echo", "diarization")]
    diarization = {"engine": "pitch_engine:PitchDiarizer", "source": "none"}
    config = serve_config([ctc, echo], deployments, diarization=diarization)
    with RunningServer(config, tmp_path_factory.mktemp("own"), PYTHONPATH=f"{directory}:{ROOT}") as running:
        yield running


def test_they_serve_in_one_graph(server: Server) -> None:
    answer = post(server, JFK.data, "my-ctc", response_format="json").json()
    assert set(answer["text"].replace("<unk>", "")) <= set("abc ")
    assert answer["text"]
    told = post(server, TALK.read_bytes(), "gpt-diarize", response_format="diarized_json", chunking_strategy="auto")
    speakers = {segment["speaker"] for segment in told.json()["segments"]}
    assert speakers == {"A", "B"}
    request = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 2}
    choice = httpx.post(f"{server.url}/v1/chat/completions", json=request, timeout=TIMEOUT_S).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two", "length")


def test_the_page_has_these_files() -> None:
    assert [block.file for block in blocks(PAGE) if block.file] == [f"{name}.py" for name in MODULES]
