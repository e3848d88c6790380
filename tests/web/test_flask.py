"""Flask with its sessions in a table: what Flask's own session does, and what it cannot."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from typing import Any, NamedTuple
from uuid import UUID

import pytest

import sessile
from sessile.testing import EventRecorder, advance
from sessile.web import Cookie
from sessile.web.testing import logged_in

flask = pytest.importorskip("flask", reason="Flask is not installed")

from flask import Flask, session  # noqa: E402
from markupsafe import Markup  # noqa: E402

from sessile.web.flask import FlaskSession, Sessile  # noqa: E402

NAME = "__Host-Http-id"
DAY = 24 * 3600
MakeApp = Callable[..., Any]


@pytest.fixture
def make_app(watched: sessile.Store) -> MakeApp:
    """Makes an application over https, on a store whose events go to `recorder`."""

    def make(*, testing: bool = True, **options: Any) -> Any:
        app = Flask("shop")
        app.config.update(SECRET_KEY="a key of Flask's", TESTING=testing, PREFERRED_URL_SCHEME="https")
        app.before_request(options.pop("before", lambda: None))
        Sessile(app, options.pop("store", watched), **options)

        @app.route("/set/<name>/<value>")
        def put_text(name: str, value: str) -> str:
            session[name] = value
            return "done"

        @app.route("/show")
        def show() -> dict[str, Any]:
            return dict(session)

        @app.route("/untouched", methods=["GET", "POST"])
        def untouched() -> str:
            return "done"

        return app

    return make


@pytest.fixture
def app(make_app: MakeApp) -> Any:
    return make_app()


@pytest.fixture
def client(app: Any) -> Any:
    return app.test_client()


def cookies(response: Any) -> list[str]:
    found: list[str] = response.headers.getlist("Set-Cookie")
    return found


def test_it_is_a_session_of_flask_and_of_sessile(app: Any) -> None:
    with app.test_request_context():
        current = session._get_current_object()
        assert isinstance(current, flask.sessions.SessionMixin)
        assert isinstance(current, sessile.Session)
        assert repr(current) == "<sessile.Session, not looked up>"


def test_fields_come_back(client: Any) -> None:
    client.get("/set/a/1")
    client.get("/set/b/2")
    assert client.get("/show").json == {"a": "1", "b": "2"}


def test_the_cookie_is_ours(client: Any) -> None:
    """COK-01, COK-11: once, with every attribute, and not again while the id stays."""
    (cookie,) = cookies(client.get("/set/a/1"))
    assert cookie.startswith(f"{NAME}=")
    assert cookie.split("; ")[1:] == ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"]
    assert cookies(client.get("/set/a/2")) == []


def test_an_untouched_session_costs_nothing(client: Any, watched: sessile.Store, app: Any) -> None:
    """DOS-01: no look-up, no header, no record; so for static files too."""
    client.get("/set/a/1")
    before = watched.stats().loads
    response = client.get("/untouched")
    assert "Vary" not in response.headers
    assert cookies(response) == []
    static = client.get("/static/nothing.css")
    assert static.status_code == 404
    assert watched.stats().loads == before
    app.test_client().get("/show")
    assert watched.stats().created == 1


def test_a_static_file_is_not_looked_up(tmp_path: Any, make_app: MakeApp, watched: sessile.Store) -> None:
    (tmp_path / "style.css").write_text("p {}")
    app = make_app()
    app.static_folder = str(tmp_path)
    client = app.test_client()
    client.get("/set/a/1")
    before = watched.stats().loads
    with client.get("/static/style.css") as response:
        assert (response.data, "Vary" in response.headers) == (b"p {}", False)
    assert watched.stats().loads == before


def test_headers_for_caches(client: Any, watched: sessile.Store) -> None:
    """COK-10."""
    response = client.get("/set/a/1")
    assert (response.headers["Vary"], response.headers["Cache-Control"]) == ("Cookie", "no-store")
    response = client.get("/show")
    assert (response.headers["Vary"], "Cache-Control" in response.headers) == ("Cookie", False)
    logged_in(client, watched, "alice")
    assert client.get("/show").headers["Cache-Control"] == "private"


def test_changes_in_the_middle_of_a_value_are_saved(app: Any, client: Any) -> None:
    """Flask's own loses them unless somebody sets `modified`."""

    @app.route("/begin")
    def begin() -> str:
        session["cart"] = {"items": []}
        return ""

    @app.route("/append")
    def append() -> str:
        session["cart"]["items"].append("book")
        return ""

    client.get("/begin")
    client.get("/append")
    client.get("/append")
    assert client.get("/show").json == {"cart": {"items": ["book", "book"]}}


