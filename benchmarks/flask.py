"""Whole requests of a Flask application, by where its sessions are.

python -m benchmarks.flask            a minute; wants redis-server (Debian's package)
python -m benchmarks.flask --quick    small: to see that it runs, not for figures

One application, called as a server calls it, five times: with sessile, with Flask's signed cookie, with Flask-Session
over Redis (unix socket) and over files (cachelib), and with no session at all. Each request is of another one of 1,000
sessions with the payload that all benchmarks have, and carries two more cookies. They take turns, round by round.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask
from flask.sessions import SessionInterface

import sessile
from benchmarks import record
from benchmarks.record import Section
from benchmarks.web import ENVIRON, ratio, redis
from benchmarks.workload import make_store, payload, time_of
from sessile.web.flask import Sessile

COMMAND = "python -m benchmarks.flask"
LABELS = {
    "signed": "Flask's signed cookie",
    "redis": "Flask-Session over Redis, unix socket",
    "files": "Flask-Session over files",
    "none": "no session at all",
}
# What is asked for, and what the request does.
PATHS = {"/read": "reads a field", "/write": "changes a field", "/untouched": "touches no session"}


class NoSession(SessionInterface):
    """Opens none."""

    def open_session(self, *_: object) -> None:
        pass


def make_app(name: str, count: int, folder: Path) -> tuple[Any, sessile.Store | None]:
    """The application with the sessions of that name, and its store."""
    app = flask.Flask(f"benchmark_{name}", static_folder=None)
    app.config["SECRET_KEY"] = "a key for benchmarks, and for nothing else"
    has_session = name != "none"
    store = None

    @app.get("/fill/<int:number>")
    def fill(number: int) -> str:
        if has_session:
            flask.session.update(payload(number))
        return "ok"

    @app.get("/read")
    def read() -> str:
        return str(flask.session["user_id"]) if has_session else "100001"

    @app.get("/write")
    def write() -> str:
        if has_session:
            flask.session["login_time"] += 1
        return "ok"

    @app.get("/untouched")
    def untouched() -> str:
        return "ok"

    if name == "none":
        app.session_interface = NoSession()
    elif name == "sessile":
        store = make_store(count)
        Sessile(app, store)
    elif name in ("redis", "files"):
        app.config.update(flask_session_options(name, count, folder))
        from flask_session import Session

        Session(app)
    return app, store


def flask_session_options(name: str, count: int, folder: Path) -> dict[str, Any]:
    if name == "redis":
        from redis import Redis

        return {"SESSION_TYPE": "redis", "SESSION_REDIS": Redis(unix_socket_path=str(folder / "redis"))}
    from cachelib.file import FileSystemCache

    cache = FileSystemCache(str(folder / "files"), threshold=10 * count)
    return {"SESSION_TYPE": "cachelib", "SESSION_CACHELIB": cache}


def caller(app: Any, path: str) -> Callable[[str], object]:
    """What calls the application as a server does, with the cookie of a session."""

    def start_response(status: str, *_: object) -> None:
        if not status.startswith("200"):
            raise RuntimeError(status)

    environ = {
        **ENVIRON,
        "PATH_INFO": path,
        "wsgi.input": open(os.devnull, "rb"),  # noqa: SIM115 (for as long as the program runs)
        "wsgi.errors": open(os.devnull, "w"),  # noqa: SIM115
    }

    def call(cookie: str) -> None:
        fields = f"theme=dark; {cookie}; _ga=GA1.1.1067938712.1726312345"
        body = app({**environ, "HTTP_COOKIE": fields}, start_response)
        for _ in body:
            pass
        body.close()

    return call


def fill(app: Any, count: int) -> list[str]:
    """The cookies of `count` sessions, as a browser sends them back."""
    cookies = []
    for number in range(count):
        response = app.test_client().get(f"/fill/{number}", base_url="https://shop.example")
        given = response.headers.get("Set-Cookie")
        cookies.append("session=none" if given is None else given.split(";")[0])
    return cookies


def requests(section: Section, quick: bool) -> None:
    count, rounds = (100, 2) if quick else (1000, 11)
    names = ["sessile", *LABELS]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        if shutil.which("redis-server") is None:
            names.remove("redis")
            section.note("Redis was not measured: redis-server is not installed.")
        else:
            stack.enter_context(redis(folder))
        apps = {}
        for name in names:
            app, store = make_app(name, count, folder)
            if store is not None:
                stack.enter_context(contextlib.closing(store))
            apps[name] = app, fill(app, count)
        for path, what in PATHS.items():
            times: dict[str, list[float]] = {name: [] for name in names}
            for _ in range(rounds):
                for name, (app, cookies) in apps.items():
                    times[name].append(time_of(caller(app, path), cookies))
            report(section, what, times)


def report(section: Section, what: str, times: dict[str, list[float]]) -> None:
    """sessile's time for a request that does this, and its ratio to each of the others."""
    section.row(f"a request that {what}: sessile", "", f"{statistics.median(times['sessile']) / 1000:.1f} us")
    for name, label in LABELS.items():
        if name in times:
            target = "" if name == "none" else "< 1 x"
            measured = f"{ratio(times['sessile'], times[name])}; it takes {statistics.median(times[name]) / 1000:.1f} us"
            section.row(f"a request that {what}: sessile against {label}", target, measured)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    with record.section("flask", "Flask", COMMAND, quick=arguments.quick) as section:
        section.note("Whole requests, by where the sessions are; the ratios are of sessile's time to the other's.")
        requests(section, arguments.quick)


if __name__ == "__main__":
    main()
