"""What the command line accepts."""

from __future__ import annotations

import argparse

import sessile

_TABLE = "the name or the path that the application gives to Store"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The parsed command line. Leaves the process with status 2 where it is wrong, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="python -m sessile",
        description="Look after a table of sessions in use. Needs no secret; runs as the user who owns it.",
        epilog="Exit status: 0 done; 1 check found something, or revoke found nobody; 2 usage; "
        "3 no such table; 4 it cannot be attached; 5 busy; 6 ended, but not durable.",
    )
    parser.add_argument("--version", action="version", version=f"sessile {sessile.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    stats = _add(commands, "stats", "figures of the table")
    stats.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=1.0,
        metavar="SECONDS",
        help="refresh in place, each second unless said otherwise, until interrupted",
    )
    stats.add_argument("table", metavar="TABLE", help=_TABLE)

    sessions = _add(commands, "sessions", "list the sessions of an owner, or all of them")
    sessions.add_argument("owner", nargs="?", metavar="OWNER", help="only this owner's")
    sessions.add_argument("table", metavar="TABLE", help=_TABLE)

    revoke = _add(commands, "revoke", "end the sessions of an owner")
    which = revoke.add_mutually_exclusive_group()
    which.add_argument("--handle", metavar="H", help="only the session with this handle (see sessions)")
    which.add_argument("--all", action="store_true", help="all sessions of the owner, which is the default")
    revoke.add_argument("owner", metavar="OWNER")
    revoke.add_argument("table", metavar="TABLE", help=_TABLE)

    sweep = _add(commands, "sweep", "free the memory of sessions past their deadlines")
    sweep.add_argument("table", metavar="TABLE", help=_TABLE)

    check = _add(commands, "check", "check every invariant of the table, while it is in use")
    check.add_argument(
        "--repair", action="store_true", help="rebuild what is broken, take out damaged records"
    )
    check.add_argument("table", metavar="TABLE", help=_TABLE)
    return parser.parse_args(arguments)


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument("--json", action="store_true", help="one JSON document instead of text")
    return command


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.05 <= value <= 3600:
        raise argparse.ArgumentTypeError("from 0.05 to 3600 seconds")
    return value
