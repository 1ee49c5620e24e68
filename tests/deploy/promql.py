"""What the board and the rules ask of Prometheus."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser
import yaml

from tests.conftest import ROOT

BOARD = ROOT / "deploy" / "grafana" / "auricle.json"
RULES = ROOT / "deploy" / "prometheus" / "rules.yaml"


@dataclass(frozen=True)
class Selector:
    """A metric, and the labels that are asked of it."""

    metric: str
    labels: frozenset[str]


def board() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(BOARD.read_text())
    return read


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def board_expressions() -> list[str]:
    targets = [target for panel in board()["panels"] for target in panel.get("targets", [])]
    return [target["expr"].replace("$__rate_interval", "5m") for target in targets]


def rule_expressions() -> list[str]:
    return [rule["expr"] for rule in rules()]


def selectors(expression: str) -> set[Selector]:
    return set(_selectors(promql_parser.parse(expression), frozenset()))


def asked() -> set[Selector]:
    """All that is asked, but for what Prometheus makes itself."""
    found = {selector for text in [*board_expressions(), *rule_expressions()] for selector in selectors(text)}
    return {selector for selector in found if selector.metric != "up"}


def _selectors(node: Any, grouped: frozenset[str]) -> Iterator[Selector]:
    """Of a tree of PromQL. `grouped`: labels that are kept by what is around it."""
    match node:
        case promql_parser.VectorSelector():
            matched = {matcher.name for matcher in node.matchers.matchers}
            yield Selector(node.name, grouped | matched)
        case promql_parser.MatrixSelector():
            yield from _selectors(node.vector_selector, grouped)
        case promql_parser.AggregateExpr():
            kept = frozenset(node.modifier.labels) if node.modifier else frozenset()
            yield from _selectors(node.expr, kept)
        case promql_parser.Call():
            for argument in node.args:
                yield from _selectors(argument, grouped)
        case promql_parser.BinaryExpr():
            yield from _selectors(node.lhs, grouped)
            yield from _selectors(node.rhs, grouped)
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
            yield from _selectors(node.expr, grouped)
        case _:
            assert isinstance(node, promql_parser.NumberLiteral), node


def legend_labels(text: str) -> set[str]:
    return set(re.findall(r"{{\s*(?:\$labels\.)?(\w+)\s*}}", text))
