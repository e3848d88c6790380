"""Processes that share a table by fork, and stores that share one by name."""

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sessile
from sessile.testing import EventRecorder, advance

pytestmark = pytest.mark.shared_home

MakeStore = Callable[..., sessile.Store]
InChild = Callable[..., Any]


def test_a_child_sees_the_same_table(store: sessile.Store, in_child: InChild) -> None:
    """MPR-07: what one process does, all others see at their next look-up."""
    session = store.create({"a": 1})

    def work() -> tuple[Any, ...]:
        mine = store.load(session.id)
        mine["b"] = 2
        mine.save()
        made = store.create({"c": 3}, owner="alice")
        return made.id, made.handle

    made, handle = in_child(work)
    assert dict(store.load(session.id)) == {"a": 1, "b": 2}
    assert store.load(made).handle == handle
    assert [info.handle for info in store.sessions("alice")] == [handle]
    assert store.stats().sessions == 2


def test_an_end_in_one_process_is_one_in_all(store: sessile.Store, in_child: InChild) -> None:
    """MPR-01, MPR-07: an inherited copy whose log-outs never arrive would be a bypass of revocation."""
    sessions = [store.create(owner=f"user {number}") for number in range(4)]
    in_child(lambda: store.load(sessions[0].id).logout())
    in_child(lambda: store.revoke("user 1"))
    in_child(lambda: store.load(sessions[2].id).login("another"))
    assert [session.alive() for session in sessions] == [False, False, False, True]
    sessions[3].destroy()
    assert in_child(lambda: store.load(sessions[3].id)) is None
    kept = store.create()
    in_child(store.revoke_all)
    assert not kept.alive()


def test_a_session_object_goes_on_in_the_child(store: sessile.Store, in_child: InChild) -> None:
    session = store.create({"n": 1})

    def work() -> bool:
        session["n"] = 2
        return session.save()

    assert in_child(work) is True
    assert store.load(session.id)["n"] == 2
    assert session.update_field("n", lambda n: n + 1) == 3


def test_children_of_children(store: sessile.Store, in_child: InChild) -> None:
    def work() -> str:
        return in_child(lambda: store.create({"deep": 1}).id)

    assert store.load(in_child(work))["deep"] == 1


def test_closing_in_a_child_is_the_childs_own_business(store: sessile.Store, in_child: InChild) -> None:
    session = store.create()
    in_child(store.close)
    assert session.alive()

    def dropped() -> None:
        nonlocal store
        del store

    in_child(dropped)
    assert session.alive()


def test_a_child_outlives_its_parents_store(make_store: MakeStore) -> None:
    store = make_store()
    identifier = store.create({"a": 1}).id
    to_child, from_child = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.read(to_child[0], 1)
        found = store.load(identifier)
        os.write(from_child[1], b"1" if found is not None and found["a"] == 1 else b"0")
        os._exit(0)
    store.close()
    os.write(to_child[1], b"x")
    assert os.read(from_child[0], 1) == b"1"
    os.waitpid(child, 0)
    for descriptor in (*to_child, *from_child):
        os.close(descriptor)


def test_many_children_at_once(make_store: MakeStore) -> None:
    """CON-01: eight processes on one session and on their own."""
    store = make_store(busy_timeout=30, max_sessions_per_owner=None)
    shared = store.create({"n": 0}, owner="alice")
    children = []
    for number in range(8):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for step in range(100):
                    store.load(shared.id).update_field("n", lambda n: n + 1)
                    mine = store.create({"step": step}, owner=f"child {number}")
                    mine.rotate()
                    if step % 2:
                        mine.logout()
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    assert store.load(shared.id)["n"] == 800
    assert [len(store.sessions(f"child {number}")) for number in range(8)] == [50] * 8
    assert store.check() == []


def test_fork_while_threads_are_at_work(make_store: MakeStore) -> None:
    """MPR-02: the child does not wait for a lock that a thread of its parent held at the fork."""
    store = make_store(busy_timeout=30)
    done = threading.Event()

    def work(number: int) -> None:
        session = store.create({"n": 0}, owner=f"thread {number}")
        while not done.is_set():
            session.update_field("n", lambda n: n + 1)
            store.create().destroy()
            store.sessions(f"thread {number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    session = store.create({"a": 1}, owner="child")
                    session.rotate()
                    found = store.load(session.id)
                    status = 0 if found is not None and found["a"] == 1 and store.sessions("child") else 2
                    session.logout()
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert store.check() == []


def test_a_killed_child_leaves_a_sound_table(make_store: MakeStore) -> None:
    store = make_store(busy_timeout=30)
    kept = [store.create({"n": number}, owner="kept") for number in range(5)]
    for _ in range(10):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, b"x")
            while True:
                session = store.create({"x": "y" * 200}, owner="killed")
                session["z"] = 1
                session.save()
                session.rotate()
                session.logout()
        os.read(reader, 1)
        threading.Event().wait(0.01)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)
        for number, session in enumerate(kept):
            assert store.load(session.id)["n"] == number
        store.create({"after": 1}, owner="after").rotate()
    assert store.check() == []


