"""Whisper's families, as small random models: what holds for the published ones at hand holds for every shape."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    GenerationMixin,
    LogitsProcessorList,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)
from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

from deployments.asr.engine import AsrEngineArgs
from deployments.asr.whisper import WhisperEngine
from pipelines.audio_types import SAMPLE_RATE_HZ, Samples
from pipelines.errors import InvalidRequest, UnsupportedLanguage
from pipelines.transcript_types import ChunkTranscript, DecodingOptions
from pipelines.whisper import split_at_timestamps
from tests.support.whisper_checkpoints import FAMILIES
from tests.support.whisper_driving import (
    Request,
    Speech,
    alone,
    check_equal,
    chunk_of,
    finish,
    joined,
    together,
    token_ids,
)

NUM_LANGUAGES = {"english": 1, "turbo": 100}
"""Of the others 99."""

NUM_TOKENS = 24
"""Of one answer: a random model finds no end."""

OFFSET_S = 60.0


TRANSCRIBING = ("english", "turbo")
"""The families that do not translate."""


@dataclass(frozen=True)
class Family:
    """stamping: the engine that writes timestamp tokens."""

    name: str
    directory: Path
    tokenizer: WhisperTokenizer
    engine: WhisperEngine
    stamping: WhisperEngine

    def id_of(self, token: str) -> int:
        found: int = self.tokenizer.convert_tokens_to_ids(token)
        return found

    @property
    def language(self) -> str:
        return "en" if self.name == "english" else "de"


@pytest.fixture(scope="module", params=FAMILIES)
def whisper(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    directory = tmp_path_factory.mktemp("whisper")
    FAMILIES[request.param](directory)
    args = AsrEngineArgs(str(directory), "cpu", "float32", num_threads=1)
    stamping = WhisperEngine(replace(args, timestamps="tokens"))
    tokenizer = WhisperTokenizer.from_pretrained(directory)
    return Family(request.param, directory, tokenizer, WhisperEngine(args), stamping)


@pytest.fixture(scope="module")
def talk(speech: Speech) -> Samples:
    return joined(speech, "en-06", "de-02", "en-08", "fr-01", "en-10", "en-11")


# What it can do


def test_languages_and_tasks(whisper: Family) -> None:
    info = whisper.engine.info
    assert len(info.languages) == NUM_LANGUAGES.get(whisper.name, 99)
    assert "en" in info.languages
    assert ("yue" in info.languages) == (whisper.name == "turbo")
    assert info.tasks == ({"transcribe"} if whisper.name in TRANSCRIBING else {"transcribe", "translate"})


def test_what_it_cannot_do_is_refused(whisper: Family, talk: Samples) -> None:
    def is_refused(options: DecodingOptions) -> bool:
        try:
            whisper.engine.add("0", chunk_of(talk), options)
        except (UnsupportedLanguage, InvalidRequest):
            return True
        whisper.engine.abort("0")
        return False

    assert is_refused(DecodingOptions(language="yue")) == (whisper.name != "turbo")
    assert is_refused(DecodingOptions(language="de")) == (whisper.name == "english")
    assert is_refused(DecodingOptions(task="translate")) == (whisper.name in TRANSCRIBING)
    assert whisper.engine.step() == []


@pytest.mark.parametrize("whisper", ["turbo"], indirect=True)
def test_a_language_more_is_one_among_the_others(whisper: Family, talk: Samples) -> None:
    options = [DecodingOptions(languages=("yue",), max_tokens=4), DecodingOptions(language="yue", max_tokens=4)]
    heard, asked = together(whisper.engine, [(chunk_of(talk), one) for one in options])
    assert heard.language == "yue"
    check_equal([heard], [asked])


# The reference


@pytest.fixture(scope="module")
def reference(whisper: Family) -> WhisperForConditionalGeneration:
    return WhisperForConditionalGeneration.from_pretrained(whisper.directory, dtype=torch.float32).eval()


@torch.inference_mode()
def generated(
    model: WhisperForConditionalGeneration, whisper: Family, samples: Samples, task: str, is_timed: bool
) -> list[int]:
    """What transformers' own greedy decoding writes of one window, where `is_timed` timestamps among it."""
    extract = WhisperFeatureExtractor.from_pretrained(whisper.directory)
    prefix = ["<|startoftranscript|>"]
    if whisper.name != "english":
        prefix += [f"<|{whisper.language}|>", f"<|{task}|>"]
    if not is_timed:
        prefix.append("<|notimestamps|>")
    rules = [WhisperTimeStampLogitsProcessor(model.generation_config, len(prefix))] if is_timed else []
    written = GenerationMixin.generate(  # Whisper's own would go on behind the last timestamp
        model,
        extract(samples, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").input_features,
        decoder_input_ids=torch.tensor([[whisper.id_of(token) for token in prefix]]),
        logits_processor=LogitsProcessorList(rules),
        max_new_tokens=NUM_TOKENS,
        num_beams=1,
        do_sample=False,
    )
    ids: list[int] = written[0, len(prefix) :].tolist()
    return [token for token in ids if token != model.generation_config.eos_token_id]


@pytest.mark.parametrize("name", ["de-02", "talk"])
def test_agrees_with_transformers_generate(
    whisper: Family, reference: WhisperForConditionalGeneration, speech: Speech, talk: Samples, name: str
) -> None:
    samples = talk if name == "talk" else speech[name]
    for task in whisper.engine.info.tasks:
        options = DecodingOptions(language=whisper.language, task=task, max_tokens=NUM_TOKENS)
        ids = generated(reference, whisper, samples, task, is_timed=False)
        assert token_ids(alone(whisper.engine, (chunk_of(samples), options))) == ids
        found = alone(whisper.stamping, (chunk_of(samples), replace(options, timestamps=True)))
        ids = generated(reference, whisper, samples, task, is_timed=True)
        parts = split_at_timestamps(ids, whisper.id_of("<|notimestamps|>") + 1, len(samples) / SAMPLE_RATE_HZ)
        assert found.segments
        for segment, part in zip(found.segments, parts, strict=True):
            assert (segment.start_s, segment.end_s) == (part.start_s, part.end_s)
            assert [token.id for token in segment.tokens] == ids[part.first : part.last]


# A batch


@pytest.fixture(scope="module")
def mixed(whisper: Family, speech: Speech, talk: Samples) -> list[Request]:
    """Rows that differ in all that a row can differ in; each ends, for a random model does not."""
    return [
        (chunk_of(speech["en-00"]), DecodingOptions(timestamps=True, max_tokens=5)),
        (chunk_of(talk, 2, OFFSET_S), DecodingOptions(word_timestamps=True, max_tokens=NUM_TOKENS)),
        (chunk_of(speech["de-02"]), DecodingOptions(language="en", prompt="Hello, everybody.", max_tokens=9)),
        (chunk_of(speech["en-07"]), DecodingOptions(max_tokens=12)),
        (chunk_of(speech["fr-01"]), DecodingOptions(language="en", word_timestamps=True, max_tokens=16)),
        (chunk_of(np.zeros(SAMPLE_RATE_HZ, np.float32)), DecodingOptions(languages=("en", "fr"), max_tokens=1)),
        (chunk_of(speech["en-10"]), DecodingOptions(temperature=1.0, seed=3, top_k=20, max_tokens=14)),
    ]


@pytest.fixture(scope="module")
def expected(whisper: Family, mixed: list[Request]) -> list[ChunkTranscript]:
    return [alone(whisper.engine, request) for request in mixed]


def test_joining_at_any_step_as_alone(whisper: Family, mixed: list[Request], expected: list[ChunkTranscript]) -> None:
    check_equal(together(whisper.engine, mixed), expected)
    answers: dict[str, ChunkTranscript] = {}
    for place, number in enumerate(np.random.default_rng(0).permutation(len(mixed))):
        whisper.engine.add(str(number), *mixed[number])
        for _ in range(place % 4):
            answers.update((output.request_id, output.result) for output in whisper.engine.step())
    finish(whisper.engine, answers, len(mixed))
    check_equal([answers[str(number)] for number in range(len(mixed))], expected)


def test_leaving_disturbs_nobody(whisper: Family, mixed: list[Request], expected: list[ChunkTranscript]) -> None:
    for number, request in enumerate(mixed):
        whisper.engine.add(str(number), *request)
    answers: dict[str, ChunkTranscript] = {}
    for leaving in ("2", "3", "4"):
        answers.update((output.request_id, output.result) for output in whisper.engine.step())
        whisper.engine.abort(leaving)
    finish(whisper.engine, answers, 4)
    check_equal([answers[number] for number in "0156"], [expected[int(number)] for number in "0156"])
    assert whisper.engine.step() == []


# Words


def times_of(transcript: ChunkTranscript) -> Iterator[float]:
    for segment in transcript.segments:
        for word in segment.words:
            yield word.start_s
            yield word.end_s


def test_words_have_times_inside_the_audio(whisper: Family, expected: list[ChunkTranscript], talk: Samples) -> None:
    times = list(times_of(expected[1]))
    assert len(times) > 10
    assert all(isfinite(time_s) for time_s in times)
    assert all(before <= after for before, after in pairwise(times))
    assert times[0] >= OFFSET_S
    assert times[-1] <= OFFSET_S + len(talk) / SAMPLE_RATE_HZ
    assert len(set(times)) > 2
