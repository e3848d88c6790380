"""Sessions for Flask: the same `flask.session`, kept in a table.

    from flask import Flask
    from sessile.web.flask import Sessile

    app = Flask(__name__)
    app.config["SECRET_KEY"] = …
    Sessile(app)

What is decided about a session stands in `manager.py`; this file translates, for Quart too (`quart.py`).
It takes Flask's own road, a session interface: so proxies that correct the scheme, test requests and
whatever else makes a request context work with it, in any order.
"""

from __future__ import annotations

import copy
import dataclasses
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple

import flask
from flask.sessions import SessionInterface, SessionMixin
from markupsafe import Markup
from werkzeug.exceptions import Forbidden
from werkzeug.http import http_date

from sessile import _table, options
from sessile.extension_types import store_markup
from sessile.session import Session
from sessile.store import Store
from sessile.web.base_types import as_base_types
from sessile.web.cookies import Cookie, Header, insecure_development
from sessile.web.fallback import Fallback, FlaskCookie, refuse
from sessile.web.manager import (
    FORBIDDEN,
    SAFE_METHODS,
    Answer,
    Exchange,
    InsecureSession,
    Manager,
    RequestSession,
    Spelling,
)
from sessile.web.project import project_store, store_of_tests

if TYPE_CHECKING:
    from flask import Flask, Request, Response

__all__ = ["FlaskSession", "Sessile"]

_TEXT: Final = Spelling("vary", "cache-control", "private", "no-store", "*", ", ")
_PREFIXES: Final = ("__Host-", "__Secure-", "__Http-")
_PERMANENT: Final = "_permanent"
_LONGEST: Final = timedelta(milliseconds=_table.TIMEOUT_MAX_MS)
_SHORTEST: Final = timedelta(seconds=1)
_TABLES_OF_TESTS: Final = 8
# What a manager is made from.
_SETTINGS: Final = (
    *("TESTING", "DEBUG", "SECRET_KEY", "SECRET_KEY_FALLBACKS", "APPLICATION_ROOT", "SESSION_COOKIE_NAME"),
    *("SESSION_COOKIE_DOMAIN", "SESSION_COOKIE_PATH", "SESSION_COOKIE_SAMESITE", "SESSION_COOKIE_PARTITIONED"),
)

store_markup(Markup)


class FlaskSession(RequestSession, SessionMixin):
    """`flask.session`: all of a `Session`, and what Flask's own has.

    A value of a subclass is stored as its base, as Flask's own serialiser does; Markup keeps its type, and
    what has `__html__` becomes one.

    Attributes:
        permanent: whether the session, and its cookie, live for PERMANENT_SESSION_LIFETIME without use, and
            not for the idle timeout of the store. A session that has nothing else in it is not stored.
        new: whether it was made in this request.
        modified: whether there is, or was, something to save. Nobody has to set it: changes in the middle of
            a value are seen. Setting it to False undoes nothing.
        accessed: whether it was looked up.
    """

    _is_marked = False
    _is_lifetime_due = False

    @property
    def permanent(self) -> bool:
        return bool(self.get(_PERMANENT, False))

    @permanent.setter
    def permanent(self, value: bool) -> None:
        if self.permanent is not bool(value):
            self[_PERMANENT] = bool(value)
            self._is_lifetime_due = True

    @property
    def new(self) -> bool:  # type: ignore[override]
        return self.is_new

    @property
    def modified(self) -> bool:
        if self._is_marked:
            return True
        if self._untouched:
            return False
        try:
            return self._changes() is not None
        except (TypeError, ValueError):
            return True

    @modified.setter
    def modified(self, value: bool) -> None:
        self._is_marked = bool(value)

    @property
    def accessed(self) -> bool:
        return not self._untouched

    @accessed.setter
    def accessed(self, value: bool) -> None:
        """Flask sets it when it hands the session out, which is no look-up yet."""

    def save(self, *, strict: bool = False) -> bool:
        """See `RequestSession.save`."""
        if self._state == _table.UNSTORED and self._names() == [_PERMANENT]:
            return False
        if self._is_lifetime_due:
            self._is_lifetime_due = False
            self._context._must_issue = True
            self.set_timeouts(*(self._lifetimes() if self.permanent else ("default", "default")))
        wrote = super().save(strict=strict)
        if wrote:
            self._is_marked = True
        return wrote

    def login(self, owner: str, *, keep: Iterable[str] | Literal[True] = (), **options_: Any) -> None:
        """See `RequestSession.login`. A permanent session stays one."""
        kept = options.keep(keep)
        if self.permanent:
            kept = kept if kept is True else kept | {_PERMANENT}
            idle, absolute = self._lifetimes()
            options_ = {"idle_timeout": idle, "absolute_timeout": absolute, **options_}
            self._is_lifetime_due = False
        super().login(owner, keep=kept, **options_)
        self._is_marked = True

    def _lifetimes(self) -> tuple[timedelta, timedelta]:
        manager = self._context.manager
        assert isinstance(manager, FlaskManager)
        return manager.lifetimes()

    def _convert(self, value: object) -> Any:
        return as_base_types(value, convert=_as_flask_does, kept=(Markup,))


