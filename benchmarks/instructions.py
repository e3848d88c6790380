"""Counts of instructions, which noise cannot move: a gate for CI, and where the work of an operation is.

python -m benchmarks.instructions              count, and write the section of RESULTS.md; --quick: into build/bench
python -m benchmarks.instructions --gate       count, compare with the baseline, fail beyond 3 %
python -m benchmarks.instructions --renew      count, and make that the baseline: commit it with the change that caused it

Callgrind runs a fixed workload of the table (c/operations.c) and of the Python face (the function `operations` here), and
attributes each instruction to the file that it was compiled from. Five parts are told apart: the digest (the portable one:
valgrind knows no SHA instructions), the rest of the table, the binding, the codec, and the interpreter with what it calls.

The baseline belongs to one compiler, one Python and one version of valgrind, by name; instructions.json may hold several.
For any other there is nothing to compare with: the counts are printed, and the exit status is 77, which CI treats as a
failure, because it runs on machines that have a baseline. Beside the counts two ratios to a dict, measured here and now,
have bounds so wide that only a blunder passes them.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from glob import glob
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ROOT / "benchmarks" / "instructions.json"
BUILD = ROOT / "build" / "symbols"
"""The extension with symbols, as `make bench-gate` builds it; else the same code as any other build."""

PARTS = ("digest", "table", "binding", "codec", "interpreter")
SOURCES = {
    "_table.pyx": "binding", "_table.c": "binding", "_contract.pxd": "binding",
    "_codec.pxi": "codec", "_messagepack.pxd": "codec",
}  # fmt: skip
TOLERANCE = 0.03
LEAST = 20
"""Instructions: what is fewer moves by more than 3 % when a compiler breathes, and is no hot path."""

NOTHING_TO_COMPARE = 77
COUNT = 1_000
LOAD_BOUND = 6.0  # times dict.get at 200,000 sessions; about 1 is normal
REQUEST_BOUND = 2.0  # times a dict with JSON in it; well below 1 is normal

Counts = dict[str, dict[str, float]]
"""Operation, part: instructions for each call."""


def identity() -> str:
    """What a baseline belongs to."""
    compiler = subprocess.run([*_compiler(), "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    valgrind = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{platform.machine()}, {compiler}, {valgrind}, Python {platform.python_version()}"


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CC", "cc"))


# ---- counting ----


def count(number: int) -> Counts:
    """Run both workloads under callgrind."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        marks = str(ROOT / "benchmarks" / "c" / "marks.c")
        flags = ["-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]
        program, shared = str(directory / "operations"), str(directory / "marks.so")
        sources = [str(ROOT / "benchmarks" / "c" / "operations.c"), marks, *sorted(glob(str(ROOT / "csrc" / "*.c")))]
        include = f"-I{ROOT / 'csrc'}"
        _run([*_compiler(), *flags, include, "-pthread", "-o", program, *sources, "-lm"])
        _run([*_compiler(), *flags, "-shared", "-fPIC", "-o", shared, marks])
        in_c = _callgrind([program, str(number)], directory, {})
        python = [sys.executable, "-m", "benchmarks.instructions", "--inside", shared, str(number)]
        environment = {"PYTHONPATH": str(BUILD / "lib"), "PYTHONHASHSEED": "0"}
        in_python = _callgrind(python, directory, environment)
    counts = {f"C: {name}": parts for name, parts in in_c.items()}
    counts |= {f"Python: {name}": parts for name, parts in in_python.items()}
    return {name: {part: n / number for part, n in parts.items()} for name, parts in counts.items()}


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:3])} …: {done.stderr[-2000:]}")


