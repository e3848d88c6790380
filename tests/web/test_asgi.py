"""What is particular to ASGI: WebSocket, lifespan, cancellation, background tasks. Else: test_manager.py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import sessile
from sessile.testing import EventRecorder, advance
from sessile.web import Header
from sessile.web.asgi import SessionMiddleware

Message = dict[str, Any]
Application = Callable[[Any, Any, Any], Awaitable[None]]


class Server:
    """Calls an application as a server does, and keeps what it sends, in order."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.sent: list[Message] = []

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def receive(self) -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def call(self, kind: str = "http", headers: Iterable[tuple[bytes, bytes]] = (), **more: Any) -> Server:
        scope = {
            "type": kind,
            "path": "/",
            "scheme": {"http": "https", "websocket": "wss"}.get(kind),
            "headers": [(b"host", b"shop.example"), *headers],
            **({"method": "GET"} if kind == "http" else {}),
            **more,
        }
        await self.app(scope, self.receive, self.send)
        return self

    def run(self, kind: str = "http", headers: Iterable[tuple[bytes, bytes]] = (), **more: Any) -> Server:
        return asyncio.run(self.call(kind, headers, **more))

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.sent]

    def all(self, name: bytes) -> list[bytes]:
        """The values of a field, in what was sent first."""
        return [value for key, value in self.sent[0].get("headers", ()) if key == name]

    @property
    def id(self) -> str:
        """The id that was given to the client."""
        (value,) = self.all(b"set-cookie")
        return value.split(b";")[0].split(b"=")[1].decode()


def cookie(session: sessile.Session) -> tuple[bytes, bytes]:
    return b"cookie", f"__Host-Http-id={session.id}".encode()


async def respond(send: Any, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


# ---- the scope ----


def test_the_session_is_in_the_scope(store: sessile.Store) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert isinstance(scope["session"], sessile.Session)
        scope["session"]["a"] = 1
        await respond(send)

    server = Server(SessionMiddleware(app, store)).run()
    assert store.load(server.id)["a"] == 1


@pytest.mark.parametrize("kind", ["lifespan", "something.new"])
def test_other_kinds_of_scope_pass_through(store: sessile.Store, kind: str) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, await receive()))
        await send({"type": "anything"})

    server = Server(SessionMiddleware(app, store)).run(kind)
    assert "session" not in seen[0][0]
    assert server.types == ["anything"]


def test_the_cookies_of_several_fields_are_joined(store: sessile.Store) -> None:
    """COK-07, COK-08: over HTTP/2 there may be one for each cookie."""
    session = store.create({"a": 1})
    found = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(scope["session"].get("a"))
        await respond(send)

    server = Server(SessionMiddleware(app, store))
    server.run(headers=[(b"cookie", b"x=1"), cookie(session), (b"cookie", b"y=2")])
    server.run(headers=[cookie(session), cookie(session)])
    assert found == [1, None]


def test_a_header_that_came_twice_is_no_session(watched: sessile.Store) -> None:
    """SID-09."""
    session = watched.create({"a": 1})
    field = (b"mcp-session-id", str(session.id).encode())
    found = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(scope["session"].get("a"))
        await respond(send)

    server = Server(SessionMiddleware(app, watched, cookie=Header("Mcp-Session-Id")))
    server.run(headers=[field])
    server.run(headers=[field, field])
    assert found == [1, None]


def test_an_origin_that_came_twice_is_nobodys(store: sessile.Store) -> None:
    """COK-13."""
    origin = (b"origin", b"https://shop.example")
    server = Server(SessionMiddleware(None, store)).run(method="POST", headers=[origin, origin])
    assert server.sent[0]["status"] == 403


def test_the_same_middleware_twice_for_one_store(store: sessile.Store) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["a"] = 1
        await respond(send)

    server = Server(SessionMiddleware(SessionMiddleware(app, store), store)).run()
    assert store.load(server.id)["a"] == 1
    assert store.stats().created == 1


