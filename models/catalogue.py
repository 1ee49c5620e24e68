"""What `catalogue.toml` says: the models, their files, and where those come from."""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

CATALOGUE = Path(__file__).with_name("catalogue.toml")


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package of the registry that carries data. `tags` are pip's words where it is not for every platform."""

    name: str
    version: str
    bytes: int
    sha256: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HubFile:
    """`revision`: a commit, or a branch."""

    repository: str
    revision: str
    file: str

    @property
    def is_pinned(self) -> bool:
        return re.fullmatch("[0-9a-f]{40}", self.revision) is not None


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file in a model's directory.

    parts: what to join, as (wheel, path in it); none when no wheel carries it.
    packaged: a file that comes with this package.
    """

    name: str
    bytes: int
    sha256: str
    parts: tuple[tuple[Wheel, str], ...] = ()
    hub: HubFile | None = None
    packaged: Path | None = None


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A published model that a configuration names `embedded:NAME`."""

    name: str
    what: str
    whose: str
    licence: str
    files: tuple[ModelFile, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def directory_name(self) -> str:
        """Files of this package are those of one version of it, which has a directory of its own for them: another
        version, which may be running, finds its own as they were."""
        packaged = "".join(file.sha256 for file in self.files if file.packaged)
        return f"{self.name}-{hashlib.sha256(packaged.encode()).hexdigest()[:8]}" if packaged else self.name


def load_catalogue(path: Path = CATALOGUE) -> dict[str, EmbeddedModel]:
    data = tomllib.loads(path.read_text())
    wheels = {name: Wheel(name, **{"tags": {}, **entry}) for name, entry in data["wheels"].items()}
    return {name: _model(name, entry, wheels, path.parent) for name, entry in data["models"].items()}


def _model(name: str, entry: dict[str, Any], wheels: Mapping[str, Wheel], package: Path) -> EmbeddedModel:
    files = tuple(_file(file, wheels, package) for file in entry["files"])
    return EmbeddedModel(name, entry["what"], entry["whose"], entry["licence"], files)


def _file(entry: dict[str, Any], wheels: Mapping[str, Wheel], package: Path) -> ModelFile:
    if "packaged" in entry:
        path = package / entry["packaged"]
        return ModelFile(entry["name"], path.stat().st_size, sha256(path), packaged=path)
    return ModelFile(
        name=entry["name"],
        bytes=entry["bytes"],
        sha256=entry["sha256"],
        parts=tuple((wheels[wheel], path) for wheel, path in entry.get("wheel", ())),
        hub=HubFile(*entry["hub"]) if "hub" in entry else None,
    )


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def embedded_models() -> dict[str, EmbeddedModel]:
    """The catalogue that comes with this package."""
    return load_catalogue()
