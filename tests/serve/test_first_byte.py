"""GEN-11 through the running graph, proxy and all: engines that take 20 s, and one that is not there yet."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.conftest import Server
from tests.support.clocked import Clocked, clocked_form, clocked_json

SLOW_S = 20.0
MARGIN_S = 3.0
"""Replicas start meanwhile; `deployments/ingress/test_first_byte.py` has the sharp bound."""


def transcribed(server: Server, upload: bytes, model: str, **fields: str) -> Clocked:
    return clocked_form(f"{server.url}/v1/audio/transcriptions", upload, model=model, stream="true", **fields)


def chatted(server: Server, model: str, orders: str) -> Clocked:
    messages = [{"role": "user", "content": orders}]
    return clocked_json(f"{server.url}/v1/chat/completions", model=model, messages=messages, stream=True)


def test_gen_11_the_first_byte_comes_in_time(scripted: Server, sentence: bytes) -> None:
    """All at once. A model without a replica has to be loaded, and asked for its languages, first."""
    with ThreadPoolExecutor() as clients:
        slow: list[Any] = [
            clients.submit(transcribed, scripted, sentence, "steady", prompt=str(SLOW_S)),
            clients.submit(chatted, scripted, "counter", f"to=1 pace={SLOW_S}"),
        ]
        loading = [
            clients.submit(transcribed, scripted, sentence, "dormant", prompt="3", language="en"),
            clients.submit(chatted, scripted, "elastic-chat", "to=1 pace=3"),
        ]
        for answer in slow:
            answer.result().check(SLOW_S, MARGIN_S)
        for answer in loading:
            answer.result().check(3, MARGIN_S)
    for answer in (*slow, *loading):
        assert "error" not in answer.result().events[-1]
