"""What the graph is made of: the `args` of a Serve application, validated with one clear sentence per mistake.

How much of it runs (replicas, autoscaling, GPU fractions, queue bounds) lives in Serve's own `deployments:`.
Secrets come from the environment, read here only.
"""

import os
import re
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)

from deployments.asr.engine import check_engine
from pipelines.errors import ConfigurationError
from pipelines.types import DecodeLimits

Family = Literal["whisper", "4o", "gpt"]

API_KEYS_VARIABLE = "AURICLE_API_KEYS"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Alias(_Strict):
    """Another name of a model. `family` decides which parameters a request may have; by default the id tells."""

    id: str = Field(min_length=1)
    family: Family | None = None


class Model(_Strict):
    """One checkpoint to serve, as the deployment `asr-<name>`.

    id: what clients call it.
    name: of its deployment, for `deployments:`; by default the id with everything but letters and digits as "-".
    engine: a name from the table of engines, or `module:Class`.
    source: hub id or directory of the checkpoint; by default the id.
    device, dtype: torch's words; "auto" takes the GPU that the replica was given, else the CPU.
    """

    id: str = Field(min_length=1)
    name: str = Field(default="", pattern=r"^[A-Za-z0-9._-]*$")
    aliases: tuple[Alias, ...] = ()
    family: Family | None = None
    engine: str = "transformers"
    source: str = ""
    device: str = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"

    @field_validator("aliases", mode="before")
    @classmethod
    def _plain_aliases(cls, aliases: Any) -> Any:
        if not isinstance(aliases, (list, tuple)):
            return aliases
        return [{"id": alias} if isinstance(alias, str) else alias for alias in aliases]

    @model_validator(mode="before")
    @classmethod
    def _defaults_from_id(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("id"), str):
            slug = re.sub(r"[^A-Za-z0-9]+", "-", data["id"]).strip("-")
            data = {**data, "name": data.get("name") or slug, "source": data.get("source") or data["id"]}
        return data

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, engine: str) -> str:
        check_engine(engine)
        return engine

    @property
    def deployment_name(self) -> str:
        return f"asr-{self.name}"


class Limits(_Strict):
    """What one request may cost. Beyond it the answer is a clear 400, 413 or 503, and nothing else suffers."""

    max_upload_bytes: int = Field(default=26_214_400, ge=1)
    max_audio_s: float = Field(default=14_400.0, gt=0)
    max_channels: int = Field(default=64, ge=1)
    max_sample_rate_hz: int = Field(default=768_000, ge=8_000)
    max_upload_s: float = Field(default=300.0, gt=0)
    max_request_s: float = Field(default=3_600.0, gt=0)
    max_chunks_in_flight: int = Field(default=4, ge=1)
    max_concurrent_requests: int = Field(default=128, ge=1)

    def decoding(self) -> DecodeLimits:
        return DecodeLimits(self.max_audio_s, self.max_channels, self.max_sample_rate_hz)


class Settings(_Strict):
    """`args` of the application.

    Raises:
        ConfigurationError: instead of pydantic's report, one sentence that names the place and the mistake.
    """

    models: tuple[Model, ...] = Field(min_length=1)
    limits: Limits = Limits()
    require_api_key: bool = False

    @model_validator(mode="wrap")
    @classmethod
    def _one_sentence(cls, data: Any, validate: ModelWrapValidatorHandler["Settings"]) -> "Settings":
        try:
            settings = validate(data)
        except ValidationError as error:
            raise ConfigurationError(_sentence(error)) from None
        _refuse_twice("id", [name for m in settings.models for name in (m.id, *(alias.id for alias in m.aliases))])
        _refuse_twice("deployment", [model.deployment_name for model in settings.models])
        return settings


def api_keys() -> frozenset[str]:
    """Keys that clients must send, from `AURICLE_API_KEYS` (comma separated); none means that anybody may ask."""
    return frozenset(key.strip() for key in os.environ.get(API_KEYS_VARIABLE, "").split(",") if key.strip())


def _refuse_twice(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"Two models have the {what} '{name}'.")


def _sentence(error: ValidationError) -> str:
    mistake = error.errors()[0]
    place = ".".join(str(step) for step in mistake["loc"]) or "args"
    if mistake["type"] == "extra_forbidden":
        return f"Unknown key '{place}'."
    return f"{place}: {mistake['msg'].removeprefix('Value error, ')}."
