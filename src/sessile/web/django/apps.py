"""The application: the `sessions` command, the page in the admin, the checks."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy

__all__ = ["SessileConfig"]


class SessileConfig(AppConfig):
    """For `INSTALLED_APPS = [..., "sessile.web.django"]`."""

    name = "sessile.web.django"
    label = "sessile"
    verbose_name = gettext_lazy("Sessions")
    default_auto_field = "django.db.models.AutoField"

    def ready(self) -> None:
        from sessile.web.django import checks  # noqa: F401 (importing it registers them)
