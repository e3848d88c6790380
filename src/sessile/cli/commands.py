"""What each command does with an attached table. Text for people goes to stdout, errors to stderr."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import chain

from sessile.errors import AttachError, Busy, SnapshotError
from sessile.store import SessionInfo, Stats, Store, attach_for_upkeep, table_path

DONE, FOUND, NO_TABLE, NOT_ATTACHED, TABLE_BUSY, NOT_DURABLE = 0, 1, 3, 4, 5, 6

_CLEAR_LINES = "\x1b[{count}F\x1b[J"


def run(arguments: argparse.Namespace) -> int:
    """Attach, run the command, say what went wrong; returns the exit status."""
    try:
        path = table_path(arguments.table)
        if not os.path.lexists(path):
            return _fail(f"there is no table {path}", NO_TABLE)
        with attach_for_upkeep(arguments.table) as store:
            return _COMMANDS[arguments.command](store, arguments)
    except ValueError as error:
        return _fail(str(error), 2)
    except AttachError as error:
        return _fail(str(error), NOT_ATTACHED)
    except SnapshotError as error:
        return _fail(str(error), NOT_DURABLE)
    except Busy as error:
        return _fail(str(error), TABLE_BUSY)
    except BrokenPipeError:
        # The reader has seen enough; without this the interpreter would complain about it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return DONE


def _fail(message: str, status: int) -> int:
    print(f"sessile: {message}", file=sys.stderr)
    return status


# ---- stats ----


def _stats(store: Store, arguments: argparse.Namespace) -> int:
    if arguments.watch is None:
        print(_figures(store.stats(), arguments.json))
        return DONE
    lines = 0
    while True:
        text = _figures(store.stats(), arguments.json)
        # A document a line where a program reads it; in place where a person does.
        if lines and not arguments.json:
            sys.stdout.write(_CLEAR_LINES.format(count=lines))
        print(text, flush=True)
        lines = text.count("\n") + 1
        time.sleep(arguments.watch)


def _figures(stats: Stats, as_json: bool) -> str:
    if as_json:
        return json.dumps(dataclasses.asdict(stats))
    full = [
        (
            "sessions",
            f"{stats.sessions:,} of {stats.capacity:,} ({_percent(stats.sessions, stats.capacity)})",
        ),
        ("  owned", f"{stats.owned:,}"),
        ("  anonymous", f"{stats.anonymous:,}"),
        (
            "memory",
            f"{stats.memory_used:,} of {stats.memory:,} bytes ({_percent(stats.memory_used, stats.memory)})",
        ),
    ]
    counted = (
        "loads",
        "misses",
        "malformed",
        "created",
        "expired",
        "evicted",
        "revoked",
        "full",
        "recoveries",
    )
    rows = [*full, *((name, f"{getattr(stats, name):,}") for name in (*counted, "quarantined"))]
    return "\n".join(f"{name:<12} {value}" for name, value in rows)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"


# ---- sessions ----


def _sessions(store: Store, arguments: argparse.Namespace) -> int:
    found: Iterable[SessionInfo]
    found = store.sessions() if arguments.owner is None else store.sessions(arguments.owner)
    if arguments.json:
        print(json.dumps([_as_json(info) for info in found]))
    else:
        for line in _table(found):
            print(line)
    return DONE


def _as_json(info: SessionInfo) -> dict[str, object]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in dataclasses.asdict(info).items()
    }


def _table(found: Iterable[SessionInfo]) -> Iterator[str]:
    heading = ("handle", "last used", "expires", "owner", "device")
    rows = (
        (i.handle, _moment(i.last_used), _moment(i.expires), _owner(i.owner), _device(i.device))
        for i in found
    )
    for handle, last_used, expires, owner, device in chain([heading], rows):
        yield f"{handle:<16}  {last_used:<20}  {expires:<20}  {owner:<20}  {device}".rstrip()


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def _owner(owner: str | None) -> str:
    return "-" if owner is None else _printable(owner)


def _device(device: dict[str, str] | None) -> str:
    return ", ".join(f"{_printable(name)}: {_printable(value)}" for name, value in (device or {}).items())


def _printable(text: str) -> str:
    """What a client sent shall not drive the terminal of the one who reads it."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


# ---- the rest ----


def _revoke(store: Store, arguments: argparse.Namespace) -> int:
    ended = store.revoke(arguments.owner, handle=arguments.handle)
    print(json.dumps({"revoked": ended}) if arguments.json else f"{ended} sessions ended")
    return DONE if ended else FOUND


def _sweep(store: Store, arguments: argparse.Namespace) -> int:
    freed = 0
    while count := store.sweep():
        freed += count
    print(json.dumps({"freed": freed}) if arguments.json else f"{freed} sessions freed")
    return DONE


def _check(store: Store, arguments: argparse.Namespace) -> int:
    findings = store.check(repair=arguments.repair)
    if arguments.json:
        print(json.dumps({"findings": findings, "repaired": arguments.repair}))
    else:
        print(
            "\n".join([*findings, f"{len(findings)} findings" + (", repaired" if arguments.repair else "")])
        )
    return FOUND if findings else DONE


_COMMANDS: dict[str, Callable[[Store, argparse.Namespace], int]] = {
    "stats": _stats,
    "sessions": _sessions,
    "revoke": _revoke,
    "sweep": _sweep,
    "check": _check,
}