class _InsecureSession(FlaskSession):
    """What plain http gets: empty, and not to be written to (COK-12). Applications make each request's session
    permanent; alone that stores nothing, so it is no write, and a probe over http is answered."""

    _write = InsecureSession._write

    @property
    def permanent(self) -> bool:
        return False

    @permanent.setter
    def permanent(self, value: bool) -> None:
        pass


def _as_flask_does(value: object) -> object:
    """Flask's serialiser asks for `__html__` (a translation that is made late has it), and takes dataclasses
    apart."""
    if type(value) is Markup:
        return value
    html = getattr(value, "__html__", None)
    if callable(html):
        return Markup(html())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value


class FlaskExchange(Exchange):
    """One request of a Flask or Quart application."""

    is_websocket = False

    def _credentials(self) -> str | None:
        header: str | None = self.source
        return header

    def _is_persistent(self) -> bool:
        session = self.session
        return super()._is_persistent() or (isinstance(session, FlaskSession) and session.permanent)

    def set_cookie(self) -> str | None:
        """See `Exchange.set_cookie`. A cookie that outlives the browser has Expires too, as Flask's own."""
        value = super().set_cookie()
        cookie, _, age = (value or "").partition("; Max-Age=")
        if not age.isdecimal():
            return value
        return f"{cookie}; Expires={http_date(time.time() + int(age))}; Max-Age={age}"

    def _timeouts_of(self, fields: Mapping[str, Any]) -> tuple[int, int]:
        if not fields.get(_PERMANENT):
            return super()._timeouts_of(fields)
        assert isinstance(self.manager, FlaskManager)
        idle, absolute = self.manager.lifetimes()
        return options.milliseconds("idle", idle), options.milliseconds("absolute", absolute)

    def add_headers(self, response: Any) -> None:
        """Add to a response's headers what a touched session asks for."""
        names = self.manager.carrier.names
        cookies = [(names.response, value) for value in self.set_cookies()]
        decorated = self.decorate(list(response.headers), _TEXT, names.request, cookies)
        response.headers.clear()
        for name, value in decorated:
            response.headers.add(name, value)


class FlaskManager(Manager):
    """The manager of one application, with one configuration."""

    session_type = FlaskSession
    insecure_session_type = _InsecureSession
    exchange_class = FlaskExchange

    def __init__(self, app: Flask, store: Store, *, insecure_dev: bool | None, **given: Any) -> None:
        super().__init__(store, insecure_dev=insecure_dev is True, **given)
        self._config = app.config  # not the application, which would never be freed but for the collector
        self.exchange_type = self.exchange_class.of(self)
        self.field = self.carrier.names.environ
        # While it is tested an application has no table but its own, and nothing travels.
        self._takes_any_host = insecure_dev is not False and app.testing
        if insecure_dev is not False and (app.debug or app.testing) and not self.is_tls_in_front:
            carrier = self.carrier
            self._insecure = insecure_development(carrier) if isinstance(carrier, Cookie) else carrier

    def examine_transport(self, exchange: Exchange, scheme: str, host: str | None) -> type[RequestSession]:
        """See `Manager.examine_transport`."""
        if self._takes_any_host:
            exchange.carrier = self._insecure
            return self.session_type
        return super().examine_transport(exchange, scheme, host)

    def lifetimes(self) -> tuple[timedelta, timedelta]:
        """Idle and absolute timeout of a permanent session: PERMANENT_SESSION_LIFETIME from its last use, and
        that or the store's absolute timeout, whichever is longer, from its log-in (LIF-02)."""
        lifetime = _lifetime_of(self._config)
        return lifetime, max(lifetime, timedelta(milliseconds=self.store._absolute_timeout_ms))


