"""A real browser: Debian's Chromium, over https with a certificate of its own, and over http on loopback.

What a browser does with the cookie cannot be told from a header. The hosts are names that the browser is told
to find on loopback: `shop.example` is the site, `sibling.shop.example` belongs to an attacker who may set
cookies for `shop.example`, and `evil.example` is another site.

Screenshots of every page of the demo, to be looked at:

    SCREENSHOTS=folder python -m pytest tests/web/test_browser.py -k accessible
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import shutil
import socket
import ssl
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest

import sessile
from sessile.testing import EventRecorder, advance
from sessile.web.cookies import Cookie

NAME = "__Host-Http-id"
HOSTS = ("shop.example", "sibling.shop.example", "evil.example", "localhost")

pytestmark = pytest.mark.slow


def chromium() -> str:
    """Where it is. Without it these tests are skipped; where CI=true they fail."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None and os.environ.get("CI") != "true":
        pytest.skip("Chromium is not installed. On Debian: apt install chromium")
    assert found, "Chromium is not installed"
    return found


def need(module: str) -> Any:
    """A module that may be missing, but not where CI=true; the free-threaded Python cannot install them."""
    if os.environ.get("CI") == "true" and not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return __import__(module, fromlist=["_"])
    return pytest.importorskip(module, reason=f"{module} is not installed")


