"""Caches in the memory of one process. Values are encoded, as a store of sessions must: a request has its own copy."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

from benchmarks.peers.base import IDLE, Cannot, Peer, Place, decode, encode, new_id


class CachePeer(Peer):
    """A cache with `get`, and `put` and `remove` by whatever name."""

    _cache: Any

    def put(self, id: str, value: Any) -> None:
        raise NotImplementedError

    def create(self, fields: dict[str, Any]) -> str:
        id = new_id()
        self.put(id, encode(fields))
        return id

    def load(self, id: str) -> Any:
        return decode(self._cache.get(id))

    def write(self, id: str, flash: str) -> None:
        session = self.load(id)
        session["locale"]
        session["flash"] = flash
        self.put(id, encode(session))


class Cachetools(CachePeer):
    name = "cachetools"
    package = "cachetools"
    about = "TTLCache under a lock, as its documentation asks; use does not renew the deadline"

    def __init__(self, place: Place) -> None:
        from cachetools import TTLCache

        self._cache = TTLCache(2 * place.count + 10_000, IDLE)
        self._lock = threading.Lock()

    def put(self, id: str, value: Any) -> None:
        with self._lock:
            self._cache[id] = value

    def load(self, id: str) -> Any:
        with self._lock:
            encoded = self._cache[id]
        return decode(encoded)

    def destroy(self, id: str) -> None:
        with self._lock:
            del self._cache[id]

    def expire(self, count: int) -> float:
        from cachetools import TTLCache

        now = 0.0
        cache = TTLCache(count, IDLE, timer=lambda: now)
        for _ in range(count):
            cache[new_id()] = b""
        now = IDLE + 1.0
        begun = time.perf_counter()
        cache.expire()
        return time.perf_counter() - begun


class Cachebox(CachePeer):
    name = "cachebox"
    package = "cachebox"
    about = "TTLCache; use does not renew the deadline"

    def __init__(self, place: Place) -> None:
        from cachebox import TTLCache

        self._cache = TTLCache(2 * place.count + 10_000, IDLE)

    def put(self, id: str, value: Any) -> None:
        self._cache.insert(id, value)

    def destroy(self, id: str) -> None:
        self._cache.pop(id)

    def expire(self, count: int) -> float:
        from cachebox import TTLCache

        cache: TTLCache[str, bytes] = TTLCache(count, 0.5)
        for _ in range(count):
            cache.insert(new_id(), b"")
        time.sleep(0.6)
        begun = time.perf_counter()
        cache.expire()
        return time.perf_counter() - begun


class CacheboxLive(Cachebox):
    name = "cachebox, live objects"
    about = "no copy: who changes what was loaded changes it for all, saved or not"

    def create(self, fields: dict[str, Any]) -> str:
        id = new_id()
        self._cache.insert(id, fields)
        return id

    def load(self, id: str) -> Any:
        return self._cache.get(id)

    def write(self, id: str, flash: str) -> None:
        session = self._cache.get(id)
        session["locale"]
        session["flash"] = flash
        self._cache.insert(id, session)

    def expire(self, count: int) -> float:
        raise Cannot("as cachebox")


class Theine(CachePeer):
    name = "theine"
    package = "theine"
    about = "its cache of 2.0; use does not renew the deadline"
    thread_safe = False

    def __init__(self, place: Place) -> None:
        from theine import Cache

        self._cache = Cache(2 * place.count + 10_000)

    def put(self, id: str, value: Any) -> None:
        self._cache.set(id, value, timedelta(seconds=IDLE))

    def load(self, id: str) -> Any:
        return decode(self._cache.get(id)[0])

    def destroy(self, id: str) -> None:
        self._cache.delete(id)

    def _expiry(self) -> str:
        return "a thread of its own does it"


class Moka(CachePeer):
    name = "moka-py"
    package = "moka-py"
    about = "ttl and tti: each use renews the deadline"

    def __init__(self, place: Place) -> None:
        from moka_py import Moka as Cache

        self._cache = Cache(2 * place.count + 10_000, ttl=8 * 3600, tti=IDLE)

    def put(self, id: str, value: Any) -> None:
        self._cache.set(id, value)

    def destroy(self, id: str) -> None:
        self._cache.remove(id)