def test_flashes(app: Any, client: Any) -> None:
    @app.route("/flash")
    def flash() -> str:
        flask.flash("plain")
        flask.flash(Markup("<b>marked</b>"), "error")
        return ""

    @app.route("/flashed")
    def flashed() -> str:
        return repr(flask.get_flashed_messages(with_categories=True))

    client.get("/flash")
    assert client.get("/flashed").text == "[('message', 'plain'), ('error', Markup('<b>marked</b>'))]"
    assert client.get("/flashed").text == "[]"


class Color(IntEnum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: int


class Late:
    """A translation that is made when it is shown."""

    def __html__(self) -> str:
        return "<i>late</i>"


NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("value", "back"),
    [
        ((1, "two"), (1, "two")),
        (b"\xff", b"\xff"),
        (Markup("<p>"), Markup("<p>")),
        (UUID(int=7), UUID(int=7)),
        (NOW, NOW),
        ({" t": [1]}, {" t": [1]}),
        ({"a": [Markup("<p>"), (None, True)]}, {"a": [Markup("<p>"), (None, True)]}),
        ({1, 2}, {1, 2}),
        (Decimal("1.10"), Decimal("1.10")),
        (date(2026, 11, 23), date(2026, 11, 23)),
        (Color.RED, 1),
        (Point(1, 2), (1, 2)),
        ([OrderedDict(a=Color.RED)], [{"a": 1}]),
        ({Markup("key"): 1}, {"key": 1}),
        (Late(), Markup("<i>late</i>")),
        ([Late()], [Markup("<i>late</i>")]),
    ],
    ids=repr,
)
def test_types_come_back(app: Any, client: Any, value: Any, back: Any) -> None:
    """Every one that Flask's own serialiser keeps, subclasses as their base, and more."""

    @app.route("/put")
    def put() -> str:
        session["value"] = value
        return ""

    client.get("/put")
    with client.session_transaction() as found:
        assert found["value"] == back
        assert same_types(found["value"], back), found["value"]


