"""Whole projects in processes of their own: which table they get, and that their tests never touch the site's."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

_IMPORT = "from sessile.web.django import SessionStore, get_store; "
_WRITE = _IMPORT + "s = SessionStore(); s['a'] = 1; s.save(); print('key:', s.session_key)"
_READ = _IMPORT + "print('a:', SessionStore({!r}).get('a'), 'of', get_store().stats().sessions)"
_RUNNER = """
import django, sys
from django.conf import settings
from django.test.utils import get_runner
django.setup()
sys.exit(get_runner(settings)().run_tests(["shopsite"]))
"""


def key_in(text: str) -> str:
    return text.split("key: ")[1].split()[0]


def test_two_checkouts_never_share_a_table(project: Any) -> None:
    one, two = project("one"), project("two")
    key = key_in(one.shell(_WRITE))
    assert "a: 1" in one.shell(_READ.format(key)), "the same from another process"
    assert "a: None" in two.shell(_READ.format(key))
    tables = os.listdir(f"/dev/shm/sessile-{os.geteuid()}")
    assert {one.table_name, two.table_name} <= set(tables)


def test_the_path_can_be_said(project: Any, tmp_path: Any) -> None:
    where = {"SHOP_SESSILE": json.dumps({"path": str(tmp_path / "table")})}
    key = key_in(project("release-1").shell(_WRITE, **where))
    assert "a: 1" in project("release-2").shell(_READ.format(key), **where)


def test_a_changed_secret_is_explained(project: Any) -> None:
    """PER-07"""
    shop = project("shop")
    shop.shell(_WRITE)
    said = shop.run("manage.py", "check", status=1, SHOP_SECRET="another secret key, also of fifty characters or so")
    assert "SECRET_KEY_FALLBACKS" in said


def test_test_runs_have_a_table_of_their_own(project: Any) -> None:
    """`manage.py test` never opens the site's; what is only noticed later leaves it as it was."""
    shop = project("shop")
    table = Path(f"/dev/shm/sessile-{os.geteuid()}") / shop.table_name
    assert "WROTE-A-SESSION" in shop.run("manage.py", "test")
    assert not table.exists()
    key = key_in(shop.shell(_WRITE))
    before = (table.stat().st_mtime_ns, table.stat().st_size)
    pytest_options = ["-q", "-s", "-o", "python_files=tests.py", "--ds=shopsite.settings", "--rootdir=."]
    assert "WROTE-A-SESSION" in shop.run("-m", "pytest", *pytest_options)
    assert "WROTE-A-SESSION" in shop.run("-c", _RUNNER, DJANGO_SETTINGS_MODULE="shopsite.settings")
    assert (table.stat().st_mtime_ns, table.stat().st_size) == before
    assert "a: 1 of 1" in shop.shell(_READ.format(key))


# ---- servers ----


@contextmanager
def serving(shop: Any, command: list[str], listening: str, **variables: str) -> Iterator[tuple[int, Any]]:
    """A server in a process of its own, and its port, which it says itself."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=shop.folder,
        env=shop.environment(PYTHONUNBUFFERED="1", **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            match = re.search(listening, line)
            if match:
                break
        else:
            raise AssertionError("".join(said))
        yield int(match[1]), process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.stdout.close()
        process.wait(120)


class Visitor:
    """A browser at a server's port: one connection a request, so that each worker has its turn."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookies: dict[str, str] = {}

    def ask(self, path: str, body: str | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Cookie": cookies, "X-Forwarded-Proto": "https", "Host": "127.0.0.1"}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request("GET" if body is None else "POST", path, body, headers)
        reply = connection.getresponse()
        assert reply.status == 200, reply.read()
        for found in reply.headers.get_all("Set-Cookie") or ():
            name, _, value = found.split(";")[0].partition("=")
            self.cookies[name] = value
        answer = json.loads(reply.read())
        connection.close()
        return answer


@pytest.fixture
def shop(project: Any, database: Any) -> Any:
    made = project("shop")
    shutil.copy(database, made.folder / "db.sqlite3")
    return made


_CREDENTIALS = "username=alice&password=sesame"
_GUNICORN = ["-m", "gunicorn", "--bind", "127.0.0.1:0", "--workers", "2", "shopsite.wsgi"]
_LISTENING = r"Listening at: http://127.0.0.1:(\d+)"


def test_runserver(shop: Any) -> None:
    # runserver says the port that it was given and not the one that it has: give it a free one.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        command = ["manage.py", "runserver", "--noreload", f"127.0.0.1:{free.getsockname()[1]}"]
    with serving(shop, command, r"Starting .*development server at http://127.0.0.1:(\d+)", SHOP_DEBUG="1") as (at, _):
        visitor = Visitor(at)
        _wait_for(visitor)
        visitor.ask("/login", _CREDENTIALS)
        assert "sessionid" in visitor.cookies
        assert visitor.ask("/me")["user"] == "alice"
        assert "alice" in shop.run("manage.py", "sessions", "--user", "alice", SHOP_DEBUG="1")


def _wait_for(visitor: Visitor) -> None:
    """runserver says that it starts before it listens."""
    until = time.monotonic() + 120
    while True:
        try:
            visitor.ask("/me")
        except ConnectionRefusedError:
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.02)
        else:
            return


def test_workers_share_the_sessions_and_a_log_out_everywhere(shop: Any) -> None:
    """Workers that are forked from one process that has the site, then some that start afresh. Log in, be known to
    each worker, kill one, deploy, log out from the command line."""
    variables = {"SHOP_SESSILE": '{"https": true}'}
    with serving(shop, [*_GUNICORN, "--preload"], _LISTENING, **variables) as (port, process):
        visitor = Visitor(port)
        visitor.ask("/login", _CREDENTIALS)
        assert "__Host-Http-id" in visitor.cookies
        workers = {}
        for _ in range(60):
            answer = visitor.ask("/me")
            assert answer["user"] == "alice"
            workers[answer["pid"]] = True
            if len(workers) == 2:
                break
        assert process.pid not in workers
        os.kill(next(iter(workers)), signal.SIGKILL)
        assert all(visitor.ask("/me")["user"] == "alice" for _ in range(10))
        visitor.ask("/write?n=1")
    with serving(shop, _GUNICORN, _LISTENING, **variables) as (port, _):
        visitor.port = port
        assert visitor.ask("/read")["fields"]["n"] == "1"
        other = Visitor(port)
        other.ask("/login", _CREDENTIALS)
        said = shop.run("manage.py", "sessions", "--user", "alice", "--revoke", **variables)
        assert "2 sessions ended" in said
        assert visitor.ask("/me")["user"] == ""
        assert other.ask("/me")["user"] == ""
