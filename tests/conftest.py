"""Fixtures that many test modules share, and how hypothesis runs."""

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import sessile
from sessile.testing import EventRecorder

# A loaded machine is slow, not wrong: no example has a deadline. A failure prints what repeats it. The examples are the same
# in each run: what was green is green again; pytest --hypothesis-profile=hunt looks for others.
unhurried = settings(deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
settings.register_profile("hunt", unhurried)
settings.register_profile("unhurried", settings(unhurried, derandomize=True, database=None))
settings.load_profile("unhurried")

SECRET = b"the secret of the tests, 32 bytes or more"
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")


def is_running(task: str) -> bool:
    """Whether a thread of this process, by its number in /proc, does something; not one that waits, or is gone."""
    try:
        return Path(f"/proc/self/task/{task}/stat").read_text().rpartition(")")[2].split()[0] != "S"
    except OSError:
        return False


def wait_for_ending_threads() -> None:
    """Until none is left: the interpreter forgets a thread before it has ended, and never knew faulthandler's."""
    while True:
        known = {str(each) for each in (threading.get_native_id(), *(each.native_id for each in threading.enumerate()))}
        if not any(is_running(task) for task in os.listdir("/proc/self/task") if task not in known):
            return
        time.sleep(0.001)


# A thread that ends gives memory back to the address sanitizer without the interpreter lock, and GCC 12's does not hold the
# lock of its memory over a fork: a child that is forked at that instant waits for that lock for ever.
if SANITIZED:
    os.register_at_fork(before=wait_for_ending_threads)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who calls something in a forked child means the table to be shared with it, but where that is the matter."""
    for item in items:
        if "in_child" in getattr(item, "fixturenames", ()) and item.path.name != "test_private_home.py":
            item.add_marker(pytest.mark.shared_home)


@pytest.fixture
def make_store() -> Iterator[Callable[..., sessile.Store]]:
    """Makes small stores; at the end of the test each must pass its own check, and is closed."""
    made: list[sessile.Store] = []

    def make(**options: Any) -> sessile.Store:
        options = {"capacity": 1000, "memory": "4 MiB", "secret": SECRET, **options}
        made.append(sessile.Store(**options))
        return made[-1]

    yield make
    for store in made:
        try:
            assert store.check() == []
        except sessile.StoreClosed:
            continue
        store.close()


@pytest.fixture
def bytes_of_tables() -> Callable[[], int]:
    """Counts the addresses that tables and keys take in this process: what is kept out of core dumps (STO-07).

    So is the shadow of the address sanitizer, terabytes of it that are split and merged as threads end: it asks for no
    huge pages ("nh"), and where it is only what has a name is counted, as tables have.
    """

    def count() -> int:
        kib = total = 0
        is_named = True
        for line in Path("/proc/self/smaps").read_text().splitlines():
            if line.startswith("Size:"):
                kib = int(line.split()[1])
            elif line.startswith("VmFlags:"):
                flags = line.split()
                total += kib * 1024 if "dd" in flags and "nh" not in flags and (is_named or not SANITIZED) else 0
            elif not line.split()[0].endswith(":"):  # the first line of a mapping: its name is the sixth word
                is_named = len(line.split()) > 5 and line.split()[5].startswith("/")
        return total

    return count


@pytest.fixture
def store(make_store: Callable[..., sessile.Store]) -> sessile.Store:
    return make_store()


@pytest.fixture
def recorder() -> EventRecorder:
    return EventRecorder()


@pytest.fixture
def watched(make_store: Callable[..., sessile.Store], recorder: EventRecorder) -> sessile.Store:
    """A store whose events go to `recorder`."""
    return make_store(on_event=recorder)


def pickled_answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    """Whether the function succeeded, and its result or what it raised, pickled."""
    try:
        return pickle.dumps((True, function(*arguments)))
    except BaseException as error:
        try:
            return pickle.dumps((False, error))
        except Exception:
            return pickle.dumps((False, AssertionError(repr(error))))


@pytest.fixture
def in_child() -> Callable[..., Any]:
    """Calls a function in a forked child and gives its result, or raises what it raised."""

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(reader)
                with os.fdopen(writer, "wb") as pipe:
                    pipe.write(pickled_answer(function, arguments))
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            data = pipe.read()
        _, status = os.waitpid(child, 0)
        assert status == 0, f"the child ended with status {status}"
        succeeded, result = pickle.loads(data)
        if not succeeded:
            raise result
        return result

    return call
