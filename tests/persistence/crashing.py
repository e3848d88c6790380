"""Stores with snapshots that lose their memory, as a killed process does."""

from pathlib import Path
from typing import Any

import pytest

import sessile
from sessile import persistence

SECRET = b"the secret of the tests, 32 bytes or more"


class Stores:
    """Opens stores on one directory, one after the other; each ends by `crash` or `close`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.opened: list[sessile.Store] = []

    def open(self, **options: Any) -> sessile.Store:
        options = {
            "capacity": 1000,
            "memory": "4 MiB",
            "secret": SECRET,
            "snapshot_dir": self.directory,
            "snapshot_interval": 86_400,
            **options,
        }
        if options.get("encrypt"):
            pytest.importorskip("cryptography")
        store = sessile.Store(**options)
        self.opened.append(store)
        return store

    def stop_thread(self, store: sessile.Store) -> None:
        """From now on nothing is written but by calls."""
        held = store._persistence
        assert isinstance(held, persistence.Persistence)
        held._stop.set()
        assert held._thread is not None
        held._thread.join()

    def crash(self, store: sessile.Store) -> None:
        """Lose a store and its table as a killed process does: nothing more is written."""
        held = store._persistence
        assert held is not None
        held._stop.set()
        persistence._all.discard(held)
        held._let_go()
        store._persistence = None
        store.close()

    def reopen(self, store: sessile.Store, **options: Any) -> sessile.Store:
        self.crash(store)
        return self.open(**options)

    def images(self) -> list[Path]:
        return sorted(self.directory.glob("image-*.sessile"))

    def segments(self) -> list[Path]:
        return sorted(self.directory.glob("revoke-*.journal"))
