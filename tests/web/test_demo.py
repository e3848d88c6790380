"""The demo: its pages over both protocols, its customers, and the whole of `make demo`."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlencode

import pytest

from sessile.testing import advance

DEMO = Path(__file__).parents[2] / "demo"
FORM = {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "Mozilla/5.0 (Linux) Firefox/1"}


class Browser:
    """Asks the WSGI application of the demo over real connections, and keeps its cookie."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookie = ""

    def ask(self, method: str, path: str, **form: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("localhost", self.port, timeout=120)
        headers = {**FORM, **({"Cookie": self.cookie} if self.cookie else {})}
        connection.request(method, path, urlencode(form) if form else None, headers)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        self.headers = response.headers
        if response.headers["Set-Cookie"]:
            self.cookie = response.headers["Set-Cookie"].split(";")[0]
        if response.status == 303:
            return self.ask("GET", response.headers["Location"])
        return response.status, body

    def get(self, path: str) -> str:
        status, body = self.ask("GET", path)
        assert status == 200
        check_html(body)
        return body

    def post(self, path: str, **form: str) -> str:
        status, body = self.ask("POST", path, **form)
        assert status == 200
        return body

    def json(self, path: str) -> Any:
        return json.loads(self.ask("GET", path)[1])


def check_html(page: str) -> None:
    """Every element is closed, labelled and in its place, as far as a parser can tell."""
    if not page.startswith("<!doctype html>"):
        return
    opened: list[str] = []
    problems: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attributes: Any) -> None:
            if tag not in ("meta", "link", "input"):
                opened.append(tag)
            if tag == "input" and "label" not in opened:
                problems.append("an input without a label")
            if tag == "html" and not dict(attributes).get("lang"):
                problems.append("a page without a language")

        def handle_endtag(self, tag: str) -> None:
            if not opened or opened.pop() != tag:
                problems.append(f"</{tag}> closes nothing")

    Checker().feed(page)
    assert problems == []
    assert opened == []
    assert page.count("<h1>") == 1
    assert re.search("<title>.+</title>", page)


@pytest.fixture
def browser(demo: Callable[[str], ModuleType], serve_app: Callable[..., int]) -> Callable[[], Browser]:
    """Makes browsers that visit the shop in this process."""
    with pytest.warns(RuntimeWarning, match="insecure_dev"):
        app = demo("wsgi").app
    port = serve_app(app)
    return lambda: Browser(port)


def test_a_visitor_gets_no_cookie(browser: Callable[[], Browser]) -> None:
    """COK-11."""
    visitor = browser()
    for path in ("/", "/cart", "/login", "/logged-out", "/figures", "/style.css", "/shop.js"):
        assert visitor.ask("GET", path)[0] == 200
    assert visitor.cookie == ""
    assert visitor.ask("GET", "/nowhere")[0] == 404
    check_html(visitor.ask("GET", "/nowhere")[1])


def test_the_cart_comes_along_when_its_owner_logs_in(browser: Callable[[], Browser]) -> None:
    """LIF-05, LIF-07."""
    visitor = browser()
    assert "apple" in visitor.post("/cart", good="apple")
    assert visitor.ask("POST", "/cart", good="gold")[0] == 400
    before = visitor.cookie
    status, page = visitor.ask("POST", "/login", name="alice", password="guess")
    assert (status, visitor.cookie) == (403, before)
    check_html(page)
    assert 'role="alert"' in page
    visitor.post("/login", name="alice", password="sesame")
    assert visitor.cookie != before
    assert visitor.json("/me") == {"owner": "alice", "cart": {"apple": 1}}
    assert "You have logged out" in visitor.post("/logout")
    assert visitor.json("/me") == {"owner": None, "cart": {}}


def test_a_private_page_is_not_kept_by_the_browser(browser: Callable[[], Browser]) -> None:
    """COK-10: the back button shows nothing after a log-out."""
    visitor = browser()
    visitor.post("/login", name="alice", password="sesame")
    for path in ("/", "/cart", "/devices", "/figures"):
        visitor.get(path)
        assert visitor.headers["Cache-Control"] == "no-store"


def test_no_page_contains_the_id(browser: Callable[[], Browser]) -> None:
    """COK-14: nor does a response have it in any field but the one that gives it; handles are what pages show."""
    visitor = browser()
    visitor.post("/cart", good="apple")
    visitor.post("/login", name="alice", password="sesame")
    id = visitor.cookie.split("=")[1]
    assert len(id) == 32
    for path in ("/", "/cart", "/devices", "/figures", "/figures.json", "/remaining", "/me", "/nowhere"):
        assert id not in visitor.ask("GET", path)[1]
        assert all(id not in value for value in visitor.headers.values())


def test_devices(browser: Callable[[], Browser]) -> None:
    """LIF-12, LIF-13."""
    here, there, elsewhere = browser(), browser(), browser()
    for each in (here, there, elsewhere):
        each.post("/login", name="alice", password="sesame")
    page = here.get("/devices")
    assert page.count("Firefox on Linux</th>") == 3
    assert page.count("this device") == 1
    (first, second) = re.findall('name="handle" value="([0-9a-f]{16})"', page)
    page = here.post("/devices/logout", handle=first)
    assert first not in page
    assert [there.json("/me")["owner"], elsewhere.json("/me")["owner"]].count("alice") == 1
    here.post("/devices/logout-others")
    assert {there.json("/me")["owner"], elsewhere.json("/me")["owner"]} == {None}
    assert here.json("/me")["owner"] == "alice"
    stranger = browser()
    stranger.post("/login", name="mallory", password="sesame")
    handle = re.findall('name="handle" value="([0-9a-f]{16})"', here.get("/devices")) or [second]
    stranger.post("/devices/logout", handle=handle[0])
    assert here.json("/me")["owner"] == "alice"