def same_types(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return all(same_types(*pair) for pair in zip(one.items(), other.items(), strict=True))
    return not isinstance(one, (list, tuple)) or all(map(same_types, one, other))


def test_a_subclass_that_was_stored_is_not_written_again(app: Any, client: Any) -> None:
    """Reading is never a write."""

    @app.route("/put")
    def put() -> str:
        session["value"] = OrderedDict(a=Markup("<p>"))
        return ""

    @app.route("/read")
    def read() -> str:
        assert session["value"] == {"a": Markup("<p>")}
        assert not session.modified
        return ""

    client.get("/put")
    assert client.get("/read").status_code == 200


def test_what_cannot_be_stored_is_an_error_with_its_path(make_app: MakeApp, caplog: Any) -> None:
    app = make_app(testing=False)

    @app.route("/put")
    def put() -> str:
        session["cart"] = [object()]
        return "not this"

    response = app.test_client().get("/put")
    assert (response.status_code, response.text) == (500, "The request failed.\n")
    assert "$.cart[0]: object cannot be stored" in caplog.text


def test_session_transaction(app: Any, client: Any) -> None:
    with client.session_transaction() as begun:
        begun["a"] = 1
    assert client.get("/show").json == {"a": 1}
    with client.session_transaction() as begun:
        assert begun["a"] == 1
        begun["a"] = 2
    assert client.get("/show").json == {"a": 2}


def test_modified_and_accessed_and_new(app: Any) -> None:
    seen = []

    @app.route("/state")
    def state() -> str:
        found = [session.accessed, session.modified]
        session.get("a")
        found += [session.accessed, session.modified, session.new]
        session["a"] = [1]
        seen.append((*found, session.modified))
        return ""

    client = app.test_client()
    client.get("/state")
    client.get("/state")
    assert seen == [(False, False, True, False, True, True), (False, False, True, False, False, True)]


def test_modified_stays_true_after_the_save(client: Any) -> None:
    with client:
        client.get("/set/a/1")
        assert session.modified
    with client:
        client.get("/show")
        assert not session.modified


def test_setting_modified_is_harmless(app: Any, client: Any) -> None:
    @app.route("/mark")
    def mark() -> str:
        session.modified = True
        assert session.modified
        return ""

    response = client.get("/mark")
    assert (response.status_code, cookies(response)) == (200, [])


# ---- permanent ----


@pytest.fixture
def permanent(app: Any, client: Any) -> Any:
    app.permanent_session_lifetime = timedelta(days=14)

    @app.before_request
    def make_permanent() -> None:
        session.permanent = True

    return client


def test_a_permanent_session_outlives_the_browser_and_the_idle_timeout(
    permanent: Any, watched: sessile.Store
) -> None:
    (cookie,) = cookies(permanent.get("/set/a/1"))
    assert 14 * DAY - 60 <= int(cookie.partition("; Max-Age=")[2]) <= 14 * DAY
    assert cookies(permanent.get("/show")) == []
    advance(watched, timedelta(days=13))
    assert permanent.get("/show").json == {"_permanent": True, "a": "1"}


def test_the_cookie_of_a_permanent_session_has_expires_too(permanent: Any, client: Any) -> None:
    """COK-05: for who looks for it, as in Flask's own; it says what Max-Age says."""
    permanent.get("/set/a/1")
    cookie = client.get_cookie(NAME)
    until = cookie.expires - datetime.now(timezone.utc)
    assert abs(until - timedelta(seconds=cookie.max_age)) < timedelta(hours=1)


def test_a_permanent_session_ends_without_use(permanent: Any, watched: sessile.Store) -> None:
    permanent.get("/set/a/1")
    advance(watched, timedelta(days=14, seconds=1))
    assert "a" not in permanent.get("/show").json


def test_permanent_alone_stores_nothing(permanent: Any, watched: sessile.Store) -> None:
    """DOS-01: a visitor who only came by."""
    assert cookies(permanent.get("/untouched")) == []
    assert watched.stats().created == 0


def test_a_log_in_stays_permanent(app: Any, permanent: Any, watched: sessile.Store) -> None:
    @app.route("/login")
    def login() -> str:
        session.login("alice")
        return ""

    permanent.get("/set/a/1")
    (cookie,) = cookies(permanent.get("/login"))
    assert 14 * DAY - 60 <= int(cookie.partition("; Max-Age=")[2]) <= 14 * DAY
    advance(watched, timedelta(days=13))
    assert permanent.get("/show").json == {"_permanent": True}


def test_a_session_becomes_permanent_and_ceases_to_be(app: Any, client: Any, watched: sessile.Store) -> None:
    @app.route("/permanent/<int:value>")
    def change(value: int) -> str:
        session.permanent = bool(value)
        return ""

    client.get("/set/a/1")
    (cookie,) = cookies(client.get("/permanent/1"))
    assert "; Max-Age=" in cookie
    assert cookies(client.get("/permanent/1")) == []
    (cookie,) = cookies(client.get("/permanent/0"))
    assert "Max-Age" not in cookie
    advance(watched, timedelta(minutes=31))
    assert client.get("/show").json == {}


# ---- the end ----


def test_an_emptied_session_takes_its_cookie_and_record_away(
    app: Any, client: Any, watched: sessile.Store
) -> None:
    """COK-06."""

    @app.route("/clear")
    def clear() -> str:
        session.clear()
        return ""

    client.get("/set/a/1")
    (cookie,) = cookies(client.get("/clear"))
    assert cookie.startswith(f"{NAME}=;")
    assert "Max-Age=0" in cookie
    assert watched.stats().sessions == 0


def test_an_error_saves_nothing(make_app: MakeApp) -> None:
    app = make_app(testing=False)

    @app.route("/fail")
    def fail() -> str:
        session["a"] = "lost"
        raise RuntimeError("a bug")

    client = app.test_client()
    client.get("/set/a/kept")
    assert client.get("/fail").status_code == 500
    assert client.get("/show").json == {"a": "kept"}


def test_a_log_in_in_a_request_that_fails_stays_done(make_app: MakeApp) -> None:
    """LIF-05: its cookie goes out with Flask's error page."""
    app = make_app(testing=False)

    @app.route("/fail")
    def fail() -> str:
        session.login("alice")
        raise RuntimeError("a bug")

    @app.route("/who")
    def who() -> str:
        return str(session.owner)

    client = app.test_client()
    assert client.get("/fail").status_code == 500
    assert client.get("/who").text == "alice"


def test_what_is_written_while_streaming_is_kept(app: Any, client: Any) -> None:
    @app.route("/stream")
    def stream() -> Any:
        session["begun"] = True

        def parts() -> Iterator[str]:
            yield "a"
            session["streamed"] = True
            yield "b"

        return flask.Response(flask.stream_with_context(parts()))

    assert client.get("/stream", buffered=True).text == "ab"
    assert client.get("/show").json == {"begun": True, "streamed": True}


def test_a_log_in_while_streaming_is_refused_before_anything_changes(app: Any, client: Any) -> None:
    """An id could not reach the client any more."""
    refused = []

    @app.route("/stream")
    def stream() -> Any:
        def parts() -> Iterator[str]:
            try:
                session.login("alice")
            except sessile.HeadersSent as error:
                refused.append(error)
            yield "a"

        return flask.Response(flask.stream_with_context(parts()))

    client.get("/stream", buffered=True)
    assert len(refused) == 1


def test_a_late_save_does_not_undo_a_log_out(
    app: Any, client: Any, watched: sessile.Store, recorder: EventRecorder
) -> None:
    """CON-02: and nobody gets an error page for it."""

    @app.route("/slow")
    def slow() -> str:
        session["a"] = "late"
        watched.revoke("alice")
        return "done"

    logged_in(client, watched, "alice", data={"a": "early"})
    response = client.get("/slow")
    assert (response.status_code, response.text) == (200, "done")
    assert client.get("/show").json == {}
    assert "late_save" in recorder.kinds


def test_requests_at_the_same_time_merge(app: Any, watched: sessile.Store) -> None:
    """CON-03: what Flask's cookie, Flask-Session and the rest lose."""
    both = threading.Barrier(8)

    @app.route("/write/<name>")
    def write(name: str) -> str:
        dict(session)
        both.wait(30)
        session[name] = True
        return ""

    first = watched.create({"begun": True})

    def ask(number: int) -> None:
        client = app.test_client()
        client.set_cookie(NAME, first.id)
        assert client.get(f"/write/n{number}").status_code == 200

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    stored = watched.load(first.id)
    assert stored is not None
    assert set(stored) == {"begun", *(f"n{number}" for number in range(8))}


def test_renewal(app: Any, client: Any, watched: sessile.Store) -> None:
    """LIF-08: with an owner, after a quarter of an hour; the request before it with the old id goes on."""
    logged_in(client, watched, "alice", data={"a": 1})
    client.get("/show")
    old = client.get_cookie(NAME).value
    advance(watched, timedelta(minutes=16))
    (cookie,) = cookies(client.get("/show"))
    assert cookie.startswith(f"{NAME}=")
    assert client.get_cookie(NAME).value != old
    assert client.get("/show").json == {"a": 1}


def test_no_renewal_of_what_is_passive(make_app: MakeApp, watched: sessile.Store) -> None:
    """The function gets Flask's request."""
    app = make_app(passive=lambda request: request.path == "/show")
    client = logged_in(app.test_client(), watched, "alice", data={"a": 1})
    advance(watched, timedelta(minutes=16))
    assert cookies(client.get("/show")) == []
    advance(watched, timedelta(minutes=16))
    assert client.get("/show").json == {}


# ---- transport and other sites ----


def test_plain_http(make_app: MakeApp, watched: sessile.Store) -> None:
    """COK-12: a read finds nothing, a write says what to do."""
    app = make_app(testing=False)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    client = app.test_client()
    assert client.get("/show", base_url="http://shop.example").json == {}
    with pytest.raises(sessile.InsecureTransport, match="insecure_dev=True"):
        client.get("/set/a/1", base_url="http://shop.example")


def test_plain_http_where_each_session_is_made_permanent(make_app: MakeApp) -> None:
    """Nothing would be stored: a probe of a load balancer gets its answer."""
    app = make_app(testing=False)

    @app.before_request
    def make_permanent() -> None:
        session.permanent = True
        assert session.permanent is False

    assert app.test_client().get("/untouched", base_url="http://shop.example").status_code == 200


def test_plain_http_while_debugging(make_app: MakeApp) -> None:
    """COK-02: on loopback hosts only."""
    app = make_app(testing=False)
    app.debug = True
    client = app.test_client()
    (cookie,) = cookies(client.get("/set/a/1", base_url="http://127.0.0.1:5000"))
    assert cookie.startswith("id=")
    assert "Secure" not in cookie
    with pytest.raises(sessile.InsecureTransport):
        client.get("/set/a/1", base_url="http://shop.example")


def test_plain_http_while_testing(make_app: MakeApp) -> None:
    """Nothing travels then: any host will do."""
    client = make_app().test_client()
    client.get("/set/a/1", base_url="http://shop.example")
    assert client.get("/show", base_url="http://shop.example").json == {"a": "1"}


def test_a_proxy_that_corrects_the_scheme_may_come_first_or_last(make_app: MakeApp) -> None:
    from werkzeug.middleware.proxy_fix import ProxyFix

    app = make_app(testing=False)
    app.wsgi_app = ProxyFix(app.wsgi_app, x_proto=1)
    (cookie,) = cookies(
        app.test_client().get(
            "/set/a/1", base_url="http://shop.example", headers={"X-Forwarded-Proto": "https"}
        )
    )
    assert cookie.startswith(NAME)


def test_a_request_that_another_site_started(make_app: MakeApp, recorder: EventRecorder) -> None:
    """COK-13: no function of the application runs; its page for 403 is shown."""
    ran = []
    app = make_app(before=lambda: ran.append(True), trusted_origins=["https://friend.example"])
    app.register_error_handler(403, lambda error: ("our own page", 403))
    client = app.test_client()
    answer = client.post("/untouched", headers={"Origin": "https://evil.example"})
    assert (answer.status_code, answer.text, ran) == (403, "our own page", [])
    assert recorder.kinds == ["csrf_refused"]
    assert client.post("/untouched", headers={"Origin": "https://friend.example"}).status_code == 200
    assert client.get("/untouched", headers={"Origin": "https://evil.example"}).status_code == 200
    assert client.post("/untouched").status_code == 200


def test_two_cookies_of_our_name(app: Any, watched: sessile.Store, recorder: EventRecorder) -> None:
    """COK-07."""
    first, second = watched.create({"a": 1}), watched.create({"a": 2})
    recorder.take()
    headers = {"Cookie": f"{NAME}={first.id}; {NAME}={second.id}"}
    assert app.test_client(use_cookies=False).get("/show", headers=headers).json == {}
    assert recorder.kinds == ["duplicate_cookie"]


def test_an_id_that_is_not_known_is_not_adopted(client: Any) -> None:
    """SID-06."""
    client.set_cookie(NAME, "A" * 32)
    (cookie,) = cookies(client.get("/set/a/1"))
    assert "A" * 32 not in cookie


def test_when_there_is_no_room(make_app: MakeApp, make_store: Any) -> None:
    store = make_store(capacity=1, anonymous_share=1.0, max_sessions_per_owner=None)
    store.create(owner="alice")
    client = make_app(store=store).test_client()
    response = client.get("/set/a/1")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "30")
    assert response.text.startswith("The server has no room")


