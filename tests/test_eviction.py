"""A full table: who has to go, who never has to, and what a refusal leaves behind."""

from collections.abc import Callable

import pytest

import sessile
from sessile.testing import EventRecorder, advance

MakeStore = Callable[..., sessile.Store]


def fill_anonymous(store: sessile.Store, count: int) -> list[sessile.Session]:
    return [store.create({"n": number}) for number in range(count)]


def test_the_table_never_holds_more_than_its_capacity(make_store: MakeStore) -> None:
    """DOS-02: never above by one."""
    store = make_store(capacity=100, anonymous_share=1.0)
    for _ in range(500):
        store.create()
        assert store.stats().sessions <= 100
    stats = store.stats()
    assert (stats.sessions, stats.evicted) == (100, 400)


def test_anonymous_sessions_keep_to_their_share(make_store: MakeStore) -> None:
    """DOS-03."""
    store = make_store(capacity=200, anonymous_share=0.25)
    fill_anonymous(store, 400)
    assert store.stats().anonymous == 50


def test_a_flood_pushes_no_owned_session_out_and_blocks_no_log_in(make_store: MakeStore) -> None:
    """DOS-03: ten times the capacity; Django's advisory on floods evicting other users' sessions."""
    store = make_store(capacity=200)
    owned = [store.create(owner=f"user {number}") for number in range(100)]
    fill_anonymous(store, 2000)
    assert all(session.alive() for session in owned)
    assert store.stats().anonymous <= 100
    visitor = store.create()
    visitor.login("somebody new")
    assert visitor.alive()
    assert all(session.alive() for session in owned)


def test_a_flood_of_large_sessions_leaves_room_for_log_ins(make_store: MakeStore) -> None:
    """DOS-03: the share is of memory too."""
    store = make_store(
        capacity=10_000, memory="8 MiB", max_session_size="64 KiB", max_sessions_per_owner=None
    )
    for _ in range(300):
        store.create({"x": "a" * 60_000})
    owned = [store.create({"x": "b" * 1000}, owner=f"user {number}") for number in range(1000)]
    assert all(session.alive() for session in owned)


def test_owned_sessions_push_anonymous_ones_out(make_store: MakeStore) -> None:
    store = make_store(capacity=100, anonymous_share=1.0)
    fill_anonymous(store, 100)
    owned = [store.create(owner=f"user {number}") for number in range(100)]
    assert all(session.alive() for session in owned)
    assert store.stats().anonymous == 0


def test_who_never_came_back_goes_before_who_did(make_store: MakeStore) -> None:
    """DOS-04: a flood of one-shot clients does not end the sessions of visitors."""
    store = make_store(capacity=400, anonymous_share=1.0)
    visitors = fill_anonymous(store, 40)
    for visitor in visitors:
        assert store.load(visitor.id) is not None
    for _ in range(20):
        advance(store, 5)
        fill_anonymous(store, 100)
    assert sum(visitor.alive() for visitor in visitors) == 40


def test_expired_sessions_go_first(make_store: MakeStore) -> None:
    store = make_store(capacity=100, anonymous_share=1.0)
    lasting = [store.create({"n": number}) for number in range(50)]
    for number in range(50):
        store.create({"n": number}, idle_timeout=10)
    advance(store, 60)
    fill_anonymous(store, 40)
    assert all(session.alive() for session in lasting)
    assert store.stats().evicted == 0
    assert store.stats().expired >= 40


def test_a_table_full_of_owned_sessions_refuses_and_says_how_full_it_is(make_store: MakeStore) -> None:
    """DOS-05: never another owner's session; the refusal changes nothing."""
    store = make_store(capacity=100)
    owned = [store.create({"n": number}, owner=f"user {number}") for number in range(100)]
    for attempt in (
        lambda: store.create(owner="one more"),
        lambda: store.create({"a": 1}),
        lambda: store.open().login("one more"),
    ):
        with pytest.raises(sessile.StoreFull) as caught:
            attempt()
        error = caught.value
        assert (error.capacity, error.used, error.memory) == (100, 100, 4 << 20)
        assert 0 < error.memory_used < error.memory
    assert [dict(store.load(session.id)) for session in owned] == [{"n": number} for number in range(100)]
    stats = store.stats()
    assert (stats.sessions, stats.evicted) == (100, 0)
    assert stats.full >= 3
    assert store.sessions("one more") == []


