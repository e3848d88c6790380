"""The own tests of starsessions, run with a store of its kind that keeps its sessions in our table: how far the two
understand each other, and where they differ on purpose.

    python tests/web/starsessions_suite.py [REPOSITORY]

They are neither in its wheel nor in its source distribution: git fetches the version below from REPOSITORY, an address
or a directory, by default GitHub's, once, into build/starsessions/. Tests and package are of the same commit; what is
changed in them: the fixtures `store` and `in_memory_store` give `SessileStore` below.

What such a store does: an id that starsessions made up is never taken; the session gets one of ours, which `write`
returns, as that contract allows. Tests write under ids of their own choosing ("session_id") and expect them to be found
again: the store of the tests knows which of our ids each of those stands for.

DIFFERENCES names the tests that fail on purpose, with the reason. Any other failure, and a name there that passes or
does not exist, is an error.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from starlette_suite import Outcomes, judge

REPOSITORY = "https://github.com/alex-oleshkevich/starsessions"
COMMIT = "f2942f9"
VERSION = "2.3.0a1"

_WRITTEN = "write() returns the id of the new session, which is ours: one that was made up elsewhere is never taken (SID-06)"

DIFFERENCES = {
    "test_in_memory_read_write": _WRITTEN,
    "test_in_memory_expires": _WRITTEN,
    "test_in_memory_ttl_unit_is_seconds": "sets the clock inside the module of its own store; ours is advanced by "
    "sessile.testing.advance, and seconds are seconds there too",
}
"""By name: why it fails."""

BUILD = Path(__file__).resolve().parents[2] / "build" / "starsessions"

CONFTEST = '''
import asyncio
import inspect

import pytest
from starsessions import JsonSerializer, SessionStore
from starsessions.encryptors import NoopEncryptor

import sessile


class SessileStore(SessionStore):
    """Sessions of starsessions as one field of sessions in a table."""

    def __init__(self):
        self.table = sessile.Store(capacity=1000, memory="4 MiB")
        self.chosen = {}  # an id that a test chose: ours

    def load(self, id):
        return self.table.load(self.chosen.get(id, id))

    async def read(self, session_id, lifetime):
        session = self.load(session_id)
        return b"" if session is None else session["data"]

    async def write(self, session_id, data, lifetime, ttl):
        session = self.load(session_id) or self.table.create()
        session["data"] = data
        session.set_timeouts(idle=ttl or "default", absolute=ttl or "default")
        session.save()
        if len(session_id) != 32:
            self.chosen[session_id] = session.id
        return session.id

    async def remove(self, session_id):
        session = self.load(session_id)
        if session is not None:
            session.destroy()


@pytest.fixture(name="store")
def make_store():
    store = SessileStore()
    yield store
    store.table.close()


@pytest.fixture
def serializer():
    return JsonSerializer()


@pytest.fixture
def encryptor():
    return NoopEncryptor()


@pytest.fixture
def in_memory_store(store):
    return store


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """What pytest-asyncio does."""
    if not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    names = inspect.signature(pyfuncitem.function).parameters
    asyncio.run(pyfuncitem.function(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
'''

LEFT_OUT = ("test_redis.py", "test_cookie.py", "test_serializers.py", "test_encryptors.py")
"""Files about its own stores, serialisers and ciphers."""


def unpack(repository: str) -> Path:
    """The files of the commit in a directory; fetches them if they are not there."""
    folder = BUILD / COMMIT
    if not folder.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        clone = BUILD / "repository"
        subprocess.run(["git", "clone", "--quiet", repository, str(clone)], check=True)
        git = ["git", "-C", str(clone), "archive", "--format=tar", COMMIT, "starsessions", "tests"]
        folder.mkdir()
        archive = subprocess.run(git, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def main() -> int:
    folder = unpack(sys.argv[1] if len(sys.argv) > 1 else REPOSITORY)
    tests = folder / "tests"
    (tests / "conftest.py").write_text(CONFTEST)
    memory = tests / "backends" / "test_memory.py"
    text = memory.read_text()
    fixture = "@pytest.fixture\ndef in_memory_store() -> SessionStore:\n    return InMemoryStore()\n"
    if fixture in text:  # the first time
        memory.write_text(text.replace(fixture, ""))
    outcomes = Outcomes()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    left_out = [f"--ignore-glob=*/{name}" for name in LEFT_OUT]
    plugins = ["-p", "no:cacheprovider", "-p", "no:django"]
    options = ["-q", "--no-header", "--tb=no", "-W", "ignore", *plugins, "-c", os.devnull, *left_out]
    pytest.main([*options, str(tests)], plugins=[outcomes])
    return judge(f"starsessions {VERSION}", outcomes, DIFFERENCES)


if __name__ == "__main__":
    sys.exit(main())
