"""What a session may ask for, by its model's family: the same as an upload (`transcription.rules`)."""

from deployments.ingress.catalogue import Catalogue, ServedModel
from deployments.ingress.realtime.schema import SessionConfig
from deployments.ingress.transcription.rules import RULES
from pipelines.errors import InvalidRequest, ModelNotFound, UnsupportedLanguage
from pipelines.ports import Recognizer

TRANSCRIPTION = "session.audio.input.transcription"


def check_session(config: SessionConfig, catalogue: Catalogue) -> ServedModel:
    """
    Raises:
        InvalidRequest: naming the field.
    """
    asked = config.audio.input.transcription
    try:
        model = catalogue.speech_model(asked.model)
    except ModelNotFound as error:
        raise InvalidRequest(error.message, f"{TRANSCRIPTION}.model", "model_not_found") from None
    except InvalidRequest as error:
        raise InvalidRequest(error.message, f"{TRANSCRIPTION}.model", error.code) from None
    parameters = RULES[model.family].parameters
    if asked.prompt and model.family == "diarize":
        raise _unsupported(f"{TRANSCRIPTION}.prompt", model)
    for name in ("keywords", "languages"):
        if getattr(asked, name) and name not in parameters:
            raise _unsupported(f"{TRANSCRIPTION}.{name}", model)
    if asked.language and asked.languages:
        raise InvalidRequest("Give either language or languages, not both.", f"{TRANSCRIPTION}.languages")
    if asked.delay and model.family == "diarize":
        raise _unsupported(f"{TRANSCRIPTION}.delay", model)
    if config.include and "include" not in parameters:
        raise _unsupported("session.include", model)
    detection = config.audio.input.turn_detection
    if detection and detection.type == "semantic_vad" and detection.idle_timeout_ms:
        raise InvalidRequest(
            "idle_timeout_ms needs turn_detection of type 'server_vad'.",
            "session.audio.input.turn_detection.idle_timeout_ms",
        )
    return model


async def check_language(config: SessionConfig, model: ServedModel, recognizer: Recognizer) -> None:
    """What only the checkpoint knows; asked for only when it matters, because it may have to be loaded first.

    Raises:
        UnsupportedLanguage
        ModelUnavailable
    """
    language = config.audio.input.transcription.language
    if language and language not in (await recognizer.info()).languages:
        message = f"The model '{model.id}' does not know the language '{language}'."
        raise UnsupportedLanguage(message, f"{TRANSCRIPTION}.language")


def _unsupported(param: str, model: ServedModel) -> InvalidRequest:
    name = param.rpartition(".")[2]
    return InvalidRequest(f"{name} is not supported by the model '{model.id}'.", param, "unsupported_parameter")
