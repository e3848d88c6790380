"""The command line, as a person or a script calls it: in a process of its own, on a table that others use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import sessile
from sessile.testing import advance

SECRET = "s" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table"


@pytest.fixture
def store(path: Path) -> Iterator[sessile.Store]:
    with sessile.Store(path, capacity=1000, memory="2 MiB", secret=SECRET) as store:
        yield store


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sessile", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_stats_are_the_stores(store: sessile.Store, path: Path) -> None:
    store.create({"a": 1})
    store.create(owner="alice")
    done = call("stats", "--json", path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["sessions"] == 2
    assert figures["owned"] == 1
    assert figures["capacity"] == 1000
    text = call("stats", path).stdout
    assert "2 of 1,000" in text


def test_sessions_of_all_and_of_an_owner_show_no_id(store: sessile.Store, path: Path) -> None:
    alice = store.create({"a": 1}, owner="alice", device={"browser": "Firefox"})
    anonymous = store.create({"b": 2})
    everyone = call("sessions", path).stdout
    assert alice.handle in everyone
    assert anonymous.handle in everyone
    assert alice.id not in everyone
    listed = json.loads(call("sessions", "--json", "alice", path).stdout)
    assert [info["handle"] for info in listed] == [alice.handle]
    assert listed[0]["device"] == {"browser": "Firefox"}
    assert listed[0]["expires"].endswith("+00:00")


def test_device_text_cannot_drive_the_terminal(store: sessile.Store, path: Path) -> None:
    store.create(owner="mallory", device={"browser": "\x1b[2J"})
    assert "\x1b" not in call("sessions", "mallory", path).stdout


def test_revoke_logs_out_at_once_for_the_running_processes(store: sessile.Store, path: Path) -> None:
    """LIF-11, LIF-12: one device by its handle, then everywhere."""
    first, second = store.create(owner="alice"), store.create(owner="alice")
    bob = store.create(owner="bob")
    assert call("revoke", "alice", "--handle", first.handle, path).returncode == 0
    assert store.load(first.id) is None
    assert store.load(second.id) is not None
    done = call("revoke", "alice", "--all", path)
    assert (done.returncode, done.stdout) == (0, "1 sessions ended\n")
    assert store.load(second.id) is None
    assert store.load(bob.id) is not None
    assert call("revoke", "alice", path).returncode == 1


def test_sweep_frees_what_is_past_its_deadline(store: sessile.Store, path: Path) -> None:
    for _ in range(3):
        store.create({"a": 1}, idle_timeout=60)
    kept = store.create({"a": 1})
    advance(store, 61)
    done = call("sweep", "--json", path)
    assert json.loads(done.stdout) == {"freed": 3}
    assert store.load(kept.id) is not None


def test_check_finds_nothing_in_a_sound_table_and_repairs_damage(store: sessile.Store, path: Path) -> None:
    session = store.create({"name": "a-field-that-is-damaged-below"})
    assert call("check", path).returncode == 0
    content = path.read_bytes()
    place = content.index(b"a-field-that-is-damaged-below")
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"X")
    done = call("check", path)
    assert done.returncode == 1
    assert "S1" in done.stdout
    call("check", "--repair", path)
    assert call("check", path).returncode == 0
    assert store.load(session.id) is None
    assert store.stats().quarantined == 1


def test_stats_watch_refreshes_until_interrupted(store: sessile.Store, path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "sessile", "stats", "--json", "--watch", "0.05", str(path)],
        stdout=subprocess.PIPE,
        text=True,
        # Who started the tests in the background made them ignore it, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["sessions"] == 0
        store.create({"a": 1})
        deadline = time.monotonic() + 30
        while json.loads(process.stdout.readline())["sessions"] != 1:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    done = call("stats", tmp_path / "none")
    assert done.returncode == 3
    assert "there is no table" in done.stderr
    assert not (tmp_path / "none").exists()


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"no table" * 1000)
    other.chmod(0o600)
    done = call("stats", other)
    assert done.returncode == 4
    assert done.stderr.startswith("sessile: ")
    assert other.read_bytes() == b"no table" * 1000


def test_a_table_that_others_may_read_is_refused(store: sessile.Store, path: Path) -> None:
    """MPR-03: checked on open."""
    os.chmod(path, 0o644)
    assert call("stats", path).returncode == 4


@pytest.mark.parametrize("arguments", [(), ("stats",), ("unknown", "t"), ("revoke", "alice")])
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert call(*arguments).returncode == 2


@pytest.mark.parametrize("command", ["stats", "sessions", "revoke", "sweep", "check"])
def test_every_command_has_help(command: str) -> None:
    done = call(command, "--help")
    assert done.returncode == 0
    assert "TABLE" in done.stdout
