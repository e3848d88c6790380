"""What the web layer decides, once for every adapter.

An adapter (`wsgi.py`, `asgi.py`) only translates between its protocol and these:

    Manager          one for each middleware: its store and its options
    Exchange         one request and its response, as far as they concern the session
    RequestSession   what the application gets: a Session that is looked up when it is first touched
    Answer           a response of our own, where the application's cannot go out

The life of an exchange:

1. `Manager.refuses` looks at where an unsafe request comes from (COK-13, COK-16), `Manager.examine_transport`
   at the transport (COK-12). Nothing is looked up.
2. The application touches the session, or does not. An untouched session costs no look-up, no header and no
   record (DOS-01).
3. `Exchange.settle`, before the headers: the fields are saved, so that a redirect finds them, and a session
   that is due gets a new id (LIF-08). When this fails, its Answer takes the place of the response.
   `Exchange.decorate` then adds the cookie, if the id is new to the client, and what keeps caches from giving
   one visitor's page to another (COK-10).
4. `Exchange.finish`, after the last byte: what was changed since is saved, if it can still be.

A status of 500 or more and an exception save no fields. What `login`, `rotate` and `logout` did was done when
they returned, so their cookie goes out with whatever response there is.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, AnyStr, Final, Generic, Literal, NoReturn

from sessile import _table, options
from sessile.codec import find_field
from sessile.errors import AttachError, Busy, HeadersSent, InsecureTransport, SessionGone, StoreFull
from sessile.events import Event, EventKind
from sessile.session import Session
from sessile.store import Store
from sessile.web.cookies import Carrier, Cookie, Finding, Header, insecure_development
from sessile.web.csrf import cross_site_allowed, parse_trusted_origins

if TYPE_CHECKING:
    from typing_extensions import Self

    from sessile.web.fallback import Fallback

__all__ = [
    "SAFE_METHODS",
    "Answer",
    "Exchange",
    "InsecureSession",
    "Manager",
    "Request",
    "RequestSession",
    "Spelling",
]

_logger = logging.getLogger("sessile")

Request = Mapping[str, Any]
"""What a predicate is given: the adapter's own form of a request, a WSGI environ or an ASGI scope."""

SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods that change nothing, so that it does not matter who started the request (RFC 9110, 9.2.1)."""

_SECURE_SCHEMES: Final = frozenset(("https", "wss"))
_SHOWN: Final = 200  # characters of what a client sent, in a log line

# Seconds for Retry-After: a lock is free again in an instant; room must first be made, by expiry or by hand.
_RETRY_BUSY: Final = 1
_RETRY_FULL: Final = 30

_without_port: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?").fullmatch


class Manager:
    """The store and the options of one middleware.

    Args:
        store: where the sessions are.
        cookie: `Cookie(…)`, or `Header(…)` for clients without cookies; then there is no cross-site check, as
            no browser sends such a header by itself.
        https: None: the scheme of the request says whether it came over TLS. True: it always did, because TLS
            ends in front of this server, and plain http does not reach it.
        insecure_dev: while developing without TLS: on plain http the cookie is `id`, without Secure, and
            only when the request is for a loopback host, `testserver` or `*.localhost` (COK-02). Warns.
        csrf: whether cross-site requests with an unsafe method, and WebSocket handshakes, are refused with
            403 (COK-13, COK-16); or a function that says so for a request. See `sessile.web.csrf`.
        trusted_origins: other origins that may send such requests, as `"https://app.example"`.
        rotate_every: seconds or timedelta after which a session with an owner that is in use is given a new
            id (LIF-08); None: never.
        passive: says whether a request is one that the user did not make, such as a page's poll: it reads
            the session without renewing its idle deadline, and renews no id.
        owner_field: the field in which the application keeps its user, a str or an int; for code that does
            not call `login` and `logout`. A save that finds it new or changed logs the session in, with all
            its fields; one that finds it gone logs it out, and the other fields go on in a new session.
        fallback: reads the session of a client that comes without our cookie from what an older system left
            it, once; see `sessile.web.fallback`. None: there is none.

    The functions get a WSGI environ or an ASGI scope.

    Raises:
        TypeError: an argument is of another type.
        ValueError: one makes no sense; the text says what would.
    """

    session_type: type[RequestSession]
    """What the application gets; an adapter whose framework expects more of it has its own."""

    insecure_session_type: type[RequestSession]
    """The same where no id may travel."""

    varies_with: Any
    """The name of the request's field with the id, as the adapter's protocol has it."""

    def __init__(
        self,
        store: Store,
        *,
        cookie: Cookie | Header,
        https: Literal[True] | None,
        insecure_dev: bool,
        csrf: bool | Callable[[Any], bool],
        trusted_origins: Iterable[str],
        rotate_every: float | timedelta | None,
        passive: Callable[[Any], bool] | None,
        owner_field: str | None,
        fallback: Fallback | None = None,
    ) -> None:
        _check_types(store, cookie, csrf, passive, owner_field)
        if fallback is not None and not cookie.is_cookie:
            raise ValueError("fallback= reads an old cookie, and Header(...) has no cookies: give one of them")
        _check_transport(https, insecure_dev)
        self.store = store
        self.carrier: Carrier = cookie
        self.is_tls_in_front = https is True
        self._insecure: Carrier | None = _insecure(cookie) if insecure_dev else None
        self._csrf = csrf if self.carrier.is_cookie else False
        self._trusted_origins = parse_trusted_origins(trusted_origins)
        self._renew_ms = None if rotate_every is None else options.milliseconds("rotate_every", rotate_every)
        self.passive = passive
        self.owner_field = owner_field
        self.fallback = fallback
        self.new_session = store._of_request
        self.is_shared = False  # not known before the first request
        # Only a store with a journal has something to wait for.
        self.has_journal = store._persistence is not None

    def serves(self, session: object) -> bool:
        """Whether a session is one that a middleware for the same store gave to this request already."""
        return isinstance(session, RequestSession) and session._store is self.store

    def require_shared(self, multiprocess: bool) -> None:
        """Refuse the commonest mistake: a table of its own in each of several workers.

        Args:
            multiprocess: whether the server says that other processes serve the application too.

        Raises:
            AttachError: they do, and would not see this process's table.
        """
        if multiprocess and self.store._path is None and self.store._facts()[3]:
            raise AttachError(
                "several worker processes serve this application, and Store() made a table that only this "
                'one sees: give it a name that all of them open, Store("name"), or make the store before '
                "the workers are forked (gunicorn --preload)",
                path=None,
            )
        self.is_shared = True

    def examine_transport(self, exchange: Exchange, scheme: str, host: str | None) -> type[RequestSession]:
        """Find out how an id may travel with a request that the adapter did not see to be https (COK-12).

        Args:
            exchange: gets its `carrier` and `transport`.
            scheme: http, https, ws or wss.
            host: the value of the Host field.

        Returns:
            The type of session for the exchange.
        """
        if self.is_tls_in_front or scheme in _SECURE_SCHEMES:
            return self.session_type
        exchange.transport = (scheme, host or "")
        exchange.carrier = self._insecure if self._insecure is not None and _is_loopback(host) else None
        return self.session_type if exchange.carrier is not None else self.insecure_session_type

    def why_insecure(self, host: str) -> str | None:
        """The text of the error where no id may travel; None: its own."""
        if self._insecure is None:
            return None
        return (
            f"a session cannot be written over plain http for the host {host!r}: insecure_dev=True is for "
            "localhost, 127.0.0.1, [::1], testserver and *.localhost only; serve https"
        )

    def refuses(
        self,
        request: Request,
        method: str,
        sec_fetch_site: str | None,
        origin: str | None,
        host: str | None,
        scheme: str,
        websocket: bool = False,
    ) -> bool:
        """Whether a request is to be refused because another site started it; see `cross_site_allowed`."""
        if self._csrf is False or (self._csrf is not True and not self._csrf(request)):
            return False
        if self.is_tls_in_front:
            scheme = "https"
        if cross_site_allowed(method, sec_fetch_site, origin, host, scheme, self._trusted_origins, websocket):
            return False
        _logger.warning(
            "refused a cross-site request: %.*r from the origin %.*r to the host %.*r; see trusted_origins=",
            _SHOWN,
            method,
            _SHOWN,
            origin,
            _SHOWN,
            host,
        )
        self.tell("csrf_refused")
        return True

    def tell(self, kind: EventKind, session: Session | None = None) -> None:
        """Raise an event of the web layer."""
        store = self.store
        if store._on_event is not None:
            handle = None if session is None else session.handle
            store._deliver(Event(kind, handle, None, None, None, store._datetime(store._now())))


class RequestSession(Session):
    """The session of one request: a `Session` that is looked up when it is first touched.

    All of a Session, with these differences:

    * It is saved by the middleware, before the headers go out and at the end of the request.
    * Once the headers have gone, the client can be given no id: `login`, `rotate` and the `save` of a session
      that is not stored yet raise `HeadersSent`, and nothing is changed.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def _context(self) -> Exchange: ...

    def save(self, *, strict: bool = False) -> bool:
        """As `Session.save`.

        Raises also:
            HeadersSent: the session is not stored, and the headers have gone.
        """
        exchange = self._context
        field = exchange.manager.owner_field
        if field is not None and self._follow(field):
            return True
        if exchange.is_sent and self._state == _table.UNSTORED and self:
            raise HeadersSent(operation="save")
        return super().save(strict=strict)

    def login(self, owner: str, **options: Any) -> None:
        """As `Session.login`.

        Raises also:
            HeadersSent: the headers have gone.
        """
        self._context._require_headers("login")
        super().login(owner, **options)

    def rotate(self) -> None:
        """As `Session.rotate`.

        Raises also:
            HeadersSent: the headers have gone.
        """
        self._context._require_headers("rotate")
        super().rotate()

    def destroy(self) -> None:
        """As `Session.destroy`; the response takes the client's cookie away."""
        super().destroy()
        self._context._is_destroyed = True

    def keep_id(self) -> None:
        """Ask for no renewal in this request: for a client that may lose what the response sets, such as a
        web view that another process closes. Touches nothing."""
        self._context._may_renew = False

    def mark_accessed(self) -> None:
        """Touch the session, as Starlette's `request.session` does: the response varies with the cookie."""
        self._state  # noqa: B018 (each use is one)

    def mark_modified(self) -> None:
        """As `mark_accessed`: what was changed is found by comparing, in the middle of a value too."""
        self._state  # noqa: B018

    def __ior__(self, other: Mapping[str, Any]) -> Self:
        self.update(other)
        return self

    def __repr__(self) -> str:
        return "<sessile.Session, not looked up>" if self._untouched else super().__repr__()

    def _follow(self, field: str) -> bool:
        """Let the owner be who the application's own field says; return whether that stored the session."""
        if self._state == _table.ENDED:
            return False
        user = self.get(field)
        if user is not None:
            owner = owner_of(user)
            if owner == self.owner:
                return False
            self.login(owner, keep=True)
            return True
        if self.owner is not None and find_field(self._fields, field) is not None:
            rest = self.copy()
            self.logout()
            self.update(rest)
        return False