def test_an_inner_middleware_may_replace_the_session_object(store: sessile.Store) -> None:
    """Also when ours is inside of that once more: we keep our own reference."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["session"] == {"somebody": "else's"}
        scope["sessile.session"]["a"] = 1
        await respond(send)

    async def replacing(scope: Any, receive: Any, send: Any) -> None:
        scope["session"] = {"somebody": "else's"}
        await SessionMiddleware(app, store)(scope, receive, send)

    server = Server(SessionMiddleware(replacing, store)).run()
    assert dict(store.load(server.id)) == {"a": 1}


def test_a_scope_may_leave_out_what_the_protocol_lets_it(store: sessile.Store) -> None:
    """`scheme` and the headers of a response are optional."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].get("a")
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    server = Server(SessionMiddleware(app, store)).run(scheme=None)
    assert server.all(b"vary") == [b"Cookie"]


# ---- the messages ----


def test_the_applications_message_is_not_changed(store: sessile.Store) -> None:
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [[b"vary", b"Accept"]],
        "trailers": True,
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["a"] = 1
        await send(start)
        await send({"type": "http.response.body", "body": b"done"})
        await send({"type": "http.response.trailers", "headers": []})

    server = Server(SessionMiddleware(app, store)).run()
    assert start["headers"] == [[b"vary", b"Accept"]]
    assert server.all(b"vary") == [b"Accept, Cookie"]
    assert server.sent[0]["trailers"] is True
    assert server.types[-1] == "http.response.trailers"


def test_messages_after_a_replaced_response_go_nowhere(store: sessile.Store) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["a"] = object()
        await respond(send)
        await send({"type": "http.response.body", "body": b"more"})

    server = Server(SessionMiddleware(app, store)).run()
    assert server.types == ["http.response.start", "http.response.body"]
    assert server.sent[0]["status"] == 500
    assert b"done" not in server.sent[1]["body"]


def test_what_a_background_task_changes_is_saved(store: sessile.Store) -> None:
    session = store.create({"a": 1})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["a"] = 2
        await respond(send)
        await asyncio.sleep(0)
        assert store.load(session.id)["a"] == 2
        scope["session"]["a"] = 3

    Server(SessionMiddleware(app, store)).run(headers=[cookie(session)])
    assert store.load(session.id)["a"] == 3


def test_the_exception_of_an_application_goes_on_to_the_server(store: sessile.Store) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].login("alice")
        raise RuntimeError("a bug")

    server = Server(SessionMiddleware(app, store))
    with pytest.raises(RuntimeError, match="a bug"):
        server.run()
    assert server.types == ["http.response.start", "http.response.body"]
    assert store.load(server.id).owner == "alice"


def test_a_request_that_is_cancelled_anywhere_leaves_nothing_half_done(store: sessile.Store) -> None:
    """CON-06: cancelled at every await in turn; what was saved before is there, the rest is not."""
    steps = 6

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for step in range(3):
            scope["session"]["a"] = step
            await asyncio.sleep(0)
        await respond(send)
        for step in range(3, steps):
            scope["session"]["a"] = step
            await asyncio.sleep(0)

    async def cancelled_after(turns: int) -> bool:
        session = store.create({"a": "before"})
        server = Server(SessionMiddleware(app, store))
        task = asyncio.create_task(server.call(headers=[cookie(session)]))
        for _ in range(turns):
            await asyncio.sleep(0)
        was_cancelled = task.cancel()
        await asyncio.wait([task])
        expected = "before" if not server.sent else 2 if was_cancelled else steps - 1
        assert store.load(session.id)["a"] == expected
        return was_cancelled

    async def every_turn() -> list[bool]:
        return [await cancelled_after(turns) for turns in range(1, 12)]

    outcomes = asyncio.run(every_turn())
    assert outcomes[0] is True
    assert outcomes[-1] is False


