"""The engine on published Whispers: whoever else is aboard, a row's answer is its own."""

import json
import random
import re
import weakref
from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

from benchmarks.scoring import word_error_rate
from deployments.asr.checkpoints import WhisperCheckpoint, load_whisper
from deployments.asr.engine import AsrEngineArgs
from deployments.asr.row import Row
from deployments.asr.slots import Slots, SlotShape
from deployments.asr.whisper import WhisperEngine
from deployments.decoding.memory import WORKING_SHARE
from models.sources import resolve
from pipelines.audio_types import SAMPLE_RATE_HZ, Samples
from pipelines.errors import ModelUnavailable, UnsupportedLanguage
from pipelines.transcript_types import ChunkTranscript, CueOptions, DecodingOptions
from pipelines.whisper import TEMPERATURE_LADDER
from tests.support.whisper_driving import (
    Request,
    Speech,
    alone,
    check_equal,
    chunk_of,
    finish,
    joined,
    logprobs,
    text_of,
    together,
    token_ids,
    without_numbers,
)

MANIFEST = json.loads((Path(__file__).parent.parent.parent / "data" / "clips.json").read_text())


@pytest.fixture(scope="module")
def mixed(speech: Speech) -> list[Request]:
    """Rows that differ in all that a row can differ in."""
    return [
        (chunk_of(speech["en-00"]), DecodingOptions(timestamps=True)),
        (chunk_of(speech["en-01"]), DecodingOptions(language="en", word_timestamps=True)),
        (chunk_of(speech["en-02"], 3, 90.0), DecodingOptions(language="en", prompt="Hello, everybody.")),
        (chunk_of(speech["en-07"]), DecodingOptions()),
        (chunk_of(speech["en-08"]), DecodingOptions(max_tokens=4)),
        (chunk_of(joined(speech, "en-03", "en-04", "en-05"), 1, 30.0), DecodingOptions(word_timestamps=True)),
        (chunk_of(np.zeros(SAMPLE_RATE_HZ, np.float32)), DecodingOptions()),
        (chunk_of(speech["en-09"]), DecodingOptions(languages=("en", "fr"), keywords=("Berlin", "Hamburg"))),
        (chunk_of(speech["en-06"]), DecodingOptions(repetition_penalty=1.2, frequency_penalty=0.3)),
        (
            chunk_of(speech["en-10"]),
            DecodingOptions(temperature=1.0, seed=3, top_k=20, top_p=0.9, min_p=0.02),
        ),
    ]


@pytest.fixture(scope="module")
def expected(engine: WhisperEngine, mixed: list[Request]) -> list[ChunkTranscript]:
    return [alone(engine, request) for request in mixed]


def test_together_as_alone(engine: WhisperEngine, mixed: list[Request], expected: list[ChunkTranscript]) -> None:
    check_equal(together(engine, mixed), expected)


def test_joining_at_any_step_as_alone(
    engine: WhisperEngine, mixed: list[Request], expected: list[ChunkTranscript]
) -> None:
    answers: dict[str, ChunkTranscript] = {}
    order = np.random.default_rng(0).permutation(len(mixed))
    for place, number in enumerate(order):
        engine.add(str(number), *mixed[number])
        for _ in range(place % 4):
            answers.update((output.request_id, output.result) for output in engine.step())
    finish(engine, answers, len(mixed))
    check_equal([answers[str(number)] for number in range(len(mixed))], expected)


def test_who_is_prompted_is_not_read_with_who_has_written_as_much(engine: WhisperEngine, speech: Speech) -> None:
    """Whether somebody speaks is read where the transcript begins."""
    (segment,) = alone(engine, (chunk_of(speech["en-07"]), DecodingOptions())).segments
    prompted = DecodingOptions(prompt="Hello.")
    lengths = [len(engine._vocabulary.prefix(options, "en", False)) for options in (DecodingOptions(), prompted)]
    live = DecodingOptions(written=segment.tokens[: lengths[1] - lengths[0]])
    assert len(live.written) == lengths[1] - lengths[0] > 0
    requests = [(chunk_of(speech["en-07"]), live), (chunk_of(speech["en-01"]), prompted)]
    expected = [alone(engine, request) for request in requests]
    assert min(one.segments[0].no_speech_prob for one in expected) > 2e-3
    check_equal(together(engine, requests), expected)
    check_equal(together(engine, requests[::-1]), expected[::-1])


