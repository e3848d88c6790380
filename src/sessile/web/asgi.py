"""Sessions for any ASGI application: HTTP and WebSocket.

    from sessile import Store
    from sessile.web.asgi import SessionMiddleware

    app = SessionMiddleware(app, Store("shop"))                             # any application
    app.add_middleware(SessionMiddleware, store=Store("shop"))              # Starlette, FastAPI

The application finds its session in `scope["session"]`, which is `request.session` in Starlette and FastAPI.
What is decided about it stands in `manager.py`; this file translates.

In a WebSocket the session is saved when the connection is accepted and when it ends. In between the
application calls `session.save()` when it wants to, and `session.alive()` to notice a log-out (COK-15).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from sessile.store import Store
from sessile.web.cookies import Cookie, Header
from sessile.web.manager import (
    FAILED,
    FORBIDDEN,
    SAFE_METHODS,
    Answer,
    Exchange,
    Manager,
    RequestSession,
    Spelling,
)

if TYPE_CHECKING:
    from sessile.web.fallback import Fallback

__all__ = ["SessionMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

_KEY: Final = "sessile.session"
_OCTETS: Final = Spelling(b"vary", b"cache-control", b"private", b"no-store", b"*", b", ")
_STARTS: Final = frozenset(("http.response.start", "websocket.accept", "websocket.http.response.start"))
_TRY_AGAIN_LATER: Final = 1013  # close code, IANA's registry of RFC 6455, 11.7
_POLICY_VIOLATION: Final = 1008
_UNTOUCHED: Final[Any] = None  # in the place of an exchange's session


class SessionMiddleware:
    """Gives an ASGI application its session in `scope["session"]`.

    Args:
        app: the application. It gets a `sessile.Session`, which is looked up when it is first touched, and
            saved before the headers go out and when the application returns, background tasks included.
        store: where the sessions are. With several worker processes one with a name, `Store("shop")`.
        cookie, https, insecure_dev, csrf, trusted_origins, rotate_every, passive, owner_field, fallback: see
            `sessile.web.manager.Manager`; the functions get the scope.

    Raises, when a request comes:
        StoreClosed: the store was closed.
    """

    def __init__(
        self,
        app: Application,
        store: Store,
        *,
        cookie: Cookie | Header = Cookie(),  # noqa: B008 (frozen)
        https: Literal[True] | None = None,
        insecure_dev: bool = False,
        csrf: bool | Callable[[Scope], bool] = True,
        trusted_origins: Iterable[str] = (),
        rotate_every: float | timedelta | None = 900,
        passive: Callable[[Scope], bool] | None = None,
        owner_field: str | None = None,
        fallback: Fallback | None = None,
    ) -> None:
        self._app = app
        self._manager = Manager(
            store,
            cookie=cookie,
            https=https,
            insecure_dev=insecure_dev,
            csrf=csrf,
            trusted_origins=trusted_origins,
            rotate_every=rotate_every,
            passive=passive,
            owner_field=owner_field,
            fallback=fallback,
        )
        self._manager.varies_with = self._manager.carrier.names.request.encode("latin-1")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        manager, app = self._manager, self._app
        kind = scope["type"]
        if (kind != "http" and kind != "websocket") or (_KEY in scope and manager.serves(scope[_KEY])):
            await app(scope, receive, send)
            return
        exchange = _Exchange()
        exchange.manager, exchange.carrier = manager, manager.carrier
        exchange.source = headers = scope["headers"]
        exchange.session, exchange.answer = _UNTOUCHED, None
        exchange.is_sent = False
        exchange.server_send = send
        session_type, make = RequestSession, manager.new_session
        scheme = scope.get("scheme") or ("http" if kind == "http" else "ws")
        method = scope["method"] if kind == "http" else ""
        if method != "GET":
            if kind == "websocket":
                exchange.prefix = _websocket_prefix(scope)
            if method not in SAFE_METHODS and self._refuses(scope, method, headers, scheme):
                await _reply(send, exchange.prefix, FORBIDDEN, _encoded(FORBIDDEN), _POLICY_VIOLATION)
                return
            exchange.is_head = method == "HEAD"
        if scheme != "https" and not manager.is_tls_in_front:
            session_type = manager.examine_transport(exchange, scheme, _field(headers, b"host"))
        if manager.passive is not None:
            exchange.is_passive = manager.passive(scope)
        scope["session"] = scope[_KEY] = make(session_type, exchange)
        try:
            await app(scope, receive, exchange.send)
        except BaseException as error:
            await exchange.abort(error)
            raise
        if exchange.session is None:
            exchange.is_sent = True
        else:
            exchange.finish()

    def _refuses(self, scope: Scope, method: str, headers: Headers, scheme: str) -> bool:
        site, origin, host = (_field(headers, name) for name in (b"sec-fetch-site", b"origin", b"host"))
        is_websocket = scope["type"] == "websocket"
        return self._manager.refuses(scope, method, site, origin, host, scheme, is_websocket)


class _Exchange(Exchange):
    """The `send` that the application gets."""

    server_send: Send
    prefix: str | None = "http.response"  # of the messages of an answer; None: to a handshake there can be none
    answer: Answer | None  # sent in place of the application's response

    def _credentials(self) -> bytes | None:
        assert self.carrier is not None
        return _joined(self.source, self.carrier.names.scope_request, self.carrier.separator)

    def send(self, message: Message) -> Awaitable[None]:
        """The application's `send(message)`."""
        server_send = self.server_send
        if self.is_sent or self.answer is not None:
            return server_send(message) if self.answer is None else _nothing()
        if message["type"] in _STARTS:
            if self.session is not None:
                self.answer = self.settle(message.get("status", 101))
                return self._start_durably(message) if self.manager.has_journal else self._start(message)
            self.is_sent = True
        return server_send(message)

    def _start(self, message: Message) -> Awaitable[None]:
        """Let the headers go, with what the session adds."""
        answer = self.answer
        headers = self._decorated(message.get("headers", ()) if answer is None else _encoded(answer))
        self.is_sent = True
        if answer is None:
            return self.server_send({**message, "headers": headers})
        return self._reply(answer, headers)

    async def _start_durably(self, message: Message) -> None:
        """The same, once what ended is on disk."""
        await self.manager.store.aflush()
        await self._start(message)

    async def abort(self, error: BaseException) -> None:
        """An exception ends the request; what `login` and the like did stays done: their cookie goes out."""
        self.is_failed = True
        try:
            if isinstance(error, Exception) and not self.is_sent and self.set_cookies():
                if self.manager.has_journal:
                    await self.manager.store.aflush()
                headers = self._decorated(_encoded(FAILED))
                self.is_sent = True
                await self._reply(FAILED, headers)
        finally:
            self.finish()

    async def _reply(self, answer: Answer, headers: Headers) -> None:
        await _reply(self.server_send, self.prefix, answer, headers, _TRY_AGAIN_LATER, self.is_head)

    def _decorated(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        cookies: Any = self.set_cookies()
        if cookies:
            name = self.manager.carrier.names.scope_response
            cookies = [(name, value.encode("latin-1")) for value in cookies]
        return self.decorate(headers, _OCTETS, self.manager.varies_with, cookies)


async def _reply(
    send: Send, prefix: str | None, answer: Answer, headers: Headers, code: int, is_head: bool = False
) -> None:
    """Send a whole response; to a handshake, where the server can send none, a close with this code."""
    if prefix is None:
        await send({"type": "websocket.close", "code": code, "reason": ""})
        return
    await send({"type": f"{prefix}.start", "status": answer.status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": b"" if is_head else answer.text})


async def _nothing() -> None:
    """For what the application still sends after its response was replaced."""


def _websocket_prefix(scope: Scope) -> str | None:
    extension = "websocket.http.response"
    return extension if extension in (scope.get("extensions") or ()) else None


def _encoded(answer: Answer) -> Headers:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers()]


def _joined(headers: Headers, name: bytes, separator: bytes) -> bytes | None:
    found = None
    for key, value in headers:
        if key == name:
            if found is not None:
                return separator.join([value for key, value in headers if key == name])
            found = value
    return found


def _field(headers: Headers, name: bytes) -> str | None:
    value = _joined(headers, name, b",")
    return None if value is None else value.decode("latin-1")
