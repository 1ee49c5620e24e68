"""POST /v1/chat/completions."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import Gauge

from deployments.ingress.chat.conversation import ConversationReader, check_audio
from deployments.ingress.chat.ears import ears_of
from deployments.ingress.chat.options import said, to_options
from deployments.ingress.chat.render import ChatRenderer
from deployments.ingress.chat.rules import check_chat
from deployments.ingress.chat.schema import UNION_TAGS, ChatRequest
from deployments.ingress.gates import Visit
from deployments.ingress.http.admission import Admission
from deployments.ingress.http.deadlines import until_deadline
from deployments.ingress.http.json_body import inlined_schema, parse, read_json
from deployments.ingress.http.keys import ApiKey
from deployments.ingress.http.streams import open_stream
from deployments.ingress.http.together import together
from deployments.ingress.services import Services
from deployments.model_configs import ChatModelConfig
from pipelines.chat import ChatPipeline, ChoiceDelta
from pipelines.chat_types import Message, SamplingOptions, TextPart
from pipelines.errors import ContextLengthExceeded

MAX_CHARACTERS_PER_TOKEN = 256
"""More than any token stands for. Megabytes travel to the model once for each answer (`n`)."""


def chat_router(services: Services, admission: Admission) -> APIRouter:
    router = APIRouter(tags=["chat"])
    schema = inlined_schema(ChatRequest)
    body = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

    @router.post("/v1/chat/completions", openapi_extra=body)
    async def create_chat_completion(request: Request) -> Response:
        return await _answer(request, services, admission)

    return router


async def _answer(http_request: Request, services: Services, admission: Admission) -> Response:
    data = await read_json(http_request, services.limits.max_upload_s)
    with ExitStack() as held:
        held.enter_context(admission.admit())
        request = parse(data, ChatRequest, UNION_TAGS)
        del data  # megabytes of audio in base64
        model = services.catalogue.chat_model(request.model)
        check_chat(request)
        key = http_request.state.api_key
        num_audios = check_audio(request, model)
        if num_audios:
            services.quotas.check_audio(key)
        services.enter(model.id, held, request.n)
        hearing = _hearing(services, model, num_audios, held)
        events = until_deadline(_events(services, request, model, key, hearing), services.limits.max_request_s)
        request = _without_messages(request)
        renderer = ChatRenderer(request)
        if request.stream:
            response = await open_stream(events, renderer.chunks, http_request.state.arrived_at_s)
            response.on_close(held.pop_all().close)
            return response
        async with aclosing(events):
            pieces = [event async for event in events]
        # in a thread: probabilities of thousands of tokens take seconds, in which others are heard
        return await asyncio.to_thread(lambda: JSONResponse(renderer.completion(pieces)))


def _hearing(services: Services, model: ChatModelConfig, num_audios: int, held: ExitStack) -> Visit | None:
    """At the model that hears for this one, where there is anything to hear."""
    if model.hears is None or not num_audios:
        return None
    num_rows = min(num_audios, services.limits.max_chunks_in_flight)
    return services.enter(model.hears, held, num_rows)


def _without_messages(request: ChatRequest) -> ChatRequest:
    """What is needed when they were read: megabytes lighter."""
    return request.model_copy(update={"messages": []})


async def _events(
    services: Services, request: ChatRequest, model: ChatModelConfig, key: ApiKey | None, hearing: Visit | None
) -> AsyncGenerator[ChoiceDelta, None]:
    """The messages read, then the pipeline's deltas; both counted."""
    metrics, started_at = services.metrics, time.monotonic()
    with _counted(metrics.waiting.labels(model.id)):
        messages, options, num_heard_tokens = await _read(request, model, services, key)
        if hearing:
            hearing.expects(0)
        request = _without_messages(request)
    pipeline = ChatPipeline(services.chat_models[model.id])
    work = pipeline.run(messages, options, request.n, request.stream, num_heard_tokens)
    is_silent = True
    with _counted(metrics.running.labels(model.id)):
        async with aclosing(work) as deltas:
            async for piece in deltas:
                if is_silent and request.stream:  # the first piece of another answer is all of it
                    is_silent = False
                    metrics.first_delta_seconds.labels(model.id).observe(time.monotonic() - started_at)
                if piece.delta.finish_reason:
                    metrics.observe_usage(model.id, piece.delta.usage, is_prompt_counted=piece.index > 0)
                yield piece


async def _read(
    request: ChatRequest, model: ChatModelConfig, services: Services, key: ApiKey | None
) -> tuple[list[Message], SamplingOptions, int]:
    """The last are tokens that the model does not count itself. It tells what it is while its messages are heard: it
    may have to be loaded first."""
    ears = await ears_of(model, services)
    count = partial(_count_audio, services, model, key)
    reader = ConversationReader(ears, services.fetcher, model, services.limits.max_upload_bytes, count)
    messages, info = await together(reader.read(request), services.chat_models[model.id].info())
    num_characters = sum(len(part.text) for message in messages for part in message.parts if isinstance(part, TextPart))
    if num_characters > MAX_CHARACTERS_PER_TOKEN * info.max_context_tokens:
        raise ContextLengthExceeded(f"This model's context has room for {info.max_context_tokens} tokens.")
    return messages, to_options(request, said(model.sampling, info.sampling)), reader.num_audio_tokens


def _count_audio(services: Services, model: ChatModelConfig, key: ApiKey | None, seconds: float) -> None:
    services.metrics.audio_seconds.labels(model.id, "chat").inc(seconds)
    services.quotas.charge_audio(key, seconds)


@contextmanager
def _counted(gauge: Gauge) -> Iterator[None]:
    gauge.inc()
    try:
        yield
    finally:
        gauge.dec()
