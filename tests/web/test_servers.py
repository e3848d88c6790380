"""Real servers with two workers each, on loopback ports: the middleware as people run it (served.py)."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CROSS = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}

pytestmark = pytest.mark.slow


@pytest.fixture
def server(serve: Callable[[str], Any], server_name: str) -> Any:
    return serve(server_name)


def test_all_workers_know_a_session(server: Any) -> None:
    """MPR-07: what one worker stored the other one finds at its next look-up, on any connection."""
    client = server.client()
    assert client.ask("/login?owner=alice").status == 303
    answered = set()
    count = 0
    while len(answered) < 2:
        count += 1
        other = server.client()
        shown = json.loads(other.ask("/count", cookie=client.cookie).body)
        assert (shown["owner"], shown["fields"]["n"]) == ("alice", count)
        answered.add(shown["pid"])
        other.connection.close()


def test_the_cookie(server: Any) -> None:
    """COK-01, COK-10, COK-11."""
    client = server.client()
    assert client.ask("/untouched")["Vary"] is None
    assert client.ask("/show")["Set-Cookie"] is None
    first = client.ask("/count")
    assert first["Set-Cookie"].startswith("__Host-Http-id=")
    assert first["Set-Cookie"].endswith("; Path=/; Secure; HttpOnly; SameSite=Lax")
    assert (first["Cache-Control"], first["Vary"]) == ("no-store", "Cookie")
    again = client.ask("/count")
    assert (again["Set-Cookie"], again["Vary"]) == (None, "Cookie")


def test_the_redirect_after_a_log_in(server: Any) -> None:
    client = server.client()
    reply = client.ask("/login?owner=alice")
    assert client.show(reply["Location"])["owner"] == "alice"
    before = client.cookie
    assert client.ask("/logout").cookie == ""
    assert client.show()["owner"] is None
    assert client.show(cookie=before)["owner"] is None


def test_a_stream(server: Any) -> None:
    client = server.client()
    assert client.show("/stream") == "begun, ended"
    assert client.show()["fields"] == {"n": 0, "streamed": True}


def test_a_failing_request_keeps_its_log_in(server: Any) -> None:
    """LIF-05: the old id is dead; the cookie goes out with the server's only chance to say anything."""
    client = server.client()
    reply = client.ask("/login_and_fail?owner=alice")
    assert (reply.status, len(reply.body)) == (500, int(reply["Content-Length"]))
    client.connection.close()  # after an exception some servers do so themselves
    assert client.show()["owner"] == "alice"
    server.wait_for_log("a bug after the log-in")


def test_what_cannot_be_stored(server: Any) -> None:
    """STO-03. Over a connection that goes on, a body for HEAD would be taken for the next response."""
    client = server.client()
    client.ask("/count")
    for method in ("GET", "HEAD", "GET"):
        assert client.ask("/unstorable", method).status == 500
        assert client.show()["fields"] == {"n": 1}
    server.wait_for_log("$.bad")


def test_a_cross_site_request(server: Any) -> None:
    """COK-13."""
    client = server.client()
    client.ask("/login?owner=alice")
    assert client.ask("/logout", "POST", CROSS).status == 403
    assert client.show()["owner"] == "alice"
    assert client.ask("/logout", "POST", {"Sec-Fetch-Site": "same-origin"}).status == 200


def test_a_cookie_that_came_twice(server: Any) -> None:
    """COK-07."""
    client = server.client()
    client.ask("/login?owner=alice")
    assert client.show(cookie=f"a=1; {client.cookie}")["owner"] == "alice"
    assert client.show(cookie=f"{client.cookie}; {client.cookie}")["owner"] is None


def test_two_cookie_fields(server: Any) -> None:
    """COK-08: no browser sends them over HTTP/1.1. Whatever a server makes of them: never somebody else's
    session, and no error."""
    client = server.client()
    client.ask("/login?owner=alice")
    mallory = server.client()
    mallory.ask("/login?owner=mallory")
    assert client.show(cookie=["a=1", client.cookie])["owner"] in ("alice", None)
    assert client.show(cookie=[client.cookie, mallory.cookie])["owner"] is None
    assert client.show(cookie=[client.cookie, f"a=1,{mallory.cookie}"])["owner"] in ("alice", None)


def test_hostile_cookies(server: Any) -> None:
    """SID-07, COK-08: octets that a browser may send, from whoever controls a sibling domain."""
    client = server.client()
    client.ask("/login?owner=alice")
    for hostile in ("=x", "$Version=1", 'q="a', "__host-http-id=x"):
        assert client.show(cookie=f"{hostile}; {client.cookie}")["owner"] == "alice"
    for hostile in ("\xe2\x80\x80__Host-Http-id=x", "a=\xff\xfe"):
        # granian 2.8 gives a WSGI application no field with such octets in it at all.
        expected = None if server.name == "granian-wsgi" else "alice"
        assert client.show(cookie=f"{hostile}; {client.cookie}")["owner"] == expected
    for malformed in ("x", "\xff" * 32, "A" * 4000):
        assert client.show(cookie=f"__Host-Http-id={malformed}")["owner"] is None


def test_no_id_in_the_log(server: Any) -> None:
    """SID-10."""
    client = server.client()
    client.ask("/login?owner=alice")
    client.ask("/unstorable")
    client.ask("/login_and_fail?owner=bob")
    assert client.cookie.split("=")[1] not in server.logged()


