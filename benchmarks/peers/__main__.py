"""sessile side by side with what anyone would use instead.

python -m benchmarks.peers                 about four minutes on a quiet machine
python -m benchmarks.peers --quick         small: to see that it runs, not for figures
python -m benchmarks.peers sessile Redis   only these, and nothing is recorded

One workload, each peer through its own public interface, in a process of its own; what is timed goes round by round over
all of them in turn, and the figures are medians of the rounds. What a peer cannot do stands where its figure would, and
so does a failure of one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import plots, record
from benchmarks.interpreters import free_threaded
from benchmarks.peers import PEERS

OWN = "sessile"
ROWS = ("load", "request", "create", "destroy")
NOT_FOR_THREADS = "is not for several threads at once"
TARGETS = {  # of "request", at the middle size
    "dict + msgspec": (0.6, "<= 0.6 x"),
    "cachebox": (0.4, "<= 0.4 x"),
    "Redis": (1 / 60, "<= 1/60"),
    "Django cache, locmem": (1 / 20, "<= 1/20"),
}


@dataclass(frozen=True)
class Plan:
    """How much is done: sizes in sessions, rounds, seconds of each measurement, of a fill, of a rate."""

    sizes: tuple[int, ...] = (10_000, 200_000, 1_000_000)
    main: int = 200_000
    rounds: int = 4
    seconds: float = 0.04
    fill_seconds: float = 10.0
    rate_rounds: int = 3
    rate_seconds: float = 0.12
    expire: int = 20_000


QUICK = Plan(
    sizes=(1_000,),
    main=1_000,
    rounds=2,
    seconds=0.004,
    rate_rounds=1,
    rate_seconds=0.02,
    expire=200,
    fill_seconds=2.0,
)


class Trouble(Exception):
    """A peer cannot do something, or failed; the text goes into the table."""


class Remote:
    """A worker process. Its peer's commands raise Trouble."""

    def __init__(self, name: str, directory: Path, count: int, which: str = "first", python: str = sys.executable) -> None:
        self.name = name
        self._errors = open(directory / f"{which}.log", "wb")  # noqa: SIM115 - the process writes it until it ends
        command = [python, "-m", "benchmarks.peers.worker", name, str(directory), str(count), which]
        self._process = subprocess.Popen(
            command, cwd=record.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0
        )
        self._buffer = b""
        self.facts: dict[str, Any] = {}

    def begin(self) -> None:
        """Wait for it to be there."""
        self.facts = self.answer(60)

    def tell(self, *command: object) -> None:
        """Send a command without waiting for its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
        except BrokenPipeError:
            raise Trouble("its process ended") from None

    def answer(self, limit: float = 60) -> Any:
        """The answer to the command sent last."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(limit):
                    self._process.kill()
                    raise Trouble(f"no answer in {limit:.0f} s")
                piece = os.read(self._process.stdout.fileno(), 1 << 16)
                if not piece:
                    raise Trouble(f"its process ended with status {self._process.wait()}")
                self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        kind, value = next(iter(json.loads(line).items()))
        if kind != "value":
            raise Trouble(value if kind == "cannot" else f"failed: {value}")
        return value

    def ask(self, *command: object, limit: float = 60) -> Any:
        """Send a command and wait for its answer."""
        self.tell(*command)
        return self.answer(limit)

    def end(self) -> None:
        """Let the peer stop what it started; kill the process if it does not end."""
        with contextlib.suppress(Trouble):
            self.ask("close", limit=20)
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


