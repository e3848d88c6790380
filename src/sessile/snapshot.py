"""Images: all sessions of a table in a file. docs/snapshot-format.md describes the format byte by byte.

An image is authenticated as a whole before anything in it is interpreted (PER-04); an unknown version or
feature refuses the whole file (PER-10). It holds digests, never ids (PER-05). With `encrypt` its blocks are
sealed with AES-256-GCM (PER-06); without, what sessions hold is readable to whoever can read the file, which
has mode 0600.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sessile import _table
from sessile.disk import Directory
from sessile.errors import SnapshotError
from sessile.keys import derive

if TYPE_CHECKING:
    from sessile._table import Table

__all__ = ["Block", "Image", "ImageKey", "Sealer", "image_name", "images_in", "read_image", "write_image"]

MAJOR, MINOR = 1, 0
ENCRYPTED = 1  # incompatible features
KNOWN_FEATURES = ENCRYPTED

HEADER = struct.Struct("<8sHHIIIQ16sqqQ16sII28x")  # and a checksum of four bytes
HEADER_SIZE = HEADER.size + 4
BLOCK = struct.Struct("<4sB3xIIIII")  # and a checksum of four bytes
BLOCK_SIZE = BLOCK.size + 4
FOOTER = struct.Struct("<8sQQQI4x")  # and the MAC of all before, 32 bytes
MAC_SIZE = 32
FOOTER_SIZE = FOOTER.size + MAC_SIZE
CHECKSUM = struct.Struct("<I")

MAGIC, BLOCK_MAGIC, FOOTER_MAGIC = b"SESSIMG1", b"BLK1", b"SESSEND1"
RECORDS, NEWER = 1, 2  # kinds of blocks

_PREFIX, _SUFFIX = "image-", ".sessile"
_BUFFER = 2 << 20  # bytes of records in a block at the most
_NOTES = 1024  # notes in one call
_ROUNDS = 4  # of copying sessions that got a new id meanwhile: what did during the last is in the journal
NOTE = struct.Struct("<32sQII")
_NOTE_NEWER = 2
_NOTHING = bytes(32)
assert NOTE.size == _table.NOTE_SIZE


@dataclass(frozen=True, slots=True)
class ImageKey:
    """What one secret is good for on disk.

    Attributes:
        number: names the key in a file, and tells nothing about it.
        image, journal: 32 bytes each; authenticate files.
        sealing: 32 bytes; the keys of encrypted files are derived from it.
    """

    number: int
    image: bytes = field(repr=False)
    journal: bytes = field(repr=False)
    sealing: bytes = field(repr=False)

    @classmethod
    def of(cls, snapshot: bytes) -> ImageKey:
        """Derive all of them from `Keys.snapshot`."""
        return cls(
            int.from_bytes(derive(snapshot, b"key number", 8), "little"),
            derive(snapshot, b"image"),
            derive(snapshot, b"journal"),
            derive(snapshot, b"sealing"),
        )


class Sealer:
    """AES-256-GCM with a key of one file's own; each number seals once.

    Raises:
        SnapshotError: the package `cryptography` is not installed.
    """

    def __init__(self, key: ImageKey, salt: bytes, path: str) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise SnapshotError(
                f"{path}: encrypted snapshots need the package cryptography: pip install sessile[crypto]",
                path=path,
            ) from error
        self._cipher = AESGCM(derive(key.sealing, salt))

    def seal(self, number: int, data: Any, facts: bytes) -> bytes:
        """Encrypt `data`; `facts` are authenticated with it and not hidden."""
        return self._cipher.encrypt(number.to_bytes(12, "little"), data, facts)

    def open(self, number: int, data: Any, facts: bytes, path: str) -> bytes:
        """Decrypt.

        Raises:
            SnapshotError: it was not sealed so.
        """
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(number.to_bytes(12, "little"), data, facts)
        except InvalidTag:
            raise SnapshotError(f"{path} is damaged: a sealed part cannot be opened", path=path) from None


@dataclass(frozen=True, slots=True)
class Block:
    """A part of an image: packed records, or notes of sessions that got a new id while it was taken."""

    kind: int
    epoch: int
    count: int
    data: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was read and authenticated.

    Attributes:
        generation: counts images of a directory.
        wall_ms, table_ms: the wall clock (Unix) and the table's clock when it was begun, in milliseconds.
        epoch: how often everything had been revoked when it was complete.
        blocks: in the order of the file.
    """

    generation: int
    wall_ms: int
    table_ms: int
    epoch: int
    blocks: list[Block] = field(repr=False)


def image_name(generation: int) -> str:
    """The name of an image's file."""
    return f"{_PREFIX}{generation:016x}{_SUFFIX}"


def images_in(names: Sequence[str]) -> list[int]:
    """The generations of the images among these names, ascending."""
    return sorted(
        int(name[len(_PREFIX) : -len(_SUFFIX)], 16)
        for name in names
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX) and len(name) == len(image_name(0))
    )


