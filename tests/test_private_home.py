"""Where a table cannot be shared with a child, the child is told so: `make test-private` builds such a home."""

from collections.abc import Callable
from typing import Any

import pytest

import sessile
from sessile import _table

pytestmark = pytest.mark.skipif(not _table.PRIVATE_HOME, reason="of the private home alone: make test-private")

InChild = Callable[..., Any]


def use(child: sessile.Store, session: sessile.Session) -> dict[str, str]:
    """What each use of an inherited store answers in the child."""
    session["a"] = 2
    uses: dict[str, Callable[[], Any]] = {
        "load": lambda: child.load(session.id),
        "open": lambda: child.open(session.id),
        "create": lambda: child.create({"b": 1}),
        "save": session.save,
        "reload": session.reload,
        "alive": session.alive,
        "login": lambda: session.login("bob"),
        "destroy": session.destroy,
        "sessions": lambda: child.sessions("alice"),
        "all sessions": lambda: list(child.sessions()),
        "revoke": lambda: child.revoke("alice"),
        "revoke_all": child.revoke_all,
        "sweep": child.sweep,
        "check": child.check,
    }
    answers = {}
    for name, call in uses.items():
        try:
            answers[name] = f"returned {call()!r}"
        except sessile.AttachError as error:
            answers[name] = str(error)
    return answers


def test_a_forked_child_gets_an_error_and_no_stale_copy(store: sessile.Store, in_child: InChild) -> None:
    """MPR-01: a copy that no log-out reaches would be a bypass of revocation. The parent's table stays as it was."""
    session = store.create({"a": 1}, owner="alice")
    answers = in_child(use, store, store.load(session.id))
    assert {name: answer for name, answer in answers.items() if "was forked" not in answer} == {}
    assert all("Make a Store() in each process" in answer for answer in answers.values())
    assert dict(store.load(session.id)) == {"a": 1}
    assert store.stats().sessions == 1


def test_a_child_makes_a_store_of_its_own(store: sessile.Store, in_child: InChild) -> None:
    store.create()

    def work() -> int:
        store.close()
        with sessile.Store(capacity=1000, memory="4 MiB") as mine:
            mine.create()
            return mine.stats().sessions

    assert in_child(work) == 1
    assert store.stats().sessions == 1
