"""Owners: listing, revoking, the cap."""

import datetime as dt
from collections.abc import Callable

import pytest

import sessile
from sessile.testing import advance

MakeStore = Callable[..., sessile.Store]


def test_an_owners_sessions_are_listed_the_last_used_first(store: sessile.Store) -> None:
    """LIF-13."""
    first = store.create(owner="alice", device={"browser": "Firefox"})
    advance(store, 100)
    second = store.create(owner="alice")
    store.create(owner="bob")
    store.create()
    assert [info.handle for info in store.sessions("alice")] == [second.handle, first.handle]
    advance(store, 100)
    store.load(first.id)
    infos = store.sessions("alice")
    assert [info.handle for info in infos] == [first.handle, second.handle]
    info = infos[0]
    assert (info.owner, info.device) == ("alice", {"browser": "Firefox"})
    assert info.last_used - info.created >= dt.timedelta(seconds=200)
    assert info.expires - info.last_used == dt.timedelta(seconds=1800)
    assert store.sessions("nobody") == []


def test_a_handle_is_no_id(store: sessile.Store) -> None:
    """LIF-13: what a list shows cannot be used as a cookie."""
    store.create(owner="alice")
    info = store.sessions("alice")[0]
    assert store.load(info.handle) is None
    assert store.load(info.handle * 2) is None


def test_all_sessions_are_iterated(store: sessile.Store) -> None:
    made = {store.create(owner=f"owner {n % 40}" if n % 2 else None).handle for n in range(200)}
    iterator = store.sessions()
    assert iter(iterator) is iterator
    infos = list(iterator)
    assert {info.handle for info in infos} == made
    assert len(infos) == 200
    assert sum(info.owner is None for info in infos) == 100
    assert list(store.sessions(None)) == infos


def test_iterating_tolerates_changes(store: sessile.Store) -> None:
    sessions = [store.create() for _ in range(100)]
    seen = 0
    for _ in store.sessions():
        seen += 1
        if seen == 10:
            for session in sessions[:50]:
                session.destroy()
            for _ in range(20):
                store.create()
    assert 10 <= seen <= 120


def test_lists_contain_no_session_that_is_dead(store: sessile.Store) -> None:
    kept = store.create(owner="alice")
    store.create(owner="alice").destroy()
    store.create(owner="alice", idle_timeout=10)
    rotated = store.create(owner="alice")
    rotated.rotate()
    left = store.create(owner="alice")
    left.login("bob")
    advance(store, 60)
    handles = {kept.handle, rotated.handle}
    assert {info.handle for info in store.sessions("alice")} == handles
    assert {info.handle for info in store.sessions()} == {*handles, left.handle}


def test_revoke_logs_an_owner_out_everywhere(store: sessile.Store) -> None:
    """LIF-12: all of one owner, nobody else."""
    mine = [store.create(owner="alice") for _ in range(5)]
    other, anonymous = store.create(owner="bob"), store.create()
    assert store.revoke("alice") == 5
    assert [store.load(session.id) for session in mine] == [None] * 5
    assert store.sessions("alice") == []
    assert store.load(other.id) is not None
    assert store.load(anonymous.id) is not None
    assert store.revoke("alice") == 0
    assert store.revoke("nobody") == 0
    assert store.stats().revoked == 5


def test_revoke_can_keep_one(store: sessile.Store) -> None:
    """LIF-12: log out everywhere else. The object may be older than a renewal."""
    mine = [store.create(owner="alice") for _ in range(4)]
    kept = store.load(mine[2].id)
    store.load(mine[2].id)._renew()
    assert store.revoke("alice", keep=kept) == 3
    assert kept.alive()
    assert [info.handle for info in store.sessions("alice")] == [kept.handle]


def test_keeping_somebody_elses_session_keeps_none(store: sessile.Store) -> None:
    store.create(owner="alice")
    for keep in (store.create(owner="bob"), store.create(), store.open()):
        assert store.revoke("alice", keep=keep) == 1
        store.create(owner="alice")


def test_revoke_can_end_one_device(store: sessile.Store) -> None:
    """LIF-12, LIF-13."""
    first, second = store.create(owner="alice"), store.create(owner="alice")
    other = store.create(owner="bob")
    assert store.revoke("alice", handle=first.handle) == 1
    assert not first.alive()
    assert second.alive()
    assert store.revoke("alice", handle=first.handle) == 0
    assert store.revoke("alice", handle=other.handle) == 0
    assert other.alive()


