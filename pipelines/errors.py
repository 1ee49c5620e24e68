"""What can go wrong, as nouns.

AudioServerError
├── ConfigurationError              the settings cannot be served; raised at start-up only
├── InvalidRequest                  the caller must change the request
│   ├── UndecodableAudio
│   ├── AudioTooShort
│   ├── AudioTooLong
│   ├── UnsupportedLanguage
│   └── ContextLengthExceeded       the messages leave an answer no room
├── ModelNotFound
├── DeadlineExceeded                the request took longer than the server allows
└── RetryableError                  the same request may succeed after `retry_after_s`
    ├── Overloaded                  every queue is full
    └── ModelUnavailable            a lost replica, or a model still loading

Every error travels between processes, so it is built from positional, picklable arguments only.
"""


class AudioServerError(Exception):
    """Base of every error this server raises on purpose."""

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class ConfigurationError(AudioServerError):
    """One clear sentence about what is wrong with the settings."""


class InvalidRequest(AudioServerError):
    """`InvalidRequest(message, param, code)`: `param` names the field, `code` is OpenAI's machine-readable word."""

    default_param: str | None = None
    default_code: str | None = "invalid_value"

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, param, code)
        self.param = param if param is not None else self.default_param
        self.code = code if code is not None else self.default_code


class UndecodableAudio(InvalidRequest):
    default_param = "file"


class AudioTooShort(InvalidRequest):
    default_param = "file"
    default_code = "audio_too_short"


class AudioTooLong(InvalidRequest):
    default_param = "file"


class UnsupportedLanguage(InvalidRequest):
    default_param = "language"
    default_code = "invalid_language_format"


class ContextLengthExceeded(InvalidRequest):
    default_param = "messages"
    default_code = "context_length_exceeded"


class ModelNotFound(AudioServerError):
    """`ModelNotFound(model_id)`."""

    @property
    def message(self) -> str:
        return f"The model '{self.args[0]}' does not exist on this server."


class RetryableError(AudioServerError):
    """`RetryableError(message, retry_after_s)`: the same request may succeed a little later."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message, retry_after_s)
        self.retry_after_s = retry_after_s


class Overloaded(RetryableError):
    """Every queue in front of the model is full."""


class ModelUnavailable(RetryableError):
    """The model is still loading, or the replica that worked on the request was lost."""


class DeadlineExceeded(AudioServerError):
    """The request took longer than `limits.max_request_s`."""
