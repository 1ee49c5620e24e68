from typing import Any

import pytest

from deployments.environment import (
    ALLOWED_MEDIA_HOSTS_VARIABLE,
    API_KEYS_VARIABLE,
    allowed_media_hosts,
    listed_api_keys,
)
from deployments.model_configs import ChatModelConfig, DiarizationConfig, SamplingConfig, SpeechModelConfig
from deployments.settings import MediaConfig, Settings
from pipelines.audio_types import DecodeLimits
from pipelines.errors import ConfigurationError
from pipelines.voices import VoiceOptions


def model(**changes: Any) -> dict[str, Any]:
    return {"id": "openai/whisper-tiny", **changes}


def diarized(**changes: Any) -> dict[str, Any]:
    return {"models": [model()], "diarization": {"source": "embedded:speaker-diarization", **changes}}


def chat(**changes: Any) -> dict[str, Any]:
    return {"id": "org/Chat-1B", "task": "chat", **changes}


def message(args: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Settings.model_validate(args)
    return caught.value.message


def test_defaults_come_from_the_id() -> None:
    (served,) = Settings.model_validate({"models": [model()]}).models
    assert (served.name, served.source) == ("openai-whisper-tiny", "openai/whisper-tiny")
    assert served.deployment_name == "asr-openai-whisper-tiny"
    assert (served.engine, served.device, served.dtype, served.aliases) == ("transformers", "auto", "auto", ())


def test_what_is_given_stays() -> None:
    given = model(name="tiny", source="models/tiny", aliases=["whisper-1", {"id": "gpt-x", "family": "gpt"}])
    (served,) = Settings.model_validate({"models": [given]}).models
    assert (served.deployment_name, served.source) == ("asr-tiny", "models/tiny")
    assert [(alias.id, alias.family) for alias in served.aliases] == [("whisper-1", "whisper"), ("gpt-x", "gpt")]


def test_a_model_has_8_bits_and_that_of_transcription_says_how_times_are_told() -> None:
    (served,) = Settings.model_validate({"models": [model(dtype="int8", timestamps="tokens", padding_s=8)]}).models
    assert isinstance(served, SpeechModelConfig)
    assert (served.dtype, served.timestamps, served.padding_s) == ("int8", "tokens", 8.0)
    (chats,) = Settings.model_validate({"models": [chat(dtype="int8")]}).models
    assert chats.dtype == "int8"
    assert "dtype: Input should be" in message({"models": [chat(dtype="int4")]})
    assert "timestamps: Input should be 'attention' or 'tokens'" in message({"models": [model(timestamps="none")]})
    assert "padding_s: Input should be greater than or equal to 1" in message({"models": [model(padding_s=0.5)]})


def test_settings_are_read_twice_without_a_change() -> None:
    settings = Settings.model_validate({"models": [model(aliases=["whisper-1"])]})
    assert Settings.model_validate(settings) == settings
    assert Settings.model_validate(settings.model_dump()) == settings


def test_limits_become_the_decoder_s() -> None:
    limits = {"max_audio_s": 60, "max_channels": 2, "max_sample_rate_hz": 48_000}
    settings = Settings.model_validate({"models": [model()], "limits": limits})
    assert settings.limits.decoding() == DecodeLimits(60.0, 2, 48_000)


def test_an_engine_of_one_s_own() -> None:
    own = model(engine="deployments.asr.engine:EngineArgs")
    assert Settings.model_validate({"models": [own]}).models[0].engine == "deployments.asr.engine:EngineArgs"


def test_without_diarization_no_speakers_are_told_apart() -> None:
    assert Settings.model_validate({"models": [model()]}).diarization is None


def test_defaults_of_diarization() -> None:
    diarization = Settings.model_validate(diarized()).diarization
    assert diarization == DiarizationConfig(
        engine="pyannote",
        source="embedded:speaker-diarization",
        device="auto",
        batch_size=16,
        hop_s=None,
        max_window_s=600.0,
        min_known_similarity=0.5,
        min_linked_similarity=0.5,
    )
    assert diarization is not None
    assert diarization.voices() == VoiceOptions(0.5, 0.5)


def test_every_key_of_diarization() -> None:
    given = {
        "engine": "deployments.diarization.engine:DiarizationEngine",
        "source": "pyannote/speaker-diarization-community-1",
        "device": "cuda",
        "batch_size": 1,
        "hop_s": 0.5,
        "max_window_s": 30.0,
        "unload_after_s": 300.0,
        "min_known_similarity": -1.0,
        "min_linked_similarity": 1.0,
    }
    settings = Settings.model_validate(diarized(**given))
    assert settings.diarization is not None
    assert given.keys() == DiarizationConfig.model_fields.keys()
    assert settings.diarization.model_dump() == given
    assert settings.diarization.voices() == VoiceOptions(-1.0, 1.0)
    assert Settings.model_validate(settings.model_dump()) == settings


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("gpt-4o-transcribe-diarize", "diarize"),
        ("gpt-4o-transcribe-diarize-2025-10-15", "diarize"),
        ("diarize", "diarize"),
        ("my/whisper-diarized", "diarize"),
        ("gpt-4o-transcribe", "4o"),
        ("gpt-transcribe", "gpt"),
        ("gpt-live-transcribe", "gpt"),
        ("gpt-realtime-whisper", "whisper"),
        ("diary", "whisper"),
    ],
)
def test_family_by_id(name: str, family: str) -> None:
    (served,) = Settings.model_validate({**diarized(), "models": [model(aliases=[name])]}).models
    assert served.aliases[0].family == family
    (served,) = Settings.model_validate({**diarized(), "models": [model(id=name)]}).models
    assert served.family == family


