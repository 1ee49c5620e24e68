"""/v1/realtime (RTW-01 to RTW-15)."""

import base64
import io
import json
import re
import threading
import time
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from openai import OpenAI
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from benchmarks.scoring import word_error_rate
from tests.conformance.audio import samples_of, silence
from tests.conformance.metrics import in_flight
from tests.conformance.realtime import TRANSCRIPTION, connected, opened, pcm, with_pauses
from tests.conformance.wire import Api
from tests.conftest import ASR_MODEL, CHAT_MODEL, Clip, Server

MANUAL: dict[str, Any] = {"turn_detection": None}
DEFAULT_INPUT = {
    "format": {"type": "audio/pcm", "rate": 24_000},
    "noise_reduction": None,
    "transcription": {"model": ASR_MODEL},
    "turn_detection": {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
    },
}


def is_near(found: str, expected: str) -> bool:
    return word_error_rate([expected], [found]) <= 0.25


@pytest.fixture
def speech(clip: Clip) -> bytes:
    return pcm(with_pauses(samples_of(clip)))


@pytest.mark.also_real
def test_a_session_begins_with_all_that_it_is_configured_for(server: Server) -> None:
    """RTW-01."""
    with connected(server, "?intent=transcription") as session:
        created = session.next()
    assert created["type"] == "session.created"
    about = created["session"]
    assert about["type"] == "transcription"
    assert re.fullmatch(r"sess_\w+", about["id"])
    assert about["object"] == "realtime.transcription_session"
    assert 3_500 < about["expires_at"] - time.time() <= 3_601
    assert about["audio"]["input"] == DEFAULT_INPUT
    assert about["include"] is None


@pytest.mark.also_real
def test_the_sdk_transcribes_what_it_says(server: Server, clip: Clip, speech: bytes) -> None:
    """RTW-01 to RTW-07 by OpenAI's own client, with turns found by the server."""
    events = []
    with server.client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        connection.session.update(
            session={"type": "transcription", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
        )
        for first in range(0, len(speech), 9_600):
            audio = base64.b64encode(speech[first : first + 9_600]).decode()
            connection.input_audio_buffer.append(audio=audio)
        for event in connection:
            events.append(event)
            if event.type == f"{TRANSCRIPTION}.completed":
                break
    kinds = [event.type for event in events]
    assert kinds[:2] == ["session.created", "session.updated"]
    assert [kind for kind in kinds if not kind.endswith(".delta")][2:] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        f"{TRANSCRIPTION}.completed",
    ]
    started, stopped = (next(e for e in events if e.type.endswith(end)) for end in ("started", "stopped"))
    assert 300 <= started.audio_start_ms <= 1_500 < stopped.audio_end_ms  # type: ignore[union-attr]
    ids = {event.item_id for event in events if hasattr(event, "item_id")}
    assert len(ids) == 1
    completed = events[-1]
    assert is_near(completed.transcript, clip.text)  # type: ignore[union-attr]
    assert "".join(e.delta for e in events if e.type.endswith(".delta")).strip() == completed.transcript  # type: ignore[union-attr, misc]
    assert completed.usage.type == "duration"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "model", ["whisper-1", ASR_MODEL, "gpt-4o-transcribe", "gpt-live-transcribe", "gpt-realtime-whisper"]
)
def test_the_model_of_the_address(server: Server, model: str) -> None:
    with connected(server, f"?model={model}") as session:
        assert session.next()["session"]["audio"]["input"]["transcription"] == {"model": model}


@pytest.mark.also_real
@pytest.mark.parametrize("query", ["?model=nobody", f"?model={CHAT_MODEL}"])
def test_a_model_that_does_not_transcribe_is_refused_before_the_upgrade(server: Server, query: str) -> None:
    with pytest.raises(InvalidStatus) as refused, connected(server, query):
        pass
    assert refused.value.response.status_code in (400, 404)
    error = json.loads(refused.value.response.body or b"")["error"]
    assert error["param"] == "model"


