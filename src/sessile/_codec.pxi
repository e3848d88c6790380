# Values and fields to bytes and back: the hot half of `sessile.codec`, which documents the stored form.
#
# What is here, in this order (how MessagePack itself is written and parsed: `_messagepack.pxd`; the payloads of the
# rarer extension types: `extension_types.py`):
#
#     Walk        the way from the value that was given down to the one being written: depth, cycles, paths, refusals
#     write_…     one pass over a value that checks and writes it at the same time
#     read_…      the strict inverse of write_…
#     names       short names that come again and again are made once
#     values      encode_value, decode_value
#     fields      `name value name value …` to the end: encode, decode, split, join, merge, find
#
# Invariants (the tests cite the numbers):
#
#  1. Nothing of a value is run: no method, no comparison, no iterator of a class that is not built in. Types are
#     compared exactly, so a subclass is never mistaken for its base.
#  2. One value, one form: shortest heads, sets in the order of their members' bytes. Reading refuses every other
#     form, so what was read and is written again is the same bytes (except in a zone whose rules have changed).
#  3. A read takes bytes that anyone may have written. The members that open lists and maps still announce never
#     exceed the bytes left, so what is allocated is at most proportional to the input.
#  4. Neither writing nor reading goes deeper than NESTING_LIMIT; skipping does not recurse at all.
#  5. Without the GIL another thread may change a list, dict or set while it is walked: a private copy is walked
#     there. With it, only a finaliser run by the garbage collector could; members are held by references of our own,
#     and a count that no longer fits is an error.

import sys
from collections.abc import Collection, Mapping

cimport cpython.datetime as dt
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_CheckExact, PyDict_Copy, PyDict_Next
from cpython.exc cimport PyErr_Clear, PyErr_ExceptionMatches
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact, PyFloat_FromDouble
from cpython.list cimport PyList_CheckExact, PyList_GET_ITEM, PyList_GET_SIZE, PyList_GetSlice, PyList_New
from cpython.list cimport PyList_SET_ITEM
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_AsUnsignedLongLong, PyLong_CheckExact
from cpython.long cimport PyLong_FromLongLong, PyLong_FromUnsignedLongLong
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_CheckExact
from cpython.type cimport PyType_IsSubtype
from cpython.unicode cimport PyUnicode_Check, PyUnicode_CheckExact, PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from sessile._messagepack cimport *

cdef extern from "Python.h":
    # Under a name of its own: here NULL is looked at, elsewhere in this module it is an exception that leaves.
    const char* utf8_or_null "PyUnicode_AsUTF8AndSize"(object text, Py_ssize_t* length) noexcept
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    void* PyUnicode_DATA(object text)
    object PyUnicode_New(Py_ssize_t length, uint32_t largest)
    bint PyFrozenSet_CheckExact(object value)
    bint PyAnySet_CheckExact(object value)

cdef extern from *:
    """
    /* A place of the name table is filled once and never emptied, so a reader needs no lock. */
    static inline PyObject *name_load(PyObject **place)
    {
        return __atomic_load_n(place, __ATOMIC_ACQUIRE);
    }

    static inline int name_fill(PyObject **place, PyObject *name)
    {
        PyObject *empty = NULL;
        return __atomic_compare_exchange_n(place, &empty, name, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
    }
    """
    PyObject* name_load(PyObject** place)
    bint name_fill(PyObject** place, PyObject* name)
    dict __Pyx_PyDict_NewPresized(Py_ssize_t entries)

dt.import_datetime()

cdef enum:
    # The extension types written here; the others are those of extension_types.py.
    TUPLE = 1
    SET = 2
    FROZENSET = 3
    DATETIME = 4

    NESTING = 32
    NAME_SIZE_MAXIMUM = 255
    NAME_PLACES = 1024              # 2 to the power of 64 - 54, see name_place
    NAME_KEPT_MAXIMUM = 32
    IN_SET = -1                     # as a position: the member of a set, which has none

NESTING_LIMIT = NESTING
SIZE_LIMIT = SIZE_MAXIMUM
FIELD_NAME_LIMIT = NAME_SIZE_MAXIMUM


class DecodeError(SessileError, ValueError):
    """Stored bytes are not what this codec writes: damaged, cut short, or written by something else."""


DecodeError.__module__ = "sessile.codec"


cdef object extension_types():
    """The module for what is rare. Not imported before it is needed: see there."""
    from sessile import extension_types
    return extension_types


# ---------------------------------------------------------------------------------------------------------------------
# Walk

cdef struct Walk:
    Output out
    PyObject* root                      # str: the path of what was given
    int depth                           # containers entered and not left
    int deepest                         # how many may be
    bint as_json                        # what JSON has another form for is refused: tuples, keys that are no text
    # For each of them: itself, and where in it the walk is. Borrowed: the frames that walk hold the references.
    PyObject* containers[NESTING + 2]
    PyObject* keys[NESTING + 2]         # of a dict; else NULL
    Py_ssize_t positions[NESTING + 2]   # else: the index, or IN_SET


cdef inline void walk_open(Walk* walk, object root) noexcept:
    output_open(&walk.out)
    walk.root = <PyObject*>root
    walk.depth = 0
    walk.deepest = NESTING
    walk.as_json = False


