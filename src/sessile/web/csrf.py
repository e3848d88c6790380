"""Cross-site requests: which of them pass, and a token for those who want one too (COK-13, COK-16).

A browser sends the cookie with requests that another site started. Two defences, which do not depend on each
other:

* `cross_site_allowed` decides from what browsers say about a request's origin, and needs no change to an
  application. The middleware asks it before every request.
* `token` and `check`: a secret of the session that a form carries along. Another site can send a form, but
  cannot read one.

A token is a MAC of the session's handle: it survives renewals and `rotate()`, which keep the handle, and dies
at log-in, which gives a new one, as at the end of the session. It says nothing of the id. Each response
masks it anew, so that a compressed page that also shows what an attacker sent does not leak it bit by bit
(the BREACH attack).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import os
import re
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple, Protocol

__all__ = [
    "Origin",
    "check",
    "cross_site_allowed",
    "mask",
    "parse_origin",
    "parse_trusted_origins",
    "token",
    "token_for",
    "token_matches",
    "unmask",
]

_SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_OWN_SITES: Final = frozenset(("same-origin", "none"))
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_BLANKS: Final = " \t"

_split_origin: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]+)").fullmatch
_split_host: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?").fullmatch

_MAC_LENGTH: Final = 32  # octets of HMAC-SHA-256
_TOKEN_LENGTH: Final = 86  # base64url characters of the pad and the masked MAC, without "="


class Origin(NamedTuple):
    """A web origin (RFC 6454), in the one spelling in which equal ones are equal."""

    scheme: str
    """In lower case."""
    host: str
    """In lower case; an IPv6 address in brackets, compressed."""
    port: int | None
    """The scheme's default one where none is given; None: there is no default."""


class SessionWithToken(Protocol):
    """What `token` and `check` need of a session."""

    @property
    def handle(self) -> str | None:
        """16 hexadecimal digits; None until the session is stored."""

    def _csrf_key(self) -> bytes:
        """The store's key for these tokens, derived from its secret for this purpose alone: 32 octets."""


def cross_site_allowed(
    method: str,
    sec_fetch_site: str | None,
    origin: str | None,
    host: str | None,
    scheme: str,
    trusted_origins: Collection[Origin],
    websocket: bool = False,
) -> bool:
    """Whether a request passes as one that the site itself, or somebody whom it trusts, has started.

    GET, HEAD and OPTIONS pass, except for a WebSocket handshake (COK-16). Of the others, in this order:

    1. With a `Sec-Fetch-Site` of `same-origin` or `none` (typed in, a bookmark) it passes; with any other
       only when its `Origin` is trusted. A page cannot set this field.
    2. Without it (browsers before 2023, or plain http) `Origin` must be trusted, or be the site's own: the
       same host and port as `Host`. An http origin is not an https site's own, even on the same host:
       whoever sits on the wire can make one up. The reverse passes, as TLS may end before the server.
    3. Without both no browser has sent it: it passes.

    What cannot be understood (`null`, a list, userinfo, a repeated field) is nobody's origin.

    Arguments:
        method: as the client sent it; methods are case-sensitive (RFC 9110, 9.1).
        sec_fetch_site, origin, host: the values of the fields, None where there is none; a field that was
            sent more than once joined with `,`.
        scheme: what the client used: http, https, ws or wss.
        trusted_origins: what `parse_trusted_origins` gave.
        websocket: whether this is a WebSocket handshake.

    Raises nothing, whatever the fields hold.
    """
    if method in _SAFE_METHODS and not websocket:
        return True
    if sec_fetch_site is not None:
        if sec_fetch_site.strip(_BLANKS) in _OWN_SITES:
            return True
        return origin is not None and parse_origin(origin) in trusted_origins
    if origin is None:
        return True
    parsed = parse_origin(origin)
    if parsed is None:
        return False
    return parsed in trusted_origins or _is_own(parsed, host, scheme)


def parse_origin(text: str) -> Origin | None:
    """Give the origin that an `Origin` field names, or None: `null`, a list, or not an origin at all.

    Letter case, a default port and the spelling of an IPv6 address make no difference. Userinfo, a path, an
    international name not in its xn-- form and percent signs are no part of an origin (RFC 6454, 6.2).
    """
    match = _split_origin(text.strip(_BLANKS))
    if match is None:
        return None
    scheme = match[1].lower()
    split = _split_authority(match[2])
    if split is None:
        return None
    host, port = split
    return Origin(scheme, host, _DEFAULT_PORTS.get(scheme) if port is None else port)


def parse_trusted_origins(origins: Iterable[str]) -> frozenset[Origin]:
    """Check the origins that may send unsafe requests to this site, once, when a middleware is made.

    Arguments:
        origins: each `scheme://host` or `scheme://host:port`, as in `https://app.example`.

    Raises:
        ValueError: one is a wildcard, `null`, has a path, or is no origin. The message says what would work.
        TypeError: a str in place of a collection of them, or one of them is not a str.
    """
    if isinstance(origins, (str, bytes)):
        raise TypeError(f"trusted_origins must be a collection of str: use ({origins!r},)")
    return frozenset(map(_parse_trusted_origin, origins))


