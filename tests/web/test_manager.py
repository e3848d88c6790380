"""What the web layer decides, over WSGI and ASGI: see the handlers in conftest.py."""

from __future__ import annotations

import gc
import logging
import re
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import sessile
from sessile.testing import EventRecorder, advance
from sessile.web import Cookie, Header, asgi, csrf, wsgi
from sessile.web.manager import RequestSession

MakeSite = Callable[..., Any]
MakeStore = Callable[..., sessile.Store]


def nothing(session: sessile.Session) -> None:
    """Does not touch the session."""


def count(session: sessile.Session) -> None:
    session["n"] = session.get("n", 0) + 1


def log_in(session: sessile.Session) -> None:
    session.login("alice")


def read_owner(session: sessile.Session) -> tuple[int, list[tuple[str, str]]]:
    return 200, [("X-Owner", str(session.owner))]


def id_of(cookie: str) -> str:
    return cookie.split("=", 1)[1]


def stored(store: sessile.Store, cookie: str) -> dict[str, Any] | None:
    """The fields behind a cookie."""
    session = store.load(id_of(cookie), touch=False)
    return None if session is None else dict(session)


# ---- untouched, and reading ----


def test_an_untouched_session_costs_nothing(make_site: MakeSite, watched: sessile.Store) -> None:
    """COK-11, DOS-01: 1,000 page views with and without a cookie: no look-up, no header, no record."""
    site = make_site(nothing)
    known = watched.create({"n": 1}).id
    before = watched.stats()
    for cookie in (None, f"__Host-Http-id={known}", "__Host-Http-id=" + "A" * 32, "x=y"):
        for _ in range(250):
            reply = site.ask(cookie=cookie)
            assert (reply.status, reply.body, reply.headers) == (200, b"done", [reply.headers[0]])
    assert watched.stats() == before


def test_reading_makes_no_record_and_no_cookie(make_site: MakeSite, watched: sessile.Store) -> None:
    """COK-11, DOS-01."""
    site = make_site(lambda session: session.get("n"))
    for _ in range(100):
        reply = site.ask()
        assert (reply["Set-Cookie"], reply["Vary"], reply["Cache-Control"]) == (None, "Cookie", None)
    assert watched.stats().sessions == watched.stats().created == 0


def missing(session: sessile.Session) -> None:
    with pytest.raises(KeyError):
        session["b"]


ACCESSES: dict[str, Callable[[Any], object]] = {
    "get": lambda s: s.get("a"),
    "in": lambda s: "a" in s,
    "missing": missing,
    "len": len,
    "iter": list,
    "bool": bool,
    "keys": lambda s: list(s.keys()),
    "values": lambda s: list(s.values()),
    "items": lambda s: list(s.items()),
    "copy": lambda s: s.copy(),
    "dict": dict,
    "pop": lambda s: s.pop("none", None),
    "id": lambda s: s.id,
    "owner": lambda s: s.owner,
    "handle": lambda s: s.handle,
    "device": lambda s: s.device,
    "is_new": lambda s: s.is_new,
    "created": lambda s: s.created,
    "expires": lambda s: s.expires,
    "remaining": lambda s: s.remaining,
    "last_used": lambda s: s.last_used,
    "authenticated_at": lambda s: s.authenticated_at,
    "fresh": lambda s: s.fresh(10),
    "alive": lambda s: s.alive(),
    "reload": lambda s: s.reload(),
    "save": lambda s: s.save(),
    "with": lambda s: s.__enter__() and s.__exit__(None, None, None),
    "mark_accessed": lambda s: s.mark_accessed(),
    "mark_modified": lambda s: s.mark_modified(),
    "csrf": lambda s: csrf.check(s, "x"),
}


@pytest.mark.parametrize("access", ACCESSES)
@pytest.mark.parametrize("known", [False, True], ids=["visitor", "known"])
def test_every_kind_of_access_varies_with_the_cookie(
    make_site: MakeSite, watched: sessile.Store, access: str, known: bool
) -> None:
    """COK-10: so a cache never gives the page of one visitor to another."""

    def handler(session: sessile.Session) -> None:
        ACCESSES[access](session)

    cookie = f"__Host-Http-id={watched.create({'a': 1}).id}" if known else None
    reply = make_site(handler).ask(cookie=cookie)
    assert (reply.status, reply["Vary"], reply["Set-Cookie"]) == (200, "Cookie", None)


def test_asking_for_its_representation_is_no_touch(make_site: MakeSite, watched: sessile.Store) -> None:
    shown = []
    site = make_site(lambda session: shown.append(repr(session)))
    assert site.ask(cookie=f"__Host-Http-id={watched.create({'a': 1}).id}")["Vary"] is None
    assert shown == ["<sessile.Session, not looked up>"]
    assert watched.stats().loads == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([("Vary", "Accept-Encoding")], ["Accept-Encoding, Cookie"]),
        ([("vary", "Cookie")], ["Cookie"]),
        ([("Vary", "accept, COOKIE")], ["accept, COOKIE"]),
        ([("Vary", "*")], ["*"]),
        ([("Vary", "Accept"), ("Vary", "Origin")], ["Accept, Cookie", "Origin"]),
        ([("Vary", "Cookie-Consent")], ["Cookie-Consent, Cookie"]),
    ],
)
def test_an_applications_own_vary_is_kept(
    make_site: MakeSite, given: list[tuple[str, str]], expected: list[str]
) -> None:
    """COK-10."""

    def handler(session: sessile.Session) -> Any:
        session.get("a")
        return 200, given

    assert make_site(handler).ask().all("Vary") == expected


# ---- the first write, the cookie ----


def test_the_first_write_sets_the_cookie_and_the_second_does_not(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    """COK-01, COK-10, COK-11."""
    site = make_site(count)
    first = site.browse()
    assert re.fullmatch(
        r"__Host-Http-id=[A-Za-z0-9_-]{32}; Path=/; Secure; HttpOnly; SameSite=Lax", first["Set-Cookie"]
    )
    assert (first["Cache-Control"], first["Vary"]) == ("no-store", "Cookie")
    for _ in range(20):
        again = site.browse()
        assert (again["Set-Cookie"], again["Cache-Control"], again["Vary"]) == (None, None, "Cookie")
    assert stored(watched, site.cookie) == {"n": 21}
    assert watched.stats().created == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([("Cache-Control", "public, max-age=3600")], ["no-store"]),
        ([("cache-control", "max-age=0, No-Store")], ["max-age=0, No-Store"]),
        ([("Cache-Control", "public"), ("Cache-Control", "no-store")], ["no-store"]),
        ([("Cache-Control", "no-storeroom")], ["no-store"]),
    ],
)
def test_no_cache_keeps_a_response_with_a_cookie(
    make_site: MakeSite, given: list[tuple[str, str]], expected: list[str]
) -> None:
    """COK-10: whatever the application said."""

    def handler(session: sessile.Session) -> Any:
        session["a"] = 1
        return 200, given

    assert make_site(handler).ask().all("Cache-Control") == expected


