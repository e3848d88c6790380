"""How the work for a request grows with what a client sends, counted in instructions: time would be noise.

Up to 256 KiB in the suite, up to 1 MiB by `make test-linear`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(1200)

WORK = Path(__file__).with_name("linear.py")


def work() -> Any:
    spec = spec_from_file_location("linear", WORK)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """Instructions of each case, in the order of the sizes."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("valgrind is missing (Debian: apt install valgrind)")
    folder = tmp_path_factory.mktemp("callgrind")
    command = [valgrind, "--tool=callgrind", "--dump-before=getppid", "--dump-line=no", f"--callgrind-out-file={folder}/out"]
    done = subprocess.run([*command, sys.executable, "-W", "ignore", str(WORK)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    totals = []
    for number in range(1, 2 * len(done.stdout.splitlines()) + 1):
        match = re.search(r"^totals: (\d+)$", Path(f"{folder}/out.{number}").read_text(), re.MULTILINE)
        assert match is not None
        totals.append(int(match[1]))
    found: dict[str, list[int]] = {}
    for line, total in zip(done.stdout.splitlines(), totals[1::2], strict=True):
        found.setdefault(line.split("|", 1)[1], []).append(total)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", work().NAMES)
def test_the_work_is_linear(counted: dict[str, list[int]], name: str) -> None:
    """COK-08: four times the octets are four times the instructions, and not sixteen times. What is there
    anyway is taken off; a collection of garbage, which may happen in any of them, is allowed for."""
    least, quarter, whole = counted[name]
    assert whole - least <= 6 * max(quarter - least, 0) + 1_000_000