def test_leaving_disturbs_nobody(engine: WhisperEngine, mixed: list[Request], expected: list[ChunkTranscript]) -> None:
    for number, (chunk, options) in enumerate(mixed):
        engine.add(str(number), chunk, options)
    engine.abort("1")  # before its first step
    answers: dict[str, ChunkTranscript] = {}
    for leaving in ("0", "3", "5", "8"):
        for _ in range(2):
            answers.update((output.request_id, output.result) for output in engine.step())
        engine.abort(leaving)
    gone = {0, 1, 3, 5, 8} - {int(request_id) for request_id in answers}
    assert {1, 5} <= gone
    finish(engine, answers, len(mixed) - len(gone))
    stayed = [number for number in range(len(mixed)) if number not in gone]
    check_equal([answers[str(number)] for number in stayed], [expected[number] for number in stayed])
    assert engine.step() == []


def test_everybody_leaves(engine: WhisperEngine, mixed: list[Request], expected: list[ChunkTranscript]) -> None:
    for number, (chunk, options) in enumerate(mixed[:3]):
        engine.add(str(number), chunk, options)
    engine.step()
    for number in range(3):
        engine.abort(str(number))
    assert engine.step() == []
    check_equal([alone(engine, mixed[0])], expected[:1])


def test_nobody_aboard(engine: WhisperEngine) -> None:
    assert engine.step() == []
    engine.abort("nobody")
    assert engine.step() == []


# The reference


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> WhisperForConditionalGeneration:
    return WhisperForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()


