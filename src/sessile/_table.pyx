# cython: language_level=3, auto_pickle=False, autotestdict=False
# cython: freethreading_compatible=True, annotation_typing=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The thin binding of the table: arguments in, one C call, a status to an exception, bytes out.

What is here, in this order:

    the codec       values and fields to bytes and back: _codec.pxi, a part of this module, so that reading a field of a
                    record is one call of C
    new_id, id_of   24 random bytes, or 24 given ones, as an id
    find_id         the one id in a list of pairs that anybody can have written to
    Sink            memory for the reports of ended sessions, and its reader
    Record          the hot half of a Session: a private copy of one record, and the reading of its fields
    Table           the hot half of a Store: the open table and what concerns more than one session

What csrc/sessile.h declares is cimported from _contract.pxd. A status becomes an exception in statuses.py.

What a session means (merging, log-in rules, events) is in session.py and store.py; nothing of it is here.

The interpreter lock. A call that finds its lock free takes well under a microsecond, less than giving up the
interpreter lock and taking it again; so the first try keeps it and never waits (`wait_ms` 0). Only when the table
answers that it would have to wait is the interpreter lock released, and the call repeated with a wait. What visits
many records, or may ask the system for memory, releases it from the start.

Closing. With the interpreter lock, a first try cannot meet `close()`, as long as nothing stands between the check that
the table is open and the call: what makes an object may run the garbage collector, and so anything. A call that released the lock is counted
in `inside`; `close()` only marks the table while there are any, and the last one to come back tears it down. Without
the interpreter lock such a counter would be one word that every look-up of every thread writes, which costs the very
scaling that free threading is for: there `close()` makes every later call fail, and the mapping goes when the last
reference to the Table goes, which no call in progress can outlive.

Without the interpreter lock, a Record that two threads share may lose a change and must not crash: its references are
read and replaced inside critical sections, and what C is given is a copy on the stack.
"""

import os

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cpython.object cimport PyObject, PyTypeObject
from cpython.unicode cimport PyUnicode_CheckExact, PyUnicode_DecodeASCII, PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset, strlen

from sessile._contract cimport *
from sessile.errors import SessileError, SessionGone, StoreClosed

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *length) except NULL
    bint PyUnicode_Check(object value)
    bint PyUnicode_IS_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    void *PyUnicode_DATA(object text)
    int PyUnicode_KIND(object text)
    bint PyBytes_Check(object value)
    bint PyBytes_CheckExact(object value)

cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    enum { FREE_THREADED = 1 };
    #else
    enum { FREE_THREADED = 0 };
    #endif

    #ifdef SESSILE_PRIVATE_HOME
    enum { ONLY_PRIVATE = 1 };
    #else
    enum { ONLY_PRIVATE = 0 };
    #endif

    static inline int flag_read(int *flag)
    {
        return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
    }

    static inline void flag_write(int *flag, int value)
    {
        __atomic_store_n(flag, value, __ATOMIC_RELEASE);
    }
    """
    enum:
        FREE_THREADED
        ONLY_PRIVATE
    int flag_read(int *flag)
    void flag_write(int *flag, int value)

cdef enum:
    LOCAL_SIZE = 4096               # a record up to this size is copied to the stack first
    LIST_SIZE = 16384               # first size of a list's buffer
    PAIRS_SIZE = 16384              # octets of a list of pairs that are looked into
    PAIRS_MOST = 200                # pairs of one
    SINKS_KEPT = 4
    ID_BYTES = 24
    LOOK_MS = 250                   # how often a log-in or rotation in a hurry offers to look for the table's file

# What a session is to its object.
cdef enum:
    STATE_UNSTORED = 0
    STATE_STORED = 1
    STATE_ENDED = 2

UNSTORED = STATE_UNSTORED
STORED = STATE_STORED
ENDED = STATE_ENDED

PRIVATE_HOME = bool(ONLY_PRIVATE)   # Store() is memory of one process, never shared with a child

KEEP = SESSILE_KEEP                 # timeouts: as it is stored
DEFAULT = SESSILE_DEFAULT           # timeouts: the store's
OWNED = SESSILE_OWNED               # flags of a session
PROVEN = SESSILE_PROVEN
RENEW = <int>SESSILE_RENEW          # ways to rotate
ROTATE = <int>SESSILE_ROTATE
LOGIN = <int>SESSILE_LOGIN
LOGOUT = <int>SESSILE_LOGOUT        # why a session ended
DESTROYED = <int>SESSILE_DESTROYED
OK = <int>SESSILE_OK                # what Record._rotate answers
CHANGED = <int>SESSILE_CHANGED
EXISTS = <int>SESSILE_EXISTS

PROCESSES_MAX = SESSILE_PROCESSES_MAX
KEYS_MAX = SESSILE_KEYS_MAX
OWNER_MAX = SESSILE_OWNER_MAX       # bytes
DEVICE_MAX = SESSILE_DEVICE_MAX     # bytes
FIELDS_MAX = SESSILE_FIELDS_MAX     # bytes
IMAGE_RECORD_MAX = <int>SESSILE_IMAGE_RECORD_MAX    # bytes of a record in an image
NOTE_SIZE = <int>sizeof(sessile_note)
REKEY_SIZE = <int>sizeof(sessile_rekey)
CAPACITY_MAX = SESSILE_CAPACITY_MAX
PAIRS_LENGTH_MAX = <int>PAIRS_SIZE  # octets that find_id looks into
PAIRS_MAX = <int>PAIRS_MOST
TIMEOUT_MAX_MS = SESSILE_TIMEOUT_MAX_MS

REASONS = {
    <int>SESSILE_LOGOUT: "logout",
    <int>SESSILE_DESTROYED: "destroyed",
    <int>SESSILE_IDLE: "idle",
    <int>SESSILE_ABSOLUTE: "absolute",
    <int>SESSILE_EVICTED: "evicted",
    <int>SESSILE_REVOKED: "revoked",
    <int>SESSILE_STOLEN: "theft",
}
assert len(REASONS) == <int>SESSILE_REASON_COUNT

# ---------------------------------------------------------------------------------------------------------------------
# Statuses

def statuses() -> dict[str, int]:
    """Every status of the table, by its name in C."""
    return {
        sessile_status_name(<sessile_status>number).decode("ascii"): number
        for number in range(<int>SESSILE_STATUS_COUNT)
    }


cdef object error_of(int status, Record record, Table table, const sessile_problem *problem):
    """The exception that a status means."""
    cdef sessile_stats stats
    from sessile.statuses import error_of as made
    memset(&stats, 0, sizeof(stats))
    if not flag_read(&table.closed):
        c_stats(table.table, &stats)
    operation = None if problem.operation == NULL else problem.operation.decode("ascii", "replace")
    return made(
        status,
        handle=None if record is None else record.handle,
        timeout=table.busy_timeout,
        room=(stats.capacity, stats.sessions, stats.memory, stats.memory_used),
        path=table.path,
        problem=(problem.error, operation, problem.wanted, problem.found),
    )


# ---------------------------------------------------------------------------------------------------------------------
# The codec

cdef bytes EMPTY = b""
cdef frozenset NOTHING = frozenset()

include "_codec.pxi"


# ---------------------------------------------------------------------------------------------------------------------
# Ids

cdef const char *ID_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def id_of(bytes random):
    """The id that 24 bytes stand for: 32 base64url characters without padding, the only text for them (SID-03)."""
    return id_from(random)


cdef str id_from(bytes random):
    cdef char text[32]
    cdef const uint8_t *byte = <const uint8_t *>PyBytes_AS_STRING(random)
    cdef uint32_t group
    cdef int place
    if PyBytes_GET_SIZE(random) != ID_BYTES:
        raise ValueError(f"an id stands for {ID_BYTES} bytes, not {len(random)}")
    for place in range(0, 32, 4):
        group = <uint32_t>byte[0] << 16 | <uint32_t>byte[1] << 8 | byte[2]
        text[place] = ID_CHARACTERS[group >> 18]
        text[place + 1] = ID_CHARACTERS[group >> 12 & 63]
        text[place + 2] = ID_CHARACTERS[group >> 6 & 63]
        text[place + 3] = ID_CHARACTERS[group & 63]
        byte += 3
    return PyUnicode_DecodeASCII(text, 32, NULL)


def new_id():
    """A new id: one call of the kernel's generator an id, no pool that a fork could duplicate (SID-01)."""
    return id_from(os.urandom(ID_BYTES))


