/* The native build of words.py: takes a text, gives its words. Stable ABI: one build for every Python from 3.11 on. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "words.h"

/* Collects words for Python. */
typedef struct {
    PyObject *terms;
    int64_t *spans;
    Py_ssize_t count, room;
} Collected;

static int collect(void *context, const uint32_t *term, int length, int64_t start, int64_t stop)
{
    Collected *collected = context;
    char octets[4 * (LONGEST + 1)], *at = octets;
    for (int i = 0; i < length; i++) {
        const uint32_t code = term[i];
        if (code < 0x80) {
            *at++ = (char)code;
        } else if (code < 0x800) {
            *at++ = (char)(0xC0 | code >> 6);
            *at++ = (char)(0x80 | (code & 63));
        } else if (code < 0x10000) {
            *at++ = (char)(0xE0 | code >> 12);
            *at++ = (char)(0x80 | (code >> 6 & 63));
            *at++ = (char)(0x80 | (code & 63));
        } else {
            *at++ = (char)(0xF0 | code >> 18);
            *at++ = (char)(0x80 | (code >> 12 & 63));
            *at++ = (char)(0x80 | (code >> 6 & 63));
            *at++ = (char)(0x80 | (code & 63));
        }
    }
    if (collected->count == collected->room) {
        const Py_ssize_t room = 2 * collected->room + 32;
        int64_t *grown = PyMem_Realloc(collected->spans, (size_t)room * 2 * sizeof(int64_t));
        if (!grown) {
            PyErr_NoMemory();
            return 0;
        }
        collected->spans = grown;
        collected->room = room;
    }
    collected->spans[2 * collected->count] = start;
    collected->spans[2 * collected->count + 1] = stop;
    collected->count++;
    PyObject *word = PyUnicode_DecodeUTF8(octets, at - octets, NULL);
    const int added = word && PyList_Append(collected->terms, word) == 0;
    Py_XDECREF(word);
    return added;
}

/* Fold a text, read as UTF-8; 0 if memory is short. A lone surrogate, which has no UTF-8, is refused by Python. */
static int fold_text(Folded *folded, const Table *table, const unsigned char *octets, Py_ssize_t size)
{
    for (const unsigned char *at = octets, *end = octets + size; at < end;) {
        uint32_t code = *at++;
        if (code >= 0xF0) {
            code = (code & 7) << 18 | (uint32_t)(at[0] & 63) << 12 | (uint32_t)(at[1] & 63) << 6 | (at[2] & 63);
            at += 3;
        } else if (code >= 0xE0) {
            code = (code & 15) << 12 | (uint32_t)(at[0] & 63) << 6 | (at[1] & 63);
            at += 2;
        } else if (code >= 0xC0) {
            code = (code & 31) << 6 | (at[0] & 63);
            at += 1;
        }
        if (!fold(folded, table, code))
            return 0;
    }
    return 1;
}

static PyObject *py_split(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *text, *table_object;
    int stems;
    if (!PyArg_ParseTuple(args, "UOp", &text, &table_object, &stems))
        return NULL;
    Py_ssize_t size;
    const char *octets = PyUnicode_AsUTF8AndSize(text, &size);
    if (!octets)
        return NULL;
    Py_buffer view;
    if (PyObject_GetBuffer(table_object, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    Table table;
    PyObject *result = NULL;
    Folded folded = {NULL, 0, 0, 0};
    Collected collected = {PyList_New(0), NULL, 0, 0};
    if ((uintptr_t)view.buf % 4 || !table_open(&table, view.buf, (size_t)view.len))
        PyErr_SetString(PyExc_ValueError, "expected the table of edgeret.words, got other bytes");
    else if (!fold_text(&folded, &table, (const unsigned char *)octets, size))
        PyErr_NoMemory();
    else if (collected.terms && split(&(Splitter){&folded, stems, collect, &collected}))
        result = Py_BuildValue("Oy#", collected.terms, collected.spans ? (char *)collected.spans : "",
                               collected.count * (Py_ssize_t)(2 * sizeof(int64_t)));
    free(folded.units);
    PyMem_Free(collected.spans);
    Py_XDECREF(collected.terms);
    PyBuffer_Release(&view);
    return result;
}

static PyMethodDef methods[] = {
    {"split", py_split, METH_VARARGS, "split(text, table, stems) -> (terms, int64 [terms, 2] as bytes)"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "edgeret._words", .m_methods = methods, .m_slots = slots,
};

PyMODINIT_FUNC PyInit__words(void) { return PyModuleDef_Init(&definition); }
