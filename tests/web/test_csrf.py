"""Which requests pass as the site's own, and the masked token of a session."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sessile.web import csrf
from sessile.web.csrf import Origin, cross_site_allowed, parse_origin, parse_trusted_origins

untimed = settings(deadline=None)

KEY = bytes(range(32))
HANDLE = "0123456789abcdef"
TRUSTED = parse_trusted_origins(
    ["https://app.example", "https://admin.example:8443", "capacitor://localhost"]
)


def allowed(
    method: str = "POST",
    site: str | None = None,
    origin: str | None = None,
    host: str | None = "shop.example",
    scheme: str = "https",
    websocket: bool = False,
) -> bool:
    return cross_site_allowed(method, site, origin, host, scheme, TRUSTED, websocket)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_safe_methods_pass_from_anywhere(method: str) -> None:
    """COK-13."""
    assert allowed(method, "cross-site", "https://evil.example")
    assert allowed(method, None, "null", host=None)


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "PATCH", "DELETE", "QUERY", "TRACE", "CONNECT", "get", "", "GET "]
)
def test_every_other_method_is_unsafe(method: str) -> None:
    """COK-13."""
    assert not allowed(method, "cross-site", "https://evil.example")
    assert not allowed(method, None, "https://evil.example")
    assert allowed(method, "same-origin")


@pytest.mark.parametrize("method", ["GET", "CONNECT"])
def test_a_websocket_handshake_is_unsafe(method: str) -> None:
    """COK-16."""
    assert not allowed(method, "cross-site", "https://evil.example", websocket=True)
    assert not allowed(method, None, "https://evil.example", scheme="wss", websocket=True)
    assert not allowed(method, None, "null", scheme="ws", websocket=True)
    assert allowed(method, "same-origin", "https://shop.example", scheme="wss", websocket=True)
    assert allowed(method, None, "https://shop.example", scheme="wss", websocket=True)
    assert allowed(method, None, "http://shop.example", scheme="ws", websocket=True)
    assert not allowed(method, None, "http://shop.example", scheme="wss", websocket=True)
    assert allowed(method, None, "https://app.example", scheme="wss", websocket=True)
    assert allowed(method, None, None, scheme="wss", websocket=True)


@pytest.mark.parametrize(
    ("site", "origin", "expected"),
    [
        ("same-origin", None, True),
        ("same-origin", "https://shop.example", True),
        ("same-origin", "https://evil.example", True),
        (" same-origin\t", None, True),
        ("none", None, True),
        ("none", "null", True),
        ("same-site", None, False),
        ("same-site", "https://blog.shop.example", False),
        ("same-site", "https://shop.example", False),
        ("same-site", "https://app.example", True),
        ("cross-site", None, False),
        ("cross-site", "https://evil.example", False),
        ("cross-site", "https://shop.example", False),
        ("cross-site", "https://app.example", True),
        ("cross-site", "HTTPS://APP.example:443", True),
        ("cross-site", "https://admin.example:8443", True),
        ("cross-site", "https://admin.example", False),
        ("cross-site", "http://app.example", False),
        ("cross-site", "https://app.example:8443", False),
        ("cross-site", "https://x.app.example", False),
        ("cross-site", "https://app.example.evil.example", False),
        ("cross-site", "https://app.example@evil.example", False),
        ("cross-site", "capacitor://localhost", True),
        ("cross-site", "null", False),
        ("cross-site", "", False),
        ("", None, False),
        ("Same-Origin", None, False),
        ("same-origin, cross-site", None, False),
        ("cross-site,same-origin", "https://evil.example", False),
        ("of-the-future", None, False),
        ("of-the-future", "https://app.example", True),
    ],
)
def test_sec_fetch_site_decides_where_it_is(site: str, origin: str | None, expected: bool) -> None:
    """COK-13."""
    assert allowed(site=site, origin=origin) is expected


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "expected"),
    [
        ("https://shop.example", "shop.example", "https", True),
        ("https://SHOP.example", "Shop.Example", "https", True),
        ("https://shop.example:443", "shop.example", "https", True),
        ("https://shop.example", "shop.example:443", "https", True),
        ("https://shop.example:8443", "shop.example:8443", "https", True),
        ("https://shop.example:8443", "shop.example", "https", False),
        ("https://shop.example", "shop.example:8443", "https", False),
        ("https://shop.example", " shop.example\t", "https", True),
        ("http://localhost:8000", "localhost:8000", "http", True),
        ("http://localhost", "localhost:80", "http", True),
        ("http://localhost:8000", "localhost:8001", "http", False),
        ("http://localhost", "127.0.0.1", "http", False),
        ("http://[::1]:8000", "[::1]:8000", "http", True),
        ("http://[::1]", "[0:0:0:0:0:0:0:1]", "http", True),
        ("http://[::1]", "[::2]", "http", False),
        ("http://[::1", "[::1", "http", False),
        ("http://[::1::]", "[::1::]", "http", False),
        # TLS ends before the server, which therefore takes the request for plain http.
        ("https://shop.example", "shop.example", "http", True),
        ("https://shop.example:8443", "shop.example:8443", "http", True),
        # Whoever sits on the wire can make up a page of http://shop.example.
        ("http://shop.example", "shop.example", "https", False),
        ("http://shop.example:443", "shop.example", "https", False),
        ("https://evil.example", "shop.example", "https", False),
        ("https://shop.example.evil.example", "shop.example", "https", False),
        ("https://evil-shop.example", "shop.example", "https", False),
        ("https://shop.example.", "shop.example", "https", False),
        ("https://blog.shop.example", "shop.example", "https", False),
        ("https://example", "shop.example", "https", False),
        ("https://shop.example@evil.example", "shop.example", "https", False),
        ("https://evil.example#@shop.example", "shop.example", "https", False),
        ("https://evil.example?shop.example", "shop.example", "https", False),
        ("https://evil.example\\@shop.example", "shop.example", "https", False),
        ("https://user@shop.example", "shop.example", "https", False),
        ("https://shop.example/", "shop.example", "https", False),
        ("https://shop.example/path", "shop.example", "https", False),
        ("https://shop.example:", "shop.example", "https", False),
        ("https://shop.example:0", "shop.example", "https", False),
        ("https://shop.example:65979", "shop.example", "https", False),
        ("https://shop.example:443443", "shop.example", "https", False),
        ("https://shop.example:٤٤٣", "shop.example", "https", False),
        ("https://shop%2Eexample", "shop.example", "https", False),
        ("https://shop.example\n", "shop.example", "https", False),
        ("https://shop.example\0", "shop.example", "https", False),
        ("https://shöp.example", "shöp.example", "https", False),
        ("https://shop.example https://evil.example", "shop.example", "https", False),
        ("https://shop.example,https://shop.example", "shop.example", "https", False),
        ("https://shop.example", "shop.example,shop.example", "https", False),
        ("https://shop.example", "shop.example/", "https", False),
        ("https://shop.example", "user@shop.example", "https", False),
        ("https://shop.example", "", "https", False),
        ("https://shop.example", None, "https", False),
        ("//shop.example", "shop.example", "https", False),
        ("shop.example", "shop.example", "https", False),
        ("ftp://shop.example", "shop.example", "https", False),
        ("null", "null", "https", False),
        ("null", None, "https", False),
        ("", "", "https", False),
        ("https://", "", "https", False),
        ("https://app.example", "shop.example", "https", True),
        ("https://app.example", None, "https", True),
        ("capacitor://localhost", "shop.example", "https", True),
        ("capacitor://localhost:1", "shop.example", "https", False),
    ],
)
def test_without_sec_fetch_site_origin_must_be_host(
    origin: str, host: str | None, scheme: str, expected: bool
) -> None:
    """COK-13."""
    assert allowed(origin=origin, host=host, scheme=scheme) is expected


def test_without_both_it_is_no_browser() -> None:
    """COK-13."""
    assert allowed(site=None, origin=None)
    assert allowed(site=None, origin=None, host=None, scheme="http")


header_text = st.one_of(st.none(), st.text(st.characters(max_codepoint=255), max_size=40))


@untimed
@given(
    st.text(max_size=8),
    header_text,
    header_text,
    header_text,
    st.sampled_from(["http", "https", "ws"]),
    st.booleans(),
)
@example("POST", None, "https://[", "[", "https", False)
def test_no_field_raises_and_only_a_trusted_or_own_origin_passes(
    method: str, site: str | None, origin: str | None, host: str | None, scheme: str, websocket: bool
) -> None:
    """COK-13."""
    passes = cross_site_allowed(method, site, origin, host, scheme, frozenset(), websocket)
    if (
        passes
        and site is None
        and origin is not None
        and (websocket or method not in ("GET", "HEAD", "OPTIONS"))
    ):
        assert host is not None
        assert (
            re.sub(r".*://", "", origin.strip(" \t").lower()).split(":")[0]
            == host.strip(" \t").lower().split(":")[0]
        )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://app.example", Origin("https", "app.example", 443)),
        ("HTTPS://App.Example:443", Origin("https", "app.example", 443)),
        ("http://localhost:5173", Origin("http", "localhost", 5173)),
        ("http://127.0.0.1", Origin("http", "127.0.0.1", 80)),
        ("https://[2001:DB8:0::1]:8443", Origin("https", "[2001:db8::1]", 8443)),
        ("chrome-extension://abcdefgh", Origin("chrome-extension", "abcdefgh", None)),
        ("https://xn--mnchen-3ya.example", Origin("https", "xn--mnchen-3ya.example", 443)),
        ("null", None),
    ],
)
def test_origins_have_one_spelling(text: str, expected: Origin | None) -> None:
    assert parse_origin(text) == expected


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("*", "list each origin"),
        ("https://*.app.example", "list each origin"),
        ("https://*", "list each origin"),
        ("null", "'https://app.example'"),
        ("", "'https://app.example'"),
        ("app.example", "'https://app.example'"),
        ("app.example:443", "'https://app.example'"),
        ("//app.example", "'https://app.example'"),
        ("https://my.example/", "'https://my.example'"),
        ("https://my.example/path", "'https://my.example'"),
        ("https://my.example?x", "'https://my.example'"),
        ("https://user@my.example", "'https://app.example'"),
        ("https://my.example:99999", "'https://app.example'"),
        ("https://münchen.example", "ASCII"),
        (" https://my.example", "use one like"),
        ("https://my.example\n", "use one like"),
    ],
)
def test_trusted_origins_that_cannot_be_meant_are_refused(text: str, remedy: str) -> None:
    """COK-13."""
    with pytest.raises(ValueError, match="trusted origin") as caught:
        parse_trusted_origins(["https://app.example", text])
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    "origins", ["https://app.example", b"https://app.example", [b"https://app.example"], [None]]
)
def test_trusted_origins_of_another_type_are_refused(origins: Any) -> None:
    with pytest.raises(TypeError, match=r"\('|\(b'|must be a str"):
        parse_trusted_origins(origins)


def test_no_trusted_origins_is_the_default() -> None:
    assert parse_trusted_origins(()) == frozenset()


@dataclass
class FakeSession:
    handle: str | None = HANDLE
    key: bytes = KEY

    def _csrf_key(self) -> bytes:
        return self.key


def test_a_token_is_a_masked_mac_of_the_handle() -> None:
    """COK-13."""
    text = csrf.token(FakeSession())
    assert re.fullmatch(r"[A-Za-z0-9_-]{86}", text)
    octets = base64.urlsafe_b64decode(text + "==")
    mac = bytes(a ^ b for a, b in zip(octets[:32], octets[32:], strict=True))
    assert mac == hmac.new(KEY, b"csrf" + HANDLE.encode(), hashlib.sha256).digest()
    assert csrf.unmask(text) == mac


def test_a_token_belongs_to_its_session_alone() -> None:
    """COK-13."""
    text = csrf.token(FakeSession())
    assert csrf.check(FakeSession(), text)
    assert not csrf.check(FakeSession(handle="0123456789abcdee"), text), "log-in gives a new handle"
    assert not csrf.check(FakeSession(key=bytes(32)), text), "another store"
    assert not csrf.check(FakeSession(handle=None), text), "not stored"


def test_each_response_masks_it_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """COK-13."""
    texts = [csrf.token(FakeSession()) for _ in range(50)]
    assert len(set(texts)) == 50
    assert all(csrf.check(FakeSession(), text) for text in texts)
    for column in zip(*texts, strict=True):
        assert len(set(column)) > 1, "a character that never changes could be guessed bit by bit (BREACH)"
    monkeypatch.setattr("os.urandom", lambda size: bytes(size))
    assert csrf.token(FakeSession()) == csrf.token(FakeSession()), "the pad is the system's randomness"


def test_a_token_needs_a_stored_session() -> None:
    with pytest.raises(ValueError, match=r"save\(\)"):
        csrf.token(FakeSession(handle=None))


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 octets"):
        csrf.token_for(b"", HANDLE)
    with pytest.raises(ValueError, match="32 octets"):
        csrf.token_matches(KEY[:-1], HANDLE, None)


def test_the_comparison_takes_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """COK-13: whether a well-formed token matches is decided by hmac.compare_digest and by nothing else."""
    seen = []

    def compare(left: bytes, right: bytes) -> bool:
        seen.append((len(left), len(right)))
        return True

    monkeypatch.setattr("hmac.compare_digest", compare)
    assert csrf.token_matches(KEY, HANDLE, csrf.token_for(bytes(32), HANDLE))
    assert seen == [(32, 32)]


GOOD = csrf.token_for(KEY, HANDLE)
NO_TOKENS = [
    None,
    "",
    "A",
    "A" * 85,
    "A" * 87,
    GOOD + "==",
    GOOD[:-1],
    GOOD + "A",
    " " + GOOD[1:],
    GOOD[:-1] + "\n",
    GOOD[:-1] + "é",
    GOOD[:-1] + "\uff10",
    GOOD[:-1] + "=",
    GOOD[:-1] + "+",
    GOOD[:40] + "/" + GOOD[41:],
    GOOD[:40] + "\ud800" + GOOD[41:],
    "A" * (1 << 20),
]


@pytest.mark.parametrize("text", NO_TOKENS, ids=lambda text: ascii(text)[:24])
def test_what_is_no_token_does_not_match(text: str | None) -> None:
    """COK-13."""
    assert csrf.unmask(text) is None
    assert not csrf.check(FakeSession(), text)


def test_other_types_do_not_match() -> None:
    """COK-13."""
    for thing in (GOOD.encode(), 5, [GOOD], object()):
        assert not csrf.check(FakeSession(), thing)  # type: ignore[arg-type]


def test_a_token_has_one_spelling() -> None:
    """Of the last character's six bits four are spare: fifteen other characters decode to the same octets."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    matching = [last for last in alphabet if csrf.check(FakeSession(), GOOD[:-1] + last)]
    assert matching == [GOOD[-1]]


@untimed
@given(st.binary(min_size=32, max_size=32))
def test_unmask_undoes_mask(mac: bytes) -> None:
    assert csrf.unmask(csrf.mask(mac)) == mac


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_mac_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32 octets"):
        csrf.mask(bytes(size))


@untimed
@given(st.one_of(st.text(max_size=100), st.text("ABCabc012-_+/=", min_size=86, max_size=86)))
def test_unmask_raises_on_no_str(text: str) -> None:
    found = csrf.unmask(text)
    assert found is None or len(found) == 32


@untimed
@given(st.integers(0, 85), st.integers(0, 5))
def test_a_token_with_one_bit_changed_does_not_match(at: int, bit: int) -> None:
    """COK-13."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    changed = alphabet[alphabet.index(GOOD[at]) ^ (1 << bit)]
    assert not csrf.check(FakeSession(), GOOD[:at] + changed + GOOD[at + 1 :])
