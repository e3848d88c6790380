"""The middleware: what Django's does, with the cookie, the rules and the events of sessile's own.

    MIDDLEWARE = [..., "sessile.web.django.SessionMiddleware", ...]      # in the place of Django's

What is decided stands in `sessile.web.manager`; this file translates. It runs in the event loop or in a worker's
thread, as the rest of the site does, and never changes from one to the other: nothing that it does waits.

In development (DEBUG) plain http is allowed for loopback hosts, in test runs always, and the cookie has the name that
SESSION_COOKIE_NAME says, where Django's test client looks for it.
"""

from __future__ import annotations

import time
import warnings
from http.cookies import Morsel
from importlib import import_module
from typing import Any, Final

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.contrib.sessions import middleware as django_middleware
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.utils.http import http_date

from sessile import _table
from sessile.web.cookies import Cookie, insecure_development
from sessile.web.django import configuration, fallback
from sessile.web.django.engine import SessionStore
from sessile.web.django.tables import get_store, is_test_run
from sessile.web.manager import FORBIDDEN, SAFE_METHODS, Answer, Exchange, Manager, RequestSession, Spelling

__all__ = ["SessionMiddleware"]

_TEXT: Final = Spelling("vary", "cache-control", "private", "no-store", "*", ", ")
_SET_COOKIE: Final = "Set-Cookie"


