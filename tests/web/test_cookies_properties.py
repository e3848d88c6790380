"""Cookie and Header on any input: against a slow parser, and the shape of what they send."""

from __future__ import annotations

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sessile.web import Cookie, Header
from sessile.web.cookies import Finding, insecure_development

untimed = settings(deadline=None)

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
COOKIES = [
    Cookie(),
    Cookie("__Host-sid"),
    Cookie("__Secure-id", domain="shop.example", path="/a"),
    insecure_development(Cookie()),
]
NAMES = [cookie.name.encode() for cookie in COOKIES]
NEEDLES = [name + b"=" for name in NAMES]

ids = st.text(ALPHABET, min_size=32, max_size=32)
octets = st.binary(max_size=6)
values = st.one_of(
    ids.map(str.encode),
    ids.map(str.encode).flatmap(
        lambda good: st.sampled_from([good[:-1], good + b"A", b'"' + good + b'"', good + b"=", good + b"\0"])
    ),
    octets,
)
blanks = st.sampled_from([b"", b"", b" ", b"\t", b" \t ", b"\x0b", b"\xa0", b"\xe2\x80\x80", b"\n"])
names = st.one_of(
    st.sampled_from([*NAMES, *NAMES, b"a", b"$Version", b"", b"x" + NAMES[0], NAMES[0].lower()]), octets
)
pairs = st.builds(
    lambda *parts: b"".join(parts),
    blanks,
    names,
    blanks,
    st.sampled_from([b"=", b"=", b"=", b"", b"=="]),
    blanks,
    values,
    blanks,
)
separators = st.sampled_from([b"; ", b"; ", b";", b";;", b" ;\t", b",", b""])
built = st.lists(st.tuples(pairs, separators), max_size=6).map(lambda parts: b"".join(map(b"".join, parts)))
from_tokens = st.lists(
    st.sampled_from(
        [*NAMES, *NEEDLES, b"=", b";", b" ", b"\t", b'"', b"V" * 32, b"a", b"\\", b"\0", b"\xff"]
    ),
    max_size=40,
).map(b"".join)
headers = st.one_of(built, from_tokens, st.binary(max_size=200))


def reference(name: bytes, header: bytes) -> str | Finding:
    """What find gives, octet by octet, with nothing from the standard library that could decode or strip."""
    if len(header) > 16 * 1024:
        return Finding.OVER_LIMITS
    segments: list[list[int]] = [[]]
    for octet in header:
        if octet == 0x3B:
            segments.append([])
        else:
            segments[-1].append(octet)
    if len(segments) > 200:
        return Finding.OVER_LIMITS
    found = []
    for segment in segments:
        while segment and segment[0] in (0x20, 0x09):
            del segment[0]
        while segment and segment[-1] in (0x20, 0x09):
            del segment[-1]
        if 0x3D in segment:
            equals = segment.index(0x3D)
            if bytes(segment[:equals]) == name:
                found.append(segment[equals + 1 :])
    if not found:
        return Finding.ABSENT
    if len(found) > 1:
        return Finding.DUPLICATE
    characters = [chr(octet) for octet in found[0]]
    if len(characters) == 32 and all(character in ALPHABET for character in characters):
        return "".join(characters)
    return Finding.MALFORMED


@untimed
@given(st.sampled_from(COOKIES), headers)
@example(COOKIES[0], b"__Host-Http-id=" + b"V" * 32)
@example(COOKIES[0], (b"__Host-Http-id=" + b"V" * 32) * 2)
@example(COOKIES[0], b" " * 500 + b"__Host-Http-id=" + b"V" * 32 + b"\t" * 500)
@example(COOKIES[0], b";" * 199 + b"__Host-Http-id=" + b"V" * 32)
@example(COOKIES[0], b";" * 200 + b"__Host-Http-id=" + b"V" * 32)
@example(COOKIES[3], b"uid=1; id=" + b"V" * 32)
def test_find_agrees_with_a_slow_parser(cookie: Cookie, header: bytes) -> None:
    """COK-08."""
    expected = reference(cookie.name.encode(), header)
    assert cookie.find(header) == expected
    assert cookie.find(header.decode("latin-1")) == expected


@untimed
@given(headers, st.integers(1, 2000), st.integers(0, 3))
def test_find_agrees_near_the_limits(header: bytes, times: int, cookie: int) -> None:
    """COK-08."""
    repeated = header * times
    assert COOKIES[cookie].find(repeated) == reference(NAMES[cookie], repeated)


@untimed
@given(
    st.one_of(
        st.text(max_size=300),
        st.text(st.characters(), max_size=20).map(lambda t: t + "; __Host-Http-id=" + t),
    )
)
def test_find_raises_on_no_str(header: str) -> None:
    """SID-07."""
    assert isinstance(Cookie().find(header), (str, Finding))
    assert isinstance(Header().find(header), (str, Finding))


@untimed
@given(st.binary(max_size=300))
def test_header_finds_ids_and_nothing_else(header: bytes) -> None:
    """SID-07."""
    found = Header().find(header)
    assert found == Header().find(header.decode("latin-1"))
    if isinstance(found, str):
        assert header.strip(b" \t") == found.encode()
        assert re.fullmatch(r"[A-Za-z0-9_-]{32}", found)


@untimed
@given(st.sampled_from(COOKIES), ids, st.one_of(st.none(), st.integers(), st.floats(allow_nan=False)))
def test_issue_is_one_header_and_found_again(cookie: Cookie, id: str, max_age: float | None) -> None:
    """COK-09."""
    value = cookie.issue(id, max_age)
    assert re.fullmatch(r"[!-~]+(?:; [!-~]+)*", value), "no CR, no LF, no other control, one field"
    pair, *attributes = value.split("; ")
    assert pair == f"{cookie.name}={id}"
    assert len(attributes) == len({attribute.split("=")[0] for attribute in attributes})
    assert "HttpOnly" in attributes
    assert ("Max-Age" in value) == (max_age is not None)
    assert cookie.find(pair) == id
    assert cookie.find(f"a=b; {pair}; c=d".encode()) == id


@untimed
@given(st.text(max_size=40))
@example("V" * 31 + "\n")
@example("V" * 32 + "\n")
def test_nothing_but_an_id_is_issued(value: str) -> None:
    """COK-09."""
    for carrier in (Cookie(), Header()):
        try:
            issued = carrier.issue(value)
        except ValueError:
            continue
        assert re.fullmatch(r"[A-Za-z0-9_-]{32}", value)
        assert value in issued


@untimed
@given(st.text(max_size=30), st.one_of(st.none(), st.text(max_size=20)), st.text(max_size=20))
@example("s\r\nSet-Cookie: a=b", None, "/")
@example("s", "shop.example\r\nX: y", "/")
@example("s", None, "/;Domain=evil.example")
def test_no_option_escapes_from_its_place(name: str, domain: str | None, path: str) -> None:
    """COK-09: A cookie that can be constructed has exactly the attributes that were asked for."""
    try:
        cookie = Cookie("__Secure-" + name, domain=domain, path=path)
    except ValueError:
        return
    expected = [f"__Secure-{name}={'V' * 32}"]
    if domain is not None:
        expected.append(f"Domain={domain}")
    assert cookie.issue("V" * 32).split("; ") == [
        *expected,
        f"Path={path}",
        "Secure",
        "HttpOnly",
        "SameSite=Lax",
    ]
    assert re.fullmatch(r"[ -~]+", cookie.issue("V" * 32) + cookie.clear())
