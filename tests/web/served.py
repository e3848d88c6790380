"""The application that test_servers.py and test_attacks.py have served by real servers: `wsgi` and `asgi`.

The table is at SESSILE_TABLE, or anonymous without it; its snapshots are in SESSILE_SNAPSHOTS, if there are any. TLS
is taken to end in front of the server.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import sessile
from sessile.web.asgi import SessionMiddleware as ASGIMiddleware
from sessile.web.wsgi import SessionMiddleware as WSGIMiddleware

store = sessile.Store(
    os.environ.get("SESSILE_TABLE"),
    capacity=10_000,
    memory="16 MiB",
    snapshot_dir=os.environ.get("SESSILE_SNAPSHOTS"),
    snapshot_interval=86_400,
    busy_timeout=float(os.environ.get("SERVED_BUSY_TIMEOUT", 20)),  # a loaded machine is slow, not wrong
)
OPTIONS: dict[str, Any] = {"https": True, "rotate_every": float(os.environ.get("SESSILE_ROTATE_EVERY", 900))}


def respond(path: str, query: dict[str, str], session: Any) -> tuple[int, dict[str, str], Any]:
    """Status, headers and what is shown as JSON. What a path does is told by its name."""
    headers: dict[str, str] = {}
    if path == "/count":
        session["n"] = session.get("n", 0) + 1
    elif path == "/increment":
        session.update_field("n", lambda n: n + 1, default=0)
    elif path == "/set":
        session.update(query)
    elif path == "/slow":  # reads, says so by a file, waits for a file, and then writes what it was asked to
        session.get("n")
        folder = Path(query.pop("folder"))
        (folder / f"reached-{os.urandom(8).hex()}").touch()
        while not (folder / "go").exists():
            time.sleep(0.01)
        session.update(query)
    elif path == "/login":
        session.login(query["owner"])
        return 303, {"Location": "/show"}, None
    elif path == "/login_and_fail":
        session.login(query["owner"])
        raise RuntimeError("a bug after the log-in")
    elif path == "/logout":
        session.logout()
    elif path == "/snapshot":
        store.snapshot()
    elif path == "/unstorable":
        session["bad"] = object()
        return 200, headers, "never seen"
    elif path == "/untouched":
        return 200, headers, {"pid": os.getpid()}
    shown = {"owner": session.owner, "fields": dict(session), "pid": os.getpid()}
    return 200, headers, shown


def wsgi_pages(environ: dict[str, Any], start_response: Any) -> Any:
    session = environ["sessile.session"]
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    if environ["PATH_INFO"] == "/stream":
        return stream(session, start_response)
    status, headers, shown = respond(environ["PATH_INFO"], query, session)
    body = json.dumps(shown).encode()
    lines = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers.items()]
    start_response(f"{status} Something", lines)
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


def stream(session: Any, start_response: Any) -> Any:
    def parts() -> Iterator[bytes]:
        yield b'"begun, '
        session["streamed"] = True
        yield b'ended"'

    session.setdefault("n", 0)
    start_response("200 OK", [("Content-Type", "application/json")])
    return parts()


async def asgi_pages(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    if scope["type"] == "websocket":
        return await talk(scope["session"], receive, send)
    session = scope["session"]
    query = dict(parse_qsl(scope["query_string"].decode()))
    if scope["path"] == "/stream":
        session.setdefault("n", 0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'"begun, ', "more_body": True})
        session["streamed"] = True
        await send({"type": "http.response.body", "body": b'ended"'})
        return None
    status, headers, shown = respond(scope["path"], query, session)
    body = json.dumps(shown).encode()
    lines = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    lines += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})
    return None


async def lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def talk(session: Any, receive: Any, send: Any) -> None:
    """Accepts, counts, and answers each text with the owner and whether the session is alive."""
    await receive()
    session["sockets"] = session.get("sockets", 0) + 1
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": json.dumps([session.owner, session.alive()])})
        if message.get("text") == "bye":
            session["said"] = "bye"
            await send({"type": "websocket.close"})


wsgi = WSGIMiddleware(wsgi_pages, store, **OPTIONS)
asgi = ASGIMiddleware(asgi_pages, store, **OPTIONS)
