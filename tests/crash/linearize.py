"""Is a recorded history linearizable? Is there one order of its operations, each at an instant between its call and its
return, that gives every answer that was given?

    history --rounds 100 | python3 tests/crash/linearize.py

The search is Wing and Gong's with Lowe's memory of what was tried, key by key (a history is linearizable if and only if
that of each key is). An operation whose process was killed has no return: it took effect at some time after its call, or
never.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

NEVER = 1 << 62


class Session(NamedTuple):
    """A key's session: its handle, version and value."""

    handle: int
    version: int
    value: int


@dataclass(frozen=True)
class Operation:
    """One line of a history. `returned` is NEVER for an operation whose process was killed in it."""

    name: str
    process: int
    expected: tuple[int, int]              # handle and version that it was based on
    value: int                             # that it stores
    invoked: int
    returned: int
    status: str
    result: Session

    @property
    def pending(self) -> bool:
        return self.returned == NEVER

    def outcomes(self, before: Session | None) -> list[Session | None]:
        """What the key can be after this operation took effect on `before`, given what it answered."""
        return [after for answer, after, seen in self.effects(before) if self.agrees(answer, seen)]

    def agrees(self, answer: str, seen: Session | None) -> bool:
        if self.pending:
            return True
        return answer == self.status and (seen is None or seen == self.result)

    def effects(self, before: Session | None) -> list[tuple[str, Session | None, Session | None]]:
        """Answers, the key afterwards, and the facts that come with the answer."""
        handle, version = self.expected
        if self.name == "load":
            return [("OK", before, before)] if before else [("MISS", None, None)]
        if self.name == "create":
            if before:
                return [("EXISTS", before, None)]
            made = Session(self.result.handle if not self.pending else -self.value, 1, self.value)
            return [("OK", made, None)]
        if before is None or (before.handle != handle and before.handle > 0):
            return [("GONE", before, None)]
        # A negative handle: of a create that was killed; which one it gave is not known until somebody sees it.
        if self.name == "remove":
            return [("OK", None, None)]
        if before.version != version:
            return [("CHANGED", before, None)]
        return [("OK", Session(before.handle, version + 1, self.value), None)]


def parse(lines: Iterable[str]) -> dict[tuple[int, int], list[Operation]]:
    """Histories by round and key. ValueError for a line that is none."""
    histories: dict[tuple[int, int], list[Operation]] = defaultdict(list)
    for line in lines:
        at, key, process, name, handle, version, value, invoked, returned, status, *result = line.split()
        facts = Session(*(int(number) for number in result))
        operation = Operation(
            name,
            int(process),
            (int(handle), int(version)),
            int(value),
            int(invoked),
            int(returned) or NEVER,
            status,
            facts,
        )
        histories[int(at), int(key)].append(operation)
    return histories


def matches(state: Session | None, seen: Session) -> bool:
    """Is what was seen this session? The handle of a create that was killed becomes known when it is first seen."""
    return state is not None and state[1:] == seen[1:] and (state.handle < 0 or state.handle == seen.handle)


def step(operation: Operation, state: Session | None) -> tuple[bool, Session | None]:
    """Can the operation take effect here with the answer that it gave? And what is the key then?"""
    if operation.name == "load" and operation.status == "OK" and not operation.pending:
        return matches(state, operation.result), operation.result
    if state is not None and state.handle < 0 and operation.name in ("update", "remove") and not operation.pending:
        # Who answers OK or CHANGED had this session in hand, so its handle is the expected one.
        known = state._replace(handle=operation.expected[0]) if operation.status in ("OK", "CHANGED") else state
        state = known
    after = operation.outcomes(state)
    return bool(after), after[0] if after else state


def linearizable(history: list[Operation]) -> bool:
    """True if there is an order. Exponential only in the number of operations that overlap."""
    operations = sorted(history, key=lambda operation: operation.invoked)
    done = frozenset(range(len(operations)))
    required = frozenset(i for i in done if not operations[i].pending)
    seen: set[tuple[frozenset[int], Session | None]] = set()
    stack: list[tuple[frozenset[int], Session | None]] = [(frozenset(), None)]
    while stack:
        taken, state = stack.pop()
        if required <= taken:
            return True
        if (taken, state) in seen:
            continue
        seen.add((taken, state))
        # The next one is among those that were called before any other returned.
        first_return = min(operations[i].returned for i in required - taken)
        for i in done - taken:
            if operations[i].invoked > first_return:
                continue
            possible, after = step(operations[i], state)
            if possible:
                stack.append((taken | {i}, after))
    return False


def overlapping(history: list[Operation]) -> int:
    """How many pairs of operations were under way at once: what makes a history more than a list."""
    operations = sorted(history, key=lambda operation: operation.invoked)
    return sum(
        later.invoked < earlier.returned
        for i, earlier in enumerate(operations)
        if not earlier.pending
        for later in operations[i + 1 : i + 8]
    )


def main() -> int:
    histories = parse(sys.stdin)
    wrong = [key for key, history in histories.items() if not linearizable(history)]
    operations = sum(len(history) for history in histories.values())
    pending = sum(operation.pending for history in histories.values() for operation in history)
    overlaps = sum(overlapping(history) for history in histories.values())
    print(
        f"{len(histories)} histories, {operations} operations, {overlaps} pairs of them at once, {pending} of processes "
        f"that were killed in them, {len(wrong)} not linearizable"
    )
    for key in wrong[:3]:
        print(f"round {key[0]} key {key[1]}:")
        for operation in sorted(histories[key], key=lambda operation: operation.invoked):
            print(f"    {operation}")
    return 1 if wrong or not histories else 0


if __name__ == "__main__":
    sys.exit(main())