@dataclass
class Figures:
    """What was measured: for (peer, row, size) the values of the rounds, or why there are none."""

    values: dict[tuple[str, str, int], list[float]] = field(default_factory=dict)
    reasons: dict[tuple[str, str, int], str] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    fill_seconds: dict[str, tuple[int, float]] = field(default_factory=dict)
    counts: dict[tuple[str, int], int] = field(default_factory=dict)

    def add(self, name: str, row: str, size: int, measure: Callable[[], float]) -> None:
        """Keep what `measure` gives; once it has failed it is not asked again."""
        key = (name, row, size)
        if key in self.reasons:
            return
        try:
            self.values.setdefault(key, []).append(measure())
        except Trouble as reason:
            self.values.pop(key, None)
            self.reasons[key] = str(reason)

    def median(self, name: str, row: str, size: int) -> float | None:
        values = self.values.get((name, row, size))
        return statistics.median(values) if values else None

    def ratio(self, name: str, row: str, size: int, other: str = OWN) -> float | None:
        """Median of the rounds' ratios of `name` to `other`."""
        return self._median_ratio((name, row, size), (other, row, size))

    def ratio_of_rows(self, name: str, row: str, base: str, size: int) -> float | None:
        """Median of the rounds' ratios of one row of a peer to another row of it."""
        return self._median_ratio((name, row, size), (name, base, size))

    def _median_ratio(self, key: tuple[str, str, int], base: tuple[str, str, int]) -> float | None:
        values, bases = self.values.get(key), self.values.get(base)
        if not values or not bases:
            return None
        return statistics.median(each / one for one, each in zip(bases, values, strict=False))


def run(names: list[str], plan: Plan) -> Figures:
    """All sizes, one after the other."""
    figures = Figures()
    for size in plan.sizes:
        with tempfile.TemporaryDirectory(prefix="peers-") as folder, contextlib.ExitStack() as ends:
            chosen = [name for name in names if _affordable(name, size, plan, figures)]
            print(f"  {size:,} sessions: filling {len(chosen)} peers", flush=True)
            remotes = _filled(chosen, size, plan, Path(folder), figures, ends)
            rows = {name: _rows(name, size, plan, figures) for name in remotes}
            for turn in range(plan.rounds):
                print(f"  {size:,} sessions: round {turn + 1} of {plan.rounds}", flush=True)
                for name, remote in remotes.items():
                    for row in rows[name]:
                        figures.add(name, row, size, lambda: remote.ask("measure", row, plan.seconds))  # noqa: B023
            complete = {name: remote for name, remote in remotes.items() if len(rows[name]) > 2}
            _rest(complete, size, plan, figures)
    return figures


def _affordable(name: str, size: int, plan: Plan, figures: Figures) -> bool:
    """Whether filling takes no longer than the plan allows, by what it took before."""
    if name not in figures.fill_seconds:
        return size == plan.sizes[0]
    count, seconds = figures.fill_seconds[name]
    expected = seconds * size / count
    if expected > plan.fill_seconds:
        for row in ("load", "request"):
            figures.reasons[name, row, size] = f"storing so many would take more than {plan.fill_seconds:.0f} s"
    return expected <= plan.fill_seconds


def _rows(name: str, size: int, plan: Plan, figures: Figures) -> tuple[str, ...]:
    """All rows at the size of the main table, or at the largest below it that the peer can be filled to."""
    if size > plan.main:
        return ROWS[:2]
    larger = [other for other in plan.sizes if size < other <= plan.main]
    count, seconds = figures.fill_seconds[name]
    return ROWS[:2] if any(seconds * other / count <= plan.fill_seconds for other in larger) else ROWS


def _filled(
    names: list[str],
    size: int,
    plan: Plan,
    folder: Path,
    figures: Figures,
    ends: contextlib.ExitStack,
    python: str = sys.executable,
) -> dict[str, Remote]:
    """A worker for each, with its sessions; two are filled at a time, which is not timed against others."""

    def fill(name: str) -> Remote | None:
        directory = folder / str(list(PEERS).index(name))
        directory.mkdir()
        remote = Remote(name, directory, size, python=python)
        ends.callback(remote.end)
        try:
            remote.begin()
            figures.facts[name] = remote.facts
            facts = remote.ask("fill", size, plan.fill_seconds, limit=10 * plan.fill_seconds + 60)
        except Trouble as reason:
            for row in ROWS:
                figures.reasons[name, row, size] = str(reason)
            return None
        figures.fill_seconds[name] = (facts["count"], facts["seconds"])
        figures.counts[name, size] = facts["count"]
        figures.values[name, "bytes", size] = [facts["bytes"]]
        figures.values[name, "id", size] = [facts["id"]]
        return remote

    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(names, pool.map(fill, names), strict=True))
    return {name: remote for name, remote in found.items() if remote}


