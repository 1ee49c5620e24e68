"""What a configuration says of one model, each validated with one clear sentence per mistake."""

import re
from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from deployments.asr.engine import ENGINES as ASR_ENGINES
from deployments.asr.engine import Timestamps
from deployments.chat.engine import ENGINES as CHAT_ENGINES
from deployments.diarization.engine import ENGINES as DIARIZATION_ENGINES
from deployments.engines import check_engine
from models.sources import embedded_model
from pipelines.transcript_types import Task
from pipelines.voices import VoiceOptions

Family = Literal["whisper", "4o", "gpt", "diarize"]

# of an id that does not say its family, the first pattern that fits tells; everything else is Whisper
FAMILY_PATTERNS: dict[str, Family] = {
    "*diarize*": "diarize",
    "gpt-4o-*transcribe*": "4o",
    "gpt-transcribe*": "gpt",
    "gpt-live-transcribe*": "gpt",
}

TASKS = ("transcription", "chat")

# checkpoints that were not trained to translate, although their tokens say so: they would answer in the wrong language
TRANSCRIBING_ONLY = ("*turbo*", "*distil-*")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Named(Strict):
    """`family` decides which parameters a request may have; by default the id tells."""

    id: str = Field(min_length=1)
    family: Family = "whisper"

    @model_validator(mode="before")
    @classmethod
    def _family_from_id(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("id"), str) and data.get("family") is None:
            return {**data, "family": family_of(data["id"])}
        return data


class Alias(_Named):
    """Another name of a model."""


class _ModelConfig(_Named):
    """One checkpoint to serve, as a deployment of its own.

    id: what clients call it.
    task: "transcription" is Whisper's, "chat" that of a language model, which may hear.
    name: of its deployment, for `deployments:`; by default the id with everything but letters and digits as "-".
    engine: a name from the table of engines, or `module:Class`.
    source: hub id or directory of the checkpoint, or `embedded:NAME` of the catalogue; by default the id.
    device: torch's word; "auto" takes the GPU that the replica was given, else the CPU.
    threads: of a CPU that one replica uses; by default as many as its `num_cpus`, and at least one.
    dtype: torch's word; "auto" is half precision on a GPU (float16 for Whisper, bfloat16 for chat), and on a CPU int8
        where that has instructions for it, else float32.
    unload_after_s: idle, its only replica goes, and comes back with the next request; by default it stays.
    """

    engines: ClassVar[Mapping[str, str]]
    room: ClassVar[str]

    task: str
    name: str = Field(default="", pattern=r"^[A-Za-z0-9._-]*$")
    aliases: tuple[Alias, ...] = ()
    engine: str = "transformers"
    source: str = ""
    device: str = "auto"
    threads: int | None = Field(default=None, ge=1)
    unload_after_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    dtype: Literal["auto", "float32", "float16", "bfloat16", "int8"] = "auto"

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

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        return checked_source(source)

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, engine: str) -> str:
        check_engine(engine, cls.engines)
        return engine

    @property
    def deployment_name(self) -> str:
        return f"{self.room}-{self.name}"

    @property
    def names(self) -> tuple[_Named, ...]:
        return (self, *self.aliases)


class SpeechModelConfig(_ModelConfig):
    """The deployment `asr-<name>`.

    tasks: what it may be asked for, of what the checkpoint can do; by default its id and source tell.
    timestamps: from what times are told: the decoder's attention, or timestamp tokens that it writes, as OpenAI's own
        Whisper does.
    cache_mb: of each replica, for what the encoder made of windows that may come again; 0 keeps nothing.
    """

    engines, room = ASR_ENGINES, "asr"

    task: Literal["transcription"] = "transcription"
    tasks: tuple[Task, ...] = Field(default=("transcribe", "translate"), min_length=1)
    timestamps: Timestamps = "attention"
    cache_mb: int = Field(default=64, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _tasks_from_source(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("tasks") is None:
            named = [str(data.get(key, "")).lower() for key in ("id", "source")]
            if any(fnmatch(name, pattern) for name in named for pattern in TRANSCRIBING_ONLY):
                return {**data, "tasks": ("transcribe",)}
        return data


class SamplingConfig(Strict):
    """What a chat request may leave out (CHT-10, CHT-21); None is what the checkpoint wants, else OpenAI's default."""

    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=-1)
    min_p: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=100, allow_inf_nan=False)


class ChatModelConfig(_ModelConfig):
    """The deployment `chat-<name>`.

    hears: id of the transcription model that hears for a model which does not hear by itself; such a model reads what
        that one has heard, of audio as long as an upload may be.
    sampling: how answers are written where a request does not say; by default as the checkpoint wants it.
    max_context_tokens: of prompt and answer together; by default what the checkpoint was made for.
    max_audios: audio parts in one request.
    max_audio_s: of all audio in one request, for a model that hears by itself; if it hears less, it says so itself.
    """

    engines, room = CHAT_ENGINES, "chat"

    task: Literal["chat"]
    hears: str | None = None
    sampling: SamplingConfig = SamplingConfig()
    max_context_tokens: int | None = Field(default=None, ge=16)
    max_audios: int = Field(default=8, ge=0)
    max_audio_s: float = Field(default=600.0, gt=0, allow_inf_nan=False)


def _task_of(data: Any) -> str:
    task = data.get("task", "transcription") if isinstance(data, dict) else getattr(data, "task", "transcription")
    return str(task)


ModelConfig = Annotated[
    Annotated[SpeechModelConfig, Tag("transcription")] | Annotated[ChatModelConfig, Tag("chat")],
    Discriminator(
        _task_of,
        custom_error_type="task",
        custom_error_message="There is no such task: use 'transcription' or 'chat'",
    ),
]


class DiarizationConfig(Strict):
    """Who said what: one pipeline, as the deployment `diarization`.

    engine: a name from the table of engines, or `module:Class`.
    source: hub id or directory of the pipeline, or `embedded:NAME` of the catalogue.
    device: torch's word; "auto" takes the GPU that the replica was given, else the CPU.
    batch_size: stretches of audio that a network looks at together.
    hop_s: between the short windows whose voices are compared; by default as the pipeline says. Only the embedded
        pipeline has such windows.
    max_window_s: longer recordings are diarized in windows of this length, and their speakers matched by voice.
    min_known_similarity: cosine to the reference of a known speaker below which somebody stays a stranger.
    min_linked_similarity: the same between a recording's windows.
    """

    engine: str = "pyannote"
    source: str = Field(min_length=1)
    device: str = "auto"
    batch_size: int = Field(default=16, ge=1)
    hop_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_window_s: float = Field(default=600.0, ge=30, allow_inf_nan=False)
    min_known_similarity: float = Field(default=0.5, ge=-1, le=1)
    min_linked_similarity: float = Field(default=0.5, ge=-1, le=1)

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, engine: str) -> str:
        check_engine(engine, DIARIZATION_ENGINES)
        return engine

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        return checked_source(source)

    def voices(self) -> VoiceOptions:
        return VoiceOptions(self.min_known_similarity, self.min_linked_similarity)


def checked_source(source: str) -> str:
    """
    Raises:
        ConfigurationError: it names an embedded model that there is not.
    """
    embedded_model(source)
    return source


def family_of(model_id: str) -> Family:
    return next((family for pattern, family in FAMILY_PATTERNS.items() if fnmatch(model_id, pattern)), "whisper")
