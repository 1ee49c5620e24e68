"""Which ids clients may ask for, and what stands behind each."""

from dataclasses import dataclass

from deployments.ingress.families import family_of
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
        self.models: list[ServedModel] = []
        for model in settings.models:
            self.models.append(ServedModel(model.id, model.id, model.family or family_of(model.id)))
            for alias in model.aliases:
                self.models.append(ServedModel(alias.id, model.id, alias.family or family_of(alias.id)))
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