def test_a_given_family_counts_more_than_the_id() -> None:
    aliases = [{"id": "gpt-4o-transcribe-diarize", "family": "whisper"}]
    assert Settings.model_validate({"models": [model(aliases=aliases)]}).models[0].aliases[0].family == "whisper"
    (served,) = Settings.model_validate({**diarized(), "models": [model(family="diarize")]}).models
    assert served.family == "diarize"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"aliases": ["whisper-1", "gpt-4o-transcribe-diarize"]}, "gpt-4o-transcribe-diarize"),
        ({"aliases": [{"id": "meetings", "family": "diarize"}]}, "meetings"),
        ({"id": "diarizer", "source": "embedded:whisper-base"}, "diarizer"),
        ({"family": "diarize"}, "openai/whisper-tiny"),
    ],
)
def test_who_tells_speakers_apart_needs_diarization(changes: dict[str, Any], name: str) -> None:
    args = {"models": [model(**changes)]}
    sentence = f"'{name}' tells speakers apart, which needs 'diarization' beside 'models'."
    assert message(args) == sentence
    assert message({**args, "diarization": None}) == sentence
    assert Settings.model_validate({**diarized(), **args}).diarization is not None


MISTAKES: list[tuple[Any, str]] = [
    ({}, "models: Field required."),
    ({"models": [model(), model(name="b")]}, "Two models have the id 'openai/whisper-tiny'."),
    ({"models": [model(aliases=["openai/whisper-tiny"])]}, "Two models have the id 'openai/whisper-tiny'."),
    ({"models": [model(aliases=["a", "a"])]}, "Two models have the id 'a'."),
    ({"models": [model(aliases=["b"]), model(id="b")]}, "Two models have the id 'b'."),
    ({"models": [model(id="a/b"), model(id="a_b")]}, "Two models have the deployment 'asr-a-b'."),
    ({"models": [model(id="a", name="x"), model(id="b", name="x")]}, "Two models have the deployment 'asr-x'."),
    ({"models": [model()], "modles": []}, "Unknown key 'modles'."),
    ({"models": [model(sourse="x")]}, "Unknown key 'models.0.sourse'."),
    ({"models": [model(aliases=[{"id": "x", "fam": 1}])]}, "Unknown key 'models.0.aliases.0.fam'."),
    ({"models": [model()], "limits": {"max_audio": 1}}, "Unknown key 'limits.max_audio'."),
    (
        {"models": [model(dtype="int4")]},
        "models.0.dtype: Input should be 'auto', 'float32', 'float16', 'bfloat16' or 'int8'.",
    ),
    ({"models": [model(family="x")]}, "models.0.family: Input should be 'whisper', '4o', 'gpt' or 'diarize'."),
    ({"models": [model()], "limits": {"max_audio_s": 0}}, "limits.max_audio_s: Input should be greater than 0."),
    ({"models": [model(engine="wisper")]}, "Unknown engine 'wisper': use 'transformers' or 'module:Class'."),
    (
        {"models": [model(engine="no_such_module:Engine")]},
        "Engine 'no_such_module:Engine' needs the module 'no_such_module', which is missing.",
    ),
    ({"models": [model(engine="json:Engine")]}, "Engine 'json:Engine': module 'json' has no 'Engine'."),
    (
        {"models": [model(), model(id="b", engine="?")]},
        "Unknown engine '?': use 'transformers' or 'module:Class'.",
    ),
    (
        {"models": [model(task="chats")]},
        "models.0: There is no such task: use 'transcription' or 'chat'.",
    ),
    ({"models": [model(), chat(task="Chat")]}, "models.1: There is no such task: use 'transcription' or 'chat'."),
    ({"models": [model(task=None)]}, "models.0: There is no such task: use 'transcription' or 'chat'."),
    ({"models": [model(task=["chat"])]}, "models.0: There is no such task: use 'transcription' or 'chat'."),
    ({"models": [model(), {"task": "chat"}]}, "models.1.id: Field required."),
    ({"models": [model(unload_after_s=0)]}, "models.0.unload_after_s: Input should be greater than 0."),
    ({"models": [chat(sourse="x")]}, "Unknown key 'models.0.sourse'."),
    ({"models": [model(), chat(max_audio=1)]}, "Unknown key 'models.1.max_audio'."),
    ({"models": [model(max_audios=1)]}, "Unknown key 'models.0.max_audios'."),
    ({"models": [chat(chat=1)]}, "Unknown key 'models.0.chat'."),
    ({"models": [chat(aliases=[{"id": "x", "fam": 1}])]}, "Unknown key 'models.0.aliases.0.fam'."),
    ({"models": [chat(aliases=["org/Chat-1B"])]}, "Two models have the id 'org/Chat-1B'."),
    ({"models": [model(), chat(aliases=["openai/whisper-tiny"])]}, "Two models have the id 'openai/whisper-tiny'."),
    ({"models": [model(id="a"), chat(id="a")]}, "Two models have the id 'a'."),
    ({"models": [model(aliases=["a"]), chat(aliases=["a"])]}, "Two models have the id 'a'."),
    ({"models": [chat(id="a/b"), chat(id="a-b")]}, "Two models have the deployment 'chat-a-b'."),
    (
        {"models": [chat(max_context_tokens=15)]},
        "models.0.max_context_tokens: Input should be greater than or equal to 16.",
    ),
    ({"models": [chat(max_audios=-1)]}, "models.0.max_audios: Input should be greater than or equal to 0."),
    ({"models": [chat(max_audio_s=0)]}, "models.0.max_audio_s: Input should be greater than 0."),
    ({"models": [chat(max_audio_s=float("inf"))]}, "models.0.max_audio_s: Input should be a finite number."),
    ({"models": [chat(engine="vllm")]}, "Unknown engine 'vllm': use 'transformers' or 'module:Class'."),
    ({"models": [chat(engine="json:Engine")]}, "Engine 'json:Engine': module 'json' has no 'Engine'."),
    (
        {"models": [model(), chat(hears="whisper-1")]},
        "'org/Chat-1B' hears by 'whisper-1', which is not the id of a transcription model beside it.",
    ),
    (
        {"models": [chat(hears="org/Chat-1B")]},
        "'org/Chat-1B' hears by 'org/Chat-1B', which is not the id of a transcription model beside it.",
    ),
    ({"models": [chat(hears=["a"])]}, "models.0.hears: Input should be a valid string."),
    (
        {"models": [chat(sampling={"temperature": 3})]},
        "models.0.sampling.temperature: Input should be less than or equal to 2.",
    ),
    ({"models": [chat(sampling={"seed": 1})]}, "Unknown key 'models.0.sampling.seed'."),
    ({"models": [model()], "chat": {"id": "x"}}, "Unknown key 'chat'."),
    ({"models": [model()], "transcription": {}}, "Unknown key 'transcription'."),
    ({"models": [model()], "limits": {"chat": 1}}, "Unknown key 'limits.chat'."),
    ({"models": [model()], "media": {"hosts": []}}, "Unknown key 'media.hosts'."),
    ({"models": [model()], "media": {"max_fetch_s": 0}}, "media.max_fetch_s: Input should be greater than 0."),
    (
        {"models": [model()], "media": {"max_redirects": -1}},
        "media.max_redirects: Input should be greater than or equal to 0.",
    ),
    ({"models": [model()], "diarization": {}}, "diarization.source: Field required."),
    (diarized(source=""), "diarization.source: String should have at least 1 character."),
    (diarized(sauce="x"), "Unknown key 'diarization.sauce'."),
    (diarized(engine="pyanote"), "Unknown engine 'pyanote': use 'pyannote' or 'module:Class'."),
    (diarized(engine="transformers"), "Unknown engine 'transformers': use 'pyannote' or 'module:Class'."),
    (diarized(engine="json:Engine"), "Engine 'json:Engine': module 'json' has no 'Engine'."),
    (
        diarized(engine="no_such_module:Engine"),
        "Engine 'no_such_module:Engine' needs the module 'no_such_module', which is missing.",
    ),
    (diarized(hop_s=0), "diarization.hop_s: Input should be greater than 0."),
    (diarized(unload_after_s=0), "diarization.unload_after_s: Input should be greater than 0."),
    (diarized(batch_size=0), "diarization.batch_size: Input should be greater than or equal to 1."),
    (diarized(max_window_s=29.9), "diarization.max_window_s: Input should be greater than or equal to 30."),
    (diarized(max_window_s=float("inf")), "diarization.max_window_s: Input should be a finite number."),
    (
        diarized(min_known_similarity=-1.1),
        "diarization.min_known_similarity: Input should be greater than or equal to -1.",
    ),
    (
        diarized(min_linked_similarity=1.1),
        "diarization.min_linked_similarity: Input should be less than or equal to 1.",
    ),
]