def token(session: SessionWithToken) -> str:
    """Give a token for a form or a header of this session's pages: 86 base64url characters, new each time.

    Costs one HMAC, some 3 µs. Also for a log-in form: the token of the anonymous session, which must be
    stored for it, keeps another site from logging its visitor in to an account of the attacker.

    Raises:
        ValueError: the session is not stored yet, so it has no handle; store it first (`save()`).
    """
    handle = session.handle
    if handle is None:
        raise ValueError(
            "the session is not stored yet: write a field and save() it before asking for a token"
        )
    return token_for(session._csrf_key(), handle)


def check(session: SessionWithToken, token: str | None) -> bool:
    """Whether this token was given by `token` for this very session since its last log-in.

    Arguments:
        token: what came with the request; None or anything that is no token: False.
    """
    handle = session.handle
    return handle is not None and token_matches(session._csrf_key(), handle, token)


def token_for(key: bytes, handle: str) -> str:
    """Give a masked token of a session's handle.

    Raises:
        ValueError: the key has less than 32 octets.
    """
    return mask(_mac(key, handle))


def token_matches(key: bytes, handle: str, token: str | None) -> bool:
    """Whether the token belongs to this handle, compared in constant time.

    Raises:
        ValueError: the key has less than 32 octets.
    """
    expected = _mac(key, handle)
    mac = unmask(token)
    return mac is not None and hmac.compare_digest(mac, expected)


def mask(mac: bytes) -> str:
    """Give base64url(pad + (pad xor mac)) with a new random pad, without `=`: 86 characters.

    Raises:
        ValueError: not 32 octets.
    """
    if len(mac) != _MAC_LENGTH:
        raise ValueError(f"a MAC of {_MAC_LENGTH} octets is expected, not of {len(mac)}")
    pad = os.urandom(_MAC_LENGTH)
    return base64.urlsafe_b64encode(pad + _xor(pad, mac)).rstrip(b"=").decode("ascii")


def unmask(token: str | None) -> bytes | None:
    """Give the 32 octets that `mask` was given, or None: not a token. Raises nothing, whatever it is.

    Of each token there is exactly one spelling, the one that `mask` gives: the decoder alone would skip
    foreign characters and take any spare bits in the last one.
    """
    if not isinstance(token, str) or len(token) != _TOKEN_LENGTH or not token.isascii():
        return None
    try:
        octets = base64.urlsafe_b64decode(token + "==")
    except binascii.Error:
        return None
    if base64.urlsafe_b64encode(octets).decode("ascii") != token + "==":
        return None
    return _xor(octets[:_MAC_LENGTH], octets[_MAC_LENGTH:])


def _mac(key: bytes, handle: str) -> bytes:
    if len(key) < _MAC_LENGTH:
        raise ValueError(f"the key must have at least {_MAC_LENGTH} octets, not {len(key)}")
    return hmac.digest(key, b"csrf" + handle.encode("utf-8"), "sha256")


def _xor(left: bytes, right: bytes) -> bytes:
    number = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return number.to_bytes(len(left), "big")


def _is_own(origin: Origin, host: str | None, scheme: str) -> bool:
    """Whether an origin is that of the site, of which only `Host` and the scheme are known."""
    if origin.scheme not in _DEFAULT_PORTS or host is None:
        return False
    if origin.scheme == "http" and scheme in ("https", "wss"):
        return False
    split = _split_authority(host.strip(_BLANKS))
    if split is None:
        return False
    own_host, own_port = split
    # Where TLS ends before the server, Host still lacks the port that https has by default.
    return origin.host == own_host and origin.port == (own_port or _DEFAULT_PORTS[origin.scheme])


def _split_authority(text: str) -> tuple[str, int | None] | None:
    """Give host and port of `host`, `host:port` or `[address]:port`; None: it is none of these."""
    match = _split_host(text)
    if match is None:
        return None
    host = match[1].lower()
    if host.startswith("["):
        try:
            host = f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
        except ipaddress.AddressValueError:
            return None
    port = None if match[2] is None else int(match[2])
    return None if port is not None and not 0 < port < 65536 else (host, port)


def _parse_trusted_origin(text: str) -> Origin:
    if not isinstance(text, str):
        raise TypeError(
            f"a trusted origin must be a str like 'https://app.example', not {type(text).__name__}"
        )
    if "*" in text:
        raise ValueError(
            f"trusted origin {text!r}: wildcards would trust whoever gets a name below it; list each origin, "
            "as in 'https://app.example'"
        )
    if text == "null":
        raise ValueError(
            "trusted origin 'null' stands for every sandboxed page: list 'https://app.example' instead"
        )
    parsed = parse_origin(text)
    if parsed is not None and text == text.strip():
        return parsed
    without_path = re.match(r"[a-z][a-z0-9+.-]*://[^/?#]+", text, re.IGNORECASE)
    better = without_path[0] if without_path and parse_origin(without_path[0]) else "https://app.example"
    raise ValueError(
        f"trusted origin {text!r} is not scheme://host or scheme://host:port in ASCII, and nothing else: "
        f"use one like {better!r}"
    )
