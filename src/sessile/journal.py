"""The journal: what must not be undone by restoring an image, durable before the call that did it returns.

docs/snapshot-format.md describes the format. Each process appends to a segment of its own. Threads share
syncs: while one waits for the disk, what the others append gathers in the next batch. A frame names a session
by its
handle, so frames need no order among each other: an end stays an end, and of two new ids the later count
wins.

Who ends a session ends it in memory first, then appends, and the generation is read after that. An image
takes its generation before it copies its first record. So an end that an image does not show is in a segment
of that image's generation or a later one. tests/models/model_journal.py is the specification.
"""

from __future__ import annotations

import hmac
import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sessile import _table
from sessile.disk import Directory, NewFile
from sessile.errors import SnapshotError
from sessile.snapshot import ImageKey, Sealer

__all__ = [
    "Batch",
    "EndsKey",
    "Journal",
    "LoginFrame",
    "Replay",
    "generation_of",
    "login",
    "read_journal",
    "rekey",
    "revoke",
    "revoke_all",
]

MAJOR, MINOR = 1, 0
ENCRYPTED, ENDS = 1, 2  # incompatible features; ENDS: only ends are in it, and its key is good for nothing else

SEGMENT = struct.Struct("<8sHHIQ16sQI4x")  # and a checksum of four bytes, and four of zero
SEGMENT_SIZE = 64
BATCH = struct.Struct("<4sIQII4x")  # and a checksum of four bytes, and a MAC of 32
BATCH_HEAD = 32
BATCH_SIZE = 64
MAC_SIZE = 32
FRAME = struct.Struct("<BxxxI")
HANDLE = struct.Struct("<Q")
EPOCH = struct.Struct("<I4x")
LOGIN = struct.Struct("<QI4x")
REKEY = struct.Struct("<QIIq32s32s32s")
CHECKSUM = struct.Struct("<I")
assert REKEY.size == _table.REKEY_SIZE

MAGIC, BATCH_MAGIC = b"SESSJNL1", b"BAT1"
KIND_REVOKE, KIND_REVOKE_ALL, KIND_REKEY, KIND_LOGIN = 1, 2, 3, 4

SEGMENT_LEAST = 64 << 10
SECTOR = 512  # a disk writes so many bytes at least, or none of them
_ALIGN = 64  # of a batch: its head lies in one sector
_UNSENT_MOST = 4 << 20  # bytes of frames that are kept for the next try when the disk fails

_PREFIX, _SUFFIX = "revoke-", ".journal"


# ---- frames ----


def _frame(kind: int, payload: bytes) -> bytes:
    return FRAME.pack(kind, len(payload)) + payload + bytes(-len(payload) % 8)


def revoke(handle: int) -> bytes:
    """The session with this handle ended."""
    return _frame(KIND_REVOKE, HANDLE.pack(handle))


def revoke_all(epoch: int) -> bytes:
    """Every session of an earlier epoch ended."""
    return _frame(KIND_REVOKE_ALL, EPOCH.pack(epoch))


def rekey(handle: int, rotations: int, how: int, at_ms: int, parent: bytes, digest: bytes, nonce: bytes | None) -> bytes:
    """The session with this handle has another id, its `rotations`-th; `nonce`: of a renewal."""
    return _frame(KIND_REKEY, REKEY.pack(handle, rotations, how, at_ms, parent, digest, nonce or bytes(32)))


def login(former: int, epoch: int, record: bytes) -> bytes:
    """A session logged in: `former` ended (0: none), and here is what brings the new one back."""
    return _frame(KIND_LOGIN, LOGIN.pack(former, epoch) + record)


@dataclass(frozen=True, slots=True)
class LoginFrame:
    """A session that logged in after the image."""

    handle: int
    epoch: int
    record: bytes = field(repr=False)


