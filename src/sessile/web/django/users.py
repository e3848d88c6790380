"""From a user of Django to an owner of sessions, and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib.auth import get_user_model

from sessile.store import SessionInfo
from sessile.web.django import fallback
from sessile.web.django.tables import get_store
from sessile.web.fallback import MARK, refuse

__all__ = ["find_user", "log_out", "logged_in", "owner_of", "users_of"]


def logged_in() -> Iterator[SessionInfo]:
    """The sessions of all who are logged in."""
    return (info for info in get_store().sessions() if info.owner is not None and not info.owner.startswith(MARK))


def log_out(user: Any, handle: str | None = None) -> int:
    """End the session with this handle, or all of a user, those that are still the former engine's included; how many
    were ended here."""
    owner = owner_of(user)
    if handle is None and fallback.is_configured():
        refuse(get_store(), owner)
    return get_store().revoke(owner, handle=handle)


def owner_of(user: Any) -> str:
    """The owner that a user's sessions have: what `contrib.auth` keeps of the user in a session."""
    owner: str = user._meta.pk.value_to_string(user)
    return owner


def find_user(name: str) -> Any | None:
    """The user with this name (USERNAME_FIELD); None: there is none."""
    model = get_user_model()
    try:
        return model._default_manager.get_by_natural_key(name)
    except model.DoesNotExist:
        return None


def users_of(owners: set[str]) -> dict[str, Any]:
    """The users that these owners are; one query. Those that there are no longer are left out."""
    model = get_user_model()
    keys = []
    for owner in owners:
        try:
            keys.append(model._meta.pk.to_python(owner))
        except Exception:  # a ValidationError, and whatever a field of the project's own raises
            continue
    return {owner_of(user): user for user in model._default_manager.filter(pk__in=keys)}
