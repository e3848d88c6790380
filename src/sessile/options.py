"""What users pass, checked at once: sizes, times, counts, secrets, owners, devices.

An option that makes no sense is a `ValueError` that names the option, its value and what would work, so that
a mistake shows when the store is made and not when the first client comes. A secret is never in a text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Literal, SupportsIndex

from sessile import _table
from sessile.codec import encode_value

__all__ = [
    "Timeout",
    "count",
    "device",
    "keep",
    "milliseconds",
    "owner",
    "secrets",
    "share",
    "size",
    "timeout",
]

Timeout = float | timedelta
"""Seconds, or a timedelta."""

_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_is_size = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)").fullmatch
_SECRET_LEAST = 32  # bytes: as many as the keys that are derived from it are worth
_DAYS_MOST = _table.TIMEOUT_MAX_MS // 86_400_000


def size(name: str, value: object, *, least: int = 1, most: int | None = None) -> int:
    """Bytes: an int, or text such as "256 MiB". Units are binary, so that nobody has to guess what "MB"
    means.

    Raises:
        ValueError: anything else, or out of bounds.
    """
    would = 'bytes as an int, or text such as "64 KiB", "256 MiB", "4 GiB" (1 KiB is 1,024 bytes)'
    number: int | None = None
    if isinstance(value, str):
        match = _is_size(value.strip())
        unit = _UNITS.get(match[2]) if match else None
        if match and unit is not None:
            exact = float(match[1]) * unit
            number = int(exact) if exact.is_integer() else None
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    if number is None:
        raise ValueError(f"{name}={value!r}: give {would}")
    if number < least or (most is not None and number > most):
        bounds = f"at least {least} bytes" if most is None else f"from {least} to {most} bytes"
        raise ValueError(f"{name}={value!r}: give {bounds}")
    return number


def milliseconds(name: str, value: object, *, least: float = 0.01) -> int:
    """Milliseconds of a time in seconds or as a timedelta.

    Raises:
        ValueError: anything else; less than `least` seconds, which is how finely the table keeps timeouts;
            more than 400 days, which is as long as browsers keep a cookie.
    """
    seconds: float | None = None
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        seconds = value
    if seconds is None or not least <= seconds <= _DAYS_MOST * 86_400:
        raise ValueError(
            f"{name}={value!r}: give seconds or a timedelta, from {least:g} seconds to {_DAYS_MOST} days"
        )
    return round(seconds * 1000)


def timeout(name: str, value: object) -> int:
    """A session's own timeout in milliseconds; `DEFAULT` of the table for None.

    Raises:
        ValueError: see `milliseconds`.
    """
    return _table.DEFAULT if value is None else milliseconds(name, value)


def count(name: str, value: object, *, most: int) -> int:
    """A whole number from 1 to `most`.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, SupportsIndex) or isinstance(value, bool) or not 1 <= value.__index__() <= most:
        raise ValueError(f"{name}={value!r}: give a whole number from 1 to {most}")
    return value.__index__()


def share(name: str, value: object) -> float:
    """A number above 0, at most 1.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= 1:
        raise ValueError(f"{name}={value!r}: give a share above 0, at most 1, such as 0.5")
    return float(value)


def secrets(value: object) -> list[bytes]:
    """The secrets of a store, the one that makes new ids first.

    Raises:
        ValueError: not bytes or str of at least 32 bytes, nor a list of one to eight of them. Says lengths,
            never contents.
    """
    given = list(value) if isinstance(value, (list, tuple)) else [value]
    if not 1 <= len(given) <= _table.KEYS_MAX:
        raise ValueError(f"secret: give one to {_table.KEYS_MAX} secrets, not {len(given)}")
    return [_secret(each) for each in given]


def _secret(value: object) -> bytes:
    least = _SECRET_LEAST
    would = f"give bytes or str of at least {least} bytes, such as secrets.token_bytes({least}), or a list"
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")
    if not isinstance(value, bytes):
        raise ValueError(f"secret: {type(value).__name__} is no secret: {would}")
    if len(value) < _SECRET_LEAST:
        raise ValueError(f"secret: {len(value)} bytes are too few: {would}")
    return bytes(value)


def owner(value: object) -> str:
    """The owner of a session: text of 1 to 255 bytes of UTF-8.

    Raises:
        TypeError: anything else. An int is not converted: what comes back would not equal what was given.
    """
    would = f"owner must be str of 1 to {_table.OWNER_MAX} bytes of UTF-8"
    if not isinstance(value, str):
        raise TypeError(f"{would}, not {type(value).__name__}: pass str(user.id)")
    text = str.__str__(value)
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise TypeError(f"{would}, not text with lone surrogates: pass str(user.id)") from None
    if not 1 <= length <= _table.OWNER_MAX:
        raise TypeError(f"{would}, not {length} bytes: pass str(user.id)")
    return text


def device(value: object) -> bytes | None:
    """A description of the client's device, encoded; None for none.

    Raises:
        TypeError: not a dict of str to str.
        ValueError: more than 1 KiB when encoded, or text with a lone surrogate.
    """
    if value is None:
        return None
    if not isinstance(value, dict):
        raise TypeError(f"device must be a dict of str to str, not {type(value).__name__}")
    for name, text in value.items():
        if not (isinstance(name, str) and isinstance(text, str)):
            kinds = f"{type(name).__name__} to {type(text).__name__}"
            raise TypeError(f"device must be a dict of str to str, not of {kinds}")
    encoded = encode_value({str.__str__(name): str.__str__(text) for name, text in value.items()}, "device")
    if len(encoded) > _table.DEVICE_MAX:
        raise ValueError(f"device: {len(encoded)} bytes when encoded, {_table.DEVICE_MAX} are allowed")
    return encoded


def keep(value: Iterable[str] | Literal[True]) -> frozenset[str] | Literal[True]:
    """The fields that a log-in keeps: names, or True for all.

    Raises:
        TypeError: anything else; above all a single str, whose letters would be taken for names.
    """
    would = 'keep must be names of fields, such as ("cart",), or True for all'
    if value is True:
        return True
    if value == ():  # as nearly always: before the slow look whether it is iterable
        return frozenset()
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{would}, not {value!r}")
    names: frozenset[Any] = frozenset(value)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{would}, not {type(name).__name__}")
    return names
