"""Runs the benchmark programs one after the other, with a bar, and leaves benchmarks/RESULTS.md.

python -m benchmarks            all of them but the longest, about ten minutes
python -m benchmarks --quick    small, about one: to see that they run; results in build/bench, they say nothing
python -m benchmarks NAME …     only these

A program that fails, or runs over its time, is reported at the end, and in its section of RESULTS.md; the others run all
the same. The exit status is 1 if any failed.
"""

from __future__ import annotations

import argparse
import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks import record


@dataclass(frozen=True)
class Program:
    """One program: `python -m benchmarks.<module> [--quick]`, which writes section `module` of RESULTS.md unless
    `section` names another.

    Attributes:
        seconds, quick_seconds: what it took when it was last looked at, for the bar.
        named: only when its name is given, or quick: it is long, and about crashes or a model rather than speed.
    """

    module: str
    seconds: int
    quick_seconds: int
    section: str = ""
    named: bool = False


PROGRAMS = (
    Program("peers", 220, 30),
    Program("measure", 90, 5, "operations"),
    Program("scaling", 90, 5),
    Program("misses", 300, 20, named=True),
    Program("where", 25, 8),
    Program("floor", 60, 8),
    Program("instructions", 20, 15),
    Program("fill", 8, 8),
    Program("persistence", 30, 3),
    Program("web", 70, 15),
    Program("crash", 120, 20, named=True),
    Program("flask", 60, 8),
    Program("django", 60, 8),
)
_PATIENCE = 3  # a program is ended after this many times its seconds, and a minute


def run(program: Program, quick: bool, progress: Progress, task: TaskID) -> str | None:
    """Run one program, its lines above the bar; what went wrong, or None."""
    expected = program.quick_seconds if quick else program.seconds
    limit = 60 + _PATIENCE * expected
    command = [sys.executable, "-u", "-m", f"benchmarks.{program.module}", *(["--quick"] if quick else [])]
    begun, done = time.monotonic(), progress.tasks[0].completed
    process = subprocess.Popen(
        command,
        cwd=record.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    selector = selectors.DefaultSelector()
    selector.register(process.stdout, selectors.EVENT_READ)
    text, shown = "", 0
    try:
        while True:
            ready = selector.select(0.5)
            spent = time.monotonic() - begun
            progress.update(task, completed=done + min(spent, expected))
            if ready:
                piece = process.stdout.read()
                if not piece:
                    break
                text += piece
                end = text.rfind("\n") + 1
                if end > shown:
                    progress.console.print(text[shown : end - 1], markup=False, highlight=False, soft_wrap=True)
                    shown = end
            if spent > limit:
                return f"ended after {limit} s"
        status = process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        progress.update(task, completed=done + expected)
    return None if status == 0 else f"exit status {status}: {text.strip().splitlines()[-1] if text.strip() else 'no output'}"


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    there = {each.section or each.module: each for each in PROGRAMS if find_spec(f"benchmarks.{each.module}")}
    parser.add_argument("names", nargs="*", choices=[[], *there], default=[], metavar="NAME")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    names = arguments.names or [name for name, each in there.items() if arguments.quick or not each.named]
    chosen = {name: each for name, each in there.items() if name in names}
    failed: dict[str, str] = {}
    name_column, left = TextColumn("{task.description:<12}"), TextColumn("left:")
    columns = (name_column, BarColumn(), TimeElapsedColumn(), left, TimeRemainingColumn())
    with Progress(*columns, console=Console()) as progress:
        total = sum(each.quick_seconds if arguments.quick else each.seconds for each in chosen.values())
        task = progress.add_task("", total=total)
        for name, program in chosen.items():
            progress.update(task, description=name)
            wrong = run(program, arguments.quick, progress, task)
            if wrong:
                failed[name] = wrong
                with record.section(name, name, f"python -m benchmarks.{program.module}", quick=arguments.quick) as section:
                    section.note(f"Failed: {wrong}")
    for name, wrong in failed.items():
        print(f"{name}: {wrong}", file=sys.stderr)
    print(f"Results: {record.directory(arguments.quick) / 'RESULTS.md'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
