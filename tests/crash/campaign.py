"""SIGKILL at random moments of Python processes that work on one store, with an oracle beside it.

    python3 tests/crash/campaign.py [--variant kill|exit|finalise] [--seconds 10] [--workers 4] [--seed N]

kill: workers are killed. exit: a worker calls os._exit() while its other threads are somewhere in the store. finalise: a
worker's main thread ends while daemon threads are at work, so the interpreter is finalised under them.

Each worker owns some keys; a key is a session, or none. Before an operation the worker writes down in shared memory what
the key will be, and afterwards marks it as done with one byte. The worker that takes its place checks that the store
holds the one or the other. Ids are made by the store: of an operation that gives a new id and whose worker was killed,
the owner's list tells what became of it.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import sessile

SECRET = b"the secret of the campaign, 32 bytes or more"
KEYS = 12
ABSENT, ANONYMOUS, OWNED = 0, 1, 2
_STATE = struct.Struct("<BQ32s")           # kind, value, id
_KEY_SIZE = 192                            # one byte: current state | (begun state + 1, 0 for none) << 2; then three states
_WORKER_SIZE = _KEY_SIZE * KEYS + 64
_STOP = 0                                  # of the shared memory: its first byte
_FIRST = 64

Variant = Literal["kill", "exit", "finalise"]


@dataclass(frozen=True)
class State:
    """What a key is: absent, or a session with this value under this id (empty: not known)."""

    kind: int = ABSENT
    value: int = 0
    id: str = ""


class Oracle:
    """Shared memory that outlives the workers."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.memory = mmap.mmap(-1, _FIRST + workers * _WORKER_SIZE)

    def _key(self, worker: int, key: int) -> int:
        return _FIRST + worker * _WORKER_SIZE + key * _KEY_SIZE

    def _get(self, at: int, which: int) -> State:
        kind, value, id = _STATE.unpack_from(self.memory, at + 16 + 48 * which)
        return State(kind, value, id.rstrip(b"\0").decode())

    def _put(self, at: int, state: State) -> int:
        """Writes a state where none stands that counts: a kill in the middle of it changes none."""
        word = self.memory[at]
        free = next(which for which in range(3) if which != word & 3 and which + 1 != word >> 2)
        _STATE.pack_into(self.memory, at + 16 + 48 * free, state.kind, state.value, state.id.encode())
        return free

    def current(self, worker: int, key: int) -> State:
        at = self._key(worker, key)
        return self._get(at, self.memory[at] & 3)

    def begun(self, worker: int, key: int) -> State | None:
        at = self._key(worker, key)
        word = self.memory[at]
        return self._get(at, (word >> 2) - 1) if word >> 2 else None

    def begin(self, worker: int, key: int, state: State) -> None:
        at = self._key(worker, key)
        self.memory[at] = self.memory[at] & 3 | (self._put(at, state) + 1) << 2

    def done(self, worker: int, key: int, state: State) -> None:
        """The operation returned: with an id that is known only now."""
        at = self._key(worker, key)
        self.memory[at] = self._put(at, state)

    def settle(self, worker: int, key: int, state: State) -> None:
        self.done(worker, key, state)

    def counter(self, worker: int, which: int, by: int = 0) -> int:
        """0: operations. 1: violations."""
        at = _FIRST + worker * _WORKER_SIZE + _KEY_SIZE * KEYS + 8 * which
        (value,) = struct.unpack_from("<Q", self.memory, at)
        if by:
            struct.pack_into("<Q", self.memory, at, value + by)
        return int(value) + by

    @property
    def stopped(self) -> bool:
        return self.memory[_STOP] != 0

    def stop(self) -> None:
        self.memory[_STOP] = 1