class InsecureSession(RequestSession):
    """What plain http gets: empty, and not to be written to (COK-12)."""

    __slots__ = ()

    def _write(self) -> None:
        self._context._refuse_transport()


Manager.session_type = RequestSession
Manager.insecure_session_type = InsecureSession


def owner_of(user: Any) -> Any:
    """The owner that the value of an owner field stands for: an int as text, anything else as it is."""
    return str(user) if type(user) is int else user


@dataclass(frozen=True, slots=True)
class Answer:
    """A response of the middleware's own, as plain text."""

    status: int
    reason: str
    text: bytes
    retry_after: int | None = None

    @property
    def status_line(self) -> str:
        """Status and reason, as WSGI has them."""
        return f"{self.status} {self.reason}"

    def headers(self) -> list[tuple[str, str]]:
        """Its header fields; no cache may keep it."""
        fields = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(self.text))),
            ("Cache-Control", "no-store"),
        ]
        if self.retry_after is not None:
            fields.append(("Retry-After", str(self.retry_after)))
        return fields


FORBIDDEN: Final = Answer(403, "Forbidden", b"This request was started by another site and was refused.\n")
FAILED: Final = Answer(500, "Internal Server Error", b"The request failed.\n")
_BUSY: Final = Answer(
    503, "Service Unavailable", b"The server is busy. Please try again.\n", retry_after=_RETRY_BUSY
)
_FULL: Final = Answer(
    503, "Service Unavailable", b"The server has no room. Please try again later.\n", retry_after=_RETRY_FULL
)


@dataclass(frozen=True, slots=True)
class Spelling(Generic[AnyStr]):
    """The words of the headers as an adapter's protocol has them: text (WSGI) or octets (ASGI)."""

    vary: AnyStr
    cache_control: AnyStr
    private: AnyStr
    no_store: AnyStr
    any: AnyStr
    comma: AnyStr


