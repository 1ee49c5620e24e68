"""Whisper base on windows in two languages."""

import numpy as np
import pytest
import torch

from deployments.asr.hearing import STEP_SAMPLES
from deployments.asr.whisper import WhisperEngine
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioChunk, SpeechSegment, Waveform
from pipelines.chunking import cut_chunk
from pipelines.transcript_types import DecodingOptions
from tests.support.whisper_driving import Speech, alone, text_of, together

OFFSET_S = 100.0
PAUSE_S = 0.6


def talk(speech: Speech, *names: str) -> AudioChunk:
    """Sentences with pauses between them."""
    samples, stretches, at_s = [], [], OFFSET_S
    for name in names:
        length_s = len(speech[name]) / SAMPLE_RATE_HZ
        samples += [speech[name], np.zeros(round(PAUSE_S * SAMPLE_RATE_HZ), np.float32)]
        stretches.append(SpeechSegment(at_s, at_s + length_s))
        at_s += length_s + PAUSE_S
    return AudioChunk(4, OFFSET_S, Waveform(np.concatenate(samples)), tuple(stretches))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("en-06", "en-08", "en-10"), ("fr-05", "fr-06", "fr-07")),
        (("es-05", "es-06", "es-07"), ("en-06", "en-08", "en-10")),
        (("de-00", "de-01", "de-02"), ("en-06", "en-08", "en-10")),
        (("en-06", "en-08", "en-10"), ("de-00", "de-01", "de-02")),
    ],
)
def test_a_window_in_two_languages_says_where_they_change(
    multilingual: WhisperEngine, speech: Speech, first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    chunk = talk(speech, *first, *second)
    found = alone(multilingual, (chunk, DecodingOptions()))
    assert found.change is not None
    assert (found.index, found.segments) == (4, ())
    pause = len(first)
    assert chunk.speech[pause - 1].end_s < found.change.at_s < chunk.speech[pause].start_s
    neighbours = (found.change.before, found.change.after)
    options = [DecodingOptions(neighbour=neighbour, may_change=False) for neighbour in neighbours]
    parts = together(multilingual, list(zip(cut_chunk(chunk, found.change.at_s), options, strict=True)))
    assert [part.language for part in parts] == [first[0][:2], second[0][:2]]
    assert all(text_of(part) for part in parts)


def test_a_window_in_one_language_does_not_change(multilingual: WhisperEngine, speech: Speech) -> None:
    names = {language: [f"{language}-0{number}" for number in range(4, 8)] for language in ("en", "de", "es", "fr")}
    requests = [(talk(speech, *clips), DecodingOptions()) for clips in names.values()]
    found = together(multilingual, requests)
    assert [one.change for one in found] == [None] * len(found)
    assert [one.language for one in found] == list(names)
    assert all(one.is_language_sure for one in found)


def test_only_languages_that_are_hinted_at(multilingual: WhisperEngine, speech: Speech) -> None:
    chunk = talk(speech, "en-06", "en-08", "en-10", "fr-05", "fr-06", "fr-07")
    found = alone(multilingual, (chunk, DecodingOptions(languages=("en",))))
    assert (found.change, found.language) == (None, "en")
    assert text_of(found)


def test_who_is_short_takes_the_neighbour_s(multilingual: WhisperEngine, speech: Speech) -> None:
    short = talk(speech, "en-00")
    short = AudioChunk(1, OFFSET_S, short.waveform, (SpeechSegment(OFFSET_S, OFFSET_S + 2.0),))
    long = talk(speech, "en-06", "en-08", "en-10")
    options = DecodingOptions(neighbour="de")
    found = together(multilingual, [(short, options), (long, options), (short, DecodingOptions())])
    assert [one.language for one in found] == ["de", "en", "en"]
    assert [one.is_language_sure for one in found] == [False, True, False]


def test_a_neighbour_that_is_not_hinted_at_counts_nothing(multilingual: WhisperEngine, speech: Speech) -> None:
    short = AudioChunk(1, OFFSET_S, talk(speech, "en-00").waveform, (SpeechSegment(OFFSET_S, OFFSET_S + 2.0),))
    found = alone(multilingual, (short, DecodingOptions(neighbour="de", languages=("en", "fr"))))
    assert found.language == "en"


def test_a_window_that_is_cut_is_asked_about_as_far_as_it_was_heard(
    multilingual: WhisperEngine, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind that is nothing, which would be looked at as well."""
    asked: list[int] = []
    detector = multilingual._languages
    logits = detector._logits

    def noted(slots: slice, frames: slice | None = None) -> torch.Tensor:
        if frames:
            asked.append(frames.stop)
        return logits(slots, frames)

    monkeypatch.setattr(detector, "_logits", noted)
    chunk = talk(speech, "en-06", "en-08", "fr-05", "fr-06")
    alone(multilingual, (chunk, DecodingOptions(padding_s=2.0)))
    most = (chunk.waveform.duration_s + 2.0) * multilingual._network.frames_per_s
    assert most < 1_400
    assert most <= max(asked) < most + STEP_SAMPLES / SAMPLE_RATE_HZ * multilingual._network.frames_per_s
