"""What a peer is: a store of sessions behind its own public interface, with the operations that the rows time."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

IDLE = 1800
"""Seconds that a session lives, for every peer that can be told."""

try:
    from msgspec.msgpack import decode, encode
except ImportError:  # no build of it for the free-threaded 3.13
    from msgpack import packb as encode
    from msgpack import unpackb as decode

__all__ = ["IDLE", "Cannot", "Peer", "Place", "decode", "encode", "new_id"]


class Cannot(Exception):
    """Raised by an operation that a peer does not have; the text says why and goes into the table."""


@dataclass(frozen=True)
class Place:
    """Where a peer keeps its sessions.

    Attributes:
        directory: a folder of its own, short enough for the path of a unix socket.
        count: how many sessions there will be at most.
        first: makes the store; False: a second process, which attaches to what the first has made.
    """

    directory: Path
    count: int
    first: bool


class Peer(ABC):
    """One peer. `read` and `write` are the two halves of the row "request": nine of the first, one of the second.

    Class attributes:
        name: as the tables show it.
        package: the distribution whose version is shown; "" where there is none.
        about: what it is and leaves out, in a few words.
        shared: a second process sees the same sessions.
        thread_safe: its documentation lets threads share it; else no rows of threads.
        stored: False where the client carries the fields.
    """

    name: ClassVar[str]
    package: ClassVar[str] = ""
    about: ClassVar[str] = ""
    shared: ClassVar[bool] = False
    thread_safe: ClassVar[bool] = True
    stored: ClassVar[bool] = True

    load: Callable[[str], Any]
    """The session with this id, its fields ready to be read. A function of the peer itself where there is one."""

    @abstractmethod
    def __init__(self, place: Place) -> None: ...

    @abstractmethod
    def create(self, fields: dict[str, Any]) -> str:
        """Store a session; its id."""

    def fill(self, many: list[dict[str, Any]]) -> list[str]:
        """Store many; overridden where the peer has a way to do it at once."""
        return [self.create(fields) for fields in many]

    def read(self, id: str) -> object:
        """Load a session and read one field."""
        return self.load(id)["locale"]

    @abstractmethod
    def write(self, id: str, flash: str) -> None:
        """Load a session, read one field, change another, save."""

    @abstractmethod
    def destroy(self, id: str) -> None:
        """End a session."""

    def expire(self, count: int) -> float:
        """Let `count` other sessions pass their deadline; the seconds that it took to be rid of them."""
        raise Cannot("nothing to call: " + self._expiry())

    def _expiry(self) -> str:
        return "expired sessions go when they are met"

    def server_version(self) -> str:
        """", " and the name and version of the server, for those that have one."""
        return ""

    def outside_bytes(self) -> int:
        """Bytes of all sessions outside this process: of a server, of files."""
        return 0

    def close(self) -> None:  # noqa: B027 - most have nothing to give back
        """Give back what is not this process's: servers, files with names."""


def new_id() -> str:
    """An id for peers that leave it to the caller: 192 random bits, 32 characters."""
    return secrets.token_urlsafe(24)
