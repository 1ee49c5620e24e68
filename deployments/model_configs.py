"""What a configuration says of one model, each validated with one clear sentence per mistake."""

import re
from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from deployments.asr.engine import ENGINES as ASR_ENGINES
from deployments.asr.engine import CudaGraphs, Timestamps
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
    """Unknown keys are refused. What stands behind a field is its description in `docs/configuration.md`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class _Named(Strict):
    id: str = Field(min_length=1)
    """What clients ask for."""
    family: Family = "whisper"
    """Which parameters a request may have, as at OpenAI. By default the id tells: `*diarize*` is `diarize`,
    `gpt-4o-*transcribe*` is `4o`, `gpt-transcribe*` and `gpt-live-transcribe*` are `gpt`, everything else is
    `whisper`."""

    @model_validator(mode="before")
    @classmethod
    def _family_from_id(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("id"), str) and data.get("family") is None:
            return {**data, "family": family_of(data["id"])}
        return data


class Alias(_Named):
    """Another name of a model."""


class _ModelConfig(_Named):
    """One checkpoint to serve, as a deployment of its own."""

    engines: ClassVar[Mapping[str, str]]
    room: ClassVar[str]

    task: str
    name: str = Field(default="", pattern=r"^[A-Za-z0-9._-]*$")
    """Of its deployment, for `deployments:`. By default the id, with everything but letters and digits as `-`."""
    aliases: tuple[Alias, ...] = ()
    """More ids for the same model: text, or `{id, family}`."""
    engine: str = "transformers"
    """What runs it: `transformers`, or `module:Class`, one of your own (`docs/engines.md`)."""
    source: str = ""
    """Hub id or directory of the checkpoint, a chat model's `.gguf` file, or `embedded:NAME` as `auricle models` lists
    them. By default the id."""
    device: str = "auto"
    """torch's name of it. `auto` is the GPU that the replica was given, else the CPU."""
    threads: int | None = Field(default=None, ge=1)
    """Of a CPU that one replica uses. By default its `num_cpus`, rounded down, and at least one."""
    max_memory_gb: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Of each replica, for all of it: its weights, and what the rows of its batch keep. Rows that it has no room for
    wait. By default on a GPU the share that is its `num_gpus`, on a CPU without a bound; the log says what fits."""
    unload_after_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """So long without a request, and the model is unloaded: its only replica goes, and the next request loads it and
    waits. Its deployment has no `num_replicas` or `autoscaling_config` then. By default it stays."""
    dtype: Literal["auto", "float32", "float16", "bfloat16", "int8"] = "auto"
    """How the weights are kept; `int8` on x86 processors. `auto` is on a GPU float16 for Whisper and bfloat16 for chat,
    on a CPU `int8` where the processor multiplies 8-bit numbers (VNNI; the log says), else float32."""

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
    """The deployment `asr-<name>`."""

    engines, room = ASR_ENGINES, "asr"

    task: Literal["transcription"] = "transcription"
    """What the model does; a model without `task` transcribes."""
    tasks: tuple[Task, ...] = Field(default=("transcribe", "translate"), min_length=1)
    """What it may be asked for, of what the checkpoint can do. By default its id and source tell: turbo and distilled
    Whispers cannot translate, and a translation asked of them is a 400. They are known by their ids, and once loaded by
    a decoder of half the encoder's layers or fewer."""
    timestamps: Timestamps = "attention"
    """What times are told by: the decoder's attention, or `tokens`, timestamps that it writes, as OpenAI's own Whisper
    does."""
    cache_mb: int = Field(default=64, ge=0)
    """Of each replica, for what the encoder made of windows, and an eighth as much beside it for what was heard in
    them: the same audio sent again skips the encoder, asked for in the same way the decoder as well, and gets the same
    answer. 0 keeps nothing."""
    padding_s: float | None = Field(default=None, ge=1, le=30)
    """On a CPU, how much silence is encoded behind an upload's chunk. By default as much as fills Whisper's 30 s up,
    which is how it was trained; with less, say 12, short clips take a part of the time and are heard nearly as well
    (`models/README.md`). Turns of realtime sessions are heard with 12 s, or 5 s where drafts take over a second, and
    drafts with 3 s, whatever stands here."""
    cuda_graphs: CudaGraphs = "auto"
    """On a GPU the decoder's steps are recorded as CUDA graphs, and each of them held against a plain step when it is;
    if one fails, the log says so, and none is used. `off` records nothing."""

    @field_validator("cuda_graphs", mode="before")
    @classmethod
    def _off_in_yaml(cls, cuda_graphs: Any) -> Any:
        """There `off` is false."""
        return "off" if cuda_graphs is False else cuda_graphs

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
    """0 always takes the likeliest token."""
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    """Only the likeliest tokens that have this probability together."""
    top_k: int | None = Field(default=None, ge=-1)
    """Only so many of the likeliest tokens; 0 and -1 are any number."""
    min_p: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    """Only tokens that have this share of the likeliest one's probability."""
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=100, allow_inf_nan=False)
    """Above 1, what was written or read already is less likely."""


class ChatModelConfig(_ModelConfig):
    """The deployment `chat-<name>`."""

    engines, room = CHAT_ENGINES, "chat"

    task: Literal["chat"]
    """What the model does."""
    hears: str | None = None
    """Id of the transcription model that hears for a model which does not hear by itself. Its transcript stands in the
    audio's place, of audio as long as an upload may be."""
    sampling: SamplingConfig = SamplingConfig()
    """How answers are written where a request does not say. By default as the checkpoint's `generation_config.json`
    says, else as at OpenAI."""
    max_context_tokens: int | None = Field(default=None, ge=16)
    """Of prompt and answer together. By default what the checkpoint was made for."""
    max_audios: int = Field(default=8, ge=0)
    """Audio parts in one request."""
    max_audio_s: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    """Of all audio in one request, where the model hears by itself; a model that hears less says so itself."""


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
    """Who said what: one pipeline, as the deployment `diarization`."""

    engine: str = "pyannote"
    """What runs it: `pyannote`, or `module:Class`, one of your own (`docs/engines.md`)."""
    source: str = Field(min_length=1)
    """Hub id or directory of a pyannote.audio pipeline, or `embedded:speaker-diarization`."""
    device: str = "auto"
    """torch's name of it. `auto` is the GPU that the replica was given, else the CPU."""
    batch_size: int = Field(default=16, ge=1)
    """Stretches of audio that a network looks at together."""
    hop_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Between the short windows whose voices `embedded:speaker-diarization` compares; longer is quicker, and worse at
    telling who is who. By default as the pipeline says (1 s). Other pipelines have no such windows."""
    max_window_s: float = Field(default=600.0, ge=30, allow_inf_nan=False)
    """Longer recordings are diarized in windows of this length, which bounds memory, and their speakers matched by
    voice."""
    unload_after_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """So long without a request, and it is unloaded, as a model is."""
    min_known_similarity: float = Field(default=0.5, ge=-1, le=1)
    """Cosine to the reference of a known speaker below which somebody stays a stranger."""
    min_linked_similarity: float = Field(default=0.5, ge=-1, le=1)
    """Cosine above which speakers of two windows are one."""

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
