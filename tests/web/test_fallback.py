"""Sessions of an older system, carried over once: the signed cookies of Starlette, Flask and Quart."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import sessile
from sessile.testing import EventRecorder, advance
from sessile.web import Header, asgi, fallback, wsgi

itsdangerous = pytest.importorskip("itsdangerous", reason="itsdangerous is not installed")

NAME = "__Host-Http-id"
SECRET = "what the old site signed with"
DAY = 24 * 3600


def starlettes(fields: Any, secret: str = SECRET) -> str:
    """A cookie as Starlette's middleware sets it."""
    data = base64.b64encode(json.dumps(fields).encode())
    return f"session={itsdangerous.TimestampSigner(secret).sign(data).decode()}"


def flasks(fields: Any, secret: str = SECRET) -> str:
    """A cookie as Flask sets it."""
    flask = pytest.importorskip("flask", reason="Flask is not installed")
    app = flask.Flask("old")
    app.secret_key = secret
    return f"session={app.session_interface.get_signing_serializer(app).dumps(fields)}"


READERS = {
    "starlette": (starlettes, fallback.StarletteCookie),
    "flask": (flasks, fallback.FlaskCookie),
}


@pytest.fixture(params=READERS)
def sign(request: pytest.FixtureRequest) -> Callable[..., str]:
    function: Callable[..., str] = READERS[request.param][0]
    return function


@pytest.fixture
def reader(sign: Any) -> Any:
    if sign is flasks:
        pytest.importorskip("flask", reason="Flask is not installed")
    return dict(READERS.values())[sign](SECRET)


def show(session: sessile.Session) -> Any:
    return 200, [("X-Fields", json.dumps([session.owner, dict(session)]))]


def shown(reply: Any) -> Any:
    return json.loads(reply["X-Fields"])


@pytest.fixture
def site(make_site: Any, reader: Any) -> Any:
    return make_site(show, fallback=reader, owner_field="user")


def given(reply: Any) -> str:
    """Our cookie, as it is sent back."""
    (value,) = [each for each in reply.all("Set-Cookie") if each.startswith(NAME)]
    pair: str = value.split(";")[0]
    return pair


def test_the_old_session_goes_on(site: Any, sign: Any) -> None:
    """And its cookie is expired with the same name and path."""
    reply = site.ask(cookie=sign({"user": "alice", "cart": [1, {"a": None}]}))
    assert shown(reply) == ["alice", {"user": "alice", "cart": [1, {"a": None}]}]
    old = [value for value in reply.all("Set-Cookie") if value.startswith("session=")]
    assert old == ["session=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"]
    assert reply["Cache-Control"] == "no-store"
    assert shown(site.ask(cookie=given(reply))) == shown(reply)


def test_it_is_one_session_however_many_requests_ask_at_once(site: Any, sign: Any, watched: Any) -> None:
    """None of them is logged out, and each gets the same cookie."""
    for attempt in range(10):
        cookie = sign({"user": f"user {attempt}"})
        replies: list[Any] = []
        begin = threading.Barrier(6)

        def ask(cookie: str = cookie, replies: list[Any] = replies, begin: threading.Barrier = begin) -> None:
            begin.wait(30)
            replies.append(site.ask(cookie=cookie))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [shown(reply)[0] for reply in replies] == [f"user {attempt}"] * 6
        assert len({given(reply) for reply in replies}) == 1
        assert len(watched.sessions(f"user {attempt}")) == 1


def test_after_a_log_out_the_old_cookie_leads_nowhere(site: Any, sign: Any, watched: sessile.Store) -> None:
    """LIF-11: however long it would have been good for."""
    cookie = sign({"user": "alice"})
    reply = site.ask(cookie=cookie)
    assert shown(site.ask(cookie=given(reply)))[0] == "alice"
    site.put(lambda session: session.logout()).ask(cookie=given(reply))
    site.put(show)
    for days in (0, 1, 12):
        advance(watched, days * DAY + 1)
        again = site.ask(cookie=cookie)
        assert shown(again) == [None, {}]
        assert watched.sessions("alice") == []


def test_another_spelling_of_its_signature_leads_nowhere_either(site: Any, sign: Any, watched: Any) -> None:
    """LIF-11: the last character of a signature has bits that nobody looks at."""
    cookie = sign({"user": "alice"})
    assert shown(site.ask(cookie=cookie))[0] == "alice"
    watched.revoke("alice")
    for character in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        assert shown(site.ask(cookie=cookie[:-1] + character)) == [None, {}]


def test_the_same_of_an_anonymous_session(site: Any, sign: Any, watched: sessile.Store) -> None:
    cookie = sign({"cart": 1})
    reply = site.ask(cookie=cookie)
    assert shown(reply) == [None, {"cart": 1}]
    site.put(lambda session: session.clear()).ask(cookie=given(reply))
    site.put(show)
    for days in (0, 1):
        advance(watched, days * DAY + 1)
        assert shown(site.ask(cookie=cookie)) == [None, {}]


