"""The engine on published Whispers: whoever else is aboard, a row's answer is its own."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

from deployments.asr.transformers_whisper import TransformersWhisper
from deployments.engines import EngineArgs
from pipelines.audio_types import SAMPLE_RATE_HZ, Samples
from pipelines.errors import UnsupportedLanguage
from pipelines.transcript_types import ChunkTranscript, DecodingOptions
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
        (chunk_of(speech["en-00"]), DecodingOptions()),
        (chunk_of(speech["en-01"]), DecodingOptions(language="en", word_timestamps=True)),
        (chunk_of(speech["en-02"], 3, 90.0), DecodingOptions(language="en", prompt="Hello, everybody.")),
        (chunk_of(speech["en-07"]), DecodingOptions(timestamps=False)),
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
def expected(engine: TransformersWhisper, mixed: list[Request]) -> list[ChunkTranscript]:
    return [alone(engine, request) for request in mixed]


def test_together_as_alone(engine: TransformersWhisper, mixed: list[Request], expected: list[ChunkTranscript]) -> None:
    check_equal(together(engine, mixed), expected)


def test_joining_at_any_step_as_alone(
    engine: TransformersWhisper, mixed: list[Request], expected: list[ChunkTranscript]
) -> None:
    answers: dict[str, ChunkTranscript] = {}
    order = np.random.default_rng(0).permutation(len(mixed))
    for place, number in enumerate(order):
        engine.add(str(number), *mixed[number])
        for _ in range(place % 4):
            answers.update((output.request_id, output.result) for output in engine.step())
    finish(engine, answers, len(mixed))
    check_equal([answers[str(number)] for number in range(len(mixed))], expected)


def test_leaving_disturbs_nobody(
    engine: TransformersWhisper, mixed: list[Request], expected: list[ChunkTranscript]
) -> None:
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


def test_everybody_leaves(engine: TransformersWhisper, mixed: list[Request], expected: list[ChunkTranscript]) -> None:
    for number, (chunk, options) in enumerate(mixed[:3]):
        engine.add(str(number), chunk, options)
    engine.step()
    for number in range(3):
        engine.abort(str(number))
    assert engine.step() == []
    check_equal([alone(engine, mixed[0])], expected[:1])


def test_nobody_aboard(engine: TransformersWhisper) -> None:
    assert engine.step() == []
    engine.abort("nobody")
    assert engine.step() == []


# The reference


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> WhisperForConditionalGeneration:
    return WhisperForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()


def generated(
    model: WhisperForConditionalGeneration, checkpoint: Path, samples: Samples, language: str, prompt: str = ""
) -> list[int]:
    """What transformers' own greedy decoding writes, timestamps among it."""
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
            return_timestamps=True,
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


@pytest.mark.parametrize("name", ["en-07", "de-02", "fr-01"])
def test_agrees_with_transformers_generate(
    multilingual: TransformersWhisper,
    reference: WhisperForConditionalGeneration,
    checkpoint: Path,
    speech: Speech,
    name: str,
) -> None:
    language = MANIFEST[f"{name}.flac"]["language"]
    found = alone(multilingual, (chunk_of(speech[name]), DecodingOptions(language=language)))
    begin = reference.generation_config.no_timestamps_token_id + 1
    assert all(segment.temperature == 0 for segment in found.segments)
    assert timed(found, begin) == generated(reference, checkpoint, speech[name], language)


def test_agrees_with_transformers_generate_after_a_prompt(
    multilingual: TransformersWhisper, reference: WhisperForConditionalGeneration, checkpoint: Path, speech: Speech
) -> None:
    prompt = "We meet at ten."
    found = alone(multilingual, (chunk_of(speech["en-10"]), DecodingOptions(language="en", prompt=prompt)))
    begin = reference.generation_config.no_timestamps_token_id + 1
    assert timed(found, begin) == generated(reference, checkpoint, speech["en-10"], "en", prompt)


# Choosing


def test_the_same_seed_gives_the_same_text_and_another_one_another(engine: TransformersWhisper, speech: Speech) -> None:
    chunk = chunk_of(speech["en-02"])
    hot = DecodingOptions(temperature=1.0, language="en")
    found = together(engine, [(chunk, replace(hot, seed=seed)) for seed in (1, 1, 2, 3)])
    check_equal(found[:1], found[1:2])
    check_equal([alone(engine, (chunk, replace(hot, seed=1)))], found[:1])
    assert len({tuple(logprobs(one)) for one in found}) > 1


def test_greedy_is_repeatable_and_a_tiny_temperature_is_nearly_greedy(
    engine: TransformersWhisper, speech: Speech
) -> None:
    chunk = chunk_of(speech["en-14"])
    found = together(engine, [(chunk, DecodingOptions(temperature=t, seed=1, language="en")) for t in (0, 0, 0.01)])
    assert token_ids(found[0]) == token_ids(found[1]) == token_ids(found[2])


def test_one_candidate_leaves_no_choice(engine: TransformersWhisper, speech: Speech) -> None:
    chunk = chunk_of(speech["en-14"])
    greedy = DecodingOptions(language="en")
    narrow = [replace(greedy, temperature=1.0, seed=5, top_k=1), replace(greedy, temperature=1.0, top_p=1e-6, seed=6)]
    found = together(engine, [(chunk, options) for options in (greedy, *narrow)])
    assert token_ids(found[0]) == token_ids(found[1]) == token_ids(found[2])


# Language


