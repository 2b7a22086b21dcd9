/* The native build of pieces.py: checks what Python hands over, then tokenizes without the GIL.
 * Stable ABI, so that one build serves every Python from 3.11 on.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "tokenize.h"

#include "python.h"

#define CAPSULE "edgeret.encode._tokenize.tokenizer"
#define TABLES 6

static const struct {
    const char *formats;
    Py_ssize_t itemsize;
    int ndim;
    const char *expected;
} tables[TABLES] = {
    {"H", 2, 1, "pages as uint16 [4352]"},  {"IL", 4, 2, "entries as uint32 [blocks, 256]"},
    {"IL", 4, 1, "sequences as uint32 [n]"}, {"IL", 4, 2, "marks as uint32 [n, 2]"},
    {"IL", 4, 1, "units as uint32 [n]"},    {"IL", 4, 1, "special as uint32 [n]"},
};

/* A tokenizer in Python's memory: the views keep its tables alive. */
typedef struct {
    Tokenizer tokenizer;
    const uint32_t *special; /* ids, `before` of them before a text and the others behind it */
    Py_ssize_t before, around;
    Py_buffer views[TABLES];
    int held; /* views */
} Borrowed;

static void borrowed_free(Borrowed *borrowed)
{
    while (borrowed->held > 0)
        PyBuffer_Release(&borrowed->views[--borrowed->held]);
    PyMem_Free(borrowed);
}

static void capsule_free(PyObject *capsule) { borrowed_free(PyCapsule_GetPointer(capsule, CAPSULE)); }

static int set_tables(Borrowed *borrowed)
{
    const Py_buffer *views = borrowed->views;
    Tokenizer *tokenizer = &borrowed->tokenizer;
    borrowed->special = views[5].buf;
    borrowed->around = views[5].shape[0];
    tokenizer->pages = views[0].buf;
    tokenizer->entries = views[1].buf;
    tokenizer->sequences = views[2].buf;
    tokenizer->marks = views[3].buf;
    tokenizer->units = views[4].buf;
    tokenizer->blocks = (size_t)views[1].shape[0];
    tokenizer->sequences_size = (size_t)views[2].shape[0];
    tokenizer->marks_size = (size_t)views[3].shape[0];
    tokenizer->units_size = (size_t)views[4].shape[0];
    if (views[0].shape[0] == PAGES && views[1].shape[1] == 256 && views[3].shape[1] == 2 &&
        tokenizer->longest <= LONGEST_WORD && borrowed->before <= borrowed->around)
        return 1;
    PyErr_SetString(refusal, "expected the tables of one tokenizer, got others: install or export the bundle again");
    return 0;
}

static PyObject *py_tokenizer(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *arrays[TABLES], *capsule = NULL;
    unsigned unknown, longest, continuing, before;
    if (!PyArg_ParseTuple(args, "OOOOOOIIII", &arrays[0], &arrays[1], &arrays[2], &arrays[3], &arrays[4], &arrays[5],
                          &unknown, &longest, &continuing, &before))
        return NULL;
    Borrowed *borrowed = PyMem_Calloc(1, sizeof *borrowed);
    if (!borrowed)
        return PyErr_NoMemory();
    borrowed->tokenizer.unknown = unknown;
    borrowed->tokenizer.longest = longest;
    borrowed->tokenizer.continuing = continuing;
    borrowed->before = (Py_ssize_t)before;
    int sound = 1;
    for (int i = 0; sound && i < TABLES; i++) {
        sound = view_of(arrays[i], &borrowed->views[i], tables[i].formats, tables[i].itemsize, tables[i].ndim,
                        tables[i].expected);
        borrowed->held += sound;
    }
    if (sound && set_tables(borrowed))
        capsule = PyCapsule_New(borrowed, CAPSULE, capsule_free);
    if (!capsule)
        borrowed_free(borrowed);
    return capsule;
}

static int set_item(PyObject *list, Py_ssize_t place, PyObject *item)
{
    return item && PyList_SetItem(list, place, item) == 0;
}

static PyObject *new_span(uint32_t start, uint32_t stop)
{
    PyObject *span = PyTuple_New(2), *first = PyLong_FromUnsignedLong(start), *last = PyLong_FromUnsignedLong(stop);
    if (span && first && last) {
        PyTuple_SetItem(span, 0, first);
        PyTuple_SetItem(span, 1, last);
        return span;
    }
    Py_XDECREF(span);
    Py_XDECREF(first);
    Py_XDECREF(last);
    return NULL;
}

static PyObject *as_lists(const Borrowed *borrowed, const Tokens *found, int special)
{
    const Py_ssize_t before = special ? borrowed->before : 0, around = special ? borrowed->around : 0;
    const Py_ssize_t count = (Py_ssize_t)found->count + around;
    PyObject *ids = PyList_New(count), *spans = PyList_New(count), *words = PyList_New(count), *result = NULL;
    PyObject *nowhere = new_span(0, 0), *no_word = PyLong_FromLong(-1);
    int sound = ids && spans && words && nowhere && no_word;
    for (Py_ssize_t i = 0; sound && i < count; i++) {
        const Py_ssize_t place = i - before;
        if (place >= 0 && place < (Py_ssize_t)found->count) {
            const Token *token = &found->tokens[place];
            sound = set_item(ids, i, PyLong_FromUnsignedLong(token->id)) &&
                    set_item(spans, i, new_span(token->start, token->stop)) &&
                    set_item(words, i, PyLong_FromUnsignedLong(token->word));
        } else {
            const Py_ssize_t number = place < 0 ? i : place - (Py_ssize_t)found->count + before;
            sound = set_item(ids, i, PyLong_FromUnsignedLong(borrowed->special[number])) &&
                    set_item(spans, i, Py_NewRef(nowhere)) && set_item(words, i, Py_NewRef(no_word));
        }
    }
    if (sound)
        result = PyTuple_Pack(3, ids, spans, words);
    Py_XDECREF(ids);
    Py_XDECREF(spans);
    Py_XDECREF(words);
    Py_XDECREF(nowhere);
    Py_XDECREF(no_word);
    return result;
}

static PyObject *py_encode(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *capsule, *text;
    int special, sound;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "OUp", &capsule, &text, &special))
        return NULL;
    const Borrowed *borrowed = PyCapsule_GetPointer(capsule, CAPSULE);
    const char *octets = borrowed ? PyUnicode_AsUTF8AndSize(text, &size) : NULL;
    if (!octets)
        return NULL;
    if ((uint64_t)size >= NOWHERE) {
        PyErr_SetString(refusal, "expected a text of less than 4 GiB, got more: tokenize a part of it at a time");
        return NULL;
    }
    Tokens found = {0};
    Py_BEGIN_ALLOW_THREADS
    sound = tokenize(&borrowed->tokenizer, (const uint8_t *)octets, (size_t)size, &found);
    Py_END_ALLOW_THREADS
    PyObject *result = sound ? as_lists(borrowed, &found, special) : PyErr_NoMemory();
    free(found.tokens);
    return result;
}

static PyMethodDef methods[] = {
    {"tokenizer", py_tokenizer, METH_VARARGS,
     "tokenizer(pages, entries, sequences, marks, units, special, unknown, longest, continuing, before) -> capsule"},
    {"encode", py_encode, METH_VARARGS, "encode(tokenizer, text, special) -> (ids, spans, words), a list each"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_tokenize", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__tokenize(void)
{
    return import_refusal("BundleError") ? PyModule_Create(&definition) : NULL;
}
