"""sessile.web.django.SessionMiddleware: what differs from Django's."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from shopsite import views

from sessile import InsecureTransport
from sessile.testing import advance
from sessile.web.django import SessionMiddleware, SessionStore

COOKIE = "__Host-Http-id"


def log_in(browser: Any, name: str = "alice") -> str:
    """The key of the session."""
    reply = browser.post("/login", {"username": name, "password": "sesame"})
    assert reply.status_code == 200
    key: str = reply.json()["key"]
    assert browser.cookies[COOKIE].value == key
    return key


def djangos_middleware() -> Any:
    """Within it the site has the engine of sessile and the middleware of Django."""
    from django.conf import settings

    ours, djangos = "sessile.web.django.SessionMiddleware", "django.contrib.sessions.middleware.SessionMiddleware"
    return override_settings(MIDDLEWARE=[djangos if each == ours else each for each in settings.MIDDLEWARE])


@pytest.fixture
def during() -> Any:
    yield views.during
    views.during.clear()


# ---- the cookie ----


def test_the_cookie(browser: Any) -> None:
    """COK-01, COK-10, COK-11"""
    reply = browser.get("/write?a=1")
    cookie = reply.cookies[COOKIE]
    text = cookie.OutputString()
    assert cookie["secure"] is True
    assert cookie["httponly"] is True
    assert "SameSite=Lax" in text
    assert "Path=/" in text
    assert "Domain" not in text
    assert int(cookie["max-age"]) <= 400 * 86_400
    assert reply["Vary"] == "Cookie"
    assert reply["Cache-Control"] == "no-store"
    again = browser.get("/read")
    assert again.json()["fields"] == {"a": "1"}
    assert not again.cookies


def test_nothing_is_looked_up_or_set_for_a_page_without_a_session(browser: Any, site: Any) -> None:
    """DOS-01"""
    browser.get("/write?a=1")
    loads = site.stats().loads
    reply = browser.get("/static-page")
    assert site.stats().loads == loads
    assert not reply.has_header("Vary")
    assert not reply.cookies


def test_reading_stores_nothing(browser: Any, site: Any) -> None:
    """DOS-01, SID-06"""
    browser.cookies[COOKIE] = "A" * 32
    reply = browser.get("/read")
    assert reply.json()["fields"] == {}
    assert reply["Vary"] == "Cookie"
    assert not reply.cookies
    assert site.stats().sessions == 0


def test_two_cookies_of_the_name_are_none(new_browser: Any, browser: Any, told: Any) -> None:
    """COK-07"""
    key = SessionStore()
    key["a"] = 1
    key.save()
    told.take()
    reply = new_browser().get("/read", headers={"cookie": f"{COOKIE}={key.session_key}; {COOKIE}={'A' * 32}"})
    assert reply.json()["fields"] == {}
    assert told.kinds == ["duplicate_cookie"]


def test_a_session_that_ends_with_the_browser(browser: Any) -> None:
    """COK-05: without Max-Age, also when that is said later."""
    with override_settings(SESSION_EXPIRE_AT_BROWSER_CLOSE=True):
        assert browser.get("/write?a=1").cookies[COOKIE]["max-age"] == ""
    request = RequestFactory().get("/", secure=True, headers={"cookie": f"{COOKIE}={browser.cookies[COOKIE].value}"})

    def remember(request: Any) -> HttpResponse:
        request.session.set_expiry(dt.timedelta(days=3))
        return HttpResponse()

    cookie = SessionMiddleware(remember)(request).cookies[COOKIE]
    assert cookie.value == browser.cookies[COOKIE].value
    assert 3 * 86_400 - 5 <= int(cookie["max-age"]) <= 3 * 86_400 + 1


@override_settings(SESSION_SAVE_EVERY_REQUEST=True)
def test_save_every_request_renews_and_does_not_rewrite(browser: Any, site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    browser.get("/write?a=1")
    monkeypatch.setattr(SessionStore, "_follow_id", None)  # every write ends in it
    advance(site, 10 * 86_400)
    reply = browser.get("/static-page")
    assert int(reply.cookies[COOKIE]["max-age"]) > 0
    advance(site, 10 * 86_400)
    assert browser.get("/read").json()["fields"] == {"a": "1"}


@pytest.mark.parametrize("partitioned", [True, False])
def test_options_of_the_cookie(browser: Any, settings: Any, partitioned: bool) -> None:
    settings.SESSILE = {
        **settings.SESSILE,
        "cookie": {"name": "__Secure-shop", "samesite": "None", "partitioned": partitioned, "domain": "shop.example"},
    }
    text = browser.get("/write?a=1").cookies["__Secure-shop"].OutputString()
    assert ("Partitioned" in text) is partitioned
    assert "SameSite=None" in text
    assert "Domain=shop.example" in text


@pytest.fixture
def settings() -> Any:
    """Settings that are put back."""
    from django.conf import settings

    before = settings.SESSILE
    yield settings
    settings.SESSILE = before


def test_djangos_settings_of_the_cookie(browser: Any, new_browser: Any) -> None:
    with override_settings(SESSION_COOKIE_DOMAIN=".shop.example", SESSION_COOKIE_SAMESITE="Strict"):
        text = browser.get("/write?a=1").cookies["__Secure-id"].OutputString()
    assert "Domain=shop.example" in text
    assert "SameSite=Strict" in text
    with override_settings(SESSION_COOKIE_NAME="__Host-shop"):
        assert "__Host-shop" in new_browser().get("/write?a=1").cookies


# ---- transport and origin ----


def test_plain_http_is_refused_a_session(site: Any, database: None) -> None:
    """COK-12"""
    plain = Client(headers={"host": "shop.example"})
    assert plain.get("/read").json()["fields"] == {}
    with pytest.raises(InsecureTransport, match="https"):
        plain.get("/write?a=1")
    with pytest.raises(InsecureTransport):
        plain.post("/login", {"username": "alice", "password": "sesame"})
    assert site.stats().sessions == 0


def test_a_proxy_that_ends_tls(site: Any, database: None, settings: Any) -> None:
    plain = Client(headers={"host": "shop.example", "x-forwarded-proto": "https"})
    with override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")):
        assert COOKIE in plain.get("/write?a=1").cookies
    settings.SESSILE = {**settings.SESSILE, "https": True}
    assert COOKIE in Client(headers={"host": "shop.example"}).get("/write?a=1").cookies


def test_development_over_plain_http(site: Any, database: None) -> None:
    """COK-02: on loopback hosts only, under the name that Django has."""
    with override_settings(DEBUG=True):
        local = Client(headers={"host": "127.0.0.1:8000"})
        cookie = local.get("/write?a=1").cookies["sessionid"]
        assert not cookie["secure"]
        assert local.get("/read").json()["fields"] == {"a": "1"}
        with pytest.raises(InsecureTransport):
            Client(headers={"host": "shop.example"}).get("/write?a=1")


def test_the_cross_site_check_is_djangos_unless_asked_for(new_browser: Any, browser: Any, settings: Any) -> None:
    """COK-13"""
    foreign = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
    assert browser.post("/write?a=1", headers=foreign).status_code == 200
    settings.SESSILE = {**settings.SESSILE, "csrf": True}
    assert new_browser().post("/write?a=1", headers=foreign).status_code == 403
    with override_settings(CSRF_TRUSTED_ORIGINS=["https://evil.example"]):
        assert new_browser().post("/write?a=1", headers=foreign).status_code == 200


# ---- saving ----


def test_a_late_save_after_a_log_out_is_dropped(browser: Any, new_browser: Any, told: Any, during: Any) -> None:
    """CON-02: where Django answers 400. A log-out is final."""
    log_in(browser)
    other = new_browser()
    other.cookies[COOKIE] = browser.cookies[COOKIE].value
    during.append(lambda: other.post("/logout"))
    told.take()
    reply = browser.get("/late")
    assert reply.status_code == 200
    assert not reply.cookies
    assert told.kinds == ["ended(logout)", "late_save"]
    assert browser.get("/me").json()["user"] == ""


def test_the_engine_alone_leaves_the_late_save_to_django(database: None, site: Any, during: Any) -> None:
    with djangos_middleware():
        browser = Client()
        browser.post("/login", {"username": "alice", "password": "sesame"})
        key = browser.cookies["sessionid"].value
        during.append(SessionStore(key).delete)
        assert browser.get("/late").status_code == 400


def test_parallel_requests_lose_nothing(browser: Any, new_browser: Any, during: Any) -> None:
    """CON-03: no 400, no lost key, with a thread for each."""
    key = log_in(browser)
    others = [new_browser() for _ in range(8)]
    for other in others:
        other.cookies[COOKIE] = key
    during.append(lambda: [others[at].get(f"/write?key{at}=1") for at in range(4)])
    assert browser.get("/late").status_code == 200
    during.clear()
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda at: others[at].get(f"/write?key{at}=2"), range(4, 8)))
    assert [reply.status_code for reply in replies] == [200] * 4
    fields = browser.get("/read").json()["fields"]
    assert {f"key{at}" for at in range(8)} | {"late"} <= set(fields)


def test_parallel_requests_lose_nothing_with_djangos_middleware(database: None, site: Any, during: Any) -> None:
    """CON-03: one setting changed, and no 400 either."""
    with djangos_middleware():
        browsers = [Client() for _ in range(9)]
        browsers[0].post("/login", {"username": "alice", "password": "sesame"})
        for other in browsers[1:]:
            other.cookies["sessionid"] = browsers[0].cookies["sessionid"].value
        during.append(lambda: [browsers[at].get(f"/write?key{at}=1") for at in range(1, 5)])
        assert browsers[0].get("/late").status_code == 200
        during.clear()
        with ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(lambda at: browsers[at].get(f"/write?key{at}=2"), range(5, 9)))
        assert [reply.status_code for reply in replies] == [200] * 4
        fields = browsers[0].get("/read").json()["fields"]
        assert {f"key{at}" for at in range(1, 9)} | {"late", "_auth_user_id"} <= set(fields)


def test_csrf_tokens_in_the_session(site: Any, database: None) -> None:
    """CSRF_USE_SESSIONS: the admin's log-in page with a token that is kept in the session."""
    with override_settings(CSRF_USE_SESSIONS=True):
        browser = Client(enforce_csrf_checks=True, headers={"host": "shop.example", "referer": "https://shop.example/"})
        page = browser.get("/admin/login/", secure=True)
        assert "csrftoken" not in page.cookies
        form = {"username": "root", "password": "sesame"}
        assert browser.post("/admin/login/", form, secure=True).status_code == 403
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.content.decode())
        assert token is not None
        form["csrfmiddlewaretoken"] = token[1]
        assert browser.post("/admin/login/", form, secure=True).status_code == 302
        assert browser.get("/me", secure=True).json()["user"] == "root"


