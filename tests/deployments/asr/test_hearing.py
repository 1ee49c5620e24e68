"""Windows to what the decoder looks at: whole ones exactly, cut ones quickly."""

from dataclasses import replace

import pytest
import soundfile
import soxr
import torch
from torch import Tensor

from deployments.asr.engine import AsrEngineArgs
from deployments.asr.whisper import WhisperEngine
from models.sources import resolve
from pipelines.audio_types import MAX_CHUNK_S, SAMPLE_RATE_HZ, Samples
from pipelines.live_transcription import DRAFT_PADDING_S, FINAL_PADDING_S
from pipelines.transcript_types import DecodingOptions
from tests.conformance.scoring import word_error_rate
from tests.conftest import JFK
from tests.support.whisper_driving import Speech, alone, check_equal, chunk_of, text_of, together

WHOLE = DecodingOptions(language="en")
TURN = replace(WHOLE, padding_s=FINAL_PADDING_S)
DRAFT = replace(WHOLE, padding_s=DRAFT_PADDING_S, is_draft=True)


def heard_of(engine: WhisperEngine, samples: Samples, options: DecodingOptions) -> Tensor:
    engine.add("0", chunk_of(samples), options)
    return engine._ear.hear([engine._waiting.pop()])[0]


@torch.inference_mode()
@pytest.mark.parametrize(
    ("options", "length_s"), [(WHOLE, MAX_CHUNK_S), (TURN, 2 + FINAL_PADDING_S), (DRAFT, 2 + DRAFT_PADDING_S)]
)
def test_windows_are_encoded_as_far_as_somebody_may_speak(
    engine: WhisperEngine, speech: Speech, options: DecodingOptions, length_s: float
) -> None:
    heard = heard_of(engine, speech["en-00"][: 2 * SAMPLE_RATE_HZ], options)
    assert len(heard) == round(length_s * engine._network.frames_per_s)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("options", "padding_s"), [(TURN, FINAL_PADDING_S), (DRAFT, DRAFT_PADDING_S)], ids=["turn", "draft"]
)
def test_many_lengths_are_encoded_in_few(
    engine: WhisperEngine, speech: Speech, options: DecodingOptions, padding_s: float
) -> None:
    """Never with less silence behind them, nor with half a second more."""
    lengths = set()
    for num_samples in range(SAMPLE_RATE_HZ, 3 * SAMPLE_RATE_HZ, 1_777):
        num_frames = len(heard_of(engine, speech["en-00"][:num_samples], options))
        lengths.add(num_frames)
        more_s = num_frames / engine._network.frames_per_s - num_samples / SAMPLE_RATE_HZ - padding_s
        assert 0 <= more_s < 0.5
    assert len(lengths) == 5


@torch.inference_mode()
def test_the_model_says_how_far_those_are_encoded_who_do_not_say(speech: Speech) -> None:
    engine = WhisperEngine(AsrEngineArgs(resolve("embedded:whisper-tiny.en"), dtype="float32", padding_s=1.5))
    lengths_s = [
        len(heard_of(engine, speech["en-00"][: 2 * SAMPLE_RATE_HZ], options)) / engine._network.frames_per_s
        for options in (WHOLE, TURN)
    ]
    assert lengths_s == [3.5, 2 + FINAL_PADDING_S]


def test_who_is_beside_a_draft_makes_no_difference(engine: WhisperEngine, speech: Speech) -> None:
    draft = chunk_of(speech["en-00"]), replace(DRAFT, timestamps=True)
    longer = chunk_of(speech["en-01"]), replace(TURN, word_timestamps=True)
    whole = chunk_of(speech["en-02"]), replace(WHOLE, word_timestamps=True)
    expected = [alone(engine, request) for request in (draft, longer, whole)]
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        requests = [(draft, longer, whole)[place] for place in order]
        check_equal(together(engine, requests), [expected[place] for place in order])


@torch.inference_mode()
def test_a_full_window_is_the_whole_in_every_way(engine: WhisperEngine, speech: Speech) -> None:
    samples = torch.from_numpy(speech["en-00"]).repeat(20)[: round(MAX_CHUNK_S * SAMPLE_RATE_HZ)].numpy()
    whole, turn, draft = (heard_of(engine, samples, options) for options in (WHOLE, TURN, DRAFT))
    assert torch.equal(turn, whole)
    assert torch.equal(draft, whole)


@pytest.mark.parametrize("shorter", [TURN, DRAFT], ids=["turn", "draft"])
def test_cut_windows_hear_nearly_what_whole_ones_hear(multilingual: WhisperEngine, shorter: DecodingOptions) -> None:
    """Of real speech; as it grows, each of them ends somewhere in a word."""
    samples, rate_hz = soundfile.read(JFK.path, dtype="float32", always_2d=True)
    mono = soxr.resample(samples.mean(axis=1), rate_hz, SAMPLE_RATE_HZ)
    chunks = [chunk_of(mono[: seconds * SAMPLE_RATE_HZ]) for seconds in (2, 5, 8, 11)]
    heard, expected = ([text_of(alone(multilingual, (chunk, one))) for chunk in chunks] for one in (shorter, WHOLE))
    assert word_error_rate(expected, heard) < 0.15


def test_drafts_are_heard_with_drafts(engine: WhisperEngine, speech: Speech, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not kept, and others are."""
    monkeypatch.setattr(engine._ear, "windows_at_once", 2)
    for number, options in enumerate((WHOLE, DRAFT, WHOLE, WHOLE)):
        engine.add(str(number), chunk_of(speech["en-00"]), options)
    rows, engine._waiting = engine._waiting, []
    groups = engine._ear.groups(rows)
    assert [[row.options.is_draft for row in group] for group in groups] == [[True], [False, False], [False]]
