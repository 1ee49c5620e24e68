"""Chat on the running graph: answers in pieces, lost replicas, full queues, clients that leave, one batch for all."""

import json
import time
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import httpx
import pytest

from tests.conftest import Server
from tests.serve.coded_audio import CodedAudio, join, pause
from tests.serve.records import Records
from tests.serve.scripted_chat import WHO
from tests.serve.scripted_diarizer import quiet
from tests.serve.tools import (
    TIMEOUT_S,
    assert_refusal,
    is_healthy,
    kill_replica,
    num_running,
    replica_pids,
    total,
    wait_for_another,
    wait_until,
)
from tests.support.sse import read_events

COUNTER, NARROW = "counter", "narrow-chat"
COUNTER_DEPLOYMENT = "chat-counter"
ENDLESS = "to=100000 pace=0.05"


def body_of(orders: str | list[dict[str, Any]], model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": orders}], **fields}


def ask(
    server: Server,
    orders: str | list[dict[str, Any]],
    model: str = COUNTER,
    timeout_s: float = TIMEOUT_S,
    **fields: Any,
) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/chat/completions", json=body_of(orders, model, **fields), timeout=timeout_s)


def stream(server: Server, orders: str, model: str = COUNTER, **fields: Any) -> Iterator[dict[str, Any]]:
    """Chunks up to `[DONE]`; closing the iterator closes the connection."""
    body = body_of(orders, model, stream=True, **fields)
    url = f"{server.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, timeout=TIMEOUT_S) as response:
        assert response.status_code == 200, response.read()
        yield from read_events(response.iter_lines())


def numbers(count: int) -> str:
    return "".join(f"{number} " for number in range(count))


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    text = answer.json()["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text


def is_text(chunk: dict[str, Any]) -> bool:
    return bool(chunk["choices"] and chunk["choices"][0]["delta"].get("content"))


def texts_of(chunks: Sequence[dict[str, Any]]) -> dict[int, str]:
    """By the index of the answer."""
    texts: dict[int, str] = defaultdict(str)
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        texts[choice["index"]] += choice["delta"].get("content", "")
    return dict(texts)


def tokens_of(chunks: Sequence[dict[str, Any]]) -> dict[int, list[str]]:
    tokens: dict[int, list[str]] = defaultdict(list)
    for choice in (choice for chunk in chunks for choice in chunk["choices"] if choice["logprobs"]):
        tokens[choice["index"]] += [token["token"] for token in choice["logprobs"]["content"]]
    return dict(tokens)


def reasons_of(chunks: Sequence[dict[str, Any]]) -> dict[int, str]:
    reasons = [
        (choice["index"], choice["finish_reason"])
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["finish_reason"]
    ]
    assert len(reasons) == len(dict(reasons)), "an answer ends once"
    return dict(reasons)


def named(records: Records, what: str, name: str = "") -> list[dict[str, Any]]:
    return [record for record in records.read(WHO, what) if record["name"] == name]


def audio_part(audio: bytes) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": b64encode(audio).decode(), "format": "wav"}}


# Answers


def test_cht_31_text_comes_while_the_answer_is_written(scripted: Server, records: Records) -> None:
    chunks = stream(scripted, "to=10 wait=5")
    begin = list(islice(chunks, 3))
    assert begin[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert numbers(5).startswith(texts_of(begin)[0])
    assert texts_of(begin)[0]
    assert not records.read(WHO, "ends")
    records.release()
    whole = [*begin, *chunks]
    assert texts_of(whole) == {0: numbers(10)}
    assert reasons_of(whole) == {0: "stop"}
    assert len({chunk["id"] for chunk in whole}) == 1


def test_all_of_an_answer_at_once(scripted: Server, records: Records) -> None:
    answer = ask(scripted, "to=40 pace=0.01", max_tokens=30, logprobs=True)
    assert text_of(answer) == numbers(30)
    (choice,) = answer.json()["choices"]
    assert choice["finish_reason"] == "length"
    assert [token["token"] for token in choice["logprobs"]["content"]] == [f"{number} " for number in range(30)]
    assert answer.json()["usage"]["completion_tokens"] == 30


@pytest.mark.parametrize("streamed", [False, True])
def test_cht_11_several_answers_are_rows_of_one_batch(scripted: Server, records: Records, streamed: bool) -> None:
    orders = "to=6 pace=0.2 say=aboard"
    if streamed:
        chunks = list(stream(scripted, orders, n=3, seed=7))
        texts, reasons = texts_of(chunks), reasons_of(chunks)
    else:
        choices = ask(scripted, orders, n=3, seed=7).json()["choices"]
        texts = {choice["index"]: choice["message"]["content"] for choice in choices}
        reasons = {choice["index"]: choice["finish_reason"] for choice in choices}
    assert reasons == {0: "stop", 1: "stop", 2: "stop"}
    assert [[said.split("@")[0] for said in text.split()] for text in texts.values()] == [numbers(6).split()] * 3
    assert any("@3" in text for text in texts.values())
    assert sorted(record["seed"] for record in records.read(WHO, "joins")) == [7, 8, 9]


def test_strangers_share_a_batch(scripted: Server, records: Records) -> None:
    before = total(scripted, "auricle_batch_size_sum", model=COUNTER)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: text_of(ask(scripted, "to=20 pace=0.1 say=aboard")), range(4)))
    assert max(int(said.split("@")[1]) for text in answers for said in text.split()) == 4
    assert total(scripted, "auricle_batch_size_sum", model=COUNTER) - before > 4


def test_cht_04_audio_arrives_whole_and_in_order(
    scripted: Server, records: Records, coded_clips: list[CodedAudio]
) -> None:
    """Silences included, to the sample."""
    before = total(scripted, "auricle_audio_seconds_total", model=COUNTER, task="chat")
    short = quiet(join(pause(2.0), coded_clips[0], pause(1.0)))
    long = quiet(join(*(part for clip in coded_clips[:20] for part in (clip, pause(1.5)))))
    parts = [audio_part(short.file()), {"type": "text", "text": "say=heard to=2"}, audio_part(long.file("WAV"))]
    answer = ask(scripted, parts)
    assert text_of(answer) == f"0-{len(short.samples)} 0-{len(long.samples)} "
    assert answer.json()["usage"]["prompt_tokens_details"]["audio_tokens"] > 0
    read_s = total(scripted, "auricle_audio_seconds_total", model=COUNTER, task="chat") - before
    assert read_s == pytest.approx(short.duration_s + long.duration_s, abs=0.01)


@pytest.mark.parametrize("streamed", [False, True])
def test_cht_04_bad_audio_is_the_client_s_mistake(scripted: Server, records: Records, streamed: bool) -> None:
    parts = [{"type": "text", "text": "to=2"}, audio_part(b"this is no audio, whatever it says" * 100)]
    answer = ask(scripted, parts, stream=streamed)
    assert_refusal(answer, 400, "invalid_value")
    assert answer.json()["error"]["param"] == "messages[0].content[1].input_audio.data"
    assert not records.read(WHO, "joins")


# Lost replicas


def test_answers_survive_the_loss_of_their_replica(scripted: Server, records: Records) -> None:
    """Two that are streamed, with every token, go on where they were; one that is not is written again."""
    old = replica_pids(scripted, COUNTER_DEPLOYMENT)
    expected = numbers(60)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, scripted, "name=whole to=60 pace=0.05", logprobs=True)
        chunks = stream(scripted, "name=pieces to=60 pace=0.05", n=2, logprobs=True)
        begin: list[dict[str, Any]] = []
        while len(texts_of(begin).get(0, "")) < 20 or not named(records, "joins", "whole"):
            begin.append(next(chunks))
        kill_replica(scripted, COUNTER_DEPLOYMENT)
        whole = [*begin, *chunks]
        answer = asked.result()
    assert "error" not in whole[-1], whole[-1]
    assert texts_of(begin)[0] != expected
    assert texts_of(whole) == {0: expected, 1: expected}
    assert tokens_of(whole) == {0: [f"{number} " for number in range(60)], 1: [f"{number} " for number in range(60)]}
    assert reasons_of(whole) == {0: "stop", 1: "stop"}
    assert text_of(answer) == expected
    assert answer.json()["usage"]["completion_tokens"] == 60
    for name, count in (("whole", 1), ("pieces", 2)):
        pids = [record["pid"] for record in named(records, "joins", name)]
        assert len(pids) == 2 * count
        assert len(set(pids)) == 2
    joins = named(records, "joins", "pieces")
    seeds = [record["seed"] for record in joins]
    assert sorted(seeds[:2]) == sorted(seeds[2:])
    assert all(record["num_said"] > 0 for record in joins[2:])
    wait_for_another(scripted, COUNTER_DEPLOYMENT, old)


