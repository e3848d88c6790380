"""An application behind the middleware, in this process, over either protocol, so that the rules of the
manager are tested once for both.

A *handler* is the application: it gets the session and returns

    None, or a status, or (status, headers)      the response; its body is "done"

or it is a generator: what comes before its first `yield` happens before the headers, the rest after them.
What it yields first is the response, as above; what follows are parts of the body, as bytes.

Further down: real servers, in processes of their own, which serve served.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import http.client
import inspect
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from socketserver import ThreadingMixIn
from types import ModuleType
from typing import Any, ClassVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

import sessile
from sessile.web import asgi, wsgi

Handler = Callable[[sessile.Session], Any]


@dataclass
class Reply:
    """What came over the wire, and the exception that the server saw, if any."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    error: BaseException | None = None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def __getitem__(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, values
        return values[0] if values else None

    @property
    def cookie(self) -> str | None:
        """Name and value of the cookie that was set, as it is sent back; "" for one that was deleted."""
        value = self["Set-Cookie"]
        if value is None:
            return None
        pair = value.split(";")[0]
        return "" if pair.endswith("=") else pair


@dataclass
class Site:
    """The application behind the middleware. With `browse` its cookie is kept from request to request."""

    protocol: str
    store: sessile.Store
    handler: Handler
    options: dict[str, Any] = field(default_factory=dict)
    cookie: str | None = None

    def __post_init__(self) -> None:
        self.app = _MAKE[self.protocol](self)

    def ask(
        self,
        method: str = "GET",
        path: str = "/",
        *,
        cookie: str | bytes | None = None,
        scheme: str = "https",
        host: str = "shop.example",
        headers: dict[str, str] | None = None,
        query: str = "",
    ) -> Reply:
        """One request. `cookie` is the whole header."""
        fields = {"Host": host, **(headers or {})}
        if cookie is not None:
            fields["Cookie"] = cookie.decode("latin-1") if isinstance(cookie, bytes) else cookie
        return _ASK[self.protocol](self.app, method, path, scheme, fields, query)

    def browse(self, method: str = "GET", path: str = "/", **options: Any) -> Reply:
        """One request of a browser, which sends its cookie and keeps the one that it gets."""
        reply = self.ask(method, path, cookie=self.cookie, **options)
        if reply.cookie is not None:
            self.cookie = reply.cookie or None
        return reply

    def put(self, handler: Handler) -> Site:
        """Another application in the same place."""
        self.handler = handler
        return self


def response(answer: Any) -> tuple[int, list[tuple[str, str]]]:
    """Status and headers of what a handler returned."""
    status, headers = answer if isinstance(answer, tuple) else (answer or 200, [])
    return status, [("Content-Type", "text/plain"), *headers]


# ---- WSGI ----


def wsgi_app(site: Site) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        result = site.handler(environ["sessile.session"])
        if inspect.isgenerator(result):
            return parts(result, start_response)
        start(start_response, result)
        return [b"done"]

    def parts(steps: Iterator[Any], start_response: Any) -> Iterator[bytes]:
        start(start_response, next(steps))
        yield b"begun "
        yield from steps
        yield b"done"

    def start(start_response: Any, answer: Any) -> None:
        status, headers = response(answer)
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)

    return app


def ask_wsgi(app: Any, method: str, path: str, scheme: str, fields: dict[str, str], query: str) -> Reply:
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ.update(REQUEST_METHOD=method, PATH_INFO=path, QUERY_STRING=query)
    environ["wsgi.url_scheme"] = scheme
    environ["wsgi.multiprocess"] = False
    for name, value in fields.items():
        environ["HTTP_" + name.upper().replace("-", "_")] = value
    reply = Reply(0, [])

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        assert reply.status == 0 or exc_info
        reply.status, reply.headers = int(status[:3]), headers
        return write

    def write(data: bytes) -> None:
        reply.body += data

    try:
        body = app(environ, start_response)
        try:
            for part in body:
                assert reply.status, "a part of the body came before the headers"
                reply.body += part
        finally:
            if hasattr(body, "close"):
                body.close()
    except Exception as error:
        reply.error = error
        if not reply.status:
            return Reply(500, [], b"the server's own page", error)
    return reply


# ---- ASGI ----


def asgi_app(site: Site) -> Any:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        result = site.handler(scope["session"])
        steps = result if inspect.isgenerator(result) else iter([result])
        status, headers = response(next(steps))
        lines = [(name.lower().encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": lines})
        if inspect.isgenerator(result):
            await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
        for part in steps:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"done"})

    return app


