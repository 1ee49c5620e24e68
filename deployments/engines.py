"""Engines by name: tables of import paths, which also take `module:Class`."""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from pipelines.errors import ConfigurationError


def check_engine(name: str, engines: Mapping[str, str]) -> None:
    """Refuse what cannot be loaded, without the seconds that importing a model library takes.

    engines: name to import path; a name is also the library that the engine needs.

    Raises:
        ConfigurationError: no such engine, or a library that it needs is not installed.
    """
    if name in engines:
        if find_spec(name) is None:
            raise ConfigurationError(
                f"Engine '{name}' needs the library '{name}', which is not installed: pip install 'auricle[{name}]'."
            )
    else:
        load_engine(name, engines)


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
