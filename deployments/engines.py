"""Engines: what they are built from and answer with, and tables of them, which also take `module:Class`."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Generic, TypeVar

from pipelines.errors import ConfigurationError
from pipelines.transcript_types import Lookup

ResultT_co = TypeVar("ResultT_co", covariant=True)

GB = 1e9

LIBRARIES = {"pyannote": "pyannote.audio"}
"""Where an engine's library has another name."""


@dataclass(frozen=True, slots=True)
class EngineArgs:
    """What an engine is built from.

    source: hub id or directory of the checkpoint.
    device: torch's name of it (`deployments.resources` knows what "auto" is).
    dtype: torch's name of it, or "auto", which is the engine's to decide.
    num_threads: CPU threads that the replica was given.
    max_bytes: what all of it may take, weights included; None where nothing bounds it.
    """

    source: str
    device: str = "cpu"
    dtype: str = "auto"
    num_threads: int = 1
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class StepOutput(Generic[ResultT_co]):
    """What a request's step has given; after the last one the request is no longer aboard.

    result: an `AudioServerError` tells that the engine gave up this request, and it alone.
    lookups: in the engine's own caches.
    """

    request_id: str
    result: ResultT_co
    is_last: bool = True
    lookups: tuple[Lookup, ...] = ()


def check_engine(name: str, engines: Mapping[str, str]) -> None:
    """Refuse what cannot be loaded, without the seconds that importing a model library takes.

    engines: name to import path.

    Raises:
        ConfigurationError: no such engine, or a library that it needs is not installed.
    """
    if name in engines:
        library = LIBRARIES.get(name, name)
        if not _is_installed(library):
            raise ConfigurationError(f"Engine '{name}' needs the library '{library}', which is not installed.")
    else:
        load_engine(name, engines)


def _is_installed(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except ModuleNotFoundError:  # not even what it is a part of
        return False


def load_engine(name: str, engines: Mapping[str, str]) -> Any:
    """The class that `name` stands for.

    Raises:
        ConfigurationError: there is none.
    """
    module_name, _, class_name = engines.get(name, name).partition(":")
    if not class_name:
        known = ", ".join(f"'{engine}'" for engine in engines)
        raise ConfigurationError(f"Unknown engine '{name}': use {known} or 'module:Class'.")
    try:
        return getattr(import_module(module_name), class_name)
    except ImportError as error:
        raise ConfigurationError(f"Engine '{name}' needs the module '{error.name}', which is missing.") from None
    except (TypeError, ValueError):
        raise ConfigurationError(f"Engine '{name}': '{module_name}' is not the name of a module.") from None
    except AttributeError:
        raise ConfigurationError(f"Engine '{name}': module '{module_name}' has no '{class_name}'.") from None
