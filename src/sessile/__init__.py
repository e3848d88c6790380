"""Sessile: sessions in a table that every worker process of a host shares.

    import sessile

    store = sessile.Store("shop")
    session = store.create({"theme": "dark"})
    session = store.load(session.id)

Importing this imports no framework and starts no thread.
"""

from sessile._version import __version__
from sessile.errors import (
    AttachError,
    Busy,
    Conflict,
    HeadersSent,
    InsecureTransport,
    SessileError,
    SessionGone,
    SessionTooLarge,
    SnapshotError,
    StoreClosed,
    StoreFull,
)
from sessile.events import Event
from sessile.session import Session
from sessile.store import SessionInfo, Stats, Store

__all__ = [
    "Store",
    "Session",
    "SessionInfo",
    "Stats",
    "Event",
    "SessileError",
    "StoreFull",
    "SessionGone",
    "SessionTooLarge",
    "Conflict",
    "Busy",
    "StoreClosed",
    "AttachError",
    "SnapshotError",
    "InsecureTransport",
    "HeadersSent",
    "__version__",
]
