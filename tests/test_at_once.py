"""Log-ins and rotations that are done at once, in C, where nobody listens: no outcome differs from that of the general way
in Python, and each condition for that way takes it."""

import base64
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sessile
from sessile.session import Session
from sessile.testing import advance

MakeStore = Callable[..., sessile.Store]
Deed = Callable[[Session], None]

FIELDS = {"theme": "dark", "cart": ["book"]}
PHONE = {"browser": "Firefox"}


# ---- what was before ----


def anonymous(store: sessile.Store) -> Session:
    return store.create(FIELDS)


def without_fields(store: sessile.Store) -> Session:
    return store.create()


def owned(store: sessile.Store) -> Session:
    return store.create(FIELDS, owner="bob", device=PHONE, idle_timeout=60, absolute_timeout=600)


def with_values_read(store: sessile.Store) -> Session:
    session = store.load(anonymous(store).id)
    session["cart"]
    return session


def with_changes(store: sessile.Store) -> Session:
    session = owned(store)
    session["cart"].append("pen")
    session["theme"] = "light"
    session["planted"] = 1
    return session


def with_a_removed_field(store: sessile.Store) -> Session:
    session = owned(store)
    del session["theme"]
    return session


def with_what_cannot_be_stored(store: sessile.Store) -> Session:
    session = anonymous(store)
    session["function"] = print
    return session


def to_be_cleared(store: sessile.Store) -> Session:
    session = anonymous(store)
    session.clear()
    session["after"] = 1
    return session


def loaded_without_touch(store: sessile.Store) -> Session:
    return store.load(owned(store).id, touch=False)


def at_the_cap(store: sessile.Store) -> Session:
    for _ in range(2):
        store.create(owner="alice")
    return anonymous(store)


def not_stored(store: sessile.Store) -> Session:
    session = store.open()
    session["a"] = 1
    return session


def ended_here(store: sessile.Store) -> Session:
    session = anonymous(store)
    session.destroy()
    return session


def ended_elsewhere(store: sessile.Store) -> Session:
    session = owned(store)
    store.load(session.id).logout()
    return session


def expired(store: sessile.Store) -> Session:
    session = owned(store)
    advance(store, 3600)
    return session


def changed_elsewhere(store: sessile.Store) -> Session:
    session = store.load(owned(store).id)
    session["cart"].append("pen")
    other = store.load(session.id)
    other["theme"] = "light"
    other.save()
    return session


def logged_in_elsewhere(store: sessile.Store) -> Session:
    session = anonymous(store)
    store.load(session.id).login("mallory")
    return session


def renewed_elsewhere(store: sessile.Store) -> Session:
    session = store.load(owned(store).id)
    assert store.load(session.id)._renew()
    return session


def of_a_closed_store(store: sessile.Store) -> Session:
    session = anonymous(store)
    store.close()
    return session


class Exchange:
    """What a request's session is looked up through."""

    def __init__(self, store: sessile.Store, id: str | None) -> None:
        self.store, self.id = store, id

    def _look_up(self, session: Session) -> None:
        assert self.store._load_into(session, self.id, True)


class Refusing(Session):
    __slots__ = ()

    def _write(self) -> None:
        raise PermissionError


def of_a_request(store: sessile.Store) -> Session:
    session: Session = store._of_request(Session, Exchange(store, owned(store).id))
    return session


def of_a_request_that_refuses(store: sessile.Store) -> Session:
    session: Session = store._of_request(Refusing, Exchange(store, owned(store).id))
    return session


ROTATED_AT_ONCE = (
    anonymous, without_fields, owned, with_values_read, with_changes, with_a_removed_field, with_what_cannot_be_stored,
    to_be_cleared, loaded_without_touch, at_the_cap, of_a_request,
)  # fmt: skip
REFUSED = (ended_here, ended_elsewhere, expired, logged_in_elsewhere, of_a_closed_store, of_a_request_that_refuses)
LOGGED_IN_AT_ONCE = tuple(each for each in ROTATED_AT_ONCE if each is not with_what_cannot_be_stored)
SITUATIONS = (*ROTATED_AT_ONCE, *REFUSED, not_stored, changed_elsewhere, renewed_elsewhere)


