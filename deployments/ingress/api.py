"""The FastAPI application: a plain function of its services, so it runs under Serve and without it."""

from importlib.metadata import version

from fastapi import APIRouter, Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware

from deployments.ingress.chat.route import chat_router
from deployments.ingress.http import errors
from deployments.ingress.http.admission import Admission
from deployments.ingress.http.body_limit import BodyLimit
from deployments.ingress.http.head import HeadAsGet
from deployments.ingress.http.keys import require_key
from deployments.ingress.http.rate_headers import HEADERS, RateHeaders
from deployments.ingress.observation import Observation
from deployments.ingress.operations.health import operations_router
from deployments.ingress.operations.models import models_router
from deployments.ingress.page.route import page_router
from deployments.ingress.quotas import counted
from deployments.ingress.realtime.route import client_secrets_router, realtime_router
from deployments.ingress.services import Services
from deployments.ingress.transcription.route import transcriptions_router

BODY_OVERHEAD_BYTES = 17 * 1_048_576
"""What a body may hold beside its file: four references of 10 s at 48 kHz in stereo and 24 bit take 15.4 MB, and a
file of 25 MB in base64 is 8.7 MB longer."""


def create_api(services: Services) -> FastAPI:
    app = FastAPI(
        title="Auricle",
        version=version("auricle"),
        description="OpenAI's audio APIs on your own machines.",
        docs_url=None,  # FastAPI's own load scripts from another host
        redoc_url=None,
        redirect_slashes=False,  # another address is an unknown one (GEN-04)
    )
    protected = APIRouter(dependencies=[Depends(require_key(services.api_keys))])
    protected.include_router(models_router(services))
    admission = Admission(services.limits.max_concurrent_requests)
    listening, chatting = (Depends(counted(services.quotas, hears)) for hears in (True, False))
    protected.include_router(transcriptions_router(services, admission), dependencies=[listening])
    protected.include_router(chat_router(services, admission), dependencies=[chatting])
    protected.include_router(client_secrets_router(services))
    app.include_router(protected)
    app.include_router(realtime_router(services))  # asks for a key by itself: browsers send none in a header
    app.include_router(operations_router(services))
    if services.page:
        app.include_router(page_router())
    errors.install(app)
    # The last one added runs first.
    limits = services.limits
    max_bytes = limits.max_upload_bytes + BODY_OVERHEAD_BYTES
    app.add_middleware(BodyLimit, max_bytes=max_bytes, max_bytes_in_flight=limits.max_bytes_in_flight)
    app.add_middleware(HeadAsGet)
    app.add_middleware(RateHeaders)
    app.add_middleware(Observation, metrics=services.metrics, endpoints=frozenset(app.openapi()["paths"]))
    if services.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(services.cors_origins),
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],  # the SDKs send many `x-stainless-` headers
            expose_headers=["x-request-id", "retry-after", "x-should-retry", *HEADERS],
        )
    return app