class SessionMiddleware(django_middleware.SessionMiddleware):
    """Gives each request its `request.session`, a `SessionStore` of sessile's.

    The options are those in `SESSILE`; see `configuration.py`.

    Raises:
        ImproperlyConfigured: SESSION_ENGINE is not sessile's, or an option makes no sense.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        if get_response is None:
            raise ValueError("get_response must be provided.")
        self.get_response = get_response
        self.async_mode = iscoroutinefunction(get_response)
        if self.async_mode:
            markcoroutinefunction(self)
        engine = import_module(settings.SESSION_ENGINE)
        self.SessionStore = engine.SessionStore
        if not issubclass(self.SessionStore, SessionStore):
            raise ImproperlyConfigured(
                f"sessile.web.django.SessionMiddleware needs the engine of sessile, and SESSION_ENGINE is "
                f'{settings.SESSION_ENGINE!r}: set it to "sessile.web.django", or use the middleware of Django'
            )
        try:
            self._manager = _manager()
        except (TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"SESSILE: {error}") from error
        carrier = self._manager.carrier
        self._test_carrier = carrier
        if isinstance(carrier, Cookie):
            self._test_carrier = insecure_development(carrier, settings.SESSION_COOKIE_NAME)

    def __call__(self, request: Any) -> Any:
        if self.async_mode:
            return self.__acall__(request)
        response = self.process_request(request)
        if response is not None:
            return response
        try:
            response = self.get_response(request)
        except BaseException:
            self._abort(request)
            raise
        return self.process_response(request, response)

    async def __acall__(self, request: Any) -> Any:
        response = self.process_request(request)
        if response is not None:
            return response
        if fallback.is_configured():
            await request._sessile.ask_former_engine()
        try:
            response = await self.get_response(request)
        except BaseException:
            self._abort(request)
            raise
        response = self.process_response(request, response)
        if self._manager.has_journal:
            await self._manager.store.aflush()
        return response

    def process_request(self, request: Any) -> Any:
        """Give the request its session; or answer that another site started it."""
        manager = self._manager
        if manager._csrf is not False and request.method not in SAFE_METHODS and self._refuses(request):
            return _respond(FORBIDDEN, FORBIDDEN.headers())
        exchange = _Exchange()
        exchange.manager = manager
        exchange.carrier = manager.carrier
        exchange.source = request
        if request.method == "HEAD":
            exchange.is_head = True
        session_type: type[RequestSession] = _Session
        if is_test_run():
            # The test client has one jar for http and https, and requests made by hand have neither.
            exchange.carrier = self._test_carrier
        elif not request.is_secure() and not manager.is_tls_in_front:
            found = manager.examine_transport(exchange, request.scheme, _host(request))
            session_type = _Session if found is RequestSession else _InsecureSession
        if manager.passive is not None:
            exchange.is_passive = manager.passive(request)
        exchange.session = manager.new_session(session_type, exchange)
        exchange.front = request.session = self.SessionStore()
        request.session._attach(exchange)
        request._sessile = exchange
        return None

    def process_response(self, request: Any, response: Any) -> Any:
        """Save the session, and let the response carry what the client must know of it."""
        exchange: _Exchange | None = getattr(request, "_sessile", None)
        if exchange is None:
            return response
        if settings.SESSION_SAVE_EVERY_REQUEST and not exchange.is_passive:
            # Looking the session up renews it; writing it anew would add nothing but the danger of losing a change.
            exchange.front._reissue |= exchange.session._state == _table.STORED
        if exchange.session._untouched:
            exchange.is_sent = True
            return response
        answer = exchange.settle(response.status_code)
        if answer is not None:
            response.close()
            response = _respond(answer, answer.headers())
        exchange.decorate_response(response)
        exchange.is_sent = True
        if response.streaming:
            response._resource_closers.append(exchange.finish)
        return response

    def _refuses(self, request: Any) -> bool:
        site, origin = map(request.META.get, ("HTTP_SEC_FETCH_SITE", "HTTP_ORIGIN"))
        forwarded = request.META.get("HTTP_X_FORWARDED_HOST") if settings.USE_X_FORWARDED_HOST else None
        host = forwarded or _host(request)
        return self._manager.refuses(request, request.method, site, origin, host, request.scheme)

    def _abort(self, request: Any) -> None:
        exchange: _Exchange | None = getattr(request, "_sessile", None)
        if exchange is not None:
            exchange.is_failed = True
            exchange.finish()


class _Exchange(Exchange):
    front: SessionStore  # what the application has as request.session
    _former_cookie = False  # whether the session was found through the former engine's cookie
    _was_asked = False  # whether the former engine has been asked what the cookie leads to

    def _credentials(self) -> str | None:
        assert self.carrier is not None
        header: str | None = self.source.META.get(self.carrier.names.environ)
        if not header and isinstance(self.carrier, Cookie) and is_test_run():
            # Tests put cookies into a request that they made themselves.
            value = self.source.COOKIES.get(self.carrier.name)
            return None if value is None else f"{self.carrier.name}={value}"
        return header

    def _look_up(self, session: RequestSession) -> None:
        super()._look_up(session)
        if self._presented is None and self.carrier is not None and fallback.is_configured():
            self._carry_over(session)

    def _carry_over(self, session: RequestSession) -> None:
        """Go on with a session of the former engine, if the client has none of ours."""
        former = self.source.COOKIES.get(settings.SESSION_COOKIE_NAME)
        if not former:
            return
        if self._was_asked:
            fallback.find(session, former, not self.is_passive)
        else:
            self._was_asked = True
            fallback.carry_over(session, former, self.front, not self.is_passive)
        self._former_cookie = session._state == _table.STORED

    async def ask_former_engine(self) -> None:
        """In an event loop the former engine must be asked before anybody uses the session: it may have to wait."""
        former = self.source.COOKIES.get(settings.SESSION_COOKIE_NAME)
        if not former or self.carrier is None:
            return
        store = self.manager.store
        ours = self.carrier.find(self._credentials())
        if not isinstance(ours, str) or store.load(ours, touch=False) is None:
            await fallback.acarry_over(store._blank(), former, self.front, not self.is_passive)
            self._was_asked = True

    def set_cookie(self) -> str | None:
        """As in `Exchange`; also when the session's own expiry was changed, and without Max-Age for a session
        that shall end with the browser."""
        session, carrier = self.session, self.carrier
        if carrier is None or session._untouched or session._state != _table.STORED:
            return super().set_cookie()
        current = self._id_for_client(session)
        if current is None or (current == self._presented and not self.front._reissue):
            return None
        if not carrier.persistent or self.front.get_expire_at_browser_close():
            return carrier.issue(current)
        return carrier.issue(current, (session._absolute_ms - self.manager.store._now()) / 1000)

    def decorate_response(self, response: Any) -> None:
        """Put cookie, Vary and Cache-Control into a response of Django."""
        names = self.manager.carrier.names
        value = self.set_cookie()
        given = [] if value is None else [(names.response, value)]
        headers = response.headers
        before = dict(headers.items())
        for name, text in self.decorate(before.items(), _TEXT, names.request, given):
            if name == _SET_COOKIE and value is not None and text == value:
                _put_cookie(response, value)
            elif before.get(name) is not text:
                headers[name] = text
        if self._former_cookie and names.response == _SET_COOKIE:
            self._delete_former_cookie(response)

    def _delete_former_cookie(self, response: Any) -> None:
        if isinstance(self.carrier, Cookie) and self.carrier.name != settings.SESSION_COOKIE_NAME:
            response.delete_cookie(
                settings.SESSION_COOKIE_NAME,
                path=settings.SESSION_COOKIE_PATH,
                domain=settings.SESSION_COOKIE_DOMAIN,
                samesite=settings.SESSION_COOKIE_SAMESITE,
            )


class _Session(RequestSession):
    """The record behind a request's `SessionStore`, which is what the application writes to."""

    __slots__ = ()

    def _save_at_once(self) -> bool:
        exchange: Any = self._context
        saved: bool = exchange.front._save_for_response(self)
        return saved

    def save(self, *, strict: bool = False) -> bool:  # noqa: ARG002 (as Session has it)
        return self._save_at_once()


