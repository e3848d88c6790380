"""A Flask site under gunicorn and a Quart site under uvicorn, two workers each, with tables that they name themselves."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("flask_login", reason="Flask-Login is not installed")
pytest.importorskip("quart", reason="Quart is not installed")

pytestmark = pytest.mark.slow

COMMANDS = {
    "gunicorn": lambda port: [
        *("-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "2", "--no-control-socket"),
        "flask_site:flask_app",
    ],
    "uvicorn": lambda port: [
        *("-m", "uvicorn", "--port", str(port), "--workers", "2", "--no-access-log"),
        "flask_site:quart_app",
    ],
}


@pytest.fixture(params=COMMANDS)
def site(request: pytest.FixtureRequest, serve_command: Callable[..., Any], tmp_path: Any) -> Any:
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    return serve_command(request.param, COMMANDS[request.param], SESSILE_FOLDER=str(tmp_path))


def workers_that_answer(site: Any, cookie: str, user: str | None, count: int = 2) -> set[int]:
    """Ask on fresh connections until so many workers answered; each must know who is logged in."""
    seen: set[int] = set()
    while len(seen) < count:
        client = site.client()
        shown = client.show("/me", cookie=cookie)
        client.connection.close()
        assert shown["user"] == user
        seen.add(shown["pid"])
    return seen


def test_two_workers_two_tabs_a_kill_and_log_out_everywhere(site: Any) -> None:
    """MPR-07, LIF-12: no daemon, and no worker that has to know the others."""
    phone, laptop = site.client(), site.client()
    for device in (phone, laptop):
        assert device.ask("/login/alice").status == 200
    workers = workers_that_answer(site, phone.cookie, "alice")
    os.kill(min(workers), signal.SIGKILL)
    while True:  # until another one has taken its place
        try:
            if workers_that_answer(site, phone.cookie, "alice") - workers:
                break
        except OSError:  # a connection that the dead worker had
            time.sleep(0.05)
    for device in (phone, laptop):
        device.connection.close()  # it may have been the dead worker's
    tab = phone.cookie
    assert phone.ask("/logout").status == 200
    workers_that_answer(site, tab, None)
    workers_that_answer(site, laptop.cookie, "alice")
    assert laptop.ask("/everywhere").status == 200
    workers_that_answer(site, laptop.cookie, None)


def test_a_deploy_logs_nobody_out(site: Any) -> None:
    """New workers with new code, by SIGHUP, as both servers know it."""
    client = site.client()
    client.ask("/login/alice")
    before = workers_that_answer(site, client.cookie, "alice")
    os.kill(site.process.pid, signal.SIGHUP)
    while True:
        try:
            if not workers_that_answer(site, client.cookie, "alice") & before:
                break
        except OSError:
            time.sleep(0.05)
