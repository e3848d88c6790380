"""One operation each, for pytest-benchmark: to watch a figure; claims are made with measure.py."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest

import sessile
from benchmarks.workload import fill, fresh, make_store, payload

SESSIONS = 10_000


@pytest.fixture(scope="module")
def store() -> Iterator[sessile.Store]:
    with make_store(SESSIONS, spare=64, memory="512 MiB") as store:
        yield store


@pytest.fixture(scope="module")
def ids(store: sessile.Store) -> list[str]:
    return fresh(fill(store, SESSIONS))


def test_load(benchmark: Any, store: sessile.Store, ids: list[str]) -> None:
    each = cycle(ids)
    assert benchmark(lambda: store.load(next(each))) is not None


def test_load_unknown(benchmark: Any, store: sessile.Store) -> None:
    assert benchmark(store.load, "A" * 32) is None


def test_load_malformed(benchmark: Any, store: sessile.Store) -> None:
    assert benchmark(store.load, "no id") is None


def test_read_a_field(benchmark: Any, store: sessile.Store, ids: list[str]) -> None:
    each = cycle(ids)
    assert benchmark(lambda: store.load(next(each))["locale"]) == "en_GB"  # type: ignore[index]


def test_save_a_field(benchmark: Any, store: sessile.Store, ids: list[str]) -> None:
    each = enumerate(cycle(ids))

    def change() -> bool:
        number, id = next(each)
        session = store.load(id)
        assert session is not None
        session["flash"] = number
        return session.save()

    assert benchmark(change)


def test_save_nothing(benchmark: Any, store: sessile.Store, ids: list[str]) -> None:
    session = store.load(ids[0])
    assert session is not None
    session["cart"]
    assert benchmark(session.save) is False


def test_create(benchmark: Any, store: sessile.Store) -> None:
    fields = payload(1)
    assert benchmark(lambda: store.create(fields)).id


def test_update_field(benchmark: Any, store: sessile.Store, ids: list[str]) -> None:
    session = store.load(ids[1])
    assert session is not None
    assert benchmark(lambda: session.update_field("views", lambda n: n + 1, default=0)) > 0
