"""The end of an interpreter under running threads, interpreters within one process, and platforms that are refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sessile

ROOT = Path(__file__).resolve().parent.parent

WORKER = """
import atexit, os, sys, threading
import sessile

path, ending = sys.argv[1:]
store = sessile.Store(path, capacity=4000, memory="16 MiB", busy_timeout=20)
under_way = threading.Barrier(6)

def work(number):
    session = store.create({"n": 0}, owner=f"owner {number}")
    os.write(1, f"{session.id} ".encode())
    under_way.wait()
    while True:
        try:
            session.update_field("n", lambda n: n + 1)
            store.create({"text": "x" * 3000}).rotate()
            store.create(owner=f"visitor {number}")
            store.revoke(f"visitor {number}")
            store.load(session.id)["n"]
            store.sessions(f"owner {number}")
            next(store.sessions())
            store.sweep(64)
            store.check()
        except sessile.StoreClosed:
            return
        except StopIteration:
            continue

for number in range(5):
    threading.Thread(target=work, args=(number,), daemon=True).start()
if ending == "atexit":
    atexit.register(store.close)
under_way.wait()
if ending == "close":
    store.close()

if ending == "exit":
    sys.exit(0)
"""


@pytest.mark.parametrize("ending", ["return", "exit", "close", "atexit"])
def test_an_interpreter_may_end_under_its_daemon_threads(tmp_path: Path, ending: str) -> None:
    """No table is unmapped under a thread, and no lock stays that others wait for; what was stored stays."""
    tmp_path.chmod(0o700)
    path = str(tmp_path / "table")
    with sessile.Store(path, capacity=4000, memory="16 MiB", busy_timeout=20) as store:
        for _ in range(3):
            ended = subprocess.run(
                [sys.executable, "-X", "faulthandler", "-c", WORKER, path, ending], capture_output=True, text=True
            )
            assert (ended.returncode, ended.stderr) == (0, "")
            ids = ended.stdout.split()
            assert len(ids) == 5
            assert [store.load(id)["n"] >= 0 for id in ids] == [True] * 5
            assert store.check() == []  # takes every lock
            assert store.revoke("owner 1") == 1
        assert store.revoke_all() > 0


SUBINTERPRETER = """
import sys
import sessile
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
else:
    import _xxsubinterpreters as interpreters
answer = interpreters.run_string(interpreters.create(), '''
try:
    import sessile
except ImportError as error:
    print("refused:", error, flush=True)
else:
    print("imported", flush=True)
''')
assert answer is None, answer
print("main:", sessile.Store(capacity=100, memory="2 MiB").create({"a": 1})["a"])
"""


def test_a_sub_interpreter_is_refused() -> None:
    """And the first interpreter goes on."""
    ended = subprocess.run([sys.executable, "-c", SUBINTERPRETER], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    refused, main = ended.stdout.splitlines()
    assert refused.startswith("refused:")
    assert "interpreter" in refused
    assert main == "main: 1"


@pytest.mark.packaging
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("#undef __linux__", "sessile needs Linux"),
        ("#undef UINTPTR_MAX\n#define UINTPTR_MAX 0xffffffffu", "sessile needs a 64-bit platform"),
        ("#undef __BYTE_ORDER__\n#define __BYTE_ORDER__ __ORDER_BIG_ENDIAN__", "sessile needs a little-endian platform"),
        ("", ""),
    ],
)
def test_the_c_code_refuses_what_it_cannot_run_on(changed: str, said: str) -> None:
    """One line that says why, before anything that would follow from it."""
    preprocessed = subprocess.run(
        [*os.environ.get("CC", "cc").split(), "-E", "-x", "c", "-Icsrc", "-", "-o", os.devnull],
        input=f'#include <stdint.h>\n{changed}\n#include "system.h"\n',
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    errors = [line for line in preprocessed.stderr.splitlines() if "error:" in line or "#error" in line]
    assert bool(preprocessed.returncode) == bool(errors) == bool(said)
    assert said in "".join(errors[:1])


@pytest.mark.packaging
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("sys.maxsize = 2**31 - 1", "sessile needs a 64-bit Python"),
        ("sys.byteorder = 'big'", "sessile needs a little-endian machine"),
        ("sys.platform = 'darwin'", "sessile needs Linux"),
        ("import sysconfig; sysconfig.get_path = lambda name: '/nowhere'", "/nowhere/Python.h is missing"),
    ],
)
def test_setup_refuses_it_in_one_line(changed: str, said: str) -> None:
    code = f"""
import sys, Cython.Build, setuptools
from setuptools.command import build_ext
{changed}
sys.argv = ["setup.py", "--version"]
exec(compile(open("setup.py").read(), "setup.py", "exec"), {{"__name__": "__main__"}})
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert said in ended.stderr
