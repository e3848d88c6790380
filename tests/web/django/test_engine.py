"""The engine alone: what Django's own suites do not ask for. Those are run by test_suites.py."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import SyncToAsync
from django.contrib.auth import get_user_model, login, logout
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.core.management import call_command
from django.http import HttpRequest
from django.test import override_settings
from django.utils import timezone
from django.utils.safestring import mark_safe

from sessile.testing import advance
from sessile.web.django import SessionStore, get_store

pytestmark = pytest.mark.usefixtures("site")


def stored(**fields: Any) -> SessionStore:
    session = SessionStore()
    session.update(fields)
    session.save()
    return session


def again(session: SessionStore) -> SessionStore:
    return SessionStore(session.session_key)


# ---- parallel requests ----


def test_parallel_requests_keep_each_others_keys() -> None:
    """CON-03"""
    first = stored(a=1, b=1, c=1)
    second = again(first)
    assert second["a"] == 1
    first["a"] = 2
    del first["b"]
    first["mine"] = True
    second["c"] = 2
    second["theirs"] = True
    second.save()
    first.save()
    assert dict(again(first).items()) == {"a": 2, "c": 2, "mine": True, "theirs": True}


@pytest.mark.parametrize("then", ["save", "cycle_key", "log_in"])
def test_a_further_save_keeps_them_too(then: str) -> None:
    """CON-03"""
    first = stored(a=1, b=1, mine=1)
    assert first["a"] == 1
    second = again(first)
    second["a"] = 2
    second["theirs"] = True
    del second["b"]
    second.save()
    first["mine"] = 2
    if then == "log_in":
        first["_auth_user_id"] = "7"
    else:
        getattr(first, then)()
    assert first["a"] == 2
    assert "b" not in first
    first["more"] = 3
    first.save()
    fields = dict(again(first).items())
    fields.pop("_auth_user_id", None)
    assert fields == {"a": 2, "theirs": True, "mine": 2, "more": 3}


def test_of_two_changes_to_one_key_the_later_save_wins() -> None:
    first = stored(a=1)
    second = again(first)
    second["a"] = 2
    first["a"] = 3
    first.save()
    second.save()
    assert again(first)["a"] == 2


@pytest.mark.parametrize("end", ["delete", "flush", "cycle_key"])
def test_a_save_never_brings_back_what_ended(end: str, site: Any) -> None:
    """CON-02"""
    late = stored(a=1)
    late["a"] = 2
    getattr(again(late), end)()
    count = site.stats().sessions
    with pytest.raises(UpdateError):
        late.save()
    assert site.stats().sessions == count
    with pytest.raises(UpdateError):
        late.save()


def test_a_save_of_an_unknown_key_creates_nothing(site: Any) -> None:
    """SID-06"""
    unknown = SessionStore("an unknown key")
    with pytest.raises(UpdateError):
        unknown.save()
    assert site.stats().sessions == 0


def test_clearing_an_unloaded_session_empties_what_is_stored() -> None:
    session = stored(a=1)
    other = again(session)
    other.clear()
    other.save()
    assert other.session_key == session.session_key
    assert again(session).exists(session.session_key)
    assert dict(again(session).items()) == {}


def test_a_save_without_a_change_writes_nothing_and_renews(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What SESSION_SAVE_EVERY_REQUEST does with each request."""
    session = stored(a=[1, 2], z=0)
    loaded = again(session)
    assert loaded["a"] == [1, 2]
    advance(site, 86_400)
    before = site.load(session.session_key, touch=False).expires
    monkeypatch.setattr(SessionStore, "_follow_id", None)  # every write ends in it
    loaded.save()
    assert site.load(session.session_key, touch=False).expires - before > dt.timedelta(hours=23)
    loaded["a"] = [1, 2]
    loaded.save()
    monkeypatch.undo()
    loaded["a"].append(3)
    loaded.save()
    assert again(session)["a"] == [1, 2, 3]


# ---- keys ----


@pytest.mark.parametrize("key", ["12345678", "a key with blanks; and = signs", "sch\u00fcssel", "\ud800" * 8, "x" * 5000])
def test_any_text_can_be_a_key(key: str) -> None:
    session = SessionStore(key)
    session["a"] = 1
    session.save()
    assert session.session_key != key, "a save gives unknown keys up"
    session = SessionStore(key)
    session.save(must_create=True)
    session["a"] = 1
    session.save()
    assert session.session_key == key
    assert SessionStore(key)["a"] == 1
    assert session.exists(key)
    with pytest.raises(CreateError):
        SessionStore(key).save(must_create=True)
    SessionStore().delete(key)
    assert not session.exists(key)


def test_cycle_key_is_one_rotation(told: Any) -> None:
    """LIF-06: no moment with two sessions, or none."""
    session = stored(a=1)
    key = session.session_key
    told.take()
    session.cycle_key()
    assert told.kinds == ["rotated"]
    assert session.session_key != key
    assert not session.exists(key)
    assert again(session)["a"] == 1