def _rest(remotes: dict[str, Remote], size: int, plan: Plan, figures: Figures) -> None:
    """Quantiles, threads, a second process, expiry."""
    print(f"  {size:,} sessions: quantiles and expiry of {len(remotes)} peers", flush=True)
    for name, remote in remotes.items():
        try:
            quantiles = remote.ask("latency", 2 * plan.seconds)
            for quantile, nanoseconds in quantiles.items():
                figures.values[name, quantile, size] = [nanoseconds]
        except Trouble as reason:
            figures.reasons[name, "p50", size] = str(reason)
        create = figures.median(name, "create", size) or 0
        count = min(plan.expire, max(100, int(1e9 / (create + 1))))
        figures.add(name, "expire", size, lambda: remote.ask("expire", count))  # noqa: B023 - called at once
    print(f"  {size:,} sessions: threads and processes", flush=True)
    with contextlib.ExitStack() as ends:
        seconds = {name: _second(remote, size, figures, ends) for name, remote in remotes.items()}
        for _ in range(plan.rate_rounds):
            for name, remote in remotes.items():
                _rates(remote, seconds[name], size, plan, figures)


def _second(remote: Remote, size: int, figures: Figures, ends: contextlib.ExitStack) -> Remote | None:
    if not remote.facts["shared"]:
        figures.reasons[remote.name, "two processes", size] = "another process does not see its sessions"
        return None
    directory = Path(remote._errors.name).parent
    other = Remote(remote.name, directory, size, "second")
    ends.callback(other.end)
    try:
        other.begin()
        other.ask("attach")
    except Trouble as reason:
        figures.reasons[remote.name, "two processes", size] = str(reason)
        return None
    return other


def _rates(remote: Remote, second: Remote | None, size: int, plan: Plan, figures: Figures) -> None:
    def rate(remote: Remote, threads: int) -> float:
        return float(remote.ask("rate", threads, plan.rate_seconds))

    def both() -> float:
        assert second is not None
        for each in (remote, second):
            each.tell("rate", 1, plan.rate_seconds)
        return sum(each.answer() for each in (remote, second))

    figures.add(remote.name, "one", size, lambda: rate(remote, 1))
    if remote.facts["thread_safe"]:
        figures.add(remote.name, "two threads", size, lambda: rate(remote, 2))
    else:
        figures.reasons[remote.name, "two threads", size] = NOT_FOR_THREADS
    figures.add(remote.name, "two processes", size, both)


def without_gil(names: list[str], plan: Plan, figures: Figures) -> tuple[Figures, str | None]:
    """One and two threads on a free-threaded Python, at the sizes of the main table; why there is none, or None."""
    free = Figures()
    python = free_threaded(["sessile", "msgpack"])
    if python is None:
        return free, "no free-threaded Python with sessile: `make bench` builds one where python3.13t is found"
    for size in plan.sizes:
        chosen = [name for name in names if name in figures.facts and size_of(name, plan, figures) == size]
        if not chosen:
            continue
        print(f"  {size:,} sessions: {len(chosen)} peers without the GIL", flush=True)
        with tempfile.TemporaryDirectory(prefix="peers-") as folder, contextlib.ExitStack() as ends:
            remotes = _filled(chosen, size, plan, Path(folder), free, ends, python)
            for name in set(chosen) - set(remotes):
                free.reasons[name, "1", size] = free.reasons[name, "2", size] = free.reasons[name, "load", size]
            for _ in range(plan.rate_rounds):
                for remote in remotes.values():
                    _rates_without_gil(remote, size, plan, free)
    return free, None


def _rates_without_gil(remote: Remote, size: int, plan: Plan, free: Figures) -> None:
    for threads in (1, 2):
        if threads == 2 and not remote.facts["thread_safe"]:
            free.reasons[remote.name, "2", size] = NOT_FOR_THREADS
        else:
            free.add(remote.name, str(threads), size, lambda: float(remote.ask("rate", threads, plan.rate_seconds)))  # noqa: B023


# ---- tables ----


