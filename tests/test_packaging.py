"""What users install: an sdist that builds from itself, a wheel without surplus, an import that is light."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import sessile

ROOT = Path(__file__).resolve().parent.parent
WHEEL_LIMIT = 300 * 1024    # bytes; a stray -g or typed memoryview in the extension shows here
FRAMEWORKS = {"django", "fastapi", "flask", "gunicorn", "quart", "starlette", "uvicorn", "werkzeug"}
HEAVY = {"asyncio", "cryptography", "email", "http.cookies", "multiprocessing", "sqlite3", "ssl"}

pytestmark = pytest.mark.timeout(1200)      # it is compiled here, wherever that is


def run_backend(folder: Path, hook: str, out: Path) -> Path:
    """Call a hook of the build backend in `folder` as pip does; return the file that it made in `out`."""
    code = f"import setuptools.build_meta as backend; print(backend.{hook}({os.fspath(out)!r}))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SESSILE_")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, made from a copy: what an earlier build left in the tree would hide a gap in MANIFEST.in."""
    pytest.importorskip("Cython", reason="needs the build tools")
    base = tmp_path_factory.mktemp("sdist")
    made = (".git", ".venv*", "build", "dist", "*.egg-info", "*.so", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, base / "copy", ignore=shutil.ignore_patterns(*made))
    return run_backend(base / "copy", "build_sdist", base)


@pytest.fixture(scope="module")
def sdist_names(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the unpacked sdist alone."""
    base = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(base, filter="data")
    return run_backend(base / sdist.name.removesuffix(".tar.gz"), "build_wheel", base)


def source_names(*patterns: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)}


@pytest.mark.packaging
def test_sdist_has_every_source_header_and_test(sdist_names: set[str]) -> None:
    headers = source_names("csrc/*.h")
    assert headers
    wanted = headers | source_names(
        "csrc/*.c", "src/sessile/**/*.py", "src/sessile/*.py[xdi]", "tests/**/*.py", "tests/c/*.[ch]", ".ci/*"
    )
    assert wanted - sdist_names == set()
    assert {"src/sessile/py.typed", "LICENSE", "README.md", "CHANGELOG.md", "Makefile"} <= sdist_names


@pytest.mark.packaging
def test_sdist_has_nothing_that_a_build_made(sdist_names: set[str]) -> None:
    made = {name for name in sdist_names if name.startswith("build/") or name.endswith((".so", ".o", ".pyc"))}
    assert made == set()


@pytest.mark.packaging
def test_wheel_has_every_module_the_types_and_the_licence(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = source_names("src/sessile/**/*.py", "src/sessile/**/*.pyi")
    assert {name.removeprefix("src/") for name in modules} - names == set()
    assert {"sessile/py.typed", "sessile/_table.pyi"} <= names
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
    extensions = {name.partition(".")[0] for name in names if name.endswith(".so")}
    assert extensions == {"sessile/_table"}


@pytest.mark.packaging
def test_wheel_has_no_sources_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.endswith((".pyx", ".pxd", ".pxi", ".c", ".h"))] == []
    assert [name for name in names if not name.startswith(("sessile/", "sessile-"))] == []


@pytest.mark.packaging
def test_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size <= WHEEL_LIMIT


def in_fresh_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_brings_no_framework_and_nothing_heavy() -> None:
    code = "import json, sessile, sys; print(json.dumps(list(sys.modules)))"
    loaded = set(json.loads(in_fresh_process(code)))
    assert "sessile" in loaded
    assert loaded & (FRAMEWORKS | HEAVY) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="counts the threads of the process in /proc")
def test_import_starts_no_thread() -> None:
    assert in_fresh_process("import os, sessile; print(len(os.listdir('/proc/self/task')))") == "1\n"


def test_the_version_is_the_same_everywhere() -> None:
    assert importlib.metadata.version("sessile") == sessile.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[?(\d[^\] ]*)", changelog, re.MULTILINE)
    assert released == [] or released[0] == sessile.__version__


def test_every_make_target_of_contributing_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert named
    assert named - targets == set()
