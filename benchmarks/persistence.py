"""Figures of snapshots and journal, beside their targets.

python -m benchmarks.persistence             a million sessions, about a minute
python -m benchmarks.persistence --quick     small: to see that it runs, not for figures

They depend on the disk: put the directory on the one that is meant with TMPDIR.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import sessile
from benchmarks import record
from benchmarks.record import Section
from sessile import disk, persistence

PAYLOAD = {"text": "x" * 150}
SECRET = b"benchmark" * 4
AT_ONCE = 64
MODEL_SYNC = 0.002


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


def one_by_one(store: sessile.Store, each: int) -> float:
    """Durable log-outs a second, one after the other."""
    sessions = [store.create(PAYLOAD) for _ in range(each)]
    began = time.perf_counter()
    for session in sessions:
        session.destroy()
    return each / (time.perf_counter() - began)


def in_threads(store: sessile.Store, each: int) -> float:
    """The same in 64 threads at once."""
    sessions = [store.create(PAYLOAD) for _ in range(AT_ONCE * each)]
    start = threading.Barrier(AT_ONCE + 1)

    def work(part: list[sessile.Session]) -> None:
        start.wait()
        for session in part:
            session.destroy()

    threads = [threading.Thread(target=work, args=(sessions[first::AT_ONCE],)) for first in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return len(sessions) / (time.perf_counter() - began)


def in_tasks(store: sessile.Store, each: int) -> float:
    """The same in 64 tasks of one event loop."""
    sessions = [store.create(PAYLOAD) for _ in range(AT_ONCE * each)]

    async def work(part: list[sessile.Session]) -> None:
        for session in part:
            session.destroy()
            await store.aflush()

    async def main() -> float:
        began = time.perf_counter()
        await asyncio.gather(*[work(sessions[first::AT_ONCE]) for first in range(AT_ONCE)])
        return len(sessions) / (time.perf_counter() - began)

    return asyncio.run(main())


class SlowDisk:
    """A model: this disk, and each sync of the journal takes so much longer."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fdatasync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)
        time.sleep(self._seconds)


def at_once(section: Section, store: sessile.Store, disk_name: str, each: int, rounds: int) -> None:
    """Rates one by one and 64 at once, in turn, because the disk is not as fast at any time."""
    found = [[work(store, each) for work in (one_by_one, in_threads, in_tasks)] for _ in range(rounds)]
    for number, what in ((1, "threads"), (2, "tasks of an event loop")):
        ratios = sorted(rates[number] / rates[0] for rates in found)
        one, many = (sorted(rates[which] for rates in found)[rounds // 2] for which in (0, number))
        section.row(
            f"log-outs a second, {AT_ONCE} {what} at once (one by one){disk_name}",
            ">= 10 x" if not disk_name else "",
            f"{many:.0f} ({one:.0f}): {ratios[rounds // 2]:.1f} x",
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
            rounds = 3 if quick else 9
            at_once(section, store, "", 10 if quick else 40, rounds)
            disk.system = SlowDisk(MODEL_SYNC)
            at_once(section, store, f", a model disk: each sync {1000 * MODEL_SYNC:g} ms longer", 10, rounds)
            disk.system = os
        crash(store)
    finally:
        shutil.rmtree(where)


if __name__ == "__main__":
    main()
