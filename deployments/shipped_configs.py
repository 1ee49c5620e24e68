"""The config files that come with Auricle, also where it was installed without its checkout."""

from importlib.resources import files
from pathlib import Path

from pipelines.errors import ConfigurationError


def shipped_configs() -> dict[str, Path]:
    """By their names: `embedded`, `cpu`, …"""
    found = (Path(str(file)) for file in files("configs").iterdir() if file.name.endswith(".yaml"))
    return {path.stem: path for path in sorted(found)}


def find_config(name: str) -> Path:
    """A file's path, or that of one that comes with Auricle: `embedded`, or `configs/embedded.yaml` anywhere.

    Raises:
        ConfigurationError: there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_configs()
    if path.suffix in ("", ".yaml") and str(path.parent) in (".", "configs") and path.stem in shipped:
        return shipped[path.stem]
    raise ConfigurationError(f"There is no file {name}; those that come with Auricle are: {', '.join(shipped)}.")
