"""What comes back after a restart, and what must not (PER-05, PER-08, PER-09)."""

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from crashing import SECRET, Stores
from disks import Recorder

import sessile
from sessile import testing
from sessile.web.wsgi import SessionMiddleware


def test_what_was_in_the_snapshot_comes_back_whole(stores: Stores) -> None:
    store = stores.open()
    anonymous = store.create({"cart": ["book"], "n": 2**70})
    owned = store.create({"theme": "dark"}, owner="eva", device={"browser": "Firefox"}, idle_timeout=300)
    created, expires = owned.created, owned.expires
    assert store.snapshot() == stores.images()[-1]
    store = stores.reopen(store)
    loaded = store.load(anonymous.id)
    assert loaded is not None
    assert dict(loaded) == {"cart": ["book"], "n": 2**70}
    assert loaded.handle == anonymous.handle
    again = store.load(owned.id, touch=False)
    assert again is not None
    assert (again.owner, again.device, dict(again)) == ("eva", {"browser": "Firefox"}, {"theme": "dark"})
    assert created is not None
    assert again.created is not None
    assert abs(again.created - created) < timedelta(seconds=1)
    assert expires is not None
    assert again.expires is not None
    assert abs(again.expires - expires) < timedelta(seconds=1)
    assert [info.handle for info in store.sessions("eva")] == [owned.handle]
    assert store.revoke("eva") == 1


def test_closing_takes_a_last_snapshot(stores: Stores) -> None:
    store = stores.open()
    session = store.create({"n": 1})
    store.close()
    assert stores.open().load(session.id) is not None


def test_leaving_the_interpreter_takes_a_last_snapshot(stores: Stores, tmp_path: Any) -> None:
    import subprocess
    import sys

    script = (
        "import sessile, sys\n"
        f"store = sessile.Store(capacity=1000, memory='4 MiB', secret={SECRET!r}, snapshot_dir=sys.argv[1])\n"
        "print(store.create({'n': 1}).id)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(stores.directory)], capture_output=True, text=True, check=True)
    assert stores.open().load(done.stdout.strip()) is not None


def _logout(store: sessile.Store, session: sessile.Session) -> None:
    session.logout()


def _destroy(store: sessile.Store, session: sessile.Session) -> None:
    session.destroy()


def _clear(store: sessile.Store, session: sessile.Session) -> None:
    session.clear()


def _login(store: sessile.Store, session: sessile.Session) -> None:
    session.login("bob")


def _step_up(store: sessile.Store, session: sessile.Session) -> None:
    session.login("eva")


def _rotate(store: sessile.Store, session: sessile.Session) -> None:
    session.rotate()


def _revoke(store: sessile.Store, session: sessile.Session) -> None:
    assert store.revoke("eva") == 1


def _revoke_device(store: sessile.Store, session: sessile.Session) -> None:
    assert store.revoke("eva", handle=session.handle) == 1


def _revoke_all(store: sessile.Store, session: sessile.Session) -> None:
    store.revoke_all()


def _theft(store: sessile.Store, session: sessile.Session) -> None:
    stolen = session.id
    renewed = store.load(stolen)
    assert renewed is not None
    renewed._renew()
    assert store.load(renewed.id) is not None
    testing.advance(store, 60)
    assert store.load(stolen) is None


ENDS = [_logout, _destroy, _clear, _login, _step_up, _rotate, _revoke, _revoke_device, _revoke_all, _theft]


@pytest.mark.parametrize("encrypt", [False, True], ids=["plain", "sealed"])
@pytest.mark.parametrize("renewed", [False, True], ids=["", "renewed before"])
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__[1:])
def test_per_09_no_snapshot_brings_back_what_ended(stores: Stores, end: Any, renewed: bool, encrypt: bool) -> None:
    """PER-09: whatever was renewed between the snapshot and the end."""
    store = stores.open(encrypt=encrypt)
    first = store.create({"n": 1}, owner="eva")
    ids = [first.id]
    bystander = store.create({"n": 2})
    store.snapshot()
    session = store.load(first.id)
    assert session is not None
    if renewed:
        session._renew()
        ids.append(session.id)
        session = store.load(session.id)
        assert session is not None
    end(store, session)
    store = stores.reopen(store, encrypt=encrypt)
    assert [store.load(each) for each in ids] == [None] * len(ids)
    assert (store.load(bystander.id) is None) == (end is _revoke_all)


