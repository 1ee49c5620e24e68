"""What an ingress replica says instead of starting, where it runs on a cluster that somebody else has started."""

from typing import Any

import pytest
from ray.serve.exceptions import RayServeException

from deployments.environment import API_KEYS_FILE_VARIABLE, API_KEYS_VARIABLE, HAPROXY_VARIABLE
from deployments.ingress.deployment import IngressDeployment
from deployments.settings import Settings
from pipelines.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (API_KEYS_FILE_VARIABLE, API_KEYS_VARIABLE, HAPROXY_VARIABLE):
        monkeypatch.delenv(variable, raising=False)


def start(**args: Any) -> None:
    settings = Settings.model_validate({"models": [{"id": "openai/whisper-tiny"}], **args})
    ingress: Any = IngressDeployment.func_or_class.__bases__[0]  # ours, below what Serve makes of it
    ingress(settings, 0, b"signing key", {})


@pytest.mark.parametrize("value", [None, "0", ""])
def test_haproxy_must_be_on_where_ray_was_started(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is not None:
        monkeypatch.setenv(HAPROXY_VARIABLE, value)
    sentence = f"^haproxy is set, but {HAPROXY_VARIABLE}=1 is not in the environment in which Ray was started.$"
    with pytest.raises(ConfigurationError, match=sentence):
        start(haproxy=True)


def test_required_keys_must_be_there() -> None:
    with pytest.raises(ConfigurationError, match=f"^require_api_key is set, but {API_KEYS_VARIABLE} and .* are empty"):
        start(require_api_key=True)


def test_with_both_it_gets_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """To where it asks Serve which replica it is."""
    monkeypatch.setenv(HAPROXY_VARIABLE, "1")
    monkeypatch.setenv(API_KEYS_VARIABLE, "sk-1")
    with pytest.raises(RayServeException, match="get_replica_context"):
        start(haproxy=True, require_api_key=True)
