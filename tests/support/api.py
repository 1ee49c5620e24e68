"""The API in this process, over fakes in the places of the audio, ASR and chat deployments."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import httpx
from fastapi import FastAPI

from deployments.audio.live import LiveEar
from deployments.audio.silero import SileroModel
from deployments.ingress.api import create_api
from deployments.ingress.catalogue import Catalogue
from deployments.ingress.gates import Gates
from deployments.ingress.http.keys import ApiKey, unnamed
from deployments.ingress.metrics import IngressMetrics, to_prometheus_text
from deployments.ingress.quotas import Quotas
from deployments.ingress.services import Services
from deployments.settings import LimitsConfig, Settings
from pipelines.ports import AudioReader, ChatModel, Recognizer
from tests.support.fake_chat_model import FakeChatModel
from tests.support.fakes import FakeReader, FakeRecognizer

MODEL = "a-model"
CHAT_MODEL = "a-chat-model"


def api(
    reader: AudioReader | None = None,
    recognizer: Recognizer | None = None,
    chat_model: ChatModel | None = None,
    api_keys: Iterable[str | ApiKey] = (),
    limits: LimitsConfig | None = None,
    cors_origins: frozenset[str] = frozenset(),
    is_shutting_down: Callable[[], bool] = lambda: False,
    gates: Gates | None = None,
    **chat_settings: Any,
) -> FastAPI:
    metrics = IngressMetrics()

    async def nothing_unavailable() -> dict[str, str | None]:
        return {}

    async def metrics_text() -> bytes:
        return to_prometheus_text([metrics.snapshot()])

    models = [{"id": MODEL}, {"id": CHAT_MODEL, "task": "chat", "aliases": ["an-alias"], **chat_settings}]
    return create_api(
        Services(
            catalogue=Catalogue(Settings.model_validate({"models": models}), created_at=0),
            limits=limits or LimitsConfig(),
            api_keys=named(api_keys),
            quotas=Quotas(metrics),
            gates=gates or Gates(4.0),
            reader=reader or FakeReader(),
            recognizers={MODEL: recognizer or FakeRecognizer()},
            chat_models={CHAT_MODEL: chat_model or FakeChatModel()},
            metrics=metrics,
            unavailable=nothing_unavailable,
            metrics_text=metrics_text,
            new_ear=partial(LiveEar, SileroModel()),
            cors_origins=cors_origins,
            is_shutting_down=is_shutting_down,
        )
    )


def named(keys: Iterable[str | ApiKey]) -> tuple[ApiKey, ...]:
    return tuple(key if isinstance(key, ApiKey) else unnamed([key])[0] for key in keys)


def api_client(
    reader: AudioReader | None = None,
    recognizer: Recognizer | None = None,
    api_keys: Iterable[str | ApiKey] = (),
    chat_model: ChatModel | None = None,
    limits: LimitsConfig | None = None,
    cors_origins: frozenset[str] = frozenset(),
    **chat_settings: Any,
) -> httpx.AsyncClient:
    app = api(reader, recognizer, chat_model, api_keys, limits, cors_origins, **chat_settings)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://auricle")
