"""What happens to sessions, told to `on_event`.

An event is raised at most once on a host, in the thread that did or found what it tells of, after the
operation and outside every lock. It names sessions by handle and never carries an id (DET-01, DET-05,
SID-10).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sessile.codec import decode_fields

__all__ = ["Event", "EventKind", "EventReason"]

EventKind = Literal[
    "created",
    "login",
    "rotated",
    "ended",
    "retired_id",
    "duplicate_cookie",
    "late_save",
    "store_full",
    "snapshot_failed",
    "csrf_refused",
    "recovered",
    "quarantined",
    "table_lost",
]

EventReason = Literal["logout", "destroyed", "idle", "absolute", "evicted", "revoked", "theft", "late"]


@dataclass(frozen=True, slots=True, init=False)
class Event:
    """One thing that happened.

    Attributes:
        kind: what happened. `ended`: a session ended, see `reason`. `retired_id`: an id was presented that a
            rotation had retired; `reason` is "late" (moments ago, or of an anonymous session) or "theft" (that
            session was ended). `recovered`: a part of the table was repaired after the death of a process.
            `quarantined`: a damaged record was taken out. `store_full`: a session was refused for want of
            room. `snapshot_failed`: no snapshot or journal could be written. `table_lost`: the file of the
            table was removed or replaced: processes that have it go on with it, and share nothing with those
            that start later; found by a creation, a log-in, a rotation or a sweep.
        handle: of the session, 16 hexadecimal digits; None where no single session is concerned or it is
            unknown.
        owner: of the session; None for an anonymous one, and where it is not known.
        data: the last fields of a session that ended, decoded anew at each reading; None where they are not
            known, and for most other kinds. `snapshot_failed`: "path" and "error"; `table_lost`: "path".
        reason: why, for `ended` and `retired_id`.
        at: when, by the wall clock, aware, UTC.
    """

    kind: EventKind
    handle: str | None
    owner: str | None
    reason: EventReason | None
    at: datetime
    _data: dict[str, Any] | bytes | None = field(repr=False)

    def __init__(
        self,
        kind: EventKind,
        handle: str | None,
        owner: str | None,
        data: dict[str, Any] | bytes | None,
        reason: EventReason | None,
        at: datetime,
    ) -> None:
        values = {"kind": kind, "handle": handle, "owner": owner, "_data": data, "reason": reason, "at": at}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def data(self) -> dict[str, Any] | None:
        return decode_fields(self._data) if isinstance(self._data, bytes) else self._data
