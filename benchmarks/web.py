"""The web layer: what it adds to a request, and how many requests a second are left beside other sessions.

python -m benchmarks.web            all of it, two minutes; wants wrk and redis-server (Debian's packages)
python -m benchmarks.web --quick    small: to see that it runs, not for figures
python -m benchmarks.web share      only the time that the middleware adds to a request

"Our share" is the time of a request with the middleware less that of the same application without it, both called
as a server calls them, in turn; the request carries three cookies, and each is of another one of 10,000 sessions.
A request that touches the session reads one of its six fields.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import sessile
from benchmarks import record
from benchmarks.record import Section
from benchmarks.workload import compare, fill, make_store
from sessile.web import asgi, wsgi

COMMAND = "python -m benchmarks.web"
COOKIES = "theme=dark; __Host-Http-id=", "; _ga=GA1.1.1067938712.1726312345"  # around the id

# What a server passes on of a browser's request for a page.
FIELDS = {
    "host": "shop.example",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Safari/537.36",
    "accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "accept-language": "en-GB,en;q=0.5",
    "accept-encoding": "gzip, deflate, br",
    "sec-fetch-site": "same-origin",
    "sec-fetch-mode": "navigate",
    "connection": "keep-alive",
}


# ---- our share ----


def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
    pass


ENVIRON: dict[str, Any] = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/account",
    "QUERY_STRING": "",
    "SERVER_NAME": "shop.example",
    "SERVER_PORT": "443",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "wsgi.url_scheme": "https",
    "wsgi.multiprocess": False,
    "wsgi.multithread": True,
    **{"HTTP_" + name.upper().replace("-", "_"): value for name, value in FIELDS.items()},
}
HEADERS = [(name.encode(), value.encode()) for name, value in FIELDS.items()]
SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "https",
    "path": "/account",
    "query_string": b"",
    "root_path": "",
}


def wsgi_app(key: str | None) -> Any:
    """An application that reads `user_id` of what is under the key, or touches nothing."""
    headers = [("Content-Type", "text/plain"), ("Content-Length", "2")]

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if key is not None:
            environ[key]["user_id"]
        start_response("200 OK", headers)
        return [b"ok"]

    return app


def asgi_app(key: str | None) -> Any:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]

    async def app(scope: dict[str, Any], _: Any, send: Any) -> None:
        if key is not None:
            scope[key]["user_id"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    return app


def finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for nothing, without a loop."""
    with contextlib.suppress(StopIteration):
        coroutine.send(None)
        raise RuntimeError("it waits for something")


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: dict[str, Any]) -> None:
    pass


def caller(protocol: str, app: Any) -> Callable[[str], object]:
    """What calls the application as a server does, with a request that was just read, for each id."""
    before, after = COOKIES

    def call_wsgi(id: str) -> None:
        body = app({**ENVIRON, "HTTP_COOKIE": before + id + after}, start_response)
        for _ in body:
            pass
        if hasattr(body, "close"):
            body.close()

    def call_asgi(id: str) -> None:
        cookie = (before + id + after).encode()
        finish(app({**SCOPE, "headers": [*HEADERS, (b"cookie", cookie)]}, receive, send))

    return call_wsgi if protocol == "wsgi" else call_asgi


TARGETS = {
    ("wsgi", True): "<= 4 us",
    ("wsgi", False): "<= 0.7 us",
    ("asgi", True): "<= 5 us",
    ("asgi", False): "<= 1 us",
}


def share(section: Section, quick: bool) -> None:
    count = 1_000 if quick else 10_000
    with contextlib.closing(make_store(count)) as store:
        ids = fill(store, count)
        _share(section, store, ids, "an anonymous session", quick)
    with contextlib.closing(make_store(count, max_sessions_per_owner=None)) as store:
        ids = fill(store, count)
        for number, id in enumerate(ids):
            session = store.load(id)
            assert session is not None
            session.login(f"owner {number}", keep=True)
            ids[number] = session.id or ""
        _share(section, store, ids, "a session with an owner", quick)


def _share(section: Section, store: sessile.Store, ids: list[str], whose: str, quick: bool) -> None:
    for (protocol, touches), target in TARGETS.items():
        make = wsgi_app if protocol == "wsgi" else asgi_app
        middleware = wsgi.SessionMiddleware if protocol == "wsgi" else asgi.SessionMiddleware
        key = {"wsgi": "sessile.session", "asgi": "session"}[protocol]
        ours = middleware(make(key if touches else None), store)
        found = compare(caller(protocol, ours), caller(protocol, make(None)), ids, 3 if quick else 15)
        spent = (found.ours - found.theirs) / 1000
        what = f"{protocol.upper()}, {'touched' if touches else 'untouched'}: {whose}"
        section.row(what, target, f"{spent:.2f} us ({found.ours / 1000:.2f} - {found.theirs / 1000:.2f})")


# ---- anonymous page views ----


