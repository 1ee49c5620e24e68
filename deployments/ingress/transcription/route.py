"""POST /v1/audio/transcriptions and /v1/audio/translations."""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from deployments.ingress.catalogue import ServedModel
from deployments.ingress.gates import Visit
from deployments.ingress.http.admission import Admission
from deployments.ingress.http.deadlines import deadline, until_deadline
from deployments.ingress.http.keys import ApiKey
from deployments.ingress.http.streams import open_stream
from deployments.ingress.http.together import together
from deployments.ingress.services import Services
from deployments.ingress.transcription.charging import charging, heard_s
from deployments.ingress.transcription.form import check_file_size, parse_request, read_file, read_form
from deployments.ingress.transcription.known_speakers import known_speaker_clips, read_known_speakers
from deployments.ingress.transcription.options import to_options, to_vad_options
from deployments.ingress.transcription.render import StreamRenderer, render_transcript
from deployments.ingress.transcription.rules import check_duration, check_transcription, check_translation
from deployments.ingress.transcription.schema import ServerVad, TranscriptionRequest, as_json
from deployments.model_configs import Family
from pipelines.audio_types import MAX_CHUNK_S
from pipelines.diarization import DiarizedTranscriptionPipeline
from pipelines.errors import InvalidRequest, UnsupportedLanguage
from pipelines.ports import StoredUpload
from pipelines.speaker_types import KnownSpeaker
from pipelines.transcript_types import Task
from pipelines.transcription import TranscriptionPipeline
from pipelines.transcription_events import (
    SegmentFinished,
    TextDelta,
    TranscriptFinished,
    Transcription,
    TranscriptionEvent,
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    task: Task
    check: Callable[[TranscriptionRequest, Family], None]


@dataclass(frozen=True, slots=True)
class Job:
    """A request that was found good, and all that is needed to work on it."""

    request: TranscriptionRequest
    model: ServedModel
    task: Task
    upload: StoredUpload | None
    """None where it is still to be fetched."""
    api_key: ApiKey | None
    visit: Visit


TRANSCRIPTIONS = Endpoint("transcribe", check_transcription)
TRANSLATIONS = Endpoint("translate", check_translation)


def _form_schema() -> dict[str, Any]:
    schema = TranscriptionRequest.model_json_schema()
    schema["properties"]["chunking_strategy"]["anyOf"] = [{"const": "auto"}, ServerVad.model_json_schema()]
    properties = {"file": {"type": "string", "format": "binary"}, **schema["properties"]}
    form = {"schema": {"type": "object", "required": ["model"], "properties": properties}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": form}}}


def transcriptions_router(services: Services, admission: Admission) -> APIRouter:
    router = APIRouter(tags=["audio"])

    @router.post("/v1/audio/transcriptions", openapi_extra=_form_schema())
    async def create_transcription(request: Request) -> Response:
        return await _answer(request, services, admission, TRANSCRIPTIONS)

    @router.post("/v1/audio/translations", openapi_extra=_form_schema())
    async def create_translation(request: Request) -> Response:
        return await _answer(request, services, admission, TRANSLATIONS)

    return router


async def _answer(http_request: Request, services: Services, admission: Admission, endpoint: Endpoint) -> Response:
    with ExitStack() as held:
        request, model, upload, visit = await _read(http_request, services, admission, endpoint, held)
        clips = known_speaker_clips(request)
        request = request.model_copy(update={"known_speaker_references": []})  # megabytes that nobody needs any more
        job = Job(request, model, endpoint.task, upload, http_request.state.api_key, visit)
        events = until_deadline(_events(services, job, clips), services.limits.max_request_s)
        if request.stream:
            renderer = StreamRenderer(request, model, endpoint.task)
            arrived_at_s = http_request.state.arrived_at_s
            response = await open_stream(events, lambda event: _render(event, renderer), arrived_at_s)
            response.on_close(held.pop_all().close)
            return response
        async with aclosing(events):
            async for event in events:
                if isinstance(event, TranscriptFinished):
                    return render_transcript(event.transcript, request, model, endpoint.task)
    raise AssertionError("a transcription ends with TranscriptFinished")


async def _read(
    http_request: Request, services: Services, admission: Admission, endpoint: Endpoint, held: ExitStack
) -> tuple[TranscriptionRequest, ServedModel, StoredUpload | None, Visit]:
    """The form, checked as far as it can be without a model; its places are `held` from here on."""
    async with deadline(services.limits.max_upload_s, "to arrive"):
        form = await read_form(http_request)
    try:
        held.enter_context(admission.admit())
        check_file_size(form, services.limits.max_upload_bytes)
        request = parse_request(form)
        model = services.catalogue.speech_model(request.model, endpoint.task)
        endpoint.check(request, model.family)
        visit = services.enter(model.root, held)
        file = await read_file(form, request.url)
        async with deadline(services.limits.max_upload_s, "to be stored"):
            return request, model, None if file is None else await services.reader.store(file), visit
    finally:
        await form.close()


async def _check_model(services: Services, request: TranscriptionRequest, model: ServedModel, task: Task) -> None:
    """What only the checkpoint knows; asked for only when it matters, because it may have to be loaded first."""
    if task == "transcribe" and not request.language:
        return
    info = await services.recognizers[model.root].info()
    if task not in info.tasks:
        raise InvalidRequest(f"The model '{model.id}' does not {task}.", "model")
    if request.language and request.language not in info.languages:
        raise UnsupportedLanguage(f"The model '{model.id}' does not know the language '{request.language}'.")


async def _events(services: Services, job: Job, clips: dict[str, bytes]) -> AsyncGenerator[TranscriptionEvent, None]:
    """The pipeline's events, counted."""
    metrics, root, started_at = services.metrics, job.model.root, time.monotonic()
    gauge = metrics.waiting.labels(root)
    gauge.inc()
    is_silent = True
    try:
        upload = await _upload(services, job)
        known_speakers = await read_known_speakers(clips, services.reader)
        async with AsyncExitStack() as held:
            transcription = await _open(services, job, upload, known_speakers, held)
            info = transcription.info
            num_windows = ceil(info.duration_s / MAX_CHUNK_S)
            job.visit.expects(min(num_windows, services.limits.max_chunks_in_flight))
            gauge.dec()
            gauge = metrics.running.labels(root)
            gauge.inc()
            give_back = partial(services.quotas.give_back_audio, job.api_key)
            with charging(info, partial(_count_audio, services, job), give_back) as charge:
                async for event in transcription.events:
                    if isinstance(event, TextDelta) and is_silent:
                        is_silent = False
                        metrics.first_delta_seconds.labels(root).observe(time.monotonic() - started_at)
                    charge.up_to(heard_s(event))
                    yield event
    finally:
        gauge.dec()


def _count_audio(services: Services, job: Job, seconds: float) -> None:
    services.metrics.audio_seconds.labels(job.model.root, job.task).inc(seconds)
    services.quotas.charge_audio(job.api_key, seconds)


async def _upload(services: Services, job: Job) -> StoredUpload:
    if job.upload is not None:
        return job.upload
    assert job.request.url is not None
    return await services.reader.store(await services.fetcher.fetch(job.request.url, "url"))


async def _open(
    services: Services, job: Job, upload: StoredUpload, known_speakers: Sequence[KnownSpeaker], held: AsyncExitStack
) -> Transcription:
    """The upload and the model are looked at side by side, so neither's mistake waits for the other."""
    opening = held.enter_async_context(_transcription(services, job, upload, known_speakers))
    transcription: Transcription
    transcription, _ = await together(opening, _check_model(services, job.request, job.model, job.task))
    check_duration(job.request, job.model.family, transcription.info.duration_s)
    return transcription


def _transcription(
    services: Services, job: Job, upload: StoredUpload, known_speakers: Sequence[KnownSpeaker]
) -> AbstractAsyncContextManager[Transcription]:
    """Plain text needs no diarizer, whatever the model's family (DIA-01)."""
    vad, options = to_vad_options(job.request), to_options(job.request, job.task)
    pipeline = TranscriptionPipeline(
        services.reader, services.recognizers[job.model.root], services.limits.max_chunks_in_flight
    )
    if job.request.response_format != "diarized_json":
        return pipeline.open(upload, vad, options, job.request.audio_track)
    assert services.diarizer is not None, "the settings refuse the family 'diarize' without a diarizer"
    assert services.diarization is not None
    diarized = DiarizedTranscriptionPipeline(
        pipeline,
        services.reader,
        services.diarizer,
        services.diarization.voices(),
        services.diarization.max_window_s,
    )
    return diarized.open(upload, vad, options, known_speakers, job.request.audio_track)


def _render(event: TranscriptionEvent, renderer: StreamRenderer) -> list[dict[str, Any]]:
    match event:
        case TextDelta():
            return [as_json(renderer.delta(event))]
        case SegmentFinished(segment):
            return [as_json(renderer.segment(segment))]
        case TranscriptFinished(transcript):
            return [as_json(wire) for wire in renderer.done(transcript)]
