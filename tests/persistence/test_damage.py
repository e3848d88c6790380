"""Every bit and every length of an image and of a journal: refused, or harmless (PER-04, PER-12)."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from crashing import SECRET, Stores

import sessile
from sessile.disk import Directory
from sessile.journal import Replay, read_journal
from sessile.keys import Keys
from sessile.snapshot import ImageKey, images_in, open_image

KEYS = [ImageKey.of(Keys.of(SECRET).snapshot)]


@pytest.fixture
def directory(stores: Stores) -> Iterator[Directory]:
    """One small image, and a journal with frames of every kind."""
    store = stores.open()
    store.create({"n": 1}, owner="eva")
    ended, rotated, renewed = (store.create({}, owner="eva") for _ in range(3))
    store.snapshot()
    ended.destroy()
    rotated.rotate()
    again = store.load(renewed.id)
    assert again is not None
    again._renew()
    visitor = store.open()
    visitor.login("bob")
    store.revoke_all()
    stores.crash(store)
    opened = Directory(str(stores.directory))
    yield opened
    opened.close()


def read_whole(directory: Directory, generation: int) -> int:
    """How many bytes the blocks of an image have."""
    image = open_image(directory, generation, KEYS)
    try:
        return sum(len(image.read(block, bytearray())) for block in image.blocks)
    finally:
        image.close()


@contextlib.contextmanager
def changed(path: Path, data: bytes) -> Iterator[None]:
    kept = path.read_bytes()
    _put(path, data)
    try:
        yield
    finally:
        _put(path, kept)


def _put(path: Path, data: bytes) -> None:
    """In place: some file systems write a file that was emptied to the disk at once."""
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()


@pytest.mark.slow
def test_per_04_every_bit_of_an_image_counts(stores: Stores, directory: Directory) -> None:
    """PER-04: each single bit, each shorter length, anything appended: the whole file is refused."""
    generation = images_in(directory.names())[-1]
    path = Path(directory.of(f"image-{generation:016x}.sessile"))
    whole = path.read_bytes()
    assert read_whole(directory, generation) > 4 * 84
    cases = [whole[:length] for length in range(len(whole))]
    cases += [whole + b"\0", whole + whole]
    for bit in range(len(whole) * 8):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        cases.append(bytes(data))
    for data in cases:
        with changed(path, data), pytest.raises(sessile.SnapshotError):
            read_whole(directory, generation)


@pytest.mark.slow
def test_per_09_every_bit_of_a_journal_counts(stores: Stores, directory: Directory) -> None:
    """PER-09: each single bit and each shorter length is refused, or changes nothing that it says. Of the zeroes behind
    the last batch some; all with `make -f tests/persistence/Makefile every-bit`, about a quarter of an hour."""
    step = int(os.environ.get("SESSILE_EVERY", "4099"))
    path = stores.segments()[-1]
    whole = path.read_bytes()
    expected = read_journal(directory, 0, KEYS)
    assert len(expected.revoked) == 1
    assert len(expected.rekeys) == 2
    assert len(expected.logins) == 1
    assert expected.epoch == 1
    used = len(whole.rstrip(b"\0"))
    assert used < 4096
    for length in [*range(used + 64), *range(used + 64, len(whole), min(step, 997))]:
        with changed(path, whole[:length]), pytest.raises(sessile.SnapshotError):
            read_journal(directory, 0, KEYS)
    for bit in [*range((used + 64) * 8), *range((used + 64) * 8, len(whole) * 8, step)]:
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        with changed(path, bytes(data)):
            try:
                found = read_journal(directory, 0, KEYS)
            except sessile.SnapshotError:
                continue
            assert found == expected, f"bit {bit}"


def test_a_torn_last_batch_is_an_ordinary_power_cut(stores: Stores) -> None:
    """Any sectors of the last batch may be missing; what was told before is there."""
    store = stores.open(max_session_size="64 KiB")
    store.create({"n": 1}).destroy()
    before = stores.segments()[-1].read_bytes()
    visitor = store.open()
    visitor["text"] = "x" * 3000
    visitor.login("eva", keep=True)
    stores.crash(store)
    path = stores.segments()[-1]
    whole = path.read_bytes()
    assert len(whole) == len(before)
    first = next(place for place in range(len(whole)) if whole[place] != before[place])
    end = len(whole.rstrip(b"\0"))
    sectors = range(first // 512, (end + 511) // 512)
    assert len(sectors) > 5
    opened = Directory(str(stores.directory))
    for missing in range(1, 1 << len(sectors)):
        data = bytearray(whole)
        for number, sector in enumerate(sectors):
            if missing >> number & 1:
                start = max(sector * 512, first)
                data[start : sector * 512 + 512] = before[start : sector * 512 + 512]
        with changed(path, bytes(data)):
            replay = read_journal(opened, 0, KEYS)
        assert isinstance(replay, Replay)
        assert len(replay.revoked) == 1
        assert replay.logins == []
    opened.close()


def test_a_missing_batch_in_the_middle_is_damage(stores: Stores) -> None:
    """Only the last can be torn: the next was written after the one before was durable."""
    store = stores.open()
    for _ in range(5):
        store.create({"n": 1}).destroy()
    stores.crash(store)
    path = stores.segments()[-1]
    whole = path.read_bytes()
    opened = Directory(str(stores.directory))
    assert len(read_journal(opened, 0, KEYS).revoked) == 5
    for number in range(4):
        data = bytearray(whole)
        start = 64 + number * 128
        data[start : start + 128] = bytes(128)
        with changed(path, bytes(data)), pytest.raises(sessile.SnapshotError, match="damaged"):
            read_journal(opened, 0, KEYS)
    swapped = whole[:64] + whole[192:320] + whole[64:192] + whole[320:]
    with changed(path, swapped), pytest.raises(sessile.SnapshotError, match="damaged"):
        read_journal(opened, 0, KEYS)
    opened.close()


def test_a_batch_of_another_segment_is_damage(stores: Stores) -> None:
    store = stores.open()
    store.create({"n": 1}).destroy()
    store.snapshot()
    store.create({"n": 1}).destroy()
    stores.crash(store)
    one, other = stores.segments()
    opened = Directory(str(stores.directory))
    with (
        changed(other, other.read_bytes()[:64] + one.read_bytes()[64:]),
        pytest.raises(sessile.SnapshotError),
    ):
        read_journal(opened, 0, KEYS)
    opened.close()


def test_opening_refuses_a_damaged_journal_and_restores_nothing(stores: Stores, tmp_path: Path) -> None:
    """Never a half-restored store: also the table of a name is empty, and the next one to open it
    restores."""
    table = tmp_path / "tables" / "shop"
    table.parent.mkdir(mode=0o700)
    store = stores.open()
    session = store.create({"n": 1})
    ended = store.create({"n": 2})
    store.snapshot()
    ended.destroy()
    stores.crash(store)
    path = stores.segments()[-1]
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    with changed(path, bytes(data)):
        for _ in range(2):
            with pytest.raises(sessile.SnapshotError, match="damaged"):
                stores.open(path=table)
    store = stores.open(path=table)
    assert store.load(session.id) is not None
    assert store.load(ended.id) is None


def test_per_12_no_file_is_read_that_is_too_large_to_be_one(stores: Stores) -> None:
    """PER-12: memory is bounded by the size of the file, and that is bounded."""
    store = stores.open()
    store.snapshot()
    stores.crash(store)
    os.truncate(stores.images()[-1], 1 << 43)
    with pytest.raises(sessile.SnapshotError, match="no snapshot is as large"):
        stores.open()
