"""What the routes need, handed to them: filled with Serve handles in production and with anything else in tests."""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from deployments.ingress.catalogue import Catalogue
from deployments.ingress.gates import Gates, Visit
from deployments.ingress.http.keys import ApiKey
from deployments.ingress.media.fetch import FetchLimits, MediaFetcher
from deployments.ingress.metrics import IngressMetrics
from deployments.ingress.quotas import Quotas
from deployments.model_configs import DiarizationConfig
from deployments.settings import LimitsConfig
from pipelines.audio_types import LiveFormat
from pipelines.ports import AudioReader, ChatModel, Diarizer, Ear, Recognizer


@dataclass(frozen=True, slots=True)
class Services:
    """
    api_keys: none where nobody needs one. quotas: what they have used, in this replica's metrics as well.
    recognizers, chat_models: by the real model id.
    unavailable: the deployments that cannot answer now; and why, of those that failed to start.
    gates: who is let in to a model, by its real id.
    model_states: of each real model id "ready", "loading", "unloaded" or "failed", as it was when `unavailable` was
        answered last.
    metrics_text: the numbers of every ingress replica together.
    new_ear: hears the audio of one realtime session.
    diarizer: None where no speakers are told apart.
    cors_origins: web pages of which browsers let scripts ask; "*" for all.
    signing_key: of client secrets; all ingress replicas have the same.
    is_shutting_down: this process will end, and should take in nobody more.
    page: whether there is one at `/`.
    """

    catalogue: Catalogue
    limits: LimitsConfig
    api_keys: tuple[ApiKey, ...]
    quotas: Quotas
    reader: AudioReader
    recognizers: Mapping[str, Recognizer]
    metrics: IngressMetrics
    unavailable: Callable[[], Awaitable[Mapping[str, str | None]]]
    metrics_text: Callable[[], Awaitable[bytes]]
    new_ear: Callable[[LiveFormat], Ear]
    gates: Gates = field(default_factory=lambda: Gates(LimitsConfig().max_wait_s))
    model_states: Callable[[], Mapping[str, str]] = dict
    chat_models: Mapping[str, ChatModel] = field(default_factory=dict)
    fetcher: MediaFetcher = field(default_factory=lambda: MediaFetcher(frozenset(), FetchLimits(max_bytes=26_214_400)))
    diarizer: Diarizer | None = None
    diarization: DiarizationConfig | None = None
    cors_origins: frozenset[str] = frozenset()
    signing_key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    is_shutting_down: Callable[[], bool] = lambda: False
    page: bool = True

    def enter(self, model: str, held: ExitStack, num_rows: int = 1) -> Visit:
        """In at the model's gate until `held` is closed.

        Raises:
            Overloaded: there is no room.
        """
        return held.enter_context(self.gates[model].enter(num_rows))