cdef inline bytes output_bytes(Output* out):
    if out.size > SIZE_MAXIMUM:
        refuse_size(out.size)
    return PyBytes_FromStringAndSize(<char*>out.data, out.size)


cdef inline int enter(Walk* walk, object container) except -1:
    """Go into a container; returns its level, under which the caller keeps the position."""
    cdef int level = walk.depth
    walk.containers[level] = <PyObject*>container
    walk.keys[level] = NULL
    walk.positions[level] = IN_SET
    if level == walk.deepest:
        refuse_depth(walk)
    walk.depth = level + 1
    return level


cdef inline void leave(Walk* walk) noexcept:
    walk.depth -= 1


cdef str brief(object text):
    return text if len(text) <= 60 else text[:57] + "..."


cdef str step(object key):
    """One step of a path, as one would write it behind the container."""
    if not PyUnicode_CheckExact(key):
        return f"[{key}]"
    return f".{brief(key)}" if key.isidentifier() else f"[{brief(repr(key))}]"


cdef str path_of(Walk* walk, int depth):
    """The path of what is at hand in the innermost of the first `depth` containers."""
    cdef list steps = [<object>walk.root]
    cdef int level
    for level in range(depth):
        if walk.keys[level] != NULL:
            steps.append(step(<object>walk.keys[level]))
        elif walk.positions[level] == IN_SET:
            steps.append("{…}")
        else:
            steps.append(f"[{walk.positions[level]}]")
    return "".join(steps)


cdef int refuse_depth(Walk* walk) except -1:
    cdef int level, earlier
    for level in range(1, walk.depth + 1):
        for earlier in range(level):
            if walk.containers[level] == walk.containers[earlier]:
                raise ValueError(
                    f"{path_of(walk, level)}: is {path_of(walk, earlier)} again, a value that contains itself; "
                    "store a name or a number that refers to it instead"
                )
    raise ValueError(f"{path_of(walk, walk.depth)}: nested deeper than {NESTING} levels; store it flatter")


cdef int refuse_change(Walk* walk) except -1:
    raise RuntimeError(f"{path_of(walk, walk.depth - 1)}: changed while it was being stored")


cdef int refuse_type(Walk* walk, object value) except -1:
    """Name the path, the type and the remedy, and nothing of the content."""
    cdef object types = extension_types()
    cdef str text = f"{path_of(walk, walk.depth)}: {types.type_name(value)} cannot be stored"
    for base in types.STORABLE:
        if PyType_IsSubtype(type(value), base):
            name = base.__name__
            raise TypeError(f"{text}: it would come back as {name}; convert it to {name} first")
    names = ", ".join([base.__name__ for base in types.STORABLE])
    raise TypeError(f"{text}; convert it first to what can be: None, bool, {names}")


cdef int refuse_key(Walk* walk, object key) except -1:
    """Refuse a key of the dict that the walk is in; the path is that of the dict."""
    cdef str path = path_of(walk, walk.depth - 1)
    if PyLong_CheckExact(key):
        raise ValueError(f"{path}: a key is an int beyond 64 bits; use its str")
    raise TypeError(f"{path}: a key is of type {extension_types().type_name(key)}; convert it to str or int first")


cdef int refuse_text(Walk* walk) except -1:
    """UTF-8 of a str failed. A UnicodeEncodeError carries the whole text, so it is not passed on."""
    if not PyErr_ExceptionMatches(UnicodeEncodeError):
        return -1
    PyErr_Clear()
    raise ValueError(f"{path_of(walk, walk.depth)}: the text has a lone surrogate, which UTF-8 cannot express")


# ---------------------------------------------------------------------------------------------------------------------
# write_…

cdef inline const char* utf8_of(object text, Py_ssize_t* length) noexcept:
    """The UTF-8 of a str, owned by it; NULL with UnicodeEncodeError set: it has none."""
    if PyUnicode_IS_COMPACT_ASCII(text):
        length[0] = PyUnicode_GET_LENGTH(text)
        return <const char*>PyUnicode_DATA(text)
    return utf8_or_null(text, length)


