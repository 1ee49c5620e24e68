"""The deployment of one Whisper model."""

import logging
import time
from dataclasses import asdict
from functools import partial

from ray import serve

from deployments.asr.engine import ENGINES, AsrEngine, AsrEngineArgs
from deployments.asr.text_cache import TextCache
from deployments.backlog import Backlog
from deployments.decoding.deployment import EngineDeployment, UserConfig
from deployments.engines import load_engine
from deployments.model_configs import SpeechModelConfig
from deployments.resources import assigned_bytes, assigned_device, assigned_threads
from models.sources import resolve
from pipelines.audio_types import AudioChunk
from pipelines.errors import AudioServerError
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, RecognizerInfo, Work

TEXTS_SHARE = 8
"""Of what the encoder's results may take, texts may take one part in so many beside them."""

logger = logging.getLogger("ray.serve")


@serve.deployment(
    max_ongoing_requests=32,
    max_queued_requests=256,
    health_check_period_s=2,
    graceful_shutdown_timeout_s=60,
    ray_actor_options={"num_cpus": 1},
    user_config=UserConfig().model_dump(),
)
class AsrDeployment(EngineDeployment[RecognizerInfo, ChunkTranscript]):
    measures_audio = True

    def __init__(self, model: SpeechModelConfig) -> None:
        started_at_s = time.monotonic()
        self._texts = TextCache(model.cache_mb * 1_000_000 // TEXTS_SHARE)
        device = assigned_device(model.device)
        args = AsrEngineArgs(
            source=resolve(model.source),
            device=device,
            dtype=model.dtype,
            num_threads=model.threads or assigned_threads(),
            max_bytes=assigned_bytes(model.max_memory_gb, device),
            timestamps=model.timestamps,
            cache_mb=model.cache_mb,
            padding_s=model.padding_s,
            cuda_graphs=model.cuda_graphs,
        )
        engine: AsrEngine = load_engine(model.engine, ENGINES)(args)
        self._backlog = Backlog()  # idle from when the model is loaded
        self._start(engine, model.source, started_at_s, args.device, is_serial=args.device == "cpu")

    async def transcribe(
        self, chunk: AudioChunk, options: DecodingOptions
    ) -> tuple[ChunkTranscript, Work] | AudioServerError:
        self._backlog.touch()
        try:
            transcript, work = await self._texts.transcribed(chunk, options, partial(self._decode, chunk, options))
        except AudioServerError as error:
            return error
        numbers = {"chunk": chunk.index, "audio_s": round(chunk.waveform.duration_s, 3), **asdict(work)}
        logger.info("Transcribed a chunk: %s", numbers, extra=numbers)
        return transcript, work

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Also what `AudioBacklogPolicy` goes by; Serve asks."""
        return {**await super().record_autoscaling_stats(), **self._backlog.stats()}

    @property
    def _idle_s(self) -> float:
        """The loop hears nothing of chunks whose text is kept."""
        return self._backlog.idle_s

    async def _decode(self, chunk: AudioChunk, options: DecodingOptions) -> tuple[ChunkTranscript, Work]:
        """Only this is work: an answer that is kept tells nothing of how fast the model is."""
        with self._backlog.holding(chunk.waveform.duration_s):
            return await self._loop.run(chunk, options, head_start_s=options.head_start_s)
