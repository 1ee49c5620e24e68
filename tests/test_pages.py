"""What the documents say is what the code says."""

import ast
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from deployments.decoding.deployment import UserConfig
from deployments.ingress.chat.schema import ChatRequest
from deployments.ingress.realtime.schema import CLIENT_EVENTS, TranscriptionConfig, TurnDetectionConfig
from deployments.ingress.transcription.schema import TranscriptionRequest
from deployments.model_configs import FAMILY_PATTERNS, ChatModelConfig, DiarizationConfig
from deployments.settings import LimitsConfig, MediaConfig
from docs.make_configuration import PAGE, TABLES, page
from tests.conftest import ROOT
from tests.documents import PAGES, anchors, rows, section

LIMITS, OPERATIONS, MIGRATING = (ROOT / "docs" / f"{name}.md" for name in ("limits", "operations", "migrating"))

LINKED = [*PAGES, ROOT / "deploy" / "README.md", ROOT / "models" / "README.md"]

LIMITED: dict[str, type[BaseModel]] = {
    "limits": LimitsConfig,
    "media": MediaConfig,
    "models[]": ChatModelConfig,
    "user_config": UserConfig,
    "diarization": DiarizationConfig,
}

RULES = ROOT / "deploy" / "prometheus" / "rules.yaml"


def test_the_configuration_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run python -m docs.make_configuration"


def test_every_key_has_a_meaning() -> None:
    for _, prefix, model in TABLES:
        for name, field in model.model_fields.items():
            assert field.description, f"{prefix}{name}"
    assert all(f"`{pattern}`" in page() for pattern in FAMILY_PATTERNS)


def test_every_variable_has_a_meaning() -> None:
    code = "".join(path.read_text() for room in ("deployments", "models") for path in (ROOT / room).rglob("*.py"))
    variables = set(re.findall(r'"(AURICLE_[A-Z_]+)"', code))
    assert len(variables) > 3
    assert all(f"`{variable}`" in page() for variable in variables)


def test_limits_that_can_be_set_are_the_settings() -> None:
    told = [cells for cells in rows(LIMITS, "## Set in a configuration") if cells[0].partition(".")[0][1:] in LIMITED]
    for key, default, *_ in told:
        owner, _, name = key.strip("`").partition(".")
        value = LIMITED[owner].model_fields[name].default
        assert default == ("none" if value is None else f"`{value:g}`" if isinstance(value, float) else f"`{value}`"), (
            key
        )
    named = {key.strip("`") for key, *_ in told}
    assert {f"limits.{name}" for name in LimitsConfig.model_fields} <= named


def test_fixed_limits_are_the_codes() -> None:
    told = [cells for cells in rows(LIMITS, "## Fixed") if cells[0] != "what"]
    assert len(told) > 20
    for what, value, place, _ in told:
        module, _, name = place.strip("`").partition(":")
        assert float(value) == getattr(import_module(module), name), what


def log_lines() -> set[str]:
    """The words of every line that our own code logs."""
    files = [path for room in ("deployments", "models", "pipelines") for path in (ROOT / room).rglob("*.py")]
    calls = [node for path in files for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    logged = [call for call in calls if ast.unparse(call.func).startswith("logger.") and call.args]
    return {call.args[0].value for call in logged if isinstance(call.args[0], ast.Constant)}


def test_every_log_line_is_told_of() -> None:
    told = {cells[0].strip("`") for cells in rows(OPERATIONS, "## Logs")}
    assert len(log_lines()) > 15
    assert log_lines() <= told


def test_every_alert_has_a_section() -> None:
    told = re.findall(r"^### (\w+)$", section(OPERATIONS.read_text(), "## Alerts"), re.MULTILINE)
    assert set(re.findall(r"alert: (\w+)", RULES.read_text())) <= set(told)
    assert set(re.findall(r"runbook: docs/operations.md#(\w+)", RULES.read_text())) <= anchors(OPERATIONS)
    for alert in told:
        text = section(OPERATIONS.read_text(), f"### {alert}")
        assert all(f"**{word}:**" in text for word in ("Means", "Look", "Do")), alert


@pytest.mark.parametrize("model", [TranscriptionRequest, ChatRequest, TranscriptionConfig, TurnDetectionConfig])
def test_every_parameter_is_told_of(model: type[BaseModel]) -> None:
    text = MIGRATING.read_text()
    assert [name for name in model.model_fields if f"`{name}`" not in text] == []


def test_every_event_that_a_client_may_send_is_told_of() -> None:
    assert all(f"`{event}`" in MIGRATING.read_text() for event in CLIENT_EVENTS)


def links() -> list[Any]:
    found = [(path, link) for path in LINKED for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text())]
    return [pytest.param(*one, id=f"{one[0].name}-{one[1]}") for one in found if "://" not in one[1]]


@pytest.mark.parametrize(("path", "link"), links())
def test_links_lead_somewhere(path: Path, link: str) -> None:
    name, _, anchor = link.partition("#")
    target = path.parent / name if name else path
    assert target.exists()
    assert not anchor or anchor in anchors(target)