def test_the_countdown_asks_without_prolonging(
    browser: Callable[[], Browser], demo: Callable[[str], ModuleType]
) -> None:
    """LIF-01."""
    visitor = browser()
    assert visitor.json("/remaining") == {"seconds": None}
    visitor.post("/login", name="alice", password="sesame")
    store = demo("shop").store
    advance(store, 100)
    assert 50 <= visitor.json("/remaining")["seconds"] <= 80
    assert visitor.json("/figures.json")["sessions"] == 1
    assert 50 <= visitor.json("/remaining")["seconds"] <= 80
    visitor.post("/stay")
    assert 120 <= visitor.json("/remaining")["seconds"] <= 180
    advance(store, 181)
    assert visitor.json("/remaining") == {"seconds": None}


def test_what_comes_from_outside_is_escaped(browser: Callable[[], Browser]) -> None:
    visitor = browser()
    visitor.post("/login", name='<script>"&', password="sesame")
    assert "&lt;script&gt;&quot;&amp;" in visitor.get("/devices")


def test_a_form_of_another_site_is_refused(browser: Callable[[], Browser]) -> None:
    """COK-13."""
    visitor = browser()
    FORM["Sec-Fetch-Site"] = "cross-site"
    try:
        assert visitor.ask("POST", "/cart", good="apple")[0] == 403
    finally:
        del FORM["Sec-Fetch-Site"]


def test_the_same_pages_over_asgi(demo: Callable[[str], ModuleType]) -> None:
    pytest.importorskip("httpx2", reason="Starlette's test client needs httpx2, which is not installed")
    client_type = pytest.importorskip("starlette.testclient", reason="Starlette is not installed").TestClient
    with pytest.warns(RuntimeWarning, match="insecure_dev"):
        client = client_type(demo("asgi").app, base_url="http://localhost")
    assert "id" not in client.cookies
    assert client.post("/cart", data={"good": "apple"}).url.path == "/cart"
    client.post("/login", data={"name": "alice", "password": "sesame"})
    assert client.get("/me").json() == {"owner": "alice", "cart": {"apple": 1}}
    for path in ("/", "/cart", "/devices", "/figures"):
        check_html(client.get(path).text)
    assert client.get("/devices").text.count("unknown browser on unknown system</th>") == 1
    client.post("/logout")
    assert client.get("/me").json() == {"owner": None, "cart": {}}
    assert client.get("/style.css").headers["content-type"] == "text/css"


# ---- the customers ----


def visit(demo: Callable[[str], ModuleType], port: int) -> list[str]:
    """One customer after the other: what they say that they lost."""
    traffic = demo("traffic")
    ledger = traffic.Ledger()
    for _ in range(4):
        traffic.Customer(port, ledger).visit()
    traffic.look_again(ledger)
    assert ledger.log_ins == 4
    assert ledger.log_outs >= 3
    lost: list[str] = ledger.lost
    return lost


def test_customers_lose_nothing(browser: Callable[[], Browser], demo: Callable[[str], ModuleType]) -> None:
    assert visit(demo, browser().port) == []


FAULTS: dict[str, tuple[tuple[str, str], Callable[[ModuleType, Any], Any], str]] = {
    "a cart that forgets": (
        ("POST", "/cart"),
        lambda shop, request: (request.session.__setitem__("cart", {"apple": 1}), shop.see("/cart"))[1],
        "in the cart",
    ),
    "a log-in that does not last": (
        ("POST", "/login"),
        lambda shop, request: (shop.log_in(request), shop.store.revoke_all(), shop.see("/"))[2],
        "the log-in of customer",
    ),
    "a log-out that does nothing": (("POST", "/logout"), lambda shop, request: shop.see("/"), "the log-out"),
    "a log-in that keeps the id": (
        ("POST", "/login"),
        lambda shop, request: (request.session.__setitem__("user", "x"), shop.see("/"))[1],
        "from before the log-in",
    ),
    "a cookie for everybody": (
        ("GET", "/"),
        lambda shop, request: (request.session.__setitem__("seen", 1), shop.home(request))[1],
        "only looked",
    ),
    "an error page": (
        ("GET", "/cart"),
        lambda shop, request: shop.Response(500, "oops"),
        "answered with 500",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_customers_notice_what_they_lose(
    browser: Callable[[], Browser], demo: Callable[[str], ModuleType], fault: str
) -> None:
    """A ledger that cannot find a loss would prove nothing."""
    route, handler, complaint = FAULTS[fault]
    shop = demo("shop")
    shop.ROUTES[route] = lambda request: handler(shop, request)
    assert any(complaint in line for line in visit(demo, browser().port))


# ---- all of it ----


@pytest.mark.slow
def test_make_demo() -> None:
    """Two workers under real traffic, then the same while workers are killed: lost 0 both times."""
    pytest.importorskip("rich", reason="rich is not installed")
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    before = set(os.listdir("/dev/shm"))
    done = subprocess.run(
        [sys.executable, str(DEMO / "run.py"), "--seconds", "2", "--port", "0"],
        env={**os.environ, "CHECK": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"lost\W+([0-9]+)", done.stdout) == ["0", "0"]
    assert int(re.search(r"workers killed\W+([0-9]+)", done.stdout)[1]) > 0
    assert all(int(count) > 0 for count in re.findall(r"log-outs\W+([0-9]+), ([0-9]+)", done.stdout)[0])
    left = {name for name in set(os.listdir("/dev/shm")) - before if name.startswith("sessile-demo-")}
    assert left == set()
