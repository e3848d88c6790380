"""A random life of many sessions against a plain model (Hypothesis).

The model is what DESIGN promises, without a table: stored sessions are dicts, requests are what they loaded
and what they wrote since. After every step the store must say what the model says. A renewed deadline may be
up to a 64th of the idle timeout old, so the model keeps the earliest and the latest possible one and never
looks in between.
"""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

import sessile
from sessile.testing import EventRecorder, advance

IDLE, ABSOLUTE = 6400, 64_000
SLACK = 40  # seconds that the test itself may take between two looks at the clock
NAMES = st.sampled_from(["a", "b", "cart", "n"])
OWNERS = st.sampled_from(["alice", "bob", "ü"])
VALUES = st.one_of(
    st.integers(-3, 3),
    st.text("xy", max_size=3),
    st.lists(st.integers(0, 3), max_size=3),
    st.none(),
    st.just("z" * 600),
)
FIELDS = st.dictionaries(NAMES, VALUES, max_size=3)
REMOVED = object()


@dataclasses.dataclass
class Stored:
    """One session as it must be stored."""

    fields: dict[str, Any]
    owner: str | None
    earliest: float  # of the idle deadline
    latest: float
    absolute: float
    idle: float
    handle: str = ""
    ids: list[str] = dataclasses.field(default_factory=list)  # the present one last
    alive: bool = True
    reason: str | None = None


@dataclasses.dataclass
class Request:
    """One Session object with what its program knows."""

    session: sessile.Session
    stored: Stored | None  # None: not stored yet
    written: dict[str, Any]
    ended: bool = False


