"""Helpers for the tests of applications: time travel, and a recorder of events."""

from __future__ import annotations

from datetime import timedelta

from sessile import options
from sessile.events import Event
from sessile.store import Store

__all__ = ["EventRecorder", "advance"]


def advance(store: Store, seconds: float | timedelta) -> None:
    """Let time pass for all sessions of a store: its clock goes forward, for every process that shares its
    table.

    Args:
        store: refused when its table has a path and other processes use it: they may be serving people.
        seconds: or a timedelta; from 0.001 seconds to 400 days.

    Raises:
        RuntimeError: other processes share the table by path.
        ValueError: `seconds` is out of bounds.
        StoreClosed: the store was closed.
    """
    milliseconds = options.milliseconds("seconds", seconds, least=0.001)
    if store._path is not None and store._stats()[16] > 1:
        raise RuntimeError(
            f"other processes use the table {store._path}: its clock is not advanced under them"
        )
    store._advance_clock(milliseconds)


class EventRecorder:
    """Keeps every event: `Store(on_event=EventRecorder())`.

    Attributes:
        events: all so far, in order.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        """The kind of each event, in order; that of an end with its reason: "ended(logout)"."""
        return [f"ended({event.reason})" if event.kind == "ended" else event.kind for event in self.events]

    def take(self) -> list[Event]:
        """The events so far; the recorder is empty again."""
        taken, self.events = self.events, []
        return taken
