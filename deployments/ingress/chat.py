"""POST /v1/chat/completions."""

import random
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import asdict, replace

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import Gauge

from deployments.ingress.admission import Admission
from deployments.ingress.chat_render import ChatRenderer
from deployments.ingress.chat_rules import check_chat
from deployments.ingress.conversation import ConversationReader, check_audio
from deployments.ingress.deadlines import until_deadline
from deployments.ingress.ears import ears_of
from deployments.ingress.json_body import inlined_schema, parse, read_json
from deployments.ingress.schema.chat import UNION_TAGS, ChatRequest
from deployments.ingress.services import Services
from deployments.ingress.streams import open_stream
from deployments.ingress.together import together
from deployments.settings import ChatModel, Sampling
from pipelines.chat import ChatPipeline, ChoiceDelta
from pipelines.chat_types import Message, SamplingDefaults, SamplingOptions

MIN_TEMPERATURE = 0.001


def chat_router(services: Services, admission: Admission) -> APIRouter:
    router = APIRouter(tags=["chat"])
    schema = inlined_schema(ChatRequest)
    body = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

    @router.post("/v1/chat/completions", openapi_extra=body)
    async def create_chat_completion(request: Request) -> Response:
        return await _answer(request, services, admission)

    return router


def _said(by: ChatRequest | Sampling, defaults: SamplingDefaults) -> SamplingDefaults:
    """`defaults`, where it says nothing else."""
    said = {name: value for name in asdict(defaults) if (value := getattr(by, name)) is not None}
    return replace(defaults, **said)


def to_options(request: ChatRequest, defaults: SamplingDefaults) -> SamplingOptions:
    """Without a seed one is drawn here, so that an answer can be written again where its replica dies."""
    sampling = _said(request, defaults)
    return SamplingOptions(
        seed=request.seed if request.seed is not None else random.getrandbits(62),
        # hardly above 0 is 0: nothing would be drawn but the most probable token
        temperature=sampling.temperature if sampling.temperature >= MIN_TEMPERATURE else 0.0,
        top_p=sampling.top_p,
        top_k=max(sampling.top_k, 0),
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        logit_bias={int(token_id): bias for token_id, bias in request.logit_bias.items()},
        stop=tuple(request.stop),
        max_tokens=request.max_completion_tokens or request.max_tokens,
        top_logprobs=request.top_logprobs if request.logprobs else None,
    )


async def _answer(http_request: Request, services: Services, admission: Admission) -> Response:
    data = await read_json(http_request, services.limits.max_upload_s)
    with ExitStack() as held:
        held.enter_context(admission.admit())
        request = parse(data, ChatRequest, UNION_TAGS)
        del data  # megabytes of audio in base64
        model = services.catalogue.chat_model(request.model)
        check_chat(request)
        check_audio(request, model)
        events = until_deadline(_events(services, request, model), services.limits.max_request_s)
        request = _without_messages(request)
        renderer = ChatRenderer(request)
        if request.stream:
            response = await open_stream(events, renderer.chunks, http_request.state.arrived_at_s)
            response.on_close(held.pop_all().close)
            return response
        async with aclosing(events):
            return JSONResponse(renderer.completion([event async for event in events]))


def _without_messages(request: ChatRequest) -> ChatRequest:
    """What is needed when they were read: megabytes lighter."""
    return request.model_copy(update={"messages": []})


async def _events(services: Services, request: ChatRequest, model: ChatModel) -> AsyncGenerator[ChoiceDelta, None]:
    """The messages read, then the pipeline's deltas; both counted."""
    metrics, started_at = services.metrics, time.monotonic()
    with _counted(metrics.waiting.labels(model.id)):
        messages, options, num_heard_tokens = await _read(request, model, services)
        request = _without_messages(request)
    pipeline = ChatPipeline(services.chat_models[model.id])
    work = pipeline.run(messages, options, request.n, request.stream, num_heard_tokens)
    is_silent = True
    with _counted(metrics.running.labels(model.id)):
        async with aclosing(work) as deltas:
            async for piece in deltas:
                if is_silent:
                    is_silent = False
                    metrics.first_delta_seconds.labels(model.id).observe(time.monotonic() - started_at)
                if piece.delta.finish_reason:
                    metrics.observe_usage(model.id, piece.delta.usage)
                yield piece


async def _read(
    request: ChatRequest, model: ChatModel, services: Services
) -> tuple[list[Message], SamplingOptions, int]:
    """The last are tokens that the model does not count itself. It tells what it is while its messages are heard: it
    may have to be loaded first."""
    ears = await ears_of(model, services)
    reader = ConversationReader(ears, services.fetcher, model, services.limits.max_upload_bytes)
    messages, info = await together(reader.read(request), services.chat_models[model.id].info())
    services.metrics.audio_seconds.labels(model.id, "chat").inc(reader.audio_s)
    return messages, to_options(request, _said(model.sampling, info.sampling)), reader.num_audio_tokens


@contextmanager
def _counted(gauge: Gauge) -> Iterator[None]:
    gauge.inc()
    try:
        yield
    finally:
        gauge.dec()
