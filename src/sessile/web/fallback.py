"""Sessions that another system keeps, carried over once, so that a site can move without logging anyone out.

    from sessile.web.fallback import StarletteCookie

    app.add_middleware(SessionMiddleware, store=Store("shop"), fallback=StarletteCookie(SECRET_KEY))

When a client comes without a cookie of ours, and with one of the old system, then its session is read once,
stored here, and the old cookie is expired. What makes "once" true:

* The new session's first id is derived from the old cookie. Of the requests that a browser sends at the same
  time each finds the session that the first one stored, and none makes a second.
* A session with an owner is given another id at once, as in a renewal. The old cookie leads to it until the
  client presents that id. Presented later, it is what a retired id is: a sign of theft, which ends the session
  (LIF-10).
* A mark, a record of its own, outlives the session, for as long as the old system would have taken its
  cookie. A marked cookie gives an empty session: after a log-out it leads nowhere (LIF-11).

What this cannot do: signed cookies have no identity. Where the old system signed one again, at each change,
an earlier one that somebody kept is another cookie, and can still be carried over once. So: `refuse` when an
owner logs out everywhere; after `Store.revoke_all` nothing is carried over any more; and take the fallback
out once the old cookies have expired. The marks are in the table: with it they are lost.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

from sessile import _table, options
from sessile._table import id_of
from sessile.codec import merge_fields
from sessile.errors import Busy, SessileError, SessionGone, StoreFull

if TYPE_CHECKING:
    from sessile.keys import Keys
    from sessile.session import Session
    from sessile.store import Store

__all__ = [
    *("Fallback", "FlaskCookie", "OldSession", "StarletteCookie"),
    *("carry_over", "cookie_value", "find_carried", "refuse"),
]

_logger = logging.getLogger("sessile")

MARK: Final = "mark of an old session "
"""How the owner of a mark begins."""

_EXPIRED: Final = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"


@dataclass(frozen=True, slots=True)
class OldSession:
    """A session as the old system has it.

    Attributes:
        token: what names it: the same in every request that presents it, and known to nobody else.
        fields: what it holds.
        remaining: seconds for which the old system would still take the token.
    """

    token: bytes = field(repr=False)
    fields: Mapping[str, Any]
    remaining: float


class Fallback(Protocol):
    """A reader of the old system's sessions. It may be called from several threads."""

    @property
    def cleared(self) -> str:
        """The value of the `Set-Cookie` field that deletes the old cookie."""

    def read(self, cookies: str) -> OldSession | None:
        """Give the session that a `Cookie` header names; None: none that the old system would take.

        Raises nothing, whatever the header.
        """

    def carried(self, old: OldSession) -> None:
        """Called once the session is stored here: the old system's record of it can go."""


class _SignedCookie:
    """What the two kinds of signed cookies have in common.

    Args:
        name, domain, path, partitioned: of the old cookie; without the same ones browsers would keep it.
        max_age: seconds or timedelta for which the old system took a cookie; at most 400 days.
    """

    def __init__(
        self,
        name: str,
        max_age: float | timedelta,
        domain: str | None,
        path: str,
        partitioned: bool,
    ) -> None:
        self._name = name
        self._max_age = options.milliseconds("max_age", max_age, least=1) // 1000
        parts = [f"{name}=", f"Path={path}", _EXPIRED]
        if domain is not None:
            parts.append(f"Domain={domain}")
        if partitioned or name.startswith("__"):
            parts.append("Secure")
        if partitioned:
            parts.append("Partitioned")
        self.cleared = "; ".join(parts)

    def read(self, cookies: str) -> OldSession | None:
        """See `Fallback.read`."""
        value = cookie_value(cookies, self._name)
        if value is None:
            return None
        found = self._unsign(value)
        if found is None:
            return None
        fields, signed_at = found
        remaining = signed_at + self._max_age - time.time()
        if not isinstance(fields, dict) or not fields or remaining <= 0:
            return None
        # Without the signature: of that there are several spellings, because base64 has bits to spare.
        return OldSession(value.rpartition(".")[0].encode("latin-1"), fields, remaining)

    def carried(self, old: OldSession) -> None:
        """See `Fallback.carried`: a signed cookie is kept nowhere."""

    def _unsign(self, value: str) -> tuple[Any, float] | None:
        """The content, and when it was signed; None: nobody who has the key did that, or too long ago."""
        raise NotImplementedError


