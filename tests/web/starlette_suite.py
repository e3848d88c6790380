"""Starlette's own tests of its session middleware, run with ours: what `request.session` promises there holds here.

    python tests/web/starlette_suite.py

They are not in Starlette's wheel: pip downloads the source distribution of the very version that is installed, once,
into build/starlette/. What is changed in them:

* `request.session` goes into a JSON response as `dict(request.session)`: it is a mapping, and no dict.
* Clients speak https, unless a test says otherwise.
* The middleware's options are translated, as far as there are such: `SHIM` below. The name of the cookie differs.

DIFFERENCES names the tests that fail on purpose, with the reason. Any other failure, and a name there that passes or
does not exist, is an error.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

DIFFERENCES = {
    "test_session": "the cookie ends with the browser unless Cookie(persistent=True), and then lives as long as the "
    "session may: there is no max_age of two weeks. The rest of the test is test_starlette.py's first",
    "test_partitioned_session[True]": "attribute names are written as in RFC 6265bis, `Partitioned`",
    "test_session_expires": "max_age=-1 cannot be asked for: timeouts are the store's, and at least a millisecond",
    "test_secure_session": "over plain http a write raises InsecureTransport, where Starlette loses the session in silence",
    "test_session_cookie_subpath": "over plain http a write raises InsecureTransport; and attribute names are written as "
    "in RFC 6265bis, `Path`",
    "test_session_zero_max_age": "max_age=0 cannot be asked for",
    "test_domain_cookie": "a Domain is given without the dot that browsers ignore, and excludes the prefix __Host-Http-",
}
"""By name: why it fails."""

BUILD = Path(__file__).resolve().parents[2] / "build" / "starlette"

CONFTEST = '''
import pytest
from starlette.testclient import TestClient


@pytest.fixture
def test_client_factory():
    return lambda app, base_url="https://testserver", **options: TestClient(app, base_url, **options)
'''

SHIM = '''
import itertools

from sessile import Store
from sessile.web import Cookie
from sessile.web.asgi import SessionMiddleware as Ours

stores = []


def SessionMiddleware(
    app, secret_key, max_age=1, https_only=None, same_site="lax", path="/", domain=None, partitioned=False
):
    """Ours, with Starlette's options."""
    options = {"persistent": max_age is not None, "samesite": same_site.capitalize(), "partitioned": partitioned}
    if path != "/":
        options |= {"name": "__Secure-id", "path": path}
    if domain is not None:
        options |= {"name": "__Secure-id", "domain": domain.removeprefix(".")}
    stores.append(Store(capacity=1000, memory="4 MiB"))
    return Ours(app, stores[-1], cookie=Cookie(**options))
'''


def source() -> str:
    """The text of Starlette's tests of the installed version; downloads it if it is not there."""
    installed = version("starlette")
    archive = BUILD / f"starlette-{installed}.tar.gz"
    if not archive.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        options = ["--quiet", "--no-deps", "--no-binary", "starlette", "--dest", str(BUILD)]
        pip = [sys.executable, "-m", "pip", "download", *options, f"starlette=={installed}"]
        if subprocess.run(pip, check=False).returncode != 0:
            raise SystemExit(f"pip cannot download the source distribution of Starlette {installed}")
    with tarfile.open(archive) as opened:
        member = opened.extractfile(f"starlette-{installed}/tests/middleware/test_session.py")
        assert member is not None
        return member.read().decode()


def adapted(text: str) -> str:
    """The tests with what stands at the top of this file changed; each change must have a place to be made in."""
    for before, after in (
        ('{"session": request.session}', '{"session": dict(request.session)}'),
        ("import Session, SessionMiddleware", "import Session\nfrom ours import SessionMiddleware"),
        ('client.cookies.delete("session")', "client.cookies.clear()"),
        ("from tests.types import TestClientFactory", "TestClientFactory = object"),
    ):
        assert before in text, before
        text = text.replace(before, after)
    return text


class Outcomes:
    """Which tests passed, and why the others did not."""

    def __init__(self) -> None:
        self.passed: set[str] = set()
        self.failed: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        name = report.nodeid.split("::")[-1]
        if report.failed:
            self.failed[name] = str(report.longrepr).strip().splitlines()[-1]
        elif report.when == "call" and report.passed:
            self.passed.add(name)


def judge(suite: str, outcomes: Outcomes, differences: dict[str, str]) -> int:
    """Print how a suite went; 0 if all is as it should be."""
    wrong = [f"{name}: {why}" for name, why in outcomes.failed.items() if name not in differences]
    wrong += [f"{name}: it does not fail any more" for name in differences.keys() & outcomes.passed]
    wrong += [f"{name}: there is no such test" for name in differences.keys() - outcomes.passed - outcomes.failed.keys()]
    for name, reason in differences.items():
        print(f"differs: {name}: {reason}")
    for line in wrong:
        print(f"WRONG: {line}")
    print(f"{suite}: {len(outcomes.passed)} pass, {len(differences)} differ on purpose, {len(wrong)} wrong")
    return 1 if wrong or not outcomes.passed else 0


def main() -> int:
    folder = BUILD / "suite"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test_session.py").write_text(adapted(source()))
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "ours.py").write_text(SHIM)
    outcomes = Outcomes()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    options = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-c", os.devnull]
    pytest.main([*options, str(folder)], plugins=[outcomes])
    return judge(f"Starlette {version('starlette')}", outcomes, DIFFERENCES)


if __name__ == "__main__":
    sys.exit(main())