cdef inline const char *id_text(object id, size_t *length) noexcept:
    """The characters of what should be an id. What cannot be one is the empty text: counted, never hashed (SID-07)."""
    if PyUnicode_Check(id) and PyUnicode_IS_ASCII(id):
        length[0] = PyUnicode_GET_LENGTH(id)
        return <const char *>PyUnicode_DATA(id)
    if PyBytes_CheckExact(id):
        length[0] = PyBytes_GET_SIZE(id)
        return PyBytes_AS_STRING(id)
    length[0] = 0
    return b""


cdef inline bint is_blank(char octet) noexcept:
    return octet == 32 or octet == 9


cdef inline bint is_id(const char *text) noexcept:
    """Whether 32 characters are of the alphabet of ids."""
    cdef int place
    cdef char octet
    for place in range(32):
        octet = text[place]
        if not (97 <= (octet | 32) <= 122 or 48 <= octet <= 57 or octet == 45 or octet == 95):
            return False
    return True


def find_id(pairs, str name not None, tuple answers not None, /):
    """The one id that is the value of `name` in a list of pairs `name=value`, separated by `;`. The rules are those of
    sessile.web.cookies; each octet is looked at a fixed number of times, whatever they are.

    Args:
        pairs: bytes, or str of Latin-1 characters; other characters count as one octet that belongs to no id.
        name: with its `=`; ASCII, without blanks and `;`.
        answers: what to give where there is none, one that is no id, more than one, more octets or pairs than the limits.
    """
    cdef Py_ssize_t length, name_length
    cdef const char *at
    cdef const char *end
    cdef const char *stop
    cdef const char *value = NULL
    cdef const char *value_end = NULL
    cdef const char *wanted = PyUnicode_AsUTF8AndSize(name, &name_length)
    cdef int count = 0
    cdef bint several = False
    if PyUnicode_Check(pairs) and PyUnicode_KIND(pairs) != 1:
        pairs = pairs.encode("latin-1", "replace")
    if PyUnicode_Check(pairs):
        at, length = <const char *>PyUnicode_DATA(pairs), PyUnicode_GET_LENGTH(pairs)
    elif PyBytes_Check(pairs):
        at, length = PyBytes_AS_STRING(pairs), PyBytes_GET_SIZE(pairs)
    else:
        raise TypeError(f"pairs must be str or bytes, not {type(pairs).__name__}")
    if length > PAIRS_SIZE:
        return answers[3]
    end = at + length
    while True:
        stop = <const char *>memchr(at, 59, end - at)
        if stop == NULL:
            stop = end
        count += 1
        if count > PAIRS_MOST:
            return answers[3]
        while at < stop and is_blank(at[0]):
            at += 1
        if stop - at >= name_length and memcmp(at, wanted, name_length) == 0:
            if value != NULL:
                several = True
            value, value_end = at + name_length, stop
        if stop == end:
            break
        at = stop + 1
    if value == NULL:
        return answers[0]
    if several:
        return answers[2]
    while value_end > value and is_blank((value_end - 1)[0]):
        value_end -= 1
    if value_end - value != 32 or not is_id(value):
        return answers[1]
    return PyUnicode_DecodeASCII(value, 32, NULL)


cdef object text_of(const uint8_t *data, Py_ssize_t length):
    """Text from the table. It was UTF-8 when it was stored; damage must show, not raise."""
    return PyUnicode_DecodeUTF8(<const char *>data, length, "backslashreplace")


# ---------------------------------------------------------------------------------------------------------------------
# Memory that C writes to

cdef struct Block:
    uint8_t *bytes
    size_t capacity
    uint8_t local[LOCAL_SIZE]


cdef inline void block_open(Block *block) noexcept:
    block.bytes = block.local
    block.capacity = LOCAL_SIZE


cdef inline void block_close(Block *block) noexcept:
    if block.bytes != block.local:
        PyMem_RawFree(block.bytes)


cdef int block_grow(Block *block, size_t capacity) except -1:
    """Make room anew; what was in it is gone."""
    cdef uint8_t *bytes = <uint8_t *>PyMem_RawMalloc(capacity)
    if bytes == NULL:
        raise MemoryError()
    block_close(block)
    block.bytes = bytes
    block.capacity = capacity
    return 0


@cython.final
cdef class Sink:
    """Where C reports the sessions that ended in a call, with their last fields. Only a store with `on_event` has any."""

    cdef sessile_sink sink

    def __cinit__(self, size_t capacity):
        self.sink.buffer = <uint8_t *>PyMem_RawMalloc(capacity)
        if self.sink.buffer == NULL:
            raise MemoryError()
        self.sink.capacity = capacity
        self.sink.used = 0

    def __dealloc__(self):
        PyMem_RawFree(self.sink.buffer)

    cdef list take(self):
        """What was reported, as (reason, handle, owner, fields, milliseconds); the sink is empty again."""
        cdef list reports = []
        cdef size_t place = 0
        cdef const sessile_report *report
        cdef const uint8_t *rest
        while place < self.sink.used:
            report = <const sessile_report *>(self.sink.buffer + place)
            rest = <const uint8_t *>(report + 1)
            reports.append((
                report.reason,
                report.handle,
                text_of(rest, report.owner_length) if report.owner_length else None,
                None if report.cut else PyBytes_FromStringAndSize(<const char *>rest + report.owner_length,
                                                                  report.fields_length),
                report.at_ms,
            ))
            place += report.size
        self.sink.used = 0
        return reports


cdef inline sessile_sink *sink_of(Sink sink) noexcept:
    return NULL if sink is None else &sink.sink


cdef struct Findings:
    char *text
    size_t used
    size_t capacity


cdef void add_finding(void *context, const char *finding) noexcept nogil:
    """Keep one line. C may hold a lock meanwhile, so nothing of Python is touched; without memory it is left out."""
    cdef Findings *findings = <Findings *>context
    cdef size_t length = strlen(finding) + 1
    cdef char *text
    if findings.used + length > findings.capacity:
        text = <char *>PyMem_RawRealloc(findings.text, 2 * findings.capacity + length)
        if text == NULL:
            return
        findings.text = text
        findings.capacity = 2 * findings.capacity + length
    memcpy(findings.text + findings.used, finding, length)
    findings.used += length


# ---------------------------------------------------------------------------------------------------------------------
# Record

cdef object UNREAD = object()


