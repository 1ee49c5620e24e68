"""Realtime sessions on the running graph, when something breaks."""

import io
import json
import time

import numpy as np
import pytest
import soundfile
from websockets.exceptions import InvalidStatus

from tests.conformance.realtime import TRANSCRIPTION, connected, opened, pcm
from tests.conftest import Server
from tests.serve.tools import kill_replica, num_running, replica_pids, wait_for_another, wait_until


@pytest.fixture(scope="module")
def speech(sentence: bytes) -> bytes:
    samples, _ = soundfile.read(io.BytesIO(sentence), dtype="float32")
    return pcm(np.asarray(samples, np.float32))


def test_a_turn_survives_the_loss_of_its_asr_replica(scripted: Server, speech: bytes) -> None:
    old = replica_pids(scripted, "asr-steady")
    with opened(scripted, transcription={"model": "steady"}, turn_detection=None) as session:
        session.append(speech)
        session.commit()
        wait_until(lambda: num_running(scripted, "steady") == 1, "a turn in flight")
        time.sleep(0.5)
        kill_replica(scripted, "asr-steady")
        (ended,) = session.completed()
        assert ended["type"] == f"{TRANSCRIPTION}.completed", ended
        assert ended["transcript"]
        wait_for_another(scripted, "asr-steady", old)
        session.append(speech)
        session.commit()
        assert session.completed(2)[1]["type"] == f"{TRANSCRIPTION}.completed"


def test_a_session_needs_no_audio_replica(scripted: Server, speech: bytes) -> None:
    """Speech is found where the session is: nothing that was appended is anywhere else."""
    old = replica_pids(scripted, "audio")
    with opened(scripted, transcription={"model": "steady"}) as session:
        session.append(speech)
        kill_replica(scripted, "audio")
        session.append(bytes(72_000))
        assert session.completed()[0]["type"] == f"{TRANSCRIPTION}.completed"
    wait_for_another(scripted, "audio", old)


def test_a_client_that_leaves_in_the_middle_of_a_turn_is_worked_for_no_longer(scripted: Server, speech: bytes) -> None:
    """RTW-10."""
    with opened(scripted, transcription={"model": "steady", "prompt": "60"}, turn_detection=None) as session:
        session.append(speech)
        session.commit()
        wait_until(lambda: num_running(scripted, "steady") == 1, "a turn in flight")
    wait_until(lambda: num_running(scripted, "steady") == 0, "nothing in flight", 10)


def test_what_is_refused_has_its_status_behind_serve_s_proxy(scripted: Server) -> None:
    with pytest.raises(InvalidStatus) as refused, connected(scripted, "?model=nobody"):
        pass
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body or b"")["error"]["code"] == "model_not_found"
