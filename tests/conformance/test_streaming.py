"""TRS: event streams that OpenAI's SDK, vLLM's raw reader and aiohttp's readline can all read."""

import time
from typing import Any
from uuid import uuid4

import pytest
from openai.types.audio import TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent

from tests.conformance.metrics import RUNNING, total
from tests.conformance.wire import Api, Stream, assert_refused, error_of
from tests.conftest import ASR_MODEL, Clip, Server

COMMON_KEYS = {"type", "id", "object", "created", "model", "choices"}
LINE_LIMIT_BYTES = 64 * 1024


@pytest.fixture(scope="module")
def stream(api: Api, long_audio: bytes) -> Stream:
    return api.stream(long_audio)


@pytest.mark.also_real
def test_trs_head_of_the_answer(api: Api, clip: Clip) -> None:
    """GEN-08; and GEN-07: what the client accepts makes no difference, and nothing is compressed."""
    headers = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate, br, zstd"}
    data = {"model": "whisper-1", "stream": "true"}
    response = api.client.post("/v1/audio/transcriptions", files={"file": clip.data}, data=data, headers=headers)
    assert response.headers["content-type"].split(";")[0] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    assert "content-encoding" not in response.headers


@pytest.mark.also_real
def test_trs_wire_is_only_data_lines_and_blank_ones(stream: Stream) -> None:
    assert stream.body.isascii()
    assert all(line.startswith(b"data: ") for line in stream.data_lines)
    assert stream.body.endswith(b"data: [DONE]\n\n")
    assert stream.data_lines.count(b"data: [DONE]") == 1
    # httpx and others break lines at more than "\n".
    assert [line for line in stream.body.decode().splitlines() if line] == [line.decode() for line in stream.data_lines]


def test_trs_every_event_ends_with_a_blank_line(stream: Stream) -> None:
    assert all(stream.body.count(line + b"\n\n") >= 1 for line in stream.data_lines)


def test_trs_text_outside_ascii_is_escaped(api: Api, clips: list[Clip]) -> None:
    clip = next(clip for clip in clips if clip.language == "es")
    stream = api.stream(clip.data)
    assert "ú" in stream.done["text"]
    assert stream.body.isascii()


@pytest.mark.also_real
@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe", "openai/whisper-large-v3"])
def test_trs_01_superset_event(api: Api, clip: Clip, model: str) -> None:
    before = int(time.time())
    stream = api.stream(clip.data, model=model)
    assert stream.deltas
    for event in stream.deltas:
        assert event.keys() == COMMON_KEYS | {"delta", "text"}
        assert event["object"] == "transcription.chunk"
        assert event["id"].startswith("trsc-")
        assert event["model"] == model
        assert before - 60 <= event["created"] <= time.time() + 60
        assert isinstance(event["delta"], str)
        assert event["text"] == event["delta"]
        assert event["choices"] == [{"index": 0, "delta": {"content": event["delta"]}, "finish_reason": None}]
    assert {event["id"] for event in stream.events} == {stream.done["id"]}


@pytest.mark.also_real
def test_trs_01_logprobs_iff_asked(api: Api, clip: Clip) -> None:
    stream = api.stream(clip.data, model="gpt-4o-transcribe", **{"include[]": "logprobs"})
    assert all(event["logprobs"] for event in stream.deltas)
    of_deltas = [entry for event in stream.deltas for entry in event["logprobs"]]
    assert stream.done["logprobs"] == of_deltas
    assert all(entry.keys() == {"token", "logprob", "bytes"} and entry["logprob"] <= 0 for entry in of_deltas)


@pytest.mark.also_real
def test_trs_03_done(stream: Stream) -> None:
    done = stream.done
    assert done.keys() == COMMON_KEYS | {"text", "usage"}
    assert done["choices"] == [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]


@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe", "gpt-transcribe"])
def test_trs_03_usage_in_tokens_with_both_spellings(api: Api, clip: Clip, model: str) -> None:
    usage = api.stream(clip.data, model=model).done["usage"]
    assert usage["type"] == "tokens"
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (usage["input_tokens"], usage["output_tokens"])
    details = usage["input_token_details"]
    assert details["text_tokens"] + details["audio_tokens"] == usage["input_tokens"]


def test_trs_03_gpt_names_the_languages(api: Api, clip: Clip) -> None:
    assert api.stream(clip.data, model="gpt-transcribe").done["languages"] == [{"code": "en"}]


@pytest.mark.also_real
def test_trs_04_usage_chunk(api: Api, clip: Clip) -> None:
    stream = api.stream(clip.data, stream_include_usage="true")
    chunk = stream.events[-1]
    assert chunk.keys() == {"id", "object", "created", "model", "choices", "usage"}
    assert chunk["choices"] == []
    assert stream.events[-2] == stream.done
    usage = chunk["usage"]
    assert usage.keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] == stream.done["usage"]["output_tokens"]


def test_trs_04_no_usage_chunk_unasked(stream: Stream) -> None:
    assert all(event["choices"] for event in stream.events)
    assert stream.events[-1] == stream.done