# ---- what is done ----


class Text(str):
    __slots__ = ()


def rotate(session: Session) -> None:
    session.rotate()


def login(owner: Any = "alice", **options: Any) -> Deed:
    return lambda session: session.login(owner, **options)


PLAIN_LOGINS: dict[str, Deed] = {
    "alice": login(),
    "keep=()": login(keep=()),
    "no options": login(device=None, idle_timeout=None, absolute_timeout=None),
    "255 octets": login("a" * 255),
}
OTHER_LOGINS: dict[str, Deed] = {
    "the same owner": login("bob"),
    "no ASCII": login("Zoë"),
    "a subclass": login(Text("alice")),
    "256 octets": login("a" * 256),
    "no text": login(""),
    "a number": login(7),
    "nothing": login(None),
    "a lone surrogate": login("\ud800"),
    "fields kept": login(keep=("cart",)),
    "fields kept, a list": login(keep=["cart", "absent"]),
    "no fields kept, a list": login(keep=[]),
    "all kept": login(keep=True),
    "keep is no list": login(keep="cart"),
    "a device": login(device={"browser": "Chromium"}),
    "an impossible device": login(device="Chromium"),
    "an idle timeout": login(idle_timeout=90),
    "an absolute timeout": login(absolute_timeout=900),
    "an impossible timeout": login(idle_timeout=-1),
}


# ---- what came of it ----


def facts(session: Session | None) -> Any:
    """What of a session does not depend on chance or on the time."""
    if session is None:
        return None
    stored = session.id is not None
    timeouts = session.remaining is not None and session.remaining < 1000, session._flags, session._touches
    return stored, session._state, session.owner, session.device, session.authenticated_at is None, timeouts


def answer(function: Callable[[], Any]) -> Any:
    """What a call gives, or the type of what it raises."""
    try:
        return function()
    except Exception as error:
        return type(error)


def outcome(store: sessile.Store, session: Session, deed: Deed) -> list[Any]:
    """All that can be seen of what `deed` does to the session, through this object, another one, its ids and the store."""
    waiting = session._untouched or store._closed
    id, handle = (None, None) if waiting else (session.id, session.handle)
    other = None if id is None else store.load(id, touch=False)
    raised = answer(lambda: deed(session))
    if store._closed:
        return [raised]
    seen: list[Any] = [raised, facts(session), session.id == id, session.handle == handle]
    if raised is None or raised is sessile.SessionGone:
        seen += [dict(session), answer(session._changes)]
    seen += [id is None or facts(store.load(id)), other is not None and other.alive(), store.stats(), store.check()]
    current = store.load(session.id)
    seen += [facts(current), None if current is None else dict(current)]
    if raised is None:
        seen += [answer(session.save), dict(session), current is None or dict(store.load(session.id) or {})]
    if other is not None:
        seen.append(answer(other.rotate))
    return seen


@pytest.fixture
def compared(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[bool]]:
    """Do a deed in a situation, both ways, each in a store of its own: what the attempts to do it at once answered."""

    def compare(situation: Callable[[sessile.Store], Session], deed: Deed) -> list[bool]:
        answers: list[bool] = []
        answered: list[bool] = []

        def ask(session: Session, owner: str | None) -> bool:
            answers.append(sessile._table.Record._anew_at_once(session, owner))
            return answers[-1]

        def noted(session: Session) -> None:
            del answers[:]
            try:
                deed(session)
            finally:
                answered[:] = answers

        def outcome_here(deed: Deed) -> list[Any]:
            store = make_store(max_sessions_per_owner=2)
            return outcome(store, situation(store), deed)

        monkeypatch.setattr(Session, "_anew_at_once", ask)
        at_once = outcome_here(noted)
        with monkeypatch.context() as patch:
            patch.setattr(Session, "_anew_at_once", lambda *_: False)
            assert outcome_here(deed) == at_once
        return answered

    return compare


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda each: each.__name__)
def test_rotated_at_once_or_not(compared: Callable[..., list[bool]], situation: Callable[..., Session]) -> None:
    """LIF-06."""
    answered = compared(situation, rotate)
    if situation in ROTATED_AT_ONCE:
        assert answered == [True]
    elif situation not in REFUSED:
        assert answered == [False]


