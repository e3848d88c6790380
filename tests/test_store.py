"""The store: options, making and finding sessions, ids, limits, closing."""

import base64
import collections
import copy
import gc
import glob
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sessile
from sessile import keys

is_id = re.compile(r"[A-Za-z0-9_-]{32}").fullmatch
MakeStore = Callable[..., sessile.Store]

# ---- options ----

BAD_OPTIONS = [
    {"capacity": 0},
    {"capacity": -5},
    {"capacity": 2**31},
    {"capacity": 1.5},
    {"capacity": True},
    {"capacity": "many"},
    {"memory": "256 XB"},
    {"memory": "64 KB"},
    {"memory": "a lot"},
    {"memory": "1.0001 KiB"},
    {"memory": -1},
    {"memory": None},
    {"memory": "1 MiB"},
    {"memory": 4096},
    {"capacity": 10_000_000, "memory": "4 MiB"},
    {"secret": b"short"},
    {"secret": "short"},
    {"secret": []},
    {"secret": [b"x" * 32] * 9},
    {"secret": [b"x" * 32, b"short"]},
    {"secret": 7},
    {"idle_timeout": 0},
    {"idle_timeout": -1},
    {"idle_timeout": float("nan")},
    {"idle_timeout": float("inf")},
    {"idle_timeout": "30"},
    {"idle_timeout": None},
    {"idle_timeout": True},
    {"idle_timeout": 400 * 86_400 + 1},
    {"absolute_timeout": timedelta(days=401)},
    {"absolute_timeout": timedelta(0)},
    {"anonymous_idle_timeout": 0},
    {"anonymous_absolute_timeout": -3},
    {"anonymous_share": 0},
    {"anonymous_share": 1.1},
    {"anonymous_share": "half"},
    {"max_sessions_per_owner": 0},
    {"max_sessions_per_owner": -1},
    {"max_session_size": 0},
    {"max_session_size": "2 MiB"},
    {"max_session_size": (1 << 20) + 1},
    {"busy_timeout": 0},
    {"busy_timeout": -1},
    {"on_event": 5},
    {"path": ""},
    {"path": "a b"},
    {"path": ".."},
    {"path": "a\0b/"},
    {"path": 7},
]


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=repr)
def test_an_option_that_makes_no_sense_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=list(options)[-1]):
        sessile.Store(**options)


def test_the_refusal_of_a_small_memory_says_what_would_do(make_store: MakeStore) -> None:
    with pytest.raises(ValueError, match="at least") as caught:
        sessile.Store(capacity=100_000, memory="2 MiB")
    least = int(re.search(r"at least (\d+) bytes", str(caught.value))[1])
    assert make_store(capacity=100_000, memory=least).stats().capacity == 100_000


def test_the_refusal_of_a_large_memory_says_what_would_do() -> None:
    """Slots have numbers of 31 bits: about 63 GiB. Asking for more must not be answered with a least that is met."""
    for memory in ("64 GiB", "200 GiB", "17 TiB", str(2**63)):
        with pytest.raises(ValueError, match="memory= can be at most") as caught:
            sessile.Store(capacity=100_000, memory=memory)
        most = int(re.search(r"at most (\d+) bytes", str(caught.value))[1])
        assert 62 << 30 < most < 64 << 30


def test_a_secret_is_never_in_a_text() -> None:
    with pytest.raises(ValueError, match="secret") as caught:
        sessile.Store(secret="hunter2")
    assert "hunter2" not in str(caught.value)
    assert "7 bytes" in str(caught.value)
    assert "Q" * 32 not in repr(keys.Keys.of(b"Q" * 32))


@pytest.mark.parametrize(
    "options",
    [
        {"snapshot_dir": "relative"},
        {"snapshot_dir": 5},
        {"snapshot_interval": 0},
        {"durability": "all"},
        {"durability": "none"},
        {"encrypt": True},
        {"encrypt": 1},
    ],
    ids=repr,
)
def test_an_option_about_snapshots_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    """PER-01: a directory is named by an absolute path. What would do nothing is refused, not ignored."""
    with pytest.raises(ValueError, match="give"):
        sessile.Store(**options)


