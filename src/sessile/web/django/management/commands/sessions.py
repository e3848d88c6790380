"""manage.py sessions: who is logged in, and log a user out."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from sessile.store import SessionInfo
from sessile.web.django.tables import get_store
from sessile.web.django.users import find_user, log_out, logged_in, owner_of, users_of

_MOMENT = "%Y-%m-%d %H:%M:%SZ"


class Command(BaseCommand):
    """List sessions, or end those of one user."""

    help = "Lists the sessions of a user, or of all who are logged in; --revoke logs the user out."
    requires_system_checks: list[str] = []  # noqa: RUF012 (Django's)

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--user", metavar="NAME", help="the user's name, as at log-in")
        parser.add_argument("--revoke", action="store_true", help="end the sessions of the user: log out everywhere")
        parser.add_argument("--handle", metavar="H", help="with --revoke: only the session with this handle")

    def handle(self, **options: Any) -> None:
        name, handle = options["user"], options["handle"]
        if options["revoke"] and name is None:
            raise CommandError("--revoke needs --user NAME")
        if handle is not None and not options["revoke"]:
            raise CommandError("--handle needs --revoke")
        if name is None:
            self._list(list(logged_in()))
            return
        user = find_user(name)
        if user is None:
            raise CommandError(f"there is no user {name!r}")
        if options["revoke"]:
            self.stdout.write(f"{log_out(user, handle)} sessions ended")
            return
        self._list(get_store().sessions(owner_of(user)))

    def _list(self, found: list[SessionInfo]) -> None:
        users = users_of({info.owner for info in found if info.owner is not None})
        self.stdout.write(f"{'handle':<16}  {'last used':<20}  {'expires':<20}  user")
        for info in found:
            user = users.get(info.owner or "")
            name = f"(no user {info.owner})" if user is None else user.get_username()
            times = f"{info.last_used.strftime(_MOMENT)}  {info.expires.strftime(_MOMENT)}"
            self.stdout.write(f"{info.handle}  {times}  {_printable(name)}")


def _printable(text: str) -> str:
    """What somebody chose as his name shall not drive the terminal of the one who reads it."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
