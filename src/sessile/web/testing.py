"""For the tests of applications: a test client that is logged in.

    client = logged_in(werkzeug.test.Client(app), store, "alice")
    client = logged_in(starlette.testclient.TestClient(app, base_url="https://testserver"), store, "alice")

No framework is imported here: a client is taken for what it can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Any, TypeVar

from sessile.session import Session
from sessile.store import Store
from sessile.web.cookies import Cookie, Header

__all__ = ["logged_in", "use_session"]

_Client = TypeVar("_Client")


def logged_in(
    client: _Client,
    store: Store,
    owner: str,
    *,
    data: Mapping[str, Any] | None = None,
    device: dict[str, str] | None = None,
    cookie: Cookie | Header = Cookie(),  # noqa: B008 (frozen)
    host: str | None = None,
) -> _Client:
    """Log a test client in without a log-in page: a new session of `owner`, whose id the client presents.

    Args:
        client: of Werkzeug, Flask, Starlette, FastAPI, httpx (with a `base_url`) or Django. Its requests must
            be for https.
        store: the store of the application's middleware.
        owner, data, device: see `Store.create`.
        cookie: what the middleware was given. For one with `insecure_dev=True` and requests over plain http:
            `sessile.web.cookies.insecure_development(Cookie())`.
        host: that the requests are for; None: what the client's own default is.

    Returns:
        The client.

    Raises:
        TypeError: the client is of no known kind, or an argument of another type.
        StoreFull, Busy, StoreClosed: see `Store.create`.
    """
    use_session(client, store.create(data, owner=owner, device=device), cookie=cookie, host=host)
    return client


def use_session(
    client: object,
    session: Session,
    *,
    cookie: Cookie | Header = Cookie(),  # noqa: B008 (frozen)
    host: str | None = None,
) -> None:
    """Let a test client present the id of a stored session from now on, in the place of any other.

    Args: see `logged_in`.

    Raises:
        TypeError: the client is of no known kind.
        ValueError: the session is not stored.
    """
    if session.id is None:
        raise ValueError("the session is not stored, so it has no id: save() it first")
    if isinstance(cookie, Header):
        _set_header(client, cookie, session.id)
    else:
        _set_cookie(client, cookie, session.id, host)


def _set_cookie(client: Any, cookie: Cookie, id: str, host: str | None) -> None:
    jar: Any = getattr(client, "cookies", None)
    if hasattr(client, "set_cookie"):  # Werkzeug, Flask
        client.set_cookie(cookie.name, id, domain=host or "localhost", path=cookie.path)
    elif hasattr(jar, "jar"):  # httpx, and Starlette's client, which is one
        host = host or client.base_url.host
        if not host:
            raise TypeError("the httpx client has no base_url: make it with one, or pass host=")
        jar.delete(cookie.name)
        # The standard library's jar keeps the cookies of a host without a dot under this name, and a cookie
        # under another one would be sent beside the one that a rotation sets.
        jar.set(cookie.name, id, domain=host if "." in host else f"{host}.local", path=cookie.path)
    elif isinstance(jar, SimpleCookie):  # Django
        jar[cookie.name] = id
    else:
        raise TypeError(f"{type(client).__name__} is no test client that is known here")


def _set_header(client: Any, header: Header, id: str) -> None:
    if hasattr(client, "environ_base"):  # Flask
        client.environ_base[header.names.environ] = id
    elif hasattr(client, "headers"):  # httpx, and Starlette's client, which is one
        client.headers[header.name] = id
    elif hasattr(client, "defaults"):  # Django
        client.defaults[header.names.environ] = id
    else:
        raise TypeError(f"{type(client).__name__} has no headers for all its requests: pass them with each")
