"""Figures of snapshots and journal, beside their targets.

python -m benchmarks.persistence             a million sessions, about a minute
python -m benchmarks.persistence --quick     small: to see that it runs, not for figures

They depend on the disk: put the directory on the one that is meant with TMPDIR.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable

import sessile
from benchmarks import record
from benchmarks.record import Section
from sessile import persistence

PAYLOAD = {"text": "x" * 150}
SECRET = b"benchmark" * 4


def open_store(directory: str, count: int) -> sessile.Store:
    return sessile.Store(
        capacity=2 * count,
        memory=max(64 << 20, 1024 * count),
        anonymous_share=1.0,
        secret=SECRET,
        snapshot_dir=directory,
        snapshot_interval=86_400,
    )


def crash(store: sessile.Store) -> None:
    """Lose the table without a last snapshot."""
    held = store._persistence
    assert held is not None
    held._stop.set()
    persistence._all.discard(held)
    held._let_go()
    store._persistence = None
    store.close()


def loads(store: sessile.Store, ids: list[str], stop: Callable[[], bool]) -> list[int]:
    """Nanoseconds of loads, one after the other, until `stop`."""
    times = []
    clock = time.perf_counter_ns
    place = 0
    while not stop():
        for _ in range(100):
            before = clock()
            store.load(ids[place % len(ids)])
            times.append(clock() - before)
            place += 7919
    return times


def p99(times: list[int]) -> float:
    return sorted(times)[len(times) * 99 // 100] / 1000


def snapshot(section: Section, store: sessile.Store, ids: list[str], count: int) -> None:
    end = time.monotonic() + 1
    quiet = p99(loads(store, ids, lambda: time.monotonic() > end))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall = time.process_time(), time.perf_counter()
    path = store.snapshot()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    size = path.stat().st_size / count
    payload = len(store.load(ids[0])._fields)  # type: ignore[union-attr]
    section.row("snapshot, CPU seconds (wall with the sync)", "<= 0.5", f"{cpu:.3f} ({wall:.3f})")
    section.row("memory above the table, MiB", "<= 16", f"{grown / 1024:.1f}")
    section.row(f"size, bytes a session of {payload}", f"<= {1.15 * payload + 64:.0f}", f"{size:.0f}")
    thread = threading.Thread(target=store.snapshot)
    thread.start()
    busy = p99(loads(store, ids, lambda: not thread.is_alive()))
    thread.join()
    section.row(
        "load p99 meanwhile, µs (without)",
        "<= 10 and 1.3 x",
        f"{busy:.2f} ({quiet:.2f}): {busy / quiet:.2f} x",
    )


def restore(section: Section, directory: str, store: sessile.Store, count: int) -> sessile.Store:
    crash(store)
    cpu, wall = time.process_time(), time.perf_counter()
    store = open_store(directory, count)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    assert store.stats().sessions == count
    section.row("restore, wall seconds (CPU)", "<= 0.5", f"{wall:.3f} ({cpu:.3f})")
    return store


def logouts(section: Section, directory: str, store: sessile.Store, times: int) -> None:
    path = os.path.join(directory, "beside")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(descriptor, bytes(64 * 1024), 0)
    os.fsync(descriptor)
    syncs, ends = [], []
    sessions = [store.create(PAYLOAD) for _ in range(times)]
    for number, session in enumerate(sessions):  # in turn: the disk is not as fast at any time
        began = time.perf_counter_ns()
        os.pwrite(descriptor, bytes(128), number % 400 * 128)
        os.fdatasync(descriptor)
        between = time.perf_counter_ns()
        session.destroy()
        syncs.append(between - began)
        ends.append(time.perf_counter_ns() - between)
    os.close(descriptor)
    os.unlink(path)
    sync, end = sorted(syncs)[times // 2] / 1000, sorted(ends)[times // 2] / 1000
    section.row(
        "a durable log-out, median µs (one fdatasync)",
        "<= 1.5 x",
        f"{end:.0f} ({sync:.0f}): {end / sync:.2f} x",
    )
    sessions = [store.create(PAYLOAD) for _ in range(64 * 10)]

    def work(part: list[sessile.Session]) -> None:
        for session in part:
            session.destroy()

    threads = [threading.Thread(target=work, args=(sessions[first::64],)) for first in range(64)]
    began_all = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(sessions) / (time.perf_counter() - began_all)
    section.row(
        "64 at once, a second (one by one)",
        ">= 10 x",
        f"{rate:.0f} ({1e6 / end:.0f}): {rate * end / 1e6:.1f} x",
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true")
    quick = arguments.parse_args().quick
    count = 10_000 if quick else 1_000_000
    where = tempfile.mkdtemp()
    directory = os.path.join(where, "snapshots")
    try:
        store = open_store(directory, count)
        ids = [store.create(PAYLOAD).id or "" for _ in range(count)]
        command = "python -m benchmarks.persistence"
        with record.section("persistence", f"Snapshots and journal, {count:,} sessions", command, quick=quick) as section:
            snapshot(section, store, ids, count)
            store = restore(section, directory, store, count)
            logouts(section, where, store, 50 if quick else 400)
        crash(store)
    finally:
        shutil.rmtree(where)


if __name__ == "__main__":
    main()
