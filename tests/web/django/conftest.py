"""A Django site in this process: the project beside this file, with a table and a database of its own.

Its requests come over https to shop.example, unless a test says otherwise, so it is the site in service that is
tested and not its test run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parent / "project"

if find_spec("django") is None:
    collect_ignore_glob = ["test_*.py"]  # says so below
else:
    _folder = tempfile.TemporaryDirectory(prefix="sessile-django-")
    os.environ.update(
        DJANGO_SETTINGS_MODULE="shopsite.settings",
        SHOP_DATABASE=f"{_folder.name}/db.sqlite3",
        SHOP_SESSILE=f'{{"path": "{_folder.name}/table", "on_event": "shopsite.events.told"}}',
    )
    sys.path.insert(0, str(PROJECT))
    import django

    django.setup()
    for _name in ("SHOP_DATABASE", "SHOP_SESSILE", "DJANGO_SETTINGS_MODULE"):
        del os.environ[_name]
    sys.path.remove(str(PROJECT))


def pytest_report_header() -> str:
    return f"Django: {django.get_version() if find_spec('django') else 'not installed, its tests are left out'}"


@pytest.fixture(scope="session")
def database() -> Path:
    """The database's file, with the users alice, bob and root."""
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    users = get_user_model().objects
    users.create_user("alice", password="sesame")
    users.create_user("bob", password="sesame")
    users.create_superuser("root", password="sesame")
    return Path(_folder.name) / "db.sqlite3"


@pytest.fixture
def site() -> Iterator[Any]:
    """The site's store, emptied and sound afterwards."""
    from sessile.web.django import get_store

    store = get_store()
    yield store
    store.revoke_all()
    assert store.check() == []


@pytest.fixture
def told(site: Any) -> Iterator[Any]:
    """A recorder of the site's events."""
    from shopsite.events import told

    told.take()
    return told


@pytest.fixture
def browser(site: Any, database: None) -> Any:
    return make_browser()


def make_browser(**headers: str) -> Any:
    """A new browser at https://shop.example."""
    from django.test import Client

    class Browser(Client):
        def generic(self, *arguments: Any, **options: Any) -> Any:
            return super().generic(*arguments, **{**options, "secure": True})

    return Browser(headers={"host": "shop.example", **headers})


@pytest.fixture
def new_browser(site: Any, database: None) -> Any:
    return make_browser


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Any]:
    """Copies of the project, each in a folder of its own; their tables are removed."""
    yield from projects(tmp_path)


def projects(folder: Path) -> Iterator[Any]:
    made: list[Path] = []

    class Checkout:
        """One copy of the project."""

        def __init__(self, name: str) -> None:
            self.folder = folder / name
            shutil.copytree(PROJECT, self.folder, ignore=shutil.ignore_patterns("__pycache__"))
            made.append(self.folder)

        def environment(self, **variables: str) -> dict[str, str]:
            kept = {name: value for name, value in os.environ.items() if not name.startswith(("SHOP_", "PYTEST_"))}
            return {**kept, "PYTHONDONTWRITEBYTECODE": "1", **variables}

        def run(self, *arguments: str, status: int = 0, **variables: str) -> str:
            """Run Python in the project; what it printed."""
            ran = subprocess.run(
                [sys.executable, *arguments],
                cwd=self.folder,
                env=self.environment(**variables),
                capture_output=True,
                text=True,
                check=False,
            )
            assert ran.returncode == status, ran.stdout + ran.stderr
            return ran.stdout + ran.stderr

        def shell(self, code: str, **variables: str) -> str:
            """Run code as the site does: after its settings were loaded."""
            setup = "import os; os.environ['DJANGO_SETTINGS_MODULE']='shopsite.settings'; import django; django.setup()\n"
            return self.run("-W", "error", "-c", setup + code, **variables)

        @property
        def table_name(self) -> str:
            """The name of its table, which lies among those of this user."""
            return _name_of(self.folder)

    yield Checkout
    for each in Path(f"/dev/shm/sessile-{os.geteuid()}").glob("shopsite-*"):
        if any(each.name.startswith(_name_of(one)) for one in made):
            each.unlink()


def _name_of(folder: Path) -> str:
    return f"shopsite-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]}"
