"""MDL: what is served, and under which names."""

import openai
import pytest

from tests.conformance.wire import Api, assert_refused
from tests.conftest import ASR_MODEL, Server

RECOMMENDED = [
    "whisper-1",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-transcribe",
    "gpt-4o-transcribe-diarize",
    "openai/whisper-tiny",
    "openai/whisper-base",
    "openai/whisper-small",
    "openai/whisper-medium",
    "openai/whisper-large-v3",
    "openai/whisper-large-v3-turbo",
]


@pytest.mark.also_real
def test_mdl_01_list(api: Api) -> None:
    listed = api.get("/v1/models").json()
    assert listed["object"] == "list"
    for model in listed["data"]:
        assert model["object"] == "model"
        assert isinstance(model["id"], str)
        assert isinstance(model["created"], int)
        assert isinstance(model["owned_by"], str)
    ids = [model["id"] for model in listed["data"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.also_real
def test_mdl_02_the_first_one_chats(api: Api, server: Server) -> None:
    """Clients take `data[0]` to chat with."""
    listed = api.get("/v1/models").json()["data"]
    tasks = [model["task"] for model in listed]
    assert tasks == sorted(tasks, key=["chat", "transcription"].index)
    assert set(tasks) == {"chat", "transcription"}
    model = server.client.models.list().data[0].id
    assert model == listed[0]["id"]
    answer = server.client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}])
    assert answer.model == model
    assert answer.choices[0].message.content


def test_mdl_01_the_sdk_lists_them(server: Server) -> None:
    ids = [model.id for model in server.client.models.list()]
    assert "whisper-1" in ids


@pytest.mark.also_real
@pytest.mark.parametrize("model", RECOMMENDED)
@pytest.mark.parametrize("slash", ["/", "%2F"])
def test_mdl_03_retrieve(api: Api, model: str, slash: str) -> None:
    response = api.get(f"/v1/models/{model.replace('/', slash)}")
    assert response.status_code == 200
    listed = {entry["id"]: entry for entry in api.get("/v1/models").json()["data"]}
    assert response.json() == listed[model]


@pytest.mark.parametrize("model", ["whisper-1", "openai/whisper-large-v3"])
def test_mdl_03_the_sdk_retrieves(server: Server, model: str) -> None:
    assert server.client.models.retrieve(model).id == model


@pytest.mark.also_real
@pytest.mark.parametrize("model", ["nobody", "openai/nobody", "openai%2Fnobody", "openai", "whisper-1/"])
def test_mdl_03_unknown(api: Api, model: str) -> None:
    assert_refused(api.get(f"/v1/models/{model}"), 404, "model", code="model_not_found")


def test_mdl_03_the_sdk_raises_not_found(server: Server) -> None:
    with pytest.raises(openai.NotFoundError):
        server.client.models.retrieve("nobody")


@pytest.mark.also_real
def test_mdl_04_aliases_name_what_is_behind_them(api: Api) -> None:
    listed = {entry["id"]: entry for entry in api.get("/v1/models").json()["data"]}
    assert set(RECOMMENDED) <= listed.keys()
    assert {listed[alias]["root"] for alias in RECOMMENDED} == {ASR_MODEL}


@pytest.mark.also_real
def test_mdl_04_every_listed_id_is_served(api: Api, quiet: bytes) -> None:
    models = [entry["id"] for entry in api.get("/v1/models").json()["data"] if entry["task"] == "transcription"]
    assert len(models) > len(RECOMMENDED)
    assert {api.transcribe(quiet, model=model).status_code for model in models} == {200}


@pytest.mark.also_real
@pytest.mark.parametrize("model", ["whisper-1", "openai/whisper-large-v3", ASR_MODEL])
def test_mdl_04_answers_echo_the_requested_id(api: Api, quiet: bytes, model: str) -> None:
    assert {event["model"] for event in api.stream(quiet, model=model).events} == {model}
