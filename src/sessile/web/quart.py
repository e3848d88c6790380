"""Sessions for Quart: the same `quart.session`, kept in a table.

    from quart import Quart
    from sessile.web.quart import Sessile

    app = Quart(__name__)
    app.config["SECRET_KEY"] = …
    Sessile(app)

All as for Flask (`flask.py`), and WebSockets: there the session is saved when the connection ends. In between
the application calls `session.save()` when it wants to, and `session.alive()` to notice a log-out (COK-15).
Quart lets nobody add a cookie when it accepts a connection: a WebSocket cannot begin a session or log in.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final

import quart
from flask.sessions import SessionMixin
from quart.sessions import SessionInterface
from quart.wrappers import Websocket
from quart.wrappers.response import IterableBody, ResponseBody
from werkzeug.exceptions import Forbidden

from sessile.web import flask
from sessile.web.flask import FlaskExchange, FlaskSession, Managers
from sessile.web.manager import FORBIDDEN, SAFE_METHODS, Answer, RequestSession

if TYPE_CHECKING:
    from quart import Quart, Response
    from quart.wrappers import BaseRequestWebsocket

__all__ = ["Sessile"]

_SECURE: Final = frozenset(("https", "wss"))


class _Interface(SessionInterface):
    """How Quart reaches us, at the begin and the end of each request."""

    def __init__(self, managers: Managers) -> None:
        self._managers = managers

    async def open_session(self, app: Quart, request: BaseRequestWebsocket) -> FlaskSession | None:
        """The session of a request or WebSocket, not looked up; None: the application has no SECRET_KEY.

        Raises:
            AttachError: the table cannot be attached.
        """
        manager = self._managers.of(app)
        if manager is None:
            return None
        scope = request.scope
        exchange = manager.exchange_type()
        exchange.source = scope["headers"]
        session_type: type[RequestSession] = FlaskSession
        scheme = scope["scheme"]
        if scheme not in _SECURE and not manager.is_tls_in_front:
            session_type = manager.examine_transport(exchange, scheme, _field(scope, b"host"))
        if manager.passive is not None:
            exchange.is_passive = manager.passive(request)
        if isinstance(request, Websocket):
            exchange.is_sent = exchange.is_websocket = True
        exchange.session = session = manager.new_session(session_type, exchange)
        assert isinstance(session, FlaskSession)
        return session

    async def save_session(
        self,
        app: Quart,  # noqa: ARG002 (Quart gives it)
        session: SessionMixin,
        response: Any,
    ) -> None:
        """Save before the headers go out, and at the end of a response that is sent part by part."""
        assert isinstance(session, FlaskSession)
        exchange = session._context
        assert isinstance(exchange, FlaskExchange)
        if exchange.is_websocket:
            exchange.finish()
            return
        body = getattr(response, "response", None)
        if isinstance(body, IterableBody):
            response.response = _Finishing(body, exchange)
        if not session._untouched:
            exchange.session = session
            answer = exchange.settle(response.status_code)
            if exchange.manager.has_journal:
                await exchange.manager.store.aflush()
            if answer is not None:
                _replace(response, answer)
            exchange.add_headers(response)
        exchange.is_sent = True
        if not isinstance(getattr(response, "response", None), _Finishing):
            vars(exchange).pop("session", None)  # they refer to each other


class _Finishing(ResponseBody):
    """A body whose parts are made while it is sent; the session is saved once more after the last of them."""

    def __init__(self, body: IterableBody, exchange: FlaskExchange) -> None:
        self._body = body
        self._exchange = exchange

    async def __aenter__(self) -> AsyncIterable[Any]:
        return await self._body.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exchange.is_failed = self._exchange.is_failed or error is not None
        try:
            await self._body.__aexit__(kind, error, trace)  # type: ignore[arg-type]
        finally:
            self._exchange.finish()


def _replace(response: Response, answer: Answer) -> None:
    response.status_code = answer.status
    response.set_data(answer.text)
    response.headers.clear()
    for name, value in answer.headers():
        response.headers.add(name, value)


def _field(scope: Any, name: bytes) -> str | None:
    values = [value for key, value in scope["headers"] if key.lower() == name]
    return b",".join(values).decode("latin-1") if values else None


class _Exchange(FlaskExchange):
    """One request or WebSocket."""

    def _credentials(self) -> str | None:
        assert self.carrier is not None
        name = self.carrier.names.scope_request
        values = [value for key, value in self.source if key.lower() == name]
        return self.carrier.separator.join(values).decode("latin-1") if values else None


class _Manager(flask.FlaskManager):
    exchange_class = _Exchange


class Sessile(flask.Sessile):
    """Keeps the sessions of Quart applications in a table. All as `sessile.web.flask.Sessile`; the functions
    get the request or the WebSocket."""

    _interface: ClassVar[type[Any]] = _Interface
    _manager_type = _Manager

    def _watch(self, app: Any) -> None:
        app.before_request_funcs[None].insert(0, _refuse_cross_site)
        app.before_websocket_funcs[None].insert(0, _refuse_cross_site)
        app.teardown_websocket_funcs[None].insert(0, _finish_websocket)

    @staticmethod
    def _current_app() -> Any:
        return quart.current_app


async def _refuse_cross_site() -> None:
    """What another site started gets no view (COK-13), and no WebSocket (COK-16)."""
    is_websocket = quart.has_websocket_context()
    request: Any = quart.websocket if is_websocket else quart.request
    method = "GET" if is_websocket else request.method
    if method in SAFE_METHODS and not is_websocket:
        return
    manager = flask.manager_of(quart.current_app)
    scope = request.scope
    site, origin, host = (_field(scope, name) for name in (b"sec-fetch-site", b"origin", b"host"))
    if manager is not None and manager.refuses(
        request._get_current_object(), method, site, origin, host, scope["scheme"], is_websocket
    ):
        raise Forbidden(FORBIDDEN.text.decode())


async def _finish_websocket(error: BaseException | None) -> None:
    """Also where the connection broke off, after which Quart calls no `save_session`."""
    session = quart.session._get_current_object()  # type: ignore[attr-defined]
    if isinstance(session, FlaskSession):
        exchange = session._context
        exchange.is_failed = exchange.is_failed or isinstance(error, Exception)
        exchange.finish()
