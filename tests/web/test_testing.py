"""Test clients that are logged in."""

from __future__ import annotations

from typing import Any

import pytest

import sessile
from sessile.web import Cookie, Header, asgi, wsgi
from sessile.web.cookies import insecure_development
from sessile.web.testing import logged_in, use_session


def wsgi_app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    session = environ["sessile.session"]
    if environ["PATH_INFO"] == "/rotate":
        session.rotate()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{session.owner} {session.get('cart')} {session.device}".encode()]


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    session = scope["session"]
    if scope["path"] == "/rotate":
        session.rotate()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send(
        {
            "type": "http.response.body",
            "body": f"{session.owner} {session.get('cart')} {session.device}".encode(),
        }
    )


def werkzeug_client(store: sessile.Store, **options: Any) -> Any:
    test = pytest.importorskip("werkzeug.test", reason="Werkzeug is not installed")
    client = test.Client(wsgi.SessionMiddleware(wsgi_app, store, **options))
    client.read = lambda path="/": client.get(path, base_url="https://localhost").text
    return client


def starlette_client(store: sessile.Store, **options: Any) -> Any:
    pytest.importorskip("httpx2", reason="Starlette's test client needs httpx2, which is not installed")
    test = pytest.importorskip("starlette.testclient", reason="Starlette is not installed")
    client = test.TestClient(
        asgi.SessionMiddleware(asgi_app, store, **options), base_url="https://testserver"
    )
    client.read = lambda path="/": client.get(path).text
    return client


def httpx_client(store: sessile.Store, **options: Any) -> Any:
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    transport = httpx.WSGITransport(wsgi.SessionMiddleware(wsgi_app, store, **options))
    client = httpx.Client(transport=transport, base_url="https://shop.example")
    client.read = lambda path="/": client.get(path).text
    return client


CLIENTS = {"werkzeug": werkzeug_client, "starlette": starlette_client, "httpx": httpx_client}


@pytest.fixture(params=CLIENTS)
def make_client(request: pytest.FixtureRequest) -> Any:
    return CLIENTS[request.param]


def test_a_client_that_is_logged_in(make_client: Any, store: sessile.Store) -> None:
    client = make_client(store)
    assert client.read() == "None None None"
    assert logged_in(client, store, "alice", data={"cart": 1}, device={"browser": "none"}) is client
    assert client.read() == "alice 1 {'browser': 'none'}"


def test_it_stays_logged_in_when_its_id_changes(make_client: Any, store: sessile.Store) -> None:
    """COK-07: there must not be two cookies of that name then."""
    client = logged_in(make_client(store), store, "alice")
    assert client.read("/rotate").startswith("alice")
    assert client.read("/rotate").startswith("alice")
    assert client.read().startswith("alice")


def test_another_one_logs_in_after_that(make_client: Any, store: sessile.Store) -> None:
    client = logged_in(make_client(store), store, "alice")
    client.read("/rotate")
    assert logged_in(client, store, "bob").read().startswith("bob")


def test_a_client_that_has_a_session(make_client: Any, store: sessile.Store) -> None:
    client = make_client(store)
    use_session(client, store.create({"cart": 7}))
    assert client.read() == "None 7 None"


def test_with_another_cookie(make_client: Any, store: sessile.Store) -> None:
    cookie = Cookie("__Secure-sid")
    assert (
        logged_in(make_client(store, cookie=cookie), store, "alice", cookie=cookie).read().startswith("alice")
    )


def test_over_plain_http_in_development(store: sessile.Store) -> None:
    with pytest.warns(RuntimeWarning, match="insecure_dev"):
        client = werkzeug_client(store, insecure_dev=True)
    logged_in(client, store, "alice", cookie=insecure_development(Cookie()))
    assert client.get("/", base_url="http://localhost").text.startswith("alice")


def test_for_another_host(store: sessile.Store) -> None:
    client = logged_in(werkzeug_client(store), store, "alice", host="shop.example")
    assert client.get("/", base_url="https://shop.example").text.startswith("alice")
    assert client.get("/", base_url="https://other.example").text.startswith("None")


def test_with_a_header(store: sessile.Store) -> None:
    header = Header("Mcp-Session-Id")
    for make in (httpx_client, starlette_client):
        assert logged_in(make(store, cookie=header), store, "alice", cookie=header).read().startswith("alice")
    with pytest.raises(TypeError, match="pass them with each"):
        logged_in(werkzeug_client(store, cookie=header), store, "alice", cookie=header)


def test_flask(store: sessile.Store) -> None:
    flask = pytest.importorskip("flask", reason="Flask is not installed")
    app = flask.Flask("app")
    for cookie in (Cookie(), Header("Mcp-Session-Id")):
        app.wsgi_app = wsgi.SessionMiddleware(wsgi_app, store, cookie=cookie)
        client = logged_in(app.test_client(), store, "alice", cookie=cookie)
        assert client.get("/", base_url="https://localhost").text.startswith("alice")


def test_what_is_no_client(store: sessile.Store) -> None:
    with pytest.raises(TypeError, match="dict"):
        logged_in({}, store, "alice")
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    with pytest.raises(TypeError, match="base_url"):
        logged_in(httpx.Client(), store, "alice")


def test_a_session_that_is_not_stored(store: sessile.Store) -> None:
    with pytest.raises(ValueError, match="save"):
        use_session(None, store.open())
