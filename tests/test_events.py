"""Events: each path raises exactly its own, with its facts, once, outside every lock."""

import datetime as dt
import glob
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sessile
from sessile.testing import EventRecorder, advance

MakeStore = Callable[..., sessile.Store]


def test_a_life_is_told_in_order(watched: sessile.Store, recorder: EventRecorder) -> None:
    """DET-01."""
    session = watched.create({"a": 1})
    first = session.handle
    session.login("alice", keep=("a",))
    session.rotate()
    session.logout()
    assert recorder.kinds == ["created", "login", "rotated", "ended(logout)"]
    created, login, rotated, ended = recorder.events
    assert (created.handle, created.owner) == (first, None)
    assert login.handle == rotated.handle == ended.handle != first
    assert login.owner == rotated.owner == ended.owner == "alice"
    assert ended.data == {"a": 1}
    assert created.data is login.data is None


def test_reading_and_saving_are_no_events(watched: sessile.Store, recorder: EventRecorder) -> None:
    session = watched.create({"a": 1})
    recorder.take()
    loaded = watched.load(session.id)
    loaded["a"] = 2
    loaded.save()
    loaded.set_timeouts(idle=100)
    loaded.update_field("a", lambda a: a)
    loaded.reload()
    watched.load("x" * 32)
    watched.load("malformed")
    watched.check()
    watched.sweep()
    list(watched.sessions())
    assert recorder.events == []


def ways_to_end(store: sessile.Store) -> dict[str, Callable[[sessile.Session], Any]]:
    return {
        "logout": lambda session: session.logout(),
        "clear": lambda session: session.clear(),
        "destroy": lambda session: session.destroy(),
        "idle": lambda session: (advance(store, 1900), store.load(session.id)),
        "idle by sweep": lambda session: (advance(store, 1900), store.sweep()),
        "idle by save": lambda session: (
            advance(store, 1900), session.update({"b": 1}), try_to(session.save),
        ),
        "idle by alive": lambda session: (advance(store, 1900), session.alive()),
        "absolute": lambda session: (
            session.set_timeouts(idle=10_000, absolute=3000), advance(store, 3100), store.load(session.id),
        ),
        "revoke": lambda session: store.revoke("alice"),
        "revoke device": lambda session: store.revoke("alice", handle=session.handle),
        "cap": lambda session: (advance(store, 100), [store.create(owner="alice") for _ in range(10)]),
    }  # fmt: skip


def try_to(function: Callable[[], Any]) -> None:
    with pytest.raises(sessile.SessionGone):
        function()


REASONS = {
    "logout": "logout",
    "clear": "logout",
    "destroy": "destroyed",
    "idle": "idle",
    "idle by sweep": "idle",
    "idle by save": "idle",
    "idle by alive": "idle",
    "absolute": "absolute",
    "revoke": "revoked",
    "revoke device": "revoked",
    "cap": "evicted",
}


@pytest.mark.parametrize(("way", "reason"), REASONS.items())
def test_an_end_is_told_once_with_its_last_fields(
    watched: sessile.Store, recorder: EventRecorder, way: str, reason: str
) -> None:
    """DET-01; in peers that leave it to a TTL "run my code when a session expires" is never delivered."""
    session = watched.create({"a": [1]}, owner="alice")
    handle = session.handle
    recorder.take()
    ways_to_end(watched)[way](session)
    while watched.sweep():
        pass
    ends = [event for event in recorder.events if event.kind == "ended"]
    assert [(event.handle, event.owner, event.reason, event.data) for event in ends] == [
        (handle, "alice", reason, {"a": [1]})
    ]


def test_the_data_of_an_event_is_as_of_the_end_and_a_copy(
    watched: sessile.Store, recorder: EventRecorder
) -> None:
    session = watched.create({"a": [1]})
    session["a"].append(2)
    session.save()
    session["a"].append("unsaved")
    session.destroy()
    event = recorder.events[-1]
    assert event.data == {"a": [1, 2]}
    event.data["a"].append("changed")
    assert event.data == {"a": [1, 2]}


def test_large_sessions_are_told_whole(make_store: MakeStore, recorder: EventRecorder) -> None:
    store = make_store(
        on_event=recorder, max_session_size="1 MiB", memory="64 MiB", max_sessions_per_owner=None
    )
    for _ in range(20):
        store.create({"x": "a" * 900_000}, owner="alice")
    recorder.take()
    assert store.revoke("alice") == 20
    assert recorder.kinds == ["ended(revoked)"] * 20
    complete = [event.data for event in recorder.events if event.data is not None]
    assert len(complete) >= 1
    assert all(data == {"x": "a" * 900_000} for data in complete)


