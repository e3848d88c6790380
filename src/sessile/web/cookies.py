"""The two carriers of an id: a cookie (`Cookie`) and a header of its own (`Header`).

A carrier finds the one id in what a client sent, and writes the header that gives or takes an id away.
It knows nothing of the store. Adapters talk to either through `Carrier`.

Why a parser of our own (COK-08). A `Cookie` header holds what *everybody* set: other applications on the
host, sibling domains, and whoever controls one of them. Browsers send such cookies in any octets, and
`http.cookies` stops at the first one that it dislikes, so that a sibling domain can log a user out; parsers
that strip Unicode blanks or decode quotes take a planted cookie for one whose name has a prefix. So:

* The header is octets. It is split at every `;`, there is no quoting; only SP and HTAB around a pair are
  trimmed; what stands before the first `=` is the name, compared exactly, letter case included.
* SP or HTAB between name and `=` is part of the name: such a pair is another cookie. After the `=` it is
  part of the value: malformed.
* Nothing is decoded: no quotes, no percent signs, no backslashes. `$Version` is a name like any other. A
  pair without a name, or without `=`, is none of ours. No pair has an effect on another one.
* A name that occurs twice gives no id at all (COK-07): which of them a planted cookie is depends on its
  Path and Domain. It counts as twice even when one of the values is malformed.
* A header beyond 16 KiB or 200 pairs (segments between `;`, empty ones included) is not looked into.

Several `Cookie` fields in one request (HTTP/2 may send one for each cookie: RFC 9113, 8.2.3) have to be
joined with `; ` before `find`. An ASGI adapter does it: hypercorn joins them itself, uvicorn and granian
hand them on one by one. A WSGI server has joined them already: granian with `;`, but gunicorn, waitress and
wsgiref with `,`. A comma is *not* taken for a separator: it is an ordinary octet of a value, and a cookie
`x` with the value `1,<our name>=<id>` would let a sibling domain plant an id in spite of the name's prefix.
So the two cookies on either side of such a comma are not found. Browsers do not send two fields over
HTTP/1.1 (RFC 6265, 5.4), and a proxy that translates HTTP/2 must join them with `; `.
"""

from __future__ import annotations

import enum
import re
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar, Final, Literal, NamedTuple, Protocol

from sessile._table import PAIRS_LENGTH_MAX, PAIRS_MAX, find_id

__all__ = ["Carrier", "Cookie", "Finding", "Header", "Names", "insecure_development"]

HEADER_LIMIT: Final = PAIRS_LENGTH_MAX
"""Octets of the joined `Cookie` header that are looked into (COK-08)."""

PAIR_LIMIT: Final = PAIRS_MAX
"""Pairs of the joined `Cookie` header that are looked into (COK-08)."""

MAX_AGE_LIMIT: Final = 400 * 24 * 3600
"""Seconds: the longest Max-Age that browsers keep (COK-05; RFC 6265bis, 5.5)."""

_ID_LENGTH: Final = 32
_NAME_AND_VALUE_LIMIT: Final = 4096  # octets, RFC 6265bis, 5.6: above it a browser drops the cookie
_ATTRIBUTE_LIMIT: Final = 1024  # octets, the same place: above it a browser ignores the attribute
_DOMAIN_LIMIT: Final = 253  # octets of a host name, RFC 1035

_is_id: Final = re.compile(r"[A-Za-z0-9_-]{32}").fullmatch
_is_token: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch  # RFC 9110, 5.6.2
_are_cookie_octets: Final = re.compile(r"[!#-+\--:<-\[\]-~]+").fullmatch  # RFC 6265, 4.1.1
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_is_host_name: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*").fullmatch  # RFC 1123, 2.1

# The longest first: "__Host-" begins "__Host-Http-" too.
_PREFIXES: Final = ("__Host-Http-", "__Host-", "__Secure-", "__Http-")
_SAMESITE: Final = ("Lax", "Strict", "None")
_BLANKS: Final = " \t"
_PAST: Final = "Thu, 01 Jan 1970 00:00:00 GMT"