@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_that_is_cancelled_below_goes_on(scripted: Server, records: Records, streamed: bool) -> None:
    old = replica_pids(scripted, COUNTER_DEPLOYMENT)
    before = total(scripted, "auricle_requests_total", status="499")
    order = f"to=8 pace=0.1 cancel={3 + streamed}"
    text = texts_of(list(stream(scripted, order)))[0] if streamed else text_of(ask(scripted, order))
    assert text == numbers(8)
    assert total(scripted, "auricle_requests_total", status="499") == before
    assert replica_pids(scripted, COUNTER_DEPLOYMENT) == old


def test_another_replica_need_not_write_the_same(scripted: Server, records: Records) -> None:
    """In bfloat16 none does so for sure: it is told what was written, and nothing is said twice."""
    old = replica_pids(scripted, COUNTER_DEPLOYMENT)
    chunks = stream(scripted, "to=100 pace=0.05 say=pid")
    begin = list(islice(chunks, 5))
    kill_replica(scripted, COUNTER_DEPLOYMENT)
    said = [word.split("@") for word in texts_of([*begin, *chunks])[0].split()]
    assert [int(number) for number, _ in said] == list(range(100))
    assert len({pid for _, pid in said}) == 2
    wait_for_another(scripted, COUNTER_DEPLOYMENT, old)


