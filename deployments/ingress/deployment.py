"""The ingress deployment: the FastAPI application, given the graph's handles."""

import logging
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from prometheus_client.metrics_core import Metric
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.api_keys import api_keys
from deployments.compat.glibc import HeapKeeper
from deployments.compat.serve import call_all_replicas, is_shutting_down
from deployments.environment import (
    API_KEYS_FILE_VARIABLE,
    API_KEYS_VARIABLE,
    HAPROXY_VARIABLE,
    allowed_media_hosts,
    cors_origins,
    haproxy_is_on,
)
from deployments.ingress.api import create_api
from deployments.ingress.catalogue import Catalogue
from deployments.ingress.gates import Gate, Gates
from deployments.ingress.ledger import Report
from deployments.ingress.media.fetch import FetchLimits, MediaFetcher
from deployments.ingress.metrics import IngressMetrics, to_prometheus_text
from deployments.ingress.quotas import Quotas
from deployments.ingress.services import Services
from deployments.remote.audio import RemoteAudioReader
from deployments.remote.chat_model import RemoteChatModel
from deployments.remote.diarizer import RemoteDiarizer
from deployments.remote.recognizer import RemoteRecognizer
from deployments.remote.status import StatusWatch
from deployments.settings import AUDIO, DIARIZATION, Settings
from pipelines.audio_types import LiveFormat
from pipelines.errors import ConfigurationError
from pipelines.ports import Ear
from pipelines.transcript_types import Work

if TYPE_CHECKING:
    from deployments.audio.silero import SileroModel

logger = logging.getLogger("ray.serve")

PEERS_TIMEOUT_S = 2.0


@serve.deployment(
    # Never refuse here: Serve's proxy would answer plain text. The inner deployments are bounded, and answer 429.
    max_ongoing_requests=1_000,
    max_queued_requests=-1,
    health_check_period_s=2,
    graceful_shutdown_timeout_s=60,
    ray_actor_options={"num_cpus": 0.25},
)
@serve.ingress()
class IngressDeployment:
    def __init__(
        self, settings: Settings, created_at: int, signing_key: bytes, handles: dict[str, DeploymentHandle]
    ) -> None:
        """`handles`: of the other deployments, by their names."""
        keys = api_keys()
        if settings.require_api_key and not keys:
            raise ConfigurationError(
                f"require_api_key is set, but {API_KEYS_VARIABLE} and {API_KEYS_FILE_VARIABLE} are empty where the "
                "ingress runs: set one where Ray is started on the nodes, or name a file in the application's "
                f"runtime_env ({API_KEYS_FILE_VARIABLE}; a key itself would stand in Ray's logs there)."
            )
        if settings.haproxy and not haproxy_is_on():
            raise ConfigurationError(
                f"haproxy is set, but {HAPROXY_VARIABLE}=1 is not in the environment in which Ray was started."
            )
        logger.info("API keys: %s", f"one of {len(keys)} is required" if keys else "none is required")
        self._heap = HeapKeeper()
        self._peers: DeploymentHandle | None = None
        self._metrics = IngressMetrics(serve.get_replica_context().replica_id.unique_id)
        self._metrics.declare_models(model.id for model in settings.models)
        self._quotas = Quotas(self._metrics, ask_peers=self._ask_for_reports)

        gates = Gates(settings.limits.max_wait_s)

        def watched(name: str, label: str) -> tuple[DeploymentHandle, Callable[[Work], None]]:
            return handles[name], partial(self._observe, gates[label], label)

        watch = StatusWatch()
        self._services = Services(
            catalogue=Catalogue(settings, created_at),
            limits=settings.limits,
            api_keys=keys,
            quotas=self._quotas,
            gates=gates,
            reader=RemoteAudioReader(handles[AUDIO]),
            recognizers={
                model.id: RemoteRecognizer(*watched(model.deployment_name, model.id))
                for model in settings.speech_models
            },
            chat_models={
                model.id: RemoteChatModel(*watched(model.deployment_name, model.id)) for model in settings.chat_models
            },
            fetcher=_fetcher(settings),
            diarizer=RemoteDiarizer(*watched(DIARIZATION, DIARIZATION)) if settings.diarization else None,
            diarization=settings.diarization,
            cors_origins=cors_origins(settings.cors.allow_origins),
            page=settings.page,
            metrics=self._metrics,
            unavailable=watch.unavailable,
            model_states=lambda: {model.id: watch.state_of(model.deployment_name) for model in settings.models},
            metrics_text=self._metrics_text,
            new_ear=_new_ear,
            signing_key=signing_key,
            is_shutting_down=is_shutting_down,
        )

    async def check_health(self) -> None:
        """Serve asks every other second; nothing but the process itself can fail here."""
        await self._heap.keep()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_api(self._services)

    def _observe(self, gate: Gate, label: str, work: Work) -> None:
        gate.observe(work)
        self._metrics.observe_work(label, work)

    async def metrics_snapshot(self) -> list[Metric]:
        return self._metrics.snapshot()

    async def quota_report(self, since_slot: int) -> Report:
        return self._quotas.report(since_slot)

    async def _metrics_text(self) -> bytes:
        """A scrape reaches any one replica, so each answers for all."""
        snapshots = [snapshot for snapshot in await self._ask_all("metrics_snapshot") if snapshot is not None]
        return to_prometheus_text(snapshots or [self._metrics.snapshot()])

    async def _ask_for_reports(self, since_slot: int) -> list[Report | None]:
        return await self._ask_all("quota_report", since_slot)

    async def _ask_all(self, method: str, *args: Any) -> list[Any]:
        """What every ingress replica answers, this one as well; None of each that does not."""
        if self._peers is None:
            context = serve.get_replica_context()
            self._peers = serve.get_deployment_handle(context.deployment, context.app_name)
        try:
            answers = await call_all_replicas(self._peers, method, *args, timeout_s=PEERS_TIMEOUT_S)
        except (TimeoutError, RayError, RayServeException) as error:
            logger.warning("The other ingress replicas could not be asked for %s: %s", method, type(error).__name__)
            return [None]
        if None in answers:
            logger.warning("%d of %d ingress replicas do not say their %s", answers.count(None), len(answers), method)
        return answers


def _new_ear(format: LiveFormat) -> Ear:
    """Here and not by a call of the audio deployment: to judge a frame takes a fiftieth of such a call."""
    # only where somebody opens a session: it takes 50 MB
    from deployments.audio.live import LiveEar

    return LiveEar(_silero(), format)


@cache
def _silero() -> "SileroModel":
    from deployments.audio.silero import SileroModel

    return SileroModel()


def _fetcher(settings: Settings) -> MediaFetcher:
    media, hosts = settings.media, allowed_media_hosts(settings.media.allowed_hosts)
    if hosts:
        logger.info("Hosts that chat messages may name although they are private: %s", ", ".join(sorted(hosts)))
    return MediaFetcher(hosts, FetchLimits(settings.limits.max_upload_bytes, media.max_fetch_s, media.max_redirects))
