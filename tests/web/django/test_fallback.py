"""Moving a site from each of Django's engines: nobody is logged out, and nobody who logged out comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import AsyncClient, override_settings

from sessile import Store
from sessile.web import fallback as moving
from sessile.web.django import SessionStore, configuration, get_store, tables, users

COOKIE = "__Host-Http-id"
ENGINES = ["db", "cache", "cached_db", "signed_cookies", "file"]

pytestmark = pytest.mark.usefixtures("site", "database", "never_revoked")


@pytest.fixture
def never_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A table of its own: after `revoke_all`, with which the other tests end, nothing is carried over."""
    with Store(tmp_path / "table", secret=configuration.secrets(), **configuration.store_options()) as store:
        monkeypatch.setattr(tables, "_site", store)
        yield store


@pytest.fixture(params=ENGINES)
def former(request: Any, tmp_path: Any) -> Iterator[Any]:
    """The SessionStore of an engine, which is the fallback."""
    name = f"django.contrib.sessions.backends.{request.param}"
    with override_settings(SESSILE={**settings.SESSILE, "fallback": name}, SESSION_FILE_PATH=str(tmp_path)):
        yield import_module(name).SessionStore


def of_former(former: Any, **fields: Any) -> str:
    session = former()
    session.update(fields)
    session.save()
    return str(session.session_key)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_session_is_carried_over_once(former: Any, way: str) -> None:
    key = of_former(former, basket=3, _auth_user_id="7")
    session = SessionStore(key)
    if way == "sync":
        assert session["basket"] == 3
    else:
        assert asyncio.run(session.aget("basket")) == 3
    assert session.modified, "so that the middleware gives the client the new key"
    assert session.session_key != key
    assert session.stored.owner == "7"
    assert session.stored.fresh(300), "it counts as a log-in"
    if former.__module__.rpartition(".")[2] != "signed_cookies":
        assert not former().exists(key)
    session["basket"] = 4
    session.save()
    same = SessionStore(key)
    assert same["basket"] == 4, "a request that was on its way with the former key finds the same session"
    assert same.session_key == session.session_key
    assert len(get_store().sessions("7")) == 1
    assert [info.owner for info in users.logged_in()] == ["7"], "the mark is nobody's session"


def test_a_log_out_is_final(former: Any) -> None:
    """LIF-11, CON-02: also where the client still has all of its former session."""
    key = of_former(former, basket=3)
    session = SessionStore(key)
    assert session["basket"] == 3
    session.flush()
    assert SessionStore(key).get("basket") is None
    assert asyncio.run(SessionStore(key).aget("basket")) is None


def test_a_log_in_leaves_the_former_key_behind(former: Any) -> None:
    """LIF-05"""
    key = of_former(former, basket=3)
    session = SessionStore(key)
    session["_auth_user_id"] = "7"
    session.save()
    assert SessionStore(key).get("basket") is None


def test_parallel_requests_find_one_session(former: Any) -> None:
    key = of_former(former, basket=3)
    sessions = [SessionStore(key) for _ in range(4)]
    if former.__module__.endswith("db"):  # the test database is of one thread
        assert [each["basket"] for each in sessions] == [3] * 4
    else:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda each: each["basket"], sessions)) == [3] * 4
    assert len({each.session_key for each in sessions}) == 1


def test_a_request_that_another_overtakes_finds_its_session(former: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It saw that nothing was carried over; when it asks the former engine, another has taken the session away."""
    key = of_former(former, basket=3)
    load = former.load
    others: list[Any] = []

    def overtaken(self: Any) -> Any:
        if not others:
            others.append(SessionStore(key))
            assert others[0]["basket"] == 3
        return load(self)

    monkeypatch.setattr(former, "load", overtaken)
    late = SessionStore(key)
    assert late["basket"] == 3
    assert late.session_key == others[0].session_key


def test_a_request_that_a_log_out_overtakes_brings_nothing_back(former: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """LIF-11: it had seen that nothing was carried over; then the session was, and the user logged out."""
    key = of_former(former, basket=3)
    look = moving.find_carried

    def overtaken(*arguments: Any) -> bool:
        monkeypatch.setattr(moving, "find_carried", look)
        found = look(*arguments)
        other = SessionStore(key)
        assert other["basket"] == 3
        other.flush()
        return found

    monkeypatch.setattr(moving, "find_carried", overtaken)
    assert SessionStore(key).get("basket") is None
    assert moving.find_carried is look
    assert SessionStore(key).get("basket") is None


def test_a_log_out_everywhere_includes_what_the_former_engine_has(former: Any) -> None:
    user = get_user_model().objects.get(username="alice")
    key = of_former(former, basket=3, _auth_user_id=str(user.pk))
    call_command("sessions", "--user", "alice", "--revoke")
    assert SessionStore(key).get("basket") is None
    get_store().revoke_all()
    assert SessionStore(of_former(former, basket=3)).get("basket") is None


def test_an_unknown_key_is_not_adopted(former: Any) -> None:
    """SID-06"""
    session = SessionStore("a" * 32)
    assert session.get("basket") is None
    assert session.session_key is None
    assert get_store().stats().sessions == 0


def test_what_cannot_be_stored_is_left(former: Any, caplog: pytest.LogCaptureFixture) -> None:
    key = of_former(former, text="x" * 100_000)
    assert SessionStore(key).get("text") is None
    assert "cannot be carried over" in caplog.text


def test_nobody_is_logged_out_by_the_change(former: Any, new_browser: Any) -> None:
    """With our middleware, whose cookie has another name. The former cookie is taken away."""
    user = get_user_model().objects.get(username="alice")
    fields = {"_auth_user_id": str(user.pk), "_auth_user_backend": "django.contrib.auth.backends.ModelBackend"}
    key = of_former(former, **fields, _auth_user_hash=user.get_session_auth_hash(), basket=3)
    browser = new_browser()
    browser.cookies["sessionid"] = key
    reply = browser.get("/me")
    assert reply.json()["user"] == "alice"
    assert reply.cookies["sessionid"]["max-age"] == 0
    assert len(reply.cookies[COOKIE].value) == 32
    assert browser.get("/read").json()["fields"]["basket"] == 3
    browser.post("/logout")
    thief = new_browser()
    thief.cookies["sessionid"] = key
    assert thief.get("/me").json()["user"] == ""


@pytest.mark.parametrize("ours", ["", f"{COOKIE}={'A' * 32}; "])
def test_an_asynchronous_site_is_moved(former: Any, ours: str) -> None:
    """In an event loop a database must not be asked synchronously."""
    key = of_former(former, basket=3)

    async def browse() -> Any:
        client = AsyncClient(headers={"host": "shop.example"})
        client.cookies.load(f"{ours}sessionid={key}")
        reply = await client.get("/aread", secure=True)
        again = AsyncClient(headers={"host": "shop.example"})
        again.cookies[COOKIE] = reply.cookies[COOKIE].value
        return [reply.json()["fields"], (await again.get("/aread", secure=True)).json()["fields"]]

    assert asyncio.run(browse()) == [{"basket": 3}] * 2


def test_without_a_fallback_former_keys_are_unknown() -> None:
    key = of_former(import_module("django.contrib.sessions.backends.db").SessionStore, basket=3)
    assert SessionStore(key).get("basket") is None
