"""New ids: log-in, rotation, renewal, and what becomes of the old ones."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

import sessile
from sessile.testing import EventRecorder, advance

MakeStore = Callable[..., sessile.Store]

# ---- log-in ----


def test_login_gives_a_new_id_and_the_old_one_is_dead_at_once(store: sessile.Store) -> None:
    """LIF-05: no grace, no alias. PHP's sample code forwards the old id: a gift to a fixer."""
    session = store.create({"a": 1})
    old_id, old_handle = session.id, session.handle
    session.login("alice", keep=("a",))
    assert session.id != old_id
    assert session.handle != old_handle
    assert store.load(old_id) is None
    loaded = store.load(session.id)
    assert (loaded.owner, loaded.handle, dict(loaded)) == ("alice", session.handle, {"a": 1})
    assert store.stats().sessions == 1


def test_login_drops_what_came_before_it(store: sessile.Store) -> None:
    """LIF-07: an attacker may have planted fields before the log-in."""
    session = store.create({"planted": 1, "cart": ["book"], "theme": "dark"})
    session["unsaved plant"] = 1
    session["cart"].append("pen")
    del session["theme"]
    session.login("alice", keep=["cart", "theme", "absent"])
    assert dict(session) == {"cart": ["book", "pen"]}
    assert dict(store.load(session.id)) == {"cart": ["book", "pen"]}
    assert session.save() is False


@pytest.mark.parametrize("stored", [True, False])
def test_a_list_from_before_a_log_in_does_not_come_back(store: sessile.Store, stored: bool) -> None:
    """LIF-07: although the program still holds it, and changes it."""
    session = store.create({"planted": [1]}) if stored else store.open()
    planted = session.setdefault("planted", [1])
    session.login("alice")
    assert (dict(session), "planted" in session) == ({}, False)
    planted.append(2)
    assert session.save() is False
    assert dict(store.load(session.id)) == {}


@pytest.mark.parametrize("stored", [True, False])
def test_login_can_keep_all(store: sessile.Store, stored: bool) -> None:
    session = store.create({"a": 1}) if stored else store.open()
    session["a"] = 1
    session["b"] = [2]
    session.login("alice", keep=True)
    assert dict(store.load(session.id)) == dict(session) == {"a": 1, "b": [2]}


def test_login_on_a_session_that_is_not_stored_stores_it(store: sessile.Store) -> None:
    session = store.open()
    session["a"] = 1
    session["kept"] = [1]
    session.login("alice", keep=("kept",), device={"browser": "Firefox"}, idle_timeout=60)
    assert dict(session) == {"kept": [1]}
    loaded = store.load(session.id)
    assert (loaded.owner, loaded.device, dict(loaded)) == ("alice", {"browser": "Firefox"}, {"kept": [1]})
    assert 59 < loaded.remaining <= 60
    session["kept"].append(2)
    assert session.save() is True


@pytest.mark.parametrize("owner", ["alice", "bob"])
def test_logging_in_again(store: sessile.Store, owner: str) -> None:
    """LIF-05, LIF-06: also a step-up gives a new id. The same owner keeps all, another nothing."""
    session = store.create({"a": 1}, owner="alice", device={"browser": "Firefox"})
    old, handle = session.id, session.handle
    session["b"] = 2
    session.login(owner)
    assert store.load(old) is None
    assert session.handle != handle
    same = owner == "alice"
    loaded = store.load(session.id)
    assert dict(loaded) == dict(session) == ({"a": 1, "b": 2} if same else {})
    assert loaded.device == ({"browser": "Firefox"} if same else None)
    assert [len(store.sessions(name)) for name in ("alice", "bob")] == ([1, 0] if same else [0, 1])


def test_login_starts_both_deadlines_anew(store: sessile.Store) -> None:
    """LIF-02: only authentication restarts the absolute one."""
    session = store.create(absolute_timeout=3600, idle_timeout=3600)
    advance(store, 3000)
    session.login("alice")
    assert 1799 < session.remaining <= 1800
    advance(store, 1700)
    assert store.load(session.id) is not None
    created = session.created
    session.login("alice", idle_timeout=5000, absolute_timeout=4000)
    assert 3999 < session.remaining <= 4000
    assert session.authenticated_at >= created


@pytest.mark.parametrize("keep", ["cart", b"cart", None, False, 7, [1], ("a", None)], ids=repr)
def test_keep_is_names_or_true(store: sessile.Store, keep: Any) -> None:
    session = store.create({"c": 1})
    old = session.id
    with pytest.raises(TypeError, match="keep must be"):
        session.login("alice", keep=keep)
    assert session.id == old
    assert session.owner is None


