"""kill -9: of the writer at every call to the file system, and of everything under load (PER-02, PER-09)."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from crashing import SECRET, Stores
from disks import Recorder

import sessile
from sessile import journal


class Killer(Recorder):
    """Kills its process at the n-th call that concerns a file."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.fails = self._count_call

    def _count_call(self, call: str) -> None:
        self.number -= 1
        if self.number < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def killed_at(number: int, stores: Stores, in_place: Callable[[Any], None], work: Callable[[], object]) -> bool:
    """Whether a child that did some work was killed at the n-th call, or came to its end."""
    child = os.fork()
    if child == 0:
        in_place(Killer(number))
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.shared_home
def test_per_02_a_writer_killed_at_any_call_leaves_whole_files(stores: Stores, in_place: Callable[[Any], None]) -> None:
    """PER-02: the old generation or the new one; and another process writes the next."""
    store = stores.open()
    session = store.create({"n": 1}, owner="eva")
    ended = store.create({"n": 2})
    store.snapshot()
    ended.destroy()
    number = 0
    while killed_at(number, stores, in_place, store.snapshot):
        # The writer's claim dies with it, as soon as the kernel has let go of its lock.
        store = stores.reopen(store)
        assert store.load(session.id) is not None
        assert store.load(ended.id) is None
        number += 1
        assert number < 200
    assert number > 10
    store.snapshot()
    assert not [path for path in stores.directory.iterdir() if path.name.endswith(".new")]


@pytest.mark.shared_home
def test_a_living_process_takes_over_from_a_dead_writer(stores: Stores, in_place: Callable[[Any], None]) -> None:
    store = stores.open()
    session = store.create({"n": 1})
    for number in (1, 3, 5):
        assert killed_at(number, stores, in_place, store.snapshot)
        store.snapshot()
    store = stores.reopen(store)
    assert store.load(session.id) is not None


@pytest.mark.shared_home
def test_per_09_a_process_killed_at_any_call_of_its_journal(stores: Stores, in_place: Callable[[Any], None]) -> None:
    """PER-09: what it was told is so; what it was not told is one or the other; nothing is damaged."""
    store = stores.open()
    people = [store.create({"n": number}) for number in range(3)]
    ids = [session.id for session in people]
    store.snapshot()
    people[0].destroy()

    def work() -> None:
        again = store.load(ids[1])
        assert again is not None
        again.destroy()

    number = 0
    while killed_at(number, stores, in_place, work):
        store = stores.reopen(store)
        assert store.load(ids[0]) is None
        assert store.load(ids[2]) is not None
        number += 1
        assert number < 50
    store = stores.reopen(store)
    assert store.load(ids[1]) is None


LOAD = """
import os, random, sys
import sessile
from pathlib import Path

name, directory, oracle, number = sys.argv[1:]
store = sessile.Store(name, capacity=20_000, memory="16 MiB", secret=b"{secret}", snapshot_dir=directory,
                      snapshot_interval=0.2, max_sessions_per_owner=None)
chance = random.Random(int(number))
told = open(oracle, "ab", buffering=0)
mine = []
def say(what, id):
    told.write(f"{{what}} {{id}}\\n".encode())
while True:
    dice = chance.random()
    if len(mine) < 5 or dice < 0.5 and len(mine) < 2000:  # never so many that one would be evicted
        session = store.open()
        session["n"] = len(mine)
        session.login(f"owner {{number}}", keep=True)
        mine.append(session.id)
        say("there", session.id)
    else:
        place = chance.randrange(len(mine))
        session = store.load(mine.pop(place))
        if session is None:
            say("lost", "")
            continue
        old = session.id
        say("ending", old)
        if dice < 0.7:
            session.destroy()
        elif dice < 0.8:
            session.rotate()
            mine.append(session.id)
            say("there", session.id)
        elif dice < 0.9:
            session.login(f"owner {{number}}")
            mine.append(session.id)
            say("there", session.id)
        else:
            session.logout()
        say("gone", old)
"""


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(4))
def test_per_09_everything_killed_under_load(stores: Stores, tmp_path: Path, turn: int) -> None:
    """PER-09: after a reboot nobody is back, and everybody is there who had been told that they are logged
    in."""
    tables = tmp_path / "tables"
    tables.mkdir(mode=0o700)
    script = LOAD.format(secret=SECRET.decode())
    oracles = [tmp_path / f"oracle {number}" for number in range(3)]
    workers = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                script,
                str(tables / "shop"),
                str(stores.directory),
                str(oracle),
                str(number),
            ]
        )
        for number, oracle in enumerate(oracles)
    ]
    end = time.monotonic() + 60
    wanted = 3 + 2 * turn

    def generation() -> int:
        return max((int(path.stem[6:], 16) for path in stores.images()), default=0)

    try:
        while time.monotonic() < end and (
            generation() < wanted or not all(path.exists() and path.stat().st_size > 20_000 for path in oracles)
        ):
            assert all(worker.poll() is None for worker in workers)
            time.sleep(0.02)
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.wait()
    for path in tables.iterdir():
        path.unlink()
    entries = [line.split(" ") for oracle in oracles for line in oracle.read_text().split("\n")[:-1]]
    assert ["lost", ""] not in entries
    by_kind: dict[str, set[str]] = {"there": set(), "ending": set(), "gone": set()}
    for what, id in entries:
        by_kind[what].add(id)
    store = stores.open(capacity=20_000, memory="16 MiB")
    back = [id for id in by_kind["gone"] if store.load(id, touch=False) is not None]
    lost = [id for id in by_kind["there"] - by_kind["ending"] if store.load(id, touch=False) is None]
    assert len(by_kind["gone"]) > 100
    assert (back, lost) == ([], [])
    assert store.check() == []