def test_a_page_of_an_owner_is_private_unless_the_application_says_otherwise(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    """COK-10."""
    site = make_site(read_owner)
    site.cookie = f"__Host-Http-id={watched.create(owner='alice').id}"
    assert site.browse()["Cache-Control"] == "private"
    assert site.ask()["Cache-Control"] is None
    site.put(lambda session: (200, [("Cache-Control", "max-age=5"), ("X-Owner", str(session.owner))]))
    assert site.browse()["Cache-Control"] == "max-age=5"
    assert site.put(nothing).browse()["Cache-Control"] is None


def test_a_page_stays_private_when_its_owner_logs_out_meanwhile(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    """COK-10."""
    known = watched.create({"a": 1}, owner="alice")

    def slow(session: sessile.Session) -> Any:
        reply = read_owner(session)
        watched.revoke("alice")
        session["a"] = 2
        return reply

    reply = make_site(slow).ask(cookie=f"__Host-Http-id={known.id}")
    assert (reply["X-Owner"], reply["Cache-Control"]) == ("alice", "private")


def test_the_session_is_stored_before_the_headers_go_out(make_site: MakeSite, watched: sessile.Store) -> None:
    """The browser may follow a redirect before the application has returned."""
    seen = []

    def handler(session: sessile.Session) -> Any:
        session["basket"] = ["apple"]
        yield 303, [("Location", "/next")]
        seen.append(watched.stats().sessions)

    site = make_site(handler)
    assert site.browse().status == 303
    assert seen == [1]
    assert stored(watched, site.cookie) == {"basket": ["apple"]}


def test_a_change_in_the_middle_of_a_value_is_saved(make_site: MakeSite, watched: sessile.Store) -> None:
    site = make_site(lambda session: session.update(cart=["apple"]))
    site.browse()
    site.put(lambda session: session["cart"].append("bread")).browse()
    assert stored(watched, site.cookie) == {"cart": ["apple", "bread"]}


def test_writing_what_is_there_already_sets_no_cookie(make_site: MakeSite, watched: sessile.Store) -> None:
    """COK-11."""
    site = make_site(lambda session: session.update(a=1))
    assert site.browse().cookie
    assert site.browse()["Set-Cookie"] is None


def test_a_persistent_cookie_lasts_until_the_absolute_deadline(
    make_site: MakeSite, make_store: MakeStore
) -> None:
    """COK-05."""
    store = make_store(idle_timeout=60, absolute_timeout=7200)
    site = make_site(count, store=store, cookie=Cookie(persistent=True))
    max_age = int(re.search(r"; Max-Age=([0-9]+)$", site.browse()["Set-Cookie"])[1])
    assert 7190 <= max_age <= 7200
    for _ in range(60):
        advance(store, 59)
        assert site.browse()["Set-Cookie"] is None
    site.put(lambda session: session.rotate())
    max_age = int(re.search(r"; Max-Age=([0-9]+)$", site.browse()["Set-Cookie"])[1])
    assert 7190 - 3540 <= max_age <= 7200 - 3540


# ---- ids that are none of ours ----


@pytest.mark.parametrize("unknown", ["A" * 32, "attackerchosen-attackerchosen-12"])
def test_an_unknown_id_is_never_adopted(make_site: MakeSite, watched: sessile.Store, unknown: str) -> None:
    """SID-06: peers (starsessions, Beaker, Litestar) hand an id that the client chose back to it."""
    site = make_site(count)
    reply = site.ask(cookie=f"__Host-Http-id={unknown}")
    assert reply.cookie
    assert unknown not in reply.cookie
    assert watched.load(unknown) is None
    assert site.put(nothing).ask(cookie=f"__Host-Http-id={unknown}")["Set-Cookie"] is None


def test_a_stale_cookie_is_left_alone(make_site: MakeSite, watched: sessile.Store) -> None:
    """A slow request with the id from before a log-in must not delete the cookie that the log-in set."""
    site = make_site(lambda session: session.get("a"))
    gone = watched.create({"a": 1})
    gone.destroy()
    assert site.ask(cookie=f"__Host-Http-id={gone.id}")["Set-Cookie"] is None


@pytest.mark.parametrize(
    "value",
    ["short", "A" * 31, "A" * 33, "A" * 31 + "=", "%41" * 32, '"' + "A" * 32 + '"', "A" * 31 + "é", ""],
)
def test_a_malformed_id_is_no_session_and_a_counter(
    make_site: MakeSite,
    watched: sessile.Store,
    recorder: EventRecorder,
    caplog: pytest.LogCaptureFixture,
    value: str,
) -> None:
    """SID-07, DOS-08."""
    caplog.set_level(logging.DEBUG, logger="sessile")
    before = watched.stats()
    site = make_site(lambda session: (200, [("X-Fields", str(len(session)))]))
    reply = site.ask(cookie=f"__Host-Http-id={value}")
    assert (reply.status, reply["X-Fields"], reply["Set-Cookie"]) == (200, "0", None)
    assert watched.stats().malformed == before.malformed + 1
    assert watched.stats().sessions == 0
    assert recorder.events == []
    assert caplog.records == []


def test_a_cookie_that_came_twice_is_no_session_and_an_event(
    make_site: MakeSite, watched: sessile.Store, recorder: EventRecorder
) -> None:
    """COK-07: which of them was planted nobody knows."""
    mine, planted = watched.create(owner="alice"), watched.create(owner="mallory")
    recorder.take()
    site = make_site(read_owner)
    for first, second in [(mine, planted), (planted, mine), (mine, mine)]:
        reply = site.ask(cookie=f"__Host-Http-id={first.id}; __Host-Http-id={second.id}")
        assert (reply["X-Owner"], reply["Set-Cookie"]) == ("None", None)
        (event,) = recorder.take()
        assert (event.kind, event.handle, event.owner, event.data) == ("duplicate_cookie", None, None, None)


def test_a_header_beyond_the_limits_is_not_looked_into(make_site: MakeSite, watched: sessile.Store) -> None:
    """COK-08."""
    pair = f"__Host-Http-id={watched.create(owner='alice').id}"
    site = make_site(read_owner)
    assert site.ask(cookie="; ".join(["a=b"] * 199 + [pair]))["X-Owner"] == "alice"
    assert site.ask(cookie="; ".join(["a=b"] * 200 + [pair]))["X-Owner"] == "None"
    assert site.ask(cookie=f"a={'b' * 20_000}; {pair}")["X-Owner"] == "None"


def test_an_id_anywhere_else_is_ignored(make_site: MakeSite, watched: sessile.Store) -> None:
    """SID-09."""
    known = watched.create(owner="alice").id
    site = make_site(read_owner)
    elsewhere = {
        "X-Session-Id": known,
        "Authorization": f"Bearer {known}",
        "Mcp-Session-Id": known,
        "X-Cookie": f"__Host-Http-id={known}",
    }
    reply = site.ask(path=f"/{known}", query=f"__Host-Http-id={known}&id={known}", headers=elsewhere)
    assert reply["X-Owner"] == "None"
    for other in ("id", "__host-http-id", "__Host-id", "session"):
        assert site.ask(cookie=f"{other}={known}")["X-Owner"] == "None"


# ---- log-in, log-out, ends ----


def test_a_log_in_gives_a_new_cookie_and_the_old_one_is_dead(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    """LIF-05, LIF-07, SID-06."""
    site = make_site(lambda session: session.update(planted=1, cart=2))
    site.browse()
    old = site.cookie
    reply = site.put(lambda session: session.login("alice", keep=("cart",))).browse()
    assert site.cookie != old
    assert reply["Cache-Control"] == "no-store"
    assert watched.load(id_of(old)) is None
    session = watched.load(id_of(site.cookie))
    assert (session.owner, dict(session)) == ("alice", {"cart": 2})


ENDS: dict[str, Callable[[Any], object]] = {
    "logout": lambda session: session.logout(),
    "destroy": lambda session: session.destroy(),
    "clear": lambda session: session.clear(),
}


@pytest.mark.parametrize("end", ENDS)
def test_an_end_takes_the_cookie_away(make_site: MakeSite, watched: sessile.Store, end: str) -> None:
    """COK-06, LIF-11, STO-11."""
    site = make_site(log_in)
    site.browse()
    old = site.cookie
    reply = site.put(ENDS[end]).browse()
    assert reply["Set-Cookie"] == (
        "__Host-Http-id=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0; "
        "Expires=Thu, 01 Jan 1970 00:00:00 GMT"
    )
    assert (reply["Cache-Control"], site.cookie) == ("no-store", None)
    assert watched.load(id_of(old)) is None
    assert watched.stats().sessions == 0


def test_emptying_an_anonymous_session_removes_it_and_its_cookie(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    """STO-11, DOS-01."""
    site = make_site(count)
    site.browse()
    assert site.put(lambda session: session.update(m=session.pop("n"))).browse().cookie is None
    assert site.put(lambda session: session.popitem() and None).browse().cookie == ""
    assert watched.stats().sessions == 0


@pytest.mark.parametrize("end", ENDS)
def test_an_end_without_a_session_sets_no_cookie(make_site: MakeSite, end: str) -> None:
    """COK-11."""
    site = make_site(ENDS[end])
    assert site.ask()["Set-Cookie"] is None
    assert site.ask(cookie="__Host-Http-id=" + "A" * 32)["Set-Cookie"] is None


@pytest.mark.parametrize("end", ENDS)
def test_what_was_made_and_ended_in_one_request_sets_no_cookie(
    make_site: MakeSite, watched: sessile.Store, end: str
) -> None:
    def handler(session: sessile.Session) -> None:
        session.login("alice")
        ENDS[end](session)

    assert make_site(handler).ask()["Set-Cookie"] is None
    assert watched.stats().sessions == 0


def test_after_a_log_out_a_new_session_may_begin_in_the_same_request(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    site = make_site(log_in)
    site.browse()
    old = site.cookie

    def handler(session: sessile.Session) -> None:
        session.logout()
        session["flash"] = "bye"

    site.put(handler).browse()
    assert site.cookie != old
    session = watched.load(id_of(site.cookie))
    assert (session.owner, dict(session)) == (None, {"flash": "bye"})


@pytest.mark.parametrize("writes", [False, True], ids=["reads", "writes"])
def test_a_slow_request_does_not_undo_a_log_out(
    make_site: MakeSite, watched: sessile.Store, recorder: EventRecorder, writes: bool
) -> None:
    """CON-02: on Flask-Session and starsessions a request that only reads brings the session back."""
    session_of_request = watched.create({"n": 1}, owner="alice")

    def slow(session: sessile.Session) -> None:
        assert session["n"] == 1
        watched.load(session_of_request.id).logout()
        if writes:
            session["n"] = 2

    recorder.take()
    reply = make_site(slow).ask(cookie=f"__Host-Http-id={session_of_request.id}")
    assert (reply.status, reply.body, reply["Set-Cookie"]) == (200, b"done", None)
    assert watched.load(session_of_request.id) is None
    assert watched.stats().sessions == 0
    assert recorder.kinds == ["ended(logout)"] + (["late_save"] if writes else [])
    assert recorder.events[-1].handle == session_of_request.handle


def test_two_requests_that_write_different_fields_lose_none(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    """CON-03: peers keep the fields of the later one only."""
    known = f"__Host-Http-id={watched.create({'a': 0, 'b': 0}).id}"
    other = make_site(lambda session: session.update(b=1))

    def slow(session: sessile.Session) -> None:
        session["a"] = 1
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(other.ask, cookie=known).result().status == 200

    make_site(slow).ask(cookie=known)
    assert stored(watched, known) == {"a": 1, "b": 1}


# ---- after the headers ----


def test_a_write_after_the_headers_is_saved_at_the_end(make_site: MakeSite, watched: sessile.Store) -> None:
    site = make_site(count)
    site.browse()

    def streaming(session: sessile.Session) -> Any:
        session["before"] = 1
        yield None
        session["n"] += 1
        yield b"some "
        session["after"] = 1

    assert site.put(streaming).browse().body == b"begun some done"
    assert stored(watched, site.cookie) == {"n": 2, "before": 1, "after": 1}


def test_a_new_session_cannot_be_stored_after_the_headers(
    make_site: MakeSite, watched: sessile.Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody could ever present its id. The application hears of it, or else the log."""
    raised = []

    def streaming(session: sessile.Session) -> Any:
        session.get("a")
        yield None
        session["a"] = 1
        for operation in (session.save, session.rotate, lambda: session.login("alice")):
            with pytest.raises(sessile.HeadersSent) as caught:
                operation()
            raised.append(caught.value.operation)

    reply = make_site(streaming).ask()
    assert (reply.body, reply["Set-Cookie"], reply.error) == (b"begun done", None, None)
    assert raised == ["save", "rotate", "login"]
    assert watched.stats().created == 0
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "is lost: save must set a cookie" in caplog.text


def test_login_and_rotate_change_nothing_after_the_headers(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    known = watched.create({"a": 1}, owner="alice")

    def streaming(session: sessile.Session) -> Any:
        session.get("a")
        yield None
        with pytest.raises(sessile.HeadersSent):
            session.login("bob")
        with pytest.raises(sessile.HeadersSent):
            session.rotate()
        assert session.owner == "alice"
        assert session.id == known.id

    assert make_site(streaming).ask(cookie=f"__Host-Http-id={known.id}").error is None
    assert watched.load(known.id).owner == "alice"


@pytest.mark.parametrize("end", ENDS)
def test_an_end_works_after_the_headers(make_site: MakeSite, watched: sessile.Store, end: str) -> None:
    """LIF-11."""
    known = watched.create({"a": 1}, owner="alice")

    def streaming(session: sessile.Session) -> Any:
        session.get("a")
        yield None
        ENDS[end](session)
        assert watched.load(known.id) is None

    reply = make_site(streaming).ask(cookie=f"__Host-Http-id={known.id}")
    assert (reply["Set-Cookie"], reply.error) == (None, None)
    assert watched.stats().sessions == 0


def test_a_late_save_of_an_ended_session_is_dropped_with_an_event(
    make_site: MakeSite, watched: sessile.Store, recorder: EventRecorder
) -> None:
    """CON-02."""
    known = watched.create({"a": 1}, owner="alice")

    def streaming(session: sessile.Session) -> Any:
        session.get("a")
        yield None
        assert watched.revoke("alice") == 1
        session["a"] = 2

    recorder.take()
    reply = make_site(streaming).ask(cookie=f"__Host-Http-id={known.id}")
    assert (reply.status, reply.body, reply.error) == (200, b"begun done", None)
    assert recorder.kinds == ["ended(revoked)", "late_save"]
    assert watched.stats().sessions == 0


def test_what_cannot_be_saved_at_the_end_is_logged(
    make_site: MakeSite, watched: sessile.Store, caplog: pytest.LogCaptureFixture
) -> None:
    known = watched.create({"a": 1})

    def streaming(session: sessile.Session) -> Any:
        session.get("a")
        yield None
        session["b"] = object()

    reply = make_site(streaming).ask(cookie=f"__Host-Http-id={known.id}")
    assert (reply.status, reply.error) == (200, None)
    assert "$.b" in caplog.text
    assert dict(watched.load(known.id)) == {"a": 1}


# ---- failures ----


@pytest.mark.parametrize("status", [500, 503, 507])
def test_a_failure_saves_no_fields(make_site: MakeSite, watched: sessile.Store, status: int) -> None:
    site = make_site(count)
    site.browse()

    def failing(session: sessile.Session) -> Any:
        session["n"] = 99
        yield status
        session["n"] = 100

    assert site.put(failing).browse().status == status
    assert stored(watched, site.cookie) == {"n": 1}
    assert site.ask()["Set-Cookie"] is None
    assert watched.stats().sessions == 1


def test_an_exception_saves_no_fields_and_leaves_the_application(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    site = make_site(count)
    site.browse()

    def failing(session: sessile.Session) -> None:
        session["n"] = 99
        raise RuntimeError("a bug")

    reply = site.put(failing).browse()
    assert isinstance(reply.error, RuntimeError)
    assert reply.body == b"the server's own page"
    assert stored(watched, site.cookie) == {"n": 1}
    assert site.ask().body == b"the server's own page"
    assert watched.stats().sessions == 1


def test_an_exception_after_the_headers_saves_no_fields(make_site: MakeSite, watched: sessile.Store) -> None:
    site = make_site(count)
    site.browse()

    def failing(session: sessile.Session) -> Any:
        session["n"] = 2
        yield None
        session["n"] = 99
        yield b"some"
        raise RuntimeError("a bug")

    assert isinstance(site.put(failing).browse().error, RuntimeError)
    assert stored(watched, site.cookie) == {"n": 2}


def raises(session: sessile.Session) -> None:
    raise RuntimeError("a bug")


def answers_500(session: sessile.Session) -> int:
    return 500


@pytest.mark.parametrize("fail", [raises, answers_500])
def test_what_login_did_stays_done_in_a_failing_request(
    make_site: MakeSite, watched: sessile.Store, fail: Callable[[Any], Any]
) -> None:
    """LIF-05: the old id is dead already; without the new cookie the client would be logged out."""
    site = make_site(count)
    site.browse()
    old = site.cookie

    def failing(session: sessile.Session) -> Any:
        session.login("alice", keep=True)
        session["n"] = 99
        return fail(session)

    reply = site.put(failing).browse()
    assert reply.status == 500
    assert (reply.error is None) == (fail is answers_500)
    assert (reply["Cache-Control"], reply["Vary"]) == ("no-store", "Cookie")
    assert site.cookie != old
    session = watched.load(id_of(site.cookie))
    assert (session.owner, dict(session)) == ("alice", {"n": 1})


@pytest.mark.parametrize("fail", [raises, answers_500])
@pytest.mark.parametrize("end", ["logout", "destroy"])
def test_what_a_log_out_did_stays_done_in_a_failing_request(
    make_site: MakeSite, watched: sessile.Store, end: str, fail: Callable[[Any], Any]
) -> None:
    """LIF-11."""
    site = make_site(log_in)
    site.browse()

    def failing(session: sessile.Session) -> Any:
        ENDS[end](session)
        return fail(session)

    assert site.put(failing).browse().status == 500
    assert site.cookie is None
    assert watched.stats().sessions == 0


def test_the_servers_own_error_page_is_left_alone_where_no_cookie_must_go(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    site = make_site(log_in)
    site.browse()
    for handler in (raises, lambda session: raises(session.get("a"))):
        assert site.put(handler).browse().body == b"the server's own page"


def test_a_full_store_is_answered_with_503(
    make_site: MakeSite, make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    """DOS-05: and nothing is evicted that must not be."""
    store = make_store(capacity=8, memory="2 MiB")
    owned = [store.create(owner=f"customer {number}").id for number in range(8)]
    site = make_site(count, store=store)
    reply = site.ask()
    assert (reply.status, reply["Retry-After"], reply["Set-Cookie"]) == (503, "30", None)
    assert (reply["Cache-Control"], reply["Content-Length"]) == ("no-store", str(len(reply.body)))
    assert b"done" not in reply.body
    assert reply.error is None
    assert all(store.load(each) is not None for each in owned)
    assert "503" in caplog.text


def test_a_busy_store_is_answered_with_503(
    make_site: MakeSite, watched: sessile.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(self: sessile.Session) -> bool:
        raise sessile.Busy(timeout=1.0)

    site = make_site(count)
    site.browse()
    monkeypatch.setattr(sessile.Session, "_save_at_once", busy)
    reply = site.browse()
    assert (reply.status, reply["Retry-After"], reply.error) == (503, "1", None)
    assert b"done" not in reply.body


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "$.cart.price"),
        ({1.5: 1}, "$.cart.price"),
        ("\ud800", "$.cart.price"),
        ("x" * 70_000, "70"),
    ],
)
def test_a_value_that_cannot_be_stored_is_answered_with_500_and_logged_with_its_path(
    make_site: MakeSite,
    watched: sessile.Store,
    caplog: pytest.LogCaptureFixture,
    value: Any,
    path: str,
) -> None:
    """STO-03, STO-05."""
    site = make_site(count)
    site.browse()

    def handler(session: sessile.Session) -> Any:
        session["n"] = 2
        session["cart"] = {"price": value}
        yield None
        yield b"more"

    reply = site.put(handler).browse()
    assert (reply.status, reply["Set-Cookie"], reply.error) == (500, None, None)
    assert b"done" not in reply.body
    assert b"more" not in reply.body
    assert b"begun" not in reply.body
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert path in record.getMessage()
    assert id_of(site.cookie) not in caplog.text
    assert stored(watched, site.cookie) == {"n": 1}


def test_a_response_in_the_place_of_another_has_no_body_for_head(make_site: MakeSite) -> None:
    reply = make_site(lambda session: session.update(a=object())).ask("HEAD")
    assert (reply.status, reply.body) == (500, b"")


def test_a_log_in_stays_done_where_its_fields_cannot_be_saved(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    def handler(session: sessile.Session) -> None:
        session.login("alice")
        session["bad"] = object()

    site = make_site(handler)
    reply = site.browse()
    assert reply.status == 500
    assert watched.load(id_of(site.cookie)).owner == "alice"


def test_a_closed_store_says_so(make_site: MakeSite, make_store: MakeStore) -> None:
    store = make_store()
    site = make_site(count, store=store)
    store.close()
    assert isinstance(site.ask().error, sessile.StoreClosed)
    assert site.put(nothing).ask().status == 200


# ---- renewal ----


def renewing(make_site: MakeSite, watched: sessile.Store, **options: Any) -> Any:
    """A site with a logged-in client whose session is due for renewal."""
    site = make_site(log_in, rotate_every=100, **options)
    site.browse()
    site.put(read_owner).browse()  # now the id was presented
    advance(watched, 101)
    return site


def test_a_session_in_use_is_renewed(
    make_site: MakeSite, watched: sessile.Store, recorder: EventRecorder
) -> None:
    """LIF-08: after `rotate_every`, not before; the handle stays."""
    site = make_site(log_in, rotate_every=100)
    site.browse()
    old, handle = site.cookie, watched.load(id_of(site.cookie)).handle
    advance(watched, 99)
    assert site.put(read_owner).browse()["Set-Cookie"] is None
    advance(watched, 2)
    recorder.take()
    reply = site.browse()
    assert reply["X-Owner"] == "alice"
    assert site.cookie != old
    assert reply["Cache-Control"] == "no-store"
    assert watched.load(id_of(site.cookie)).handle == handle
    assert "rotated" in recorder.kinds


def test_parallel_requests_with_the_old_id_are_each_given_the_same_new_cookie(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    """LIF-08, LIF-09: also when the response to the first of them was lost; until the new id is presented."""
    site = renewing(make_site, watched)
    old = site.cookie
    new = {site.ask(cookie=old).cookie for _ in range(5)}
    advance(watched, 50)
    new.add(site.ask(cookie=old).cookie)
    assert len(new) == 1
    assert old not in new
    assert site.put(count).ask(cookie=old).cookie in new  # a write through the old id follows
    assert stored(watched, new.pop())["n"] == 1


def test_after_the_drain_the_old_id_ends_the_session_as_stolen(
    make_site: MakeSite, watched: sessile.Store, recorder: EventRecorder
) -> None:
    """LIF-10."""
    site = renewing(make_site, watched)
    old = site.cookie
    site.browse()
    assert site.browse()["X-Owner"] == "alice"  # the new id is presented: the drain begins
    assert site.ask(cookie=old)["X-Owner"] == "alice"
    advance(watched, 11)
    assert site.ask(cookie=old)["X-Owner"] == "None"  # a late request of the client itself, perhaps
    assert site.browse()["X-Owner"] == "alice"
    advance(watched, 10)
    recorder.take()
    reply = site.ask(cookie=old)
    assert (reply["X-Owner"], reply["Set-Cookie"]) == ("None", None)
    assert sorted(recorder.kinds) == ["ended(theft)", "retired_id"]
    assert site.browse()["X-Owner"] == "None"


def test_an_anonymous_session_is_not_renewed(make_site: MakeSite, watched: sessile.Store) -> None:
    site = make_site(count, rotate_every=100)
    for _ in range(3):
        site.browse()
        advance(watched, 101)
    assert site.browse()["Set-Cookie"] is None


def test_a_request_can_ask_not_to_be_given_a_new_id(make_site: MakeSite, watched: sessile.Store) -> None:
    """A web view that is closed from outside may never keep the new cookie (LIF-08)."""
    site = renewing(make_site, watched)

    def handler(session: Any) -> Any:
        session.keep_id()
        return read_owner(session)

    assert site.put(handler).browse()["Set-Cookie"] is None
    assert site.put(lambda session: session.keep_id()).browse()["Vary"] is None
    assert site.put(read_owner).browse()["Set-Cookie"] is not None


def test_no_renewal_without_rotate_every(make_site: MakeSite, watched: sessile.Store) -> None:
    site = make_site(log_in, rotate_every=None)
    site.browse()
    site.put(read_owner)
    for _ in range(10):
        assert site.browse()["Set-Cookie"] is None
        advance(watched, 1000)


def test_a_failing_request_renews_nothing(make_site: MakeSite, watched: sessile.Store) -> None:
    site = renewing(make_site, watched)
    assert site.put(lambda session: 500 if session.owner else 404).browse()["Set-Cookie"] is None


def test_a_renewal_without_room_leaves_the_id_as_it_is(
    make_site: MakeSite, watched: sessile.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = renewing(make_site, watched)

    def full(self: sessile.Session) -> bool:
        raise sessile.StoreFull(capacity=1, used=1, memory=1, memory_used=1)

    monkeypatch.setattr(sessile.Session, "_renew", full)
    reply = site.browse()
    assert (reply.status, reply["X-Owner"], reply["Set-Cookie"]) == (200, "alice", None)


# ---- passive requests ----


def is_poll(request: Any) -> bool:
    return bool(request.get("PATH_INFO", request.get("path")) == "/poll")


def test_a_passive_request_does_not_keep_the_session_alive(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    """LIF-01."""
    site = make_site(log_in, passive=is_poll)
    site.browse()
    site.put(read_owner)
    for _ in range(3):
        advance(watched, 500)
        assert site.browse(path="/poll")["X-Owner"] == "alice"
    advance(watched, 301)
    assert site.browse(path="/poll")["X-Owner"] == "None"


def test_any_other_request_does_keep_it_alive(make_site: MakeSite, watched: sessile.Store) -> None:
    """LIF-01."""
    site = make_site(log_in, passive=is_poll)
    site.browse()
    site.put(read_owner)
    for _ in range(10):
        advance(watched, 500)
        assert site.browse(path="/page")["X-Owner"] == "alice"


def test_a_passive_request_can_ask_how_long_is_left(make_site: MakeSite, watched: sessile.Store) -> None:
    site = make_site(log_in, passive=is_poll)
    site.browse()
    advance(watched, 1000)
    site.put(lambda session: (200, [("X-Remaining", str(session.remaining))]))
    assert 795 <= float(site.browse(path="/poll")["X-Remaining"]) <= 800
    assert 1795 <= float(site.browse(path="/page")["X-Remaining"]) <= 1800


def test_a_passive_request_is_not_renewed_but_follows(make_site: MakeSite, watched: sessile.Store) -> None:
    """LIF-08: a page that polls is not in use."""
    site = renewing(make_site, watched, passive=is_poll)
    old = site.cookie
    assert site.browse(path="/poll")["Set-Cookie"] is None
    new = site.ask(cookie=old).cookie
    assert site.ask(path="/poll", cookie=old).cookie == new != old


# ---- cross-site requests ----


CROSS = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}


def never(session: sessile.Session) -> None:
    raise AssertionError("the application was called")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE"])
@pytest.mark.parametrize(
    "headers",
    [
        CROSS,
        {"Sec-Fetch-Site": "same-site", "Origin": "https://sibling.shop.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://shop.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_cross_site_request_is_refused(
    make_site: MakeSite,
    recorder: EventRecorder,
    caplog: pytest.LogCaptureFixture,
    method: str,
    headers: dict[str, str],
) -> None:
    """COK-13: with or without a session, so that nobody is logged in to somebody else's account either."""
    reply = make_site(never).ask(method, headers=headers)
    assert (reply.status, reply["Set-Cookie"], reply["Cache-Control"]) == (403, None, "no-store")
    assert recorder.kinds == ["csrf_refused"]
    assert "trusted_origins" in caplog.text


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", CROSS),
        ("HEAD", CROSS),
        ("OPTIONS", CROSS),
        ("POST", {"Sec-Fetch-Site": "same-origin", "Origin": "https://shop.example"}),
        ("POST", {"Sec-Fetch-Site": "none"}),
        ("POST", {"Origin": "https://shop.example"}),
        ("POST", {"Sec-Fetch-Site": "cross-site", "Origin": "https://pay.example"}),
        ("POST", {"Origin": "https://pay.example:443"}),
        ("DELETE", {}),
    ],
)
def test_every_other_request_passes(make_site: MakeSite, method: str, headers: dict[str, str]) -> None:
    """COK-13."""
    site = make_site(nothing, trusted_origins=["https://pay.example"])
    assert site.ask(method, headers=headers).status == 200


def test_an_http_origin_is_foreign_where_tls_ends_in_front(make_site: MakeSite) -> None:
    """COK-13: whoever sits on the wire can make one up."""
    site = make_site(nothing, https=True)
    assert site.ask("POST", scheme="http", headers={"Origin": "http://shop.example"}).status == 403
    assert site.ask("POST", scheme="http", headers={"Origin": "https://shop.example"}).status == 200


def test_the_check_can_be_left_out_for_some_requests(make_site: MakeSite) -> None:
    site = make_site(
        nothing, csrf=lambda request: "hook" not in request.get("PATH_INFO", request.get("path"))
    )
    assert site.ask("POST", "/hook", headers=CROSS).status == 200
    assert site.ask("POST", "/form", headers=CROSS).status == 403
    assert make_site(nothing, csrf=False).ask("POST", headers=CROSS).status == 200


def test_nothing_that_a_client_sent_breaks_a_log_line(
    make_site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    """DET-05."""
    make_site(never).ask("POST", headers={"Origin": "https://evil\x1b[31m" + "x" * 5000, "Host": "a\tb"})
    (record,) = caplog.records
    assert len(record.getMessage()) < 1000
    assert record.getMessage().isprintable()


def test_a_token_of_the_session_survives_renewal_and_dies_at_log_in(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    """COK-13."""
    tokens: list[str] = []

    def give(session: sessile.Session) -> None:
        session.save()
        tokens.append(csrf.token(session))

    def check(session: sessile.Session) -> Any:
        return 200, [("X-Valid", str(csrf.check(session, tokens[-1])))]

    site = make_site(count, rotate_every=100)
    site.browse()
    site.put(give).browse()
    assert site.put(check).browse()["X-Valid"] == "True"
    assert site.ask()["X-Valid"] == "False"
    site.put(log_in).browse()
    assert site.put(check).browse()["X-Valid"] == "False"
    site.put(give).browse()
    advance(watched, 101)
    old = site.cookie
    assert site.put(check).browse()["X-Valid"] == "True"
    assert site.cookie != old
    assert site.browse()["X-Valid"] == "True"


# ---- transport ----


def test_a_write_over_plain_http_is_refused_with_the_remedies(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    """COK-12, COK-01."""
    writes: list[Callable[[Any], object]] = [
        lambda s: s.__setitem__("a", 1),
        lambda s: s.update(a=1),
        lambda s: s.setdefault("a", 1),
        lambda s: s.update_field("a", lambda n: n, 1),
        lambda s: s.clear(),
        lambda s: s.login("alice"),
        lambda s: s.rotate(),
        lambda s: s.set_timeouts(idle=10),
    ]
    for write in writes:
        reply = make_site(write).ask(scheme="http")
        assert isinstance(reply.error, sessile.InsecureTransport), write
        assert (reply.error.scheme, reply.error.host) == ("http", "shop.example")
        assert all(remedy in str(reply.error) for remedy in ("https=True", "insecure_dev=True", "https"))
    assert watched.stats().created == 0


def test_a_read_over_plain_http_finds_an_empty_session(make_site: MakeSite, watched: sessile.Store) -> None:
    """COK-12: the cookie is neither accepted nor set."""
    known = watched.create({"a": 1}, owner="alice")

    def handler(session: sessile.Session) -> Any:
        assert not session
        assert "a" not in session
        session.logout()
        session.destroy()
        return read_owner(session)

    reply = make_site(handler).ask(scheme="http", cookie=f"__Host-Http-id={known.id}")
    assert (reply.status, reply["X-Owner"], reply["Set-Cookie"], reply["Vary"]) == (
        200,
        "None",
        None,
        "Cookie",
    )
    assert watched.load(known.id) is not None


def test_https_true_says_that_tls_ends_in_front(make_site: MakeSite) -> None:
    """COK-12."""
    reply = make_site(count, https=True).ask(scheme="http")
    assert reply["Set-Cookie"].startswith("__Host-Http-id=")
    assert "; Secure;" in reply["Set-Cookie"]


LOOPBACK = [
    "localhost",
    "localhost:8000",
    "LOCALHOST",
    "shop.localhost:80",
    "testserver",
    "127.0.0.1:5000",
    "[::1]:8000",
]
ELSEWHERE = [
    "shop.example",
    "localhost.evil.example",
    "evillocalhost",
    "127.0.0.1.evil.example",
    "128.0.0.1",
    "[::2]",
    "",
    "a b",
    "localhost@x",
]


def insecure_site(make_site: MakeSite, handler: Any, **options: Any) -> Any:
    with pytest.warns(RuntimeWarning, match="insecure_dev=True"):
        return make_site(handler, insecure_dev=True, **options)


@pytest.mark.parametrize("host", LOOPBACK)
def test_insecure_development_serves_loopback_hosts(make_site: MakeSite, host: str) -> None:
    """COK-02."""
    site = insecure_site(make_site, count)
    reply = site.browse(scheme="http", host=host)
    assert re.fullmatch(r"id=[A-Za-z0-9_-]{32}; Path=/; HttpOnly; SameSite=Lax", reply["Set-Cookie"])
    assert site.browse(scheme="http", host=host)["Set-Cookie"] is None


@pytest.mark.parametrize("host", ELSEWHERE)
def test_insecure_development_serves_no_other_host(
    make_site: MakeSite, watched: sessile.Store, host: str
) -> None:
    """COK-02."""
    known = watched.create({"a": 1}, owner="alice").id
    site = insecure_site(make_site, count)
    error = site.ask(scheme="http", host=host).error
    assert isinstance(error, sessile.InsecureTransport)
    assert "localhost" in str(error)
    assert site.put(read_owner).ask(scheme="http", host=host, cookie=f"id={known}")["X-Owner"] == "None"


def test_insecure_development_is_safe_over_https(make_site: MakeSite, watched: sessile.Store) -> None:
    """COK-02: the two cookies are not mixed up."""
    known = watched.create({"a": 1}, owner="alice").id
    site = insecure_site(make_site, count)
    assert site.ask()["Set-Cookie"].startswith("__Host-Http-id=")
    site.put(read_owner)
    assert site.ask(cookie=f"id={known}")["X-Owner"] == "None"
    assert site.ask(scheme="http", host="localhost", cookie=f"__Host-Http-id={known}")["X-Owner"] == "None"
    assert site.ask(scheme="http", host="localhost", cookie=f"id={known}")["X-Owner"] == "alice"


# ---- the application's own field ----


def test_a_save_that_finds_the_owners_field_logs_in(make_site: MakeSite, watched: sessile.Store) -> None:
    """LIF-05: for code that never heard of `login`, with all fields, as its framework does."""
    site = make_site(lambda session: session.update(cart=1), owner_field="_user_id")
    site.browse()
    old = site.cookie
    site.put(lambda session: session.update(_user_id="7", fresh=True)).browse()
    assert site.cookie != old
    assert watched.load(id_of(old)) is None
    session = watched.load(id_of(site.cookie))
    assert (session.owner, dict(session)) == ("7", {"cart": 1, "_user_id": "7", "fresh": True})
    assert site.put(read_owner).browse()["Set-Cookie"] is None
    assert watched.revoke("7") == 1
    assert site.browse()["X-Owner"] == "None"


def test_a_number_in_the_owners_field_is_the_owner_as_text(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    site = make_site(lambda session: session.update(user=7), owner_field="user")
    site.browse()
    assert watched.load(id_of(site.cookie)).owner == "7"
    assert site.browse()["Set-Cookie"] is None


@pytest.mark.parametrize("value", [True, 1.5, ["7"], b"7", "", "x" * 256])
def test_what_can_be_no_owner_is_answered_with_500(
    make_site: MakeSite, watched: sessile.Store, caplog: pytest.LogCaptureFixture, value: Any
) -> None:
    reply = make_site(lambda session: session.update(user=value), owner_field="user").ask()
    assert (reply.status, watched.stats().sessions) == (500, 0)
    assert "str(user.id)" in caplog.text


def test_another_owner_in_the_field_logs_that_one_in(make_site: MakeSite, watched: sessile.Store) -> None:
    site = make_site(lambda session: session.update(user="a"), owner_field="user")
    site.browse()
    old = site.cookie
    site.put(lambda session: session.update(user="b")).browse()
    assert site.cookie != old
    assert watched.load(id_of(old)) is None
    assert watched.load(id_of(site.cookie)).owner == "b"


@pytest.mark.parametrize("go", [lambda s: s.pop("user"), lambda s: s.update(user=None)], ids=["gone", "None"])
def test_the_owners_field_gone_logs_out_and_the_rest_goes_on(
    make_site: MakeSite, watched: sessile.Store, go: Callable[[Any], object]
) -> None:
    """LIF-11: what a framework puts there after its log-out, such as a message, reaches the next page."""
    site = make_site(lambda session: session.update(user="a", cart=[1]), owner_field="user")
    site.browse()
    old = site.cookie

    def handler(session: sessile.Session) -> None:
        go(session)
        session["flash"] = "bye"

    site.put(handler).browse()
    assert site.cookie != old
    assert watched.load(id_of(old)) is None
    session = watched.load(id_of(site.cookie))
    assert session.owner is None
    assert {name: value for name, value in session.items() if value is not None} == {
        "cart": [1],
        "flash": "bye",
    }


def test_a_cleared_session_logs_out(make_site: MakeSite, watched: sessile.Store) -> None:
    site = make_site(lambda session: session.update(user="a"), owner_field="user")
    site.browse()
    assert site.put(lambda session: session.clear()).browse().cookie == ""
    assert watched.stats().sessions == 0


def test_a_session_that_was_logged_in_by_hand_has_no_such_field_to_miss(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    site = make_site(log_in, owner_field="user")
    site.browse()
    site.put(count).browse()
    assert watched.load(id_of(site.cookie)).owner == "alice"


# ---- other carriers, other middleware ----


def test_a_header_carries_the_id_for_clients_without_cookies(
    make_site: MakeSite, watched: sessile.Store
) -> None:
    """SID-09: and no browser sends it by itself, so that there is no cross-site check."""
    site = make_site(count, cookie=Header("Mcp-Session-Id"))
    reply = site.ask("POST", headers=CROSS)
    assert (reply.status, reply["Vary"], reply["Cache-Control"]) == (200, "Mcp-Session-Id", "no-store")
    assert reply["Set-Cookie"] is None
    known = reply["Mcp-Session-Id"]
    assert site.ask(headers={"mcp-session-id": known})["Mcp-Session-Id"] is None
    assert dict(watched.load(known)) == {"n": 2}
    assert site.ask(cookie=f"__Host-Http-id={known}")["Mcp-Session-Id"] != known
    site.put(lambda session: session.logout())
    assert site.ask(headers={"Mcp-Session-Id": known})["Mcp-Session-Id"] is None
    assert watched.load(known) is None


def test_another_cookie(make_site: MakeSite) -> None:
    site = make_site(count, cookie=Cookie("__Secure-s", samesite="Strict", domain="shop.example", path="/a"))
    assert re.fullmatch(
        r"__Secure-s=.{32}; Domain=shop.example; Path=/a; Secure; HttpOnly; SameSite=Strict",
        site.browse()["Set-Cookie"],
    )
    assert site.browse()["Set-Cookie"] is None


# ---- the objects ----


def test_the_application_gets_a_session(make_site: MakeSite) -> None:
    seen = []

    def handler(session: Any) -> None:
        seen.append(isinstance(session, sessile.Session))
        seen.append(isinstance(session, RequestSession))
        session["a"] = 1
        assert "A" * 5 not in repr(session)
        assert session.id is None
        session.save()
        assert session.id not in repr(session)  # SID-10

    assert make_site(handler).ask().error is None
    assert seen == [True, True]


@pytest.mark.parametrize("handler", [nothing, count, log_in], ids=["untouched", "touched", "logged in"])
def test_nothing_is_left_for_the_garbage_collector(
    make_site: MakeSite, watched: sessile.Store, handler: Callable[[Any], Any]
) -> None:
    """A session and its exchange refer to each other during a request, and not after it."""
    seen = []

    def keeping(session: Any) -> Any:
        seen.append(weakref.ref(session))
        return handler(session)

    site = make_site(keeping)
    site.browse()
    gc.collect()
    gc.disable()
    try:
        site.browse()
    finally:
        gc.enable()
    if not site.protocol.startswith("asgi"):  # there an event loop keeps what it ran last
        assert [reference() for reference in seen] == [None, None]
    gc.collect()
    assert [reference() for reference in seen] == [None, None]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"store": None}, TypeError, "sessile.Store"),
        ({"cookie": "sid"}, TypeError, "Cookie"),
        ({"https": False}, ValueError, "insecure_dev=True"),
        ({"https": "yes"}, ValueError, "scheme"),
        ({"https": True, "insecure_dev": True}, ValueError, "one"),
        ({"insecure_dev": 1}, TypeError, "True or False"),
        ({"csrf": "yes"}, TypeError, "function"),
        ({"trusted_origins": "https://a.example"}, TypeError, "collection"),
        ({"trusted_origins": ["*"]}, ValueError, "wildcard"),
        ({"rotate_every": 0}, ValueError, "rotate_every"),
        ({"rotate_every": "15 min"}, ValueError, "rotate_every"),
        ({"passive": True}, TypeError, "function"),
        ({"owner_field": 7}, TypeError, "field"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(
    protocol: str, watched: sessile.Store, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    middleware = asgi.SessionMiddleware if protocol == "asgi" else wsgi.SessionMiddleware
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with pytest.raises(error, match=re.escape(text)):
            middleware(nothing, **{"store": watched, **options})