# ---- writing ----


class _Writer:
    """Writes one image; keeps its MAC and its counts."""

    def __init__(self, write: Callable[[Any], None], key: ImageKey, sealer: Sealer | None) -> None:
        self._write = write
        self._mac = hmac.new(key.image, digestmod="sha256")
        self._sealer = sealer
        self.size = self.blocks = self.records = 0

    def put(self, data: Any) -> None:
        self._mac.update(data)
        self._write(data)
        self.size += len(data)

    def block(self, kind: int, shard: int, epoch: int, count: int, data: Any) -> None:
        facts = struct.pack("<BIII", kind, shard, epoch, count)
        if self._sealer is not None:
            data = self._sealer.seal(self.blocks, data, facts)
        head = BLOCK.pack(BLOCK_MAGIC, kind, shard, epoch, count, len(data), _table.checksum(data))
        self.put(head + CHECKSUM.pack(_table.checksum(head)))
        self.put(data)
        self.blocks += 1
        self.records += count if kind == RECORDS else 0

    def end(self, epoch: int) -> None:
        size = self.size + FOOTER_SIZE
        self.put(FOOTER.pack(FOOTER_MAGIC, self.blocks, self.records, size, epoch))
        self._write(self._mac.digest())


def write_image(
    table: Table,
    write: Callable[[Any], None],
    key: ImageKey,
    generation: int,
    wall_ms: int,
    path: str,
    encrypt: bool,
) -> tuple[int, int]:
    """Write an image of a table that may be in full use; return its records and the table's clock at its
    begin.

    Takes about 4 MiB of memory, whatever the size of the table.

    Raises:
        OSError: whatever `write` raises.
        SnapshotError: `encrypt` without the package cryptography.
        Busy: a shard stayed taken.
    """
    salt = os.urandom(16)
    writer = _Writer(write, key, Sealer(key, salt, path) if encrypt else None)
    marks = memoryview(table._export_marks()).cast("I")
    begun_ms = table._now()
    features = ENCRYPTED if encrypt else 0
    head = HEADER.pack(
        MAGIC, MAJOR, MINOR, HEADER_SIZE, features, 0, generation, table._uuid(), wall_ms, begun_ms,
        key.number, salt, len(marks), 0,
    )  # fmt: skip
    writer.put(head + CHECKSUM.pack(_table.checksum(head)))
    _Scan(table, writer, marks, begun_ms).run()
    writer.end(table._epoch())
    return writer.records, begun_ms


class _Scan:
    """Copies the shards of a table, then the sessions that got a new id meanwhile."""

    def __init__(self, table: Table, writer: _Writer, marks: Any, begun_ms: int) -> None:
        self._table = table
        self._writer = writer
        self._marks = marks
        self._begun_ms = begun_ms
        self._buffer = bytearray(_BUFFER)
        self._notes = bytearray(_NOTES * NOTE.size)
        self._later: dict[bytes, None] = {}  # digests to be copied at the end
        self._newer: dict[int, tuple[int, bytes]] = {}
        self._former: dict[bytes, None] = {}

    def run(self) -> None:
        for shard, mark in enumerate(self._marks):
            self._copy_shard(shard, mark)
        copied: set[bytes] = set()
        for _ in range(_ROUNDS):
            for digest in self._later.keys() - copied:
                copied.add(digest)
                self._copy_later(digest)
        self._write_notes()

    def _copy_later(self, digest: bytes) -> None:
        """Copy a session that got a new id meanwhile. That may name others: the id before may forward."""
        epoch, records, length, note = self._table._export_digest(digest, self._buffer)
        if note:
            self._note(note)
        if records:
            with memoryview(self._buffer) as view:
                self._writer.block(RECORDS, 0, epoch, records, view[:length])

    def _copy_shard(self, shard: int, mark: int) -> None:
        state = self._table._export_begin(shard, mark, self._begun_ms)
        done = False
        while not done:
            done, epoch, records, length, notes = self._table._export(state, self._buffer, self._notes)
            for number in range(notes):
                self._note(self._notes[number * NOTE.size : (number + 1) * NOTE.size])
            if records:
                with memoryview(self._buffer) as view:
                    self._writer.block(RECORDS, shard, epoch, records, view[:length])

    def _note(self, note: bytes | bytearray) -> None:
        digest, handle, rotations, kind = NOTE.unpack(note)
        if digest != _NOTHING:
            self._later[digest] = None
        if kind == _NOTE_NEWER:
            known = self._newer.get(handle)
            if known is None or (rotations - known[0]) % 8192 < 4096:
                self._newer[handle] = (rotations, digest)
            if digest != _NOTHING:
                self._former[digest] = None

    def _write_notes(self) -> None:
        notes = [NOTE.pack(_NOTHING, handle, rotations, _NOTE_NEWER) for handle, (rotations, _) in self._newer.items()]
        notes += [NOTE.pack(digest, 0, 0, _NOTE_NEWER) for digest in self._former]
        most = _BUFFER // NOTE.size
        for start in range(0, len(notes), most):
            part = notes[start : start + most]
            self._writer.block(NEWER, 0, 0, len(part), b"".join(part))


