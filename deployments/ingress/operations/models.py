"""GET /v1/models."""

from fastapi import APIRouter, HTTPException

from deployments.ingress.catalogue import ServedModel
from deployments.ingress.operations.schema import ModelCard, ModelList
from deployments.ingress.services import Services


def models_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["models"])

    def card(model: ServedModel) -> ModelCard:
        return ModelCard(
            id=model.id,
            created=services.catalogue.created_at,
            root=model.root,
            task=model.task,
            family=None if model.task == "chat" else model.family,
            tasks=list(model.tasks),
        )

    @router.get("/v1/models")
    async def list_models() -> ModelList:
        return ModelList(data=[card(model) for model in services.catalogue.models])

    # an id may contain slashes, raw or as %2F
    @router.get("/v1/models/{model_id:path}")
    async def retrieve_model(model_id: str) -> ModelCard:
        if not model_id:  # the path of a list with a slash behind it is no model's (GEN-04)
            raise HTTPException(404)
        return card(services.catalogue.find(model_id))

    return router
