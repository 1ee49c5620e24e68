"""DIA: who said what, whole and streamed, and speakers that are known by a recording of their voice."""

import asyncio
import json
import os
import subprocess
import sys
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain, count, islice, pairwise, product
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import httpx
import numpy as np
import pytest
from openai.types.audio import (
    TranscriptionDiarized,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionTextSegmentEvent,
)

from benchmarks.scoring import (
    Conversation,
    diarization_error_rate,
    load_conversations,
    strangers,
)
from deployments.audio.decode import decode
from pipelines.audio_types import DecodeLimits
from pipelines.speaker_types import SpeakerTurn
from tests.conformance.audio import Samples, encode, mux, repeated_opus, silence, white_noise
from tests.conformance.scoring import speaker_word_error_rate
from tests.conformance.test_formats import assert_token_usage, nulls
from tests.conformance.test_streaming import COMMON_KEYS
from tests.conformance.wire import TIMEOUT_S, Api, Stream, assert_refused
from tests.conftest import Server

DIARIZE = "gpt-4o-transcribe-diarize"
DIARIZED = {"model": DIARIZE, "response_format": "diarized_json"}
NAMES, REFERENCES = "known_speaker_names", "known_speaker_references"

SEGMENT_KEYS = {"type", "id", "start", "end", "text", "speaker"}
SPOKEN_KEYS = ("id", "start", "end", "text", "speaker")

# On talk.opus, two voices in turns, 86 words: a word given to the wrong speaker costs 0.023. What engines err in is
# measured in test_accuracy.py and beside the engines; here none does.
MAX_SPEAKER_WORD_ERROR_RATE = 0.02
MAX_DIARIZATION_ERROR_RATE = 0.08

TURN_ENDS_S = (0.0, 6.3, 11.8, 17.8, 23.8, 29.6, 37.5)
"""In the pauses of talk.opus behind every second turn."""


@pytest.fixture(scope="module")
def talk() -> Conversation:
    return load_conversations()["talk"]


@pytest.fixture(scope="module")
def talk_samples(talk: Conversation) -> Samples:
    return talk.window().pcm / np.float32(32_767)


@pytest.fixture(scope="module")
def six_turns(talk_samples: Samples) -> bytes:
    """The first half of the talk, which needs no chunking_strategy: both speakers, three times each."""
    return between(talk_samples, 0.0, TURN_ENDS_S[3])


@pytest.fixture(scope="module")
def two_turns(talk_samples: Samples) -> bytes:
    """espeak, then slt."""
    return between(talk_samples, 0.0, TURN_ENDS_S[1])


@pytest.fixture(scope="module")
def answer(api: Api, talk: Conversation) -> dict[str, Any]:
    return ask(api, talk.path.read_bytes(), chunking_strategy="auto")


@pytest.fixture(scope="module")
def stream(api: Api, talk: Conversation) -> Stream:
    return api.stream(talk.path.read_bytes(), chunking_strategy="auto", **DIARIZED)


@pytest.fixture(scope="module")
def long_silence() -> bytes:
    return encode(silence(30.5), container="FLAC")


def between(samples: Samples, start_s: float, end_s: float) -> bytes:
    return encode(samples[round(start_s * 16_000) : round(end_s * 16_000)], container="FLAC")