def test_an_old_cookie_presented_beside_the_new_one_is_not_read(site: Any, sign: Any, watched: Any) -> None:
    cookie = sign({"user": "alice"})
    mine = watched.create({"mine": True})
    assert shown(site.ask(cookie=f"{cookie}; {NAME}={mine.id}")) == [None, {"mine": True}]
    assert shown(site.ask(cookie=f"{cookie}; {NAME}={'A' * 32}")) == [None, {}]


def test_an_old_cookie_presented_long_after_is_a_sign_of_theft(
    site: Any, sign: Any, watched: sessile.Store, recorder: EventRecorder
) -> None:
    """LIF-10: the browser has the new one by then, and no old one. Before, for some seconds, it is merely late."""
    cookie = sign({"user": "alice"})
    new = given(site.ask(cookie=cookie))
    assert shown(site.ask(cookie=new))[0] == "alice"
    advance(watched, 11)
    assert shown(site.ask(cookie=cookie)) == [None, {}]
    assert shown(site.ask(cookie=new))[0] == "alice"
    advance(watched, 11)
    assert shown(site.ask(cookie=cookie)) == [None, {}]
    assert shown(site.ask(cookie=new)) == [None, {}]
    assert "ended(theft)" in recorder.kinds


def test_a_client_that_keeps_no_cookies_goes_on_with_the_old_one(site: Any, sign: Any, watched: Any) -> None:
    cookie = sign({"user": "alice"})
    for _ in range(3):
        assert shown(site.ask(cookie=cookie))[0] == "alice"
        advance(watched, 60)
    assert len(watched.sessions("alice")) == 1


def test_after_revoke_all_nothing_is_carried_over(site: Any, sign: Any, watched: sessile.Store) -> None:
    """LIF-12: the marks are gone, too."""
    cookie, other = sign({"user": "alice"}), sign({"user": "bob"})
    site.ask(cookie=cookie)
    watched.revoke_all()
    assert shown(site.ask(cookie=cookie)) == [None, {}]
    assert shown(site.ask(cookie=other)) == [None, {}]


def test_an_owner_who_logs_out_everywhere(site: Any, sign: Any, watched: sessile.Store) -> None:
    """LIF-12: old sessions included that nobody has presented yet."""
    first, second, of_bob = sign({"user": "alice"}), sign({"user": "alice", "n": 2}), sign({"user": "bob"})
    assert shown(site.ask(cookie=first))[0] == "alice"
    fallback.refuse(watched, "alice")
    fallback.refuse(watched, "alice")
    assert watched.revoke("alice") == 1
    assert shown(site.ask(cookie=second)) == [None, {}]
    assert shown(site.ask(cookie=first)) == [None, {}]
    assert shown(site.ask(cookie=of_bob))[0] == "bob"


def test_marks_outlast_a_change_of_the_secret(
    make_store: Any, make_site: Any, sign: Any, reader: Any, tmp_path: Any
) -> None:
    cookie = sign({"user": "alice"})
    path, first, second = tmp_path / "table", b"1" * 32, b"2" * 32
    site = make_site(show, store=make_store(path=path, secret=first), fallback=reader, owner_field="user")
    assert shown(site.ask(cookie=cookie))[0] == "alice"
    store = make_store(path=path, secret=[second, first])
    store.revoke("alice")
    site = make_site(show, store=store, fallback=reader, owner_field="user")
    assert shown(site.ask(cookie=cookie)) == [None, {}]


def test_a_flood_of_anonymous_sessions_moves_no_mark(
    make_site: Any, make_store: Any, sign: Any, reader: Any
) -> None:
    """DOS-03: nor when the id that was carried over is long forgotten."""
    store = make_store(capacity=64)
    site = make_site(show, store=store, fallback=reader, owner_field="user")
    cookie = sign({"user": "alice"})
    site.ask(cookie=cookie)
    store.revoke("alice")
    advance(store, 3600)
    for _ in range(1000):
        store.load(store.create({"flood": 1}).id)  # one that came back is kept longer than one that did not
    assert shown(site.ask(cookie=cookie)) == [None, {}]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda cookie: cookie[:-2] + ("AA" if cookie[-2] != "A" else "BA"),
        lambda cookie: cookie[:20],
        lambda cookie: "session=",
        lambda cookie: "session=.....",
        lambda cookie: f"{cookie}; {cookie}",
        lambda cookie: cookie.replace("session=", "Session="),
        lambda cookie: cookie.replace("session=", "session =\xff"),
    ],
)
def test_what_nobody_signed(site: Any, sign: Any, spoil: Any, watched: sessile.Store) -> None:
    """SID-07, COK-07: nothing is stored and nothing is expired."""
    reply = site.ask(cookie=spoil(sign({"user": "alice"})).encode("latin-1"))
    assert shown(reply) == [None, {}]
    assert reply.all("Set-Cookie") == []
    assert watched.stats().created == 0


def test_of_another_key_or_without_content(site: Any, sign: Any, watched: sessile.Store) -> None:
    for cookie in (sign({"user": "alice"}, "another key"), sign({}), sign([1])):
        assert shown(site.ask(cookie=cookie)) == [None, {}]
    assert watched.stats().created == 0


def test_too_old(site: Any, sign: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = sign({"user": "alice"})
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 32 * DAY)
    assert shown(site.ask(cookie=cookie)) == [None, {}]


