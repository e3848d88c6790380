"""What can go wrong, as exceptions.

Every exception of sessile derives from `SessileError` and from the builtin exception that says the same, so
that code which knows nothing of sessile can catch it (`except TimeoutError`). The facts are attributes, given
by keyword when the exception is made; the text is made from them unless one is given. All of them survive
pickling and copying. None ever carries an id, neither in its text nor in an attribute (STO-01).
"""

from __future__ import annotations

import os
from typing import Any

__all__ = [
    "AttachError",
    "Busy",
    "Conflict",
    "HeadersSent",
    "InsecureTransport",
    "SessileError",
    "SessionGone",
    "SessionTooLarge",
    "SnapshotError",
    "StoreClosed",
    "StoreFull",
]


def _revive(kind: type[SessileError], texts: tuple[Any, ...], facts: dict[str, Any]) -> SessileError:
    """Make a pickled or copied exception anew, without asking its constructor for the facts."""
    error = kind.__new__(kind)
    error.args = texts
    error.__dict__.update(facts)
    return error


class SessileError(Exception):
    """The base of every exception of sessile; never raised itself."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as class, text and facts: the constructors want facts by keyword, which pickle cannot."""
        return _revive, (type(self), self.args, self.__dict__)


class StoreFull(SessileError, RuntimeError):
    """There is no room for the session, and nothing that may be evicted for it (DOS-02, DOS-05).

    Nothing was changed.

    Attributes:
        capacity: sessions that the table can hold.
        used: sessions that it holds.
        memory: bytes that the table may use.
        memory_used: bytes that it uses.
    """

    def __init__(
        self, message: str | None = None, *, capacity: int, used: int, memory: int, memory_used: int
    ) -> None:
        super().__init__(
            message
            or f"the store is full: {used} of {capacity} sessions, {memory_used} of {memory} bytes; "
            "make it anew with a larger capacity= or memory="
        )
        self.capacity = capacity
        self.used = used
        self.memory = memory
        self.memory_used = memory_used


class SessionGone(SessileError, LookupError):
    """The session ended: by log-out, log-in, expiry, eviction or revocation. Nothing was changed (LIF-09).

    Attributes:
        handle: the handle of the session that ended; None if it was never stored.
        reason: why it ended, where that is known: "logout", "destroyed", "idle", "absolute", "evicted",
            "revoked", "theft"; else None.
    """

    def __init__(self, message: str | None = None, *, handle: str | None, reason: str | None = None) -> None:
        which = f"the session {handle}" if handle else "the session"
        super().__init__(message or f"{which} has ended" + (f": {reason}" if reason else ""))
        self.handle = handle
        self.reason = reason


class SessionTooLarge(SessileError, ValueError):
    """The session's fields take more bytes than allowed. Nothing was changed (STO-05).

    Attributes:
        size: bytes that it takes; at least these, where encoding stopped early.
        limit: bytes that are allowed.
    """

    def __init__(self, message: str | None = None, *, size: int, limit: int) -> None:
        super().__init__(message or f"the session takes {size} bytes, {limit} are allowed")
        self.size = size
        self.limit = limit


class Conflict(SessileError, RuntimeError):
    """`save(strict=True)` found the session changed since it was loaded. Nothing was changed (CON-03).

    Attributes:
        handle: the handle of the session.
    """

    def __init__(self, message: str | None = None, *, handle: str) -> None:
        super().__init__(
            message or f"the session {handle} was changed since it was loaded: reload() it and try again"
        )
        self.handle = handle


class Busy(SessileError, TimeoutError):
    """A lock of the table was held by another for longer than `busy_timeout`. Nothing was changed (CON-04).

    Attributes:
        timeout: seconds that were waited.
    """

    def __init__(self, message: str | None = None, *, timeout: float) -> None:
        super().__init__(message or f"the table was busy for {timeout:g} seconds; try again")
        self.timeout = timeout


class StoreClosed(SessileError, RuntimeError):
    """The store was closed; only `close()` may still be called."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or "the store is closed")


class AttachError(SessileError, OSError):
    """The table cannot be created or attached (MPR-04). No file was changed.

    Attributes:
        path: the file of the table as text; None for a table without a file.
    """

    def __init__(self, message: str | None = None, *, path: str | os.PathLike[str] | None) -> None:
        super().__init__(message or f"cannot attach to the table {path or 'of this process'}")
        self.path = None if path is None else os.fspath(path)


class SnapshotError(SessileError, OSError):
    """A snapshot or journal cannot be read or written (PER-03, PER-04). No earlier one was changed.

    Attributes:
        path: the file or directory as text.
    """

    def __init__(self, message: str | None = None, *, path: str | os.PathLike[str]) -> None:
        super().__init__(message or f"cannot use the snapshot {os.fspath(path)}")
        self.path = os.fspath(path)


class InsecureTransport(SessileError, RuntimeError):
    """A session was to be written over plain http, where others could read its id (COK-01).

    Nothing was changed.

    Attributes:
        scheme: the scheme of the request, such as "http".
        host: the host that the request named; "" if it named none.
    """

    def __init__(self, message: str | None = None, *, scheme: str, host: str) -> None:
        super().__init__(
            message
            or f"a session cannot be written over {scheme} (host {host!r}): serve https; or pass "
            "https=True where TLS ends in front of this server; or, while developing on a loopback host, "
            "insecure_dev=True"
        )
        self.scheme = scheme
        self.host = host


class HeadersSent(SessileError, RuntimeError):
    """The operation needs a cookie, and the headers of the response have gone. Nothing was changed.

    Attributes:
        operation: the operation that came too late, such as "login".
    """

    def __init__(self, message: str | None = None, *, operation: str) -> None:
        super().__init__(
            message
            or f"{operation} must set a cookie, but the headers have gone: do it before the response begins"
        )
        self.operation = operation
