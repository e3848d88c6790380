"""The page in the admin: who is logged in, and log a user or a device out."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext, ngettext

from sessile.store import SessionInfo
from sessile.web.django.models import UserSession
from sessile.web.django.tables import get_store
from sessile.web.django.users import find_user, log_out, logged_in, owner_of, users_of

__all__ = ["UserSessionAdmin"]

_SHOWN: Final = 200  # sessions, where no user was asked for


@admin.register(UserSession)
class UserSessionAdmin(admin.ModelAdmin):
    """Lists sessions from the table, not from the database; there is nothing to add and nothing to change."""

    def has_add_permission(self, request: Any) -> bool:  # noqa: ARG002 (Django's)
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:  # noqa: ARG002 (Django's)
        return False

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.changelist_view)
        return [path("", view, name="sessile_usersession_changelist")]

    def changelist_view(self, request: Any, extra_context: dict[str, Any] | None = None) -> Any:
        """GET: sessions, those of `?user=NAME` or the first 200. POST: end the ones that were chosen, or, with
        `everywhere`, all of the user."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._revoke(request)
        name = request.GET.get("user", "").strip()
        user = find_user(name) if name else None
        store = get_store()
        found: list[SessionInfo] = []
        if user is not None:
            found = store.sessions(owner_of(user))
        elif not name:
            found = list(islice(logged_in(), _SHOWN + 1))
        users = users_of({info.owner for info in found if info.owner is not None})
        current = getattr(request.session, "stored", None)
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Sessions"),
            "opts": self.opts,
            "name": name,
            "user_found": user,
            "rows": [(info, users.get(info.owner or "")) for info in found[:_SHOWN]] if user is None
            else [(info, user) for info in found],
            "is_cut": user is None and len(found) > _SHOWN,
            "shown": _SHOWN,
            "current": None if current is None else current.handle,
            "may_revoke": self.has_delete_permission(request),
            "username_label": get_user_model()._meta.get_field(get_user_model().USERNAME_FIELD).verbose_name,
            **(extra_context or {}),
        }  # fmt: skip
        return TemplateResponse(request, "admin/sessile/sessions.html", context)

    def _revoke(self, request: Any) -> HttpResponseRedirect:
        if not self.has_delete_permission(request):
            raise PermissionDenied
        store = get_store()
        name = request.POST.get("user", "")
        user = find_user(name) if name else None
        count = 0
        if "everywhere" in request.POST and user is not None:
            count = log_out(user)
            self._log(request, user, gettext("Logged out everywhere."))
        else:
            for chosen in request.POST.getlist("session"):
                handle, _, owner = chosen.partition(":")
                ended = store.revoke(owner, handle=handle) if owner else 0
                count += ended
                ended_of = users_of({owner}).get(owner) if ended else None
                if ended_of is not None:
                    self._log(request, ended_of, gettext("Session %(handle)s ended.") % {"handle": handle})
        text = ngettext("%(count)d session ended.", "%(count)d sessions ended.", count) % {"count": count}
        self.message_user(request, text, messages.SUCCESS if count else messages.WARNING)
        query = f"?{request.GET.urlencode()}" if request.GET else ""
        return HttpResponseRedirect(reverse(f"{self.admin_site.name}:sessile_usersession_changelist") + query)

    def _log(self, request: Any, user: Any, text: str) -> None:
        """In the history of the user, where the admin shows who did what."""
        LogEntry.objects.create(
            user_id=request.user.pk,
            content_type_id=ContentType.objects.get_for_model(user).pk,
            object_id=user.pk,
            object_repr=str(user)[:200],
            action_flag=CHANGE,
            change_message=text,
        )