def test_events_are_told_in_the_process_that_did_it(
    watched: sessile.Store, recorder: EventRecorder, in_child: InChild
) -> None:
    session = watched.create()
    recorder.take()

    def work() -> list[str]:
        watched.load(session.id).destroy()
        return recorder.kinds

    assert in_child(work) == ["ended(destroyed)"]
    assert recorder.events == []


def test_the_clock_of_a_test_is_the_tables(store: sessile.Store, in_child: InChild) -> None:
    session = store.create()
    in_child(advance, store, 1801)
    assert store.load(session.id) is None


# ---- by name ----


@pytest.fixture
def path(tmp_path: Path) -> str:
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    return str(folder / "table")


OPTIONS: dict[str, Any] = {"capacity": 1000, "memory": "4 MiB"}


def test_two_stores_of_one_path_are_one_table(path: str) -> None:
    with sessile.Store(path, **OPTIONS) as one, sessile.Store(path, **OPTIONS) as two:
        session = one.create({"a": 1}, owner="alice")
        assert two.load(session.id)["a"] == 1
        assert two.revoke("alice") == 1
        assert not session.alive()
        assert path in repr(one)


def test_a_table_with_a_path_survives_its_processes(path: str) -> None:
    program = (
        "import sessile, sys\n"
        "store = sessile.Store(sys.argv[1], capacity=1000, memory='4 MiB')\n"
        "found = store.load(sys.argv[2]) if sys.argv[2] else None\n"
        "print(store.create({'n': found['n'] + 1 if found else 0}).id)\n"
    )
    identifier = ""
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", program, path, identifier], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        identifier = done.stdout.strip()
    with sessile.Store(path, **OPTIONS) as store:
        assert store.load(identifier)["n"] == 2


def test_the_secret_beside_the_table_is_private_and_shared(path: str) -> None:
    """PER-07, MPR-08."""
    with sessile.Store(path, **OPTIONS) as store:
        facts = os.stat(path + ".key")
        assert (facts.st_mode & 0o777, facts.st_size, facts.st_nlink) == (0o600, 32, 1)
        identifier = store.create().id
    with sessile.Store(path, **OPTIONS) as store:
        assert store.load(identifier) is not None
    assert sorted(os.listdir(os.path.dirname(path))) == ["table", "table.key"]


def test_a_secret_that_others_can_read_is_refused(path: str) -> None:
    """PER-07."""
    sessile.Store(path, **OPTIONS).close()
    os.chmod(path + ".key", 0o640)
    with pytest.raises(sessile.AttachError, match="0600") as caught:
        sessile.Store(path, **OPTIONS)
    assert "cannot be read" not in str(caught.value)
    os.chmod(path + ".key", 0o600)
    os.rename(path + ".key", path + ".real")
    os.symlink(path + ".real", path + ".key")
    with pytest.raises(sessile.AttachError, match="secret"):
        sessile.Store(path, **OPTIONS)
    os.unlink(path + ".key")
    with pytest.raises(sessile.AttachError, match="restore that file"):
        sessile.Store(path, **OPTIONS)
    assert not os.path.exists(path + ".key")
    Path(path + ".key").write_bytes(b"short")
    os.chmod(path + ".key", 0o600)
    with pytest.raises(sessile.AttachError, match="32 bytes"):
        sessile.Store(path, **OPTIONS)


def test_first_comers_make_one_secret(path: str) -> None:
    program = (
        "import sys, sessile.keys\nsys.stdin.read(1)\nprint(sessile.keys.secret_beside(sys.argv[1]).hex())\n"
    )
    command = [sys.executable, "-c", program, path]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for process in processes:
        process.stdin.write("x")
        process.stdin.flush()
    assert len({process.communicate()[0] for process in processes}) == 1
    assert os.listdir(os.path.dirname(path)) == ["table.key"]


def test_another_secret_is_refused(path: str) -> None:
    with sessile.Store(path, secret=b"a" * 32, **OPTIONS) as store:
        session = store.create()
        with pytest.raises(sessile.AttachError, match="secret") as caught:
            sessile.Store(path, secret=b"b" * 32, **OPTIONS)
        assert caught.value.path == path
        with sessile.Store(path, secret=[b"b" * 32, b"a" * 32], **OPTIONS) as both:
            assert both.load(session.id) is not None
            made = both.create()
        assert store.load(made.id) is None