def ask(api: Api, upload: bytes, **fields: Any) -> dict[str, Any]:
    response = api.transcribe(upload, **DIARIZED, **fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def segments_of(stream: Stream) -> list[dict[str, Any]]:
    return [event for event in stream.events if event.get("type") == "transcript.text.segment"]


def speakers_of(body: dict[str, Any]) -> list[str]:
    return [segment["speaker"] for segment in body["segments"]]


def letters(*taken: str) -> Iterator[str]:
    names = ("".join(name) for length in count(1) for name in product(ascii_uppercase, repeat=length))
    return (name for name in names if name not in taken)


def chord(duration_s: float) -> Samples:
    times_s = np.arange(round(duration_s * 16_000)) / 16_000
    return np.sum([0.1 * np.sin(2 * np.pi * hz * times_s) for hz in (261.6, 329.6, 392.0)], axis=0, dtype=np.float32)


def data_url(data: bytes, media_type: str = "audio/wav") -> str:
    return f"data:{media_type};base64,{b64encode(data).decode()}"


def known(names: Any, references: Any) -> dict[str, Any]:
    return {f"{NAMES}[]": names, f"{REFERENCES}[]": references}


def known_voice(talk: Conversation, speaker: str) -> str:
    return data_url(talk.references[speaker].read_bytes(), "audio/ogg")


def reference_samples(talk: Conversation, speaker: str) -> Samples:
    return np.concatenate(list(decode(talk.references[speaker].read_bytes(), DecodeLimits())))


# TRF-08: the whole answer ----------------------------------------------------------------------------------------


@pytest.mark.also_real
def test_trf_08_diarized_json(answer: dict[str, Any], talk: Conversation) -> None:
    assert answer.keys() == {"task", "duration", "text", "segments", "usage"}
    assert answer["task"] == "transcribe"
    assert answer["duration"] == pytest.approx(talk.duration_s, abs=0.01)
    for segment in answer["segments"]:
        assert segment.keys() == SEGMENT_KEYS
        assert segment["type"] == "transcript.text.segment"
        assert segment["text"] == segment["text"].strip() != ""
        assert 0 <= segment["start"] <= segment["end"] <= answer["duration"]
    ids = [segment["id"] for segment in answer["segments"]]
    assert len(ids) == len(set(ids)) > 6
    starts = [segment["start"] for segment in answer["segments"]]
    assert starts == sorted(starts)


@pytest.mark.also_real
def test_trf_08_speakers_are_letters_in_order_of_first_appearance(answer: dict[str, Any]) -> None:
    found = list(dict.fromkeys(speakers_of(answer)))
    assert found == list(islice(letters(), len(found)))
    assert found == ["A", "B"]


@pytest.mark.also_real
def test_trf_08_text_is_the_segments_joined_without_labels(answer: dict[str, Any]) -> None:
    assert answer["text"] == " ".join(segment["text"] for segment in answer["segments"])


@pytest.mark.also_real
def test_trf_09_usage_in_tokens(answer: dict[str, Any]) -> None:
    assert_token_usage(answer["usage"])
    assert answer["usage"]["output_tokens"] > 0


@pytest.mark.also_real
def test_trf_10_no_nulls(answer: dict[str, Any]) -> None:
    assert nulls(answer) == []


def test_trf_08_the_sdk_parses_it(server: Server, six_turns: bytes) -> None:
    transcript = server.client.audio.transcriptions.create(
        model=DIARIZE, file=six_turns, response_format="diarized_json"
    )
    assert isinstance(transcript, TranscriptionDiarized)
    assert [segment.speaker for segment in transcript.segments] == ["A", "B"] * 3
    assert transcript.usage is not None
    assert transcript.usage.type == "tokens"


def test_dia_01_json_and_text_are_plain(api: Api, six_turns: bytes) -> None:
    text = ask(api, six_turns)["text"]
    plain = api.transcribe(six_turns, model=DIARIZE).json()
    assert plain.keys() == {"text", "usage"}
    assert_token_usage(plain["usage"])
    assert plain["text"] == text
    response = api.transcribe(six_turns, model=DIARIZE, response_format="text")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text == text + "\n"


@pytest.mark.also_real
@pytest.mark.parametrize(
    "samples",
    [silence(3), np.zeros(1_600, np.float32), white_noise(3), chord(3)],
    ids=["silence", "a-tenth-of-silence", "noise", "chord"],
)
def test_dia_01_nobody_speaks(api: Api, samples: Samples) -> None:
    upload = encode(samples)
    body = ask(api, upload)
    assert (body["text"], body["segments"]) == ("", [])
    assert_token_usage(body["usage"])
    stream = api.stream(upload, **DIARIZED)
    assert (stream.done["text"], segments_of(stream)) == ("", [])


# TRP: what the family has and what it does not --------------------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": "Madrid."}, "prompt"),
        ({"include[]": "logprobs"}, "include"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities"),
        ({"timestamp_granularities[]": ["segment", "word"]}, "timestamp_granularities"),
        ({"keywords[]": "Madrid"}, "keywords"),
        ({"languages[]": "en"}, "languages"),
        ({"temperature": "2"}, "temperature"),
        ({"language": "xx"}, "language"),
    ],
)
def test_dia_05_other_families_parameters(api: Api, quiet: bytes, fields: dict[str, Any], param: str) -> None:
    assert_refused(api.transcribe(quiet, **DIARIZED, **fields), 400, param)