def test_every_language_is_detected(multilingual: TransformersWhisper, speech: Speech) -> None:
    names = ["en-00", "de-02", "es-07"]
    found = together(multilingual, [(chunk_of(speech[name]), DecodingOptions()) for name in names])
    assert [transcript.language for transcript in found] == [name[:2] for name in names]
    check_equal(found[1:], [alone(multilingual, (chunk_of(speech[name]), DecodingOptions())) for name in names[1:]])


def test_a_hint_leaves_the_other_languages_out(multilingual: TransformersWhisper, speech: Speech) -> None:
    chunk = chunk_of(speech["en-00"])
    hints = [("fr", "es"), ("de",), ("xx", "en", "fr"), ("xx", "yy")]
    found = together(multilingual, [(chunk, DecodingOptions(languages=hint)) for hint in hints])
    assert found[0].language in {"fr", "es"}
    assert [transcript.language for transcript in found[1:]] == ["de", "en", "en"]


def test_the_language_asked_for_is_the_one_written(multilingual: TransformersWhisper, speech: Speech) -> None:
    assert alone(multilingual, (chunk_of(speech["en-00"]), DecodingOptions(language="de"))).language == "de"


def test_an_unknown_language_is_refused_and_not_aboard(multilingual: TransformersWhisper, speech: Speech) -> None:
    with pytest.raises(UnsupportedLanguage, match="'xx'"):
        multilingual.add("0", chunk_of(speech["en-00"]), DecodingOptions(language="xx"))
    assert multilingual.step() == []


def test_what_it_can_do(multilingual: TransformersWhisper) -> None:
    assert multilingual.info.languages > {"en", "de", "es", "fr", "ja"}
    assert multilingual.info.tasks == {"transcribe", "translate"}


# Segments, words and ends


def test_noise_gives_no_segments(multilingual: TransformersWhisper) -> None:
    """Of silence it says "you", as every Whisper: voice activity detection is there to keep silence from it."""
    noise = (np.random.default_rng(0).standard_normal(5 * SAMPLE_RATE_HZ) * 0.01).astype(np.float32)
    found = alone(multilingual, (chunk_of(noise), DecodingOptions(word_timestamps=True)))
    assert found.segments == ()
    assert found.finish_reason == "stop"


def test_times_are_on_the_clock_of_the_upload(engine: TransformersWhisper, speech: Speech) -> None:
    options = DecodingOptions(word_timestamps=True)
    here, there = together(
        engine, [(chunk_of(speech["en-00"]), options), (chunk_of(speech["en-00"], 9, 1_000.0), options)]
    )
    assert there.index == 9
    for near, far in zip(here.segments, there.segments, strict=True):
        assert (far.start_s, far.end_s) == pytest.approx((near.start_s + 1_000, near.end_s + 1_000))
        assert [w.start_s for w in far.words] == pytest.approx([w.start_s + 1_000 for w in near.words])


@pytest.fixture(scope="module")
def talk(multilingual: TransformersWhisper, speech: Speech) -> ChunkTranscript:
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


def test_word_times_change_nothing_else(
    multilingual: TransformersWhisper, speech: Speech, talk: ChunkTranscript
) -> None:
    chunk = chunk_of(joined(speech, "en-06", "en-08", "en-10", "en-11"), 2, 60.0)
    plain = alone(multilingual, (chunk, DecodingOptions()))
    assert all(segment.words == () for segment in plain.segments)
    assert without_numbers(plain) == without_numbers(talk)


def test_tokens_spell_the_text(talk: ChunkTranscript) -> None:
    for segment in talk.segments:
        assert b"".join(token.data for token in segment.tokens).decode() == segment.text
        assert all(token.logprob <= 0 for token in segment.tokens)


def test_without_timestamps_the_chunk_is_one_segment(engine: TransformersWhisper, speech: Speech) -> None:
    found = alone(engine, (chunk_of(speech["en-08"], 0, 10.0), DecodingOptions(timestamps=False)))
    (segment,) = found.segments
    assert (segment.start_s, segment.end_s) == pytest.approx((10.0, 10.0 + len(speech["en-08"]) / SAMPLE_RATE_HZ))
    assert text_of(found) == MANIFEST["en-08.flac"]["text"]


@pytest.mark.parametrize("max_tokens", [1, 5])
def test_max_tokens_ends_with_length(engine: TransformersWhisper, speech: Speech, max_tokens: int) -> None:
    found = alone(engine, (chunk_of(speech["en-00"]), DecodingOptions(max_tokens=max_tokens)))
    assert found.finish_reason == "length"
    assert found.num_output_tokens == max_tokens
    assert len(token_ids(found)) <= max_tokens


def test_more_tokens_than_needed_end_with_stop(engine: TransformersWhisper, speech: Speech) -> None:
    whole, roomy = together(
        engine, [(chunk_of(speech["en-00"]), DecodingOptions(max_tokens=most)) for most in (None, 10_000)]
    )
    assert roomy == whole
    assert roomy.finish_reason == "stop"


@pytest.mark.parametrize("num_words", [1, 1_000])
def test_a_prompt_of_any_length(engine: TransformersWhisper, speech: Speech, num_words: int) -> None:
    found = alone(engine, (chunk_of(speech["en-00"]), DecodingOptions(prompt="Madrid " * num_words)))
    assert 0 < found.num_prompt_tokens <= 224
    assert found.num_output_tokens > 0


def test_the_model_is_built_for_one_device_and_type(checkpoint: Path, speech: Speech) -> None:
    half = TransformersWhisper(EngineArgs(str(checkpoint), "cpu", "bfloat16", num_threads=1))
    assert text_of(alone(half, (chunk_of(speech["en-00"]), DecodingOptions()))).startswith("We meet")