class FlaskCookie(_SignedCookie):
    """The signed cookie of Flask and Quart. Needs Flask, or Quart, which brings it.

    `Sessile(app, fallback=True)` makes one from the configuration of the application.

    Args:
        secret_key: SECRET_KEY, with which it was signed; or a list of keys that were.
        name, domain, path, partitioned: of the old cookie.
        max_age: PERMANENT_SESSION_LIFETIME.

    Raises:
        ImportError: Flask is not installed.
        ValueError: `max_age` is out of bounds.
    """

    def __init__(
        self,
        secret_key: str | bytes | Sequence[str | bytes],
        *,
        name: str = "session",
        max_age: float | timedelta = timedelta(days=31),
        domain: str | None = None,
        path: str = "/",
        partitioned: bool = False,
    ) -> None:
        from flask.sessions import SecureCookieSessionInterface
        from itsdangerous import URLSafeTimedSerializer
        from markupsafe import Markup

        from sessile.extension_types import store_markup

        super().__init__(name, max_age, domain, path, partitioned)
        flasks = SecureCookieSessionInterface
        self._serializer = URLSafeTimedSerializer(
            [secret_key] if isinstance(secret_key, (str, bytes)) else list(secret_key),  # type: ignore[arg-type]
            salt=flasks.salt,
            serializer=flasks.serializer,
            signer_kwargs={"key_derivation": flasks.key_derivation, "digest_method": flasks.digest_method},
        )
        store_markup(Markup)

    def _unsign(self, value: str) -> tuple[Any, float] | None:
        from itsdangerous import BadData

        try:
            fields, signed = self._serializer.loads(value, max_age=self._max_age, return_timestamp=True)
        except (BadData, ValueError, TypeError, LookupError):
            return None
        return fields, signed.timestamp()


class StarletteCookie(_SignedCookie):
    """The signed cookie of Starlette and FastAPI. Needs itsdangerous, as their middleware does.

    Args:
        secret_key: what Starlette's `SessionMiddleware` was given.
        name: its `session_cookie`.
        max_age: its `max_age`; with None there give the longest that you would take, such as 14 days.
        domain, path: its `domain` and `path`.

    Raises:
        ImportError: itsdangerous is not installed.
        ValueError: `max_age` is out of bounds.
    """

    def __init__(
        self,
        secret_key: str,
        *,
        name: str = "session",
        max_age: float | timedelta = timedelta(days=14),
        domain: str | None = None,
        path: str = "/",
    ) -> None:
        from itsdangerous import TimestampSigner

        super().__init__(name, max_age, domain, path, False)
        self._signer = TimestampSigner(str(secret_key))

    def _unsign(self, value: str) -> tuple[Any, float] | None:
        from itsdangerous import BadData

        try:
            data, signed = self._signer.unsign(value, max_age=self._max_age, return_timestamp=True)
            return json.loads(base64.b64decode(data)), signed.timestamp()
        except (BadData, ValueError, binascii.Error):
            return None


def cookie_value(cookies: str, name: str) -> str | None:
    """The value of the one cookie of this name in a `Cookie` header; None: there is none, or more than one
    (COK-07)."""
    values = [
        value
        for key, equals, value in (pair.strip(" \t").partition("=") for pair in cookies.split(";"))
        if equals and key == name
    ]
    return values[0] if len(values) == 1 else None


