"""Files that earlier versions wrote can be read for ever (PER-10); golden.py says how they were made."""

import json
import shutil
import time
from pathlib import Path

import pytest
from crashing import Stores

GOLDEN = Path(__file__).parent / "golden"
DIRECTORIES = sorted(path for path in GOLDEN.glob("v*/*") if path.is_dir())


def test_there_are_golden_files_of_every_version() -> None:
    from sessile import snapshot

    assert {path.parent.name for path in DIRECTORIES} == {f"v{major}" for major in range(1, snapshot.MAJOR + 1)}


@pytest.mark.parametrize("made", DIRECTORIES, ids=lambda path: f"{path.parent.name} {path.name}")
def test_per_10_files_of_every_version_can_be_read(stores: Stores, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PER-10: images and journal, plain and sealed, a minute after they were written."""
    facts = json.loads((made / "facts.json").read_text())
    stores.directory.mkdir(mode=0o700)
    for path in made.iterdir():
        if path.name != "facts.json":
            shutil.copy(path, stores.directory)
            (stores.directory / path.name).chmod(0o600)
    monkeypatch.setattr(time, "time_ns", lambda: facts["wall_ns"] + 60 * 10**9)
    store = stores.open(encrypt=made.name == "sealed")
    for id, owner, fields in facts["there"]:
        session = store.load(id, touch=False)
        assert session is not None
        assert (session.owner, dict(session)) == (owner, fields)
    assert [store.load(id) for id in facts["gone"]] == [None] * len(facts["gone"])
    assert store.stats().sessions == len(facts["there"]) - 1  # one of them has two ids
