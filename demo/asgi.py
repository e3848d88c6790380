"""The shop as an ASGI application:  uvicorn --app-dir demo --workers 2 asgi:app"""

from typing import Any
from urllib.parse import parse_qsl

import shop

from sessile.web.asgi import SessionMiddleware


async def pages(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    headers = dict(scope["headers"])
    request = shop.Request(
        method=scope["method"],
        path=scope["path"],
        form=dict(parse_qsl((await read(receive)).decode(errors="replace"))),
        user_agent=headers.get(b"user-agent", b"").decode("latin-1"),
        session=scope["session"],
    )
    response = shop.respond(request)
    body = response.body.encode() if isinstance(response.body, str) else response.body
    fields = {**response.headers, "Content-Length": str(len(body))}
    lines = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": lines})
    await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})


async def read(receive: Any) -> bytes:
    body = b""
    while len(body) <= 4096:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body
    return b""


app = SessionMiddleware(pages, shop.store, **shop.OPTIONS)
