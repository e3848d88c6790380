"""Values of subclasses as their base types, for the adapters of frameworks.

The core refuses subclasses, because they would come back as their bases. A framework's own serialiser stores
them as those, and applications count on it: an IntEnum, an OrderedDict, a text that a template marked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from sessile.codec import NESTING_LIMIT

__all__ = ["as_base_types"]

_EXACT = frozenset((str, int, float, bytes, bool, type(None)))

Convert = Callable[[object], object]


def as_base_types(
    value: object, *, convert: Convert = lambda value: value, kept: Collection[type] = ()
) -> Any:
    """A copy of a value in which what is of a subclass of int, float, str, bytes, list, dict, tuple, set or
    frozenset is of that type; also in lists, tuples and dicts, and of keys. All else is as it was.

    Args:
        value: anything; what is nested too deeply, or contains itself, is left for the codec to refuse.
        convert: called with each value that is not exactly a scalar; gives another one for those that it
            knows.
        kept: types whose values stay what they are.
    """
    return _plain(value, convert, kept, 0)


def _plain(value: Any, convert: Convert, kept: Collection[type], depth: int) -> Any:
    if type(value) in _EXACT or depth > NESTING_LIMIT:
        return value
    value = convert(value)
    if type(value) in kept:
        return value
    if isinstance(value, dict):
        return {_scalar(key): _plain(each, convert, kept, depth + 1) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        members = [_plain(each, convert, kept, depth + 1) for each in value]
        return members if isinstance(value, list) else tuple(members)
    if isinstance(value, (set, frozenset)):
        return set(value) if isinstance(value, set) else frozenset(value)
    return _scalar(value)


def _scalar(value: Any) -> Any:
    """By the base's own method: the subclass may have made its own of them."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes(memoryview(value))
    return value
