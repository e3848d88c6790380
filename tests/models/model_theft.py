"""Lock theft and process slots: the model that csrc/lock.c and csrc/process.c follow.

One lock, guarding a pair of numbers that must be equal while nobody is inside. Three processes; each
attaches in one of two process slots by taking the slot's byte, which the kernel gives back when its
holder dies. A word in the lock names slot and generation of its owner. Each step is one store, one
compare-and-swap, or one call of the kernel. A process may die before any step, or be stopped before any
step for ever.

* attach: take a free byte; take over the lock if its word is of this slot (repair, release); publish slot
  and generation.
* work: take the free lock; `seq` odd; change one number, then the other; `seq` even; release.
* wait: who finds the lock taken sets the waiters bit; then tries the byte of the owner's slot, and with
  it in hand takes the word over, repairs if `seq` is odd, releases the lock and lets go of the byte.

Promised: never two in the lock; who gets the lock finds the numbers equal; a lock whose owner is dead
does not stay locked once the others have had their turn; the living are never robbed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from explorer import Result, explore

PROCESSES, SLOTS = 3, 2


@dataclass(frozen=True)
class Rules:
    """Switches: each is a rule of the design, and dropping it must break a promise."""

    byte_is_the_proof: bool = True  # a word is taken over only with the owner's byte in hand
    # P3: a slot is used again only when all its former owner held is taken over
    take_over_before_publishing: bool = True
    # a waiter's bit that comes between the look and the swap does not stop a thief
    steal_tries_again: bool = True
    repair_when_odd: bool = True
    seq_before_the_first_store: bool = True
    byte_held_while_attached: bool = True  # P2: a process keeps its byte as long as it may hold locks
    waits_end_by_themselves: bool = True  # who waits looks again after a time, woken or not


class Process(NamedTuple):
    at: str = "out"
    slot: int = -1
    generation: int = 0
    seen: tuple[int, int, bool] | None = None  # the word that it looked at
    dead: bool = False
    turns: int = 0


class State(NamedTuple):
    processes: tuple[Process, ...]
    bytes: tuple[int, ...] = (-1,) * SLOTS  # who holds each slot's byte
    generations: tuple[int, ...] = (0,) * SLOTS
    word: tuple[int, int] | None = None  # slot and generation of the lock's owner
    waiters: bool = False
    seq: int = 0
    numbers: tuple[int, int] = (0, 0)
    wrong: str = ""
    woken: bool = False


def put(items: tuple[Any, ...], index: int, value: object) -> Any:
    return (*items[:index], value, *items[index + 1 :])


class Steps:
    """The steps of one process in one state."""

    def __init__(self, state: State, rules: Rules, number: int) -> None:
        self.state, self.rules, self.number = state, rules, number
        self.me = state.processes[number]

    def become(self, state: State | None = None, **fields: Any) -> State:
        state = state or self.state
        return state._replace(processes=put(state.processes, self.number, self.me._replace(**fields)))

    def all(self) -> Iterator[tuple[str, State]]:
        if self.me.dead:
            return
        name = f"process {self.number}"
        if self.me.at not in ("out", "done"):
            yield f"{name} dies", self.die()
        for label, state in getattr(self, self.me.at)():
            yield f"{name} {label}", state

    def die(self) -> State:
        freed = tuple(-1 if holder == self.number else holder for holder in self.state.bytes)
        return self.become(self.state._replace(bytes=freed), dead=True)

    # ---- attaching ----

    def out(self) -> Iterator[tuple[str, State]]:
        for slot in range(SLOTS):
            if self.state.bytes[slot] == -1:
                taken = self.state._replace(bytes=put(self.state.bytes, slot, self.number))
                generation = self.state.generations[slot] + 1
                at = "inherit" if self.rules.take_over_before_publishing else "publish"
                yield (
                    f"takes the byte of slot {slot}",
                    self.become(taken, at=at, slot=slot, generation=generation),
                )
                break

    def inherit(self) -> Iterator[tuple[str, State]]:
        """Is there a word of this slot? It is the dead former owner's."""
        word = self.state.word
        if word is None or word[0] != self.me.slot:
            yield "finds nothing to inherit", self.become(at="publish")
        else:
            yield (
                "looks at the word of its slot",
                self.become(at="inherit_swap", seen=(*word, self.state.waiters)),
            )

    def inherit_swap(self) -> Iterator[tuple[str, State]]:
        taken = self.swap((self.me.slot, self.me.generation))
        if taken is not None:
            yield "inherits the lock", self.repaired(taken, "publish")
        else:
            again = "inherit" if self.rules.steal_tries_again else "publish"
            yield "finds the word changed", self.become(at=again, seen=None)

    def publish(self) -> Iterator[tuple[str, State]]:
        published = self.state._replace(
            generations=put(self.state.generations, self.me.slot, self.me.generation)
        )
        if not self.rules.byte_held_while_attached:
            published = published._replace(bytes=put(published.bytes, self.me.slot, -1))
        yield "publishes", self.become(published, at="attached")

    # ---- working ----

    def attached(self) -> Iterator[tuple[str, State]]:
        state = self.state
        if self.me.turns == 1:
            return
        if state.word is None:
            wrong = state.wrong or ("who gets the lock finds it half written" if self.is_torn() else "")
            locked = state._replace(word=(self.me.slot, self.me.generation), wrong=wrong)
            yield (
                "takes the lock",
                self.become(locked, at="odd" if self.rules.seq_before_the_first_store else "first"),
            )
        elif state.word != (self.me.slot, self.me.generation):
            if not state.waiters:
                yield "sets the waiters bit", self.become(state._replace(waiters=True), at="wait")
            else:
                yield "waits", self.become(at="wait")

    def is_torn(self) -> bool:
        return self.state.numbers[0] != self.state.numbers[1] or self.state.seq % 2 == 1

    def inside(self, after: State) -> State:
        """Checks that the lock is still this process's own."""
        if self.state.word != (self.me.slot, self.me.generation):
            return after._replace(wrong=after.wrong or "a living process was robbed of its lock")
        return after

    def odd(self) -> Iterator[tuple[str, State]]:
        at = "first" if self.rules.seq_before_the_first_store else "second"
        yield "makes seq odd", self.inside(self.become(self.state._replace(seq=self.state.seq + 1), at=at))

    def first(self) -> Iterator[tuple[str, State]]:
        numbers = (1 - self.state.numbers[0], self.state.numbers[1])
        at = "second" if self.rules.seq_before_the_first_store else "odd"
        yield "stores the first number", self.inside(self.become(self.state._replace(numbers=numbers), at=at))

    def second(self) -> Iterator[tuple[str, State]]:
        numbers = (self.state.numbers[0], self.state.numbers[0])
        yield (
            "stores the second number",
            self.inside(self.become(self.state._replace(numbers=numbers), at="even")),
        )

    def even(self) -> Iterator[tuple[str, State]]:
        yield (
            "makes seq even",
            self.inside(self.become(self.state._replace(seq=self.state.seq + 1), at="release")),
        )

    def release(self) -> Iterator[tuple[str, State]]:
        free = self.state._replace(word=None, waiters=False)
        # Without the rule the waiters are woken by a call of its own, and only by that.
        at = "attached" if self.rules.waits_end_by_themselves else "wake"
        yield "releases the lock", self.inside(self.become(free, at=at, turns=1))

    def wake(self) -> Iterator[tuple[str, State]]:
        yield "wakes who waits", self.become(self.state._replace(woken=True), at="attached")

    # ---- waiting ----

    def wait(self) -> Iterator[tuple[str, State]]:
        """A slice is over."""
        word = self.state.word
        if not self.rules.waits_end_by_themselves and not self.state.woken:
            return
        if word is None:
            yield "finds the lock free", self.become(at="attached", seen=None)
        elif self.state.bytes[word[0]] == -1:
            held = self.state._replace(bytes=put(self.state.bytes, word[0], self.number))
            yield f"proves that slot {word[0]} is dead", self.become(held, at="steal", seen=(*word, False))
        elif not self.rules.byte_is_the_proof:
            yield f"takes slot {word[0]} for dead", self.become(at="steal", seen=(*word, False))

    def steal(self) -> Iterator[tuple[str, State]]:
        """With the byte in hand: is the word still that slot's?"""
        word = self.state.word
        if word is None or self.me.seen is None or word[0] != self.me.seen[0]:
            yield "finds nothing to take over", self.let_go(self.state)
        else:
            yield (
                "looks at the dead one's word",
                self.become(at="steal_swap", seen=(*word, self.state.waiters)),
            )

    def steal_swap(self) -> Iterator[tuple[str, State]]:
        assert self.me.seen is not None
        taken = self.swap((self.me.slot, self.me.generation))
        if taken is not None:
            stolen = self.state.bytes[self.me.seen[0]]
            owner = [
                p for p in self.state.processes if (p.slot, p.generation) == self.me.seen[:2] and not p.dead
            ]
            if owner and stolen != self.number:
                taken = taken._replace(wrong=taken.wrong or "a living process was robbed of its lock")
            yield "takes the lock over", self.become(taken, at="mend")
        else:
            at = "steal" if self.rules.steal_tries_again else "give_up"
            yield "finds the word changed", self.become(at=at)

    def give_up(self) -> Iterator[tuple[str, State]]:
        yield "lets the word stand", self.let_go(self.state)

    def mend(self) -> Iterator[tuple[str, State]]:
        assert self.me.seen is not None
        yield "repairs and releases", self.let_go(self.mended(self.state))

    # ---- parts ----

    def swap(self, mine: tuple[int, int]) -> State | None:
        """The compare-and-swap of a thief, from the word that it saw."""
        assert self.me.seen is not None
        word, waiters = self.me.seen[:2], self.me.seen[2]
        if self.state.word != word or self.state.waiters != waiters:
            return None
        return self.state._replace(word=mine, waiters=True)

    def mended(self, state: State) -> State:
        if self.rules.repair_when_odd and state.seq % 2 == 1:
            state = state._replace(numbers=(state.numbers[0], state.numbers[0]), seq=state.seq + 1)
        return state._replace(word=None, waiters=False)

    def repaired(self, state: State, at: str) -> State:
        return self.become(self.mended(state), at=at, seen=None)

    def let_go(self, state: State) -> State:
        assert self.me.seen is not None
        slot = self.me.seen[0]
        if state.bytes[slot] == self.number and slot != self.me.slot:
            state = state._replace(bytes=put(state.bytes, slot, -1))
        return self.become(state, at="attached", seen=None)