class Removed:
    """In the place of a value: the field was removed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "REMOVED"


REMOVED = Removed()
cdef object removed = REMOVED

cdef inline bint is_plain(object value) noexcept:
    """Cannot change, and cheap to decode again: not worth a place among the values that were read."""
    kind = type(value)
    return kind is str or kind is int or value is None or kind is bool or kind is float or kind is bytes


cdef class Record:
    """A private copy of one record, and what was written to it since: the hot half of a Session.

    `values` maps names to values that were read and may have been changed in place since, or were assigned; REMOVED
    stands for a field that was removed. What is not in it is as in `fields`, the stored ones; or absent, when they are
    `hidden` because the session was cleared.
    """

    cdef Table table
    cdef sessile_session facts      # all zeroes before the session is stored
    cdef object id_                 # str, or None
    cdef object owner_              # str, or None
    cdef object device_             # bytes, or None
    cdef bytes fields_
    cdef dict values_               # None: empty
    cdef set written_               # names in `values` that were assigned or removed; None: empty
    cdef dict pinned_               # names in `values` with the bytes that they were read from, where another has
                                    # changed the stored field since; None: empty
    cdef int64_t idle_ms            # timeouts for when the session is first stored
    cdef int64_t absolute_ms
    cdef int state_
    cdef bint hidden_
    cdef bint loaded_
    cdef bint touches_
    cdef bint untouched_            # `context_` is to make it ready before the first use, whatever that is
    cdef object context_            # of the request; None for a session of no request
    cdef object __weakref__

    def __cinit__(self):
        self.fields_ = EMPTY
        self.touches_ = True

    # ---- the first use: the session of a request is looked up no earlier ----

    cdef inline int use(self) except -1:
        if self.untouched_:
            self.first_use()
        return 0

    cdef int first_use(self) except -1:
        self.untouched_ = False
        try:
            self.context_._look_up(self)
        except BaseException:
            self.untouched_ = True
            raise
        return 0

    @property
    def _untouched(self):
        """Whether it was not used yet. Asking is no use."""
        return self.untouched_

    @property
    def _context(self):
        """What `Table._of_request` was given. Asking is no use."""
        return self.context_

    # ---- fields ----

    def __getitem__(self, name):
        value = self.find_value(name)
        if value is UNREAD:
            raise KeyError(name)
        return value

    def get(self, name, default=None):
        """The value of the field `name`, or `default` when there is none."""
        value = self.find_value(name)
        return default if value is UNREAD else value

    cdef object find_value(self, object name):
        """The value of a field; UNREAD: there is none."""
        cdef dict values
        cdef bytes fields
        self.use()
        with cython.critical_section(self):
            values = self.values_
            fields = EMPTY if self.hidden_ else self.fields_
        if values is not None:
            value = values.get(name, UNREAD)
            if value is removed:
                return UNREAD
            if value is not UNREAD:
                return value
        value = field_value(fields, name, UNREAD)
        if value is not UNREAD and not is_plain(value):
            self.keep(name, value)
        return value

    def __contains__(self, name):
        cdef dict values
        cdef bytes fields
        self.use()
        with cython.critical_section(self):
            values = self.values_
            fields = EMPTY if self.hidden_ else self.fields_
        if values is not None:
            value = values.get(name, UNREAD)
            if value is not UNREAD:
                return value is not removed
        return field_encoded(fields, name) is not None

    def __setitem__(self, name, value):
        if type(name) is not str:
            raise TypeError(f"the name of a field must be str, not {type(name).__name__}")
        self.write(name, value)

    def __delitem__(self, name):
        self._write()
        if name not in self:
            raise KeyError(name)
        self.write(name, removed)

    cdef int write(self, object name, object value) except -1:
        self.permit()
        with cython.critical_section(self):
            if self.values_ is None:
                self.values_ = {}
            if self.written_ is None:
                self.written_ = set()
            self.values_[name] = value
            self.written_.add(name)
        return 0

    cdef int permit(self) except -1:
        """As `_write`, but where there is no request asked at once; a request may refuse."""
        if self.context_ is None:
            self.require_writable()
        else:
            self._write()
        return 0

    cdef int keep(self, object name, object value) except -1:
        """Remember a value that may be changed in place."""
        with cython.critical_section(self):
            if self.values_ is None:
                self.values_ = {}
            self.values_[name] = value
        return 0

    def _write(self):
        """Called before each change of any kind; a session that ended cannot be changed."""
        self.require_writable()

    cdef inline int require_writable(self) except -1:
        cdef bint ended
        self.use()
        with cython.critical_section(self):
            ended = self.state_ == STATE_ENDED
        if ended:
            raise SessionGone(handle=self.handle)
        return 0

    def _view(self):
        """The values by name, as a copy; None: there are none."""
        with cython.critical_section(self):
            return None if self.values_ is None else self.values_.copy()

    def _changes(self):
        """What is to be stored: encoded values by name, and removed names. None: nothing."""
        return self.changes()

    cdef tuple changes(self):
        cdef dict changed
        cdef list gone
        cdef dict values = None
        with cython.critical_section(self):
            if self.values_ is not None:
                values = self.values_.copy()
            written = self.written_
            pinned = self.pinned_
            fields = self.fields_
        changed, gone = {}, []
        if values is not None:
            for name, value in values.items():
                if value is removed:
                    gone.append(name)
                    continue
                encoded = self.encoded(name, value)
                if written is None or name not in written:
                    if encoded == base_of(pinned, name, fields):
                        continue
                changed[name] = encoded
        if changed or gone or self.hidden_:
            return changed, gone
        return None

    cdef object encoded(self, object name, object value):
        try:
            return encoded_field(name, value)
        except TypeError:
            other = self._convert(value)
            if other is NotImplemented:
                raise
        return encoded_field(name, other)

    def _encoded(self, name, value):
        """A field's value as it is stored."""
        return self.encoded(name, value)

    def _convert(self, value):
        """What is stored in the place of a value that cannot be; NotImplemented: nothing."""
        return NotImplemented

    def _save_at_once(self):
        """Save as if nobody else changed the session meanwhile, which is nearly always so. Whether it wrote, or None:
        somebody did, or there is more to it; then nothing was done."""
        cdef bytes fields, stored
        cdef tuple changes = None
        cdef PyObject *name = NULL
        cdef PyObject *value = NULL
        cdef Py_ssize_t cursor = 0
        cdef bint alone
        written = None
        self.use()
        if self.state_ != STATE_STORED or self.hidden_:
            return None
        with cython.critical_section(self):
            if self.values_ is None:
                return False
            stored = self.fields_
            owner = self.owner_
            # One field was written and none is held beside it: what most saves are.
            alone = self.written_ is not None and len(self.values_) == 1 and self.pinned_ is None
            if alone and PyDict_Next(self.values_, &cursor, &name, &value):
                written, held = <object>name, <object>value
        if written is None or held is removed:
            alone = False
        if alone:
            try:
                fields = with_field(stored, written, held)
            except TypeError:
                alone = False               # there may be something that can be stored in its place
        if not alone:
            changes = self.changes()
            if changes is None:
                return False
            fields = merged_fields(stored, (<dict>changes[0]).copy(), frozenset(changes[1]) if changes[1] else NOTHING)
        if fields == stored or (not fields and owner is None) or <size_t>len(fields) > self.table.fields_most:
            return None
        if not self.update(self, fields, SESSILE_KEEP, SESSILE_KEEP, self.touches_):
            return None
        if alone and is_plain(held):
            self._drop(written)
        elif not alone:
            self.absorb(None, changes[0], changes[1])
        self.settle()
        return True

    def _anew_at_once(self, owner, /):
        """For None `rotate()`, else `login(owner)` of what is not `owner`'s, where nobody listens or changed the session.
        False: it is not so; nothing was done."""
        cdef Table table = self.table
        cdef bytes fields
        cdef bint plain
        cdef int how = SESSILE_ROTATE
        cdef int64_t timeout = SESSILE_KEEP
        self.permit()
        with cython.critical_section(self):
            plain = self.state_ == STATE_STORED and not table.reporting
            before, device, fields = self.owner_, self.device_, self.fields_
        if not plain:
            return False
        if owner is None:
            owner = before
        else:
            if (type(owner) is not str or not PyUnicode_IS_ASCII(owner)
                    or not 0 < PyUnicode_GET_LENGTH(owner) <= SESSILE_OWNER_MAX or owner == before):
                return False
            if self.values_ is not None:
                self.changes()          # what cannot be stored is refused, though it would go
            how, timeout, device, fields = SESSILE_LOGIN, SESSILE_DEFAULT, None, EMPTY
        if self.rotate(self, how, id_from(os.urandom(ID_BYTES)), None, owner, device, fields, timeout, timeout):
            return False
        if how == SESSILE_LOGIN:
            self.discard(False)
        if table.path is not None and self.facts.now_ms >= table.look_ms:
            table.look_ms = self.facts.now_ms + LOOK_MS
            table._look_for_file()
        return True

    def _absorb(self, before, changed, gone, /):
        """Bring the values in line with stored fields that are new here.

        Args:
            before: the stored fields as they were here; None when nobody else changed any.
            changed, gone: names whose values here are the stored ones now.
        """
        self.absorb(before, changed, gone)

    cdef int absorb(self, object before, object changed, object gone) except -1:
        cdef dict values
        with cython.critical_section(self):
            if self.values_ is None:
                return 0
            values = self.values_
            for name, value in values.copy().items():
                if name in changed or name in gone:
                    if self.written_ is not None:
                        self.written_.discard(name)
                    if self.pinned_ is not None:
                        self.pinned_.pop(name, None)
                    if value is removed or is_plain(value):
                        values.pop(name, None)
                elif before is not None and (self.written_ is None or name not in self.written_):
                    base = base_of(self.pinned_, name, before)
                    if base is not None and base != field_encoded(self.fields_, name):
                        if self.pinned_ is None:
                            self.pinned_ = {}
                        self.pinned_[name] = base
        return 0

    def _drop(self, name, /):
        """Forget a value, whatever was done to it."""
        with cython.critical_section(self):
            if self.values_ is not None:
                self.values_.pop(name, None)
            if self.written_ is not None:
                self.written_.discard(name)
            if self.pinned_ is not None:
                self.pinned_.pop(name, None)

    def _settle(self):
        """Everything that was written is stored."""
        self.settle()

    cdef int settle(self) except -1:
        with cython.critical_section(self):
            self.written_ = None
            self.hidden_ = False
            if self.values_ is not None and not self.values_:
                self.values_ = None
        return 0

    def _discard(self, *, bint hidden):
        """Drop every value and change that is not stored; `hidden`: the stored fields are to go, too."""
        self.discard(hidden)

    cdef int discard(self, bint hidden) except -1:
        with cython.critical_section(self):
            self.values_ = None
            self.written_ = None
            self.pinned_ = None
            self.hidden_ = hidden
        return 0

    # ---- what the Session keeps here ----

    @property
    def id(self):
        self.use()
        with cython.critical_section(self):
            return self.id_

    @property
    def owner(self):
        self.use()
        with cython.critical_section(self):
            return self.owner_

    @property
    def handle(self):
        self.use()
        cdef uint64_t handle = self.facts.handle
        return "%016x" % handle if handle else None

    @property
    def is_new(self):
        self.use()
        return not self.loaded_

    @property
    def _store(self):
        return self.table

    @property
    def _state(self):
        self.use()
        return self.state_

    @property
    def _flags(self):
        self.use()
        return self.facts.flags

    @property
    def _device(self):
        self.use()
        with cython.critical_section(self):
            return self.device_

    @property
    def _fields(self):
        self.use()
        with cython.critical_section(self):
            return self.fields_

    @property
    def _hidden(self):
        self.use()
        return self.hidden_

    @property
    def _touches(self):
        return self.touches_

    @property
    def _times(self):
        """created, authenticated (0: never), last used, nearer deadline: milliseconds of the table's clock."""
        self.use()
        cdef int64_t deadline = min(self.facts.idle_deadline_ms, self.facts.absolute_deadline_ms)
        return self.facts.created_ms, self.facts.authenticated_ms, self.facts.last_used_ms, deadline

    @property
    def _digest(self):
        """The digest of its id, and how often its id changed: what a journal calls the session by."""
        self.use()
        return PyBytes_FromStringAndSize(<const char *>self.facts.digest, SESSILE_DIGEST_SIZE), self.facts.rotations

    @property
    def _absolute_ms(self):
        """The absolute deadline in milliseconds of the table's clock."""
        self.use()
        return self.facts.absolute_deadline_ms

    @property
    def _issued_ms(self):
        self.use()
        return self.facts.issued_ms

    @property
    def _timeouts(self):
        """Idle and absolute timeout in milliseconds for when the session is first stored."""
        return self.idle_ms, self.absolute_ms

    @_timeouts.setter
    def _timeouts(self, given):
        self.idle_ms, self.absolute_ms = given

    def _forget(self, *, bint ended):
        """Become empty: ended, with id and handle still to be read; or a new session that is not stored."""
        with cython.critical_section(self):
            self.owner_ = None
            self.device_ = None
            self.fields_ = EMPTY
            self.values_ = None
            self.written_ = None
            self.pinned_ = None
            self.hidden_ = False
            if ended:
                self.state_ = STATE_ENDED
            else:
                self.state_ = STATE_UNSTORED
                self.id_ = None
                self.loaded_ = False
                self.idle_ms = self.absolute_ms = SESSILE_DEFAULT
                memset(&self.facts, 0, sizeof(sessile_session))

    def _adopt(self, Record stored not None, /):
        """Take over facts and fields of a fresh copy of the same session; values stay."""
        cdef sessile_session facts
        with cython.critical_section(stored):
            facts = stored.facts
            id, owner, device, fields = stored.id_, stored.owner_, stored.device_, stored.fields_
        with cython.critical_section(self):
            self.facts = facts
            self.owner_ = owner
            self.device_ = device
            self.fields_ = fields
            if id is not None:
                self.id_ = id

    cdef int fill(self, sessile_session *facts, object id, object owner, object device, object fields) except -1:
        """Take over what was stored. `id` None: the one that it has."""
        with cython.critical_section(self):
            self.facts = facts[0]
            self.owner_ = owner
            self.device_ = device
            self.fields_ = fields
            self.state_ = STATE_STORED
            if id is not None:
                self.id_ = id
        return 0

    # ---- the table's operations on one session ----

    cdef object refer(self, sessile_reference *reference, uint32_t *version):
        """Name the stored session. The result owns the owner's bytes and must outlive the reference."""
        cdef Py_ssize_t length = 0
        with cython.critical_section(self):
            memcpy(reference.digest, self.facts.digest, SESSILE_DIGEST_SIZE)
            reference.handle = self.facts.handle
            reference.rotates = self.facts.rotates
            version[0] = self.facts.version
            owner = self.owner_
        reference.owner = NULL
        if owner is not None:
            reference.owner = <const uint8_t *>PyUnicode_AsUTF8AndSize(owner, &length)
        reference.owner_length = <uint32_t>length
        return owner

    def _create(self, str id not None, owner, device, bytes fields not None, int64_t idle_ms, int64_t absolute_ms, /):
        """Store this as a new session. False: the id is in use or retired, take another."""
        cdef Table table = self.table
        cdef sessile_content content
        cdef sessile_session facts
        cdef sessile_call call
        cdef Py_ssize_t length
        cdef const char *text = PyUnicode_AsUTF8AndSize(id, &length)
        cdef sessile_status status
        cdef sessile *opened
        fill_content(&content, owner, device, fields, idle_ms, absolute_ms)
        sink = table.take_sink()
        call.sink = sink_of(sink)
        call.wait_ms = 0
        table.require_open()
        status = sessile_create(table.table, &call, text, &content, &facts)
        if status == SESSILE_WOULD_BLOCK:
            call.wait_ms = table.wait_ms
            opened = table.enter()
            with nogil:
                status = sessile_create(opened, &call, text, &content, &facts)
            table.leave()
        if status == SESSILE_OK:
            self.fill(&facts, id, owner, device, fields)
        table.give_back(sink)
        if status != SESSILE_OK and status != SESSILE_EXISTS:
            table.fail(status, self)
        return status == SESSILE_OK

    def _update(self, Record at not None, bytes fields not None, int64_t idle_ms, int64_t absolute_ms, bint touch, /):
        """Store `fields` if the session is still at the version of `at`, a copy of it. False: it is not."""
        return self.update(at, fields, idle_ms, absolute_ms, touch)

    cdef bint update(self, Record at, bytes fields, int64_t idle_ms, int64_t absolute_ms, bint touch) except -1:
        cdef Table table = self.table
        cdef sessile_content content
        cdef sessile_reference reference
        cdef sessile_session facts
        cdef sessile_call call
        cdef unsigned flags = SESSILE_TOUCH if touch else 0
        cdef uint32_t version = 0
        cdef sessile_status status
        cdef sessile *opened
        fill_content(&content, None, None, fields, idle_ms, absolute_ms)
        owner = at.refer(&reference, &version)
        with cython.critical_section(at):
            device, id = at.device_, at.id_
        sink = table.take_sink()
        call.sink = sink_of(sink)
        call.wait_ms = 0
        table.require_open()
        status = sessile_update(table.table, &call, &reference, version, flags, &content, &facts)
        if status == SESSILE_WOULD_BLOCK:
            call.wait_ms = table.wait_ms
            opened = table.enter()
            with nogil:
                status = sessile_update(opened, &call, &reference, version, flags, &content, &facts)
            table.leave()
        if status == SESSILE_OK:
            if facts.flags & SESSILE_FORWARDED:
                id = table.forwarded_id(&facts) or id
            self.fill(&facts, id, owner, device, fields)
        table.give_back(sink)
        if status != SESSILE_OK and status != SESSILE_CHANGED:
            self.refuse(status)
        return status == SESSILE_OK

    def _rotate(self, Record at not None, int how, str id not None, nonce, owner, device, bytes fields,
                int64_t idle_ms, int64_t absolute_ms, /):
        """Give the session a new id, if it is still at the version of `at`. OK, CHANGED or EXISTS.

        With RENEW `fields`, owner and device are not looked at: they stay.
        """
        return self.rotate(at, how, id, nonce, owner, device, fields, idle_ms, absolute_ms)

    cdef int rotate(self, Record at, int how, object id, object nonce, object owner, object device, bytes fields,
                    int64_t idle_ms, int64_t absolute_ms) except -1:
        cdef Table table = self.table
        cdef sessile_content content
        cdef sessile_content *given = NULL
        cdef sessile_reference reference
        cdef sessile_session facts
        cdef sessile_call call
        cdef uint32_t version = 0
        cdef Py_ssize_t length
        cdef const char *text = PyUnicode_AsUTF8AndSize(id, &length)
        cdef const uint8_t *random = NULL
        cdef sessile_status status
        cdef sessile *opened
        held = at.refer(&reference, &version)
        if how == SESSILE_RENEW:
            owner, device, fields = held, at._device, at._fields
            random = <const uint8_t *>PyBytes_AS_STRING(nonce)
        else:
            fill_content(&content, owner, device, fields, idle_ms, absolute_ms)
            given = &content
        sink = table.take_sink()
        call.sink = sink_of(sink)
        call.wait_ms = table.wait_ms
        opened = table.enter()
        with nogil:
            status = sessile_rotate(opened, &call, &reference, version, <sessile_rotation>how, text, random, given,
                                    &facts)
        table.leave()
        if status == SESSILE_OK:
            self.fill(&facts, id, owner, device, fields)
        table.give_back(sink)
        if status != SESSILE_OK and status != SESSILE_CHANGED and status != SESSILE_EXISTS:
            self.refuse(status)
        return <int>status

    def _remove(self, int reason, Record at=None, /):
        """End the session. False: it had ended already; with `at`: its version is no longer the one of that copy."""
        cdef Table table = self.table
        cdef sessile_reference reference
        cdef sessile_call call
        cdef uint32_t version = 0
        cdef bint versioned
        cdef sessile_status status
        cdef sessile *opened
        held = (self if at is None else at).refer(&reference, &version)
        sink = table.take_sink()
        call.sink = sink_of(sink)
        call.wait_ms = 0
        table.require_open()
        status = remove_once(table.table, &call, &reference, at is not None, version, <sessile_reason>reason)
        if status == SESSILE_WOULD_BLOCK:
            call.wait_ms = table.wait_ms
            versioned = at is not None
            opened = table.enter()
            with nogil:
                status = remove_once(opened, &call, &reference, versioned, version, <sessile_reason>reason)
            table.leave()
        table.give_back(sink)
        if status == SESSILE_GONE and at is not None:
            self.refuse(status)
        if status != SESSILE_OK and status != SESSILE_GONE and status != SESSILE_CHANGED:
            table.fail(status, self)
        return status == SESSILE_OK

    def _reread(self, *, bint touch=False):
        """A fresh copy of the stored session, renewals followed; its id is None unless it is a new one. None: it ended."""
        cdef Table table = self.table
        cdef sessile_reference reference
        cdef sessile_session facts
        cdef Block block
        cdef uint32_t version = 0
        cdef Record fresh = None
        cdef int status
        held = self.refer(&reference, &version)
        block_open(&block)
        try:
            status = table.find(NULL, 0, &reference, SESSILE_TOUCH if touch else 0, &facts, &block)
            if status == SESSILE_OK:
                fresh = Record.__new__(Record)
                fresh.table = table
                fresh.take(&facts, table.forwarded_id(&facts), block.bytes)
            elif status == SESSILE_EXPIRED:
                table.collect(facts.digest)
            elif status != SESSILE_GONE and status != SESSILE_DAMAGED:
                table.fail(status, self)
        finally:
            block_close(&block)
        return fresh

    def _probe(self):
        """Whether the session is alive. Renews nothing and copies nothing."""
        cdef Table table = self.table
        cdef sessile_reference reference
        cdef sessile_session facts
        cdef uint32_t version = 0
        cdef int status
        held = self.refer(&reference, &version)
        status = table.find(NULL, 0, &reference, 0, &facts, NULL)
        if status == SESSILE_EXPIRED:
            table.collect(facts.digest)
        elif status != SESSILE_OK and status != SESSILE_GONE and status != SESSILE_DAMAGED:
            table.fail(status, self)
        return status == SESSILE_OK

    cdef inline int take(self, sessile_session *facts, object id, const uint8_t *data) except -1:
        """Fill a new record from what C copied out: owner, device, fields, without gaps."""
        self.facts = facts[0]
        self.id_ = id
        self.state_ = STATE_STORED
        if facts.owner_length:
            self.owner_ = text_of(data, facts.owner_length)
            data += facts.owner_length
        if facts.device_length:
            self.device_ = PyBytes_FromStringAndSize(<const char *>data, facts.device_length)
            data += facts.device_length
        if facts.fields_length:
            self.fields_ = PyBytes_FromStringAndSize(<const char *>data, facts.fields_length)
        return 0

    cdef int refuse(self, int status) except -1:
        """Raise what `status` means; a session that turned out to have ended is ended here too."""
        cdef sessile_session facts = self.facts
        if status == SESSILE_GONE or status == SESSILE_EXPIRED or status == SESSILE_DAMAGED:
            self._forget(ended=True)
        if status == SESSILE_EXPIRED:
            self.table.collect(facts.digest)
        self.table.fail(status, self)
        return -1