cdef int write_value(Walk* walk, object value) except -1:
    if PyUnicode_CheckExact(value):
        return write_text(walk, value)
    if PyLong_CheckExact(value):
        return write_integer(walk, value)
    if value is None:
        return write_tag(&walk.out, 0xC0)
    if value is True:
        return write_tag(&walk.out, 0xC3)
    if value is False:
        return write_tag(&walk.out, 0xC2)
    if PyDict_CheckExact(value):
        return write_dict(walk, value)
    if PyList_CheckExact(value):
        return write_list(walk, value)
    if PyFloat_CheckExact(value):
        return write_float(&walk.out, PyFloat_AS_DOUBLE(value))
    if PyBytes_CheckExact(value):
        return write_binary(&walk.out, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    if PyTuple_CheckExact(value) and not walk.as_json:
        return write_tuple(walk, value)
    if PyAnySet_CheckExact(value):
        return write_set(walk, value, FROZENSET if PyFrozenSet_CheckExact(value) else SET)
    if dt.PyDateTime_CheckExact(value):
        return write_datetime(walk, value)
    return write_rare(walk, value)


cdef inline int write_text(Walk* walk, object text) except -1:
    cdef Py_ssize_t length = 0
    cdef const char* utf8 = utf8_of(text, &length)
    if utf8 == NULL:
        return refuse_text(walk)
    return write_utf8(&walk.out, utf8, length)


cdef int write_integer(Walk* walk, object number) except -1:
    return 0 if write_small_integer(&walk.out, number) else write_rare(walk, number)


cdef inline int write_small_integer(Output* out, object number) except -1:
    """Write an int that MessagePack has a form for, at most 64 bits; returns whether it is one."""
    cdef int overflow = 0
    cdef int64_t small = PyLong_AsLongLongAndOverflow(number, &overflow)
    if not overflow:
        write_signed(out, small)
    elif overflow > 0 and number <= 0xFFFFFFFFFFFFFFFF:
        write_unsigned(out, PyLong_AsUnsignedLongLong(number))
    else:
        return False
    return True


cdef inline int write_key(Walk* walk, object key) except -1:
    if PyUnicode_CheckExact(key):
        return write_text(walk, key)
    if PyLong_CheckExact(key) and not walk.as_json and write_small_integer(&walk.out, key):
        return 0
    return refuse_key(walk, key)


cdef int write_dict(Walk* walk, dict given) except -1:
    cdef int level = enter(walk, given)
    cdef dict mapping = PyDict_Copy(given) if FREE_THREADED else given
    cdef Py_ssize_t left = len(mapping), cursor = 0
    cdef PyObject* found_key = NULL
    cdef PyObject* found_value = NULL
    cdef object key, value
    write_map_head(&walk.out, <uint64_t>left)
    while PyDict_Next(mapping, &cursor, &found_key, &found_value):
        key = <object>found_key
        value = <object>found_value
        walk.keys[level] = found_key
        left -= 1
        write_key(walk, key)
        write_value(walk, value)
    if left:
        refuse_change(walk)
    leave(walk)
    return 0


cdef int write_list(Walk* walk, list given) except -1:
    cdef int level = enter(walk, given)
    cdef list members = PyList_GetSlice(given, 0, PyList_GET_SIZE(given)) if FREE_THREADED else given
    cdef Py_ssize_t count = PyList_GET_SIZE(members), index = 0
    cdef object member
    write_list_head(&walk.out, <uint64_t>count)
    while index < PyList_GET_SIZE(members):
        member = <object>PyList_GET_ITEM(members, index)
        walk.positions[level] = index
        index += 1
        write_value(walk, member)
    if index != count:
        refuse_change(walk)
    leave(walk)
    return 0


cdef int write_tuple(Walk* walk, tuple members) except -1:
    cdef int level = enter(walk, members)
    cdef Py_ssize_t start = extension_open(&walk.out)
    cdef Py_ssize_t index
    write_list_head(&walk.out, <uint64_t>len(members))
    for index in range(len(members)):
        walk.positions[level] = index
        write_value(walk, members[index])
    leave(walk)
    extension_close(&walk.out, start, TUPLE)
    return 0


cdef int write_set(Walk* walk, object given, int code) except -1:
    """The members go in the order of their bytes: a set itself has none that two processes would agree on."""
    cdef int level = enter(walk, given)
    cdef Py_ssize_t start = extension_open(&walk.out)
    cdef Py_ssize_t total = start
    cdef list written = []
    cdef bytes one
    for member in list(given):
        walk.positions[level] = IN_SET
        write_value(walk, member)
        one = PyBytes_FromStringAndSize(<char*>walk.out.data + start, walk.out.size - start)
        walk.out.size = start
        total += len(one)
        if total > SIZE_MAXIMUM:
            refuse_size(total)
        written.append(one)
    written.sort()
    write_list_head(&walk.out, <uint64_t>len(written))
    for one in written:
        write_raw(&walk.out, PyBytes_AS_STRING(one), PyBytes_GET_SIZE(one))
    leave(walk)
    extension_close(&walk.out, start, code)
    return 0


cdef int write_datetime(Walk* walk, object moment) except -1:
    """64 bits (zone kind 3, year 14, month 4, day 5, hour 5, minute 6, second 6, microsecond 20, fold 1), zone."""
    cdef object zone = dt.datetime_tzinfo(moment)
    cdef uint64_t kind = 0, packed
    cdef bytes rest = b""
    cdef unsigned char* at
    if zone is dt.get_utc():
        kind = 1
    elif zone is not None:
        kind, rest = allowed(walk, extension_types().zone_bytes, (zone, moment))
    packed = (
        kind << 61
        | <uint64_t>dt.datetime_year(moment) << 47
        | <uint64_t>dt.datetime_month(moment) << 43
        | <uint64_t>dt.datetime_day(moment) << 38
        | <uint64_t>dt.datetime_hour(moment) << 33
        | <uint64_t>dt.datetime_minute(moment) << 27
        | <uint64_t>dt.datetime_second(moment) << 21
        | <uint64_t>dt.datetime_microsecond(moment) << 1
        | <uint64_t>dt.datetime_fold(moment)
    )
    write_extension_head(&walk.out, DATETIME, 8 + PyBytes_GET_SIZE(rest))
    at = claim(&walk.out, 8)
    put_number(at, packed, 8)
    return write_raw(&walk.out, PyBytes_AS_STRING(rest), PyBytes_GET_SIZE(rest))


cdef int write_rare(Walk* walk, object value) except -1:
    cdef object found = allowed(walk, extension_types().payload_of, (value,))
    cdef bytes payload
    if found is None:
        return refuse_type(walk, value)
    code, payload = found
    write_extension_head(&walk.out, code, PyBytes_GET_SIZE(payload))
    return write_raw(&walk.out, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))


