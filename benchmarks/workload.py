"""What every benchmark measures with: one payload, fresh ids in random order, rounds of two things.

Absolute times on a shared machine say little; every claim is a ratio of two things that were measured in
turn, round by round, in one run, and the figure quoted is the median of the rounds.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sessile

MEMORY_PER_SESSION = 1200  # bytes asked for; what is used is measured


def payload(number: int) -> dict[str, Any]:
    """Six fields, 158 bytes as MessagePack: what a shop keeps of a visitor."""
    return {
        "user_id": 100_000 + number % 900_000,
        "csrf": "k3J9x0Q2m5V8w1Z4c7B6n0M3q6T9y2U5",
        "locale": "en_GB",
        "cart": [{"sku": "A-10017", "quantity": 2}, {"sku": "B-2002", "quantity": 1}],
        "flash": "Welcome back",
        "login_time": 1_790_000_000 + number % 86_400,
    }


def make_store(count: int, *, spare: int = 4, **options: Any) -> sessile.Store:
    """A store with room for `spare` times `count` anonymous sessions."""
    settings: dict[str, Any] = {
        "capacity": count * spare,
        "memory": max(2 << 20, count * MEMORY_PER_SESSION),
        "anonymous_share": 1.0,
    }
    return sessile.Store(**(settings | options))


def fill(store: sessile.Store, count: int) -> list[str]:
    """Create `count` anonymous sessions; their ids, in random order."""
    ids = [store.create(payload(number)).id or "" for number in range(count)]
    random.Random(count).shuffle(ids)
    return ids


def fresh(ids: Sequence[str]) -> list[str]:
    """New str objects without a cached hash, as a request brings them."""
    return [f"{id[:16]}{id[16:]}" for id in ids]


def stored(ids: Sequence[str]) -> list[str]:
    """Fresh ids in the order in which a peer is to store them, which is not the order of the look-ups: entries that lie in
    memory as they are asked for are fetched ahead by the processor, whoever keeps them."""
    order = list(ids)
    random.Random(len(order) + 1).shuffle(order)
    return fresh(order)


@dataclass(frozen=True)
class Compared:
    """Nanoseconds an operation, medians of the rounds, and the median of the rounds' ratios."""

    ours: float
    theirs: float
    ratio: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        spread = f"{self.lowest:.2f}-{self.highest:.2f}"
        return f"{self.ratio:.2f} x ({self.ours:.0f} / {self.theirs:.0f} ns; {spread})"


def compare(
    ours: Callable[[str], object], theirs: Callable[[str], object], ids: Sequence[str], rounds: int
) -> Compared:
    """Time both over all ids, in turn, `rounds` times."""
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        times.append((time_of(ours, fresh(ids)), time_of(theirs, fresh(ids))))
    ratios = sorted(ours / theirs for ours, theirs in times)
    return Compared(
        ours=statistics.median(t[0] for t in times),
        theirs=statistics.median(t[1] for t in times),
        ratio=statistics.median(ratios),
        lowest=ratios[0],
        highest=ratios[-1],
    )


def time_of(operation: Callable[[str], object], ids: Sequence[str]) -> float:
    """Nanoseconds an operation, over all ids."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter_ns()
        for id in ids:
            operation(id)
        return (time.perf_counter_ns() - start) / len(ids)
    finally:
        gc.enable()


def resident_bytes() -> int:
    """Resident set of this process, shared pages that it touched included."""
    with open("/proc/self/smaps_rollup") as file:
        for line in file:
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
    raise OSError("no Rss in /proc/self/smaps_rollup")
