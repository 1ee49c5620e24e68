import pytest

from deployments.ingress.catalogue import Catalogue, ServedModel
from deployments.settings import Settings
from pipelines.errors import ModelNotFound

SETTINGS = Settings.model_validate(
    {
        "models": [
            {
                "id": "openai/whisper-tiny",
                "aliases": ["whisper-1", "gpt-4o-mini-transcribe", {"id": "mine", "family": "gpt"}],
            },
            {"id": "gpt-transcribe"},
            {"id": "other", "family": "4o"},
        ]
    }
)
CATALOGUE = Catalogue(SETTINGS, 1_700_000_000)


def test_every_id_and_alias_in_order() -> None:
    assert [model.id for model in CATALOGUE.models] == [
        "openai/whisper-tiny",
        "whisper-1",
        "gpt-4o-mini-transcribe",
        "mine",
        "gpt-transcribe",
        "other",
    ]
    assert CATALOGUE.created_at == 1_700_000_000


def test_an_alias_stands_for_its_model() -> None:
    assert CATALOGUE.find("whisper-1") == ServedModel("whisper-1", "openai/whisper-tiny", "whisper")
    assert CATALOGUE.find("openai/whisper-tiny").root == "openai/whisper-tiny"


@pytest.mark.parametrize(
    ("model_id", "family"),
    [
        ("openai/whisper-tiny", "whisper"),
        ("gpt-4o-mini-transcribe", "4o"),
        ("gpt-transcribe", "gpt"),
        ("mine", "gpt"),
        ("other", "4o"),
    ],
)
def test_the_family_is_the_one_given_else_the_id_tells(model_id: str, family: str) -> None:
    assert CATALOGUE.find(model_id).family == family


@pytest.mark.parametrize("model_id", ["", "whisper-2", "Whisper-1", "whisper-1 "])
def test_an_unknown_model(model_id: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        CATALOGUE.find(model_id)
    assert caught.value.args == (model_id,)
