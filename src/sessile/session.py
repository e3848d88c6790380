"""A session as the application sees it: a mapping of fields, with an owner and two deadlines.

How changes find their way into the table, which is the heart of this file:

* A value that was assigned, or read and able to change in place, is kept in `Record`. `save()` encodes those
  again and compares the bytes with the ones that were read, so in-place changes are seen without any flag,
  and a value that was only read is never written.
* `save()` merges by field. It puts its changes into the fields that it loaded and offers the result to the
  table, which takes it only if the stored version is still the one that was loaded. Otherwise the stored
  fields are read again, the same changes are put into those, and so on: changes of others to other fields are
  kept, and for one field the later save wins (CON-03). No lock is held in between (CON-05).
* The table finds the session by the record that was loaded, not by its id. So a save follows a renewal, and
  does not bring back what ended meanwhile: that is `SessionGone` (CON-02).

When somebody else changed a field whose value was read here, and might still be changed in place here, then
the bytes that were read stay its base of comparison (`pinned` in `Record`): what is later changed in place is
seen as a change.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from sessile import _table, options
from sessile._table import REMOVED, Record, new_id
from sessile.codec import (
    decode_value,
    field_names,
    find_field,
    merge_fields,
)
from sessile.errors import Busy, Conflict, SessionGone
from sessile.statuses import error_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from sessile.store import Store

__all__ = ["Session"]

_Value = TypeVar("_Value")

_ABSENT: Any = object()
_ID_TRIES = 8


class Session(Record, MutableMapping[str, Any]):
    """One session: a `MutableMapping` of str to values that can be stored (see `sessile.codec`).

    Sessions come from `Store.create`, `Store.load` and `Store.open`. One belongs to one request; threads that
    share one may lose a change and never crash.

    It is no dict, and no subclass of one, because C code would read such a one's empty storage: take
    `dict(session)` for what wants a dict. `==` is identity. `bool(session)`: stored, owned, or has a field.
    It can neither be pickled nor copied (SID-10); `copy()` gives a dict of its fields.

    As a context manager it saves at the end of the block, unless an exception leaves the block or the session
    ended.

    Attributes:
        id: str of 32 characters, which the client shall present; None until the session is stored. Never in
            `repr`, in an exception or in a log.
        owner: str, or None for an anonymous session; None once it ended.
        handle: str of 16 hexadecimal digits that names the session in lists and logs, and is not secret; kept
            by renewals and `rotate()`, new at log-in; None until it is stored.
        is_new: whether it was made here, and not loaded.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def _store(self) -> Store: ...

    def __init__(self, *_args: object, **_options: object) -> None:
        raise TypeError("a Session comes from store.create(), store.load() or store.open()")

    # ---- the mapping; single fields are in Record ----

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __bool__(self) -> bool:
        return self._state == _table.STORED or bool(self._names())

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def _names(self) -> list[str]:
        names = [] if self._hidden else field_names(self._fields)
        values = self._view()
        if values:
            names = [name for name in names if values.pop(name, None) is not REMOVED]
            names += [name for name, value in values.items() if value is not REMOVED]
        return names

    def copy(self) -> dict[str, Any]:
        """The fields as a dict; the values are the session's own."""
        return dict(self)

    def popitem(self) -> tuple[str, Any]:
        """Remove the last field, as a dict does, and give its name and value.

        Raises:
            KeyError: there is no field.
            SessionGone, InsecureTransport: as for every change.
        """
        names = self._names()
        if not names:
            raise KeyError("popitem: the session has no field")
        return names[-1], self.pop(names[-1])

    def clear(self) -> None:
        """Remove every field, at the next save. An owned session ends at once, as in `logout`.

        The save after it removes an anonymous session altogether, unless there are new fields by then. After
        an owned one it stores a new session, with a new id and no owner.

        Raises:
            SessionGone: the session was ended through this object.
            Busy: see `logout`; only for an owned session.
        """
        self._write()
        if self.owner is not None:
            self.logout()
        else:
            self._discard(hidden=self._state == _table.STORED)

    # ---- facts ----

    @property
    def device(self) -> dict[str, str] | None:
        """What was given as `device` when the session was made; a dict of its own each time."""
        encoded = self._device
        return None if encoded is None else decode_value(encoded)

    @property
    def created(self) -> datetime | None:
        """When the session was created, by the wall clock, UTC, to the second; None unless it is stored."""
        return self._moment(0)

    @property
    def authenticated_at(self) -> datetime | None:
        """When its owner logged in last, UTC, to the second; None for an anonymous session."""
        return self._moment(1)

    @property
    def last_used(self) -> datetime | None:
        """When it was used last, UTC; late by up to 1/64 of the idle timeout. None unless it is stored."""
        return self._moment(2)

    @property
    def expires(self) -> datetime | None:
        """The nearer of its two deadlines as of the last load or save, UTC; None unless it is stored."""
        return self._moment(3)

    def _moment(self, which: int) -> datetime | None:
        milliseconds = self._times[which]
        if self._state != _table.STORED or milliseconds == 0:
            return None
        return self._store._datetime(milliseconds)

    @property
    def remaining(self) -> float | None:
        """Seconds to the nearer of its deadlines, at least 0; None until stored. Reading renews nothing."""
        if self._state == _table.UNSTORED:
            return None
        if self._state == _table.ENDED:
            return 0.0
        return max(0, self._times[3] - self._store._now()) / 1000

    def fresh(self, max_age: float | timedelta) -> bool:
        """Whether the owner logged in within the last `max_age` seconds: for a step-up before something
        delicate.

        Raises:
            ValueError: `max_age` is not from 0.01 seconds to 400 days.
        """
        limit = options.milliseconds("max_age", max_age)
        authenticated = self._times[1]
        if self._state != _table.STORED or authenticated == 0:
            return False
        return self._store._now() - authenticated <= limit

    def alive(self) -> bool:
        """Whether the session is still there: one look-up by its record, which renews nothing. False until
        stored.

        For connections that live long (COK-15). Follows renewals; a session that logged in elsewhere is not
        alive.

        Raises:
            Busy: a lock stayed taken for longer than `busy_timeout`.
            StoreClosed: the store was closed.
        """
        return self._state == _table.STORED and self._probe()

    # ---- storing ----

    def save(self, *, strict: bool = False) -> bool:
        """Store what was changed, field by field; return whether anything was written.

        Nothing to write: False, without a look-up. A session that was never stored is stored now, under a new
        id, if it has a field. A save that leaves an anonymous session without fields removes it from the
        table; the object goes on as a new, empty session.

        Args:
            strict: raise `Conflict` when the fields or the owner were changed since they were loaded.

        Raises:
            TypeError, ValueError: a value cannot be stored; the text has its path, such as `$.cart[0].price`.
            SessionTooLarge: more than `max_session_size` bytes.
            SessionGone: the session ended meanwhile; the object is empty then (CON-02).
            Conflict: see `strict`.
            StoreFull: no room; what was stored before is intact.
            Busy: a lock stayed taken, or others kept changing the session, for longer than `busy_timeout`.
            StoreClosed: the store was closed.

        But for SessionGone, whatever is raised changed nothing, neither in the table nor here.
        """
        saved = self._save_at_once()
        if saved is not None:
            return saved
        if self._state == _table.ENDED:
            raise SessionGone(handle=self.handle)
        changes = self._changes()
        if changes is None:
            return False
        if self._state == _table.UNSTORED:
            return self._save_new(*changes)
        return self._merge(*changes, strict)

    def _save_new(self, changed: dict[str, bytes], gone: list[str]) -> bool:
        if not changed:
            return False
        self._store_new(merge_fields(b"", changed, gone), None, None, *self._timeouts)
        return True

    def _merge(self, changed: dict[str, bytes], gone: list[str], strict: bool) -> bool:
        before, owner, cleared = self._fields, self.owner, self._hidden
        at: Record = self
        patience = None
        while True:
            fields = merge_fields(b"" if cleared else at._fields, changed, gone)
            self._store._require_size(fields)
            if strict and at is not self and (at._fields != before or at.owner != owner):
                raise Conflict(handle=self.handle or "")
            wrote = fields != at._fields
            if not wrote:
                if at is not self:
                    self._adopt(at)
                    break
                # What was assigned equals what was loaded: whether it is what is stored must be looked up.
            elif not fields and owner is None:
                if self._remove_emptied(at):
                    return True
                patience = self._wait(patience)
            elif self._update(at, fields, _table.KEEP, _table.KEEP, self._touches):
                break
            else:
                patience = self._wait(patience)
            at = self._reread_or_refuse()
        self._absorb(before if at is not self else None, changed, gone)
        self._settle()
        return wrote

    def _remove_emptied(self, at: Record) -> bool:
        """End an anonymous session that has no fields left."""
        removed = self._remove(_table.DESTROYED, at)
        if removed:
            self._forget(ended=False)
        return removed

    def _merged(self, fields: bytes, changes: tuple[dict[str, bytes], list[str]] | None) -> bytes:
        merged = fields if changes is None else merge_fields(fields, *changes)
        self._store._require_size(merged)
        return merged

    def _store_new(
        self,
        fields: bytes,
        owner: str | None,
        device: bytes | None,
        idle_ms: int,
        absolute_ms: int,
        id: str | None = None,
    ) -> bool:
        """Store this as a new session, with all that is written to it; under a given `id` only if that was not
        used yet. Whether it was stored."""
        self._store._require_size(fields)
        for _ in range(_ID_TRIES):
            if self._create(id or new_id(), owner, device, fields, idle_ms, absolute_ms):
                break
            if id is not None:
                return False
        else:
            _refuse_ids()
        values = self._view()
        if values is not None:
            self._absorb(None, values, ())
            self._settle()
        if self._store._on_event is not None:
            self._store._tell("created", self)
            if owner is not None:
                self._store._tell("login", self)
        return True

    def _wait(self, patience: float | None) -> float:
        """Before another try of a change that met one of others; `patience`: until when, None at first.

        Raises:
            Busy: it has been too long.
        """
        now = time.monotonic()
        seconds = self._store._busy_timeout
        if patience is None:
            return now + seconds
        if now >= patience:
            raise Busy(f"others kept changing the session for {seconds:g} seconds", timeout=seconds)
        return patience

    def update_field(self, name: str, function: Callable[[Any], _Value], default: Any = _ABSENT) -> _Value:
        """Change one stored field atomically; return the new value, which is in the session then.

        `function` gets the stored value, a copy, and gives the new one. It may be called several times, when
        others change the session meanwhile, and no lock is held while it runs. Other changes that are not
        saved stay so. In a session that is not stored it works on the session's own value.

        Args:
            name: of the field.
            function: from old value to new.
            default: what `function` gets when there is no such field.

        Raises:
            KeyError: there is no such field, and no default.
            TypeError, ValueError, SessionTooLarge, SessionGone, StoreFull, Busy, StoreClosed: as `save`.
            Whatever `function` raises; nothing was changed then.
        """
        self._write()
        substitute = None if default is _ABSENT else self._encoded(name, default)
        if self._state == _table.UNSTORED:
            stored = self._encoded(name, self[name]) if name in self else substitute
            self[name] = value = function(self._decoded(name, stored))
            return value
        before = self._fields
        at: Record = self
        patience = None
        while True:
            stored = find_field(at._fields, name)
            if stored is None and substitute is None and at is self:
                at = self._reread_or_refuse()
                continue
            value = function(self._decoded(name, substitute if stored is None else stored))
            fields = self._merged(at._fields, ({name: self._encoded(name, value)}, []))
            if self._update(at, fields, _table.KEEP, _table.KEEP, self._touches):
                break
            patience = self._wait(patience)
            at = self._reread_or_refuse()
        self[name] = value
        # If the session is to be cleared, the field is written once more: that save would take it along.
        self._absorb(before if at is not self else None, () if self._hidden else (name,), ())
        return value

    @staticmethod
    def _decoded(name: str, encoded: bytes | None) -> Any:
        if encoded is None:
            raise KeyError(name)
        return decode_value(encoded)

    def reload(self) -> None:
        """Read the session again, and drop what was changed here and not saved. Renews the idle deadline.

        Raises:
            SessionGone: it ended; the object is empty then.
            Busy, StoreClosed: as `save`.
        """
        if self._state == _table.ENDED:
            raise SessionGone(handle=self.handle)
        if self._state == _table.STORED:
            self._adopt(self._reread_or_refuse(touch=self._touches))
        self._discard(hidden=False)

    def set_timeouts(
        self,
        idle: float | timedelta | Literal["default"] | None = None,
        absolute: float | timedelta | Literal["default"] | None = None,
    ) -> None:
        """Give this session timeouts of its own; at once on a stored one.

        Args:
            idle: seconds or timedelta from last use to expiry, up to 400 days; "default": the store's,
                whatever they are by then; None: as it is.
            absolute: the same, from creation or log-in.

        Raises:
            ValueError: out of bounds.
            SessionGone, StoreFull, Busy, StoreClosed: as `save`.
        """
        self._write()
        idle_ms, absolute_ms = _own_timeout("idle", idle), _own_timeout("absolute", absolute)
        if self._state == _table.UNSTORED:
            idle_before, absolute_before = self._timeouts
            self._timeouts = (
                idle_before if idle_ms == _table.KEEP else idle_ms,
                absolute_before if absolute_ms == _table.KEEP else absolute_ms,
            )
            return
        before = self._fields
        at: Record = self
        patience = None
        while not self._update(at, at._fields, idle_ms, absolute_ms, self._touches):
            patience = self._wait(patience)
            at = self._reread_or_refuse()
        self._absorb(before if at is not self else None, (), ())

    # ---- log-in, rotation, end ----

    def login(
        self,
        owner: str,
        *,
        keep: Iterable[str] | Literal[True] = (),
        device: dict[str, str] | None = None,
        idle_timeout: float | timedelta | None = None,
        absolute_timeout: float | timedelta | None = None,
    ) -> None:
        """Make `owner` the owner: at once, under a new id and handle; the old id is dead when this returns
        (LIF-05).

        From another owner or none, all fields go that `keep` does not name, unsaved ones included, because
        they may be an attacker's (LIF-07). The same owner again, for a step-up, keeps all, and the device
        unless another is given. Both deadlines and `authenticated_at` start anew. On a session that is not
        stored this stores it.

        An owner has at most `max_sessions_per_owner` sessions: the one unused for longest ends (LIF-14).

        Args:
            owner: of 1 to 255 bytes of UTF-8.
            keep: names of fields, or True for all.
            device: what shall be shown of the device in lists, such as {"browser": "Firefox"}; up to 1 KiB.
            idle_timeout, absolute_timeout: seconds or timedelta, up to 400 days; None: the store's.

        Raises:
            TypeError: `owner` is no such text (pass `str(user.id)`), `keep` or `device` of another type.
            ValueError: a timeout is out of bounds, or `device` too large.
            TypeError, ValueError, SessionTooLarge, SessionGone, StoreFull, Busy, StoreClosed: as `save`.
        """
        plain = type(owner) is str and type(keep) is tuple and not keep
        plain = plain and device is None and idle_timeout is None and absolute_timeout is None
        if plain and self._anew_at_once(owner):
            return
        self._write()
        store = self._store
        owner = options.owner(owner)
        kept = options.keep(keep)
        described = None if device is None else options.device(device)
        idle_ms = _table.DEFAULT if idle_timeout is None else options.timeout("idle_timeout", idle_timeout)
        absolute_ms = (
            _table.DEFAULT if absolute_timeout is None else options.timeout("absolute_timeout", absolute_timeout)
        )
        changes = self._changes()
        if self._state == _table.UNSTORED:
            fields = _only(self._merged(b"", changes), kept)
            self._store_new(fields, owner, described, idle_ms, absolute_ms)
            self._keep_values(kept)
            if store._persistence is not None:
                store._persistence.logged_in(self, None)
            return
        former = None if store._persistence is None else self.handle
        before, cleared = self._fields, self._hidden
        at: Record = self
        tries = patience = None
        while True:
            same = at.owner == owner
            if same or kept:
                fields = self._merged(b"" if cleared else at._fields, changes)
                fields = fields if same else _only(fields, kept)
            else:
                fields = b""
            shown = at._device if same and described is None else described
            answer = self._rotate(
                at, _table.LOGIN, new_id(), None, owner, shown, fields, idle_ms, absolute_ms
            )
            if answer == _table.OK:
                break
            if answer == _table.CHANGED:
                patience = self._wait(patience)
                at = self._reread_or_refuse()
            else:
                tries = _count_tries(tries)
        if not same:
            self._keep_values(kept)
        self._absorb(before if at is not self else None, *(changes or ((), ())))
        self._settle()
        store._tell("login", self)
        if store._persistence is not None:
            store._persistence.logged_in(self, former)

    def _keep_values(self, kept: frozenset[str] | Literal[True]) -> None:
        values = self._view()
        if values and kept is not True:
            for name in values.keys() - kept:
                self._drop(name)

    def rotate(self) -> None:
        """Give the session a new id: at once, the old one is dead when this returns. All else stays (LIF-06).

        What is not saved stays unsaved. On a session that is not stored this stores it.

        Raises:
            SessionGone, StoreFull, Busy, StoreClosed: as `save`.
        """
        if self._anew_at_once(None):
            return
        self._write()
        if self._state == _table.UNSTORED:
            self._store_new(self._merged(b"", self._changes()), None, None, *self._timeouts)
            return
        before = self._fields
        at: Record = self
        tries = patience = None
        while True:
            parent = at._digest[0]
            answer = self._rotate(
                at, _table.ROTATE, new_id(), None, at.owner, at._device, at._fields, _table.KEEP, _table.KEEP
            )
            if answer == _table.OK:
                break
            if answer == _table.CHANGED:
                patience = self._wait(patience)
                at = self._reread_or_refuse()
            else:
                tries = _count_tries(tries)
        self._absorb(before if at is not self else None, (), ())
        self._store._tell("rotated", self)
        if self._store._persistence is not None:
            self._store._persistence.rotated(self, parent, _table.ROTATE, None)

    def logout(self) -> None:
        """End the session: when this returns, nobody can load it (LIF-11). The object goes on as a new, empty
        session.

        Fine on a session that is not stored or has ended.

        Raises:
            Busy: a lock stayed taken for longer than `busy_timeout`; nothing was changed.
            StoreClosed: the store was closed.
        """
        if self._state == _table.STORED:
            self._remove(_table.LOGOUT)
        self._forget(ended=False)
        if self._store._persistence is not None:
            self._store._persistence.settle()

    def destroy(self) -> None:
        """End the session: when this returns, nobody can load it (LIF-11). The object is empty then.

        `id` and `handle` can still be read; any further write raises SessionGone. Fine on a session that has
        ended.

        Raises:
            Busy, StoreClosed: as `logout`.
        """
        if self._state == _table.STORED:
            self._remove(_table.DESTROYED)
        self._forget(ended=True)
        if self._store._persistence is not None:
            self._store._persistence.settle()

    # ---- for the web layer ----

    def _renew(self) -> bool:
        """Renew: a new id, while the old one forwards to it until the new one was presented (LIF-08).

        Only a session with an owner, whose present id was presented, can be renewed. Requests that race are
        given the same new id (LIF-09). Returns whether `id` is another one now.

        Raises:
            SessionGone, StoreFull, Busy, StoreClosed: as `save`.
        """
        renewable = _table.OWNED | _table.PROVEN
        if self._state != _table.STORED or self._flags & renewable != renewable:
            return False
        before = self._fields
        at: Record = self
        patience = None
        while True:
            nonce, parent = os.urandom(32), at._digest[0]
            answer = self._rotate(
                at,
                _table.RENEW,
                self._store._renewed_id(nonce, 0),
                nonce,
                None,
                None,
                b"",
                _table.KEEP,
                _table.KEEP,
            )
            if answer == _table.OK:
                break
            patience = self._wait(patience)
            if answer == _table.CHANGED:
                at = self._reread_or_refuse()
                if at.id is not None:
                    self._adopt(at)
                    break
        self._absorb(before if at is not self else None, (), ())
        if answer == _table.OK:
            self._store._tell("rotated", self)
            if self._store._persistence is not None:
                self._store._persistence.rotated(self, parent, _table.RENEW, nonce)
        return True

    def _csrf_key(self) -> bytes:
        """The key for tokens against cross-site requests (COK-13)."""
        return self._store._keys[0].csrf

    # ---- the rest ----

    def _reread_or_refuse(self, *, touch: bool = False) -> Record:
        stored = self._reread(touch=touch)
        if stored is None:
            self._forget(ended=True)
            raise SessionGone(handle=self.handle)
        return stored

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._state != _table.ENDED:
            self.save()

    def __repr__(self) -> str:
        state = {_table.UNSTORED: "not stored", _table.STORED: "stored", _table.ENDED: "ended"}[self._state]
        return f"<sessile.Session {self.handle or 'without handle'}, {state}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a Session can be neither pickled nor copied; dict(session) gives its fields (SID-10)"
        )

    def __copy__(self) -> NoReturn:
        self.__reduce_ex__(4)

    def __deepcopy__(self, memo: Mapping[int, object]) -> NoReturn:
        self.__reduce_ex__(4)


def _count_tries(tries: int | None) -> int:
    """Count an id that was in use or retired.

    Raises:
        SessileError: it was the eighth in a row: the system's generator is broken (SID-08).
    """
    tries = (tries or 0) + 1
    if tries == _ID_TRIES:
        _refuse_ids()
    return tries


def _refuse_ids() -> NoReturn:
    error = error_of(_table.EXISTS)
    assert error is not None
    raise error


def _own_timeout(name: str, value: float | timedelta | Literal["default"] | None) -> int:
    if value is None:
        return _table.KEEP
    if value == "default":
        return _table.DEFAULT
    return options.milliseconds(name, value)


def _only(fields: bytes, kept: frozenset[str] | Literal[True]) -> bytes:
    """The fields that are named, or all for True."""
    if not kept or not fields:
        return b""
    return fields if kept is True else merge_fields(fields, {}, set(field_names(fields)) - kept)
