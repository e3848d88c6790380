"""Owners and revocation: the model that csrc/owner.c follows.

An owner has a session X, stored and referenced. Each step is one store, or what is done under one shard's
lock; the stripe's lock is a step of its own. A dead process's lock is taken over by whoever wants it
next.

* A log-in of the same owner: lock the stripe, add the reference, add the child as PENDING, commit (its
  parent becomes RETIRED), promote it, unlock. It may be killed before any step.
* A sweeper (a list, the cap, another log-in): lock, verify each reference, drop what is stale, unlock.
* A revoker ("log out everywhere"): lock, set the state, remove each session that has a reference, drop
  the references, clear the state, unlock. It may be killed before any step.
* The next user of the stripe finishes a revocation that it finds.
* X may end on its own (expiry, destroy), without the stripe.
* At the cap the log-in ends X.

Promised: every valid session of the owner has its reference, at every instant; a revocation that returned
left no session whose log-in had returned before it; one that was killed removed all of them or none, once
the next user came; no log-in that began after a revocation had returned is undone by it; and no log-in that
did not happen ends a session.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from explorer import Result, explore

NONE, PENDING, LIVE = 0, 1, 2
X, C = 0, 1  # the stored session, the child of the log-in
LOGIN, SWEEP, REVOKE, NEXT = "login", "sweep", "revoke", "next"


@dataclass(frozen=True)
class Rules:
    """Switches: each is a rule of the design, and dropping it must break a promise."""

    reference_before_commit: bool = True  # O1
    lock_held_to_the_commit: bool = True  # T4
    state_before_removals: bool = True  # O2: a revocation writes down that it began
    next_user_finishes: bool = True  # O2
    state_cleared_last: bool = True  # O2: and writes down that it ended when it has
    revoker_locks: bool = True  # log-in against revocation is ordered by the stripe's lock
    cap_after_commit: bool = True  # what is above the cap ends when the log-in cannot fail any more


class State(NamedTuple):
    records: tuple[int, ...] = (LIVE, NONE)
    retired: bool = False  # the log-in's parent: the commit
    references: tuple[bool, ...] = (True, False)
    revoking: bool = False
    holder: str = ""
    dead: frozenset[str] = frozenset()
    login: int = 0
    sweep: int = 0
    revoke: int = 0
    next: int = 0
    seen: tuple[bool, ...] = (True, True)  # by the sweeper: keep?
    ended: bool = False  # X ended on its own
    evicted: bool = False  # X ended by the cap
    before: bool = False  # the log-in had returned when the revocation began
    after: bool = False  # the log-in began when the revocation had returned


def put(items: tuple[Any, ...], index: int, value: object) -> Any:
    return (*items[:index], value, *items[index + 1 :])


def valid(state: State, which: int) -> bool:
    return state.records[which] == LIVE or (state.records[which] == PENDING and state.retired)


def may_lock(state: State) -> bool:
    return state.holder == "" or state.holder in state.dead


def unlocked(state: State, who: str) -> State:
    return state._replace(holder="" if state.holder == who else state.holder)


def at_cap(state: State) -> State:
    return state._replace(records=put(state.records, X, NONE), ended=True, evicted=True)


def login_steps(state: State, rules: Rules, capped: bool) -> Iterator[tuple[str, State]]:
    step = state.login
    if LOGIN in state.dead or step == 6:
        return
    if capped and state.records[X] == LIVE and step == (5 if rules.cap_after_commit else 2):
        yield "log-in: ends the oldest", at_cap(state)
    if step > 0:
        yield "the log-in is killed", state._replace(dead=state.dead | {LOGIN})
    if step == 0 and may_lock(state):
        first = state._replace(login=1, holder=LOGIN, after=state.revoke == 9)
        if rules.reference_before_commit:
            first = first._replace(references=put(first.references, C, True))
        yield "log-in: stripe, reference", first if rules.lock_held_to_the_commit else unlocked(first, LOGIN)
    elif step == 1:
        yield "log-in: PENDING", state._replace(records=put(state.records, C, PENDING), login=2)
    elif step == 2:
        yield "log-in: commit", state._replace(retired=True, login=3)
    elif step == 3:
        promoted = put(state.records, C, LIVE) if state.records[C] == PENDING else state.records
        yield "log-in: promote", state._replace(records=promoted, login=4)
    elif step == 4 and capped:
        yield "log-in: goes on to the cap", state._replace(login=5)
    elif step in (4, 5):
        late = state
        if not rules.reference_before_commit:
            late = state._replace(references=put(state.references, C, True))
        yield "log-in: returns", unlocked(late._replace(login=6), LOGIN)


def sweep_steps(state: State) -> Iterator[tuple[str, State]]:
    if state.sweep == 0 and may_lock(state) and not state.revoking:
        yield "sweep: stripe", state._replace(sweep=1, holder=SWEEP)
    elif state.sweep == 1:
        keep = tuple(valid(state, which) or state.records[which] == PENDING for which in (X, C))
        yield f"sweep: looks, {keep}", state._replace(sweep=2, seen=keep)
    elif state.sweep == 2:
        left = tuple(state.references[which] and state.seen[which] for which in (X, C))
        yield "sweep: drops what is stale", unlocked(state._replace(sweep=9, references=left), SWEEP)


def removal(state: State, which: int, step: str, number: int) -> State:
    """Removes a referenced session; a PENDING that is committed is one. Its reference goes with it."""
    records = state.records
    if state.references[which] and valid(state, which):
        records = put(records, which, NONE)
    fields: dict[str, Any] = {step: number, "records": records}
    return state._replace(**fields)


def revoke_steps(state: State, rules: Rules) -> Iterator[tuple[str, State]]:
    step = state.revoke
    if REVOKE in state.dead or step == 9:
        return
    if step > 0:
        yield "the revoker is killed", state._replace(dead=state.dead | {REVOKE})
    if step == 0 and (may_lock(state) or not rules.revoker_locks):
        holder = REVOKE if rules.revoker_locks else state.holder
        yield "revoke: stripe", state._replace(revoke=1, holder=holder, before=state.login == 6)
    elif step == 1:
        yield "revoke: state", state._replace(revoke=2, revoking=rules.state_before_removals)
    elif step == 2:
        revoking = state.revoking and rules.state_cleared_last
        yield "revoke: removes X", removal(state, X, "revoke", 3)._replace(revoking=revoking)
    elif step == 3:
        yield "revoke: removes C", removal(state, C, "revoke", 4)
    elif step == 4:
        left = tuple(
            state.references[which] and (valid(state, which) or state.records[which] == PENDING)
            for which in (X, C)
        )
        yield "revoke: drops references", state._replace(revoke=5, references=left)
    elif step == 5:
        yield "revoke: returns", unlocked(state._replace(revoke=9, revoking=False), REVOKE)


def next_steps(state: State, rules: Rules) -> Iterator[tuple[str, State]]:
    """Comes once the others are through or dead."""
    if state.next == 0 and may_lock(state) and REVOKE in state.dead:
        after = state
        if state.revoking and rules.next_user_finishes:
            after = removal(removal(state, X, "next", 0), C, "next", 0)._replace(revoking=False)
        yield "the next user", after._replace(next=9)


def model(rules: Rules, until_violation: bool = False, capped: bool = False) -> Result[State]:
    def successors(state: State) -> Iterator[tuple[str, State]]:
        yield from login_steps(state, rules, capped)
        yield from sweep_steps(state)
        yield from revoke_steps(state, rules)
        yield from next_steps(state, rules)
        if state.records[X] == LIVE and not state.ended and state.revoke == 0:
            yield "X ends on its own", state._replace(records=put(state.records, X, NONE), ended=True)

    def violation(state: State, at_rest: bool) -> str | None:
        for which in (X, C):
            if valid(state, which) and not state.references[which]:
                return "a valid session has no reference"
        if state.revoke == 9 and (valid(state, X) or (state.before and valid(state, C))):
            return "a session outlives a revocation that returned"
        if state.login == 6 and state.after and not valid(state, C):
            return "a revocation undoes a log-in that came after it"
        if state.next == 9 and state.before and not state.ended and valid(state, X) != valid(state, C):
            return "half a revocation stays"
        if state.evicted and not state.retired:
            return "a log-in that did not happen ended a session"
        return None

    return explore(State(), successors, violation, until_violation)
