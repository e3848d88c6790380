"""What a process is told that cannot attach to a table, first comers, children of another user, and a full file system.

tests/c/test_home.c has each check by itself, and what only the C interface can show.
"""

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sessile

pytestmark = pytest.mark.shared_home

SECRET = b"the secret of the tests, 32 bytes or more"
OPTIONS: dict[str, Any] = {"capacity": 1000, "memory": "4 MiB", "secret": SECRET}
InChild = Callable[..., Any]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    sessile.Store(folder / "table", **OPTIONS).close()
    return folder / "table"


def refusal(path: Path) -> str:
    """What Store and the command line say, which is the same, without the path."""
    with pytest.raises(sessile.AttachError) as caught:
        sessile.Store(path, **OPTIONS)
    assert caught.value.path == str(path)
    command = [sys.executable, "-m", "sessile", "stats", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert str(caught.value) in done.stderr
    assert done.returncode == 4
    assert str(path) in str(caught.value)
    return str(caught.value)


def change_header(path: Path, offset: int, value: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(value)


def test_others_that_may_write_to_the_directory(path: Path) -> None:
    """MPR-04: what is wrong, and what to do."""
    path.parent.chmod(0o720)
    assert "others may write to the directory" in (text := refusal(path))
    assert "mode 0720" in text
    assert "give it mode 0700" in text
    path.parent.chmod(0o700)


def test_others_that_may_open_the_file(path: Path) -> None:
    """MPR-04."""
    path.chmod(0o640)
    assert "mode 0640" in (text := refusal(path))
    assert "give it mode 0600" in text


@as_root
def test_another_user(path: Path) -> None:
    """MPR-04: as root, who may open everything."""
    os.chown(path, 12345, -1)
    assert "the file of" in (text := refusal(path))
    assert "belongs to user 12345, and this process is user 0: run as that user" in text
    os.chown(path, 0, -1)
    os.chown(path.parent, 12345, -1)
    assert "the directory of" in refusal(path)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (os.symlink, "is a symbolic link, or its directory is one: pass the path"),
        (os.link, "has a second name (a hard link), by which others may know it: remove that one"),
        (lambda real, place: os.mkfifo(place, 0o600), "is not a regular file: pass another path"),
        (lambda real, place: os.mkdir(place, 0o700), "is not a regular file: pass another path"),
    ],
    ids=["symbolic link", "hard link", "pipe", "directory"],
)
def test_what_is_no_file_of_its_own(path: Path, make: Callable[[Path, Path], None], expected: str) -> None:
    """MPR-04."""
    place = path.with_name("place")
    make(path, place)
    assert expected in refusal(place)


def test_what_is_no_table(path: Path) -> None:
    """MPR-04: a file of the right mode and of something else; of another format; damaged."""
    current = path.read_bytes()[8:12]
    change_header(path, 8, struct.pack("<I", 77))
    assert re.search(r"is a table of format 77, and this version of sessile knows format \d+: pass another", refusal(path))
    change_header(path, 8, current)
    change_header(path, 40, b"xxxx")
    assert "is damaged, or of another build" in (text := refusal(path))
    assert "remove the file when no process uses it" in text
    change_header(path, 0, b"SOMETHING")
    assert "is not a table: pass another path" in refusal(path)
    os.truncate(path, 10)
    assert "is not a table" in refusal(path)


def test_another_memory_is_a_warning(path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="memory"):
        sessile.Store(path, **{**OPTIONS, "memory": "8 MiB"}).close()


FIRST_COMER = """
import json, sys, sessile
sys.stdin.read(1)
store = sessile.Store(sys.argv[1], capacity=1000, memory="4 MiB")
print(store.create({"n": int(sys.argv[2])}).id, flush=True)
for id, n in json.loads(sys.stdin.readline()):
    assert store.load(id)["n"] == n
"""


