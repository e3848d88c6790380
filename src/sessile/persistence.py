"""A store's part on disk: who may use the directory, what is restored from it, when images are written.

The directory belongs to one table, which LOCK names. Each process that uses it holds a shared lock on that
file for as long as it lives; a table that is new to the directory needs the exclusive one, so it waits until
the one before is gone. What is on disk is restored into a table that nobody has used yet, and only while no
other process can come in.

Any process may write an image, one at a time, by leave of the table (csrc/persist.c); whoever finds that one
is due does, so that a writer's death at any point costs one image.

Generations: an image takes the next number before it copies its first session. Of images the last two are
kept, and the journal since the earlier of them; `floor` says where it begins, so that an older image cannot
be mistaken for one whose log-outs are known.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hmac
import logging
import os
import struct
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sessile import _table
from sessile.disk import Directory
from sessile.ends import LOCK, Ends, Pass, leave_pass
from sessile.errors import Busy, SnapshotError, StoreClosed
from sessile.journal import Journal, Replay, generation_of, read_journal
from sessile.snapshot import (
    NEWER,
    NOTE,
    RECORDS,
    Block,
    Image,
    ImageKey,
    Sealer,
    image_name,
    images_in,
    open_image,
    write_image,
)

if TYPE_CHECKING:
    from sessile.store import Store

__all__ = ["Persistence"]

_logger = logging.getLogger("sessile")

FLOOR = "floor"
_FLOOR = struct.Struct("<8sQQ")  # and a MAC of 32 bytes
_FLOOR_MAGIC = b"SESSFLR1"

RESTORING = 1  # a generation: somebody has begun to restore, and not ended
_FIRST = 2

_LOCK_WAIT = 10.0  # seconds for the processes of the table before to go
_OPEN_WAIT = 120.0  # seconds for another process of this table to restore
_PAUSE = 0.02
_SYNC_EVERY = 1.0  # seconds until what nobody waits for is durable
_WRITER_WAIT = 60.0
_THREADS = 4  # that restore at once
_NOTHING = bytes(32)
_OK, _FULL = _table.OK, _table.statuses()["SESSILE_FULL"]

_Rules = tuple[bytes, bytes, bytes, bytes, bytes]
"""Revoked handles, notes, superseded digests, rekeys, watched handles: as `Table._import` takes them."""

_all: weakref.WeakSet[Persistence] = weakref.WeakSet()


class Persistence(Ends):
    """Images and journal of one store.

    Args:
        store: open; nobody else in this process uses it yet.
        path: of the directory, absolute.
        interval: seconds between images.
        journals: whether the ends of sessions are to be durable when the calls return.
        encrypt: whether files are sealed.

    Raises:
        SnapshotError: the directory or a file in it is not to be used; nothing in it was changed, and nothing
            was restored.
    """

    def __init__(self, store: Store, path: str, interval: float, *, journals: bool, encrypt: bool) -> None:
        super().__init__(store)
        self._interval = interval
        self._encrypt = encrypt
        self._keys = [ImageKey.of(keys.snapshot) for keys in store._keys]
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._opened_by = os.getpid()
        self._lock = -1
        self.directory = Directory(path)
        if encrypt:
            Sealer(self._keys[0], b"", path)  # whether it can be had is to be known at once
        try:
            self._open(store)
            if journals:
                self.journal = Journal(self.directory, self._keys[0], self._published, encrypt=encrypt)
            if store._path is not None:
                leave_pass(store._path, Pass.of(self._keys[0], store._uuid(), path, journals))
        except BaseException:
            self._let_go()
            raise
        _all.add(self)
        self._start()

    # ---- opening ----

    def _open(self, store: Store) -> None:
        self._lock = os.open(
            LOCK,
            os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK,
            0o600,
            dir_fd=self.directory.descriptor,
        )
        self.directory._require_own(self.directory.of(LOCK), os.fstat(self._lock))
        uuid = store._uuid()
        if self._take_lock(uuid):
            try:
                if _is_unused(store):
                    self._restore(store)
                elif store._generation()[0] < _FIRST:
                    self._begin(store, self._latest() + 1)
                os.pwrite(self._lock, uuid, 0)
                os.fsync(self._lock)
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_SH)
            self.directory.sync()
        self._require_lock(uuid)
        if not images_in(self.directory.names()):
            self.write()

    def _take_lock(self, uuid: bytes) -> bool:
        """Wait until this table may use the directory. True: no other process does; else others of this table
        do."""
        began = time.monotonic()
        while True:
            waited = time.monotonic() - began
            if _try_lock(self._lock, fcntl.LOCK_EX):
                return True
            if _try_lock(self._lock, fcntl.LOCK_SH):
                if os.pread(self._lock, len(uuid), 0) == uuid:
                    return False
                fcntl.flock(self._lock, fcntl.LOCK_UN)
                if waited > _LOCK_WAIT:
                    raise SnapshotError(
                        f"{self.directory.path} is in use by another table: give both stores the same name, "
                        'Store("name"), or each a directory of its own',
                        path=self.directory.path,
                    )
            elif waited > _OPEN_WAIT:
                raise SnapshotError(
                    f"{self.directory.path}: another process has been opening it for {waited:.0f} "
                    f"seconds; see what it "
                    "is waiting for",
                    path=self.directory.path,
                )
            time.sleep(_PAUSE)

    def _require_lock(self, uuid: bytes) -> None:
        """Between exclusive and shared a lock is nobody's for a moment; and descriptors can be closed by
        others."""
        if os.pread(self._lock, len(uuid), 0) != uuid:
            raise SnapshotError(
                f"{self.directory.path} was taken over by another table: give both stores the same name, "
                'Store("name"), or each a directory of its own',
                path=self.directory.path,
            )

    def _latest(self) -> int:
        """The highest generation that any file has."""
        names = self.directory.names()
        found = [*images_in(names), *(generation_of(name) or 0 for name in names)]
        return max(found, default=_FIRST - 1)

    def _begin(self, store: Store, generation: int, complete: int = 0) -> None:
        store._complete(complete, store._now())
        store._publish(max(generation, _FIRST))

    # ---- restoring ----

    def _restore(self, store: Store) -> None:
        generations = images_in(self.directory.names())
        if not generations:
            self._begin(store, self._latest() + 1)
            return
        latest = generations[-1]
        image = open_image(self.directory, latest, self._keys)
        try:
            self._require_floor(latest)
            replay = read_journal(self.directory, latest, self._keys)
            store._publish(RESTORING)
            try:
                self._fill(store, image, replay)
            except BaseException:
                # Nothing half: and whoever opens the table next restores, as this process should have.
                store._revoke_all()
                raise
        finally:
            image.close()
        self._begin(store, max(latest, replay.generation, self._latest()) + 1, latest)

    def _fill(self, store: Store, image: Image, replay: Replay) -> None:
        wall_ms = time.time_ns() // 1_000_000
        if wall_ms < image.wall_ms:
            _logger.warning(
                "the clock is %.0f seconds behind the snapshot %s: the time since counts as none, so sessions live longer",
                (image.wall_ms - wall_ms) / 1000,
                self.directory.of(image_name(image.generation)),
            )
        store._restore_clock(image.table_ms + max(0, wall_ms - image.wall_ms))
        epoch = max([image.epoch, replay.epoch, *(block.epoch for block in image.blocks)])
        store._restore_epoch(epoch)
        newer, superseded = _notes(image)
        watched = sorted({each.handle for each in replay.logins})
        seen = bytearray(len(watched))
        rules = (
            _packed(sorted(replay.revoked)),
            b"".join(newer),
            b"".join(superseded),
            b"".join(replay.rekeys[handle] for handle in sorted(replay.rekeys)),
            _packed(watched),
        )
        buffers = threading.local()

        def take(block: Block) -> None:
            if not hasattr(buffers, "own"):
                buffers.own = bytearray()
            data = image.read(block, buffers.own)
            if block.epoch == epoch:
                self._import(store, data, rules, seen)

        # Blocks are of different shards, so that threads seldom meet.
        _for_each(take, [block for block in image.blocks if block.kind == RECORDS])
        # Who logged in after the image, and is not in it. A later copy in the image knows more than the
        # journal.
        in_image = {handle for handle, met in zip(watched, seen, strict=True) if met}
        for each in replay.logins:
            if each.epoch == epoch and each.handle not in in_image:
                in_image.add(each.handle)
                self._import(store, each.record, rules, bytearray(len(watched)))

    def _import(self, store: Store, data: Any, rules: _Rules, seen: bytearray) -> None:
        status = store._import(data, *rules, seen)[0]
        if status == _OK:
            return
        if status == _FULL:
            facts = store._facts()
            why = (
                f"holds more than this table can: capacity={facts[0]} and memory={facts[1]} are too "
                f"small, or "
                "anonymous_share is"
            )
        else:
            why = "holds a record that makes no sense: nothing was restored; move it away"
        raise SnapshotError(f"{self.directory.path} {why}", path=self.directory.path)

    # ---- the floor ----

    def _require_floor(self, latest: int) -> None:
        if latest < self._read_floor():
            raise SnapshotError(
                f"{self.directory.of(image_name(latest))} is older than the journal of log-outs: restored, it would "
                "bring back sessions that ended. Bring a later one back, or move the directory away to start "
                "without its sessions",
                path=self.directory.path,
            )

    def _read_floor(self) -> int:
        if FLOOR not in self.directory.names():
            return 0
        path = self.directory.of(FLOOR)
        data = self.directory.read(FLOOR)
        if len(data) == _FLOOR.size + 32 and data[:8] == _FLOOR_MAGIC:
            _, generation, number = _FLOOR.unpack_from(data)
            for key in self._keys:
                if key.number == number:
                    if hmac.compare_digest(hmac.digest(key.image, data[: _FLOOR.size], "sha256"), data[_FLOOR.size :]):
                        return int(generation)
                    break
            else:
                raise SnapshotError(
                    f"{path} was made with another secret: pass the secret= that it was made with (a list "
                    f"keeps old "
                    "ones), or move the directory away to start without its sessions",
                    path=path,
                )
        raise SnapshotError(
            f"{path} is damaged: bring it back from a copy, or move the directory away to start without its sessions",
            path=path,
        )

    def _write_floor(self, generation: int) -> None:
        key = self._keys[0]
        data = _FLOOR.pack(_FLOOR_MAGIC, generation, key.number)
        new = self.directory.create(FLOOR)
        try:
            new.write(data + hmac.digest(key.image, data, "sha256"))
            new.publish()
        finally:
            new.close()

    # ---- images ----

    def write(self) -> Path:
        """Take an image now; if another process is about to, wait for that one.

        Raises:
            SnapshotError: it could not be written; the ones before are as they were.
            StoreClosed: the store was closed.
        """
        store = self._require_store()
        asked = store._generation()[0]
        with self._writing:
            if not self._claim(store, asked):
                return Path(self.directory.of(image_name(store._generation()[1])))
            try:
                return self._write(store)
            except (OSError, Busy) as error:
                self._tell_failure(store, error)
                if isinstance(error, SnapshotError):
                    raise
                raise SnapshotError(
                    f"{self.directory.path}: the snapshot could not be written ({error}); the one before is as it was",
                    path=self.directory.path,
                ) from error
            finally:
                store._writer_release()

    def _claim(self, store: Store, asked: int) -> bool:
        """Become the writer. False: another one wrote an image that was begun after `asked` was the
        latest."""
        end = time.monotonic() + _WRITER_WAIT
        while not store._writer_claim():
            if store._generation()[1] > asked:
                return False
            if time.monotonic() > end:
                raise SnapshotError(
                    f"{self.directory.path}: another process has been writing a snapshot for {_WRITER_WAIT:.0f} seconds",
                    path=self.directory.path,
                )
            time.sleep(_PAUSE)
        if store._generation()[1] > asked:
            store._writer_release()
            return False
        return True

    def _write(self, store: Store) -> Path:
        self._require_lock(store._uuid())
        before = store._generation()[1]
        generation = store._generation()[0] + 1
        store._publish(generation)
        # Other processes may be making segments; images and the floor are the one writer's.
        self.directory.sweep(lambda name: generation_of(name) is None)
        new = self.directory.create(image_name(generation))
        try:
            _, begun_ms = write_image(
                store,
                new.write,
                self._keys[0],
                generation,
                time.time_ns() // 1_000_000,
                self.directory.path,
                self._encrypt,
            )
            new.publish()
        finally:
            new.close()
        store._complete(generation, begun_ms)
        self._clean(generation, before)
        return Path(self.directory.of(image_name(generation)))

    def _clean(self, latest: int, before: int) -> None:
        """Remove images but for the last two, and the journal that neither of them needs."""
        kept = min(latest, before) if before else latest
        if kept > self._read_floor():
            self._write_floor(kept)
        for name in self.directory.names():
            segment = generation_of(name)
            if segment is not None and segment < kept:
                self.directory.remove(name)
        self.directory.sweep(lambda name: (generation_of(name) or kept) < kept)
        for generation in images_in(self.directory.names()):
            if generation < kept:
                self.directory.remove(image_name(generation))

    # ---- the thread ----

    def _start(self) -> None:
        self._thread = threading.Thread(
            target=_run,
            args=(weakref.ref(self), self._stop, self._interval),
            name="sessile snapshots",
            daemon=True,
        )
        self._thread.start()

    def tick(self) -> None:
        """What the thread does each second: durable what nobody waits for; an image, if it is due."""
        store = self._store()
        if store is None or store._closed:
            return
        try:
            self.flush()
        except (SnapshotError, StoreClosed):
            pass  # told by `_settle`; the frames are tried again
        try:
            if store._now() - store._generation()[2] >= self._interval * 1000:
                self.write()
        except (SnapshotError, StoreClosed):
            pass  # told by `write`; the next tick tries again

    # ---- the end ----

    def after_fork(self) -> None:
        """In the child: locks and threads are the parent's."""
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._local = threading.local()
        self._told = {}
        if self.journal is not None:
            self.journal.after_fork()
        self._start()

    def close(self) -> None:
        """Take a last image, and give up the directory. What goes wrong is told, and ends nothing else."""
        self._stop.set()
        _all.discard(self)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        try:
            with contextlib.suppress(SnapshotError):  # of frames that the image, if it can be written, makes needless
                super().close()
            self.write()
        except (SnapshotError, StoreClosed) as error:
            _logger.error("the last snapshot was not written to %s: %s", self.directory.path, error)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        self.directory.close()