def test_a_secret_may_be_changed_for_ever(path: str) -> None:
    """The table remembers the eight secrets that were used last, however many there were before."""
    secrets = [bytes([65 + number]) * 32 for number in range(30)]
    with sessile.Store(path, secret=secrets[0], **OPTIONS) as store:
        session = store.create({"n": 0}, owner="alice")
    for old, new in itertools.pairwise(secrets):
        with sessile.Store(path, secret=[new, old], **OPTIONS) as store:
            session = store.load(session.id)
            session["n"] += 1
            session.save()
            session.rotate()
        with sessile.Store(path, secret=[b"other" * 8, secrets[1], old], **OPTIONS):
            pass
    for number, secret in enumerate(secrets):
        known = number == 1 or number > 23
        if known:
            sessile.Store(path, secret=secret, **OPTIONS).close()
        else:
            with pytest.raises(sessile.AttachError, match="secret"):
                sessile.Store(path, secret=secret, **OPTIONS)
    with sessile.Store(path, secret=secrets[-1], **OPTIONS) as store:
        assert store.load(session.id)["n"] == 29


def test_an_id_of_an_older_secret_is_rekeyed_when_it_rotates(path: str) -> None:
    with sessile.Store(path, secret=b"a" * 32, **OPTIONS) as old:
        session = old.create({"n": 1}, owner="alice")
        with sessile.Store(path, secret=[b"b" * 32, b"a" * 32], **OPTIONS) as new:
            for change in (sessile.Session.rotate, sessile.Session._renew):
                found = new.load(session.id)
                identifier = found.id
                change(found)
                assert found.id != identifier
                assert new.load(found.id)["n"] == 1
                assert old.load(found.id) is None
                session = found
                old_holder = new.load(found.id)
            assert old_holder.alive()


def test_a_holder_learns_the_id_that_another_secret_gave(path: str) -> None:
    """A process with the newer secret renews; one that knows both and holds the session learns the new id."""
    secrets = [b"b" * 32, b"a" * 32]
    with (
        sessile.Store(path, secret=secrets, **OPTIONS) as new,
        sessile.Store(path, secret=secrets[::-1], **OPTIONS) as old,
    ):
        holder = old.load(old.create({"n": 1}, owner="alice").id)
        renewer = new.load(holder.id)
        assert renewer._renew() is True
        assert old.load(holder.id).id == renewer.id
        holder["n"] = 2
        holder.save()
        assert holder.id == renewer.id


def test_other_capacity_and_memory_are_the_tables_with_a_warning(path: str) -> None:
    with sessile.Store(path, capacity=1000, memory="4 MiB"):
        with pytest.warns(RuntimeWarning, match="capacity=1000"):
            other = sessile.Store(path, capacity=2000, memory="4 MiB")
        assert other.stats().capacity == 1000
        other.close()


def test_the_clock_of_a_shared_table_is_not_advanced(path: str, in_child: InChild) -> None:
    with sessile.Store(path, **OPTIONS) as store:
        advance(store, 5)

        def attached() -> None:
            store.stats()
            with pytest.raises(RuntimeError, match="other processes"):
                advance(store, 5)

        in_child(attached)


def test_a_name_lies_in_a_directory_of_this_user() -> None:
    name = f"test-{os.getpid()}"
    directory = f"/dev/shm/sessile-{os.geteuid()}"
    try:
        with sessile.Store(name, **OPTIONS) as store:
            assert os.stat(directory).st_mode & 0o777 == 0o700
            assert os.stat(os.path.join(directory, name)).st_mode & 0o777 == 0o600
            with sessile.Store(name, **OPTIONS) as other:
                assert other.load(store.create().id) is not None
            assert name in repr(store)
    finally:
        for file in (name, name + ".key"):
            if os.path.exists(os.path.join(directory, file)):
                os.unlink(os.path.join(directory, file))


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """PER-01, MPR-03."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(sessile.AttachError):
        sessile.Store(folder / "table", **OPTIONS)
    assert not os.path.exists(folder / "table")


def test_what_is_no_table_is_refused(path: str) -> None:
    """MPR-04."""
    Path(path).write_bytes(b"not a table" * 1000)
    os.chmod(path, 0o600)
    with pytest.raises(sessile.AttachError) as caught:
        sessile.Store(path, secret=b"a" * 32, **OPTIONS)
    assert caught.value.path == path
    assert Path(path).read_bytes() == b"not a table" * 1000
