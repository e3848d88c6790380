"""sessile itself: the store, and what a whole request through its ASGI middleware takes."""

from __future__ import annotations

import os
import time
import warnings
from typing import Any

import sessile
from benchmarks.peers.asgi import AsgiPeer
from benchmarks.peers.base import Peer, Place
from sessile.store import table_path
from sessile.testing import advance

MEMORY = 800  # bytes of `memory` a session; what is used is measured


class Sessile(Peer):
    name = "sessile"
    package = "sessile"
    about = "a table shared by all processes; ids hashed, deadlines renewed, fields decoded when read"
    shared = True

    def __init__(self, place: Place) -> None:
        self._name = f"benchmark-{place.directory.name}"
        self._first = place.first
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a file system that has less room than `memory` asks for
            self.store = sessile.Store(
                self._name,
                secret="benchmark" * 4,
                capacity=2 * place.count + 10_000,
                memory=max(16 << 20, MEMORY * place.count),
                anonymous_share=1.0,
            )
        self.load = self.store.load

    def create(self, fields: dict[str, Any]) -> str:
        return self.store.create(fields).id or ""

    def write(self, id: str, flash: str) -> None:
        session = self.store.load(id)
        assert session is not None
        session["locale"]
        session["flash"] = flash
        session.save()

    def destroy(self, id: str) -> None:
        session = self.store.load(id)
        assert session is not None
        session.destroy()

    def expire(self, count: int) -> float:
        with sessile.Store(capacity=2 * count, memory=max(16 << 20, MEMORY * count), anonymous_share=1.0) as store:
            for _ in range(count):
                store.create({"theme": "dark"})
            advance(store, 1801)
            begun = time.perf_counter()
            while store.sweep():
                pass
            return time.perf_counter() - begun

    def close(self) -> None:
        self.store.close()
        if self._first:
            os.unlink(table_path(self._name))


class SessileAsgi(AsgiPeer, Sessile):
    name = "sessile, ASGI"
    about = "the same through its ASGI middleware: cookie, renewal, checks of origin and headers included"

    def __init__(self, place: Place) -> None:
        from sessile.web.asgi import SessionMiddleware

        Sessile.__init__(self, place)
        self.load = self._cannot_load
        self.serve(lambda app: SessionMiddleware(app, self.store), cookie="__Host-Http-id", store=self.store)

    def create(self, fields: dict[str, Any]) -> str:
        return AsgiPeer.create(self, fields)

    def read(self, id: str) -> object:
        return AsgiPeer.read(self, id)

    def write(self, id: str, flash: str) -> None:
        AsgiPeer.write(self, id, flash)

    def destroy(self, id: str) -> None:
        AsgiPeer.destroy(self, id)