def test_first_comers_make_one_table(tmp_path: Path) -> None:
    """At once, without any of them being told to be the first; and the losers' files are gone."""
    tmp_path.chmod(0o700)
    for turn in range(4):
        path = tmp_path / f"table-{turn}"
        comers = [
            subprocess.Popen(
                [sys.executable, "-c", FIRST_COMER, path, str(number)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for number in range(5)
        ]  # fmt: skip
        for comer in comers:
            assert comer.stdin is not None
            comer.stdin.write("x")
            comer.stdin.flush()
        ids = [(comer.stdout.readline().strip(), n) for n, comer in enumerate(comers) if comer.stdout]
        for comer in comers:
            comer.communicate(json.dumps(ids) + "\n")
            assert comer.returncode == 0
        assert sorted(os.listdir(tmp_path)) == sorted(
            f"table-{number}{end}" for number in range(turn + 1) for end in ("", ".key")
        )


@as_root
@pytest.mark.parametrize("named", [False, True])
def test_a_child_that_becomes_another_user(named: bool, path: Path, in_child: InChild) -> None:
    """A server that starts as root, forks, and then gives up its rights: the child attached when it was forked."""
    store = sessile.Store(path if named else None, **OPTIONS)
    session = store.create({"n": 1})

    def work() -> tuple[int, str | None]:
        os.setgid(65534)
        os.setuid(65534)
        found = store.load(session.id)
        assert found is not None
        return found.update_field("n", lambda n: n + 1), store.create({"of": "the child"}).id

    changed, made = in_child(work)
    assert changed == 2
    found = store.load(made)
    assert found is not None
    assert found["of"] == "the child"
    assert store.check() == []
    store.close()


SMALL = """
import sys, sessile
try:
    sessile.Store(sys.argv[1] + "/table", capacity=100_000, memory="64 MiB", secret="x" * 32)
except sessile.AttachError as error:
    print(error)
store = sessile.Store(sys.argv[1] + "/table", capacity=1000, memory="4 MiB", secret="x" * 32)
try:
    with open(sys.argv[1] + "/other", "wb", buffering=0) as other:
        while other.write(bytes(4096)):
            pass
except OSError:
    pass
try:
    for number in range(1000):
        store.create({"text": "x" * 20_000}, owner=f"user {number}")
except sessile.StoreFull as error:
    print(error)
print(store.check())
"""


@as_root
def test_a_file_system_that_is_too_small(tmp_path: Path) -> None:
    """MPR-03: the remedy is named before anything is stored; memory that others took is an error, never SIGBUS."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", str(tmp_path)]
    if subprocess.run(["unshare", "-m", *mount], capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    script = ' "$@" && exec "$0" -c "$PROGRAM" "$FOLDER"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, sys.executable, *mount],
        env={**os.environ, "PROGRAM": SMALL, "FOLDER": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    small, full, found = done.stdout.splitlines()
    assert "pass a smaller memory=, or enlarge the file system" in small
    assert "--shm-size" in small
    assert re.search(r"needs \d+ bytes and its file system has \d+ free", small)
    assert "refuses memory" in full or "full" in full
    assert found == "[]"


def test_an_interactive_python(path: Path) -> None:
    """MPR-04: it sees the sessions of the process that made the table, and stores one for it; its end changes nothing."""
    secret, path = b"s" * 32, path.with_name("interactive")
    store = sessile.Store(str(path), secret=secret, capacity=1000, memory="2 MiB")
    typed = (
        "import sessile\n"
        f"store = sessile.Store({str(path)!r}, secret={secret!r}, capacity=1000, memory='2 MiB')\n"
        f"print('seen', store.load({store.create({'a': 1}).id!r})['a'])\n"
        "print('made', store.create({'b': 2}).id)\n"
    )
    done = subprocess.run([sys.executable, "-i", "-q"], input=typed, capture_output=True, text=True, check=True)
    answers = dict(line.split()[-2:] for line in done.stdout.splitlines())
    assert answers["seen"] == "1", done.stderr
    made = store.load(answers["made"])
    assert made is not None
    assert made["b"] == 2
    store.close()