def ask_asgi(app: Any, method: str, path: str, scheme: str, fields: dict[str, str], query: str) -> Reply:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": scheme,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in fields.items()],
        "extensions": {},
    }
    reply = Reply(0, [])
    ended = False

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal ended
        assert not ended, "a message came after the end of the response"
        if message["type"] == "http.response.start":
            assert reply.status == 0
            reply.status = message["status"]
            reply.headers = [
                (name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]
            ]
            assert all(name.islower() for name, _ in reply.headers)
        else:
            assert reply.status, "a part of the body came before the headers"
            reply.body += message.get("body", b"")
            ended = not message.get("more_body", False)

    try:
        asyncio.run(app(scope, receive, send))
    except Exception as error:
        reply.error = error
        if not reply.status:
            return Reply(500, [], b"the server's own page", error)
    return reply


# The validator of the standard library watches both sides of the middleware. It also wraps the body, so that
# it is neither a list nor a tuple any more.
_MAKE: dict[str, Callable[[Site], Any]] = {
    "wsgi": lambda site: wsgi.SessionMiddleware(wsgi_app(site), site.store, **site.options),
    "wsgi-validated": lambda site: validator(
        wsgi.SessionMiddleware(validator(wsgi_app(site)), site.store, **site.options)
    ),
    "asgi": lambda site: asgi.SessionMiddleware(asgi_app(site), site.store, **site.options),
}
_ASK: dict[str, Callable[..., Reply]] = {"wsgi": ask_wsgi, "wsgi-validated": ask_wsgi, "asgi": ask_asgi}


@pytest.fixture(params=["wsgi", "wsgi-validated", "asgi"])
def protocol(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def make_site(protocol: str, watched: sessile.Store) -> Callable[..., Site]:
    """Makes a site of the protocol; its store's events go to `recorder`."""

    def make(handler: Handler, *, store: sessile.Store | None = None, **options: Any) -> Site:
        return Site(protocol, store or watched, handler, options)

    return make


# ---- real servers ----


HERE = Path(__file__).parent

KEPT = 60  # seconds that a server keeps a connection for a client that is slow to ask again: not the usual 2 or 5
UNHURRIED_UVICORN = ["--timeout-keep-alive", str(KEPT), "--timeout-worker-healthcheck", "60"]
"""Without the second one uvicorn kills a worker that needs 5 seconds to start."""


def _gunicorn(port: int, *options: str) -> list[str]:
    bind = ["--bind", f"127.0.0.1:{port}", "--workers", "2", "--no-control-socket"]
    return ["-m", "gunicorn", "--chdir", str(HERE), *bind, "--keep-alive", str(KEPT), *options, "served:wsgi"]


def _uvicorn(port: int, http: str) -> list[str]:
    options = ["--port", str(port), "--workers", "2", "--http", http, "--no-access-log"]
    return ["-m", "uvicorn", "--app-dir", str(HERE), *options, *UNHURRIED_UVICORN, "served:asgi"]


def _hypercorn(port: int) -> list[str]:
    return ["-m", "hypercorn", "--bind", f"127.0.0.1:{port}", "--workers", "2", "--keep-alive", str(KEPT), "served:asgi"]


def _granian(port: int, interface: str) -> list[str]:
    options = ["--port", str(port), "--workers", "2", "--interface", interface, "--no-access-log"]
    return ["-m", "granian", "--working-dir", str(HERE), *options, f"served:{interface}"]


SERVERS: dict[str, tuple[str, Callable[[int], list[str]]]] = {
    "gunicorn-sync": ("gunicorn", lambda port: _gunicorn(port, "--worker-class", "sync")),
    "gunicorn-gthread": ("gunicorn", lambda port: _gunicorn(port, "--threads", "16")),
    "uvicorn-h11": ("uvicorn", lambda port: _uvicorn(port, "h11")),
    "uvicorn-httptools": ("uvicorn", lambda port: _uvicorn(port, "httptools")),
    "hypercorn": ("hypercorn", _hypercorn),
    "hypercorn-supervised": ("supervisor", lambda _: ["-m", "supervisor.supervisord", "-c", str(HERE / "supervisord.conf")]),
    "granian-wsgi": ("granian", lambda port: _granian(port, "wsgi")),
    "granian-asgi": ("granian", lambda port: _granian(port, "asgi")),
}
"""By name: the package that is needed, and the command that serves tests/web/served.py with two workers."""


@dataclass
class Served:
    """A server in processes of its own, on a loopback port, and the store that it works on."""

    name: str
    port: int
    store: sessile.Store | None
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def is_asgi(self) -> bool:
        return "wsgi" not in self.name and "gunicorn" not in self.name

    def client(self) -> Client:
        return Client(self.port)

    def wait_for_log(self, text: str) -> None:
        """What happens after a response may be logged after it; the limit of the test ends the wait."""
        while text not in self.logged():
            self.require_running()
            time.sleep(0.01)

    def logged(self) -> str:
        """All that the server's processes wrote: where a supervisor starts them, they have a log each."""
        logs = sorted(self.log.parent.glob(self.log.name + "*"))
        return "".join(log.read_text(errors="replace") for log in logs)

    def require_running(self) -> None:
        assert self.process is None or self.process.poll() is None, self.logged()


PATIENCE = 120.0  # seconds for one answer, of a machine that is busy with something else


class Client:
    """A client with one connection and a cookie of its own; with `cookie=` that is sent in its place."""

    connections: ClassVar[list[http.client.HTTPConnection]] = []  # of all clients; closed after each test

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.connections.append(self.connection)
        self.cookie: str | None = None

    def ask(
        self,
        path: str,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        cookie: str | list[str] | None = None,
    ) -> Reply:
        sent = [self.cookie or []] if cookie is None else [cookie]
        cookies = [each for one in sent for each in ([one] if isinstance(one, str) else one)]
        self.connection.putrequest(method, path)
        for name, value in [*(headers or {}).items(), *(("Cookie", each) for each in cookies)]:
            self.connection.putheader(name, value.encode("latin-1"))
        if method == "POST":
            self.connection.putheader("Content-Length", "0")
        self.connection.endheaders()
        response = self.connection.getresponse()
        reply = Reply(response.status, response.getheaders(), response.read())
        if response.will_close:
            self.connection.close()
        if cookie is None and reply.cookie is not None:
            self.cookie = reply.cookie or None
        return reply

    def show(self, path: str = "/show", **options: Any) -> Any:
        """What the application shows as JSON."""
        reply = self.ask(path, **options)
        assert reply.status == 200, reply
        return json.loads(reply.body)


@contextlib.contextmanager
def port_of_its_own() -> Iterator[int]:
    """A port for a server that is to be started: nobody else is given it meanwhile. A socket that does not listen
    holds it, and lets those that may share an address bind beside it, as servers do."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


def wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until a request is answered. The server's own end, or the limit of the test, ends the wait."""
    while True:
        try:
            client = Client(port)
            client.ask("/untouched")
            client.connection.close()
            return
        except (OSError, http.client.HTTPException):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)