cdef object allowed(Walk* walk, object function, tuple arguments):
    """Call a function of extension_types.py; what it raises gets the path."""
    try:
        return function(*arguments)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path_of(walk, walk.depth)}: {error}") from None


# ---------------------------------------------------------------------------------------------------------------------
# read_…

cdef object damaged(Reader* reader):
    return DecodeError(f"stored bytes are damaged at byte {reader.at - reader.start}: {reader.fault.decode('ascii')}")


cdef object damaged_by(Reader* reader, const char* fault):
    reader.fault = fault
    return damaged(reader)


cdef object read_value(Reader* reader):
    cdef Head head
    if not read_head(reader, &head):
        raise damaged(reader)
    if head.kind == FORM_TEXT:
        return read_text(reader, <Py_ssize_t>head.number)
    if head.kind == FORM_INTEGER:
        return PyLong_FromLongLong(<int64_t>head.number)
    if head.kind == FORM_MAP:
        return read_dict(reader, head.number)
    if head.kind == FORM_LIST:
        return read_list(reader, head.number)
    if head.kind == FORM_NIL:
        return None
    if head.kind == FORM_TRUE:
        return True
    if head.kind == FORM_FALSE:
        return False
    if head.kind == FORM_FLOAT:
        return read_float(head.number)
    if head.kind == FORM_UNSIGNED:
        return PyLong_FromUnsignedLongLong(head.number)
    if head.kind == FORM_BYTES:
        return take_bytes(reader, <Py_ssize_t>head.number)
    return read_extension(reader, &head)


cdef inline object read_float(uint64_t bits):
    cdef double number
    memcpy(&number, &bits, 8)
    return PyFloat_FromDouble(number)


cdef inline bytes take_bytes(Reader* reader, Py_ssize_t length):
    cdef const char* data = <const char*>reader.at
    reader.at += length
    return PyBytes_FromStringAndSize(data, length)


cdef inline bint is_ascii(const unsigned char* data, Py_ssize_t length) noexcept:
    cdef uint64_t eight
    while length >= 8:
        memcpy(&eight, data, 8)
        if eight & 0x8080808080808080ULL:
            return False
        data += 8
        length -= 8
    while length > 0:
        if data[0] & 0x80:
            return False
        data += 1
        length -= 1
    return True


cdef object read_text(Reader* reader, Py_ssize_t length):
    cdef const unsigned char* data = reader.at
    cdef object text
    if length > 1 and is_ascii(data, length):
        text = PyUnicode_New(length, 127)
        memcpy(PyUnicode_DATA(text), data, length)
    else:
        text = decoded(reader, length)
    reader.at = data + length
    return text


cdef object decoded(Reader* reader, Py_ssize_t length):
    try:
        return PyUnicode_DecodeUTF8(<char*>reader.at, length, NULL)
    except UnicodeDecodeError:
        pass
    raise damaged_by(reader, "not UTF-8")


cdef inline int go_in(Reader* reader, uint64_t members) except -1:
    """Into a list or map; see invariants 3 and 4."""
    if reader.depth == NESTING:
        raise damaged_by(reader, "nested too deep")
    if members > <uint64_t>(reader.end - reader.at - reader.promised):
        raise damaged_by(reader, "cut short")
    reader.depth += 1
    reader.promised += <Py_ssize_t>members
    return 0


cdef list read_list(Reader* reader, uint64_t count):
    cdef Py_ssize_t index
    cdef object member
    go_in(reader, count)
    cdef list members = PyList_New(<Py_ssize_t>count)
    for index in range(<Py_ssize_t>count):
        reader.promised -= 1
        member = read_value(reader)
        Py_INCREF(member)
        PyList_SET_ITEM(members, index, member)
    reader.depth -= 1
    return members


cdef dict read_dict(Reader* reader, uint64_t count):
    cdef dict members = {}
    cdef Py_ssize_t index
    cdef object key
    go_in(reader, 2 * count)
    for index in range(<Py_ssize_t>count):
        reader.promised -= 2
        key = read_key(reader)
        members[key] = read_value(reader)
    if <uint64_t>len(members) != count:
        raise damaged_by(reader, "a key comes twice")
    reader.depth -= 1
    return members


cdef object read_key(Reader* reader):
    cdef Head head
    if not read_head(reader, &head):
        raise damaged(reader)
    if head.kind == FORM_TEXT:
        return read_name(reader, <Py_ssize_t>head.number)
    if head.kind == FORM_INTEGER:
        return PyLong_FromLongLong(<int64_t>head.number)
    if head.kind == FORM_UNSIGNED:
        return PyLong_FromUnsignedLongLong(head.number)
    raise damaged_by(reader, "a key that is neither text nor integer")


