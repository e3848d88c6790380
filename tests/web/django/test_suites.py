"""Django's own suite for sessions, with this engine and each middleware. `make django-suites` runs all six suites."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_SUITES = Path(__file__).resolve().parent / "suites.py"


@pytest.mark.parametrize("middleware", ["--engine", "--middleware"])
def test_sessions_tests(middleware: str) -> None:
    ran = subprocess.run(
        [sys.executable, str(_SUITES), middleware, "sessions_tests", "messages_tests"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "NoSources" in ran.stderr:
        pytest.skip(f"Django's source distribution cannot be downloaded: {ran.stderr[-300:]}")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "\nOK" in ran.stderr
