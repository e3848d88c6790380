"""What a store tells its journal: ends of sessions, log-ins, new ids; and who waits for the disk.

Each process of a table tells what it did itself. One that has no secret, as `python -m sessile revoke`, does
so too: the processes that have it leave a *pass* beside the table (docs/snapshot-format.md). It names the
directory and holds a key with which ends can be journaled, and nothing else: neither sessions nor log-ins, nor
anything that could be read. Whoever can read it can write to the table itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import struct
import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from sessile import _table
from sessile.disk import Directory
from sessile.errors import SnapshotError, StoreClosed
from sessile.events import Event
from sessile.journal import Batch, EndsKey, Journal, login, rekey, revoke, revoke_all

if TYPE_CHECKING:
    from sessile.session import Session
    from sessile.snapshot import ImageKey
    from sessile.store import Store

__all__ = ["LOCK", "Ends", "Pass", "Upkeep", "leave_pass"]

_logger = logging.getLogger("sessile")

LOCK = "LOCK"

_PASS = struct.Struct("<8s16sQ32sI4x")  # then the directory's path, and a checksum of four bytes
_PASS_MAGIC = b"SESSPAS1"
_CHECKSUM = struct.Struct("<I")
_RECORD_ROOM = 32 << 10  # bytes of a record, and what forwards to it, besides fields, owner and device
_RECORD = struct.Struct("<Q32sQQIIQIII")  # commit, digest, use, terms, idle, lengths, handle; created, logged in, issued
_HAS_PARENT = 1 << 49  # of the terms; above them the new ids that it was given
_TOLD_MOST = 4096


class Ends:
    """The journal of one store, as the store and its sessions use it.

    Attributes:
        directory: where the journal is.
        journal: None: nothing is journaled.
    """

    directory: Directory

    def __init__(self, store: Store) -> None:
        self._store = weakref.ref(store)
        self._local = threading.local()
        self._told: dict[int, tuple[bytes, Batch]] = {}  # by handle, the latest renewal that this process journaled
        self._flushing: tuple[Batch, asyncio.Future[None]] | None = None  # what `aflush` waits for
        self.journal: Journal | None = None

    def _require_store(self) -> Store:
        store = self._store()
        if store is None or store._closed:
            raise StoreClosed
        return store

    def _published(self) -> int:
        return self._require_store()._generation()[0]

    # ---- called after each, outside every lock ----

    def ended(self, handles: Iterable[int]) -> None:
        """Sessions ended in memory; `settle` waits for the disk."""
        for handle in handles:
            self._append(revoke(handle))

    def revoked_all(self, epoch: int) -> None:
        """Everything before this epoch ended.

        Raises:
            SnapshotError: as `settle`.
        """
        self._append(revoke_all(epoch))
        self.settle()

    def logged_in(self, session: Session, former: str | None) -> None:
        """A session logged in; `former`: the handle that it had before.

        Raises:
            SnapshotError: as `settle`.
        """
        if self.journal is None:
            return
        epoch, record = self._record(session._digest[0], len(session._fields))
        self._append(login(int(former or "0", 16), epoch, record))
        self.settle()

    def _record(self, digest: bytes, fields: int) -> tuple[int, bytes]:
        """The epoch and the record of a session, as it is in an image; empty where there is none by now.

        Args:
            fields: bytes that its fields have at most.
        """
        buffer = bytearray(fields + _table.OWNER_MAX + _table.DEVICE_MAX + _RECORD_ROOM)
        epoch, records, length, _ = self._require_store()._export_digest(digest, buffer)
        return epoch, bytes(buffer[:length]) if records == 1 else b""

    def rotated(self, session: Session, parent: bytes, how: int, nonce: bytes | None) -> None:
        """A session has a new id. `nonce`: it was renewed; that waits for no disk, and `is_unsure` tells whether the
        client may be told by now.

        Raises:
            SnapshotError: as `settle`; not for a renewal.
        """
        if self.journal is None:
            return
        digest, rotations = session._digest
        handle = int(session.handle or "0", 16)
        self._append(rekey(handle, rotations, how, session._issued_ms, parent, digest, nonce))
        if nonce is None:
            self.settle()
        else:
            self._keep_told(handle, digest)

    def is_unsure(self, session: Session) -> bool:
        """Whether a power cut could still undo the renewal that gave a session its id: then the client keeps the id
        before, which is good as long as the new one was not presented."""
        told = self._told.get(int(session.handle or "0", 16))
        return told is not None and told[0] == session._digest[0] and not told[1].is_durable

    def followed(self, handle: int, digest: bytes, nonce: bytes) -> None:
        """Somebody came with an id that forwards, and is told the new one: its frame has to be durable. Who renewed it
        may be another process, and may not have come to its sync: so it is written here, too, once a session and process.
        """
        if self.journal is None:
            return
        told = self._told.get(handle)
        if told is not None and told[0] == digest:
            if told[1].is_durable:
                return
            if not told[1].done:
                self._local.batch = told[1]
                self.settle_renewal()
                return
        _, record = self._record(digest, _table.FIELDS_MAX)
        found = _RECORD.unpack_from(record) if record else (0,) * 10
        terms, issued_s = found[3], found[9]
        if found[1] != digest or found[6] != handle or not terms & _HAS_PARENT:
            return  # it was renewed again, logged in or ended since
        parent = record[_RECORD.size : _RECORD.size + 32]
        self._append(rekey(handle, terms >> 51, _table.RENEW, 1000 * issued_s, parent, digest, nonce))
        self._keep_told(handle, digest)
        self.settle_renewal()

    def _keep_told(self, handle: int, digest: bytes) -> None:
        """Remember the batch that this thread appended a renewal to."""
        if len(self._told) >= _TOLD_MOST:
            self._told = {each: told for each, told in self._told.copy().items() if not told[1].done}
        self._told[handle] = digest, self._local.batch

    def settle_renewal(self) -> None:
        """`settle` that ends no request: `is_unsure` goes on, and with the next one it is tried again."""
        with contextlib.suppress(SnapshotError):  # told by `settle`
            self.settle()

    def _append(self, frame: bytes) -> None:
        if self.journal is not None:
            self._local.batch = self.journal.append(frame)

    # ---- waiting ----

    def settle(self) -> None:
        """Wait until what this thread appended is durable; where an event loop runs, that is left to
        `aflush`.

        Raises:
            SnapshotError: the disk refused it; an event tells it, too.
        """
        batch: Batch | None = getattr(self._local, "batch", None)
        if batch is not None and not _has_loop():
            self._local.batch = None
            self._wait(batch)

    def flush(self) -> None:
        """Wait until everything is durable that any thread appended before.

        Raises:
            SnapshotError: as `settle`.
        """
        batch = None if self.journal is None else self.journal.pending()
        self._local.batch = None
        if batch is not None:
            self._wait(batch)

    async def aflush(self) -> None:
        """The same, in another thread; all tasks that wait for one batch share one.

        Raises:
            SnapshotError: as `settle`.
        """
        batch = None if self.journal is None else self.journal.pending()
        self._local.batch = None
        if batch is None:
            return
        loop, flushing = asyncio.get_running_loop(), self._flushing
        if flushing is None or flushing[0] is not batch or flushing[1].get_loop() is not loop:
            flushing = self._flushing = batch, loop.run_in_executor(None, self._wait, batch)
        try:
            await asyncio.shield(flushing[1])  # one task that is cancelled takes nothing from the others
        finally:
            if self._flushing is flushing and flushing[1].done():
                self._flushing = None

    def _wait(self, batch: Batch) -> None:
        assert self.journal is not None
        try:
            self.journal.wait(batch)
        except SnapshotError as error:
            store = self._store()
            if store is not None:
                self._tell_failure(store, error)
            raise

    def _tell_failure(self, store: Store, error: BaseException) -> None:
        _logger.error("%s: %s", self.directory.path, error)
        if store._on_event is not None:
            facts = {"path": self.directory.path, "error": str(error)}
            store._deliver(Event("snapshot_failed", None, None, facts, None, datetime.now(timezone.utc)))

    def close(self) -> None:
        """Make everything durable that was appended, and give up the journal.

        Raises:
            SnapshotError: the disk refused it.
        """
        if self.journal is not None:
            self.journal.close()


# ---- without the secret ----


@dataclass(frozen=True, slots=True)
class Pass:
    """Lets processes without the secret journal the ends of sessions of one table.

    Attributes:
        key: authenticates segments that hold ends only; None: the application wants none (`durability="none"`).
        uuid: of the table.
        directory: the absolute path of its snapshots.
    """

    key: EndsKey | None
    uuid: bytes
    directory: str = field(repr=False)

    @classmethod
    def of(cls, key: ImageKey, uuid: bytes, directory: str, journals: bool) -> Pass:
        """The pass that a process with the secret leaves."""
        return cls(EndsKey.of(key) if journals else None, uuid, directory)

    def pack(self) -> bytes:
        """The bytes of its file."""
        path = os.fsencode(self.directory)
        number, secret = (self.key.number, self.key.secret) if self.key is not None else (0, bytes(32))
        data = _PASS.pack(_PASS_MAGIC, self.uuid, number, secret, len(path)) + path
        return data + _CHECKSUM.pack(_table.checksum(data))

    @classmethod
    def unpack(cls, data: bytes) -> Pass | None:
        """None: this is no pass, or one that was damaged."""
        if len(data) < _PASS.size + _CHECKSUM.size:
            return None
        magic, uuid, number, secret, length = _PASS.unpack_from(data)
        end = _PASS.size + length
        if (
            magic != _PASS_MAGIC
            or len(data) != end + _CHECKSUM.size
            or _CHECKSUM.unpack_from(data, end)[0] != _table.checksum(data[:end])
        ):
            return None
        key = EndsKey(number, secret) if any(secret) else None
        return cls(key, uuid, os.fsdecode(data[_PASS.size : end]))


def _pass_name(table: str) -> str:
    return f"{os.path.basename(table)}.pass"


def leave_pass(table: str, given: Pass) -> None:
    """Put a pass beside a table, unless it is there already.

    Raises:
        SnapshotError: the directory of the table is not this user's alone, or the pass cannot be written.
    """
    directory = Directory(os.path.dirname(table))
    name, data = _pass_name(table), given.pack()
    try:
        if name in directory.names() and directory.read(name) == data:
            return
        new = directory.create(name)
        try:
            new.write(data)
            new.publish()
        finally:
            new.close()
    except SnapshotError:
        raise
    except OSError as error:
        raise Directory.refusal(directory.of(name), f"cannot be written: {error.strerror}") from error
    finally:
        directory.close()


class Upkeep(Ends):
    """The journal for a process that attached to a table without its secret.

    Nothing is opened before a session ends: figures and lists need no journal.
    """

    def __init__(self, store: Store, table: str) -> None:
        super().__init__(store)
        self._table = table
        self._lock = -1
        self._pass: Pass | None = None

    def _append(self, frame: bytes) -> None:
        store = self._require_store()
        if self.journal is None and self._pass is None and store._generation()[0] != 0:
            self._pass = self._find_pass(store)
            if self._pass.key is not None:
                self._open(self._pass, self._pass.key)
        super()._append(frame)

    def _not_durable(self, why: str) -> SnapshotError:
        return SnapshotError(
            f"{self._table}: {why}: what was ended has ended, but the journal of the snapshots does not know it, "
            "so it would be back after a reboot. Start the application, or let it take two snapshots",
            path=self._table,
        )

    def _find_pass(self, store: Store) -> Pass:
        directory = Directory(os.path.dirname(self._table))
        name = _pass_name(self._table)
        try:
            found = Pass.unpack(directory.read(name)) if name in directory.names() else None
        finally:
            directory.close()
        if found is None or found.uuid != store._uuid():
            raise self._not_durable(f"there is no {name} of this table beside it")
        return found

    def _open(self, given: Pass, key: EndsKey) -> None:
        self.directory = Directory(given.directory)
        try:
            self._lock = os.open(LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.directory.descriptor)
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.pread(self._lock, len(given.uuid), 0) != given.uuid:
                raise self._not_durable(f"{given.directory} belongs to another table by now")
        except OSError as error:
            self._let_go()
            if isinstance(error, SnapshotError):
                raise
            raise self._not_durable(f"{given.directory} cannot be used ({error.strerror})") from error
        self.journal = Journal(self.directory, key, self._published)

    def _let_go(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
            self.directory.close()

    def close(self) -> None:
        """As `Ends.close`; and give up the directory."""
        try:
            super().close()
        finally:
            self._let_go()


def _has_loop() -> bool:
    """Is this thread one that must not wait?"""
    return asyncio._get_running_loop() is not None