cdef object read_extension(Reader* reader, Head* head):
    cdef Reader inner
    if head.code == TUPLE or head.code == SET or head.code == FROZENSET:
        inner = reader[0]
        inner.end = reader.at + head.number
        inner.promised = 0
        reader.at = inner.end
        return read_tuple(&inner) if head.code == TUPLE else read_set(&inner, head.code)
    cdef bytes payload = take_bytes(reader, <Py_ssize_t>head.number)
    cdef object value = None
    try:
        if head.code == DATETIME:
            value = read_datetime(payload)
        else:
            value = extension_types().from_payload(head.code, payload)
    except (ValueError, TypeError, ArithmeticError, LookupError):
        pass
    if value is None:
        raise damaged_by(reader, "not the payload of its extension type")
    return value


cdef uint64_t read_count(Reader* reader) except? 0:
    cdef Head head
    if not read_head(reader, &head):
        raise damaged(reader)
    if head.kind != FORM_LIST:
        raise damaged_by(reader, "members expected")
    return head.number


cdef tuple read_tuple(Reader* reader):
    cdef list members = read_list(reader, read_count(reader))
    if reader.at != reader.end:
        raise damaged_by(reader, "more than its members")
    return tuple(members)


cdef object read_set(Reader* reader, int code):
    cdef uint64_t count = read_count(reader)
    cdef const unsigned char* before = NULL
    cdef const unsigned char* at
    cdef Py_ssize_t index
    cdef set members = set()
    go_in(reader, count)
    for index in range(<Py_ssize_t>count):
        at = reader.at
        reader.promised -= 1
        try:
            members.add(read_value(reader))
        except TypeError:
            raise damaged_by(reader, "a member that no set can have") from None
        if before != NULL and not in_order(before, at, reader.at):
            raise damaged_by(reader, "members out of order")
        before = at
    if reader.at != reader.end:
        raise damaged_by(reader, "more than its members")
    if <uint64_t>len(members) != count:
        raise damaged_by(reader, "a member comes twice")
    return frozenset(members) if code == FROZENSET else members


cdef bint in_order(const unsigned char* first, const unsigned char* second, const unsigned char* end) noexcept:
    """Whether the member in [first, second) does not come after the one in [second, end)."""
    cdef Py_ssize_t before = second - first, after = end - second
    cdef int order = memcmp(first, second, min(before, after))
    return order < 0 or (order == 0 and before <= after)


cdef object read_datetime(bytes payload):
    """Raises ValueError, TypeError, ArithmeticError or LookupError: no such datetime."""
    cdef uint64_t packed
    cdef object zone = None, moment
    if PyBytes_GET_SIZE(payload) < 8:
        raise ValueError("cut short")
    packed = get_number(<const unsigned char*>PyBytes_AS_STRING(payload), 8)
    cdef int kind = <int>(packed >> 61)
    if kind == 1 and PyBytes_GET_SIZE(payload) == 8:
        zone = dt.get_utc()
    elif kind or PyBytes_GET_SIZE(payload) != 8:
        zone = extension_types().from_zone_bytes(kind, payload[8:])
    moment = dt.datetime_new(
        packed >> 47 & 0x3FFF, packed >> 43 & 0xF, packed >> 38 & 0x1F, packed >> 33 & 0x1F, packed >> 27 & 0x3F,
        packed >> 21 & 0x3F, packed >> 1 & 0xFFFFF, zone, packed & 1,
    )
    return extension_types().in_zone(moment) if kind == 4 else moment


# ---------------------------------------------------------------------------------------------------------------------
# Names

# Short ASCII names, each in the place that its bytes choose, made once: making a str costs more than finding it,
# and one that comes back has its hash ready for the dict. A place is filled once and never emptied.
cdef PyObject* NAMES[NAME_PLACES]


cdef inline uint32_t name_place(const unsigned char* data, Py_ssize_t length) noexcept:
    cdef uint64_t first = 0, last = 0
    if length >= 8:
        memcpy(&first, data, 8)
        memcpy(&last, data + length - 8, 8)
    else:
        while length > 0:
            length -= 1
            first = first << 8 | data[length]
    first = (first ^ (last << 7 | last >> 57)) * 0x9E3779B97F4A7C15ULL
    return <uint32_t>(first >> 54)


cdef object read_name(Reader* reader, Py_ssize_t length):
    """The text of a dict key or of a field's name."""
    cdef const unsigned char* data = reader.at
    cdef PyObject** place
    cdef PyObject* kept
    if length > NAME_KEPT_MAXIMUM or length < 1:
        return read_text(reader, length)
    place = &NAMES[name_place(data, length)]
    kept = name_load(place)
    if kept != NULL and PyUnicode_GET_LENGTH(<object>kept) == length and memcmp(
        PyUnicode_DATA(<object>kept), data, length
    ) == 0:
        reader.at += length
        return <object>kept
    cdef object name = read_text(reader, length)
    if kept == NULL and is_ascii(data, length):
        name = keep_name(place, name)
    return name


