"""What `settings` say: `SESSILE = {…}` and those settings of Django's own that are about sessions.

`SESSILE` holds, all of them optional:

    path                of the table, a name or a path; else it is named after the project and its root folder
    cookie, https, insecure_dev, csrf, trusted_origins, rotate_every, passive
                        of the middleware; see `sessile.web.manager.Manager`
    fallback            the engine that the site used before, such as "django.contrib.sessions.backends.db"
    capacity, memory, idle_timeout, … snapshot_dir, …
                        whatever else `sessile.Store` takes, but for `secret`: that is SECRET_KEY

A function (`on_event`, `passive`, `csrf`) may be given as the dotted path of one.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from sessile import _table
from sessile.store import Store
from sessile.web.cookies import Cookie, Header
from sessile.web.project import project_secrets
from sessile.web.project import table_name as project_table

__all__ = ["MIDDLEWARE_OPTIONS", "cookie", "given", "middleware_options", "secrets", "store_options", "table_name"]

STORE_OPTIONS: Final = frozenset(inspect.signature(Store.__init__).parameters) - {"self", "path", "secret"}
MIDDLEWARE_OPTIONS: Final = frozenset(
    ("cookie", "https", "insecure_dev", "csrf", "trusted_origins", "rotate_every", "passive")
)
_KNOWN: Final = STORE_OPTIONS | MIDDLEWARE_OPTIONS | {"path", "fallback"}
_FUNCTIONS: Final = frozenset(("on_event", "passive", "csrf"))
_LONGEST: Final = _table.TIMEOUT_MAX_MS // 1000


def given() -> dict[str, Any]:
    """`SESSILE` as it was given, with functions in the place of their dotted paths.

    Raises:
        ImproperlyConfigured: it is no dict, or has a key that nothing here knows.
    """
    found = getattr(settings, "SESSILE", {})
    if not isinstance(found, Mapping):
        raise ImproperlyConfigured(f"SESSILE must be a dict, not {type(found).__name__}")
    unknown = sorted(set(found) - _KNOWN, key=str)
    if unknown:
        hint = "; the secret is SECRET_KEY, with SECRET_KEY_FALLBACKS" if "secret" in unknown else ""
        names = ", ".join(map(repr, unknown))
        raise ImproperlyConfigured(f"SESSILE has {names}, which is no option; there are {sorted(_KNOWN)}{hint}")
    return {
        name: import_string(value) if name in _FUNCTIONS and isinstance(value, str) else value
        for name, value in found.items()
    }


def cookie_age() -> int:
    """SESSION_COOKIE_AGE in seconds, at most the 400 days that a table keeps and browsers allow."""
    return min(int(settings.SESSION_COOKIE_AGE), _LONGEST)


def store_options() -> dict[str, Any]:
    """The options of the store, but for path and secret.

    A session ends as it does with Django's engines: SESSION_COOKIE_AGE after its last use, and however old it
    is as long as it is used, up to 400 days. `SESSILE` can say otherwise.
    """
    options: dict[str, Any] = {"idle_timeout": cookie_age(), "absolute_timeout": _LONGEST}
    options.update((name, value) for name, value in given().items() if name in STORE_OPTIONS)
    return options


def middleware_options() -> dict[str, Any]:
    """The options of the middleware, with what Django's own settings say in the place of missing ones."""
    options: dict[str, Any] = {
        "cookie": None,
        "https": None,
        "insecure_dev": False,
        "csrf": False,  # CsrfViewMiddleware checks that, and knows which views are exempt
        "trusted_origins": [each for each in settings.CSRF_TRUSTED_ORIGINS if "*" not in each],
        "rotate_every": 900,
        "passive": None,
    }
    options.update((name, value) for name, value in given().items() if name in MIDDLEWARE_OPTIONS)
    if options["cookie"] is None:
        options["cookie"] = cookie()
    elif isinstance(options["cookie"], Mapping):
        options["cookie"] = Cookie(**options["cookie"])
    return options


def cookie() -> Cookie | Header:
    """The cookie that SESSION_COOKIE_NAME, _SAMESITE, _DOMAIN and _PATH ask for.

    A name that has no prefix, like Django's "sessionid", could be planted by every sibling domain (COK-03): then
    it is `__Host-Http-id`, or `__Secure-id` where there is a domain or a path.
    """
    name = settings.SESSION_COOKIE_NAME
    domain = settings.SESSION_COOKIE_DOMAIN
    path = settings.SESSION_COOKIE_PATH or "/"
    if not name.startswith(("__Host-", "__Secure-", "__Http-")):
        name = "__Host-Http-id" if domain is None and path == "/" else "__Secure-id"
    return Cookie(
        name,
        samesite=settings.SESSION_COOKIE_SAMESITE or "Lax",
        domain=domain.removeprefix(".") if domain is not None else None,
        path=path,
        persistent=True,
    )


def secrets() -> list[bytes]:
    """SECRET_KEY and SECRET_KEY_FALLBACKS, as secrets of the store.

    Raises:
        ValueError: one is empty.
    """
    return project_secrets([settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS])


def table_name() -> str:
    """The table's name: `SESSILE["path"]`, or the project's with a digest of its root folder.

    The digest keeps apart two checkouts of one project. Where each release has a folder of its own, `path` is
    what makes sessions survive a deploy.
    """
    path = given().get("path")
    return project_table(*_project()) if path is None else os.fsdecode(path)


def _project() -> tuple[str, str]:
    """Name and root folder of the project: the package of its settings, and BASE_DIR or that package's folder."""
    module = getattr(settings, "SETTINGS_MODULE", None) or ""
    name = module.partition(".")[0]
    base = getattr(settings, "BASE_DIR", None)
    if base is not None:
        return name or Path(base).name, os.fspath(base)
    for folder in _folders_of(name):
        return name, folder
    return name or "django", os.getcwd()


def _folders_of(name: str) -> Iterator[str]:
    """The folder that a top-level module lies in, if there is such a module."""
    spec = sys.modules[name].__spec__ if name in sys.modules else find_spec(name) if name else None
    if spec is not None and spec.submodule_search_locations:
        yield os.path.dirname(os.path.abspath(next(iter(spec.submodule_search_locations))))
    elif spec is not None and spec.origin is not None:
        yield os.path.dirname(os.path.abspath(spec.origin))