def views(section: Section, _: bool) -> None:
    """What visitors leave who only look, though the page asks who they are."""
    with contextlib.closing(make_store(1000)) as store:
        cookies = 0

        def counting(_: str, headers: list[tuple[str, str]]) -> None:
            nonlocal cookies
            cookies += sum(name == "Set-Cookie" for name, _ in headers)

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return [repr(environ["sessile.session"].owner).encode()]

        middleware = wsgi.SessionMiddleware(app, store)
        for _ in range(1000):
            b"".join(middleware(dict(ENVIRON), counting))
        measured = f"{cookies} cookies, {store.stats().created} records"
        section.row("1,000 anonymous page views", "0 cookies, 0 records", measured)


# ---- requests a second ----

CONTENDERS = {
    "sessile": "sessile",
    "no session": "no session at all",
    "signed": "Starlette's signed cookie",
    "memory": "starsessions in memory",
    "redis": "starsessions over Redis, unix socket",
}


def requests(section: Section, quick: bool) -> None:
    """One worker of uvicorn (uvloop, httptools) for each; wrk with 32 connections on the other core.

    On a machine that does other things too the processor time of the server says more than requests a second.
    """
    missing = [name for name in ("wrk", "redis-server") if shutil.which(name) is None]
    if missing:
        section.note(f"Requests a second were not measured: {' and '.join(missing)} not installed.")
        return
    seconds, rounds = (1, 1) if quick else (2, 4)
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    spent: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        stack.enter_context(redis(folder))
        servers = {name: stack.enter_context(starlette(name, folder)) for name in CONTENDERS}
        for _ in range(rounds):
            for name, (process, port, cookie) in servers.items():
                before = processor_time(process)
                count, rate = load(port, cookie, seconds)
                rates[name].append(rate)
                spent[name].append((processor_time(process) - before) / count * 1e6)
    for name, label in CONTENDERS.items():
        target = "sessile is faster" if name in ("signed", "memory", "redis") else ""
        measured = f"{statistics.median(rates[name]):,.0f}; sessile {ratio(rates['sessile'], rates[name])}"
        section.row(f"requests a second, one-line Starlette app: {label}", target, measured)
    for name, label in CONTENDERS.items():
        measured = f"{statistics.median(spent[name]):,.1f} us; {ratio(spent[name], spent['sessile'])} that of sessile"
        section.row(f"processor time of the server for such a request: {label}", "", measured)


def ratio(one: list[float], other: list[float]) -> str:
    """The median of the rounds' ratios, and the lowest and highest."""
    ratios = sorted(mine / theirs for mine, theirs in zip(one, other, strict=True))
    return f"{statistics.median(ratios):.2f} x ({ratios[0]:.2f}-{ratios[-1]:.2f})"


def processor_time(process: subprocess.Popen[bytes]) -> float:
    """Seconds of user and system time so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[None]:
    """A server of this run's own, without persistence."""
    path = folder / "redis"
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)]
    with ended(subprocess.Popen(command, stdout=subprocess.DEVNULL)) as process:
        while not path.exists():
            assert process.poll() is None, "redis-server did not start"
            time.sleep(0.02)
        yield


@contextlib.contextmanager
def starlette(name: str, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, str]]:
    """The application of web_app.py with this session: its process, port, and a cookie with the payload."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--port", str(port), "--http", "httptools", "--loop", "uvloop"]
    command += ["--no-access-log", "--log-level", "warning", "benchmarks.web_app:app"]
    environment = {**os.environ, "SESSIONS": name, "FOLDER": str(folder)}
    with ended(subprocess.Popen(command, cwd=record.ROOT, env=environment)) as process:
        while True:
            assert process.poll() is None, f"uvicorn did not start: {name}"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        cookie = ask(port, "/fill", "")[1]
        assert ask(port, "/", cookie)[0] == (b"None" if name == "no session" else b"100001"), name
        yield process, port, cookie


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def ask(port: int, path: str, cookie: str) -> tuple[bytes, str]:
    """Body, and the cookie to send from now on."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
    response = connection.getresponse()
    body, given = response.read(), response.headers.get("Set-Cookie") or ""
    connection.close()
    return body, given.split(";")[0] or cookie


def load(port: int, cookie: str, seconds: int) -> tuple[int, float]:
    """Requests, and requests a second, that wrk counts; none of them may fail."""
    command = ["wrk", "-t1", "-c32", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    if cookie:
        command += ["-H", f"Cookie: {cookie}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Socket errors" not in printed, printed
    assert "Non-2xx" not in printed, printed
    count, rate = re.search(r"([0-9]+) requests in", printed), re.search(r"Requests/sec:\s+([0-9.]+)", printed)
    assert count is not None, printed
    assert rate is not None, printed
    return int(count[1]), float(rate[1])


# ---- all ----

PARTS = {"share": share, "views": views, "requests": requests}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *PARTS], default=[])
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.names:  # a part is for looking at, not for the record
        for name in arguments.names:
            PARTS[name](Section("web", "", "", arguments.quick), arguments.quick)
        return
    with record.section("web", "The web layer", COMMAND, quick=arguments.quick) as section:
        for part in PARTS.values():
            part(section, arguments.quick)


if __name__ == "__main__":
    main()
