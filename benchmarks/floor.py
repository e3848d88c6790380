"""The least that a store with these promises could take, beside what is asked: a ladder of measured steps.

python -m benchmarks.floor            two minutes
python -m benchmarks.floor --quick    small: to see that it runs, not for figures

c/floor.c does step by step what no store that keys its ids, locks, keeps deadlines and copies can leave out, for as many
sessions, in the loop in which the peers are measured. A floor above what is asked proves that out of reach; a floor below
it proves nothing, and what is asked counts as missed. All rows go round by round, each round over other ids.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import os
import random
import shlex
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from benchmarks import record
from benchmarks.workload import fill, fresh, make_store, payload, stored

ASKED = (("dict + msgspec", 0.6), ("cachebox", 0.4))
STEPS = (
    ("touch", "a call of C that reads the id"),
    ("digest", "and the keyed digest of it"),
    ("place", "and a lock, and a line of the index"),
    ("record", "and the record: comparison, clock, a copy"),
    ("field", "and the text of one field"),
)
FLOOR = STEPS[-1][0]

Loop = Callable[[Sequence[str]], None]


def build(directory: Path) -> ModuleType:
    """The module of c/floor.c."""
    csrc = record.ROOT / "csrc"
    target = directory / f"floor{sysconfig.get_config_var('EXT_SUFFIX')}"
    compiler = [*shlex.split(os.environ.get("CC", "cc")), "-std=gnu11", "-O2", "-shared", "-fPIC"]
    include = [f"-I{csrc}", f"-I{sysconfig.get_path('include')}"]
    sources = [str(record.ROOT / "benchmarks" / "c" / "floor.c"), str(csrc / "digest.c")]
    subprocess.run([*compiler, *include, "-o", str(target), *sources], check=True)
    spec = importlib.util.spec_from_file_location("floor", target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nothing(ids: Sequence[str]) -> None:
    """The loop by itself."""
    for _ in ids:
        pass


def calling(function: Callable[[str], object]) -> Loop:
    """The loop of a peer whose session one call gives."""

    def loop(ids: Sequence[str]) -> None:
        for id in ids:
            function(id)

    return loop


def requests(load: Callable[[str], Any], save: Callable[[str, Any], object]) -> Loop:
    """The loop of requests: load, read a field; every tenth also changes one and saves."""

    def loop(ids: Sequence[str]) -> None:
        for at in range(0, len(ids), 10):
            for id in ids[at : at + 9]:
                load(id)["locale"]
            session = load(ids[at + 9])
            session["locale"]
            session["flash"] = f"message {at % 1000:03}"
            save(ids[at + 9], session)

    return loop


def loops(count: int, module: ModuleType) -> tuple[dict[str, Loop], list[str], Callable[[], None]]:
    """What is measured, by name; the ids; what closes the store."""
    encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode
    store = make_store(count, spare=2)
    ids = fill(store, count)
    plain = {id: encode(payload(number)) for number, id in enumerate(stored(ids))}
    rows: dict[str, Loop] = {"nothing": nothing}
    module.open(count)
    for name, _ in STEPS:
        rows[name] = calling(getattr(module, name))

    def save_plain(id: str, session: dict[str, Any]) -> None:
        plain[id] = encode(session)

    rows["load"] = calling(store.load)
    load: Any = store.load
    rows["read"] = calling(lambda id: load(id)["locale"])
    rows["request"] = requests(load, lambda _, session: session.save())
    rows["dict + msgspec"] = requests(lambda id: decode(plain[id]), save_plain)
    if importlib.util.find_spec("cachebox"):
        from cachebox import TTLCache

        cache: TTLCache[str, bytes] = TTLCache(2 * count + 10_000, 1800)
        for number, id in enumerate(stored(ids)):
            cache.insert(id, encode(payload(number)))
        rows["cachebox"] = requests(
            lambda id: decode(cache.get(id)), lambda id, session: cache.insert(id, encode(session))
        )
    return rows, ids, store.close


def measured(rows: dict[str, Loop], ids: list[str], each: int, rounds: int) -> dict[str, list[float]]:
    """Nanoseconds of processor time for an operation of each row in each round."""
    pick = random.Random(1)
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, loop in rows.items():
            some = fresh(pick.sample(ids, each))
            pick.shuffle(some)  # else their objects lie in the order in which they are read
            gc.collect()
            gc.disable()
            begun = time.thread_time_ns()
            loop(some)
            times[name].append((time.thread_time_ns() - begun) / each)
            gc.enable()
    return times


def ratio(times: dict[str, list[float]], name: str, to: str) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(one / other for one, other in zip(times[name], times[to], strict=True))


def write(section: record.Section, quick: bool) -> None:
    """Measure each size in turn, and say which targets the floor proves out of reach."""
    sizes = (2_000,) if quick else (10_000, 200_000)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        module = build(Path(folder))
        for size in sizes:
            rows, ids, close = loops(size, module)
            found[size] = measured(rows, ids, size // 10 * 10 // (1 if size < 50_000 else 4), 3 if quick else 15)
            close()
    for size, times in found.items():
        for name, asked in ASKED:
            if name not in times:
                continue
            least, ours = ratio(times, FLOOR, name), ratio(times, "request", name)
            verdict = "out of reach" if least > asked else "reached" if ours <= asked else "missed"
            text = f"{ours:.2f} x; the floor {least:.2f} x: {verdict}"
            section.row(f"request, {size:,} sessions, against {name}", f"<= {asked} x", text)
    section.heading("The ladder")
    names = {"nothing": "the loop by itself", **dict(STEPS)}
    names |= {"load": "sessile: store.load", "read": "sessile: load, read a field", "request": "sessile: a request"}
    lines = []
    for name in found[sizes[0]]:
        values = (f"{statistics.median(times[name]):.0f} ns" for times in found.values())
        lines.append((names.get(name, f"{name}: a request"), *values))
    section.table(("what", *(f"{size:,} sessions" for size in sizes)), lines)
    section.note(
        "The rows of the floor do each what the row before does, and one thing more. They write nothing, so a request of "
        "ten with a save is above them. Processor time, medians; the ratios are medians of the rounds' ratios."
    )


def main() -> int:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    title = "The floor under a request"
    with record.section("floor", title, "python -m benchmarks.floor", quick=arguments.quick) as section:
        write(section, arguments.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
