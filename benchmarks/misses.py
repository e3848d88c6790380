"""What of a look-up is not near, by the number of sessions: lines and translations, counted in a model of the caches.

python -m benchmarks.misses            some three minutes; needs valgrind
python -m benchmarks.misses --quick    two small sizes: to see that it runs

c/misses.c looks random sessions up under callgrind, which models the first cache and one other. So each size is run three
times: with the second-level cache of this machine, with its last one, and with pages in the place of lines, for the
translations of addresses. A model knows no prefetcher and no other process; what it counts is the same in every run.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from glob import glob
from itertools import zip_longest
from pathlib import Path

from benchmarks import record
from benchmarks.record import ROOT

SIZES = (1_000, 10_000, 50_000, 200_000, 1_000_000, 3_000_000)
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
TRANSLATIONS = "393216,96,4096", "16777216,16,4096"
"""First and second level: 96 and 4,096 pages, which no file of the system tells; those of an AMD processor of 2024."""


def caches() -> dict[str, str]:
    """Size, ways and bytes a line of each cache of data, as callgrind wants them, by level."""
    found = {}
    for index in CACHES.glob("index*"):
        level, kind, size, ways, line = (
            (index / name).read_text().strip()
            for name in ("level", "type", "size", "ways_of_associativity", "coherency_line_size")
        )
        if kind != "Instruction":
            found[level] = f"{int(size.removesuffix('K')) * 1024},{ways},{line}"
    return found


def build(directory: Path) -> str:
    """Compile the program; its path."""
    program = str(directory / "misses")
    names = [ROOT / "benchmarks" / "c" / name for name in ("misses.c", "marks.c")]
    sources = [*map(str, names), *sorted(glob(str(ROOT / "csrc" / "*.c")))]
    compiler = shlex.split(os.environ.get("CC", "cc"))
    flags = ["-O2", "-g", "-std=c11", f"-I{ROOT / 'csrc'}", "-pthread"]
    subprocess.run([*compiler, *flags, "-o", program, *sources, "-lm"], check=True)
    return program


def count(program: str, sessions: int, first: str, last: str) -> tuple[float, float]:
    """A look-up's misses in a first cache and in one behind it; those of reads and of writes."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", "--cache-sim=yes", f"--D1={first}"]
        command += [f"--LL={last}", f"--callgrind-out-file={folder}/counts", program, str(sessions)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        parts = [path.read_text() for path in Path(folder).glob("counts.*")]
    found = [_misses(text) for text in parts if "Client Request: load" in text]
    near, far = found[0]
    return near / int(done.stdout), far / int(done.stdout)


def _misses(text: str) -> tuple[int, int]:
    """Misses of data in the first and in the last cache of one file of callgrind's."""
    events = re.search(r"^events: (.*)$", text, re.MULTILINE)
    totals = re.search(r"^summary: (.*)$", text, re.MULTILINE)
    assert events
    assert totals
    numbers = [int(number) for number in totals[1].split()]  # without the zeroes at its end
    of = dict(zip_longest(events[1].split(), numbers, fillvalue=0))
    return of["D1mr"] + of["D1mw"], of["DLmr"] + of["DLmw"]


def main() -> int:
    """Count and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    title = "What a look-up waits for, by the number of sessions"
    with record.section("misses", title, "python -m benchmarks.misses", quick=quick) as section:
        sizes = caches()
        if not shutil.which("valgrind") or not {"1", "2", "3"} <= sizes.keys():
            section.note("Not counted: it needs valgrind, and three levels of cache to model.")
            return 0
        rows = []
        with tempfile.TemporaryDirectory() as directory:
            program = build(Path(directory))
            for sessions in SIZES[:2] if quick else SIZES:
                first, second = count(program, sessions, sizes["1"], sizes["2"])
                _, last = count(program, sessions, sizes["1"], sizes["3"])
                near, walks = count(program, sessions, *TRANSLATIONS)
                print(f"  {sessions:,} sessions: {first:.1f} {second:.1f} {last:.1f} {near:.1f} {walks:.1f}", flush=True)
                rows.append((f"{sessions:,}", *(f"{each:.1f}" for each in (first, second, last, near, walks))))
        second, last = (f"{int(sizes[level].split(',')[0]) >> 10:,} KiB" for level in "23")
        head = ("sessions", "lines beyond the first cache", f"beyond the second, {second}", f"beyond the last, {last}")
        section.table((*head, "pages beyond 96 translations", "beyond 4,096"), rows)
        section.note("Lines of 64 bytes and pages of 4 KiB a look-up, of them half a line for the id itself; counted by "
                     "valgrind's model of these caches, after as many look-ups as fill them.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
