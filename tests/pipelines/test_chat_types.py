import pickle

import numpy as np
import pytest

from pipelines.chat_types import (
    AudioPart,
    ChatDelta,
    ChatModelInfo,
    ChatUsage,
    Message,
    SamplingOptions,
    ScoredToken,
    TextPart,
    join_deltas,
)
from pipelines.transcript_types import Token

GARDEN, PARTY = (ScoredToken(Token(id, text, -0.5, text.encode())) for id, text in ((1, "garden"), (2, " party")))


def test_joined_deltas_hold_everything_and_end_as_the_last() -> None:
    deltas = [
        ChatDelta("garden", ChatUsage(9, 4, 1), (GARDEN,)),
        ChatDelta("", ChatUsage(9, 4, 2)),
        ChatDelta(" party", ChatUsage(9, 4, 3), (PARTY,), "length"),
    ]
    assert join_deltas(deltas) == ChatDelta("garden party", ChatUsage(9, 4, 3), (GARDEN, PARTY), "length")
    assert join_deltas(deltas[:2]).finish_reason is None
    assert join_deltas(deltas[2:]) == deltas[2]


def test_values_travel_between_processes() -> None:
    values = [
        Message("user", (TextPart("Hello"),)),
        SamplingOptions(seed=1, logit_bias={5: -1.0}, stop=("a",), top_logprobs=2),
        ChatDelta("a", ChatUsage(1, 0, 1), (GARDEN,), "stop"),
        ChatModelInfo(True, 30.0, 2048),
    ]
    assert [pickle.loads(pickle.dumps(value)) for value in values] == values
    audio = pickle.loads(pickle.dumps(AudioPart(np.arange(5, dtype=np.int16))))
    assert audio.pcm.tolist() == [0, 1, 2, 3, 4]


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        TextPart("Hello").text = "Bye"  # type: ignore[misc]


def test_options_default_to_the_plain_distribution() -> None:
    options, others = SamplingOptions(seed=1), SamplingOptions(seed=2)
    assert (options.temperature, options.top_p, options.top_k, options.min_p) == (1.0, 1.0, 0, 0.0)
    assert (options.repetition_penalty, options.frequency_penalty, options.presence_penalty) == (1.0, 0.0, 0.0)
    assert (options.stop, options.max_tokens, options.top_logprobs) == ((), None, None)
    assert options.logit_bias == {}
    assert options.logit_bias is not others.logit_bias


def test_audio_that_was_heard_for_the_model_is_a_part_of_its_prompt() -> None:
    assert ChatUsage(5, 2, 3).with_audio(25) == ChatUsage(30, 27, 3)
    assert ChatUsage(5, 0, 3).with_audio(0) == ChatUsage(5, 0, 3)