@pytest.mark.parametrize("end", [_login, _step_up, _rotate], ids=lambda end: end.__name__[1:])
def test_who_got_a_new_id_after_the_snapshot_has_it_still(stores: Stores, end: Any) -> None:
    store = stores.open()
    session = store.create({"n": 1}, owner="eva")
    store.snapshot()
    end(store, session)
    owner, handle = session.owner, session.handle
    store = stores.reopen(store)
    again = store.load(session.id)
    assert again is not None
    assert (again.owner, again.handle) == (owner, handle)
    again.destroy()
    store = stores.reopen(store)
    assert store.load(session.id) is None


def test_who_logged_in_after_the_snapshot_is_logged_in(stores: Stores) -> None:
    store = stores.open()
    fresh = store.open()
    fresh["cart"] = ["book"]
    fresh.login("eva", keep=("cart",))
    gone = store.open()
    gone.login("bob")
    gone.logout()
    store = stores.reopen(store)
    again = store.load(fresh.id)
    assert again is not None
    assert (again.owner, dict(again)) == ("eva", {"cart": ["book"]})
    assert store.stats().sessions == 1


@pytest.mark.parametrize("then", ["nothing", "flush", "snapshot"])
def test_per_08_nobody_is_logged_out_for_having_been_renewed(stores: Stores, then: str) -> None:
    """PER-08: the id that the client has is good, and so is the one that it may have been sent."""
    store = stores.open()
    stores.stop_thread(store)
    session = store.create({"n": 1}, owner="eva")
    store.snapshot()
    old = session.id
    renewed = store.load(old)
    assert renewed is not None
    assert renewed._renew()
    assert store._persistence is not None
    assert store._persistence.is_unsure(renewed)
    if then == "flush":
        store.flush()
    elif then == "snapshot":
        store.snapshot()
        store.load(old)
    told = not store._persistence.is_unsure(renewed)
    assert told == (then != "nothing")
    store = stores.reopen(store)
    assert store.stats().sessions == 1
    through_old = store.load(old)
    assert through_old is not None
    assert (through_old.id == renewed.id) == told
    assert (store.load(renewed.id) is not None) == told
    testing.advance(store, 11)
    assert (store.load(old) is None) == told


