"""Cookie and Header: what is found in a header, what is sent, and which settings are refused."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from sessile.web import Cookie, Header
from sessile.web.cookies import Carrier, Finding, insecure_development

NAME = b"__Host-Http-id"
V = b"AZaz09-_AZaz09-_AZaz09-_AZaz09-_"
W = b"W" * 32
PAIR = NAME + b"=" + V
ID = V.decode()

ABSENT, MALFORMED = Finding.ABSENT, Finding.MALFORMED
DUPLICATE, OVER_LIMITS = Finding.DUPLICATE, Finding.OVER_LIMITS

# What a browser or an attacker sends, and what it means. The first column is the requirement.
VECTORS: list[tuple[str, bytes, str | Finding]] = [
    ("COK-08 alone", PAIR, ID),
    ("COK-08 between others", b"a=1; " + PAIR + b"; b=2", ID),
    ("COK-08 no blank after the semicolon", b"a=1;" + PAIR, ID),
    ("COK-08 no blank, others behind", PAIR + b";b=2", ID),
    ("COK-08 tab before", b"\t" + PAIR, ID),
    ("COK-08 blanks around", b"a=1;\t  " + PAIR + b" \t ; b=2", ID),
    ("COK-08 blanks to the end", PAIR + b"\t ", ID),
    ("COK-08 empty pairs", b";; ;" + PAIR + b";;", ID),
    ("COK-08 one octet before", b";" + PAIR, ID),
    ("COK-08 no header", b"", ABSENT),
    ("COK-08 others only", b"a=1; b=2", ABSENT),
    ("COK-08 blank before the equals sign is part of the name", NAME + b" =" + V, ABSENT),
    ("COK-08 tab before the equals sign is part of the name", NAME + b"\t=" + V, ABSENT),
    ("COK-08 blanks around the equals sign", b"\t" + NAME + b" = " + V, ABSENT),
    ("COK-08 such a pair is another cookie", NAME + b" =" + W + b"; " + PAIR, ID),
    ("COK-08 blank after the equals sign is part of the value", NAME + b"= " + V, MALFORMED),
    ("COK-07 twice the same", PAIR + b"; " + PAIR, DUPLICATE),
    ("COK-07 two values", PAIR + b"; " + NAME + b"=" + W, DUPLICATE),
    ("COK-07 apart", PAIR + b"; a=1;" + NAME + b"=" + W + b"; b=2", DUPLICATE),
    ("COK-07 the first malformed", NAME + b"=x; " + PAIR, DUPLICATE),
    ("COK-07 the second malformed", PAIR + b"; " + NAME + b'="', DUPLICATE),
    ("COK-07 the second empty", PAIR + b"; " + NAME + b"=", DUPLICATE),
    ("COK-07 both malformed", NAME + b"=x; " + NAME + b"=y", DUPLICATE),
    ("COK-07 thrice", b"; ".join([PAIR] * 3), DUPLICATE),
    ("COK-08 other letter case", b"__host-http-id=" + V, ABSENT),
    ("COK-08 other letter case beside ours", b"__HOST-HTTP-ID=" + W + b"; " + PAIR, ID),
    ("COK-08 U+2000 before the name", b"\xe2\x80\x80" + PAIR, ABSENT),
    ("COK-08 U+2000 in a pair before ours", b"\xe2\x80\x80" + NAME + b"=" + W + b"; " + PAIR, ID),
    ("COK-08 no-break space before the name", b"\xc2\xa0" + PAIR, ABSENT),
    ("COK-08 NEL before the name", b"\x85" + PAIR, ABSENT),
    ("COK-08 NBSP octet before the name", b"\xa0" + PAIR, ABSENT),
    ("COK-08 vertical tab before the name", b"\x0b" + PAIR, ABSENT),
    ("COK-08 form feed before the name", b"a=1;\x0c" + PAIR, ABSENT),
    ("COK-08 line feed before the name", b"a=1;\n" + PAIR, ABSENT),
    ("COK-08 carriage return before the name", b"a=1;\r" + PAIR, ABSENT),
    ("COK-08 unit separator before the name", b"a=1;\x1f" + PAIR, ABSENT),
    ("COK-08 NUL before the name", b"\0" + PAIR, ABSENT),
    ("COK-08 longer name", b"x" + PAIR, ABSENT),
    ("COK-08 longer name after a blank", b"a x" + PAIR, ABSENT),
    ("COK-08 a blank is no separator", b"a " + PAIR, ABSENT),
    ("COK-08 name that goes on", NAME + b"2=" + V, ABSENT),
    ("COK-08 nameless", b"=" + PAIR, ABSENT),
    ("COK-08 nameless beside ours", b"=" + PAIR + b"; " + PAIR, ID),
    ("COK-08 our name without equals sign", NAME, ABSENT),
    ("COK-08 our name without equals sign beside ours", NAME + b"; " + PAIR, ID),
    ("COK-08 ours in another one's value", b"a=" + PAIR, ABSENT),
    ("COK-08 $Version", b"$Version=1; " + PAIR, ID),
    ("COK-08 $Path behind", PAIR + b"; $Path=/x", ID),
    ("COK-08 quotes", NAME + b'="' + V + b'"', MALFORMED),
    ("COK-08 no quoting across pairs", b'q="a; ' + PAIR + b'; r=b"', ID),
    ("COK-08 backslash before the semicolon", b'q="a\\;' + PAIR, ID),
    ("SID-07 percent-encoded", NAME + b"=%56" + V[1:], MALFORMED),
    ("SID-07 percent-encoded to the right length", NAME + b"=%56" + V[3:], MALFORMED),
    ("SID-07 NUL behind", PAIR + b"\0", MALFORMED),
    ("SID-07 NUL within", NAME + b"=" + V[:9] + b"\0" + V[10:], MALFORMED),
    ("SID-03 padding", PAIR + b"=", MALFORMED),
    ("SID-03 one character too many", PAIR + b"A", MALFORMED),
    ("SID-03 one character too few", PAIR[:-1], MALFORMED),
    ("SID-03 none at all", NAME + b"=", MALFORMED),
    ("SID-03 none at all, others behind", NAME + b"=; a=1", MALFORMED),
    ("SID-03 plus and slash", NAME + b"=" + V[:30] + b"+/", MALFORMED),
    ("SID-03 blank within", NAME + b"=" + V[:16] + b" " + V[17:], MALFORMED),
    ("SID-03 blank behind, then more", PAIR + b" A", MALFORMED),
    ("SID-07 line feed behind", PAIR + b"\n", MALFORMED),
    ("SID-07 CRLF behind", PAIR + b"\r\nX: y", MALFORMED),
    ("SID-07 no-break space behind", PAIR + b"\xa0", MALFORMED),
    ("SID-07 full-width digit", NAME + b"=" + V[:29] + "\uff10".encode(), MALFORMED),
    ("SID-07 Latin-1 letter", NAME + b"=" + V[:31] + b"\xe9", MALFORMED),
    ("COK-08 our name in our own value", PAIR + PAIR, MALFORMED),
    ("COK-08 our name in our own value, others behind", PAIR + PAIR + b"; a=1", MALFORMED),
    ("COK-08 our name in the value behind ours", PAIR + b"; a=" + PAIR, ID),
    ("COK-08 our name in the value before ours", b"a=" + PAIR + b";" + PAIR, ID),
    ("COK-08 our name twice in other values", b"a=" + PAIR + b"; b=" + PAIR, ABSENT),
    ("COK-08 our name and equals sign before it, in another pair", b"a=" + NAME + b"=" + PAIR, ABSENT),
    ("COK-08 and a blank", b"x" + NAME + b"= " + PAIR, ABSENT),
    ("COK-08 our name and equals sign as our value", NAME + b"=" + PAIR, MALFORMED),
    ("COK-08 and a tab", NAME + b"=\t" + PAIR, MALFORMED),
    ("COK-08 many unparsable pairs", b"\xff\xfe \0,{}; " * 199 + PAIR, ID),
    ("COK-08 as many behind", PAIR + b"; =\xff" * 199, ID),
    ("COK-08 one too many", b"\xff\xfe \0,{}; " * 200 + PAIR, OVER_LIMITS),
    ("COK-08 one too many behind", PAIR + b"; =\xff" * 200, OVER_LIMITS),
    ("COK-08 empty pairs count", b";" * 200 + PAIR, OVER_LIMITS),
    ("COK-08 as many pairs without ours", b";" * 200, OVER_LIMITS),
    ("COK-08 header of 16 KiB", b"a" * (16_384 - 2 - len(PAIR)) + b"; " + PAIR, ID),
    ("COK-08 header of 16 KiB and 1 octet", b"a" * (16_385 - 2 - len(PAIR)) + b"; " + PAIR, OVER_LIMITS),
    ("COK-08 header of 1 MiB", b"a" * (1 << 20), OVER_LIMITS),
    ("COK-08 two fields joined as ASGI adapters do", b"; ".join([b"a=1", PAIR]), ID),
    ("COK-07 two fields joined as ASGI adapters do", b"; ".join([PAIR, PAIR]), DUPLICATE),
    ("COK-08 two fields joined as granian does for WSGI", b"a=1;" + PAIR, ID),
    ("COK-08 a comma plants nothing", b"a=1," + PAIR, ABSENT),
    ("COK-08 a comma and a blank plant nothing", b"a=1, " + PAIR, ABSENT),
    ("COK-08 ours first, joined with a comma", PAIR + b",a=1", MALFORMED),
    ("COK-07 twice, joined with a comma", PAIR + b"," + PAIR, MALFORMED),
]


@pytest.mark.parametrize(("header", "expected"), [v[1:] for v in VECTORS], ids=[v[0] for v in VECTORS])
def test_find_gives_an_id_or_the_reason_why_there_is_none(header: bytes, expected: str | Finding) -> None:
    found = Cookie().find(header)
    assert found == expected
    assert Cookie().find(header.decode("latin-1")) == expected
    assert isinstance(found, (str, Finding))


def test_no_header_is_no_cookie() -> None:
    assert Cookie().find(None) is Finding.ABSENT


def test_a_str_that_no_server_sends_is_no_error() -> None:
    """SID-07."""
    assert Cookie().find(f"\u2000{PAIR.decode()}") is Finding.ABSENT
    assert Cookie().find(NAME.decode() + "=" + "\u0966" * 32) is Finding.MALFORMED
    assert Cookie().find(f"\ud800; {PAIR.decode()}") == ID


def test_subclasses_of_bytes_and_str_are_read_alike() -> None:
    class Octets(bytes):
        pass

    class Text(str):
        __slots__ = ()

    assert Cookie().find(Octets(PAIR)) == ID
    found = Cookie().find(Text(PAIR.decode()))
    assert found == ID
    assert type(found) is str


def test_only_the_configured_name_counts() -> None:
    """SID-09."""
    cookie = Cookie("__Secure-id", domain="shop.example")
    assert cookie.find(PAIR) is Finding.ABSENT
    assert cookie.find(PAIR + b"; __Secure-id=" + W) == W.decode()


def test_default_cookie() -> None:
    """COK-01, COK-03."""
    assert Cookie().issue(ID) == f"__Host-Http-id={ID}; Path=/; Secure; HttpOnly; SameSite=Lax"


def test_default_name_does_not_name_the_product() -> None:
    """SID-05."""
    assert Cookie().name == "__Host-Http-id"
    assert "sessile" not in Cookie().issue(ID).lower()


@pytest.mark.parametrize(
    ("cookie", "expected"),
    [
        (Cookie(samesite="Strict"), f"__Host-Http-id={ID}; Path=/; Secure; HttpOnly; SameSite=Strict"),
        (
            Cookie(samesite="None", partitioned=True),
            f"__Host-Http-id={ID}; Path=/; Secure; HttpOnly; SameSite=None; Partitioned",
        ),
        (Cookie("__Host-sid"), f"__Host-sid={ID}; Path=/; Secure; HttpOnly; SameSite=Lax"),
        (
            Cookie("__Secure-sid", domain="shop.example", path="/a"),
            f"__Secure-sid={ID}; Domain=shop.example; Path=/a; Secure; HttpOnly; SameSite=Lax",
        ),
        (Cookie("__Http-sid", path="/a/b"), f"__Http-sid={ID}; Path=/a/b; Secure; HttpOnly; SameSite=Lax"),
        (Cookie(persistent=True), f"__Host-Http-id={ID}; Path=/; Secure; HttpOnly; SameSite=Lax"),
    ],
    ids=lambda value: value.name if isinstance(value, Cookie) else "",
)
def test_options_appear_in_the_cookie(cookie: Cookie, expected: str) -> None:
    assert cookie.issue(ID) == expected
    assert cookie.find(expected.split("; ")[0]) == ID


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(28_800, 28_800), (59.9, 59), (0, 0), (-3, 0), (400 * 86_400, 34_560_000), (1e300, 34_560_000)],
)
def test_max_age_is_whole_seconds_of_at_most_400_days(seconds: float, expected: int) -> None:
    """COK-05."""
    assert Cookie(persistent=True).issue(ID, seconds) == f"{Cookie().issue(ID)}; Max-Age={expected}"
    assert Cookie(persistent=True).issue(ID, max_age=float("inf")).endswith("; Max-Age=34560000")


def test_max_age_that_is_no_number_is_refused() -> None:
    """COK-05."""
    with pytest.raises(ValueError, match="NaN"):
        Cookie().issue(ID, float("nan"))


def test_not_persistent_by_default() -> None:
    """COK-05."""
    assert not Cookie().persistent
    assert "Max-Age" not in Cookie().issue(ID)
    assert "Expires" not in Cookie().issue(ID)


def test_deletion_repeats_the_attributes() -> None:
    """COK-06."""
    past = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
    assert Cookie().clear() == f"__Host-Http-id=; Path=/; Secure; HttpOnly; SameSite=Lax; {past}"
    shared = Cookie("__Secure-sid", domain="shop.example", path="/a", samesite="None", partitioned=True)
    assert shared.clear() == (
        f"__Secure-sid=; Domain=shop.example; Path=/a; Secure; HttpOnly; SameSite=None; Partitioned; {past}"
    )


NO_IDS = [
    "",
    "x",
    ID[:-1],
    ID + "A",
    ID[:-1] + "=",
    *(ID[:-1] + bad for bad in '\r\n\0\t ;,"\\%é€\u2028\ud800'),
]


@pytest.mark.parametrize("value", [*NO_IDS, ID[:-2] + "\r\n", f"{ID}\r\nX: y", ID + "\n"], ids=ascii)
@pytest.mark.parametrize("carrier", [Cookie(), Header()], ids=["cookie", "header"])
def test_only_an_id_is_issued(carrier: Carrier, value: str) -> None:
    """COK-09."""
    with pytest.raises(ValueError, match="32 characters") as caught:
        carrier.issue(value)
    assert value not in str(caught.value) or len(value) < 2, "SID-10: an exception never shows an id"


@pytest.mark.parametrize("carrier", [Cookie(), Header()], ids=["cookie", "header"])
@pytest.mark.parametrize("value", [None, ID.encode()], ids=["None", "bytes"])
def test_only_a_str_is_issued(carrier: Carrier, value: Any) -> None:
    with pytest.raises(TypeError):
        carrier.issue(value)


# Settings that no browser would honour, and what the message must offer instead.
IMPOSSIBLE: list[tuple[str, dict[str, Any], str]] = [
    ("COK-02 __Host-Http- with Domain", {"domain": "shop.example"}, "'__Secure-id'"),
    ("COK-02 __Host-Http- with Path", {"path": "/shop"}, "'__Secure-id'"),
    ("COK-02 __Host- with Domain", {"name": "__Host-sid", "domain": "shop.example"}, "'__Secure-sid'"),
    ("COK-02 __Host- with Path", {"name": "__Host-sid", "path": "/shop"}, "'__Secure-sid'"),
    ("COK-02 no prefix", {"name": "sid"}, "'__Host-Http-sid' ('__Secure-sid' with domain= or path=)"),
    ("COK-02 no prefix, development", {"name": "id"}, "insecure_dev=True"),
    ("COK-02 no prefix with Domain", {"name": "sid", "domain": "shop.example"}, "use '__Secure-sid';"),
    ("COK-02 no prefix with Path", {"name": "sid", "path": "/shop"}, "use '__Secure-sid';"),
    ("COK-02 half a prefix", {"name": "__Hos-sid"}, "'__Host-Http-__Hos-sid'"),
    ("COK-02 lower-case __Host-Http-", {"name": "__host-http-id"}, "'__Host-Http-id'"),
    ("COK-02 partly lower-case __Host-Http-", {"name": "__Host-http-id"}, "'__Host-Http-id'"),
    ("COK-02 upper-case __Secure-", {"name": "__SECURE-sid"}, "'__Secure-sid'"),
    ("COK-02 lower-case __Http-", {"name": "__http-sid"}, "'__Http-sid'"),
    ("COK-02 nothing but the prefix", {"name": "__Host-Http-"}, "'__Host-Http-id'"),
    ("COK-02 nothing but __Host-", {"name": "__Host-"}, "'__Host-id'"),
    ("COK-02 empty name", {"name": ""}, "token"),
    ("COK-02 SameSite in lower case", {"samesite": "lax"}, "'Lax'"),
    ("COK-02 SameSite None as None", {"samesite": None}, "'None'"),
    ("COK-02 Domain with a dot", {"name": "__Secure-s", "domain": ".shop.example"}, "'shop.example'"),
    (
        "COK-02 Domain with a port",
        {"name": "__Secure-s", "domain": "shop.example:8000"},
        "without scheme and port",
    ),
    ("COK-02 Domain as URL", {"name": "__Secure-s", "domain": "https://shop.example"}, "'example.com'"),
    ("COK-02 international Domain", {"name": "__Secure-s", "domain": "münchen.example"}, "xn--"),
    ("COK-02 empty Domain", {"name": "__Secure-s", "domain": ""}, "None for this host alone"),
    ("COK-02 Domain with an empty label", {"name": "__Secure-s", "domain": "a..example"}, "'example.com'"),
    (
        "COK-02 Domain with a hyphen at an edge",
        {"name": "__Secure-s", "domain": "a-.example"},
        "'example.com'",
    ),
    (
        "COK-02 Domain with a long label",
        {"name": "__Secure-s", "domain": "a" * 64 + ".example"},
        "'example.com'",
    ),
    ("COK-04 Domain too long", {"name": "__Secure-s", "domain": "a." * 126 + "bc"}, "253"),
    ("COK-02 relative Path", {"name": "__Secure-s", "path": "shop"}, "'/shop'"),
    ("COK-02 empty Path", {"name": "__Secure-s", "path": ""}, "'/'"),
    ("COK-04 Path too long", {"name": "__Secure-s", "path": "/" * 1025}, "1024"),
    ("COK-04 name too long", {"name": "__Secure-" + "s" * 4056}, "4064"),
    *(
        (f"COK-09 {bad!a} in the name", {"name": f"__Host-Http-i{bad}d"}, "token")
        for bad in '\r\n\0\t ;,"\\=@é€\x7f'
    ),
    *(
        (f"COK-09 {bad!a} in the Path", {"name": "__Secure-s", "path": f"/a{bad}b"}, "percent-encoded")
        for bad in '\r\n\0\t ;,"\\é€\x7f'
    ),
    *(
        (f"COK-09 {bad!a} in the Domain", {"name": "__Secure-s", "domain": f"a{bad}b"}, "'example.com'")
        for bad in '\r\n\0\t ;,"\\_é€\x7f'
    ),
    ("COK-09 line feed after the name", {"name": "__Secure-s\n"}, "token"),
    (
        "COK-09 line feed after the Domain",
        {"name": "__Secure-s", "domain": "shop.example\n"},
        "'example.com'",
    ),
    ("COK-09 line feed after the Path", {"name": "__Secure-s", "path": "/\n"}, "percent-encoded"),
]


@pytest.mark.parametrize(("options", "remedy"), [i[1:] for i in IMPOSSIBLE], ids=[i[0] for i in IMPOSSIBLE])
def test_impossible_cookies_are_refused_with_a_remedy(options: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Cookie(**options)
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"name": None},
        {"name": b"__Host-Http-id"},
        {"path": None},
        {"persistent": 1},
        {"partitioned": "no"},
        {"domain": 1},
    ],
    ids=str,
)
def test_options_of_another_type_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="must be"):
        Cookie(**options)


def test_largest_sizes_work() -> None:
    """COK-04."""
    name = "__Secure-" + "s" * (4096 - 32 - 9)
    cookie = Cookie(name, path="/" * 1024, domain="a." * 126 + "b")
    assert len(cookie.issue(ID).split(";")[0]) == 4096 + 1  # the "=" is counted by no browser
    with pytest.raises(ValueError, match="4064 would work"):
        Cookie(name + "s")


@pytest.mark.parametrize(
    "domain", ["a", "a-b.C-d.example", "0.example", "xn--mnchen-3ya.example", "a" * 63 + ".b"]
)
def test_host_names_are_domains(domain: str) -> None:
    assert f"; Domain={domain};" in Cookie("__Secure-s", domain=domain).issue(ID)


def test_every_possible_combination_is_safe() -> None:
    """COK-02: what construction lets through has Secure, HttpOnly, a prefix, and what that one demands."""
    passed = 0
    for prefix in ("", "__Host-Http-", "__Host-", "__Secure-", "__Http-", "__host-", "__SECURE-"):
        for domain in (None, "shop.example"):
            for path in ("/", "/shop"):
                for samesite in ("Lax", "Strict", "None"):
                    for partitioned in (False, True):
                        try:
                            cookie = Cookie(
                                prefix + "id",
                                domain=domain,
                                path=path,
                                samesite=samesite,
                                partitioned=partitioned,
                            )
                        except ValueError:
                            continue
                        passed += 1
                        attributes = cookie.issue(ID).split("; ")[1:]
                        assert {"Secure", "HttpOnly", f"SameSite={samesite}", f"Path={path}"} <= set(
                            attributes
                        )
                        assert prefix in ("__Host-Http-", "__Host-", "__Secure-", "__Http-")
                        if prefix.startswith("__Host-"):
                            assert path == "/"
                            assert not any(a.startswith("Domain") for a in attributes)
    host, shared = 2 * 6, 2 * 2 * 2 * 6  # prefixes, times Domain and Path for the shared ones, times the rest
    assert passed == host + shared


def test_a_cookie_cannot_be_changed() -> None:
    cookie = Cookie()
    with pytest.raises(dataclasses.FrozenInstanceError):
        cookie.name = "id"  # type: ignore[misc]
    assert Cookie() == Cookie("__Host-Http-id")
    assert hash(Cookie()) == hash(Cookie("__Host-Http-id"))
    assert Cookie() != Cookie(samesite="Strict")
    assert pickle.loads(pickle.dumps(cookie)).issue(ID) == cookie.issue(ID)


def test_options_are_by_keyword() -> None:
    with pytest.raises(TypeError):
        Cookie("__Host-Http-id", "Strict")  # type: ignore[call-arg]


def test_insecure_development_cookie() -> None:
    """COK-02."""
    cookie = insecure_development(Cookie())
    assert cookie.issue(ID) == f"id={ID}; Path=/; HttpOnly; SameSite=Lax"
    assert cookie.clear().startswith("id=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0; Expires=")
    assert cookie.find(f"uid=1; id={ID}") == ID
    assert cookie.find(f"uid={ID}") is Finding.ABSENT
    assert not cookie.secure
    assert Cookie().secure
    assert cookie != Cookie()


def test_insecure_development_leaves_out_what_needs_secure() -> None:
    """COK-02."""
    original = Cookie(
        "__Secure-s", samesite="None", partitioned=True, persistent=True, domain="shop.example", path="/a"
    )
    cookie = insecure_development(original)
    assert cookie.issue(ID, 5) == f"id={ID}; Path=/a; HttpOnly; SameSite=Lax; Max-Age=5"
    assert cookie.persistent
    assert insecure_development(Cookie(samesite="Strict")).samesite == "Strict"


def test_insecure_cookie_is_out_of_reach_of_construction() -> None:
    """COK-02."""
    with pytest.raises(TypeError):
        Cookie(secure=False)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="prefix"):
        dataclasses.replace(insecure_development(Cookie()), path="/")
    assert copy.copy(insecure_development(Cookie())).name == "id"


HEADER_VECTORS: list[tuple[str, bytes, str | Finding]] = [
    ("alone", V, ID),
    ("blanks around", b" \t" + V + b"\t ", ID),
    ("empty", b"", ABSENT),
    ("blank", b" \t", ABSENT),
    ("sent twice, joined by ASGI adapters", V + b", " + V, DUPLICATE),
    ("sent twice, joined by WSGI servers", V + b"," + W, DUPLICATE),
    ("too short", V[:-1], MALFORMED),
    ("too long", V + b"A", MALFORMED),
    ("quoted", b'"' + V + b'"', MALFORMED),
    ("semicolon", V + b";", MALFORMED),
    ("NUL", V + b"\0", MALFORMED),
    ("line feed", V + b"\n", MALFORMED),
    ("not ASCII", V[:-1] + b"\xe9", MALFORMED),
    ("no-break space around", b"\xa0" + V, MALFORMED),
    ("16 KiB", b"A" * 16_384, MALFORMED),
    ("beyond 16 KiB", b"A" * 16_385, OVER_LIMITS),
]


@pytest.mark.parametrize(
    ("header", "expected"), [v[1:] for v in HEADER_VECTORS], ids=[f"SID-07 {v[0]}" for v in HEADER_VECTORS]
)
def test_header_gives_an_id_or_the_reason_why_there_is_none(header: bytes, expected: str | Finding) -> None:
    assert Header().find(header) == expected
    assert Header().find(header.decode("latin-1")) == expected


def test_no_header_field_is_no_id() -> None:
    assert Header().find(None) is Finding.ABSENT


def test_header_hands_over_the_bare_id() -> None:
    header = Header("Mcp-Session-Id")
    assert header.issue(ID) == ID
    assert header.issue(ID, max_age=60) == ID
    assert header.clear() is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("", "field name"),
        ("My Session", "field name"),
        ("Mcp:", "field name"),
        ("Mcp\r\n", "field name"),
        ("Sitzungs-Kürzel", "field name"),
        ("Mcp_Session_Id", "'Mcp-Session-Id'"),
        ("Cookie", "Cookie()"),
        ("set-cookie", "Cookie()"),
        ("Authorization", "'Mcp-Session-Id'"),
        ("Origin", "'Mcp-Session-Id'"),
        ("Accept-Language", "'Mcp-Session-Id'"),
        ("Content-Type", "'Mcp-Session-Id'"),
        ("Sec-Session", "'Mcp-Session-Id'"),
        ("Proxy-Session", "'Mcp-Session-Id'"),
    ],
)
def test_impossible_header_names_are_refused_with_a_remedy(name: str, remedy: str) -> None:
    """SID-09."""
    with pytest.raises(ValueError, match=r".") as caught:
        Header(name)
    assert remedy in str(caught.value)


def test_header_name_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="name must be a str"):
        Header(b"Mcp-Session-Id")  # type: ignore[arg-type]


def test_both_are_carriers() -> None:
    """What an adapter uses, in the spelling of each interface."""
    carriers: list[Carrier] = [Cookie(), Header("Mcp-Session-Id")]
    cookie, header = carriers
    assert cookie.is_cookie
    assert not header.is_cookie
    assert not header.persistent
    assert cookie.names == ("Cookie", "Set-Cookie", "HTTP_COOKIE", b"cookie", b"set-cookie")
    assert header.names == (
        "Mcp-Session-Id",
        "Mcp-Session-Id",
        "HTTP_MCP_SESSION_ID",
        b"mcp-session-id",
        b"mcp-session-id",
    )
    for carrier in carriers:
        twice = carrier.separator.join([carrier.issue(ID).split(";")[0].encode()] * 2)
        assert carrier.find(twice) is Finding.DUPLICATE
