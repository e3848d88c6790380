"""What the command line ends stays ended, although it has no secret (PER-09)."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from crashing import SECRET, Stores

import sessile
from sessile import _table, journal
from sessile.disk import Directory
from sessile.ends import Pass
from sessile.journal import EndsKey, Journal, read_journal
from sessile.keys import Keys
from sessile.snapshot import ImageKey

KEYS = [ImageKey.of(Keys.of(SECRET).snapshot)]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "tables" / "shop"
    path.parent.mkdir(mode=0o700)
    return path


@pytest.fixture
def run(table: Path) -> Run:
    def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "sessile", *arguments, str(table)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return command


def reboot(stores: Stores, store: sessile.Store, table: Path) -> sessile.Store:
    """The table is lost without a last snapshot."""
    stores.crash(store)
    for path in table.parent.iterdir():
        path.unlink()
    return stores.open(path=table)


@pytest.mark.shared_home
@pytest.mark.parametrize("encrypt", [False, True], ids=["plain", "sealed"])
def test_per_09_what_the_command_line_revoked_stays_revoked(stores: Stores, table: Path, run: Run, encrypt: bool) -> None:
    """PER-09: restoring the last snapshot, or the one before, brings nobody back."""
    store = stores.open(path=table, encrypt=encrypt)
    eva, bob = store.create({"n": 1}, owner="eva"), store.create({"n": 2}, owner="bob")
    store.snapshot()
    visitor = store.open()
    visitor.login("eva")
    again = store.load(eva.id)
    assert again is not None
    again._renew()
    done = run("revoke", "eva", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"revoked": 2})
    store = reboot(stores, store, table)
    assert [store.load(id) for id in (eva.id, again.id, visitor.id)] == [None] * 3
    assert store.load(bob.id) is not None
    store.snapshot()
    stores.images()[-1].unlink()
    store = reboot(stores, store, table)
    assert store.sessions("eva") == []
    assert store.load(bob.id) is not None


@pytest.mark.shared_home
def test_per_09_also_when_the_application_is_not_running(stores: Stores, table: Path, run: Run) -> None:
    """PER-09: one device of an owner; nobody else uses the table at that time."""
    store = stores.open(path=table)
    lost, kept = (store.create({"n": n}, owner="eva") for n in range(2))
    store.snapshot()
    assert lost.handle is not None
    stores.crash(store)
    assert run("revoke", "eva", "--handle", lost.handle).returncode == 0
    table.unlink()
    store = stores.open(path=table)
    assert store.load(lost.id) is None
    assert store.load(kept.id) is not None


def test_a_process_without_the_directory_is_warned(stores: Stores, table: Path) -> None:
    stores.open(path=table)
    with pytest.warns(RuntimeWarning, match="pass snapshot_dir="):
        stores.open(path=table, snapshot_dir=None)


@pytest.mark.shared_home
def test_what_cannot_be_made_durable_is_said(stores: Stores, table: Path, run: Run) -> None:
    """The sessions have ended; the status is 6, and the text names the remedy. Other commands need no pass."""
    store = stores.open(path=table)
    eva = store.create({"n": 1}, owner="eva")
    (table.parent / "shop.pass").unlink()
    assert run("stats").returncode == 0
    assert run("sessions").returncode == 0
    done = run("revoke", "eva")
    assert done.returncode == 6
    assert "would be back after a reboot" in done.stderr
    assert store.load(eva.id) is None


@pytest.mark.shared_home
def test_a_pass_of_another_table_is_not_used(stores: Stores, table: Path, run: Run) -> None:
    store = stores.open(path=table)
    store.create({"n": 1}, owner="eva")
    path = table.parent / "shop.pass"
    path.write_bytes(Pass(EndsKey(1, b"k" * 32), b"u" * 16, "/nowhere").pack())
    assert run("revoke", "eva").returncode == 6


@pytest.mark.shared_home
def test_without_a_journal_there_is_nothing_to_tell(stores: Stores, table: Path, run: Run) -> None:
    store = stores.open(path=table, durability="none")
    store.create({"n": 1}, owner="eva")
    assert run("revoke", "eva").returncode == 0
    assert stores.segments() == []


def test_every_bit_of_a_pass_counts() -> None:
    given = Pass(EndsKey(7, b"k" * 32), b"u" * 16, "/somewhere")
    whole = given.pack()
    assert Pass.unpack(whole) == given
    assert all(Pass.unpack(whole[:length]) is None for length in range(len(whole)))
    for bit in range(len(whole) * 8):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        assert Pass.unpack(bytes(data)) is None


def test_per_04_the_key_of_a_pass_is_good_for_ends_only(stores: Stores) -> None:
    """PER-04: who has it can log people out, and neither bring anybody back nor make anybody."""
    store = stores.open()
    store.snapshot()
    stores.crash(store)
    directory = Directory(str(stores.directory))
    key = EndsKey.of(KEYS[0])
    for frame in (journal.login(0, 0, b""), journal.rekey(1, 1, 1, 0, b"p" * 32, b"d" * 32, None)):
        writer = Journal(directory, key, lambda: 9)
        writer.append(frame)
        writer.close()
        with pytest.raises(sessile.SnapshotError, match="damaged"):
            read_journal(directory, 0, KEYS)
        stores.segments()[-1].unlink()
    writer = Journal(directory, key, lambda: 9)
    writer.append(journal.revoke(77))
    writer.append(journal.revoke_all(3))
    writer.close()
    replay = read_journal(directory, 0, KEYS)
    assert (replay.revoked, replay.epoch) == ({77}, 3)
    # The same as a segment of everything: its MACs are by another key.
    path = stores.segments()[-1]
    head = bytearray(path.read_bytes())
    head[12:16] = bytes(4)
    head[56:60] = struct.pack("<I", _table.checksum(bytes(head[:56])))
    path.write_bytes(head)
    with pytest.raises(sessile.SnapshotError, match="damaged"):
        read_journal(directory, 0, KEYS)
    directory.close()
    os.unlink(path)