def test_sizes_and_times_have_several_forms(make_store: MakeStore) -> None:
    for memory in (4 << 20, "4 MiB", "4MiB", "4096 KiB", str(4 << 20), "4194304 B"):
        assert make_store(memory=memory).stats().memory == 4 << 20
    store = make_store(idle_timeout=timedelta(minutes=5), absolute_timeout=600.5)
    remaining = store.create().remaining
    assert remaining is not None
    assert 299 < remaining <= 300


def test_the_defaults_make_a_store() -> None:
    with sessile.Store() as store:
        stats = store.stats()
        assert (stats.capacity, stats.memory, stats.sessions) == (262_144, 256 << 20, 0)


def imported_somewhere(modules: str) -> list[str]:
    """The sources that import one of these modules."""
    pattern = re.compile(rf"^\s*(import|from) ({modules})\b", re.MULTILINE)
    folder = Path(sessile.__file__).parent
    sources = [path for path in folder.rglob("*.py*") if path.suffix in (".py", ".pyx")]
    assert sources
    return [path.name for path in sources if pattern.search(path.read_text(encoding="utf-8"))]


# ---- creating, loading, opening ----


def test_create_stores_at_once(store: sessile.Store) -> None:
    session = store.create({"theme": "dark", "cart": ["book"]})
    loaded = store.load(session.id)
    assert loaded is not None
    assert dict(loaded) == {"theme": "dark", "cart": ["book"]}
    assert loaded.id == session.id
    assert loaded.handle == session.handle
    assert (session.is_new, loaded.is_new) == (True, False)
    assert (loaded.owner, loaded.device) == (None, None)
    assert store.stats().sessions == 1


def test_create_takes_any_mapping_and_even_none(store: sessile.Store) -> None:
    assert dict(store.create()) == {}
    assert dict(store.create(collections.OrderedDict(a=1))) == {"a": 1}
    assert dict(store.create(store.create({"b": 2}))) == {"b": 2}


def test_create_with_owner_is_a_log_in(store: sessile.Store) -> None:
    session = store.create({"a": 1}, owner="alice", device={"browser": "Firefox"})
    loaded = store.load(session.id)
    assert (loaded.owner, loaded.device, loaded["a"]) == ("alice", {"browser": "Firefox"}, 1)
    assert loaded.authenticated_at is not None
    assert [info.handle for info in store.sessions("alice")] == [session.handle]


def test_create_takes_timeouts_of_its_own(store: sessile.Store) -> None:
    session = store.create(idle_timeout=60)
    assert 59 < session.remaining <= 60
    session = store.create(absolute_timeout=timedelta(seconds=30))
    assert 29 < session.remaining <= 30


@pytest.mark.parametrize("data", [{"a": object()}, {"a": [1, {2.5: 1}]}, {1: 2}, {"a": print}], ids=repr)
def test_create_refuses_what_cannot_be_stored_and_changes_nothing(store: sessile.Store, data: Any) -> None:
    with pytest.raises(TypeError):
        store.create(data)
    assert store.stats().sessions == 0
    assert store.stats().created == 0


def test_the_refusal_of_a_value_has_its_path(store: sessile.Store) -> None:
    with pytest.raises(TypeError, match=re.escape("$.cart[1].price")):
        store.create({"cart": [{}, {"price": object()}]})


def test_nothing_that_can_run_code_is_stored(store: sessile.Store) -> None:
    """STO-03: an object with __reduce__ is refused; Beaker and Flask-Session ran it."""

    class Exploit:
        def __reduce__(self) -> Any:
            return os.system, ("true",)

    with pytest.raises(TypeError):
        store.create({"a": Exploit()})
    assert not imported_somewhere("pickle|marshal|shelve|dill")


def test_stored_values_are_copies(store: sessile.Store) -> None:
    """STO-04: neither the given object nor one that was read is the stored one."""
    given = {"cart": ["book"]}
    session = store.create(given)
    given["cart"].append("intruder")
    assert session["cart"] == ["book"]
    first, second = store.load(session.id), store.load(session.id)
    first["cart"].append("mine")
    assert second["cart"] == ["book"]
    assert store.load(session.id)["cart"] == ["book"]


def test_open_finds_a_session_or_makes_one_that_is_not_stored(store: sessile.Store) -> None:
    session = store.create({"a": 1})
    assert store.open(session.id).id == session.id
    for id in (None, "", "x" * 32, "short"):
        opened = store.open(id)
        assert (opened.id, opened.handle, len(opened), opened.is_new) == (None, None, 0, True)
    assert store.stats().sessions == 1


