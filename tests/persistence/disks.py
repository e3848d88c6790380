"""A model of a disk: what every call to the file system leaves there, should the power go at any moment.

`Recorder` stands in the place of `sessile.disk.system`, lets every call through, and keeps a log of those
that change something. `cuts` gives the states in which a disk can be after any prefix of that log:

* what a file holds is certain once the file was synced; of later writes any sectors may be there or not;
* a name in the directory is certain once the directory was synced; of later changes of names any prefix may
have
  happened (a journaling file system keeps their order), unless `shuffles`: then each of them alone, too.

`Recorder(lies=...)` leaves calls out of the log, as if the program had forgotten them, and `renames_first` puts a
rename before the sync of its file: the negative controls.
"""

import itertools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SECTOR = 512


class Recorder:
    """Passes calls on to the operating system and keeps a log of changes."""

    def __init__(self, lies: tuple[str, ...] = (), *, renames_first: bool = False) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.files: dict[int, int] = {}  # descriptor to number of the file
        self.places: dict[int, int] = {}
        self.lies = lies
        self.renames_first = renames_first
        self._held: list[int] = []  # files whose sync is logged after the rename that follows it
        self._count = 0
        self.fails: Callable[[str], None] = lambda call: None

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _add(self, call: str, *facts: Any) -> None:
        if call not in self.lies:
            self.log.append((call, *facts))

    def note(self, what: Any) -> None:
        """Something that the program was told by now."""
        self.log.append(("told", what))

    def open(self, name: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        self.fails("open")
        descriptor = os.open(name, flags, mode, dir_fd=dir_fd)
        if flags & os.O_CREAT:
            self._count += 1
            self.files[descriptor] = self._count
            self.places[descriptor] = 0
            self._add("create", name, self._count)
        return descriptor

    def write(self, descriptor: int, data: Any) -> int:
        self.fails("write")
        count = os.write(descriptor, data)
        self._add("write", self.files[descriptor], self.places[descriptor], bytes(data[:count]))
        self.places[descriptor] += count
        return count

    def pwrite(self, descriptor: int, data: Any, place: int) -> int:
        self.fails("pwrite")
        count = os.pwrite(descriptor, data, place)
        self._add("write", self.files[descriptor], place, bytes(data[:count]))
        return count

    def fsync(self, descriptor: int) -> None:
        self.fails("fsync")
        os.fsync(descriptor)
        if descriptor in self.files and self.renames_first:
            self._held.append(self.files[descriptor])
        elif descriptor in self.files:
            self._add("sync", self.files[descriptor])
        else:
            self._add("sync names")

    def fdatasync(self, descriptor: int) -> None:
        self.fails("fdatasync")
        os.fdatasync(descriptor)
        self._add("sync data", self.files[descriptor])

    def rename(self, old: str, new: str, **where: int) -> None:
        self.fails("rename")
        os.rename(old, new, **where)
        self._add("rename", old, new)
        while self._held:
            self._add("sync", self._held.pop())

    def unlink(self, name: str, *, dir_fd: int | None = None) -> None:
        os.unlink(name, dir_fd=dir_fd)
        self._add("unlink", name)


class State:
    """What may be on the disk."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}  # certain
        self.changes: list[tuple[Any, ...]] = []  # of names, not certain yet
        self.contents: dict[int, bytearray] = {}
        self.writes: dict[int, list[tuple[int, bytes]]] = {}
        self.told: list[Any] = []

    def apply(self, entry: tuple[Any, ...]) -> None:
        call, *facts = entry
        if call == "told":
            self.told.append(facts[0])
        elif call == "write":
            self.writes.setdefault(facts[0], []).append((facts[1], facts[2]))
        elif call in ("sync", "sync data"):
            for place, data in self.writes.pop(facts[0], []):
                _put(self.contents.setdefault(facts[0], bytearray()), place, data)
        elif call == "sync names":
            for change in self.changes:
                _change(self.names, change)
            self.changes = []
        else:
            self.changes.append(entry)

    def outcomes(self, chance: random.Random, shuffles: bool = False) -> Iterator[dict[str, bytes]]:
        """Directories that may be found; all sets of names, and of the torn writes the extremes and a few by
        chance."""
        sets = [self.changes[:count] for count in range(len(self.changes) + 1)]
        if shuffles:
            sets += [[change] for change in self.changes]
        for changes in sets:
            names = dict(self.names)
            for change in changes:
                _change(names, change)
            for keeps in ("none", "all", *["chance"] * 2):
                yield {name: self._content(number, keeps, chance) for name, number in names.items()}

    def _content(self, number: int, keeps: str, chance: random.Random) -> bytes:
        content = bytearray(self.contents.get(number, b""))
        for place, data in self.writes.get(number, []) if keeps != "none" else ():
            for start in range(0, len(data), SECTOR):
                if keeps == "all" or chance.random() < 0.5:
                    end = start + SECTOR - (place + start) % SECTOR
                    _put(content, place + start, data[start:end])
        return bytes(content)


def _put(content: bytearray, place: int, data: bytes) -> None:
    if len(content) < place:
        content.extend(bytes(place - len(content)))
    content[place : place + len(data)] = data


def _change(names: dict[str, int], change: tuple[Any, ...]) -> None:
    call, *facts = change
    if call == "create":
        names[facts[0]] = facts[1]
    elif call == "rename":
        if facts[0] in names:
            names[facts[1]] = names.pop(facts[0])
    elif call == "unlink":
        names.pop(facts[0], None)


def cuts(log: list[tuple[Any, ...]], seed: int, shuffles: bool = False) -> Iterator[tuple[list[Any], dict[str, bytes]]]:
    """For a power cut after each entry of a log: what the program had been told, and a directory that may be
    found.

    The same directory with the same knowledge is given once.
    """
    chance = random.Random(seed)
    state = State()
    seen = set()
    for entry in itertools.chain([("told", None)], log):
        state.apply(entry)
        for found in state.outcomes(chance, shuffles):
            key = (len(state.told), tuple(sorted((name, hash(data)) for name, data in found.items())))
            if key not in seen:
                seen.add(key)
                yield state.told[1:], found


def lay_out(found: dict[str, bytes], where: Path) -> None:
    """Make a directory that holds what a cut left, with a lock that is nobody's."""
    where.mkdir(mode=0o700)
    for name, data in found.items():
        path = where / name
        path.touch(mode=0o600)
        path.write_bytes(data)
