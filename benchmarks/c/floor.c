/* floor.c - a module of Python with the least that a store of sessions with these promises could do, step by step.
 *
 * Each function takes an id, as `store.load` does, and does one thing more than the one before it:
 *
 *   touch    reads the id, wherever its object lies, and gives None
 *   digest   the keyed SHA-256 of it, by the code of the table
 *   place    a lock word is taken and given back by one compare-and-swap each; one line of an index is read
 *   record   the record that the index names is read: 32 bytes are compared, its deadline with the clock, and its bytes
 *            become a bytes object, which is the request's own copy
 *   field    one text of that copy becomes a str
 *
 * It is a floor and no store: nothing grows, nothing collides, nothing is written, nobody renews a deadline, the copy has
 * no checksum and no object with methods around it. The index and the records are as large as those of so many sessions,
 * 8 bytes at half full and 256 bytes, in places that the digest chooses, in ordinary memory.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#include "digest.h"

enum { RECORD = 256, HEAD = 96, FIELDS = 158, LOCKS = 64, LINE = 64, LOCALE = 70, LOCALE_LENGTH = 5 };

struct lock {
    _Atomic uint32_t word;
    char rest[LINE - sizeof(uint32_t)];
};

static struct lock locks[LOCKS] __attribute__((aligned(LINE)));
static struct digest_key key;
static uint64_t *entries;
static uint8_t *records;
static uint64_t mask, count;

/* floor.open(sessions): memory of that size, every page of it written. */
static PyObject *open_floor(PyObject *module, PyObject *number)
{
    static const uint8_t block[DIGEST_BLOCK] = {1};
    (void)module;
    count = PyLong_AsUnsignedLongLong(number);
    if (PyErr_Occurred() || count == 0)
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "a floor under no session");
    for (mask = 1; mask < 2 * count; mask *= 2)
        ;
    size_t sizes[2] = {mask * sizeof *entries, count * RECORD};
    void *pieces[2];
    mask--;
    for (int i = 0; i < 2; i++) {
        pieces[i] = mmap(NULL, sizes[i], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pieces[i] == MAP_FAILED)
            return PyErr_NoMemory();
    }
    entries = pieces[0];
    records = pieces[1];
    uint64_t state = 1;
    for (uint64_t i = 0; i <= mask; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        entries[i] = (state >> 33) % count;
    }
    memset(records, 'a', sizes[1]);
    digest_key_init(&key, block);
    Py_RETURN_NONE;
}

/* How far to go; each step is inlined into a function of its own. */
enum step { TOUCH, DIGEST, PLACE, RECORD_READ, FIELD };

static inline __attribute__((always_inline)) PyObject *go(PyObject *id, enum step last)
{
    uint8_t digest[DIGEST_SIZE];
    uint64_t prefix[2];
    struct timespec now;
    if (!PyUnicode_CheckExact(id) || PyUnicode_GET_LENGTH(id) != DIGEST_ID_LENGTH)
        return PyErr_Format(PyExc_TypeError, "no id");
    const uint8_t *text = PyUnicode_1BYTE_DATA(id);
    if (last == TOUCH)
        return PyBool_FromLong(*(const volatile uint8_t *)text != 0);
    digest_id(&key, text, digest);
    memcpy(prefix, digest, sizeof prefix);
    if (last == DIGEST)
        return PyBool_FromLong(prefix[0] != 0);
    _Atomic uint32_t *word = &locks[prefix[1] % LOCKS].word;
    uint32_t open = 0, mine = 1;
    if (!atomic_compare_exchange_strong(word, &open, 1))
        return PyErr_Format(PyExc_RuntimeError, "the lock is taken");
    uint64_t at = *(const volatile uint64_t *)&entries[prefix[0] & mask];
    PyObject *answer = Py_None;
    const uint8_t *record = records + at * RECORD;
    if (last >= RECORD_READ) {
        clock_gettime(CLOCK_BOOTTIME, &now);
        bool same = digest_equal(record, digest);
        answer = same || now.tv_sec < 0 ? NULL : PyBytes_FromStringAndSize((const char *)record + HEAD, FIELDS);
    }
    if (!atomic_compare_exchange_strong(word, &mine, 0) || answer == NULL) {
        if (answer != Py_None)
            Py_XDECREF(answer);
        return PyErr_Format(PyExc_RuntimeError, "nothing there");
    }
    if (last == FIELD) {
        PyObject *field = PyUnicode_New(LOCALE_LENGTH, 127);
        if (field != NULL)
            memcpy(PyUnicode_1BYTE_DATA(field), PyBytes_AS_STRING(answer) + LOCALE, LOCALE_LENGTH);
        Py_DECREF(answer);
        return field;
    }
    if (last == PLACE)
        return PyBool_FromLong(at != ~(uint64_t)0);
    return answer;
}

static PyObject *touch(PyObject *module, PyObject *id) { (void)module; return go(id, TOUCH); }
static PyObject *digest(PyObject *module, PyObject *id) { (void)module; return go(id, DIGEST); }
static PyObject *place(PyObject *module, PyObject *id) { (void)module; return go(id, PLACE); }
static PyObject *record(PyObject *module, PyObject *id) { (void)module; return go(id, RECORD_READ); }
static PyObject *field(PyObject *module, PyObject *id) { (void)module; return go(id, FIELD); }

static PyMethodDef methods[] = {
    {"open", open_floor, METH_O, NULL}, {"touch", touch, METH_O, NULL},   {"digest", digest, METH_O, NULL},
    {"place", place, METH_O, NULL},     {"record", record, METH_O, NULL}, {"field", field, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "floor", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit_floor(void)
{
    return PyModule_Create(&definition);
}