def test_load(server: Any) -> None:
    """CON-03: eight connections increment one field of one session, as fast as wrk can: no error, and none is lost."""
    wrk = shutil.which("wrk")
    if wrk is None:
        pytest.skip("wrk is not installed. On Debian: apt install wrk")
    client = server.client()
    client.ask("/increment")
    url = f"http://127.0.0.1:{server.port}/increment"
    command = [wrk, "-t1", "-c8", "-d1s", "--timeout", "60s", "-H", f"Cookie: {client.cookie}", url]
    answered = 0
    while not answered:  # a loaded machine may answer nothing in a second
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "Non-2xx" not in printed, printed
        assert "Socket errors" not in printed, printed
        found = re.search(r"([0-9]+) requests in", printed)
        assert found is not None
        answered = int(found[1])
    assert client.show()["fields"]["n"] >= answered + 1  # wrk leaves some under way when it ends


# ---- WebSocket ----


@contextlib.contextmanager
def socket_of(server: Any, **headers: str) -> Iterator[Any]:
    client = pytest.importorskip("websockets.sync.client", reason="websockets is not installed")
    uri = f"ws://127.0.0.1:{server.port}/"
    with client.connect(uri, additional_headers=headers, proxy=None, open_timeout=120) as connection:
        yield connection


@pytest.fixture
def asgi_server(server: Any) -> Any:
    if not server.is_asgi:
        pytest.skip("WSGI has no WebSocket")
    return server


def test_a_web_socket(asgi_server: Any) -> None:
    """COK-15: the handshake carries the cookie; the end of the session is noticed; the rest is saved."""
    client = asgi_server.client()
    with socket_of(asgi_server) as connection:
        given = connection.response.headers.get("Set-Cookie")
        connection.send("hello")
        assert json.loads(connection.recv()) == [None, True]
    if asgi_server.name.startswith("granian"):
        assert given is None  # granian 2.8 drops what `websocket.accept` carries: begin sessions over HTTP
    else:
        assert client.show(cookie=given.split(";")[0])["fields"]["sockets"] == 1
    client.ask("/login?owner=sam")
    with socket_of(asgi_server, Cookie=client.cookie) as connection:
        connection.send("hello")
        assert json.loads(connection.recv()) == ["sam", True]
        assert asgi_server.store.revoke("sam") == 1
        connection.send("hello")
        assert json.loads(connection.recv()) == ["sam", False]
    assert client.show()["owner"] is None


def test_what_a_web_socket_wrote_last(asgi_server: Any) -> None:
    client = asgi_server.client()
    client.ask("/count")
    with socket_of(asgi_server, Cookie=client.cookie) as connection:
        connection.send("bye")
        connection.recv()
        with pytest.raises(Exception, match=r"1000|1006|1005"):
            connection.recv()
    while "said" not in (fields := client.show()["fields"]):
        pass  # the server runs on for a moment after it closed the connection
    assert fields == {"n": 1, "sockets": 1, "said": "bye"}


def test_a_web_socket_from_another_site(asgi_server: Any) -> None:
    """COK-16."""
    websockets = pytest.importorskip("websockets", reason="websockets is not installed")
    client = asgi_server.client()
    client.ask("/login?owner=alice")
    with (
        pytest.raises(websockets.InvalidStatus) as caught,
        socket_of(asgi_server, Cookie=client.cookie, Origin="https://evil.example"),
    ):
        pass
    assert caught.value.response.status_code == 403
    assert "sockets" not in client.show()["fields"]


# ---- HTTP/2 ----


@pytest.mark.parametrize("server_name", ["hypercorn", "granian-asgi", "granian-wsgi"])
def test_cookie_crumbs_of_http2(serve: Callable[[str], Any], server_name: str) -> None:
    """COK-08: over HTTP/2 there may be a field for each cookie (RFC 9113, 8.2.3)."""
    pytest.importorskip("h2", reason="h2 is not installed")
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    server = serve(server_name)
    client = server.client()
    client.ask("/login?owner=alice")
    with httpx.Client(http1=False, http2=True, base_url=f"http://127.0.0.1:{server.port}", timeout=120) as browser:

        def owner(*cookies: str) -> Any:
            response = browser.get("/show", headers=[("cookie", each) for each in cookies])
            assert (response.http_version, response.status_code) == ("HTTP/2", 200)
            return response.json()["owner"]

        assert owner(client.cookie) == "alice"
        assert owner("a=1", client.cookie, "b=2") == "alice"
        assert owner(client.cookie, client.cookie) is None


# ---- tables of their own ----


def test_workers_with_tables_of_their_own_are_refused(
    serving: Callable[..., Any], private_folder: Path
) -> None:
    """The commonest mistake: no request is served, and the log names the remedy."""
    with serving("gunicorn-sync", private_folder, wait=False) as server:
        while 'Store("name")' not in server.logged():
            server.require_running()
            with contextlib.suppress(OSError):  # gunicorn answers no request that ended with an OSError
                assert server.client().ask("/untouched").status == 500


def test_preloaded_workers_share_an_anonymous_table(
    serving: Callable[..., Any], private_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MPR-01, MPR-03."""
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--preload")
    with serving("gunicorn-gthread", private_folder) as server:
        test_all_workers_know_a_session(server)
