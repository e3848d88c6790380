"""The session engine: Django's `SessionBase` over a `sessile.Session`.

What Django's engines do with a key, a dict and two calls, get and set, is done here with the record that was
loaded:

* `load` copies the record out and decodes it into `_session_cache`, the dict that the application changes.
* `save` encodes that dict, compares it with what was loaded, and merges what differs into what is stored by
  then: parallel requests keep each other's keys (CON-03). It never brings back what ended meanwhile (CON-02):
  that is UpdateError.
* `cycle_key` is one rotation: at no instant are there two sessions or none (LIF-06).
* `_auth_user_id`, where `contrib.auth` keeps the user, is the session's owner. Setting it in a stored session
  is a log-in at once, so that `session_key` is the final one when `user_logged_in` is sent; what else changes
  it is noticed by `save`.

A key is an id, or for whoever gives one himself any other text of eight characters or more.

Nothing here waits for input or output, so the asynchronous methods are direct calls. (Where there is a journal,
they await the disk.)
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.utils.module_loading import import_string

from sessile import _table
from sessile.codec import decode_field, decode_fields, decode_value, find_field, merge_fields, split_fields
from sessile.errors import SessionGone
from sessile.session import Session
from sessile.web.django import fallback
from sessile.web.django.tables import get_store
from sessile.web.django.values import SCALARS, as_text, encoded

if TYPE_CHECKING:
    from sessile.web.manager import Exchange

__all__ = ["OWNER_FIELD", "SessionStore"]

OWNER_FIELD: Final = "_auth_user_id"
_EXPIRY_FIELD: Final = "_session_expiry"
_COOKIE_AGE: Final = settings.SESSION_COOKIE_AGE  # what the store's timeouts were made of
_LEAST_KEY: Final = 8  # characters, as SessionBase has it
_LEAST_MS: Final = 10
_KEEP: Final = _table.KEEP
_ABSENT: Final = object()
_is_id: Final = re.compile(r"[A-Za-z0-9_-]{32}").fullmatch


class SessionStore(SessionBase):
    """A session of Django in sessile's table; all of `SessionBase`, with its asynchronous methods.

    Differences that can be seen:

    * A change to one key does not undo changes that others made to other keys.
    * The session ends SESSION_COOKIE_AGE after its last use, not after its last change; reading it is a use.
    * Values may also be datetime, date, time, timedelta, Decimal, UUID, set, frozenset and bytes. SESSION_SERIALIZER
      is not used for what is stored.
    """

    accessed = False
    modified = False
    _key: str | None = None
    _record: Session | None = None  # what the key stands for, once it was loaded
    _exchange: Exchange | None = None  # of the request; then key and record are the exchange's
    _session_cache: dict[str, Any]
    _had_expiry = False  # whether the record may have an expiry of its own
    _reissue = False  # whether the cookie's lifetime may have changed

    def __init__(self, session_key: str | None = None) -> None:
        if session_key and len(session_key) >= _LEAST_KEY:
            self._key = session_key

    @cached_property
    def serializer(self) -> Any:
        """What SESSION_SERIALIZER names, for `encode` and `decode` of SessionBase."""
        return import_string(settings.SESSION_SERIALIZER)

    # ---- the key ----

    def _get_session_key(self) -> str | None:
        if self._exchange is not None:
            return self._exchange.session.id
        return self._key

    def _set_session_key(self, value: str | None) -> None:
        if self._exchange is not None:
            if value == self._exchange.session.id or not value:
                return
            self._exchange = None
        self._key = value if value and len(value) >= _LEAST_KEY else None
        self._record = None

    session_key = property(_get_session_key)
    _session_key = property(_get_session_key, _set_session_key)

    @property
    def stored(self) -> Session | None:
        """The `sessile.Session` behind it, to keep or to look at: `get_store().revoke(owner, keep=…)`,
        `stored.fresh(300)`. None: it is not stored. Not for writing: what is written belongs in this one."""
        if self.session_key is None:
            return None
        self._get_session()
        return self._current()

    def _current(self) -> Session | None:
        """The record that goes with the key, loaded if need be; None: there is none."""
        return self._load_record() if self._record is None else self._record

    def _load_record(self) -> Session | None:
        if self._exchange is not None:
            record: Session | None = self._exchange.session
            return record if record._state == _table.STORED else None  # type: ignore[union-attr]
        key = self._key
        if key is None:
            return None
        store = get_store()
        record = store.load(key)  # which answers None to what is no id, at once
        if record is None and not _is_id(key):
            record = store.load(_id_of(key))
        self._record = record
        return record

    def _follow_id(self, record: Session, before: str | None) -> None:
        """After an operation that may have given the session another id than the one before."""
        if self._exchange is None and record.id != before:
            self._key = record.id
            self._record = record

    def is_empty(self) -> bool:
        """Whether there is neither a key nor anything in the session."""
        return not self._get_session_key() and not self.__dict__.get("_session_cache")

    def _get_new_session_key(self) -> str:
        return _table.new_id()

    async def _aget_new_session_key(self) -> str:
        return _table.new_id()

    # ---- reading ----

    def __getitem__(self, key: str) -> Any:
        value = self.get(key, _ABSENT)
        if value is _ABSENT:
            raise KeyError(key)
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """The field with this name. As long as only some that cannot change in place are read, no others are decoded."""
        self.accessed = True
        found = getattr(self, "_session_cache", None)
        if found is None:
            record = self._load_record() if self._record is None else self._record
            if record is None:
                self._session_cache = found = self._look_back()
            else:
                value = decode_field(record._fields, key, default)
                if type(value) in SCALARS:
                    return value
                found = self._fetch()
        return found.get(key, default)

    def _get_session(self, no_load: bool = False) -> dict[str, Any]:
        self.accessed = True
        found: dict[str, Any] | None = getattr(self, "_session_cache", None)
        if found is None:
            if not no_load:
                return self._fetch()
            self._session_cache = found = {}
        return found

    _session = property(_get_session)

    def _fetch(self) -> dict[str, Any]:
        """Decode all fields into `_session_cache`, which there is none of yet."""
        record = self._record
        self._session_cache = found = self.load() if record is None else self._decoded(record)
        return found

    def load(self) -> dict[str, Any]:
        """The fields as they are stored; of an unknown or expired key {}, and the key is dropped (SID-06)."""
        record = self._load_record()
        return self._look_back() if record is None else self._decoded(record)

    async def aload(self) -> dict[str, Any]:
        """As `load`."""
        record = self._load_record()
        if record is None and self._key is not None and self._exchange is None:
            record = get_store()._blank()
            return self._carried(record, await fallback.acarry_over(record, self._key, self))
        return self._look_back() if record is None else self._decoded(record)

    def _look_back(self) -> dict[str, Any]:
        """There is no session with this key: ask the former engine, if there is one."""
        if self._key is None or self._exchange is not None:
            self._session_key = None
            return {}
        record = get_store()._blank()
        return self._carried(record, fallback.carry_over(record, self._key, self))

    def _carried(self, record: Session, is_there: bool) -> dict[str, Any]:
        """Go on with a session that the engine before had; its client is to be given the new key."""
        if not is_there:
            self._session_key = None
            return {}
        self._key = record.id
        self._record = record
        self.modified = True
        return self._decoded(record)

    def _decoded(self, record: Session) -> dict[str, Any]:
        data = decode_fields(record._fields)
        if _EXPIRY_FIELD in data:
            self._had_expiry = True
        return data

    def exists(self, session_key: str | None) -> bool:
        """Whether there is a session with this key; no use of it."""
        return bool(session_key) and get_store().load(_id_of(str(session_key)), touch=False) is not None

    async def aexists(self, session_key: str | None) -> bool:
        """As `exists`."""
        return self.exists(session_key)

    # ---- writing ----

    def __setitem__(self, name: str, value: Any) -> None:
        found = getattr(self, "_session_cache", None)
        (self._fetch() if found is None else found)[name] = value
        self.accessed = self.modified = True
        if name == OWNER_FIELD:
            self._log_in_if_stored()

    async def aset(self, key: str, value: Any) -> None:
        """As `session[key] = value`."""
        (await self._aget_session())[key] = value
        self.modified = True
        if key == OWNER_FIELD:
            self._log_in_if_stored()

    def _log_in_if_stored(self) -> None:
        record = self._current()
        if record is None:
            return
        data = self._get_session()
        owner = self._owner_of(data)
        if owner is not None and owner != record.owner:
            try:
                self._log_in(record, owner, data)
            except SessionGone:
                pass  # `save` says so, when all that belongs to the log-in is there

    def create(self) -> None:
        """Store a new session, with what there is of fields, under a new key.

        Raises:
            TypeError, ValueError, StoreFull, Busy: as `sessile.Session.save`.
        """
        if self._exchange is not None:
            record: Session = self._exchange.session
            record.logout()
        self._make(None)
        self.modified = True

    async def acreate(self) -> None:
        """As `create`."""
        self.create()
        await self._settled()

    def save(self, must_create: bool = False) -> None:
        """Store what was changed, merged with what others changed meanwhile.

        Args:
            must_create: store a new session under the key that there is, or a new one.

        Raises:
            CreateError: `must_create`, and the key is in use.
            UpdateError: the session ended meanwhile: it is not brought back.
            TypeError, ValueError: a value cannot be stored; the text has its path.
            StoreFull, Busy, StoreClosed: as `sessile.Session.save`.
        """
        if must_create:
            self._get_session(no_load=True)
            self._make(self.session_key)
            return
        record = self._record
        data: dict[str, Any] | None = getattr(self, "_session_cache", None)
        if record is None or data is None:
            given = self._get_session_key()
            data = self._get_session()
            if given is None:
                self.create()
                return
            record = self._current()
            if record is None:
                raise UpdateError
        try:
            self._update(record, data)
        except SessionGone:
            raise UpdateError from None

    async def asave(self, must_create: bool = False) -> None:
        """As `save`."""
        await self._aget_session(no_load=must_create)
        self.save(must_create)
        await self._settled()

    def _make(self, key: str | None) -> None:
        """Store a new session; None: under a new key."""
        data = self._get_session(no_load=True)
        exchange = self._exchange
        if exchange is not None:
            exchange._require_headers("save")
            if exchange.session._state == _table.STORED:
                raise CreateError
        record: Session = get_store()._blank() if exchange is None else exchange.session
        timeouts = self._timeouts(data, None)
        if timeouts is None:  # it has expired already
            self._key = key or _table.new_id()
            self._record = None
            return
        id = None if key is None or exchange is not None else _id_of(key)
        if not record._store_new(encoded(data), self._owner_of(data), None, *timeouts, id):
            raise CreateError
        self._key = record.id if id is None else key
        self._reissue = True
        if exchange is None:
            self._record = record

    def _update(self, record: Session, data: dict[str, Any]) -> bool:
        """Bring the record in line with the fields; whether anything was written.

        Raises:
            SessionGone: it ended.
        """
        fields = encoded(data)
        stored = record._fields
        owner = data.get(OWNER_FIELD)
        if owner is not None:
            owner = as_text(owner)
        if owner != record.owner:
            if owner is None:
                self._log_out(record)
            else:
                self._log_in(record, owner, data)
            return True
        if fields == stored:
            return self._renew(record)
        idle = absolute = _KEEP
        if (self._had_expiry or _EXPIRY_FIELD in data) and (
            find_field(stored, _EXPIRY_FIELD) != find_field(fields, _EXPIRY_FIELD)
        ):
            self._reissue = True
            wanted = self._timeouts(data, record)
            if wanted is None:  # it has expired already
                record.destroy()
                self._record = None
                return True
            idle, absolute = wanted
        if len(fields) > len(stored):  # else it was small enough before
            record._store._require_size(fields)
        before = record.id
        if not record._update(record, fields, idle, absolute, record._touches):
            _merge(record, fields, stored, idle, absolute)
            self._rebase(stored, record._fields)
        if record.id != before:
            self._follow_id(record, before)
        return True

    def _rebase(self, loaded: bytes, stored: bytes) -> None:
        """Take over what others changed, or else the next save would undo it.

        Args:
            loaded: the fields that `_session_cache` was made of.
            stored: the record's fields now.
        """
        if loaded == stored:
            return
        cache = self._session_cache
        own = split_fields(encoded(cache))
        before, after = split_fields(loaded), split_fields(stored)
        for name in {**before, **after}:
            if own.get(name) != before.get(name):
                continue  # changed here
            if name in after:
                if after[name] != before.get(name):
                    cache[name] = decode_value(after[name])
            else:
                cache.pop(name, None)

    def _renew(self, record: Session) -> bool:
        """Nothing to write: only the idle deadline moves on, if the session is still there."""
        if record._reread(touch=record._touches) is None:
            record._forget(ended=True)
            raise SessionGone(handle=record.handle)
        return False

    def _log_in(self, record: Session, owner: str, data: dict[str, Any]) -> None:
        """Make the user that the fields name the session's owner: under a new id, with all fields."""
        loaded = record._fields
        own, old = split_fields(encoded(data)), split_fields(loaded)
        for name in old:
            if name not in own:
                del record[name]
        for name, value in own.items():
            if old.get(name) != value:
                record[name] = decode_value(value)
        idle, absolute = self._timeouts(data, None) or (_LEAST_MS, _LEAST_MS)
        before = record.id
        record.login(
            owner,
            keep=True,
            idle_timeout=idle / 1000 if idle > 0 else None,
            absolute_timeout=absolute / 1000 if absolute > 0 else None,
        )
        record._discard(hidden=False)
        self._rebase(loaded, record._fields)
        self._reissue = True
        self._follow_id(record, before)

    @staticmethod
    def _owner_of(data: dict[str, Any]) -> str | None:
        user: str | None = data.get(OWNER_FIELD)
        return user if user is None else as_text(user)

    def _log_out(self, record: Session) -> None:
        """The user has gone from the fields: what is left goes on in a new, anonymous session."""
        record.logout()
        self._make(None)

    def delete(self, session_key: str | None = None) -> None:
        """End the session with this key, or this one: when this returns, nobody can load it (LIF-11)."""
        if session_key is not None and session_key != self.session_key:
            record = get_store().load(_id_of(session_key), touch=False)
        elif self._exchange is not None:
            record = self._exchange.session
        else:
            record = self._current()
            self._record = None
        if record is not None:
            record.logout()

    async def adelete(self, session_key: str | None = None) -> None:
        """As `delete`."""
        self.delete(session_key)
        await self._settled()

    def cycle_key(self) -> None:
        """Give the session a new key, in one step; the old one is dead when this returns (LIF-06).

        A session that ended meanwhile is not brought back: a new, empty one takes its place.
        """
        self._get_session()
        self._cycle()

    async def acycle_key(self) -> None:
        """As `cycle_key`."""
        await self._aget_session()
        self._cycle()
        await self._settled()

    def _cycle(self) -> None:
        record = self._current()
        if record is None:
            self.create()
            return
        before, loaded = record.id, record._fields
        try:
            record.rotate()
        except SessionGone:
            record.logout()
            self._session_cache = {}
            self.create()
            return
        self._rebase(loaded, record._fields)
        self._follow_id(record, before)
        self.modified = True

    @classmethod
    def clear_expired(cls) -> None:
        """Free the memory of expired sessions now; each write frees some of it anyway (LIF-03)."""
        store = get_store()
        while store.sweep():
            pass

    @classmethod
    async def aclear_expired(cls) -> None:
        """As `clear_expired`."""
        cls.clear_expired()

    async def _settled(self) -> None:
        """Wait until the end of a session is on disk, where there is a journal."""
        store = get_store()
        if store._persistence is not None:
            await store.aflush()

    # ---- deadlines ----

    def _timeouts(self, data: dict[str, Any], record: Session | None) -> tuple[int, int] | None:
        """Idle and absolute timeout in milliseconds that `set_expiry` asked for; None: it has expired already.

        Args:
            data: the fields.
            record: the one that is to get them; None: a new one.
        """
        expiry = data.get(_EXPIRY_FIELD)
        self._had_expiry |= expiry is not None
        age: float = self.get_expiry_age(expiry=expiry) if expiry else self.get_session_cookie_age()
        if not expiry and age == _COOKIE_AGE:
            return _table.DEFAULT, _table.DEFAULT
        if age <= 0:
            return None
        idle = _within(age)
        if not isinstance(expiry, (str, datetime)):
            return idle, _table.DEFAULT
        if record is None:
            return idle, idle
        created, authenticated, _, _ = record._times
        return idle, _within(age + (record._store._now() - (authenticated or created)) / 1000)

    # ---- for the middleware ----

    def _attach(self, exchange: Exchange) -> None:
        """Be the session of a request: key and record are the exchange's, looked up at the first use."""
        self._exchange = exchange

    def _save_for_response(self, record: Session) -> bool:
        """What the exchange calls in the place of `Session.save`.

        Raises:
            SessionGone, TypeError, ValueError, StoreFull, Busy: as `Session.save`.
        """
        data = self.__dict__.get("_session_cache")
        if data is None or record._state == _table.ENDED:
            return False
        if record._state == _table.UNSTORED:
            if data:
                self._make(None)
            return bool(data)
        if encoded(data) == record._fields and self._owner_of(data) == record.owner:
            return False  # it was looked up, and so renewed, in this very request
        return self._update(record, data)


def _id_of(key: str) -> str:
    """The id that a key stands for: itself, or for any other text one that is made from it."""
    if _is_id(key):
        return key
    return _table.id_of(hashlib.sha256(b"sessile key\0" + key.encode("utf-8", "surrogatepass")).digest()[:24])


def _within(seconds: float) -> int:
    """Milliseconds, within what a table can keep."""
    return max(_LEAST_MS, min(int(seconds * 1000), _table.TIMEOUT_MAX_MS))


def _merge(record: Session, wanted: bytes, before: bytes, idle: int, absolute: int) -> None:
    """Others changed the session since it was loaded: put what differs between `wanted` and `before`, the fields that
    were loaded, into what is stored by now. An emptied session stays, as Django has it.

    Raises:
        SessionGone: it ended.
        Busy: others kept changing it.
    """
    new, old = split_fields(wanted), split_fields(before)
    changed = {name: value for name, value in new.items() if old.get(name) != value}
    gone = [name for name in old if name not in new]
    patience = None
    while True:
        at = record._reread_or_refuse()
        fields = merge_fields(at._fields, changed, gone)
        record._store._require_size(fields)
        if record._update(at, fields, idle, absolute, record._touches):
            return
        patience = record._wait(patience)
