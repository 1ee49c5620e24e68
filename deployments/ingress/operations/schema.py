"""The wire of /v1/models."""

from typing import Literal

from pydantic import BaseModel


class ModelCard(BaseModel):
    """`root` is the model behind an alias, `task` what it does."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "auricle"
    root: str
    task: str


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]
