"""For `SESSILE = {"on_event": "shopsite.events.told"}`."""

from sessile.testing import EventRecorder

told = EventRecorder()
