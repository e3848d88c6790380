"""Images and the journal of ends: the model that src/sessile/journal.py and src/sessile/persistence.py follow.

Two sessions in two places that are copied one after the other. The table has image 1, and generation 1 is published.

* An ender, one for each session: end the session in memory, read the generation, append an end to that
  generation's segment, sync, return.
* A renewer: give the second session a new id, which lies in the first place, in one step; what stays in the
  second place says where it went.
* The imager, two times: publish the next generation, copy the first place, copy the second, copy what a copied
  place says went elsewhere meanwhile, complete the image, delete what is older than the image before.
* Each may be killed before any step, all of them at once (a power cut): then only what is synced is left, and the
  latest image, or the one before where that one is damaged, is restored with the segments of its own generation and
  later.

Promised in every state: no restored session is one whose end returned; and every session that nobody was about to
end is restored from the latest image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from explorer import Result, explore

SESSIONS = 2
IMAGES = 2


@dataclass(frozen=True)
class Rules:
    """Switches: each is a rule of the design, and dropping it must break a promise."""

    end_before_generation: bool = True  # the generation is read after the session ended in memory
    publish_before_copy: bool = True  # the next generation is published before the first record is copied
    sync_before_return: bool = True  # an end returns when its frame is on the disk
    delete_after_complete: bool = True  # segments go when an image that does not need them is complete
    keep_for_the_one_before: bool = True  # and the image before it does not, either
    replay_own_generation: bool = True  # a restore reads the segments of the image's own generation, too
    copy_what_moved: bool = True  # a last pass follows new ids


class State(NamedTuple):
    alive: tuple[bool, ...] = (True,) * SESSIONS
    moved: bool = False  # the second session lies in the first place
    published: int = 1
    enders: tuple[tuple[int, int], ...] = ((0, 0),) * SESSIONS  # step, generation that was read
    frames: frozenset[tuple[int, int, bool]] = frozenset()  # generation, session, synced
    images: tuple[tuple[int, frozenset[int]], ...] = ((1, frozenset(range(SESSIONS))),)  # complete ones
    imager: int = 0  # step
    copied: frozenset[int] = frozenset()
    follow: bool = False  # the second place said that its session went elsewhere
    made: int = 0


RETURNED = 5


def put(items: tuple[Any, ...], index: int, value: object) -> Any:
    return (*items[:index], value, *items[index + 1 :])


def ender_steps(state: State, rules: Rules, who: int) -> Iterator[tuple[str, State]]:
    step, generation = state.enders[who]

    def go(after: State, to: int, read: int) -> State:
        return after._replace(enders=put(after.enders, who, (to, read)))

    first_ends = rules.end_before_generation
    if step == (0 if first_ends else 1):
        yield f"end {who} in memory", go(state._replace(alive=put(state.alive, who, False)), step + 1, generation)
    elif step in (0, 1):
        yield f"ender {who} reads generation {state.published}", go(state, step + 1, state.published)
    elif step == 2:
        frames = state.frames | {(generation, who, False)}
        yield f"ender {who} appends", go(state._replace(frames=frames), 3 if rules.sync_before_return else 4, generation)
    elif step == 3:
        unsynced = (generation, who, False)
        frames = state.frames - {unsynced} | ({(generation, who, True)} if unsynced in state.frames else set())
        yield f"ender {who} syncs", go(state._replace(frames=frames), 4, generation)
    elif step == 4:
        yield f"end {who} returns", go(state, RETURNED, generation)


def clean(state: State, rules: Rules, newest: int) -> State:
    """Deletes images and segments that nothing needs once the image `newest` is complete."""
    before = max((generation for generation, _ in state.images if generation < newest), default=newest)
    kept = before if rules.keep_for_the_one_before else newest
    return state._replace(
        images=tuple(image for image in state.images if image[0] >= before),
        frames=frozenset(frame for frame in state.frames if frame[0] >= kept),
    )


def imager_steps(state: State, rules: Rules) -> Iterator[tuple[str, State]]:
    step, new = state.imager, state.made + 2
    publish = 0 if rules.publish_before_copy else 3
    if state.made == IMAGES:
        return
    after = state._replace(imager=step + 1)
    if step == publish:
        yield f"publish {new}", after._replace(published=new)
    elif step == (1 if rules.publish_before_copy else 0):
        here = {0} | ({1} if state.moved else set())
        yield "copy the first place", after._replace(copied=frozenset(one for one in here if state.alive[one]))
    elif step == (2 if rules.publish_before_copy else 1):
        copied = state.copied | ({1} if state.alive[1] and not state.moved else set())
        yield "copy the second place", after._replace(copied=frozenset(copied), follow=state.moved)
    elif step == (3 if rules.publish_before_copy else 2):
        copied = state.copied | ({1} if rules.copy_what_moved and state.follow and state.alive[1] else set())
        yield "copy what moved", after._replace(copied=frozenset(copied))
    elif step == (4 if rules.delete_after_complete else 5):
        images = (*state.images, (new, state.copied))
        done = after._replace(images=images)
        yield f"image {new} is complete", done if rules.delete_after_complete else begin_again(done)
    elif rules.delete_after_complete:
        yield "delete what is older", begin_again(clean(after, rules, new))
    else:
        # As if the image were complete by now.
        kept = clean(after._replace(images=(*state.images, (new, state.copied))), rules, new)
        yield "delete what is older", kept._replace(images=state.images)


def begin_again(state: State) -> State:
    return state._replace(imager=0, copied=frozenset(), follow=False, made=state.made + 1)


def successors(state: State, rules: Rules) -> Iterator[tuple[str, State]]:
    for who in range(SESSIONS):
        yield from ender_steps(state, rules, who)
    if not state.moved and state.alive[1]:
        yield "renew", state._replace(moved=True)
    yield from imager_steps(state, rules)


def violation(state: State, rules: Rules) -> str | None:
    """What a power cut in this state would break."""
    for generation, sessions in state.images[-2:]:
        first = generation if rules.replay_own_generation else generation + 1
        ended = {session for at, session, synced in state.frames if synced and at >= first}
        for session in sessions - ended:
            if state.enders[session][0] == RETURNED:
                return "a session that ended is restored"
    lost = [session for session in range(SESSIONS) if state.enders[session] == (0, 0) and session not in state.images[-1][1]]
    return "a session is lost" if lost else None


def model(rules: Rules, first: bool) -> Result[State]:
    """Searches all states; with `first` to the first violation."""
    return explore(State(), lambda state: successors(state, rules), lambda state, _: violation(state, rules), first)
