"""What users program against: names, signatures, bases of exceptions, what every status means."""

import dataclasses
import inspect
import subprocess
import sys
from collections.abc import MutableMapping

import pytest

import sessile
from sessile import _table
from sessile.statuses import error_of

EXPECTED_BASES = {
    "StoreFull": RuntimeError,
    "SessionGone": LookupError,
    "SessionTooLarge": ValueError,
    "Conflict": RuntimeError,
    "Busy": TimeoutError,
    "StoreClosed": RuntimeError,
    "AttachError": OSError,
    "SnapshotError": OSError,
    "InsecureTransport": RuntimeError,
    "HeadersSent": RuntimeError,
}

# Every status by name, with what it must become. None: no exception.
EXPECTED_ERRORS = {
    "SESSILE_OK": None,
    "SESSILE_MISS": sessile.SessionGone,
    "SESSILE_EXPIRED": sessile.SessionGone,
    "SESSILE_RETIRED": sessile.SessionGone,
    "SESSILE_THEFT": sessile.SessionGone,
    "SESSILE_GONE": sessile.SessionGone,
    "SESSILE_CHANGED": sessile.Conflict,
    "SESSILE_EXISTS": sessile.SessileError,
    "SESSILE_WOULD_BLOCK": sessile.Busy,
    "SESSILE_BUFFER": sessile.SessileError,
    "SESSILE_INVALID": ValueError,
    "SESSILE_FULL": sessile.StoreFull,
    "SESSILE_BUSY": sessile.Busy,
    "SESSILE_DAMAGED": sessile.SessionGone,
    "SESSILE_NO_MEMORY": sessile.StoreFull,
    "SESSILE_DETACHED": sessile.AttachError,
    "SESSILE_PROCESSES": sessile.AttachError,
    "SESSILE_SYSTEM": sessile.AttachError,
    "SESSILE_NO_SPACE": sessile.AttachError,
    "SESSILE_FORMAT": sessile.AttachError,
    "SESSILE_FOREIGN": sessile.AttachError,
    "SESSILE_KEY": sessile.AttachError,
    "SESSILE_BOOT": sessile.AttachError,
    "SESSILE_PLACE": sessile.AttachError,
    "SESSILE_ABSENT": sessile.AttachError,
}

STORE_OPTIONS = {
    "path": None,
    "capacity": 262_144,
    "memory": "256 MiB",
    "secret": None,
    "idle_timeout": 1800,
    "absolute_timeout": 28_800,
    "anonymous_idle_timeout": None,
    "anonymous_absolute_timeout": None,
    "anonymous_share": 0.5,
    "max_sessions_per_owner": 10,
    "max_session_size": "64 KiB",
    "busy_timeout": 1.0,
    "on_event": None,
    "snapshot_dir": None,
    "snapshot_interval": 60,
    "durability": "revocations",
    "encrypt": False,
}


def defaults(function: object) -> dict[str, object]:
    parameters = inspect.signature(function).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name != "self"}


def test_every_public_name_is_there() -> None:
    assert sorted(sessile.__all__) == sorted(
        [
            "Store", "Session", "SessionInfo", "Stats", "Event", "SessileError", "StoreFull", "SessionGone",
            "SessionTooLarge", "Conflict", "Busy", "StoreClosed", "AttachError", "SnapshotError",
            "InsecureTransport", "HeadersSent", "__version__",
        ]
    )  # fmt: skip
    for name in sessile.__all__:
        assert getattr(sessile, name) is not None


@pytest.mark.parametrize(("name", "base"), EXPECTED_BASES.items())
def test_an_exception_is_a_sessile_error_and_a_builtin(name: str, base: type) -> None:
    kind = getattr(sessile, name)
    assert issubclass(kind, sessile.SessileError)
    assert issubclass(kind, base)


def test_no_status_is_missing_in_the_table_of_this_test() -> None:
    assert sorted(_table.statuses()) == sorted(EXPECTED_ERRORS)
    assert sorted(_table.statuses().values()) == list(range(len(EXPECTED_ERRORS)))


