"""A plugin for pytest: every Flask application has its sessions from Sessile, and knows nothing of it.

    python -m pytest -p sessile_in_flask …

Applications that bring a session interface of their own keep it. Each has a table of its own, because suites
make many of one name with different keys; and it is told that TLS ends before it, because suites ask over http.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import flask

import sessile.web.flask
from sessile.web.project import project_secrets


def _store_of_one(project: str, root: str, secret_keys: Iterable[str | bytes]) -> sessile.Store:
    return sessile.Store(capacity=1000, memory="4 MiB", secret=project_secrets(secret_keys))


sessile.web.flask.project_store = _store_of_one

_make = flask.Flask.__init__


@functools.wraps(_make)
def _make_with_sessile(self: flask.Flask, *arguments: Any, **options: Any) -> None:
    _make(self, *arguments, **options)
    if type(self).session_interface is flask.Flask.session_interface:
        sessile.web.flask.Sessile(self, https=True)


flask.Flask.__init__ = _make_with_sessile  # type: ignore[method-assign]
