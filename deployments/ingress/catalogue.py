"""Which ids clients may ask for, and what stands behind each."""

from dataclasses import dataclass

from deployments.settings import Family, Settings
from pipelines.errors import ModelNotFound


@dataclass(frozen=True, slots=True)
class ServedModel:
    """`id` is what the client says and what answers echo; `root` is the model behind it."""

    id: str
    root: str
    family: Family
    task: str = "transcription"


class Catalogue:
    def __init__(self, settings: Settings, created_at: int) -> None:
        self.created_at = created_at
        self.models = [ServedModel(name.id, model.id, name.family) for model in settings.models for name in model.names]
        self._by_id = {model.id: model for model in self.models}

    def find(self, model_id: str) -> ServedModel:
        """
        Raises:
            ModelNotFound
        """
        try:
            return self._by_id[model_id]
        except KeyError:
            raise ModelNotFound(model_id) from None
