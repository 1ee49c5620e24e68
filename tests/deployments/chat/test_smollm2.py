"""The default chat model itself, from its GGUF file: it answers, in sentences, and stops; and reads what was heard."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from deployments.chat.engine import ChatEngineArgs
from deployments.chat.transformers_chat import TransformersChat
from models.sources import resolve
from pipelines.audio_types import AudioInfo
from pipelines.chat_types import ChatDelta, Message, SamplingOptions, TextPart, join_deltas
from pipelines.hearing import as_text
from pipelines.transcript_types import Segment, Transcript

JFK = "And so, my fellow Americans, ask not what your country can do for you, ask what you can do for your country."


@pytest.fixture(scope="module")
def engine() -> TransformersChat:
    return TransformersChat(ChatEngineArgs(resolve("embedded:smollm2-135m-instruct"), "cpu", "float32", num_threads=1))


def answer(engine: TransformersChat, *texts: str, max_tokens: int = 60) -> ChatDelta:
    """Greedily."""
    message = Message("user", tuple(TextPart(text) for text in texts))
    options = SamplingOptions(seed=0, temperature=0.0, max_tokens=max_tokens)
    engine.add("id", engine.prepare([message]), options)
    deltas = []
    while not (deltas and deltas[-1].finish_reason):
        for output in engine.step():
            assert isinstance(output.result, ChatDelta)
            deltas.append(output.result)
    return join_deltas(deltas)


def heard(text: str) -> str:
    segments = (Segment(0.0, 11.0, text, (), 0.0, -0.1, 1.0, 0.0),)
    return as_text(Transcript(AudioInfo(11.0, "flac", "flac"), ("en",), segments))


def test_it_answers_and_stops(engine: TransformersChat) -> None:
    delta = answer(engine, "What is the capital of France?")
    assert (delta.text, delta.finish_reason) == ("The capital of France is Paris.", "stop")


def test_it_knows_what_it_can_do(engine: TransformersChat) -> None:
    assert not engine.info.hears_audio
    assert engine.info.max_context_tokens == 8192


@pytest.mark.parametrize(
    "question",
    ["What's in this audio?", "Who is speaking to whom?", "What is being said?", "Transcribe this."],
)
def test_cht_35_the_words_of_a_recording_are_in_its_answer(engine: TransformersChat, question: str) -> None:
    assert JFK in answer(engine, question, heard(JFK)).text


def test_cht_35_also_where_the_question_comes_behind_it(engine: TransformersChat) -> None:
    assert JFK in answer(engine, heard(JFK), "Transcribe this.").text