def test_nobody_with_the_old_id_ever_sees_the_owner(store: sessile.Store) -> None:
    """LIF-05: the fixation attacker polls with the id from before, in threads, during 1,000 log-ins."""
    known = [store.create().id]
    seen: list[Any] = []
    done = threading.Event()

    def attack() -> None:
        while not done.is_set():
            session = store.load(known[-1])
            if session is not None and session.owner is not None:
                seen.append(session)

    attackers = [threading.Thread(target=attack) for _ in range(3)]
    for attacker in attackers:
        attacker.start()
    for number in range(1000):
        session = store.create()
        known.append(session.id)
        session.login(f"victim {number}")
        session.logout()
    done.set()
    for attacker in attackers:
        attacker.join()
    assert seen == []


# ---- rotate ----


def test_rotate_changes_the_id_and_nothing_else(store: sessile.Store) -> None:
    """LIF-06."""
    session = store.create({"a": 1}, owner="alice", device={"d": "1"}, idle_timeout=500)
    advance(store, 100)
    old, handle, facts = (
        session.id,
        session.handle,
        (session.created, session.authenticated_at, session.owner),
    )
    session["unsaved"] = 1
    session.rotate()
    assert store.load(old) is None
    assert session.handle == handle
    loaded = store.load(session.id, touch=False)
    assert (loaded.created, loaded.authenticated_at, loaded.owner) == facts
    assert (dict(loaded), loaded.device) == ({"a": 1}, {"d": "1"})
    assert session.save() is True
    assert dict(store.load(session.id)) == {"a": 1, "unsaved": 1}


def test_rotate_does_not_prolong(store: sessile.Store) -> None:
    """LIF-02: the absolute deadline survives rotation."""
    session = store.create(owner="alice", absolute_timeout=1000, idle_timeout=1000)
    for _ in range(9):
        advance(store, 100)
        session.rotate()
    advance(store, 101)
    assert store.load(session.id) is None
    with pytest.raises(sessile.SessionGone):
        session.rotate()


def test_rotate_on_a_session_that_is_not_stored_stores_it(store: sessile.Store) -> None:
    session = store.open()
    session["a"] = 1
    session.rotate()
    assert dict(store.load(session.id)) == {"a": 1}
    empty = store.open()
    empty.rotate()
    assert store.load(empty.id) is not None


def test_rotate_of_an_anonymous_session(store: sessile.Store) -> None:
    session = store.create({"a": 1})
    old = session.id
    session.rotate()
    assert store.load(old) is None
    assert dict(store.load(session.id)) == {"a": 1}


def test_another_request_cannot_go_on_with_a_rotated_session(store: sessile.Store) -> None:
    session = store.create({"a": 1}, owner="alice")
    other = store.load(session.id)
    session.rotate()
    other["b"] = 1
    with pytest.raises(sessile.SessionGone):
        other.save()
    assert not other.alive()
    assert session.alive()


def test_a_chain_of_rotations(store: sessile.Store) -> None:
    session = store.create({"a": 1}, owner="alice")
    ids = [session.id]
    for _ in range(50):
        session.rotate()
        ids.append(session.id)
    assert len(set(ids)) == 51
    assert [store.load(id) for id in ids[:-1]] == [None] * 50
    assert store.load(ids[-1]) is not None
    assert store.stats().sessions == 1


# ---- renewal ----


def renewed(store: sessile.Store, **options: Any) -> tuple[sessile.Session, str]:
    """A session right after its renewal, with its old id. The new id was not presented yet."""
    session = store.load(store.create({"a": 1}, owner="alice", **options).id)
    old = session.id
    assert session._renew() is True
    return session, old


def test_a_renewed_id_forwards_until_the_new_one_is_presented(store: sessile.Store) -> None:
    """LIF-08: a lost response logs nobody out, however late the client comes back."""
    session, old = renewed(store)
    assert session.id != old
    for _ in range(3):
        advance(store, 1000)
        found = store.load(old)
        assert (found.id, found.handle, dict(found)) == (session.id, session.handle, {"a": 1})
    assert store.load(session.id) is not None
    assert store.stats().sessions == 1


def test_after_the_new_id_was_presented_the_old_one_drains(store: sessile.Store) -> None:
    """LIF-08: parallel requests succeed for ten seconds, then the old id is dead."""
    session, old = renewed(store)
    assert store.load(session.id) is not None
    advance(store, 9)
    assert store.load(old).id == session.id
    advance(store, 2)
    assert store.load(old) is None
    assert store.load(session.id) is not None


