"""Renewals: the model that csrc/succession.c (T5) and the web layer follow.

A session has ids 0, 1, 2; each renewal gives it the next one, and the id before forwards to it. A client
holds some of them: it is told a new id with the answer to a request, and that answer may be lost. Two
clients: the owner of the session, and a thief who copied the cookie at some moment and presents it at any
later one.

* A request presents an id. A live id: its first presentation begins the drain of its parent, then marks
  it proven (two stores in two shards; the process may be killed between them). A forwarding id: the
  request acts on the session and is told the newest id. A dead one: refused; after its grace that is a
  theft, and the session ends.
* A renewal is asked for by a request with a live or forwarding id.
* Time passes: a drain that has begun ends.

Promised: the owner's newest id always leads to the session, until a theft ended it; an id whose successor
was presented is dead after the drain; at most one id of a session forwards; a thief's use of a dead id is
seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from explorer import Result, explore

IDS = 3


@dataclass(frozen=True)
class Rules:
    """Switches: each is a rule of the design, and dropping it must break a promise."""

    drain_before_proven: bool = True  # T5: first the parent's drain, then the child's mark
    renew_only_proven: bool = True  # a session whose id was not presented yet is not renewed again
    drain_only_once: bool = True  # a drain that has begun is not begun again
    # an id forwards until its successor was presented, not for a fixed time
    forwards_until_presented: bool = True
    forwarded_is_no_presentation: bool = True  # a request through the old id does not prove the new one


class State(NamedTuple):
    newest: int = 0  # the id of the live record
    proven: tuple[bool, ...] = (True, False, False)
    drain: tuple[int, ...] = (0, 0, 0)  # of a retired id: 0 not begun, 1 begun, 2 over
    client: int = 0  # the newest id that the owner of the session was told
    thief: int = -1  # the id that was stolen
    half: int = -1  # a request was killed between the two stores of a first presentation
    age: tuple[int, ...] = (0, 0, 0)  # of a retired id: 1 once time has passed
    dead: tuple[bool, ...] = (False, False, False)  # ids that were dead once
    ended: bool = False


def put(items: tuple[Any, ...], index: int, value: object) -> Any:
    return (*items[:index], value, *items[index + 1 :])


def forwards(state: State, rules: Rules, of: int) -> bool:
    if of >= state.newest:
        return False
    if not rules.forwards_until_presented:
        return state.age[of] == 0
    return state.drain[of] != 2


def leads(state: State, rules: Rules, of: int) -> bool:
    """Does this id lead to the session?"""
    return not state.ended and (
        of == state.newest or (forwards(state, rules, of) and leads(state, rules, of + 1))
    )


def first_presentation(state: State, rules: Rules, of: int) -> Iterator[tuple[str, State]]:
    """The two stores, and a kill between them."""
    drained = state
    if of > 0 and (state.drain[of - 1] == 0 or not rules.drain_only_once):
        drained = state._replace(drain=put(state.drain, of - 1, 1))
    marked = state._replace(proven=put(state.proven, of, True))
    both = drained._replace(proven=put(state.proven, of, True))
    yield f"id {of} is presented for the first time", both
    if of > 0:
        yield (
            f"id {of} is presented for the first time, killed between the stores",
            drained if rules.drain_before_proven else marked,
        )


def present(state: State, rules: Rules, of: int) -> Iterator[tuple[str, State]]:
    if of == state.newest:
        if state.proven[of]:
            yield f"id {of} is presented", state
        else:
            yield from first_presentation(state, rules, of)
    elif leads(state, rules, of):
        told = state
        if not rules.forwarded_is_no_presentation:
            told = state._replace(
                drain=put(state.drain, of, max(1, state.drain[of])), proven=put(state.proven, of + 1, True)
            )
        yield f"id {of} is presented and forwards", told


def requests(state: State, rules: Rules) -> Iterator[tuple[str, State]]:
    """Of the owner of the session, who uses what it was told last."""
    of = state.client
    if state.ended:
        return
    if not leads(state, rules, of):
        return
    for label, after in present(state, rules, of):
        yield f"{label}; the answer is lost", after
        yield f"{label}; the client learns id {after.newest}", after._replace(client=after.newest)
        may = after.proven[after.newest] or not rules.renew_only_proven
        if may and after.newest + 1 < IDS:
            renewed = after._replace(newest=after.newest + 1)
            yield f"{label}; renewed, the answer is lost", renewed
            yield f"{label}; renewed, the client learns it", renewed._replace(client=renewed.newest)


def successors_of(state: State, rules: Rules) -> Iterator[tuple[str, State]]:
    yield from requests(state, rules)
    if state.thief < 0:
        yield f"id {state.client} is stolen", state._replace(thief=state.client)
    elif not state.ended and not leads(state, rules, state.thief):
        yield f"the thief presents id {state.thief}: seen", state._replace(ended=True)
    if not state.ended:
        drain = tuple(2 if drain == 1 else drain for drain in state.drain)
        age = tuple(1 if of < state.newest else 0 for of in range(IDS))
        if drain != state.drain or age != state.age:
            later = state._replace(drain=drain, age=age)
            dead = tuple(
                later.dead[of] or (of < later.newest and not leads(later, rules, of)) for of in range(IDS)
            )
            yield "time passes", later._replace(dead=dead)


def model(rules: Rules, until_violation: bool = False) -> Result[State]:
    def violation(state: State, at_rest: bool) -> str | None:
        if state.ended:
            return None
        if any(state.dead[of] and leads(state, rules, of) for of in range(IDS)):
            return "a dead id leads to the session again"
        if not leads(state, rules, state.client):
            return "the client's newest id leads nowhere"
        forwarding = [of for of in range(state.newest) if state.drain[of] == 0]
        if len(forwarding) > 1:
            return "two ids forward"
        if state.newest > 0 and state.proven[state.newest] and state.drain[state.newest - 1] == 0:
            return "an old id forwards for good"
        return None

    return explore(State(), lambda state: successors_of(state, rules), violation, until_violation)
