"""Everybody out (revoke_all): the model that csrc/shard.c, csrc/owner.c and csrc/listing.c follow.

The table has an epoch, and so has each shard: what lies in a shard of another epoch than the table's counts for nothing.
One shard, with a session in it. Each step is one store, or one line of what is done under the shard's lock.

* A revoker raises the table's epoch, two times.
* A creator: lock the shard; where its epoch is another, read the table's, `seq` odd, kill one record after the other, store
  the epoch that was read, `seq` even; then store the new session, unlock, return.
* Another process that wants the lock does the same without a new session (any operation).
* Both may be killed before any step; who takes the lock over rebuilds what is derived, and takes the records as they are.

Promised: what was stored before a revocation began is never seen again once it returned; a session whose creation began
after the last revocation had returned is there when it returns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from explorer import Result, explore

CREATOR, OTHER = 0, 1
OLD, NEW = 0, 1  # the records
RETURNED = 9


@dataclass(frozen=True)
class Rules:
    """Switches: each is a rule of the design, and dropping it must break a promise."""

    epoch_last: bool = True  # the shard takes the table's epoch when all its records are dead
    look_up_compares_epochs: bool = True  # a look-up finds nothing in a shard of another epoch
    reset_before_create: bool = True  # a creation empties a shard of another epoch first
    records_die_in_a_reset: bool = True  # it is not enough that the index is empty: recovery makes it anew from the records


class Locker(NamedTuple):
    step: int = 0
    seen: int = 0  # the table's epoch as it read it
    dead: bool = False


class State(NamedTuple):
    table: int = 0  # epochs
    shard: int = 0
    live: tuple[bool, bool] = (True, False)
    stored: tuple[int, int] = (0, 0)  # the table's epoch when each was stored
    holder: int = -1
    odd: bool = False
    indexed: bool = True  # the records that live are found
    lockers: tuple[Locker, Locker] = (Locker(), Locker())
    began: int = 0  # the table's epoch when the creation began


def put(items: tuple[Any, ...], index: int, value: object) -> Any:
    return (*items[:index], value, *items[index + 1 :])


def visible(state: State, rules: Rules, record: int) -> bool:
    same = state.shard == state.table or not rules.look_up_compares_epochs
    return state.live[record] and state.indexed and same


def locker_steps(state: State, rules: Rules, who: int) -> Iterator[tuple[str, State]]:
    me, name = state.lockers[who], ("creator", "other")[who]

    def become(change: State, step: int, **fields: Any) -> State:
        return change._replace(lockers=put(change.lockers, who, me._replace(step=step, **fields)))

    if me.dead or me.step == RETURNED:
        return
    if me.step > 0:
        yield f"{name} is killed", become(state, me.step, dead=True)
    if me.step == 0:
        yield f"{name} begins", become(state._replace(began=state.table) if who == CREATOR else state, 1)
    elif me.step == 1 and (state.holder == -1 or state.lockers[state.holder].dead):
        mended = state._replace(odd=False, indexed=True) if state.odd else state
        yield f"{name} locks", become(mended._replace(holder=who), 2)
    elif me.step == 2 and (state.shard == state.table or (who == CREATOR and not rules.reset_before_create)):
        yield f"{name} finds the epoch right", become(state, 7)
    elif me.step == 2:
        epoch = state.shard if rules.epoch_last else state.table
        yield f"{name} begins a reset", become(state._replace(odd=True, shard=epoch, indexed=False), 3, seen=state.table)
    elif me.step in (3, 4):
        record = me.step - 3
        live = put(state.live, record, False) if rules.records_die_in_a_reset else state.live
        yield f"{name} kills record {record}", become(state._replace(live=live), me.step + 1)
    elif me.step == 5:
        yield f"{name} stores the epoch", become(state._replace(shard=me.seen), 6)
    elif me.step == 6:
        yield f"{name} ends the reset", become(state._replace(odd=False), 7)
    elif me.step == 7 and who == CREATOR:
        born = state._replace(live=put(state.live, NEW, True), stored=put(state.stored, NEW, state.table), indexed=True)
        yield "creator stores the session", become(born, 8)
    elif me.step in (7, 8):
        yield f"{name} unlocks", become(state._replace(holder=-1), RETURNED)


def model(rules: Rules, until_violation: bool = False) -> Result[State]:
    def successors(state: State) -> Iterator[tuple[str, State]]:
        for who in (CREATOR, OTHER):
            yield from locker_steps(state, rules, who)
        if state.table < 2:
            yield "everybody out", state._replace(table=state.table + 1)

    def violation(state: State, at_rest: bool) -> str | None:
        for record in (OLD, NEW):
            if visible(state, rules, record) and state.stored[record] < state.table:
                return "a session outlives a revocation of all"
        returned = state.lockers[CREATOR].step == RETURNED
        if returned and state.began == state.table and not visible(state, rules, NEW):
            return "a session that began after the revocation is not there"
        return None

    return explore(State(), successors, violation, until_violation)