def test_reading_never_creates(store: sessile.Store) -> None:
    """DOS-01: neither reading with unknown ids nor opening without a write stores anything."""
    for number in range(1000):
        store.load(f"{number:032d}")
        with store.open(f"{number:032d}") as session:
            session.get("x")
    assert store.stats().sessions == 0
    assert store.stats().created == 0


def test_an_unknown_id_is_never_adopted(store: sessile.Store) -> None:
    """SID-06. Starsessions, Beaker and Litestar store a new session under the id that the client chose."""
    presented = "A" * 32
    with store.open(presented) as session:
        session["a"] = 1
    assert session.id != presented
    assert store.load(presented) is None
    assert store.load(session.id)["a"] == 1


# ---- ids ----


def test_one_call_of_the_kernels_generator_an_id(
    store: sessile.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SID-01: no user-space pool."""
    real, calls = os.urandom, []
    monkeypatch.setattr(os, "urandom", lambda size: calls.append(size) or real(size))
    ids = {store.create().id for _ in range(100)}
    assert calls == [24] * 100
    assert len(ids) == 100


def test_nothing_imports_random() -> None:
    """SID-01: no generator but the kernel's is in the sources."""
    assert not imported_somewhere("random|secrets|numpy")
    assert imported_somewhere("os")


def test_children_of_a_fork_make_different_ids(store: sessile.Store, in_child: Callable[..., Any]) -> None:
    """SID-01, CVE-2019-1549: a generator's state must not be duplicated by fork."""

    def ids() -> list[str]:
        return [store.create().id for _ in range(50)]

    made = [id for _ in range(4) for id in in_child(ids)]
    assert len(set(made)) == 200


def test_an_id_has_192_bits_of_entropy(store: sessile.Store) -> None:
    """SID-02: 24 bytes; every byte takes many values."""
    raw = [base64.urlsafe_b64decode(store.create().id) for _ in range(500)]
    assert {len(each) for each in raw} == {24}
    for place in range(24):
        assert len({each[place] for each in raw}) > 150


@given(st.binary(min_size=24, max_size=24))
@settings(max_examples=200, deadline=None)
def test_the_text_of_an_id_is_canonical(random: bytes) -> None:
    """SID-03: base64url without padding and without spare bits: one text an id."""
    from sessile._table import id_of

    text = id_of(random)
    assert text == base64.urlsafe_b64encode(random).decode()
    assert base64.urlsafe_b64decode(text) == random
    assert is_id(text)


@pytest.mark.parametrize("size", [0, 15, 23, 25])
def test_an_id_of_another_size_cannot_be_made(size: int) -> None:
    """SID-02, SID-03."""
    from sessile._table import id_of

    with pytest.raises(ValueError, match="24 bytes"):
        id_of(b"x" * size)


def test_an_id_tells_nothing(store: sessile.Store) -> None:
    """SID-04: opaque; the handle, which is shown, is no part of it."""
    session = store.create(owner="alice")
    raw = base64.urlsafe_b64decode(session.id)
    assert bytes.fromhex(session.handle) not in raw
    assert b"alice" not in raw
    assert session.handle not in session.id


MALFORMED = [
    "", "x", "x" * 31, "x" * 33, "x" * 31 + "=", "x" * 31 + "\n", "x" * 31 + "\0", "\r\n" * 16, "é" * 32,
    "x" * 31 + "é", "x" * 31 + "\udcff", "\U0001d4b3" * 32, "x" * 1_048_576, "+" * 32, "/" * 32, b"",
    b"\xff" * 32, b"x" * 33, None, 7, 1.5, [], {}, object(), ("x" * 32,), bytearray(b"x" * 32),
]  # fmt: skip


@pytest.mark.parametrize("id", MALFORMED, ids=lambda id: repr(id)[:40])
def test_a_malformed_id_is_no_session_and_no_exception(store: sessile.Store, id: Any) -> None:
    """SID-07: None, and a counter."""
    assert store.load(id) is None
    assert (store.stats().malformed, store.stats().misses) == (1, 0)


@given(st.one_of(st.text(max_size=64), st.binary(max_size=64), st.text("Aa0-_=\0", min_size=32, max_size=32)))
@settings(max_examples=300, deadline=None)
def test_no_id_makes_load_raise(id: Any) -> None:
    """SID-07."""
    assert FUZZED.load(id) is None


FUZZED = sessile.Store(capacity=100, memory="2 MiB")


def test_an_unknown_id_is_counted(store: sessile.Store) -> None:
    """DOS-08: counters instead of events or records."""
    assert store.load("A" * 32) is None
    stats = store.stats()
    assert (stats.misses, stats.malformed, stats.sessions) == (1, 0, 0)


def test_an_id_as_bytes_is_the_same_id(store: sessile.Store) -> None:
    session = store.create({"a": 1})
    loaded = store.load(session.id.encode())
    assert loaded.id == session.id
    assert type(loaded.id) is str


def test_an_id_of_a_subclass_of_str_becomes_a_plain_one(store: sessile.Store) -> None:
    class Text(str):
        __slots__ = ()

    loaded = store.load(Text(store.create().id))
    assert type(loaded.id) is str


def test_an_id_in_use_is_never_taken_twice(store: sessile.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """SID-08: another is tried; a generator that only repeats is an error, and takes over nothing."""
    first = store.create({"mine": 1})
    real = os.urandom
    repeated = base64.urlsafe_b64decode(first.id)
    answers = [repeated, repeated, real(24)]
    monkeypatch.setattr(os, "urandom", lambda size: answers.pop(0))
    second = store.create({"yours": 1})
    assert second.id != first.id
    monkeypatch.setattr(os, "urandom", lambda size: repeated)
    with pytest.raises(sessile.SessileError, match="repeat"):
        store.create({"yours": 2})
    with pytest.raises(sessile.SessileError, match="repeat"):
        second.rotate()
    assert dict(store.load(first.id)) == {"mine": 1}
    assert dict(store.load(second.id)) == {"yours": 1}


def test_a_retired_id_is_never_taken_again(store: sessile.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """SID-08: not even by us."""
    session = store.create(owner="alice")
    retired = session.id
    session.rotate()
    real = os.urandom
    answers = [base64.urlsafe_b64decode(retired), real(24)]
    monkeypatch.setattr(os, "urandom", lambda size: answers.pop(0))
    assert store.create().id != retired
    assert answers == []


def test_no_id_in_repr_and_no_pickle(store: sessile.Store) -> None:
    """SID-10."""
    session = store.create(owner="alice")
    for thing in (session, store, store.sessions("alice"), store.stats(), list(store.sessions())):
        assert session.id not in repr(thing)
        assert session.id not in str(thing)
    for function in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="pickled nor copied") as caught:
            function(session)
        assert session.id not in str(caught.value)
        with pytest.raises(TypeError, match="path"):
            function(store)
    assert not hasattr(session, "__dict__")


def test_no_id_in_any_error(store: sessile.Store) -> None:
    """SID-10."""
    session = store.create()
    other = store.load(session.id)
    session.destroy()
    other["a"] = 1
    with pytest.raises(sessile.SessionGone) as caught:
        other.save()
    assert session.id not in repr(caught.value) + str(caught.value) + repr(vars(caught.value))
    assert caught.value.handle == session.handle


def memory_of(store: sessile.Store) -> bytes:
    """All that is in the files that this process holds without a name: the tables of anonymous stores."""
    found = []
    for link in glob.glob("/proc/self/fd/*"):
        try:
            if "memfd:" in os.readlink(link):
                with open(link, "rb") as file:
                    found.append(file.read())
        except OSError:
            continue
    assert found, "no table found"
    return b"".join(found)


@pytest.mark.shared_home
def test_the_table_holds_no_id(store: sessile.Store) -> None:
    """STO-01, CVE-2019-16782: only a keyed hash is stored. The marker shows that the search works."""
    session = store.create({"marker": "find-me-7381"}, owner="alice")
    store.load(session.id)
    old = session.id
    session.rotate()
    memory = memory_of(store)
    assert b"find-me-7381" in memory
    for id in (old, session.id):
        assert id.encode() not in memory
        assert base64.urlsafe_b64decode(id) not in memory


@pytest.mark.shared_home
def test_what_ended_is_wiped(store: sessile.Store) -> None:
    """STO-06: after the end, an overwrite that shrinks, and a rotation."""
    markers = {name: f"secret-of-{name}-4417" for name in ("destroyed", "shrunk", "login", "revoked")}
    sessions = {name: store.create({"x": text}, owner=name) for name, text in markers.items()}
    assert all(text.encode() in memory_of(store) for text in markers.values())
    sessions["destroyed"].destroy()
    sessions["shrunk"]["x"] = 1
    sessions["shrunk"].save()
    sessions["login"].login("somebody else")
    store.revoke("revoked")
    memory = memory_of(store)
    for name, text in markers.items():
        assert text.encode() not in memory, name


# ---- keys ----


def test_each_purpose_has_a_key_of_its_own() -> None:
    """STO-09."""
    derived = keys.Keys.of(b"s" * 32)
    all_keys = [derived.id, derived.renewal, derived.csrf, derived.snapshot]
    assert [len(key) for key in all_keys] == [64, 32, 32, 32]
    starts = {key[:32] for key in all_keys}
    assert len(starts) == 4
    assert keys.Keys.of(b"s" * 32) == derived
    assert keys.Keys.of(b"t" * 32).id != derived.id


def test_the_derivation_is_hkdf() -> None:
    """RFC 5869, A.1 has another salt; so against an independent implementation."""
    hashes = pytest.importorskip("cryptography.hazmat.primitives.hashes")
    hkdf = pytest.importorskip("cryptography.hazmat.primitives.kdf.hkdf")
    for size in (1, 32, 64, 100):
        expected = hkdf.HKDF(hashes.SHA256(), size, b"sessile", b"purpose").derive(b"k" * 40)
        assert keys.derive(b"k" * 40, b"purpose", size) == expected


def test_a_secret_as_text_is_its_utf8(make_store: MakeStore) -> None:
    assert make_store(secret="ü" * 16)._keys == make_store(secret=("ü" * 16).encode())._keys


def test_two_stores_share_nothing(make_store: MakeStore) -> None:
    one, two = make_store(), make_store()
    session = one.create()
    assert two.load(session.id) is None
    assert one.load(session.id) is not None


# ---- limits ----


def test_a_session_may_be_as_large_as_the_limit_and_no_larger(make_store: MakeStore) -> None:
    """STO-05: at the limit fine, one more raises before any change."""
    store = make_store(max_session_size=1000)
    overhead = 1 + 1 + 3  # the name's head, the name, the head of the text
    store.create({"x": "a" * (1000 - overhead)})
    with pytest.raises(sessile.SessionTooLarge) as caught:
        store.create({"x": "a" * (1001 - overhead)})
    assert (caught.value.size, caught.value.limit) == (1001, 1000)
    assert store.stats().sessions == 1


def test_a_record_of_any_size_comes_back(make_store: MakeStore) -> None:
    store = make_store(max_session_size="1 MiB", memory="32 MiB", capacity=100)
    for size in (0, 1, 31, 3_900, 4_100, 5_000, 16_384, 65_536, 200_000, 1_000_000):
        session = store.create({"x": "a" * size}, owner="größe", device={"n": "d" * 500})
        loaded = store.load(session.id)
        assert (loaded["x"], loaded.owner, loaded.device) == ("a" * size, "größe", {"n": "d" * 500})
        loaded.destroy()
    assert store.stats().sessions == 0


def test_the_accounting_returns_to_nothing(store: sessile.Store) -> None:
    """STO-05: after creating, growing, shrinking and ending."""
    assert store.stats().memory_used == 0
    sessions = [store.create({"x": "a" * (number * 7 % 3000)}) for number in range(300)]
    assert store.stats().memory_used > 300 * 100
    for number, session in enumerate(sessions):
        session["x"] = "b" * (number * 11 % 2500)
        session.save()
        session.destroy()
    stats = store.stats()
    assert (stats.sessions, stats.anonymous, stats.owned, stats.memory_used) == (0, 0, 0, 0)


@pytest.mark.parametrize("owner", ["a", "x" * 255, "ü" * 127, "line\nbreak", "nul\0inside", "日本語"])
def test_an_owner_is_any_text_of_up_to_255_bytes(store: sessile.Store, owner: str) -> None:
    session = store.create(owner=owner)
    assert store.load(session.id).owner == owner
    assert [info.owner for info in store.sessions(owner)] == [owner]


@pytest.mark.parametrize(
    "owner", ["", "x" * 256, "ü" * 128, "\ud800", 7, b"alice", 1.5, True, ["alice"]], ids=repr
)
def test_another_owner_is_refused_with_the_remedy(store: sessile.Store, owner: Any) -> None:
    session = store.create({"a": 1})
    for attempt in (lambda: store.create(owner=owner), lambda: session.login(owner)):
        with pytest.raises(TypeError, match=re.escape("str(user.id)")):
            attempt()
    with pytest.raises(TypeError):
        store.revoke(owner)
    assert store.load(session.id).owner is None
    assert store.stats().sessions == 1


@pytest.mark.parametrize(
    ("device", "error"),
    [
        ({"a": 1}, TypeError), ({1: "a"}, TypeError), ("Firefox", TypeError), ([("a", "b")], TypeError),
        ({"a": "x" * 1100}, ValueError), ({"a": "\ud800"}, ValueError),
    ],
)  # fmt: skip
def test_a_device_is_a_small_dict_of_text(store: sessile.Store, device: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        store.create(owner="alice", device=device)
    assert store.stats().sessions == 0


@pytest.mark.parametrize("name", ["idle_timeout", "absolute_timeout"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), "1", 401 * 86_400, True], ids=repr)
def test_a_timeout_of_a_session_is_checked(store: sessile.Store, name: str, value: Any) -> None:
    session = store.create()
    with pytest.raises(ValueError, match=name):
        store.create(**{name: value})
    with pytest.raises(ValueError, match=name):
        session.login("alice", **{name: value})
    with pytest.raises(ValueError, match=name.partition("_")[0]):
        session.set_timeouts(**{name.partition("_")[0]: value})
    assert store.load(session.id).owner is None


# ---- upkeep ----


def test_stats_count(store: sessile.Store) -> None:
    session = store.create({"a": 1})
    store.create(owner="alice")
    store.load(session.id)
    store.load("B" * 32)
    store.load("no id")
    stats = store.stats()
    assert (stats.sessions, stats.anonymous, stats.owned, stats.created) == (2, 1, 1, 2)
    assert (stats.loads, stats.misses, stats.malformed) == (1, 1, 1)
    assert 0 < stats.memory_used < stats.memory
    assert (stats.expired, stats.evicted, stats.revoked, stats.full, stats.recoveries, stats.quarantined) == (
        0,
    ) * 6
    session.destroy()
    assert store.revoke("alice") == 1
    stats = store.stats()
    assert (stats.sessions, stats.anonymous, stats.owned, stats.revoked, stats.memory_used) == (0, 0, 0, 1, 0)


def test_check_finds_nothing_in_a_sound_table(store: sessile.Store) -> None:
    for number in range(300):
        session = store.create({"n": number}, owner=f"owner {number % 20}" if number % 2 else None)
        if number % 3 == 0:
            session.rotate()
        if number % 7 == 0:
            session.destroy()
    assert store.check() == []
    assert store.check(repair=True) == []


def test_a_snapshot_needs_a_directory(store: sessile.Store) -> None:
    with pytest.raises(sessile.SnapshotError, match="snapshot_dir"):
        store.snapshot()
    store.flush()


@pytest.mark.parametrize("budget", [0, -1, "all", 1.5])
def test_the_budget_of_a_sweep_is_checked(store: sessile.Store, budget: Any) -> None:
    with pytest.raises(ValueError, match="budget"):
        store.sweep(budget)


# ---- closing ----


def closed_uses(store: sessile.Store, session: sessile.Session, fresh: sessile.Session) -> Mapping[str, Any]:
    return {
        "load": lambda: store.load(session.id),
        "load malformed": lambda: store.load("x"),
        "open": lambda: store.open(None),
        "create": lambda: store.create({"a": 1}),
        "sessions": lambda: store.sessions("alice"),
        "all sessions": lambda: list(store.sessions()),
        "revoke": lambda: store.revoke("alice"),
        "revoke_all": store.revoke_all,
        "sweep": store.sweep,
        "check": store.check,
        "stats": store.stats,
        "save": session.save,
        "save new": fresh.save,
        "reload": session.reload,
        "login": lambda: session.login("bob"),
        "login new": lambda: fresh.login("bob"),
        "rotate": session.rotate,
        "update_field": lambda: session.update_field("a", lambda a: a),
        "set_timeouts": lambda: session.set_timeouts(idle=5),
        "alive": session.alive,
        "logout": session.logout,
        "destroy": session.destroy,
        "created": lambda: session.created,
        "remaining": lambda: session.remaining,
        "fresh": lambda: session.fresh(5),
    }


def test_a_closed_store_says_so_everywhere(store: sessile.Store) -> None:
    session = store.create({"a": 1}, owner="alice")
    session["b"] = 2
    fresh = store.open()
    fresh["c"] = 3
    store.close()
    store.close()
    for name, use in closed_uses(store, session, fresh).items():
        with pytest.raises(sessile.StoreClosed):
            pytest.fail(f"{name} gave {use()!r}")
    assert "closed" in repr(store)
    assert (session["a"], session.owner) == (1, "alice")


def test_a_store_closes_itself_at_the_end_of_a_block() -> None:
    with sessile.Store(capacity=100, memory="2 MiB") as store:
        store.create()
    with pytest.raises(sessile.StoreClosed):
        store.stats()


def test_closing_returns_memory(bytes_of_tables: Callable[[], int]) -> None:
    """Neither descriptors nor mappings are left."""

    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), bytes_of_tables()

    gc.collect()
    before = held()
    closed = [sessile.Store(capacity=100, memory="2 MiB") for _ in range(5)]
    assert held()[1] > before[1]
    for store in closed:
        store.close()
    if sys._is_gil_enabled() if hasattr(sys, "_is_gil_enabled") else True:
        assert held() == before
    closed.clear()
    del store
    for _ in range(5):
        sessile.Store(capacity=100, memory="2 MiB")
    gc.collect()
    assert held() == before


def test_a_store_that_could_not_be_made_is_closed() -> None:
    store = sessile.Store.__new__(sessile.Store)
    with pytest.raises(ValueError, match="capacity"):
        store.__init__(capacity=0)
    with pytest.raises(sessile.StoreClosed):
        store.load("x")
    store.close()


def test_a_store_of_a_thread_is_seen_by_others(store: sessile.Store) -> None:
    made: list[sessile.Session] = []
    thread = threading.Thread(target=lambda: made.append(store.create({"a": 1})))
    thread.start()
    thread.join()
    assert store.load(made[0].id)["a"] == 1


def test_an_anonymous_store_in_a_spawned_process_warns(tmp_path: Any) -> None:
    """MPR-09: it would share nothing with the process that started it."""
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, sys, warnings\n"
        "def work(queue):\n"
        "    import sessile\n"
        "    with warnings.catch_warnings(record=True) as caught:\n"
        "        warnings.simplefilter('always')\n"
        "        sessile.Store(capacity=100, memory='2 MiB').close()\n"
        "    queue.put([str(each.message) for each in caught])\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context(sys.argv[1])\n"
        "    queue = context.SimpleQueue()\n"
        "    process = context.Process(target=work, args=(queue,))\n"
        "    process.start(); print(queue.get()); process.join()\n"
    )
    for method, warned in (("spawn", True), ("forkserver", True), ("fork", False)):
        done = subprocess.run([sys.executable, program, method], capture_output=True, text=True, check=True)
        assert ('Store("name")' in done.stdout) is warned, (method, done.stdout, done.stderr)


def test_spawned_processes_share_a_named_table(tmp_path: Any) -> None:
    """MPR-09: by its path; and nothing unlinks the table when the first of them ends."""
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, sys, sessile\n"
        "def work(path, id, queue):\n"
        "    store = sessile.Store(path, capacity=100, memory='2 MiB')\n"
        "    session = store.load(id)\n"
        "    queue.put(session.update_field('n', lambda n: n + 1))\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context(sys.argv[1])\n"
        "    queue = context.SimpleQueue()\n"
        "    store = sessile.Store(sys.argv[2], capacity=100, memory='2 MiB')\n"
        "    session = store.create({'n': 0})\n"
        "    for n in (1, 2):\n"
        "        process = context.Process(target=work, args=(sys.argv[2], session.id, queue))\n"
        "        process.start(); assert queue.get() == n; process.join()\n"
        "    print(store.load(session.id)['n'])\n"
    )
    for method in ("spawn", "forkserver", "fork"):
        command = [sys.executable, program, method, tmp_path / f"table of {method}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("2\n", "")