class Managers:
    """The manager of an application for its configuration of the moment, which tests change between requests."""

    def __init__(
        self, store: Store | None, given: Mapping[str, Any], manager_type: type[FlaskManager] = FlaskManager
    ) -> None:
        self._store = store
        self._given = given
        self._manager_type = manager_type
        self._made: tuple[tuple[Any, ...], FlaskManager] | None = None
        self._stores: dict[tuple[Any, ...], Store] = {}
        self._lock = threading.Lock()

    def of(self, app: Any) -> FlaskManager | None:
        """The manager for the application as it is now; None: it has neither a store nor a SECRET_KEY."""
        config = app.config
        if self._store is None and not config["SECRET_KEY"]:
            return None
        settings = tuple(map(config.get, _SETTINGS))
        made = self._made
        return made[1] if made is not None and made[0] == settings else self._make(app, settings)

    def _make(self, app: Any, settings: tuple[Any, ...]) -> FlaskManager:
        with self._lock:
            if self._made is None or self._made[0] != settings:
                given = dict(self._given)
                if given["cookie"] is None:
                    given["cookie"] = _cookie_of(app.config)
                if given["fallback"] is True:
                    given["fallback"] = _fallback_of(app)
                manager = self._manager_type(app, self._store_of(app), **given)
                self._made = copy.deepcopy(settings), manager  # a list of keys may be changed in place
            return self._made[1]

    def _store_of(self, app: Any) -> Store:
        """While the application is tested each SECRET_KEY has a table, and the oldest former one leads to its own."""
        if self._store is not None:
            return self._store
        keys, stores = _keys_of(app), self._stores
        names: list[tuple[Any, ...]] = [(True, key) for key in keys] if app.testing else [(False, *keys)]
        store = next((stores[name] for name in reversed(names) if name in stores), None)
        if store is None:
            store = store_of_tests() if app.testing else project_store(app.name, app.root_path, keys)
        stores[names[0]] = store
        if len(stores) > _TABLES_OF_TESTS:
            del stores[next(iter(stores))]
        return store


def _keys_of(app: Any) -> list[str | bytes]:
    return [app.config["SECRET_KEY"], *(app.config.get("SECRET_KEY_FALLBACKS") or ())]


def _lifetime_of(config: Mapping[str, Any]) -> timedelta:
    """PERMANENT_SESSION_LIFETIME, as far as there can be such a timeout."""
    given = config["PERMANENT_SESSION_LIFETIME"]
    return min(max(given if isinstance(given, timedelta) else timedelta(seconds=given), _SHORTEST), _LONGEST)


def _cookie_of(config: Mapping[str, Any]) -> Cookie:
    """The cookie that the application's configuration asks for, as far as it is safe: SESSION_COOKIE_SECURE
    and SESSION_COOKIE_HTTPONLY are always True."""
    name, domain = config["SESSION_COOKIE_NAME"], config["SESSION_COOKIE_DOMAIN"] or None
    path = config["SESSION_COOKIE_PATH"] or config["APPLICATION_ROOT"] or "/"
    samesite: Any = config["SESSION_COOKIE_SAMESITE"] or "Lax"
    if not name.startswith(_PREFIXES):
        prefix = "__Host-Http-" if domain is None and path == "/" else "__Secure-"
        name = prefix + ("id" if name == "session" else name)
    return Cookie(
        name,
        samesite=samesite.capitalize(),
        partitioned=bool(config.get("SESSION_COOKIE_PARTITIONED")),
        domain=domain and domain.lstrip("."),
        path=path,
    )


