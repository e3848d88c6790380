"""The application that test_deploy.py has served: log-in, log-out, show. TLS is taken to end in front of it."""

import os
from collections.abc import Iterable
from typing import Any

import sessile
from sessile.web.wsgi import SessionMiddleware

store = sessile.Store(
    os.environ.get("SESSILE_TABLE"),
    capacity=20_000,
    memory="16 MiB",
    secret=b"the secret of the deployed application",
    snapshot_dir=os.environ.get("SESSILE_SNAPSHOTS"),
    snapshot_interval=0.2,
    max_sessions_per_owner=None,
)


def pages(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    session = environ["sessile.session"]
    _, what, *who = environ["PATH_INFO"].split("/")
    if what == "login":
        session.login(who[0])
    elif what == "logout":
        session.logout()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [(session.owner or "").encode()]


application = SessionMiddleware(pages, store, https=True, rotate_every=0.3)