def test_a_full_table_still_serves_those_who_are_in(make_store: MakeStore) -> None:
    """A log-in, rotation or save never fails for the capacity of its own session."""
    store = make_store(capacity=50)
    owned = [store.create({"n": number}, owner=f"user {number}") for number in range(50)]
    for number, session in enumerate(owned):
        session["n"] = -number
        session.save()
        session.rotate()
        session.login(f"user {number}")
        session.login(f"other {number}", keep=True)
    assert [dict(store.load(session.id)) for session in owned] == [{"n": -number} for number in range(50)]
    owned[0].destroy()
    store.create(owner="one more")


def test_an_owners_own_oldest_makes_room_for_their_next(make_store: MakeStore) -> None:
    """DOS-05."""
    store = make_store(capacity=50, max_sessions_per_owner=None)
    others = [store.create(owner=f"user {number}") for number in range(40)]
    mine = []
    for _ in range(10):
        mine.append(store.create(owner="alice"))
        advance(store, 30)
    newest = store.create(owner="alice")
    assert newest.alive()
    assert [session.alive() for session in mine] == [False] + [True] * 9
    assert all(session.alive() for session in others)


def test_memory_that_is_full_refuses_and_changes_nothing(make_store: MakeStore) -> None:
    """STO-05: what was stored before is intact, also the session whose save was refused."""
    store = make_store(capacity=1000, memory="2 MiB", max_sessions_per_owner=None)
    owned: list[sessile.Session] = []


    def fill() -> None:
        while True:
            owned.append(store.create({"x": "a" * 8000}, owner=f"user {len(owned)}"))

    with pytest.raises(sessile.StoreFull):
        fill()
    assert len(owned) * 8000 > 0.8 * (2 << 20)
    grown = store.load(owned[0].id)
    grown["x"] = "b" * 60_000
    with pytest.raises(sessile.StoreFull):
        grown.save()
    assert store.load(owned[0].id)["x"] == "a" * 8000
    assert [len(store.load(session.id)["x"]) for session in owned[1:]] == [8000] * (len(owned) - 1)
    for session in owned[1:]:
        session["x"] = "c" * 8000
        assert session.save() is True


def test_a_refusal_is_told(make_store: MakeStore, recorder: EventRecorder) -> None:
    store = make_store(capacity=50, on_event=recorder)
    for number in range(50):
        store.create(owner=f"user {number}")
    recorder.take()
    with pytest.raises(sessile.StoreFull):
        store.create(owner="one more")
    assert [(event.kind, event.handle) for event in recorder.events] == [("store_full", None)]


def test_evictions_are_told(make_store: MakeStore, recorder: EventRecorder) -> None:
    store = make_store(capacity=64, anonymous_share=1.0, on_event=recorder)
    handles = [session.handle for session in fill_anonymous(store, 96)]
    evicted = [event for event in recorder.events if event.kind == "ended"]
    assert [event.reason for event in evicted] == ["evicted"] * 32
    assert {event.handle for event in evicted} <= set(handles)
    assert all(event.data == {"n": handles.index(event.handle)} for event in evicted)


def test_room_comes_back(make_store: MakeStore) -> None:
    """STO-05: fill, empty and fill again, with other sizes each time."""
    store = make_store(capacity=500, memory="4 MiB", max_sessions_per_owner=None)
    counts = []
    for size in (100, 3000, 500, 7000, 100, 3000):
        sessions = []
        try:
            for number in range(500):
                sessions.append(store.create({"x": "a" * size}, owner=f"user {number % 50}"))
        except sessile.StoreFull:
            pass
        counts.append(len(sessions))
        for session in sessions:
            session.destroy()
    assert counts[0] == counts[4] == 500
    assert counts[1] == counts[5]
