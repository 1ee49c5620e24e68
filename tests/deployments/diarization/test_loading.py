"""Where pipelines come from: a directory or a hub, without a word to anybody else, or else one clear sentence."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks.scoring import Conversation
from deployments.diarization.loading import load_pipeline
from deployments.diarization.windowed_pipeline import EMBEDDING_FILE, SEGMENTATION_FILE
from pipelines.audio_types import SAMPLE_RATE_HZ
from pipelines.errors import ConfigurationError
from tests.conftest import ROOT

TOKEN = "hf_ThisIsASecretOfTheOperator"


def refusal(source: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_pipeline(source)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value.message


def is_one_sentence(text: str) -> bool:
    return "\n" not in text and text.endswith(".") and len(text) < 400


def run(script: str, **environment: str | None) -> Any:
    """What `script` prints last, as JSON, in a process whose environment has no word about the hub or telemetry."""
    names = ("HF_", "PYANNOTE_", "HUGGING")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    changed = {name: value for name, value in environment.items() if value is not None}
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**inherited, "OMP_NUM_THREADS": "1", **changed},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr[-4_000:]
    answer = json.loads(ran.stdout.splitlines()[-1])
    return {**answer, "log": ran.stdout + ran.stderr}


# directories


@pytest.fixture
def directory(tmp_path: Path, checkpoint: Path) -> Path:
    """A copy of the embedded pipeline whose parts may be replaced."""
    for part in ("segmentation", "embedding"):
        (tmp_path / part).symlink_to(checkpoint / part)
    (tmp_path / "config.yaml").write_text((checkpoint / "config.yaml").read_text())
    return tmp_path


def change(directory: Path, **parameters: Any) -> None:
    """Of the pipeline in `config.yaml`."""
    config = yaml.safe_load((directory / "config.yaml").read_text())
    config["pipeline"]["params"].update(parameters)
    (directory / "config.yaml").write_text(yaml.safe_dump(config))


def test_a_directory_is_loaded(directory: Path) -> None:
    assert load_pipeline(str(directory)).instantiated


@pytest.mark.parametrize("name", ["", "nowhere/to/be/found", "/nowhere", "models"])
def test_what_is_no_directory_of_a_pipeline(name: str) -> None:
    sentence = refusal(name)
    assert is_one_sentence(sentence)
    assert f"'{name}'" in sentence
    assert "config.yaml" in sentence


def test_a_directory_without_a_config(directory: Path) -> None:
    (directory / "config.yaml").unlink()
    sentence = refusal(str(directory))
    assert is_one_sentence(sentence)
    assert str(directory) in sentence
    assert "config.yaml" in sentence


def test_a_pipeline_for_something_else(directory: Path) -> None:
    pipeline = {"name": "pyannote.audio.pipelines.VoiceActivityDetection", "params": {}}
    (directory / "config.yaml").write_text(yaml.safe_dump({"pipeline": pipeline}))
    change(directory, segmentation="$model/segmentation")
    sentence = refusal(str(directory))
    assert is_one_sentence(sentence)
    assert str(directory) in sentence
    assert "diarization" in sentence


@pytest.mark.parametrize("source", ["nobody/nothing", "nothing"])
def test_offline_without_a_copy_in_the_cache(source: str) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    sentence = refusal(source)
    assert is_one_sentence(sentence)
    assert f"'{source}'" in sentence
    assert "cache" in sentence


def damage(directory: Path, what: str) -> None:
    config = directory / "config.yaml"
    match what:
        case "config of bad YAML":
            config.write_text("pipeline: [\n")
        case "empty config":
            config.write_text("")
        case "config of something else":
            config.write_text("models: []\n")
        case "unknown class":
            config.write_text(yaml.safe_dump({"pipeline": {"name": "nowhere.Nothing", "params": {}}}))
        case "unknown parameter":
            change(directory, colour="blue")
        case "another pyannote.audio":
            config.write_text(config.read_text().replace("pyannote.audio: 4.0.7", "pyannote.audio: 9.0.0"))
        case "pointer of Git LFS":
            (directory / "embedding").unlink()
            (directory / "embedding").mkdir()
            (directory / "embedding" / EMBEDDING_FILE).write_text("version https://git-lfs.github.com/spec/v1\n")
    assert what in DAMAGES


DAMAGES = [
    "config of bad YAML",
    "empty config",
    "config of something else",
    "unknown class",
    "unknown parameter",
    "another pyannote.audio",
    "pointer of Git LFS",
]


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_directory(directory: Path, what: str) -> None:
    damage(directory, what)
    sentence = refusal(str(directory))
    assert is_one_sentence(sentence)
    assert str(directory) in sentence


@pytest.mark.parametrize("part", ["segmentation", "embedding"])
def test_a_directory_without_a_checkpoint(directory: Path, part: str) -> None:
    (directory / part).unlink()
    sentence = refusal(str(directory))
    assert is_one_sentence(sentence)
    assert part in sentence.replace(str(directory), "", 1)


class Harmful:
    """Asks whoever unpickles it to run something."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["TEST_HARM"],)