@pytest.mark.parametrize(("args", "sentence"), MISTAKES)
def test_every_mistake_is_one_sentence(args: Any, sentence: str) -> None:
    assert message(args) == sentence


@pytest.mark.parametrize(
    "args",
    [
        None,
        "models",
        [],
        {"models": []},
        {"models": "whisper-1"},
        {"models": {"id": "x"}},
        {"models": ["whisper-1"]},
        {"models": [{}]},
        {"models": [{"id": ""}]},
        {"models": [{"id": 7}]},
        {"models": [model(name="a b")]},
        {"models": [model(aliases="whisper-1")]},
        {"models": [model(aliases=[""])]},
        {"models": [model(aliases=[7])]},
        {"models": [model(engine=7)]},
        {"models": [model(engine=":Engine")]},
        {"models": [model(engine="json:")]},
        {"models": [model(engine=".json:Engine")]},
        {"models": [model(task=7)]},
        {"models": ["chat"]},
        {"models": [["chat"]]},
        {"models": [{"task": "chat", "id": ""}]},
        {"models": [chat(name="a b")]},
        {"models": [chat(max_context_tokens="many")]},
        {"models": [chat(max_audios=1.5)]},
        {"models": [chat(max_audio_s=float("nan"))]},
        {"models": [chat(engine=7)]},
        {"models": [model()], "media": "any"},
        {"models": [model()], "media": {"allowed_hosts": "127.0.0.1"}},
        {"models": [model()], "media": {"allowed_hosts": [7]}},
        {"models": [model()], "media": {"max_fetch_s": float("inf")}},
        {"models": [model()], "limits": "none"},
        {"models": [model()], "limits": {"max_channels": 0}},
        {"models": [model()], "diarization": "pyannote"},
        {"models": [model()], "diarization": []},
        {"models": [model()], "diarization": True},
        diarized(source=None),
        diarized(source=7),
        diarized(engine=7),
        diarized(engine="json:"),
        diarized(device=None),
        diarized(batch_size="many"),
        diarized(batch_size=1.5),
        diarized(min_known_similarity=float("nan")),
    ],
)
def test_a_sentence_has_a_beginning_and_an_end(args: Any) -> None:
    sentence = message(args)
    assert sentence[0].isalpha()
    assert sentence.endswith(".")
    assert "\n" not in sentence