def test_revoke_all_is_one_event(watched: sessile.Store, recorder: EventRecorder) -> None:
    for _ in range(20):
        watched.create(owner="alice")
    recorder.take()
    watched.revoke_all()
    watched.create()
    while watched.sweep():
        pass
    assert [(event.kind, event.reason, event.handle) for event in recorder.events] == [
        ("ended", "revoked", None),
        ("created", None, recorder.events[-1].handle),
    ]


def test_a_create_with_owner_is_a_creation_and_a_log_in(
    watched: sessile.Store, recorder: EventRecorder
) -> None:
    """DET-06: whoever counts log-ins sees each of them."""
    session = watched.create(owner="alice")
    assert [(event.kind, event.handle, event.owner) for event in recorder.take()] == [
        ("created", session.handle, "alice"),
        ("login", session.handle, "alice"),
    ]
    fresh = watched.open()
    fresh.login("bob")
    assert [(event.kind, event.owner) for event in recorder.take()] == [("created", "bob"), ("login", "bob")]


def test_a_first_save_is_a_creation(watched: sessile.Store, recorder: EventRecorder) -> None:
    session = watched.open()
    session["a"] = 1
    assert recorder.events == []
    session.save()
    assert [(event.kind, event.handle) for event in recorder.events] == [("created", session.handle)]


def test_an_emptied_anonymous_session_ends(watched: sessile.Store, recorder: EventRecorder) -> None:
    session = watched.create({"a": 1})
    handle = session.handle
    recorder.take()
    del session["a"]
    session.save()
    assert [(event.kind, event.reason, event.handle) for event in recorder.events] == [
        ("ended", "destroyed", handle)
    ]


def test_what_failed_is_no_event(watched: sessile.Store, recorder: EventRecorder) -> None:
    session = watched.create({"a": 1})
    recorder.take()
    for attempt in (
        lambda: watched.create({"a": object()}),
        lambda: session.login(7),
        lambda: session.login("alice", device={"a": 1}),
    ):
        with pytest.raises(TypeError):
            attempt()
    session.alive()
    other = watched.load(session.id)
    session.destroy()
    other.destroy()
    other.logout()
    assert recorder.kinds == ["ended(destroyed)"]