# ---- reading ----


def read_image(directory: Directory, generation: int, keys: Sequence[ImageKey]) -> Image:
    """Read an image whole and authenticate it.

    Raises:
        SnapshotError: it is not to be trusted or understood; the text says why and what to do.
    """
    name = image_name(generation)
    path = directory.of(name)
    reader = _Reader(path, keys)
    data = directory.read(name, reader.take)
    return reader.parse(data, generation)


class _Reader:
    """Authenticates an image while it is read, and only then interprets it."""

    def __init__(self, path: str, keys: Sequence[ImageKey]) -> None:
        self._path = path
        self._keys = keys
        self._key: ImageKey | None = None
        self._mac: Any = None
        self._held = b""  # the end of what was read: it may be the MAC itself

    def _refuse(self, why: str) -> SnapshotError:
        return SnapshotError(f"{self._path} {why}", path=self._path)

    def _damaged(self, what: str) -> SnapshotError:
        return self._refuse(
            f"is damaged ({what}): nothing was restored. Bring it back from a copy; or remove it, and the "
            f"generation "
            "before it is taken, with the log-outs since"
        )

    def take(self, part: memoryview) -> None:
        """The next part of the file."""
        if self._mac is None:
            self._begin(part)
        if len(part) < MAC_SIZE:
            part = memoryview(self._held + bytes(part))
        else:
            self._mac.update(self._held)
        self._mac.update(part[:-MAC_SIZE])
        self._held = bytes(part[-MAC_SIZE:])

    def _begin(self, part: memoryview) -> None:
        """What must be known before the MAC can be computed: version, features, which key."""
        if len(part) < HEADER_SIZE:
            raise self._damaged("it is shorter than its header")
        magic, major, _minor, _size, features, _compatible, *rest = HEADER.unpack_from(part)
        if magic[:7] != MAGIC[:7]:
            raise self._damaged("it does not begin as one")
        if _table.checksum(part[: HEADER.size]) != CHECKSUM.unpack_from(part, HEADER.size)[0]:
            raise self._damaged("its header")
        if magic != MAGIC or major != MAJOR or features & ~KNOWN_FEATURES:
            raise self._refuse(
                f"is of version {major} with features {features:#x}, which this version of sessile does "
                f"not know: "
                "open it with the version that wrote it, or move it away"
            )
        number = rest[4]
        self._key = next((key for key in self._keys if key.number == number), None)
        if self._key is None:
            raise self._refuse(
                "was made with another secret: pass the secret= that it was made with (a list keeps old "
                "ones), or move "
                "the directory away to start without its sessions"
            )
        self._mac = hmac.new(self._key.image, digestmod="sha256")

    def parse(self, data: memoryview, generation: int) -> Image:
        if len(data) < HEADER_SIZE + FOOTER_SIZE or self._key is None:
            raise self._damaged("it is too short")
        if not hmac.compare_digest(self._mac.digest(), bytes(data[-MAC_SIZE:])):
            raise self._damaged("it fails its authentication: it was changed or cut")
        head = HEADER.unpack_from(data)
        magic, blocks, records, size, epoch = FOOTER.unpack_from(data, len(data) - FOOTER_SIZE)
        if magic != FOOTER_MAGIC or size != len(data):
            raise self._damaged("its end")
        if head[6] != generation:
            raise self._refuse(f"is of generation {head[6]:x}: it was renamed; give it its name back")
        sealer = Sealer(self._key, head[11], self._path) if head[4] & ENCRYPTED else None
        found = list(self._blocks(data[head[3] : len(data) - FOOTER_SIZE], sealer))
        if len(found) != blocks or sum(block.count for block in found if block.kind == RECORDS) != records:
            raise self._damaged("its counts")
        return Image(generation, head[8], head[9], epoch, found)

    def _blocks(self, data: memoryview, sealer: Sealer | None) -> Iterator[Block]:
        number = 0
        while data:
            if len(data) < BLOCK_SIZE:
                raise self._damaged(f"block {number}")
            magic, kind, shard, epoch, count, length, checksum = BLOCK.unpack_from(data)
            stored = data[BLOCK_SIZE : BLOCK_SIZE + length]
            if (
                magic != BLOCK_MAGIC
                or _table.checksum(data[: BLOCK.size]) != CHECKSUM.unpack_from(data, BLOCK.size)[0]
                or len(stored) != length
                or _table.checksum(stored) != checksum
                or kind not in (RECORDS, NEWER)
            ):
                raise self._damaged(f"block {number}")
            plain: Any = stored
            if sealer is not None:
                plain = sealer.open(number, stored, struct.pack("<BIII", kind, shard, epoch, count), self._path)
            yield Block(kind, epoch, count, plain)
            data = data[BLOCK_SIZE + length :]
            number += 1
