from typing import Any

import pytest
from ray.serve.schema import ServeDeploySchema

from deployments.launching import _invitation, check_environment
from pipelines.errors import ConfigurationError
from tests.conftest import embedded_config

CHAT = {"id": "talker", "task": "chat", "source": "x"}


def config(**args: Any) -> ServeDeploySchema:
    return ServeDeploySchema.model_validate(embedded_config(**args))


@pytest.mark.parametrize("keys", ["", "sk-1"])
def test_the_invitation_has_a_key_where_one_is_needed(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    monkeypatch.setenv("AURICLE_API_KEYS", keys)
    monkeypatch.delenv("AURICLE_API_KEYS_FILE", raising=False)
    text = _invitation("http://127.0.0.1:8000", config())
    assert "curl http://127.0.0.1:8000/v1/audio/transcriptions" in text
    assert ('-H "Authorization: Bearer $API_KEY"' in text) == bool(keys)


def test_a_server_that_only_chats_invites_to_a_chat() -> None:
    text = _invitation("http://127.0.0.1:8000", config(models=[CHAT], diarization=None))
    assert "/v1/chat/completions" in text
    assert '"model": "talker"' in text


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("AURICLE_ALLOWED_MEDIA_HOSTS", "minio,10.0.0.0/8", "'10.0.0.0/8' is no host"),
        ("AURICLE_CORS_ORIGINS", "https://app.example,app.example", "'app.example' is no origin"),
    ],
)
def test_what_the_environment_says_wrongly_is_told_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=words):
        check_environment(config())
