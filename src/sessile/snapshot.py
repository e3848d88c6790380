"""Images: all sessions of a table in a file. docs/snapshot-format.md describes the format byte by byte.

Header, index and footer are authenticated before anything in them is interpreted, and each block, by its
digest in the index, before it is (PER-04); so blocks can be read by several threads, each while its bytes are
in the processor's cache. An unknown version or feature refuses the whole
file (PER-10). It holds digests, never ids (PER-05). With `encrypt` its blocks are sealed with AES-256-GCM
(PER-06); without, what sessions hold is readable to whoever can read the file, which has mode 0600.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sessile import _table
from sessile.disk import Directory, OwnFile
from sessile.errors import SnapshotError
from sessile.keys import derive

if TYPE_CHECKING:
    from sessile._table import Table

__all__ = ["Block", "Image", "ImageKey", "Sealer", "image_name", "images_in", "open_image", "write_image"]

MAJOR, MINOR = 1, 0
ENCRYPTED = 1  # incompatible features
KNOWN_FEATURES = ENCRYPTED

HEADER = struct.Struct("<8sHHIIIQ16sqqQ16sII28x")  # and a checksum of four bytes
HEADER_SIZE = HEADER.size + 4
ENTRY = struct.Struct("<B3xIIIQ8x32s")  # of the index, one a block
FOOTER = struct.Struct("<8sQQQI4x")  # and a MAC of 32 bytes: of header, index and footer
MAC_SIZE = 32
FOOTER_SIZE = FOOTER.size + MAC_SIZE
CHECKSUM = struct.Struct("<I")

MAGIC, FOOTER_MAGIC = b"SESSIMG1", b"SESSEND1"
RECORDS, NEWER = 1, 2  # kinds of blocks
_HEADER_MOST = 4096
_TIME_MOST = 1 << 42  # milliseconds: the table's clock goes on from here, and has 44 bits

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
        image, journal, ends: 32 bytes each; authenticate images, journals, and journals of ends only.
        sealing: 32 bytes; the keys of encrypted files are derived from it.
    """

    number: int
    image: bytes = field(repr=False)
    journal: bytes = field(repr=False)
    ends: bytes = field(repr=False)
    sealing: bytes = field(repr=False)

    @classmethod
    def of(cls, snapshot: bytes) -> ImageKey:
        """Derive all of them from `Keys.snapshot`."""
        return cls(
            int.from_bytes(derive(snapshot, b"key number", 8), "little"),
            derive(snapshot, b"image"),
            derive(snapshot, b"journal"),
            derive(snapshot, b"ends"),
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
    """A part of an image: packed records, or notes of sessions that got a new id while it was taken.

    Attributes:
        kind: RECORDS or NEWER.
        shard: of the table that it was copied from; 0 for what is of several.
        epoch: how often everything had been revoked when it was copied.
        count: records or notes in it.
        place, length: bytes of the file.
        digest: SHA-256 of these.
    """

    kind: int
    shard: int
    epoch: int
    count: int
    place: int
    length: int
    digest: bytes = field(repr=False)

    def facts(self) -> bytes:
        """What is authenticated together with a sealed block."""
        return _facts(self.kind, self.shard, self.epoch, self.count)


def _facts(kind: int, shard: int, epoch: int, count: int) -> bytes:
    return struct.pack("<BIII", kind, shard, epoch, count)


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
    """Writes one image: what `begin` is given, blocks, index, footer."""

    def __init__(self, write: Callable[[Any], None], key: ImageKey, sealer: Sealer | None) -> None:
        self._write = write
        self._mac = hmac.new(key.image, digestmod="sha256")
        self._sealer = sealer
        self._index = bytearray()
        self.size = self.blocks = self.records = 0

    def begin(self, header: bytes) -> None:
        self._mac.update(header)
        self._put(header)

    def _put(self, data: Any) -> None:
        self._write(data)
        self.size += len(data)

    def block(self, kind: int, shard: int, epoch: int, count: int, data: Any) -> None:
        if self._sealer is not None:
            data = self._sealer.seal(self.blocks, data, _facts(kind, shard, epoch, count))
        self._index += ENTRY.pack(kind, shard, epoch, count, len(data), hashlib.sha256(data).digest())
        self._put(data)
        self.blocks += 1
        self.records += count if kind == RECORDS else 0

    def end(self, epoch: int) -> None:
        size = self.size + len(self._index) + FOOTER_SIZE
        end = bytes(self._index) + FOOTER.pack(FOOTER_MAGIC, self.blocks, self.records, size, epoch)
        self._mac.update(end)
        self._put(end + self._mac.digest())


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
    writer.begin(head + CHECKSUM.pack(_table.checksum(head)))
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


class Image:
    """An image on disk whose header, index and footer were authenticated; `read` gives its blocks.

    Attributes:
        generation: counts images of a directory.
        wall_ms, table_ms: the wall clock (Unix) and the table's clock when it was begun, in milliseconds.
        epoch: how often everything had been revoked when it was complete.
        blocks: in the order of the file.
    """

    def __init__(self, file: OwnFile, generation: int, keys: Sequence[ImageKey]) -> None:
        self._file = file
        if file.size < HEADER_SIZE + FOOTER_SIZE:
            raise self._damaged("it is too short")
        head = file.read(0, HEADER_SIZE)
        key = self._key(head, keys)
        fields = HEADER.unpack_from(head)
        size, features, salt = fields[3], fields[4], fields[11]
        self.generation, self.wall_ms, self.table_ms = fields[6], fields[8], fields[9]
        entries = self._authenticated(key, size)
        if not 0 <= self.table_ms < _TIME_MOST or not -_TIME_MOST < self.wall_ms < _TIME_MOST:
            raise self._damaged("its times")
        if self.generation != generation:
            raise self._refusal(f"is of generation {self.generation:x}: it was renamed; give it its name back")
        self._sealer = Sealer(key, salt, file.path) if features & ENCRYPTED else None
        self.blocks: list[Block] = []
        place = size
        for kind, shard, epoch, count, length, digest in ENTRY.iter_unpack(entries):
            self.blocks.append(Block(kind, shard, epoch, count, place, length, digest))
            place += length
        if place != file.size - FOOTER_SIZE - len(entries) or any(b.kind not in (RECORDS, NEWER) for b in self.blocks):
            raise self._damaged("its index")
        self._numbers = {block.place: number for number, block in enumerate(self.blocks)}

    def _refusal(self, why: str) -> SnapshotError:
        return SnapshotError(f"{self._file.path} {why}", path=self._file.path)

    def _damaged(self, what: str) -> SnapshotError:
        return self._refusal(
            f"is damaged ({what}): nothing was restored. Bring it back from a copy; or remove it, and the "
            "generation before it is taken, with the log-outs since"
        )

    def _key(self, head: bytes, keys: Sequence[ImageKey]) -> ImageKey:
        """What must be known before the MAC can be computed: version, features, which key."""
        magic, major, _minor, size, features, *rest = HEADER.unpack_from(head)
        if magic[:7] != MAGIC[:7]:
            raise self._damaged("it does not begin as one")
        if _table.checksum(head[: HEADER.size]) != CHECKSUM.unpack_from(head, HEADER.size)[0]:
            raise self._damaged("its header")
        if magic != MAGIC or major != MAJOR or features & ~KNOWN_FEATURES:
            raise self._refusal(
                f"is of version {major} with features {features:#x}, which this version of sessile does "
                "not know: open it with the version that wrote it, or move it away"
            )
        if not HEADER_SIZE <= size <= _HEADER_MOST:
            raise self._damaged("its header")
        number = rest[5]
        found = next((key for key in keys if key.number == number), None)
        if found is None:
            raise self._refusal(
                "was made with another secret: pass the secret= that it was made with (a list keeps old "
                "ones), or move the directory away to start without its sessions"
            )
        return found

    def _authenticated(self, key: ImageKey, header_size: int) -> bytes:
        """The entries of the index, when the MAC is right."""
        file = self._file
        footer = file.read(file.size - FOOTER_SIZE, FOOTER_SIZE)
        magic, blocks, records, size, self.epoch = FOOTER.unpack_from(footer)
        if magic != FOOTER_MAGIC or size != file.size or header_size + blocks * ENTRY.size + FOOTER_SIZE > size:
            raise self._damaged("its end: it was changed or cut")
        entries = file.read(size - FOOTER_SIZE - blocks * ENTRY.size, blocks * ENTRY.size)
        mac = hmac.new(key.image, file.read(0, header_size), "sha256")
        mac.update(entries)
        mac.update(footer[: FOOTER.size])
        if not hmac.compare_digest(mac.digest(), footer[FOOTER.size :]):
            raise self._damaged("it fails its authentication: it was changed or cut")
        if sum(entry[3] for entry in ENTRY.iter_unpack(entries) if entry[0] == RECORDS) != records:
            raise self._damaged("its counts")
        return entries

    def read(self, block: Block, buffer: bytearray) -> Any:
        """The bytes of a block, authenticated and opened; from any thread.

        Args:
            buffer: of this thread; grown as needed. What is returned may lie in it.

        Raises:
            SnapshotError: the block is not as it was written, or the disk fails.
        """
        if len(buffer) < block.length:
            buffer.extend(bytes(block.length - len(buffer)))
        stored = memoryview(buffer)[: block.length]
        self._file.read_into(stored, block.place)
        if not hmac.compare_digest(hashlib.sha256(stored).digest(), block.digest):
            raise self._damaged(f"block {self._numbers[block.place]}")
        if self._sealer is None:
            return stored
        return self._sealer.open(self._numbers[block.place], stored, block.facts(), self._file.path)

    def close(self) -> None:
        """Give up the file."""
        self._file.close()


def open_image(directory: Directory, generation: int, keys: Iterable[ImageKey]) -> Image:
    """Open an image and authenticate all of it but its blocks; the caller closes it.

    Raises:
        SnapshotError: it is not to be trusted or understood; the text says why and what to do.
    """
    file = directory.open(image_name(generation))
    try:
        return Image(file, generation, list(keys))
    except BaseException:
        file.close()
        raise
