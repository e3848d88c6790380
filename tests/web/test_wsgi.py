"""What is particular to WSGI. The rules themselves: test_manager.py."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import pytest

import sessile
from sessile.web.wsgi import SessionMiddleware

Application = Callable[[dict[str, Any], Any], Any]

PLAIN = [("Content-Type", "text/plain")]


class Server:
    """Calls an application as a server does, and notes what happens, in order."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.notes: list[str] = []
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.written = b""
        self.body: Any = None

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if exc_info and self.status:
            raise exc_info[1]
        assert not self.status, "start_response was called twice"
        self.notes.append(f"headers {status[:3]}")
        self.status, self.headers = status, headers
        return self.write

    def write(self, data: bytes) -> None:
        self.notes.append("write")
        self.written += data

    def call(self, **environ: Any) -> Server:
        full: dict[str, Any] = {}
        setup_testing_defaults(full)
        full.update({"wsgi.url_scheme": "https", "wsgi.multiprocess": False, **environ})
        self.body = self.app(full, self.start_response)
        return self

    def run(self, **environ: Any) -> Server:
        """The whole request."""
        self.call(**environ)
        try:
            for part in self.body:
                assert self.status
                self.notes.append("part")
                self.written += part
        finally:
            if hasattr(self.body, "close"):
                self.body.close()
        return self

    @property
    def cookie(self) -> str:
        """What the browser sends back; "" if no cookie was set."""
        return dict(self.headers).get("Set-Cookie", "").split(";")[0]