cdef object keep_name(PyObject** place, object name):
    name = sys.intern(name)
    Py_INCREF(name)
    if not name_fill(place, <PyObject*>name):
        Py_DECREF(name)
    return name


# ---------------------------------------------------------------------------------------------------------------------
# Values

def encode_value(value: object, path: str = "$") -> bytes:
    """Encode one value in one pass that also checks it.

    Args:
        value: what `sessile.codec` lists, exactly of these types, to any depth up to `NESTING_LIMIT`.
        path: how errors name the value.

    Returns:
        One MessagePack value. Equal values of equal types give equal bytes, as far as dicts have the same order.

    Raises:
        TypeError: the value or something in it is of another type, subclasses included; the text has its path.
        ValueError: nested deeper than `NESTING_LIMIT`, contains itself, text with a lone surrogate, an int beyond
            64 bits as a key; the text has the path.
        SessionTooLarge: more than `SIZE_LIMIT` bytes.
        RuntimeError: the value was changed meanwhile.

    Nothing is changed, whatever happens. STO-03, STO-05.
    """
    cdef Walk walk
    walk_open(&walk, path)
    return written(&walk, value, False)


cdef bytes written(Walk* walk, object value, bint fields):
    """The bytes of a value, or of the fields that a dict has."""
    try:
        if fields:
            write_fields(walk, value)
        else:
            write_value(walk, value)
        return output_bytes(&walk.out)
    finally:
        output_close(&walk.out)