def test_cycle_key_keeps_what_is_not_saved_yet() -> None:
    session = stored(a=1)
    session["b"] = 2
    session.cycle_key()
    assert dict(again(session).items()) == {"a": 1}
    session.save()
    assert dict(again(session).items()) == {"a": 1, "b": 2}


def test_cycle_key_does_not_bring_back_what_ended() -> None:
    """CON-02"""
    session = stored(secret=1)
    assert session["secret"] == 1
    again(session).delete()
    session.cycle_key()
    assert dict(session.items()) == {}
    assert dict(again(session).items()) == {}
    assert session.session_key is not None


# ---- deadlines ----


def test_a_session_ends_a_cookie_age_after_its_last_use(site: Any) -> None:
    with override_settings(SESSION_COOKIE_AGE=14 * 86_400):
        session = stored(a=1)
        advance(site, 13 * 86_400)
        assert again(session)["a"] == 1
        advance(site, 13 * 86_400)
        assert again(session)["a"] == 1
        advance(site, 15 * 86_400)
        assert again(session).get("a") is None


@pytest.mark.parametrize(
    ("expiry", "lives", "ends"),
    [
        (100, 90, 120),
        (dt.timedelta(seconds=100), 90, 20),
        ("date", 90, 20),
        (30 * 86_400, 29 * 86_400, 32 * 86_400),
        (dt.timedelta(days=30), 29 * 86_400, 2 * 86_400),
        (0, 13 * 86_400, 15 * 86_400),
        (None, 13 * 86_400, 15 * 86_400),
    ],
)
@pytest.mark.parametrize("when", ["new", "stored"])
def test_set_expiry(site: Any, expiry: Any, lives: float, ends: float, when: str) -> None:
    """An int counts from each use, a timedelta and a datetime once."""
    if expiry == "date":
        expiry = timezone.now() + dt.timedelta(seconds=100)
    session = SessionStore()
    session["a"] = 1
    if when == "stored":
        session.save()
    session.set_expiry(expiry)
    session.save()
    assert session.get_expire_at_browser_close() is (expiry == 0)
    advance(site, lives)
    assert again(session).get("a") == 1
    advance(site, ends)
    assert again(session).get("a") is None


def test_set_expiry_can_be_taken_back(site: Any) -> None:
    session = stored(a=1)
    session.set_expiry(100)
    session.save()
    session.set_expiry(None)
    session.save()
    advance(site, 1000)
    assert again(session)["a"] == 1


def test_an_expiry_in_the_past_ends_the_session() -> None:
    session = stored(a=1)
    session.set_expiry(-5)
    session.save()
    assert not session.exists(session.session_key)


def test_an_engine_can_have_an_age_of_its_own(site: Any) -> None:
    class ShortStore(SessionStore):
        def get_session_cookie_age(self) -> int:
            return 60

    session = ShortStore()
    session["a"] = 1
    session.save()
    advance(site, 70)
    assert ShortStore(session.session_key).get("a") is None


def test_clearsessions_frees_the_memory(site: Any) -> None:
    for _ in range(5):
        session = SessionStore()
        session.set_expiry(10)
        session.save()
    kept = stored(a=1)
    advance(site, 20)
    call_command("clearsessions")
    assert site.stats().sessions == 1
    assert again(kept)["a"] == 1
    asyncio.run(SessionStore.aclear_expired())


# ---- values ----


def test_values_read_back_as_from_djangos_json_serialiser() -> None:
    session = stored(
        tuple=(1, (2,)), keys={1: "a", None: "b", False: "c", 1.5: "d"}, safe=mark_safe("<b>"), nested=[{"x": (1,)}]
    )
    session[7] = "a name"
    session.save()
    assert dict(again(session).items()) == {
        "tuple": [1, [2]],
        "keys": {"1": "a", "null": "b", "false": "c", "1.5": "d"},
        "safe": "<b>",
        "nested": [{"x": [1]}],
        "7": "a name",
    }
    assert type(again(session)["safe"]) is str


def test_values_that_json_refuses_keep_their_type() -> None:
    values = {
        "moment": timezone.now(),
        "price": Decimal("9.90"),
        "uuid": uuid.uuid4(),
        "set": {1, 2},
        "bytes": b"\0",
        "span": dt.timedelta(days=1),
    }
    assert dict(again(stored(**values)).items()) == values


def test_a_value_that_cannot_be_stored_is_named() -> None:
    session = SessionStore()
    session["cart"] = [{"thing": object()}]
    with pytest.raises(TypeError, match=r"cart\[0\]\.thing"):
        session.save()
    assert session.session_key is None


# ---- owners ----


@pytest.mark.usefixtures("database")
def test_a_log_in_makes_the_user_the_owner_at_once() -> None:
    """LIF-05, LIF-13: handlers of user_logged_in see the key that stays."""
    user = get_user_model().objects.get(username="alice")
    request = HttpRequest()
    request.session = stored(basket=1)
    anonymous = request.session.session_key
    seen = []

    def remember(sender: Any, request: HttpRequest, **_more: Any) -> None:
        seen.append(request.session.session_key)

    user_logged_in.connect(remember)
    try:
        login(request, user)
    finally:
        user_logged_in.disconnect(remember)
    request.session.save()
    assert seen == [request.session.session_key]
    assert not request.session.exists(anonymous)
    assert again(request.session)["basket"] == 1
    assert [info.handle for info in get_store().sessions(str(user.pk))] == [request.session.stored.handle]
    assert get_store().revoke(str(user.pk)) == 1
    assert again(request.session).get("basket") is None


