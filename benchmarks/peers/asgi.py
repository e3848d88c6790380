"""Peers that are ASGI middlewares: each operation is one call of the application, as a server makes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, MutableMapping
from typing import Any

from benchmarks.peers.base import IDLE, Cannot, Peer, Place
from benchmarks.peers.servers import Redis, ServedPeer


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Does to the session what the path says, and answers with nothing."""
    session: MutableMapping[str, Any] = scope["session"]
    action, value = scope["path"], scope["benchmark.value"]
    if action == "/read":
        session["locale"]
    elif action == "/write":
        session["locale"]
        session["flash"] = value
    elif action == "/create":
        session.update(value)
    else:
        session.clear()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b""})


class AsgiPeer(Peer):
    """`serve` wraps the application; the rest speaks to it. `load` alone does not exist: only requests do."""

    def serve(
        self,
        wrap: Callable[[Any], Any],
        cookie: str,
        run: Callable[[Coroutine[Any, Any, None]], object] | None = None,
        **state: Any,
    ) -> None:
        self._application = wrap(application)
        self._cookie = cookie
        self._state = state
        self._run = run or _run_at_once
        self._set_cookie = b""
        self.load = self._cannot_load

    def _cannot_load(self, id: str) -> Any:
        raise Cannot("only whole requests: see there")

    async def _send(self, message: Any) -> None:
        for name, value in message.get("headers", ()):
            if name == b"set-cookie":
                self._set_cookie = value

    async def _receive(self) -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    def _request(self, action: str, value: object = None, id: str = "") -> None:
        headers = [(b"host", b"shop.example")]
        if id:
            headers.append((b"cookie", f"{self._cookie}={id}".encode()))
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "https",
            "path": action, "raw_path": action.encode(), "query_string": b"", "root_path": "", "headers": headers,
            "client": ("192.0.2.1", 50000), "server": ("shop.example", 443), "benchmark.value": value,
        }  # fmt: skip
        self._run(self._application(scope, self._receive, self._send))

    def create(self, fields: dict[str, Any]) -> str:
        self._request("/create", fields)
        return self._set_cookie.split(b";", 1)[0].split(b"=", 1)[1].decode()

    def read(self, id: str) -> object:
        return self._request("/read", id=id)

    def write(self, id: str, flash: str) -> None:
        self._request("/write", flash, id)

    def destroy(self, id: str) -> None:
        self._request("/clear", id=id)


def _run_at_once(call: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for nothing, without the cost of an event loop."""
    try:
        call.send(None)
    except StopIteration:
        return
    raise RuntimeError("the application waited for something")


class StarletteCookie(AsgiPeer):
    name = "Starlette signed cookie"
    package = "starlette"
    about = "no store: the fields travel signed and readable in the cookie, and a log-out ends nothing"
    shared = True
    stored = False

    def __init__(self, place: Place) -> None:
        from starlette.middleware.sessions import SessionMiddleware

        self.serve(lambda app: SessionMiddleware(app, "benchmark" * 4, max_age=IDLE, https_only=True), cookie="session")

    def destroy(self, id: str) -> None:
        raise Cannot("a cookie that was given out stays valid")

    def _expiry(self) -> str:
        return "nothing is stored"


class Starsessions(AsgiPeer):
    name = "starsessions, memory"
    package = "starsessions"
    about = "its in-memory store, JSON; each worker has its own"

    def __init__(self, place: Place) -> None:
        from starsessions.stores.memory import InMemoryStore

        self._serve(InMemoryStore())

    def _serve(self, store: Any, run: Callable[[Coroutine[Any, Any, None]], object] | None = None) -> None:
        from starsessions import SessionAutoloadMiddleware, SessionMiddleware

        self.serve(
            lambda app: SessionMiddleware(SessionAutoloadMiddleware(app), store=store, lifetime=IDLE),
            cookie="session",
            run=run,
        )

    def _expiry(self) -> str:
        return "its store never forgets"


class StarsessionsRedis(ServedPeer, Starsessions):
    name = "starsessions, Redis"
    about = "its Redis store, JSON, over a unix socket"
    thread_safe = False

    def __init__(self, place: Place) -> None:
        from redis.asyncio import Redis as Client
        from starsessions.stores.redis import RedisStore

        self._server = Redis(place)
        self._loop = asyncio.new_event_loop()
        client = Client(unix_socket_path=str(self._server.socket))
        self._serve(RedisStore(connection=client), self._loop.run_until_complete)

    def _expiry(self) -> str:
        return "Redis does: see there"

