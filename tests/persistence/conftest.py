"""Stores with snapshots, and their crashes."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessile import disk

sys.path.insert(0, str(Path(__file__).parent))

from crashing import Stores


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sealed files need a package that not every Python has, the free-threaded 3.13 for one."""
    if importlib.util.find_spec("cryptography") is None:
        for item in items:
            if Path(__file__).parent in item.path.parents and "sealed]" in item.name:
                item.add_marker(pytest.mark.skip(reason="needs cryptography"))


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    made = Stores(tmp_path / "snapshots")
    yield made
    disk.system = os
    for store in made.opened:
        if not store._closed:
            assert store.check() == []
            made.crash(store) if store._persistence else store.close()


@pytest.fixture
def in_place(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Puts something in the place of the file system."""

    def put(system: Any) -> None:
        monkeypatch.setattr(disk, "system", system)

    return put
