"""The board and the alerts, as files."""

import re

import pytest
import yaml

from tests.conftest import ROOT
from tests.deploy.promql import asked, board, board_expressions, legend_labels, rule_expressions, rules, selectors

OPERATIONS = ROOT / "docs" / "operations.md"
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"


def test_the_board_asks_something_in_every_panel() -> None:
    panels = [panel for panel in board()["panels"] if panel["type"] != "row"]
    assert len(panels) >= 20
    assert all(target["expr"] for panel in panels for target in panel["targets"])
    assert all(panel["targets"] for panel in panels)


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = board()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("expression", [*board_expressions(), *rule_expressions()])
def test_every_expression_is_promql_about_a_metric(expression: str) -> None:
    assert selectors(expression)


def test_legends_name_labels_that_are_kept() -> None:
    targets = [target for panel in board()["panels"] for target in panel.get("targets", [])]
    for target in targets:
        expression = target["expr"].replace("$__rate_interval", "5m")
        kept = set.intersection(*({*selector.labels} for selector in selectors(expression)))
        assert legend_labels(target["legendFormat"]) <= kept, target


def test_counts_are_summed_as_rates_alone() -> None:
    """A replica's count begins again at none when it is replaced: only rates of them add up."""
    texts = [*board_expressions(), *rule_expressions()]
    counts = [text for text in texts if re.search(r"auricle_\w+_(total|bucket|count|sum)\b", text)]
    assert counts
    for text in counts:
        raw = re.sub(r"rate\(auricle_\w+(\{[^}]*\})?\[5m\]\)", "", text)
        assert not re.search(r"auricle_\w+_(total|bucket|count|sum)\b", raw), text


def test_every_alert_says_what_and_where_to_read_on() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) >= 8
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_every_runbook_is_a_section() -> None:
    sections = {title.lower() for title in re.findall(r"^#+ (\w+)$", OPERATIONS.read_text(), re.M)}
    assert {rule["alert"].lower() for rule in rules()} <= sections


def test_every_summary_names_labels_that_are_kept() -> None:
    for rule in rules():
        kept = {"instance"}.union(*(selector.labels for selector in selectors(rule["expr"])))
        named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert named <= kept, rule["alert"]


def test_grafana_is_given_the_board_and_its_source() -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "auricle.yaml").read_text())["providers"]
    (variable,) = board()["templating"]["list"]
    assert variable["query"] == source["type"] == "prometheus"
    compose = yaml.safe_load((ROOT / "deploy" / "docker" / "compose.yaml").read_text())
    assert (
        f"../grafana/auricle.json:{provider['options']['path']}/auricle.json:ro"
        in compose["services"]["grafana"]["volumes"]
    )


def test_there_is_something_to_look_for() -> None:
    metrics = {selector.metric for selector in asked()}
    assert any(metric.startswith("auricle_") for metric in metrics)
    assert any(metric.startswith("ray_serve_") for metric in metrics)