@pytest.mark.parametrize(
    "handle", ["", "x", "0" * 16, "g" * 16, "-1", "0x1", "1" * 17, "1" * 15, " " * 16, "é" * 16]
)
def test_an_unknown_or_malformed_handle_ends_nothing(store: sessile.Store, handle: str) -> None:
    """A handle comes from a form: it must not end all sessions by mistake."""
    session = store.create(owner="alice")
    assert store.revoke("alice", handle=handle) == 0
    assert session.alive()


def test_revoke_checks_its_arguments(store: sessile.Store) -> None:
    session = store.create(owner="alice")
    with pytest.raises(TypeError, match="keep"):
        store.revoke("alice", keep=session.handle)
    with pytest.raises(TypeError, match="handle"):
        store.revoke("alice", handle=7)
    with pytest.raises(ValueError, match="not both"):
        store.revoke("alice", keep=session, handle=session.handle)
    assert session.alive()


def test_revoke_all_ends_everything_and_frees_the_room(make_store: MakeStore) -> None:
    """LIF-12: O(1), and the capacity is free at once."""
    store = make_store(capacity=100, anonymous_share=1.0)
    sessions = [store.create({"n": n}, owner=f"o{n}" if n % 2 else None) for n in range(100)]
    assert store.revoke_all() == 100
    assert [store.load(session.id) for session in sessions] == [None] * 100
    assert (list(store.sessions()), store.stats().sessions, store.sessions("o1")) == ([], 0, [])
    fresh = [store.create(owner=f"o{n}") for n in range(100)]
    assert all(session.alive() for session in fresh)
    assert store.revoke_all() == 100
    assert store.revoke_all() == 0


def test_an_owner_has_as_many_sessions_as_the_cap(make_store: MakeStore) -> None:
    """LIF-14: the one unused for longest ends, and only that owner's."""
    store = make_store(max_sessions_per_owner=3)
    bystander = store.create(owner="bob")
    sessions = []
    for _ in range(3):
        sessions.append(store.create(owner="alice"))
        advance(store, 100)
    store.load(sessions[0].id)
    fourth = store.open()
    fourth.login("alice")
    assert [session.alive() for session in sessions] == [True, False, True]
    assert fourth.alive()
    assert bystander.alive()
    assert len(store.sessions("alice")) == 3
    assert store.stats().evicted == 1


def test_the_cap_counts_no_dead_session(make_store: MakeStore) -> None:
    store = make_store(max_sessions_per_owner=2)
    store.create(owner="alice").destroy()
    first = store.create(owner="alice")
    for _ in range(5):
        second = store.create(owner="alice")
        assert first.alive()
        second.logout()
    assert store.stats().evicted == 0


def test_neither_renewal_nor_rotate_nor_a_step_up_logs_another_device_out(make_store: MakeStore) -> None:
    store = make_store(max_sessions_per_owner=2)
    first, second = store.create(owner="alice"), store.create(owner="alice")
    for _ in range(5):
        second.rotate()
        assert store.load(second.id)._renew()
        second.reload()
        second.login("alice")
    assert first.alive()
    assert second.alive()


def test_without_a_cap_there_is_none(make_store: MakeStore) -> None:
    store = make_store(max_sessions_per_owner=None)
    for _ in range(100):
        store.create(owner="alice")
    assert len(store.sessions("alice")) == 100
    assert store.revoke("alice") == 100


def test_many_owners_with_many_sessions(make_store: MakeStore) -> None:
    store = make_store(max_sessions_per_owner=None)
    for number in range(600):
        store.create(owner=f"owner {number % 30}")
    assert [len(store.sessions(f"owner {number}")) for number in range(30)] == [20] * 30
    assert [store.revoke(f"owner {number}") for number in range(0, 30, 2)] == [20] * 15
    assert [len(store.sessions(f"owner {number}")) for number in range(4)] == [0, 20, 0, 20]
    assert store.stats().sessions == 300


def test_a_log_in_after_a_revoke_is_not_revoked(store: sessile.Store) -> None:
    """LIF-12: a log-in that races with a revoke honours the order."""
    session = store.create(owner="alice")
    store.revoke("alice")
    fresh = store.create(owner="alice")
    assert not session.alive()
    assert fresh.alive()


def test_owners_that_look_alike_are_different(store: sessile.Store) -> None:
    """Equality is of bytes: no case folding, no normal form, no trimming."""
    names = ["alice", "Alice", "alice ", "alic\u00e9", "alice\u0301", "1", "01"]
    sessions = [store.create(owner=name) for name in names]
    assert store.revoke("alice") == 1
    assert [session.alive() for session in sessions] == [False] + [True] * 6
