"""The store of the site, and the one of a test run.

The site's is opened when this is imported, so that a server that forks its workers (gunicorn --preload) and one
that starts them afresh share one table alike.

A test run never touches it. It is noticed by what runs tests (`manage.py test`, pytest-django) already at the
import, and by Django's `setup_test_environment`, which every test runner calls, at any time after.
"""

from __future__ import annotations

import sys
from typing import Final

from django.core.exceptions import ImproperlyConfigured

from sessile.errors import AttachError, SnapshotError
from sessile.store import Store
from sessile.web.django import configuration
from sessile.web.project import store_of_tests

__all__ = ["get_store", "is_test_run"]

_TEST_COMMANDS: Final = ("test", "testserver")
_OWN_TO_THE_SITE: Final = ("snapshot_dir", "snapshot_interval", "durability", "encrypt")
_modules: Final = sys.modules

_site: Store | None = None
_test: Store | None = None
_runs_tests: Final = "pytest_django" in sys.modules or (len(sys.argv) > 1 and sys.argv[1] in _TEST_COMMANDS)


def is_test_run() -> bool:
    """Whether this process runs the tests of the project."""
    if _runs_tests:
        return True
    # Not imported here: a site in service does without it.
    module = _modules.get("django.test.utils")
    return module is not None and hasattr(module._TestState, "saved_data")


def get_store() -> Store:
    """The `sessile.Store` that this project's sessions are in: to list and to revoke them.

    In a test run it is another one, in memory of this process and of those that it forks.

    Raises:
        ImproperlyConfigured: the table cannot be opened with these settings; the text says why and what to do.
    """
    if _site is not None and "django.test.utils" not in _modules:
        return _site  # each request asks several times
    global _test
    if not is_test_run():
        return _open_site() if _site is None else _site
    if _test is None:
        options = configuration.store_options()
        for name in _OWN_TO_THE_SITE:
            options.pop(name, None)
        _test = store_of_tests(**options)
    return _test


def _open_site() -> Store:
    global _site
    options = configuration.store_options()
    try:
        _site = Store(configuration.table_name(), secret=configuration.secrets(), **options)
    except (AttachError, SnapshotError, ValueError, TypeError) as error:
        raise ImproperlyConfigured(
            f"the sessions cannot be opened: {error} [the secret is SECRET_KEY; where that was changed, name the "
            'former one in SECRET_KEY_FALLBACKS; another table: SESSILE = {"path": "name"}]'
        ) from error
    return _site


get_store()