cdef tuple no_arguments = ()


cdef inline Record new_record(object record_type):
    """What `Record.__new__(record_type)` does for a subclass of Record, without the look-up of `__new__` and the wrapper
    around it."""
    return <Record?>(<PyTypeObject *>record_type).tp_new(<type>record_type, <PyObject *>no_arguments, NULL)


cdef object base_of(dict pinned, object name, bytes fields):
    """The bytes that a value was read from; None: it was not read."""
    if pinned is not None:
        base = pinned.get(name)
        if base is not None:
            return base
    return field_encoded(fields, name)


cdef int fill_content(sessile_content *content, object owner, object device, bytes fields, int64_t idle_ms,
                      int64_t absolute_ms) except -1:
    """Point at the parts of a session; the caller holds them."""
    cdef Py_ssize_t length = 0
    memset(content, 0, sizeof(sessile_content))
    if owner is not None:
        content.owner = <const uint8_t *>PyUnicode_AsUTF8AndSize(owner, &length)
        content.owner_length = <uint32_t>length
    if device is not None:
        content.device = <const uint8_t *>PyBytes_AS_STRING(device)
        content.device_length = <uint32_t>PyBytes_GET_SIZE(device)
    content.fields = <const uint8_t *>PyBytes_AS_STRING(fields)
    content.fields_length = <uint32_t>PyBytes_GET_SIZE(fields)
    content.idle_ms = idle_ms
    content.absolute_ms = absolute_ms
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# Table

