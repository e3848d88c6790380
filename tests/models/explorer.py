"""Visits every state that a model can reach, whatever the order in which its actors take their steps.

A model is a function from a state to its successors; an actor that is killed or stopped is one that takes
no more steps, so a model says of each what the others may do then. States are tuples: hashable, compared
by value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)


@dataclass
class Result(Generic[S]):
    """What a search found: how many states, and of each kind of violation one shortest way to it."""

    states: int = 0
    violations: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.violations:
            return f"{self.states} states, no violation"
        return "\n".join(f"{kind}: {' | '.join(way)}" for kind, way in self.violations.items())


def explore(
    initial: S,
    successors: Callable[[S], Iterable[tuple[str, S]]],
    violation: Callable[[S, bool], str | None],
    until_violation: bool = False,
    limit: int = 3_000_000,
) -> Result[S]:
    """Searches breadth first from `initial`; with `until_violation` only to the first violation.

    `violation(state, at_rest)` names what is wrong with a state, or gives None; `at_rest` is true of a
    state without a successor. States beyond a violation are not visited. RuntimeError beyond `limit`
    states.
    """
    result: Result[S] = Result()
    came_from: dict[S, tuple[str, S] | None] = {initial: None}
    queue = deque([initial])
    while queue:
        state = queue.popleft()
        result.states += 1
        if result.states > limit:
            raise RuntimeError(f"more than {limit} states")
        following = list(successors(state))
        kind = violation(state, not following)
        if kind is not None:
            result.violations.setdefault(kind, way_to(state, came_from))
            if until_violation:
                break
            continue
        for label, successor in following:
            if successor not in came_from:
                came_from[successor] = (label, state)
                queue.append(successor)
    return result


def way_to(state: S, came_from: dict[S, tuple[str, S] | None]) -> list[str]:
    """The labels of the steps that lead to a state."""
    way: list[str] = []
    step = came_from[state]
    while step is not None:
        way.append(step[0])
        step = came_from[step[1]]
    return way[::-1]