@pytest.mark.parametrize(("part", "name"), [("segmentation", SEGMENTATION_FILE), ("embedding", EMBEDDING_FILE)])
def test_no_pickle_is_run(
    directory: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, part: str, name: str
) -> None:
    harm = tmp_path_factory.mktemp("harm") / "done"
    monkeypatch.setenv("TEST_HARM", str(harm))
    (directory / part).unlink()
    (directory / part).mkdir()
    torch.save({"state_dict": Harmful()}, directory / part / name)
    assert is_one_sentence(refusal(str(directory)))
    assert not harm.exists()
    torch.load(directory / part / name, weights_only=False)
    assert harm.exists()


def test_a_revision_in_the_id() -> None:
    sentence = refusal("pyannote/speaker-diarization-community-1@main")
    assert is_one_sentence(sentence)


# a hub that refuses

ASKED_HUB = """
import json, os
from deployments.diarization.loading import load_pipeline
from pipelines.errors import ConfigurationError

answers = {}
for token in (None, os.environ.pop("TEST_TOKEN")):
    if token:
        os.environ["HF_TOKEN"] = token
    for source in json.loads(os.environ["TEST_SOURCES"]):
        try:
            load_pipeline(source)
        except ConfigurationError as error:
            answers[f"{source} {'with' if token else 'without'} a token"] = error.message
print()
print(json.dumps({"answers": answers}))
"""

NESTED = {"name": "pyannote.audio.pipelines.SpeakerDiarization", "params": {"segmentation": "gated/segmentation"}}


class RefusingHub(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Refusal)
        self.asked: list[tuple[str, str | None]] = []