def test_only_what_is_given_changes(server: Server) -> None:
    """RTW-02."""
    with opened(server) as session:
        found = session.configure(turn_detection={"silence_duration_ms": 900})["session"]["audio"]["input"]
        assert found["turn_detection"] == {**DEFAULT_INPUT["turn_detection"], "silence_duration_ms": 900}
        found = session.configure(transcription={"language": "en"})["session"]["audio"]["input"]
        assert found["transcription"] == {"model": ASR_MODEL, "language": "en"}
        found = session.configure(
            turn_detection=None,
            noise_reduction={"type": "near_field"},
            format={"type": "audio/pcmu"},
            transcription={"model": "gpt-4o-transcribe", "prompt": "Names: Ada, Grace."},
        )["session"]["audio"]["input"]
        assert found == {
            "format": {"type": "audio/pcmu"},
            "noise_reduction": {"type": "near_field"},
            "transcription": {"model": "gpt-4o-transcribe", "language": "en", "prompt": "Names: Ada, Grace."},
            "turn_detection": None,
        }
        found = session.configure(turn_detection={"type": "semantic_vad", "eagerness": "high"}, noise_reduction=None)
        assert found["session"]["audio"]["input"]["turn_detection"] == {"type": "semantic_vad", "eagerness": "high"}
        session.send("session.update", session={"include": ["item.input_audio_transcription.logprobs"]})
        assert session.until("session.updated")["session"]["include"] == ["item.input_audio_transcription.logprobs"]


@pytest.mark.parametrize(
    ("update", "param"),
    [
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16_000}}}}, "session.audio.input.format"),
        ({"audio": {"input": {"format": {"type": "audio/mp3"}}}}, "session.audio.input.format.type"),
        ({"audio": {"input": {"turn_detection": {"threshold": 2}}}}, "session.audio.input.turn_detection.threshold"),
        ({"audio": {"input": {"turn_detection": {"type": "none"}}}}, "session.audio.input.turn_detection.type"),
        ({"audio": {"input": {"turn_detection": "server_vad"}}}, "session.audio.input.turn_detection"),
        ({"audio": {"input": {"transcription": {"model": "nobody"}}}}, "session.audio.input.transcription.model"),
        ({"audio": {"input": {"transcription": {"model": CHAT_MODEL}}}}, "session.audio.input.transcription.model"),
        ({"audio": {"input": {"transcription": {"language": "xx"}}}}, "session.audio.input.transcription.language"),
        ({"audio": {"input": {"transcription": {"delay": "soon"}}}}, "session.audio.input.transcription.delay"),
        ({"audio": {"input": {"transcription": {"keywords": ["a"]}}}}, "session.audio.input.transcription.keywords"),
        ({"audio": {"input": {"transcription": None}}}, "session.audio.input.transcription"),
        ({"audio": {"input": {"noise_reduction": {"type": "loud"}}}}, "session.audio.input.noise_reduction.type"),
        ({"audio": None}, "session.audio"),
        ({"include": ["item.input_audio_transcription.logprobs"]}, "session.include"),  # Whisper's has none
        ({"type": "realtime"}, "session.type"),
    ],
)
def test_a_bad_value_is_named_and_changes_nothing(server: Server, update: dict[str, Any], param: str) -> None:
    """RTW-02."""
    with opened(server) as session:
        session.send("session.update", session=update, event_id="mine")
        error = session.next()
        assert error["type"] == "error"
        assert error["error"]["type"] == "invalid_request_error"
        assert error["error"]["param"] == param
        assert error["error"]["event_id"] == "mine"
        found = session.configure()["session"]["audio"]["input"]
        assert found == DEFAULT_INPUT


