"""Real servers under HTTP load while their workers are killed: no log-in is lost, and nobody sees an error but who was
connected to the worker that died.

SESSILE_KILLS is how many workers of each server are killed, 1 without it; `make crash SIZE=full` sets it to 50. What
happened is printed (pytest -rP).
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

KILLS = int(os.environ.get("SESSILE_KILLS", "1"))
CLIENTS = 4
# Servers that put a new worker in the place of one that died. hypercorn's own parent ends then; under a supervisor that
# holds the socket each worker is a hypercorn without a parent.
REPLACING = (
    *("gunicorn-sync", "gunicorn-gthread", "uvicorn-httptools"),
    *("granian-wsgi", "granian-asgi", "hypercorn-supervised"),
)
ENVIRONMENT = {
    "GRANIAN_RESPAWN_FAILED_WORKERS": "true",
    "GRANIAN_RESPAWN_INTERVAL": "0.1",
    "GRANIAN_WORKERS_KILL_TIMEOUT": "1",
}
BROKEN = (OSError, http.client.HTTPException)

pytestmark = [pytest.mark.slow, pytest.mark.shared_home, pytest.mark.timeout(600 + 20 * KILLS)]


@dataclass
class Load:
    """What clients and the killer tell each other. Each client writes its own entries; the killer `killed`."""

    server: Any
    round: int = 0
    ends_with_worker: bool = False  # the server, and with it all connections
    stop: threading.Event = field(default_factory=threading.Event)
    begun: set[int] = field(default_factory=set)  # the clients that have logged in
    killed: dict[int, float] = field(default_factory=dict)  # process -> when it was gone, and its queue of connections
    answered: dict[int, int] = field(default_factory=dict)  # process -> answers since the last kill
    logged_in: dict[str, tuple[str, int, int]] = field(default_factory=dict)  # owner -> cookie, n, requests in doubt
    errors: list[str] = field(default_factory=list)
    broken: int = 0
    requests: Iterator[int] = field(default_factory=itertools.count)

    def report(self) -> None:
        print(
            f"served {self.server.name}: {next(self.requests)} requests, {len(self.killed)} kills, "
            f"{len(self.logged_in)} log-ins, {self.broken} connections of killed workers broke, {len(self.errors)} errors"
        )

    def broke(self, process: int | None, connected: float, error: Exception) -> None:
        """A connection broke: to a worker that was killed, or to nobody knows which when some worker was."""
        self.broken += 1
        known = process in self.killed if process else any(connected <= gone for gone in self.killed.values())
        if not known and not (self.ends_with_worker and self.killed):
            after = [f"{connected - gone:.3f}" for gone in self.killed.values()]
            self.errors.append(f"worker {process or 'nobody knows which'}: {error!r}; connected {after} s after deaths")


def log_in(load: Load, owner: str) -> Any:
    """A client that is logged in; a log-in without an answer is tried again from the start."""
    while not load.stop.is_set():
        client, connected = load.server.client(), time.monotonic()
        next(load.requests)
        try:
            reply = client.ask(f"/login?owner={owner}")
        except BROKEN as error:
            load.broke(None, connected, error)
            continue
        finally:
            client.connection.close()
        if reply.status != 303:
            load.errors.append(f"a log-in was answered with {reply.status}: {reply.body!r}")
        load.logged_in[owner] = (client.cookie, 0, 0)
        return client
    return None


def count(load: Load, client: Any, owner: str) -> bool:
    """Requests over one connection until it closes; False after an error."""
    process, connected = None, time.monotonic()
    for _ in range(20):
        cookie, n, doubts = load.logged_in[owner]
        load.logged_in[owner] = (cookie, n, doubts + 1)
        next(load.requests)
        try:
            reply = client.ask("/count")
        except BROKEN as error:
            client.connection.close()
            load.broke(process, connected, error)
            return True
        if reply.status != 200:
            load.errors.append(f"{owner}: {reply.status} {reply.body!r}")
            return False
        shown = json.loads(reply.body)
        process = shown["pid"]
        if shown["owner"] != owner or not n < shown["fields"].get("n", 0) <= n + doubts + 1:
            load.errors.append(f"{owner}: {n} and {doubts} in doubt were counted, {shown} is shown")
            return False
        load.logged_in[owner] = (client.cookie, shown["fields"]["n"], 0)
        load.answered[process] = load.answered.get(process, 0) + 1
        if client.connection.sock is None:
            process, connected = None, time.monotonic()
    client.connection.close()
    return True


def work(load: Load, number: int) -> None:
    """One client after the other, so that there are new log-ins all the time."""
    turn = 0
    while not load.stop.is_set():
        owner = f"client-{load.round}-{number}-{turn}"
        turn += 1
        client = log_in(load, owner)
        if client is not None:
            load.begun.add(number)
        if client is None or not all(count(load, client, owner) for _ in range(5)):
            return


@contextlib.contextmanager
def working(load: Load) -> Iterator[None]:
    threads = [threading.Thread(target=work, args=(load, number)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        load.stop.set()
        for thread in threads:
            thread.join()


def is_alive(process: int) -> bool:
    """Has it a thread that has not ended? The last one closes its sockets; the first one may end long before."""
    try:
        states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{process}/task").glob("*/stat")]
    except OSError:
        return Path(f"/proc/{process}").exists()
    return any(state not in ("Z", "X") for state in states)


def kill_one(load: Load) -> None:
    """When all clients have logged in, and two workers have answered since the last kill: the one that answered more."""
    load.answered.clear()
    while True:
        load.server.require_running()
        assert not load.errors
        seen = {process: times for process, times in list(load.answered.items()) if process not in load.killed}
        if len(load.begun) == CLIENTS and len(seen) >= 2 and min(seen.values()) >= 3:
            break
        time.sleep(0.01)
    chosen = max(seen, key=seen.__getitem__)
    load.killed[chosen] = math.inf
    os.kill(chosen, signal.SIGKILL)
    while is_alive(chosen):
        time.sleep(0.001)
    load.killed[chosen] = time.monotonic()


def check(load: Load) -> None:
    """Every log-in that was answered is there, with everything that was answered."""
    assert not load.errors, load.errors[:3]
    assert len(load.logged_in) >= CLIENTS
    for owner, (cookie, n, doubts) in load.logged_in.items():
        shown = ask_until_answered(load.server, cookie)
        assert shown["owner"] == owner
        assert n <= shown["fields"].get("n", 0) <= n + doubts


def ask_until_answered(server: Any, cookie: str) -> Any:
    """A connection that a dying worker had accepted breaks; another one is answered."""
    while True:
        client = server.client()
        try:
            return client.show(cookie=cookie)
        except BROKEN:
            server.require_running()
        finally:
            client.connection.close()


@pytest.mark.parametrize("name", REPLACING)
def test_no_log_in_is_lost(serving: Callable[..., Any], private_folder: Path, name: str) -> None:
    """MPR-06: with a table that has a name."""
    table = str(private_folder / "table")
    with serving(name, private_folder, SESSILE_TABLE=table, **ENVIRONMENT) as server:
        load = Load(server)
        with working(load):
            for _ in range(KILLS):
                kill_one(load)
            load.answered.clear()
            while sum(load.answered.values()) < 50 and not load.errors:
                time.sleep(0.01)
        load.report()
        check(load)


def test_no_log_in_is_lost_in_a_table_that_workers_inherit(
    serving: Callable[..., Any], private_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MPR-06: gunicorn --preload with an anonymous table; a new worker is forked from the process that made it."""
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--preload")
    with serving("gunicorn-gthread", private_folder) as server:
        load = Load(server)
        with working(load):
            for _ in range(KILLS):
                kill_one(load)
        load.server.name += " --preload"
        load.report()
        check(load)


def test_no_log_in_is_lost_when_the_server_ends_with_its_worker(serving: Callable[..., Any], private_folder: Path) -> None:
    """MPR-06: hypercorn ends when a worker dies, and whatever watches over it starts it again."""
    table = str(private_folder / "table")
    logged_in: dict[str, tuple[str, int, int]] = {}
    requests = 0
    for turn in range(KILLS + 1):
        with serving("hypercorn", private_folder, SESSILE_TABLE=table) as server:
            if logged_in:
                check(Load(server, logged_in=logged_in))
            load = Load(server, turn, ends_with_worker=True)
            with working(load):
                kill_one(load)
                server.process.wait()
            requests += next(load.requests)
            assert not load.errors, load.errors[:3]
            logged_in |= load.logged_in
    print(f"served hypercorn: {requests} requests, {KILLS + 1} kills that ended it, {len(logged_in)} log-ins, 0 errors")
    assert len(logged_in) >= CLIENTS * (KILLS + 1)
