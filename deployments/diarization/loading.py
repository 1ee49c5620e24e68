"""pyannote.audio's pipelines from a directory or the hub, or one sentence that says why not."""

import os

os.environ["PYANNOTE_METRICS_ENABLED"] = "0"  # before the import: it would report every call to its makers
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import warnings
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlsplit

from huggingface_hub import get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that torchcodec finds no FFmpeg: audio is decoded elsewhere
    from pyannote.audio import Pipeline
    from pyannote.audio.pipelines import SpeakerDiarization
    from pyannote.audio.telemetry import set_telemetry_metrics

from pipelines.errors import ConfigurationError

UNAUTHORIZED = 401


def load_pipeline(source: str) -> SpeakerDiarization:
    """Load a pipeline from a directory, or from the hub by its id with the token in the environment (`HF_TOKEN`).

    Raises:
        ConfigurationError: there is none, it is not one for diarization, or the hub does not give it to us.
    """
    set_telemetry_metrics(False)
    try:
        pipeline = Pipeline.from_pretrained(source)
    except Exception as error:
        # A pipeline's config names any class with any parameters, so anything may be raised.
        raise ConfigurationError(_sentence(source, error)) from error
    if not isinstance(pipeline, SpeakerDiarization):
        raise ConfigurationError(f"'{source}' is not a pipeline for speaker diarization.")
    return pipeline


def _sentence(source: str, error: Exception) -> str:
    match error:
        case GatedRepoError():
            return _gated(source, error)
        case RepositoryNotFoundError():
            return (
                f"There is no diarization pipeline '{source}' on the hub, or it is private and HF_TOKEN may not see it."
            )
        case LocalEntryNotFoundError() | OfflineModeIsEnabled():
            return (
                f"The diarization pipeline '{source}' is neither a directory nor in the local cache of the hub, "
                "and the hub cannot be reached."
            )
        case HfHubHTTPError() if error.response.status_code == UNAUTHORIZED:
            return f"The hub did not give the diarization pipeline '{source}': HF_TOKEN is not valid."
        case HfHubHTTPError():
            return f"The hub did not give the diarization pipeline '{source}': {_first_line(error)}."
        case HFValidationError() | FileNotFoundError() if not (Path(source) / "config.yaml").exists():
            return f"'{source}' is neither a directory with a config.yaml of a pipeline nor an id on the hub."
        case UnpicklingError():
            return (
                f"The diarization pipeline '{source}' could not be loaded: a file of weights in it is damaged, "
                "or would run something if it were read."
            )
        case FileNotFoundError():
            return f"The diarization pipeline '{source}' is not complete: {error.filename} is missing."
    return f"The diarization pipeline '{source}' could not be loaded: {type(error).__name__}: {_first_line(error)}."


def _gated(source: str, error: GatedRepoError) -> str:
    """A pipeline may need repositories of other names, each with terms of its own."""
    parts = urlsplit(str(error.response.url)).path.removeprefix("/api/models").split("/")
    repository = "/".join(parts[1:3]) if len(parts) >= 3 else source
    if get_token() is None:
        return (
            f"The diarization pipeline '{source}' needs a token: accept the terms of https://hf.co/{repository}, "
            "make a token at https://hf.co/settings/tokens and set HF_TOKEN where the replica runs."
        )
    return (
        f"The diarization pipeline '{source}' is not open to the account of HF_TOKEN: "
        f"accept the terms of https://hf.co/{repository} with that account."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no more is known"])[0].rstrip(".")
