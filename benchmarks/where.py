"""Where the time of a load goes, and what the machine allows at best.

python -m benchmarks.where            half a minute
python -m benchmarks.where --quick    small: to see that it runs, not for figures

A process that loads sessions and reads a field of each is sampled by perf; each sample belongs to a function, and each
function to a part. The limits beside it are measured by c/limits.c: what a read from memory takes by itself.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from glob import glob
from pathlib import Path

from benchmarks import record
from benchmarks.instructions import BUILD
from benchmarks.record import Section

PARTS = (
    ("digest", "sha_ni|portable|armv8|digest_"),
    ("lock", "lock_|shard_enter|shard_leave"),
    ("probe: index and record", "shard_find|^find$|index_"),
    ("deadlines, facts", "shard_deadlines|table_facts|sessile_load|^give|shard_is|policy|vdso|clock_gettime"),
    ("copy and checksum", "memcpy|memmove|crc32|sse42_update|shard_copy"),
    ("decode the field", r"field_value|seek_field|skip_value|_read_"),
    ("make and free the object", r"Record|look_up|_alloc|Alloc|Free|Malloc|dealloc|GC_|NewReference|\[_table\]"),
)
REST = "the loop and the interpreter"
"""The caller's: reading the id from its list, calling, naming the field. A dict pays it too."""


def part_of(library: str, symbol: str) -> str:
    """Which part a function belongs to."""
    if library.startswith("["):
        return "kernel" if "vdso" not in library else "deadlines, facts"
    module = library.split(".", 1)[0]
    full = f"{symbol} [{module}]"
    for name, pattern in PARTS:
        if re.search(pattern, full):
            return name
    return REST


def load_for_ever(count: int) -> None:
    """What is sampled: says when it begins, then how long a load takes, again and again."""
    from benchmarks.workload import fill, fresh, make_store

    store = make_store(count, spare=2)
    ids = fill(store, count)
    some = random.Random(1).choices(ids, k=100_000)
    del ids
    load = store.load
    gc.collect()
    gc.disable()
    while True:
        each = fresh(some)
        begun = time.process_time_ns()
        for id in each:
            load(id)["locale"]  # type: ignore[index]
        print((time.process_time_ns() - begun) / len(each), flush=True)


def sampled(count: int, seconds: float) -> tuple[float, Counter[str]]:
    """Nanoseconds of a load with a read, and the shares of the parts."""
    environment = {**os.environ, "PYTHONPATH": str(BUILD / "lib")}
    command = [sys.executable, "-m", "benchmarks.where", "--loop", str(count)]
    process = subprocess.Popen(command, cwd=record.ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        with tempfile.TemporaryDirectory() as folder:
            data = str(Path(folder) / "data")
            perf = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "5000", "-o", data, "-p", str(process.pid)]
            subprocess.run([*perf, "--", "sleep", str(seconds)], check=True, capture_output=True)
            report = ["perf", "report", "-i", data, "--stdio", "--sort", "dso,sym", "-F", "sample,dso,sym"]
            text = subprocess.run(report, check=True, capture_output=True, text=True).stdout
        process.kill()
        spent = sorted(float(line) for line in process.stdout.read().split("\n")[:-1] if line)
    finally:
        process.kill()
        process.wait()
    shares: Counter[str] = Counter()
    for line in text.split("\n"):
        found = re.match(r"\s*(\d+)\s+(\S+)\s+\[.\] (\S+)", line)
        if found:
            shares[part_of(found[2], found[3])] += int(found[1])
    return spent[len(spent) // 2], shares


def limits() -> list[tuple[str, str]]:
    """What the machine allows, in nanoseconds."""
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "limits")
        csrc = record.ROOT / "csrc"
        compiler = shlex.split(os.environ.get("CC", "cc"))
        sources = [str(record.ROOT / "benchmarks" / "c" / "limits.c"), *glob(str(csrc / "digest.c")), str(csrc / "crc32c.c")]
        subprocess.run([*compiler, "-std=c11", "-O2", f"-I{csrc}", "-o", program, *sources], check=True)
        lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout.split("\n")
    rows = [(what, nanoseconds) for what, _, nanoseconds in (line.partition("|") for line in lines) if nanoseconds]
    empty = "x".isascii
    best = min(_calls(empty) for _ in range(7))
    return [*rows, ("a call of a C method from Python, with its loop", f"{best:.1f}")]


def _calls(function: object) -> float:
    begun = time.perf_counter_ns()
    for _ in range(200_000):
        function()  # type: ignore[operator]
    return (time.perf_counter_ns() - begun) / 200_000


def write(section: Section, quick: bool) -> None:
    """The section."""
    section.heading("What the machine allows")
    section.table(("what", "nanoseconds"), limits())
    section.heading("Where a load and the read of a field go")
    if not shutil.which("perf"):
        section.note("Not measured: no perf on this machine (Debian: apt install linux-perf).")
        return
    if not (BUILD / "lib" / "sessile").is_dir():
        section.note("Not measured: no build with symbols (`make bench` makes one).")
        return
    sizes = (1_000, 5_000) if quick else (10_000, 200_000, 1_000_000)
    measured = {}
    for size in sizes:
        try:
            measured[size] = sampled(size, 0.5 if quick else 3)
        except subprocess.CalledProcessError as error:
            section.note(f"Not measured: perf may not sample here: {(error.stderr or b'').decode()[-200:].strip()}")
            return
    rows = []
    for name in (*(name for name, _ in PARTS), REST, "kernel"):
        row = [name]
        for size in sizes:
            spent, shares = measured[size]
            share = shares[name] / (sum(shares.values()) or 1)
            row.append(f"{share * spent:.0f} ns, {share:.0%}")
        rows.append(row)
    rows.append(["in all", *(f"{measured[size][0]:.0f} ns" for size in sizes)])
    section.table(("part", *(f"{size:,} sessions" for size in sizes)), rows)
    section.note("Processor time of the process, shared out by samples of perf.")


def main() -> int:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--loop", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        load_for_ever(arguments.loop)
    with record.section("where", "Where the time goes", "python -m benchmarks.where", quick=arguments.quick) as section:
        write(section, arguments.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
