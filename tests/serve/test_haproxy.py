"""Through HAProxy (`haproxy: true`) instead of Serve's own proxy: uploads, streams, sockets, disconnects, keys."""

import asyncio
import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import soundfile
from openai import AsyncOpenAI
from websockets.exceptions import InvalidStatus

from deployments.compat.haproxy import DEFAULTS, KEEPALIVE
from tests.conformance.realtime import connected, pcm
from tests.conftest import RunningServer, Server, free_port
from tests.serve.coded_audio import CodedAudio
from tests.serve.conftest import light, scripted_model, serve_config
from tests.serve.tools import total, wait_until
from tests.support.sse import read_events

KEY = "unused"
"""As the tests' SDK client sends it."""

MAX_BYTES = 26_214_400


@pytest.fixture(scope="module")
def behind_haproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = [scripted_model("reader", "CodeReader", 0), scripted_model("steady", "Slow", 2)]
    names = ("ingress", "audio", "asr-reader", "asr-steady")
    config = serve_config(models, [light(name) for name in names], haproxy=True, require_api_key=True)
    config["http_options"]["host"] = "0.0.0.0"  # on loopback it is refused
    ports = {f"RAY_SERVE_HAPROXY_{name}_PORT": str(free_port()) for name in ("STATS", "METRICS")}
    directory = tmp_path_factory.mktemp("haproxy")
    with RunningServer(config, directory, AURICLE_API_KEYS=KEY, **ports) as server:
        yield server


def client_of(server: Server) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=120)


def test_keys(behind_haproxy: Server, sentence: bytes) -> None:
    """GEN-02, and GEN-05: one request id, the client's."""
    url = f"{behind_haproxy.url}/v1/audio/transcriptions"
    refused = httpx.post(url, files={"file": sentence}, data={"model": "reader"}, headers={"X-Request-Id": "mine"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert refused.headers.get_list("x-request-id") == ["mine"]
    assert httpx.get(f"{behind_haproxy.url}/health").status_code == 200


def configuration(server: Server) -> str:
    """HAProxy's own, as it runs."""
    for process in psutil.Process(server.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            words = process.cmdline()
            if "-dS" in words:
                return Path(words[words.index("-f") + 1]).read_text()
    raise AssertionError("HAProxy does not run")


def until_it_says(server: Server, text: str) -> None:
    """Serve writes the file before it starts the program anew, which then adds to it: so not at every moment."""
    wait_until(lambda: configuration(server).count(text) == 1, f"one {text!r}", 10)


def test_one_that_is_replaced_may_finish_what_it_has(behind_haproxy: Server) -> None:
    """RTW-10: a session of an hour, the longest that the limits allow."""
    until_it_says(behind_haproxy, "\n    hard-stop-after 3960s\n")


def test_it_asks_whether_a_silent_replica_is_still_there(behind_haproxy: Server) -> None:
    until_it_says(behind_haproxy, DEFAULTS + KEEPALIVE)


def test_an_upload_of_25_mb(behind_haproxy: Server, long_audio: CodedAudio) -> None:
    """TRP-01: with a header, as large as it may be; a byte more is refused in our own words."""
    missing_s = (MAX_BYTES - 44) / 2 / 16_000 - long_audio.duration_s
    samples = np.concatenate([long_audio.samples, np.zeros(int(missing_s * 16_000), np.int16)])
    file = CodedAudio(samples, np.zeros(0, bool)).file("WAV")
    assert MAX_BYTES - 2_000 < len(file) <= MAX_BYTES
    with client_of(behind_haproxy) as client:
        whole = client.post("/v1/audio/transcriptions", files={"file": file}, data={"model": "reader"})
        assert whole.status_code == 200, whole.text
        assert whole.json()["usage"]["seconds"] == pytest.approx(len(file) / 32_000, abs=1)
        body = file + bytes(MAX_BYTES + 1 - len(file))
        refused = client.post("/v1/audio/transcriptions", files={"file": body}, data={"model": "reader"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")


def test_a_stream_comes_as_it_is_written(behind_haproxy: Server, sentence: bytes) -> None:
    """GEN-11: nothing on the way waits for the end of an answer to pass its beginning on."""
    whole = behind_haproxy.client.audio.transcriptions.create(model="reader", file=sentence).text
    fields = {"model": "reader", "stream": "true", "prompt": "6"}
    with (
        client_of(behind_haproxy) as client,
        client.stream("POST", "/v1/audio/transcriptions", files={"file": sentence}, data=fields) as response,
    ):
        assert response.status_code == 200
        lines = response.iter_lines()
        assert next(lines) == ""
        assert total(behind_haproxy, "vllm:num_requests_running") == 1
        events = list(read_events(lines))
    assert "".join(event["delta"] for event in events if event["type"] == "transcript.text.delta") == whole


async def test_a_client_that_leaves_is_worked_for_no_longer(behind_haproxy: Server, sentence: bytes) -> None:
    """CON-03: also one that waits for a whole answer, each time."""

    async def until(num_running: int, what: str) -> None:
        def is_so() -> bool:
            return total(behind_haproxy, "vllm:num_requests_running") == num_running

        await asyncio.to_thread(wait_until, is_so, what, 10)

    for _ in range(8):
        async with AsyncOpenAI(base_url=f"{behind_haproxy.url}/v1", api_key=KEY, max_retries=0) as client:
            asking = client.audio.transcriptions.create(model="reader", file=sentence, prompt="60")
            asked = asyncio.create_task(asking)
            await until(1, "a request in flight")
            asked.cancel()
            await asyncio.wait([asked])
        assert asked.cancelled()
        await until(0, "nothing in flight")


def test_a_realtime_session(behind_haproxy: Server, sentence: bytes) -> None:
    """RTW-03, RTW-04: also with an event as large as it may be."""
    samples, _ = soundfile.read(io.BytesIO(sentence), dtype="float32")
    with connected(behind_haproxy, "?model=steady", Authorization=f"Bearer {KEY}") as session:
        assert session.next()["type"] == "session.created"
        assert session.configure(turn_detection=None)["type"] == "session.updated"
        session.append(bytes(15 * 1_048_576 // 4 * 3), piece=15 * 1_048_576)
        session.send("input_audio_buffer.clear")
        assert session.until("input_audio_buffer.cleared", "error")["type"] == "input_audio_buffer.cleared"
        session.append(pcm(np.asarray(samples, np.float32)))
        session.commit()
        (turn,) = session.completed()
    assert turn["type"].endswith(".completed"), turn
    assert turn["transcript"]


def test_a_socket_without_a_key_is_refused_before_the_upgrade(behind_haproxy: Server) -> None:
    """RTW-14's kind of answer: an HTTP status."""
    with pytest.raises(InvalidStatus) as refused, connected(behind_haproxy):
        pass
    assert refused.value.response.status_code == 401