class Exchange:
    """One request and its response, as far as they concern the session. Adapters extend it.

    It has no `__init__`: calling one would cost as much as all else that is done for a request which does not
    touch its session. The adapter sets `manager`, `carrier` and `source` (the first two once for all its
    requests, with `of`, where it is content with that), gives the exchange to `Manager.new_session`, and sets
    the others where they differ from what they are here; what is read in every request is faster to read
    where it was set. Once touched, session and exchange refer to each other, until `finish`.

    Attributes:
        manager: of the middleware.
        carrier: the manager's, unless `Manager.examine_transport` gave another; None: no id may travel.
        source: where `_credentials` finds the request's field with the id.
        session: what the application got, once it was touched; before, it is what the adapter set it to.
        transport: scheme and host, for the error of a write where `carrier` is None.
        is_passive: see `passive` of `Manager`.
        is_head: whether the response can have no body.
        is_sent: whether the headers have gone.
        is_failed: whether no fields are to be saved any more.
    """

    manager: Manager
    carrier: Carrier | None
    source: Any
    session: RequestSession | Any
    transport = ("", "")
    is_passive = False
    is_head = False
    is_sent = False
    is_failed = False
    _is_finished = False
    _is_destroyed = False
    _may_renew = True
    _presented: str | None = None  # the id that the client presented, if there is such a session
    _is_owned = False  # that session had an owner when it was looked up
    _is_carried = False  # the client presented the cookie of an older system
    _must_issue = False  # the cookie is to be set although the client has the id

    @classmethod
    def of(cls, manager: Manager) -> type[Self]:
        """The type of the exchanges of one middleware, which knows its `manager` and `carrier` already."""
        return type(cls.__name__, (cls,), {"manager": manager, "carrier": manager.carrier})

    def _credentials(self) -> str | bytes | None:
        """The value of the request's field with the id; several of them joined as the carrier says."""
        raise NotImplementedError

    # ---- for the session ----

    def _look_up(self, session: RequestSession) -> None:
        """Load what the client's id names, if it names anything. An id that is not known is never adopted
        (SID-06), and neither is one that came twice (COK-07)."""
        if self.carrier is None:
            self.session = session
            return
        found = self.carrier.find(self._credentials())
        store = self.manager.store
        if type(found) is str:
            if store._load_into(session, found, not self.is_passive):
                self._presented = found
                self._is_owned = session.owner is not None
        elif found is Finding.ABSENT:
            if self.manager.fallback is not None:
                self._look_back(self.manager.fallback, session)
        elif found is Finding.DUPLICATE:
            self.manager.tell("duplicate_cookie")
        else:
            store.load("")  # only counts: one more malformed id
        self.session = session

    def _look_back(self, fallback: Fallback, session: RequestSession) -> None:
        """Carry the session of an older system over, if the client has one. What cannot be stored for lack of
        room or time is tried again at the next request: its cookie stays."""
        from sessile.web.fallback import carry_over

        header = self._credentials() or ""
        old = fallback.read(header if isinstance(header, str) else header.decode("latin-1"))
        if old is None:
            return
        field = self.manager.owner_field
        user = None if field is None else owner_of(old.fields.get(field))
        try:
            owner = None if user is None else options.owner(user)
            timeouts = self._timeouts_of(old.fields)
            is_first = carry_over(
                self.manager.store, session, old, owner=owner, timeouts=timeouts, touch=not self.is_passive
            )
        except (Busy, StoreFull) as error:
            _logger.warning("an old session cannot be carried over yet: %s", error)
            return
        except (TypeError, ValueError) as error:
            _logger.error("an old session cannot be carried over: %s", error)
            return
        self._is_carried = True
        self._is_owned = owner is not None
        if is_first:
            fallback.carried(old)

    def _timeouts_of(self, fields: Mapping[str, Any]) -> tuple[int, int]:  # noqa: ARG002 (adapters look)
        """Idle and absolute timeout in milliseconds for a session with these fields."""
        return _table.DEFAULT, _table.DEFAULT

    def _require_headers(self, operation: str) -> None:
        if self.is_sent:
            raise HeadersSent(operation=operation)

    def _refuse_transport(self) -> NoReturn:
        scheme, host = self.transport
        raise InsecureTransport(self.manager.why_insecure(host), scheme=scheme, host=host)

    # ---- for the adapter ----

    def settle(self, status: int) -> Answer | None:
        """Save before the headers go out, and renew. Call it once, if the session was touched.

        Args:
            status: of the application's response. From 500 on it failed, and no fields are saved.

        Returns:
            What to answer in place of the application's response, when the session cannot be saved.

        Raises:
            AttachError, StoreClosed: there is no table to save it in.
        """
        session, manager = self.session, self.manager
        if status >= 500 or self.is_failed:
            self.is_failed = True
            return None
        try:
            # Nearly always nothing was written, or nobody else wrote; `save` would find out the same way.
            if manager.owner_field is not None or session._save_at_once() is None:
                if session._state == _table.ENDED:
                    return None
                session.save()
        except SessionGone:
            self._drop_late_save(session)
        except (Busy, StoreFull) as error:
            _logger.warning("a session cannot be saved, the answer is 503: %s", error)
            return self._fail(_BUSY if isinstance(error, Busy) else _FULL)
        except (TypeError, ValueError) as error:
            _logger.error("a session cannot be saved, the answer is 500: %s", error, exc_info=True)
            return self._fail(FAILED)
        else:
            if manager._renew_ms is not None and session._flags & _table.OWNED:
                self._renew_if_due(session, manager._renew_ms)
        return None

    def set_cookie(self) -> str | None:
        """The value of the field that gives the client a new id, or takes it away; None: neither (COK-11)."""
        session, carrier = self.session, self.carrier
        if carrier is None or session is None or session._untouched:
            return None
        state = session._state
        current = self._id_for_client(session) if state == _table.STORED else None
        if current == self._presented and not self._must_issue:
            return None
        if current is not None:
            if not self._is_persistent():
                return carrier.issue(current)
            return carrier.issue(current, (session._absolute_ms - self.manager.store._now()) / 1000)
        # Only an end that this very request brought about: one that another did may be a log-in, and its
        # cookie would be deleted here.
        return carrier.clear() if state == _table.UNSTORED or self._is_destroyed else None

    def _id_for_client(self, session: RequestSession) -> str | None:
        """The id of a stored session; while a power cut could undo its renewal, the one that the client has (PER-08)."""
        persistence = self.manager.store._persistence
        if persistence is not None and self._presented is not None and persistence.is_unsure(session):
            return self._presented
        return session.id

    def set_cookies(self) -> Sequence[str]:
        """The values of the fields that `set_cookie` asks for, and of the one that deletes an older system's
        cookie."""
        value = self.set_cookie()
        fallback = self.manager.fallback
        if fallback is not None and self._is_carried:
            return [fallback.cleared] if value is None else [value, fallback.cleared]
        return () if value is None else [value]

    def _is_persistent(self) -> bool:
        """Whether the cookie outlives the browser."""
        return self.carrier is not None and self.carrier.persistent

    def decorate(
        self,
        headers: Iterable[tuple[AnyStr, AnyStr]],
        spelling: Spelling[AnyStr],
        field: AnyStr,
        set_cookies: Sequence[tuple[AnyStr, AnyStr]],
    ) -> list[tuple[AnyStr, AnyStr]]:
        """The response's headers with what a touched session adds, so that no cache mixes up its visitors.

        `Vary` always. With a cookie `Cache-Control: no-store`, whatever the application said; else, where
        the session came with an owner, `private` if the application said nothing (COK-10).

        Args:
            headers: the application's.
            spelling: the adapter's.
            field: the name of the request's field, as `Vary` wants it.
            set_cookies: names and values of the fields to be added.
        """
        result = list(headers)
        varies = said = False
        for name, _ in result:
            if len(name) == 4 or len(name) == 13:  # as Vary and Cache-Control
                result, varies, said = self._checked(result, spelling, field, set_cookies)
                break
        if not varies:
            result.append((spelling.vary, field))
        if set_cookies:
            result += set_cookies
            if not said:
                result.append((spelling.cache_control, spelling.no_store))
        elif self._is_owned and not said:
            result.append((spelling.cache_control, spelling.private))
        return result

    @staticmethod
    def _checked(
        headers: list[tuple[AnyStr, AnyStr]],
        spelling: Spelling[AnyStr],
        field: AnyStr,
        set_cookies: Sequence[tuple[AnyStr, AnyStr]],
    ) -> tuple[list[tuple[AnyStr, AnyStr]], bool, bool]:
        """The application's headers without what our own would contradict; whether it said Vary, and
        Cache-Control."""
        result: list[tuple[AnyStr, AnyStr]] = []
        varies = said = False
        for name, value in headers:
            lowered = name.lower()
            if lowered == spelling.vary:
                if not varies and not _names(value, (spelling.any, field.lower()), spelling.comma):
                    value = value + spelling.comma + field
                varies = True
            elif lowered == spelling.cache_control:
                if set_cookies and not _names(value, (spelling.no_store,), spelling.comma):
                    continue
                said = True
            result.append((name, value))
        return result, varies, said

    def finish(self) -> None:
        """At the very end of the request: save what was changed since the headers went out. Never raises."""
        if self._is_finished:
            return
        session = self.session
        self.close()
        if self.is_failed or session is None or session._untouched or session._state == _table.ENDED:
            return
        try:
            if self.manager.owner_field is not None or session._save_at_once() is None:
                session.save()
        except SessionGone:
            self._drop_late_save(session)
        except HeadersSent as error:
            _logger.error("what a request wrote to its session is lost: %s", error)
        except Exception:
            _logger.exception("a session could not be saved at the end of its request")

    def close(self) -> None:
        """In the place of `finish`, where nothing can have been changed since the headers went out."""
        self._is_finished = self.is_sent = True
        del self.session  # they refer to each other

    # ---- parts of these ----

    def _renew_if_due(self, session: RequestSession, every_ms: int) -> None:
        """Give a session with an owner a new id when it has had its own for so long (LIF-08)."""
        is_due = self.manager.store._now() - session._issued_ms >= every_ms
        if not is_due or self.is_passive or not self._may_renew:
            return
        try:
            session._renew()
        except (Busy, SessionGone, StoreFull) as error:
            _logger.info("a session was not renewed, and keeps its id for now: %s", error)

    def _fail(self, answer: Answer) -> Answer:
        self.is_failed = True
        return answer

    def _drop_late_save(self, session: RequestSession) -> None:
        """A log-out is final, and nobody gets an error page for it (CON-02)."""
        _logger.info("the session %s ended while a request was writing to it", session.handle)
        self.manager.tell("late_save", session)