class Refusal(BaseHTTPRequestHandler):
    """The organisation in the address tells why, in the words of huggingface.co."""

    server: RefusingHub

    def do_HEAD(self) -> None:
        token = self.headers["Authorization"]
        self.server.asked.append((self.path, token))
        organisation = self.path.split("/")[1]
        body = b""
        if organisation == "gated":
            self.send_response(403 if token else 401)
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("X-Error-Message", "Access to this model is restricted.")
        elif organisation == "nested":
            body = yaml.safe_dump({"pipeline": NESTED}).encode()
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.send_header("X-Repo-Commit", "0" * 40)
        elif organisation == "invalid":
            self.send_response(401)
            self.send_header("X-Error-Message", "Invalid credentials in Authorization header")
        elif organisation == "empty":
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            self.send_response(404 if token else 401)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("X-Error-Message", "Repository not found")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_GET = do_HEAD

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is said of pipelines that a hub refuses, and what it was asked."""
    server = RefusingHub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names = ["gated", "nested", "unknown", "invalid", "empty"]
    try:
        found = run(
            ASKED_HUB,
            HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}",
            HF_HOME=str(tmp_path_factory.mktemp("hub")),
            TEST_TOKEN=TOKEN,
            TEST_SOURCES=json.dumps([f"{name}/pipeline" for name in names]),
        )
    finally:
        server.shutdown()
        server.server_close()
    assert len(found["answers"]) == 2 * len(names)
    return {**found, "asked": server.asked}


def test_the_hub_was_asked_with_and_without_the_token(hub: dict[str, Any]) -> None:
    assert {token for path, token in hub["asked"]} == {None, f"Bearer {TOKEN}"}
    assert {path.split("/")[1] for path, _ in hub["asked"]} == {"gated", "nested", "unknown", "invalid", "empty"}


def test_the_token_is_never_told(hub: dict[str, Any]) -> None:
    assert TOKEN not in hub["log"]
    assert TOKEN[3:12] not in json.dumps(hub["answers"])


@pytest.mark.parametrize(
    ("source", "repository"), [("gated/pipeline", "gated/pipeline"), ("nested/pipeline", "gated/segmentation")]
)
def test_a_gated_repository(hub: dict[str, Any], source: str, repository: str) -> None:
    """Its terms must be accepted, which may be those of a repository that the pipeline only needs."""
    without, with_token = (hub["answers"][f"{source} {how} a token"] for how in ("without", "with"))
    for sentence in (without, with_token):
        assert is_one_sentence(sentence)
        assert f"'{source}'" in sentence
        assert f"https://hf.co/{repository} " in sentence.replace(",", " ")
        assert "HF_TOKEN" in sentence
    assert "https://hf.co/settings/tokens" in without
    assert "https://hf.co/settings/tokens" not in with_token


def test_an_unknown_or_private_repository(hub: dict[str, Any]) -> None:
    for how in ("without", "with"):
        sentence = hub["answers"][f"unknown/pipeline {how} a token"]
        assert is_one_sentence(sentence)
        assert "'unknown/pipeline'" in sentence
        assert re.search(r"no diarization pipeline .* or it is private", sentence)
        assert "HF_TOKEN" in sentence


@pytest.mark.parametrize("source", ["invalid/pipeline", "empty/pipeline"])
def test_any_other_refusal(hub: dict[str, Any], source: str) -> None:
    for how in ("without", "with"):
        sentence = hub["answers"][f"{source} {how} a token"]
        assert f"'{source}'" in sentence
        assert is_one_sentence(sentence)


# nobody else is told

WATCHED = """
import json, os, sys, time

calls = []
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"):
        calls.append([event, repr(args[1:] if event != "socket.getaddrinfo" else args)])
        raise OSError("no network in this test")
sys.addaudithook(watch)

import numpy as np
from deployments.diarization.engine import DiarizerArgs
from deployments.diarization.pyannote import PyannoteDiarizer
from pipelines.audio_types import AudioStretch, Waveform

at_import = os.environ["PYANNOTE_METRICS_ENABLED"]
diarizer = PyannoteDiarizer(DiarizerArgs(os.environ["TEST_SOURCE"]))
pcm = np.frombuffer(open(os.environ["TEST_PCM"], "rb").read(), np.int16)
turns = diarizer.diarize(AudioStretch(0, 0.0, pcm), lambda: False).turns
diarizer.embed(Waveform(pcm.astype(np.float32) / 32_767))

from pyannote.audio.telemetry import metrics
metrics.provider.force_flush(2_000)
time.sleep(1)  # twice as long as a span waits
quiet = list(calls)
at_end = metrics.is_metrics_enabled()

# had it been on, this test would have seen it
metrics.set_telemetry_metrics(True)
diarizer.diarize(AudioStretch(0, 0.0, pcm), lambda: False)
for _ in range(100):
    if calls:
        break
    time.sleep(0.1)
print()
print(json.dumps({"turns": len(turns), "enabled": [at_import, at_end], "quiet": quiet, "loud": calls}), flush=True)
os._exit(0)
"""


def test_nobody_is_told_of_what_is_heard(
    tmp_path: Path, checkpoint: Path, conversations: dict[str, Conversation]
) -> None:
    """Though the environment says that everything shall be reported."""
    pcm = tmp_path / "talk.pcm"
    pcm.write_bytes(conversations["talk"].window().pcm[: 10 * SAMPLE_RATE_HZ].tobytes())
    found = run(
        WATCHED, PYANNOTE_METRICS_ENABLED="1", TEST_PCM=str(pcm), TEST_SOURCE=str(checkpoint), HF_HOME=str(tmp_path)
    )
    assert found["turns"] >= 3
    assert found["enabled"] == ["0", False]
    assert found["quiet"] == []
    assert any("pyannote" in arguments for _, arguments in found["loud"])
