"""No table in the database: a name for the permissions and for the page in the admin."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy

__all__ = ["UserSession"]


class UserSession(models.Model):
    """A session of a logged-in user, as the admin names it. There are no objects of this class.

    Its permissions: `sessile.view_usersession` to list sessions, `sessile.delete_usersession` to end them.
    """

    class Meta:
        managed = False
        default_permissions = ("view", "delete")
        verbose_name = gettext_lazy("session")
        verbose_name_plural = gettext_lazy("sessions")
