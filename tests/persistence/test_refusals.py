"""What is refused at opening, each as a SnapshotError that says what to do, and with no file changed (PER-01,
PER-03, PER-04, PER-07, PER-10); what the disk refuses (PER-11)."""

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crashing import SECRET, Stores
from disks import Recorder

import sessile
from sessile import persistence
from sessile.testing import EventRecorder


@pytest.fixture
def used(stores: Stores) -> Stores:
    """A directory with two images, a journal and their secret."""
    store = stores.open()
    session = store.create({"n": 1}, owner="eva")
    store.create({"n": 2})
    store.snapshot()
    session.destroy()
    stores.crash(store)
    return stores


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def refused(stores: Stores, match: str, **options: Any) -> None:
    """Opening is refused and changes nothing; after the damage is undone it would still work."""
    before = contents(stores.directory)
    with pytest.raises(sessile.SnapshotError, match=match) as caught:
        stores.open(**options)
    assert str(stores.directory) in str(caught.value)
    assert caught.value.path.startswith(str(stores.directory))
    after = contents(stores.directory)
    before.pop("LOCK", None)
    after.pop("LOCK", None)
    assert after == before


def test_a_directory_that_is_not_there_is_made_for_this_user_alone(stores: Stores) -> None:
    """PER-01, PER-02: whatever the umask."""
    before = os.umask(0)
    try:
        store = stores.open()
        store.create({"n": 1}).destroy()
        store.snapshot()
    finally:
        os.umask(before)
    assert stat.S_IMODE(stores.directory.stat().st_mode) == 0o700
    for path in stores.directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_per_01_a_directory_that_others_can_write_to_is_refused(stores: Stores, mode: int) -> None:
    """PER-01."""
    stores.directory.mkdir()
    stores.directory.chmod(mode)
    with pytest.raises(sessile.SnapshotError, match="chmod 700"):
        stores.open()
    assert list(stores.directory.iterdir()) == []


