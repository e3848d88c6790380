"""What a death costs, and what it costs to be ready for one, beside the targets.

python -m benchmarks.crash            some two minutes; needs a C compiler and make
python -m benchmarks.crash --quick    small: to see that it runs, not for figures

The C parts are benchmarks/c/crash.c and the campaign of tests/crash, built into build/bench from this tree's sources. What
the hypervisor gave to others meanwhile (steal) is printed beside.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import sessile
from benchmarks import record
from benchmarks.record import ROOT, Section
from benchmarks.workload import fill, make_store

BUILD = ROOT / "build" / "bench" / "crash"
SECRET = b"benchmark" * 4
FLAGS = ["-O2", "-std=c11", "-Wall", "-Wextra", "-Werror", "-pthread"]

# What a look-up does only because an owner of a lock may die: its word must name the process, which must be attached, and
# who waits must be told of it. A lock without that takes any word that is not 0.
_READY = """    uint32_t me = arena_me(&table->arena);
    if (__builtin_expect(me == 0, 0)) {
        if (process_attach(&table->arena.process) != SESSILE_OK)
            return SESSILE_DETACHED;
        me = arena_me(&table->arena);
    }
    if (!lock_try(&shard->lock, me, LOCK_SHARD)) {
        enum sessile_status status = lock_take(&shard->lock, me, LOCK_SHARD, wait_ms, &table->arena.watch);
"""
_NOT_READY = """    if (!lock_try(&shard->lock, 1, LOCK_SHARD)) {
        enum sessile_status status = lock_take(&shard->lock, 1, LOCK_SHARD, wait_ms, NULL);
"""


def stolen() -> float:
    """Seconds since boot that the hypervisor gave to others."""
    with open("/proc/stat") as file:
        return int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK")


def build(name: str, change: Callable[[str], str] | None = None) -> Path:
    """benchmarks/c/crash.c with all of csrc, or with shard.c changed."""
    sources = BUILD / name / "csrc"
    shutil.rmtree(BUILD / name, ignore_errors=True)
    shutil.copytree(ROOT / "csrc", sources)
    if change:
        shard = sources / "shard.c"
        shard.write_text(change(shard.read_text()))
    program = BUILD / name / "crash"
    files = [ROOT / "benchmarks" / "c" / "crash.c", *sorted(sources.glob("*.c"))]
    command = [os.environ.get("CC", "cc"), *FLAGS, f"-I{sources}", "-o", str(program), *map(str, files), "-lm"]
    subprocess.run(command, check=True)
    return program


def without_detection(text: str) -> str:
    if text.count(_READY) != 1:
        raise SystemExit("csrc/shard.c: shard_enter() is not what benchmarks/crash.py expects")
    return text.replace(_READY, _NOT_READY)


def numbers(program: Path, *arguments: str) -> list[list[float]]:
    """The lines of figures that the program prints."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=True)
    return [[float(word) for word in line.split()] for line in done.stdout.splitlines()]


def repair(section: Section, program: Path) -> None:
    best, median, worst = min(numbers(program, "repair")[0] for _ in range(3))
    section.row("repair of a shard of 4,000 records", "<= 0.3 ms",
                f"{best / 1000:.2f} ms best, {median / 1000:.2f} median, {worst / 1000:.2f} worst")


def attach(section: Section, program: Path, quick: bool) -> None:
    count = 20_000 if quick else 1_000_000
    clean, unclean, (sessions, _) = numbers(program, "attach", str(count))
    if int(sessions) != count:
        raise SystemExit(f"{count - int(sessions)} sessions were lost")
    for what, target, times in (
        ("attach, clean", "<= 1 ms", clean),
        ("attach after an unclean end, everything checked", "<= 150 ms", unclean),
    ):
        best, median, worst = (each / 1000 for each in times)
        section.row(f"{what}, {count:,} sessions", target, f"{best:.2f} ms best, {median:.2f} median, {worst:.2f} worst")


def detection(section: Section, ready: Path, quick: bool) -> None:
    """Rounds of look-ups of two builds in turn; the ratio of each pair."""
    count = 20_000 if quick else 200_000
    not_ready = build("without-detection", without_detection)
    programs = [
        subprocess.Popen([path, "lookup", str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for path in (ready, not_ready)
    ]

    def round_of(program: subprocess.Popen[str]) -> float:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write("\n")
        program.stdin.flush()
        return float(program.stdout.readline())

    for program in programs:
        round_of(program)
    pairs = [(round_of(programs[0]), round_of(programs[1])) for _ in range(5 if quick else 41)]
    for program in programs:
        program.communicate()
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    best = min(ours for ours, _ in pairs), min(theirs for _, theirs in pairs)
    section.row(
        f"a look-up of {count:,} against one of a lock that knows no owner",
        "<= 1.05 x",
        f"{ratio:.3f} x, median of {len(pairs)} pairs ({best[0]:.0f} / {best[1]:.0f} ns best: {best[0] / best[1]:.3f} x)",
    )


def threads(section: Section, program: Path, quick: bool) -> None:
    """What two threads of one process, without Python, write in common would show as processor time."""
    count = 20_000 if quick else 200_000
    one, two, ratio = numbers(program, "threads", str(count))[0]
    section.row(f"two threads against one in C, 95 % loads and 5 % saves, {count:,} sessions, by processor time", ">= 1.8 x",
                f"{ratio:.2f} x ({one:.0f} / {two:.0f} ns each)")


def survivors(section: Section, quick: bool) -> None:
    """The longest operation while workers of 190 MiB are killed beside it; best of three campaigns."""
    variables = [f"OUT={BUILD / 'campaign'}", "COMPILERS=cc", "LEVELS=-O2"]
    target = str(BUILD / "campaign" / "cc-O2" / "campaign")
    subprocess.run(["make", "-s", "-f", "tests/crash/Makefile", *variables, target], cwd=ROOT, check=True)
    worst, kills, in_lock = [], 0, 0
    for seed in range(1 if quick else 3):
        command = [target, "--workers", "2", "--ballast", "190", "--seed", str(seed + 1), "--kills", "100000"]
        done = subprocess.run([*command, "--seconds", "1" if quick else "10"], capture_output=True, text=True, check=True)
        found = re.search(r"(\d+) kills, +(\d+) in a lock.* worst ([\d.]+) ms", done.stdout)
        if not found:
            raise SystemExit(f"the campaign said: {done.stdout}")
        kills += int(found[1])
        in_lock += int(found[2])
        worst.append(float(found[3]))
    each = ", ".join(f"{milliseconds:.1f}" for milliseconds in worst)
    section.row(f"worst operation of a survivor, {kills} kills of workers of 190 MiB, {in_lock} inside a lock", "<= 50 ms",
                f"{min(worst):.1f} ms (campaigns: {each})")


def _look_up(path: str, ids: list[str], pipe: Connection) -> None:
    """Look-ups, every twentieth a save, for as many seconds as are asked for; answers how many a second."""
    store = sessile.Store(path, secret=SECRET, capacity=len(ids) * 4, memory=len(ids) * 1200, anonymous_share=1.0)
    choose = random.Random(os.getpid())
    mine = [choose.choice(ids) for _ in range(20_000)]
    while seconds := pipe.recv():
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            for id in mine[count % 20_000 : count % 20_000 + 500]:
                session = store.load(id)
                count += 1
                if count % 20 == 0 and session is not None:
                    session["flash"] = str(count)
                    session.save()
        pipe.send(count / (time.perf_counter() - began))
    store.close()


def scaling(section: Section, quick: bool) -> None:
    """One process, then two at once, round by round."""
    count = 10_000 if quick else 200_000
    directory = tempfile.mkdtemp(prefix="sessile-benchmark-", dir="/dev/shm")
    path = f"{directory}/table"
    context = multiprocessing.get_context("spawn")
    store = make_store(count, path=path, secret=SECRET)
    ids = fill(store, count)
    pipes, children = [], []
    try:
        for _ in range(2):
            ours, theirs = context.Pipe()
            children.append(context.Process(target=_look_up, args=(path, ids, theirs)))
            children[-1].start()
            pipes.append(ours)

        def rate(processes: int) -> float:
            for pipe in pipes[:processes]:
                pipe.send(0.2 if quick else 1.0)
            return sum(float(pipe.recv()) for pipe in pipes[:processes])

        rate(2)
        pairs = [(rate(1), rate(2)) for _ in range(3 if quick else 9)]
        for pipe in pipes:
            pipe.send(0)
        for child in children:
            child.join()
    finally:
        store.close()
        shutil.rmtree(directory)
    ratios = sorted(two / one for one, two in pairs)
    one = statistics.median(one for one, _ in pairs)
    section.row(
        f"two processes against one, 95 % loads and 5 % saves, {count:,} sessions, {os.cpu_count()} cores",
        ">= 1.8 x",
        f"{statistics.median(ratios):.2f} x ({ratios[0]:.2f}-{ratios[-1]:.2f}; one: {one / 1e6:.2f} million a second)",
    )


def main() -> int:
    """Measure; the whole goes into RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    with record.section("crash", "Deaths", "python -m benchmarks.crash", quick=quick) as section:
        before, began = stolen(), time.monotonic()
        program = build("ready")
        repair(section, program)
        attach(section, program, quick)
        detection(section, program, quick)
        threads(section, program, quick)
        survivors(section, quick)
        scaling(section, quick)
        spent = (time.monotonic() - began) * (os.cpu_count() or 1)
        section.note(f"Steal: {stolen() - before:.1f} s of {spent:.0f} s of processor time.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