def _names(value: AnyStr, words: tuple[AnyStr, ...], comma: AnyStr) -> bool:
    """Whether a list in a header field contains one of the words, given in lower case."""
    return any(part.strip() in words for part in value.lower().split(comma.strip()))


def _is_loopback(host: str | None) -> bool:
    match = _without_port(host or "")
    if match is None:
        return False
    name = match[1].lower()
    if name in ("localhost", "testserver") or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _insecure(cookie: Cookie | Header) -> Carrier:
    warnings.warn(
        "insecure_dev=True: on plain http the id of a session can be read by anybody on the way; "
        "for development on loopback hosts only",
        RuntimeWarning,
        stacklevel=4,
    )
    return insecure_development(cookie) if isinstance(cookie, Cookie) else cookie


def _check_types(store: object, cookie: object, csrf: object, passive: object, owner_field: object) -> None:
    if not isinstance(store, Store):
        raise TypeError(f"store must be a sessile.Store, not {type(store).__name__}")
    if not isinstance(cookie, (Cookie, Header)):
        raise TypeError(f"cookie must be Cookie(...) or Header(...), not {type(cookie).__name__}")
    if not isinstance(csrf, bool) and not callable(csrf):
        raise TypeError(f"csrf must be True, False or a function of a request, not {type(csrf).__name__}")
    if passive is not None and not callable(passive):
        raise TypeError(f"passive must be a function of a request, or None, not {type(passive).__name__}")
    if owner_field is not None and not isinstance(owner_field, str):
        raise TypeError(f"owner_field must be the name of a field, or None, not {type(owner_field).__name__}")


def _check_transport(https: object, insecure_dev: object) -> None:
    if https is not None and https is not True:
        raise ValueError(
            f"https={https!r}: leave it out to look at each request's scheme, or give True where TLS ends in "
            "front of this server; for plain http on a loopback host there is insecure_dev=True"
        )
    if not isinstance(insecure_dev, bool):
        raise TypeError(f"insecure_dev must be True or False, not {type(insecure_dev).__name__}")
    if https and insecure_dev:
        raise ValueError("https=True and insecure_dev=True: there is either TLS in front or none; give one")
