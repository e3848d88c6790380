"""A plugin for pytest: `import flask_session` gives this, and its sessions are Sessile's. After sessile_in_flask.

    python -m pytest -p sessile_in_flask -p sessile_as_flask_session …

What the suite says of a store is heard as: there is one. So an application that names a SESSION_TYPE gets a
SECRET_KEY if it has none, which Flask-Session needs only for signing. Where the suite looks into a cache for what
is stored, it finds the session with that id.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import sessile.web.flask


class Session:
    """`flask_session.Session(app)`."""

    def __init__(self, app: Any) -> None:
        if app.config.get("SESSION_TYPE", "null") == "null":
            return
        app.config["SECRET_KEY"] = app.config["SECRET_KEY"] or "a key of the suite"
        app.config["SESSION_COOKIE_NAME"] = "its_session"  # what the suite looks for ends in "session"
        app.session_interface.cache = SimpleNamespace(get=lambda key: _stored(app, key))


def _stored(app: Any, key: str) -> dict[str, Any]:
    found = sessile.web.flask.Sessile.of(app).store.load(key.removeprefix("session:"))
    return {} if found is None else dict(found)


def _module(name: str, **content: Any) -> None:
    module = sys.modules[name] = ModuleType(name)
    vars(module).update(content)


_module("flask_session", Session=Session)
_module("flask_session.cachelib", CacheLibSession=sessile.web.flask.FlaskSession)
_module("flask_session.filesystem", FileSystemSession=sessile.web.flask.FlaskSession)
