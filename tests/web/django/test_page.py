"""docs/django.md: each of its blocks is run, in their order, as what it says it is."""

from __future__ import annotations

import re
import shlex
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import override_settings

from sessile.web.django import SessionStore, configuration, get_store

PAGE = Path(__file__).resolve().parents[3] / "docs" / "django.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.usefixtures("site", "database")


def settings_of(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(block, PAGE.name, "exec"), names)
    return {name: value for name, value in names.items() if name.isupper()}


def test_every_block_is_known() -> None:
    kinds = [(language, code.split("\n")[0]) for language, code in BLOCKS]
    assert set(kinds) == {("python", "# settings.py"), ("python", "# views.py"), ("sh", "python manage.py migrate")}


SETTINGS = [code for _, code in BLOCKS if code.startswith("# settings.py")]


@pytest.mark.parametrize("block", SETTINGS, ids=lambda block: settings_of(block).popitem()[0])
def test_a_site_works_with_the_settings(block: str, new_browser: Any) -> None:
    """What is not in a block is as in the project beside this file. The path of the table holds from its start on."""
    with override_settings(**settings_of(block)):
        configuration.given()
        configuration.store_options()
        configuration.middleware_options()
        browser = new_browser()
        assert browser.post("/login", {"username": "alice", "password": "sesame"}).status_code == 200
        assert browser.get("/me").json()["user"] == "alice"


def test_the_options_are_those_of_a_store(tmp_path: Path) -> None:
    for block in SETTINGS:
        options = settings_of(block).get("SESSILE", {})
        with override_settings(SESSILE=options):
            from sessile import Store

            Store(tmp_path / f"table{len(options)}", secret=configuration.secrets(), **configuration.store_options()).close()


def test_the_commands() -> None:
    user = get_user_model().objects.get(username="alice")
    session = SessionStore()
    session["_auth_user_id"] = str(user.pk)
    session.save()
    handle = session.stored.handle
    (commands,) = (code for language, code in BLOCKS if language == "sh")
    said = []
    for line in commands.splitlines():
        python, manage, *arguments = shlex.split(line)
        assert (python, manage) == ("python", "manage.py")
        out = StringIO()
        call_command(*arguments, stdout=out)
        said.append(out.getvalue())
    assert handle in said[1]
    assert handle in said[2]
    assert said[3] == "1 sessions ended\n"


def test_the_views() -> None:
    from django.test import RequestFactory

    (views,) = (code for _, code in BLOCKS if code.startswith("# views.py"))
    names: dict[str, Any] = {}
    exec(compile(views, PAGE.name, "exec"), names)
    request = RequestFactory().get("/")
    request.user = get_user_model().objects.get(username="alice")
    sessions = [SessionStore() for _ in range(3)]
    for each in sessions:
        each["_auth_user_id"] = str(request.user.pk)
        each.save()
    request.session = SessionStore(sessions[0].session_key)
    assert names["devices"](request).content.decode().count("\n") == 2
    assert names["log_out_everywhere_else"](request).content == b"2 other sessions ended"
    assert len(get_store().sessions(str(request.user.pk))) == 1
