"""Every state in which a power cut can leave the directory (PER-02, PER-09).

A program writes images and ends sessions while every call to the file system is recorded. For each prefix of
that record the model in disks.py gives the directories that may be found: with each, a new store must open,
and must hold all that the last complete image had or its predecessor, and nobody of whom the program was told
that they were gone.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crashing import SECRET, Stores
from disks import Recorder, cuts, lay_out

import sessile
from sessile import persistence


class Program:
    """What runs before the power goes."""

    def __init__(self, stores: Stores, recorder: Recorder, encrypt: bool) -> None:
        self.recorder = recorder
        store = stores.open(encrypt=encrypt)
        stores.stop_thread(store)
        people = [store.create({"n": number}, owner=f"owner {number}") for number in range(8)]
        self.ids = [session.id for session in people]
        self._image(store)
        self._end(people[0])
        self._end(people[1])
        self._image(store)
        renewed = store.load(self.ids[2])
        assert renewed is not None
        renewed._renew()
        self._end(people[3])
        before = self.ids[4]
        recorder.note(("ending", before))
        people[4].rotate()
        recorder.note(("gone", before))
        recorder.note(("there", people[4].id))
        self._image(store)
        self._end(people[5])
        self._image(store)
        visitor = store.open()
        visitor["cart"] = "x" * 1500  # a batch of several sectors
        visitor.login("visitor", keep=True)
        recorder.note(("there", visitor.id))
        stores.crash(store)

    def _image(self, store: sessile.Store) -> None:
        store.snapshot()
        for id in self.ids:
            if store.load(id, touch=False) is not None:
                self.recorder.note(("there", id))

    def _end(self, session: sessile.Session) -> None:
        id = session.id
        self.recorder.note(("ending", id))
        session.destroy()
        self.recorder.note(("gone", id))


def judge(found: dict[str, bytes], told: list[Any], where: Path) -> str | None:
    """What is wrong with a store that opens on a directory after a power cut; None: nothing."""
    lay_out(found, where)
    try:
        store = sessile.Store(capacity=1000, memory="4 MiB", secret=SECRET, snapshot_dir=where, snapshot_interval=86_400)
    except sessile.SnapshotError as error:
        return f"refused: {error}"
    try:
        gone = {id for what, id in told if what == "gone"}
        # Whose end had begun may be there or not.
        there = {id for what, id in told if what == "there"} - {id for what, id in told if what == "ending"}
        back = [id for id in gone if store.load(id, touch=False) is not None]
        lost = [id for id in there if store.load(id, touch=False) is None]
        if back:
            return f"{len(back)} of {len(gone)} that ended are back"
        if lost:
            return f"{len(lost)} of {len(there)} are lost"
        return "check: " + "; ".join(store.check()) if store.check() else None
    finally:
        held = store._persistence
        assert held is not None
        held._stop.set()
        persistence._all.discard(held)
        held._let_go()
        store._persistence = None
        store.close()


def run(stores: Stores, in_place: Callable[[Any], None], tmp_path: Path, recorder: Recorder, encrypt: bool) -> Iterator[str]:
    """What is wrong after one power cut or another, found as far as it is asked for."""
    in_place(recorder)
    Program(stores, recorder, encrypt)
    in_place(os)
    for number, (told, found) in enumerate(cuts(recorder.log, shuffles=True)):
        verdict = judge(found, told, tmp_path / f"cut {number}")
        if verdict:
            yield verdict
    assert number > 100


@pytest.mark.parametrize("encrypt", [False, True], ids=["plain", "sealed"])
def test_per_02_per_09_no_power_cut_loses_or_brings_back_anybody(
    stores: Stores, in_place: Callable[[Any], None], tmp_path: Path, encrypt: bool
) -> None:
    """PER-02, PER-09."""
    assert list(run(stores, in_place, tmp_path, Recorder(), encrypt)) == []


@pytest.mark.parametrize(
    ("forgotten", "symptom"),
    [("sync data", "back"), ("sync", "refused"), ("sync names", "")],
    ids=["fdatasync of a batch", "fsync of a file", "fsync of the directory"],
)
def test_the_model_sees_a_forgotten_sync(
    stores: Stores, in_place: Callable[[Any], None], tmp_path: Path, forgotten: str, symptom: str
) -> None:
    """The negative controls: a program that forgot one kind of sync is caught."""
    assert any(symptom in each for each in run(stores, in_place, tmp_path, Recorder(lies=(forgotten,)), False))


def test_the_model_sees_a_rename_before_the_sync(stores: Stores, in_place: Callable[[Any], None], tmp_path: Path) -> None:
    """The negative control of the order: a file that has its name before it is durable."""
    assert any("refused" in each for each in run(stores, in_place, tmp_path, Recorder(renames_first=True), False))
