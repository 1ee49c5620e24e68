"""HEAD, which every address answers that answers GET (GEN-09)."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """The same status and headers, and no body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            scope["method"] = "HEAD"  # uvicorn looks: of a GET it wants as many bytes as the headers say
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        scope["method"] = "GET"  # in place: whoever stands outside looks for the route in it
        await self._app(scope, receive, without_body)
