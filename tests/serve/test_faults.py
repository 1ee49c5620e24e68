"""What breaks stays small: lost replicas, full queues, clients that leave, models that fail."""

import io
import itertools
import time
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import soundfile

from tests.conftest import Server
from tests.serve.coded_audio import CodedAudio, join, pause
from tests.serve.conftest import MAX_AUDIO_S
from tests.serve.test_long_audio import assert_covers, heard
from tests.serve.tools import (
    assert_refusal,
    is_healthy,
    kill_replica,
    num_running,
    post,
    replica_pids,
    stream,
    total,
    wait_for_another,
    wait_until,
)


def silence(seconds: float, sample_rate_hz: int = 16_000) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.zeros(round(seconds * sample_rate_hz), np.int16), sample_rate_hz, format="FLAC")
    return out.getvalue()


@pytest.fixture(scope="module")
def two_minutes(coded_clips: list[CodedAudio]) -> CodedAudio:
    return join(*(part for clip in coded_clips[:40] for part in (clip, pause(0.5))))


# Lost replicas


def test_requests_survive_the_loss_of_their_asr_replica(scripted: Server, sentence: bytes) -> None:
    old = replica_pids(scripted, "asr-steady")
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(post, scripted, sentence, "steady", prompt="6") for _ in range(4)]
        wait_until(lambda: num_running(scripted, "steady") == 4, "four requests in flight")
        kill_replica(scripted, "asr-steady")
        answers = [request.result() for request in asked]
    for answer in answers:
        if answer.status_code != 200:
            assert_refusal(answer, 503, "service_unavailable")
    wait_for_another(scripted, "asr-steady", old)
    assert post(scripted, sentence, "steady", prompt="0").status_code == 200


def test_a_stream_survives_the_loss_of_its_asr_replica(scripted: Server, two_minutes: CodedAudio) -> None:
    old = replica_pids(scripted, "asr-reader")
    events = stream(scripted, two_minutes.file(), "reader", prompt="2")
    first = next(events)
    time.sleep(1)  # now the next chunks are with the replica, for a second more
    kill_replica(scripted, "asr-reader")
    rest = list(events)
    assert rest[-1]["type"] == "transcript.text.done", rest[-1]
    assert_covers(heard(rest[-1]["text"]), two_minutes)
    assert first["delta"] + "".join(event["delta"] for event in rest[:-1]) == rest[-1]["text"]
    wait_for_another(scripted, "asr-reader", old)


def test_a_request_that_kills_every_replica_is_given_up(scripted: Server, sentence: bytes) -> None:
    old = replica_pids(scripted, "asr-steady")
    assert_refusal(post(scripted, sentence, "steady", prompt="die"), 503, "service_unavailable")
    wait_for_another(scripted, "asr-steady", old)
    assert post(scripted, sentence, "steady", prompt="0").status_code == 200


def test_a_task_that_is_cancelled_below_is_no_client_that_left(scripted: Server, sentence: bytes) -> None:
    """Ray raises `asyncio.CancelledError` for both; the chunk is done again."""
    old = replica_pids(scripted, "asr-elastic")
    before = total(scripted, "auricle_requests_total", status="499")
    answer = post(scripted, sentence, "elastic", prompt="cancel")
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"].startswith("pid=")
    assert total(scripted, "auricle_requests_total", status="499") == before
    assert old <= replica_pids(scripted, "asr-elastic")


def test_no_speech_is_lost_with_the_audio_replica(scripted: Server, long_audio: CodedAudio) -> None:
    old = replica_pids(scripted, "audio")
    events = stream(scripted, long_audio.file(), "reader", prompt="0.3")
    next(events)
    kill_replica(scripted, "audio")
    *_, done = events
    assert done["type"] == "transcript.text.done", done
    assert_covers(heard(done["text"]), long_audio)
    wait_for_another(scripted, "audio", old)


def test_a_lost_ingress_comes_back(scripted: Server, sentence: bytes) -> None:
    old = replica_pids(scripted, "ingress")
    kill_replica(scripted, "ingress")
    wait_for_another(scripted, "ingress", old)
    assert post(scripted, sentence, "reader").status_code == 200


# Full queues


def test_a_full_queue_refuses_with_the_time_to_come_back(scripted: Server, sentence: bytes) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(scripted, sentence, "narrow"), range(6)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 1 <= len(refused) <= 5
    for answer in refused:
        assert_refusal(answer, 429, "rate_limit_exceeded")


def test_a_full_queue_refuses_a_stream_before_its_200(scripted: Server, sentence: bytes) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked: list[Future[httpx.Response]] = []

        def is_full() -> bool:
            """One at work, one in the queue; somebody came for nothing."""
            waiting = [request for request in asked if not request.done()]
            if len(waiting) == 2 and len(asked) > 2:
                return True
            if num_running(scripted, "narrow") == len(waiting):
                asked.append(pool.submit(post, scripted, sentence, "narrow", prompt="15"))
            return False

        wait_until(is_full, "a full queue", 15)
        assert_refusal(post(scripted, sentence, "narrow", stream="true"), 429, "rate_limit_exceeded")
        assert [request.result().status_code for request in asked].count(200) == 2


def test_an_upload_that_has_begun_outlives_a_full_queue(scripted: Server, two_minutes: CodedAudio) -> None:
    """It has more chunks in flight than there is room for, and shares the room with others."""
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(post, scripted, two_minutes.file(), "narrow", prompt="0.5", language="en")
        wait_until(lambda: asked.done() or num_running(scripted, "narrow") == 1, "the upload being worked on")
        others = [post(scripted, two_minutes.file(), "narrow", prompt="0.1") for _ in range(3)]
        answer = asked.result()
    assert answer.status_code == 200, answer.text
    assert_covers(heard(answer.json()["text"]), two_minutes)
    assert {other.status_code for other in others} <= {200, 429}


