"""What a speech recogniser must do to be served, and the table of those that can be."""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

from pipelines.errors import ConfigurationError
from pipelines.types import AudioChunk, ChunkTranscript, DecodingOptions, RecognizerInfo

ENGINES = {"transformers": "deployments.asr.transformers_whisper:TransformersWhisper"}
"""Name in the configuration to import path; any other `module:Class` is taken as it is.

An engine's name is also the library that it needs, and where that is optional, the extra that installs it.
"""


@dataclass(frozen=True, slots=True)
class EngineArgs:
    """What an engine is built from.

    source: hub id or directory of the checkpoint.
    device: torch's name of it, "auto" for the first GPU that the replica was given, else the CPU.
    dtype: torch's name of it, "auto" for float16 on a GPU and float32 on a CPU.
    num_threads: CPU threads that the replica was given.
    """

    source: str
    device: str = "auto"
    dtype: str = "auto"
    num_threads: int = 1


@dataclass(frozen=True, slots=True)
class StepOutput:
    """A request that has finished: it is no longer aboard."""

    request_id: str
    result: ChunkTranscript


class AsrEngine(Protocol):
    """Synchronous and used by one thread only; constructed with `EngineArgs`. Options travel per row."""

    info: RecognizerInfo

    def __init__(self, args: EngineArgs) -> None: ...

    def add(self, request_id: str, chunk: AudioChunk, options: DecodingOptions) -> None:
        """Take a request aboard.

        Raises:
            InvalidRequest: when this model cannot do what `options` ask for; nothing is aboard then.
        """
        ...

    def step(self) -> list[StepOutput]:
        """Run one decoding step for everybody aboard and return who has finished."""
        ...

    def abort(self, request_id: str) -> None:
        """Drop a request; unknown ids are ignored, for it may just have finished."""
        ...


def check_engine(name: str) -> None:
    """Refuse what cannot be loaded, without the seconds that importing a model library takes.

    Raises:
        ConfigurationError: no such engine, or a library that it needs is not installed.
    """
    if name in ENGINES:
        if find_spec(name) is None:
            raise ConfigurationError(
                f"Engine '{name}' needs the library '{name}', which is not installed: pip install 'auricle[{name}]'."
            )
    else:
        load_engine(name)


def load_engine(name: str) -> type[AsrEngine]:
    """The class that a model's `engine` names.

    Raises:
        ConfigurationError: there is none.
    """
    module_name, _, class_name = ENGINES.get(name, name).partition(":")
    if not class_name:
        known = ", ".join(f"'{engine}'" for engine in ENGINES)
        raise ConfigurationError(f"Unknown engine '{name}': use {known} or 'module:Class'.")
    try:
        engine: type[AsrEngine] = getattr(import_module(module_name), class_name)
    except ImportError as error:
        raise ConfigurationError(f"Engine '{name}' needs the module '{error.name}', which is missing.") from None
    except (TypeError, ValueError):
        raise ConfigurationError(f"Engine '{name}': '{module_name}' is not the name of a module.") from None
    except AttributeError:
        raise ConfigurationError(f"Engine '{name}': module '{module_name}' has no '{class_name}'.") from None
    return engine
