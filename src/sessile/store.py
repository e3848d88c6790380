"""The store: the table with policy, keys, owners and events. What one session can do is in session.py."""

from __future__ import annotations

import logging
import os
import re
import stat
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, cast, overload

from sessile import _table, options
from sessile._table import Table
from sessile.codec import decode_value, encode_fields
from sessile.errors import AttachError, SessionTooLarge, SnapshotError, StoreClosed
from sessile.events import Event, EventKind, EventReason
from sessile.keys import Keys, renewed_id, secret_beside, secret_in
from sessile.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

    from sessile.ends import Ends

__all__ = ["SessionInfo", "Stats", "Store"]

_logger = logging.getLogger("sessile")

_REPORTS = 300
_SWEEP_BUDGET = 1024
_EXPIRY = frozenset(number for number, reason in _table.REASONS.items() if reason in ("idle", "absolute"))
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LOOK_SECONDS = 1.0  # how often it is looked whether the file of the table still has its name
_DRIFT_MS = 50  # the wall clock may differ by this much from what is shown, so that a time does not flicker
_is_name = re.compile(r"[A-Za-z0-9._-]{1,200}").fullmatch
_is_handle = re.compile(r"[0-9a-f]{16}").fullmatch


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One session in a list. No id: nobody can take over a session with this (LIF-13).

    Attributes:
        handle: names the session, for `Store.revoke(owner, handle=…)`.
        owner: None for an anonymous one.
        device: what was given at log-in.
        created, last_used, expires: by the wall clock, aware, UTC.
    """

    handle: str
    owner: str | None
    device: dict[str, str] | None
    created: datetime
    last_used: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of a table: the first six as of now, the others counted since it was made, over all its
    processes.

    Attributes:
        sessions: stored now, `anonymous` and `owned` ones; `capacity`: how many there can be.
        memory_used: bytes of records, of `memory` bytes that they may take.
        loads: look-ups by id; `misses`: ids that were unknown; `malformed`: what could not be an id (DOS-08).
        created, expired, evicted, revoked: sessions.
        full: refusals for lack of room.
        recoveries: repairs after the death of a process; `quarantined`: damaged records that were taken out.
    """

    sessions: int
    anonymous: int
    owned: int
    capacity: int
    memory_used: int
    memory: int
    loads: int
    misses: int
    malformed: int
    created: int
    expired: int
    evicted: int
    revoked: int
    full: int
    recoveries: int
    quarantined: int