# Clients that leave


def wait_until_alone(server: Server, sentence: bytes) -> None:
    """Who comes is the only one aboard: the engine has taken the others out."""
    wait_until(
        lambda: "aboard=1" in post(server, sentence, "steady", prompt="0").json()["text"], "nobody else aboard", 20
    )


def test_clients_that_leave_give_their_places_back(scripted: Server, sentence: bytes) -> None:
    with ThreadPoolExecutor(2) as pool:
        at_work = pool.submit(post, scripted, sentence, "narrow", timeout_s=4, prompt="100")
        wait_until(lambda: num_running(scripted, "narrow") == 1, "the first at work")
        in_queue = pool.submit(post, scripted, sentence, "narrow", timeout_s=4, prompt="100")
        for request in (at_work, in_queue):
            assert isinstance(request.exception(), httpx.ReadTimeout)
    wait_until(lambda: num_running(scripted, "narrow") == 0, "nothing running", 20)
    wait_until(lambda: post(scripted, sentence, "narrow", prompt="0").status_code == 200, "a free place", 20)


def test_a_client_that_leaves_its_stream_gives_its_place_back(
    scripted: Server, two_minutes: CodedAudio, sentence: bytes
) -> None:
    with httpx.stream(
        "POST",
        f"{scripted.url}/v1/audio/transcriptions",
        files={"file": two_minutes.file()},
        data={"model": "steady", "stream": "true", "prompt": "100"},
        timeout=30,
    ) as response:
        assert response.status_code == 200
        pieces = response.iter_raw()
        assert next(pieces) == b"\n"  # kept alive while the model is busy
        wait_until(lambda: num_running(scripted, "steady") == 1, "the stream being worked on")
    wait_until(lambda: num_running(scripted, "steady") == 0, "nothing running", 20)
    wait_until_alone(scripted, sentence)


def test_leaving_in_the_middle_of_a_stream_stops_the_work(scripted: Server, long_audio: CodedAudio) -> None:
    events = stream(scripted, long_audio.file(), "reader", prompt="1")
    assert len(list(itertools.islice(events, 2))) == 2
    events.close()  # type: ignore[attr-defined]
    wait_until(lambda: num_running(scripted, "reader") == 0, "nothing running", 20)


# Models that fail


def test_a_failing_step_is_told_and_forgotten(scripted: Server, sentence: bytes) -> None:
    answer = post(scripted, sentence, "steady", prompt="fail")
    assert answer.status_code in (500, 503)
    assert_refusal(answer, answer.status_code, answer.json()["error"]["code"])
    assert "secret" not in answer.text
    assert post(scripted, sentence, "steady", prompt="0").status_code == 200


def test_a_failing_step_refuses_a_stream_before_its_200(scripted: Server, sentence: bytes) -> None:
    answer = post(scripted, sentence, "steady", prompt="fail", stream="true")
    assert answer.status_code in (500, 503)


def test_a_failure_after_the_200_is_an_event(scripted: Server, two_minutes: CodedAudio) -> None:
    events = list(stream(scripted, two_minutes.file(), "steady", prompt="fail later"))
    assert events[0]["type"] == "transcript.text.delta"
    assert set(events[-1]["error"]) == {"message", "type", "param", "code"}
    assert not any(event.get("type") == "transcript.text.done" for event in events)


def test_what_an_engine_refuses_is_the_clients_mistake(scripted: Server, sentence: bytes) -> None:
    answer = post(scripted, sentence, "steady", prompt="refuse")
    assert_refusal(answer, 400, "refused")
    assert answer.json()["error"]["param"] == "prompt"
    assert answer.json()["error"]["message"] == "This engine refuses."


def test_a_failed_request_takes_its_other_chunks_back(
    scripted: Server, two_minutes: CodedAudio, sentence: bytes
) -> None:
    assert_refusal(post(scripted, two_minutes.file(), "steady", prompt="refuse later"), 400, "refused")
    wait_until_alone(scripted, sentence)


# Errors on their way through the graph


@pytest.mark.parametrize("fields", [{}, {"stream": "true"}])
@pytest.mark.parametrize(
    ("file", "code"),
    [
        (silence(0.05), "audio_too_short"),
        (b"this is no audio, whatever its name says" * 100, "invalid_value"),
        (b"", "invalid_value"),
        (silence(MAX_AUDIO_S + 60, 8_000), "invalid_value"),
    ],
    ids=["short", "garbage", "empty", "long"],
)
def test_unusable_audio_is_the_clients_mistake(
    scripted: Server, file: bytes, code: str, fields: dict[str, str]
) -> None:
    answer = post(scripted, file, "reader", **fields)
    assert_refusal(answer, 400, code)
    assert answer.json()["error"]["param"] == "file"


def test_a_language_that_the_model_does_not_know(scripted: Server, sentence: bytes) -> None:
    answer = post(scripted, sentence, "reader", language="fr")
    assert_refusal(answer, 400, "invalid_language_format")
    assert answer.json()["error"]["param"] == "language"


def test_a_model_that_does_not_translate(scripted: Server, sentence: bytes) -> None:
    answer = httpx.post(
        f"{scripted.url}/v1/audio/translations", files={"file": sentence}, data={"model": "reader"}, timeout=60
    )
    assert_refusal(answer, 400, "invalid_value")


def test_the_server_is_whole_after_all_of_it(scripted: Server) -> None:
    assert is_healthy(scripted)
    assert post(scripted, silence(0.1), "reader").json()["text"] == ""
