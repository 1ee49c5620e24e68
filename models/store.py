"""Where embedded models lie: a directory of the user's that all clones and versions share."""

import os
from pathlib import Path

from models.catalogue import EmbeddedModel, ModelFile, sha256

DIRECTORY_VARIABLE = "AURICLE_MODELS"


def store() -> Path:
    """`AURICLE_MODELS`, by default `auricle/models` in the XDG cache."""
    if named := os.environ.get(DIRECTORY_VARIABLE):
        return Path(named).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "auricle" / "models"


def directory_of(model: EmbeddedModel) -> Path:
    return store() / model.directory_name


def missing_files(model: EmbeddedModel, check_digests: bool = True) -> list[ModelFile]:
    """Those that are not there, or not what they should be. Without digests sizes must do."""
    return [file for file in model.files if not _is_there(directory_of(model) / file.name, file, check_digests)]


def kept_elsewhere(file: ModelFile) -> Path | None:
    """The same file, where another version of the program keeps it."""
    places = store().glob(f"*/{file.name}")
    return next((path for path in places if _is_there(path, file, check_digest=True)), None)


def _is_there(path: Path, file: ModelFile, check_digest: bool) -> bool:
    if not path.is_file() or path.stat().st_size != file.bytes:
        return False
    return not check_digest or sha256(path) == file.sha256