def test_a_replica_that_hangs_is_replaced_and_its_answers_go_on(scripted: Server, records: Records) -> None:
    """It would otherwise be healthy for ever: nothing fails in it."""
    old = replica_pids(scripted, COUNTER_DEPLOYMENT)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, scripted, "name=whole to=30 pace=0.2")
        text = texts_of(list(stream(scripted, "name=pieces to=20 pace=0.1 hang=8")))[0]
        assert text == numbers(20)
        assert text_of(asked.result()) == numbers(30)
    wait_for_another(scripted, COUNTER_DEPLOYMENT, old)


def test_a_request_that_kills_every_replica_is_given_up(scripted: Server, records: Records) -> None:
    old = replica_pids(scripted, COUNTER_DEPLOYMENT)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, scripted, "name=whole to=10 pace=1 die=4")
        chunks = list(stream(scripted, "name=pieces to=10 pace=1 die=4"))
        assert_refusal(asked.result(), 503, "service_unavailable")
    assert chunks[-1]["error"]["code"] == "service_unavailable"
    assert numbers(4).startswith(texts_of(chunks[:-1])[0])
    assert {len(named(records, "joins", name)) for name in ("whole", "pieces")} == {2}
    wait_for_another(scripted, COUNTER_DEPLOYMENT, old)
    assert text_of(ask(scripted, "to=3")) == numbers(3)


# Full queues


