"""Counters and their recount: the model that csrc/shard.c and csrc/recover.c follow.

Two shards, each with a count of its records under its lock, and the table's count of all, which many
change at once by fetch_add. The capacity is one record more than is there.

* A creator: lock the shard, `seq` odd, count in the shard, count in the table; beyond the capacity take
  both back; else store the record; `seq` even, unlock.
* A thief, once a holder is dead: take the lock over; if `seq` is odd: recount due, count the shard's
  records anew, `seq` even; release.
* A recounter, when a recount is due: take all locks, none or all; sum; store the sum; no recount due;
  release.
* Any of them may be killed before any step.

Promised: with every lock free and no recount due the table's count is the number of records; and there
are never more records than the capacity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from explorer import Result, explore

SHARDS = 2
CREATORS = 2
THIEVES = 2


@dataclass(frozen=True)
class Rules:
    """Switches: each is a rule of the design, and dropping it must break a promise."""

    count_while_odd: bool = True  # the table's count changes only while seq is odd
    due_before_rebuild: bool = True  # a recovery sets the mark before it changes the shard's count
    mark_cleared_last: bool = True  # a recount that is killed is done again
    recount_takes_all: bool = True  # a recount holds all locks at once
    count_before_storing: bool = True  # the place is counted before it is taken


class Shard(NamedTuple):
    holder: str = ""
    odd: bool = False
    counted: int = 0
    records: int = 0


class State(NamedTuple):
    shards: tuple[Shard, ...] = (Shard(counted=1, records=1), Shard())
    table: int = 1
    due: bool = False
    creators: tuple[int, ...] = (0,) * CREATORS
    thieves: tuple[tuple[int, int, int], ...] = ((0, 0, 0),) * THIEVES  # step, shard or next shard, sum
    dead: frozenset[str] = frozenset()


CAPACITY = 2


def put(items: tuple[Any, ...], index: int, value: object) -> Any:
    return (*items[:index], value, *items[index + 1 :])


def change(state: State, shard: int, **fields: Any) -> State:
    return state._replace(shards=put(state.shards, shard, state.shards[shard]._replace(**fields)))


def creator_steps(state: State, rules: Rules, who: int) -> Iterator[tuple[str, State]]:
    """Creates one record in the shard of its own number."""
    name, step, shard = f"creator {who}", state.creators[who], state.shards[who]

    def go(after: State, to: int) -> State:
        return after._replace(creators=put(after.creators, who, to))

    if name in state.dead or step == 9:
        return
    if step > 0:
        yield f"{name} is killed", state._replace(dead=state.dead | {name})
    counted = change(state, who, counted=shard.counted + 1)
    in_table = state._replace(table=state.table + 1)
    if step == 0 and shard.holder == "":
        yield f"{name} locks", go(change(state, who, holder=name), 1)
    elif step == 1:
        if not rules.count_before_storing and state.table >= CAPACITY:
            yield f"{name} finds it full", go(state, 8)
        elif rules.count_while_odd:
            yield f"{name} makes seq odd", go(change(state, who, odd=True), 2)
        else:
            yield f"{name} counts in the table", go(in_table, 2)
    elif step == 2:
        yield f"{name} counts in the shard", go(change(counted, who, odd=True), 3)
    elif step == 3:
        yield f"{name} counts in the table", go(in_table if rules.count_while_odd else state, 4)
    elif step == 4:
        if rules.count_before_storing and state.table > CAPACITY:
            yield f"{name} takes its count back in the table", go(state._replace(table=state.table - 1), 6)
        else:
            yield f"{name} stores", go(change(state, who, records=shard.records + 1), 7)
    elif step == 6:
        yield (
            f"{name} takes its count back in the shard",
            go(change(state, who, counted=shard.counted - 1), 7),
        )
    elif step == 7:
        yield f"{name} makes seq even", go(change(state, who, odd=False), 8)
    elif step == 8:
        yield f"{name} unlocks", go(change(state, who, holder=""), 9)


def may_take(state: State, shard: int) -> bool:
    return state.shards[shard].holder in state.dead


def thief_steps(state: State, rules: Rules, who: int) -> Iterator[tuple[str, State]]:
    """Takes over from the dead, and recounts when that is due."""
    name, (step, number, total) = f"thief {who}", state.thieves[who]

    def go(after: State, to: int, at: int = 0, so_far: int = 0) -> State:
        return after._replace(thieves=put(after.thieves, who, (to, at, so_far)))

    if name in state.dead:
        return
    if step > 0 and who == 0:
        yield f"{name} is killed", state._replace(dead=state.dead | {name})
    shard = state.shards[min(number, SHARDS - 1)]
    if step == 0:
        for dead in range(SHARDS):
            if state.shards[dead].holder and may_take(state, dead):
                yield f"{name} takes shard {dead} over", go(change(state, dead, holder=name), 1, dead)
        if state.due:
            yield f"{name} begins a recount", go(state, 5)
    elif step == 1 and not shard.odd:
        yield f"{name} releases", go(change(state, number, holder=""), 0)
    elif step == 1:
        yield (
            f"{name} marks a recount due",
            go(state._replace(due=True) if rules.due_before_rebuild else state, 2, number),
        )
    elif step == 2:
        yield f"{name} counts the records", go(change(state, number, counted=shard.records), 3, number)
    elif step == 3:
        yield f"{name} makes seq even", go(change(state, number, odd=False), 4, number)
    elif step == 4:
        done = state if rules.due_before_rebuild else state._replace(due=True)
        yield f"{name} releases", go(change(done, number, holder=""), 0)
    elif step == 5:
        yield from recount_locks(state, rules, name, number, go)
    elif step == 6:
        first = state if rules.mark_cleared_last else state._replace(due=False)
        yield f"{name} sums", go(first, 7, 0, sum(each.counted for each in state.shards))
    elif step == 7:
        yield f"{name} stores the sum", go(state._replace(table=total), 8)
    elif step == 8:
        done = state._replace(due=False) if rules.mark_cleared_last else state
        for each in range(SHARDS):
            if done.shards[each].holder == name:
                done = change(done, each, holder="")
        yield f"{name} ends the recount", go(done, 0)


def recount_locks(
    state: State, rules: Rules, name: str, number: int, go: Callable[..., State]
) -> Iterator[tuple[str, State]]:
    """One lock after the other, each only if it is free; else all are given back."""
    if number == SHARDS or not rules.recount_takes_all:
        yield f"{name} has all locks", go(state, 6)
    elif state.shards[number].holder == "":
        yield f"{name} locks shard {number}", go(change(state, number, holder=name), 5, number + 1)
    else:
        left = state
        for each in range(number):
            left = change(left, each, holder="")
        yield f"{name} gives up the recount", go(left, 0)


def model(rules: Rules, until_violation: bool = False) -> Result[State]:
    def successors(state: State) -> Iterator[tuple[str, State]]:
        for who in range(CREATORS):
            yield from creator_steps(state, rules, who)
        for who in range(THIEVES):
            yield from thief_steps(state, rules, who)

    def violation(state: State, at_rest: bool) -> str | None:
        records = sum(shard.records for shard in state.shards)
        if records > CAPACITY:
            return "more records than the capacity"
        free = all(shard.holder == "" for shard in state.shards)
        idle = all(
            thief[0] == 0 for who, thief in enumerate(state.thieves) if f"thief {who}" not in state.dead
        )
        if free and idle and not state.due and state.table != records:
            return "the table's count has drifted"
        return None

    return explore(State(), successors, violation, until_violation)
