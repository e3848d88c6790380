"""Where measured figures go: the terminal, and a section of RESULTS.md that each program keeps for itself.

    with record.section("web", "The web layer", "python -m benchmarks.web", quick=arguments.quick) as section:
        section.row("a request that touches the session", "<= 4 us", f"{spent:.2f} us")

prints each row as it is measured and, when the block ends without an exception, replaces this program's section of
benchmarks/RESULTS.md, between its two marks, with what it measured: the command, the date, the machine. The sections
of other programs stay as they are. A quick run, which says nothing about speed, goes to build/bench instead, and so does
everything where BENCH_DIRECTORY says where.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import sessile

ROOT = Path(__file__).resolve().parent.parent

ORDER = (
    "peers", "operations", "scaling", "where", "floor", "instructions", "fill", "persistence", "web", "django", "flask",
    "crash",
)  # fmt: skip
"""Sections in the order in which RESULTS.md has them; others follow by name."""

HEAD = """# Results

Written by the programs in this folder, each its own section, on the machine and at the time that it names; `make bench`
runs them all but the longest. Ratios are of two things measured in turn, round by round, in one run: read these; absolute
times belong to that machine. Targets are what the project set itself, and what missed its target says so.
"""

_marks = re.compile(r"<!-- section: (\S+) -->\n(.*?)<!-- end of \1 -->\n", re.DOTALL)
_number = re.compile(r"[0-9]")


class Section:
    """Rows, tables, plots and notes of one program, in the order in which they are given."""

    def __init__(self, name: str, title: str, command: str, quick: bool) -> None:
        self.name = name
        self.title = title
        self.command = command
        self.quick = quick
        self.directory = directory(quick)
        self._parts: list[str] = []
        self._rows: list[tuple[str, ...]] = []
        self._begun = time.time()
        self._load = os.getloadavg()[0]

    def row(self, what: str, target: str, measured: str) -> None:
        """A figure beside its target; "" where there is none."""
        self._rows.append((what, target, measured))
        print(f"  {what}: {measured}{f'   (target {target})' if target else ''}", flush=True)

    def heading(self, text: str) -> None:
        """What follows is about this."""
        self._end_rows()
        self._parts.append(f"### {text}")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table of any columns; the first is what the others are about."""
        self._end_rows()
        text = render(head, rows)
        self._parts.append(text)
        print(f"\n{text}\n", flush=True)

    def note(self, text: str) -> None:
        """A sentence for the reader: a condition, a reason, where a peer wins."""
        self._end_rows()
        self._parts.append(text)
        print(f"  {text}", flush=True)

    def plot_path(self, name: str) -> Path:
        """Where to save the plot `name`.svg: docs/plots, or beside a quick run's results."""
        path = (self.directory if self.quick else ROOT / "docs") / "plots" / f"{name}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def plot(self, path: Path, alt: str) -> None:
        """Show the plot that was saved at `path`."""
        self._end_rows()
        self._parts.append(f"![{alt}]({os.path.relpath(path, self.directory)})")

    def _end_rows(self) -> None:
        if self._rows:
            self._parts.append(render(("what", "target", "measured"), self._rows))
            self._rows = []

    def text(self) -> str:
        """The whole section in Markdown."""
        self._end_rows()
        spent = time.time() - self._begun
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self._begun))
        load = f"load {self._load:.1f} at its beginning"
        facts = f"`{self.command}`, {when}, {spent:.0f} s, {load}.\n{machine()}."
        return "\n\n".join([f"## {self.title}", facts, *self._parts]) + "\n"


@contextmanager
def section(name: str, title: str, command: str, *, quick: bool = False) -> Iterator[Section]:
    """Collect figures, and write the section `name` when the block ends; nothing when an exception leaves it."""
    print(f"{title} ({command})", flush=True)
    collected = Section(name, title, command, quick)
    yield collected
    write(collected.directory / "RESULTS.md", name, collected.text())


def write(path: Path, name: str, text: str) -> None:
    """Replace section `name` of the file at `path`, or add it; programs that run at once wait for each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        sections = dict(_marks.findall(file.read()))
        sections[name] = text
        places = {each: place for place, each in enumerate(ORDER)}
        ordered = sorted(sections, key=lambda each: (places.get(each, len(ORDER)), each))
        file.truncate(0)
        file.write(HEAD)
        for each in ordered:
            file.write(f"\n<!-- section: {each} -->\n{sections[each]}<!-- end of {each} -->\n")


def read(path: Path) -> dict[str, str]:
    """The sections of the file at `path`, by name."""
    return dict(_marks.findall(path.read_text(encoding="utf-8"))) if path.exists() else {}


def render(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns also line up as plain text."""
    table = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    right = [all(_number.match(row[column].strip() or "0") for row in table[1:]) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        )
        return f"| {' | '.join(cells)} |"

    rule = "|".join(f"{'-' * (width + 1)}{':' if flush else '-'}" for width, flush in zip(widths, right, strict=True))
    return "\n".join([line(table[0]), f"|{rule}|", *(line(row) for row in table[1:])])


def machine() -> str:
    """Processor, memory, kernel, Python and how both were built."""
    with open("/proc/cpuinfo") as file:
        model = re.search(r"^model name\s*: (.*)$", file.read(), re.MULTILINE)
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    optimised = "PGO" if "--enable-optimizations" in arguments else "no PGO"
    switches = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("SESSILE_")]
    return (
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {gibibytes:.0f} GiB, "
        f"Linux {platform.release()}; Python {platform.python_version()} ({optimised}, {platform.python_compiler()}); "
        f"sessile {sessile.__version__}{_commit()}, built as setup.py does{' with ' if switches else ''}{' '.join(switches)}"
    )


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return " at " + subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""  # an sdist


def directory(quick: bool) -> Path:
    """The folder of RESULTS.md: this one, or build/bench for a quick run; or what BENCH_DIRECTORY says."""
    named = os.environ.get("BENCH_DIRECTORY")
    if named:
        return Path(named)
    return ROOT / "build" / "bench" if quick else ROOT / "benchmarks"


def main() -> int:
    """python -m benchmarks.record NAME TITLE COMMAND: a section of lines "what | target | measured" from stdin."""
    if len(sys.argv) != 4:
        print(main.__doc__, file=sys.stderr)
        return 2
    with section(*sys.argv[1:]) as collected:
        for line in sys.stdin:
            what, target, measured = (part.strip() for part in line.rstrip("\n").split("|"))
            collected.row(what, target, measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