@pytest.mark.parametrize(
    "fields",
    [
        {"timestamp_granularities[]": "segment"},
        {"temperature": "0.4"},
        {"language": "en"},
        {"seed": "7"},
        {"hotwords": "Madrid"},
        {"prompt": ""},
        {"chunking_strategy": "auto"},
    ],
    ids=str,
)
def test_dia_05_everybody_s_parameters(api: Api, quiet: bytes, fields: dict[str, str]) -> None:
    assert ask(api, quiet, **fields)["segments"] == []


@pytest.mark.parametrize("response_format", ["srt", "vtt", "verbose_json"])
@pytest.mark.parametrize("streamed", ["false", "true"])
def test_trp_05_formats_that_the_family_does_not_have(
    api: Api, quiet: bytes, response_format: str, streamed: str
) -> None:
    response = api.transcribe(quiet, model=DIARIZE, response_format=response_format, stream=streamed)
    assert_refused(response, 400, "response_format", code="unsupported_value")


@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe", "gpt-transcribe"])
@pytest.mark.parametrize("streamed", ["false", "true"])
def test_trp_05_speakers_need_a_diarizing_model(api: Api, quiet: bytes, model: str, streamed: str) -> None:
    response = api.transcribe(quiet, model=model, response_format="diarized_json", stream=streamed)
    assert_refused(response, 400, "response_format", code="unsupported_value")


@pytest.mark.also_real
def test_trl_03_a_diarizing_model_does_not_translate(api: Api, quiet: bytes) -> None:
    assert_refused(api.translate(quiet, model=DIARIZE), 400, "model")
    assert_refused(api.translate(quiet, **DIARIZED), 400, "model", "response_format")
    assert_refused(api.translate(quiet, response_format="diarized_json"), 400, "response_format")


# TRP-10, DIA-02: chunking_strategy --------------------------------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize(
    ("response_format", "streamed", "unset"),
    [
        ("diarized_json", "false", {}),
        ("diarized_json", "true", {}),
        ("json", "false", {"chunking_strategy": ""}),
        ("text", "false", {"vad_filter": "false"}),
    ],
    ids=str,
)
def test_dia_02_more_than_30_s_need_a_chunking_strategy(
    api: Api, long_silence: bytes, response_format: str, streamed: str, unset: dict[str, str]
) -> None:
    response = api.transcribe(long_silence, model=DIARIZE, response_format=response_format, stream=streamed, **unset)
    assert_refused(response, 400, "chunking_strategy", code="invalid_value")


@pytest.mark.also_real
def test_dia_02_30_s_need_none(api: Api) -> None:
    assert ask(api, encode(silence(30.0)))["duration"] == 30.0
    assert_refused(api.transcribe(encode(silence(30.01)), **DIARIZED), 400, "chunking_strategy", code="invalid_value")


@pytest.mark.parametrize(
    "fields",
    [
        {"chunking_strategy": "auto"},
        {"chunking_strategy": json.dumps({"type": "server_vad", "threshold": 0.4})},
        {"chunking_strategy[type]": "server_vad"},
        {"chunking_strategy[type]": "server_vad", "chunking_strategy[silence_duration_ms]": "500"},
        {"vad_filter": "true"},
    ],
    ids=str,
)
def test_trp_10_every_chunking_strategy_will_do(api: Api, long_silence: bytes, fields: dict[str, str]) -> None:
    assert ask(api, long_silence, **fields)["segments"] == []


