"""Values of subclasses as their bases, for frameworks."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from enum import IntEnum
from typing import Any

import pytest

import sessile
from sessile.codec import NESTING_LIMIT, encode_value
from sessile.session import Session
from sessile.web.base_types import as_base_types


class Number(IntEnum):
    ONE = 1


class Text(str):
    def __str__(self) -> str:
        return "a lie"


class Float(float):
    pass


class Octets(bytes):
    pass


class Members(list[Any]):
    pass


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Number.ONE, 1),
        (Text("truth"), "truth"),
        (Float(0.5), 0.5),
        (Octets(b"x"), b"x"),
        (Members([Number.ONE]), [1]),
        (OrderedDict(a=(Text("b"),)), {"a": ("b",)}),
        (defaultdict(list, {Text("k"): [Number.ONE]}), {"k": [1]}),
        ({1: True, "x": None}, {1: True, "x": None}),
    ],
    ids=repr,
)
def test_they_become_their_bases(value: Any, plain: Any) -> None:
    found = as_base_types(value)
    assert found == plain
    assert encode_value(found) == encode_value(plain)


def test_what_is_kept_and_what_is_converted() -> None:
    marked = Text("kept")
    found = as_base_types(
        [marked, Float(0.5)], convert=lambda value: Number.ONE if value == 0.5 else value, kept=(Text,)
    )
    assert found[0] is marked
    assert found[1] == 1


def test_what_contains_itself_is_left_to_the_codec() -> None:
    """STO-05."""
    value: list[Any] = []
    value.append(value)
    found = as_base_types(value)
    for _ in range(NESTING_LIMIT):
        found = found[0]
    with pytest.raises(ValueError, match=r"contains itself|nested deeper"):
        encode_value(as_base_types(value))


class Lenient(Session):
    """As the session types of adapters for frameworks are."""

    __slots__ = ()

    def _convert(self, value: object) -> Any:
        return as_base_types(value)


class Request:
    """One that comes without an id."""

    def _look_up(self, session: Session) -> None:
        pass


def test_a_session_type_that_converts(store: sessile.Store) -> None:
    """In every way in which a value is stored; the core's own sessions stay strict."""
    session = store._of_request(Lenient, Request())
    session["a"] = OrderedDict(n=Number.ONE)
    assert session.save()
    assert not session.save()
    assert session.update_field("b", lambda n: Text(n + "!"), default=Text("b")) == "b!"
    session["c"] = [Text("c")]
    session.login("alice", keep=True)
    stored = store.load(session.id)
    assert stored is not None
    assert dict(stored) == {"a": {"n": 1}, "b": "b!", "c": ["c"]}
    stored["d"] = Text("d")
    with pytest.raises(TypeError, match=r"\$\.d: .*Text cannot be stored"):
        stored.save()
