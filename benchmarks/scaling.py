"""How figures change with processes, threads and sessions.

python -m benchmarks.scaling            about two minutes
python -m benchmarks.scaling --quick    small: to see that it runs, not for figures

Processes are forked from one that filled the store, so that all share its table; one process and two take turns. Threads
without the GIL are measured by the free-threaded Python, where there is one: this program runs itself with it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import sessile
from benchmarks import record
from benchmarks.interpreters import ROOT, free_threaded
from benchmarks.record import Section
from benchmarks.workload import fill, fresh, make_store, payload

SIZES = (1_000, 10_000, 50_000, 200_000, 1_000_000, 3_000_000, 10_000_000)
BYTES_A_SESSION = 900  # of memory, all told: table, dict, ids; a size that needs more than there is, is left out
SAMPLE = 100_000


class Ids:
    """Many ids as one piece of memory: children that read it copy no pages, as they would those of str objects."""

    def __init__(self, ids: list[str]) -> None:
        self._packed = "".join(ids).encode()

    def some(self, number: int, seed: int) -> list[str]:
        choose = random.Random(seed)
        count = len(self._packed) // 32
        places = (32 * choose.randrange(count) for _ in range(number))
        return [self._packed[place : place + 32].decode() for place in places]


Step = Callable[[int, str], object]


def read_mostly(store: sessile.Store) -> Step:
    """Loads and reads a field; every twentieth also writes one and saves."""

    def step(turn: int, id: str) -> None:
        session = store.load(id)
        session["locale"]  # type: ignore[index]
        if turn % 20 == 0:
            session["flash"] = f"message {turn % 1000:03}"  # type: ignore[index]
            session.save()  # type: ignore[union-attr]

    return step


def with_hot_session(store: sessile.Store, hot: str) -> Step:
    """The same, but every tenth goes to one session that all want, and writes it."""
    other = read_mostly(store)

    def step(turn: int, id: str) -> None:
        if turn % 10:
            other(turn, id)
        else:
            store.load(hot).update_field("views", lambda n: n + 1, default=0)  # type: ignore[union-attr]

    return step


def mixed(store: sessile.Store) -> Step:
    """Everything: nine of ten read; the rest save, create, destroy."""

    def step(turn: int, id: str) -> None:
        if turn % 10:
            store.load(id)["locale"]  # type: ignore[index]
        elif turn % 20:
            session = store.load(id)
            session["flash"] = f"message {turn % 1000:03}"  # type: ignore[index]
            session.save()  # type: ignore[union-attr]
        else:
            store.create(payload(turn)).destroy()

    return step


# ---- processes and threads ----


def pace(step: Step, ids: list[str], seconds: float) -> float:
    """Steps a second."""
    turn = 0
    begun = time.perf_counter()
    end = begun + seconds
    while (now := time.perf_counter()) < end:
        at = turn % len(ids)
        for id in ids[at : at + 100]:
            turn += 1
            step(turn, id)
    return turn / (now - begun)


def quantiles(step: Step, load: Callable[[str], object], ids: list[str], seconds: float) -> list[float]:
    """p50, p99 and p99.9 of loads in nanoseconds, each between two steps, less the time of the clock."""
    clock = time.perf_counter_ns
    times, empty = [], []
    turn = 0
    end = clock() + int(seconds * 1e9)
    now = 0
    while now < end:
        for id in ids:
            turn += 1
            step(turn, id)
            begun = clock()
            load(id)
            now = clock()
            times.append(now - begun)
            empty.append(clock() - now)
        if len(times) > 2_000_000:
            break
    own = statistics.median(empty)
    times.sort()
    return [times[int(len(times) * part)] - own for part in (0.5, 0.99, 0.999)]


def in_processes(count: int, ids: Ids, work: Callable[[list[str]], object]) -> list[object]:
    """What `work` gives in each of so many forked processes, which begin together."""
    start_read, start_write = os.pipe()
    pipes = []
    for number in range(count):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(start_write)
                some = ids.some(20_000, number)
                os.write(write, b"!")
                os.read(start_read, 1)  # ends when the parent closes the other end
                gc.disable()
                os.write(write, json.dumps(work(some)).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(write)
        pipes.append((child, read))
    for _, read in pipes:
        os.read(read, 1)
    os.close(start_read)
    os.close(start_write)
    results = []
    for child, read in pipes:
        text = b""
        while piece := os.read(read, 65536):
            text += piece
        os.close(read)
        os.waitpid(child, 0)
        results.append(json.loads(text))
    return results


def ratio_of_two(ids: Ids, step: Step, rounds: int, seconds: float) -> tuple[float, float]:
    """Steps a second of one process, and how many times that two make: medians of the rounds."""
    ones, ratios = [], []
    for _ in range(rounds):
        one = sum(in_processes(1, ids, lambda some: pace(step, some, seconds)))  # type: ignore[arg-type]
        two = sum(in_processes(2, ids, lambda some: pace(step, some, seconds)))  # type: ignore[arg-type]
        ones.append(one)
        ratios.append(two / one)
    return statistics.median(ones), statistics.median(ratios)


def threads(count: int, rounds: int, seconds: float) -> tuple[float, float]:
    """The same for threads of this interpreter."""
    store = make_store(count)
    ids = Ids(fill(store, count))
    step = read_mostly(store)

    def rate(number: int) -> float:
        done = [0.0] * number
        barrier = threading.Barrier(number)

        def work(place: int, some: list[str]) -> None:
            barrier.wait()
            done[place] = pace(step, some, seconds)

        workers = [threading.Thread(target=work, args=(place, ids.some(20_000, place))) for place in range(number)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(done)

    ones, ratios = [], []
    for _ in range(rounds):
        one, two = rate(1), rate(2)
        ones.append(one)
        ratios.append(two / one)
    store.close()
    return statistics.median(ones), statistics.median(ratios)


# ---- sizes ----


def at_size(count: int, rounds: int) -> tuple[float, float]:
    """Nanoseconds of store.load and of dict.get, each the median of rounds in turn, among `count` sessions."""
    store = make_store(count, spare=2, memory=max(4 << 20, 640 * count))
    fields = payload(1)
    create = store.create
    made = [create(fields).id or "" for _ in range(count)]
    ids = Ids(made)
    peer = dict.fromkeys(made, fields)
    del made
    number = min(SAMPLE, 10 * count)
    ours, theirs = [], []
    for turn in range(rounds):
        for operation, times in ((store.load, ours), (peer.get, theirs)):
            some = fresh(ids.some(number, turn))
            gc.collect()
            gc.disable()
            begun = time.perf_counter_ns()
            for id in some:
                operation(id)
            times.append((time.perf_counter_ns() - begun) / number)
            gc.enable()
    store.close()
    return statistics.median(ours), statistics.median(theirs)


def available_bytes() -> int:
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    raise OSError("no MemAvailable in /proc/meminfo")


# ---- the program ----


def main() -> int:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    quick = arguments.quick
    count, rounds, seconds = (5_000, 1, 0.05) if quick else (200_000, 5, 0.4)
    if arguments.threads:
        print(json.dumps(threads(count, rounds, seconds)))
        return 0
    with record.section("scaling", "Processes, threads, sizes", "python -m benchmarks.scaling", quick=quick) as section:
        in_parallel(section, quick, count, rounds, seconds)
        sizes(section, quick)
    return 0


def in_parallel(section: Section, quick: bool, count: int, rounds: int, seconds: float) -> None:
    """Rows of processes and threads."""
    store = make_store(count)
    filled = fill(store, count)
    ids, hot = Ids(filled), filled[0]
    del filled
    gc.collect()
    gc.freeze()  # so that children copy fewer pages
    one, ratio = ratio_of_two(ids, read_mostly(store), rounds, seconds)
    what = "two processes against one, read-mostly (one of 20 saves)"
    section.row(what, ">= 1.8 x", f"{ratio:.2f} x (one: {one / 1000:,.0f} thousand a second)")
    hot_one, hot_ratio = ratio_of_two(ids, with_hot_session(store, hot), rounds, seconds)
    what = "two processes against one, one of ten updates the same session"
    section.row(what, "", f"{hot_ratio:.2f} x (one: {hot_one / 1000:,.0f} thousand a second)")
    step, load = mixed(store), store.load
    both = in_processes(2, ids, lambda some: quantiles(step, load, some, 4 * seconds))
    p50, p99, p999 = (max(each) for each in zip(*both, strict=True))  # type: ignore[call-overload]
    what = "p99.9 of a load, mixed load of 2 processes (reads, saves, creates, destroys)"
    section.row(what, "<= 10 x p50", f"{p999 / p50:.1f} x ({p50:.0f}, p99 {p99:.0f}, p99.9 {p999:.0f} ns)")
    store.close()
    gc.unfreeze()
    one, ratio = threads(count, rounds, seconds)
    section.row("two threads against one, with the GIL", "", f"{ratio:.2f} x (one: {one / 1000:,.0f} thousand a second)")
    python = free_threaded()
    what = "two threads against one, without the GIL"
    if python is None:
        section.row(what, ">= 1.8 x", "- no free-threaded Python here")
        return
    command = [python, "-m", "benchmarks.scaling", "--threads", *(["--quick"] if quick else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        section.row(what, ">= 1.8 x", f"- failed: {done.stderr.strip().splitlines()[-1]}")
        return
    one, ratio = json.loads(done.stdout)
    section.row(what, ">= 1.8 x", f"{ratio:.2f} x (one: {one / 1000:,.0f} thousand a second)")


def sizes(section: Section, quick: bool) -> None:
    """Rows of sizes, and their plot."""
    from benchmarks import plots  # not for the free-threaded Python: it has no matplotlib

    section.heading("A load, by the number of sessions")
    rows = []
    ours, theirs = [], []
    for count in SIZES[:2] if quick else SIZES:
        needed = count * BYTES_A_SESSION
        if needed > available_bytes() * 0.8:
            rows.append((f"{count:,}", f"- needs {needed / 2**30:.1f} GiB", "-", "-"))
            continue
        loaded, got = at_size(count, 1 if quick else 5)
        print(f"  {count:,} sessions: {loaded:.0f} and {got:.0f} ns", flush=True)
        rows.append((f"{count:,}", f"{loaded:.0f} ns", f"{got:.0f} ns", f"{loaded / got:.2f} x"))
        ours.append((count, loaded))
        theirs.append((count, got))
    section.table(("sessions", "store.load", "dict.get", "ratio"), rows)
    path = section.plot_path("sizes")
    plots.lines({"sessile: store.load": ours, "dict.get": theirs}, "sessile", "sessions", "nanoseconds", path)
    section.plot(path, "Nanoseconds a load, by the number of sessions")


if __name__ == "__main__":
    sys.exit(main())
