"""Quart with its sessions in a table: requests, streams and WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

import sessile
from sessile.testing import EventRecorder, advance

quart = pytest.importorskip("quart", reason="Quart is not installed")

from markupsafe import Markup  # noqa: E402
from quart import Quart, session, websocket  # noqa: E402

from sessile.web.quart import Sessile  # noqa: E402

NAME = "__Host-Http-id"
DAY = 24 * 3600


@pytest.fixture
def make_app(watched: sessile.Store) -> Callable[..., Any]:
    def make(*, testing: bool = True, **options: Any) -> Any:
        app = Quart("shop")
        app.config.update(SECRET_KEY="a key of Quart's", TESTING=testing)
        Sessile(app, options.pop("store", watched), **options)

        @app.route("/set/<name>/<value>")
        async def put_text(name: str, value: str) -> str:
            session[name] = value
            return "done"

        @app.route("/show")
        async def show() -> dict[str, Any]:
            return dict(session)

        @app.route("/untouched", methods=["GET", "POST"])
        async def untouched() -> str:
            return "done"

        @app.route("/login/<name>")
        async def login(name: str) -> str:
            session["_user_id"] = name
            return "done"

        @app.route("/fail")
        async def fail() -> str:
            session["a"] = "lost"
            raise RuntimeError("a bug")

        @app.route("/stream")
        async def stream() -> Any:
            session["begun"] = True

            @quart.stream_with_context
            async def parts() -> AsyncIterator[str]:
                yield "a"
                session["streamed"] = True
                yield "b"

            return parts(), 200

        @app.websocket("/chat")
        async def chat() -> None:
            session["chats"] = session.get("chats", 0) + 1
            while True:
                text = await websocket.receive()
                await websocket.send(f"{text} {session.owner} {session.alive()}")
                if text == "bye":
                    return

        @app.websocket("/login")
        async def log_in() -> None:
            await websocket.receive()
            try:
                session.login("alice")
            except sessile.HeadersSent:
                await websocket.send("refused")

        return app

    return make


class Client:
    """Quart's test client over https, from synchronous tests."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.cookie: str | None = None

    def ask(self, path: str, method: str = "GET", *, scheme: str = "https", **headers: str) -> Any:
        async def run() -> Any:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            if self.cookie:
                fields["Cookie"] = f"{NAME}={self.cookie}"
            client = self.app.test_client(use_cookies=False)
            response = await client.open(path, method=method, scheme=scheme, headers=fields)
            response.text_ = await response.get_data(as_text=True)
            response.json_ = await response.get_json()
            return response

        response = asyncio.run(run())
        for value in response.headers.getlist("Set-Cookie"):
            if value.startswith(f"{NAME}="):
                self.cookie = value.split(";")[0].partition("=")[2] or None
        return response

    def show(self) -> Any:
        return self.ask("/show").json_

    def connect(self, path: str, talk: Callable[[Any], Any], **headers: str) -> Any:
        async def run() -> Any:
            fields = {"Cookie": f"{NAME}={self.cookie}", **headers} if self.cookie else headers
            client = self.app.test_client(use_cookies=False)
            async with client.websocket(path, scheme="wss", headers=fields) as connection:
                return await talk(connection)

        return asyncio.run(run())


@pytest.fixture
def client(make_app: Any) -> Client:
    return Client(make_app())


def cookies(response: Any) -> list[str]:
    found: list[str] = response.headers.getlist("Set-Cookie")
    return found


def test_fields_come_back(client: Client) -> None:
    (cookie,) = cookies(client.ask("/set/a/1"))
    assert cookie.split("; ")[1:] == ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"]
    assert cookies(client.ask("/set/b/2")) == []
    assert client.show() == {"a": "1", "b": "2"}


def test_an_untouched_session_costs_nothing(client: Client, watched: sessile.Store) -> None:
    """DOS-01."""
    client.ask("/set/a/1")
    before = watched.stats().loads
    assert "Vary" not in client.ask("/untouched").headers
    assert client.ask("/static/nothing.css").status_code == 404
    assert watched.stats().loads == before
    assert client.ask("/show").headers["Vary"] == "Cookie"


def test_types_and_flashes_come_back(make_app: Any) -> None:
    app = make_app()

    @app.route("/flash")
    async def flash() -> str:
        await quart.flash(Markup("<b>marked</b>"), "error")
        session["pair"] = (1, b"\xff")
        return ""

    @app.route("/flashed")
    async def flashed() -> str:
        return repr((quart.get_flashed_messages(with_categories=True), session["pair"]))

    client = Client(app)
    client.ask("/flash")
    assert client.ask("/flashed").text_ == "([('error', Markup('<b>marked</b>'))], (1, b'\\xff'))"


def test_session_transaction(make_app: Any) -> None:
    app = make_app()

    async def run() -> None:
        client = app.test_client()
        async with client.session_transaction() as begun:
            begun["a"] = 1
        response = await client.get("/show")
        assert await response.get_json() == {"a": 1}

    asyncio.run(run())


