"""A Django site, with its admin, and a Flask site, with Flask-Login, in a real browser: over https, under gunicorn with two
workers and under uvicorn with two, each with the table that it names itself or was named.

The browser and the certificate are those of test_browser.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.web.test_browser import browser, certificate, need, profile  # noqa: F401 (fixtures)

HERE = Path(__file__).resolve().parent
PROJECT = HERE / "django" / "project"

PATIENCE = 300  # seconds for one page, of a machine that is busy with something else

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@dataclass
class Site:
    """One that is being served."""

    port: int
    process: Any
    log: Path
    is_deploying: bool = False

    def url(self, path: str) -> str:
        return f"https://shop.example:{self.port}{path}"

    def go(self, tab: Any, path: str) -> Any:
        """Open a page. While a worker has just been killed, or none listens yet, the connection may break off, and the
        browser's own page about that may come in the way of the next try; a worker that is being replaced may answer
        that it is leaving."""
        errors = need("playwright.sync_api").Error
        until = time.monotonic() + PATIENCE
        while True:
            try:
                response = tab.goto(self.url(path))
            except errors as error:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise AssertionError(f"{error}\n{self.log.read_text()}") from error
                time.sleep(0.1)
            else:
                if response.status == 200:
                    return response
                assert self.is_deploying, self.log.read_text()
                assert time.monotonic() < until, self.log.read_text()

    def me(self, tab: Any) -> tuple[str | None, int]:
        """Who is logged in, and the process of the worker that says so."""
        answer = self.go(tab, "/me").json()
        return answer["user"] or None, answer["pid"]

    def children(self) -> set[int]:
        """The processes that the server has: workers, and what looks after them."""
        return {int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()}


class DjangoSite(Site):
    user = "root"

    def log_in(self, tab: Any) -> None:
        self.go(tab, "/admin/")
        tab.fill("#id_username", self.user)
        tab.fill("#id_password", "sesame")
        self._click(tab, "#login-form input[type=submit]")

    def log_out(self, tab: Any) -> None:
        self.go(tab, "/admin/")
        self._click(tab, "#logout-form button")

    def log_out_everywhere(self, tab: Any) -> None:
        self.go(tab, f"/admin/sessile/usersession/?user={self.user}")
        assert tab.locator("input[name=session]").count() == 2
        self._click(tab, "input[name=everywhere]")

    def _click(self, tab: Any, selector: str) -> None:
        with tab.expect_navigation():
            tab.click(selector)


class FlaskSite(Site):
    user = "alice"

    def log_in(self, tab: Any) -> None:
        self.go(tab, f"/login/{self.user}")

    def log_out(self, tab: Any) -> None:
        self.go(tab, "/logout")

    def log_out_everywhere(self, tab: Any) -> None:
        assert self.go(tab, "/everywhere").text() == "2"


@pytest.fixture(scope="module")
def django_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], dict[str, str]]:
    """That of the project, with a table in a folder, and a database that has the user."""
    need("django")
    environment = {
        "SHOP_DATABASE": str(tmp_path_factory.mktemp("database") / "db.sqlite3"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    code = (
        "import django; django.setup()\n"
        "from django.core.management import call_command; call_command('migrate', verbosity=0)\n"
        "from django.contrib.auth import get_user_model\n"
        "get_user_model().objects.create_superuser('root', password='sesame')\n"
    )
    settings = {"DJANGO_SETTINGS_MODULE": "shopsite.settings"}
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env={**os.environ, **environment, **settings}, check=True)
    return lambda folder: {**environment, "SHOP_SESSILE": f'{{"path": "{folder}/table"}}'}


@pytest.fixture(scope="module")
def flask_environment() -> Callable[[Path], dict[str, str]]:
    need("flask_login")
    need("a2wsgi")
    return lambda folder: {"SESSILE_FOLDER": str(folder)}


def gunicorn(port: int, folder: Path, key: str, file: str, app: str) -> list[str]:
    where = ["--chdir", str(folder), "--bind", f"127.0.0.1:{port}", "--workers", "2", "--no-control-socket"]
    return ["-m", "gunicorn", *where, "--threads", "8", "--keyfile", key, "--certfile", file, app]


def uvicorn(port: int, folder: Path, key: str, file: str, app: str) -> list[str]:
    where = ["--app-dir", str(folder), "--port", str(port), "--workers", "2", "--no-access-log"]
    where += ["--timeout-worker-healthcheck", "60"]  # seconds that a worker has to start
    return ["-m", "uvicorn", *where, "--ssl-keyfile", key, "--ssl-certfile", file, app]


SITES: dict[str, tuple[Callable[..., list[str]], Any, str, Path, str]] = {
    "Django, gunicorn": (gunicorn, DjangoSite, "django_environment", PROJECT, "shopsite.wsgi:application"),
    "Django, uvicorn": (uvicorn, DjangoSite, "django_environment", PROJECT, "shopsite.asgi:application"),
    "Flask, gunicorn": (gunicorn, FlaskSite, "flask_environment", HERE, "flask_site:flask_app"),
    "Flask, uvicorn": (uvicorn, FlaskSite, "flask_environment", HERE, "flask_asgi_site:app"),
}


@pytest.fixture(params=SITES)
def site(
    request: pytest.FixtureRequest,
    serve_command: Callable[..., Any],
    private_folder: Path,
    certificate: Any,  # noqa: F811
) -> Any:
    command, kind, environment, folder, app = SITES[request.param]
    need(command.__name__)
    served = serve_command(
        request.param,
        lambda port: command(port, folder, certificate.key_file, certificate.file, app),
        wait=False,
        **request.getfixturevalue(environment)(private_folder),
    )
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", served.port), 30):
            return kind(served.port, served.process, served.log)
        assert served.process.poll() is None, served.log.read_text()
        time.sleep(0.05)


def test_a_day_of_a_site(site: Any, profile: Any, browser: Any) -> None:  # noqa: F811
    """LIF-11, LIF-12, MPR-07: log in, two tabs, log out in one, log out everywhere, kill a worker, deploy."""
    tab, other_tab = profile.new_page(), profile.new_page()
    with contextlib.closing(browser.new_context()) as second_profile:
        second_profile.set_default_timeout(120_000)
        phone = second_profile.new_page()
        site.log_in(tab)
        site.log_in(phone)
        for each in (tab, other_tab, phone):
            assert site.me(each)[0] == site.user
        site.log_out(tab)
        assert site.me(other_tab)[0] is None
        assert site.me(phone)[0] == site.user
        site.log_in(other_tab)
        assert site.me(tab)[0] == site.user
        site.log_out_everywhere(phone)
        for each in (tab, other_tab, phone):
            assert site.me(each)[0] is None

    site.log_in(tab)
    _, killed = site.me(tab)
    os.kill(killed, signal.SIGKILL)
    user, pid = site.me(tab)
    assert (user, pid != killed) == (site.user, True)

    before = site.children() | {killed}
    site.is_deploying = True
    os.kill(site.process.pid, signal.SIGHUP)
    while pid in before:
        user, pid = site.me(other_tab)
        assert user == site.user