class Worker:
    """One process's part: checks its keys, then works on them."""

    def __init__(self, oracle: Oracle, store: sessile.Store, number: int) -> None:
        self.oracle, self.store, self.number = oracle, store, number
        self.random = random.Random(f"{os.getpid()} {time.monotonic_ns()}")

    def owner(self, key: int) -> str:
        return f"worker {self.number} key {key}"

    def violation(self, text: str) -> None:
        self.oracle.counter(self.number, 1, 1)
        print(f"VIOLATION worker {self.number}: {text}", file=sys.stderr, flush=True)

    # ---- after a kill ----

    def settle(self) -> None:
        for key in range(KEYS):
            current, begun = self.oracle.current(self.number, key), self.oracle.begun(self.number, key)
            if begun is not None:
                current = self.decide(key, current, begun)
                self.oracle.settle(self.number, key, current)
            if current.kind == OWNED and not current.id:
                # Nobody can use it. Written down before, for a kill may come between its end and the next line.
                self.store.revoke(self.owner(key))
                self.oracle.settle(self.number, key, State())
            elif begun is None:
                self.expect(key, current)

    def found(self, id: str) -> State:
        session = self.store.load(id) if id else None
        if session is None:
            return State()
        value = session["value"]
        if session["copy"] != [value] * 5 or session["text"] != "x" * (value % 400):
            self.violation("a session holds the fields of two saves")
        return State(ANONYMOUS if session.owner is None else OWNED, value, id)

    def expect(self, key: int, state: State) -> None:
        if state.kind != ABSENT and self.found(state.id) != state:
            self.violation(f"key {key}: {state} was acknowledged, {self.found(state.id)} is there")
        owned = len(self.store.sessions(self.owner(key)))
        if owned != (state.kind == OWNED):
            self.violation(f"key {key} is {state}, its owner has {owned} sessions")

    def decide(self, key: int, old: State, new: State) -> State:
        """What became of an operation whose worker was killed in it."""
        is_old = self.found(old.id)
        owned = len(self.store.sessions(self.owner(key)))
        if new.id and new.id != old.id:
            # It had returned: only the mark was not made.
            state = new if self.found(new.id) == new and is_old == State() else None
        elif new.id:
            state = is_old if is_old in (old, new) else None
        elif is_old == old and (old.kind != ABSENT or owned == 0) and owned == (old.kind == OWNED):
            state = old
        elif is_old == State() and owned == (new.kind == OWNED):
            # It was done, and nobody knows the new id.
            state = State(OWNED, new.value) if owned else State()
        else:
            state = None
        if state is None:
            self.violation(f"key {key}: neither {old} nor {new}: {is_old}, {owned} owned")
            self.store.revoke(self.owner(key))
            return State()
        return state

    # ---- work ----

    def fields(self, value: int) -> dict[str, object]:
        return {"value": value, "copy": [value] * 5, "text": "x" * (value % 400)}

    def operate(self, keys: range) -> None:
        key = self.random.choice(keys)
        state = self.oracle.current(self.number, key)
        value = state.value + 1
        if state.kind == ABSENT:
            self.oracle.begin(self.number, key, State(ANONYMOUS, value))
            session = self.store.create(self.fields(value))
            self.oracle.done(self.number, key, State(ANONYMOUS, value, session.id or ""))
            return
        session = self.load(key, state)
        choice = self.random.random()
        if choice < 0.3:
            return
        if choice < 0.75:
            new = State(state.kind, value, state.id)
            self.oracle.begin(self.number, key, new)
            session.update(self.fields(value))
            session.save()
        elif choice < 0.9:
            self.oracle.begin(self.number, key, State(OWNED, state.value))
            if state.kind == ANONYMOUS:
                session.login(self.owner(key), keep=True)
            else:
                session.rotate()
            new = State(OWNED, state.value, session.id or "")
        else:
            new = State(ABSENT, value)
            self.oracle.begin(self.number, key, new)
            session.destroy()
        self.oracle.done(self.number, key, new)

    def load(self, key: int, state: State) -> sessile.Session:
        session = self.store.load(state.id)
        if session is None or session["value"] != state.value:
            self.violation(f"key {key}: {state} was acknowledged and is not there")
            raise SystemExit(3)
        return session

    def work(self, keys: range = range(KEYS)) -> None:
        while not self.oracle.stopped:
            self.operate(keys)
            self.oracle.counter(self.number, 0, 1)