@dataclass(slots=True)
class Replay:
    """What the journal says of the sessions of an image.

    Attributes:
        revoked: handles of sessions that ended.
        epoch: sessions of earlier epochs ended.
        rekeys: by handle, the latest id of a session, as `struct sessile_rekey`.
        logins: sessions that logged in.
        generation: the highest that was met.
    """

    revoked: set[int] = field(default_factory=set)
    epoch: int = 0
    rekeys: dict[int, bytes] = field(default_factory=dict)
    logins: list[LoginFrame] = field(default_factory=list)
    generation: int = 0

    def take(self, kind: int, payload: bytes) -> None:
        """One frame."""
        if kind == KIND_REVOKE:
            self.revoked.add(HANDLE.unpack(payload)[0])
        elif kind == KIND_REVOKE_ALL:
            self.epoch = max(self.epoch, EPOCH.unpack(payload)[0])
        elif kind == KIND_REKEY:
            handle, rotations = REKEY.unpack(payload)[:2]
            known = self.rekeys.get(handle)
            if known is None or 0 < (rotations - REKEY.unpack(known)[1]) % 8192 < 4096:
                self.rekeys[handle] = payload
        elif kind == KIND_LOGIN:
            former, epoch = LOGIN.unpack_from(payload)
            record = payload[LOGIN.size :]
            if former:
                self.revoked.add(former)
            if record:
                self.logins.append(LoginFrame(HANDLE.unpack_from(record, 64)[0], epoch, record))
        else:
            raise ValueError(kind)


# ---- appending ----


@dataclass(frozen=True, slots=True)
class EndsKey:
    """Authenticates segments that hold ends of sessions only.

    Attributes:
        number: names the secret that it was derived from.
        secret: 32 bytes.
    """

    number: int
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, key: ImageKey) -> EndsKey:
        """Derive it."""
        return cls(key.number, key.ends)


class Batch:
    """Frames that one sync makes durable.

    Attributes:
        frames, size: what is in it, and how many bytes.
        gate: whoever is let through writes the batch, or finds it done and lets the next one through. So a thread
            that waits is woken once, and no thread has to wake all others.
        done: it was written, or that failed.
        error: why it failed; its frames are in a later batch, too.
        instead: the batch that has its frames, because who wrote this one was interrupted.
    """

    __slots__ = ("done", "error", "frames", "gate", "instead", "size")

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.size = 0
        self.gate = threading.Lock()
        self.done = False
        self.error: Exception | None = None
        self.instead: Batch | None = None

    @property
    def is_durable(self) -> bool:
        """Whether all of it is on disk by now."""
        if self.instead is not None:
            return self.instead.is_durable
        return self.done and self.error is None


class _Segment:
    """A file that one process appends batches to."""

    def __init__(
        self, directory: Directory, key: ImageKey | EndsKey, generation: int, encrypt: bool, least: int
    ) -> None:
        nonce = os.urandom(16)
        self.generation = generation
        self.name = f"{_PREFIX}{generation:016x}-{nonce.hex()}{_SUFFIX}"
        self.size = max(SEGMENT_LEAST, SEGMENT_SIZE + least + (-least) % SECTOR)
        self._place = SEGMENT_SIZE
        self._count = 0
        self._sealer: Sealer | None = None
        if isinstance(key, EndsKey):
            features, self._secret = ENDS, key.secret
        else:
            features, self._secret = ENCRYPTED if encrypt else 0, key.journal
            self._sealer = Sealer(key, nonce, directory.of(self.name)) if encrypt else None
        head = SEGMENT.pack(MAGIC, MAJOR, MINOR, features, generation, nonce, key.number, self.size)
        self._head = (head + CHECKSUM.pack(_table.checksum(head))).ljust(SEGMENT_SIZE, b"\0")
        self._file: NewFile = directory.create(self.name)
        try:
            # Zeroes, really written: a file system may fill the disk between a reservation and its use.
            self._file.write(self._head + bytes(self.size - SEGMENT_SIZE))
            self._file.publish()
        except BaseException:
            self._file.close()
            raise

    def fits(self, size: int) -> bool:
        return self._place + batch_room(size) <= self.size

    def append(self, frames: bytes, count: int, pwrite: Callable[..., int], fdatasync: Callable[[int], None]) -> None:
        """Write a batch and make it durable.

        Raises:
            OSError: it may be durable or not: nothing more can be appended here.
        """
        if self._sealer is not None:
            frames = self._sealer.seal(self._count, frames, self._head)
        place = self._place
        behind = place - place % SECTOR + SECTOR - place - BATCH_SIZE  # bytes of frames in the sector of the head
        empty = sum(not any(piece) for piece in _sectors(memoryview(frames)[behind:], 0, len(frames) - behind))
        head = BATCH.pack(BATCH_MAGIC, len(frames), self._count, count, empty)
        head += CHECKSUM.pack(_table.checksum(head))
        mac = batch_mac(self._secret, self._head, head, frames)
        data = memoryview(head + mac + frames)
        while data:
            written = pwrite(self._file.descriptor, data, place)
            data, place = data[written:], place + written
        fdatasync(self._file.descriptor)
        self._count += 1
        self._place += BATCH_SIZE + len(frames) + (-len(frames)) % _ALIGN

    def close(self) -> None:
        # Published: its temporary name is gone, so that nothing is removed.
        self._file.close()


