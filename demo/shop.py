"""A small shop: the demo of sessile, and an example to read. It knows neither WSGI nor ASGI; `wsgi.py` and
`asgi.py` beside it are the two doors.

What to look at:

    add         two tabs put something into one cart, and nothing is lost
    log_in      the cart comes along, under a new id
    devices     where am I logged in? log out there, or everywhere else
    remaining   asks for the time that is left, without prolonging it
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pages

from sessile import Session, Store

GOODS = ("apple", "bread", "cheese", "date", "egg", "fig", "grape", "honey", "ice", "jam", "kiwi", "lemon")

store = Store(
    os.environ.get("DEMO_TABLE", "demo"),  # all worker processes open the same table by this name
    memory="64 MiB",
    idle_timeout=float(os.environ.get("DEMO_IDLE_SECONDS", 180)),
)


def is_poll(request: Mapping[str, Any]) -> bool:
    """Requests that a page makes by itself: they do not keep a session alive. For WSGI and ASGI."""
    return request.get("PATH_INFO", request.get("path")) in ("/remaining", "/figures.json")


OPTIONS: dict[str, Any] = {
    "insecure_dev": True,  # plain http, on a loopback host only; with https the cookie is a safe one
    "rotate_every": float(os.environ.get("DEMO_ROTATE_SECONDS", 60)),
    "passive": is_poll,
}


@dataclass
class Request:
    """What the shop wants to know of a request."""

    method: str
    path: str
    form: Mapping[str, str]
    user_agent: str
    session: Session


@dataclass
class Response:
    """What the shop answers."""

    status: int = 200
    body: str | bytes = ""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/html; charset=utf-8"})


# ---- the shop ----


def home(request: Request) -> Response:
    return show(request, "Shop", pages.goods(GOODS))


def add(request: Request) -> Response:
    good = request.form.get("good", "")
    if good not in GOODS:
        return show(request, "No such good", pages.message("The shop does not have this."), status=400)

    def with_one_more(cart: dict[str, int]) -> dict[str, int]:
        return {**cart, good: cart.get(good, 0) + 1}

    request.session.update_field("cart", with_one_more, default={})  # atomic, whatever other tabs do
    return see("/cart")


def cart(request: Request) -> Response:
    return show(request, "Your cart", pages.cart(request.session.get("cart", {})))


def empty_cart(request: Request) -> Response:
    request.session.pop("cart", None)
    return see("/cart")


# ---- who you are ----


def log_in_form(request: Request) -> Response:
    return show(request, "Log in", pages.log_in_form())


def log_in(request: Request) -> Response:
    name, password = request.form.get("name", "").strip(), request.form.get("password", "")
    if not 1 <= len(name) <= 40 or password != "sesame":  # a demo has no real passwords
        form = pages.log_in_form(name, "The name or the password is wrong.")
        return show(request, "Log in", form, status=403)
    request.session.login(name, keep=("cart",), device=device(request.user_agent))
    return see("/")


def log_out(request: Request) -> Response:
    request.session.logout()
    return see("/logged-out")


def logged_out(request: Request) -> Response:
    """Where a page goes by itself when its countdown has ended."""
    return see("/") if request.session.owner else show(request, "Logged out", pages.logged_out())


def devices(request: Request) -> Response:
    session = request.session
    if session.owner is None:
        return see("/login")
    return show(request, "Your devices", pages.devices(store.sessions(session.owner), session.handle))


def log_out_there(request: Request) -> Response:
    if request.session.owner is not None:
        store.revoke(request.session.owner, handle=request.form.get("handle", ""))
    return see("/devices")


def log_out_elsewhere(request: Request) -> Response:
    if request.session.owner is not None:
        store.revoke(request.session.owner, keep=request.session)
    return see("/devices")


def device(user_agent: str) -> dict[str, str]:
    """What a list of devices can show of a User-Agent."""
    browsers = ("Firefox", "Edg", "Chrome", "Safari", "curl")
    systems = ("Android", "iPhone", "Windows", "Mac OS", "Linux")
    return {
        "browser": next((name for name in browsers if name in user_agent), "unknown browser"),
        "system": next((name for name in systems if name in user_agent), "unknown system"),
    }


# ---- what pages ask for by themselves, and programs ----


def remaining(request: Request) -> Response:
    """Seconds until the session ends for lack of use; null: nobody is logged in."""
    session = request.session
    return as_json({"seconds": session.remaining if session.owner else None})


def stay(request: Request) -> Response:
    """Any use of the session prolongs it: looking at its owner is one."""
    return as_json({"owner": request.session.owner})


def me(request: Request) -> Response:
    return as_json({"owner": request.session.owner, "cart": request.session.get("cart", {})})


def figures(request: Request) -> Response:
    """For everybody to see here; a real site would show them to its operators."""
    return show(request, "Live figures", pages.figures(store.stats()))


def figures_json(_: Request) -> Response:
    return as_json(pages.figures_of(store.stats()))


# ---- the rest ----


def not_found(request: Request) -> Response:
    return show(request, "Not found", pages.message("There is no such page."), status=404)


def show(request: Request, title: str, content: str, status: int = 200) -> Response:
    """A page. With a log-in it is not kept by the browser: Back shows nothing after a log-out."""
    response = Response(status, pages.page(title, content, request.path, request.session.owner))
    if request.session.owner is not None:
        response.headers["Cache-Control"] = "no-store"
    return response


def see(path: str) -> Response:
    """Send the browser on after a form. The session is stored before this goes out: the next page has it."""
    return Response(303, "", {"Location": path})


def as_json(value: object) -> Response:
    return Response(200, json.dumps(value), {"Content-Type": "application/json", "Cache-Control": "no-store"})


def file(name: str, kind: str) -> Callable[[Request], Response]:
    """A file of the site: it does not touch the session, so it costs no look-up and has no cookie."""
    with open(os.path.join(os.path.dirname(__file__), name), "rb") as opened:
        content = opened.read()
    return lambda _: Response(200, content, {"Content-Type": kind, "Cache-Control": "max-age=60"})


ROUTES: dict[tuple[str, str], Callable[[Request], Response]] = {
    ("GET", "/"): home,
    ("GET", "/cart"): cart,
    ("POST", "/cart"): add,
    ("POST", "/cart/empty"): empty_cart,
    ("GET", "/login"): log_in_form,
    ("POST", "/login"): log_in,
    ("POST", "/logout"): log_out,
    ("GET", "/logged-out"): logged_out,
    ("GET", "/devices"): devices,
    ("POST", "/devices/logout"): log_out_there,
    ("POST", "/devices/logout-others"): log_out_elsewhere,
    ("GET", "/figures"): figures,
    ("GET", "/figures.json"): figures_json,
    ("GET", "/remaining"): remaining,
    ("POST", "/stay"): stay,
    ("GET", "/me"): me,
    ("GET", "/style.css"): file("style.css", "text/css"),
    ("GET", "/shop.js"): file("shop.js", "text/javascript"),
}


def respond(request: Request) -> Response:
    """Answer a request. The headers are the site's own; the middleware adds what the session needs."""
    method = "GET" if request.method == "HEAD" else request.method
    response = ROUTES.get((method, request.path), not_found)(request)
    response.headers["Content-Security-Policy"] = "default-src 'self'; frame-ancestors 'none'"
    response.headers["X-Worker"] = str(os.getpid())
    return response
