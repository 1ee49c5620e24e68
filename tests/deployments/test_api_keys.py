"""Keys as the environment and a file say them."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.api_keys import KeyEntry, api_keys, read_keys
from deployments.environment import API_KEYS_FILE_VARIABLE, API_KEYS_VARIABLE
from deployments.ingress.http.keys import ApiKey, check_key, digest_of
from pipelines.errors import ConfigurationError

DIGEST = hashlib.sha256(b"sk-ben").hexdigest()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEYS_VARIABLE, raising=False)
    monkeypatch.delenv(API_KEYS_FILE_VARIABLE, raising=False)


def written(directory: Path, *entries: Any) -> Path:
    path = directory / "keys.yaml"
    path.write_text(yaml.safe_dump({"keys": list(entries)}))
    path.chmod(0o600)
    return path


def anna(**changes: Any) -> dict[str, Any]:
    return {"name": "anna", "key": "sk-anna", **changes}


def mistake(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_keys(path)
    assert "sk-" not in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.message.removeprefix(f"{path}: ")


def test_every_key_of_an_entry(tmp_path: Path) -> None:
    limits = {"requests_per_hour": 100, "audio_minutes_per_hour": 1.5, "max_sessions": 0}
    assert {"name", "key", "sha256", *limits} == KeyEntry.model_fields.keys()
    keys = read_keys(written(tmp_path, anna(**limits), {"name": "ben", "sha256": DIGEST.upper()}))
    assert keys == (ApiKey("anna", digest_of("sk-anna"), 100, 1.5, 0), ApiKey("ben", DIGEST))
    assert check_key("sk-anna", keys) is keys[0]
    assert check_key("sk-ben", keys) is keys[1]


def test_nobody_needs_a_key_where_none_is_said() -> None:
    assert api_keys() == ()


def test_both_variables_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEYS_VARIABLE, "sk-one, sk-two,sk-one")
    monkeypatch.setenv(API_KEYS_FILE_VARIABLE, str(written(tmp_path, anna(requests_per_hour=5))))
    keys = api_keys()
    assert [(key.name, key.requests_per_hour) for key in keys] == [("key-1", None), ("key-2", None), ("anna", 5)]
    assert [check_key(sent, keys) for sent in ("sk-one", "sk-two", "sk-anna")] == list(keys)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (anna(key="sk-other"), "Two API keys have the same name: 'anna'."),
        (anna(name="Anna"), "Two API keys have the same key: 'anna' and 'Anna'."),
        ({"name": "b", "sha256": digest_of("sk-anna")}, "Two API keys have the same key: 'anna' and 'b'."),
        (anna(name="key-1", key="sk-b"), "Two API keys have the same name: 'key-1'."),
        ({"name": "b", "key": "sk-one"}, "Two API keys have the same key: 'key-1' and 'b'."),
    ],
)
def test_nothing_is_there_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: dict[str, Any], sentence: str
) -> None:
    monkeypatch.setenv(API_KEYS_VARIABLE, "sk-one")
    monkeypatch.setenv(API_KEYS_FILE_VARIABLE, str(written(tmp_path, anna(), entry)))
    with pytest.raises(ConfigurationError) as caught:
        api_keys()
    assert caught.value.message == sentence


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (
            anna(request_per_hour=1),
            "There is something unknown in keys.0, which may have: name, key, sha256, "
            "requests_per_hour, audio_minutes_per_hour, max_sessions.",
        ),
        (
            anna(**{"sk-secret": None}),
            "There is something unknown in keys.0, which may have: name, key, sha256, "
            "requests_per_hour, audio_minutes_per_hour, max_sessions.",
        ),
        ({"key": "sk-anna"}, "keys.0.name: Field required."),
        (anna(name=""), "keys.0.name: String should have at least 1 character."),
        (anna(key=""), "keys.0.key: String should have at least 1 character."),
        (anna(key=7), "keys.0.key: Input should be a valid string."),
        ({"name": "anna"}, "keys.0: It needs either 'key' or 'sha256'."),
        (anna(sha256=DIGEST), "keys.0: It needs either 'key' or 'sha256'."),
        (anna(requests_per_hour=0), "keys.0.requests_per_hour: Input should be greater than or equal to 1."),
        (anna(audio_minutes_per_hour=0), "keys.0.audio_minutes_per_hour: Input should be greater than 0."),
        (anna(max_sessions=-1), "keys.0.max_sessions: Input should be greater than or equal to 0."),
    ],
)
def test_every_mistake_is_one_sentence_without_the_key(tmp_path: Path, entry: dict[str, Any], sentence: str) -> None:
    assert mistake(written(tmp_path, entry)) == sentence


def test_a_key_with_a_blank_could_not_be_sent(tmp_path: Path) -> None:
    assert mistake(written(tmp_path, anna(key="sk anna"))).startswith("keys.0.key: String should match pattern")


@pytest.mark.parametrize("text", ["", "keys: []", "keys: {sk-anna: 1}", "- name: anna", "keys: [", "sk-anna: {"])
def test_what_is_no_key_file_is_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    assert mistake(path).endswith(".")


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    assert mistake(tmp_path / "none.yaml") == "No such file or directory."


@pytest.mark.parametrize(
    ("entry", "mode", "warns"),
    [
        (anna(), 0o644, True),
        (anna(), 0o640, False),
        ({"name": "ben", "sha256": DIGEST}, 0o644, False),
    ],
)
def test_a_file_of_keys_that_all_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, entry: dict[str, Any], mode: int, warns: bool
) -> None:
    path = written(tmp_path, entry)
    path.chmod(mode)
    with caplog.at_level(logging.WARNING, "ray.serve"):
        logging.getLogger("ray.serve").addHandler(caplog.handler)
        read_keys(path)
        logging.getLogger("ray.serve").removeHandler(caplog.handler)
    assert [str(path) in record.getMessage() for record in caplog.records][:1] == ([True] if warns else [])