def test_an_untouched_session_is_not_carried_over(site: Any, sign: Any, watched: sessile.Store) -> None:
    """DOS-01."""
    reply = site.put(lambda session: None).ask(cookie=sign({"user": "alice"}))
    assert reply.all("Set-Cookie") == []
    assert watched.stats().created == 0


def test_plain_http_carries_nothing_over(site: Any, sign: Any, watched: sessile.Store) -> None:
    """COK-12."""
    assert shown(site.ask(cookie=sign({"user": "alice"}), scheme="http")) == [None, {}]
    assert watched.stats().created == 0


def test_when_there_is_no_room_it_is_tried_again(
    make_site: Any, make_store: Any, sign: Any, reader: Any
) -> None:
    """The old cookie stays until then."""
    store = make_store(capacity=2, max_sessions_per_owner=None)
    site = make_site(show, store=store, fallback=reader, owner_field="user")
    for _ in range(2):
        store.create(owner="bob")
    cookie = sign({"user": "alice"})
    reply = site.ask(cookie=cookie)
    assert shown(reply) == [None, {}]
    assert reply.all("Set-Cookie") == []
    store.revoke("bob")
    assert shown(site.ask(cookie=cookie))[0] == "alice"


def test_an_error_of_the_application_loses_nothing(site: Any, sign: Any) -> None:
    cookie = sign({"user": "alice"})

    def fail(session: sessile.Session) -> Any:
        assert session.owner == "alice"
        raise RuntimeError("a bug")

    reply = site.put(fail).ask(cookie=cookie)
    assert reply.status == 500
    assert shown(site.put(show).ask(cookie=given(reply)))[0] == "alice"


def test_a_user_that_is_a_number(site: Any, sign: Any, watched: sessile.Store) -> None:
    assert shown(site.ask(cookie=sign({"user": 7})))[0] == "7"


def test_a_user_that_can_be_no_owner(site: Any, sign: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert shown(site.ask(cookie=sign({"user": ["alice"]}))) == [None, {}]
    assert "cannot be carried over: owner must be str" in caplog.text


def test_cookies_that_were_set_with_more(watched: sessile.Store) -> None:
    """A browser deletes a cookie only by its own domain and path."""
    reader = fallback.StarletteCookie(SECRET, name="sid", domain="shop.example", path="/app")
    assert reader.cleared.split("; ") == [
        "sid=",
        "Path=/app",
        "Max-Age=0",
        "Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        "Domain=shop.example",
    ]
    pytest.importorskip("flask", reason="Flask is not installed")
    partitioned = fallback.FlaskCookie(SECRET, name="__Host-sid", partitioned=True)
    assert partitioned.cleared.split("; ")[-2:] == ["Secure", "Partitioned"]


@pytest.mark.parametrize("middleware", [wsgi.SessionMiddleware, asgi.SessionMiddleware])
def test_a_header_has_no_old_cookies(middleware: Any, watched: sessile.Store) -> None:
    with pytest.raises(ValueError, match="fallback="):
        middleware(None, watched, cookie=Header(), fallback=fallback.StarletteCookie(SECRET))


# ---- from Flask to Flask ----


def test_a_flask_site_moves_with_one_argument(watched: sessile.Store) -> None:
    """Types, Flask-Login's user and the lifetime of a permanent session come along."""
    flask = pytest.importorskip("flask", reason="Flask is not installed")
    from markupsafe import Markup

    from sessile.web.flask import Sessile

    def make(key: str) -> Any:
        app = flask.Flask("shop")
        app.config.update(SECRET_KEY=key, PREFERRED_URL_SCHEME="https", TESTING=True)

        @app.route("/login/<int:number>")
        def log_in(number: int) -> str:
            flask.session.update(_user_id="7", mark=Markup("<b>"), pair=(1, number))
            flask.session.permanent = True
            return ""

        @app.route("/")
        def index() -> str:
            return repr(sorted(flask.session.items()))

        return app

    before, after = make("old key"), make("new key")
    after.config["SECRET_KEY_FALLBACKS"] = ["old key"]
    Sessile(after, watched, fallback=True)
    client = before.test_client()
    client.get("/login/2")
    moved = after.test_client()
    moved.set_cookie("session", client.get_cookie("session").value)
    response = moved.get("/")
    expected = "[('_permanent', True), ('_user_id', '7'), ('mark', Markup('<b>')), ('pair', (1, 2))]"
    assert response.text == expected
    assert moved.get_cookie("session") is None
    (ours,) = [value for value in response.headers.getlist("Set-Cookie") if value.startswith(NAME)]
    assert 31 * DAY - 60 <= int(ours.partition("; Max-Age=")[2]) <= 31 * DAY
    advance(watched, 30 * DAY)
    assert moved.get("/").text == expected
    assert [info.owner for info in watched.sessions("7")] == ["7"]
    extension = Sessile.of(after)
    assert extension.revoke("7") == 1
    client.get("/login/3")
    late = after.test_client()
    late.set_cookie("session", client.get_cookie("session").value)
    assert late.get("/").text == "[]"
