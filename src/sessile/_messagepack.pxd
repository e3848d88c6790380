# MessagePack in its shortest form, in C alone: how its own types are written to a buffer, and one parser of heads
# for all that read. Included by `_codec.pyx`; everything is inline, so there is no module of this name.
#
#     Output          a growing buffer: output_open, claim and the write_… functions, output_close
#     Reader, Head    a bounded view of bytes that anyone may have written: reader_open, read_head, skip_value
#
# Invariants of reading:
#
#  1. Every length is compared with the bytes that are left before it is used; `at` never passes `end`.
#  2. Only the shortest form of a head is taken, so that one value has one form.
#  3. Nothing here recurses.

from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memmove

cdef extern from *:
    """
    /* The forms with a tag from 0xc0 to 0xdf: what follows the tag is a number of `width` bytes, the most significant
       first, which is a value or a length. A number below `least` has a shorter form and is refused (of a negative
       one: closer to zero than -least). */
    enum { FORM_NONE, FORM_NIL, FORM_FALSE, FORM_TRUE, FORM_FLOAT, FORM_INTEGER, FORM_UNSIGNED, FORM_NEGATIVE,
           FORM_TEXT, FORM_BYTES, FORM_LIST, FORM_MAP, FORM_EXTENSION, FORM_FIXED_EXTENSION };

    typedef struct { unsigned char kind, width; uint64_t least; } form_t;

    static const form_t FORMS[32] = {
        /* c0 */ {FORM_NIL, 0, 0}, {FORM_NONE, 0, 0}, {FORM_FALSE, 0, 0}, {FORM_TRUE, 0, 0},
        /* c4 */ {FORM_BYTES, 1, 0}, {FORM_BYTES, 2, 0x100}, {FORM_BYTES, 4, 0x10000},
        /* c7 */ {FORM_EXTENSION, 1, 0}, {FORM_EXTENSION, 2, 0x100}, {FORM_EXTENSION, 4, 0x10000},
        /* ca */ {FORM_NONE, 0, 0}, {FORM_FLOAT, 8, 0},
        /* cc */ {FORM_UNSIGNED, 1, 0x80}, {FORM_UNSIGNED, 2, 0x100}, {FORM_UNSIGNED, 4, 0x10000},
        /* cf */ {FORM_UNSIGNED, 8, 0x100000000},
        /* d0 */ {FORM_NEGATIVE, 1, 0x21}, {FORM_NEGATIVE, 2, 0x81}, {FORM_NEGATIVE, 4, 0x8001},
        /* d3 */ {FORM_NEGATIVE, 8, 0x80000001},
        /* d4 */ {FORM_FIXED_EXTENSION, 0, 1}, {FORM_FIXED_EXTENSION, 0, 2}, {FORM_FIXED_EXTENSION, 0, 4},
        /* d7 */ {FORM_FIXED_EXTENSION, 0, 8}, {FORM_FIXED_EXTENSION, 0, 16},
        /* d9 */ {FORM_TEXT, 1, 0x20}, {FORM_TEXT, 2, 0x100}, {FORM_TEXT, 4, 0x10000},
        /* dc */ {FORM_LIST, 2, 0x10}, {FORM_LIST, 4, 0x10000}, {FORM_MAP, 2, 0x10}, {FORM_MAP, 4, 0x10000},
    };
    """
    enum:
        FORM_NONE
        FORM_NIL
        FORM_FALSE
        FORM_TRUE
        FORM_FLOAT
        FORM_INTEGER            # a small or negative one, as int64_t
        FORM_UNSIGNED
        FORM_NEGATIVE
        FORM_TEXT
        FORM_BYTES
        FORM_LIST
        FORM_MAP
        FORM_EXTENSION
        FORM_FIXED_EXTENSION

    ctypedef struct form_t:
        unsigned char kind
        unsigned char width
        uint64_t least

    const form_t* FORMS