def test_per_09_who_ends_while_the_image_is_written_stays_ended(stores: Stores, in_place: Callable[[Any], None]) -> None:
    """PER-09: at every write of an image another session ends, some copied before and some not."""
    store = stores.open()
    sessions = [store.create({"n": number}, owner=f"owner {number}") for number in range(60)]
    ids = [session.id for session in sessions]
    store.snapshot()
    ended: list[str | None] = []
    recorder = Recorder()

    def end_one(call: str) -> None:
        if call == "write" and sessions:
            recorder.fails = lambda call: None
            session = sessions.pop()
            ended.append(session.id)
            if len(ended) % 3 == 0:
                session.rotate()
            elif len(ended) % 3 == 1:
                session.login(f"another owner {len(ended)}")
            else:
                session.destroy()
            recorder.fails = end_one

    recorder.fails = end_one
    in_place(recorder)
    store.snapshot()
    in_place(os)
    assert len(ended) >= 3     # one of each kind at least; how many writes there are depends on which shards the ids fell in
    store = stores.reopen(store)
    assert [store.load(id) for id in ended] == [None] * len(ended)
    for id in ids:
        assert (store.load(id) is None) == (id in ended)
    assert store.stats().sessions == 60 - sum(number % 3 == 2 for number in range(1, len(ended) + 1))


class Held(Recorder):
    """Its syncs of batches wait until `gate` is open; `entered` says that one does."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.entered = threading.Event(), threading.Event()
        self.error: BaseException | None = None

    def fdatasync(self, descriptor: int) -> None:
        self.entered.set()
        assert self.gate.wait(60)
        error, self.error = self.error, None
        if error is not None:
            raise error
        super().fdatasync(descriptor)

    def syncs(self) -> int:
        """Of batches, up to now."""
        return sum(entry[0] == "sync data" for entry in self.log)


def journal_of(store: sessile.Store) -> journal.Journal:
    assert store._persistence is not None
    assert store._persistence.journal is not None
    return store._persistence.journal


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_threads_share_syncs(stores: Stores, in_place: Callable[[Any], None]) -> None:
    """40 threads that end sessions at once need two syncs, and all is durable."""
    store = stores.open()
    sessions = [store.create({"n": number}) for number in range(40)]
    store.snapshot()
    recorder = Held()
    in_place(recorder)
    threads = [threading.Thread(target=session.destroy) for session in sessions]
    threads[0].start()
    assert recorder.entered.wait(60)
    for thread in threads[1:]:
        thread.start()
    until(lambda: len(journal_of(store)._open.frames) == 39)
    recorder.gate.set()
    for thread in threads:
        thread.join()
    in_place(os)
    assert recorder.syncs() == 2
    store = stores.reopen(store)
    assert store.stats().sessions == 0


def test_tasks_share_syncs_and_threads(stores: Stores, in_place: Callable[[Any], None]) -> None:
    """64 tasks of an event loop need two syncs, and two calls of its executor; one that is cancelled takes nothing from
    the others."""
    calls = 0

    class Counting(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            return super().submit(*arguments, **options)

    store = stores.open()
    sessions = [store.create({"n": number}) for number in range(64)]
    store.snapshot()
    recorder = Held()
    in_place(recorder)

    async def end(session: sessile.Session) -> None:
        session.destroy()
        await store.aflush()

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(Counting(2))
        tasks = [asyncio.create_task(end(session)) for session in sessions]
        while any(session.alive() for session in sessions):
            await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[63].cancel()
        await asyncio.sleep(0)
        recorder.gate.set()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in ends] == [asyncio.CancelledError, *[type(None)] * 62, asyncio.CancelledError]

    asyncio.run(main())
    in_place(os)
    assert recorder.syncs() <= 2
    assert calls <= 2
    store = stores.reopen(store)
    assert store.stats().sessions == 0


def test_per_09_an_interrupted_thread_leaves_its_batch_to_the_others(
    stores: Stores, in_place: Callable[[Any], None]
) -> None:
    """PER-09: a signal's exception in the thread that syncs reaches that thread alone; no other is told that its end is
    durable before it is."""
    store = stores.open()
    sessions = [store.create({"n": number}) for number in range(3)]
    store.snapshot()
    stores.stop_thread(store)
    recorder = Held()
    in_place(recorder)
    recorder.error = KeyboardInterrupt()
    first = threading.Thread(target=sessions[0].destroy)
    waiting = journal_of(store).append(journal.revoke(1))  # in the same batch as the first
    interrupted: list[BaseException] = []

    def lead() -> None:
        try:
            sessions[1].destroy()
        except KeyboardInterrupt as error:
            interrupted.append(error)

    leader = threading.Thread(target=lead)
    leader.start()
    assert recorder.entered.wait(60)
    first.start()
    recorder.gate.set()
    leader.join()
    first.join()
    assert len(interrupted) == 1
    journal_of(store).wait(waiting)
    in_place(os)
    assert recorder.syncs() == 1  # the interrupted one was none
    store = stores.reopen(store)
    assert [store.load(session.id) is None for session in sessions] == [True, True, False]


def test_an_interrupted_thread_that_nobody_waits_with_loses_nothing(stores: Stores, in_place: Callable[[Any], None]) -> None:
    """Its frame goes with the next batch."""
    store = stores.open()
    sessions = [store.create({"n": number}) for number in range(3)]
    store.snapshot()
    stores.stop_thread(store)
    recorder = Held()
    in_place(recorder)
    recorder.gate.set()
    recorder.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        sessions[0].destroy()
    sessions[1].destroy()
    in_place(os)
    store = stores.reopen(store)
    assert [store.load(session.id) is None for session in sessions] == [True, True, False]
