"""The sites that test_flask_servers.py and test_browser_sites.py have served by real servers: `flask_app` and `quart_app`.

Each makes its own table, named after it, in SESSILE_FOLDER. TLS is taken to end in front of the server.
"""

from __future__ import annotations

import os
from typing import Any

import flask
import flask_login
import quart

import sessile.store
import sessile.web.flask
import sessile.web.quart

sessile.store._own_directory = lambda: os.environ["SESSILE_FOLDER"]  # in place of /dev/shm/sessile-<uid>


class User(flask_login.UserMixin):
    def __init__(self, name: str) -> None:
        self.id = name


flask_app = flask.Flask("shop")
flask_app.config["SECRET_KEY"] = "the same in each worker"
extension = sessile.web.flask.Sessile(flask_app, https=True)
flask_login.LoginManager(flask_app).user_loader(User)


@flask_app.get("/untouched")
def untouched() -> str:
    return "up"


@flask_app.get("/login/<name>")
def log_in(name: str) -> str:
    flask_login.login_user(User(name))
    return "welcome"


@flask_app.get("/logout")
def log_out() -> str:
    flask_login.logout_user()
    return "goodbye"


@flask_app.get("/everywhere")
def log_out_everywhere() -> str:
    return str(extension.revoke(flask_login.current_user.get_id()))


@flask_app.get("/me")
def me() -> dict[str, Any]:
    flask.session["seen"] = flask.session.get("seen", 0) + 1
    return {"user": flask_login.current_user.get_id(), "pid": os.getpid(), "seen": flask.session["seen"]}


quart_app = quart.Quart("shop")
quart_app.config["SECRET_KEY"] = "the same in each worker"
quart_extension = sessile.web.quart.Sessile(quart_app, https=True)


@quart_app.get("/untouched")
async def quart_untouched() -> str:
    return "up"


@quart_app.get("/login/<name>")
async def quart_log_in(name: str) -> str:
    quart.session["_user_id"] = name
    return "welcome"


@quart_app.get("/logout")
async def quart_log_out() -> str:
    del quart.session["_user_id"]
    return "goodbye"


@quart_app.get("/everywhere")
async def quart_log_out_everywhere() -> str:
    return str(quart_extension.revoke(quart.session["_user_id"]))


@quart_app.get("/me")
async def quart_me() -> dict[str, Any]:
    quart.session["seen"] = quart.session.get("seen", 0) + 1
    return {"user": quart.session.get("_user_id"), "pid": os.getpid(), "seen": quart.session["seen"]}
