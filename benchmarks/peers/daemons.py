"""Stores that another process or a file keeps: Redis, memcached, diskcache."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

from benchmarks.peers.base import IDLE, Cannot, Peer, Place, decode, encode, new_id
from benchmarks.peers.servers import Memcached as MemcachedServer
from benchmarks.peers.servers import Redis as RedisServer
from benchmarks.peers.servers import ServedPeer


class RedisPeer(ServedPeer):
    name = "Redis"
    package = "redis"
    about = "a real server on a unix socket; a load renews the deadline in the same command (GETEX)"

    def __init__(self, place: Place) -> None:
        from redis import Redis

        self._server = RedisServer(place)
        self._client = Redis(unix_socket_path=str(self._server.socket))

    def create(self, fields: dict[str, Any]) -> str:
        id = new_id()
        self._client.set(id, encode(fields), ex=IDLE)
        return id

    def fill(self, many: list[dict[str, Any]]) -> list[str]:
        ids = [new_id() for _ in many]
        pairs = zip(ids, many, strict=True)
        while batch := list(islice(pairs, 1000)):
            with self._client.pipeline(transaction=False) as pipeline:
                for id, fields in batch:
                    pipeline.set(id, encode(fields), ex=IDLE)
                pipeline.execute()
        return ids

    def load(self, id: str) -> Any:
        return decode(self._client.getex(id, ex=IDLE))

    def write(self, id: str, flash: str) -> None:
        session = self.load(id)
        session["locale"]
        session["flash"] = flash
        self._client.set(id, encode(session), ex=IDLE)

    def destroy(self, id: str) -> None:
        self._client.delete(id)

    def expire(self, count: int) -> float:
        """Processor time of the server, which does it in the background, above what it takes when idle."""
        from redis import Redis

        other = Redis(unix_socket_path=str(self._server.socket), db=1)
        with other.pipeline(transaction=False) as pipeline:
            for _ in range(count):
                pipeline.set(new_id(), b"", px=1500)
            pipeline.execute()
        before = self._processor_seconds()
        end = time.monotonic() + 20
        while other.dbsize():
            if time.monotonic() > end:
                raise Cannot("not done after 20 s")
            time.sleep(0.1)
        return self._processor_seconds() - before

    def _processor_seconds(self) -> float:
        facts = self._client.info("cpu")
        return float(facts["used_cpu_user"]) + float(facts["used_cpu_sys"])

    def close(self) -> None:
        self._client.close()
        super().close()


class MemcachedPeer(ServedPeer):
    name = "memcached"
    package = "pymemcache"
    about = "a real server on a unix socket, through pymemcache, whose loads do not renew the deadline"
    thread_safe = False

    def __init__(self, place: Place) -> None:
        from pymemcache.client.base import Client

        self._server = MemcachedServer(place)
        self._client = Client(f"unix:{self._server.socket}", no_delay=False)

    def create(self, fields: dict[str, Any]) -> str:
        id = new_id()
        self._client.set(id, encode(fields), expire=IDLE, noreply=False)
        return id

    def fill(self, many: list[dict[str, Any]]) -> list[str]:
        ids = [new_id() for _ in many]
        pairs = zip(ids, many, strict=True)
        while batch := list(islice(pairs, 1000)):
            self._client.set_many({id: encode(fields) for id, fields in batch}, expire=IDLE, noreply=False)
        return ids

    def load(self, id: str) -> Any:
        return decode(self._client.get(id))

    def write(self, id: str, flash: str) -> None:
        session = self.load(id)
        session["locale"]
        session["flash"] = flash
        self._client.set(id, encode(session), expire=IDLE, noreply=False)

    def destroy(self, id: str) -> None:
        self._client.delete(id, noreply=False)

    def close(self) -> None:
        self._client.close()
        super().close()


class DiskcachePeer(Peer):
    name = "diskcache"
    package = "diskcache"
    about = "SQLite behind a cache; a load does not renew the deadline"
    shared = True

    def __init__(self, place: Place) -> None:
        from diskcache import Cache

        self._place = place
        self._cache = Cache(str(place.directory / "cache"), size_limit=1 << 34, eviction_policy="none")

    def create(self, fields: dict[str, Any]) -> str:
        id = new_id()
        self._cache.set(id, encode(fields), expire=IDLE)
        return id

    def fill(self, many: list[dict[str, Any]]) -> list[str]:
        with self._cache.transact():
            return super().fill(many)

    def load(self, id: str) -> Any:
        return decode(self._cache[id])

    def write(self, id: str, flash: str) -> None:
        session = self.load(id)
        session["locale"]
        session["flash"] = flash
        self._cache.set(id, encode(session), expire=IDLE)

    def destroy(self, id: str) -> None:
        del self._cache[id]

    def expire(self, count: int) -> float:
        from diskcache import Cache

        with Cache(str(self._place.directory / "other"), cull_limit=0) as cache:
            with cache.transact():
                for _ in range(count):
                    cache.set(new_id(), b"", expire=0.01)
            time.sleep(0.05)
            begun = time.perf_counter()
            if cache.expire() != count:
                raise Cannot("left some behind")
            return time.perf_counter() - begun

    def outside_bytes(self) -> int:
        return int(self._cache.volume())

    def close(self) -> None:
        self._cache.close()