@pytest.mark.parametrize("fails", [False, True])
def test_the_headers_wait_for_the_journal(
    make_store: Callable[..., sessile.Store], private_folder: Path, fails: bool
) -> None:
    """PER-09: a log-out is on disk before its response is seen. The loop goes on meanwhile."""
    store = make_store(snapshot_dir=private_folder, snapshot_interval=3600)
    session = store.create(owner="alice")
    loop_went_on: list[bool] = []
    durable: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].logout()
        asyncio.get_running_loop().call_soon(loop_went_on.append, True)
        if fails:
            raise RuntimeError("a bug after the log-out")
        await respond(send)

    class Watching(Server):
        async def send(self, message: Message) -> None:
            durable.append(store._persistence.journal.pending() is None)
            await super().send(message)

    server = Watching(SessionMiddleware(app, store))
    with contextlib.suppress(RuntimeError):
        server.run(headers=[cookie(session)])
    assert server.types == ["http.response.start", "http.response.body"]
    assert server.all(b"set-cookie")[0].startswith(b"__Host-Http-id=; ")
    assert durable == [True, True]
    assert loop_went_on == [True]


def test_a_disk_that_refuses_a_log_out_is_heard_of(
    make_store: Callable[..., sessile.Store], private_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PER-11: the server gets the exception. The session is dead all the same."""
    store = make_store(snapshot_dir=private_folder, snapshot_interval=3600)
    session = store.create(owner="alice")

    async def refuse() -> None:
        raise sessile.SnapshotError("no space left", path="x")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].logout()
        monkeypatch.setattr(store, "aflush", refuse)
        await respond(send)

    server = Server(SessionMiddleware(app, store))
    with pytest.raises(sessile.SnapshotError):
        server.run(headers=[cookie(session)])
    assert store.load(session.id) is None


# ---- WebSocket ----


class Socket(Server):
    """A client of a WebSocket that receives these messages, and then goes away."""

    def __init__(self, app: Application, *messages: str | Callable[[], object]) -> None:
        super().__init__(app)
        self.coming = ["connect", *messages]

    async def receive(self) -> Message:
        if not self.coming:
            return {"type": "websocket.disconnect", "code": 1001}
        coming = self.coming.pop(0)
        if callable(coming):
            coming()
            return await self.receive()
        if coming == "connect":
            return {"type": "websocket.connect"}
        return {"type": "websocket.receive", "text": coming}

    def run(self, kind: str = "websocket", headers: Any = (), **more: Any) -> Server:
        return super().run(kind, headers, **more)


async def accept(receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", "headers": [(b"x", b"y")]})


async def texts(receive: Any) -> Any:
    while (message := await receive())["type"] == "websocket.receive":
        yield message["text"]


def test_the_answer_to_a_handshake_carries_the_cookie(store: sessile.Store) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["a"] = 1
        await accept(receive, send)

    server = Socket(SessionMiddleware(app, store)).run()
    assert store.load(server.id)["a"] == 1
    assert (server.types, server.all(b"x"), server.all(b"vary")) == (
        ["websocket.accept"],
        [b"y"],
        [b"Cookie"],
    )


def test_what_is_written_later_is_saved_at_the_end_or_when_asked(store: sessile.Store) -> None:
    session = store.create({"n": 0})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        async for text in texts(receive):
            scope["session"]["n"] += 1
            if text == "save":
                assert scope["session"].save()

    seen: list[int] = []

    def look() -> None:
        seen.append(store.load(session.id)["n"])

    Socket(SessionMiddleware(app, store), "a", look, "save", look, "b", look).run(headers=[cookie(session)])
    look()
    assert seen == [0, 2, 2, 3]


def test_a_session_that_ends_elsewhere_is_noticed(watched: sessile.Store, recorder: EventRecorder) -> None:
    """COK-15: by `alive()`, which renews nothing; and a late write brings nothing back."""
    session = watched.create({"a": 1}, owner="alice")
    alive: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["session"].owner == "alice"
        await accept(receive, send)
        async for _ in texts(receive):
            alive.append(scope["session"].alive())
            scope["session"]["a"] = 2

    revoke = [lambda: watched.revoke("alice")]
    recorder.take()
    Socket(SessionMiddleware(app, watched), "a", *revoke, "b").run(headers=[cookie(session)])
    assert alive == [True, False]
    assert recorder.kinds == ["ended(revoked)", "late_save"]
    assert watched.load(session.id) is None


def test_a_socket_follows_the_renewals_of_other_requests(store: sessile.Store) -> None:
    """LIF-08: for hours, if need be."""
    session = store.create({"n": 0}, owner="alice")
    ids = [session.id]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        async for _ in texts(receive):
            assert scope["session"].alive()
            scope["session"]["n"] += 1
            scope["session"].save()

    def renew() -> None:
        other = store.load(ids[-1])
        assert other._renew()
        ids.append(other.id)
        assert store.load(other.id) is not None
        advance(store, 1000)

    Socket(SessionMiddleware(app, store), "a", renew, "b", renew, "c").run(headers=[cookie(session)])
    assert store.load(ids[-1])["n"] == 3
    assert len(set(ids)) == 3


def test_a_log_in_needs_the_handshake(store: sessile.Store) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        with pytest.raises(sessile.HeadersSent):
            scope["session"].login("alice")

    Socket(SessionMiddleware(app, store)).run()
    assert store.stats().created == 0


REFUSED = [
    [(b"origin", b"https://evil.example")],
    [(b"origin", b"null")],
    [(b"sec-fetch-site", b"cross-site"), (b"origin", b"https://evil.example")],
]


@pytest.mark.parametrize("headers", REFUSED)
@pytest.mark.parametrize("extensions", [None, {}, {"websocket.http.response": {}}])
def test_a_handshake_from_another_site_is_refused(
    watched: sessile.Store, recorder: EventRecorder, headers: Any, extensions: Any
) -> None:
    """COK-16: it is a GET, and no same-origin policy keeps a page from it."""
    server = Socket(SessionMiddleware(None, watched)).run(headers=headers, extensions=extensions)
    if extensions:
        assert server.types == ["websocket.http.response.start", "websocket.http.response.body"]
        assert server.sent[0]["status"] == 403
    else:
        assert server.sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]
    assert recorder.kinds == ["csrf_refused"]


@pytest.mark.parametrize("headers", [[(b"origin", b"https://shop.example")], [(b"origin", b"https://pay.example")], []])
def test_any_other_handshake_passes(store: sessile.Store, headers: Any) -> None:
    """COK-16."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)

    middleware = SessionMiddleware(app, store, trusted_origins=["https://pay.example"])
    assert Socket(middleware).run(headers=headers).types == ["websocket.accept"]


@pytest.mark.parametrize("extensions", [{}, {"websocket.http.response": {}}])
def test_a_handshake_whose_session_cannot_be_saved_is_refused(
    make_store: Callable[..., sessile.Store], extensions: Any
) -> None:
    store = make_store(capacity=8, memory="2 MiB")
    for number in range(8):
        store.create(owner=f"customer {number}")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["a"] = 1
        await accept(receive, send)
        await send({"type": "websocket.send", "text": "goes nowhere"})

    server = Socket(SessionMiddleware(app, store)).run(extensions=extensions)
    if extensions:
        assert server.sent[0]["status"] == 503
        assert server.all(b"retry-after") == [b"30"]
    else:
        assert server.sent == [{"type": "websocket.close", "code": 1013, "reason": ""}]


def test_a_handshake_that_the_application_denies_can_set_a_cookie(store: sessile.Store) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["flash"] = "log in first"
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    server = Socket(SessionMiddleware(app, store)).run(extensions={"websocket.http.response": {}})
    assert store.load(server.id)["flash"] == "log in first"


def test_a_handshake_that_is_closed_stores_no_session_that_nobody_could_find(
    store: sessile.Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["a"] = 1
        await send({"type": "websocket.close"})

    Socket(SessionMiddleware(app, store)).run()
    assert store.stats().created == 0
    assert "is lost" in caplog.text


def test_a_handshake_over_plain_http(store: sessile.Store) -> None:
    """COK-12."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["session"].owner is None
        with pytest.raises(sessile.InsecureTransport) as caught:
            scope["session"]["a"] = 1
        assert caught.value.scheme == "ws"
        await accept(receive, send)

    session = store.create(owner="alice")
    for scheme in ("ws", None):
        Socket(SessionMiddleware(app, store)).run(headers=[cookie(session)], scheme=scheme)