def _fallback_of(app: Any) -> FlaskCookie:
    """The reader of the cookies that the application has signed so far."""
    config = app.config
    domain = config["SESSION_COOKIE_DOMAIN"] or None
    present, *former = _keys_of(app)
    return FlaskCookie(
        [*former, present],
        name=config["SESSION_COOKIE_NAME"],
        max_age=_lifetime_of(config),
        domain=domain and domain.lstrip("."),
        path=config["SESSION_COOKIE_PATH"] or config["APPLICATION_ROOT"] or "/",
        partitioned=bool(config.get("SESSION_COOKIE_PARTITIONED")),
    )


class _Interface(SessionInterface):
    """How Flask reaches us, at the begin and the end of each request."""

    def __init__(self, managers: Managers) -> None:
        self._managers = managers

    def open_session(self, app: Flask, request: Request) -> FlaskSession | None:
        """The session of a request, not looked up; None: the application has no SECRET_KEY.

        Raises:
            AttachError: the server has several worker processes, and the table is this one's own; or the
                table cannot be attached.
        """
        manager = self._managers.of(app)
        if manager is None:
            return None
        environ = request.environ
        if not manager.is_shared:
            manager.require_shared(environ.get("wsgi.multiprocess", False))
        exchange = manager.exchange_type()
        exchange.source = environ.get(manager.field)
        session_type: type[RequestSession] = FlaskSession
        scheme = environ["wsgi.url_scheme"]
        if scheme != "https" and not manager.is_tls_in_front:
            session_type = manager.examine_transport(exchange, scheme, environ.get("HTTP_HOST"))
        if manager.passive is not None:
            exchange.is_passive = manager.passive(request)
        exchange.session = session = manager.new_session(session_type, exchange)
        assert isinstance(session, FlaskSession)
        return session

    def save_session(
        self,
        app: Flask,  # noqa: ARG002 (Flask gives it)
        session: SessionMixin,
        response: Response,
    ) -> None:
        """Save before the headers go out, and when the server closes the response."""
        assert isinstance(session, FlaskSession)
        exchange = session._context
        assert isinstance(exchange, FlaskExchange)
        if not session._untouched:
            exchange.session = session
            answer = exchange.settle(response.status_code)
            if answer is not None:
                _replace(response, answer)
            exchange.add_headers(response)
        exchange.is_sent = True
        if response.is_streamed:
            response.call_on_close(exchange.finish)
        else:
            vars(exchange).pop("session", None)  # they refer to each other; Flask may ask again, after an error


def _replace(response: Response, answer: Answer) -> None:
    close = getattr(response.response, "close", None)
    if close is not None:
        response.call_on_close(close)
    response.direct_passthrough = False
    response.status_code = answer.status
    response.set_data(answer.text)
    response.headers.clear()
    for name, value in answer.headers():
        response.headers.add(name, value)


class _Registered(NamedTuple):
    """What `app.extensions["sessile"]` is."""

    extension: Sessile
    managers: Managers


def _registered(app: Any) -> _Registered:
    registered: _Registered = app.extensions["sessile"]
    return registered


def manager_of(app: Any) -> FlaskManager | None:
    """The manager of an application as it is now; see `Managers.of`."""
    return _registered(app).managers.of(app)