cdef enum:
    SIZE_MAXIMUM = 1 << 20              # as large as the length field of a record allows
    BUFFER_MAXIMUM = SIZE_MAXIMUM + 4096        # heads of extension types are first written at full width
    BUFFER_LOCAL = 1024                 # a buffer of this size lies on the stack; most sessions need no other
    EXTENSION_HEAD = 6                  # bytes of the widest head of an extension type


# ---------------------------------------------------------------------------------------------------------------------
# Output

cdef struct Output:
    unsigned char* data
    Py_ssize_t size
    Py_ssize_t capacity
    unsigned char local[BUFFER_LOCAL]


cdef inline void output_open(Output* out) noexcept:
    out.data = out.local
    out.size = 0
    out.capacity = BUFFER_LOCAL


cdef inline void output_close(Output* out) noexcept:
    if out.data != out.local:
        PyMem_Free(out.data)


cdef inline int refuse_size(Py_ssize_t size) except -1:
    from sessile.errors import SessionTooLarge
    raise SessionTooLarge(size=size, limit=SIZE_MAXIMUM)


cdef inline int output_grow(Output* out, Py_ssize_t count) except -1:
    """Make room for `count` more bytes, up to a limit: a list that holds a list many times, and so on, has none."""
    cdef Py_ssize_t capacity
    cdef unsigned char* data
    if count > BUFFER_MAXIMUM - out.size:
        refuse_size(out.size + count)
    capacity = min(<Py_ssize_t>BUFFER_MAXIMUM, max(2 * out.capacity, out.size + count))
    if out.data == out.local:
        data = <unsigned char*>PyMem_Malloc(capacity)
        if data != NULL:
            memcpy(data, out.local, out.size)
    else:
        data = <unsigned char*>PyMem_Realloc(out.data, capacity)
    if data == NULL:
        raise MemoryError()
    out.data = data
    out.capacity = capacity
    return 0


cdef inline unsigned char* claim(Output* out, Py_ssize_t count) except NULL:
    """Where the next `count` bytes go; they count as written."""
    cdef Py_ssize_t size = out.size
    if count > out.capacity - size:
        output_grow(out, count)
    out.size = size + count
    return out.data + size


cdef inline void put_number(unsigned char* at, uint64_t number, int width) noexcept:
    cdef int shift = 8 * width
    while shift:
        shift -= 8
        at[0] = <unsigned char>(number >> shift)
        at += 1


cdef inline int write_tag(Output* out, int tag) except -1:
    claim(out, 1)[0] = <unsigned char>tag
    return 0


cdef inline int write_tagged(Output* out, int tag, uint64_t number, int width) except -1:
    cdef unsigned char* at = claim(out, 1 + width)
    at[0] = <unsigned char>tag
    put_number(at + 1, number, width)
    return 0


cdef inline int write_raw(Output* out, const void* data, Py_ssize_t length) except -1:
    memcpy(claim(out, length), data, length)
    return 0


cdef inline int write_unsigned(Output* out, uint64_t number) except -1:
    if number < 0x80:
        return write_tag(out, <int>number)
    if number <= 0xFF:
        return write_tagged(out, 0xCC, number, 1)
    if number <= 0xFFFF:
        return write_tagged(out, 0xCD, number, 2)
    if number <= 0xFFFFFFFFULL:
        return write_tagged(out, 0xCE, number, 4)
    return write_tagged(out, 0xCF, number, 8)


cdef inline int write_signed(Output* out, int64_t number) except -1:
    if number >= 0:
        return write_unsigned(out, <uint64_t>number)
    if number >= -0x20:
        return write_tag(out, <int>(number & 0xFF))
    if number >= -0x80:
        return write_tagged(out, 0xD0, <uint64_t>number, 1)
    if number >= -0x8000:
        return write_tagged(out, 0xD1, <uint64_t>number, 2)
    if number >= -0x80000000LL:
        return write_tagged(out, 0xD2, <uint64_t>number, 4)
    return write_tagged(out, 0xD3, <uint64_t>number, 8)


