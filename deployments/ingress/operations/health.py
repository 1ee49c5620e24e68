"""Health, metrics, version: what load balancers and routers ask."""

from importlib.metadata import version

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse

from deployments.ingress.http.errors import envelope
from deployments.ingress.services import Services
from pipelines.errors import ModelUnavailable


def operations_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/health")
    @router.get("/v1/health")
    async def health() -> JSONResponse:
        unavailable = await services.unavailable()
        models = dict(services.model_states())
        if unavailable:
            failed = {name: reason for name, reason in unavailable.items() if reason is not None}
            body = {"status": "unhealthy", "unavailable": list(unavailable), "failed": failed, "models": models}
            error = ModelUnavailable(f"Not available at the moment: {', '.join(unavailable)}.")
            return JSONResponse({**body, **envelope(error)}, 503, {"Retry-After": "2"})
        return JSONResponse({"status": "healthy", "models": models})

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(await services.metrics_text(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/version")
    async def server_version() -> dict[str, str]:
        return {"version": version("auricle")}

    @router.get("/is_sleeping")
    async def is_sleeping() -> dict[str, bool]:
        return {"is_sleeping": False}

    return router
