"""What Django's JSON serialiser makes of values, so that sessions read back as they did before.

Subclasses of str, int, float, list and dict become their base, tuples become lists, the keys of dicts become
text. What JSON refuses and a session of sessile keeps (datetime, Decimal, UUID, set, bytes …) is left alone.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["plain"]

_SCALARS: Final = frozenset((str, int, float, bool, type(None), bytes))
_DEEPEST: Final = 64  # beyond what can be stored: a value that contains itself is refused there, not here


def plain(data: dict[Any, Any]) -> dict[str, Any]:
    """The fields as they are to be stored: `data` itself, where there is nothing to change."""
    if _is_plain(data, 0):
        return data
    return {_key(name): _plain(value, 0) for name, value in data.items()}


def _is_plain(value: Any, depth: int) -> bool:
    """Whether `_plain` would change nothing in it; looking costs a fraction of making it anew."""
    if depth > _DEEPEST:
        return True
    kind = type(value)
    if kind is dict:
        for name, each in value.items():
            if type(name) is not str or (type(each) not in _SCALARS and not _is_plain(each, depth + 1)):
                return False
    elif kind is list:
        for each in value:
            if type(each) not in _SCALARS and not _is_plain(each, depth + 1):
                return False
    else:
        return not isinstance(value, (tuple, list, dict, str, int, float))
    return True


def _plain(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _SCALARS or depth > _DEEPEST:
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(each, depth + 1) for each in value]
    if isinstance(value, dict):
        return {_key(name): _plain(each, depth + 1) for name, each in value.items()}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return value


def _key(name: Any) -> Any:
    """A key as JSON has it; what JSON has no key for is left to be refused."""
    if type(name) is str:
        return name
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
