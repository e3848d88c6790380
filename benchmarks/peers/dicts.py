"""Dictionaries: the floor that nothing in Python goes below, and what people write by hand above it."""

from __future__ import annotations

import threading
import time
from typing import Any

from benchmarks.peers.base import IDLE, Cannot, Peer, Place, decode, encode, new_id


class Dict(Peer):
    name = "dict"
    about = "the floor: live objects, shared by all who load them; no deadline, no lock, no copy"

    def __init__(self, place: Place) -> None:
        self._sessions: dict[str, dict[str, Any]] = {}
        self.load = self._sessions.get

    def create(self, fields: dict[str, Any]) -> str:
        id = new_id()
        self._sessions[id] = fields
        return id

    def write(self, id: str, flash: str) -> None:
        session = self._sessions[id]
        session["locale"]
        session["flash"] = flash

    def destroy(self, id: str) -> None:
        del self._sessions[id]

    def expire(self, count: int) -> float:
        raise Cannot("has no deadlines")


class EncodedDict(Dict):
    name = "dict + msgspec"
    package = "msgspec"
    about = "values encoded, so that a request has its own copy; no deadline, no lock"

    def __init__(self, place: Place) -> None:
        self._encoded: dict[str, bytes] = {}

    def create(self, fields: dict[str, Any]) -> str:
        id = new_id()
        self._encoded[id] = encode(fields)
        return id

    def load(self, id: str) -> Any:
        return decode(self._encoded[id])

    def write(self, id: str, flash: str) -> None:
        session = decode(self._encoded[id])
        session["locale"]
        session["flash"] = flash
        self._encoded[id] = encode(session)

    def destroy(self, id: str) -> None:
        del self._encoded[id]


class LockedDict(Peer):
    name = "dict + lock + deadline"
    package = "msgspec"
    about = "by hand: encoded values, an idle deadline that each use renews, one lock; each worker has its own"

    def __init__(self, place: Place) -> None:
        self._sessions: dict[str, list[Any]] = {}
        self._lock = threading.Lock()

    def create(self, fields: dict[str, Any]) -> str:
        id = new_id()
        value = [time.monotonic() + IDLE, encode(fields)]
        with self._lock:
            self._sessions[id] = value
        return id

    def load(self, id: str) -> Any:
        now = time.monotonic()
        with self._lock:
            found = self._sessions.get(id)
            if found is None:
                return None
            if found[0] < now:
                del self._sessions[id]
                return None
            found[0] = now + IDLE
            encoded = found[1]
        return decode(encoded)

    def write(self, id: str, flash: str) -> None:
        session = self.load(id)
        session["locale"]
        session["flash"] = flash
        encoded = encode(session)
        with self._lock:
            self._sessions[id][1] = encoded

    def destroy(self, id: str) -> None:
        with self._lock:
            del self._sessions[id]

    def expire(self, count: int) -> float:
        past = time.monotonic() - 1
        other = {new_id(): [past, b""] for _ in range(count)}
        begun = time.perf_counter()
        now = time.monotonic()
        with self._lock:
            for id in [id for id, found in other.items() if found[0] < now]:
                del other[id]
        return time.perf_counter() - begun
