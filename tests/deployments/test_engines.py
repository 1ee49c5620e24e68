import pytest

from deployments.asr.engine import ENGINES
from deployments.engines import EngineArgs, check_engine, load_engine
from pipelines.errors import ConfigurationError


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_of_the_table_loads(name: str) -> None:
    check_engine(name, ENGINES)
    engine = load_engine(name, ENGINES)
    assert all(callable(getattr(engine, verb)) for verb in ("add", "step", "abort"))


def test_there_are_engines() -> None:
    assert "transformers" in ENGINES


def test_any_other_class_is_taken_by_its_path() -> None:
    found: type = load_engine("deployments.asr.engine:EngineArgs", ENGINES)
    assert found is EngineArgs


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("wisper", "Unknown engine 'wisper': use 'transformers' or 'module:Class'."),
        ("", "Unknown engine '': use 'transformers' or 'module:Class'."),
        ("json:", "Unknown engine 'json:': use 'transformers' or 'module:Class'."),
        ("no_such:Engine", "Engine 'no_such:Engine' needs the module 'no_such', which is missing."),
        ("json.no_such:Engine", "Engine 'json.no_such:Engine' needs the module 'json.no_such', which is missing."),
        ("json:Engine", "Engine 'json:Engine': module 'json' has no 'Engine'."),
    ],
)
def test_what_is_none_is_a_sentence(name: str, sentence: str) -> None:
    for load in (check_engine, load_engine):
        with pytest.raises(ConfigurationError) as caught:
            load(name, ENGINES)
        assert caught.value.message == sentence


@pytest.mark.parametrize("name", [":Engine", ".json:Engine", "..:Engine", "json:a.b"])
def test_what_is_no_path_is_a_sentence_too(name: str) -> None:
    for load in (check_engine, load_engine):
        with pytest.raises(ConfigurationError) as caught:
            load(name, ENGINES)
        assert f"'{name}'" in caught.value.message
