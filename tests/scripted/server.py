"""The API of the default configuration over scripted engines, on a real socket of this process.

Wire rules that need no understanding are tested here: uploads are decoded by the audio deployment's own reader and
rendered by the ingress's own routes; only what would take a model is scripted.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI

from deployments.audio.live import LiveEar
from deployments.audio.silero import SileroModel
from deployments.ingress.api import create_api
from deployments.ingress.catalogue import Catalogue
from deployments.ingress.media.fetch import FetchLimits, MediaFetcher
from deployments.ingress.metrics import IngressMetrics, to_prometheus_text
from deployments.ingress.quotas import Quotas
from deployments.ingress.services import Services
from deployments.settings import Settings
from tests.conftest import Server, embedded_config, free_port
from tests.scripted.chat_model import ScriptedChatModel
from tests.scripted.engines import ScriptedDiarizer, ScriptedRecognizer
from tests.scripted.reader import LocalReader

START_TIMEOUT_S = 30
NATIVE_CHAT_MODEL = "native-chat"
"""Hears by itself, as the default configuration's model does not."""


def scripted_settings() -> Settings:
    """What the default configuration says, and a chat model more."""
    args = embedded_config()["applications"][0]["args"]
    return Settings.model_validate({**args, "models": [*args["models"], {"id": NATIVE_CHAT_MODEL, "task": "chat"}]})


def scripted_api(**changes: Any) -> FastAPI:
    """`changes`: of the services."""
    settings = scripted_settings()
    metrics = IngressMetrics()
    speech, chat = ([model.id for model in models] for models in (settings.speech_models, settings.chat_models))
    metrics.declare_models([*speech, *chat])

    async def nothing_unavailable() -> dict[str, str | None]:
        return {}

    async def metrics_text() -> bytes:
        return to_prometheus_text([metrics.snapshot()])

    def observe(model: str) -> Any:
        return lambda work: metrics.observe_work(model, work)

    services = Services(
        catalogue=Catalogue(settings, int(time.time())),
        limits=settings.limits,
        api_keys=(),
        quotas=Quotas(metrics),
        reader=LocalReader(settings.limits.decoding()),
        recognizers={model: ScriptedRecognizer(observe(model)) for model in speech},
        metrics=metrics,
        unavailable=nothing_unavailable,
        model_states=lambda: dict.fromkeys((*speech, *chat), "ready"),
        metrics_text=metrics_text,
        new_ear=partial(LiveEar, SileroModel()),
        chat_models={model: ScriptedChatModel(observe(model)) for model in chat},
        fetcher=MediaFetcher(frozenset({"127.0.0.1"}), FetchLimits(settings.limits.max_upload_bytes)),
        diarizer=ScriptedDiarizer(observe("diarization")),
        diarization=settings.diarization,
    )
    return create_api(replace(services, **changes))


@contextmanager
def served(app: FastAPI) -> Iterator[Server]:
    """By uvicorn, in a thread."""
    port = free_port()
    config = uvicorn.Config(app, "127.0.0.1", port, log_level="warning", lifespan="off", timeout_graceful_shutdown=3)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="scripted", daemon=True)
    thread.start()
    deadline = time.monotonic() + START_TIMEOUT_S
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.started, "the scripted server did not start"
    try:
        yield Server(f"http://127.0.0.1:{port}", os.getpid())
    finally:
        server.should_exit = True
        thread.join(10)