def batch_room(size: int) -> int:
    """Bytes that a batch of so many bytes of frames takes at most."""
    return BATCH_SIZE + size + 16 + _ALIGN


def batch_mac(secret: bytes, segment: bytes, head: bytes, frames: Any) -> bytes:
    """Authenticates a batch, its place, and the segment that it is in."""
    mac = hmac.new(secret, segment + head, "sha256")
    mac.update(frames)
    return mac.digest()


class Journal:
    """Appends frames for all threads of one process.

    Args:
        key: with an `EndsKey` only frames of `revoke` and `revoke_all` may be appended.
        generation: gives the generation that was published last.
        encrypt: whether frames are sealed; not with an `EndsKey`.
    """

    def __init__(
        self,
        directory: Directory,
        key: ImageKey | EndsKey,
        generation: Callable[[], int],
        *,
        encrypt: bool = False,
    ) -> None:
        self._directory = directory
        self._key = key
        self._generation = generation
        self._encrypt = encrypt
        self._segment: _Segment | None = None
        self._mutex = threading.RLock()  # for which batch is open, and what is in it
        self._open = Batch()  # its gate is free unless the batch before it is being written
        self._writing: Batch | None = None

    def append(self, frame: bytes) -> Batch:
        """Add a frame to the next batch, without waiting; it must tell of what is so in memory already."""
        with self._mutex:
            batch = self._open
            batch.frames.append(frame)
            batch.size += len(frame)
            return batch

    def pending(self) -> Batch | None:
        """The batch whose end is the end of all that was appended so far; None: all of it is durable."""
        with self._mutex:
            return self._open if self._open.frames else self._writing

    def wait(self, batch: Batch) -> None:
        """Return when a batch is durable. Whoever comes first writes it, for all others.

        Raises:
            SnapshotError: the disk refused it. It is tried again with the next one.
        """
        while True:
            with batch.gate:
                if not batch.done:
                    self._write(batch)
            if batch.instead is None:
                break
            batch = batch.instead
        if batch.error is not None:
            raise SnapshotError(
                f"{self._directory.path}: the end of a session could not be written ({batch.error}): it "
                f"has ended, but "
                "would be back if the machine lost its power before the next snapshot",
                path=self._directory.path,
            ) from batch.error

    def _write(self, batch: Batch) -> None:
        """Write the open batch, whose gate this thread has, and open that of the next."""
        following = Batch()
        following.gate.acquire()
        try:
            with self._mutex:
                self._open, self._writing = following, batch
            self._make_durable(b"".join(batch.frames), len(batch.frames))
        except BaseException as error:
            self._put_off(batch, following, error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._writing = None
            batch.done = self._open is following  # else it is still open: interrupted before it was taken
            following.gate.release()

    def _put_off(self, batch: Batch, following: Batch, error: BaseException) -> None:
        """A batch was not written, or that is not known: the following one has its frames, too."""
        interrupted = not isinstance(error, Exception)
        with self._mutex:
            if self._open is following and (interrupted or batch.size + following.size <= _UNSENT_MOST):
                following.frames[:0] = batch.frames
                following.size += batch.size
            if isinstance(error, Exception):
                batch.error = error
            elif self._open is following:
                batch.instead = following
        self._drop_segment()

    def _make_durable(self, frames: bytes, count: int) -> None:
        from sessile.disk import system

        while True:
            generation = self._generation()
            segment = self._segment
            if segment is None or segment.generation != generation or not segment.fits(len(frames)):
                self._drop_segment()
                segment = self._segment = _Segment(
                    self._directory, self._key, generation, self._encrypt, batch_room(len(frames))
                )
            segment.append(frames, count, system.pwrite, system.fdatasync)
            # Had two images been published since, the segment might have been removed before the sync.
            if self._generation() <= generation + 1:
                return

    def _drop_segment(self) -> None:
        """After an error nothing can be said of a segment's end: what follows goes into another."""
        if self._segment is not None:
            segment, self._segment = self._segment, None
            segment.close()

    def after_fork(self) -> None:
        """In the child: the parent's frames and segment are the parent's."""
        self._mutex = threading.RLock()
        self._open = Batch()
        self._writing = None
        self._drop_segment()

    def close(self) -> None:
        """Make everything durable that was appended.

        Raises:
            SnapshotError: the disk refused it.
        """
        try:
            batch = self.pending()
            if batch is not None:
                self.wait(batch)
        finally:
            self._drop_segment()


# ---- reading ----


def generation_of(name: str) -> int | None:
    """The generation of a segment by the name of its file; None: it is no segment."""
    if not (name.startswith(_PREFIX) and name.endswith(_SUFFIX)):
        return None
    try:
        return int(name[len(_PREFIX) : len(_PREFIX) + 16], 16)
    except ValueError:
        return None


def read_journal(directory: Directory, least: int, keys: Sequence[ImageKey]) -> Replay:
    """Read all segments of generation `least` and later.

    The last batch of a segment may be torn by a power cut: then nobody was told of it, and it is left out.
    Anything else that is not as it was written is damage.

    Raises:
        SnapshotError: damage, or a segment that is not to be trusted or understood.
    """
    replay = Replay()
    for name in directory.names():
        generation = generation_of(name)
        if generation is None:
            continue
        replay.generation = max(replay.generation, generation)
        if generation >= least:
            for kind, payload in _SegmentReader(directory, name, keys).frames(generation):
                replay.take(kind, payload)
    return replay


class _SegmentReader:
    def __init__(self, directory: Directory, name: str, keys: Sequence[ImageKey]) -> None:
        self._path = directory.of(name)
        self._keys = keys
        self._data = memoryview(directory.read(name))

    def _refuse(self, why: str) -> SnapshotError:
        return SnapshotError(f"{self._path} {why}", path=self._path)

    def _damaged(self, what: str) -> SnapshotError:
        return self._refuse(
            f"is damaged ({what}): nothing was restored, because sessions that logged out would be back. "
            f"Bring it back "
            "from a copy; or move the directory away to start without its sessions"
        )

    def frames(self, generation: int) -> Iterator[tuple[int, bytes]]:
        data = self._data
        if len(data) < SEGMENT_SIZE:
            raise self._damaged("it is shorter than its header")
        magic, major, _minor, features, named, nonce, number, size = SEGMENT.unpack_from(data)
        if (
            magic[:7] != MAGIC[:7]
            or _table.checksum(data[: SEGMENT.size]) != CHECKSUM.unpack_from(data, SEGMENT.size)[0]
            or any(data[SEGMENT.size + CHECKSUM.size : SEGMENT_SIZE])
        ):
            raise self._damaged("its header")
        if magic != MAGIC or major != MAJOR or features not in (0, ENCRYPTED, ENDS):
            raise self._refuse(
                f"is of version {major} with features {features:#x}, which this version of sessile does "
                f"not know: "
                "open it with the version that wrote it, or move the directory away"
            )
        key = next((each for each in self._keys if each.number == number), None)
        if key is None:
            raise self._refuse(
                "was made with another secret: pass the secret= that it was made with (a list keeps old "
                "ones), or move "
                "the directory away to start without its sessions"
            )
        if len(data) != size or named != generation:
            raise self._damaged("its size or its name")
        sealer = Sealer(key, nonce, self._path) if features == ENCRYPTED else None
        for kind, payload in self._batches(key.ends if features == ENDS else key.journal, sealer):
            if features == ENDS and kind not in (KIND_REVOKE, KIND_REVOKE_ALL):
                raise self._damaged("a frame")
            yield kind, payload

    def _batches(self, secret: bytes, sealer: Sealer | None) -> Iterator[tuple[int, bytes]]:
        data, place, expected = self._data, SEGMENT_SIZE, 0
        segment = bytes(data[:SEGMENT_SIZE])
        while place + BATCH_SIZE <= len(data):
            frames = self._batch(secret, segment, place, expected)
            if frames is None:
                self._require_torn(secret, segment, place, expected)
                return
            length = len(frames)
            plain = frames if sealer is None else sealer.open(expected, frames, segment, self._path)
            yield from self._split(plain)
            place += BATCH_SIZE + length + (-length) % _ALIGN
            expected += 1

    def _batch(self, secret: bytes, segment: bytes, place: int, expected: int) -> bytes | None:
        """The frames of a valid batch at `place`; None: there is none."""
        data = self._data
        magic, length, number, _count, _empty = BATCH.unpack_from(data, place)
        if magic != BATCH_MAGIC or number < expected or length > len(data) - place - BATCH_SIZE:
            return None
        frames = bytes(data[place + BATCH_SIZE : place + BATCH_SIZE + length])
        head = bytes(data[place : place + BATCH_HEAD])
        mac = bytes(data[place + BATCH_HEAD : place + BATCH_SIZE])
        if not hmac.compare_digest(batch_mac(secret, segment, head, frames), mac):
            return None
        if number != expected:
            raise self._damaged(f"batch {expected} is missing")
        padding = data[place + BATCH_SIZE + length : place + BATCH_SIZE + length + (-length) % _ALIGN]
        if any(padding):
            raise self._damaged(f"behind batch {expected}")
        return frames

    def _require_torn(self, secret: bytes, segment: bytes, place: int, expected: int) -> None:
        """What is at `place` must be nothing, or a batch that a power cut tore: a sector of it was never
        written."""
        data = self._data
        end = len(data)
        if _is_zero(data[place:end]):
            return
        for later in range(place + _ALIGN, end - BATCH_SIZE + 1, _ALIGN):
            if bytes(data[later : later + 4]) == BATCH_MAGIC and self._batch(secret, segment, later, expected) is not None:
                raise self._damaged(f"batch {expected} is not as it was written, and others follow")
        if _is_zero(data[place : min(end, place + SECTOR - place % SECTOR)]):
            return  # of its head nothing was written
        magic, length, number, _count, empty = BATCH.unpack_from(data, place)
        checksum = CHECKSUM.unpack_from(data, place + BATCH.size)[0]
        if (
            magic != BATCH_MAGIC
            or _table.checksum(data[place : place + BATCH.size]) != checksum
            or number != expected
            or length > end - place - BATCH_SIZE
            or not _is_zero(data[place + BATCH_SIZE + length : end])
        ):
            raise self._damaged(f"batch {expected}")
        # Nobody writes part of a sector: if no more of them are empty than were written so, none is missing.
        if sum(_is_zero(piece) for piece in _sectors(data, place, place + BATCH_SIZE + length)) <= empty:
            raise self._damaged(f"batch {expected}")

    def _split(self, frames: bytes) -> Iterator[tuple[int, bytes]]:
        place = 0
        while place < len(frames):
            if len(frames) - place < FRAME.size:
                raise self._damaged("a frame")
            kind, length = FRAME.unpack_from(frames, place)
            payload = frames[place + FRAME.size : place + FRAME.size + length]
            least = {KIND_REVOKE: HANDLE.size, KIND_REVOKE_ALL: EPOCH.size, KIND_REKEY: REKEY.size}.get(kind)
            if len(payload) != length or (length != least if least else kind != KIND_LOGIN or length < LOGIN.size):
                raise self._damaged("a frame")
            if kind == KIND_LOGIN and LOGIN.size < length < LOGIN.size + 84:
                raise self._damaged("a frame")
            yield kind, payload
            place += FRAME.size + length + (-length) % 8


def _sectors(data: memoryview, place: int, end: int) -> Iterator[memoryview]:
    """The parts of data[place:end] that lie in one sector each."""
    while place < end:
        following = min(end, place - place % SECTOR + SECTOR)
        yield data[place:following]
        place = following


def _is_zero(data: memoryview) -> bool:
    return not any(data)
