"""GET /: a page for people. It asks this server by the public API alone, and no other host for anything; nor does
GET /docs, the reference of that API."""

from fastapi import APIRouter, HTTPException, Request, Response

from deployments.ingress.page.assets import Asset, load_assets, new_asset
from deployments.ingress.page.reference import reference_page

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src 'self' blob:; "
    "img-src 'self' data:; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "Cache-Control": "no-cache",  # asked for again each time, and answered by a 304
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_router() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    assets = load_assets()
    index = assets.pop("index.html")

    @router.get("/")
    async def page(request: Request) -> Response:
        return _answer(request, index)

    @router.get("/docs")
    async def reference(request: Request) -> Response:
        return _answer(request, new_asset("docs.html", reference_page(request.app.openapi()).encode()))

    @router.get("/page/{name}")
    async def asset(request: Request, name: str) -> Response:
        if name not in assets:
            raise HTTPException(404)
        return _answer(request, assets[name])

    return router


def _answer(request: Request, asset: Asset) -> Response:
    headers = {**HEADERS, "ETag": asset.etag}
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers=headers, media_type=asset.media_type)