@pytest.mark.also_real
def test_trs_06_order_and_joined_text(api: Api, stream: Stream, long_audio: bytes) -> None:
    assert [event["type"] for event in stream.events] == [
        *(["transcript.text.delta"] * len(stream.deltas)),
        "transcript.text.done",
    ]
    text = stream.done["text"]
    assert "".join(event["delta"] for event in stream.deltas) == text
    assert "".join(event["choices"][0]["delta"]["content"] for event in stream.events) == text
    assert text.strip() == api.transcribe(long_audio).json()["text"].strip()


@pytest.mark.parametrize("number", [5, 20, 28, 36])
def test_trs_06_streamed_is_whole_in_every_language(api: Api, clips: list[Clip], number: int) -> None:
    """Also with response_format text, where the stream is the same."""
    whole = api.transcribe(clips[number].data).json()["text"]
    for response_format in ("json", "text"):
        stream = api.stream(clips[number].data, response_format=response_format)
        assert "".join(event["delta"] for event in stream.deltas) == stream.done["text"] == whole


@pytest.mark.also_real
@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe", "gpt-transcribe"])
def test_trs_06_no_speech(api: Api, quiet: bytes, model: str) -> None:
    stream = api.stream(quiet, model=model)
    assert stream.done["text"] == ""
    assert "".join(event["delta"] for event in stream.deltas) == ""


@pytest.mark.real
def test_trs_08_the_first_delta_comes_while_the_model_is_at_work(api: Api, long_audio: bytes) -> None:
    """Several windows are decoded; the text of the first is there when the last is not."""
    with api.open_stream(long_audio, prompt=uuid4().hex) as response:  # not from what is kept of other tests
        lines = (line for line in response.iter_lines() if line)
        assert '"transcript.text.delta"' in next(lines)
        assert total(api, RUNNING, model_name=ASR_MODEL) == 1
        later = list(lines)
    assert any('"transcript.text.delta"' in line for line in later)


@pytest.mark.also_real
def test_trs_09_lines_stay_short(api: Api, long_audio: bytes) -> None:
    stream = api.stream(long_audio, model="gpt-4o-transcribe", **{"include[]": "logprobs"})
    assert max(len(line) for line in stream.data_lines) < LINE_LIMIT_BYTES
    assert all(event["logprobs"] for event in stream.deltas)


@pytest.mark.also_real
def test_trs_10_continuous_usage(api: Api, long_audio: bytes) -> None:
    stream = api.stream(long_audio, stream_include_usage="true", stream_continuous_usage_stats="true")
    counts: list[dict[str, Any]] = [event["usage"] for event in stream.deltas]
    assert len(counts) > 1
    for usage in counts:
        assert usage.keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    written = [usage["completion_tokens"] for usage in counts]
    assert written == sorted(set(written))
    assert written[-1] <= stream.done["usage"]["output_tokens"]


@pytest.mark.also_real
@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe"])
def test_times_in_a_stream_are_those_of_the_whole_answer(api: Api, long_audio: bytes, model: str) -> None:
    stream = api.stream(long_audio, model=model, stream_include_times="true")
    fields = {"response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]}
    whole = api.transcribe(long_audio, model="whisper-1", **fields).json()
    assert "".join(event["delta"] for event in stream.deltas) == stream.done["text"] == whole["text"]
    spans = [(event["start"], event["end"]) for event in stream.deltas]
    assert spans == [(segment["start"], segment["end"]) for segment in whole["segments"]]
    assert [word for event in stream.deltas for word in event["words"]] == whole["words"]
    assert len(whole["words"]) > 10


def test_times_in_a_stream_are_told_where_somebody_asks(stream: Stream) -> None:
    assert all({"start", "end", "words"}.isdisjoint(event) for event in stream.deltas)


def test_speakers_tell_their_times_themselves(api: Api, quiet: bytes) -> None:
    fields = {"model": "gpt-4o-transcribe-diarize", "response_format": "diarized_json", "stream": "true"}
    assert_refused(api.transcribe(quiet, stream_include_times="true", **fields), 400, "stream_include_times")


@pytest.mark.also_real
def test_trs_sdk_reads_typed_events(server: Server, clip: Clip) -> None:
    create = server.client.audio.transcriptions.create
    events = list(create(model="gpt-4o-mini-transcribe", file=clip.path, stream=True))
    *deltas, done = events
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens
    text = ""
    for event in deltas:
        assert isinstance(event, TranscriptionTextDeltaEvent)
        text += event.delta
    assert text == done.text == create(model="gpt-4o-mini-transcribe", file=clip.path).text


def test_trs_sdk_reads_logprobs(server: Server, clip: Clip) -> None:
    *deltas, done = server.client.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=clip.path, stream=True, include=["logprobs"]
    )
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert done.logprobs
    assert done.logprobs[0].logprob is not None
    assert all(isinstance(event, TranscriptionTextDeltaEvent) and event.logprobs for event in deltas)


@pytest.mark.also_real
def test_trs_errors_come_before_the_200(api: Api) -> None:
    """All validation and decoding happens first, so the status tells."""
    response = api.transcribe(b"this is not audio", stream="true")
    assert response.status_code == 400
    assert error_of(response)["param"] in {"file", None}