def carry_over(
    store: Store,
    session: Session,
    old: OldSession,
    *,
    owner: str | None,
    timeouts: tuple[int, int] = (_table.DEFAULT, _table.DEFAULT),
    touch: bool = True,
) -> bool:
    """Let a session of a request, which is not stored, be what the old system has.

    Args:
        store: of the session.
        session: becomes the session that was carried over, now or before.
        old: what the fallback read.
        owner: of the old session; None: nobody was logged in.
        timeouts: idle and absolute, in milliseconds of the table.
        touch: whether this use renews the idle deadline.

    Returns:
        Whether this call stored it: then the old system's record can go.

    Raises:
        TypeError, ValueError, SessionTooLarge: it holds what cannot be stored.
        StoreFull, Busy, StoreClosed: as `Session.save`. Nothing is stored then.
    """
    if find_carried(store, session, old.token, touch) or store._epoch() != 0:
        return False
    if owner is not None and any(_is_marked(store, keys, b"owner", owner.encode()) for keys in store._keys):
        return False
    keys = store._keys[0]
    encoded = {name: session._encoded(name, value) for name, value in old.fields.items()}
    made = store._blank()
    id = _derived(keys, b"session", old.token)
    is_first = made._store_new(merge_fields(b"", encoded, ()), owner, None, *timeouts, id)
    if is_first:
        lifetime = min(_table.TIMEOUT_MAX_MS, int(old.remaining * 1000) + 1000)
        try:
            is_first = _mark(store, keys, b"mark", old.token, lifetime, owner is not None)
        except SessileError:
            made.destroy()
            raise
        if not is_first:  # it was carried over, and has ended, since this request looked
            made.destroy()
    _load(store, session, keys, old.token, touch)
    return is_first


def find_carried(store: Store, session: Session, token: bytes, touch: bool) -> bool:
    """Whether what this token names was carried over before. Then the session, which is not stored, becomes what the
    token leads to, unless that has ended."""
    for keys in store._keys:
        if _load(store, session, keys, token, touch):
            return True
        if _is_marked(store, keys, b"mark", token):
            # The mark is made after the session: another request may have made both since the look-up above.
            _load(store, session, keys, token, touch)
            return True
    return False


def _load(store: Store, session: Session, keys: Keys, token: bytes, touch: bool) -> bool:
    """Load what was carried over. With an owner it gets another id: requests that race are given the same."""
    id = _derived(keys, b"session", token)
    if not store._load_into(session, id, touch):
        return False
    if session.id == id:
        try:
            session._renew()
            if store._persistence is not None:
                store._persistence.settle_renewal()  # the client has no id yet that it could keep until then
        except (Busy, SessionGone, StoreFull) as error:
            _logger.info("a session that was carried over keeps its first id for now: %s", error)
    return True


def refuse(store: Store, owner: str) -> None:
    """Carry no old session of this owner over from now on: for "log out everywhere", beside `Store.revoke`.

    Old sessions that no client has presented yet cannot be seen here, so `revoke` does not end them.

    Raises:
        TypeError: `owner` is no str of 1 to 255 bytes of UTF-8.
        StoreFull, Busy, StoreClosed: as `Session.save`.
    """
    _mark(store, store._keys[0], b"owner", options.owner(owner).encode(), _table.TIMEOUT_MAX_MS, True)


def _derived(keys: Keys, purpose: bytes, token: bytes) -> str:
    """Nobody who lacks the key can compute the id from a token, and nobody the token from an id."""
    return id_of(hmac.digest(keys.carried, purpose + b"\0" + token, "sha256")[:24])


def _is_marked(store: Store, keys: Keys, purpose: bytes, token: bytes) -> bool:
    return store.load(_derived(keys, purpose, token), touch=False) is not None


def _mark(store: Store, keys: Keys, purpose: bytes, token: bytes, lifetime_ms: int, is_owned: bool) -> bool:
    """A record that says no more than that it is there. That of an owner's session has an owner of its own:
    a flood of anonymous sessions cannot push it out (DOS-03), and the cap of no owner ends it. False: it was there."""
    owner = MARK + os.urandom(8).hex() if is_owned else None
    id = _derived(keys, purpose, token)
    return store._blank()._create(id, owner, None, b"", lifetime_ms, lifetime_ms)