class Finding(enum.Enum):
    """Why there is no id in what the client sent."""

    ABSENT = "absent"
    """The client sent none."""
    MALFORMED = "malformed"
    """There is one, but its value is not an id (SID-03, SID-07). It was not looked up anywhere."""
    DUPLICATE = "duplicate"
    """There is more than one; none of them counts (COK-07)."""
    OVER_LIMITS = "over limits"
    """The header is beyond 16 KiB or 200 pairs and was not looked into (COK-08)."""


# Looking a member up in its class costs more than half of a search through the header.
_ABSENT: Final = Finding.ABSENT
_MALFORMED: Final = Finding.MALFORMED
_DUPLICATE: Final = Finding.DUPLICATE
_OVER_LIMITS: Final = Finding.OVER_LIMITS
_FINDINGS: Final = (_ABSENT, _MALFORMED, _DUPLICATE, _OVER_LIMITS)


class Names(NamedTuple):
    """The names of a carrier's header fields, each in the spelling that one place needs."""

    request: str
    """What the client sends, as in `Vary`: `Cookie`."""
    response: str
    """What the server sends: `Set-Cookie`."""
    environ: str
    """The key of the request's field in a WSGI environ: `HTTP_COOKIE`."""
    scope_request: bytes
    """The name of the request's field in an ASGI scope: `b"cookie"`."""
    scope_response: bytes
    """The name of the response's field in an ASGI message: `b"set-cookie"`."""


class Carrier(Protocol):
    """What an adapter needs to know of the way in which an id travels."""

    @property
    def names(self) -> Names:
        """The header fields that carry the id."""

    @property
    def is_cookie(self) -> bool:
        """Whether browsers send it of their own accord: then requests need a cross-site check (COK-13)."""

    @property
    def persistent(self) -> bool:
        """Whether `issue` should be given a `max_age`, the seconds to the absolute deadline (COK-05)."""

    @property
    def separator(self) -> bytes:
        """What several request fields of that name are to be joined with before `find`."""

    def find(self, header: str | bytes | None) -> str | Finding:
        """Give the id in the request's field, or the reason why there is none. Never raises."""

    def issue(self, id: str, max_age: float | None = None) -> str:
        """Give the value of the response's field that hands this id to the client."""

    def clear(self) -> str | None:
        """Give the value of the response's field that takes the id away; None: there is no such field."""