def test_changes_inside_of_a_value_are_saved(browser: Any) -> None:
    browser.get("/append?value=a")
    browser.get("/append?value=b")
    assert browser.get("/read").json()["fields"] == {"list": ["a", "b"]}


def test_a_response_that_failed_saves_nothing(browser: Any, site: Any) -> None:
    assert not browser.get("/write?a=1&status=500").cookies
    assert site.stats().sessions == 0


def test_a_stream_can_still_write(browser: Any) -> None:
    reply = browser.get("/stream")
    assert b"".join(reply.streaming_content) == b"firstsecond"
    reply.close()
    assert browser.get("/read").json()["fields"] == {"begun": True, "streamed": True}


def test_a_full_store_answers_503(browser: Any, site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """DOS-05"""
    from sessile import StoreFull

    def refuse(*_: Any) -> None:
        raise StoreFull(capacity=1, used=1, memory=1, memory_used=1)

    monkeypatch.setattr("sessile.session.Session._store_new", refuse)
    reply = browser.get("/write?a=1")
    assert reply.status_code == 503
    assert int(reply["Retry-After"]) > 0


# ---- log-in, renewal, log out everywhere ----


def test_log_in_and_out(browser: Any, site: Any) -> None:
    """SID-04, LIF-05"""
    browser.get("/write?basket=3")
    anonymous = browser.cookies[COOKIE].value
    key = log_in(browser)
    assert key != anonymous
    assert not SessionStore().exists(anonymous)
    reply = browser.get("/me")
    assert reply.json()["user"] == "alice"
    assert reply.json()["messages"] == ["welcome"]
    assert reply["Cache-Control"] == "private"
    assert browser.get("/me").json()["messages"] == []
    gone = browser.post("/logout")
    assert gone.cookies[COOKIE]["max-age"] == "0"
    assert not SessionStore().exists(key)
    assert browser.get("/me").json()["user"] == ""


def test_log_out_everywhere(browser: Any, new_browser: Any, site: Any) -> None:
    """LIF-12"""
    other = new_browser()
    log_in(browser)
    log_in(other)
    owner = browser.session_owner = next(info.owner for info in site.sessions() if info.owner)
    assert site.revoke(owner) == 2
    assert browser.get("/me").json()["user"] == ""
    assert other.get("/me").json()["user"] == ""


def test_renewal(browser: Any, site: Any) -> None:
    """LIF-08"""
    key = log_in(browser)
    advance(site, 10)
    browser.get("/me")
    assert browser.cookies[COOKIE].value == key
    advance(site, 900)
    browser.get("/me")
    renewed = browser.cookies[COOKIE].value
    assert renewed != key
    assert browser.get("/me").json()["user"] == "alice"


def test_passive_requests_keep_nothing_alive(new_browser: Any, browser: Any, site: Any, settings: Any) -> None:
    settings.SESSILE = {**settings.SESSILE, "passive": lambda request: request.path == "/read"}
    poller = new_browser()
    poller.get("/write?a=1")
    for _ in range(3):
        advance(site, 5 * 86_400)
        reply = poller.get("/read")
    assert reply.json()["fields"] == {}


# ---- asynchronous ----


def test_it_runs_in_the_event_loop(database: None, site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def view(request: Any) -> HttpResponse:
        await request.session.aset("a", 1)
        return HttpResponse(request.session.session_key or "")

    middleware = SessionMiddleware(view)
    assert iscoroutinefunction(middleware)
    assert not iscoroutinefunction(SessionMiddleware(lambda request: HttpResponse()))

    from asgiref.sync import SyncToAsync

    async def hop(*_: Any, **__: Any) -> None:
        raise AssertionError("a change to another thread")

    request = RequestFactory().get("/", secure=True)
    monkeypatch.setattr(SyncToAsync, "__call__", hop)
    response = asyncio.run(middleware(request))
    key = response.cookies[COOKIE].value
    assert SessionStore(key)["a"] == 1


def test_an_asynchronous_site(database: None, site: Any) -> None:
    async def browse() -> dict[str, Any]:
        client = AsyncClient(headers={"host": "shop.example"})
        assert (await client.post("/awrite?a=1", secure=True)).status_code == 200
        reply = await client.get("/aread", secure=True)
        fields: dict[str, Any] = reply.json()["fields"]
        assert (await client.get("/ame", secure=True)).json()["user"] == ""
        return fields

    assert asyncio.run(browse()) == {"a": "1"}


def test_an_exception_saves_nothing(site: Any) -> None:
    def fail(request: Any) -> HttpResponse:
        request.session["a"] = 1
        raise ZeroDivisionError

    request = RequestFactory().get("/", secure=True)
    with pytest.raises(ZeroDivisionError):
        SessionMiddleware(fail)(request)

    async def afail(request: Any) -> HttpResponse:
        request.session["a"] = 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(SessionMiddleware(afail)(request))
    assert site.stats().sessions == 0


# ---- in between ----


def test_an_own_create_and_save(browser: Any, site: Any) -> None:
    def make(request: Any) -> HttpResponse:
        request.session.create()
        assert request.session.session_key is not None
        request.session.cycle_key()
        request.session.save()
        return HttpResponse(request.session.session_key)

    response = SessionMiddleware(make)(RequestFactory().get("/", secure=True))
    assert response.cookies[COOKIE].value == response.content.decode()
    assert site.stats().sessions == 1


def test_a_session_of_ones_own_on_the_request_is_left_alone(site: Any) -> None:
    def replace(request: Any) -> HttpResponse:
        request.session = SessionStore()
        request.session["a"] = 1
        return HttpResponse()

    assert not SessionMiddleware(replace)(RequestFactory().get("/", secure=True)).cookies
    assert site.stats().sessions == 0


def test_another_engine_is_refused() -> None:
    with (
        override_settings(SESSION_ENGINE="django.contrib.sessions.backends.cache"),
        pytest.raises(ImproperlyConfigured, match=r"sessile\.web\.django"),
    ):
        SessionMiddleware(lambda request: HttpResponse())
