"""What a status of the table means: the one place where it becomes an exception. Imported when the first one does."""

from __future__ import annotations

import os

from sessile import _table
from sessile.errors import AttachError, Busy, Conflict, SessileError, SessionGone, StoreFull

_NAMES = {number: name.removeprefix("SESSILE_") for name, number in _table.statuses().items()}

_PLACES = {
    "symbolic link": "is a symbolic link, or its directory is one: pass the path that it leads to",
    "hard link": "has a second name (a hard link), by which others may know it: remove that one",
    "regular file": "is not a regular file: pass another path",
    "network file system": "is on a network file system, whose locks and memory are not those of one host: "
    "pass a path on a file system of this host, such as /dev/shm",
}
"""What is wrong with the place of a table, by the operation that the table names."""


def error_of(
    status: int,
    *,
    handle: str | None = None,
    timeout: float = 0.0,
    room: tuple[int, int, int, int] = (0, 0, 0, 0),
    path: str | None = None,
    problem: tuple[int, str | None, int, int] = (0, None, 0, 0),
) -> Exception | None:
    """The exception that a status means; None for OK.

    Args:
        status: as the C function returned it.
        handle: of the session that was asked for.
        timeout: seconds that were waited.
        room: capacity, sessions, memory, memory used.
        path: of the table; None for the anonymous one.
        problem: errno, operation, what was wanted and what was found, as `struct sessile_problem` has them.
    """
    name = _NAMES.get(status, str(status))
    wanted, found = problem[2:]
    if name == "OK":
        return None
    if name in ("MISS", "EXPIRED", "RETIRED", "THEFT", "GONE"):
        return SessionGone(handle=handle)
    if name == "DAMAGED":
        return SessionGone("the record of the session was damaged and has been taken out", handle=handle)
    if name == "CHANGED":
        return Conflict(handle=handle or "")
    if name == "EXISTS":
        return SessileError("each new id was in use or retired already: the system's random numbers repeat")
    where = "the table" if path is None else f"the table {path}"
    if name == "INVALID":
        bound = f"; memory= must be at least {wanted} bytes for it" if wanted else ""
        if found:
            bound = f"; memory= can be at most {found} bytes with this capacity="
        return ValueError(f"{where} cannot be what the options say{bound}")
    if name in ("BUSY", "WOULD_BLOCK"):
        return Busy(timeout=timeout)
    if name in ("FULL", "NO_MEMORY"):
        text = () if name == "FULL" else (f"the system refuses memory that {where} was promised: {_refused(problem)}",)
        return StoreFull(*text, capacity=room[0], used=room[1], memory=room[2], memory_used=room[3])
    reason = _attach_reason(name, where, path, problem)
    # SESSILE_BUFFER is answered by a larger buffer, always. Anything else is a status that nobody knows.
    return SessileError(f"unexpected answer {name} of the table") if reason is None else AttachError(reason, path=path)


def _refused(problem: tuple[int, str | None, int, int]) -> str:
    error, operation = problem[:2]
    return f"{operation or 'a system call'} failed: {os.strerror(error) if error else 'no reason given'}"


def _attach_reason(
    name: str, where: str, path: str | None, problem: tuple[int, str | None, int, int]
) -> str | None:
    """Why a table cannot be made or attached, and what to do."""
    operation, wanted, found = problem[1] or "", problem[2], problem[3]
    if name == "DETACHED" and path is None and _table.PRIVATE_HOME:
        return (
            "the table is memory of the process that made it, and this one was forked from that: what it inherited is a "
            "copy that no log-out reaches. Make a Store() in each process, after the fork"
        )
    damaged = "is a table that is damaged, or of another build of sessile" if found else "is not a table"
    if found and found != wanted:
        damaged = f"is a table of format {found}, and this version of sessile knows format {wanted}"
    boot = f"{where} was made before the last start of this host, and is still in use: pass another path"
    if operation == "time namespace":
        boot = (
            f"{where} was made in another time namespace, whose clock cannot be read here: use it from processes of that "
            "namespace, or pass another path"
        )
    return {
        "DETACHED": f"this process has no access to {where}: {_refused(problem)}",
        "PROCESSES": f"{_table.PROCESSES_MAX} processes use {where} already; no more can: end some, or pass another path",
        "SYSTEM": f"{where} cannot be opened: {_refused(problem)}",
        "NO_SPACE": f"{where} needs {wanted} bytes and its file system has {found} free: pass a smaller memory=, or enlarge "
        "the file system (a container's /dev/shm: docker run --shm-size)",
        "FORMAT": f"{path} {damaged}: pass another path, or remove the file when no process uses it",
        "FOREIGN": _foreign(path, operation, wanted, found),
        "KEY": f"{where} was made with another secret: pass the one that it was made with, as secret= or in its list",
        "BOOT": boot,
        "PLACE": f"{path} {_PLACES.get(operation, 'must be a file of this host')}",
        "ABSENT": f"there is no table {path}",
    }.get(name)


def _foreign(path: str | None, operation: str, wanted: int, found: int) -> str:
    if operation == "mode of the directory":
        return f"others may write to the directory of {path} (mode {found:04o}): give it mode 0700, or pass another path"
    if operation == "mode of the file":
        return (
            f"others may open {path} (mode {found:04o}): give it mode 0600 if you trust what is in it, "
            "or pass another path"
        )
    if operation == "access to the file":
        return f"{path} cannot be opened by user {os.geteuid()}: run as the user that made it, or pass another path"
    return (
        f"the {operation.removeprefix('owner of the ')} of {path} belongs to user {found}, and this process is "
        f"user {wanted}: run as that user, or pass a path of your own"
    )