# ---- configuration ----


@pytest.mark.parametrize(
    ("config", "name", "attributes"),
    [
        ({}, NAME, ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"]),
        (
            {"SESSION_COOKIE_NAME": "sid", "SESSION_COOKIE_SAMESITE": "strict"},
            "__Host-Http-sid",
            ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"],
        ),
        ({"SESSION_COOKIE_NAME": "__Host-sid"}, "__Host-sid", ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"]),
        (
            {"SESSION_COOKIE_DOMAIN": ".shop.example", "SESSION_COOKIE_HTTPONLY": False},
            "__Secure-id",
            ["Domain=shop.example", "Path=/", "Secure", "HttpOnly", "SameSite=Lax"],
        ),
        ({"APPLICATION_ROOT": "/app"}, "__Secure-id", ["Path=/app", "Secure", "HttpOnly", "SameSite=Lax"]),
    ],
)
def test_the_cookie_that_the_configuration_asks_for(
    make_app: MakeApp, config: dict[str, Any], name: str, attributes: list[str]
) -> None:
    """COK-01: as far as it is safe."""
    app = make_app()
    app.config.update(config)
    (cookie,) = cookies(app.test_client().get("/set/a/1", base_url="https://shop.example/app"))
    assert cookie.split("=")[0] == name
    assert cookie.split("; ")[1:] == attributes


def test_the_configuration_may_change_between_requests(make_app: MakeApp) -> None:
    """As tests do with an application that they all use."""
    app = make_app()
    client = app.test_client()
    client.get("/untouched")
    app.config["SESSION_COOKIE_SAMESITE"] = "invalid"
    with pytest.raises(ValueError, match="samesite='Invalid'"):
        client.get("/untouched")
    for given, sent in (("Strict", "Strict"), (None, "Lax"), ("None", "None")):
        app.config["SESSION_COOKIE_SAMESITE"] = given
        (cookie,) = cookies(app.test_client().get("/set/a/1"))
        assert cookie.endswith(f"; SameSite={sent}")


def test_another_cookie(make_app: MakeApp) -> None:
    app = make_app(cookie=Cookie("__Secure-other"))
    assert cookies(app.test_client().get("/set/a/1"))[0].startswith("__Secure-other=")


def test_without_a_secret_key_flask_says_so() -> None:
    app = Flask("shop")
    Sessile(app)
    with app.test_request_context():
        assert session.get("a") is None
        with pytest.raises(RuntimeError, match="secret key"):
            session["a"] = 1


def own_app() -> Any:
    app = Flask("shop")
    app.config["SECRET_KEY"] = "short"
    return app


def test_the_table_is_named_after_the_application_and_its_folder(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And keyed from SECRET_KEY: every worker finds it, another checkout has another."""
    monkeypatch.setattr("sessile.store._own_directory", lambda: str(tmp_path))
    app, again, other = own_app(), own_app(), own_app()
    other.root_path = str(tmp_path)
    stores = [Sessile(each).store for each in (app, again, other)]
    session = stores[0].create({"a": 1})
    assert stores[1].load(session.id) is not None
    assert stores[2].load(session.id) is None
    assert len(list(tmp_path.iterdir())) == 2
    for store in stores:
        store.close()


def test_a_former_secret_key_still_opens_sessions(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessile.store._own_directory", lambda: str(tmp_path))
    app, later = own_app(), own_app()
    later.config.update(SECRET_KEY="another", SECRET_KEY_FALLBACKS=["short"])
    with Sessile(app).store as store, Sessile(later).store as later_store:
        assert later_store.load(store.create({"a": 1}).id) is not None


def test_the_secret_key_may_change_while_the_application_serves(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessile.store._own_directory", lambda: str(tmp_path))
    app = own_app()
    extension = Sessile(app, https=True)
    app.add_url_rule("/", view_func=lambda: session.setdefault("made with", app.secret_key))
    client = app.test_client()
    client.get("/", base_url="https://shop.example")
    stores = [extension.store]
    app.config.update(SECRET_KEY="another", SECRET_KEY_FALLBACKS=["short"])
    assert client.get("/", base_url="https://shop.example").text == "short"
    stores.append(extension.store)
    assert stores[0] is not stores[1]
    for store in stores:
        store.close()


def test_another_secret_key_without_the_former_one_is_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessile.store._own_directory", lambda: str(tmp_path))
    app, later = own_app(), own_app()
    later.config["SECRET_KEY"] = "another"
    extension = Sessile(later)
    with Sessile(app).store, pytest.raises(sessile.AttachError, match="secret"):
        _ = extension.store


def test_tests_have_a_table_of_their_own(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the application learns late that it is tested."""
    monkeypatch.setattr("sessile.store._own_directory", lambda: str(tmp_path))
    app = own_app()
    extension = Sessile(app)
    app.testing = True
    with app.test_client() as client:
        app.add_url_rule("/", view_func=lambda: session.setdefault("a", "b"))
        assert client.get("/").text == "b"
    assert list(tmp_path.iterdir()) == []
    assert extension.store.stats().created == 1
    app.testing = False
    with extension.store as store:
        assert store.stats().created == 0


def test_while_tested_the_secret_key_may_change() -> None:
    """As in Flask's own tests: without the former one there is nobody logged in; also where the list of former
    ones is changed in place."""
    app = own_app()
    app.testing = True
    Sessile(app)
    app.add_url_rule("/set", "set", lambda: session.setdefault("a", "kept"))
    app.add_url_rule("/show", "show", lambda: dict(session))
    client = app.test_client()
    client.get("/set")
    former = ["yet another"]
    app.config.update(SECRET_KEY="another", SECRET_KEY_FALLBACKS=former)
    assert client.get("/show").json == {}
    former.insert(0, "short")
    assert client.get("/show").json == {"a": "kept"}
    app.config.update(SECRET_KEY="a third", SECRET_KEY_FALLBACKS=["another"])
    assert client.get("/show").json == {"a": "kept"}


def test_tests_keep_few_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key for each test, and one application: they do not add up."""
    made: list[weakref.ref[sessile.Store]] = []

    def make() -> sessile.Store:
        store = sessile.Store(capacity=100, memory="2 MiB")
        made.append(weakref.ref(store))
        return store

    monkeypatch.setattr("sessile.web.flask.store_of_tests", make)
    app = own_app()
    app.testing = True
    extension = Sessile(app)
    for number in range(20):
        app.config["SECRET_KEY"] = f"key {number}"
        assert extension.store is made[-1]()
    gc.collect()
    assert len(made) == 20
    assert sum(each() is not None for each in made) <= 8


def test_several_workers_with_a_table_each_are_refused(make_app: MakeApp, make_store: Any) -> None:
    app = make_app(store=make_store())
    with pytest.raises(sessile.AttachError, match="several worker processes"):
        app.test_client().get("/show", environ_overrides={"wsgi.multiprocess": True})


def test_in_two_steps_and_only_once(watched: sessile.Store) -> None:
    extension = Sessile(store=watched)
    app = own_app()
    extension.init_app(app)
    with pytest.raises(RuntimeError, match="has a Sessile already"):
        extension.init_app(app)
    with app.app_context():
        assert extension.store is watched


def test_two_applications_on_one_store_share_their_sessions(make_app: MakeApp) -> None:
    one, other = make_app().test_client(), make_app().test_client()
    one.get("/set/a/1")
    other.set_cookie(NAME, one.get_cookie(NAME).value)
    assert other.get("/show").json == {"a": "1"}


def test_the_session_can_be_used_in_a_context_of_ones_own(app: Any) -> None:
    """Nothing is stored there, as Flask's own does."""
    with app.test_request_context("/"):
        session["a"] = 1
        assert dict(session) == {"a": 1}
        assert isinstance(session._get_current_object(), FlaskSession)


# ---- Flask-Login ----


class User:
    is_authenticated = is_active = True
    is_anonymous = False

    def __init__(self, name: str) -> None:
        self.name = name

    def get_id(self) -> str:
        return self.name


@pytest.fixture
def login_app(make_app: MakeApp, watched: sessile.Store) -> Any:
    flask_login = pytest.importorskip("flask_login", reason="Flask-Login is not installed")
    app = make_app()
    flask_login.LoginManager(app).user_loader(User)

    @app.route("/login/<name>")
    def login(name: str) -> str:
        flask_login.login_user(User(name))
        return ""

    @app.route("/logout")
    def logout() -> str:
        flask_login.logout_user()
        return ""

    @app.route("/me")
    def me() -> str:
        return str(flask_login.current_user.get_id())

    @app.route("/everywhere")
    def everywhere() -> str:
        extension = Sessile.of(flask.current_app)
        return str(extension.revoke(flask_login.current_user.get_id(), keep=session))

    return app


def test_flask_login_gives_a_new_id_and_an_owner(login_app: Any, watched: sessile.Store) -> None:
    """LIF-05: at log-in and log-out, for code that never heard of it."""
    client = login_app.test_client()
    client.get("/set/cart/book")
    anonymous = client.get_cookie(NAME).value
    client.get("/login/alice")
    owned = client.get_cookie(NAME).value
    assert owned != anonymous
    assert watched.load(anonymous) is None
    assert [info.owner for info in watched.sessions("alice")] == ["alice"]
    assert client.get("/me").text == "alice"
    assert client.get("/show").json["cart"] == "book"
    client.get("/logout")
    assert watched.load(owned) is None
    assert client.get("/me").text == "None"
    assert client.get("/show").json == {"cart": "book", "_fresh": False}


def test_flask_login_log_out_everywhere(login_app: Any, watched: sessile.Store) -> None:
    """LIF-12: and everywhere else."""
    clients = [login_app.test_client() for _ in range(3)]
    for client in clients:
        client.get("/login/alice")
    other = login_app.test_client()
    other.get("/login/bob")
    assert clients[0].get("/everywhere").text == "2"
    assert [client.get("/me").text for client in [*clients, other]] == ["alice", "None", "None", "bob"]
    watched.revoke("alice")
    assert clients[0].get("/me").text == "None"


def test_an_application_is_freed_as_soon_as_nobody_holds_it(watched: sessile.Store) -> None:
    """As Flask promises: there is no cycle through its sessions."""
    app = own_app()
    Sessile(app, watched)
    app.add_url_rule("/", view_func=lambda: session.setdefault("a", "b"))
    app.test_client().get("/", base_url="https://shop.example")
    app_ref = weakref.ref(app)
    gc.collect()
    gc.disable()
    try:
        del app
        assert app_ref() is None
    finally:
        gc.enable()
