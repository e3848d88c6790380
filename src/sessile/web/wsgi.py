"""Sessions for any WSGI application (PEP 3333).

    from sessile import Store
    from sessile.web.wsgi import SessionMiddleware

    app = SessionMiddleware(app, Store("shop"))

The application finds its session in `environ["sessile.session"]`. What is decided about it stands in
`manager.py`; this file translates.

The headers are held back until the application has returned; where it calls `start_response` only then, as a
generator does, until there is a first part of the body. So it may call `start_response` first, and use its
session then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
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
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from sessile.web.fallback import Fallback

__all__ = ["SessionMiddleware"]

_logger = logging.getLogger("sessile")

_KEY: Final = "sessile.session"
_TEXT: Final = Spelling("vary", "cache-control", "private", "no-store", "*", ", ")


class SessionMiddleware:
    """Gives a WSGI application its session in `environ["sessile.session"]`.

    Args:
        app: the application. It gets a `sessile.Session`, which is looked up when it is first touched, and
            saved before the headers go out and when the server closes the body.
        store: where the sessions are. With several worker processes one with a name, `Store("shop")`.
        environ_key: a further key for the session, such as "beaker.session".
        cookie, https, insecure_dev, csrf, trusted_origins, rotate_every, passive, owner_field, fallback: see
            `sessile.web.manager.Manager`; the functions get the environ.

    Raises, when a request comes:
        AttachError: the server has several worker processes, and the table is this one's own.
        StoreClosed: the store was closed.
    """

    def __init__(
        self,
        app: WSGIApplication,
        store: Store,
        *,
        cookie: Cookie | Header = Cookie(),  # noqa: B008 (frozen)
        https: Literal[True] | None = None,
        insecure_dev: bool = False,
        csrf: bool | Callable[[WSGIEnvironment], bool] = True,
        trusted_origins: Iterable[str] = (),
        rotate_every: float | timedelta | None = 900,
        passive: Callable[[WSGIEnvironment], bool] | None = None,
        owner_field: str | None = None,
        fallback: Fallback | None = None,
        environ_key: str | None = None,
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
        self._manager.varies_with = self._manager.carrier.names.request
        self._field = self._manager.carrier.names.environ
        self._further_key = environ_key
        self._has_more = passive is not None or environ_key is not None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        manager, app = self._manager, self._app
        if _KEY in environ and manager.serves(environ[_KEY]):
            return app(environ, start_response)
        if not manager.is_shared:
            manager.require_shared(environ["wsgi.multiprocess"])
        exchange = _Exchange()
        exchange.manager, exchange.carrier = manager, manager.carrier
        exchange.source = environ.get(self._field)
        exchange.session = exchange.status = None
        exchange.is_held = False
        exchange.start_response = start_response
        session_type, make = RequestSession, manager.new_session
        method, scheme = environ["REQUEST_METHOD"], environ["wsgi.url_scheme"]
        if method != "GET":
            if method not in SAFE_METHODS and self._refuses(environ, method, scheme):
                start_response(FORBIDDEN.status_line, FORBIDDEN.headers())
                return [FORBIDDEN.text]
            exchange.is_head = method == "HEAD"
        if scheme != "https" and not manager.is_tls_in_front:
            session_type = manager.examine_transport(exchange, scheme, environ.get("HTTP_HOST"))
        environ[_KEY] = session = make(session_type, exchange)
        if self._has_more:
            if manager.passive is not None:
                exchange.is_passive = manager.passive(environ)
            if self._further_key is not None:
                environ[self._further_key] = session
        try:
            body = app(environ, exchange.start)
        except BaseException:
            answer = exchange.abort()
            if answer is None:
                raise
            return answer
        kind = type(body)
        if kind is list or kind is tuple or kind is environ.get("wsgi.file_wrapper"):
            # No code of the application runs any more; and a server knows these by their type.
            if exchange.is_held and exchange.session is None:
                exchange.is_sent = True
                start_response(exchange.status, exchange.headers)
                return body
            return exchange.complete(body)
        return _Body(exchange, body)

    def _refuses(self, environ: WSGIEnvironment, method: str, scheme: str) -> bool:
        site, origin, host = map(environ.get, ("HTTP_SEC_FETCH_SITE", "HTTP_ORIGIN", "HTTP_HOST"))
        return self._manager.refuses(environ, method, site, origin, host, scheme)


class _Exchange(Exchange):
    """The `start_response` and `write` that the application gets, and what they hold back."""

    start_response: StartResponse
    status: Any  # what `start` was called with; None until then
    headers: list[tuple[str, str]]
    exc_info: Any = None
    is_held: bool  # it was called, without exc_info, and the headers have not gone
    _write: Callable[[bytes], object]  # the server's, once the headers have gone
    _answer: Answer | None = None  # sent in place of the application's response

    def _credentials(self) -> str | None:
        header: str | None = self.source
        return header

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        """The application's `start_response`."""
        if self.status is not None:
            if self.is_sent:
                self.start_response(status, headers, exc_info)  # raises the exception that came too late
            elif exc_info is None:
                raise AssertionError("start_response was called twice, the second time without exc_info")
        if exc_info is None:
            self.is_held = True
        else:
            self.is_held = False
            self.exc_info = exc_info
        self.status = status
        self.headers = headers
        return self

    def __call__(self, data: bytes) -> None:
        """The application's `write(data)`, which `start_response` gives."""
        self.send()
        if self._answer is None:
            self._write(data)

    def send(self) -> None:
        """Let the headers go, with what the session adds. Where there are none the server will complain."""
        status, exc_info = self.status, None
        if not self.is_held:
            if status is None or self.is_sent:
                return
            exc_info = self.exc_info
        headers = self.headers
        if self.session is not None:
            self._answer = answer = self.settle(500 if status >= "5" else 200)
            if answer is not None:
                status, headers, exc_info = answer.status_line, answer.headers(), None
            headers = self._decorated(headers)
        self.is_sent, self.is_held = True, False
        if exc_info is None:
            self._write = self.start_response(status, headers)
        else:
            self.exc_info = None  # it refers to frames that refer to this
            self._write = self.start_response(status, headers, exc_info)

    def replacement(self) -> list[bytes] | None:
        """The body in the place of the application's; None: the application's own."""
        return None if self._answer is None else [b"" if self.is_head else self._answer.text]

    def complete(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """The whole body is there."""
        try:
            if self.is_sent:
                self.finish()
                return self.replacement() or body
            self.send()
            self.close()  # nothing was changed since
        except BaseException:
            self.finish()
            raise
        return body if self._answer is None else self.replacement() or body

    def abort(self) -> list[bytes] | None:
        """An exception ends the request; what `login` and the like did stays done: their cookie goes out.

        Returns:
            The body of the answer, where the server has no `write` to send it before the exception goes on
            (granian); the exception is logged then. Else None.
        """
        self.is_failed = True
        body = None
        if not self.is_sent and self.set_cookies():
            headers = self._decorated(FAILED.headers())
            self.is_sent = True
            text = b"" if self.is_head else FAILED.text
            write: Callable[[bytes], object] | None = self.start_response(FAILED.status_line, headers)
            if write is not None:
                write(text)
            else:
                _logger.exception("the application failed")
                body = [text]
        self.finish()
        return body

    def _decorated(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        cookies: Any = self.set_cookies()
        if cookies:
            name = self.manager.carrier.names.response
            cookies = [(name, value) for value in cookies]
        return self.decorate(headers, _TEXT, self.manager.varies_with, cookies)


class _Body:
    """The application's body, part by part."""

    def __init__(self, exchange: _Exchange, body: Iterable[bytes]) -> None:
        self._exchange = exchange
        self._body = body
        try:
            exchange.send()
            self._parts = iter(exchange.replacement() or body)
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        exchange = self._exchange
        try:
            part = next(self._parts, None)
        except BaseException:
            exchange.abort()
            raise
        if not exchange.is_sent:
            exchange.send()
            replacement = exchange.replacement()
            if replacement is not None:
                self._parts = iter(replacement)
                part = next(self._parts)
        if part is None:
            raise StopIteration
        return part

    def close(self) -> None:
        """The server is done with the body, whether it was sent to its end or not."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        except BaseException:
            self._exchange.is_failed = True
            raise
        finally:
            self._exchange.finish()