class Model(RuleBasedStateMachine):
    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.recorder = EventRecorder()
        self.now = 0.0
        self.all: list[Stored] = []
        self.ended: dict[str, str] = {}

    @initialize(reporting=st.booleans(), seed=st.integers(0, 1000))
    def open_store(self, reporting: bool, seed: int) -> None:
        self.reporting = reporting
        self.real_urandom = os.urandom
        os.urandom = random.Random(
            seed
        ).randbytes  # the same ids, and so the same shards, when a failure is replayed
        self.store = sessile.Store(
            capacity=500,
            memory="2 MiB",
            idle_timeout=IDLE,
            absolute_timeout=ABSOLUTE,
            max_sessions_per_owner=None,
            on_event=self.recorder if reporting else None,
        )

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            os.urandom = self.real_urandom

    # ---- the model ----

    def add(self, session: sessile.Session, fields: dict[str, Any], owner: str | None) -> Stored:
        stored = Stored(dict(fields), owner, self.now + IDLE, self.now + IDLE, self.now + ABSOLUTE, IDLE)
        self.attach(stored, session)
        self.all.append(stored)
        return stored

    def attach(self, stored: Stored, session: sessile.Session) -> None:
        assert session.id is not None
        assert session.handle is not None
        assert all(session.id not in each.ids for each in self.all)
        stored.ids.append(session.id)
        stored.handle = session.handle

    def end(self, stored: Stored, reason: str | None) -> None:
        stored.alive = False
        stored.reason = reason
        if reason is not None:
            self.ended[stored.handle] = reason

    def touch(self, stored: Stored) -> None:
        """A use: renewed surely if the last renewal is a 64th of the idle timeout old, perhaps otherwise."""
        stored.latest = self.now + stored.idle
        if self.now - (stored.earliest - stored.idle) >= stored.idle / 64 + SLACK:
            stored.earliest = self.now + stored.idle

    def due(self, stored: Stored) -> bool:
        """Whether it is past a deadline; the rules never look at it when that is not certain."""
        first, last = min(stored.earliest, stored.absolute), min(stored.latest, stored.absolute)
        assert self.now < first - SLACK or self.now > last + SLACK, "not certain"
        return self.now > last

    def look(self, stored: Stored) -> bool:
        """Whether a look-up finds it; a due one ends with it."""
        if stored.alive and self.due(stored):
            idle_first = stored.latest < stored.absolute
            self.end(stored, "idle" if idle_first else "absolute")
        return stored.alive

    def certain(self) -> bool:
        return all(
            self.now < min(each.earliest, each.absolute) - SLACK
            or self.now > min(each.latest, each.absolute) + SLACK
            for each in self.all
            if each.alive
        )

    def view(self, request: Request, base: dict[str, Any]) -> dict[str, Any]:
        """Fields `base` with what the request wrote."""
        merged = dict(base)
        for name, value in request.written.items():
            if value is REMOVED:
                merged.pop(name, None)
            else:
                merged[name] = value
        return merged

    def expect_gone(self, request: Request, call: Callable[[], Any]) -> None:
        with pytest.raises(sessile.SessionGone):
            call()
        request.ended = True
        request.written.clear()
        assert not request.session
        assert request.session.owner is None

    def usable(self, request: Request) -> bool:
        """Whether the session of this request is there, or still to be stored."""
        return request.stored is None or self.look(request.stored)

    # ---- rules ----

    @rule(target=requests, fields=FIELDS, owner=st.one_of(st.none(), OWNERS))
    def create(self, fields: dict[str, Any], owner: str | None) -> Request:
        session = self.store.create(fields, owner=owner)
        return Request(session, self.add(session, fields, owner), {})

    @rule(target=requests)
    def open_new(self) -> Request:
        return Request(self.store.open(), None, {})

    @rule(target=requests, request=requests, old=st.booleans(), use=st.booleans())
    def load(self, request: Request, old: bool, use: bool) -> Any:
        stored = request.stored
        if stored is None:
            return multiple()
        identifier = stored.ids[0] if old else stored.ids[-1]
        retired = identifier != stored.ids[-1]
        if retired and stored.owner is not None:
            return multiple()  # theft signals have tests of their own
        expected = not retired and self.look(stored)
        session = self.store.load(identifier, touch=use)
        assert (session is not None) is expected
        if session is None:
            return multiple()
        if use:
            self.touch(stored)
        assert dict(session) == stored.fields
        assert (session.owner, session.handle, session.id) == (stored.owner, stored.handle, identifier)
        return Request(session, stored, {})

    @rule(request=requests, name=NAMES, value=VALUES)
    def assign(self, request: Request, name: str, value: Any) -> None:
        if request.ended:
            return
        request.session[name] = value
        request.written[name] = value.copy() if isinstance(value, list) else value

    @rule(request=requests, name=NAMES)
    def remove(self, request: Request, name: str) -> None:
        if name not in request.session:
            return
        del request.session[name]
        request.written[name] = REMOVED

    @rule(request=requests, name=NAMES)
    def change_in_place(self, request: Request, name: str) -> None:
        if not isinstance(request.session.get(name), list):
            return
        request.session[name].append(7)
        request.written[name] = list(request.session[name])

    @rule(request=requests)
    def save(self, request: Request) -> None:
        if request.ended:
            self.expect_gone(request, request.session.save)
            return
        present = self.usable(request)
        if not request.written:
            assert request.session.save() is False
            return
        if request.stored is None:
            fields = self.view(request, {})
            assert request.session.save() is bool(fields)
            if fields:
                request.stored = self.add(request.session, fields, None)
                request.written.clear()
            return
        if not present:
            self.expect_gone(request, request.session.save)
            return
        stored = request.stored
        merged = self.view(request, stored.fields)
        wrote = request.session.save()
        assert wrote is (merged != stored.fields)
        if wrote and not merged and stored.owner is None:
            self.end(stored, "destroyed")
            request.stored = None
            assert request.session.id is None
        else:
            stored.fields = merged
            if wrote:
                self.touch(stored)
        request.written.clear()

    @rule(request=requests, value=VALUES, name=NAMES)
    def update_field(self, request: Request, name: str, value: Any) -> None:
        stored = request.stored
        if stored is None:
            return
        seen: list[Any] = []

        def function(old: Any) -> Any:
            seen.append(old)
            return value

        if request.ended or not self.usable(request):
            self.expect_gone(request, lambda: request.session.update_field(name, function, default="none"))
            return
        assert request.session.update_field(name, function, default="none") == value
        assert seen[-1] == stored.fields.get(name, "none")
        stored.fields[name] = value.copy() if isinstance(value, list) else value
        request.written.pop(name, None)
        self.touch(stored)
        assert request.session[name] == value

    @rule(request=requests, owner=OWNERS, keep=st.one_of(st.just(True), st.sets(NAMES)))
    def login(self, request: Request, owner: str, keep: Any) -> None:
        if request.ended or not self.usable(request):
            self.expect_gone(request, lambda: request.session.login(owner, keep=keep))
            return
        stored = request.stored
        fields = self.view(request, stored.fields if stored else {})
        if keep is not True and not (stored and stored.owner == owner):
            fields = {name: value for name, value in fields.items() if name in keep}
        request.session.login(owner, keep=keep)
        if stored:
            self.end(stored, None)
        request.stored = self.add(request.session, fields, owner)
        request.written.clear()
        # The object itself goes on showing lists that it read before another request changed them.
        assert dict(self.store.load(request.session.id, touch=False)) == fields

    @rule(request=requests)
    def rotate(self, request: Request) -> None:
        if request.ended or not self.usable(request):
            self.expect_gone(request, request.session.rotate)
            return
        if request.stored is None:
            fields = self.view(request, {})
            request.session.rotate()
            request.stored = self.add(request.session, fields, None)
            request.written.clear()
            return
        request.session.rotate()
        before = request.stored
        after = dataclasses.replace(before, ids=list(before.ids), fields=dict(before.fields))
        before.alive, before.reason = False, None
        self.touch(after)
        self.attach(after, request.session)
        self.all.append(after)
        request.stored = after

    @rule(request=requests, end=st.sampled_from(["logout", "destroy", "clear"]))
    def finish(self, request: Request, end: str) -> None:
        if end == "clear" and not (request.stored and request.session.owner):
            return
        if request.stored is not None and self.look(request.stored):
            self.end(request.stored, "destroyed" if end == "destroy" else "logout")
        getattr(request.session, end)()
        request.written.clear()
        request.stored = None
        request.ended = end == "destroy"
        assert dict(request.session) == {}

    @rule(request=requests)
    def reload(self, request: Request) -> None:
        if request.ended or not self.usable(request):
            self.expect_gone(request, request.session.reload)
            return
        request.session.reload()
        request.written.clear()
        if request.stored:
            self.touch(request.stored)
            assert dict(request.session) == request.stored.fields

    @rule(request=consumes(requests))
    def forget(self, request: Request) -> None:
        """The request is over without a save."""

    @rule(owner=OWNERS, request=requests, keep=st.booleans())
    def revoke(self, owner: str, request: Request, keep: bool) -> None:
        kept = request.stored if keep and request.stored and request.session.owner == owner else None
        mine = [each for each in self.all if each.owner == owner and self.look(each)]
        going = [each for each in mine if not (kept and each.handle == kept.handle)]
        assert self.store.revoke(owner, keep=request.session if keep else None) == len(going)
        for each in going:
            self.end(each, "revoked")

    @rule()
    def revoke_all(self) -> None:
        living = sum(each.alive and not self.due(each) for each in self.all)
        stored = self.store.stats().sessions
        assert living <= self.store.revoke_all() == stored
        for each in self.all:
            if each.alive:
                self.end(each, None)

    @rule(seconds=st.sampled_from([200, 1500, 6000, 7000, 20_000, 70_000]))
    def pass_time(self, seconds: int) -> None:
        advance(self.store, seconds)
        self.now += seconds
        while not self.certain():
            advance(self.store, 100)
            self.now += 100

    @rule(budget=st.sampled_from([1, 10, 1000]))
    def sweep(self, budget: int) -> None:
        assert 0 <= self.store.sweep(budget) <= budget

    # ---- what must always hold ----

    @invariant()
    def requests_see_what_they_wrote(self) -> None:
        if hasattr(self, "store"):
            assert self.store.check() == []

    @invariant()
    def lists_and_events_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        living = [each for each in self.all if each.alive and not self.due(each)]
        assert sorted(info.handle for info in self.store.sessions()) == sorted(each.handle for each in living)
        for owner in ("alice", "bob", "ü"):
            expected = sorted(each.handle for each in living if each.owner == owner)
            assert sorted(info.handle for info in self.store.sessions(owner)) == expected
        if self.reporting:
            told = [(event.handle, event.reason) for event in self.recorder.events if event.kind == "ended"]
            told = [each for each in told if each[0] is not None]
            assert len(told) == len({handle for handle, _ in told}), "an end was told twice"
            for handle, reason in told:
                stored = next(each for each in self.all if each.handle == handle)
                assert self.ended.get(handle, reason) == reason
                assert not stored.alive or self.due(stored)


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
