"""Threads: one store for all, closing included; meant to run with and without the interpreter lock."""

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sessile
from sessile.testing import EventRecorder

MakeStore = Callable[..., sessile.Store]

THREADS = 6
HAS_LOCK = sys._is_gil_enabled() if hasattr(sys, "_is_gil_enabled") else True


@pytest.fixture(autouse=True)
def _frequent_switches() -> Iterator[None]:
    """With the interpreter lock, threads change places much more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def run(*functions: Callable[[], Any]) -> list[Any]:
    """Run all at once; give their results, or raise what the first one raised."""
    start = threading.Barrier(len(functions))
    results: list[Any] = [None] * len(functions)
    errors: list[BaseException] = []

    def work(place: int, function: Callable[[], Any]) -> None:
        start.wait()
        try:
            results[place] = function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=each) for each in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


@pytest.fixture
def store(make_store: MakeStore) -> sessile.Store:
    return make_store(busy_timeout=20, capacity=5000, memory="16 MiB", max_sessions_per_owner=None)


def test_each_thread_has_its_own_sessions(store: sessile.Store) -> None:
    def work(number: int) -> int:
        for step in range(300):
            session = store.create({"n": number, "step": step})
            loaded = store.load(session.id)
            assert loaded is not None
            assert dict(loaded) == {"n": number, "step": step}
            loaded["more"] = "x" * step
            loaded.save()
            loaded.login(f"owner {number}", keep=True)
            again = store.load(loaded.id)
            assert again is not None
            assert (again["more"], again.owner) == ("x" * step, f"owner {number}")
            if step % 3:
                again.destroy()
                assert store.load(loaded.id) is None
        return len(store.sessions(f"owner {number}"))

    counts = run(*[lambda number=number: work(number) for number in range(THREADS)])
    assert counts == [100] * THREADS
    assert store.stats().sessions == 100 * THREADS


def test_no_increment_is_lost(store: sessile.Store) -> None:
    """CON-01, CON-03."""
    identifier = store.create({"n": 0}).id

    def work() -> None:
        for _ in range(200):
            store.load(identifier).update_field("n", lambda n: n + 1)

    run(*[work] * THREADS)
    assert store.load(identifier)["n"] == 200 * THREADS


def test_no_field_of_another_is_lost(store: sessile.Store) -> None:
    """CON-03: the parallel requests of one page."""
    identifier = store.create({}, owner="alice").id

    def work(number: int) -> None:
        for step in range(100):
            session = store.load(identifier)
            session[f"field {number}"] = step
            session.setdefault(f"list {number}", []).append(step)
            session.save()

    run(*[lambda number=number: work(number) for number in range(THREADS)])
    session = store.load(identifier)
    assert len(session) == 2 * THREADS
    for number in range(THREADS):
        assert session[f"field {number}"] == 99
        assert session[f"list {number}"] == list(range(100))


def test_an_addition_is_never_lost_to_a_save_that_empties(store: sessile.Store) -> None:
    """STO-11 with CON-03: what empties an anonymous session removes it only if nobody added meanwhile."""
    for _ in range(300):
        identifier = store.create({"a": 1}).id

        def empty(identifier: str = identifier) -> bool:
            session = store.load(identifier)
            del session["a"]
            return session.save()

        def add(identifier: str = identifier) -> bool:
            session = store.load(identifier)
            if session is None:
                return False
            session["b"] = 1
            try:
                return session.save()
            except sessile.SessionGone:
                return False

        _, added = run(empty, add)
        left = store.load(identifier)
        assert (dict(left) == {"b": 1}) if added else (left is None)


def test_after_a_log_out_nobody_loads_it(store: sessile.Store) -> None:
    """LIF-11, CON-02: log-out against load and save, each time at once."""
    for _ in range(200):
        session = store.create({"a": 1}, owner="alice")
        identifier = session.id
        ended = threading.Event()

        def end(session: sessile.Session = session, ended: threading.Event = ended) -> None:
            session.logout()
            ended.set()

        def use(identifier: str = identifier, ended: threading.Event = ended) -> None:
            for _ in range(30):
                after = ended.is_set()
                found = store.load(identifier)
                assert not (after and found)
                if found is None:
                    return
                found["a"] = found["a"] + 1
                try:
                    found.save()
                except sessile.SessionGone:
                    assert store.load(identifier) is None

        run(end, use, use)
        assert store.load(identifier) is None
    assert store.stats().sessions == 0


def test_one_of_racing_log_ins_succeeds(store: sessile.Store) -> None:
    """LIF-05: two log-ins of one anonymous session: exactly one gets it."""
    for _ in range(100):
        identifier = store.create().id

        def log_in(name: str, identifier: str = identifier) -> bool:
            session = store.load(identifier)
            if session is None:
                return False
            try:
                session.login(name)
            except sessile.SessionGone:
                return False
            return session.alive()

        assert sorted(run(lambda: log_in("alice"), lambda: log_in("bob"))) == [False, True]
        assert store.load(identifier) is None
    assert len(store.sessions("alice")) + len(store.sessions("bob")) == 100


def test_log_ins_race_with_revocations(make_store: MakeStore) -> None:
    """LIF-12: when revoke returns, what was there before is dead, whatever races."""
    store = make_store(busy_timeout=20, max_sessions_per_owner=50)
    done = threading.Event()

    def log_in() -> None:
        while not done.is_set():
            session = store.open()
            session.login("alice")
            session.alive()

    def revoke() -> int:
        count = 0
        while count < 100:
            before = [info.handle for info in store.sessions("alice")]
            count += store.revoke("alice")
            after = {info.handle for info in store.sessions("alice")}
            assert not after & set(before)
        done.set()
        return count

    assert run(log_in, log_in, revoke)[2] >= 100
    store.revoke("alice")
    assert store.stats().owned == 0


def test_a_shared_session_may_lose_a_change_and_never_crashes(store: sessile.Store) -> None:
    """One Session belongs to one request; this is the program that did not know."""
    session = store.create({"n": 0, "list": []}, owner="alice")
    expected = (sessile.SessileError, KeyError, RuntimeError)

    def work(number: int) -> None:
        for step in range(150):
            try:
                session[f"f{number}"] = [step]
                session["list"].append(step)
                list(session.items())
                session.get("n")
                session.save()
                session.update_field("n", lambda n: n + 1, default=0)
                if step % 10 == number:
                    session.reload()
                if step % 31 == number:
                    session.rotate()
                if step % 37 == number:
                    session.clear()
                    session.login("alice")
                _ = (
                    session.id,
                    session.handle,
                    session.owner,
                    session.device,
                    session.remaining,
                    repr(session),
                )
            except expected:
                continue

    run(*[lambda number=number: work(number) for number in range(THREADS)])


@pytest.mark.parametrize("reporting", [False, True])
def test_closing_while_others_are_inside(
    make_store: MakeStore, bytes_of_tables: Callable[[], int], reporting: bool
) -> None:
    """Every call either does its work or raises StoreClosed; nothing is unmapped under anybody."""
    for round_number in range(10):
        recorder = EventRecorder() if reporting else None
        store = make_store(on_event=recorder, busy_timeout=20)
        session = store.create({"a": 1}, owner="alice")
        under_way = threading.Barrier(THREADS + 1)

        def work(
            number: int,
            store: sessile.Store = store,
            session: sessile.Session = session,
            under_way: threading.Barrier = under_way,
        ) -> int:
            mine = store.create({"n": number})
            under_way.wait()
            calls = 0
            try:
                while True:
                    calls += 1
                    assert store.load(mine.id) is not None
                    store.load(session.id).update_field("a", lambda a: a + 1)
                    store.create({"x": "y" * 500}, owner=f"owner {number}").rotate()
                    store.sweep(1)
                    store.sessions(f"owner {number}")
                    store.stats()
            except sessile.StoreClosed:
                return calls

        def close(
            store: sessile.Store = store,
            under_way: threading.Barrier = under_way,
            length: float = 0.003 * round_number,
        ) -> int:
            under_way.wait()
            threading.Event().wait(length)
            store.close()
            return 1

        tables = bytes_of_tables()
        assert all(run(*[lambda number=number: work(number) for number in range(THREADS)], close))
        with pytest.raises(sessile.StoreClosed):
            store.stats()
        if HAS_LOCK:
            assert bytes_of_tables() < tables, "the last one out did not give the table back"


def test_two_threads_close(make_store: MakeStore) -> None:
    for _ in range(50):
        store = make_store()
        run(*[store.close] * THREADS)


def test_what_keeps_a_lock_blocks_no_other_thread(store: sessile.Store) -> None:
    """CON-05: no lock is held across a request, however slow."""
    session = store.create({"a": 1})
    slow_is_inside, quick_is_done = threading.Event(), threading.Event()

    def slow() -> Any:
        def wait(value: int) -> int:
            slow_is_inside.set()
            assert quick_is_done.wait(30)
            return value + 1

        return store.load(session.id).update_field("a", wait)

    def quick() -> None:
        assert slow_is_inside.wait(30)
        request = store.load(session.id)
        request["b"] = 1
        request.save()
        quick_is_done.set()

    assert run(slow, quick)[0] == 2
    assert dict(store.load(session.id)) == {"a": 2, "b": 1}
