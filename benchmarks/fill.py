"""How full a table is when it first refuses a session, and after its sessions changed their size: c/fill.c.

python -m benchmarks.fill            some fifteen seconds; tables of 2 MiB where sizes change
python -m benchmarks.fill --all      and of 16 and 64 MiB: some minutes
python -m benchmarks.fill --quick    the same as without: there is nothing to time
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from glob import glob
from pathlib import Path

from benchmarks import record
from benchmarks.record import Section

CSRC = record.ROOT / "csrc"


def build(directory: str) -> str:
    """Compile the program; its path."""
    program = str(Path(directory) / "fill")
    sources = [str(record.ROOT / "benchmarks" / "c" / "fill.c"), *sorted(glob(str(CSRC / "*.c")))]
    compiler = shlex.split(os.environ.get("CC", "cc"))
    subprocess.run([*compiler, "-O2", "-std=c11", f"-I{CSRC}", "-pthread", "-o", program, *sources, "-lm"], check=True)
    return program


def output(command: list[str]) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")


def first(section: Section, program: str) -> None:
    """Used share of `memory` at the first refusal: owned sessions of mixed sizes."""
    rows = []
    for line in output([program, "first"])[1:]:
        found = re.match(r"(\S.*?)\s+(\d+)\s+(\d+)\s+\d+\s+\d+\s+\d+\s+(\d+)\s+([\d.]+)\s+([\d.]+)", line)
        if found:
            sizes, about, owned, stored, used, records = found.groups()
            spread = "mostly small" if "log" in sizes else "evenly"
            each = "one an owner" if owned == "1" else f"{owned} an owner"
            rows.append((f"{int(about):,} of 50 to 8,192 bytes, {spread}, {each}", f"{int(stored):,}", used, records))
    worst = min(float(row[2]) for row in rows)
    section.row("memory used at the first refusal, worst of these", ">= 0.85", f"{worst:.3f}")
    section.table(("sessions", "stored", "used", "without what slots round up"), rows)


def replace(section: Section, program: str, tables: int) -> None:
    """Sessions of one size after those of another, as a share of what a new table holds."""
    for block in "\n".join(output([program, "replace", str(tables)])).split("\nmemory ")[1:]:
        lines = block.split("\n")
        mebibytes = int(lines[0].split(",")[0]) >> 20
        rows = [line.split() for line in lines[1:] if re.match(r"\s+\d+ ", line)]
        head, *body = rows
        worst = min(float(cell) for row in body for cell in row[1:])
        what = f"sessions of Y bytes after those of X, of a new table's, {mebibytes} MiB, worst"
        section.row(what, ">= 0.90", f"{worst:.3f}")
        section.table(("X, then Y", *head), body)


def main() -> int:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    command = f"python -m benchmarks.fill{' --all' if arguments.all else ''}"
    title, quick = "A table that fills", arguments.quick
    with record.section("fill", title, command, quick=quick) as section, tempfile.TemporaryDirectory() as directory:
        program = build(directory)
        first(section, program)
        replace(section, program, 3 if arguments.all else 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
