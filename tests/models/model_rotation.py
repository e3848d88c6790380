"""Rotation and log-in: the model that csrc/rotation.c and csrc/succession.c follow.

Two records in two shards: the parent in A, the child in B. Each step of an actor is what it does under
one shard's lock.

* The rotator copies the parent (R0), adds the child as PENDING (R1), retires the parent (R2: the commit),
  promotes the child (R3); where R2 does not go through it takes the child back. For want of room it
  starts over with the same id of the child. It may be killed, or stopped for long, before any step.
* A second rotator may want the same session, with a child of its own (a shard of its own).
* A saver updates through the old id. A destroyer ends the session through the old id, following where it
  leads.
* A looker meets a PENDING child, reads the parent, then promotes it, drops it or leaves it.
* A remover takes out a RETIRED record that is due or beyond the bound, after a look at the child.
* Time: 0, then 1: the child's ten seconds are over, then 2: a second try is past its ten seconds, too.

Promised: at every instant exactly one of the records is valid, until the session was destroyed; then
none, for good. No update that was acknowledged is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from explorer import Result, explore

SESSION, PENDING, RETIRED, GONE = "SESSION", "PENDING", "RETIRED", "-"


@dataclass(frozen=True)
class Rules:
    """Switches: each is a rule of the design, and dropping it must break a promise."""

    version_is_checked: bool = True  # the commit is made only at the version that was copied
    pending_needs_its_name: bool = True  # PENDING is valid only if RETIRED names this child
    clock_under_the_lock: bool = True  # T2: the commit reads the clock under lock A
    parent_read_when_due: bool = True  # T2: a drop needs a look at the parent at or after the due time
    drop_what_was_read: bool = True  # a drop takes only the very PENDING that was looked at
    promote_before_removal: bool = True  # T3: RETIRED goes only after its child was promoted
    one_child_each: bool = True  # each rotation has an id of its own for its child
    promoted_at_any_age: bool = True  # PENDING that the parent names is promoted, however late
    never_victims: bool = True  # what stands in the middle of a rotation is not evicted for room


class Record(NamedTuple):
    kind: str = GONE
    version: int = 0
    child: int = 0  # RETIRED: whom it names
    issued: int = 0  # PENDING: when


class Rotator(NamedTuple):
    step: int = 0
    copied: int = 0
    issued: int = 0
    tries: int = 0
    dead: bool = False


class Looker(NamedTuple):
    step: int = 0
    issued: int = 0
    verdict: str = ""


class State(NamedTuple):
    parent: Record
    children: tuple[Record, Record]
    rotators: tuple[Rotator, Rotator]
    looker: Looker = Looker()
    remover: int = 0
    saver: int = 0
    destroyer: int = 0
    time: int = 0
    acknowledged: int = 1  # version of the last save that returned
    destroyed: bool = False  # the destroyer returned


FIRST = State(Record(SESSION, 1), (Record(), Record()), (Rotator(), Rotator()))


def put(items: tuple[Any, ...], index: int, value: object) -> Any:
    return (*items[:index], value, *items[index + 1 :])


def names(state: State, rules: Rules, child: int) -> bool:
    """Does the parent's record make this child valid?"""
    if state.parent.kind != RETIRED:
        return False
    return not rules.pending_needs_its_name or state.parent.child == child


def valid_child(state: State, child: int) -> bool:
    record = state.children[child]
    return record.kind == SESSION or (
        record.kind == PENDING and state.parent.kind == RETIRED and state.parent.child == child
    )


def due(state: State, issued: int) -> bool:
    return state.time > issued


def rotator_steps(state: State, rules: Rules, who: int, tries: int) -> Iterator[tuple[str, State]]:
    me = state.rotators[who]
    mine = who if rules.one_child_each else 0
    child = state.children[mine]

    def become(change: State, **fields: Any) -> State:
        return change._replace(rotators=put(change.rotators, who, me._replace(**fields)))

    if me.dead or me.step == 9:
        return
    yield f"rotator {who} is killed", become(state, dead=True)
    if me.step == 0 and state.parent.kind == SESSION:
        yield f"rotator {who} copies", become(state, step=1, copied=state.parent.version)
    elif me.step == 1 and child.kind == GONE:
        added = state._replace(
            children=put(state.children, mine, Record(PENDING, me.copied, issued=state.time))
        )
        yield f"rotator {who} adds PENDING", become(added, step=2, issued=state.time)
    elif me.step == 2:
        on_time = not due(state, me.issued) or not rules.clock_under_the_lock
        at_version = state.parent.version == me.copied or not rules.version_is_checked
        if state.parent.kind == SESSION and on_time and at_version:
            retired = state._replace(parent=Record(RETIRED, state.parent.version, child=mine))
            yield f"rotator {who} commits", become(retired, step=3)
            if me.tries < tries:
                yield f"rotator {who} finds no room for RETIRED", become(state, step=4, tries=1)
        else:
            yield f"rotator {who} gives up", become(state, step=5)
    elif me.step in (4, 5):
        left = state
        if child.kind == PENDING and child.issued == me.issued:
            left = state._replace(children=put(state.children, mine, Record()))
        # A new try copies again only if the version is another; here it goes on with what it has.
        yield f"rotator {who} takes its PENDING back", become(left, step=1 if me.step == 4 else 9)
    elif me.step == 3:
        promoted = state
        if child.kind == PENDING:
            promoted = state._replace(children=put(state.children, mine, child._replace(kind=SESSION)))
        yield f"rotator {who} promotes", become(promoted, step=9)


