"""The ingress deployment: the FastAPI application, given the graph's handles."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from prometheus_client.metrics_core import Metric
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.ingress.api import create_api
from deployments.ingress.catalogue import Catalogue
from deployments.ingress.media.fetch import FetchLimits, MediaFetcher
from deployments.ingress.metrics import IngressMetrics, to_prometheus_text
from deployments.ingress.services import Services
from deployments.remote.audio import RemoteAudioReader
from deployments.remote.chat_model import RemoteChatModel
from deployments.remote.diarizer import RemoteDiarizer
from deployments.remote.recognizer import RemoteRecognizer
from deployments.remote.status import StatusWatch
from deployments.settings import API_KEYS_VARIABLE, Settings, allowed_media_hosts, api_keys
from pipelines.errors import ConfigurationError
from pipelines.transcript_types import Work

logger = logging.getLogger("ray.serve")

METRICS_TIMEOUT_S = 2.0


@serve.deployment(
    # Never refuse here: Serve's proxy would answer plain text. The inner deployments are bounded, and answer 429.
    max_ongoing_requests=1_000,
    max_queued_requests=-1,
    health_check_period_s=2,
    graceful_shutdown_timeout_s=60,
    ray_actor_options={"num_cpus": 0.25},
)
@serve.ingress()
class Ingress:
    def __init__(
        self,
        settings: Settings,
        created_at: int,
        audio: DeploymentHandle,
        asr: dict[str, DeploymentHandle],
        chat: dict[str, DeploymentHandle],
        diarization: DeploymentHandle | None,
    ) -> None:
        keys = api_keys()
        if settings.require_api_key and not keys:
            raise ConfigurationError(
                f"require_api_key is set, but {API_KEYS_VARIABLE} is empty where the ingress runs: "
                "set it where Ray is started on the nodes, or in the application's runtime_env."
            )
        logger.info("API keys: %s", f"one of {len(keys)} is required" if keys else "none is required")
        self._peers: DeploymentHandle | None = None
        self._metrics = IngressMetrics()
        self._metrics.declare_models([*asr, *chat])
        self._services = Services(
            catalogue=Catalogue(settings, created_at),
            limits=settings.limits,
            api_keys=keys,
            reader=RemoteAudioReader(audio),
            recognizers={id: RemoteRecognizer(handle, self._observer(id)) for id, handle in asr.items()},
            chat_models={id: RemoteChatModel(handle, self._observer(id)) for id, handle in chat.items()},
            fetcher=_fetcher(settings),
            diarizer=RemoteDiarizer(diarization, self._observer("diarization")) if diarization else None,
            diarization=settings.diarization,
            metrics=self._metrics,
            unavailable=StatusWatch().unavailable,
            metrics_text=self._metrics_text,
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_api(self._services)

    async def metrics_snapshot(self) -> list[Metric]:
        return self._metrics.snapshot()

    def _observer(self, model_id: str) -> Callable[[Work], None]:
        return lambda work: self._metrics.observe_work(model_id, work)

    async def _metrics_text(self) -> bytes:
        """A scrape reaches any one replica, so each answers for all."""
        if self._peers is None:
            context = serve.get_replica_context()
            self._peers = serve.get_deployment_handle(context.deployment, context.app_name)
        try:
            async with asyncio.timeout(METRICS_TIMEOUT_S):
                snapshots: list[Any] = await self._peers.broadcast("metrics_snapshot").results_async()
        except (TimeoutError, RayError, RayServeException):
            snapshots = [self._metrics.snapshot()]
        return to_prometheus_text(snapshots)


def _fetcher(settings: Settings) -> MediaFetcher:
    media, hosts = settings.media, allowed_media_hosts(settings.media)
    if hosts:
        logger.info("Hosts that chat messages may name although they are private: %s", ", ".join(sorted(hosts)))
    return MediaFetcher(hosts, FetchLimits(settings.limits.max_upload_bytes, media.max_fetch_s, media.max_redirects))
