"""Replicas come with the load and go with it, down to none."""

import re
from concurrent.futures import ThreadPoolExecutor

from tests.conftest import Server
from tests.serve.test_chat import ask, numbers, stream, text_of, texts_of
from tests.serve.tools import is_healthy, post, replica_pids, wait_until


def test_load_brings_a_second_replica_and_its_end_takes_it_away(scripted: Server, sentence: bytes) -> None:
    assert len(replica_pids(scripted, "asr-elastic")) == 1
    pids: set[str] = set()
    with ThreadPoolExecutor(6) as pool:

        def load() -> bool:
            answers = list(pool.map(lambda _: post(scripted, sentence, "elastic"), range(6)))
            assert [answer.status_code for answer in answers] == [200] * 6
            pids.update(pid for answer in answers for pid in re.findall(r"pid=(\d+)", answer.json()["text"]))
            return len(pids) == 2

        wait_until(load, "answers of two replicas", 90)
    wait_until(lambda: len(replica_pids(scripted, "asr-elastic")) == 1, "one replica", 90)
    assert post(scripted, sentence, "elastic", prompt="0").status_code == 200


def test_the_first_request_brings_the_first_replica_and_quiet_takes_the_last(scripted: Server, sentence: bytes) -> None:
    def is_asleep() -> bool:
        return not replica_pids(scripted, "asr-dormant")

    wait_until(is_asleep, "no replica", 90)
    assert is_healthy(scripted)  # to sleep is not to be ill
    assert "pid=" in post(scripted, sentence, "dormant").json()["text"]
    wait_until(is_asleep, "no replica again", 90)
    assert is_healthy(scripted)
    # the language is the model's to judge: it is woken up before the answer begins
    assert "pid=" in post(scripted, sentence, "dormant", language="en", stream="true").text


def test_a_chat_model_wakes_up_grows_and_sleeps_again(scripted: Server) -> None:
    model, deployment = "elastic-chat", "chat-elastic-chat"
    wait_until(lambda: not replica_pids(scripted, deployment), "no replica", 90)
    wait_until(lambda: is_healthy(scripted), "health although nobody is awake", 20)
    assert texts_of(list(stream(scripted, "to=3", model))) == {0: numbers(3)}  # kept alive until there is somebody
    assert len(replica_pids(scripted, deployment)) == 1
    pids: set[str] = set()
    with ThreadPoolExecutor(6) as pool:

        def load() -> bool:
            answers = list(pool.map(lambda _: text_of(ask(scripted, "to=10 pace=0.1 say=pid", model)), range(6)))
            assert [len(set(re.findall(r"@(\d+)", answer))) for answer in answers] == [1] * 6
            pids.update(*(re.findall(r"@(\d+)", answer) for answer in answers))
            return len(pids) == 2

        wait_until(load, "answers of two replicas", 90)
    wait_until(lambda: not replica_pids(scripted, deployment), "no replica again", 90)
    wait_until(lambda: is_healthy(scripted), "health although nobody is awake", 20)