@pytest.mark.parametrize("strategy", ["manual", "{}", '{"type": "server_vad", "threshold": 2}'])
def test_trp_10_what_is_no_chunking_strategy(api: Api, long_silence: bytes, strategy: str) -> None:
    response = api.transcribe(long_silence, chunking_strategy=strategy, **DIARIZED)
    assert_refused(response, 400, "chunking_strategy")


def test_trp_10_the_sdk_s_object(server: Server, long_silence: bytes) -> None:
    transcript = server.client.audio.transcriptions.create(
        model=DIARIZE,
        file=long_silence,
        response_format="diarized_json",
        chunking_strategy={"type": "server_vad", "threshold": 0.4, "prefix_padding_ms": 200},
    )
    assert isinstance(transcript, TranscriptionDiarized)


# TRS: streamed ---------------------------------------------------------------------------------------------------


@pytest.mark.also_real
def test_trs_01_deltas_name_their_segment(stream: Stream) -> None:
    assert stream.deltas
    for event in stream.deltas:
        assert event.keys() == COMMON_KEYS | {"delta", "text", "segment_id"}
        assert event["text"] == event["delta"]
        assert event["choices"] == [{"index": 0, "delta": {"content": event["delta"]}, "finish_reason": None}]


@pytest.mark.also_real
def test_trs_02_segment_event(stream: Stream) -> None:
    assert segments_of(stream)
    for event in segments_of(stream):
        assert event.keys() == COMMON_KEYS | SEGMENT_KEYS
        assert event["object"] == "transcription.chunk"
        assert event["choices"] == [{"index": 0, "delta": {"content": ""}, "finish_reason": None}]


@pytest.mark.also_real
def test_trs_03_done_comes_last_and_once(stream: Stream) -> None:
    assert stream.done.keys() == COMMON_KEYS | {"text", "usage"}
    assert stream.events[-1] == stream.done
    assert stream.data_lines[-1] == b"data: [DONE]"
    assert stream.data_lines.count(b"data: [DONE]") == 1
    assert nulls([{**event, "choices": []} for event in stream.events]) == []


@pytest.mark.also_real
def test_trs_06_joined_deltas_are_the_text(stream: Stream) -> None:
    assert "".join(event["delta"] for event in stream.deltas) == stream.done["text"]
    assert "".join(event["choices"][0]["delta"]["content"] for event in stream.events) == stream.done["text"]


@pytest.mark.also_real
def test_trs_07_deltas_of_a_segment_come_before_it_and_are_its_text(stream: Stream) -> None:
    written: dict[str, str] = defaultdict(str)
    ended: list[str] = []
    for event in stream.events:
        if event["type"] == "transcript.text.delta":
            assert event["segment_id"] not in ended
            written[event["segment_id"]] += event["delta"]
        elif event["type"] == "transcript.text.segment":
            assert event["text"] == written[event["id"]].strip()
            ended.append(event["id"])
    assert ended == list(written)


def test_trs_07_segment_events_in_order_of_their_start(stream: Stream) -> None:
    starts = [event["start"] for event in segments_of(stream)]
    assert len(starts) > 6
    assert starts == sorted(starts)


@pytest.mark.also_real
def test_trs_06_streamed_is_whole(stream: Stream, answer: dict[str, Any]) -> None:
    streamed, whole = (
        [{key: segment[key] for key in SPOKEN_KEYS} for segment in segments]
        for segments in (segments_of(stream), answer["segments"])
    )
    assert streamed == whole
    assert stream.done["text"] == answer["text"]
    assert answer["usage"].items() <= stream.done["usage"].items()


@pytest.mark.parametrize("response_format", ["json", "text"])
def test_trs_07_no_segment_events_unasked(api: Api, two_turns: bytes, response_format: str) -> None:
    stream = api.stream(two_turns, model=DIARIZE, response_format=response_format)
    assert {event["type"] for event in stream.events} == {"transcript.text.delta", "transcript.text.done"}
    assert not any("segment_id" in event for event in stream.events)
    assert "".join(event["delta"] for event in stream.deltas) == stream.done["text"] != ""


