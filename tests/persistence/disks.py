"""A model of a disk: what every call to the file system leaves there, should the power go at any moment.

`Recorder` stands in the place of `sessile.disk.system`, lets every call through, and keeps a log of those
that change something. `cuts` gives the states in which a disk can be after any prefix of that log:

* what a file holds is certain once the file was synced; of later writes any sectors may be there or not, in any
  combination, and the file may be as long as what is there, or as what was written. All of these are given. Only
  of a file under a temporary name, which no reader looks into, there is one content: all that was written. (Less than
  a sector is not torn: a disk writes 512 bytes, or none of them; and what a killed process wrote of a batch ends at a
  page, so at a sector, too.)
* a name in the directory is certain once the directory was synced; of later changes of names any prefix may
have
  happened (a journaling file system keeps their order), unless `shuffles`: then each of them alone, too.

`Recorder(lies=...)` leaves calls out of the log, as if the program had forgotten them, and `renames_first` puts a
rename before the sync of its file: the negative controls.
"""

import itertools
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SECTOR = 512
MOST = 1 << 12  # contents of one file at one moment


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

    def outcomes(self, shuffles: bool = False) -> Iterator[dict[str, bytes]]:
        """Directories that may be found: all sets of names, and for each all contents of the files."""
        sets = [self.changes[:count] for count in range(len(self.changes) + 1)]
        if shuffles:
            sets += [[change] for change in self.changes]
        for changes in sets:
            names = dict(self.names)
            for change in changes:
                _change(names, change)
            for found in itertools.product(*(self._contents(name, number) for name, number in names.items())):
                yield dict(zip(names, found, strict=True))

    def _contents(self, name: str, number: int) -> list[bytes]:
        """What a file may hold: each sector as it was at some time since the last sync."""
        old = bytes(self.contents.get(number, b""))
        new = bytearray(old)
        versions: dict[int, list[bytes]] = {}
        for place, data in self.writes.get(number, []):
            first, end = place // SECTOR, -(-(place + len(data)) // SECTOR)
            for sector in range(first, end):
                versions.setdefault(sector, [_sector(new, sector)])
            _put(new, place, data)
            for sector in range(first, end):
                if _sector(new, sector) != versions[sector][-1]:
                    versions[sector].append(_sector(new, sector))
        if name.endswith(".new"):
            return [bytes(new)]
        torn = {sector: seen for sector, seen in versions.items() if len(seen) > 1}
        assert math.prod(map(len, torn.values())) <= MOST, f"{name}: too many to try all"
        found = set()
        for choice in itertools.product(*torn.values()):
            content, length = bytearray(new), len(old)
            for sector, data in zip(torn, choice, strict=True):
                content[sector * SECTOR : sector * SECTOR + SECTOR] = data[: len(new) - sector * SECTOR]
                if data != torn[sector][0]:
                    length = max(length, min(len(new), sector * SECTOR + SECTOR))
            found |= {bytes(content), bytes(content[:length])}
        return sorted(found)


def _sector(content: bytearray, number: int) -> bytes:
    return bytes(content[number * SECTOR : (number + 1) * SECTOR]).ljust(SECTOR, b"\0")


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


def cuts(log: list[tuple[Any, ...]], shuffles: bool = False) -> Iterator[tuple[list[Any], dict[str, bytes]]]:
    """For a power cut after each entry of a log: what the program had been told, and each directory that may be
    found.

    The same directory with the same knowledge is given once.
    """
    state = State()
    seen = set()
    for entry in itertools.chain([("told", None)], log):
        state.apply(entry)
        for found in state.outcomes(shuffles):
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
