"""Deadlines: decided at look-up, by a clock that no step of the wall clock moves."""

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import pytest

import sessile
from sessile.testing import EventRecorder, advance

MakeStore = Callable[..., sessile.Store]


def test_the_idle_timeout_is_thirty_minutes(store: sessile.Store) -> None:
    """LIF-01: at T - 1, T and T + 1."""
    sessions = [store.create() for _ in range(3)]
    advance(store, 1799)
    assert store.load(sessions[0].id, touch=False) is not None
    advance(store, 1)
    assert store.load(sessions[1].id) is None
    advance(store, 1)
    assert store.load(sessions[2].id) is None


def test_use_renews_the_idle_deadline(store: sessile.Store) -> None:
    session = store.create()
    for _ in range(10):
        advance(store, 1500)
        assert store.load(session.id) is not None
    assert 1798 < store.load(session.id).remaining <= 1800


def test_the_absolute_timeout_is_eight_hours_whatever_the_use(store: sessile.Store) -> None:
    """LIF-02: touched every minute for nine hours."""
    session = store.create(owner="alice")
    alive = []
    for _ in range(9 * 60):
        advance(store, 60)
        alive.append(store.load(session.id) is not None)
    assert alive == [True] * (8 * 60 - 1) + [False] * 61


def test_a_renewal_is_skipped_for_a_64th_of_the_idle_time_at_most(store: sessile.Store) -> None:
    """So expiry is never late, and early by at most that."""
    session = store.create(idle_timeout=640)
    advance(store, 9)
    assert store.load(session.id).remaining <= 631
    advance(store, 1)
    assert store.load(session.id).remaining > 639


def test_expiry_needs_no_sweep(make_store: MakeStore) -> None:
    """LIF-03: the sweep only frees memory; PHP's lottery must not decide what is valid."""
    store = make_store()
    sessions = [store.create(idle_timeout=10) for _ in range(50)]
    advance(store, 11)
    assert store.stats().sessions == 50
    assert [store.load(session.id) for session in sessions[:20]] == [None] * 20
    assert store.sessions("nobody") == []
    assert list(store.sessions()) == []
    while store.sweep():
        pass
    stats = store.stats()
    assert (stats.sessions, stats.expired, stats.memory_used) == (0, 50, 0)


def test_a_sweep_does_at_most_its_budget(store: sessile.Store) -> None:
    """DOS-07: no call does unbounded work."""
    for _ in range(300):
        store.create(idle_timeout=10)
    advance(store, 3600)
    counts = [store.sweep(budget=100) for _ in range(5)]
    assert counts == [100, 100, 100, 0, 0]
    assert store.stats().sessions == 0


def test_writes_pay_for_expirations(store: sessile.Store) -> None:
    """Nothing runs in the background: memory comes back with the writes."""
    for _ in range(200):
        store.create(idle_timeout=10)
    advance(store, 3600)
    for _ in range(400):
        store.create({"a": 1}, owner="alice")
    assert store.stats().expired > 150


@pytest.mark.parametrize("step", [86_400, -86_400, 10 * 365 * 86_400])
def test_a_step_of_the_wall_clock_changes_nothing(
    store: sessile.Store, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """LIF-04: it neither ends nor prolongs a session, nor brings one back; times shown follow it."""
    session = store.create(idle_timeout=100)
    dead = store.create(idle_timeout=10)
    created = session.created
    advance(store, 20)
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + step * 1_000_000_000)
    assert store.load(session.id, touch=False) is not None
    assert store.load(dead.id) is None
    assert 79 < session.remaining <= 80
    assert abs(session.created - created - dt.timedelta(seconds=step)) < dt.timedelta(seconds=1)
    advance(store, 81)
    assert store.load(session.id) is None


def test_touch_false_renews_nothing(store: sessile.Store) -> None:
    """Polling must not keep a session alive; nor does what is saved through a session that was loaded so."""
    session = store.create({"a": 1})
    expires = session.expires
    advance(store, 1000)
    polling = store.load(session.id, touch=False)
    assert polling.remaining < 801
    polling["a"] = 2
    assert polling.save() is True
    polling.reload()
    polling.update_field("a", lambda a: a + 1)
    assert store.load(session.id, touch=False).expires == expires
    assert store.load(session.id).expires > expires


def test_reading_facts_renews_nothing(store: sessile.Store) -> None:
    session = store.create({"a": 1}, owner="alice")
    expires = session.expires
    advance(store, 1000)
    for _ in range(3):
        session.alive()
        session.fresh(5)
        _ = (
            session.remaining,
            session.expires,
            session.last_used,
            store.sessions("alice"),
            list(store.sessions()),
        )
    assert store.load(session.id, touch=False).expires == expires


def test_saving_renews(store: sessile.Store) -> None:
    session = store.create({"a": 1})
    advance(store, 1000)
    session["a"] = 2
    session.save()
    assert session.remaining > 1799
    assert store.load(session.id, touch=False).remaining > 1799


def test_last_used_never_goes_back(store: sessile.Store) -> None:
    """Spring Session 1280: a long request writes a stale time back and ends the session."""
    slow = store.load(store.create({"a": 1}).id)
    advance(store, 1000)
    quick = store.load(slow.id)
    used = quick.last_used
    slow["b"] = 1
    slow.save()
    assert store.load(slow.id, touch=False).last_used >= used


def test_anonymous_sessions_can_have_other_timeouts(make_store: MakeStore) -> None:
    store = make_store(anonymous_idle_timeout=100, anonymous_absolute_timeout=250)
    anonymous, owned = store.create(), store.create(owner="alice")
    assert 99 < anonymous.remaining <= 100
    assert 1799 < owned.remaining <= 1800
    for _ in range(3):
        advance(store, 80)
        assert store.load(anonymous.id) is not None
    advance(store, 80)
    assert store.load(anonymous.id) is None
    assert store.load(owned.id) is not None
    anonymous = store.create()
    anonymous.login("bob")
    assert anonymous.remaining > 1799