def decode_value(bytes data not None) -> object:
    """Decode one value: the strict inverse of `encode_value`, for bytes that anyone may have written.

    Args:
        data: one MessagePack value and nothing behind it.

    Returns:
        A value that equals the one that was encoded, of the same type, recursively.

    Raises:
        DecodeError: anything that `encode_value` does not write: damaged, cut short, more than one value, not in the
            shortest form, a duplicate key or member, another extension type, nested deeper than `NESTING_LIMIT`.

    Allocates in proportion to the bytes given, whatever they announce. STO-03, STO-05, PER-12.
    """
    cdef Reader reader
    reader_open(&reader, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    value = read_value(&reader)
    if reader.at != reader.end:
        raise damaged_by(&reader, "more than one value")
    return value


# ---------------------------------------------------------------------------------------------------------------------
# Fields

cdef const char* name_utf8(object name, Py_ssize_t* length) except NULL:
    """The UTF-8 of a name that a field may have."""
    cdef const char* utf8
    if not PyUnicode_CheckExact(name):
        raise TypeError(f"the name of a field must be str, not {extension_types().type_name(name)}{shown(name)}: convert it first")
    utf8 = utf8_of(name, length)
    if utf8 == NULL:
        if not PyErr_ExceptionMatches(UnicodeEncodeError):
            return NULL
        PyErr_Clear()
        raise ValueError(f"the name of a field has a lone surrogate, which UTF-8 cannot express: {brief(repr(name))}")
    if length[0] > NAME_SIZE_MAXIMUM:
        raise ValueError(
            f"the name of a field takes {length[0]} bytes, {NAME_SIZE_MAXIMUM} are allowed: {brief(repr(name))}"
        )
    return utf8


cdef str shown(object name):
    """The name for a message, where showing it runs nobody's code."""
    if PyUnicode_Check(name):
        return f" ({brief(repr(str.__str__(name)))})"
    if name is None or type(name) in (bool, float, bytes) or (type(name) is int and name.bit_length() <= 64):
        return f" ({brief(repr(name))})"
    return ""


cdef inline bint read_field_head(Reader* reader, const unsigned char** name, Py_ssize_t* length) noexcept:
    """Go behind the name of the next field. False: fault is set."""
    cdef Head head
    cdef const unsigned char* at = reader.at
    if reader.end - at > 32 and at[0] >> 5 == 5:       # as nearly all are: a text of less than 32 bytes, not at the end
        name[0] = at + 1
        length[0] = at[0] & 0x1F
        reader.at = at + 1 + length[0]
        return True
    if not read_head(reader, &head):
        return False
    if head.kind != FORM_TEXT or head.number > NAME_SIZE_MAXIMUM:
        return fail(reader, "not the name of a field")
    name[0] = reader.at
    length[0] = <Py_ssize_t>head.number
    reader.at += head.number
    return True


cdef object read_field_name(Reader* reader):
    cdef const unsigned char* name = NULL
    cdef Py_ssize_t length = 0
    if not read_field_head(reader, &name, &length):
        raise damaged(reader)
    reader.at = name
    return read_name(reader, length)


cdef inline bytes read_encoded(Reader* reader):
    """The bytes of the next value."""
    cdef const unsigned char* start = reader.at
    if not skip_value(reader):
        raise damaged(reader)
    return PyBytes_FromStringAndSize(<const char*>start, reader.at - start)


cdef int seek_field(Reader* reader, object wanted) except -1:
    """Go to the value of a field. Returns whether there is one; a name that no field can have has none."""
    cdef const unsigned char* name = NULL
    cdef Py_ssize_t length = 0, wanted_length = 0
    cdef const char* wanted_name
    if not PyUnicode_Check(wanted):
        return False
    wanted_name = utf8_of(wanted, &wanted_length)
    if wanted_name == NULL:
        PyErr_Clear()
        return False
    while reader.at < reader.end:
        if not read_field_head(reader, &name, &length):
            raise damaged(reader)
        if length == wanted_length and memcmp(name, wanted_name, length) == 0:
            return True
        if not skip_value(reader):
            raise damaged(reader)
    return False


cdef int check_encoded(bytes data) except -1:
    cdef Reader reader
    reader_open(&reader, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    if not skip_value(&reader):
        raise damaged(&reader)
    if reader.at != reader.end:
        raise damaged_by(&reader, "more than one value")
    return 0


cdef int write_field(Output* out, object name, object encoded) except -1:
    """Write a field whose value is encoded already."""
    cdef Py_ssize_t length = 0
    cdef const char* utf8 = name_utf8(name, &length)
    if not PyBytes_CheckExact(encoded):
        raise TypeError(f"the encoded value of the field {brief(repr(name))} must be bytes, not {extension_types().type_name(encoded)}")
    check_encoded(<bytes>encoded)
    write_utf8(out, utf8, length)
    return write_raw(out, PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded))


cdef int write_fields(Walk* walk, dict given) except -1:
    cdef int level = enter(walk, given)
    cdef dict fields = PyDict_Copy(given) if FREE_THREADED else given
    cdef Py_ssize_t left = len(fields), cursor = 0, length = 0
    cdef PyObject* found_name = NULL
    cdef PyObject* found_value = NULL
    cdef const char* utf8
    cdef object name, value
    while PyDict_Next(fields, &cursor, &found_name, &found_value):
        name = <object>found_name
        value = <object>found_value
        walk.keys[level] = found_name
        left -= 1
        utf8 = name_utf8(name, &length)
        write_utf8(&walk.out, utf8, length)
        write_value(walk, value)
    if left:
        refuse_change(walk)
    leave(walk)
    return 0


def encode_fields(fields: Mapping[str, object], as_json: bool = False) -> bytes:
    """Encode all fields of a session, in the order of the mapping.

    Args:
        fields: names (str, at most `FIELD_NAME_LIMIT` bytes of UTF-8) and values (see `encode_value`).
        as_json: refuse tuples, and keys that are no text, too: what JSON would give back as something else.

    Returns:
        The stored form: name, value, name, value …; empty for no fields.

    Raises:
        TypeError: a name is not exactly a str; else as `encode_value`.
        ValueError: a name is too long or has a lone surrogate; else as `encode_value`.
        SessionTooLarge: more than `SIZE_LIMIT` bytes.
        RuntimeError: the fields were changed meanwhile.
    """
    cdef Walk walk
    cdef dict given = fields if PyDict_CheckExact(fields) else dict(fields)
    walk_open(&walk, "$")
    walk.deepest += 1
    walk.as_json = as_json
    return written(&walk, given, True)


def encode_field(name: str, value: object) -> bytes:
    """Encode the value of one field: what `encode_value` gives and raises, with `$.name` as the path.

    Raises also:
        TypeError: the name is not exactly a str.
        ValueError: the name is too long or has a lone surrogate.
    """
    return encoded_field(name, value)


cdef inline void walk_open_field(Walk* walk, object name) noexcept:
    """As if it had gone into a dict, to the value under this name."""
    walk_open(walk, "$")
    walk.deepest += 1
    walk.containers[0] = NULL
    walk.keys[0] = <PyObject*>name
    walk.depth = 1


cdef bytes encoded_field(object name, object value):
    cdef Walk walk
    cdef Py_ssize_t length = 0
    name_utf8(name, &length)
    walk_open_field(&walk, name)
    return written(&walk, value, False)


def decode_fields(bytes fields not None) -> dict[str, object]:
    """Decode all fields of a session, in their order; the inverse of `encode_fields`.

    Raises:
        DecodeError: anything that `encode_fields` does not write; see `decode_value`.
    """
    return fields_of(fields, True)


cdef dict fields_of(bytes fields, bint decode):
    """Each name with its value, or with the bytes of it."""
    cdef Reader reader
    # More than five seldom fit without growing.
    cdef dict found = __Pyx_PyDict_NewPresized(min(PyBytes_GET_SIZE(fields) >> 4, 10))
    cdef Py_ssize_t count = 0
    reader_open(&reader, PyBytes_AS_STRING(fields), PyBytes_GET_SIZE(fields))
    while reader.at < reader.end:
        name = read_field_name(&reader)
        found[name] = read_value(&reader) if decode else read_encoded(&reader)
        count += 1
    if len(found) != count:
        raise damaged_by(&reader, "a field comes twice")
    return found


def split_fields(bytes fields not None) -> dict[str, bytes]:
    """Take the fields of a session apart without decoding them: each name with its encoded value, in their order.

    Raises:
        DecodeError: not a sequence of names and values, or a name comes twice. Values are only measured: one that
            passes here may still be refused by `decode_value`.
    """
    return fields_of(fields, False)


def join_fields(dict encoded not None) -> bytes:
    """Put fields together: the inverse of `split_fields`.

    Args:
        encoded: each name with its encoded value (`encode_value`).

    Raises:
        TypeError: a name is not exactly a str, a value not bytes.
        ValueError: a name is too long or has a lone surrogate.
        DecodeError: a value is not one MessagePack value.
        SessionTooLarge: more than `SIZE_LIMIT` bytes.
    """
    return merged_fields(EMPTY, PyDict_Copy(encoded), NOTHING)


def merge_fields(bytes stored not None, dict changed not None, removed: Collection[str] = ()) -> bytes:
    """Change and remove fields of a session without decoding the others.

    Args:
        stored: the fields as they are stored now.
        changed: names with their new encoded values. A stored field keeps its place, a new one goes to the end, in
            the order of this dict.
        removed: names to drop first; one that is not stored is ignored, one that is also changed goes to the end.

    Returns:
        The merged fields; `stored` is untouched.

    Raises:
        TypeError, ValueError, DecodeError, SessionTooLarge: as `join_fields`; DecodeError also for `stored`.
    """
    return merged_fields(stored, PyDict_Copy(changed), frozenset(removed) if removed else NOTHING)


cdef bytes merged_fields(bytes stored, dict changed, frozenset removed):
    """`changed` is the caller's own: what has found its place is taken out of it."""
    cdef Output out
    output_open(&out)
    try:
        merge_into(&out, stored, changed, removed)
        return output_bytes(&out)
    finally:
        output_close(&out)


cdef int merge_into(Output* out, bytes stored, dict changed, frozenset removed) except -1:
    cdef Reader reader
    cdef const unsigned char* start
    reader_open(&reader, PyBytes_AS_STRING(stored), PyBytes_GET_SIZE(stored))
    while reader.at < reader.end:
        start = reader.at
        name = read_field_name(&reader)
        if not skip_value(&reader):
            raise damaged(&reader)
        if removed is not NOTHING and name in removed:
            continue
        if name in changed:
            write_field(out, name, changed.pop(name))
        else:
            write_raw(out, start, reader.at - start)
    for name, value in changed.items():
        write_field(out, name, value)
    return 0


cdef bytes with_field(bytes stored, object name, object value):
    """What `merged_fields` gives for one changed field, without a copy of its encoded value or an object for any name."""
    cdef Walk walk
    cdef Reader reader
    cdef Py_ssize_t length = 0
    cdef const unsigned char* behind = NULL
    cdef const char* utf8 = name_utf8(name, &length)
    reader_open(&reader, PyBytes_AS_STRING(stored), PyBytes_GET_SIZE(stored))
    cdef bint there = seek_field(&reader, name)
    walk_open_field(&walk, name)
    try:
        write_raw(&walk.out, reader.start, reader.at - reader.start)
        if not there:
            write_utf8(&walk.out, utf8, length)
        write_value(&walk, value)
        if there:
            skip_rest(&reader, &behind)
            write_raw(&walk.out, behind, reader.end - behind)
        return output_bytes(&walk.out)
    finally:
        output_close(&walk.out)


cdef int skip_rest(Reader* reader, const unsigned char** behind) except -1:
    """From the value of a field to the end; `behind` is what follows the value."""
    cdef const unsigned char* name = NULL
    cdef Py_ssize_t length = 0
    cdef bint whole = skip_value(reader)
    behind[0] = reader.at
    while whole and reader.at < reader.end:
        whole = read_field_head(reader, &name, &length) and skip_value(reader)
    if not whole:
        raise damaged(reader)
    return 0


def find_field(bytes fields not None, name: object) -> bytes | None:
    """Find one field without decoding or copying the others.

    Returns:
        Its encoded value, or None: there is no such field, or `name` is nothing that a field can be called.

    Raises:
        DecodeError: the bytes up to the field are not a sequence of names and values.
    """
    return field_encoded(fields, name)


cdef object field_encoded(bytes fields, object name):
    cdef Reader reader
    reader_open(&reader, PyBytes_AS_STRING(fields), PyBytes_GET_SIZE(fields))
    return read_encoded(&reader) if seek_field(&reader, name) else None


def decode_field(bytes fields not None, name: object, default: object = None) -> object:
    """Find one field and decode it; `default` if there is none.

    Raises:
        DecodeError: as `find_field` and `decode_value`.
    """
    return field_value(fields, name, default)


cdef object field_value(bytes fields, object name, object default):
    cdef Reader reader
    reader_open(&reader, PyBytes_AS_STRING(fields), PyBytes_GET_SIZE(fields))
    return read_value(&reader) if seek_field(&reader, name) else default


def field_names(bytes fields not None) -> list[str]:
    """The names of the fields of a session, in their order.

    Raises:
        DecodeError: as `split_fields`.
    """
    cdef Reader reader
    cdef list names = []
    reader_open(&reader, PyBytes_AS_STRING(fields), PyBytes_GET_SIZE(fields))
    while reader.at < reader.end:
        names.append(read_field_name(&reader))
        if not skip_value(&reader):
            raise damaged(&reader)
    if len(set(names)) != len(names):
        raise damaged_by(&reader, "a field comes twice")
    return names


def fields_wellformed(bytes fields not None) -> bool:
    """Whether `split_fields` would take them: names and values to the end, no name twice. Raises nothing."""
    try:
        field_names(fields)
    except DecodeError:
        return False
    return True