def test_a_renewal_happens_once_until_its_id_was_presented(store: sessile.Store) -> None:
    """LIF-09: one successor, however many requests come with the old id."""
    session, old = renewed(store)
    ids = {session.id}
    for _ in range(5):
        request = store.load(old)
        assert request._renew() is False
        ids.add(request.id)
    assert len(ids) == 1
    assert session._renew() is False
    again = store.load(session.id)
    assert again._renew() is True
    assert again.id not in {old, session.id}


def test_racing_renewals_give_one_id(make_store: MakeStore) -> None:
    """LIF-09: 32 threads that loaded the same session renew it at once."""
    store = make_store(busy_timeout=20)
    loaded = [store.load(store.create(owner="alice").id)]
    loaded += [store.load(loaded[0].id) for _ in range(31)]
    start = threading.Barrier(len(loaded))
    failures: list[BaseException] = []

    def renew(session: sessile.Session) -> None:
        start.wait()
        try:
            assert session._renew() is True
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=renew, args=(session,)) for session in loaded]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len({session.id for session in loaded}) == 1
    assert store.load(loaded[0].id) is not None
    assert store.stats().sessions == 1


def test_only_an_owned_session_with_a_proven_id_is_renewed(store: sessile.Store) -> None:
    assert store.load(store.create().id)._renew() is False
    assert store.create(owner="alice")._renew() is False
    assert store.open()._renew() is False
    ended = store.create(owner="alice")
    ended.destroy()
    assert ended._renew() is False


def test_a_renewal_keeps_everything_but_the_id(store: sessile.Store) -> None:
    """LIF-02: a renewal prolongs nothing."""
    session = store.load(store.create({"a": 1}, owner="alice", device={"d": "1"}, absolute_timeout=1000).id)
    before = (session.handle, session.created, session.authenticated_at, session.expires, session.device)
    session["unsaved"] = 1
    session._renew()
    after = (session.handle, session.created, session.authenticated_at, session.expires, session.device)
    assert after == before
    assert dict(store.load(session.id)) == {"a": 1}
    session.save()
    assert dict(store.load(session.id)) == {"a": 1, "unsaved": 1}


@pytest.mark.parametrize("presented", [True, False])
def test_a_session_object_follows_a_renewal(store: sessile.Store, presented: bool) -> None:
    """LIF-09: it is tied to the record, not to the id that it came with; however much later."""
    first = store.load(store.create({"a": 1}, owner="alice").id)
    others = [store.load(first.id) for _ in range(5)]
    first._renew()
    if presented:
        store.load(first.id)
        advance(store, 1500)
        store.load(first.id)
        advance(store, 1500)
    save, update, alive, end, reload = others
    save["b"] = 1
    assert save.save() is True
    assert save.id in (first.id, store.load(first.id).id)
    assert update.update_field("n", lambda n: n + 1, default=0) == 1
    assert alive.alive()
    reload.reload()
    assert dict(reload) == {"a": 1, "b": 1, "n": 1}
    end.destroy()
    assert store.load(first.id) is None
    assert store.sessions("alice") == []


def test_a_session_object_follows_many_renewals(store: sessile.Store) -> None:
    """A connection that stays open for hours, while other requests renew the session again and again."""
    old = store.load(store.create({"n": 0}, owner="alice").id)
    current = old.id
    for _ in range(30):
        advance(store, 900)
        session = store.load(current)
        assert session._renew() is True
        current = session.id
        store.load(current)
        session.set_timeouts(absolute=80_000)
    assert old.alive()
    assert old.update_field("n", lambda n: n + 1) == 1
    assert store.load(current)["n"] == 1
    assert store.stats().sessions == 1


def test_after_a_rotation_a_session_of_before_a_renewal_is_gone(store: sessile.Store) -> None:
    old = store.load(store.create(owner="alice").id)
    session = store.load(old.id)
    session._renew()
    session.rotate()
    assert not old.alive()
    with pytest.raises(sessile.SessionGone):
        old.reload()
    assert session.alive()


@pytest.mark.parametrize("end", ["logout", "revoke", "revoke_all", "login"])
def test_a_forwarding_id_ends_with_its_session(store: sessile.Store, end: str) -> None:
    """LIF-11."""
    session, old = renewed(store)
    if end == "revoke":
        assert store.revoke("alice") == 1
    elif end == "revoke_all":
        assert store.revoke_all() == 1
    elif end == "login":
        session.login("bob")
    else:
        session.logout()
    assert store.load(old) is None
    advance(store, 100)
    assert store.load(old) is None


