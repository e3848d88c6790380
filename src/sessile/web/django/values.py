"""What Django's JSON serialiser makes of values, so that sessions read back as they did before.

Subclasses of str, int, float, list and dict become their base, tuples become lists, the keys of dicts become
text. What JSON refuses and a session of sessile keeps (datetime, Decimal, UUID, set, bytes …) is left alone.
"""

from __future__ import annotations

from typing import Any, Final

from sessile.codec import encode_fields

__all__ = ["SCALARS", "as_text", "encoded", "plain"]

SCALARS: Final = frozenset((str, int, float, bool, type(None), bytes))
_DEEPEST: Final = 64  # beyond what can be stored: a value that contains itself is refused there, not here


def encoded(data: dict[Any, Any]) -> bytes:
    """The fields as they are to be stored. Most are as JSON has them already, so that is tried first.

    Raises:
        TypeError, ValueError: as `sessile.codec.encode_fields`.
    """
    try:
        return encode_fields(data, True)
    except (TypeError, ValueError):
        return encode_fields(plain(data))


def plain(data: dict[Any, Any]) -> dict[str, Any]:
    """The fields as JSON has them, in a new dict."""
    return {as_text(name): _plain(value, 0) for name, value in data.items()}


def _plain(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in SCALARS or depth > _DEEPEST:
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(each, depth + 1) for each in value]
    if isinstance(value, dict):
        return {as_text(name): _plain(each, depth + 1) for name, each in value.items()}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return value


def as_text(name: Any) -> Any:
    """A key as JSON has it; what JSON has no key for is left to be refused."""
    if isinstance(name, str):
        return str.__str__(name)
    if name is None:
        return "null"
    if isinstance(name, bool):
        return "true" if name else "false"
    if isinstance(name, int):
        return int.__repr__(name)
    if isinstance(name, float):
        return float.__repr__(name)
    return name