# Models that chat


def test_the_task_decides_what_a_model_is() -> None:
    settings = Settings.model_validate({"models": [model(), chat(), model(id="b", task="transcription")]})
    assert [type(served) for served in settings.models] == [SpeechModelConfig, ChatModelConfig, SpeechModelConfig]
    assert settings.speech_models == (settings.models[0], settings.models[2])
    assert settings.chat_models == (settings.models[1],)


def test_defaults_of_a_chat_model() -> None:
    (served,) = Settings.model_validate({"models": [chat()]}).chat_models
    assert (served.name, served.source, served.deployment_name) == ("org-Chat-1B", "org/Chat-1B", "chat-org-Chat-1B")
    assert (served.engine, served.device, served.dtype, served.aliases) == ("transformers", "auto", "auto", ())
    assert (served.max_context_tokens, served.max_audios, served.max_audio_s) == (None, 8, 600.0)
    assert (served.hears, served.sampling) == (None, SamplingConfig())


def test_every_key_of_a_chat_model() -> None:
    given = {
        "id": "org/Chat-1B",
        "family": "whisper",
        "task": "chat",
        "name": "small",
        "aliases": ({"id": "gpt-4o-audio-preview", "family": "whisper"},),
        "engine": "deployments.chat.engine:ChatEngine",
        "source": "embedded:smollm2-135m-instruct",
        "device": "cuda",
        "threads": 3,
        "max_memory_gb": 2.5,
        "unload_after_s": 300.0,
        "dtype": "bfloat16",
        "max_context_tokens": 16,
        "max_audios": 0,
        "max_audio_s": 0.5,
        "hears": "openai/whisper-tiny",
        "sampling": {"temperature": 0.0, "top_p": 0.5, "top_k": -1, "min_p": 0.1, "repetition_penalty": 1.1},
    }
    settings = Settings.model_validate({"models": [given, model()]})
    assert given.keys() == ChatModelConfig.model_fields.keys()
    assert settings.chat_models[0].model_dump() == given
    assert settings.chat_models[0].deployment_name == "chat-small"
    assert Settings.model_validate(settings.model_dump()) == settings
    assert Settings.model_validate(settings) == settings


