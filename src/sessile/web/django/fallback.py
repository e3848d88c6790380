"""Moving a site without logging anyone out: sessions of the engine that it used before are carried over.

    SESSILE = {"fallback": "django.contrib.sessions.backends.db"}

Asked only when a client presents a key that is unknown here. What the former engine has under that key becomes
a session of sessile, and is deleted there; so each of them is read once. Take the setting out when
SESSION_COOKIE_AGE has passed since it was put in: by then all of them are over.

Parallel requests with the former key must find one session and not each make one. So the new id is derived from
the former key with the store's secret, and whoever presents the former key again is led to it; until it gets
another id, at a log-in or a renewal. A second record, without fields, says for as long as SESSION_COOKIE_AGE
that the key was carried over: what has been logged out since does not come back, even where the former engine
could delete nothing because the client has it all (signed_cookies).
"""

from __future__ import annotations

import hmac
import logging
from importlib import import_module
from typing import Any, Final, Protocol

from django.conf import settings

from sessile import _table
from sessile.errors import SessileError
from sessile.keys import derive
from sessile.session import Session
from sessile.store import Store
from sessile.web.django import configuration

__all__ = ["acarry_over", "carry_over", "is_configured"]

_logger = logging.getLogger("sessile")
_PURPOSES: Final = (b"the session", b"that it was carried over")


class Front(Protocol):
    """The engine, as far as it is needed here."""

    def _carry_over(self, id: str, data: dict[str, Any]) -> Session | None: ...


def is_configured() -> bool:
    """Whether there is a former engine."""
    return bool(getattr(settings, "SESSILE", {}).get("fallback"))


def carry_over(store: Store, key: str, front: Front) -> Session | None:
    """The session that the former engine had under this key, as one of the store; None: there is none.

    Args:
        store: where it goes.
        key: as the client presented it.
        front: stores it.

    Raises:
        ImportError: there is no such engine.
        StoreFull, Busy, StoreClosed: as `Store.create`.
    """
    if not is_configured():
        return None
    found = _carried_before(store, key)
    if not isinstance(found, _Missing):
        return found
    former = _former(key)
    data = former.load()
    if former.session_key is None or not data:
        return _carried_meanwhile(store, key)
    record = _carry(store, key, data, front)
    former.delete(key)
    return record


async def acarry_over(store: Store, key: str, front: Front) -> Session | None:
    """As `carry_over`, through the asynchronous methods of the former engine."""
    if not is_configured():
        return None
    found = _carried_before(store, key)
    if not isinstance(found, _Missing):
        return found
    former = _former(key)
    data = await former.aload()
    if former.session_key is None or not data:
        return _carried_meanwhile(store, key)
    record = _carry(store, key, data, front)
    await former.adelete(key)
    return record


class _Missing:
    """The key was never carried over."""


def _former(key: str) -> Any:
    return import_module(settings.SESSILE["fallback"]).SessionStore(key)


def _ids(store: Store, key: str) -> tuple[str, str]:
    """The id of the session that a former key leads to, and of the record that says that it was carried over."""
    secret = derive(store._keys[0].renewal, b"former keys")
    text = key.encode("utf-8", "surrogatepass")
    session, mark = (_table.id_of(hmac.digest(secret, each + b"\0" + text, "sha256")[:24]) for each in _PURPOSES)
    return session, mark


def _carried_before(store: Store, key: str) -> Session | _Missing | None:
    session, mark = _ids(store, key)
    # In this order: another request stores the session first, then the mark.
    is_marked = store.load(mark, touch=False) is not None
    found = store.load(session)
    return _Missing() if found is None and not is_marked else found


def _carried_meanwhile(store: Store, key: str) -> Session | None:
    """The former engine has nothing: another request may have carried it over since this one looked here."""
    found = _carried_before(store, key)
    return None if isinstance(found, _Missing) else found


def _carry(store: Store, key: str, data: dict[str, Any], front: Front) -> Session | None:
    session, mark = _ids(store, key)
    try:
        record = front._carry_over(session, data)
    except (TypeError, ValueError) as error:
        _logger.warning("a session of the former engine cannot be carried over: %s", error)
        return None
    if record is None:
        return store.load(session)
    milliseconds = 1000 * configuration.cookie_age()
    try:
        first = store._blank()._create(mark, None, None, b"", milliseconds, milliseconds)
    except SessileError:
        record.destroy()
        raise
    if not first:  # it was carried over and has ended since this request looked
        record.destroy()
        return None
    return record