@pytest.mark.parametrize("deed", PLAIN_LOGINS.values(), ids=PLAIN_LOGINS.keys())
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda each: each.__name__)
def test_logged_in_at_once_or_not(
    compared: Callable[..., list[bool]], situation: Callable[..., Session], deed: Deed
) -> None:
    """LIF-05, LIF-07, LIF-14."""
    answered = compared(situation, deed)
    if situation in LOGGED_IN_AT_ONCE:
        assert answered == [True]
    elif situation not in (*REFUSED, with_what_cannot_be_stored):
        assert answered == [False]


@pytest.mark.parametrize("deed", OTHER_LOGINS.values(), ids=OTHER_LOGINS.keys())
@pytest.mark.parametrize("situation", [owned, with_changes, not_stored], ids=lambda each: each.__name__)
def test_a_login_that_is_not_plain_goes_the_general_way(
    compared: Callable[..., list[bool]], situation: Callable[..., Session], deed: Deed
) -> None:
    assert True not in compared(situation, deed)


@pytest.mark.parametrize("deed", [rotate, login()], ids=["rotate", "login"])
@pytest.mark.parametrize("listening", ["on_event", "snapshot_dir"])
def test_where_somebody_listens_it_is_the_general_way(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listening: str, deed: Deed
) -> None:
    """DET-01, PER-09: events and the journal are in Python."""
    options: dict[str, Any] = {"on_event": lambda _: None, "snapshot_dir": tmp_path}
    store = make_store(**{listening: options[listening]})
    answers: list[bool] = []
    real = sessile._table.Record._anew_at_once
    monkeypatch.setattr(Session, "_anew_at_once", lambda *given: answers.append(real(*given)) or answers[-1])
    session = anonymous(store)
    id = session.id
    deed(session)
    assert answers == [False]
    assert store.load(id) is None
    assert store.load(session.id) is not None


@pytest.mark.parametrize("deed", [rotate, login()], ids=["rotate", "login"])
def test_at_once_an_id_is_one_call_of_the_kernels_generator(
    store: sessile.Store, monkeypatch: pytest.MonkeyPatch, deed: Deed
) -> None:
    """SID-01."""
    session = anonymous(store)
    real, calls = os.urandom, []
    monkeypatch.setattr(os, "urandom", lambda size: calls.append(size) or real(size))
    deed(session)
    assert calls == [24]


@pytest.mark.parametrize("deed", [rotate, login()], ids=["rotate", "login"])
def test_at_once_an_id_in_use_is_never_taken(
    store: sessile.Store, monkeypatch: pytest.MonkeyPatch, deed: Deed
) -> None:
    """SID-08: another is tried, the general way."""
    taken, session = store.create({"mine": 1}), anonymous(store)
    real, answers = os.urandom, [base64.urlsafe_b64decode(taken.id or "")]
    monkeypatch.setattr(os, "urandom", lambda size: answers.pop() if answers else real(size))
    deed(session)
    assert answers == []
    assert session.id != taken.id
    assert dict(store.load(taken.id)) == {"mine": 1}


@pytest.mark.parametrize("deed", [rotate, login()], ids=["rotate", "login"])
def test_at_once_a_file_that_is_lost_is_told(
    make_store: MakeStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    deed: Deed,
) -> None:
    """DET-01: also where nobody listens to events it is in the log, at the first occasion after a while."""
    monkeypatch.setattr("sessile.store._LOOK_SECONDS", 0.0)
    tmp_path.chmod(0o700)
    path = tmp_path / "table"
    store = make_store(path=path)
    session = anonymous(store)
    session.rotate()
    path.unlink()
    with caplog.at_level(logging.ERROR, "sessile"):
        advance(store, 1)
        deed(session)
        assert caplog.text.count("was removed or replaced") == 1
        advance(store, 1)
        session.rotate()
    assert caplog.text.count("was removed or replaced") == 1
    assert store.load(session.id) is not None