class Notes:
    """Reasons under a table, a letter each."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def mark(self, reason: str) -> str:
        letter = self._letters.setdefault(reason, _letter(len(self._letters)))
        return f"- ({letter})"

    def lines(self) -> Iterator[str]:
        for reason, letter in self._letters.items():
            yield f"({letter}) {reason}."


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else _letter(number // 26 - 1) + _letter(number % 26)


def time_text(nanoseconds: float) -> str:
    """Three digits, in ns, us or ms."""
    for unit, size in (("ns", 1.0), ("us", 1e3), ("ms", 1e6)):
        value = nanoseconds / size
        if value < 999.5 or unit == "ms":
            return f"{value:.3g} {unit}" if value < 99.95 else f"{value:.0f} {unit}"
    raise AssertionError


def ratio_text(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f", {ratio:.2f} x" if ratio < 10 else f", {ratio:.0f} x"


def size_of(name: str, plan: Plan, figures: Figures) -> int:
    """The size at which all rows of a peer were measured."""
    sizes = [size for size in plan.sizes if size <= plan.main and (name, "create", size) in figures.values]
    return max(sizes, default=plan.main)


def main_table(section: record.Section, names: list[str], plan: Plan, figures: Figures) -> None:
    notes = Notes()

    def cell(name: str, row: str, size: int) -> str:
        value = figures.median(name, row, size)
        if value is None:
            return notes.mark(figures.reasons.get((name, row, size), "not measured"))
        return f"{time_text(value)}{ratio_text(figures.ratio(name, row, size) if size == plan.main else None)}"

    section.heading(f"One process, {plan.main:,} sessions")
    section.note(
        "A request loads the session and reads a field; every tenth also changes one and saves. After the comma: "
        f"times what {OWN} takes in the same round. Peers that take too long to fill have fewer sessions, as they say, "
        "and no such ratio."
    )
    rows = []
    for name in names:
        size = size_of(name, plan, figures)
        held = figures.counts.get((name, size), size)
        label = name if held == plan.main else f"{name}, {held:,}"
        rows.append((label, *(cell(name, row, size) for row in ("load", "request", "create", "destroy", "expire"))))
    section.table(("peer", "load", "request", "create", "destroy", "expire, each"), rows)
    for line in notes.lines():
        section.note(line)

    section.heading("A load and the read of one field, one by one; memory")
    rows = []
    for name in names:
        size = size_of(name, plan, figures)
        quantiles = [figures.median(name, quantile, size) for quantile in ("p50", "p99", "p99.9")]
        held, id = figures.median(name, "bytes", size), figures.median(name, "id", size)
        stored = figures.facts.get(name, {}).get("stored", True)
        memory = "-" if held is None or id is None else f"{held:.0f}" if stored else f"0; {id:.0f} in each request"
        rows.append((name, *("-" if each is None else time_text(each) for each in quantiles), memory))
    section.table(("peer", "p50", "p99", "p99.9", "bytes a session"), rows)
    section.note("Bytes: growth of the resident set, of the server's where there is one, of files on disk.")


def size_table(section: record.Section, names: list[str], plan: Plan, figures: Figures) -> None:
    notes = Notes()
    section.heading("Sizes")
    rows = []
    for name in names:
        row = [name]
        for what in ("load", "request"):
            for size in plan.sizes:
                value = figures.median(name, what, size)
                reason = figures.reasons.get((name, what, size), "not measured")
                row.append(notes.mark(reason) if value is None else time_text(value))
        rows.append(row)
    head = ("peer", *(f"{what}, {size:,}" for what in ("load", "request") for size in plan.sizes))
    section.table(head, rows)
    for line in notes.lines():
        section.note(line)


def parallel_table(
    section: record.Section, names: list[str], plan: Plan, figures: Figures, free: Figures, missing: str | None
) -> None:
    notes = Notes()

    def cell(figures: Figures, name: str, row: str, base: str, otherwise: str) -> str:
        """A rate; behind it times that of `base`, the median of the rounds' ratios."""
        value = figures.median(name, row, size)
        if value is None:
            return notes.mark(figures.reasons.get((name, row, size), otherwise))
        if row == base:
            return f"{value / 1000:,.0f}"
        ratio = figures.ratio_of_rows(name, row, base, size)
        return f"{value / 1000:,.0f}" + (f", {ratio:.2f} x" if ratio is not None else "")

    rows = []
    for name in names:
        size = size_of(name, plan, figures)
        with_gil = [cell(figures, name, row, "one", "not measured") for row in ("one", "two threads", "two processes")]
        without = [cell(free, name, row, "1", missing or "not measured") for row in ("1", "2")]
        rows.append((name, *with_gil, *without))
    section.heading("In parallel: thousand loads with a read a second")
    head = ("peer", "one", "two threads", "two processes", "no GIL: one thread", "no GIL: two threads")
    section.table(head, rows)
    section.note("Times the figure of one thread of the same interpreter. Without the GIL values are encoded by msgpack.")
    for line in notes.lines():
        section.note(line)


