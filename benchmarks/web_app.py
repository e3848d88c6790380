"""The one-line application that benchmarks/web.py serves, with the session that SESSIONS names."""

from __future__ import annotations

import os
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from benchmarks.workload import payload

KIND = os.environ["SESSIONS"]
FOLDER = os.environ["FOLDER"]


def middleware() -> list[Middleware]:
    if KIND == "sessile":
        from sessile import Store
        from sessile.web.asgi import SessionMiddleware

        return [Middleware(SessionMiddleware, store=Store(f"{FOLDER}/table", capacity=10_000), https=True)]
    if KIND == "signed":
        from starlette.middleware.sessions import SessionMiddleware as Signed

        return [Middleware(Signed, secret_key="the secret of the benchmark, long", https_only=False)]
    if KIND == "no session":
        return []
    from starsessions import InMemoryStore, SessionAutoloadMiddleware
    from starsessions import SessionMiddleware as Starsessions
    from starsessions.stores.redis import RedisStore

    store: Any = InMemoryStore() if KIND == "memory" else RedisStore(f"unix://{FOLDER}/redis")
    options: dict[str, Any] = {"store": store, "cookie_https_only": False, "lifetime": 3600}
    return [Middleware(Starsessions, **options), Middleware(SessionAutoloadMiddleware)]


async def read(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(request.session.get("user_id") if KIND != "no session" else None))


async def fill(request: Request) -> PlainTextResponse:
    if KIND != "no session":
        request.session.update(payload(1))
    return PlainTextResponse("filled")


app = Starlette(routes=[Route("/", read), Route("/fill", fill)], middleware=middleware())