@dataclass(frozen=True, slots=True)
class Cookie:
    """The cookie that carries the id: always HttpOnly and Secure, by default bound to this very host.

    `Cookie()` gives `Set-Cookie: __Host-Http-id=…; Path=/; Secure; HttpOnly; SameSite=Lax` (COK-01). Of the
    prefix's two parts browsers enforce `__Host-` everywhere and `__Host-Http-`, which also keeps scripts from
    setting it, where they know it (COK-03).

    Arguments:
        name: an RFC 6265 token with one of the prefixes `__Host-Http-`, `__Host-`, `__Http-`, `__Secure-`, in
            exactly this letter case. Keep the rest generic: it should not name the product (SID-05).
        samesite: `"Lax"`, `"Strict"` or `"None"`. Lax because with Strict a visitor who follows a link to
            the site arrives logged out (RFC 6265bis, 8.8.2).
        persistent: whether the cookie outlives the browser, until the session's absolute deadline (COK-05).
        partitioned: whether each top-level site gets a cookie of its own: for embedded pages, with `"None"`.
        domain: the host name whose subdomains all get the cookie; None: this host alone.
        path: the path below which the cookie is sent; no security boundary.

    Raises, at construction (COK-02, COK-04, COK-09):
        ValueError: browsers would refuse or ignore such a cookie, or an octet does not belong into a header.
            The message says what would work. A name without a prefix is refused too: such a cookie can be
            planted by every sibling domain, and `insecure_dev=True` of the middleware has its own.
        TypeError: an argument is of another type.
    """

    name: str = "__Host-Http-id"
    _: KW_ONLY
    samesite: Literal["Lax", "Strict", "None"] = "Lax"
    persistent: bool = False
    partitioned: bool = False
    domain: str | None = None
    path: str = "/"
    secure: bool = field(default=True, init=False)
    """False only in the cookie of the insecure development mode, which the middleware makes."""

    _needle: str = field(init=False, repr=False, compare=False)
    _attributes: str = field(init=False, repr=False, compare=False)
    _cleared: str = field(init=False, repr=False, compare=False)

    is_cookie: ClassVar[bool] = True
    separator: ClassVar[bytes] = b"; "
    names: ClassVar[Names] = Names("Cookie", "Set-Cookie", "HTTP_COOKIE", b"cookie", b"set-cookie")

    def __post_init__(self) -> None:
        _check_types(self)
        _check_name(self)
        _check_prefix(self)
        _check_domain(self.domain)
        _check_path(self.path)
        if self.samesite not in _SAMESITE:
            raise ValueError(f"samesite={self.samesite!r}: use 'Lax', 'Strict' or 'None' (a str)")
        _prepare(self)

    def find(self, header: str | bytes | None) -> str | Finding:
        """Give the one id in a `Cookie` header, or the reason why there is none.

        By the rules at the top of this file (COK-07, COK-08), in time linear in the header's length. The id is
        checked for its form only (32 base64url characters, SID-03).

        Arguments:
            header: the value of the field, as the server gives it: `bytes`, or `str` of Latin-1 characters
                (WSGI). Several fields: joined with `separator`. None: there is no such field.

        Raises nothing, whatever the octets (SID-07).
        """
        return find_id(header, self._needle, _FINDINGS) if header else _ABSENT

    def issue(self, id: str, max_age: float | None = None) -> str:
        """Give the value of the `Set-Cookie` header that hands this id to the browser.

        Arguments:
            id: 32 base64url characters.
            max_age: seconds for which the browser shall keep it, in whole ones and at most 400 days; 0 or
                less deletes it. None: until the browser is closed (COK-05).

        Raises:
            ValueError: not an id; the message does not show it (SID-10). Or `max_age` is not a number.
            TypeError: not a str, as the `id` None of a session that is not stored.
        """
        if not _is_id(id):
            raise ValueError("only an id can be issued: 32 characters of the base64url alphabet")
        if max_age is None:
            return f"{self._needle}{id}{self._attributes}"
        return f"{self._needle}{id}{self._attributes}; Max-Age={_whole_seconds(max_age)}"

    def clear(self) -> str:
        """Give the value of the `Set-Cookie` header that deletes the cookie.

        It has the same name, Domain, Path and flags, without which a browser would keep it, an empty value,
        Max-Age=0 and an Expires in the past (COK-06).
        """
        return self._cleared