def test_per_08_a_renewal_does_not_wait_for_the_disk(stores: Stores, in_place: Callable[[Any], None]) -> None:
    """PER-08: the disk hangs while a request is answered that renews: the client keeps its id. A later request that comes
    with that id waits for the sync, and is given the new one."""

    class Hanging(Recorder):
        def fdatasync(self, descriptor: int) -> None:
            begun.set()
            assert gate.wait(60)
            super().fdatasync(descriptor)

    def page(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        owner = environ["sessile.session"].owner
        start_response("200 OK", [])
        return [owner.encode()]

    def ask(id: str | None) -> str | None:
        headers: list[tuple[str, str]] = []
        environ: dict[str, Any] = {"HTTP_COOKIE": f"__Host-Http-id={id}"}
        setup_testing_defaults(environ)
        body = application(environ, lambda status, given, *_: headers.extend(given))
        assert b"".join(body) == b"eva"
        given = dict(headers).get("Set-Cookie")
        return None if given is None else given.split(";")[0].partition("=")[2]

    gate, begun = threading.Event(), threading.Event()
    store = stores.open()
    old = store.create({"n": 1}, owner="eva").id
    store.snapshot()
    application = SessionMiddleware(page, store, https=True, rotate_every=60)
    testing.advance(store, 61)
    in_place(Hanging())
    assert ask(old) is None
    answers: list[str | None] = []
    later = threading.Thread(target=lambda: answers.append(ask(old)))
    later.start()
    assert begun.wait(60)
    assert answers == []
    gate.set()
    later.join()
    in_place(os)
    assert answers[0] not in (None, old)
    assert ask(answers[0]) is None
    store = stores.reopen(store)
    assert store.load(answers[0]) is not None


@pytest.mark.parametrize("again", [False, True], ids=["load", "renewal that comes second"])
def test_per_08_whoever_tells_a_new_id_has_made_it_durable(
    stores: Stores, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """PER-08: a process that renewed a session stops before its sync; another one gives the new id to the client."""
    table = tmp_path / "tables" / "shop"
    table.parent.mkdir(mode=0o700)
    first, second = stores.open(path=table), stores.open(path=table)
    old = first.create({"n": 1}, owner="eva").id
    first.snapshot()
    renewed, late = first.load(old), second.load(old)
    assert renewed is not None
    assert late is not None
    with monkeypatch.context() as stopped:
        stopped.setattr(first._persistence, "rotated", lambda *_: None)
        renewed._renew()
    if again:
        late._renew()
    else:
        late = second.load(old)
        assert late is not None
    assert late.id == renewed.id != old
    stores.crash(second)
    stores.crash(first)
    table.unlink()
    store = stores.open(path=table)
    assert store.load(renewed.id) is not None
    through_old = store.load(old)
    assert through_old is None or through_old.id == renewed.id


def test_per_09_an_owner_with_many_sessions(stores: Stores) -> None:
    """PER-09: more than one call can report."""
    store = stores.open(max_sessions_per_owner=None)
    sessions = [store.create({"n": n}, owner="eva") for n in range(900)]
    store.snapshot()
    assert store.revoke("eva", keep=sessions[7]) == 899
    store = stores.reopen(store)
    assert [info.handle for info in store.sessions("eva")] == [sessions[7].handle]


def test_the_end_of_a_session_survives_two_crashes(stores: Stores) -> None:
    store = stores.open()
    session = store.create({"n": 1}, owner="eva")
    store.snapshot()
    session.destroy()
    store = stores.reopen(store)
    store = stores.reopen(store)
    store.snapshot()
    store = stores.reopen(store)
    assert store.load(session.id) is None


def test_per_08_deadlines_go_on_over_a_restart(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """PER-08, LIF-02: neither deadline is extended by a restart; the time that the machine was off counts."""
    import time

    store = stores.open(idle_timeout=600, absolute_timeout=3600)
    session = store.create({"n": 1})
    kept = store.create({"n": 2}, idle_timeout=5000, absolute_timeout=5000)
    store.snapshot()
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 540 * 10**9)
    store = stores.reopen(store, idle_timeout=600, absolute_timeout=3600)
    assert store.load(session.id, touch=False) is not None
    monkeypatch.setattr(time, "time_ns", lambda: real() + 601 * 10**9)
    store = stores.reopen(store, idle_timeout=600, absolute_timeout=3600)
    assert store.load(session.id) is None
    again = store.load(kept.id)
    assert again is not None
    assert again.remaining is not None
    assert 4300 < again.remaining < 4400


def test_per_08_a_clock_behind_the_snapshot_is_a_warning(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """PER-08: nobody is logged out by a wrong clock, and no deadline is later than it was."""
    import time

    store = stores.open()
    session = store.create({"n": 1})
    store.snapshot()
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 3600 * 10**9)
    store = stores.reopen(store)
    assert "behind the snapshot" in caplog.text
    again = store.load(session.id, touch=False)
    assert again is not None
    assert again.remaining is not None
    assert again.remaining <= 1800


def test_per_05_no_file_holds_an_id(stores: Stores) -> None:
    """PER-05: neither as text nor as bytes; and no string in a file is one."""
    import base64

    store = stores.open()
    sessions = [store.create({"n": 1}, owner=f"owner {number}") for number in range(20)]
    for session in sessions[:5]:
        session.rotate()
    sessions[5].login("bob")
    store.snapshot()
    ids = [session.id for session in sessions if session.id is not None]
    for path in stores.directory.iterdir():
        data = path.read_bytes()
        for each in ids:
            assert each.encode() not in data
            assert base64.urlsafe_b64decode(each) not in data
        for place in range(min(len(data), 20_000)):
            assert store.load(data[place : place + 32], touch=False) is None


@pytest.mark.parametrize("encrypt", [False, True], ids=["plain", "sealed"])
def test_per_06_sealed_files_show_nothing_of_users(stores: Stores, encrypt: bool) -> None:
    """PER-06: with the negative control that without sealing they do."""
    store = stores.open(encrypt=encrypt)
    store.create({"marker": "MARKER-OF-THE-IMAGE"}, owner="OWNER-OF-THE-IMAGE")
    store.snapshot()
    session = store.open()
    session["marker"] = "MARKER-OF-THE-JOURNAL"
    session.login("OWNER-OF-THE-JOURNAL", keep=True)
    texts = (b"MARKER-OF-THE-IMAGE", b"OWNER-OF-THE-IMAGE", b"MARKER-OF-THE-JOURNAL", b"OWNER-OF-THE-JOURNAL")
    found = {text for path in stores.directory.iterdir() for text in texts if text in path.read_bytes()}
    assert len(found) == (0 if encrypt else 4)


def test_a_table_in_use_always_beats_the_snapshot(stores: Stores, tmp_path: Any) -> None:
    path = tmp_path / "tables" / "shop"
    path.parent.mkdir(mode=0o700)
    store = stores.open(path=path)
    before = store.create({"n": 1})
    store.snapshot()
    before.destroy()
    after = store.create({"n": 2})
    second = stores.open(path=path)
    assert second.load(before.id) is None
    assert second.load(after.id) is not None
    stores.crash(second)
    stores.crash(store)
    third = stores.open(path=path)
    assert third.load(after.id) is not None


def test_a_named_table_comes_back_after_a_reboot(stores: Stores, tmp_path: Any) -> None:
    path = tmp_path / "tables" / "shop"
    path.parent.mkdir(mode=0o700)
    store = stores.open(path=path, secret=None)
    session = store.create({"n": 1}, owner="eva")
    store.snapshot()
    stores.crash(store)
    for each in path.parent.iterdir():
        each.unlink()
    store = stores.open(path=path, secret=None)
    assert store.load(session.id) is not None
    assert os.stat(stores.directory / "secret.key").st_mode & 0o777 == 0o600


@pytest.mark.shared_home
def test_a_child_ends_sessions_for_good(stores: Stores, in_child: Any) -> None:
    """One segment a process: what a forked child was told is as durable."""
    store = stores.open()
    first, second = store.create({"n": 1}), store.create({"n": 2})
    store.snapshot()
    first.destroy()

    def end() -> None:
        session = store.load(second.id)
        assert session is not None
        session.destroy()

    second_id, first_id = second.id, first.id
    in_child(end)
    assert len(stores.segments()) == 2
    store = stores.reopen(store)
    assert store.load(first_id) is None
    assert store.load(second_id) is None


def test_durability_none_writes_no_journal(stores: Stores) -> None:
    store = stores.open(durability="none")
    session = store.create({"n": 1})
    id = session.id
    store.snapshot()
    session.logout()
    assert stores.segments() == []
    store = stores.reopen(store, durability="none")
    assert store.load(id) is not None  # what the docstring says that it costs


@pytest.mark.parametrize("secrets", [[b"n" * 32, SECRET], [SECRET, b"n" * 32]], ids=["new first", "old first"])
def test_a_secret_can_be_rotated(stores: Stores, secrets: list[bytes]) -> None:
    store = stores.open()
    session = store.create({"n": 1})
    ended = store.create({"n": 1})
    store.snapshot()
    ended.destroy()
    store = stores.reopen(store, secret=secrets)
    assert store.load(session.id) is not None
    assert store.load(ended.id) is None


async def _end_in_a_loop(store: sessile.Store, session: sessile.Session) -> None:
    session.destroy()
    await store.aflush()


def test_in_an_event_loop_aflush_waits(stores: Stores) -> None:
    import asyncio

    store = stores.open()
    session = store.create({"n": 1})
    store.snapshot()
    asyncio.run(_end_in_a_loop(store, session))
    store = stores.reopen(store)
    assert store.load(session.id) is None


def test_snapshots_are_taken_by_themselves(stores: Stores) -> None:
    import time

    store = stores.open(snapshot_interval=0.05)
    session = store.create({"n": 1})
    end = time.monotonic() + 60
    first = stores.images()[-1]
    while first in stores.images() and time.monotonic() < end:
        time.sleep(0.01)
    assert first not in stores.images()
    store = stores.reopen(store)
    assert store.load(session.id) is not None
