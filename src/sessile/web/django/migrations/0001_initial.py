"""Permissions only: the model has no table."""

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies: ClassVar[list[Any]] = []
    operations: ClassVar[list[Any]] = [
        migrations.CreateModel(
            name="UserSession",
            fields=[
                (
                    "id",
                    models.AutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                )
            ],
            options={
                "verbose_name": "session",
                "verbose_name_plural": "sessions",
                "managed": False,
                "default_permissions": ("view", "delete"),
            },
        )
    ]
