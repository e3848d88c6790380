"""kill -9 at every system call of whoever writes an image, a journal, or restores (PER-02, PER-09).

    python tests/persistence/kills.py [--every N]      every call, or every N-th; some minutes, or some seconds

A small tracer (killer.c) ends the program at the entry of one system call, of whatever thread. Then a store opens on the
directory that is left: what the program was told is so, what was there before is there, and nothing is refused.
"""

from __future__ import annotations

import argparse
import collections
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from crashing import Stores

HERE = Path(__file__).parent

WORKS = ("snapshot", "ends", "opening", "closing")

PROGRAM = """
import os, sys
sys.path.insert(0, {here!r})
from pathlib import Path
from crashing import Stores
work, directory, durability, *ids = sys.argv[1:]
def told(what, id):
    os.write(1, f"{{what}} {{id}}\\n".encode())
if work == "opening":
    os.getppid()
store = Stores(Path(directory)).open(durability=durability)
if work != "opening":
    os.getppid()
if work == "snapshot":
    store.snapshot()
elif work == "closing":
    store.close()
elif work == "ends":
    first, second, third, fourth = (store.load(id) for id in ids)
    first.destroy()
    told("gone", ids[0])
    second.rotate()
    told("gone", ids[1])
    told("there", second.id)
    third.login("zoe")
    told("gone", ids[2])
    told("there", third.id)
    store.revoke("dan")
    told("gone", ids[3])
os.getppid()
os._exit(0)
"""


@dataclass
class Found:
    """What a campaign saw."""

    points: int = 0
    killed: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)


class Campaign:
    """Kills at chosen system calls; each time on a fresh copy of one directory."""

    def __init__(self, folder: Path, durability: str = "revocations") -> None:
        self._folder = folder
        self._durability = durability
        self._killer = folder / "killer"
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-O1", "-Wall", "-Werror", "-o", self._killer, HERE / "killer.c"], check=True)
        stores = Stores(folder / "before")
        store = stores.open()
        ended = store.create({"n": 0}, owner="eva")
        sessions = [store.create({"n": n}, owner=owner) for n, owner in enumerate(("eva", "bob", "eva", "dan"))]
        self._kept = store.create({"n": 5}, owner="kim").id
        store.snapshot()
        ended.destroy()
        self._ended = ended.id
        self._ids = [session.id or "" for session in sessions]
        stores.crash(store)

    def kill(self, work: str, number: int, found: Found) -> bool:
        """Kill a program at a system call and judge what is left. False: it had fewer."""
        directory = self._folder / "now"
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(self._folder / "before", directory)
        program = PROGRAM.format(here=str(HERE))
        done = subprocess.run(
            [self._killer, str(number), sys.executable, "-c", program, work, directory, self._durability, *self._ids],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode not in (0, 1):
            raise RuntimeError(f"{work} {number}: status {done.returncode}: {done.stderr}")
        found.points += 1
        found.killed[work] += done.returncode == 0
        wrong = self._judge(directory, [line.split(" ") for line in done.stdout.splitlines()], work)
        found.wrong += [f"{work}, call {number} ({done.stderr.strip()}): {each}" for each in wrong]
        return done.returncode == 0

    def _judge(self, directory: Path, told: list[list[str]], work: str) -> list[str]:
        gone = [id for what, id in told if what == "gone"] + [self._ended]
        there = [id for what, id in told if what == "there"] + [self._kept]
        if work != "ends":
            there += self._ids
        stores = Stores(directory)
        store = stores.open()
        try:
            back = [f"{id} is back" for id in gone if store.load(id, touch=False) is not None]
            lost = [f"{id} is lost" for id in there if store.load(id, touch=False) is None]
            store.snapshot()
            left = [f"{path.name} is left" for path in directory.iterdir() if path.name.endswith(".new")]
            return back + lost + store.check() + (left if work == "snapshot" else [])
        finally:
            stores.crash(store)


def run(folder: Path, every: int) -> Found:
    """Kill at every so many-th call of each work, from the first on."""
    campaign, found = Campaign(folder), Found()
    for work in WORKS:
        number = 0
        while campaign.kill(work, number, found):
            number += every
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, metavar="N")
    every = parser.parse_args().every
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), every)
    print(f"{found.points} points; killed: {dict(found.killed)}", *found.wrong, sep="\n")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