def end_with_parent() -> None:
    """A server must not outlive tests that end by a time limit: prctl(PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@contextlib.contextmanager
def running(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server in processes of its own: Python with these arguments."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-W", "default", *command],
            cwd=HERE,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def serving(name: str, folder: Path, *, wait: bool = True, **environment: str) -> Iterator[Served]:
    """A server of tests/web/served.py, by its name in SERVERS."""
    package, command = SERVERS[name]
    pytest.importorskip(package, reason=f"{package} is not installed")
    log = folder / "log"
    environment |= {"SERVED_FOLDER": str(folder), "SERVED_PYTHON": sys.executable}
    with port_of_its_own() as port, running(command(port), log, **environment, SERVED_PORT=str(port)) as process:
        if wait:
            wait_until_up(process, port, log)
        path = environment.get("SESSILE_TABLE")
        store = None if path is None else sessile.Store(path, capacity=10_000, memory="16 MiB")
        yield Served(name, port, store, log, process)
        if store is not None:
            assert store.check() == []
            store.close()


@pytest.fixture
def private_folder() -> Iterator[Path]:
    """A folder for a table: in memory, of this user alone."""
    with tempfile.TemporaryDirectory(prefix="sessile-test-", dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def close_clients() -> Iterator[None]:
    yield
    while Client.connections:
        Client.connections.pop().close()


@pytest.fixture(name="serving")
def serving_fixture() -> Callable[..., Any]:
    """`serving` itself, for tests that want a server of their own."""
    return serving


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[[str], Served]]:
    """Gives a running server by its name; each is started once for all tests."""
    with contextlib.ExitStack() as stack:
        running: dict[str, Served] = {}

        def start(name: str) -> Served:
            if name not in running:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
                running[name] = stack.enter_context(
                    serving(name, folder, SESSILE_TABLE=str(folder / "table"))
                )
            return running[name]

        yield start


@pytest.fixture
def serve_command(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts a server by a command of one's own, which gets the port: (name, command, **environment). With
    `wait=False` it may not listen yet, or does so over https."""
    with contextlib.ExitStack() as stack:

        def start(name: str, command: Callable[[int], list[str]], *, wait: bool = True, **environment: str) -> Served:
            port, log = stack.enter_context(port_of_its_own()), tmp_path / "log"
            process = stack.enter_context(running(command(port), log, **environment))
            if wait:
                wait_until_up(process, port, log)
            return Served(name, port, None, log, process)

        yield start


