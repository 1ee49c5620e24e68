"""What a configuration may name as a source, and which tasks that means."""

import pytest

from deployments.model_configs import SpeechModelConfig
from deployments.settings import Settings
from pipelines.errors import ConfigurationError


def tasks(**model: object) -> tuple[str, ...]:
    (served,) = Settings.model_validate({"models": [model]}).models
    assert isinstance(served, SpeechModelConfig)
    return served.tasks


def test_an_embedded_model_is_one_of_the_catalogue() -> None:
    settings = Settings.model_validate(
        {
            "models": [{"id": "a", "source": "embedded:whisper-base"}],
            "diarization": {"source": "embedded:speaker-diarization"},
        }
    )
    assert settings.sources == ("embedded:whisper-base", "embedded:speaker-diarization")


@pytest.mark.parametrize(
    "args",
    [
        {"models": [{"id": "a", "source": "embedded:whisper-huge"}]},
        {"models": [{"id": "a"}], "diarization": {"source": "embedded:"}},
    ],
)
def test_an_unknown_embedded_model_is_named(args: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=r"There is no embedded model .* there are: whisper-base, "):
        Settings.model_validate(args)


@pytest.mark.parametrize(
    "model",
    [
        {"id": "openai/whisper-large-v3-turbo"},
        {"id": "speech", "source": "deepdml/faster-whisper-large-v3-turbo-ct2"},
        {"id": "speech", "source": "/checkpoints/Distil-Large-v3"},
    ],
)
def test_known_checkpoints_that_do_not_translate(model: dict[str, object]) -> None:
    """TRL-03: they would answer in the language that is spoken."""
    assert tasks(**model) == ("transcribe",)


def test_tasks_are_the_configuration_s_to_say() -> None:
    assert tasks(id="openai/whisper-large-v3") == ("transcribe", "translate")
    assert tasks(id="my-turbo", tasks=["transcribe", "translate"]) == ("transcribe", "translate")
    assert tasks(id="speech", tasks=["transcribe"]) == ("transcribe",)
    with pytest.raises(ConfigurationError, match=r"models\.0\.tasks"):
        tasks(id="speech", tasks=["sing"])
