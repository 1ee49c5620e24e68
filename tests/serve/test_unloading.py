"""Models that are unloaded while nobody asks (`unload_after_s`), and come back with a request."""

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import Server
from tests.serve.coded_audio import CodedAudio, join, pause
from tests.serve.conftest import FREE_KEY, UNLOAD_AFTER_S
from tests.serve.scripted_diarizer import Order, ordered
from tests.serve.tools import TIMEOUT_S, is_healthy, replica_pids, wait_until

HEADERS = {"Authorization": f"Bearer {FREE_KEY}"}


def states(server: Server) -> dict[str, str]:
    """Of an ingress that knows them: one that is asked for the first time may not yet."""
    with suppress(httpx.HTTPError):
        answer = httpx.get(f"{server.url}/health", timeout=5)
        if answer.status_code == 200:
            models: dict[str, str] = answer.json()["models"]
            return models
    return {}


def until_ready(server: Server, model: str) -> None:
    wait_until(lambda: states(server).get(model) == "ready", f"{model} seen ready", 5)  # before it is unloaded again


def transcribe(server: Server, upload: bytes, model: str = "nap", **fields: str) -> httpx.Response:
    return httpx.post(
        f"{server.url}/v1/audio/transcriptions",
        files={"file": ("audio", upload)},
        data={"model": model, **fields},
        headers=HEADERS,
        timeout=TIMEOUT_S,
    )


def chat(server: Server, orders: str, **more: Any) -> httpx.Response:
    body = {"model": "chat-nap", "messages": [{"role": "user", "content": orders}], **more}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=HEADERS, timeout=TIMEOUT_S)


def until_unloaded(server: Server) -> None:
    wait_until(lambda: states(server) == {"nap": "unloaded", "chat-nap": "unloaded"}, "models that are unloaded", 90)
    for deployment in ("asr-nap", "chat-chat-nap", "diarization"):
        wait_until(lambda name=deployment: not replica_pids(server, name), "no replica")  # type: ignore[misc]


def logged(logs: Path) -> tuple[int, list[int]]:
    """How often the model was loaded, and how long it had been idle each time that it was unloaded."""
    text = "".join(path.read_text() for path in logs.rglob("replica_*asr-nap*"))
    idle = re.findall(r"Unloaded 0, which had been idle for (\d+) s", text)
    return len(re.findall(r"Loaded 0 in [\d.]+ s on cpu", text)), [int(seconds) for seconds in idle]


def test_models_go_and_come_back_with_the_next_request(napping: Server, napping_logs: Path, sentence: bytes) -> None:
    until_unloaded(napping)
    loads, unloads = logged(napping_logs)
    assert transcribe(napping, sentence).status_code == 200
    until_ready(napping, "nap")
    answer = chat(napping, "to=3")
    assert answer.json()["choices"][0]["message"]["content"].split() == ["0", "1", "2"]
    until_ready(napping, "chat-nap")
    until_unloaded(napping)
    # the language is the model's to judge: it is loaded before the answer begins
    assert "transcript.text.done" in transcribe(napping, sentence, language="en", stream="true").text
    assert "[DONE]" in chat(napping, "to=3", stream=True).text
    until_unloaded(napping)
    num_loads, idle = logged(napping_logs)
    assert num_loads == loads + 2
    assert len(idle) >= len(unloads) + 1  # of the last one the line may still be on its way
    assert all(seconds >= UNLOAD_AFTER_S for seconds in idle)


def test_so_does_what_tells_speakers_apart(napping: Server, coded_clips: list[CodedAudio]) -> None:
    until_unloaded(napping)
    remark = ordered(join(pause(0.5), coded_clips[0], pause(0.5)), Order.ANSWER)
    answer = transcribe(napping, remark, "nap-diarize", response_format="diarized_json")
    assert answer.status_code == 200, answer.text
    assert [segment["speaker"] for segment in answer.json()["segments"]] == ["A"]
    assert replica_pids(napping, "diarization")


def test_a_model_that_is_asked_now_and_then_stays(napping: Server, sentence: bytes) -> None:
    """By requests so short that Serve, which looks every few seconds, hardly sees one."""
    transcribe(napping, sentence)
    pids = replica_pids(napping, "asr-nap")
    deadline = time.monotonic() + 4 * UNLOAD_AFTER_S
    while time.monotonic() < deadline:
        assert transcribe(napping, sentence).status_code == 200
        time.sleep(UNLOAD_AFTER_S / 3)
    assert replica_pids(napping, "asr-nap") == pids
    assert is_healthy(napping)