def test_trs_07_a_raw_reader_gets_the_text_once(api: Api, six_turns: bytes) -> None:
    """As vLLM's client reads: every line that is not empty is JSON, up to [DONE]."""
    text = ""
    with api.open_stream(six_turns, **DIARIZED) as response:
        for line in response.iter_lines():
            if not line:
                continue
            line = line.removeprefix("data: ")
            if line.strip() == "[DONE]":
                break
            text += json.loads(line)["choices"][0].get("delta", {}).get("content")
    assert text == ask(api, six_turns)["text"]


def test_trs_10_usage_on_each_delta_and_at_the_end(api: Api, six_turns: bytes) -> None:
    stream = api.stream(six_turns, stream_include_usage="true", stream_continuous_usage_stats="true", **DIARIZED)
    *_, done, last = stream.events
    assert done == stream.done
    assert last["choices"] == []
    assert last["usage"].keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert last["usage"]["completion_tokens"] == done["usage"]["output_tokens"] == done["usage"]["completion_tokens"]
    written = [event["usage"]["completion_tokens"] for event in stream.deltas]
    assert 0 < written[0] < written[-1] <= last["usage"]["completion_tokens"]
    assert written == sorted(written)


def test_trs_07_the_sdk_reads_typed_events(server: Server, six_turns: bytes) -> None:
    *events, done = server.client.audio.transcriptions.create(
        model=DIARIZE, file=six_turns, response_format="diarized_json", stream=True
    )
    assert isinstance(done, TranscriptionTextDoneEvent)
    segments = [event for event in events if isinstance(event, TranscriptionTextSegmentEvent)]
    deltas = [event for event in events if isinstance(event, TranscriptionTextDeltaEvent)]
    assert len(segments) + len(deltas) == len(events)
    assert {event.segment_id for event in deltas} == {event.id for event in segments}
    assert " ".join(event.text for event in segments) == "".join(event.delta for event in deltas) == done.text


# TRP-11, DIA-03: known speakers ----------------------------------------------------------------------------------

GUIDE = """
import base64
from openai import OpenAI

client = OpenAI()

def to_data_url(path: str) -> str:
  with open(path, "rb") as fh:
    return "data:audio/wav;base64," + base64.b64encode(fh.read()).decode("utf-8")

with open("meeting.wav", "rb") as audio_file:
  transcript = client.audio.transcriptions.create(
    model="gpt-4o-transcribe-diarize",
    file=audio_file,
    response_format="diarized_json",
    chunking_strategy="auto",
    extra_body={
      "known_speaker_names": ["agent"],
      "known_speaker_references": [to_data_url("agent.wav")],
    },
  )

for segment in transcript.segments:
  print(segment.speaker, segment.text, segment.start, segment.end)
"""


