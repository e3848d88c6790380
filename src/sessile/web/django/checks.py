"""What `manage.py check` says: about settings that contradict each other; with `--deploy` also about what stays
Django's, and what Django's settings no longer decide."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Tags, register
from django.core.exceptions import ImproperlyConfigured

from sessile.web.django import configuration
from sessile.web.django.engine import SessionStore

__all__ = ["check_deployment", "check_settings"]

_OURS: Final = "sessile.web.django.SessionMiddleware"
_DJANGOS: Final = "django.contrib.sessions.middleware.SessionMiddleware"
_JSON: Final = "django.contrib.sessions.serializers.JSONSerializer"


@register(Tags.security)
def check_settings(app_configs: Sequence[Any] | None, **_options: Any) -> list[CheckMessage]:  # noqa: ARG001 (Django's)
    """sessile.E001 to E003."""
    found: list[CheckMessage] = []
    try:
        configuration.given()
        configuration.middleware_options()
    except (ImproperlyConfigured, ImportError, TypeError, ValueError) as error:
        found.append(checks.Error(str(error), id="sessile.E001"))
    if _OURS in settings.MIDDLEWARE and not _is_our_engine():
        found.append(
            checks.Error(
                f"{_OURS} needs the engine of sessile, and SESSION_ENGINE is {settings.SESSION_ENGINE!r}.",
                hint='Set SESSION_ENGINE = "sessile.web.django".',
                id="sessile.E002",
            )
        )
    if _OURS in settings.MIDDLEWARE and _DJANGOS in settings.MIDDLEWARE:
        found.append(
            checks.Error(
                "MIDDLEWARE has both Django's SessionMiddleware and sessile's: the inner one replaces the session.",
                hint=f"Take {_DJANGOS} out.",
                id="sessile.E003",
            )
        )
    return found


@register(Tags.security, deploy=True)
def check_deployment(app_configs: Sequence[Any] | None, **_options: Any) -> list[CheckMessage]:  # noqa: ARG001 (Django's)
    """sessile.W001 to W006; nothing where SESSION_ENGINE is another engine."""
    if not _is_our_engine():
        return []
    try:
        given = configuration.given()
    except (ImproperlyConfigured, ImportError):
        return []  # sessile.E001 says it
    found: list[CheckMessage] = []
    if _OURS not in settings.MIDDLEWARE:
        found += _without_middleware(given)
    else:
        found += _with_middleware(given)
    if "absolute_timeout" not in given:
        found.append(
            checks.Warning(
                "A session that is in use lives for up to 400 days: Django has no limit of this kind.",
                hint='Set one: SESSILE = {"absolute_timeout": 12 * 3600}.',
                id="sessile.W003",
            )
        )
    if settings.SESSION_SERIALIZER != _JSON:
        found.append(
            checks.Warning(
                "SESSION_SERIALIZER is not used: sessile stores values in a form of its own, with their types.",
                id="sessile.W004",
            )
        )
    return found


def _is_our_engine() -> bool:
    try:
        engine = import_module(settings.SESSION_ENGINE)
    except ImportError:
        return False
    return issubclass(getattr(engine, "SessionStore", object), SessionStore)


def _without_middleware(given: dict[str, Any]) -> list[CheckMessage]:
    found: list[CheckMessage] = [
        checks.Warning(
            "SESSION_ENGINE is sessile's and SessionMiddleware is Django's. So these stay as Django has them: the "
            "cookie (SESSION_COOKIE_*), no renewal of ids, no passive requests, changes inside of a value are not "
            "seen, and a request that saves after a log-out is answered with 400.",
            hint=f"In MIDDLEWARE put {_OURS} in the place of {_DJANGOS}.",
            id="sessile.W001",
        )
    ]
    unused = sorted(set(given) & configuration.MIDDLEWARE_OPTIONS)
    if unused:
        found.append(
            checks.Warning(
                f"SESSILE has {', '.join(unused)}, which only sessile's SessionMiddleware looks at.",
                hint=f"In MIDDLEWARE put {_OURS} in the place of {_DJANGOS}.",
                id="sessile.W002",
            )
        )
    return found


def _with_middleware(given: dict[str, Any]) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if given.get("insecure_dev"):
        found.append(
            checks.Warning(
                'SESSILE has "insecure_dev": on plain http the id of a session can be read on the way.',
                id="sessile.W005",
            )
        )
    if given.get("https") is not True and settings.SECURE_PROXY_SSL_HEADER is None:
        found.append(
            checks.Warning(
                "Neither SECURE_PROXY_SSL_HEADER nor SESSILE's https is set: where TLS ends in front of this server, "
                "requests look like plain http, and nobody can log in.",
                hint='SESSILE = {"https": True} says that TLS always ends in front of the server.',
                id="sessile.W006",
            )
        )
    return found