cdef inline int write_float(Output* out, double number) except -1:
    cdef uint64_t bits
    memcpy(&bits, &number, 8)
    return write_tagged(out, 0xCB, bits, 8)


cdef inline int write_length(Output* out, uint64_t length, int tag2, int tag4) except -1:
    """A head whose length fits no shorter one. More than 32 bits are refused when the members are written."""
    if length <= 0xFFFF:
        return write_tagged(out, tag2, length, 2)
    return write_tagged(out, tag4, length, 4)


cdef inline int write_list_head(Output* out, uint64_t count) except -1:
    return write_tag(out, 0x90 | <int>count) if count < 16 else write_length(out, count, 0xDC, 0xDD)


cdef inline int write_map_head(Output* out, uint64_t count) except -1:
    return write_tag(out, 0x80 | <int>count) if count < 16 else write_length(out, count, 0xDE, 0xDF)


cdef inline int write_utf8(Output* out, const char* utf8, Py_ssize_t length) except -1:
    cdef unsigned char* at
    if length < 32:
        at = claim(out, 1 + length)
        at[0] = <unsigned char>(0xA0 | length)
        memcpy(at + 1, utf8, length)
        return 0
    if length <= 0xFF:
        write_tagged(out, 0xD9, <uint64_t>length, 1)
    else:
        write_length(out, <uint64_t>length, 0xDA, 0xDB)
    return write_raw(out, utf8, length)


cdef inline int write_binary(Output* out, const char* data, Py_ssize_t length) except -1:
    if length <= 0xFF:
        write_tagged(out, 0xC4, <uint64_t>length, 1)
    else:
        write_length(out, <uint64_t>length, 0xC5, 0xC6)
    return write_raw(out, data, length)


cdef inline int extension_head(unsigned char* head, uint64_t length, int code) noexcept:
    """Put the shortest head of an extension type at `head`, at most EXTENSION_HEAD bytes; return how many."""
    cdef int width = 1 if length <= 0xFF else 2 if length <= 0xFFFF else 4
    if length == 1 or length == 2 or length == 4 or length == 8 or length == 16:
        head[0] = 0xD4 + (length > 1) + (length > 2) + (length > 4) + (length > 8)
        width = 0
    else:
        head[0] = 0xC7 + width // 2
        put_number(head + 1, length, width)
    head[1 + width] = <unsigned char>code
    return 2 + width


cdef inline int write_extension_head(Output* out, int code, Py_ssize_t length) except -1:
    cdef unsigned char head[EXTENSION_HEAD]
    return write_raw(out, head, extension_head(head, <uint64_t>length, code))


cdef inline Py_ssize_t extension_open(Output* out) except -1:
    """Begin an extension type of a length not yet known; returns what extension_close wants."""
    claim(out, EXTENSION_HEAD)
    return out.size


cdef inline void extension_close(Output* out, Py_ssize_t start, int code) noexcept:
    cdef unsigned char* payload = out.data + start
    cdef Py_ssize_t length = out.size - start
    cdef int width = extension_head(payload - EXTENSION_HEAD, <uint64_t>length, code)
    memmove(payload - EXTENSION_HEAD + width, payload, length)
    out.size -= EXTENSION_HEAD - width


# ---------------------------------------------------------------------------------------------------------------------
# Reader

cdef struct Reader:
    const unsigned char* start
    const unsigned char* at
    const unsigned char* end
    Py_ssize_t promised             # members that open lists and maps announce and that are still to come
    int depth                       # open lists, maps, tuples and sets
    const char* fault               # what is wrong at `at`, once a function has returned False


cdef struct Head:
    int kind                        # FORM_…
    int code                        # of an extension type
    uint64_t number                 # the value of a number, else a length in bytes or a count of members