def test_sed_5_the_guide_s_program(server: Server, talk: Conversation, talk_samples: Samples, tmp_path: Path) -> None:
    (tmp_path / "meeting.wav").write_bytes(encode(talk_samples))
    (tmp_path / "agent.wav").write_bytes(encode(reference_samples(talk, "slt")))
    environment = {**os.environ, "OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "unused"}
    command = [sys.executable, "-c", GUIDE]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    speakers = [speaker for speaker, *_ in lines]
    assert set(speakers) == {"A", "agent"}
    assert sum(one != other for one, other in pairwise(speakers)) == 11  # twelve turns
    for _, *words, start, end in lines:
        assert words
        assert 0 <= float(start) < float(end) <= 37.6


def test_dia_03_the_sdk_s_own_parameters(server: Server, talk: Conversation, two_turns: bytes) -> None:
    transcript = server.client.audio.transcriptions.create(
        model=DIARIZE,
        file=two_turns,
        response_format="diarized_json",
        known_speaker_names=["agent", "customer"],
        known_speaker_references=[known_voice(talk, "slt"), known_voice(talk, "espeak")],
    )
    assert isinstance(transcript, TranscriptionDiarized)
    assert [segment.speaker for segment in transcript.segments] == ["customer", "agent"]


def test_dia_03_the_sdk_streams_them(server: Server, talk: Conversation, two_turns: bytes) -> None:
    events = server.client.audio.transcriptions.create(
        model=DIARIZE,
        file=two_turns,
        response_format="diarized_json",
        chunking_strategy="auto",
        stream=True,
        extra_body={NAMES: ["agent"], REFERENCES: [known_voice(talk, "slt")]},
    )
    segments = [event for event in events if isinstance(event, TranscriptionTextSegmentEvent)]
    assert [segment.speaker for segment in segments] == ["A", "agent"]


@pytest.mark.parametrize("container", ["wav", "flac", "mp3", "ogg", "opus", "m4a", "webm"])
def test_dia_03_references_in_every_container(api: Api, talk: Conversation, two_turns: bytes, container: str) -> None:
    samples = reference_samples(talk, "slt")
    reference = {
        "wav": lambda: encode(samples),
        "flac": lambda: encode(samples, container="FLAC"),
        "mp3": lambda: encode(samples, container="MP3"),
        "ogg": lambda: encode(samples, container="OGG", subtype="VORBIS"),
        "opus": lambda: mux(samples, "ogg", "libopus"),
        "m4a": lambda: mux(samples, "mp4", "aac"),
        "webm": lambda: mux(samples, "webm", "libopus"),
    }[container]()
    # what the URL claims to be is only a hint
    body = ask(api, two_turns, **known("agent", data_url(reference, "application/octet-stream")))
    assert speakers_of(body) == ["A", "agent"]


@pytest.mark.parametrize(
    "spelled",
    [
        lambda names, references: {NAMES: names, REFERENCES: references},
        lambda names, references: {NAMES: json.dumps(names), REFERENCES: json.dumps(references)},
        lambda names, references: {
            f"{field}[{number}]": value
            for field, values in ((NAMES, names), (REFERENCES, references))
            for number, value in enumerate(values)
        },
    ],
    ids=["repeated", "json", "numbered"],
)
def test_dia_03_every_spelling_of_the_arrays(api: Api, talk: Conversation, two_turns: bytes, spelled: Any) -> None:
    names, references = ["low", "high"], [known_voice(talk, "espeak"), known_voice(talk, "slt")]
    assert speakers_of(ask(api, two_turns, **spelled(names, references))) == names


def test_dia_03_each_name_has_its_reference(api: Api, talk: Conversation, two_turns: bytes) -> None:
    voices = [known_voice(talk, "espeak"), known_voice(talk, "slt")]
    assert speakers_of(ask(api, two_turns, **known(["x", "y"], voices))) == ["x", "y"]
    assert speakers_of(ask(api, two_turns, **known(["x", "y"], voices[::-1]))) == ["y", "x"]


@pytest.mark.parametrize("name", ["Hugo", "ls4788", "klatt2"])
def test_dia_03_a_stranger_s_name_is_not_used(api: Api, two_turns: bytes, name: str) -> None:
    reference = data_url(strangers()[name].read_bytes())
    assert speakers_of(ask(api, two_turns, **known("nobody", reference))) == ["A", "B"]


def test_dia_03_a_letter_never_collides_with_a_name(api: Api, talk: Conversation, two_turns: bytes) -> None:
    stranger = data_url(strangers()["Hugo"].read_bytes())
    assert speakers_of(ask(api, two_turns, **known("A", stranger))) == ["B", "C"]
    assert speakers_of(ask(api, two_turns, **known("A", known_voice(talk, "slt")))) == ["B", "A"]
    assert speakers_of(ask(api, two_turns, **known("B", known_voice(talk, "espeak")))) == ["B", "A"]


def test_dia_03_names_in_every_script(api: Api, talk: Conversation, two_turns: bytes) -> None:
    names = ['Zoë O\'Brien, "Q"', "東京 🎧\u2028<b>"]
    fields = known(names, [known_voice(talk, "espeak"), known_voice(talk, "slt")])
    assert speakers_of(ask(api, two_turns, **fields)) == names
    stream = api.stream(two_turns, **DIARIZED, **fields)
    assert stream.body.isascii()
    assert [segment["speaker"] for segment in segments_of(stream)] == names


def test_dia_03_a_silent_reference_recognises_nobody(api: Api, talk: Conversation, two_turns: bytes) -> None:
    nothing = data_url(encode(silence(3)))
    assert speakers_of(ask(api, two_turns, **known("nobody", nothing))) == ["A", "B"]
    both = known(["nobody", "agent"], [nothing, known_voice(talk, "slt")])
    assert speakers_of(ask(api, two_turns, **both)) == ["A", "agent"]


def test_dia_03_they_make_no_difference_to_plain_text(api: Api, talk: Conversation, two_turns: bytes) -> None:
    plain = api.transcribe(two_turns, model=DIARIZE, **known("agent", known_voice(talk, "slt"))).json()
    assert plain.keys() == {"text", "usage"}


# DIA-04: known speakers that are refused -------------------------------------------------------------------------

VOICE = data_url(encode(white_noise(2.5)))
JUNK = b64encode(bytes(range(256)) * 40).decode()

MISTAKES: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "five": (list("abcde"), [VOICE] * 5, (NAMES, REFERENCES)),
    "five-references": (["a"], [VOICE] * 5, (REFERENCES, NAMES)),
    "fewer-names": (["a"], [VOICE] * 2, (NAMES, REFERENCES)),
    "fewer-references": (["a", "b"], [VOICE], (NAMES, REFERENCES)),
    "only-names": (["a"], None, (NAMES, REFERENCES)),
    "only-references": (None, [VOICE], (NAMES, REFERENCES)),
    "twice-the-same-name": (["a", "b", "a"], [VOICE] * 3, (NAMES,)),
    "the-same-name-but-for-spaces": (["a", " a "], [VOICE] * 2, (NAMES,)),
    "empty-name": (["", "b"], [VOICE] * 2, (NAMES,)),
    "empty-name-in-json": ('["", "b"]', [VOICE] * 2, (NAMES,)),
    "blank-name": (["  "], [VOICE], (NAMES,)),
    "number-for-a-name": ("[1]", [VOICE], (NAMES,)),
    "plain-text": (["a"], ["agent.wav"], (REFERENCES,)),
    "http": (["a"], ["http://127.0.0.1:9/agent.wav"], (REFERENCES,)),
    "https": (["a"], ["https://example.com/agent.wav"], (REFERENCES,)),
    "file": (["a"], ["file:///etc/passwd"], (REFERENCES,)),
    "not-base64": (["a"], ["data:audio/wav,RIFF"], (REFERENCES,)),
    "bad-base64": (["a"], ["data:audio/wav;base64,@@@not base64@@@"], (REFERENCES,)),
    "cut-base64": (["a"], [VOICE[:-3]], (REFERENCES,)),
    "no-data": (["a"], ["data:audio/wav;base64,"], (REFERENCES,)),
    "not-audio": (["a"], [f"data:audio/wav;base64,{JUNK}"], (REFERENCES,)),
    "too-short": (["a"], [data_url(encode(silence(1.9)))], (REFERENCES,)),
    "much-too-short": (["a"], [data_url(encode(silence(0.05)))], (REFERENCES,)),
    "too-long": (["a"], [data_url(encode(silence(10.2)))], (REFERENCES,)),
    "the-second-is-too-long": (["a", "b"], [VOICE, data_url(encode(silence(11)))], (REFERENCES,)),
}


