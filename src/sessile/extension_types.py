"""The payloads of the rarer extension types, and the time zones of all: the slow part of `sessile.codec`.

Imported when the first value of such a type is written or read, because most programs need none of the
modules that these types come from. `sessile.codec` documents the payloads. Types are compared exactly, so
that no method of a class that is not known here is ever called.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, TypeGuard
from uuid import UUID
from zoneinfo import ZoneInfo

__all__ = [
    "STORABLE",
    "from_payload",
    "from_zone_bytes",
    "in_zone",
    "payload_of",
    "store_markup",
    "type_name",
    "zone_bytes",
]

# Every type that can be stored and derived from, a type before its bases.
STORABLE: tuple[type, ...] = (
    *(int, float, str, bytes, list, dict, tuple, set, frozenset),
    *(datetime, date, time, timedelta, Decimal, UUID),
)

# What a datetime or time says of its zone.
NAIVE, UTC, FIXED, FIXED_NAMED, ZONE = range(5)

OFFSET_SIZE = 5
TIME_BITS = 38
ZONE_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-_/")


def payload_of(value: object) -> tuple[int, bytes] | None:
    """The extension type and payload of a value; None: it is not exactly of one of the types here.

    Raises:
        TypeError: a time whose zone has no fixed offset, a zone whose name is no plain str.
        ValueError: the name of a zone has a lone surrogate.
    """
    entry = _BY_TYPE.get(type(value))
    return None if entry is None else (entry[0], entry[1](value))


def from_payload(code: int, payload: bytes) -> object:
    """The value of an extension type.

    Raises:
        ValueError, ArithmeticError, LookupError: there is no such extension type, or it has no such payload.
    """
    return _BY_CODE[code](payload)


def type_name(value: object) -> str:
    """The name of a value's type for a message. Asks `type` itself: a metaclass might run anything."""
    kind = type(value)
    module = type.__dict__["__module__"].__get__(kind)
    name = str(type.__dict__["__qualname__"].__get__(kind))
    return name if module == "builtins" or type(module) is not str else f"{module}.{name}"


# ----------------------------------------------------------------------------------------------------------
# Time zones


def zone_bytes(zone: tzinfo, moment: datetime | None = None) -> tuple[int, bytes]:
    """The zone kind and what follows it, of a zone that is neither None nor `timezone.utc`.

    Args:
        zone: a `datetime.timezone`; with a moment also a `zoneinfo.ZoneInfo` that has a key.
        moment: the datetime that is in this zone; None for a time.

    Raises:
        TypeError: another zone; the text says what to do.
        ValueError: its name has a lone surrogate.
    """
    if type(zone) is timezone:
        return _fixed_bytes(zone)
    if moment is None:
        raise TypeError(
            f"a time whose tzinfo is {type_name(zone)} cannot be stored; "
            "give it a fixed offset (datetime.timezone) or none first"
        )
    offset = moment.utcoffset() if type(zone) is ZoneInfo and _is_zone_key(zone.key) else None
    if offset is None:
        raise TypeError(
            f"a datetime whose tzinfo is {type_name(zone)} without an IANA key cannot be stored; "
            "convert it to UTC (.astimezone(timezone.utc)) or to a fixed offset first"
        )
    return ZONE, _offset_bytes(offset) + str(zone).encode("ascii")


def from_zone_bytes(kind: int, rest: bytes) -> timezone | None:
    """The zone; of a ZONE the offset that it had when it was written, named by its key.

    Raises:
        ValueError: no such zone.
    """
    if kind in (NAIVE, UTC) and not rest:
        return None if kind == NAIVE else timezone.utc
    offset = timedelta(microseconds=int.from_bytes(rest[:OFFSET_SIZE], "big", signed=True))
    if kind == FIXED and len(rest) == OFFSET_SIZE and offset:
        return timezone(offset)
    if kind in (FIXED_NAMED, ZONE) and len(rest) >= OFFSET_SIZE:
        return timezone(offset, rest[OFFSET_SIZE:].decode("utf-8"))
    raise ValueError("no such zone")


def in_zone(moment: datetime) -> datetime:
    """A moment whose zone was read from a ZONE, in that zone.

    As it is where the zone is unknown here or has rules that now give the moment another offset.

    Raises:
        ValueError: what names the zone is no key of a zone.
    """
    key = moment.tzname()
    if not _is_zone_key(key):
        raise ValueError("no key of a zone")
    try:
        zoned = moment.replace(tzinfo=ZoneInfo(key))
    except (LookupError, ValueError, OSError, ImportError):
        return moment
    return zoned if zoned.utcoffset() == moment.utcoffset() else moment


def _is_zone_key(key: str | None) -> TypeGuard[str]:
    """Whether it looks like "Europe/Berlin": no dots, so a key read from memory leads to no other file."""
    if type(key) is not str or not 0 < len(key) <= 255 or key.startswith("/"):
        return False
    return ZONE_LETTERS.issuperset(key)


