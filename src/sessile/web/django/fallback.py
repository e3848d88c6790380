"""Moving a site without logging anyone out: sessions of the engine that it used before are carried over.

    SESSILE = {"fallback": "django.contrib.sessions.backends.db"}

Asked only when a client presents a key that is unknown here. What the former engine has under that key becomes
a session of sessile, and is deleted there; so each of them is read once. Take the setting out when
SESSION_COOKIE_AGE has passed since it was put in: by then all of them are over.

How is written in `sessile.web.fallback`. The token is the former key.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any, Final, Protocol

from django.conf import settings

from sessile import _table
from sessile.session import Session
from sessile.web.django import configuration
from sessile.web.django.values import plain
from sessile.web.fallback import OldSession, find_carried
from sessile.web.fallback import carry_over as _carry_over

__all__ = ["acarry_over", "carry_over", "find", "is_configured"]

_logger: Final = logging.getLogger("sessile")


class Front(Protocol):
    """The engine, as far as it is needed here."""

    def _timeouts(self, data: dict[str, Any], record: None) -> tuple[int, int] | None: ...

    def _owner_of(self, data: dict[str, Any]) -> str | None: ...


def is_configured() -> bool:
    """Whether there is a former engine."""
    return bool(getattr(settings, "SESSILE", {}).get("fallback"))


def find(session: Session, key: str, touch: bool = True) -> bool:
    """Let a session that is not stored be what this former key leads to; the former engine is not asked.

    Returns whether the key was carried over, though the session may have ended since.
    """
    return find_carried(session._store, session, _token(key), touch)


def carry_over(session: Session, key: str, front: Front, touch: bool = True) -> bool:
    """Let a session that is not stored be the one that the former engine had under this key.

    Args:
        session: of the store where it goes.
        key: as the client presented it.
        front: says what the fields mean.
        touch: whether this use renews the idle deadline.

    Returns:
        Whether there is one.

    Raises:
        ImportError: there is no such engine.
        StoreFull, Busy, StoreClosed: as `Session.save`.
    """
    if is_configured() and not find(session, key, touch):
        former = _former(key)
        if _keep(session, key, former, former.load(), front, touch):
            former.delete(key)
    return session._state == _table.STORED


async def acarry_over(session: Session, key: str, front: Front, touch: bool = True) -> bool:
    """As `carry_over`, through the asynchronous methods of the former engine."""
    if is_configured() and not find(session, key, touch):
        former = _former(key)
        if _keep(session, key, former, await former.aload(), front, touch):
            await former.adelete(key)
    return session._state == _table.STORED


def _token(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _former(key: str) -> Any:
    return import_module(settings.SESSILE["fallback"]).SessionStore(key)


def _keep(session: Session, key: str, former: Any, data: dict[str, Any], front: Front, touch: bool) -> bool:
    """Store what the former engine has; whether it can be deleted there."""
    if former.session_key is None or not data:
        find(session, key, touch)  # another request may have carried it over since this one looked
        return False
    timeouts = front._timeouts(data, None)
    if timeouts is None:
        return False  # it has expired
    old = OldSession(_token(key), plain(data), configuration.cookie_age())
    try:
        owner = front._owner_of(data)
        _carry_over(session._store, session, old, owner=owner, timeouts=timeouts, touch=touch)
    except (TypeError, ValueError) as error:
        _logger.warning("a session of the former engine cannot be carried over: %s", error)
        return False
    return True