def winners(names: list[str], plan: Plan, figures: Figures) -> Iterable[str]:
    """Where a peer is better than sessile, row by row."""
    size = plan.main
    for row in (*ROWS, "expire", "p50", "p99", "p99.9", "bytes"):
        better = []
        for name in names:
            ratio = figures.ratio(name, row, size)
            # What the client carries takes no room here; that is said beside it.
            if not name.startswith(OWN) and ratio is not None and ratio < 1 and figures.facts[name]["stored"]:
                better.append(f"{name} ({ratio:.2f} x)")
        if better:
            yield f"* {row}: {', '.join(better)}"
    for count in plan.sizes:
        if count == size:
            continue
        for row in ROWS[:2]:
            found = {name: figures.ratio(name, row, count) for name in names if not name.startswith(OWN)}
            better = [f"{name} ({ratio:.2f} x)" for name, ratio in found.items() if ratio is not None and ratio < 1]
            if better:
                yield f"* {row}, {count:,} sessions: {', '.join(better)}"


def write(
    section: record.Section, names: list[str], plan: Plan, figures: Figures, free: Figures, missing: str | None
) -> None:
    """The whole section."""
    for name, (most, text) in TARGETS.items():
        sizes = [size for size in plan.sizes if size <= plan.main]
        ratios = {size: figures.ratio(OWN, "request", size, name) for size in sizes}
        size = max((size for size in sizes if ratios[size] is not None), default=plan.main)
        ratio = ratios[size]
        if ratio is None:
            measured = f"- {figures.reasons.get((name, 'request', size), 'not measured')}"
        else:
            measured = f"{ratio:.2f} x" if most > 0.1 else f"1/{1 / ratio:.0f}"
        section.row(f"request, against {name}, {size:,} sessions", text, measured)
    main_table(section, names, plan, figures)
    size_table(section, names, plan, figures)
    parallel_table(section, names, plan, figures, free, missing)
    section.heading("Where a peer is better")
    lines = list(winners(names, plan, figures))
    section.note("\n".join(lines) if lines else "Nowhere in this run.")
    section.heading("What they are")
    there = ((name, figures.facts[name]) for name in names if name in figures.facts)
    rows = [(name, facts["version"], facts["about"]) for name, facts in there]
    section.table(("peer", "version", "what it is"), rows)
    bars = {name: figures.median(name, "request", size_of(name, plan, figures)) for name in names}
    path = section.plot_path("peers")
    plots.bars({name: value / 1000 for name, value in bars.items() if value}, OWN, "µs a request", path)
    section.plot(path, "Microseconds a request, sessile and its peers")


def main() -> int:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[[], *PEERS], default=[], metavar="PEER")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else Plan()
    names = [name for name in PEERS if not arguments.names or name in {OWN, *arguments.names}]
    if not shutil.which("redis-server") or not shutil.which("memcached"):
        print("Without redis-server or memcached their rows stay empty: apt install redis-server memcached")
    quick = arguments.quick or bool(arguments.names)  # a part is for looking at
    with record.section("peers", "Side by side", "python -m benchmarks.peers", quick=quick) as section:
        figures = run(names, plan)
        free, missing = without_gil(names, plan, figures)
        write(section, names, plan, figures, free, missing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
