"""What the chat deployment refuses when it starts."""

from pathlib import Path
from typing import Any

import pytest

from deployments.chat.deployment import ChatDeployment
from deployments.model_configs import ChatModelConfig
from pipelines.errors import ConfigurationError

HEARS_BY_ITSELF = "tests.serve.scripted_chat:Counter"


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a replica is given threads; outside of one, asking Ray would start it."""
    monkeypatch.setattr("deployments.chat.deployment.assigned_threads", lambda: 1)


def started(source: Path, hears: str | None) -> Any:
    model = ChatModelConfig(
        id="counter", task="chat", engine=HEARS_BY_ITSELF, source=str(source), device="cpu", hears=hears
    )
    return ChatDeployment.func_or_class(model)


async def test_cht_35_a_model_with_ears_needs_no_others(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="hears by itself: leave out 'hears: whisper-1'"):
        started(tmp_path, "whisper-1")
    assert started(tmp_path, None)
