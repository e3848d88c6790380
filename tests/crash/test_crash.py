"""The tests that kill, in their short form; `make crash SIZE=ci` and `SIZE=full` are the longer ones.

MPR-05: whatever the mapping's bytes are, nothing outside it is touched, and a repair mends it. MPR-06: a process that is
killed at any instruction leaves every operation that returned, and of the one that it was in all or nothing. CON-01: what
several processes saw of one another, some of them killed, is what one after the other would have seen.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SEED = "1"      # one that is chosen anew belongs to the longer forms: a test that was green is green again

pytestmark = [pytest.mark.slow, pytest.mark.shared_home, pytest.mark.timeout(600)]


@pytest.mark.parametrize("part", ["stepper", "wrong", "campaign", "python", "faults", "fuzz", "histories"])
def test_mpr_06_a_kill_loses_nothing(part: str) -> None:
    """Each part by itself: what it does stands in tests/crash/Makefile."""
    if shutil.which("make") is None or shutil.which("gcc") is None:
        pytest.skip("needs make and gcc")
    command = ["make", "-j2", "-f", "tests/crash/Makefile", part, "SIZE=short", f"SEED={SEED}", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