def run_worker(oracle: Oracle, path: str, number: int, variant: Variant) -> None:
    """In the child: its own store, opened by the path."""
    store = sessile.Store(path, secret=SECRET, capacity=20_000, memory="16 MiB", busy_timeout=20)
    worker = Worker(oracle, store, number)
    worker.settle()
    if variant == "kill":
        worker.work()
        return
    half = KEYS // 2
    for keys in (range(half), range(half, KEYS)):
        threading.Thread(target=worker.work, args=(keys,), daemon=True).start()
    time.sleep(worker.random.uniform(0.002, 0.03))
    if variant == "exit":
        os._exit(0)


@dataclass
class Campaign:
    """Starts, kills and replaces workers."""

    workers: int
    variant: Variant
    seconds: float
    seed: int
    kills: int = 0
    path: str = ""
    controller: int = 0
    children: dict[int, int] = field(default_factory=dict)

    def start(self, oracle: Oracle, number: int) -> None:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run_worker(oracle, self.path, number, self.variant)
                status = 0
            finally:
                if self.variant == "finalise" and status == 0:
                    sys.exit(0)            # through the interpreter's end, with threads at work
                os._exit(status)
        self.children[child] = number

    def replace(self, oracle: Oracle, chosen: random.Random) -> None:
        """One worker less, and a new one in its place."""
        if self.variant == "kill":
            time.sleep(chosen.uniform(0, 0.01))
            os.kill(chosen.choice(list(self.children)), signal.SIGKILL)
        child, status = os.waitpid(-1, 0)
        number = self.children.pop(child)
        if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status) != 0:
            oracle.counter(number, 1, 1)
            print(f"VIOLATION worker {number} ended with {status:#x}", file=sys.stderr, flush=True)
        self.kills += 1
        self.start(oracle, number)

    def run(self) -> int:
        """Number of violations; prints what happened."""
        directory = tempfile.mkdtemp(prefix="sessile-campaign-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.path = f"{directory}/table"
        oracle, chosen = Oracle(self.workers), random.Random(self.seed)
        self.controller = os.getpid()
        try:
            store = sessile.Store(self.path, secret=SECRET, capacity=20_000, memory="16 MiB", busy_timeout=20)
            store.close()
            began = time.monotonic()
            for number in range(self.workers):
                self.start(oracle, number)
            while time.monotonic() - began < self.seconds and not self.violations(oracle):
                self.replace(oracle, chosen)
            self.end(oracle)
            return self.report(oracle, time.monotonic() - began)
        finally:
            if os.getpid() == self.controller:
                shutil.rmtree(directory, ignore_errors=True)

    def violations(self, oracle: Oracle) -> int:
        return sum(oracle.counter(number, 1) for number in range(self.workers))

    def end(self, oracle: Oracle) -> None:
        oracle.stop()
        for child in self.children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def report(self, oracle: Oracle, took: float) -> int:
        store = sessile.Store(self.path, secret=SECRET, capacity=20_000, memory="16 MiB", busy_timeout=20)
        for number in range(self.workers):
            Worker(oracle, store, number).settle()
        findings = store.check()
        stats = store.stats()
        operations = sum(oracle.counter(number, 0) for number in range(self.workers))
        violations = self.violations(oracle) + len(findings) + stats.quarantined
        for finding in findings:
            print(f"VIOLATION store.check(): {finding}", file=sys.stderr)
        print(
            f"python {self.variant:8} seed {self.seed}: {self.kills} processes ended, {stats.recoveries} repairs, "
            f"{operations} operations, {took:.1f} s, {violations} violations"
        )
        store.close()
        return violations


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="SIGKILL of Python processes that work on one store.")
    parser.add_argument("--variant", choices=["kill", "exit", "finalise"], default="kill")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args(arguments)
    run: Callable[[], int] = Campaign(options.workers, options.variant, options.seconds, options.seed).run
    return 1 if run() else 0


if __name__ == "__main__":
    sys.exit(main())
