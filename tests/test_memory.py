"""What of a store lies in memory, as the system sees it: seals, flags of the mappings, and what bytes are not there."""

import base64
import fcntl
import hashlib
import os
import re
import resource
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sessile
from sessile.keys import Keys
from sessile.testing import EventRecorder

MakeStore = Callable[..., sessile.Store]

SECRET = b"a secret that is searched for in the table"
TABLE = "/memfd:sessile"


def mappings(name: str = "") -> dict[tuple[int, int], set[str]]:
    """The flags of this process's mappings (VmFlags of proc(5)) of this file, by their first and last address."""
    found = {}
    span, wanted = (0, 0), False
    for line in Path("/proc/self/smaps").read_text().split("\n"):
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) \S{4} \S+ \S+ \d+ *(.*)", line)
        if head:
            span = (int(head[1], 16), int(head[2], 16))
            wanted = head[3].startswith(name) if name else head[3] == ""
        elif line.startswith("VmFlags:") and wanted:
            found[span] = set(line.split()[1:])
    return found


@pytest.mark.shared_home
def test_a_core_dump_has_neither_table_nor_keys(make_store: MakeStore) -> None:
    """STO-07."""
    tables, others = mappings(TABLE), mappings()
    make_store()
    table = {span: flags for span, flags in mappings(TABLE).items() if span not in tables}
    assert table
    assert all("dd" in flags for flags in table.values()), table
    keys = [flags for span, flags in mappings().items() if span not in others and "dd" in flags]
    assert keys, "the keys lie in no mapping that is left out of core dumps"
    sanitized = "libasan" in os.environ.get("LD_PRELOAD", "")  # it turns mlock into nothing
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] > 1 << 20 and not sanitized:
        assert any("lo" in flags for flags in keys), "the keys are not locked in memory"


@pytest.mark.shared_home
def test_nobody_can_shrink_a_table_under_its_readers(make_store: MakeStore) -> None:
    """MPR-03: a memfd that was cut would be a SIGBUS for each process that reads it; /proc gives it to others of the uid."""
    make_store()
    descriptors = [
        int(each.name)
        for each in Path("/proc/self/fd").iterdir()
        if each.is_symlink() and os.readlink(each).startswith(TABLE)
    ]
    assert descriptors
    for descriptor in descriptors:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
        wanted = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        assert seals & wanted == wanted
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)


@pytest.mark.shared_home
def test_a_table_is_a_file_of_its_user_alone(make_store: MakeStore, tmp_path: Path) -> None:
    """MPR-03: whatever the umask."""
    old = os.umask(0)
    try:
        make_store(path=tmp_path / "table")
    finally:
        os.umask(old)
    facts = os.lstat(tmp_path / "table")
    assert (facts.st_mode, facts.st_uid) == (stat.S_IFREG | 0o600, os.geteuid())


@pytest.mark.shared_home
def test_more_memory_than_the_file_system_has_is_refused_at_once(tmp_path: Path) -> None:
    """MPR-03: an error that names the remedy, and no SIGBUS later."""
    free = shutil.disk_usage(tmp_path).free
    if free > 100 << 30:
        pytest.skip("a file system of this size cannot be asked for too much")
    with pytest.raises(sessile.AttachError, match="memory=") as caught:
        sessile.Store(tmp_path / "table", memory=free + (1 << 30))
    assert str(tmp_path) in str(caught.value)
    assert [each.name for each in tmp_path.iterdir() if each.name == "table"] == []


@pytest.mark.shared_home
def test_the_table_holds_no_key_and_no_id(make_store: MakeStore, tmp_path: Path) -> None:
    """MPR-08, STO-01: what leaves the host with an image of the table: no secret, no key that is derived from it, no id."""
    store = make_store(path=tmp_path / "table", secret=SECRET)
    sessions = [store.create({"n": n}, owner=f"user {n}") for n in range(20)]
    for session in sessions[:10]:
        session.rotate()
    content = (tmp_path / "table").read_bytes()
    assert b"user 3" in content, "this is not where the sessions are"
    keys = Keys.of(SECRET)
    secrets = {"secret": SECRET, "renewal": keys.renewal, "csrf": keys.csrf, "snapshot": keys.snapshot}
    secrets |= {"first half of the key of ids": keys.id[:32], "second half": keys.id[32:]}
    assert [name for name, secret in secrets.items() if secret[:16] in content or secret[-16:] in content] == []
    assert [session for session in sessions if str(session.id).encode() in content] == []