def test_a_renewed_id_expires_with_its_session(store: sessile.Store) -> None:
    session, old = renewed(store)
    advance(store, 1801)
    assert store.load(old) is None
    assert store.load(session.id) is None


def test_renewal_with_several_secrets(make_store: MakeStore) -> None:
    """STO-09: with several secrets, the first makes new ids, in renewals too."""
    store = make_store(secret=[b"n" * 32, b"o" * 32])
    session = store.load(store.create({"a": 1}, owner="alice").id)
    session._renew()
    assert store.load(session.id)["a"] == 1


# ---- theft ----


def stolen(store: sessile.Store) -> tuple[sessile.Session, str]:
    """A session whose old id, after a renewal and its drain, somebody else might present."""
    session, old = renewed(store)
    store.load(session.id)
    advance(store, 11)
    return session, old


def test_an_id_presented_long_after_its_renewal_ends_the_session(
    watched: sessile.Store, recorder: EventRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    """LIF-10: whoever presents it, the client or a thief, one of the two has a copy."""
    session, old = stolen(watched)
    bystander = watched.create(owner="alice")
    recorder.take()
    advance(watched, 10)
    assert watched.load(old) is None
    assert not session.alive()
    assert watched.load(session.id) is None
    assert bystander.alive()
    ended, retired = recorder.take()
    assert (ended.kind, ended.reason, ended.handle, ended.owner) == (
        "ended",
        "theft",
        session.handle,
        "alice",
    )
    assert ended.data == {"a": 1}
    assert (retired.kind, retired.reason, retired.handle) == ("retired_id", "theft", session.handle)
    assert "theft" in caplog.text
    assert old not in caplog.text
    assert session.id not in caplog.text


def test_moments_after_its_drain_an_id_is_merely_late(
    watched: sessile.Store, recorder: EventRecorder
) -> None:
    session, old = stolen(watched)
    recorder.take()
    assert watched.load(old) is None
    assert session.alive()
    assert [(event.kind, event.reason) for event in recorder.take()] == [("retired_id", "late")]


def test_an_id_retired_by_rotate_is_a_theft_signal_later(
    watched: sessile.Store, recorder: EventRecorder
) -> None:
    """LIF-10: late for ten seconds, then a signal; the successors of the id are followed."""
    session = watched.create(owner="alice")
    old = session.id
    session.rotate()
    session.rotate()
    assert watched.load(old) is None
    assert session.alive()
    advance(watched, 11)
    assert watched.load(old) is None
    assert not session.alive()
    assert recorder.kinds[-2:] == ["ended(theft)", "retired_id"]


def test_the_anonymous_id_of_before_a_log_in_is_never_a_theft_signal(
    watched: sessile.Store, recorder: EventRecorder
) -> None:
    """A second tab still has it: nobody must be logged out for that."""
    session = watched.create()
    old = session.id
    session.login("alice")
    for seconds in (5, 20, 300):
        advance(watched, seconds)
        assert watched.load(old) is None
    assert session.alive()
    assert "theft" not in {event.reason for event in recorder.events}


def test_a_theft_without_on_event_ends_the_session_too(store: sessile.Store) -> None:
    session, old = stolen(store)
    advance(store, 10)
    assert store.load(old) is None
    assert not session.alive()


def test_looking_at_a_session_by_its_object_is_no_presentation(watched: sessile.Store) -> None:
    """Only a client presents ids: a request that still holds the old session is no thief."""
    holder = watched.load(watched.create(owner="alice").id)
    session = watched.load(holder.id)
    session._renew()
    watched.load(session.id)
    advance(watched, 600)
    assert holder.alive()
    assert holder.update_field("n", lambda n: n + 1, default=0) == 1
    assert session.alive()


def test_retired_ids_are_forgotten_after_a_while(store: sessile.Store) -> None:
    """DOS-09: bounded; they are unknown ids then."""
    session, old = stolen(store)
    for _ in range(8):
        advance(store, 100)
        store.load(session.id)
    while store.sweep():
        pass
    assert store.load(old) is None
    assert session.alive()


def test_presenting_a_late_id_with_touch_false(store: sessile.Store) -> None:
    session, old = renewed(store)
    assert store.load(old, touch=False).id == session.id
    assert store.load(session.id, touch=False) is not None
    advance(store, 11)
    assert store.load(old, touch=False) is None