def counting(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    session = environ["sessile.session"]
    session["n"] = session.get("n", 0) + 1
    start_response("200 OK", PLAIN)
    return [str(session["n"]).encode()]


def known(store: sessile.Store, **fields: Any) -> str:
    """A cookie header of a stored session."""
    return f"__Host-Http-id={store.create(fields).id}"


# ---- the environ ----


def test_the_session_is_in_the_environ(store: sessile.Store) -> None:
    server = Server(SessionMiddleware(counting, store)).run()
    assert server.written == b"1"
    assert Server(SessionMiddleware(counting, store)).run(HTTP_COOKIE=server.cookie).written == b"2"


def test_a_further_key_for_those_who_come_from_beaker(store: sessile.Store) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert environ["beaker.session"] is environ["sessile.session"]
        environ["beaker.session"]["user"] = "alice"
        environ["beaker.session"].save()
        start_response("200 OK", PLAIN)
        return []

    assert Server(SessionMiddleware(app, store, environ_key="beaker.session")).run().cookie


def test_a_worker_with_a_table_of_its_own_is_refused(store: sessile.Store) -> None:
    """The commonest mistake: log-ins would be known to one of the workers only."""
    middleware = SessionMiddleware(counting, store)
    for _ in range(2):
        with pytest.raises(sessile.AttachError, match=r'Store\("name"\)') as caught:
            Server(middleware).run(**{"wsgi.multiprocess": True})
        assert caught.value.path is None
    assert Server(middleware).run().written == b"1"


def test_workers_that_were_forked_share_the_table(store: sessile.Store, in_child: Callable[..., Any]) -> None:
    """MPR-01, MPR-03: gunicorn --preload. The parent sees what the child stored."""
    middleware = SessionMiddleware(counting, store)
    cookie = in_child(lambda: Server(middleware).run(**{"wsgi.multiprocess": True}).cookie)
    assert store.load(cookie.split("=")[1])["n"] == 1


def test_workers_that_open_a_table_by_name_share_it(
    make_store: Callable[..., sessile.Store], tmp_path: Any
) -> None:
    tmp_path.chmod(0o700)
    named = make_store(path=tmp_path / "table")
    assert Server(SessionMiddleware(counting, named)).run(**{"wsgi.multiprocess": True}).written == b"1"


# ---- the same middleware twice, and others ----


def test_the_same_middleware_twice_for_one_store(store: sessile.Store) -> None:
    inner = SessionMiddleware(counting, store)
    server = Server(SessionMiddleware(inner, store)).run()
    assert [name for name, _ in server.headers].count("Set-Cookie") == 1
    assert Server(SessionMiddleware(inner, store)).run(HTTP_COOKIE=server.cookie).written == b"2"


def test_two_stores_are_two_sessions(make_store: Callable[..., sessile.Store]) -> None:
    from sessile.web import Cookie

    outer_store, inner_store = make_store(), make_store()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["sessile.session"]["where"] = "inner"
        environ["outer"]["where"] = "outer"
        start_response("200 OK", PLAIN)
        return []

    inner = SessionMiddleware(app, inner_store, cookie=Cookie("__Host-inner"))
    server = Server(SessionMiddleware(inner, outer_store, environ_key="outer")).run()
    cookies = [value.split(";")[0].split("=") for name, value in server.headers if name == "Set-Cookie"]
    assert [name for name, _ in cookies] == ["__Host-inner", "__Host-Http-id"]
    assert inner_store.load(cookies[0][1])["where"] == "inner"
    assert outer_store.load(cookies[1][1])["where"] == "outer"


def test_an_inner_middleware_may_replace_the_session_object(store: sessile.Store) -> None:
    """We keep our own reference."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["sessile.session"]["a"] = 1
        environ["sessile.session"] = {"somebody": "else's"}
        start_response("200 OK", PLAIN)
        return []

    cookie = Server(SessionMiddleware(app, store)).run().cookie
    assert dict(store.load(cookie.split("=")[1])) == {"a": 1}


# ---- the body ----


@pytest.mark.parametrize("body", [[b"a", b"b"], (b"a", b"b"), []])
def test_a_body_that_is_there_is_handed_on_as_it_is(store: sessile.Store, body: Any) -> None:
    """Servers tell its length and whether to send it in one piece from its type."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        environ["sessile.session"]["a"] = 1
        start_response("200 OK", PLAIN)
        return body

    assert Server(SessionMiddleware(app, store)).call().body is body


def test_a_file_is_handed_on_for_the_server_to_send(store: sessile.Store) -> None:
    file = FileWrapper(io.BytesIO(b"file"))

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        return file

    server = Server(SessionMiddleware(app, store)).call(**{"wsgi.file_wrapper": FileWrapper})
    assert server.body is file
    assert server.notes == ["headers 200"]


class Body:
    """An iterable with a `close`."""

    def __init__(self, parts: Iterator[bytes], notes: list[str]) -> None:
        self.parts = parts
        self.notes = notes

    def __iter__(self) -> Iterator[bytes]:
        return self.parts

    def close(self) -> None:
        self.notes.append("closed")


def test_headers_wait_for_the_first_part_of_the_body(store: sessile.Store) -> None:
    """An application may call start_response first and use its session then."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        environ["sessile.session"]["a"] = 1
        yield b"first"
        yield b"second"

    server = Server(SessionMiddleware(app, store)).run()
    assert server.notes == ["headers 200", "part", "part"]
    assert server.cookie


def test_headers_wait_for_the_application_to_return(store: sessile.Store) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)
        environ["sessile.session"].login("alice")
        return [b"whole"]

    assert Server(SessionMiddleware(app, store)).run().cookie


def test_a_body_without_parts(store: sessile.Store) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("204 No Content", [])
        environ["sessile.session"]["a"] = 1
        return iter(())

    server = Server(SessionMiddleware(app, store)).run()
    assert (server.notes, server.written) == (["headers 204"], b"")
    assert server.cookie


def test_a_body_without_parts_can_be_replaced(store: sessile.Store) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        environ["sessile.session"]["a"] = object()
        return iter(())

    server = Server(SessionMiddleware(app, store)).run()
    assert server.notes == ["headers 500", "part"]
    assert len(server.written) == int(dict(server.headers)["Content-Length"])


def test_a_body_is_closed_once_and_before_the_last_save(store: sessile.Store) -> None:
    notes: list[str] = []

    class Late(Body):
        def close(self) -> None:
            super().close()
            self.session["late"] = True

    cookie = known(store, a=1)

    def app(environ: dict[str, Any], start_response: Any) -> Body:
        start_response("200 OK", PLAIN)
        body = Late(iter([b"x"]), notes)
        body.session = environ["sessile.session"]
        return body

    Server(SessionMiddleware(app, store)).run(HTTP_COOKIE=cookie)
    assert notes == ["closed"]
    assert store.load(cookie.split("=")[1])["late"] is True


def test_an_exception_while_closing_saves_nothing(store: sessile.Store) -> None:
    cookie = known(store, a=1)

    class Broken(Body):
        def close(self) -> None:
            self.session["a"] = 2
            raise RuntimeError("a bug")

    def app(environ: dict[str, Any], start_response: Any) -> Body:
        start_response("200 OK", PLAIN)
        body = Broken(iter([b"x"]), [])
        body.session = environ["sessile.session"]
        return body

    with pytest.raises(RuntimeError):
        Server(SessionMiddleware(app, store)).run(HTTP_COOKIE=cookie)
    assert store.load(cookie.split("=")[1])["a"] == 1


def test_a_client_that_goes_away_in_the_middle(store: sessile.Store) -> None:
    """The server closes the body early: what was changed until then is saved."""
    cookie = known(store, a=1)

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"first"
        environ["sessile.session"]["a"] = 2
        yield b"second"
        environ["sessile.session"]["a"] = 3

    server = Server(SessionMiddleware(app, store)).call(HTTP_COOKIE=cookie)
    assert [next(server.body), next(server.body)] == [b"first", b"second"]
    server.body.close()
    server.body.close()
    assert store.load(cookie.split("=")[1])["a"] == 2


def test_a_body_that_is_closed_before_it_begins(
    store: sessile.Store, caplog: pytest.LogCaptureFixture
) -> None:
    """No header goes out any more: a session that nobody could ever find is not stored."""

    def app(environ: dict[str, Any], start_response: Any) -> Body:
        environ["sessile.session"]["a"] = 1
        return Body(iter([b"x"]), [])

    Server(SessionMiddleware(app, store)).call().body.close()
    assert store.stats().created == 0
    assert "is lost" in caplog.text


# ---- start_response and write ----


def test_write_lets_the_headers_go(store: sessile.Store) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", PLAIN)
        environ["sessile.session"]["a"] = 1
        write(b"one ")
        with pytest.raises(sessile.HeadersSent):
            environ["sessile.session"].rotate()
        write(b"two")
        return []

    server = Server(SessionMiddleware(app, store)).run()
    assert (server.notes, server.written) == (["headers 200", "write", "write"], b"one two")
    assert server.cookie


def test_what_is_written_to_a_replaced_response_is_dropped(store: sessile.Store) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", PLAIN)
        environ["sessile.session"]["a"] = object()
        write(b"private")
        return [b"more"]

    server = Server(SessionMiddleware(app, store)).run()
    assert server.notes[0] == "headers 500"
    assert b"private" not in server.written
    assert b"more" not in server.written


def test_an_error_page_takes_the_place_of_headers_that_are_held_back(store: sessile.Store) -> None:
    """PEP 3333: the second start_response has exc_info, and nothing was sent yet."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)
        environ["sessile.session"]["a"] = 1
        try:
            raise RuntimeError("a bug")
        except RuntimeError:
            start_response("500 Oops", PLAIN, sys.exc_info())
        return [b"sorry"]

    server = Server(SessionMiddleware(app, store)).run()
    assert (server.notes, server.written) == (["headers 500", "part"], b"sorry")
    assert store.stats().created == 0


def test_an_error_page_after_the_headers_raises_what_came_too_late(store: sessile.Store) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"first"
        try:
            raise RuntimeError("too late")
        except RuntimeError:
            start_response("500 Oops", PLAIN, sys.exc_info())

    with pytest.raises(RuntimeError, match="too late"):
        Server(SessionMiddleware(app, store)).run()


def test_start_response_twice_is_a_mistake_of_the_application(store: sessile.Store) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)
        start_response("201 Created", PLAIN)
        return []

    with pytest.raises(AssertionError, match="exc_info"):
        Server(SessionMiddleware(app, store)).run()