class Store(Table):
    """All sessions of an application, in a table that its processes share.

    Safe in threads, forked children and without the interpreter lock. Reading a session takes less than a
    microsecond, writing one a few; nothing is done in the background, and no thread is started. A store
    cannot be pickled: another process opens it by the same name.

    Args:
        path: a name ([A-Za-z0-9._-]) or a path, shared by every process of this user that gives it. None: a
            table of this process and the children that it forks.
        capacity: sessions at most, 1 to 2**30 (DOS-02). Fixed when the table is made.
        memory: bytes for records and lists of owners, or text such as "256 MiB". Fixed when the table is
            made.
        secret: bytes or str of at least 32 bytes that the keys are derived from, or a list of up to eight:
            the first makes new ids, those of the others still load. None: a random one; with `path`, in a
            file of mode 0600 beside the table.
        idle_timeout: from last use to expiry; 30 minutes, what OWASP names for low risk (LIF-01).
        absolute_timeout: from creation or log-in to expiry, whatever the use; 8 hours (LIF-02).
        anonymous_idle_timeout, anonymous_absolute_timeout: the same for sessions without an owner; None: as
            above.
        anonymous_share: of capacity and of memory, above 0, at most 1, that anonymous sessions may take: a
            flood of them can push out no owned one, nor keep one from logging in (DOS-03).
        max_sessions_per_owner: at a log-in above it that owner's longest unused session ends (LIF-14). None:
            no cap.
        max_session_size: bytes of a session's encoded fields at most, up to 1 MiB; or text such as "64 KiB"
            (STO-05).
        busy_timeout: time to wait for a lock before `Busy`.
        on_event: called with an `Event` for each thing that happens to a session, in the thread that did or
            found it, outside every lock; an exception in it is logged and goes no further.
        snapshot_dir: an absolute path of a directory for snapshots, made with mode 0700 if it is not there:
            what is in it is restored into a table that is new. It belongs to one table. Starts a thread.
        snapshot_interval: from one snapshot to the next.
        durability: "revocations": `login`, `logout`, `destroy`, `rotate`, `clear` of an owned session,
            `revoke`, `revoke_all` and the end of a stolen session are on disk when they return (where an
            event loop runs: when `aflush` does), so that no restart brings back who logged out (PER-09).
            "none": they are not written; after a crash the last snapshot is restored, and who logged out
            since is logged in again.
        encrypt: seal snapshots and journal with AES-256-GCM; needs the package `cryptography`
            (sessile[crypto]). Without, who can read the files can read what sessions hold, though no ids.

    All times are seconds or timedelta, up to 400 days. Timeouts are each process's own: shortening them acts
    at once on sessions that use the store's, lengthening on new sessions and log-ins.

    Raises:
        ValueError: an option makes no sense; the text says what would.
        AttachError: the table cannot be made or attached; the text says why and what to do.
        SnapshotError: what is in `snapshot_dir` cannot be restored, or it is in use by another table; nothing
            was changed, and the text says what to do.
    """

    _persistence: Ends | None = None

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        capacity: int = 262_144,
        memory: int | str = "256 MiB",
        secret: bytes | str | Sequence[bytes | str] | None = None,
        idle_timeout: float | timedelta = 1800,
        absolute_timeout: float | timedelta = 28_800,
        anonymous_idle_timeout: float | timedelta | None = None,
        anonymous_absolute_timeout: float | timedelta | None = None,
        anonymous_share: float = 0.5,
        max_sessions_per_owner: int | None = 10,
        max_session_size: int | str = "64 KiB",
        busy_timeout: float | timedelta = 1.0,
        on_event: Callable[[Event], object] | None = None,
        snapshot_dir: str | os.PathLike[str] | None = None,
        snapshot_interval: float | timedelta = 60,
        durability: str = "revocations",
        encrypt: bool = False,
    ) -> None:
        directory, interval = _snapshot_options(snapshot_dir, snapshot_interval, durability, encrypt)
        if on_event is not None and not callable(on_event):
            raise ValueError(f"on_event={on_event!r}: give a function that takes an Event")
        idle = options.milliseconds("idle_timeout", idle_timeout)
        absolute = options.milliseconds("absolute_timeout", absolute_timeout)
        cap = max_sessions_per_owner
        policy = (
            idle,
            absolute,
            options.timeout("anonymous_idle_timeout", anonymous_idle_timeout) or idle,
            options.timeout("anonymous_absolute_timeout", anonymous_absolute_timeout) or absolute,
            0 if cap is None else options.count("max_sessions_per_owner", cap, most=_table.CAPACITY_MAX),
            options.size("max_session_size", max_session_size, most=_table.FIELDS_MAX),
        )
        capacity = options.count("capacity", capacity, most=_table.CAPACITY_MAX)
        memory = options.size("memory", memory)
        share = options.share("anonymous_share", anonymous_share)
        secrets = None if secret is None else options.secrets(secret)
        self._busy_timeout = options.milliseconds("busy_timeout", busy_timeout, least=0.001) / 1000
        self._max_session_size = policy[5]
        self._absolute_timeout_ms = absolute
        self._on_event = on_event
        self._wall_ms = 0
        self._look_at = 0.0
        self._advanced_ms = 0
        self._path = None if path is None else _table_path(path)
        self._name = None if path is None else os.fspath(path)
        if self._path is None:
            _warn_if_spawned()
        if secrets is None and directory is not None:
            secrets = [secret_in(directory)]
        if secrets is None:
            secrets = [os.urandom(32) if self._path is None else secret_beside(self._path)]
        self._keys = tuple(Keys.of(each) for each in secrets)
        self._open(
            record_type=Session,
            path=self._path,
            must_exist=False,
            capacity=capacity,
            memory=memory,
            anonymous_share=share,
            keys=[keys.id for keys in self._keys],
            policy=policy,
            busy_timeout=self._busy_timeout,
            reporting=on_event is not None or directory is not None,
        )
        self._warn_if_other(capacity, memory)
        if directory is not None:
            self._persist(directory, interval, durability, encrypt)
        elif self._path is not None and self._generation()[0] != 0:
            warnings.warn(
                f"the table {self._path} has snapshots: pass snapshot_dir=, as its other processes do, or what ends here "
                "comes back when the machine loses its power",
                RuntimeWarning,
                stacklevel=2,
            )

    # ---- sessions; `load` is in Table ----

    if TYPE_CHECKING:

        def load(self, id: str | bytes | None, *, touch: bool = True) -> Session | None: ...

        def _blank(self) -> Session: ...

    def create(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        owner: str | None = None,
        device: dict[str, str] | None = None,
        idle_timeout: float | timedelta | None = None,
        absolute_timeout: float | timedelta | None = None,
    ) -> Session:
        """Store a new session, at once, under a new id. With an owner: logged in.

        With `snapshot_dir` it survives a power cut once a snapshot was taken; who uses `Session.login`, at once.

        Args:
            data: its fields, copied.
            owner, device, idle_timeout, absolute_timeout: see `Session.login`.

        Raises:
            TypeError, ValueError: a value cannot be stored (the text has its path), or an argument makes no
                sense.
            SessionTooLarge: more than `max_session_size` bytes.
            StoreFull: no room; nothing was changed.
            Busy: a lock stayed taken for longer than `busy_timeout`.
            StoreClosed: the store was closed.
        """
        fields = encode_fields(data) if data else b""
        default = _table.DEFAULT
        session = self._blank()
        session._store_new(
            fields,
            None if owner is None else options.owner(owner),
            None if device is None else options.device(device),
            default if idle_timeout is None else options.timeout("idle_timeout", idle_timeout),
            default if absolute_timeout is None else options.timeout("absolute_timeout", absolute_timeout),
        )
        return session

    def open(self, id: str | bytes | None = None) -> Session:
        """Always a session: the one with this id, or a new one that is not stored before its first save.

        An id that is not known is never adopted: the new session gets an id of its own (SID-06). Use it as a
        context manager to save at the end of the block.

        Raises:
            Busy, AttachError, StoreClosed: as `load`.
        """
        session = None if id is None else self.load(id)
        return self._blank() if session is None else session

    @overload
    def sessions(self) -> Iterator[SessionInfo]: ...

    @overload
    def sessions(self, owner: None) -> Iterator[SessionInfo]: ...

    @overload
    def sessions(self, owner: str) -> list[SessionInfo]: ...

    def sessions(self, owner: str | None = None) -> Iterator[SessionInfo] | list[SessionInfo]:
        """List an owner's sessions, the one used most recently first; without an owner: iterate over all.

        An owner's list costs what that owner's sessions do, however many others there are. The iterator goes
        from shard to shard and holds no lock in between: what changes meanwhile may be seen or not.

        Raises:
            TypeError: `owner` is no str of 1 to 255 bytes of UTF-8.
            Busy, StoreClosed: as `load`.
        """
        if owner is None:
            return self._all_sessions(self._facts()[2])
        found = self._list(options.owner(owner), 0)
        found.sort(key=lambda listed: listed[4], reverse=True)
        return [self._info(listed) for listed in found]

    def _all_sessions(self, shards: int) -> Iterator[SessionInfo]:
        for shard in range(shards):
            for listed in self._list(None, shard):
                yield self._info(listed)

    def _info(self, listed: _table._Listed) -> SessionInfo:
        handle, owner, device, created, last_used, expires = listed
        return SessionInfo(
            handle,
            owner,
            None if device is None else decode_value(device),
            self._datetime(created),
            self._datetime(last_used),
            self._datetime(expires),
        )

    def revoke(self, owner: str, *, keep: Session | None = None, handle: str | None = None) -> int:
        """End an owner's sessions: when this returns, nobody can load them (LIF-11, LIF-12).

        Args:
            keep: a session that stays: log out everywhere else.
            handle: end only the session with this handle: log out one device. An unknown one ends none.

        Returns:
            How many ended.

        Raises:
            TypeError: `owner` is no str of 1 to 255 bytes of UTF-8, `keep` no Session, `handle` no str.
            ValueError: both `keep` and `handle`.
            Busy: a lock stayed taken for longer than `busy_timeout`; those that ended before stay ended.
            StoreClosed: the store was closed.
        """
        owner = options.owner(owner)
        persistence = self._persistence
        if keep is not None and not isinstance(keep, Session):
            raise TypeError(f"keep must be a Session, not {type(keep).__name__}")
        if handle is not None and not isinstance(handle, str):
            raise TypeError(f"handle must be str, not {type(handle).__name__}")
        if keep is not None and handle is not None:
            raise ValueError("revoke: give keep, to end all others, or handle, to end one; not both")
        kept = only = 0
        if handle is not None:
            only = int(handle, 16) if _is_handle(handle) else 0
            if only == 0:
                return 0
        elif keep is not None and keep.owner == owner:
            kept = int(keep.handle or "0", 16)
        count = 0
        if persistence is not None:
            # What is listed, and ended by others meanwhile, has ended all the same.
            listed = {int(each[0], 16) for each in self._list(owner, 0)}
            # There is room for so many reports in one call; who logs in meanwhile must be among them.
            for each in listed - {kept} if only == 0 and len(listed) > _REPORTS else ():
                count += self._revoke(owner, 0, each)
        count += self._revoke(owner, kept, only)
        if persistence is not None:
            persistence.ended(listed & {only} if only else listed - {kept})
            persistence.settle()
        return count

    def revoke_all(self) -> int:
        """End every session, in O(1), and return how many there were; the room is free at once (LIF-12).

        Raises:
            StoreClosed: the store was closed.
        """
        count = self._revoke_all()
        if self._persistence is not None:
            self._persistence.revoked_all(self._epoch())
        if self._on_event is not None:
            self._deliver(Event("ended", None, None, None, "revoked", self._datetime(self._now())))
        return count

    # ---- upkeep ----

    def sweep(self, budget: int | None = None) -> int:
        """Free the memory of sessions past their deadlines; return how many.

        Not needed for expiry, which is decided at look-up (LIF-03): it only frees memory and raises events
        earlier than the work that each write does anyway.

        Args:
            budget: sessions at most in this call; None: 1,024, because no call does unbounded work. Call it
                again until it returns 0 to free all.

        Raises:
            ValueError: `budget` is below 1.
            Busy, StoreClosed: as `load`.
        """
        most = _SWEEP_BUDGET if budget is None else options.count("budget", budget, most=2**63 - 1)
        if self._path is not None:
            self._look_for_file()
        return self._sweep(most)

    def check(self, repair: bool = False) -> list[str]:
        """Check every invariant of the table, one lock at a time; return a line for each that is broken: []
        is good.

        Args:
            repair: rebuild what is broken, and take damaged records out.

        Raises:
            Busy, StoreClosed: as `load`.
        """
        return self._check(repair)

    def stats(self) -> Stats:
        """Figures of the table. Costs a sum over its shards.

        Raises:
            StoreClosed: the store was closed.
        """
        return Stats(*self._stats()[:16])

    def snapshot(self) -> Path:
        """Write a snapshot now, while the store is in use; return its file.

        Raises:
            SnapshotError: there is no `snapshot_dir`, or it could not be written: the one before is as it
            was.
            StoreClosed: the store was closed.
        """
        if self._closed:
            raise StoreClosed
        from sessile.persistence import Persistence

        if not isinstance(self._persistence, Persistence):
            raise SnapshotError("this store has no snapshot_dir: pass one", path=self._path or "")
        return self._persistence.write()

    def flush(self) -> None:
        """Wait until the end of every session that ended before is on disk; at once without `snapshot_dir`.

        Needed only where an event loop runs, because elsewhere each call waits itself.

        Raises:
            SnapshotError: the disk refused it.
        """
        if self._persistence is not None:
            self._persistence.flush()

    async def aflush(self) -> None:
        """`flush` without holding up the event loop: await it before the client is told that it is logged
        out.

        Raises:
            SnapshotError: as `flush`.
        """
        if self._persistence is not None:
            await self._persistence.aflush()

    def close(self) -> None:
        """Take a last snapshot, if there is a `snapshot_dir`, and give up the table.

        Every later use of the store or of its sessions raises StoreClosed; a second close is fine. A table
        without a path is gone with the last process that uses it. What goes wrong with the snapshot is an
        event.
        """
        persistence, self._persistence = self._persistence, None
        if persistence is not None:
            persistence.close()
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        name = "of this process and its children" if self._path is None else repr(self._name)
        return f"<sessile.Store {name}{', closed' if self._closed else ''}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a Store can be neither pickled nor copied: open it with the same path in the other process, "
            'sessile.Store("name")'
        )

    # ---- for Session ----

    def _require_size(self, fields: bytes) -> None:
        if len(fields) > self._max_session_size:
            raise SessionTooLarge(size=len(fields), limit=self._max_session_size)

    def _datetime(self, milliseconds: int) -> datetime:
        """A time of the table's clock as one of the wall clock.

        The two are compared at each reading, so that a step of the wall clock shows; it changes nothing else
        (LIF-04). Small differences are ignored, so that the same time is shown alike twice.
        """
        wall = time.time_ns() // 1_000_000 + self._advanced_ms - self._now()
        if abs(wall - self._wall_ms) > _DRIFT_MS:
            self._wall_ms = wall
        return _EPOCH + timedelta(milliseconds=milliseconds + self._wall_ms)

    def _advance_clock(self, milliseconds: int) -> None:
        """Advance the table's clock, for tests; the wall clock that is shown goes along."""
        self._advance(milliseconds)
        self._advanced_ms += milliseconds

    # ---- events ----

    def _tell(self, kind: EventKind, session: Session) -> None:
        if self._path is not None:
            self._look_for_file()
        if self._on_event is not None:
            now = self._datetime(self._now())
            self._deliver(Event(kind, session.handle, session.owner, None, None, now))

    def _deliver(self, event: Event) -> None:
        """Call `on_event`. What it raises is logged and contained (DET-05)."""
        assert self._on_event is not None
        try:
            self._on_event(event)
        except Exception:
            _logger.exception("on_event failed for %s of session %s", event.kind, event.handle)

    def _reported(self, reports: list[_table._Report]) -> None:
        if self._persistence is not None:
            self._persistence.ended(handle for reason, handle, *_ in reports if reason not in _EXPIRY)
        for number, handle, owner, fields, milliseconds in reports if self._on_event is not None else ():
            reason = cast(EventReason, _table.REASONS[number])
            self._deliver(Event("ended", _text(handle), owner, fields, reason, self._datetime(milliseconds)))

    def _repaired(self, recovered: int, quarantined: int) -> None:
        _logger.warning("repaired %d parts of %r, took %d damaged records out", recovered, self, quarantined)
        if self._on_event is not None:
            for _ in range(recovered):
                self._deliver(Event("recovered", None, None, None, None, self._datetime(self._now())))
            for _ in range(quarantined):
                self._deliver(Event("quarantined", None, None, None, None, self._datetime(self._now())))

    def _look_for_file(self) -> None:
        """Tell, once on the host, that the file of the table was removed or replaced: from then on processes that
        start have another table than those that go on with this one."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        if not self._file_lost():
            return
        _logger.error(
            "the file %s of the table was removed or replaced: processes that use it go on with it, and those that "
            "start from now on share nothing with them. Restart all of them",
            self._path,
        )
        if self._on_event is not None:
            at = self._datetime(self._now())
            self._deliver(Event("table_lost", None, None, {"path": self._path}, None, at))

    def _refused_full(self, handle: str | None) -> None:
        if self._on_event is not None:
            self._deliver(Event("store_full", handle, None, None, None, self._datetime(self._now())))

    def _retired_presented(self, handle: int, theft: bool) -> None:
        if theft:
            _logger.warning(
                "an id of session %s that had been renewed was presented again, long after: a sign of theft; "
                "the session was ended",
                _text(handle),
            )
        if self._on_event is not None:
            reason: EventReason = "theft" if theft else "late"
            self._deliver(Event("retired_id", _text(handle), None, None, reason, self._datetime(self._now())))
        if theft and self._persistence is not None:
            self._persistence.settle()

    def _followed(self, handle: int, digest: bytes, nonce: bytes) -> None:
        if self._persistence is not None:
            self._persistence.followed(handle, digest, nonce)

    def _renewed_id(self, nonce: bytes, key_index: int) -> str:
        return renewed_id(self._keys[key_index].renewal, nonce)

    # ---- opening ----

    def _persist(self, directory: str, interval: float, durability: str, encrypt: bool) -> None:
        from sessile.persistence import Persistence

        try:
            self._persistence = Persistence(
                self, directory, interval, journals=durability == "revocations", encrypt=encrypt
            )
        except BaseException:
            super().close()
            raise

    def _warn_if_other(self, capacity: int, memory: int) -> None:
        """An attached table keeps the capacity and memory that it was made with."""
        actual_capacity, actual_memory = self._facts()[:2]
        if self._path is not None and (actual_capacity != capacity or actual_memory != memory):
            warnings.warn(
                f"the table {self._path} has capacity={actual_capacity}, memory={actual_memory}; "
                "the values given here hold when it is made anew: remove the file while no process uses it",
                RuntimeWarning,
                stacklevel=3,
            )


def attach_for_upkeep(path: str | os.PathLike[str], *, busy_timeout: float = 1.0) -> Store:
    """Attach to a table that is there, without its secret: lists, revocations, figures, checks, sweeps.

    Where the application journals the ends of sessions, revocations are durable when they return, too
    (sessile.ends).

    No id can be looked up or made through it. Deadlines are taken as they are stored: the timeouts of the
    application's processes are not known here.

    Raises:
        ValueError: `path` is no name and no path.
        AttachError: there is no such table, or it cannot be attached; the text says why and what to do.
    """
    from sessile.ends import Upkeep

    store: Store = Store.__new__(Store)
    longest = _table.TIMEOUT_MAX_MS
    store._busy_timeout = busy_timeout
    store._max_session_size = _table.FIELDS_MAX
    store._on_event = None
    store._wall_ms = store._advanced_ms = 0
    store._look_at = 0.0
    store._path = _table_path(path)
    store._name = os.fspath(path)
    store._keys = ()
    store._open(
        record_type=Session,
        path=store._path,
        must_exist=True,
        capacity=1,
        memory=1,
        anonymous_share=1.0,
        keys=[],
        policy=(longest, longest, longest, longest, 0, _table.FIELDS_MAX),
        busy_timeout=busy_timeout,
        reporting=True,
    )
    store._persistence = Upkeep(store, store._path)
    return store


def table_path(path: str | os.PathLike[str]) -> str:
    """The file that a table of this name or path has.

    Raises:
        ValueError, AttachError: as `Store`.
    """
    return _table_path(path)


def _text(handle: int | None) -> str | None:
    return f"{handle:016x}" if handle else None


def _snapshot_options(
    snapshot_dir: object, snapshot_interval: object, durability: object, encrypt: object
) -> tuple[str | None, float]:
    """The directory and the seconds between two snapshots."""
    if durability not in ("revocations", "none"):
        raise ValueError(f'durability={durability!r}: give "revocations" or "none"')
    if not isinstance(encrypt, bool):
        raise ValueError(f"encrypt={encrypt!r}: give True or False")
    interval = options.milliseconds("snapshot_interval", snapshot_interval) / 1000
    if snapshot_dir is None:
        if durability != "revocations" or encrypt:
            raise ValueError("durability and encrypt are about snapshots: give snapshot_dir, too")
        return None, interval
    text = os.fspath(snapshot_dir) if isinstance(snapshot_dir, (str, os.PathLike)) else None
    if not isinstance(text, str) or "\0" in text or not os.path.isabs(text):
        raise ValueError(f"snapshot_dir={snapshot_dir!r}: give the absolute path of a directory (PER-01)")
    return text, interval


def _table_path(path: object) -> str:
    """The file of a table: a bare name lies in a directory of this user in shared memory."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"path={path!r}: give a name, or a path as str or os.PathLike")
    if isinstance(path, str) and "/" not in text:
        if not _is_name(text) or text in (".", ".."):
            raise ValueError(
                f"path={path!r}: a name has letters, digits, '.', '_' and '-' only; a path has a '/'"
            )
        return os.path.join(_own_directory(), text)
    return os.path.abspath(text)


def _own_directory() -> str:
    """/dev/shm/sessile-<uid>, made if need be.

    Raises:
        AttachError: it is not a directory of this user that nobody else may enter; the table would not be
            safe.
    """
    directory = f"/dev/shm/sessile-{os.geteuid()}"
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise AttachError(
            f"{directory} cannot be made: {error.strerror}; pass a path instead", path=directory
        ) from error
    facts = os.lstat(directory)
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        raise AttachError(
            f"{directory} must be a directory of this user with mode 0700: remove it, or pass a path instead",
            path=directory,
        )
    return directory


def _warn_if_spawned() -> None:
    """A process that multiprocessing spawned shares nothing with its parent: its table would be its own."""
    if any(
        "from multiprocessing.spawn import" in part or "from multiprocessing.forkserver import" in part
        for part in sys.orig_argv
    ):
        warnings.warn(
            "Store() in a process that multiprocessing spawned makes a table that no other process sees: "
            'logins are lost between workers. Give all of them one name: Store("name")',
            RuntimeWarning,
            stacklevel=4,
        )
