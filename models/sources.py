"""`source:` of a configuration: a directory, a hub id, or `embedded:NAME` of the catalogue."""

from pathlib import Path

from models.catalogue import EmbeddedModel, embedded_models
from models.fetch import fetch
from pipelines.errors import ConfigurationError

PREFIX = "embedded:"


def embedded_model(source: str) -> EmbeddedModel | None:
    """The model that a source names, if it names one of the catalogue.

    Raises:
        ConfigurationError: there is none of that name.
    """
    if not source.startswith(PREFIX):
        return None
    return find_model(source.removeprefix(PREFIX))


def find_model(name: str) -> EmbeddedModel:
    """
    Raises:
        ConfigurationError
    """
    models = embedded_models()
    if name not in models:
        raise ConfigurationError(f"There is no embedded model '{name}'; there are: {', '.join(models)}.")
    return models[name]


def resolve(source: str) -> str:
    """A source as libraries take it: an embedded model's directory on this machine, fetched unless it is there.

    Raises:
        ConfigurationError: one sentence about why it cannot be fetched.
    """
    model = embedded_model(source)
    return source if model is None else str(fetch(model))


def resolve_file(model: str, name: str) -> Path:
    """One file of an embedded model; the others are not fetched.

    Raises:
        ConfigurationError: as `resolve`.
    """
    return fetch(find_model(model), only=name) / name