def _fixed_bytes(zone: timezone) -> tuple[int, bytes]:
    """The offset of a `datetime.timezone`, and its name where it was given one."""
    offset, *given = zone.__getinitargs__()  # type: ignore[attr-defined]
    if not given:
        return FIXED, _offset_bytes(offset)
    (name,) = given
    if type(name) is not str:
        raise TypeError(f"the name of its timezone is {type_name(name)}; make it a str first")
    try:
        return FIXED_NAMED, _offset_bytes(offset) + name.encode("utf-8")
    except UnicodeEncodeError:
        pass
    raise ValueError("the name of its timezone has a lone surrogate, which UTF-8 cannot express")


def _offset_bytes(offset: timedelta) -> bytes:
    """An offset in microseconds: it is less than a day, to the microsecond."""
    return (offset // timedelta(microseconds=1)).to_bytes(OFFSET_SIZE, "big", signed=True)


# ----------------------------------------------------------------------------------------------------------
# Payloads


def _write_date(day: date) -> bytes:
    return (day.year << 16 | day.month << 8 | day.day).to_bytes(4, "big")


def _read_date(payload: bytes) -> date:
    year, month, day = int.from_bytes(payload[:2], "big"), *payload[2:]
    return date(year, month, day)


def _write_time(moment: time) -> bytes:
    zone = moment.tzinfo
    kind, rest = NAIVE, b""
    if zone is timezone.utc:
        kind = UTC
    elif zone is not None:
        kind, rest = zone_bytes(zone)
    packed = (
        moment.hour << 33 | moment.minute << 27 | moment.second << 21 | moment.microsecond << 1 | moment.fold
    )
    return (kind << TIME_BITS | packed).to_bytes(5, "big") + rest


def _read_time(payload: bytes) -> time:
    packed, rest = int.from_bytes(payload[:5], "big"), payload[5:]
    return time(
        packed >> 33 & 0x1F,
        packed >> 27 & 0x3F,
        packed >> 21 & 0x3F,
        packed >> 1 & 0xFFFFF,
        from_zone_bytes(packed >> TIME_BITS, rest),
        fold=packed & 1,
    )


def _write_timedelta(span: timedelta) -> bytes:
    return b"".join(
        part.to_bytes(4, "big", signed=True) for part in (span.days, span.seconds, span.microseconds)
    )


def _read_timedelta(payload: bytes) -> timedelta:
    days, seconds, microseconds = (
        int.from_bytes(payload[at : at + 4], "big", signed=True) for at in (0, 4, 8)
    )
    return timedelta(days, seconds, microseconds)


def _write_decimal(number: Decimal) -> bytes:
    """What str() gives, which is exact, without the one thing in it that the decimal context decides."""
    return str(number).replace("e", "E").encode("ascii")


def _read_decimal(payload: bytes) -> Decimal:
    return Decimal(payload.decode("ascii"))


def _write_uuid(identifier: UUID) -> bytes:
    return identifier.bytes


def _read_uuid(payload: bytes) -> UUID:
    return UUID(bytes=payload)


def _write_big_integer(number: int) -> bytes:
    """The shortest two's complement."""
    length = (number if number >= 0 else ~number).bit_length() // 8 + 1
    return number.to_bytes(length, "big", signed=True)


def _read_big_integer(payload: bytes) -> int:
    number = int.from_bytes(payload, "big", signed=True)
    if -(2**63) <= number < 2**64:
        raise ValueError("MessagePack has an integer for it")
    return number


def _write_markup(text: str) -> bytes:
    try:
        return str.encode(text, "utf-8")
    except UnicodeEncodeError:
        pass
    raise ValueError("the text has a lone surrogate, which UTF-8 cannot express")


def _read_markup(payload: bytes) -> str:
    """Markup; the bare text where there is no package that knows it."""
    text = payload.decode("utf-8")
    try:
        from markupsafe import Markup
    except ImportError:
        return text
    return Markup(text)


def store_markup(kind: type[str]) -> None:
    """Let values of this type, which is `markupsafe.Markup`, be stored from now on. Reading needs no leave."""
    _BY_TYPE[kind] = (_MARKUP, _write_markup)


def _checked(read: Callable[[bytes], object], write: Callable[[Any], bytes]) -> Callable[[bytes], object]:
    """Read only what would be written: one value, one payload."""

    def read_checked(payload: bytes) -> object:
        value = read(payload)
        if write(value) != payload:
            raise ValueError("not the payload that would be written")
        return value

    return read_checked


_TYPES: tuple[tuple[int, type, Callable[[Any], bytes], Callable[[bytes], object]], ...] = (
    (5, date, _write_date, _read_date),
    (6, time, _write_time, _read_time),
    (7, timedelta, _write_timedelta, _read_timedelta),
    (8, Decimal, _write_decimal, _read_decimal),
    (9, UUID, _write_uuid, _read_uuid),
    (10, int, _write_big_integer, _read_big_integer),
)
_MARKUP = 11
_BY_TYPE: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    kind: (code, write) for code, kind, write, _ in _TYPES
}
_BY_CODE = {code: _checked(read, write) for code, _, write, read in _TYPES} | {_MARKUP: _read_markup}
