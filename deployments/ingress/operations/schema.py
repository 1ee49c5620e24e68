"""The wire of /v1/models."""

from typing import Literal

from pydantic import BaseModel


class ModelCard(BaseModel):
    """`root` is the model behind an alias, `task` what it does; `family` and `tasks` are a transcription model's: which
    parameters it takes, and whether it translates."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "auricle"
    root: str
    task: str
    family: str | None = None
    tasks: list[str] = []


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]