def fill(server: Server, pool: ThreadPoolExecutor) -> list["Future[httpx.Response]"]:
    """One is written, one waits, and somebody came for nothing."""
    asked: list[Future[httpx.Response]] = []

    def is_full() -> bool:
        waiting = [request for request in asked if not request.done()]
        if len(waiting) == 2 and len(asked) > 2:
            return True
        if num_running(server, NARROW) == len(waiting):
            asked.append(pool.submit(ask, server, "to=2 wait=1", NARROW))
        return False

    wait_until(is_full, "a full queue", 20)
    return asked


@pytest.mark.parametrize("streamed", [False, True])
def test_a_full_queue_refuses_also_a_stream_before_its_200(scripted: Server, records: Records, streamed: bool) -> None:
    with ThreadPoolExecutor(8) as pool:
        try:
            asked = fill(scripted, pool)
            answer = ask(scripted, "to=1", NARROW, stream=streamed)
            assert_refusal(answer, 429, "rate_limit_exceeded")
        finally:
            records.release()
        answers = [request.result() for request in asked]
    assert [answer.status_code for answer in answers].count(200) == 2
    for answer in answers:
        if answer.status_code != 200:
            assert_refusal(answer, 429, "rate_limit_exceeded")


@pytest.mark.parametrize("streamed", [False, True])
def test_when_one_of_several_answers_is_refused_all_are(scripted: Server, records: Records, streamed: bool) -> None:
    """There is room for two: the others are not left behind."""
    answer = ask(scripted, "to=1000 wait=0", NARROW, n=4, stream=streamed)
    assert_refusal(answer, 429, "rate_limit_exceeded")
    wait_until(lambda: num_running(scripted, NARROW) == 0, "nothing running", 20)
    wait_until(
        lambda: len(records.read(WHO, "joins")) == len(records.read(WHO, "aborts")), "everybody taken out again", 20
    )
    records.release()
    assert text_of(ask(scripted, "to=3", NARROW)) == numbers(3)


def test_an_answer_that_has_begun_outlives_a_full_queue(scripted: Server, records: Records) -> None:
    """Its replica is lost, and somebody else is the next in line."""
    deployment = f"chat-{NARROW}"
    old = replica_pids(scripted, deployment)
    with ThreadPoolExecutor(1) as pool:
        chunks = stream(scripted, "to=100 pace=0.1", NARROW)
        begin = [next(chunks), next(chunks)]
        waiting = pool.submit(ask, scripted, "to=3", NARROW)
        wait_until(lambda: num_running(scripted, NARROW) == 2, "the second in the queue")
        kill_replica(scripted, deployment)
        whole = [*begin, *chunks]
        assert text_of(waiting.result()) == numbers(3)
    assert "error" not in whole[-1], whole[-1]
    assert texts_of(whole) == {0: numbers(100)}
    wait_for_another(scripted, deployment, old)


# Clients that leave


@pytest.mark.parametrize("orders", [ENDLESS, "to=10 wait=3"], ids=["writing", "silent"])
def test_a_client_that_leaves_its_stream_takes_its_answer_with_it(
    scripted: Server, records: Records, orders: str
) -> None:
    url, body = f"{scripted.url}/v1/chat/completions", body_of(orders, COUNTER, stream=True)
    with httpx.stream("POST", url, json=body, timeout=TIMEOUT_S) as response:
        assert response.status_code == 200
        pieces = response.iter_raw()
        while b"2 " not in next(pieces):
            pass
        while "wait" in orders and next(pieces) != b"\n":
            pass  # kept alive while the engine is silent
        assert num_running(scripted, COUNTER) == 1
        left_at_s = time.monotonic()
    wait_until(lambda: len(records.read(WHO, "aborts")) == 1, "the answer taken out", 20)
    (abort,) = records.read(WHO, "aborts")
    assert abort["at_s"] - left_at_s < 10
    wait_until(lambda: num_running(scripted, COUNTER) == 0, "nothing running", 20)


def test_con_03_a_client_that_waits_for_the_whole_answer_and_leaves(scripted: Server, records: Records) -> None:
    with pytest.raises(httpx.ReadTimeout):
        ask(scripted, ENDLESS, timeout_s=10, n=2)
    wait_until(lambda: len(records.read(WHO, "aborts")) == 2, "both answers taken out", 20)
    wait_until(lambda: num_running(scripted, COUNTER) == 0, "nothing running", 20)