@pytest.fixture(params=SERVERS)
def server_name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


# ---- a server in this process, whose store has a clock that a test can advance ----


class _LocalServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the thread of the connection: a browser opens some that it may never use."""
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):  # the client went away, or was cut off
            if self.tls is not None:
                request = stack.enter_context(self.tls.wrap_socket(request, server_side=True))
            super().finish_request(request, client_address)


class _QuietHandler(WSGIRequestHandler):
    def get_environ(self) -> dict[str, Any]:
        return {**super().get_environ(), "test.connection": self.connection}

    def log_message(self, *arguments: Any) -> None:
        """No access log."""


@contextlib.contextmanager
def serving_app(app: Any, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A WSGI application over real connections, from threads of this process; gives the port."""
    with make_server("127.0.0.1", 0, app, _LocalServer, _QuietHandler) as server:
        server.tls = tls
        if tls is not None:
            server.base_environ["HTTPS"] = "on"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def serving_here(
    store: sessile.Store, tls: ssl.SSLContext | None = None, around: Callable[[Any], Any] = lambda app: app, **options: Any
) -> Iterator[Served]:
    """The pages of served.py; `around` gives the application that is served around the middleware."""
    spec = spec_from_file_location("served", HERE / "served.py")
    assert spec is not None
    assert spec.loader is not None
    served = module_from_spec(spec)
    spec.loader.exec_module(served)
    app = wsgi.SessionMiddleware(served.wsgi_pages, store, **{"https": True, **options})
    with serving_app(around(app), tls) as port:
        try:
            yield Served("here", port, store, Path(os.devnull))
        finally:
            served.store.close()


@pytest.fixture
def serve_here() -> Iterator[Callable[..., Served]]:
    with contextlib.ExitStack() as stack:
        yield lambda store, *arguments, **options: stack.enter_context(serving_here(store, *arguments, **options))


@pytest.fixture
def serve_app() -> Iterator[Callable[..., int]]:
    with contextlib.ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(serving_app(*arguments))


# ---- the demo ----

DEMO = Path(__file__).parents[2] / "demo"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch, private_folder: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module of the demo, whose shop has a table of this test's own."""
    names = [path.stem for path in DEMO.glob("*.py")]
    monkeypatch.syspath_prepend(DEMO)
    monkeypatch.setenv("DEMO_TABLE", str(private_folder / "table"))
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield import_module
    if "shop" in sys.modules:
        sys.modules["shop"].store.close()
    for name in names:
        sys.modules.pop(name, None)


DEMO_SERVERS: dict[str, Callable[[int, str, str], list[str]]] = {
    "gunicorn": lambda port, key, certificate: [
        *("-m", "gunicorn", "--chdir", str(DEMO), "--bind", f"127.0.0.1:{port}", "--workers", "2", "--threads", "8"),
        *("--no-control-socket", "--keyfile", key, "--certfile", certificate, "wsgi:app"),
    ],
    "uvicorn": lambda port, key, certificate: [
        *("-m", "uvicorn", "--app-dir", str(DEMO), "--port", str(port), "--workers", "2", "--no-access-log"),
        *UNHURRIED_UVICORN,
        *("--ssl-keyfile", key, "--ssl-certfile", certificate, "asgi:app"),
    ],
}
"""By name: the command that serves the demo over https with two workers."""


@pytest.fixture
def serve_demo(private_folder: Path) -> Iterator[Callable[[str, str, str], int]]:
    """Serves the demo over https with a server in DEMO_SERVERS; gives the port, once something listens there."""
    with contextlib.ExitStack() as stack:

        def start(name: str, key: str, certificate: str) -> int:
            pytest.importorskip(name, reason=f"{name} is not installed")
            port, log = stack.enter_context(port_of_its_own()), private_folder / "log"
            command = DEMO_SERVERS[name](port, key, certificate)
            table = str(private_folder / "table")
            process = stack.enter_context(running(command, log, DEMO_TABLE=table))
            while True:
                assert process.poll() is None, log.read_text()
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 30):
                    return port
                time.sleep(0.05)

        yield start