def looker_steps(state: State, rules: Rules) -> Iterator[tuple[str, State]]:
    """Looks at child 0."""
    me, child = state.looker, state.children[0]
    if me.step == 0 and child.kind == PENDING:
        yield "looker meets PENDING", state._replace(looker=Looker(1, child.issued))
    elif me.step == 1:
        # The time counts at which the parent is read; without the rule, the time of the drop.
        over = due(state, me.issued) or not rules.parent_read_when_due
        named = names(state, rules, 0) and (rules.promoted_at_any_age or not over)
        verdict = "promote" if named else "drop" if over else "leave"
        yield f"looker reads the parent: {verdict}", state._replace(looker=Looker(2, me.issued, verdict))
    elif me.step == 2:
        after = state._replace(looker=Looker(0 if me.verdict == "leave" else 3))
        this_one = child.kind == PENDING and (child.issued == me.issued or not rules.drop_what_was_read)
        if me.verdict == "promote" and child.kind == PENDING:
            after = after._replace(children=put(after.children, 0, child._replace(kind=SESSION)))
        elif me.verdict == "drop" and this_one and due(state, me.issued):
            after = after._replace(children=put(after.children, 0, Record()))
        yield f"looker acts: {me.verdict}", after


def remover_steps(state: State, rules: Rules) -> Iterator[tuple[str, State]]:
    if state.parent.kind != RETIRED:
        return
    named = state.parent.child
    child = state.children[named]
    if state.remover == 0 and rules.promote_before_removal:
        after = state._replace(remover=1)
        if child.kind == PENDING:
            after = after._replace(children=put(state.children, named, child._replace(kind=SESSION)))
        yield "remover promotes the child", after
    elif state.remover <= 1:
        yield "remover removes RETIRED", state._replace(parent=Record(), remover=2)


def evictor_steps(state: State, rules: Rules) -> Iterator[tuple[str, State]]:
    if rules.never_victims:
        return
    if state.parent.kind == RETIRED:
        yield "RETIRED is evicted", state._replace(parent=Record())
    if state.children[0].kind == PENDING:
        yield "PENDING is evicted", state._replace(children=put(state.children, 0, Record()))


def user_steps(state: State, rotators: int) -> Iterator[tuple[str, State]]:
    # Two rotators are enough to see with a session that nobody saves.
    if state.saver == 0 and rotators == 1 and state.parent.kind == SESSION:
        version = state.parent.version + 1
        yield (
            "a save through the old id",
            state._replace(parent=Record(SESSION, version), saver=1, acknowledged=version),
        )
    if state.destroyer == 0:
        if state.parent.kind == SESSION:
            yield "destroyed", state._replace(parent=Record(), destroyer=9, destroyed=True)
        elif state.parent.kind == RETIRED:
            yield "destroyer follows to the child", state._replace(destroyer=1 + state.parent.child)
    elif state.destroyer in (1, 2):
        child = state.destroyer - 1
        yield (
            "destroys the child",
            state._replace(children=put(state.children, child, Record()), destroyer=9, destroyed=True),
        )
    if state.time < 3 - rotators:
        yield "ten seconds pass", state._replace(time=state.time + 1)


def model(rules: Rules, rotators: int, until_violation: bool = False) -> Result[State]:
    """All states of one rotator that may try twice, or of two, and of the other actors."""

    def successors(state: State) -> Iterator[tuple[str, State]]:
        for who in range(rotators):
            yield from rotator_steps(state, rules, who, 2 - rotators)
        yield from looker_steps(state, rules)
        yield from remover_steps(state, rules)
        yield from evictor_steps(state, rules)
        yield from user_steps(state, rotators)

    def violation(state: State, at_rest: bool) -> str | None:
        children = [child for child in (0, 1) if valid_child(state, child)]
        valid = len(children) + (state.parent.kind == SESSION)
        if state.destroyed:
            return "a destroyed session is back" if valid else None
        if valid > 1:
            return "two ids are valid"
        if valid == 0 and state.destroyer not in (1, 2):
            return "the session is lost"
        if children and state.children[children[0]].version < state.acknowledged:
            return "an update is lost"
        return None

    first = FIRST if rotators == 2 else FIRST._replace(rotators=(Rotator(), Rotator(step=9)))
    return explore(first, successors, violation, until_violation)
