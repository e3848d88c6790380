"""The command line for the engineer on call: who is logged in, log this user out, how full is it.

    python -m sessile stats TABLE               figures; --watch refreshes them in place
    python -m sessile sessions [OWNER] TABLE    who is logged in
    python -m sessile revoke OWNER TABLE        log an owner out everywhere; --handle H: one device
    python -m sessile sweep TABLE               free the memory of sessions past their deadlines
    python -m sessile check TABLE               every invariant; --repair rebuilds what is broken

It attaches to a running table without its secret, by the name or the path that the application gives to
`Store`, and must run as the same user. Nothing that it prints is an id.

Exit status: 0 done; 1 `check` found something, or `revoke` found nobody; 2 wrong usage; 3 there is no such
table; 4 the table cannot be attached (of another user, of another format, damaged); 5 it was busy; 6 sessions
ended, but the journal of the application's snapshots could not be told.
"""

from sessile.cli.arguments import parse
from sessile.cli.commands import run

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status; `arguments`: those of the process where None."""
    return run(parse(arguments))
