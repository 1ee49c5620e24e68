"""One server of scripted engines for all tests of the running graph."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import RunningServer, Server, free_port
from tests.serve.coded_audio import CodedAudio, join, pause, speech_clips, ten_minutes
from tests.serve.records import Records
from tests.serve.tools import is_healthy, total, wait_until

ENGINES = "tests.serve.scripted_engine"
DIARIZER = "tests.serve.scripted_diarizer:ScriptedDiarizer"
CHAT = "tests.serve.scripted_chat:Counter"
CHAT_MODELS = ("counter", "narrow-chat", "elastic-chat")
MAX_AUDIO_S = 900.0
MAX_WINDOW_S = 60.0
LIMITED_KEY, OTHER_LIMITED_KEY, FREE_KEY = "sk-limited", "sk-other-limited", "sk-free"
REQUESTS_PER_HOUR = 30
UNLOAD_AFTER_S = 6


def pytest_itemcollected(item: pytest.Item) -> None:
    """What shares a server runs in one process; files with a server of their own may run beside it."""
    for server in ("scripted_server", "napping"):
        if server in item.fixturenames:  # type: ignore[attr-defined]
            item.add_marker(pytest.mark.xdist_group(server))
    if (
        "haproxy" in item.path.name
    ):  # two at once would send to each other's replicas, by the ports that Serve gives them
        item.add_marker(pytest.mark.xdist_group("tests/serve/haproxy"))


def scripted_model(name: str, engine: str, seconds: float) -> dict[str, Any]:
    """What is sent twice is worked on twice."""
    return {"id": name, "engine": f"{ENGINES}:{engine}", "source": str(seconds), "cache_mb": 0}


def light(name: str, **options: Any) -> dict[str, Any]:
    """A deployment that fits on a small machine and stops quickly."""
    stopping = {"graceful_shutdown_wait_loop_s": 0.2, "graceful_shutdown_timeout_s": 3}
    return {"name": name, **stopping, "ray_actor_options": {"num_cpus": 0.1}, **options}


def serve_config(models: list[dict[str, Any]], deployments: list[dict[str, Any]], **args: Any) -> dict[str, Any]:
    return {
        "http_options": {"host": "127.0.0.1", "port": free_port()},
        "applications": [
            {
                "name": "auricle",
                "route_prefix": "/",
                "import_path": "deployments.app:build",
                "args": {"models": models, **args},
                "deployments": deployments,
            }
        ],
    }


def scripted_config(records: Path) -> dict[str, Any]:
    """reader: reads codes at once. narrow: one chunk at a time, one more may wait. steady: 2 s a chunk.
    elastic: one or two replicas. dormant: none until somebody asks. talker: reads numbers, with speakers; two windows
    may be with the diarizer and two more wait. counter: chats. narrow-chat: one answer at a time, one more may wait.
    elastic-chat: none to two replicas."""
    quickly = {"look_back_period_s": 2, "metrics_interval_s": 0.5, "upscale_delay_s": 1, "downscale_delay_s": 2}
    return serve_config(
        [
            scripted_model("reader", "CodeReader", 0),
            scripted_model("narrow", "CodeReader", 1.5),
            scripted_model("steady", "Slow", 2),
            scripted_model("elastic", "Slow", 1),
            scripted_model("dormant", "Slow", 0),
            {"id": "talker", "engine": f"{ENGINES}:Talker", "source": str(records), "family": "diarize"},
            *({"id": name, "task": "chat", "engine": CHAT, "source": str(records)} for name in CHAT_MODELS),
        ],
        [
            light("ingress"),
            light("audio", max_ongoing_requests=16, max_queued_requests=64),
            light("asr-reader", max_ongoing_requests=32),
            light("asr-narrow", max_ongoing_requests=1, max_queued_requests=1),
            light("asr-steady", max_ongoing_requests=8),
            light(
                "asr-elastic",
                max_ongoing_requests=8,
                autoscaling_config={"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 1, **quickly},
            ),
            light(
                "asr-dormant",
                autoscaling_config={"min_replicas": 0, "initial_replicas": 0, "max_replicas": 1, **quickly},
            ),
            light("asr-talker", max_ongoing_requests=32),
            light("diarization", max_ongoing_requests=2, max_queued_requests=2),
            light("chat-counter", max_ongoing_requests=32, user_config={"max_batch_size": 32, "max_step_s": 3}),
            light("chat-narrow-chat", max_ongoing_requests=1, max_queued_requests=1),
            light(
                "chat-elastic-chat",
                max_ongoing_requests=8,
                autoscaling_config={
                    "min_replicas": 0,
                    "initial_replicas": 0,
                    "max_replicas": 2,
                    "target_ongoing_requests": 1,
                    **quickly,
                },
            ),
        ],
        diarization={"engine": DIARIZER, "source": str(records), "max_window_s": MAX_WINDOW_S},
        limits={"max_audio_s": MAX_AUDIO_S},
    )


@pytest.fixture(scope="session")
def records_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="session")
def scripted_server(tmp_path_factory: pytest.TempPathFactory, records_directory: Path) -> Iterator[Server]:
    with RunningServer(scripted_config(records_directory), tmp_path_factory.mktemp("scripted")) as running:
        yield running


def napping_config(records: Path) -> dict[str, Any]:
    """Three ingress replicas, two models and a diarizer that are unloaded while nobody asks."""
    aliases = [{"id": "nap-diarize", "family": "diarize"}]
    models = [
        {**scripted_model("nap", "CodeReader", 0), "aliases": aliases, "unload_after_s": UNLOAD_AFTER_S},
        {"id": "chat-nap", "task": "chat", "engine": CHAT, "source": str(records), "unload_after_s": UNLOAD_AFTER_S},
    ]
    deployments = [
        light("ingress", num_replicas=3),
        light("audio", max_ongoing_requests=16),
        light("asr-nap"),
        light("chat-chat-nap"),
        light("diarization"),
    ]
    diarization = {"engine": DIARIZER, "source": str(records), "unload_after_s": UNLOAD_AFTER_S}
    return serve_config(models, deployments, diarization=diarization)


@pytest.fixture(scope="session")
def napping_logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("napping-logs")


@pytest.fixture(scope="session")
def napping(tmp_path_factory: pytest.TempPathFactory, records_directory: Path, napping_logs: Path) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("napping")
    limited = {"limited": LIMITED_KEY, "other-limited": OTHER_LIMITED_KEY}
    keys = [{"name": name, "key": key, "requests_per_hour": REQUESTS_PER_HOUR} for name, key in limited.items()]
    (directory / "keys.yaml").write_text(yaml.safe_dump({"keys": keys}))
    config = napping_config(records_directory)
    config["logging_config"] = {"logs_dir": str(napping_logs)}
    environment = {"AURICLE_API_KEYS": FREE_KEY, "AURICLE_API_KEYS_FILE": str(directory / "keys.yaml")}
    with RunningServer(config, directory, **environment) as running:
        yield running


@pytest.fixture
def scripted(scripted_server: Server) -> Server:
    """The server, whole and idle again whatever the test before did to it."""
    wait_until(lambda: is_healthy(scripted_server), "a healthy server")
    wait_until(lambda: total(scripted_server, "vllm:num_requests_running") == 0, "idle models")
    return scripted_server


@pytest.fixture
def records(scripted: Server, records_directory: Path) -> Records:
    """Empty; nobody is released."""
    empty = Records(records_directory)
    empty.clear()
    return empty


@pytest.fixture(scope="session")
def coded_clips() -> list[CodedAudio]:
    return speech_clips()


@pytest.fixture(scope="session")
def long_audio(coded_clips: list[CodedAudio]) -> CodedAudio:
    return ten_minutes(coded_clips)


@pytest.fixture(scope="session")
def sentence(coded_clips: list[CodedAudio]) -> bytes:
    """One chunk of speech."""
    return join(pause(0.5), coded_clips[0], pause(0.5)).file()