@pytest.mark.parametrize("touches", [False, True])
def test_an_application_that_never_calls_start_response(store: sessile.Store, touches: bool) -> None:
    """The server complains, as it does without us."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if touches:
            environ["sessile.session"].get("a")
        return [b"body"]

    server = Server(SessionMiddleware(app, store)).call()
    assert (server.status, server.body) == ("", [b"body"])


def test_the_applications_list_of_headers_is_not_changed(store: sessile.Store) -> None:
    headers = [("Content-Type", "text/plain"), ("Vary", "Accept")]

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["sessile.session"]["a"] = 1
        start_response("200 OK", headers)
        return []

    server = Server(SessionMiddleware(app, store)).run()
    assert headers == [("Content-Type", "text/plain"), ("Vary", "Accept")]
    assert dict(server.headers)["Vary"] == "Accept, Cookie"


def test_the_exception_of_an_application_goes_on_to_the_server(store: sessile.Store) -> None:
    """Also where our answer went out with the cookie: so that what watches for exceptions sees it."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["sessile.session"].login("alice")
        raise RuntimeError("a bug")

    server = Server(SessionMiddleware(app, store))
    with pytest.raises(RuntimeError, match="a bug"):
        server.run()
    assert server.notes == ["headers 500", "write"]
    assert len(server.written) == int(dict(server.headers)["Content-Length"])
    assert store.load(server.cookie.split("=")[1]).owner == "alice"


def test_a_server_without_write(store: sessile.Store, caplog: pytest.LogCaptureFixture) -> None:
    """granian: the cookie goes out with an answer in the place of the exception, which is logged."""

    class Granian(Server):
        def start_response(self, status: str, headers: Any, exc_info: Any = None) -> None:
            super().start_response(status, headers, exc_info)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["sessile.session"].login("alice")
        raise RuntimeError("a bug")

    server = Granian(SessionMiddleware(app, store)).run()
    assert server.notes == ["headers 500", "part"]
    assert store.load(server.cookie.split("=")[1]).owner == "alice"
    assert "RuntimeError: a bug" in caplog.text


def test_headers_that_are_there_go_when_the_application_returns(store: sessile.Store) -> None:
    """Some servers (granian) want them before they ask for the body."""

    def app(environ: dict[str, Any], start_response: Any) -> Body:
        start_response("200 OK", PLAIN)
        environ["sessile.session"]["a"] = 1
        return Body(iter([b"x"]), [])

    server = Server(SessionMiddleware(app, store)).call()
    assert server.notes == ["headers 200"]
    assert server.cookie
    server.body.close()


def test_a_body_is_closed_where_the_headers_cannot_go(make_store: Callable[..., sessile.Store]) -> None:
    store = make_store()
    notes: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> Body:
        start_response("200 OK", PLAIN)
        environ["sessile.session"]["a"] = 1
        store.close()
        return Body(iter([b"x"]), notes)

    with pytest.raises(sessile.StoreClosed):
        Server(SessionMiddleware(app, store)).call()
    assert notes == ["closed"]
