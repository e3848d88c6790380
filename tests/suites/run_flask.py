"""Flask's own suite and Flask-Login's, from their source distributions, as they are, with sessions from Sessile.

    python tests/suites/run_flask.py DIRECTORY

In DIRECTORY an environment is made with the versions below and the suites are unpacked; both are used again.
Every test must pass, but for those that are named here with the reason; and those must fail, so that the list
stays true.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [
    *("flask==3.1.3", "Flask-Login==0.6.3", "werkzeug==3.1.9"),
    *("pytest<9", "asgiref", "python-dotenv", "semantic_version", "greenlet"),
]


class Suite(NamedTuple):
    """A source distribution, and its tests that are not to pass: name and reason."""

    distribution: str
    failing: dict[str, str]


SUITES = [
    Suite(
        "flask==3.1.3",
        {
            "test_basic.py::test_session_using_session_settings": "wants a cookie without HttpOnly: ours always has it",
            "test_basic.py::test_session_using_samesite_attribute": "wants a cookie without SameSite: ours always has "
            "it; and changes the configuration of an application that serves",
            "test_basic.py::test_session_secret_key_fallbacks": "changes SECRET_KEY of an application that serves: the "
            "table took its secrets when it was opened",
            "test_basic.py::test_session_expiration": "wants Expires: ours has Max-Age, which browsers prefer",
            "test_basic.py::test_session_cookie_setting": "wants a cookie with each response: ours lives as long as the "
            "session can, so it need not be sent again",
            "test_basic.py::test_session_refresh_vary": "wants Vary where nothing touched the session, for that cookie",
            "test_reqctx.py::test_bad_environ_raises_bad_request": "fails without Sessile too, with this Werkzeug",
        },
    ),
    Suite("Flask-Login==0.6.3", {}),
]


def main(directory: Path) -> int:
    """Run all suites; return how many were not as they should be."""
    python = make_environment(directory)
    return sum(not is_as_expected(suite, run(unpack(suite, directory, python), python)) for suite in SUITES)


def make_environment(directory: Path) -> Path:
    python = directory / "venv" / "bin" / "python"
    if not python.exists():
        venv.create(directory / "venv", with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    return python


def unpack(suite: Suite, directory: Path, python: Path) -> Path:
    """Download a source distribution, once, and give the directory that it unpacks to."""
    target = directory / suite.distribution.replace("==", "-")
    if not target.exists():
        source = ["--no-deps", "--no-binary", ":all:", "--dest", directory / "sdists", suite.distribution]
        subprocess.run([python, "-m", "pip", "download", "-q", *source], check=True)
        name = suite.distribution.replace("==", "-").replace("-", "[-_]").lower()
        (archive,) = [
            path for path in (directory / "sdists").iterdir() if re.fullmatch(name + r"\.tar\.gz", path.name.lower())
        ]
        with tarfile.open(archive) as files:
            files.extractall(directory / "unpacking", filter="data")
        (directory / "unpacking" / archive.name.removesuffix(".tar.gz")).rename(target)
    return target


def run(where: Path, python: Path) -> dict[str, str]:
    """Run a suite; give the outcome of each of its tests by name."""
    search = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "suites")])
    done = subprocess.run(
        [python, "-m", "pytest", "-p", "sessile_in_flask", "-q", "-rA", "--no-header", "--tb=short", "tests"],
        cwd=where,
        env={**os.environ, "PYTHONPATH": search},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    outcomes = re.findall(r"^(PASSED|FAILED|ERROR) tests/(\S+)", done.stdout, re.MULTILINE)
    if done.returncode not in (0, 1) or not outcomes:
        sys.exit(done.stdout)
    skipped = re.findall(r"^SKIPPED \[(\d+)\] (.*)$", done.stdout, re.MULTILINE)
    print(f"{where.name}: {len(outcomes)} tests run")
    for count, why in skipped:
        print(f"  the suite itself skips {count}: {why}")
    return {name: outcome for outcome, name in outcomes}


def is_as_expected(suite: Suite, outcomes: dict[str, str]) -> bool:
    """Print what is not as it should be."""
    failed = {name for name, outcome in outcomes.items() if outcome != "PASSED"}
    for name in sorted(suite.failing.keys() & failed):
        print(f"  not passed: {name}: {suite.failing[name]}")
    for name in sorted(failed - suite.failing.keys()):
        print(f"  FAILED: {name}")
    for name in sorted(suite.failing.keys() - failed):
        print(f"  passes, and is named as one that does not: {name}")
    print(f"  {len(outcomes) - len(failed)} passed")
    return failed == suite.failing.keys()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
