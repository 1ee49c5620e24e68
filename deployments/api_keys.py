"""The keys that clients may send, as the environment and a file of its choice say."""

import logging
import stat
from pathlib import Path

import yaml
from pydantic import Field, ValidationError, model_validator

from deployments.environment import api_keys_file, listed_api_keys
from deployments.ingress.http.keys import ApiKey, digest_of, unnamed
from deployments.model_configs import Strict
from deployments.settings import sentence_of
from pipelines.errors import ConfigurationError

logger = logging.getLogger("ray.serve")


class KeyEntry(Strict):
    """One key of the file: itself, or its SHA-256 in hexadecimal digits, so that the file holds no secret."""

    name: str = Field(min_length=1)
    key: str | None = Field(default=None, min_length=1, pattern=r"^\S+$")
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-fA-F]{64}$")
    requests_per_hour: int | None = Field(default=None, ge=1)
    audio_minutes_per_hour: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_sessions: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _is_one_key(self) -> "KeyEntry":
        if (self.key is None) == (self.sha256 is None):
            raise ValueError("It needs either 'key' or 'sha256'")
        return self

    def known(self) -> ApiKey:
        digest = digest_of(self.key) if self.key is not None else str(self.sha256).lower()
        return ApiKey(self.name, digest, self.requests_per_hour, self.audio_minutes_per_hour, self.max_sessions)


class KeyFile(Strict):
    keys: tuple[KeyEntry, ...] = Field(min_length=1)


def api_keys() -> tuple[ApiKey, ...]:
    """None means that anybody may ask.

    Raises:
        ConfigurationError
    """
    path = api_keys_file()
    keys = (*unnamed(listed_api_keys()), *(read_keys(path) if path else ()))
    _refuse_twice("name", [key.name for key in keys], [key.name for key in keys])
    _refuse_twice("key", [key.digest for key in keys], [key.name for key in keys])
    return keys


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """
    Raises:
        ConfigurationError: naming the file and the mistake, but no key.
    """
    try:
        file = KeyFile.model_validate(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}.") from None
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {_sentence(error)}") from None
    except (yaml.YAMLError, ValueError):  # whose message may quote a key
        raise ConfigurationError(f"{path}: Not YAML.") from None
    if path.stat().st_mode & stat.S_IROTH and any(entry.key for entry in file.keys):
        logger.warning("%s holds keys, and every user of this machine can read it", path)
    return tuple(entry.known() for entry in file.keys)


def _sentence(error: ValidationError) -> str:
    """Without what stands there where a name is wanted: it may be a key."""
    mistake = error.errors()[0]
    if mistake["type"] != "extra_forbidden":
        return sentence_of(error, "the file")
    place = ".".join(map(str, mistake["loc"][:-1]))
    known = (KeyEntry if place else KeyFile).model_fields
    return f"There is something unknown in {place or 'the file'}, which may have: {', '.join(known)}."


def _refuse_twice(what: str, values: list[str], names: list[str]) -> None:
    for place, value in enumerate(values):
        if value in values[:place]:
            first = names[values.index(value)]
            of = f"'{first}'" if first == names[place] else f"'{first}' and '{names[place]}'"
            raise ConfigurationError(f"Two API keys have the same {what}: {of}.")