@dataclass(frozen=True, slots=True)
class Header:
    """A header field of its own that carries the id, for clients without cookies (SID-09).

    The client sends the field back as it came. No browser does so by itself, therefore such requests need no
    cross-site check; a script that can read the field has the id, therefore it is not for browsers.

    Arguments:
        name: a header field name (RFC 9110, 5.1) that is free for the application's use.

    Raises, at construction:
        ValueError: not a field name, or one with `_` (a WSGI server cannot tell it from `-`), or one that has
            a meaning already or that browsers send by themselves.
        TypeError: `name` is not a str.
    """

    name: str = "Mcp-Session-Id"
    names: Names = field(init=False, repr=False, compare=False)

    is_cookie: ClassVar[bool] = False
    persistent: ClassVar[bool] = False
    separator: ClassVar[bytes] = b", "

    def __post_init__(self) -> None:
        name = self.name
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name).__name__}")
        if not _is_token(name):
            raise ValueError(f"name={name!r} is not a header field name: use letters, digits and '-'")
        if "_" in name:
            better = name.replace("_", "-")
            raise ValueError(f"name={name!r}: a WSGI server drops '_' or takes it for '-': use {better!r}")
        lowered = name.lower()
        if lowered in _TAKEN_HEADERS or lowered.startswith(("sec-", "proxy-", "access-control-")):
            raise ValueError(
                f"name={name!r} has a meaning of its own in HTTP: use one like 'Mcp-Session-Id', or Cookie() "
                "for a cookie"
            )
        octets = lowered.encode("ascii")
        environ = "HTTP_" + name.upper().replace("-", "_")
        object.__setattr__(self, "names", Names(name, name, environ, octets, octets))

    def find(self, header: str | bytes | None) -> str | Finding:
        """Give the id in the field, or the reason why there is none.

        A comma means that the field was sent more than once: servers join with it, and no id contains one.

        Arguments:
            header: the value of the field; several: joined with `separator`. None: there is no such field.

        Raises nothing, whatever the octets (SID-07).
        """
        if not header:
            return _ABSENT
        if isinstance(header, bytes):
            header = header.decode("latin-1")
        if len(header) > HEADER_LIMIT:
            return _OVER_LIMITS
        value = header.strip(_BLANKS)
        if _is_id(value):
            return value
        if not value:
            return _ABSENT
        return _DUPLICATE if "," in value else _MALFORMED

    def issue(self, id: str, max_age: float | None = None) -> str:  # noqa: ARG002 (a Carrier takes it)
        """Give the field's value that hands this id to the client: the id.

        Arguments:
            id: 32 base64url characters.
            max_age: without effect; a header field has no life of its own.

        Raises:
            ValueError: not an id; the message does not show it (SID-10).
            TypeError: not a str, as the `id` None of a session that is not stored.
        """
        if not _is_id(id):
            raise ValueError("only an id can be issued: 32 characters of the base64url alphabet")
        return id

    def clear(self) -> None:
        """Give None: no field takes an id away. The client learns it from the answer to its next request."""


# Fields with a meaning in HTTP itself, those that a browser sends of its own accord, and those that a foreign
# page may set without a CORS preflight (Fetch, "CORS-safelisted request-header").
# fmt: off
_TAKEN_HEADERS: Final = frozenset((
    "accept", "accept-charset", "accept-encoding", "accept-language", "authorization", "cache-control",
    "connection", "content-encoding", "content-language", "content-length", "content-type", "cookie",
    "cookie2", "date", "dnt", "expect", "forwarded", "from", "host", "if-match", "if-modified-since",
    "if-none-match", "if-range", "if-unmodified-since", "keep-alive", "last-event-id", "location",
    "origin", "pragma", "range", "referer", "set-cookie", "set-cookie2", "te", "trailer",
    "transfer-encoding", "upgrade", "user-agent", "vary", "via", "www-authenticate",
))
# fmt: on


def insecure_development(cookie: Cookie, name: str = "id") -> Cookie:
    """Give the stand-in for a cookie on plain http: under this name, without Secure (COK-02).

    For the middleware's `insecure_dev=True` alone, which warns and serves loopback hosts only. What browsers
    tie to Secure or what a loopback host cannot have is left out: the prefix, Partitioned, SameSite=None
    (becomes Lax), Domain. `persistent` and `path` stay.
    """
    made = object.__new__(Cookie)
    values = {
        "name": name,
        "samesite": "Lax" if cookie.samesite == "None" else cookie.samesite,
        "persistent": cookie.persistent,
        "partitioned": False,
        "domain": None,
        "path": cookie.path,
        "secure": False,
    }
    for key, value in values.items():
        object.__setattr__(made, key, value)
    _prepare(made)
    return made


def _prepare(cookie: Cookie) -> None:
    """Build what find, issue and clear use; every part of it has been checked before (COK-09)."""
    attributes = [f"Path={cookie.path}", "HttpOnly", f"SameSite={cookie.samesite}"]
    if cookie.secure:
        attributes.insert(1, "Secure")
    if cookie.domain is not None:
        attributes.insert(0, f"Domain={cookie.domain}")
    if cookie.partitioned:
        attributes.append("Partitioned")
    needle = f"{cookie.name}="
    text = "".join(f"; {attribute}" for attribute in attributes)
    object.__setattr__(cookie, "_needle", needle)
    object.__setattr__(cookie, "_attributes", text)
    object.__setattr__(cookie, "_cleared", f"{needle}{text}; Max-Age=0; Expires={_PAST}")