@pytest.mark.also_real
def test_a_commit_makes_an_item_and_its_text(server: Server, clip: Clip, speech: bytes) -> None:
    """RTW-04, RTW-06."""
    with opened(server, **MANUAL) as session:
        session.append(speech)
        session.commit()
        (completed,) = session.completed()
    kinds = [event["type"] for event in session.seen[2:] if not event["type"].endswith(".delta")]
    assert kinds == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        f"{TRANSCRIPTION}.completed",
    ]
    (committed,), (added,) = session.of_type("input_audio_buffer.committed"), session.of_type("conversation.item.added")
    assert committed["previous_item_id"] is None
    assert added["item"] == {
        "id": committed["item_id"],
        "object": "realtime.item",
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_audio", "transcript": None}],
    }
    assert completed["item_id"] == committed["item_id"]
    assert completed["content_index"] == 0
    assert is_near(completed["transcript"], clip.text)
    assert session.deltas(committed["item_id"]).strip() == completed["transcript"]
    assert completed["usage"] == {"type": "duration", "seconds": -(-len(speech) // 48_000)}


@pytest.mark.also_real
def test_the_text_is_that_of_an_upload(server: Server, api: Api, long_audio: bytes) -> None:
    samples, rate_hz = soundfile.read(io.BytesIO(long_audio), dtype="float32")
    assert rate_hz == 16_000
    with opened(server, **MANUAL) as session:
        session.append(pcm(samples), 480_000)
        session.commit()
        (completed,) = session.completed()
    expected = api.transcribe(long_audio).json()["text"]
    # a small model hears a word or two differently in audio that was resampled
    assert word_error_rate([expected], [completed["transcript"]]) <= 0.06


@pytest.mark.parametrize(("kind", "subtype"), [("audio/pcm", "PCM_16"), ("audio/pcmu", "ULAW"), ("audio/pcma", "ALAW")])
def test_formats(server: Server, clip: Clip, kind: str, subtype: str) -> None:
    """RTW-03."""
    rate_hz = 24_000 if kind == "audio/pcm" else 8_000
    samples = soxr.resample(with_pauses(samples_of(clip)), 16_000, rate_hz)
    raw = io.BytesIO()
    soundfile.write(raw, samples, rate_hz, format="RAW", subtype=subtype)
    with opened(server, format={"type": kind}, **MANUAL) as session:
        session.append(raw.getvalue(), 777)
        session.commit()
        (completed,) = session.completed()
    assert is_near(completed["transcript"], clip.text)


@pytest.mark.parametrize(("milliseconds", "is_enough"), [(0, False), (50, False), (99, False), (100, True)])
def test_a_tenth_of_a_second_is_the_least(server: Server, milliseconds: int, is_enough: bool) -> None:
    """RTW-04."""
    with opened(server, **MANUAL) as session:
        session.append(bytes(milliseconds * 48))
        session.commit()
        event = session.next()
        if is_enough:
            assert event["type"] == "input_audio_buffer.committed"
            (completed,) = session.completed()
            assert completed["transcript"] == ""
        else:
            assert event["error"]["code"] == "input_audio_buffer_commit_empty"
            session.answers()


def test_what_is_cleared_is_not_heard(server: Server, clip: Clip, speech: bytes) -> None:
    """RTW-05."""
    with opened(server, **MANUAL) as session:
        session.append(speech)
        session.send("input_audio_buffer.clear")
        assert session.until("input_audio_buffer.cleared", "error")["type"] == "input_audio_buffer.cleared"
        session.append(bytes(48_000))
        session.commit()
        (completed,) = session.completed()
    assert completed["transcript"] == ""
    assert completed["usage"]["seconds"] == 1


@pytest.mark.also_real
def test_turns_are_found_and_follow_each_other(server: Server, clips: list[Clip]) -> None:
    """RTW-07, of three sentences that a real Whisper hears well."""
    said = [clip for clip in clips if clip.language == "en"][8:11]
    with opened(server) as session:
        session.append(pcm(with_pauses(*map(samples_of, said))))
        completed = {event["item_id"]: event["transcript"] for event in session.completed(3)}
    committed = session.of_type("input_audio_buffer.committed")
    ids = [event["item_id"] for event in committed]
    assert [event["previous_item_id"] for event in committed] == [None, *ids[:-1]]
    for clip, item_id in zip(said, ids, strict=True):
        assert is_near(completed[item_id], clip.text)
    times = [
        (started["audio_start_ms"], stopped["audio_end_ms"])
        for started, stopped in zip(
            session.of_type("input_audio_buffer.speech_started"),
            session.of_type("input_audio_buffer.speech_stopped"),
            strict=True,
        )
    ]
    assert all(start < end for start, end in times)
    assert times == sorted(times)


def test_a_turn_may_be_committed_while_it_is_spoken(server: Server, clip: Clip) -> None:
    samples = samples_of(clip)
    with opened(server) as session:
        session.append(pcm(samples[: len(samples) * 3 // 4]))
        session.until("input_audio_buffer.speech_started")
        session.commit()
        (completed,) = session.completed()
    assert completed["transcript"]
    assert session.of_type("input_audio_buffer.speech_stopped") == []


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{", "invalid_json"),
        ("[]", "invalid_json"),
        ("1", "invalid_json"),
        (b"\0\1", "invalid_json"),
        ('{"type": 3}', None),
        ('{"no": "type"}', None),
        ('{"type": "unknown"}', None),
        ('{"type": "input_audio_buffer.append"}', "missing_required_parameter"),
        ('{"type": "input_audio_buffer.append", "audio": 7}', None),
        ('{"type": "input_audio_buffer.append", "audio": "a*b="}', None),
        ('{"type": "input_audio_buffer.append", "audio": "AAA"}', None),
        ('{"type": "session.update"}', "missing_required_parameter"),
        ('{"type": "session.update", "session": []}', None),
        ("[" * 100_000, "invalid_json"),
    ],
)
def test_whatever_is_wrong_is_answered_and_the_session_goes_on(
    server: Server, frame: str | bytes, code: str | None
) -> None:
    """RTW-08."""
    with opened(server) as session:
        session.send_raw(frame)
        event = session.next()
        assert event["type"] == "error"
        assert set(event["error"]) == {"type", "code", "message", "param", "event_id"}
        assert event["error"]["type"] == "invalid_request_error"
        assert event["error"]["message"]
        if code:
            assert event["error"]["code"] == code
        session.answers()


def test_half_a_character_in_a_prompt_is_none(server: Server, speech: bytes) -> None:
    with opened(server, **MANUAL) as session:
        update = '{"type": "session.update", "session": {"audio": {"input": {"transcription": {"prompt": "\\ud800"}}}}}'
        session.send_raw(update)
        updated = session.until("session.updated")
        assert updated["session"]["audio"]["input"]["transcription"]["prompt"] == "?"
        session.append(speech)
        session.commit()
        assert session.completed()[0]["transcript"]


@pytest.mark.parametrize(
    "kind",
    [
        "response.create",
        "response.cancel",
        "conversation.item.create",
        "conversation.item.delete",
        "output_audio_buffer.clear",
        "transcription_session.update",
    ],
)
def test_what_a_transcription_session_does_not_have(server: Server, kind: str) -> None:
    """RTW-09."""
    with opened(server) as session:
        session.send(kind, event_id="mine")
        error = session.next()["error"]
        assert "not available" in error["message"]
        assert error["event_id"] == "mine"
        session.answers()


def test_logprobs_and_tokens_of_the_4o_family(server: Server, clip: Clip, speech: bytes) -> None:
    """RTW-06."""
    with opened(server, transcription={"model": "gpt-4o-transcribe"}, **MANUAL) as session:
        session.send("session.update", session={"include": ["item.input_audio_transcription.logprobs"]})
        session.append(speech)
        session.commit()
        (completed,) = session.completed()
    assert completed["usage"]["type"] == "tokens"
    assert completed["logprobs"]
    deltas = session.of_type(f"{TRANSCRIPTION}.delta")
    assert [one for delta in deltas for one in delta["logprobs"]] == completed["logprobs"]
    assert "".join(one["token"] for one in completed["logprobs"]).strip() == completed["transcript"]


def test_languages_of_the_gpt_family(server: Server, clips: list[Clip]) -> None:
    clip = next(clip for clip in clips if clip.language == "de")
    with opened(server, transcription={"model": "gpt-transcribe", "languages": ["de", "en"]}, **MANUAL) as session:
        session.append(pcm(with_pauses(samples_of(clip))))
        session.commit()
        (completed,) = session.completed()
    assert completed["languages"] == [{"code": "de"}]


@pytest.mark.also_real
def test_speakers_keep_their_labels_from_turn_to_turn(server: Server, clips: list[Clip]) -> None:
    """RTW-06: `.segment` before `.completed`."""
    first = next(clip for clip in clips if clip.language == "en")
    with opened(server, transcription={"model": "gpt-4o-transcribe-diarize"}, **MANUAL) as session:
        for _ in range(2):
            session.append(pcm(with_pauses(samples_of(first), samples_of(first))))
            session.commit()
            session.completed(len(session.of_type(f"{TRANSCRIPTION}.completed")) + 1)
    kinds = [event["type"].rpartition(".")[2] for event in session.seen if event["type"].startswith(TRANSCRIPTION)]
    assert kinds.index("segment") < kinds.index("completed")
    segments = session.of_type(f"{TRANSCRIPTION}.segment")
    assert {segment["speaker"] for segment in segments} == {"A"}
    assert len({segment["item_id"] for segment in segments}) == 2
    for segment in segments:
        assert 0 <= segment["start"] < segment["end"]
        assert segment["id"]
        assert segment["text"]


@pytest.mark.also_real
@pytest.mark.parametrize("delay", ["low", "minimal", "medium", "high", "xhigh"])
def test_text_while_somebody_speaks(server: Server, clip: Clip, delay: str) -> None:
    """RTW-12."""
    speech = pcm(with_pauses(samples_of(clip)))
    with opened(server, transcription={"delay": delay}) as session:
        for first in range(0, len(speech), 4_800):
            session.append(speech[first : first + 4_800])
            time.sleep(0.1)
        (completed,) = session.completed()
    assert is_near(completed["transcript"], clip.text)
    assert session.deltas(completed["item_id"]).strip() == completed["transcript"]


def test_without_delay_nothing_is_told_before_the_commit(server: Server, clips: list[Clip]) -> None:
    """RTW-12: two minutes of it, of which the first windows are long known."""
    parts = [samples_of(clip) for clip in clips if clip.language == "en"]
    samples = with_pauses(*parts, *parts)
    with opened(server, **MANUAL) as session:
        session.append(pcm(samples), 480_000)
        time.sleep(1.0)
        session.commit()
        session.completed()
    kinds = [event["type"] for event in session.seen]
    assert kinds.index("input_audio_buffer.committed") < kinds.index(f"{TRANSCRIPTION}.delta")


def test_nobody_says_anything(server: Server) -> None:
    """RTW-13."""
    with opened(server, turn_detection={"type": "server_vad", "idle_timeout_ms": 5_000}) as session:
        session.append(pcm(silence(5.5)))
        timeout = session.until("input_audio_buffer.timeout_triggered")
        (completed,) = session.completed()
    assert timeout["audio_start_ms"] == 0
    assert 5_000 <= timeout["audio_end_ms"] < 5_100
    assert completed["transcript"] == ""
    assert completed["item_id"] == timeout["item_id"]


@pytest.mark.parametrize("eagerness", ["low", "medium", "high", "auto"])
def test_semantic_vad_waits_by_its_eagerness(server: Server, clip: Clip, eagerness: str) -> None:
    """RTW-13."""
    with opened(server, turn_detection={"type": "semantic_vad", "eagerness": eagerness}) as session:
        session.append(pcm(with_pauses(samples_of(clip), pause_s=2.0)))
        (completed,) = session.completed()
    assert is_near(completed["transcript"], clip.text)


def test_large_appends(server: Server, clip: Clip) -> None:
    """RTW-03: 15 MiB of base64 in one event; what is larger than 16 MiB ends the socket, and nothing else."""
    data = pcm(with_pauses(samples_of(clip)))
    data += bytes(15 * 1_048_576 // 4 * 3 - len(data))
    with opened(server, **MANUAL) as session:
        session.append(data, len(data))
        session.commit()
        (completed,) = session.completed()
        assert is_near(completed["transcript"], clip.text)
        session.send_raw("x" * (17 * 1_048_576))
        with pytest.raises(ConnectionClosed):
            session.next()
    with opened(server) as session:
        session.answers()


@pytest.mark.also_real
def test_whoever_leaves_is_worked_for_no_longer(server: Server, api: Api, clips: list[Clip]) -> None:
    """RTW-10, CON-03."""
    parts = [samples_of(clip) for clip in clips if clip.language == "en"]
    with opened(server, **MANUAL) as session:
        session.append(pcm(np.concatenate(parts)), 480_000)
        session.commit()
        session.until("input_audio_buffer.committed")
    deadline = time.monotonic() + 10
    while in_flight(api) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert in_flight(api) == 0


@pytest.mark.also_real
def test_sessions_do_not_hear_each_other(server: Server, clips: list[Clip]) -> None:
    said = [clip for clip in clips if clip.language == "en"][:6]
    found: dict[int, str] = {}

    def talk(number: int) -> None:
        with opened(server, transcription={"language": "en"}) as session:
            session.append(pcm(with_pauses(samples_of(said[number]))))
            found[number] = session.completed()[0]["transcript"]

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(len(said))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    nearest = [min(said, key=lambda clip: word_error_rate([clip.text], [text])) for _, text in sorted(found.items())]
    assert nearest == said


@pytest.mark.also_real
def test_a_client_secret_opens_a_session_as_it_was_ordered(server: Server, clip: Clip, speech: bytes) -> None:
    """RTW-11: by OpenAI's own client, then as a browser does."""
    secret = server.client.realtime.client_secrets.create(
        expires_after={"anchor": "created_at", "seconds": 60},
        session={
            "type": "transcription",
            "audio": {"input": {"transcription": {"model": "whisper-1", "language": "en"}, "turn_detection": None}},
        },
    )
    assert secret.value.startswith("ek_")
    assert 50 <= secret.expires_at - time.time() <= 60
    assert secret.session.type == "transcription"
    protocols = ["realtime", f"openai-insecure-api-key.{secret.value}"]
    with connected(server, protocols=protocols, Origin="https://elsewhere.example") as session:
        about = session.next()["session"]["audio"]["input"]
        assert about["transcription"] == {"model": "whisper-1", "language": "en"}
        assert about["turn_detection"] is None
        session.append(speech)
        session.commit()
        assert is_near(session.completed()[0]["transcript"], clip.text)
    client = OpenAI(base_url=f"{server.url}/v1", api_key=secret.value)
    with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        assert connection.recv().type == "session.created"


@pytest.mark.parametrize("change", [lambda value: value[:-1], lambda value: f"{value}x", lambda _: "ek_a.b"])
def test_a_client_secret_of_somebody_else_opens_nothing(server: Server, change: Any) -> None:
    secret = server.client.realtime.client_secrets.create(session={"type": "transcription"})
    with pytest.raises(InvalidStatus) as refused, connected(server, Authorization=f"Bearer {change(secret.value)}"):
        pass
    assert refused.value.response.status_code == 401


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"session": {"type": "realtime"}}, "session.type"),
        ({"session": {"type": "transcription"}, "expires_after": {"seconds": 5}}, "expires_after.seconds"),
        ({"session": {"audio": {"input": {"transcription": {"model": "nobody"}}}}}, None),
        ({"session": {"audio": {"input": {"transcription": {"prompt": "".join(map(chr, range(256, 5_000)))}}}}}, None),
        ({"session": 3}, "session"),
    ],
)
def test_a_client_secret_is_not_made_of_anything(api: Api, body: dict[str, Any], param: str | None) -> None:
    """RTW-11."""
    response = api.client.post("/v1/realtime/client_secrets", json=body)
    assert response.status_code == 400
    if param:
        assert response.json()["error"]["param"] == param


def test_pages_of_other_hosts_open_no_session_where_no_key_is_needed(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused, connected(server, Origin="https://elsewhere.example"):
        pass
    assert refused.value.response.status_code == 403
    with connected(server, Origin=server.url) as session:
        assert session.next()["type"] == "session.created"


def test_the_subprotocol_is_chosen_where_it_is_offered(server: Server) -> None:
    url = f"{server.url.replace('http', 'ws')}/v1/realtime"
    with connect(url, subprotocols=["realtime", "openai-insecure-api-key.anything"]) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "realtime"
    with connect(url) as socket:
        assert socket.subprotocol is None
