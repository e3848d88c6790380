"""Django's own test suites, run as they are with sessile's engine.

    python tests/web/django/suites.py                 all of them, with Django's middleware, then with ours
    python tests/web/django/suites.py --engine        with Django's middleware only
    python tests/web/django/suites.py --middleware    with ours only
    python tests/web/django/suites.py --engine sessions_tests     only this suite
    python tests/web/django/suites.py --django 5.2    with the newest Django of this series, if another is installed

They are not in Django's wheel: pip downloads the source distribution of the very version that is installed, once,
into build/django/. Nothing in it is changed. What is changed, from outside:

* SESSION_ENGINE is "sessile.web.django".
* csrf_tests makes its sessions from the class of the cache engine: while it is imported, that is sessile's class.
* `mixin/` beside this file becomes one more test module: Django's tests for session engines, for ours.
* With --middleware, `django.contrib.sessions.middleware.SessionMiddleware` is sessile's.

A test that is skipped is listed in `skipped.py`, with its reason. A name there that no suite has is an error.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import django
import skipped
from django.conf import settings
from django.test.runner import DiscoverRunner

SUITES = ("sessions_tests", "auth_tests", "messages_tests", "csrf_tests", "test_client", "test_client_regress")
_HERE = Path(__file__).resolve().parent
_BUILD = _HERE.parents[2] / "build" / "django"
_MIXIN = "sessile_mixin"


def tests_of(version: str) -> Path:
    """The folder `tests` of this version's source distribution; downloads it if it is not there."""
    tests = _BUILD / f"django-{version}" / "tests"
    if not (tests / "runtests.py").exists():
        _BUILD.mkdir(parents=True, exist_ok=True)
        options = ["--quiet", "--no-deps", "--no-binary", "django", "--dest", str(_BUILD)]
        pip = [sys.executable, "-m", "pip", "download", *options, f"Django=={version}"]
        if subprocess.run(pip, check=False).returncode != 0:
            raise SystemExit(f"NoSources: pip cannot download the source distribution of Django {version}")
        with tarfile.open(next(_BUILD.glob(f"[Dd]jango-{version}.tar.gz"))) as archive:
            archive.extractall(_BUILD, filter="data")
    shutil.copytree(_HERE / "mixin", tests / _MIXIN, dirs_exist_ok=True)
    return tests


def packages_of(series: str) -> Path:
    """A folder with the newest Django of this series; installs it there if it is not."""
    folder = _BUILD / f"packages-{series}"
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), f"Django=={series}.*"]
        if subprocess.run(pip, check=False).returncode != 0:
            raise SystemExit(f"pip cannot install Django {series} on Python {sys.version.split()[0]}")
    return folder


def run(tests: Path, middleware: bool, labels: list[str]) -> int:
    """Run suites in this process; returns the number of failures."""
    sys.path.insert(0, str(tests))
    sys.argv[1:] = []
    os.chdir(tests)
    spec = importlib.util.spec_from_file_location("runtests", tests / "runtests.py")
    assert spec is not None
    assert spec.loader is not None
    runtests = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runtests)
    os.environ["DJANGO_SETTINGS_MODULE"] = "suite_settings"
    settings.TEST_RUNNER = f"{__name__}.Runner"
    Runner.middleware = middleware
    Runner.labels = tuple(labels)
    failures: int = runtests.django_tests(
        verbosity=1, interactive=False, failfast=False, keepdb=False, reverse=False, test_labels=labels,
        debug_sql=False, parallel=1, tags=None, exclude_tags=None, test_name_patterns=None, start_at=None,
        start_after=None, pdb=False, buffer=True, timing=False, shuffle=False,
    )  # fmt: skip
    return failures


class Runner(DiscoverRunner):  # type: ignore[misc]  # Django has no types
    """Puts sessile in its place before the tests are imported, and marks what is skipped."""

    middleware = False
    labels: tuple[str, ...] = ()

    def setup_test_environment(self, **options: Any) -> None:
        super().setup_test_environment(**options)
        from django.contrib.sessions import middleware
        from django.contrib.sessions.backends import cache

        import sessile.web.django

        if self.middleware:
            middleware.SessionMiddleware = sessile.web.django.SessionMiddleware
        if "csrf_tests" in self.labels:
            with mock.patch.object(cache, "SessionStore", sessile.web.django.SessionStore):
                importlib.import_module("csrf_tests.tests")

    def build_suite(self, *arguments: Any, **options: Any) -> unittest.TestSuite:
        suite: unittest.TestSuite = super().build_suite(*arguments, **options)
        reasons = skipped.ENGINE | (skipped.MIDDLEWARE if self.middleware else {})
        unused = {name for name in reasons if name.partition(".")[0] in self.labels}
        for test in _flat(suite):
            if test.id() in reasons:
                name = test._testMethodName
                setattr(test, name, unittest.skip(reasons[test.id()])(getattr(type(test), name)))
                unused.discard(test.id())
        if unused:
            raise SystemExit(f"skipped.py names tests that there are not: {sorted(unused)}")
        return suite


def _flat(suite: Any) -> Any:
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from _flat(each)
        else:
            yield each


def main() -> int:
    """Run what the command line asks for, each way in a process of its own."""
    parser = argparse.ArgumentParser(description="Django's own test suites with sessile's engine.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--engine", action="store_true", help="with Django's middleware only")
    which.add_argument("--middleware", action="store_true", help="with sessile's middleware only")
    parser.add_argument("--django", metavar="SERIES", help="such as 5.2 or 6; else the one that is installed")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("labels", nargs="*", default=SUITES, metavar="SUITE")
    arguments = parser.parse_args()
    if arguments.django and not django.get_version().startswith(f"{arguments.django}."):
        command = [sys.executable, __file__, *[each for each in sys.argv[1:] if each not in ("--django", arguments.django)]]
        return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(packages_of(arguments.django))}).returncode
    tests = tests_of(django.get_version())
    if arguments.here:
        labels = list(arguments.labels)
        if "sessions_tests" in labels:
            labels.append(_MIXIN)
        with tempfile.TemporaryDirectory(prefix="django_") as folder:
            os.environ["TMPDIR"] = tempfile.tempdir = folder
            return 1 if run(tests, arguments.middleware, labels) else 0
    ways = ["--engine"] if arguments.engine else ["--middleware"] if arguments.middleware else ["--engine", "--middleware"]
    failed = 0
    for way in ways:
        print(f"Django {django.get_version()}, {way[2:]}: {' '.join(arguments.labels)}", flush=True)
        failed |= subprocess.run([sys.executable, __file__, "--here", way, *arguments.labels]).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