@pytest.mark.usefixtures("database")
def test_a_log_out_ends_the_session(told: Any) -> None:
    """LIF-11"""
    user = get_user_model().objects.get(username="alice")
    request = HttpRequest()
    request.session = SessionStore()
    login(request, user)
    request.session.save()
    key = request.session.session_key
    logout(request)
    assert told.kinds[-1] == "ended(logout)"
    assert request.session.session_key is None
    assert not request.session.exists(key)


def test_log_out_everywhere_else() -> None:
    devices = [stored(_auth_user_id="7") for _ in range(3)]
    here = again(devices[0])
    assert get_store().revoke("7", keep=here.stored) == 2
    assert [each.exists(each.session_key) for each in devices] == [True, False, False]


def test_a_user_that_goes_from_the_fields_is_no_owner_any_more() -> None:
    session = stored(_auth_user_id="7", theme="dark")
    key = session.session_key
    del session["_auth_user_id"]
    session.save()
    assert get_store().sessions("7") == []
    assert not session.exists(key)
    assert dict(again(session).items()) == {"theme": "dark"}


def test_the_deadlines_of_a_remembered_log_in(site: Any) -> None:
    session = stored(_auth_user_id="7")
    session.set_expiry(dt.timedelta(seconds=100))
    session.save()
    session["_auth_user_id"] = "8"
    session.save()
    assert again(session).stored.owner == "8"
    advance(site, 110)
    assert again(session).get("_auth_user_id") is None


# ---- asynchronous ----


def test_no_method_changes_to_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hop(*_: Any, **__: Any) -> None:
        raise AssertionError("a change to another thread")

    monkeypatch.setattr(SyncToAsync, "__call__", hop)

    async def use() -> None:
        session = SessionStore()
        await session.acreate()
        await session.aset("a", 1)
        await session.aupdate({"b": 2})
        await session.asetdefault("c", 3)
        await session.asave()
        key = session.session_key
        assert await session.aexists(key)
        session = SessionStore(key)
        assert await session.aget("a") == 1
        assert await session.apop("b") == 2
        assert sorted(await session.akeys()) == ["a", "c"]
        assert await session.ahas_key("c")
        assert sorted(await session.avalues()) == [1, 3]
        assert sorted(await session.aitems()) == [("a", 1), ("c", 3)]
        await session.aset_expiry(60)
        assert await session.aget_expiry_age() == 60
        assert not await session.aget_expire_at_browser_close()
        await session.aget_expiry_date()
        await session.aset_test_cookie()
        assert await session.atest_cookie_worked()
        await session.adelete_test_cookie()
        await session.aset("_auth_user_id", "9")
        await session.asave()
        assert SessionStore(session.session_key).stored.owner == "9"
        await session.acycle_key()
        assert await session.aload() != {}
        await session.aflush()
        await session.adelete("another key")
        await SessionStore.aclear_expired()

    asyncio.run(use())


def test_forked_workers_share_the_sessions(in_child: Any) -> None:
    session = stored(a=1)

    def write() -> str:
        other = again(session)
        other["b"] = 2
        other.save()
        return str(other["a"])

    assert in_child(write) == "1"
    assert dict(again(session).items()) == {"a": 1, "b": 2}


def test_a_session_can_be_put_on_a_request_by_hand() -> None:
    request = SimpleNamespace(session=SessionStore())
    assert request.session.is_empty()
    request.session["a"] = 1
    assert not request.session.is_empty()
    assert request.session.stored is None


def test_what_is_read_is_what_is_changed() -> None:
    """Reading a field that cannot change in place decodes no others; whatever is done then sees the same fields."""
    session = SessionStore()
    session.update({"n": 1, "cart": ["book"], "none": None})
    session.save()
    key = session.session_key
    session = SessionStore(key)
    assert (session["n"], session["none"], session.get("absent"), session.get("absent", 2)) == (1, None, None, 2)
    assert session.accessed
    assert not session.modified
    assert not hasattr(session, "_session_cache"), "nothing was decoded that was not asked for"
    with pytest.raises(KeyError, match="absent"):
        session["absent"]
    assert session.get("cart") is session["cart"]
    session["cart"].append("pen")
    session["n"] += 1
    session.save()
    assert dict(SessionStore(key).items()) == {"n": 2, "cart": ["book", "pen"], "none": None}
    reader = SessionStore(key)
    assert reader["n"] == 2
    reader.save()
    assert SessionStore(key)["n"] == 2
    misses = get_store().stats().misses
    assert SessionStore("A" * 32).get("n") is None
    assert get_store().stats().misses == misses + 1
