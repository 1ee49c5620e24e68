import pytest

from deployments.ingress.catalogue import Catalogue, ServedModel
from deployments.settings import Settings
from pipelines.errors import InvalidRequest, ModelNotFound

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
    expected = ServedModel("whisper-1", "openai/whisper-tiny", "whisper", tasks=("transcribe", "translate"))
    assert CATALOGUE.find("whisper-1") == expected
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


def test_trl_03_a_model_that_was_not_trained_to_translate_is_not_asked_to() -> None:
    models = [{"id": "openai/whisper-large-v3-turbo", "aliases": ["whisper-1"]}, {"id": "openai/whisper-large-v3"}]
    catalogue = Catalogue(Settings.model_validate({"models": models}), 0)
    assert catalogue.speech_model("whisper-1").root == "openai/whisper-large-v3-turbo"
    assert catalogue.speech_model("openai/whisper-large-v3", "translate")
    with pytest.raises(InvalidRequest, match="The model 'whisper-1' does not translate") as caught:
        catalogue.speech_model("whisper-1", "translate")
    assert caught.value.param == "model"


# Models that chat

BOTH = Catalogue(
    Settings.model_validate(
        {
            "models": [
                {"id": "tiny", "aliases": ["whisper-1"]},
                {"id": "org/chat", "task": "chat", "aliases": ["gpt-4o-audio-preview"], "max_audios": 3},
                {"id": "base"},
                {"id": "plain", "task": "chat"},
            ]
        }
    ),
    0,
)


def test_mdl_02_models_that_chat_come_first() -> None:
    """Each task's in the order of the configuration, a model before its aliases."""
    assert [model.id for model in BOTH.models] == [
        "org/chat",
        "gpt-4o-audio-preview",
        "plain",
        "tiny",
        "whisper-1",
        "base",
    ]
    assert [model.task for model in BOTH.models] == ["chat"] * 3 + ["transcription"] * 3


@pytest.mark.parametrize("model_id", ["org/chat", "gpt-4o-audio-preview"])
def test_an_alias_chats_as_its_model(model_id: str) -> None:
    model = BOTH.chat_model(model_id)
    assert (model.id, model.max_audios, model.deployment_name) == ("org/chat", 3, "chat-org-chat")
    assert BOTH.find(model_id).root == "org/chat"


@pytest.mark.parametrize("model_id", ["tiny", "whisper-1"])
def test_an_alias_transcribes_as_its_model(model_id: str) -> None:
    assert BOTH.speech_model(model_id) == BOTH.find(model_id)
    assert BOTH.speech_model(model_id).root == "tiny"


@pytest.mark.parametrize("model_id", ["tiny", "whisper-1", "base"])
def test_cht_01_who_transcribes_does_not_chat(model_id: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        BOTH.chat_model(model_id)
    assert caught.value.param == "model"
    assert caught.value.message == f"'{model_id}' does not chat: ask it at /v1/audio/transcriptions."


@pytest.mark.parametrize("model_id", ["plain", "org/chat", "gpt-4o-audio-preview"])
def test_who_chats_does_not_transcribe(model_id: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        BOTH.speech_model(model_id)
    assert caught.value.param == "model"
    assert caught.value.message == f"'{model_id}' does not transcribe: ask it at /v1/chat/completions."


@pytest.mark.parametrize("model_id", ["", "chat", "org", "ORG/CHAT"])
def test_an_unknown_model_of_any_task(model_id: str) -> None:
    for find in (BOTH.find, BOTH.chat_model, BOTH.speech_model):
        with pytest.raises(ModelNotFound):
            find(model_id)


def test_a_server_that_only_chats() -> None:
    only = Catalogue(Settings.model_validate({"models": [{"id": "plain", "task": "chat"}]}), 0)
    assert [(model.id, model.task) for model in only.models] == [("plain", "chat")]
    with pytest.raises(ModelNotFound):
        only.speech_model("whisper-1")
