"""The process in which one peer runs: python -m benchmarks.peers.worker NAME DIRECTORY COUNT (first | second).

Commands come as lines of JSON on stdin, [name, arguments…]; each is answered by one on the descriptor that stdout was:
{"value": …}, {"cannot": reason} or {"failed": exception}. What peers print goes to stderr.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS
from benchmarks.peers.base import Cannot, Peer, Place
from benchmarks.workload import fresh, payload, resident_bytes

BATCH = 1_000
"""Sessions filled at a time: their payloads are garbage that must not be counted as the peer's."""


class Worker:
    """One peer and the ids of its sessions; each public method is a command."""

    def __init__(self, name: str, place: Place) -> None:
        module, _, which = PEERS[name].partition(":")
        self._peer: Peer = getattr(import_module(f"benchmarks.peers.{module}"), which)(place)
        self._place = place
        self._ids: list[str] = []
        self._random = random.Random(1)
        self._speed = dict.fromkeys(("load", "request", "create", "destroy"), 0.0001)
        self._turn = 0

    def facts(self) -> dict[str, Any]:
        """What the tables say about the peer."""
        peer = self._peer
        version = _version(peer.package) + peer.server_version()
        names = ("about", "shared", "thread_safe", "stored")
        return {"version": version, **{name: getattr(peer, name) for name in names}}

    def fill(self, count: int, limit: float) -> dict[str, float]:
        """Store sessions until there are `count` or it took `limit` seconds; seconds, and bytes that each takes."""
        gc.collect()
        before = resident_bytes() + self._peer.outside_bytes()
        packed = bytearray()  # the ids that we hold are not the peer's bytes: one piece, of known length
        made = 0
        spent = 0.0
        while made < count and spent < limit:
            many = [payload(made + number) for number in range(min(BATCH, count - made))]
            begun = time.perf_counter()
            ids = self._peer.fill(many)
            spent += time.perf_counter() - begun
            packed += "\n".join([*ids, ""]).encode()
            made += len(ids)
            del ids, many
        gc.collect()
        held = resident_bytes() + self._peer.outside_bytes() - before - len(packed)
        self._ids = packed.decode().split("\n")[:-1]
        (self._place.directory / "ids").write_bytes(packed)
        return {"count": made, "seconds": spent, "bytes": held / made, "id": len(packed) / made - 1}

    def attach(self) -> int:
        """Take the ids from the first process."""
        self._ids = (self._place.directory / "ids").read_text().split("\n")[:-1]
        return len(self._ids)

    def measure(self, row: str, seconds: float) -> float:
        """Nanoseconds an operation, over about so many seconds of them; creating and destroying go in pairs."""
        gc.collect()
        gc.disable()
        try:
            operation: Callable[[float], float] = getattr(self, f"_{row}")
            return operation(seconds)
        finally:
            gc.enable()

    def _number(self, row: str, seconds: float) -> int:
        return max(20, min(200_000, int(seconds / self._speed[row])))

    def _some(self, number: int) -> list[str]:
        return fresh(self._random.choices(self._ids, k=number))

    def _read(self) -> Callable[[list[str]], None]:
        """What loads each of several sessions and reads a field: without a call of ours between them where it can be."""
        peer = self._peer
        if type(peer).read is not Peer.read:
            read = peer.read

            def each(ids: list[str]) -> None:
                for id in ids:
                    read(id)

            return each
        load = peer.load

        def each_loaded(ids: list[str]) -> None:
            for id in ids:
                load(id)["locale"]

        return each_loaded

    def _load(self, seconds: float) -> float:
        ids = self._some(self._number("load", seconds))
        load = self._peer.load
        begun = time.perf_counter()
        for id in ids:
            load(id)
        self._speed["load"] = (time.perf_counter() - begun) / len(ids)
        return self._speed["load"] * 1e9

    def _request(self, seconds: float) -> float:
        """Of ten requests nine read and the last writes."""
        read, write = self._read(), self._peer.write
        ids = self._some(self._number("request", seconds) // 10 * 10)
        tens = [(ids[at : at + 9], ids[at + 9], f"message {at % 1000:03}") for at in range(0, len(ids), 10)]
        begun = time.perf_counter()
        for nine, tenth, flash in tens:
            read(nine)
            write(tenth, flash)
        self._speed["request"] = (time.perf_counter() - begun) / len(ids)
        return self._speed["request"] * 1e9

    def _create(self, seconds: float) -> float:
        create = self._peer.create
        many = [payload(number) for number in range(self._number("create", seconds))]
        made: list[str] = []
        keep = made.append
        begun = time.perf_counter()
        for fields in many:
            keep(create(fields))
        self._speed["create"] = (time.perf_counter() - begun) / len(many)
        self._made = made
        return self._speed["create"] * 1e9

    def _destroy(self, seconds: float) -> float:
        """Ends what the last `create` made, so that as many are there as before."""
        self._random.shuffle(self._made)
        ids, destroy = fresh(self._made), self._peer.destroy
        begun = time.perf_counter()
        for id in ids:
            destroy(id)
        return (time.perf_counter() - begun) / max(1, len(ids)) * 1e9

    def latency(self, seconds: float) -> dict[str, float]:
        """Quantiles of a load and the read of a field in nanoseconds, less what reading the clock takes."""
        operation = self._peer.read
        clock = time.perf_counter_ns
        ids = self._some(max(2_000, self._number("request", seconds)))
        times = []
        gc.collect()
        gc.disable()
        for id in ids:
            begun = clock()
            operation(id)
            times.append(clock() - begun)
        empty = []
        for _ in ids:
            begun = clock()
            empty.append(clock() - begun)
        gc.enable()
        times.sort()
        own = sorted(empty)[len(empty) // 2]
        places = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
        return {name: times[int(len(times) * part)] - own for name, part in places.items()}

    def rate(self, threads: int, seconds: float) -> float:
        """Loads with the read of a field a second, of so many threads together, each over ids of its own."""
        barrier = threading.Barrier(threads + 1)
        done = [0.0] * threads

        def work(place: int, ids: list[str]) -> None:
            read = self._read()
            barrier.wait()
            begun = time.perf_counter()
            end = begun + seconds
            count = 0
            while (now := time.perf_counter()) < end:
                at = count % len(ids)
                read(ids[at : at + 100])
                count += 100
            done[place] = count / (now - begun)

        workers = [threading.Thread(target=work, args=(place, self._some(20_000))) for place in range(threads)]
        gc.collect()
        gc.disable()  # as where single operations are timed: it would run more often the more a peer allocates
        try:
            for worker in workers:
                worker.start()
            barrier.wait()
            for worker in workers:
                worker.join()
        finally:
            gc.enable()
        return sum(done)

    def expire(self, count: int) -> float:
        """Nanoseconds for each of so many sessions that are past their deadline, until they are gone."""
        return self._peer.expire(count) / count * 1e9

    def close(self) -> None:
        self._peer.close()


def _version(package: str) -> str:
    """ "" for what has no package, or one that is not there because another does its work."""
    try:
        return f"{package} {importlib.metadata.version(package)}" if package else ""
    except importlib.metadata.PackageNotFoundError:
        return ""


def answer(command: Callable[[], object]) -> dict[str, Any]:
    """The line for what a command gave or raised."""
    try:
        return {"value": command()}
    except Cannot as reason:
        return {"cannot": str(reason)}
    except ImportError as error:
        return {"cannot": f"{(error.name or str(error)).partition('.')[0]} cannot be imported by this Python"}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"[:200]}


def main() -> None:
    """Open the peer, then do as told until stdin ends."""
    name, directory, count, which = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker: list[Worker] = []

    def say(line: dict[str, Any]) -> None:
        answers.write(json.dumps(line) + "\n")
        answers.flush()

    def begin() -> dict[str, Any]:
        worker.append(Worker(name, Place(Path(directory), int(count), which == "first")))
        return worker[0].facts()

    say(answer(begin))
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        say(answer(lambda: getattr(worker[0], command)(*arguments)))  # noqa: B023 - called at once


if __name__ == "__main__":
    main()
