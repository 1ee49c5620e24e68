"""Windows to what the decoder looks at: whole ones exactly, drafts quickly."""

import soundfile
import soxr
import torch
from torch import Tensor

from deployments.asr.hearing import DRAFT_MARGIN_S
from deployments.asr.whisper import WhisperEngine
from pipelines.audio_types import MAX_CHUNK_S, SAMPLE_RATE_HZ, Samples
from pipelines.transcript_types import DecodingOptions
from tests.conformance.scoring import word_error_rate
from tests.conftest import JFK
from tests.support.whisper_driving import Speech, alone, check_equal, chunk_of, text_of, together


def heard_of(engine: WhisperEngine, samples: Samples) -> list[Tensor]:
    """As a draft, and as a whole window."""
    found = []
    for is_draft in (True, False):
        engine.add("0", chunk_of(samples), DecodingOptions(is_draft=is_draft))
        found += engine._ear.hear([engine._waiting.pop()])
    return found


@torch.inference_mode()
def test_a_draft_is_encoded_as_far_as_somebody_may_speak(engine: WhisperEngine, speech: Speech) -> None:
    seconds = speech["en-00"][: 2 * SAMPLE_RATE_HZ]
    draft, whole = heard_of(engine, seconds)
    assert len(draft) == round((2 + DRAFT_MARGIN_S) * engine._network.frames_per_s)
    assert len(whole) == round(MAX_CHUNK_S * engine._network.frames_per_s)


def test_who_is_beside_a_draft_makes_no_difference(engine: WhisperEngine, speech: Speech) -> None:
    draft = chunk_of(speech["en-00"]), DecodingOptions(language="en", is_draft=True, timestamps=True)
    longer = chunk_of(speech["en-01"]), DecodingOptions(language="en", is_draft=True)
    whole = chunk_of(speech["en-02"]), DecodingOptions(language="en", word_timestamps=True)
    expected = [alone(engine, request) for request in (draft, longer, whole)]
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        requests = [(draft, longer, whole)[place] for place in order]
        check_equal(together(engine, requests), [expected[place] for place in order])


@torch.inference_mode()
def test_a_draft_of_a_full_window_is_the_whole(engine: WhisperEngine, speech: Speech) -> None:
    samples = torch.from_numpy(speech["en-00"]).repeat(20)[: round(MAX_CHUNK_S * SAMPLE_RATE_HZ)].numpy()
    assert torch.equal(*heard_of(engine, samples))


def test_drafts_hear_nearly_what_whole_windows_hear(multilingual: WhisperEngine) -> None:
    """Of real speech; as it grows, each of them ends somewhere in a word."""
    samples, rate_hz = soundfile.read(JFK.path, dtype="float32", always_2d=True)
    mono = soxr.resample(samples.mean(axis=1), rate_hz, SAMPLE_RATE_HZ)
    chunks = [chunk_of(mono[: seconds * SAMPLE_RATE_HZ]) for seconds in (2, 5, 8, 11)]
    draft, whole = (DecodingOptions(language="en", is_draft=is_draft) for is_draft in (True, False))
    heard, expected = ([text_of(alone(multilingual, (chunk, one))) for chunk in chunks] for one in (draft, whole))
    assert word_error_rate(expected, heard) < 0.15