cdef inline void reader_open(Reader* reader, const void* data, Py_ssize_t size) noexcept:
    reader.start = <const unsigned char*>data
    reader.at = reader.start
    reader.end = reader.start + size
    reader.promised = 0
    reader.depth = 0
    reader.fault = NULL


cdef inline bint fail(Reader* reader, const char* fault) noexcept:
    reader.fault = fault
    return False


cdef inline uint64_t get_number(const unsigned char* at, int width) noexcept:
    cdef uint64_t number = 0
    cdef int index
    for index in range(width):
        number = number << 8 | at[index]
    return number


cdef inline bint read_head(Reader* reader, Head* head) noexcept:
    """Parse one head. True: `at` is behind it, and the bytes left can hold what it announces. False: fault is set."""
    cdef Py_ssize_t left = reader.end - reader.at
    cdef unsigned char tag
    if left <= 0:
        return fail(reader, "cut short")
    tag = reader.at[0]
    if 0xC0 <= tag <= 0xDF:
        return read_long_head(reader, head, FORMS + (tag - 0xC0))
    reader.at += 1
    if tag < 0x80 or tag >= 0xE0:
        head.kind = FORM_INTEGER
        head.number = <uint64_t>(<int64_t>tag - (0x100 if tag >= 0xE0 else 0))
        return True
    if tag >= 0xA0:
        head.kind = FORM_TEXT
        head.number = tag & 0x1F
    else:
        head.kind = FORM_LIST if tag & 0x10 else FORM_MAP
        head.number = tag & 0x0F
    return head.number < <uint64_t>left or fail(reader, "cut short")


cdef inline bint read_long_head(Reader* reader, Head* head, const form_t* form) noexcept:
    cdef Py_ssize_t left = reader.end - reader.at - 1 - form.width      # behind the head
    if form.kind == FORM_NONE:
        return fail(reader, "no such type")
    if left < 0:
        return fail(reader, "cut short")
    head.kind = form.kind
    head.number = get_number(reader.at + 1, form.width)
    if form.kind == FORM_EXTENSION or form.kind == FORM_FIXED_EXTENSION:
        return read_extension_head(reader, head, form)
    if form.kind == FORM_NEGATIVE:
        head.kind = FORM_INTEGER
        head.number = <uint64_t>(<int64_t>(head.number << (64 - 8 * form.width)) >> (64 - 8 * form.width))
        if <int64_t>head.number > -<int64_t>form.least:
            return fail(reader, "not the shortest form")
    elif form.kind >= FORM_UNSIGNED and head.number < form.least:
        return fail(reader, "not the shortest form")
    if form.kind >= FORM_TEXT and head.number > <uint64_t>left:
        return fail(reader, "cut short")
    reader.at += 1 + form.width
    return True


cdef inline bint read_extension_head(Reader* reader, Head* head, const form_t* form) noexcept:
    cdef Py_ssize_t left = reader.end - reader.at - 2 - form.width
    cdef uint64_t length = head.number
    if form.kind == FORM_FIXED_EXTENSION:
        length = form.least
    elif length < form.least or (0 < length <= 16 and length & (length - 1) == 0):
        return fail(reader, "not the shortest form")
    if left < 0 or length > <uint64_t>left:
        return fail(reader, "cut short")
    head.kind = FORM_EXTENSION
    head.number = length
    head.code = reader.at[1 + form.width]
    reader.at += 2 + form.width
    return True


cdef inline bint skip_value(Reader* reader) noexcept:
    """Go behind one value; what is inside an extension type is not looked at. False: fault is set."""
    cdef Head head
    cdef uint64_t pending = 1
    while pending:
        if not read_head(reader, &head):
            return False
        pending -= 1
        if head.kind == FORM_TEXT or head.kind == FORM_BYTES or head.kind == FORM_EXTENSION:
            reader.at += head.number
        elif head.kind == FORM_LIST:
            pending += head.number
        elif head.kind == FORM_MAP:
            pending += 2 * head.number
    return True