def _callgrind(command: list[str], directory: Path, environment: Mapping[str, str]) -> dict[str, Counter[str]]:
    for old in directory.glob("counts.*"):
        old.unlink()
    out = f"--callgrind-out-file={directory}/counts"
    done = subprocess.run(
        ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", out, *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"callgrind of {' '.join(command)}: {done.stderr[-2000:]}")
    files: dict[str, str] = {}
    parts = sorted(directory.glob("counts.*"), key=lambda path: int(path.suffix[1:]))
    found = [_parse(path.read_text(), files) for path in parts]
    return dict(each for each in found if each)


_trigger = re.compile(r"^desc: Trigger: Client Request: (.*)$", re.MULTILINE)
_file = re.compile(r"(fl|fi|fe|cfi|cfl)=\((\d+)\)(?: (.*))?")


def _parse(text: str, files: dict[str, str]) -> tuple[str, Counter[str]] | None:
    """The name of what was counted, and its instructions by part, from one file of callgrind's.

    `files` holds the part of each number that stands for a source file; it is named where it comes first.
    """
    named = _trigger.search(text)
    if not named:
        return None
    counts: Counter[str] = Counter()
    part, skip = "interpreter", False
    for line in text.split("\n"):
        found = _file.match(line)
        if found:
            if found[3] is not None:
                files[found[2]] = part_of(found[3])
            if found[1][0] == "f":  # else the file of a function that is called from here
                part = files[found[2]]
        elif line.startswith("calls="):
            skip = True  # the line after it is what the called function took, counted there
        elif line[:1].isdigit() or line[:1] in "+-*":
            if not skip:
                counts[part] += int(line.split()[1]) if " " in line else 0
            skip = False
    return named[1], counts


def part_of(file: str) -> str:
    """Which part a source file belongs to."""
    path = Path(file)
    if path.parent.name == "csrc":
        return "digest" if path.stem == "digest" else "table"
    return SOURCES.get(path.name, "interpreter")


# ---- the workload in Python ----


def operations(number: int, begin: Callable[[], None], end: Callable[[str], None]) -> None:
    """So many calls of each operation of the Python face, among four times as many sessions."""
    import gc

    import sessile
    from benchmarks.workload import fresh, payload

    # No deadline comes near, so that nothing is renewed however slowly this runs.
    store = sessile.Store(
        capacity=64 * number, memory=max(16 << 20, 4800 * number), anonymous_share=1.0, secret="instructions" * 3,
        idle_timeout=30 * 86_400, absolute_timeout=90 * 86_400,
    )  # fmt: skip
    more = number + 1  # the first is not counted: what is made once is made by it
    many = [payload(each) for each in range(4 * more)]
    kept = [store.create(fields) for fields in many]
    ids = [session.id or "" for session in kept[:more]]
    numbers = range(more)

    def counted(name: str, operation: Callable[[Any], object], arguments: list[Any]) -> None:
        operation(arguments[0])
        counted_ones = arguments[1:]
        gc.collect()
        gc.disable()
        begin()
        for argument in counted_ones:
            operation(argument)
        end(name)
        gc.enable()

    load = store.load

    def request(numbered: tuple[int, str]) -> None:
        each, id = numbered
        session = load(id)
        session["locale"]  # type: ignore[index]
        if each % 10 == 0:
            session["flash"] = f"message {each % 1000:03}"  # type: ignore[index]
            session.save()  # type: ignore[union-attr]

    def save_nothing(session: sessile.Session) -> None:
        session.save()

    counted("nothing", lambda _: None, list(numbers))
    counted("store.load", load, fresh(ids))
    counted("store.load, unknown id", load, [f"{each:032}" for each in numbers])
    counted("store.load, malformed id", load, ["no id"] * more)
    counted("load, read a field", lambda id: load(id)["locale"], fresh(ids))  # type: ignore[index]
    counted("request", request, list(enumerate(fresh(ids))))
    loaded = [load(id) for id in ids]
    counted("session[field]", lambda session: session["locale"], loaded)
    for session in loaded:
        session["cart"]  # type: ignore[index]
    counted("save, nothing changed", save_nothing, loaded)
    counted("store.create", store.create, many[:more])
    logged_in = kept[more : 2 * more]
    counted("session.login", lambda pair: pair[1].login(f"user-{pair[0]}"), list(enumerate(logged_in)))
    counted("session.rotate", lambda session: session.rotate(), logged_in)
    counted("session.destroy", lambda session: session.destroy(), kept[2 * more : 3 * more])
    store.close()


def inside(library: str, number: int) -> None:
    """What runs under callgrind."""
    marks = ctypes.CDLL(library)
    operations(number, marks.mark_begin, lambda name: marks.mark_end(name.encode()))


# ---- the gate ----


def compare(counts: Counts, baseline: Counts) -> list[str]:
    """What is not within 3 % of the baseline (the interpreter's part 10 %): slower, or so much faster that the baseline no
    longer guards it."""
    wrong = [f"{name}: in the baseline, and not counted" for name in baseline if name not in counts]
    for name, parts in counts.items():
        if name not in baseline:
            wrong.append(f"{name}: not in the baseline")
            continue
        for part in PARTS:
            now, then = parts.get(part, 0.0), baseline[name].get(part, 0.0)
            # The interpreter's look-ups collide in its caches or not, by addresses that differ from run to run.
            allowed = max(0.1 * then, 250) if part == "interpreter" else max(TOLERANCE * then, LEAST)
            if abs(now - then) > allowed:
                wrong.append(f"{name}: {part} {now:.0f}, baseline {then:.0f}")
    return wrong


def ratios() -> list[tuple[str, float, float]]:
    """Two ratios to a dict in this run, and their bounds; the best of the rounds, which noise can only make worse."""
    from benchmarks.workload import compare as in_turn
    from benchmarks.workload import fill, fresh, make_store, payload

    number = 200_000
    store = make_store(number)
    ids = fill(store, number)
    bare = {id: bytes(158) for id in fresh(ids)}
    encoded = {id: json.dumps(payload(each)) for each, id in enumerate(fresh(ids))}
    looked_up = in_turn(store.load, bare.get, ids, 5).lowest
    read = in_turn(lambda id: store.load(id)["locale"], lambda id: json.loads(encoded[id])["locale"], ids, 3)  # type: ignore[index]
    store.close()
    return [
        ("store.load / dict.get, 200,000 sessions", looked_up, LOAD_BOUND),
        ("load and read / dict of JSON", read.lowest, REQUEST_BOUND),
    ]


def table(counts: Counts, baseline: Counts) -> list[tuple[str, ...]]:
    """A row an operation: its parts, and all of it beside the baseline."""
    rows = []
    for name, parts in counts.items():
        total = sum(parts.values())
        before = sum(baseline.get(name, {}).values())
        change = f"{total / before - 1:+.1%}" if before else "new"
        rows.append((name, *(f"{parts.get(part, 0):,.0f}" for part in PARTS), f"{total:,.0f}", change))
    return rows


HEAD = ("operation", *PARTS, "in all", "against the baseline")


def _missing() -> str | None:
    if not shutil.which("valgrind") or not Path("/usr/include/valgrind/callgrind.h").exists():
        return "no valgrind with its headers (Debian: apt install valgrind)"
    if not (BUILD / "lib" / "sessile").is_dir():
        return "no build with symbols: run `make bench-gate`"
    return None


def gate(counts: Counts, baseline: Counts | None, name: str) -> int:
    """Say what is wrong; the exit status."""
    for what, ratio, bound in ratios():
        print(f"{what}: {ratio:.2f} (bound {bound})")
        if ratio > bound:
            print("FAILED: beyond the bound")
            return 1
    if baseline is None:
        print(f"Nothing to compare with for {name}: `make bench-gate RENEW=1` makes a baseline for it.")
        return NOTHING_TO_COMPARE
    wrong = compare(counts, baseline)
    for line in wrong:
        print(f"FAILED: {line}")
    if wrong:
        print("If it is meant to be so: `make bench-gate RENEW=1`, and commit the baseline with the change that caused it.")
    return 1 if wrong else 0


def main() -> int:
    """Count, and do with it what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renew", action="store_true")
    parser.add_argument("--gate", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        inside(arguments.inside[0], int(arguments.inside[1]))
        return 0
    missing = _missing()
    if missing:
        print(missing)
        return NOTHING_TO_COMPARE
    name = identity()
    baselines: dict[str, Counts] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    counts = count(COUNT)
    if not arguments.gate and not arguments.renew:
        from benchmarks import record

        command = "python -m benchmarks.instructions"
        with record.section("instructions", "Instructions an operation", command, quick=arguments.quick) as section:
            section.note(f"{name}. The digest is the portable one; with the SHA instructions it is a fraction of this.")
            section.table(HEAD, table(counts, baselines.get(name, {})))
        return 0
    from benchmarks.record import render

    print(render(HEAD, table(counts, baselines.get(name, {}))))
    if arguments.renew:
        rounded = {each: {part: round(n, 1) for part, n in parts.items()} for each, parts in counts.items()}
        BASELINE.write_text(json.dumps(baselines | {name: rounded}, indent=1, sort_keys=True) + "\n")
        return 0
    return gate(counts, baselines.get(name), name)


if __name__ == "__main__":
    sys.exit(main())
