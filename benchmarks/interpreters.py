"""The free-threaded interpreter that some figures need, with sessile built for it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def free_threaded(packages: Sequence[str] = ("sessile",)) -> str | None:
    """Path of a Python without the GIL that can import `packages`; None if there is none.

    It is of the environment that `make bench` makes where it finds python3.13t.
    """
    python = str(ROOT / ".venv-python3.13t" / "bin" / "python")
    check = f"import sys, {', '.join(packages)}; sys.exit(sys._is_gil_enabled())"
    try:
        done = subprocess.run([python, "-c", check], cwd=ROOT, capture_output=True, check=False)
    except OSError:
        return None
    return python if done.returncode == 0 else None
