"""What test_linear.py runs under callgrind: the work for requests with fields of several sizes.

A call of getppid() marks where each piece of work begins and ends: callgrind writes down there what it has counted since
the one before.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import sessile
from sessile.web import Cookie
from sessile.web.asgi import SessionMiddleware as ASGIMiddleware
from sessile.web.wsgi import SessionMiddleware as WSGIMiddleware

ID = "V" * 32
NAME = "__Host-Http-id"
PAIR = f"{NAME}={ID}"

LARGEST = int(os.environ.get("OCTETS", 1 << 18))
SIZES = (LARGEST // 4, LARGEST)
"""Octets of a field, for the whole path of a request; `make test-linear` goes up to 1 MiB."""

LIMITED = (1 << 12, 1 << 14)
"""The same for what is within the limits of a Cookie header, and is looked into."""


def of(unit: str, before: str = "", after: str = "") -> Callable[[int], str]:
    """So many octets of the unit over and over, between two texts."""
    return lambda size: before + unit * (size // len(unit)) + after


COOKIES = {
    "a value that goes on": of("a", f"{NAME}="),
    "our pair inside a value": of(f"x{PAIR}"),
    "our name without a value, nearly": of(f"={NAME}="),
    "our name twice": of("a", f"{PAIR};", f"; {PAIR}"),
    "blanks before": of(" \t", "", PAIR),
    "blanks after": of(" ", PAIR),
    "blanks everywhere": of(" "),
    "many pairs": of("a=b; " + "c" * 90 + ";", "", PAIR),
}
FIELDS = {
    "Cookie": {**COOKIES, "semicolons": of(";"), "our name over and over": of(f"; {NAME}=")},
    "Host": {
        "a name": of("a."),
        "digits": of("1", "shop.example:"),
        "an address": of("0:", "[", "]"),
        "brackets": of("["),
        "blanks": of(" ", "", "x"),
    },
    "Origin": {
        "a scheme": of("a+", "", "://shop.example"),
        "a name": of("a.", "https://"),
        "digits": of("1", "https://shop.example:"),
        "an address": of(":0", "https://[", "]"),
        "blanks": of(" ", "x", "x"),
        "slashes": of("/", "https:"),
    },
    "Sec-Fetch-Site": {"blanks": of(" ", "x", "x"), "same-origin": of("same-origin, ")},
}


def wsgi_app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    environ["sessile.session"].get("a")
    start_response("200 OK", [("Vary", "a")])
    return []


async def asgi_app(scope: Any, _: Any, send: Any) -> None:
    scope["session"].get("a")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"vary", b"a")]})


async def send(_: Any) -> None:
    pass


def ask(store: sessile.Store) -> tuple[Callable[[dict[str, str], str], None], Callable[[list[tuple[bytes, bytes]]], None]]:
    """What sends a request of the two protocols through a middleware."""
    wsgi = WSGIMiddleware(wsgi_app, store, insecure_dev=True)
    asgi = ASGIMiddleware(asgi_app, store, insecure_dev=True)

    def ask_wsgi(fields: dict[str, str]) -> None:
        fields = {"Host": "localhost", **fields}
        environ = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in fields.items()}
        common = {"wsgi.url_scheme": "http", "wsgi.multiprocess": False}
        for method in ("GET", "POST"):
            wsgi({**environ, **common, "REQUEST_METHOD": method}, lambda *_: lambda _: None)

    def ask_asgi(headers: list[tuple[bytes, bytes]]) -> None:
        for method in ("GET", "POST"):
            scope = {"type": "http", "method": method, "scheme": "http", "headers": headers}
            running: Any = asgi(scope, send, send)
            with contextlib.suppress(StopIteration):
                running.send(None)
                raise AssertionError("it waits for something")

    return ask_wsgi, ask_asgi


def cases(size: int, limited: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each case of a size, by its name."""
    store = sessile.Store(capacity=100, memory="2 MiB")
    ask_wsgi, ask_asgi = ask(store)
    cookie = Cookie()
    for name, make in COOKIES.items():
        yield f"find: {name}", partial(cookie.find, make(limited))
    for field, shapes in FIELDS.items():
        for name, make in shapes.items():
            yield f"{field}: {name}", partial(ask_wsgi, {field: make(size)})
    for name, work in zip(FURTHER, further(size, ask_wsgi, ask_asgi), strict=True):
        yield name, work


FURTHER = ("ASGI, a field for each cookie", "ASGI, one cookie", "an Origin that is none")


def further(size: int, ask_wsgi: Callable[..., None], ask_asgi: Callable[..., None]) -> Iterator[Callable[[], object]]:
    yield partial(ask_asgi, [(b"host", b"localhost"), *[(b"cookie", b"theme=dark")] * (size // 10)])
    yield partial(ask_asgi, [(b"cookie", b"a" * size), (b"host", b"localhost")])
    yield partial(ask_wsgi, {"Origin": "\xe4" * size, "Host": "a"})


NAMES = [
    *(f"find: {name}" for name in COOKIES),
    *(f"{field}: {name}" for field, shapes in FIELDS.items() for name in shapes),
    *FURTHER,
]
"""Of all cases."""


def count_under_callgrind() -> None:
    """The work, with a mark before and after each case. Each runs once before, because the first time is dearer."""
    gc.disable()
    logging.disable()
    for small, limited in ((64, 64), *zip(SIZES, LIMITED, strict=True)):
        for name, case in cases(small, limited):
            if small == 64:
                case()
            os.getppid()
            case()
            os.getppid()
            print(f"{small}|{name}")


if __name__ == "__main__":
    count_under_callgrind()