@pytest.mark.also_real
@pytest.mark.parametrize("name", MISTAKES)
def test_dia_04_refused(api: Api, quiet: bytes, name: str) -> None:
    names, references, params = MISTAKES[name]
    fields = {key: value for key, value in known(names, references).items() if value is not None}
    assert_refused(api.transcribe(quiet, stream="true", **DIARIZED, **fields), 400, *params, code="invalid_value")


def test_dia_04_what_is_wrong_with_a_reference_names_its_speaker(api: Api, quiet: bytes) -> None:
    short = data_url(encode(silence(1)))
    response = api.transcribe(quiet, **DIARIZED, **known(["Alice", "Bob"], [VOICE, short]))
    assert_refused(response, 400, REFERENCES)
    assert "Bob" in response.json()["error"]["message"]
    assert "Alice" not in response.json()["error"]["message"]


@pytest.mark.parametrize("duration_s", [1.96, 2.0, 10.0, 10.04])
def test_dia_04_2_to_10_s_with_a_tolerance(api: Api, quiet: bytes, duration_s: float) -> None:
    assert ask(api, quiet, **known("a", data_url(encode(white_noise(duration_s)))))["segments"] == []


@pytest.mark.parametrize("codec", ["mp3", "m4a"])
def test_dia_04_10_s_are_10_s_in_codecs_that_pad(api: Api, quiet: bytes, codec: str) -> None:
    samples = white_noise(10)
    reference = encode(samples, container="MP3") if codec == "mp3" else mux(samples, "mp4", "aac", 44_100)
    assert ask(api, quiet, **known("a", data_url(reference)))["segments"] == []