# ---- timeouts of its own ----


def test_set_timeouts_acts_at_once(store: sessile.Store) -> None:
    session = store.create({"a": 1})
    session.set_timeouts(idle=50)
    assert 49 < session.remaining <= 50
    assert 49 < store.load(session.id).remaining <= 50
    session.set_timeouts(idle=5000, absolute=dt.timedelta(seconds=700))
    assert 698 < store.load(session.id).remaining <= 701
    session.set_timeouts(absolute="default")
    assert 4999 < store.load(session.id).remaining <= 5000
    session.set_timeouts(idle="default")
    assert 1799 < store.load(session.id).remaining <= 1800
    session.set_timeouts()
    assert dict(store.load(session.id)) == {"a": 1}


def test_the_absolute_timeout_counts_from_creation_or_log_in(store: sessile.Store) -> None:
    session = store.create(idle_timeout=5000)
    advance(store, 600)
    session.set_timeouts(absolute=1000)
    assert 398 < session.remaining <= 401
    session.login("alice", idle_timeout=5000)
    advance(store, 100)
    session.set_timeouts(absolute=1000)
    assert 898 < session.remaining <= 901


def test_a_timeout_that_is_past_already_ends_the_session(store: sessile.Store) -> None:
    session = store.create(idle_timeout=5000)
    advance(store, 600)
    session.set_timeouts(absolute=100)
    assert not session.alive()
    assert store.load(session.id) is None


def test_timeouts_of_a_session_that_is_not_stored_are_kept_for_its_first_save(store: sessile.Store) -> None:
    session = store.open()
    session.set_timeouts(idle=60)
    session.set_timeouts(absolute=30)
    session["a"] = 1
    session.save()
    assert 29 < session.remaining <= 30
    session = store.open()
    session.set_timeouts(idle=60)
    session.set_timeouts(absolute=5000)
    session["a"] = 1
    session.save()
    assert 59 < session.remaining <= 60
    session = store.open()
    session.set_timeouts(idle=60)
    session.set_timeouts(idle="default")
    session["a"] = 1
    session.save()
    assert session.remaining > 1799


@pytest.mark.parametrize("value", ["forever", "Default", 0, -5, [], float("inf")], ids=repr)
def test_set_timeouts_checks(store: sessile.Store, value: Any) -> None:
    session = store.create()
    for name in ("idle", "absolute"):
        with pytest.raises(ValueError, match=name):
            session.set_timeouts(**{name: value})
    assert session.remaining > 1799


def test_timeouts_survive_saves_rotation_and_renewal(store: sessile.Store) -> None:
    session = store.load(store.create({"a": 1}, owner="alice", idle_timeout=77).id)
    session["a"] = 2
    session.save()
    session.rotate()
    session = store.load(session.id)
    session._renew()
    session = store.load(session.id)
    advance(store, 10)
    assert 76 < store.load(session.id).remaining <= 77


def test_sessions_may_live_for_400_days(store: sessile.Store) -> None:
    """LIF-16 is documented, not enforced; browsers keep a cookie for so long."""
    session = store.create(idle_timeout=dt.timedelta(days=400), absolute_timeout=dt.timedelta(days=400))
    advance(store, dt.timedelta(days=399))
    assert store.load(session.id) is not None
    advance(store, dt.timedelta(days=1, seconds=1))
    assert store.load(session.id) is None


# ---- races on the deadline ----


def test_nothing_revives_an_expired_session(store: sessile.Store) -> None:
    """CON-07: neither a load nor a save nor a renewal, whether or not it was collected."""
    for collected in (False, True):
        session = store.create({"a": 1}, owner="alice", idle_timeout=100)
        held = store.load(session.id)
        advance(store, 100)
        while collected and store.sweep():
            pass
        assert store.load(session.id) is None
        held["a"] = 2
        with pytest.raises(sessile.SessionGone):
            held.save()
        assert store.sessions("alice") == []


def test_an_expired_session_frees_its_memory_when_it_is_met(store: sessile.Store) -> None:
    session = store.create({"x": "a" * 1000}, idle_timeout=10)
    advance(store, 11)
    assert store.load(session.id) is None
    assert store.stats().memory_used == 0
    assert store.stats().expired == 1


def test_advance_checks_its_argument(store: sessile.Store) -> None:
    for value in (0, -1, "x", None):
        with pytest.raises(ValueError, match="seconds"):
            advance(store, value)


def test_times_shown_go_along_with_the_clock_of_a_test(store: sessile.Store) -> None:
    session = store.create()
    created, expires = session.created, session.expires
    advance(store, dt.timedelta(hours=0.25))
    loaded = store.load(session.id)
    assert loaded.created == created
    assert abs(loaded.expires - expires - dt.timedelta(seconds=900)) < dt.timedelta(seconds=1)


def test_the_wheel_is_never_early(watched: sessile.Store, recorder: EventRecorder) -> None:
    """Sessions of many timeouts, swept at every step: each ends after its deadline, by a 64th at most."""
    begun = time.monotonic()
    ends = {watched.create(idle_timeout=seconds).handle: seconds for seconds in range(5, 300, 7)}
    recorder.take()
    now = 0
    while now < 320:
        advance(watched, 1)
        now += 1
        while watched.sweep():
            pass
        for event in recorder.take():
            deadline = ends.pop(event.handle)
            assert deadline <= now + (time.monotonic() - begun)  # the table's clock goes on by itself, too
            assert now <= deadline + deadline / 64 + 2
    assert ends == {}
