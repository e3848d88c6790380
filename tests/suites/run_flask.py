"""Flask's own suite, Flask-Login's and Flask-Session's, as they are, with sessions from Sessile.

    python tests/suites/run_flask.py DIRECTORY
    python tests/suites/run_flask.py DIRECTORY --flask-session CHECKOUT      also that of a clone of its repository

In DIRECTORY an environment is made with the versions below and the suites are unpacked; both are used again. They
come in source distributions; 0.4.1 is the last of Flask-Session that has its tests in it.
Every test must pass, but for those that are named here with the reason; and those must fail, so that the list
stays true.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
# The newest Werkzeug with which Flask's own suite passes by itself: later ones fail a test that is not about sessions.
PACKAGES = [
    *("flask==3.1.3", "Flask-Login==0.6.3", "werkzeug==3.1.6"),
    *("pytest<9", "cachelib", "asgiref", "python-dotenv", "semantic_version", "greenlet"),
]


class Suite(NamedTuple):
    """A source distribution, its tests that are not to pass: name and reason; and what pytest is told."""

    distribution: str
    failing: dict[str, str]
    arguments: tuple[str, ...] = ("tests",)
    plugins: tuple[str, ...] = ("sessile_in_flask",)


AS_FLASK_SESSION = ("sessile_in_flask", "sessile_as_flask_session")
SUITES = [
    Suite(
        "flask==3.1.3",
        {
            "test_basic.py::test_session_using_session_settings": "COK-01, COK-14: wants a cookie that scripts can read",
            "test_basic.py::test_session_using_samesite_attribute": "COK-01: wants no SameSite where the site says "
            "nothing; ours is Lax then, and what the site does say is done",
            "test_basic.py::test_session_cookie_setting": "COK-11: wants a cookie with each response",
            "test_basic.py::test_session_refresh_vary": "COK-11, DOS-01: wants a cookie, and so Vary, also where nothing "
            "touched the session",
        },
    ),
    Suite("Flask-Login==0.6.3", {}),
    Suite("Flask-Session==0.4.1", {}, ("-c", os.devnull, "--rootdir=.", "test_session.py"), AS_FLASK_SESSION),
]
CLONE = Suite(
    "Flask-Session, clone",
    {"test_basic.py::test_null_session": "wants an error where SESSION_TYPE is missing: sessile has no such setting"},
    # The others do the same, and look into a server that holds no session here: DynamoDB, memcached, MongoDB, Redis, SQL.
    ("tests/test_basic.py", "tests/test_cachelib.py", "tests/test_filesystem.py"),
    AS_FLASK_SESSION,
)


def main(directory: Path, clone: Path | None) -> int:
    """Run all suites; return how many were not as they should be."""
    python = make_environment(directory)
    found = [(suite, unpack(suite, directory, python)) for suite in SUITES]
    if clone is not None:
        found.append((CLONE, clone))
    return sum(not is_as_expected(suite, run(suite, where, python)) for suite, where in found)


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


def run(suite: Suite, where: Path, python: Path) -> dict[str, str]:
    """Run it; give the outcome of each of its tests by name."""
    plugins = [word for name in suite.plugins for word in ("-p", name)]
    search = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "suites")])
    done = subprocess.run(
        [python, "-m", "pytest", *plugins, "-q", "-rA", "--no-header", "--tb=short", "-o", "addopts=", *suite.arguments],
        cwd=where,
        env={**os.environ, "PYTHONPATH": search},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    outcomes = re.findall(r"^(PASSED|FAILED|ERROR) (?:tests/)?(\S+\.py::.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    if done.returncode not in (0, 1) or not outcomes or len({name for _, name in outcomes}) != len(outcomes):
        sys.exit(done.stdout)
    skipped = re.findall(r"^SKIPPED \[(\d+)\] (.*)$", done.stdout, re.MULTILINE)
    print(f"{suite.distribution}: {len(outcomes)} tests run")
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
    parser = argparse.ArgumentParser(description="Suites of Flask and its extensions, with sessions from Sessile.")
    parser.add_argument("directory", type=Path, help="for an environment and the suites")
    parser.add_argument("--flask-session", type=Path, metavar="CHECKOUT", help="a clone of Flask-Session's repository")
    arguments = parser.parse_args()
    clone = arguments.flask_session
    sys.exit(main(arguments.directory.resolve(), None if clone is None else clone.resolve()))