def model(rules: Rules, until_violation: bool = False) -> Result[State]:
    def successors(state: State) -> Iterator[tuple[str, State]]:
        for number in range(PROCESSES):
            yield from Steps(state, rules, number).all()

    def violation(state: State, at_rest: bool) -> str | None:
        if state.wrong:
            return state.wrong
        if asleep(state):
            return "a waiter sleeps for good"
        inside = [
            p for p in state.processes if not p.dead and p.at in ("odd", "first", "second", "even", "release")
        ]
        if len(inside) > 1:
            return "two in the lock"
        if (
            at_rest
            and state.word is not None
            and any(p.at == "attached" and p.turns == 0 for p in state.processes if not p.dead)
        ):
            return "the lock stays locked for good"
        if not at_rest and state.word is not None and stuck(state):
            return "the lock stays locked for good"
        return None

    def asleep(state: State) -> bool:
        """Nobody else has anything left to do, and who waits takes no step."""
        living = [number for number, p in enumerate(state.processes) if not p.dead and (p.at != "attached" or p.turns == 0)]
        return bool(living) and all(
            state.processes[number].at == "wait" and not any(Steps(state, rules, number).wait()) for number in living
        )

    def stuck(state: State) -> bool:
        """The word names a slot that a living process uses, and is not that process's."""
        assert state.word is not None
        slot, generation = state.word
        return any(
            not p.dead and p.at == "attached" and p.slot == slot and p.generation != generation
            for p in state.processes
        )

    return explore(State((Process(),) * PROCESSES), successors, violation, until_violation)
