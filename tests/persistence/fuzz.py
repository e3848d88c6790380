"""Images and journals with bytes changed at random, and authenticated again: refused, or read without harm (PER-12).

    python tests/persistence/fuzz.py [--seconds N] [--seed N]

Without the second half every change would end at the MAC: here it is right, and checksums mostly are, so that what is
behind them is reached. A seed says all that is done, because the files that are changed are always the same, those in
`fuzzed`, and so is the clock: what went wrong with a seed goes wrong again, and `FOUND_SEEDS` are tried in every run of
the tests. `make fuzz-snapshots` runs this on the sanitized build, since records go on to C, and then the fuzzer of what C
reads of them, fuzz_import.c.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import hmac
import logging
import random
import shutil
import struct
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent))

from crashing import SECRET, Stores

import sessile
from sessile import _table, journal, snapshot
from sessile.codec import DecodeError
from sessile.keys import Keys
from sessile.snapshot import ImageKey

KEY = ImageKey.of(Keys.of(SECRET).snapshot)
BASE = Path(__file__).parent / "fuzzed"
FOUND_SEEDS = (201466, 1842343678)
"""Each of these showed a fault once, which is mended."""
WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def changed(chance: random.Random, data: bytes) -> bytes:
    """Some bytes, words, or pieces changed."""
    new = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if not new:
            break
        place = chance.randrange(len(new))
        how = chance.randrange(5)
        if how == 0:
            new[place] ^= 1 << chance.randrange(8)
        elif how == 1:
            new[place] = chance.randrange(256)
        elif how == 2 and len(new) >= 4:
            struct.pack_into("<I", new, place // 4 * 4 if place // 4 * 4 + 4 <= len(new) else 0, chance.choice(WORDS))
        elif how == 3:
            del new[place : place + chance.choice((1, 4, 8, 64))]
        else:
            new[place:place] = new[max(0, place - chance.choice((1, 8, 64))) : place]
    return bytes(new)


def _records(data: bytes) -> bytes:
    """The same records, each with the checksum that its bytes have, as far as they can be told apart."""
    new, place = bytearray(data), 0
    while len(new) - place >= 84:
        size = 84 + (struct.unpack_from("<I", new, place + 60)[0] & 0x1FFFFF)
        if place + size > len(new):
            break
        covered = bytes(new[place + 8 : place + 40]), bytes(new[place + 48 : place + size])
        struct.pack_into("<I", new, place, _table.checksum(covered[1], _table.checksum(covered[0])))
        new[place + 7] |= 0x80
        place += size
    return bytes(new)


def image(chance: random.Random, whole: bytes) -> bytes:
    """An image, changed somewhere, and authenticated again."""
    header = whole[: snapshot.HEADER_SIZE]
    footer = whole[-snapshot.FOOTER_SIZE : -snapshot.MAC_SIZE]
    count = snapshot.FOOTER.unpack(footer)[1]
    end = len(whole) - snapshot.FOOTER_SIZE - count * snapshot.ENTRY.size
    entries = [list(entry) for entry in snapshot.ENTRY.iter_unpack(whole[end : -snapshot.FOOTER_SIZE])]
    blocks, place = [], len(header)
    for entry in entries:
        blocks.append(whole[place : place + entry[4]])
        place += entry[4]
    what = chance.randrange(6)
    if what < 3:
        victim = chance.randrange(len(blocks))
        data = changed(chance, blocks[victim])
        blocks[victim] = _records(data) if chance.random() < 0.8 else data
    for entry, block in zip(entries, blocks, strict=True):
        entry[4], entry[5] = len(block), hashlib.sha256(block).digest()
    index = b"".join(snapshot.ENTRY.pack(*entry) for entry in entries)
    size = len(header) + sum(map(len, blocks)) + len(index) + snapshot.FOOTER_SIZE
    footer = snapshot.FOOTER.pack(*snapshot.FOOTER.unpack(footer)[:3], size, snapshot.FOOTER.unpack(footer)[4])
    if what == 3:
        index = changed(chance, index)
    elif what == 4:
        footer = changed(chance, footer).ljust(snapshot.FOOTER.size, b"\0")[: snapshot.FOOTER.size]
    elif what == 5:
        header = changed(chance, header[: snapshot.HEADER.size]).ljust(snapshot.HEADER.size, b"\0")[: snapshot.HEADER.size]
        header += snapshot.CHECKSUM.pack(_table.checksum(header))
    mac = hmac.digest(KEY.image, header + index + footer, "sha256")
    return header + b"".join(blocks) + index + footer + mac


def segment(chance: random.Random, whole: bytes) -> bytes:
    """A journal, changed in one batch, which is authenticated again."""
    head, place, batches = whole[: journal.SEGMENT_SIZE], journal.SEGMENT_SIZE, []
    while whole[place : place + 4] == journal.BATCH_MAGIC:
        length = journal.BATCH.unpack_from(whole, place)[1]
        batches.append(whole[place + journal.BATCH_SIZE : place + journal.BATCH_SIZE + length])
        place += journal.BATCH_SIZE + length + (-length) % 64
    if chance.random() < 0.1:
        fields = changed(chance, head[: journal.SEGMENT.size]).ljust(journal.SEGMENT.size, b"\0")[: journal.SEGMENT.size]
        head = (fields + journal.CHECKSUM.pack(_table.checksum(fields))).ljust(journal.SEGMENT_SIZE, b"\0")
    victim = chance.randrange(len(batches))
    batches[victim] = changed(chance, batches[victim])
    out = head
    for number, frames in enumerate(batches):
        fields = journal.BATCH.pack(journal.BATCH_MAGIC, len(frames), number, 1, 0)
        fields += journal.CHECKSUM.pack(_table.checksum(fields))
        out += fields + journal.batch_mac(KEY.journal, head, fields, frames) + frames + bytes(-len(frames) % 64)
    return out.ljust(len(whole), b"\0")[: len(whole)]


def make_base(where: Path) -> None:
    """The files that are changed: an image with sessions of all kinds, and a journal with all kinds of frames."""
    stores = Stores(where / "snapshots")
    store = stores.open()
    sessions = [store.create({"n": n}, owner=("eva", "bob")[n % 2], device={"b": "F"}) for n in range(6)]
    store.create({"theme": "dark"})
    again = store.load(sessions[0].id)
    assert again is not None
    again._renew()
    store.snapshot()
    sessions[1].destroy()
    sessions[2].rotate()
    second = store.load(sessions[3].id)
    assert second is not None
    second._renew()
    store.open().login("zoe")
    store.flush()
    stores.crash(store)
    BASE.mkdir(exist_ok=True)
    for path in (stores.images()[-1], stores.segments()[-1]):
        shutil.copy(path, BASE)


class Fuzzer:
    """Opens stores on one directory whose files are changed."""

    def __init__(self, folder: Path) -> None:
        self._stores = Stores(folder / "snapshots")
        self._stores.directory.mkdir(mode=0o700)
        self._files = {self._stores.directory / path.name: path.read_bytes() for path in sorted(BASE.iterdir())}
        (self._image,) = (path for path in self._files if path.suffix == ".sessile")
        (self._segment,) = (path for path in self._files if path.suffix == ".journal")
        self._wall_ms = snapshot.HEADER.unpack_from(self._files[self._image])[8]

    def once(self, seed: int) -> bool:
        """Whether a store opened on what this seed made of the files.

        Raises:
            AssertionError: it opened, and its table has findings.
        """
        chance = random.Random(seed)
        for path in self._stores.directory.iterdir():
            path.unlink()
        for path, data in self._files.items():
            path.touch(mode=0o600)
            path.write_bytes(data)
        if chance.random() < 0.6:
            self._image.write_bytes(image(chance, self._files[self._image]))
        else:
            self._segment.write_bytes(segment(chance, self._files[self._segment]))
        now = (self._wall_ms + 60_000) * 1_000_000
        try:
            with mock.patch("time.time_ns", return_value=now), mock.patch("os.fsync"):  # no power is cut here
                store = self._stores.open()
        except sessile.SnapshotError:
            return False
        self._stores.opened.clear()
        try:
            assert store.check() == []
            with contextlib.suppress(DecodeError):  # a field's bytes: found when they are read
                assert len(list(store.sessions())) <= 20
        finally:
            self._stores.crash(store)
        return True


def run(folder: Path, seeds: Iterable[int]) -> tuple[int, int]:
    """How many were opened, and how many refused."""
    fuzzer = Fuzzer(folder)
    counts = [0, 0]
    for seed in seeds:
        try:
            counts[fuzzer.once(seed)] += 1
        except BaseException:
            print(f"seed {seed}", file=sys.stderr)
            raise
    return counts[True], counts[False]


def _until(end: float, seed: int) -> Iterable[int]:
    while time.monotonic() < end:
        yield seed
        seed += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="the first")
    parser.add_argument("--make", action="store_true", help="make the files that are changed anew, and nothing else")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.make:
            make_base(Path(folder))
            return
        logging.disable()  # of clocks that are behind
        print(f"{_table.__file__}, from seed {given.seed} on", flush=True)
        opened, refused = run(Path(folder), _until(time.monotonic() + given.seconds, given.seed))
        print(f"opened {opened}, refused {refused}")


if __name__ == "__main__":
    main()