def test_a_server_may_only_chat() -> None:
    settings = Settings.model_validate({"models": [chat()]})
    assert settings.speech_models == ()
    assert settings.diarization is None


def test_one_name_may_belong_to_a_deployment_of_each_task() -> None:
    settings = Settings.model_validate({"models": [model(id="a", name="x"), chat(id="b", name="x")]})
    assert [served.deployment_name for served in settings.models] == ["asr-x", "chat-x"]


def test_who_chats_needs_no_diarization_whatever_it_is_called() -> None:
    settings = Settings.model_validate({"models": [chat(aliases=["gpt-4o-transcribe-diarize"])]})
    assert [name.id for name in settings.chat_models[0].names] == ["org/Chat-1B", "gpt-4o-transcribe-diarize"]


# Hosts of media


def test_by_default_no_private_host_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALLOWED_MEDIA_HOSTS_VARIABLE, raising=False)
    media = Settings.model_validate({"models": [model()]}).media
    assert media == MediaConfig(allowed_hosts=(), max_fetch_s=10.0, max_redirects=5)
    assert allowed_media_hosts(media.allowed_hosts) == frozenset()


@pytest.mark.parametrize(
    ("value", "hosts"),
    [
        ("", set()),
        (" , ,", set()),
        ("127.0.0.1", {"127.0.0.1"}),
        ("127.0.0.1, files.internal ,,::1", {"127.0.0.1", "files.internal", "::1"}),
        ("a,a", {"a"}),
    ],
)
def test_hosts_of_the_environment_join_the_configuration_s(
    monkeypatch: pytest.MonkeyPatch, value: str, hosts: set[str]
) -> None:
    monkeypatch.setenv(ALLOWED_MEDIA_HOSTS_VARIABLE, value)
    assert allowed_media_hosts(()) == hosts
    settings = Settings.model_validate({"models": [model()], "media": {"allowed_hosts": ["own", " spaced ", ""]}})
    assert allowed_media_hosts(settings.media.allowed_hosts) == hosts | {"own", "spaced"}


def test_no_keys_let_everybody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEYS_VARIABLE, raising=False)
    assert listed_api_keys() == ()
    monkeypatch.setenv(API_KEYS_VARIABLE, " , ")
    assert listed_api_keys() == ()


def test_keys_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEYS_VARIABLE, "one, two,,three ,one")
    assert listed_api_keys() == ("one", "two", "three")