def test_an_exception_in_on_event_is_logged_and_contained(
    make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    """DET-05."""

    def fail(event: sessile.Event) -> None:
        raise ZeroDivisionError(f"in on_event of {event.kind}")

    store = make_store(on_event=fail)
    with caplog.at_level(logging.ERROR, "sessile"):
        session = store.create({"a": 1})
        session.login("alice")
        session.logout()
    assert len(caplog.records) == 3
    assert {record.name for record in caplog.records} == {"sessile"}
    assert "ZeroDivisionError" in caplog.text
    assert store.stats().sessions == 0


def test_on_event_may_use_the_store(make_store: MakeStore) -> None:
    """CON-04: it is called outside every lock; what it sees is already done."""
    seen: list[Any] = []

    def look(event: sessile.Event) -> None:
        if event.kind == "ended":
            seen.append(
                (len(store.sessions("alice")), store.stats().sessions, store.create().alive(), store.check())
            )

    store = make_store(on_event=look)
    session = store.create(owner="alice")
    store.create(owner="alice")
    session.logout()
    store.revoke("alice")
    assert seen == [(1, 1, True, []), (0, 1, True, [])]


def test_an_event_is_frozen_and_carries_no_id(watched: sessile.Store, recorder: EventRecorder) -> None:
    """DET-05, SID-10."""
    session = watched.create({"password": "hunter2"}, owner="line\r\nbreak")
    identifier = session.id
    session.destroy()
    for event in recorder.events:
        with pytest.raises(AttributeError):
            event.kind = "x"
        text = repr(event)
        assert identifier not in text
        assert "hunter2" not in text
        assert "\n" not in text
        assert event.at.tzinfo is dt.timezone.utc
        assert abs(event.at - dt.datetime.now(dt.timezone.utc)) < dt.timedelta(seconds=60)


def test_events_are_told_in_the_thread_that_did_it(make_store: MakeStore) -> None:
    threads: list[int] = []
    store = make_store(on_event=lambda event: threads.append(threading.get_ident()))
    worker = threading.Thread(target=lambda: store.create().destroy())
    worker.start()
    worker.join()
    assert len(threads) == 2
    assert set(threads) == {worker.ident}


def test_an_expiry_is_told_at_most_once_on_a_host(
    watched: sessile.Store, recorder: EventRecorder, in_child: Callable[..., Any]
) -> None:
    handles = sorted(watched.create(idle_timeout=10).handle for _ in range(50))
    recorder.take()
    advance(watched, 100)

    def sweep() -> list[str | None]:
        watched.sweep(budget=20)
        return [event.handle for event in recorder.take()]

    told = in_child(sweep) + sweep() + in_child(sweep) + sweep()
    assert sorted(told) == handles


def test_without_on_event_nothing_is_told(store: sessile.Store) -> None:
    session = store.create({"a": 1}, owner="alice")
    advance(store, 100)
    session.logout()
    store.create(owner="alice")
    assert store.revoke_all() == 1


def damage(marker: bytes) -> None:
    """Change one byte of the only place in this process's tables where `marker` is."""
    for link in glob.glob("/proc/self/fd/*"):
        try:
            table = "memfd:" in os.readlink(link) and os.open(link, os.O_RDWR)
        except OSError:
            continue
        if table:
            place = os.pread(table, os.fstat(table).st_size, 0).find(marker)
            if place >= 0:
                os.pwrite(table, b"!", place)
            os.close(table)


@pytest.mark.shared_home
@pytest.mark.parametrize("use", ["load", "reload", "save", "alive"])
def test_a_damaged_record_is_taken_out_and_told(
    watched: sessile.Store, recorder: EventRecorder, caplog: pytest.LogCaptureFixture, use: str
) -> None:
    """MPR-05: a record that another's stray write damaged is never served, nor written on."""
    session = watched.create({"marker": f"find-me-{use}-5521", "rest": 1}, owner="alice")
    bystander = watched.create({"a": 1})
    recorder.take()
    damage(f"find-me-{use}".encode())
    if use == "load":
        assert watched.load(session.id) is None
    elif use == "alive":
        assert session.alive() in (True, False)  # looks at the header only
        watched.check(repair=True)
    else:
        session["rest"] = 2
        with pytest.raises(sessile.SessionGone):
            getattr(session, use)()
    assert "quarantined" in recorder.kinds
    assert watched.stats().quarantined == 1
    assert watched.load(session.id) is None
    assert dict(watched.load(bystander.id)) == {"a": 1}
    assert "damaged" in caplog.text


def test_the_recorder_names_kinds(watched: sessile.Store, recorder: EventRecorder) -> None:
    watched.create().destroy()
    assert recorder.kinds == ["created", "ended(destroyed)"]
    assert len(recorder.take()) == 2
    assert recorder.kinds == []


# ---- the file of a table ----


def lose_by_removal(path: Path) -> None:
    path.unlink()


def lose_by_replacement(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"")
    other.replace(path)


LOOKS = {
    "create": lambda store, session: store.create({"b": 1}),
    "login": lambda store, session: session.login("alice"),
    "rotate": lambda store, session: session.rotate(),
    "sweep": lambda store, session: store.sweep(),
}


@pytest.fixture
def named(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorder: EventRecorder
) -> tuple[Path, sessile.Store]:
    """A store with a path, which looks for its file at each occasion, and not once in a second."""
    monkeypatch.setattr("sessile.store._LOOK_SECONDS", 0.0)
    tmp_path.chmod(0o700)
    path = tmp_path / "table"
    return path, make_store(path=path, on_event=recorder)


@pytest.mark.parametrize("lose", [lose_by_removal, lose_by_replacement])
@pytest.mark.parametrize("look", LOOKS)
def test_a_file_that_is_lost_is_told_once(
    named: tuple[Path, sessile.Store],
    recorder: EventRecorder,
    caplog: pytest.LogCaptureFixture,
    look: str,
    lose: Callable[[Path], None],
) -> None:
    """DET-01: who starts from then on has another table, and nothing else would say so. The one in use goes on."""
    path, store = named
    session = store.create({"a": 1})
    recorder.take()
    lose(path)
    LOOKS[look](store, session)
    lost = [event for event in recorder.take() if event.kind == "table_lost"]
    assert [(event.handle, event.owner, event.reason, event.data) for event in lost] == [
        (None, None, None, {"path": os.fspath(path)})
    ]
    assert [record.levelname for record in caplog.records if "was removed or replaced" in record.message] == ["ERROR"]
    for again in LOOKS.values():
        again(store, session)
    assert "table_lost" not in recorder.kinds
    assert store.load(session.id) is not None


def test_a_file_that_is_lost_is_told_by_one_process(
    named: tuple[Path, sessile.Store], recorder: EventRecorder, in_child: Callable[..., Any]
) -> None:
    path, store = named

    def look() -> list[str]:
        recorder.take()
        store.sweep()
        return recorder.kinds

    assert look() + in_child(look) == []
    path.unlink()
    assert in_child(look) + look() + in_child(look) == ["table_lost"]


def test_a_file_that_is_out_of_sight_is_not_lost(named: tuple[Path, sessile.Store], recorder: EventRecorder) -> None:
    """After a change of user or of the root directory the path leads nowhere, and the table is as it was."""
    path, store = named
    path.parent.rename(path.parent.with_name("elsewhere"))
    store.create()
    store.sweep()
    assert recorder.kinds == ["created"]


def test_a_table_without_a_path_cannot_lose_its_file(watched: sessile.Store, recorder: EventRecorder) -> None:
    watched.create()
    watched.sweep()
    assert recorder.kinds == ["created"]