def test_dia_04_an_hour_in_few_bytes_is_refused(api: Api, quiet: bytes) -> None:
    reference = repeated_opus(3_600)
    assert len(reference) < 1_000_000
    assert_refused(api.transcribe(quiet, **DIARIZED, **known("a", data_url(reference))), 400, REFERENCES)


def test_dia_04_four_large_references_fit_a_form(api: Api, quiet: bytes) -> None:
    """10 s at 48 kHz, stereo, 24 bit: 2.9 MB each, and a third more in base64."""
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (480_000, 2)).astype(np.float32)
    reference = encode(noise, 48_000, subtype="PCM_24")
    assert len(reference) > 2_800_000
    assert ask(api, quiet, **known(list("abcd"), [data_url(reference)] * 4))["segments"] == []


# How right it is -------------------------------------------------------------------------------------------------


def test_words_are_attributed_to_who_said_them(answer: dict[str, Any], talk: Conversation) -> None:
    turns = json.loads((talk.path.parent / "talk.json").read_text())
    spoken: dict[str, str] = defaultdict(str)
    for turn in turns:
        spoken[turn["speaker"]] += " " + turn["text"]
    found: dict[str, str] = defaultdict(str)
    for segment in answer["segments"]:
        found[segment["speaker"]] += " " + segment["text"]
    assert speaker_word_error_rate(spoken, found) <= MAX_SPEAKER_WORD_ERROR_RATE


def test_segments_have_the_times_of_the_turns(answer: dict[str, Any], talk: Conversation) -> None:
    labels = sorted(set(speakers_of(answer)))
    turns = [SpeakerTurn(one["start"], one["end"], labels.index(one["speaker"])) for one in answer["segments"]]
    assert diarization_error_rate([(talk, turns)]) <= MAX_DIARIZATION_ERROR_RATE


# CON-01 ----------------------------------------------------------------------------------------------------------


async def test_con_01_diarized_requests_do_not_mix(server: Server, talk: Conversation, talk_samples: Samples) -> None:
    """Six stretches of a talk, with and without known speakers, at once and one after the other."""
    named = [{}, known("slt", known_voice(talk, "slt")), known("espeak", known_voice(talk, "espeak"))]
    asked = [
        (between(talk_samples, start_s, end_s), {**DIARIZED, **named[number % 3]})
        for number, (start_s, end_s) in enumerate(pairwise(TURN_ENDS_S))
    ]
    assert len(asked) == 6
    async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_S) as client:

        async def post(upload: bytes, fields: dict[str, Any]) -> dict[str, Any]:
            response = await client.post("/v1/audio/transcriptions", files={"file": upload}, data=fields)
            assert response.status_code == 200, response.text
            body: dict[str, Any] = response.json()
            return body

        together = await asyncio.gather(*(post(*one) for one in asked))
        alone = [await post(*one) for one in asked]
    assert together == alone
    assert len({body["text"] for body in alone}) == 6
    assert set(chain.from_iterable(map(speakers_of, alone))) >= {"A", "slt", "espeak"}