@pytest.mark.parametrize(("name", "expected"), EXPECTED_ERRORS.items())
def test_a_status_becomes_its_exception(name: str, expected: type | None) -> None:
    error = error_of(
        _table.statuses()[name],
        handle="0123456789abcdef",
        timeout=1.0,
        path="/dev/shm/x",
        problem=(28, "open", 7, 5),
    )
    if expected is None:
        assert error is None
    else:
        assert type(error) is expected
        assert str(error)


def test_a_status_that_nobody_knows_is_a_loud_error() -> None:
    error = error_of(len(EXPECTED_ERRORS) + 1)
    assert type(error) is sessile.SessileError
    assert "unexpected" in str(error)


def test_the_reasons_of_the_table_have_names() -> None:
    assert sorted(_table.REASONS.values()) == [
        "absolute", "destroyed", "evicted", "idle", "logout", "revoked", "theft",
    ]  # fmt: skip


def test_the_options_of_a_store_and_their_defaults() -> None:
    assert defaults(sessile.Store.__init__) == STORE_OPTIONS
    kinds = [parameter.kind for parameter in inspect.signature(sessile.Store).parameters.values()]
    assert kinds[0] is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert set(kinds[1:]) == {inspect.Parameter.KEYWORD_ONLY}


def test_the_signatures_of_what_sessions_are_made_and_changed_with() -> None:
    empty = inspect.Parameter.empty
    assert defaults(sessile.Store.create) == {
        "data": None, "owner": None, "device": None, "idle_timeout": None, "absolute_timeout": None,
    }  # fmt: skip
    assert defaults(sessile.Store.load) == {"id": empty, "touch": True}
    assert defaults(sessile.Session.login) == {
        "owner": empty, "keep": (), "device": None, "idle_timeout": None, "absolute_timeout": None,
    }  # fmt: skip
    assert defaults(sessile.Session.save) == {"strict": False}
    assert defaults(sessile.Session.set_timeouts) == {"idle": None, "absolute": None}
    assert defaults(sessile.Store.revoke) == {"owner": empty, "keep": None, "handle": None}
    assert defaults(sessile.Store.sweep) == {"budget": None}
    assert defaults(sessile.Store.check) == {"repair": False}
    assert list(defaults(sessile.Session.update_field)) == ["name", "function", "default"]


def test_the_fields_of_stats_and_session_info() -> None:
    assert [field.name for field in dataclasses.fields(sessile.Stats)] == [
        "sessions", "anonymous", "owned", "capacity", "memory_used", "memory", "loads", "misses", "malformed",
        "created", "expired", "evicted", "revoked", "full", "recoveries", "quarantined",
    ]  # fmt: skip
    assert [field.name for field in dataclasses.fields(sessile.SessionInfo)] == [
        "handle", "owner", "device", "created", "last_used", "expires",
    ]  # fmt: skip


def test_stats_and_session_info_are_frozen(store: sessile.Store) -> None:
    store.create(owner="alice")
    with pytest.raises(dataclasses.FrozenInstanceError):
        store.stats().sessions = 7
    with pytest.raises(dataclasses.FrozenInstanceError):
        store.sessions("alice")[0].owner = "bob"


def test_a_session_is_a_mapping_and_no_dict(store: sessile.Store) -> None:
    session = store.create({"a": 1})
    assert isinstance(session, MutableMapping)
    assert not isinstance(session, dict)


def test_everything_public_is_documented() -> None:
    for name in sessile.__all__:
        thing = getattr(sessile, name)
        if name == "__version__":
            continue
        assert inspect.getdoc(thing), name
        if thing in (sessile.Store, sessile.Session):
            for attribute, member in inspect.getmembers(thing):
                if not attribute.startswith("_") and not hasattr(MutableMapping, attribute):
                    documented = inspect.getdoc(member) or attribute in (inspect.getdoc(thing) or "")
                    assert documented, f"{name}.{attribute}"


def test_importing_is_light() -> None:
    """No framework, nothing that a session does not need, and no thread."""
    code = (
        "import sys, threading, sessile; "
        "heavy = {'asyncio', 'django', 'flask', 'starlette', 'http.cookies', 'multiprocessing', 'msgspec', "
        "'ssl', 'cryptography', 'sqlite3', 'email'}; "
        "print(sorted(heavy & set(sys.modules)), threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] 1"