def _whole_seconds(max_age: float) -> int:
    # min and max first: int() of an infinity raises OverflowError.
    return int(min(max(max_age, 0), MAX_AGE_LIMIT))


def _check_types(cookie: Cookie) -> None:
    for key in ("name", "path"):
        if not isinstance(getattr(cookie, key), str):
            raise TypeError(f"{key} must be a str, not {type(getattr(cookie, key)).__name__}")
    for key in ("persistent", "partitioned"):
        if not isinstance(getattr(cookie, key), bool):
            raise TypeError(f"{key} must be True or False, not {type(getattr(cookie, key)).__name__}")
    if cookie.domain is not None and not isinstance(cookie.domain, str):
        raise TypeError(f"domain must be a str or None, not {type(cookie.domain).__name__}")


def _check_name(cookie: Cookie) -> None:
    name = cookie.name
    if not _is_token(name):
        raise ValueError(f"name={name!r} is not a token (RFC 6265, 4.1.1): use letters, digits, '-' and '_'")
    if len(name) + _ID_LENGTH > _NAME_AND_VALUE_LIMIT:
        raise ValueError(
            f"the name has {len(name)} octets: with the id browsers take at most {_NAME_AND_VALUE_LIMIT}, "
            f"so {_NAME_AND_VALUE_LIMIT - _ID_LENGTH} would work"
        )


def _check_prefix(cookie: Cookie) -> None:
    """Refuse what browsers would refuse for the name's prefix (RFC 6265bis, 5.7; COK-02)."""
    name = cookie.name
    shared = cookie.domain is not None or cookie.path != "/"
    for prefix in _PREFIXES:
        if name.lower().startswith(prefix.lower()):
            break
    else:
        better = repr(f"__Secure-{name}")
        if not shared:
            better = f"'__Host-Http-{name}' ({better} with domain= or path=)"
        raise ValueError(
            f"name={name!r} has no prefix, so every sibling domain could plant this cookie: use {better}; "
            "plain http in development has insecure_dev=True of the middleware"
        )
    rest = name[len(prefix) :]
    if not name.startswith(prefix):
        raise ValueError(f"name={name!r} has its prefix in another letter case: use {prefix + rest!r}")
    if not rest:
        raise ValueError(f"name={name!r} is a prefix and nothing else: use {prefix + 'id'!r}")
    if prefix.startswith("__Host-") and shared:
        what = "domain=" if cookie.domain is not None else "path= other than '/'"
        raise ValueError(
            f"name={name!r}: browsers refuse {prefix} with {what}: leave that out, or use '__Secure-{rest}'"
        )


def _check_domain(domain: str | None) -> None:
    if domain is None:
        return
    if domain.startswith("."):
        raise ValueError(f"domain={domain!r}: subdomains are included without the dot: use {domain[1:]!r}")
    if len(domain) > _DOMAIN_LIMIT or not _is_host_name(domain):
        raise ValueError(
            f"domain={domain!r} is not a host name of at most {_DOMAIN_LIMIT} ASCII octets: use one like "
            "'example.com', without scheme and port, an international name in its xn-- form; or None for "
            "this host alone"
        )


def _check_path(path: str) -> None:
    if not path.startswith("/"):
        raise ValueError(f"path={path!r}: browsers ignore it without a leading '/': use {'/' + path!r}")
    if len(path) > _ATTRIBUTE_LIMIT:
        raise ValueError(f"the path has {len(path)} octets: browsers ignore it above {_ATTRIBUTE_LIMIT}")
    if not _are_cookie_octets(path):
        raise ValueError(
            f"path={path!r}: blanks, control characters, '\"', ',', ';', '\\' and what is not ASCII cannot "
            "stand in a cookie: write them percent-encoded, as in a URL"
        )