def test_per_01_a_link_to_a_directory_is_refused(stores: Stores) -> None:
    """PER-01."""
    real = stores.directory.with_name("real")
    real.mkdir(mode=0o700)
    stores.directory.symlink_to(real)
    with pytest.raises(sessile.SnapshotError, match="symbolic link"):
        stores.open()
    assert list(real.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give files away")
def test_per_01_per_03_what_belongs_to_another_user_is_refused(used: Stores) -> None:
    """PER-01, PER-03."""
    os.chown(used.images()[-1], 12345, -1)
    refused(used, "belongs to user 12345")
    os.chown(used.images()[-1], 0, -1)
    os.chown(used.directory, 12345, -1)
    with pytest.raises(sessile.SnapshotError, match="belongs to user 12345"):
        used.open()
    os.chown(used.directory, 0, -1)
    assert used.open().stats().sessions == 1


@pytest.mark.parametrize("kind", ["image", "journal", "floor"])
def test_per_03_only_a_plain_file_of_this_user_is_read(used: Stores, kind: str) -> None:
    """PER-03: a symbolic link, a hard link, a pipe, a directory, a file that others can read."""
    path = {
        "image": used.images()[-1],
        "journal": used.segments()[-1],
        "floor": used.directory / "floor",
    }[kind]
    kept = path.read_bytes()
    path.chmod(0o640)
    refused(used, "0600")
    path.chmod(0o600)
    aside = used.directory.with_name("aside")
    os.link(path, aside)
    refused(used, "hard link")
    path.unlink()
    path.symlink_to(aside)
    with pytest.raises(sessile.SnapshotError, match="symbolic link"):
        used.open()
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(sessile.SnapshotError, match="not a regular file"):
        used.open()
    path.unlink()
    path.mkdir(mode=0o700)
    with pytest.raises(sessile.SnapshotError, match="not a regular file"):
        used.open()
    path.rmdir()
    path.touch(mode=0o600)
    path.write_bytes(kept)
    assert used.open().stats().sessions == 1


def test_per_02_planted_links_are_replaced_and_not_followed(used: Stores) -> None:
    """PER-02: what lies under the next names is not written through."""
    target = used.directory.with_name("target")
    target.write_text("mine")
    store = used.open()
    for ahead in range(1, 5):
        generation = store._generation()[0] + ahead
        (used.directory / f"image-{generation:016x}.sessile").symlink_to(target)
    store.snapshot()
    assert target.read_text() == "mine"
    assert not used.images()[-5].is_symlink()


def test_per_04_another_secret_is_refused(used: Stores) -> None:
    """PER-04: it says so, and does not call it damage."""
    refused(used, "another secret", secret=b"another secret of thirty-two bytes")


def test_per_07_a_missing_secret_is_refused(stores: Stores) -> None:
    """PER-07: a new one is not made; what needs the old one would be lost without a word."""
    store = stores.open(secret=None)
    store.create({"n": 1})
    store.snapshot()
    stores.crash(store)
    key = stores.directory / "secret.key"
    kept = key.read_bytes()
    key.unlink()
    refused(stores, r"secret\.key is missing", secret=None)
    key.touch(mode=0o600)
    key.write_bytes(kept)
    assert stores.open(secret=None).stats().sessions == 1


@pytest.mark.parametrize("which", ["image", "journal"])
@pytest.mark.parametrize("change", ["version", "feature", "letter"])
def test_per_10_an_unknown_version_refuses_the_whole_file(used: Stores, which: str, change: str) -> None:
    """PER-10: also with valid checksums."""
    from sessile import _table
    from sessile.journal import SEGMENT
    from sessile.snapshot import HEADER

    path = used.images()[-1] if which == "image" else used.segments()[-1]
    size = HEADER.size if which == "image" else SEGMENT.size
    data = bytearray(path.read_bytes())
    if change == "version":
        data[8] = 9
    elif change == "letter":
        data[7] = ord("9")
    elif which == "image":
        data[17] |= 0x80
    else:
        data[13] |= 0x80
    data[size : size + 4] = _table.checksum(bytes(data[:size])).to_bytes(4, "little")
    path.write_bytes(data)
    refused(used, "does not know")


def test_an_image_under_another_ones_name_is_refused(used: Stores) -> None:
    path = used.images()[-1]
    path.rename(used.directory / "image-00000000000000ff.sessile")
    refused(used, "renamed")


def test_per_09_an_image_from_before_the_journal_is_refused(stores: Stores) -> None:
    """PER-09: an old copy that is put back would bring back who logged out since."""
    store = stores.open()
    session = store.create({"n": 1})
    old = store.snapshot()
    kept = old.read_bytes()
    session.destroy()
    for _ in range(4):
        store.snapshot()
    stores.crash(store)
    for path in stores.images():
        path.unlink()
    old.touch(mode=0o600)
    old.write_bytes(kept)
    refused(stores, "older than the journal")


def test_the_generation_before_can_be_chosen_by_hand(used: Stores) -> None:
    """What the text about a damaged image advises works, and brings nobody back."""
    latest = used.images()[-1]
    store = used.open()
    store.create({"n": 3})
    store.snapshot()
    stores_images = used.images()
    assert latest in stores_images
    used.crash(store)
    newest = used.images()[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    refused(used, "damaged")
    newest.unlink()
    assert used.open().stats().sessions == 1


def test_a_directory_belongs_to_one_table(used: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "_LOCK_WAIT", 0.1)
    store = used.open()
    with pytest.raises(sessile.SnapshotError, match="in use by another table"):
        used.open()
    used.crash(store)
    used.open()


def test_an_image_that_is_too_large_for_the_table_is_refused(stores: Stores) -> None:
    store = stores.open(anonymous_share=1.0)
    for number in range(200):
        store.create({"n": number})
    store.snapshot()
    stores.crash(store)
    refused(stores, "capacity=100", capacity=100, memory="2 MiB")
    assert stores.open(anonymous_share=1.0).stats().sessions == 200


def test_encrypt_without_cryptography_says_what_to_install(stores: Stores) -> None:
    script = (
        "import sys; sys.modules['cryptography.hazmat.primitives.ciphers.aead'] = None\n"
        "import sessile\n"
        "try:\n"
        f"    sessile.Store(capacity=1000, memory='4 MiB', secret={SECRET!r}, snapshot_dir=sys.argv[1], "
        f"encrypt=True)\n"
        "except sessile.SnapshotError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(stores.directory)], capture_output=True, text=True, check=True)
    assert "pip install sessile[crypto]" in done.stdout


# ---- what the disk refuses ----


def failing(call: str, number: int, after: int = 0) -> Callable[[str], None]:
    """Refuses a call from the `after`-th of its kind on."""
    seen = 0

    def fail(name: str) -> None:
        nonlocal seen
        if name == call:
            seen += 1
            if seen > after:
                raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    ("call", "after"),
    [("open", 0), ("write", 0), ("write", 1), ("write", 2), ("fsync", 0), ("rename", 0)],
)
def test_per_11_a_disk_that_fails_leaves_the_snapshot_before(
    stores: Stores, in_place: Callable[[Any], None], call: str, number: int, after: int
) -> None:
    """PER-11: an event, and the store goes on."""
    events = EventRecorder()
    store = stores.open(on_event=events)
    session = store.create({"n": 1})
    store.snapshot()
    before = {path.name: path.read_bytes() for path in stores.images()}
    events.take()
    recorder = Recorder()
    recorder.fails = failing(call, number, after)
    in_place(recorder)
    store.create({"n": 2})
    events.take()
    with pytest.raises(sessile.SnapshotError, match=os.strerror(number)):
        store.snapshot()
    assert events.kinds == ["snapshot_failed"]
    told = events.take()[0].data
    assert told is not None
    assert told["path"] == str(stores.directory)
    assert os.strerror(number) in told["error"]
    for name, data in before.items():
        assert (stores.directory / name).read_bytes() == data
    assert store.load(session.id) is not None
    recorder.fails = lambda call: None
    store.snapshot()
    in_place(os)
    store = stores.reopen(store)
    assert store.stats().sessions == 2


@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename", "pwrite", "fdatasync"])
def test_a_journal_that_fails_says_so_and_is_tried_again(stores: Stores, in_place: Callable[[Any], None], call: str) -> None:
    """Dead in memory, an event, an exception; and durable with the next that succeeds, on a new file."""
    events = EventRecorder()
    store = stores.open(on_event=events)
    first, second = store.create({"n": 1}), store.create({"n": 2})
    store.snapshot()
    events.take()
    recorder = Recorder()
    recorder.fails = failing(call, errno.EIO)
    in_place(recorder)
    with pytest.raises(sessile.SnapshotError, match="it has ended"):
        first.destroy()
    assert "snapshot_failed" in events.kinds
    assert store.load(first.id) is None
    recorder.fails = lambda call: None
    second.destroy()
    in_place(os)
    store = stores.reopen(store)
    assert store.load(first.id) is None
    assert store.load(second.id) is None


def test_what_a_killed_writer_left_is_swept(used: Stores) -> None:
    left = used.directory / "image-00000000000000aa.sessile.0123456789abcdef.new"
    left.write_bytes(b"half")
    left.chmod(0o600)
    store = used.open()
    store.snapshot()
    assert not left.exists()


def test_a_copy_of_the_directory_opens_elsewhere(used: Stores, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(used.directory, copy)
    copy.chmod(0o700)
    for path in copy.iterdir():
        path.chmod(0o600)
    assert used.open(snapshot_dir=copy).stats().sessions == 1
