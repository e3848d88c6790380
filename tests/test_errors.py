"""Errors: which builtin each one is, what it carries, what it says, and that it survives pickling."""

import copy
import inspect
import pickle
from pathlib import Path

import pytest

from sessile import errors

# Written out here, not taken from the code: class, builtin, facts, and what the text must name.
CASES = [
    (
        errors.StoreFull,
        RuntimeError,
        {"capacity": 10, "used": 7, "memory": 4096, "memory_used": 4000},
        ["7 of 10 sessions", "4000 of 4096 bytes", "capacity="],
    ),
    (errors.SessionGone, LookupError, {"handle": "00f3a1", "reason": "revoked"}, ["00f3a1", "revoked"]),
    (errors.SessionGone, LookupError, {"handle": None, "reason": None}, ["ended"]),
    (errors.SessionTooLarge, ValueError, {"size": 70_000, "limit": 65_536}, ["70000", "65536"]),
    (errors.Conflict, RuntimeError, {"handle": "00f3a1"}, ["00f3a1", "reload()"]),
    (errors.Busy, TimeoutError, {"timeout": 1.5}, ["1.5 seconds"]),
    (errors.StoreClosed, RuntimeError, {}, ["closed"]),
    (errors.AttachError, OSError, {"path": "/tables/shop"}, ["/tables/shop"]),
    (errors.AttachError, OSError, {"path": None}, ["this process"]),
    (errors.SnapshotError, OSError, {"path": "/snapshots/shop"}, ["/snapshots/shop"]),
    (
        errors.InsecureTransport,
        RuntimeError,
        {"scheme": "http", "host": "shop.example"},
        ["http", "shop.example", "https=True", "insecure_dev=True"],
    ),
    (errors.HeadersSent, RuntimeError, {"operation": "login"}, ["login", "headers"]),
]


@pytest.mark.parametrize(("kind", "builtin", "facts", "named"), CASES)
class TestEachError:
    def test_derives_from_the_base_and_from_its_builtin(self, kind, builtin, facts, named):
        error = kind(**facts)
        assert isinstance(error, errors.SessileError)
        assert isinstance(error, builtin)

    def test_carries_its_facts_and_names_them(self, kind, builtin, facts, named):
        error = kind(**facts)
        assert vars(error) == facts
        for name in named:
            assert name in str(error)

    def test_says_what_it_is_told_to_say(self, kind, builtin, facts, named):
        error = kind("the remedy", **facts)
        assert str(error) == "the remedy"
        assert vars(error) == facts

    @pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
    def test_survives_pickling_and_copying(self, kind, builtin, facts, named, again):
        error = kind(**facts)
        other = again(error)
        assert type(other) is kind
        assert str(other) == str(error)
        assert other.args == error.args
        assert vars(other) == facts

    def test_its_facts_can_only_be_given_by_keyword(self, kind, builtin, facts, named):
        if facts:
            with pytest.raises(TypeError):
                kind("a message", *facts.values())

    def test_sto_01_has_no_place_for_an_id(self, kind, builtin, facts, named):
        """STO-01: what could reach a log names no id, at most a handle."""
        assert not {"id", "digest", "session"} & set(inspect.signature(kind).parameters)


def test_every_error_is_listed_above_and_exported():
    kinds = {kind for kind, *_ in CASES} | {errors.SessileError}
    assert {kind.__name__ for kind in kinds} == set(errors.__all__)
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == errors.__name__
    }
    assert defined == set(errors.__all__)


@pytest.mark.parametrize("kind", [errors.AttachError, errors.SnapshotError])
def test_a_path_is_kept_as_text(kind):
    assert kind(path=Path("/tables/shop")).path == "/tables/shop"


def test_an_os_error_without_a_number_says_its_text():
    error = errors.AttachError("it is damaged: remove it", path="/tables/shop")
    assert error.errno is None
    assert str(error) == "it is damaged: remove it"