@dataclass
class Certificate:
    context: ssl.SSLContext
    key_file: str
    file: str
    pin: str  # what the browser is told to trust: the SHA-256 of the public key


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    trustme = need("trustme")
    x509 = need("cryptography.x509")
    serialization = need("cryptography.hazmat.primitives.serialization")
    issued = trustme.CA().issue_cert(*HOSTS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    folder = tmp_path_factory.mktemp("certificate")
    key_file, file = folder / "key.pem", folder / "certificate.pem"
    issued.private_key_pem.write_to_path(key_file)
    issued.cert_chain_pems[0].write_to_path(file)
    public_key = x509.load_pem_x509_certificate(file.read_bytes()).public_key()
    octets = public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    pin = base64.b64encode(hashlib.sha256(octets).digest()).decode()
    return Certificate(context, str(key_file), str(file), pin)


@pytest.fixture(scope="module")
def browser(certificate: Certificate) -> Iterator[Any]:
    playwright = need("playwright.sync_api")
    options = [
        "--host-resolver-rules=MAP *.example 127.0.0.1",
        f"--ignore-certificate-errors-spki-list={certificate.pin}",
        "--disable-dev-shm-usage",
    ]
    if os.geteuid() == 0:
        options.append("--no-sandbox")
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(
            executable_path=chromium(),
            args=options,
            timeout=300_000,
            # A page that comes back from memory is what the back button shows in an everyday browser.
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield launched
        launched.close()


@pytest.fixture
def profile(browser: Any) -> Iterator[Any]:
    """A browser that has never been anywhere: cookies of its own, any number of tabs."""
    context = browser.new_context()
    context.set_default_timeout(120_000)
    yield context
    context.close()


@pytest.fixture
def tab(profile: Any) -> Any:
    return profile.new_page()


@dataclass
class Place:
    """The shop as the browser reaches it, and its store."""

    store: sessile.Store
    port: int
    host: str = "shop.example"
    scheme: str = "https"

    def url(self, path: str) -> str:
        return f"{self.scheme}://{self.host}:{self.port}{path}"

    def show(self, tab: Any, path: str = "/show") -> Any:
        """What the application shows of the tab's session."""
        return tab.goto(self.url(path)).json()

    def cookies(self, profile: Any) -> dict[str, str]:
        return {cookie["name"]: cookie["value"] for cookie in profile.cookies(self.url("/"))}


@pytest.fixture
def make_place(serve_here: Callable[..., Any], watched: sessile.Store, certificate: Certificate) -> Callable[..., Place]:
    """Serves the pages of served.py over https, from this process."""

    def make(**options: Any) -> Place:
        server = serve_here(watched, certificate.context, https=None, **options)
        return Place(watched, server.port)

    return make


@pytest.fixture
def place(make_place: Callable[..., Place]) -> Place:
    return make_place(rotate_every=100)


@pytest.fixture
def attacker(serve_app: Callable[..., int], certificate: Certificate) -> Callable[..., str]:
    """Gives the address of a page on a host of the attacker's, which sets these cookies."""

    def page(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        cookies = [("Set-Cookie", value) for _, value in parse_qsl(environ["QUERY_STRING"], encoding="latin-1")]
        start_response("200 OK", [("Content-Type", "text/html"), *cookies])
        return [b"<!doctype html><title>attacker</title>"]

    port = serve_app(page, certificate.context)

    def address(*cookies: str, host: str = "sibling.shop.example") -> str:
        query = "&".join(f"set={quote(cookie, encoding='latin-1')}" for cookie in cookies)
        return f"https://{host}:{port}/?{query}"

    return address


# ---- the cookie ----


def test_the_cookie_as_the_browser_keeps_it(place: Place, profile: Any, tab: Any) -> None:
    """COK-01, COK-03, COK-05: `__Host-Http-` is accepted, for this host alone, until the browser ends."""
    assert place.show(tab, "/login?owner=alice")["owner"] == "alice"
    (cookie,) = profile.cookies()
    assert (cookie["name"], cookie["domain"], cookie["path"]) == (NAME, "shop.example", "/")
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Lax")
    assert cookie["expires"] == -1


SET_BY_SCRIPT = """async ([name, value]) => {
    document.cookie = `${name}=${value}; Path=/; Secure`;
    try { await cookieStore.set({name, value, path: "/"}); } catch {}
    return document.cookie;
}"""


def test_a_script_can_neither_read_nor_set_it(place: Place, profile: Any, tab: Any) -> None:
    """COK-03: what a script that was injected into a page can do to the cookie: nothing."""
    mallory = place.store.create(owner="mallory")
    place.show(tab)
    assert tab.evaluate(SET_BY_SCRIPT, [NAME, mallory.id]) == ""
    assert place.cookies(profile) == {}
    assert place.show(tab, "/login?owner=alice")["owner"] == "alice"
    before = place.cookies(profile)
    assert tab.evaluate("document.cookie") == ""
    assert tab.evaluate("cookieStore.getAll().then(all => all.length)") == 0
    assert tab.evaluate(SET_BY_SCRIPT, [NAME, mallory.id]) == ""
    assert place.cookies(profile) == before
    assert place.show(tab)["owner"] == "alice"


def test_the_same_script_can_set_a_cookie_without_that_prefix(place: Place, profile: Any, tab: Any) -> None:
    """The check itself: with a prefix that does not forbid it, it succeeds."""
    place.show(tab)
    assert tab.evaluate(SET_BY_SCRIPT, ["__Host-other", "x"]) == "__Host-other=x"


@pytest.mark.parametrize("attributes", ["Domain=shop.example; ", ""], ids=["for its parent", "for itself"])
def test_a_planted_cookie_is_not_adopted(
    place: Place, attacker: Callable[..., str], profile: Any, tab: Any, attributes: str
) -> None:
    """SID-06, COK-03: a sibling domain puts its own session's id into the victim's browser."""
    mallory = place.store.create(owner="mallory")
    flags = f"; {attributes}Path=/; Secure; HttpOnly"
    names = [NAME, "__Host-id", "id", NAME.lower(), f"\xe2\x80\x80{NAME}", f"\xc2\xa0{NAME}"]
    tab.goto(attacker(*(f"{name}={mallory.id}{flags}" for name in names)))
    assert NAME not in place.cookies(profile)
    shown = place.show(tab, "/count")
    assert (shown["owner"], shown["fields"]) == (None, {"n": 1})
    assert place.show(tab, "/login?owner=alice")["owner"] == "alice"
    assert mallory.alive()
    assert place.show(tab)["owner"] == "alice"


def test_what_a_sibling_tosses_logs_nobody_out(
    place: Place, attacker: Callable[..., str], profile: Any, tab: Any
) -> None:
    """COK-08: the standard library's parser stops at the first of these; all of them are sent."""
    place.show(tab, "/login?owner=alice")
    odd = ["\xe2\x80\x80a=1", "=__Host-f", 'q="a', "$Version=1", f"\xe2\x80\x80{NAME}=x", "a=\xff"]
    tab.goto(attacker(*(f"{cookie}; Domain=shop.example; Path=/; Secure" for cookie in odd)))
    assert len(profile.cookies(place.url("/"))) >= 5
    assert place.show(tab)["owner"] == "alice"


@pytest.mark.parametrize("path", ["/", "/show"], ids=["after ours", "before ours"])
def test_a_duplicate_gives_no_session(
    make_place: Callable[..., Place],
    attacker: Callable[..., str],
    profile: Any,
    tab: Any,
    recorder: EventRecorder,
    path: str,
) -> None:
    """COK-07: a site that gives up `__Host-` for `__Secure-` lets its siblings toss a cookie of the same name.
    Which one comes first the attacker decides; neither counts."""
    place = make_place(cookie=Cookie("__Secure-id"))
    mallory = place.store.create(owner="mallory")
    assert place.show(tab, "/login?owner=alice")["owner"] == "alice"
    tab.goto(attacker(f"__Secure-id={mallory.id}; Domain=shop.example; Path={path}; Secure"))
    assert len(profile.cookies(place.url("/show"))) == 2
    recorder.take()
    assert place.show(tab)["owner"] is None
    assert "duplicate_cookie" in recorder.kinds
    profile.clear_cookies(domain=".shop.example")
    assert place.show(tab)["owner"] == "alice"


def test_a_log_out_takes_the_cookie_away(place: Place, profile: Any, tab: Any) -> None:
    """COK-06, LIF-11."""
    place.show(tab, "/login?owner=alice")
    id = place.cookies(profile)[NAME]
    assert place.show(tab, "/logout")["owner"] is None
    assert place.cookies(profile) == {}
    assert place.store.load(id) is None


# ---- requests of other sites ----

SUBMIT = """url => {
    const form = document.createElement("form");
    form.method = "post";
    form.action = url;
    document.body.append(form);
    form.submit();
}"""


@pytest.mark.parametrize("host", ["sibling.shop.example", "evil.example"])
def test_a_form_of_another_site(
    place: Place, attacker: Callable[..., str], tab: Any, recorder: EventRecorder, host: str
) -> None:
    """COK-13: to the sibling domain SameSite makes no difference, its request has the cookie."""
    place.show(tab, "/login?owner=alice")
    for path in ("/logout", "/login?owner=mallory"):
        tab.goto(attacker(host=host))
        recorder.take()
        with tab.expect_navigation() as navigation:
            tab.evaluate(SUBMIT, place.url(path))
        assert navigation.value.status == 403
        assert recorder.kinds == ["csrf_refused"]
    assert place.show(tab)["owner"] == "alice"
    with tab.expect_navigation() as navigation:  # the same form, of the site itself
        tab.evaluate(SUBMIT, place.url("/logout"))
    assert navigation.value.json()["owner"] is None


def test_a_link_from_another_site_finds_the_session(place: Place, attacker: Callable[..., str], tab: Any) -> None:
    """The reason for SameSite=Lax."""
    place.show(tab, "/login?owner=alice")
    tab.goto(attacker(host="evil.example"))
    with tab.expect_navigation() as navigation:
        tab.evaluate("url => { location.href = url }", place.url("/show"))
    assert navigation.value.json()["owner"] == "alice"


# ---- renewal ----


def test_the_redirect_after_a_log_in_sees_the_session(place: Place, profile: Any, tab: Any) -> None:
    for owner in ("alice", "bob"):
        before = place.cookies(profile)
        response = tab.goto(place.url(f"/login?owner={owner}"))
        assert response.url.endswith("/show")
        assert response.json()["owner"] == owner
        assert place.cookies(profile) != before


def test_a_lost_response_to_a_renewal_logs_nobody_out(
    make_place: Callable[..., Place], profile: Any, tab: Any, recorder: EventRecorder
) -> None:
    """LIF-08: the server renewed the id, the browser never heard of it; the old id goes on, and brings the same
    new one."""
    armed: list[bool] = []

    def losing(app: Any) -> Any:
        def outer(environ: dict[str, Any], start_response: Any) -> Any:
            sets: list[bool] = []

            def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
                sets.append(any(name == "Set-Cookie" for name, _ in headers))
                return start_response(status, headers, exc_info)

            body = app(environ, start)
            if armed and any(sets):
                armed.pop()
                environ["test.connection"].shutdown(socket.SHUT_RDWR)
            return body

        return outer

    place = make_place(rotate_every=100, around=losing)
    place.show(tab, "/login?owner=alice")
    old = place.cookies(profile)
    advance(place.store, 101)
    armed.append(True)
    recorder.take()
    with contextlib.suppress(Exception):  # a browser may ask again by itself
        tab.goto(place.url("/show"))
    assert armed == []
    assert recorder.kinds == ["rotated"]
    tab.close()  # its error page is still being loaded
    tab = profile.new_page()
    for _ in range(3):
        assert place.show(tab)["owner"] == "alice"
    assert place.cookies(profile).keys() == {NAME}
    assert place.cookies(profile) != old
    advance(place.store, 11)
    assert place.show(tab)["owner"] == "alice"
    assert recorder.kinds == ["rotated"]


def test_two_tabs_that_race_through_a_renewal(place: Place, profile: Any, tab: Any, recorder: EventRecorder) -> None:
    """CON-03, LIF-08, LIF-09: each tab writes fields of its own, all at once, while the id is renewed."""
    other = profile.new_page()
    place.show(tab, "/login?owner=alice")
    place.show(other)
    begin = "names => { window.racing = Promise.all(names.map(name => fetch(`/set?${name}=1`).then(r => r.status))) }"
    for lap in range(3):
        advance(place.store, 101)
        tab.evaluate(begin, [f"a{lap}{number}" for number in range(8)])
        other.evaluate(begin, [f"b{lap}{number}" for number in range(8)])
        assert tab.evaluate("window.racing") + other.evaluate("window.racing") == [200] * 16
    names = {f"{side}{lap}{number}" for side in "ab" for lap in range(3) for number in range(8)}
    shown = place.show(tab)
    assert (shown["owner"], set(shown["fields"])) == ("alice", names)
    assert place.show(other)["owner"] == "alice"
    assert recorder.kinds.count("rotated") == 3


# ---- plain http ----


def test_http_on_loopback(store: sessile.Store, serve_here: Callable[..., Any], profile: Any, tab: Any) -> None:
    """COK-02, COK-12: for development a cookie without Secure, on a loopback host; elsewhere no session."""
    with pytest.warns(RuntimeWarning, match="insecure_dev"):
        server = serve_here(store, https=None, insecure_dev=True)
    place = Place(store, server.port, "localhost", "http")
    assert place.show(tab, "/login?owner=alice")["owner"] == "alice"
    (cookie,) = profile.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == ("id", True, False, "Lax")
    assert place.show(tab, "/logout")["owner"] is None
    assert profile.cookies() == []
    elsewhere = Place(store, server.port, "shop.example", "http")
    assert tab.goto(elsewhere.url("/count")).status == 500
    assert store.stats().sessions == 0


def test_a_cookie_of_https_is_not_sent_over_http(
    place: Place, serve_here: Callable[..., Any], profile: Any, tab: Any
) -> None:
    """COK-12: and what is sent there opens nothing."""
    place.show(tab, "/login?owner=alice")
    with pytest.warns(RuntimeWarning, match="insecure_dev"):
        server = serve_here(place.store, https=None, insecure_dev=True)
    plain = Place(place.store, server.port, scheme="http")
    assert plain.show(tab)["owner"] is None
    assert place.show(tab)["owner"] == "alice"


# ---- the demo ----

POLL = 6_000  # milliseconds: the page asks each five seconds


@pytest.fixture
def shop(demo: Callable[[str], Any], serve_app: Callable[..., int], certificate: Certificate) -> Place:
    """The demo over https, in this process."""
    with pytest.warns(RuntimeWarning, match="insecure_dev"):
        app = demo("wsgi").app
    return Place(demo("shop").store, serve_app(app, certificate.context))


def log_in(place: Place, tab: Any, name: str = "alice") -> None:
    tab.goto(place.url("/login"))
    tab.get_by_label("Name").fill(name)
    tab.get_by_label("Password").fill("sesame")
    tab.get_by_role("button", name="Log in").click()
    tab.get_by_text(f"Logged in as {name}").wait_for()


def put(tab: Any, good: str) -> None:
    tab.get_by_role("button", name=f"Put {good} into the cart").click()


@pytest.mark.parametrize("server", ["gunicorn", "uvicorn"])
def test_the_demo_under_a_real_server(
    serve_demo: Callable[..., int], certificate: Certificate, browser: Any, profile: Any, tab: Any, server: str
) -> None:
    """The same pages through WSGI and ASGI: a cart, a log-in, two devices, a log-out of the other one."""
    port = serve_demo(server, certificate.key_file, certificate.file)
    place = Place(None, port)  # type: ignore[arg-type] (the table is the server's)
    tab.goto(place.url("/"))
    put(tab, "apple")
    log_in(place, tab)
    tab.goto(place.url("/cart"))
    assert tab.get_by_role("row", name="apple").inner_text().split() == ["apple", "1"]
    with contextlib.closing(browser.new_context(user_agent="Mozilla/5.0 (iPhone) Safari")) as phone:
        there = phone.new_page()
        log_in(place, there)
        tab.goto(place.url("/devices"))
        assert tab.get_by_role("row").count() == 3
        tab.get_by_role("button", name="Log out Safari on iPhone").click()
        tab.get_by_role("row", name="Safari").wait_for(state="detached")
        there.goto(place.url("/devices"))
        assert there.url.endswith("/login")
    tab.get_by_role("button", name="Log out", exact=True).click()
    tab.get_by_text("You have logged out").wait_for()
    assert place.cookies(profile) == {}


def test_the_cart_survives_parallel_tabs(shop: Place, profile: Any, tab: Any) -> None:
    """CON-03: both tabs press the same buttons, and the id is renewed meanwhile."""
    log_in(shop, tab)
    other = profile.new_page()
    other.goto(shop.url("/"))
    press = """goods => { window.pressing = Promise.all(goods.map(good =>
        fetch("/cart", {method: "POST", body: new URLSearchParams({good})}))).then(all => all.map(r => r.status)) }"""
    goods = ["apple", "apple", "bread", "fig", "fig", "fig"]
    for _ in range(2):
        advance(shop.store, 61)  # the demo renews each minute
        for each in (tab, other):
            each.evaluate(press, goods)
        for each in (tab, other):
            assert each.evaluate("window.pressing") == [200] * len(goods)
    found = tab.goto(shop.url("/me")).json()
    assert found == {"owner": "alice", "cart": {"apple": 8, "bread": 4, "fig": 12}}


def test_the_back_button_shows_no_private_page(shop: Place, tab: Any) -> None:
    """COK-10: after a log-out; also of a log-out in another tab."""
    log_in(shop, tab)
    put(tab, "honey")
    for page in ("/devices", "/cart"):
        tab.goto(shop.url(page))
    tab.get_by_role("button", name="Log out", exact=True).click()
    tab.get_by_text("You have logged out").wait_for()
    for expected in ("It is empty", "Log in", "It is empty"):  # the cart, the devices, the cart
        tab.go_back()
        tab.get_by_text(expected).first.wait_for()
        text = tab.locator("body").inner_text()
        assert "alice" not in text
        assert "honey" not in text.replace("Put honey into", "")
        assert "Ends" not in text


def test_the_countdown_asks_before_the_end(shop: Place, tab: Any) -> None:
    """LIF-01: the page's poll prolongs nothing, the button and the Escape key do; at the end it says so."""
    tab.clock.install()
    log_in(shop, tab)
    dialog = tab.get_by_role("dialog", name="Are you still there?")
    (info,) = shop.store.sessions("alice")

    def ends() -> Any:
        return shop.store.sessions("alice")[0].expires

    for prolong in (
        lambda: tab.get_by_role("button", name="Stay logged in").click(),
        lambda: tab.keyboard.press("Escape"),
    ):
        advance(shop.store, 130)  # of three minutes; it asks when there is less than one
        before = ends()
        with tab.expect_response("**/remaining"):
            tab.clock.fast_forward(POLL)
        dialog.wait_for()
        assert ends() == before
        with tab.expect_response("**/stay"):
            prolong()
        dialog.wait_for(state="hidden")
        assert ends() > before
    advance(shop.store, 181)
    tab.clock.fast_forward(POLL)
    tab.wait_for_url("**/logged-out")
    assert info.handle not in [each.handle for each in shop.store.sessions()]


PAGES = ("/", "/cart", "/login", "/logged-out", "/cart?full", "/figures", "/devices", "/no", "the dialog", "the problem")


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_every_page_is_accessible(shop: Place, browser: Any, look: str) -> None:
    """Names, roles, contrast and order, as far as axe-core can tell; and nothing wider than a phone."""
    axe = need("axe_playwright_python.sync_playwright").Axe()
    options: dict[str, Any] = {
        "light": {"color_scheme": "light"},
        "dark": {"color_scheme": "dark"},
        "phone": {"viewport": {"width": 360, "height": 740}},
    }[look]
    with contextlib.closing(browser.new_context(**options)) as profile:
        tab = profile.new_page()
        tab.clock.install()
        for page in PAGES:
            if page == "the problem":
                profile.clear_cookies()
                tab.goto(shop.url("/login"))
                tab.get_by_label("Name").fill("alice")
                tab.get_by_label("Password").fill("guess")
                tab.get_by_role("button", name="Log in").click()
                tab.get_by_role("alert").wait_for()
            elif page == "the dialog":
                advance(shop.store, 130)
                tab.clock.fast_forward(POLL)
                tab.get_by_role("dialog").wait_for()
            else:
                tab.goto(shop.url(page))
            found = axe.run(tab)
            assert found.violations_count == 0, f"{page}: {found.generate_report()}"
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), page
            picture(tab, f"{look}-{PAGES.index(page)}")
            if page == "/logged-out":
                log_in(shop, tab)
                put(tab, "kiwi")
                tab.get_by_role("row", name="kiwi").wait_for()


def picture(tab: Any, name: str) -> None:
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        tab.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