class Sessile:
    """Keeps the sessions of Flask applications in a table.

        Sessile(app)

        sessile = Sessile()         # or in two steps
        sessile.init_app(app)

    Args:
        app: the application; None: `init_app` follows.
        store: where the sessions are. None: a table that is named after the application and its root folder,
            and keyed from SECRET_KEY and SECRET_KEY_FALLBACKS; it is opened at the first request. While
            `app.testing` is set: a small table of this process. Without a SECRET_KEY there are no sessions,
            and Flask says so.
        cookie: None: what the configuration says in SESSION_COOKIE_NAME, _DOMAIN, _PATH, _SAMESITE and
            _PARTITIONED, where it can be had safely.
        insecure_dev: None: while `app.debug` is set, on loopback hosts; while `app.testing` is, everywhere.
        owner_field: see `sessile.web.manager.Manager`; that of Flask-Login.
        fallback: True: carry over who comes with the cookie that Flask signed for this application; or a
            reader of another one. See `sessile.web.fallback`.
        https, csrf, trusted_origins, rotate_every, passive: see `sessile.web.manager.Manager`; the functions
            get the request.

    Raises:
        RuntimeError: the application has a Sessile already.
        TypeError, ValueError: an argument is of another type, or makes no sense; when the first request comes.
    """

    _interface: ClassVar[type[Any]] = _Interface
    _manager_type: ClassVar[type[FlaskManager]] = FlaskManager

    def __init__(
        self,
        app: Any = None,
        store: Store | None = None,
        *,
        cookie: Cookie | Header | None = None,
        https: Literal[True] | None = None,
        insecure_dev: bool | None = None,
        csrf: bool | Callable[[Any], bool] = True,
        trusted_origins: Iterable[str] = (),
        rotate_every: float | timedelta | None = 900,
        passive: Callable[[Any], bool] | None = None,
        owner_field: str | None = "_user_id",
        fallback: Fallback | Literal[True] | None = None,
    ) -> None:
        self._app = None if app is None else weakref.ref(app)
        self._store = store
        self._given = {
            "cookie": cookie,
            "https": https,
            "insecure_dev": insecure_dev,
            "csrf": csrf,
            "trusted_origins": tuple(trusted_origins),
            "rotate_every": rotate_every,
            "passive": passive,
            "owner_field": owner_field,
            "fallback": fallback,
        }
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Any) -> None:
        """Give an application its sessions.

        Raises:
            RuntimeError: it has a Sessile already.
        """
        if "sessile" in app.extensions:
            raise RuntimeError(f"{app!r} has a Sessile already")
        managers = Managers(self._store, self._given, self._manager_type)
        app.extensions["sessile"] = _Registered(self, managers)
        app.session_interface = self._interface(managers)
        self._watch(app)

    def _watch(self, app: Any) -> None:
        """Be asked before any function of the application, whenever that was registered."""
        app.before_request_funcs.setdefault(None, []).insert(0, _refuse_cross_site)

    @classmethod
    def of(cls, app: Any) -> Sessile:
        """The one of an application; `current_app` will do.

        Raises:
            KeyError: it has none.
        """
        return _registered(app).extension

    @property
    def store(self) -> Store:
        """The store of the application, or of the current one: for `sessions(owner)` and the like.

        Raises:
            RuntimeError: there is neither a store nor a SECRET_KEY, or no current application.
            AttachError: the table cannot be attached.
        """
        return self._manager().store

    def revoke(self, owner: str, *, keep: Session | None = None, handle: str | None = None) -> int:
        """Log an owner out everywhere: see `Store.revoke`. Where there is a fallback, an old session that
        nobody has presented yet is not carried over any more either, unless `handle` names a single one.

        Raises: as `Store.revoke`, and RuntimeError: see `store`.
        """
        manager = self._manager()
        if manager.fallback is not None and handle is None:
            refuse(manager.store, owner)
        return manager.store.revoke(owner, keep=keep, handle=handle)

    def _manager(self) -> FlaskManager:
        app = None if self._app is None else self._app()
        manager = manager_of(self._current_app() if app is None else app)
        if manager is None:
            raise RuntimeError("the application has no SECRET_KEY, so it has no sessions: set one, or pass store=")
        return manager

    @staticmethod
    def _current_app() -> Any:
        return flask.current_app


def _refuse_cross_site() -> None:
    """What another site started gets no view (COK-13)."""
    request = flask.request
    if request.method in SAFE_METHODS:
        return
    manager = manager_of(flask.current_app)
    get = request.environ.get
    if manager is not None and manager.refuses(
        request._get_current_object(),  # type: ignore[attr-defined]
        request.method,
        get("HTTP_SEC_FETCH_SITE"),
        get("HTTP_ORIGIN"),
        get("HTTP_HOST"),
        get("wsgi.url_scheme", "http"),
    ):
        raise Forbidden(FORBIDDEN.text.decode())