def test_who_leaves_the_queue_never_joins(scripted: Server, records: Records) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, scripted, "name=first to=2 wait=1", NARROW)
        wait_until(lambda: bool(named(records, "joins", "first")), "the first at work")
        with pytest.raises(httpx.ReadTimeout):
            ask(scripted, "name=second to=2", NARROW, timeout_s=2)
        wait_until(lambda: num_running(scripted, NARROW) == 1, "the second gone", 20)
        records.release()
        assert text_of(asked.result()) == numbers(2)
    assert text_of(ask(scripted, "name=third to=2", NARROW)) == numbers(2)
    assert not named(records, "joins", "second")


# Models that fail


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("place", "param"), [("prepare", "messages"), ("add", "logit_bias")])
def test_what_an_engine_refuses_is_the_client_s_mistake_and_nobody_else_s(
    scripted: Server, records: Records, place: str, param: str, streamed: bool
) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, scripted, "name=neighbour to=5 wait=3")
        wait_until(lambda: bool(named(records, "joins", "neighbour")), "the neighbour at work")
        answer = ask(scripted, f"refuse={place}", stream=streamed)
        records.release()
        assert text_of(asked.result()) == numbers(5)
    assert_refusal(answer, 400, "refused")
    assert answer.json()["error"]["param"] == param
    assert answer.json()["error"]["message"].startswith("This engine refuses the ")
    assert len(named(records, "joins", "neighbour")) == 1


def test_an_answer_that_its_engine_gives_up_fails_alone(scripted: Server, records: Records) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, scripted, "name=neighbour to=5 wait=3")
        wait_until(lambda: bool(named(records, "joins", "neighbour")), "the neighbour at work")
        assert_refusal(ask(scripted, "name=whole give_up=2"), 503, "service_unavailable")
        chunks = list(stream(scripted, "name=pieces pace=0.5 give_up=3"))
        records.release()
        assert text_of(asked.result()) == numbers(5)
    assert texts_of(chunks[:-1]) == {0: numbers(3)}
    assert chunks[-1]["error"] == {
        "message": "This engine gave up this request.",
        "type": "server_error",
        "param": None,
        "code": "service_unavailable",
    }
    assert [len(named(records, "joins", name)) for name in ("neighbour", "whole", "pieces")] == [1, 2, 2]


def test_a_failing_step_is_told_and_forgotten(scripted: Server, records: Records) -> None:
    old = replica_pids(scripted, COUNTER_DEPLOYMENT)
    answer = ask(scripted, "fail=2")
    assert_refusal(answer, 503, "service_unavailable")
    assert_refusal(ask(scripted, "fail=0", stream=True), 503, "service_unavailable")
    chunks = list(stream(scripted, "pace=0.5 fail=3"))
    assert texts_of(chunks[:-1]) == {0: numbers(3)}
    assert chunks[-1]["error"]["code"] == "service_unavailable"
    assert "secret" not in answer.text + json.dumps(chunks)
    assert text_of(ask(scripted, "to=3")) == numbers(3)
    assert replica_pids(scripted, COUNTER_DEPLOYMENT) == old


def test_one_of_several_answers_that_fails_ends_them_all(scripted: Server, records: Records) -> None:
    assert_refusal(ask(scripted, "to=100 pace=0.1 give_up=5", n=3), 503, "service_unavailable")
    assert not records.read(WHO, "ends")
    wait_until(lambda: num_running(scripted, COUNTER) == 0, "nothing running", 20)


def test_the_server_is_whole_after_all_of_it(scripted: Server) -> None:
    assert is_healthy(scripted)
    assert text_of(ask(scripted, "to=3")) == numbers(3)
    assert text_of(ask(scripted, "to=3", NARROW)) == numbers(3)
