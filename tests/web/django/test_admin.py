"""The page in the admin, the `sessions` command, the checks."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.test import override_settings

from sessile.web.django import SessionStore, checks

PAGE = "/admin/sessile/usersession/"

pytestmark = pytest.mark.usefixtures("site", "database")


def session_of(name: str) -> SessionStore:
    session = SessionStore()
    session["_auth_user_id"] = str(get_user_model().objects.get(username=name).pk)
    session.save()
    return session


def admin(browser: Any, name: str = "root") -> Any:
    assert browser.post("/login", {"username": name, "password": "sesame"}).status_code == 200
    return browser


# ---- the page ----


def test_the_page_lists_who_is_logged_in(browser: Any) -> None:
    """LIF-13: handles, no ids."""
    alice, bob = session_of("alice"), session_of("bob")
    anonymous = SessionStore()
    anonymous["a"] = 1
    anonymous.save()
    admin(browser)
    assert PAGE in browser.get("/admin/").content.decode()
    page = browser.get(PAGE).content.decode()
    assert alice.stored.handle in page
    assert bob.stored.handle in page
    assert anonymous.stored.handle not in page
    assert "(this session)" in page
    assert alice.session_key not in page
    page = browser.get(PAGE, {"user": "alice"}).content.decode()
    assert alice.stored.handle in page
    assert bob.stored.handle not in page
    assert "There is no such user." in browser.get(PAGE, {"user": "<carol>"}).content.decode()


def test_chosen_sessions_are_ended(browser: Any) -> None:
    """LIF-11"""
    first, second = session_of("alice"), session_of("alice")
    admin(browser)
    page = browser.get(PAGE).content.decode()
    value = re.search(rf'value="({first.stored.handle}:[^"]+)"', page)
    assert value is not None
    reply = browser.post(PAGE, {"session": value[1]}, follow=True)
    assert "1 session ended." in reply.content.decode()
    assert not first.exists(first.session_key)
    assert first.exists(second.session_key)
    assert first.stored is None or first.stored.handle not in reply.content.decode()
    entry = LogEntry.objects.latest("pk")
    assert entry.object_repr == "alice"
    assert entry.user.username == "root"


def test_log_out_everywhere(browser: Any) -> None:
    """LIF-12"""
    sessions, bob = [session_of("alice") for _ in range(3)], session_of("bob")
    admin(browser)
    reply = browser.post(PAGE + "?user=alice", {"user": "alice", "everywhere": "1"}, follow=True)
    assert "3 sessions ended." in reply.content.decode()
    assert not any(each.exists(each.session_key) for each in sessions)
    assert bob.exists(bob.session_key)


def test_the_page_needs_its_permissions(browser: Any) -> None:
    alice = session_of("alice")
    bob = get_user_model().objects.get(username="bob")
    bob.is_staff = True
    bob.save()
    admin(browser, "bob")
    assert browser.get(PAGE).status_code == 403
    bob.user_permissions.add(Permission.objects.get(codename="view_usersession"))
    page = browser.get(PAGE).content.decode()
    assert alice.stored.handle in page
    assert "Log out everywhere" not in browser.get(PAGE, {"user": "alice"}).content.decode()
    assert browser.post(PAGE, {"user": "alice", "everywhere": "1"}).status_code == 403
    assert alice.exists(alice.session_key)
    bob.user_permissions.clear()
    bob.is_staff = False
    bob.save()


def test_there_is_no_table_in_the_database() -> None:
    out = StringIO()
    call_command("makemigrations", "sessile", "--check", "--dry-run", stdout=out)
    assert "No changes" in out.getvalue()


# ---- the command ----


def said(*arguments: str) -> str:
    out = StringIO()
    call_command("sessions", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_lists_and_revokes() -> None:
    first, second, bob = session_of("alice"), session_of("alice"), session_of("bob")
    everything = said()
    assert all(each.stored.handle in everything for each in (first, second, bob))
    assert bob.stored.handle not in said("--user", "alice")
    assert said("--user", "alice", "--revoke", "--handle", first.stored.handle) == "1 sessions ended\n"
    assert first.exists(second.session_key)
    assert said("--user", "alice", "--revoke") == "1 sessions ended\n"
    assert not first.exists(second.session_key)
    assert first.exists(bob.session_key)


def test_the_command_shows_users_that_there_are_no_longer() -> None:
    session = SessionStore()
    session["_auth_user_id"] = "not-a-number"
    session.save()
    assert "(no user not-a-number)" in said()


@pytest.mark.parametrize("arguments", [["--revoke"], ["--handle", "x"], ["--user", "nobody"]])
def test_wrong_usage_of_the_command(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        said(*arguments)


# ---- the checks ----


def found(**changed: Any) -> list[str]:
    with override_settings(**changed):
        return [each.id for each in [*checks.check_settings(None), *checks.check_deployment(None)]]


DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"
OURS = "sessile.web.django.SessionMiddleware"
PROXY = ("HTTP_X_FORWARDED_PROTO", "https")


def test_the_checks() -> None:
    ours = settings.MIDDLEWARE
    djangos = [DJANGOS if each == OURS else each for each in ours]
    good = {"absolute_timeout": 3600, "https": True}
    assert found(SESSILE=good) == []
    assert found(SESSILE={}) == ["sessile.W006", "sessile.W003"]
    assert found(SESSILE={"absolute_timeout": 1}, SECURE_PROXY_SSL_HEADER=PROXY) == []
    assert found(SESSILE={"absolute_timeout": 1}, MIDDLEWARE=djangos) == ["sessile.W001"]
    assert found(SESSILE=good, MIDDLEWARE=djangos) == ["sessile.W001", "sessile.W002"]
    assert found(SESSILE=good, SESSION_SERIALIZER="shop.Serializer") == ["sessile.W004"]
    assert found(SESSILE={"absolute_timeout": 1, "insecure_dev": True}, SECURE_PROXY_SSL_HEADER=PROXY) == ["sessile.W005"]
    assert found(SESSILE=good, SESSION_ENGINE="django.contrib.sessions.backends.db") == ["sessile.E002"]
    assert found(SESSILE=good, SESSION_ENGINE="no.such.engine", MIDDLEWARE=[]) == []
    assert found(SESSILE=good, MIDDLEWARE=[*ours, DJANGOS]) == ["sessile.E003"]
    assert found(SESSILE={"secret": "x" * 32}) == ["sessile.E001"]
    assert found(SESSILE=["x"]) == ["sessile.E001"]
    assert found(SESSILE={**good, "cookie": {"name": "plain"}}) == ["sessile.E001"]
    assert found(SESSILE={**good, "passive": "no.such.function"}) == ["sessile.E001"]


def test_check_deploy_says_what_stays_djangos() -> None:
    djangos = [DJANGOS if each == OURS else each for each in settings.MIDDLEWARE]
    out = StringIO()
    with override_settings(MIDDLEWARE=djangos):
        call_command("check", "--deploy", stderr=out)
    assert "sessile.W001" in out.getvalue()
    assert "SessionMiddleware is Django's" in out.getvalue()