cdef class Table:
    """The open table. A Store extends it; what begins with an underscore is between the two."""

    cdef sessile *table             # NULL: never opened, or torn down
    cdef int closed                 # read and written by flag_read and flag_write
    cdef int inside                 # calls in progress that released the interpreter lock
    cdef int64_t wait_ms
    cdef double busy_timeout
    cdef bint reporting
    cdef int64_t look_ms            # see LOOK_MS; 0: never looked
    cdef size_t fields_most         # bytes of a session's fields
    cdef size_t sink_size
    cdef unsigned key_count
    cdef list sinks                 # free ones; the ends of a list are taken and given back in one step
    cdef object record_type         # a subclass of Record
    cdef object path
    cdef object __weakref__

    def __cinit__(self):
        self.closed = 1
        self.sinks = []

    def __dealloc__(self):
        sessile_close(self.table)

    def _open(self, *, record_type, path, bint must_exist, uint64_t capacity, uint64_t memory,
              double anonymous_share, keys, policy, double busy_timeout, bint reporting):
        """Make or attach to a table.

        Args:
            record_type: what `load` makes; a subclass of Record.
            path: str, or None for a table of this process and the children that it forks.
            keys: list of keys of ids, 64 bytes each; the first makes new ids.
            policy: idle and absolute timeout of owned sessions, then of anonymous ones, in milliseconds; the cap of
                sessions an owner (0: none); bytes of a session's fields at most.
            busy_timeout: seconds to wait for a lock.
            reporting: whether `_reported` wants to know which sessions ended.
        """
        cdef sessile_options options
        cdef sessile_problem problem
        cdef sessile *table = NULL
        cdef sessile_status status
        cdef bytes joined = b"".join(keys)
        if not issubclass(record_type, Record) or self.table != NULL:
            raise TypeError("a table is opened once, for a subclass of Record")
        name = None if path is None else os.fsencode(path)
        memset(&options, 0, sizeof(options))
        memset(&problem, 0, sizeof(problem))
        options.path = NULL if name is None else PyBytes_AS_STRING(name)
        options.must_exist = must_exist
        options.capacity = capacity
        options.memory = memory
        options.anonymous_share = anonymous_share
        options.keys = <sessile_keys>PyBytes_AS_STRING(joined)
        options.key_count = <unsigned>(PyBytes_GET_SIZE(joined) // SESSILE_KEY_SIZE)
        fill_policy(&options.policy, policy)
        with nogil:
            status = sessile_open(&options, &table, &problem)
        if status != SESSILE_OK:
            self.path = path
            error = error_of(status, None, self, &problem)
            if isinstance(error, OSError) and problem.error:
                error.errno = problem.error
            raise error
        self.path = path
        self.record_type = record_type
        self.busy_timeout = busy_timeout
        self.wait_ms = max(<int64_t>1, <int64_t>(busy_timeout * 1000))
        self.reporting = reporting
        self.key_count = options.key_count
        self.fields_most = options.policy.fields_max
        self.sink_size = options.policy.fields_max + 16384
        self.table = table
        flag_write(&self.closed, 0)

    # ---- the life of the table; see the top of this file ----

    cdef inline int require_open(self) except -1:
        if flag_read(&self.closed):
            raise StoreClosed()
        return 0

    cdef inline sessile *enter(self) except NULL:
        """Before the interpreter lock is released."""
        self.require_open()
        if not FREE_THREADED:
            self.inside += 1
        return self.table

    cdef inline int leave(self) except -1:
        """After it was taken again. The table may be gone from here on."""
        if not FREE_THREADED:
            self.inside -= 1
            if self.inside == 0 and flag_read(&self.closed):
                self.tear_down()
        return 0

    cdef int tear_down(self) except -1:
        cdef sessile *table = self.table
        self.table = NULL
        with nogil:
            sessile_close(table)
        return 0

    def close(self):
        """Give up the table. Every later use of the store or of its sessions raises StoreClosed; a second close is fine.

        A table without a path is gone with the last process that uses it. Calls of other threads that are in progress
        end as they would have.
        """
        if flag_read(&self.closed):
            return
        flag_write(&self.closed, 1)
        if not FREE_THREADED and self.inside == 0:
            self.tear_down()

    @property
    def _closed(self):
        return bool(flag_read(&self.closed))

    # ---- failures and reports ----

    cdef int fail(self, int status, Record record) except -1:
        """Raise what `status` means."""
        cdef sessile_problem problem
        memset(&problem, 0, sizeof(problem))
        if not flag_read(&self.closed):
            problem = c_problem(self.table)
            if status == SESSILE_FULL or status == SESSILE_NO_MEMORY:
                self._refused_full(None if record is None else record.handle)
        raise error_of(status, record, self, &problem)

    cdef Sink take_sink(self):
        if not self.reporting:
            return None
        try:
            return self.sinks.pop()
        except IndexError:
            return Sink(self.sink_size)

    cdef int give_back(self, Sink sink) except -1:
        """After the operation, outside every lock: hand on what was reported."""
        cdef list reports
        if sink is None:
            return 0
        reports = sink.take()
        if len(self.sinks) < SINKS_KEPT:
            self.sinks.append(sink)
        if reports:
            self._reported(reports)
        return self.tell_repairs()

    cdef int tell_repairs(self) except -1:
        """Hand on what this process repaired since it was last asked."""
        cdef uint32_t recovered = 0
        cdef uint32_t quarantined = 0
        if not flag_read(&self.closed):
            sessile_repairs(self.table, &recovered, &quarantined)
        if recovered or quarantined:
            self._repaired(recovered, quarantined)
        return 0

    def _reported(self, reports, /):
        """Sessions ended: a list of (reason, handle, owner, fields or None, milliseconds). Must not raise."""
        raise NotImplementedError

    def _retired_presented(self, handle, theft, /):
        """A retired id was presented. Must not raise."""
        raise NotImplementedError

    def _repaired(self, recovered, quarantined, /):
        """So many shards were repaired, so many damaged records taken out. Must not raise."""
        raise NotImplementedError

    def _refused_full(self, handle, /):
        """There was no room, for the session with this handle or for a new one. Must not raise."""
        raise NotImplementedError

    def _followed(self, handle, digest, nonce, /):
        """Is called when an id that forwards was followed to the session's new one, which somebody will be told."""

    def _renewed_id(self, nonce, key_index, /):
        """The id that a renewal with this nonce gives under one of the keys."""
        raise NotImplementedError

    # ---- one session ----

    def load(self, id, *, bint touch=True):
        """The session with this id, or None: unknown, expired, malformed, retired.

        Takes well under a microsecond. An id that still forwards after a renewal gives the session; its `id` is then
        the new one. Presenting an id that a renewal retired, after its drain, is a sign of theft: the session that it
        led to ends, and the answer is None (LIF-10).

        Args:
            id: what the client sent; a str, or bytes. Anything else is malformed.
            touch: whether this is a use of the session, which renews its idle deadline. What is later saved through a
                session loaded with False does not renew it either.

        Raises:
            Busy: a lock stayed taken for longer than `busy_timeout`.
            AttachError: this process, forked from the one that opened the store, could not attach to the table.
            StoreClosed: the store was closed.
        """
        return self.look_up(id, touch, None)

    def _load_into(self, Record record not None, id, bint touch, /):
        """As `load`, into a session that is not stored; False: there is no such session, and it stays as it is."""
        return self.look_up(id, touch, record) is not None

    cdef Record look_up(self, object id, bint touch, Record record):
        """Load into `record`, or into a new one for None. The answer is None when there is no such session."""
        cdef sessile_session facts
        cdef Block block
        cdef size_t length = 0
        cdef const char *text = id_text(id, &length)
        cdef int status
        block_open(&block)
        facts.handle = 0
        status = self.find(text, length, NULL, SESSILE_PRESENT | SESSILE_TOUCH if touch else SESSILE_PRESENT, &facts,
                           &block)
        try:
            if status == SESSILE_OK:
                if record is None:
                    record = new_record(self.record_type)
                    record.table = self
                record.touches_ = touch
                record.loaded_ = True
                if not PyUnicode_CheckExact(id):
                    id = PyUnicode_DecodeASCII(text, length, NULL)
                if facts.flags & SESSILE_FORWARDED:
                    id = self.forwarded_id(&facts) or id
                record.take(&facts, id, block.bytes)
        finally:
            block_close(&block)
        if status == SESSILE_OK:
            return record
        if status != SESSILE_MISS:
            self.missed(status, &facts)
        return None

    cdef int missed(self, int status, sessile_session *facts) except -1:
        """What follows from an id that is no longer one."""
        if status == SESSILE_EXPIRED:
            self.collect(facts.digest)
        elif status == SESSILE_RETIRED:
            self._retired_presented(facts.handle, False)
        elif status == SESSILE_THEFT:
            self.end_theft(facts)
        elif status != SESSILE_DAMAGED:
            self.fail(status, None)
        return 0

    cdef int find(self, const char *id, size_t length, const sessile_reference *reference, unsigned flags,
                  sessile_session *facts, Block *block) except -1:
        """Load by id or read by reference, with a larger buffer or a wait where they are needed. Returns the status."""
        cdef sessile_call call
        cdef Sink sink = None
        cdef sessile_status status
        cdef sessile *opened
        call.wait_ms = 0
        call.sink = NULL
        self.require_open()
        status = find_once(self.table, &call, id, length, reference, flags, facts, block)
        while status == SESSILE_WOULD_BLOCK or status == SESSILE_BUFFER:
            if status == SESSILE_BUFFER:
                block_grow(block, <size_t>facts.owner_length + facts.device_length + facts.fields_length)
            sink = self.take_sink()
            call.sink = sink_of(sink)
            call.wait_ms = self.wait_ms
            opened = self.enter()
            with nogil:
                status = find_once(opened, &call, id, length, reference, flags, facts, block)
            self.leave()
            self.give_back(sink)
        if status == SESSILE_DAMAGED:
            self.tell_repairs()
        return status

    cdef object forwarded_id(self, const sessile_session *facts):
        """The id of the session after a renewal: the one derived from its nonce that has its digest.

        None: it was not renewed since, or too long ago, or with a secret that is not known here.
        """
        cdef uint8_t digest[32]
        cdef uint8_t difference
        cdef unsigned key
        cdef int place
        if not facts.flags & SESSILE_FORWARDED:
            return None
        nonce = PyBytes_FromStringAndSize(<const char *>facts.nonce, SESSILE_NONCE_SIZE)
        for key in range(self.key_count):
            id = self._renewed_id(nonce, key)
            self.require_open()
            if sessile_digest(self.table, key, PyUnicode_AsUTF8AndSize(id, NULL), SESSILE_ID_LENGTH, digest):
                difference = 0
                for place in range(32):
                    difference |= digest[place] ^ facts.digest[place]
                if difference == 0:
                    self._followed(facts.handle, PyBytes_FromStringAndSize(<const char *>facts.digest, 32), nonce)
                    return id
        return None

    cdef int collect(self, const uint8_t *digest) except -1:
        """End a session that is past a deadline, now that it was met. If its lock is taken somebody else will."""
        cdef sessile_call call
        cdef sessile_status status
        sink = self.take_sink()
        call.sink = sink_of(sink)
        call.wait_ms = 0
        self.require_open()
        status = sessile_collect(self.table, &call, digest)
        self.give_back(sink)
        if status == SESSILE_DETACHED:
            self.fail(status, None)
        return 0

    cdef int end_theft(self, const sessile_session *facts) except -1:
        """A retired id of an owned session was presented after its drain: end that session."""
        cdef sessile_call call
        cdef sessile_status status
        cdef uint64_t handle = 0
        cdef uint8_t digest[32]
        cdef sessile *opened
        memcpy(digest, facts.digest, SESSILE_DIGEST_SIZE)
        sink = self.take_sink()
        call.sink = sink_of(sink)
        call.wait_ms = self.wait_ms
        opened = self.enter()
        with nogil:
            status = sessile_end_theft(opened, &call, digest, &handle)
        self.leave()
        self.give_back(sink)
        if status != SESSILE_OK and status != SESSILE_GONE:
            self.fail(status, None)
        self._retired_presented(handle or facts.handle, True)
        return 0

    def _of_request(self, record_type, context, /):
        """A session of a request. Before it is first used `context._look_up(session)` is called, which makes it ready; if
        that raises, it is called again at the next use."""
        cdef Record record = new_record(record_type)
        record.table = self
        record.context_ = context
        record.untouched_ = True
        return record

    def _blank(self):
        """A session that is not stored."""
        cdef Record record = new_record(self.record_type)
        self.require_open()
        record.table = self
        return record

    # ---- owners and all ----

    def _list(self, owner, uint32_t shard, /):
        """An owner's sessions, or with None those of a shard: (handle, owner, device, created, last used, nearer
        deadline), the times in milliseconds."""
        cdef sessile_call call
        cdef sessile_status status
        cdef Py_ssize_t owner_length = 0
        cdef const uint8_t *text = NULL
        cdef uint64_t count = 0
        cdef size_t length = 0
        cdef size_t size = LIST_SIZE
        cdef uint8_t *buffer = NULL
        cdef sessile *opened
        if owner is not None:
            text = <const uint8_t *>PyUnicode_AsUTF8AndSize(owner, &owner_length)
        call.sink = NULL
        call.wait_ms = self.wait_ms
        try:
            while True:
                PyMem_RawFree(buffer)
                buffer = <uint8_t *>PyMem_RawMalloc(size)
                if buffer == NULL:
                    raise MemoryError()
                opened = self.enter()
                with nogil:
                    if text != NULL:
                        status = sessile_owner_list(opened, &call, text, <uint32_t>owner_length, buffer, size, &count,
                                                    &length)
                    else:
                        status = sessile_scan(opened, &call, shard, buffer, size, &count, &length)
                self.leave()
                if status == SESSILE_OK:
                    return listed(buffer, count)
                if status != SESSILE_BUFFER:
                    self.fail(status, None)
                # Others add meanwhile: a quarter more, so that this ends.
                size = length + length // 4
        finally:
            PyMem_RawFree(buffer)

    def _revoke(self, str owner not None, uint64_t keep, uint64_t only, /):
        """End an owner's sessions: but for the one with handle `keep`, or only the one with handle `only`; 0: none."""
        cdef sessile_call call
        cdef sessile_status status
        cdef Py_ssize_t length = 0
        cdef const uint8_t *text = <const uint8_t *>PyUnicode_AsUTF8AndSize(owner, &length)
        cdef uint64_t count = 0
        cdef sessile *opened
        self.require_open()
        sink = self.take_sink()
        call.sink = sink_of(sink)
        call.wait_ms = self.wait_ms
        opened = self.enter()
        with nogil:
            status = sessile_owner_revoke(opened, &call, text, <uint32_t>length, keep, only, &count)
        self.leave()
        self.give_back(sink)
        if status != SESSILE_OK:
            self.fail(status, None)
        return count

    def _revoke_all(self):
        cdef sessile_status status
        cdef uint64_t count = 0
        cdef sessile *opened = self.enter()
        with nogil:
            status = sessile_revoke_all(opened, &count)
        self.leave()
        if status != SESSILE_OK:
            self.fail(status, None)
        return count

    def _sweep(self, uint64_t budget, /):
        cdef sessile_call call
        cdef sessile_status status
        cdef uint64_t count = 0
        cdef sessile *opened
        self.require_open()
        sink = self.take_sink()
        call.sink = sink_of(sink)
        call.wait_ms = self.wait_ms
        opened = self.enter()
        with nogil:
            status = sessile_sweep(opened, &call, budget, &count)
        self.leave()
        self.give_back(sink)
        if status != SESSILE_OK:
            self.fail(status, None)
        return count

    def _check(self, bint repair, /):
        """Every broken invariant, a line each."""
        cdef sessile_call call
        cdef sessile_status status
        cdef Findings findings
        cdef uint64_t count = 0
        cdef sessile *opened
        memset(&findings, 0, sizeof(findings))
        self.require_open()
        sink = self.take_sink()
        call.sink = sink_of(sink)
        call.wait_ms = self.wait_ms
        opened = self.enter()
        with nogil:
            status = sessile_check(opened, &call, repair, add_finding, &findings, &count)
        self.leave()
        try:
            lines = PyBytes_FromStringAndSize(findings.text, findings.used).split(b"\0") if findings.used else [b""]
        finally:
            PyMem_RawFree(findings.text)
        self.give_back(sink)
        if status != SESSILE_OK:
            self.fail(status, None)
        lines.pop()
        return [line.decode("utf-8", "backslashreplace") for line in lines]

    # ---- facts, clock, policy ----

    def _stats(self):
        """The counters of `sessile.Stats` in its order, then the number of attached processes."""
        cdef sessile_stats stats
        self.require_open()
        c_stats(self.table, &stats)
        return (
            stats.sessions, stats.anonymous, stats.owned, stats.capacity, stats.memory_used, stats.memory,
            stats.loads, stats.misses, stats.malformed, stats.created, stats.expired, stats.evicted, stats.revoked,
            stats.full, stats.recoveries, stats.quarantined, stats.processes,
        )

    def _facts(self):
        """capacity, memory, shards, and whether this very process made the table."""
        cdef sessile_facts facts
        self.require_open()
        facts = c_facts(self.table)
        return facts.capacity, facts.memory, facts.shards, bool(facts.created_here)

    def _file_lost(self):
        """Whether the file of this table, which has a path, was removed or replaced, and nobody was told so yet."""
        self.require_open()
        return sessile_file_lost(self.table)

    def _now(self):
        """Milliseconds of the table's clock."""
        self.require_open()
        return sessile_now(self.table)

    def _advance(self, int64_t milliseconds, /):
        self.require_open()
        sessile_advance(self.table, milliseconds)

    # ---- images; what is in them is in csrc/export.c and import.c, what becomes of them in snapshot.py ----

    def _uuid(self):
        """16 bytes that no other table has."""
        cdef sessile_facts facts
        self.require_open()
        facts = c_facts(self.table)
        return PyBytes_FromStringAndSize(<const char *>facts.uuid, 16)

    def _export_marks(self):
        """A mark of four bytes for each shard: what is written later is newer."""
        cdef sessile_call call
        cdef sessile_status status
        cdef bytearray marks
        cdef uint32_t *place
        cdef sessile *opened
        self.require_open()
        marks = bytearray(4 * c_facts(self.table).shards)
        place = <uint32_t *>PyByteArray_AS_STRING(marks)
        call.sink = NULL
        call.wait_ms = self.wait_ms
        opened = self.enter()
        with nogil:
            status = sessile_export_marks(opened, &call, place)
        self.leave()
        if status != SESSILE_OK:
            self.fail(status, None)
        return bytes(marks)

    def _export_begin(self, uint32_t shard, uint32_t mark, int64_t since_ms, /):
        """What `_export` goes on with."""
        cdef sessile_export begin
        memset(&begin, 0, sizeof(begin))
        begin.shard, begin.mark, begin.since_ms = shard, mark, since_ms
        return bytearray(PyBytes_FromStringAndSize(<const char *>&begin, sizeof(begin)))

    def _export(self, bytearray state not None, bytearray buffer not None, bytearray notes not None, /):
        """Copy records of a shard into `buffer`, notes into `notes`: (done, epoch, records, bytes, notes). The three must
        not change their sizes meanwhile."""
        cdef sessile_call call
        cdef sessile_status status
        cdef sessile_export *export = <sessile_export *>PyByteArray_AS_STRING(state)
        cdef uint8_t *to = <uint8_t *>PyByteArray_AS_STRING(buffer)
        cdef size_t capacity = PyByteArray_GET_SIZE(buffer)
        cdef sessile_note *noted = <sessile_note *>PyByteArray_AS_STRING(notes)
        cdef uint32_t noted_most = <uint32_t>(PyByteArray_GET_SIZE(notes) // sizeof(sessile_note))
        cdef sessile *opened
        assert PyByteArray_GET_SIZE(state) == sizeof(sessile_export)
        call.sink = NULL
        call.wait_ms = self.wait_ms
        opened = self.enter()
        with nogil:
            status = c_export(opened, &call, export, to, capacity, noted, noted_most)
        self.leave()
        if status != SESSILE_OK:
            self.fail(status, None)
        return export.done, export.epoch, export.records, export.length, export.notes

    def _export_digest(self, bytes digest not None, bytearray buffer not None, /):
        """Copy one session, through its rotations: (epoch, records, bytes, note or b"")."""
        cdef sessile_call call
        cdef sessile_status status
        cdef sessile_note note
        cdef const uint8_t *wanted = <const uint8_t *>PyBytes_AS_STRING(digest)
        cdef uint8_t *to = <uint8_t *>PyByteArray_AS_STRING(buffer)
        cdef size_t capacity = PyByteArray_GET_SIZE(buffer)
        cdef size_t length = 0
        cdef uint32_t records = 0
        cdef uint32_t epoch = 0
        cdef sessile *opened
        assert PyBytes_GET_SIZE(digest) == SESSILE_DIGEST_SIZE
        call.sink = NULL
        call.wait_ms = self.wait_ms
        opened = self.enter()
        with nogil:
            status = sessile_export_digest(opened, &call, wanted, to, capacity, &length, &records, &epoch, &note)
        self.leave()
        if status != SESSILE_OK:
            self.fail(status, None)
        return epoch, records, length, PyBytes_FromStringAndSize(<const char *>&note, sizeof(note)) if note.kind else EMPTY

    def _import(self, image, bytes revoked not None, bytes newer not None, bytes superseded not None,
                bytes rekeys not None, bytes watched not None, bytearray seen not None, /):
        """Store the records of an image: (status, imported, forwarding, expired, revoked, superseded, impossible, known).

        The status is OK, DAMAGED (nothing was stored) or FULL. The rules are arrays as sessile.h has them.
        """
        cdef sessile_call call
        cdef sessile_status status
        cdef sessile_rules rules
        cdef sessile_import_counts counts
        cdef Py_buffer view
        cdef sessile *opened
        rules.revoked = <const uint64_t *>PyBytes_AS_STRING(revoked)
        rules.revoked_count = PyBytes_GET_SIZE(revoked) // 8
        rules.newer = <const sessile_note *>PyBytes_AS_STRING(newer)
        rules.newer_count = PyBytes_GET_SIZE(newer) // sizeof(sessile_note)
        rules.superseded = <sessile_digests>PyBytes_AS_STRING(superseded)
        rules.superseded_count = PyBytes_GET_SIZE(superseded) // SESSILE_DIGEST_SIZE
        rules.rekeys = <const sessile_rekey *>PyBytes_AS_STRING(rekeys)
        rules.rekey_count = PyBytes_GET_SIZE(rekeys) // sizeof(sessile_rekey)
        rules.watched = <const uint64_t *>PyBytes_AS_STRING(watched)
        rules.watched_count = PyBytes_GET_SIZE(watched) // 8
        rules.seen = <uint8_t *>PyByteArray_AS_STRING(seen)
        assert PyByteArray_GET_SIZE(seen) == <Py_ssize_t>rules.watched_count
        memset(&counts, 0, sizeof(counts))
        call.sink = NULL
        call.wait_ms = self.wait_ms
        PyObject_GetBuffer(image, &view, PyBUF_SIMPLE)
        try:
            opened = self.enter()
            with nogil:
                status = sessile_import(opened, &call, <const uint8_t *>view.buf, view.len, &rules, &counts)
            self.leave()
        finally:
            PyBuffer_Release(&view)
        if status != SESSILE_OK and status != SESSILE_DAMAGED and status != SESSILE_FULL:
            self.fail(status, None)
        return (<int>status, counts.imported, counts.forwarding, counts.expired, counts.revoked, counts.superseded,
                counts.impossible, counts.known)

    def _restore_clock(self, int64_t now_ms, /):
        self.require_open()
        sessile_restore_clock(self.table, now_ms)

    def _epoch(self):
        """How often everything was revoked."""
        self.require_open()
        return sessile_epoch(self.table)

    def _restore_epoch(self, uint32_t epoch, /):
        self.require_open()
        sessile_restore_epoch(self.table, epoch)

    def _writer_claim(self):
        """Whether this process is the one that may write an image, until it releases that or dies."""
        self.require_open()
        return sessile_writer_claim(self.table)

    def _writer_release(self):
        self.require_open()
        sessile_writer_release(self.table)

    def _generation(self):
        """Of the last image that was published, of the last complete one, and the table's clock when that was begun."""
        cdef sessile_generation generation
        self.require_open()
        generation = c_generation(self.table)
        return generation.published, generation.complete, generation.complete_ms

    def _publish(self, uint64_t generation, /):
        self.require_open()
        sessile_publish(self.table, generation)

    def _complete(self, uint64_t generation, int64_t begun_ms, /):
        self.require_open()
        sessile_complete(self.table, generation, begun_ms)


cdef inline sessile_status find_once(sessile *table, const sessile_call *call, const char *id, size_t length,
                                     const sessile_reference *reference, unsigned flags, sessile_session *facts,
                                     Block *block) noexcept nogil:
    cdef uint8_t *buffer = NULL if block == NULL else block.bytes
    cdef size_t capacity = 0 if block == NULL else block.capacity
    if reference == NULL:
        return sessile_load(table, call, id, length, flags, facts, buffer, capacity)
    return sessile_read(table, call, reference, flags, facts, buffer, capacity)


cdef inline sessile_status remove_once(sessile *table, const sessile_call *call, const sessile_reference *reference,
                                       bint versioned, uint32_t version, sessile_reason reason) noexcept nogil:
    if versioned:
        return sessile_remove_version(table, call, reference, version, reason)
    return sessile_remove(table, call, reference, reason)


cdef list listed(const uint8_t *buffer, uint64_t count):
    cdef const sessile_session *facts
    cdef const uint8_t *text
    cdef list found = []
    cdef uint64_t _
    for _ in range(count):
        facts = <const sessile_session *>buffer
        text = <const uint8_t *>(facts + 1)
        found.append((
            "%016x" % facts.handle,
            text_of(text, facts.owner_length) if facts.owner_length else None,
            PyBytes_FromStringAndSize(<const char *>text + facts.owner_length, facts.device_length)
            if facts.device_length else None,
            facts.created_ms,
            facts.last_used_ms,
            min(facts.idle_deadline_ms, facts.absolute_deadline_ms),
        ))
        buffer += (sizeof(sessile_session) + facts.owner_length + facts.device_length + 7) & ~<size_t>7
    return found


cdef int fill_policy(sessile_policy *policy, given) except -1:
    (policy.owned_idle_ms, policy.owned_absolute_ms, policy.anonymous_idle_ms, policy.anonymous_absolute_ms,
     policy.sessions_per_owner, policy.fields_max) = given
    return 0


def checksum(data, uint32_t before=0):
    """CRC32C of bytes, after those whose checksum is `before`."""
    cdef Py_buffer view
    cdef uint32_t found
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    with nogil:
        found = sessile_checksum(before, view.buf, view.len)
    PyBuffer_Release(&view)
    return found
