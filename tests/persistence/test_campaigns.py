"""The short forms of the campaigns beside this file; each has a command of its own for the long one."""

import shutil
import subprocess
from pathlib import Path

import fuzz
import kills
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.shared_home
def test_per_02_per_09_kill_9_at_system_calls(tmp_path: Path) -> None:
    """PER-02, PER-09: kills.py kills at all of them."""
    found = kills.run(tmp_path, every=41)
    assert found.wrong == []
    assert set(found.killed) == set(kills.WORKS)


@pytest.mark.slow
@pytest.mark.shared_home
def test_kills_are_judged(tmp_path: Path) -> None:
    """The negative control: without a journal, who was told to be gone is back."""
    found = kills.Found()
    kills.Campaign(tmp_path, durability="none").kill("ends", 10_000, found)
    assert any("is back" in wrong for wrong in found.wrong)


def test_per_12_changed_files_are_refused_or_harmless(tmp_path: Path) -> None:
    """PER-12: images and journals with changes behind their MACs, the same in each run, and those that found a fault once;
    `make fuzz-snapshots` goes on for as long as wanted, on the sanitized build."""
    opened, refused = fuzz.run(tmp_path, [*fuzz.FOUND_SEEDS, *range(300)])
    assert opened > 30
    assert refused > 30


@pytest.mark.slow
def test_per_12_the_corpus_of_the_fuzzer() -> None:
    """PER-12: what libFuzzer found is read once more, under the address and undefined-behaviour sanitizers."""
    if shutil.which("make") is None or shutil.which("cc") is None:
        pytest.skip("needs make and a C compiler")
    command = ["make", "-s", "-f", "tests/persistence/Makefile", "replay"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) == len(list((ROOT / "tests/persistence/corpus").iterdir())) > 50
