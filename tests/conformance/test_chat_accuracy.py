"""The default configuration's chat model answers about what was said, because Whisper heard it for it."""

from pathlib import Path

import pytest

from tests.conformance.audio import encode, silence
from tests.conformance.chat import TRANSCRIBE, completion, input_audio, reply, texts, user
from tests.conformance.scoring import normalised
from tests.conformance.test_accuracy import MONOLOGUE
from tests.conformance.wire import Api
from tests.conftest import JFK

pytestmark = pytest.mark.real

AUDIO_TOKENS_PER_S = 25


@pytest.mark.parametrize("question", [TRANSCRIBE, "What's in this audio?"])
def test_cht_35_the_answer_has_the_recording_s_words(api: Api, question: str) -> None:
    """The question first, as vLLM's client asks; measured: both quote the whole sentence."""
    answer = completion(api, user(question, input_audio(JFK.data)), max_tokens=60)
    assert set(normalised(JFK.text).split()) <= set(normalised(texts(answer)[0]).split()), texts(answer)
    assert answer["usage"]["prompt_tokens_details"]["audio_tokens"] == 11 * AUDIO_TOKENS_PER_S


def test_cht_35_minutes_are_heard(api: Api) -> None:
    """More than a window of Whisper's: what is said at its end is heard, too."""
    monologue = Path(__file__).parents[1] / "data" / "conversations" / "monologue.opus"
    answer = completion(api, user(input_audio(monologue.read_bytes()), TRANSCRIBE), max_tokens=20)
    usage = answer["usage"]
    audio_tokens = usage["prompt_tokens_details"]["audio_tokens"]
    assert audio_tokens > 58 * AUDIO_TOKENS_PER_S
    assert usage["prompt_tokens"] - audio_tokens > len(MONOLOGUE.split())  # a token each at least


def test_cht_35_silence_has_no_words(api: Api) -> None:
    answer = reply(api, user(input_audio(encode(silence(5))), "Is anybody speaking?"), max_tokens=30)
    assert answer
    assert "country" not in normalised(answer)