def test_a_permanent_session(make_app: Any, watched: sessile.Store) -> None:
    app = make_app()
    app.permanent_session_lifetime = timedelta(days=14)

    @app.before_request
    async def make_permanent() -> None:
        session.permanent = True

    client = Client(app)
    (cookie,) = cookies(client.ask("/set/a/1"))
    assert 14 * DAY - 60 <= int(cookie.partition("; Max-Age=")[2]) <= 14 * DAY
    advance(watched, timedelta(days=13))
    assert client.show() == {"_permanent": True, "a": "1"}


def test_an_error_saves_nothing(make_app: Any) -> None:
    client = Client(make_app(testing=False))
    client.ask("/set/a/kept")
    assert client.ask("/fail").status_code == 500
    assert client.show() == {"a": "kept"}


def test_what_is_written_while_streaming_is_kept(client: Client) -> None:
    assert client.ask("/stream").text_ == "ab"
    assert client.show() == {"begun": True, "streamed": True}


def test_a_log_in_and_a_renewal(client: Client, watched: sessile.Store) -> None:
    """LIF-05, LIF-08."""
    client.ask("/set/a/1")
    anonymous = client.cookie
    client.ask("/login/alice")
    owned = client.cookie
    assert owned != anonymous
    assert watched.load(anonymous) is None
    assert client.show() == {"a": "1", "_user_id": "alice"}
    advance(watched, timedelta(minutes=16))
    assert client.show() == {"a": "1", "_user_id": "alice"}
    assert client.cookie != owned
    watched.revoke("alice")
    assert client.show() == {}


def test_a_request_that_another_site_started(client: Client, recorder: EventRecorder) -> None:
    """COK-13."""
    assert client.ask("/untouched", "POST", Origin="https://evil.example").status_code == 403
    assert recorder.kinds == ["csrf_refused"]
    assert client.ask("/untouched", "POST").status_code == 200


def test_plain_http(make_app: Any) -> None:
    """COK-12."""
    app = make_app(testing=False)
    client = Client(app)
    assert client.ask("/show", scheme="http", Host="shop.example").json_ == {}
    response = client.ask("/set/a/1", scheme="http", Host="shop.example")
    assert (response.status_code, cookies(response)) == (500, [])
    app.debug = True
    (cookie,) = cookies(client.ask("/set/a/1", scheme="http", Host="localhost:5000"))
    assert cookie.startswith("id=")


def test_when_there_is_no_room(make_app: Any, make_store: Any) -> None:
    store = make_store(capacity=1, anonymous_share=1.0, max_sessions_per_owner=None)
    store.create(owner="alice")
    response = Client(make_app(store=store)).ask("/set/a/1")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "30")
    assert response.text_.startswith("The server has no room")


def test_with_snapshots_the_response_waits_for_the_disk(
    make_app: Any, make_store: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PER-09: and does not hold up the loop."""
    store = make_store(snapshot_dir=tmp_path / "snapshots")
    waited = []
    aflush = store.aflush

    async def watched_aflush() -> None:
        await aflush()
        waited.append(len(store.sessions("alice")))

    monkeypatch.setattr(store, "aflush", watched_aflush)
    client = Client(make_app(store=store))
    client.ask("/login/alice")
    assert waited == [1]


# ---- WebSockets ----


def test_a_web_socket_has_the_session(client: Client, watched: sessile.Store) -> None:
    """COK-15."""
    client.ask("/login/alice")

    async def talk(connection: Any) -> list[str]:
        await connection.send("hello")
        said = [await connection.receive()]
        watched.revoke("alice")
        await connection.send("bye")
        return [*said, await connection.receive()]

    assert client.connect("/chat", talk) == ["hello alice True", "bye alice False"]


async def say_bye(connection: Any) -> None:
    await connection.send("bye")
    await connection.receive()


async def say_hello(connection: Any) -> None:
    await connection.send("hello")
    await connection.receive()


@pytest.mark.parametrize("talk", [say_bye, say_hello])
def test_a_web_socket_saves_at_its_end(client: Client, talk: Any) -> None:
    """Whether the application ended it or the client broke it off."""
    client.ask("/set/a/1")
    client.connect("/chat", talk)
    assert client.show() == {"a": "1", "chats": 1}


def test_a_web_socket_cannot_log_in(client: Client) -> None:
    client.ask("/set/a/1")

    async def talk(connection: Any) -> str:
        await connection.send("x")
        answer: str = await connection.receive()
        return answer

    assert client.connect("/login", talk) == "refused"


def test_a_web_socket_from_another_site_is_refused(client: Client) -> None:
    """COK-16."""
    from quart.testing.connections import WebsocketResponseError

    with pytest.raises(WebsocketResponseError) as refused:
        client.connect("/chat", say_hello, Origin="https://evil.example")
    assert refused.value.response.status_code == 403


def test_quart_knows_its_extension(make_app: Any, watched: sessile.Store) -> None:
    app = make_app()
    assert Sessile.of(app).store is watched

    async def run() -> None:
        extension = Sessile(store=watched)
        extension.init_app(Quart("other"))
        async with app.app_context():
            assert extension.store is watched

    asyncio.run(run())


def test_without_a_secret_key_quart_says_so() -> None:
    app = Quart("shop")
    Sessile(app)

    async def run() -> None:
        async with app.test_request_context("/"):
            with pytest.raises(RuntimeError, match="secret key"):
                session["a"] = 1

    asyncio.run(run())
