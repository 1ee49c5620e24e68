"""Which ids clients may ask for, and what stands behind each."""

from dataclasses import dataclass

from deployments.model_configs import ChatModelConfig, Family
from deployments.settings import Settings
from pipelines.errors import InvalidRequest, ModelNotFound
from pipelines.transcript_types import Task


@dataclass(frozen=True, slots=True)
class ServedModel:
    """`id` is what the client says and what answers echo; `root` is the model behind it."""

    id: str
    root: str
    family: Family
    task: str = "transcription"
    tasks: tuple[Task, ...] = ()
    """What a transcription model may be asked for, by its configuration."""


class Catalogue:
    """Chat models come first (MDL-02): clients take the first one that is listed to chat with."""

    def __init__(self, settings: Settings, created_at: int) -> None:
        self.created_at = created_at
        self.models = [
            ServedModel(name.id, model.id, name.family, model.task, getattr(model, "tasks", ()))
            for model in (*settings.chat_models, *settings.speech_models)
            for name in model.names
        ]
        self._by_id = {model.id: model for model in self.models}
        self._chat_models = {model.id: model for model in settings.chat_models}

    def find(self, model_id: str) -> ServedModel:
        """
        Raises:
            ModelNotFound
        """
        try:
            return self._by_id[model_id]
        except KeyError:
            raise ModelNotFound(model_id) from None

    def speech_model(self, model_id: str, task: Task = "transcribe") -> ServedModel:
        """
        Raises:
            ModelNotFound
            InvalidRequest: it chats, or it is not there for this task (TRL-03).
        """
        model = self.find(model_id)
        if model.task != "transcription":
            raise InvalidRequest(f"'{model_id}' does not transcribe: ask it at /v1/chat/completions.", "model")
        if task not in model.tasks:
            raise InvalidRequest(f"The model '{model_id}' does not {task}.", "model")
        return model

    def chat_model(self, model_id: str) -> ChatModelConfig:
        """
        Raises:
            ModelNotFound
            InvalidRequest: it transcribes (CHT-01).
        """
        model = self.find(model_id)
        if model.task != "chat":
            raise InvalidRequest(f"'{model_id}' does not chat: ask it at /v1/audio/transcriptions.", "model")
        return self._chat_models[model.root]
