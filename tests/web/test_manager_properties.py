"""Whatever a client sends: no exception leaves the middleware, and at most one cookie goes out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sessile
from sessile.web import Cookie, Header
from sessile.web.asgi import SessionMiddleware as ASGIMiddleware
from sessile.web.wsgi import SessionMiddleware as WSGIMiddleware

untimed = settings(deadline=None)

NAME = "__Host-Http-id"
KNOWN = "known"  # stands for the id of a stored session

octets = st.one_of(
    st.binary(max_size=60).map(lambda data: data.decode("latin-1")),
    # Up to 1 MiB: the same few octets over and over.
    st.builds(lambda piece, size: (piece * size)[:size], st.binary(min_size=1, max_size=8), st.integers(0, 1 << 20)).map(
        lambda data: data.decode("latin-1")
    ),
)
values = st.one_of(octets, st.just(KNOWN), st.from_regex(r"[A-Za-z0-9_-]{30,34}", fullmatch=True))
pairs = st.tuples(st.sampled_from([NAME, "id", "a", "", NAME.lower(), f" {NAME}", f"\xe2\x80\x80{NAME}"]), values)
cookies = st.one_of(st.none(), octets, st.lists(pairs.map("=".join), max_size=5).map("; ".join), st.just(f"{NAME}={KNOWN}"))
origins = st.sampled_from(
    [None, "null", "", "https://shop.example", "https://evil.example", "http://[::1", "\xff", "https://a, https://b"]
)
requests = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "get", "\xff", ""]),
        "scheme": st.sampled_from(["http", "https", "ftp", ""]),
        "Cookie": cookies,
        "Mcp-Session-Id": values,
        "Host": st.one_of(st.none(), octets, st.sampled_from(["localhost", "shop.example", "[::1]:80", "a:b:c"])),
        "Origin": st.one_of(origins, octets),
        "Sec-Fetch-Site": st.one_of(st.none(), octets, st.sampled_from(["same-origin", "cross-site", "none"])),
    }
)
deeds = st.sampled_from(["nothing", "read", "write", "login", "rotate", "logout", "destroy", "clear", "poison", "500"])


@pytest.fixture(scope="module")
def shared_store() -> Iterator[sessile.Store]:
    """One for all examples: whatever they leave behind, the table stays sound."""
    with sessile.Store(capacity=1000, memory="4 MiB") as store:
        yield store
        assert store.check() == []


def act(session: Any, done: list[str]) -> int:
    status = 200
    for deed in done:
        try:
            if deed == "read":
                session.get("a")
            elif deed == "write":
                session["a"] = session.get("a", 0) + 1
            elif deed == "login":
                session.login("alice")
            elif deed == "poison":
                session["bad"] = object()
            elif deed == "500":
                status = 500
            elif deed != "nothing":
                getattr(session, deed)()
        except (sessile.InsecureTransport, sessile.SessionGone, TypeError):
            pass
    return status


def fields_of(request: dict[str, Any], store: sessile.Store) -> dict[str, str]:
    known = str(store.create({"a": 1}, owner="known").id)
    names = ("Cookie", "Mcp-Session-Id", "Host", "Origin", "Sec-Fetch-Site")
    return {name: request[name].replace(KNOWN, known) for name in names if request[name] is not None}


def check(status: int, headers: list[tuple[str, str]], fields: dict[str, str], carrier: Any) -> None:
    assert status in (200, 403, 500)
    given = [value for name, value in headers if name.lower() == carrier.names.response.lower()]
    assert len(given) <= 1
    for _, value in headers:
        assert re.fullmatch(r"[ -~]*", value)
    for value in given:
        new = re.match(rf"(?:{NAME}=)?([A-Za-z0-9_-]{{32}})?(?:;|\Z)", value)
        assert new
        if new[1]:  # an id that the client sent is never given back
            assert all(new[1] not in sent for sent in fields.values())


carriers = st.sampled_from([Cookie(), Cookie(persistent=True), Header("Mcp-Session-Id")])


def over_wsgi(store: sessile.Store, request: Any, done: list[str], carrier: Any, https: Any) -> None:
    """One request through the WSGI middleware; raises where something is not as it must be."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        status = act(environ["sessile.session"], done)
        start_response(f"{status} Something", [])
        return []

    fields = fields_of(request, store)
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    del environ["HTTP_HOST"]
    environ.update({"REQUEST_METHOD": request["method"], "wsgi.url_scheme": request["scheme"]})
    environ.update({"HTTP_" + name.upper().replace("-", "_"): value for name, value in fields.items()})
    started: list[Any] = []
    middleware = WSGIMiddleware(app, store, cookie=carrier, https=https)
    middleware(environ, lambda status, headers, exc_info=None: started.append((status, headers)))
    ((status, headers),) = started
    check(int(status[:3]), headers, fields, carrier)


def over_asgi(store: sessile.Store, request: Any, done: list[str], carrier: Any, https: Any) -> None:
    """The same through the ASGI middleware."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": act(scope["session"], done), "headers": []})

    fields = fields_of(request, store)
    scope = {"type": "http", "method": request["method"], "path": "/", "scheme": request["scheme"]}
    scope["headers"] = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields.items()]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    middleware = ASGIMiddleware(app, store, cookie=carrier, https=https)
    with contextlib.suppress(StopIteration):  # nothing in it waits for anything
        middleware(scope, None, send).send(None)
        raise AssertionError("the middleware waits for something")
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in sent[0]["headers"]]
    check(sent[0]["status"], headers, fields, carrier)


everything = {
    "request": requests,
    "done": st.lists(deeds, max_size=4),
    "carrier": carriers,
    "https": st.sampled_from([None, True]),
}


@untimed
@given(**everything)
def test_wsgi(shared_store: sessile.Store, request: Any, done: list[str], carrier: Any, https: Any) -> None:
    """SID-06, SID-07, COK-07, COK-08, COK-09."""
    over_wsgi(shared_store, request, done, carrier, https)


@untimed
@given(**everything)
def test_asgi(shared_store: sessile.Store, request: Any, done: list[str], carrier: Any, https: Any) -> None:
    """SID-06, SID-07, COK-07, COK-08, COK-09."""
    over_asgi(shared_store, request, done, carrier, https)