def _run(reference: weakref.ref[Persistence], stop: threading.Event, interval: float) -> None:
    """The thread: it must not keep a store alive that nobody uses any more."""
    while not stop.wait(min(_SYNC_EVERY, interval)):
        persistence = reference()
        if persistence is None:
            return
        try:
            persistence.tick()
        except Exception:
            _logger.exception("the snapshots of %s", persistence.directory.path)
        del persistence


def _is_unused(store: Store) -> bool:
    """Was the table never used, or only by somebody who died while restoring into it?"""
    published = store._generation()[0]
    if published == RESTORING:
        return True
    figures = store._stats()
    return published == 0 and figures[0] == 0 and figures[9] == 0 and store._epoch() == 0


def _try_lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _notes(image: Image) -> tuple[list[bytes], list[bytes]]:
    """Of an image: notes by handle, and digests that were followed by others; both sorted."""
    newer: dict[int, bytes] = {}
    superseded: set[bytes] = set()
    for block in image.blocks:
        if block.kind == NEWER:
            data = image.read(block, bytearray())
            for place in range(0, len(data) - NOTE.size + 1, NOTE.size):
                note = bytes(data[place : place + NOTE.size])
                digest, handle, _, _ = NOTE.unpack(note)
                if digest != _NOTHING:
                    superseded.add(digest)
                elif handle:
                    newer[handle] = note
    return [newer[handle] for handle in sorted(newer)], sorted(superseded)


def _for_each(work: Callable[[Block], None], blocks: Sequence[Block]) -> None:
    """Do some work for each block, in a few threads; the first error is raised when all of them have stopped."""
    with ThreadPoolExecutor(min(_THREADS, _processors())) as pool:
        futures = [pool.submit(work, block) for block in blocks]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()


def _processors() -> int:
    """How many of them this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _packed(handles: list[int]) -> bytes:
    return struct.pack(f"<{len(handles)}Q", *handles)


def _after_fork() -> None:
    for persistence in list(_all):
        persistence.after_fork()


def _at_exit() -> None:
    """The interpreter ends, and a store was not closed: the process that opened it takes a last image."""
    for persistence in list(_all):
        store = persistence._store()
        if store is not None and persistence._opened_by == os.getpid():
            store.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