def generated(
    model: WhisperForConditionalGeneration,
    checkpoint: Path,
    samples: Samples,
    language: str,
    is_timed: bool,
    prompt: str = "",
) -> list[int]:
    """What transformers' own greedy decoding writes, where `is_timed` timestamps among it."""
    extract = WhisperFeatureExtractor.from_pretrained(checkpoint)
    features = extract(samples, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").input_features
    prompt_ids = None
    if prompt:
        ids = WhisperTokenizer.from_pretrained(checkpoint).get_prompt_ids(prompt, return_tensors="pt")
        prompt_ids = torch.as_tensor(ids)
    with torch.inference_mode():
        written = model.generate(
            features,
            language=language,
            task="transcribe",
            return_timestamps=is_timed,
            num_beams=1,
            do_sample=False,
            prompt_ids=prompt_ids,
        )
    special = set(range(model.generation_config.eos_token_id, model.generation_config.no_timestamps_token_id + 1))
    return [token for token in written[0].tolist() if token not in special]


def timed(transcript: ChunkTranscript, timestamp_begin: int) -> list[int]:
    """The transcript's tokens with the timestamps around each segment."""
    ids = []
    for segment in transcript.segments:
        ids.append(timestamp_begin + round(segment.start_s / 0.02))
        ids += [token.id for token in segment.tokens]
        ids.append(timestamp_begin + round(segment.end_s / 0.02))
    return ids


@pytest.mark.parametrize(
    ("name", "prompt"),
    [("en-07", ""), ("de-02", ""), ("fr-01", ""), ("en-10", "We meet at ten."), ("en-07", "We meet at ten.")],
)
def test_agrees_with_transformers_generate(
    multilingual: WhisperEngine,
    stamping: WhisperEngine,
    reference: WhisperForConditionalGeneration,
    checkpoint: Path,
    speech: Speech,
    name: str,
    prompt: str,
) -> None:
    language = MANIFEST[f"{name}.flac"]["language"]
    request = (chunk_of(speech[name]), DecodingOptions(language=language, prompt=prompt, timestamps=True))
    found = alone(multilingual, request)
    assert all(segment.temperature == 0 for segment in found.segments)
    assert token_ids(found) == generated(reference, checkpoint, speech[name], language, False, prompt)
    begin = reference.generation_config.no_timestamps_token_id + 1
    found = alone(stamping, request)
    assert timed(found, begin) == generated(reference, checkpoint, speech[name], language, True, prompt)


# Choosing


def test_the_same_seed_gives_the_same_text_and_another_one_another(engine: WhisperEngine, speech: Speech) -> None:
    chunk = chunk_of(speech["en-02"])
    hot = DecodingOptions(temperature=1.0, language="en")
    found = together(engine, [(chunk, replace(hot, seed=seed)) for seed in (1, 1, 2, 3)])
    check_equal(found[:1], found[1:2])
    check_equal([alone(engine, (chunk, replace(hot, seed=1)))], found[:1])
    assert len({tuple(logprobs(one)) for one in found}) > 1


def test_greedy_is_repeatable_and_a_tiny_temperature_is_nearly_greedy(engine: WhisperEngine, speech: Speech) -> None:
    chunk = chunk_of(speech["en-14"])
    found = together(engine, [(chunk, DecodingOptions(temperature=t, seed=1, language="en")) for t in (0, 0, 0.01)])
    assert token_ids(found[0]) == token_ids(found[1]) == token_ids(found[2])


def test_one_candidate_leaves_no_choice(engine: WhisperEngine, speech: Speech) -> None:
    chunk = chunk_of(speech["en-14"])
    greedy = DecodingOptions(language="en")
    narrow = [replace(greedy, temperature=1.0, seed=5, top_k=1), replace(greedy, temperature=1.0, top_p=1e-6, seed=6)]
    found = together(engine, [(chunk, options) for options in (greedy, *narrow)])
    assert token_ids(found[0]) == token_ids(found[1]) == token_ids(found[2])


# Language


def test_every_language_is_detected(multilingual: WhisperEngine, speech: Speech) -> None:
    names = ["en-00", "de-02", "es-07"]
    found = together(multilingual, [(chunk_of(speech[name]), DecodingOptions()) for name in names])
    assert [transcript.language for transcript in found] == [name[:2] for name in names]
    check_equal(found[1:], [alone(multilingual, (chunk_of(speech[name]), DecodingOptions())) for name in names[1:]])


def test_a_hint_leaves_the_other_languages_out(multilingual: WhisperEngine, speech: Speech) -> None:
    chunk = chunk_of(speech["en-00"])
    hints = [("fr", "es"), ("de",), ("xx", "en", "fr"), ("xx", "yy")]
    found = together(multilingual, [(chunk, DecodingOptions(languages=hint)) for hint in hints])
    assert found[0].language in {"fr", "es"}
    assert [transcript.language for transcript in found[1:]] == ["de", "en", "en"]


def test_the_language_asked_for_is_the_one_written(multilingual: WhisperEngine, speech: Speech) -> None:
    assert alone(multilingual, (chunk_of(speech["en-00"]), DecodingOptions(language="de"))).language == "de"


def test_an_unknown_language_is_refused_and_not_aboard(multilingual: WhisperEngine, speech: Speech) -> None:
    with pytest.raises(UnsupportedLanguage, match="'xx'"):
        multilingual.add("0", chunk_of(speech["en-00"]), DecodingOptions(language="xx"))
    assert multilingual.step() == []


def test_what_it_can_do(multilingual: WhisperEngine) -> None:
    assert multilingual.info.languages > {"en", "de", "es", "fr", "ja"}
    assert multilingual.info.tasks == {"transcribe", "translate"}


# Segments, words and ends


def test_segments_end_with_sentences(talk: ChunkTranscript) -> None:
    assert len(talk.segments) > 2
    assert all(segment.text.rstrip().endswith((".", "?", "!")) for segment in talk.segments)


def test_segments_can_be_shown_as_they_are_asked_for(multilingual: WhisperEngine, speech: Speech) -> None:
    chunk = chunk_of(joined(speech, "en-06", "en-08", "en-10", "en-11"))
    options = DecodingOptions(timestamps=True, cues=CueOptions(max_segment_s=2.0, max_line_width=16, max_line_count=1))
    found = alone(multilingual, (chunk, options))
    assert len(found.segments) > 6
    for segment in found.segments:
        assert " " not in segment.text.strip() or len(segment.text.strip()) <= 16
        assert " " not in segment.text.strip() or segment.end_s - segment.start_s <= 2.0


def test_timestamp_tokens_give_nearly_the_same(stamping: WhisperEngine, speech: Speech, talk: ChunkTranscript) -> None:
    chunk = chunk_of(joined(speech, "en-06", "en-08", "en-10", "en-11"), 2, 60.0)
    found = alone(stamping, (chunk, DecodingOptions(word_timestamps=True)))
    mine = [word for segment in found.segments for word in segment.words]
    theirs = [word for segment in talk.segments for word in segment.words]
    texts = [[word.text for word in words] for words in (mine, theirs)]
    same = SequenceMatcher(None, *texts, autojunk=False).get_matching_blocks()
    pairs = [(mine[block.a + k], theirs[block.b + k]) for block in same for k in range(block.size)]
    assert len(pairs) >= 0.8 * len(theirs)
    assert np.median([abs(one.start_s - other.start_s) for one, other in pairs]) <= 0.1
    plain = alone(stamping, (chunk, DecodingOptions(timestamp_tokens=False)))
    assert text_of(plain) == text_of(talk)


def test_noise_gives_no_segments(multilingual: WhisperEngine) -> None:
    """Of silence it says "you", as every WhisperEngine: voice activity detection is there to keep silence from it."""
    noise = (np.random.default_rng(0).standard_normal(5 * SAMPLE_RATE_HZ) * 0.01).astype(np.float32)
    found = alone(multilingual, (chunk_of(noise), DecodingOptions(word_timestamps=True)))
    assert found.segments == ()
    assert found.finish_reason == "stop"


def test_times_are_on_the_clock_of_the_upload(engine: WhisperEngine, speech: Speech) -> None:
    options = DecodingOptions(word_timestamps=True)
    here, there = together(
        engine, [(chunk_of(speech["en-00"]), options), (chunk_of(speech["en-00"], 9, 1_000.0), options)]
    )
    assert there.index == 9
    for near, far in zip(here.segments, there.segments, strict=True):
        assert (far.start_s, far.end_s) == pytest.approx((near.start_s + 1_000, near.end_s + 1_000))
        assert [w.start_s for w in far.words] == pytest.approx([w.start_s + 1_000 for w in near.words])


@pytest.fixture(scope="module")
def talk(multilingual: WhisperEngine, speech: Speech) -> ChunkTranscript:
    chunk = chunk_of(joined(speech, "en-06", "en-08", "en-10", "en-11"), 2, 60.0)
    return alone(multilingual, (chunk, DecodingOptions(word_timestamps=True)))


def test_segments_are_ordered_and_inside_the_chunk(talk: ChunkTranscript) -> None:
    times = [time for segment in talk.segments for time in (segment.start_s, segment.end_s)]
    assert len(times) >= 2
    assert times == sorted(times)
    assert times[0] >= 60.0
    assert times[-1] <= 75.2


@pytest.mark.parametrize("name", ["en-06", "en-08", "en-10", "en-11"])
def test_every_sentence_of_a_chunk_is_heard(talk: ChunkTranscript, name: str) -> None:
    heard = re.findall(r"\w+", text_of(talk).lower())
    wanted = re.findall(r"\w+", MANIFEST[f"{name}.flac"]["text"].lower())
    assert sum(word in heard for word in wanted) / len(wanted) > 0.5


def test_words_are_ordered_inside_their_segment_and_spell_its_text(talk: ChunkTranscript) -> None:
    assert talk.segments
    for segment in talk.segments:
        assert " ".join(word.text for word in segment.words) == " ".join(segment.text.split())
        times = [time for word in segment.words for time in (word.start_s, word.end_s)]
        assert times == sorted(times)
        assert segment.start_s <= times[0]
        assert times[-1] <= segment.end_s
        assert all(0 < word.probability <= 1 for word in segment.words)


def test_times_change_nothing_else(multilingual: WhisperEngine, speech: Speech, talk: ChunkTranscript) -> None:
    chunk = chunk_of(joined(speech, "en-06", "en-08", "en-10", "en-11"), 2, 60.0)
    timed = alone(multilingual, (chunk, DecodingOptions(timestamps=True)))
    assert all(segment.words == () for segment in timed.segments)
    assert without_numbers(timed) == without_numbers(talk)
    plain = alone(multilingual, (chunk, DecodingOptions()))
    assert (text_of(plain), token_ids(plain)) == (text_of(talk), token_ids(talk))


def test_tokens_spell_the_text(talk: ChunkTranscript) -> None:
    for segment in talk.segments:
        assert b"".join(token.data for token in segment.tokens).decode() == segment.text
        assert all(token.logprob <= 0 for token in segment.tokens)


def test_unless_times_are_asked_for_the_chunk_is_one_segment(engine: WhisperEngine, speech: Speech) -> None:
    found = alone(engine, (chunk_of(speech["en-08"], 0, 10.0), DecodingOptions()))
    (segment,) = found.segments
    assert (segment.start_s, segment.end_s) == pytest.approx((10.0, 10.0 + len(speech["en-08"]) / SAMPLE_RATE_HZ))
    assert text_of(found) == MANIFEST["en-08.flac"]["text"]


@pytest.mark.parametrize("max_tokens", [1, 5])
def test_max_tokens_ends_with_length(engine: WhisperEngine, speech: Speech, max_tokens: int) -> None:
    found = alone(engine, (chunk_of(speech["en-00"]), DecodingOptions(max_tokens=max_tokens)))
    assert found.finish_reason == "length"
    assert found.num_output_tokens == max_tokens
    assert len(token_ids(found)) <= max_tokens


def test_more_tokens_than_needed_end_with_stop(engine: WhisperEngine, speech: Speech) -> None:
    whole, roomy = together(
        engine, [(chunk_of(speech["en-00"]), DecodingOptions(max_tokens=most)) for most in (None, 10_000)]
    )
    assert roomy == whole
    assert roomy.finish_reason == "stop"


@pytest.mark.parametrize("num_words", [1, 1_000])
def test_a_prompt_of_any_length(engine: WhisperEngine, speech: Speech, num_words: int) -> None:
    found = alone(engine, (chunk_of(speech["en-00"]), DecodingOptions(prompt="Madrid " * num_words)))
    assert 0 < found.num_prompt_tokens <= 224
    assert found.num_output_tokens > 0


def test_the_model_is_built_for_one_device_and_type(checkpoint: Path, speech: Speech) -> None:
    half = WhisperEngine(AsrEngineArgs(str(checkpoint), "cpu", "bfloat16", num_threads=1))
    assert text_of(alone(half, (chunk_of(speech["en-00"]), DecodingOptions()))).startswith("We meet")


# What goes wrong


def test_a_window_that_cannot_be_encoded_takes_nobody_with_it(
    engine: WhisperEngine, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [(chunk_of(speech[name]), DecodingOptions(language="en")) for name in ("en-00", "en-01", "en-02")]
    expected = [alone(engine, request) for request in requests]
    encode = engine._network.encode
    fails = iter([False, True, False])

    def encode_some(features: torch.Tensor) -> torch.Tensor:
        if next(fails):
            raise torch.OutOfMemoryError("no memory for this")
        return encode(features)

    monkeypatch.setattr(engine._network, "encode", encode_some)
    for number, request in enumerate(requests):
        engine.add(str(number), *request)
    answers: dict[str, Any] = {}
    finish(engine, answers, 3)
    assert isinstance(answers["1"], ModelUnavailable)
    check_equal([answers["0"], answers["2"]], [expected[0], expected[2]])


def test_no_memory_for_another_slot_takes_nobody_with_it(
    checkpoint: Path, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.asr.batch.NUM_SLOTS", 1)
    engine = WhisperEngine(AsrEngineArgs(resolve("embedded:whisper-tiny.en"), "cpu", "float32"))
    requests = [(chunk_of(speech[name]), DecodingOptions(language="en")) for name in ("en-00", "en-01")]
    expected = [alone(engine, request) for request in requests]
    engine.add("0", *requests[0])
    engine.step()

    def no_memory(num_slots: int) -> Any:
        raise torch.OutOfMemoryError(f"no memory for {num_slots} slots")

    allocated = engine._batch.slots._allocated
    monkeypatch.setattr(engine._batch.slots, "_allocated", no_memory)
    engine.add("1", *requests[1])
    answers: dict[str, Any] = {}
    answers.update((output.request_id, output.result) for output in engine.step())
    assert isinstance(answers["1"], ModelUnavailable)
    finish(engine, answers, 2)
    check_equal([answers["0"]], expected[:1])
    monkeypatch.setattr(engine._batch.slots, "_allocated", allocated)
    check_equal(together(engine, requests), expected)


def test_no_more_slots_are_made_than_there_is_memory_for(
    checkpoint: Path, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.decoding.memory.resident_bytes", lambda: 0)
    source = resolve("embedded:whisper-tiny.en")
    free = WhisperEngine(AsrEngineArgs(source, "cpu", "float32"))
    requests = [(chunk_of(speech[name]), DecodingOptions(language="en")) for name in ("en-00", "en-01", "en-09")]
    expected = [alone(free, request) for request in requests]
    max_bytes = int(3.5 * free.row_bytes / (1 - WORKING_SHARE))
    engine = WhisperEngine(AsrEngineArgs(source, "cpu", "float32", max_bytes=max_bytes))
    assert engine.max_rows == engine._batch.slots.num_slots == 3
    check_equal(together(engine, requests), expected)
    assert engine._batch.slots.num_slots == 3


def test_weights_that_are_left_behind_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network has a copy of its own: what was loaded is gone when rows are made for what is left."""
    loaded: list[weakref.ref[Any]] = []
    left: list[Any] = []

    def load(source: str, dtype: torch.dtype) -> WhisperCheckpoint:
        checkpoint = load_whisper(source, dtype)
        loaded.append(weakref.ref(checkpoint.model))
        return checkpoint

    def budget(args: AsrEngineArgs, kept_bytes: int) -> None:
        left.extend(model() for model in loaded)

    monkeypatch.setattr("deployments.asr.whisper.load_whisper", load)
    monkeypatch.setattr("deployments.asr.whisper.budget_of", budget)
    WhisperEngine(AsrEngineArgs(resolve("embedded:whisper-tiny.en"), "cpu", "float32"))
    assert left == [None]


def test_slots_grow_to_what_there_is_memory_for() -> None:
    shape = SlotShape(1, 1, 2, 4, 4, torch.float32, torch.float32, torch.device("cpu"), ())
    slots = Slots(shape, 8, max_slots=11)
    slots.take(9)
    assert slots.num_slots == 11


def test_a_model_that_can_hear_nothing_says_so(
    engine: WhisperEngine, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(features: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("broken")

    monkeypatch.setattr(engine._network, "encode", fail)
    engine.add("0", chunk_of(speech["en-00"]), DecodingOptions())
    with pytest.raises(RuntimeError, match="broken"):
        engine.step()
    assert engine.step() == []


def test_words_that_cannot_be_timed_fail_their_own_request(
    engine: WhisperEngine, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr("deployments.asr.writing.align", fail)
    timed, plain = DecodingOptions(timestamps=True), DecodingOptions()
    engine.add("0", chunk_of(speech["en-00"]), timed)
    engine.add("1", chunk_of(speech["en-00"]), plain)
    answers: dict[str, Any] = {}
    finish(engine, answers, 2)
    assert isinstance(answers["0"], ModelUnavailable)
    assert text_of(answers["1"])


def test_a_text_that_repeats_itself_without_end_is_cut_and_tried_again(
    engine: WhisperEngine, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it hears, at first it goes on saying the same two tokens; from the temperature of 0.4 on it does not."""
    chunk, options = chunk_of(speech["en-00"]), DecodingOptions(timestamps=True)
    expected = alone(engine, (chunk, options))
    choose = engine._batch._choose
    loops = [11, 12]

    def looping(rows: Any, chooser: Any, hidden: torch.Tensor) -> None:
        choose(rows, chooser, hidden)
        for row in rows:
            if row.attempt.temperature < hot and len(row.attempt.tokens) > 2:
                row.attempt.tokens[-1] = loops[len(row.attempt.tokens) % 2]

    monkeypatch.setattr(engine._batch, "_choose", looping)
    hot = 0.4
    found = alone(engine, (chunk, options))
    assert {segment.temperature for segment in found.segments} == {0.4}
    assert len(token_ids(found)) < 2 * len(token_ids(expected)) + 5
    hot = 2.0
    found = alone(engine, (chunk, options))
    assert len(token_ids(found)) == 4  # two tokens, and the phrase once
    assert found.finish_reason == "stop"


@pytest.mark.parametrize("best", [0, 1, 5])
def test_the_attempt_that_is_taken_has_times_of_its_own(
    engine: WhisperEngine, speech: Speech, monkeypatch: pytest.MonkeyPatch, best: int
) -> None:
    """Though every temperature fails, and others were tried behind it."""
    request = (chunk_of(joined(speech, "en-00", "en-03")), DecodingOptions(word_timestamps=True))
    expected = alone(engine, request)
    monkeypatch.setattr(engine._reviewer, "must_retry", lambda row: len(row.failed_attempts) < 5)
    taken: list[list[int]] = []

    def take(row: Any) -> Any:
        attempt = [*row.failed_attempts, row.attempt][best]
        taken.append([token for token in attempt.tokens if token != engine._vocabulary.end_of_text])
        return attempt

    monkeypatch.setattr(engine._reviewer, "best_attempt", take)
    found = alone(engine, request)
    assert token_ids(found) == taken[0]
    if best == 0:
        assert without_numbers(found) == without_numbers(expected)
        starts = [[word.start_s for segment in one.segments for word in segment.words] for one in (found, expected)]
        assert starts[0] == pytest.approx(starts[1], abs=0.021)
    times = [time for segment in found.segments for word in segment.words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)


def test_an_answer_that_is_no_number_fails_alone(
    engine: WhisperEngine, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = (chunk_of(speech["en-00"]), DecodingOptions())
    expected = alone(engine, request)
    hear = engine._ear.hear

    def broken(rows: Sequence[Row]) -> list[torch.Tensor]:
        lost = [len(row.chunk.waveform.samples) == len(speech["en-01"]) for row in rows]
        return [heard * torch.nan if one else heard for heard, one in zip(hear(rows), lost, strict=True)]

    monkeypatch.setattr(engine._ear, "hear", broken)
    engine.add("1", chunk_of(speech["en-01"]), DecodingOptions(language="en"))
    engine.add("0", *request)
    answers: dict[str, Any] = {}
    finish(engine, answers, 2)
    assert isinstance(answers["1"], ModelUnavailable)
    check_equal([answers["0"]], [expected])
    check_equal(together(engine, [request] * 2), [expected] * 2)


def test_who_leaves_while_words_are_timed_leaves_nothing_behind(engine: WhisperEngine, speech: Speech) -> None:
    request = (chunk_of(speech["en-00"]), DecodingOptions(word_timestamps=True))
    blocked, go_on = Event(), Event()
    engine._threads.submit(lambda: (blocked.set(), go_on.wait(60)))
    assert blocked.wait(60)
    engine.add("0", *request)
    while not engine._leaving:
        assert engine.step() == []
    timing = engine._leaving[0].segments
    engine.abort("0")
    go_on.set()
    assert timing is not None
    assert timing.cancelled()
    assert engine.step() == []


# 8-bit weights


@pytest.fixture(scope="module")
def small() -> WhisperEngine:
    """With 8-bit weights, whatever the machine likes best."""
    return WhisperEngine(AsrEngineArgs(resolve("embedded:whisper-base"), "cpu", "int8"))


def spoken(engine: WhisperEngine, speech: Speech) -> dict[str, list[str]]:
    """The clips of each language, read in windows of four."""
    names = [name for name in sorted(speech) if name[:2] in {"en", "de", "es", "fr"}]
    heard: dict[str, list[str]] = {}
    for first in range(0, len(names), 4):
        language = names[first][:2]
        chunk = chunk_of(joined(speech, *names[first : first + 4]))
        heard.setdefault(language, []).append(text_of(alone(engine, (chunk, DecodingOptions(language=language)))))
    return heard


def test_8_bits_hear_as_well(small: WhisperEngine, multilingual: WhisperEngine, speech: Speech) -> None:
    truth: dict[str, list[str]] = {}
    for name in sorted(speech):
        truth.setdefault(name[:2], []).append(MANIFEST[f"{name}.flac"]["text"])

    def error(engine: WhisperEngine) -> float:
        heard = spoken(engine, speech)
        return word_error_rate([" ".join(truth[one]) for one in truth], [" ".join(heard[one]) for one in truth])

    assert error(small) <= error(multilingual) + 0.005


def test_8_bits_depend_on_nobody_else(small: WhisperEngine, mixed: list[Request]) -> None:
    """Not by a single bit."""
    assert together(small, mixed) == [alone(small, request) for request in mixed]


def test_what_is_written_already_is_gone_on_with(engine: WhisperEngine, speech: Speech, mixed: list[Request]) -> None:
    """Also in company: the answer is the one that it would have written by itself, with words for all of it."""
    chunk, options = chunk_of(joined(speech, "en-03", "en-04")), DecodingOptions(word_timestamps=True)
    whole = alone(engine, (chunk, options))
    tokens = [token for segment in whole.segments for token in segment.tokens]
    for length in (1, len(tokens) // 2, len(tokens)):
        request = chunk, replace(options, written=tuple(tokens[:length]))
        for found in (alone(engine, request), together(engine, [*mixed[:3], request])[-1]):
            check_equal([found], [whole])
            assert logprobs(found)[:length] == logprobs(whole)[:length]


def test_there_is_room_for_a_script_of_many_tokens(engine: WhisperEngine, speech: Speech) -> None:
    """More than the 224 at which the reference implementation stops, up to all that the decoder reads."""
    answers = [alone(engine, (chunk_of(speech[name]), DecodingOptions())) for name in ("en-01", "en-02", "en-03")]
    tokens = [token for answer in answers for segment in answer.segments for token in segment.tokens]
    written = random.Random(0).choices(tokens, k=300)
    found = alone(engine, (chunk_of(speech["en-00"]), DecodingOptions(written=tuple(written))))
    assert 300 < found.num_output_tokens <= 448


@pytest.fixture
def temperatures(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """At which windows were decoded, where every decoding is poor."""
    found: list[float] = []
    start = Row.start
    monkeypatch.setattr("deployments.asr.review.needs_fallback", lambda *_: True)
    monkeypatch.setattr(Row, "start", lambda row, temperature: (found.append(temperature), start(row, temperature)))
    return found


@pytest.mark.parametrize(("max_tokens", "num_tries"), [(None, 6), (400, 6), (2, 1)])
def test_only_who_is_cut_short_is_not_tried_again(
    engine: WhisperEngine, speech: Speech, temperatures: list[float], max_tokens: int | None, num_tries: int
) -> None:
    """TRP-06: a limit that is not reached changes nothing."""
    alone(engine, (chunk_of(speech["en-00"]), DecodingOptions(max_tokens=max_tokens)))
    assert len(temperatures) == num_tries


def test_what_is_written_stands_whatever_is_heard(engine: WhisperEngine, speech: Speech) -> None:
    chunk = chunk_of(speech["en-00"])
    other = alone(engine, (chunk_of(speech["en-01"]), DecodingOptions()))
    written = other.segments[0].tokens[:3]
    found = alone(engine, (chunk, DecodingOptions(written=written)))
    assert token_ids(found)[:3] == [token.id for token in written]
    assert len(token_ids(found)) > 3


def test_a_draft_is_tried_once(engine: WhisperEngine, speech: Speech, temperatures: list[float]) -> None:
    alone(engine, (chunk_of(speech["en-00"]), DecodingOptions(is_draft=True)))
    assert temperatures == [0.0]
    alone(engine, (chunk_of(speech["en-00"]), DecodingOptions()))
    assert len(temperatures) == 1 + len(TEMPERATURE_LADDER)


def test_a_prompt_that_is_no_text_fails_alone(engine: WhisperEngine, speech: Speech) -> None:
    fine = chunk_of(speech["en-00"]), DecodingOptions()
    expected = alone(engine, fine)
    engine.add("fine", *fine)
    engine.add("broken", fine[0], DecodingOptions(prompt="half a pair: \ud800"))
    answers: dict[str, ChunkTranscript] = {}
    finish(engine, answers, 2)
    assert isinstance(answers["broken"], ModelUnavailable)
    check_equal([answers["fine"]], [expected])