class _InsecureSession(_Session):
    """What plain http gets: empty, and not to be written to (COK-12)."""

    __slots__ = ()

    def _write(self) -> None:
        self._context._refuse_transport()

    def _store_new(self, *_args: Any) -> bool:
        self._context._refuse_transport()


class _Morsel(Morsel[str]):
    """A cookie with `Partitioned`, which the standard library knows from Python 3.14 on."""

    _reserved: Final = {**Morsel._reserved, "partitioned": "Partitioned"}  # type: ignore[attr-defined]
    _flags: Final = Morsel._flags | {"partitioned"}  # type: ignore[attr-defined]


def _put_cookie(response: Any, text: str) -> None:
    """Put a cookie among the response's, where Django and its test client look for cookies."""
    pair, *attributes = text.split("; ")
    name, _, value = pair.partition("=")
    morsel = _Morsel()
    morsel.set(name, value, value)
    for attribute in attributes:
        key, has_value, content = attribute.partition("=")
        morsel[key.lower()] = content if has_value else True
    if morsel["max-age"] and not morsel["expires"]:
        morsel["expires"] = http_date(time.time() + int(morsel["max-age"]))
    response.cookies[name] = morsel


def _host(request: Any) -> str:
    host: str = request.META.get("HTTP_HOST") or request.META.get("SERVER_NAME", "")
    return host


def _respond(answer: Answer, headers: list[tuple[str, str]]) -> HttpResponse:
    return HttpResponse(answer.text, status=answer.status, reason=answer.reason, headers=dict(headers))


def _manager() -> Manager:
    options = configuration.middleware_options()
    with warnings.catch_warnings():
        if settings.DEBUG and options["https"] is None:
            warnings.simplefilter("ignore", RuntimeWarning)
            options["insecure_dev"] = True
        manager = Manager(get_store(), owner_field=None, **options)
    if manager._insecure is not None and isinstance(options["cookie"], Cookie):
        manager._insecure = insecure_development(options["cookie"], settings.SESSION_COOKIE_NAME)
    return manager