@pytest.mark.parametrize("known", [b"", b"a key of another store"], ids=["no key", "another key"])
def test_chosen_ids_are_spread_like_any_others(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, known: bytes) -> None:
    """DOS-06: ids that share the first byte of their digest under no key, or under another key, land in all shards alike."""
    few = 2_000
    chosen = sorted(
        (os.urandom(24) for _ in range(256 * few)),
        key=lambda random: hashlib.sha256(known + base64.urlsafe_b64encode(random)).digest(),
    )[:few]
    store = make_store(capacity=4 * few, memory="8 MiB", anonymous_share=1.0)
    monkeypatch.setattr(os, "urandom", lambda size: chosen.pop())
    for _ in range(few):
        store.create({"a": 1})
    shards = store._facts()[2]
    counts = [len(store._list(None, shard)) for shard in range(shards)]
    expected = few / shards
    assert sum(counts) == few
    assert shards >= 8
    assert all(abs(count - expected) < 6 * expected**0.5 for count in counts), counts


def test_an_index_grows_in_place_with_everything_found(make_store: MakeStore) -> None:
    """DOS-11: from one session to 30,000: each doubling is one shard's, and every session is found before and after."""
    store = make_store(capacity=40_000, memory="64 MiB", anonymous_share=1.0)
    ids: list[str] = []
    for n in range(30_000):
        ids.append(str(store.create({"n": n}).id))
        if n & (n - 1) == 0:
            assert all(store.load(each, touch=False) is not None for each in ids)
    assert all(store.load(each, touch=False)["n"] == n for n, each in enumerate(ids))  # type: ignore[index]
    assert store.check() == []


def test_a_handle_is_neither_the_id_nor_its_digest(
    watched: sessile.Store, recorder: EventRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    """DET-02: logs and events name a session by 64 bits of their own: nothing that is told leads to an id."""
    caplog.set_level("DEBUG", logger="sessile")
    session = watched.create({"a": 1})
    ids = [str(session.id)]
    session.login("alice")
    ids.append(str(session.id))
    session.rotate()
    ids.append(str(session.id))
    handle = session.handle
    assert re.fullmatch("[0-9a-f]{16}", str(handle))
    for each in ids[:-1]:
        assert watched.load(each) is None
    session.logout()
    told = repr(recorder.events) + caplog.text + " ".join(str(record.args) for record in caplog.records)
    assert str(handle) in told
    for each in ids:
        digests = [hashlib.sha256(each.encode()).hexdigest(), digest_of(watched, each).hex()]
        assert each not in told
        assert all(str(handle) not in secret for secret in (each, *digests))
        assert all(digest[:16] not in told for digest in digests)


def digest_of(store: Any, text: str) -> bytes:
    """The keyed digest as the table has it."""
    return hashlib.sha256(bytes(store._keys[0].id) + text.encode()).digest()


def test_an_operation_that_is_interrupted_leaves_nothing_half_done(store: sessile.Store) -> None:
    """CON-06: a cancelled request is an exception at any point of the application's own code: inside
    `update_field` it leaves the stored value and no lock."""
    session = store.create({"n": 1})

    class Cancelled(BaseException):
        pass

    def cancelled(value: int) -> int:
        raise Cancelled

    with pytest.raises(Cancelled):
        session.update_field("n", cancelled)
    opened = store.open(session.id)
    with pytest.raises(Cancelled), opened:
        opened.update_field("n", cancelled)
    again = store.open(session.id)
    assert again["n"] == 1
    assert again.update_field("n", lambda n: n + 1) == 2
