/* The native build of `find_all` and `read_lists` of storage/terms.py: pages and lists as SQLite gives them, verified.
 * Stable ABI, so that one build serves every Python from 3.11 on.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "checksum.h"
#include "terms.h"

#include "lines.h"

/* The content of a line, which ends with a key, a checksum and the content; NULL if it is not what was written. */
static PyObject *sound_content(PyObject *line, Py_ssize_t columns)
{
    int64_t key, told;
    if (!PyTuple_Check(line) || PyTuple_Size(line) != columns ||
        !number_of(PyTuple_GetItem(line, columns - 3), &key) || !number_of(PyTuple_GetItem(line, columns - 2), &told))
        return NULL;
    PyObject *content = PyTuple_GetItem(line, columns - 1);
    if (!PyBytes_Check(content))
        return NULL;
    const uint8_t *octets = (const uint8_t *)PyBytes_AsString(content);
    return told == checksum_of(&key, 1, octets, (size_t)PyBytes_Size(content)) ? content : NULL;
}

static PyObject *py_are_sound(PyObject *module, PyObject *lines)
{
    (void)module;
    if (!PyList_Check(lines)) {
        PyErr_SetString(PyExc_TypeError, "expected a list of lines");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_Size(lines); i++)
        if (!sound_content(PyList_GetItem(lines, i), 3))
            Py_RETURN_FALSE;
    Py_RETURN_TRUE;
}

/* What the page of a line has of its term, or None; `*damaged` if it is not what was written. */
static PyObject *found_in(PyObject *line, PyObject *terms, int *damaged)
{
    PyObject *content = sound_content(line, 4);
    int64_t number = -1;
    *damaged = !content || !number_of(PyTuple_GetItem(line, 0), &number) || number < 0 || number >= PyTuple_Size(terms);
    PyObject *term = *damaged ? NULL : PyTuple_GetItem(terms, (Py_ssize_t)number);
    if (!term || !PyBytes_Check(term))
        Py_RETURN_NONE;
    Entry entry;
    const Outcome outcome =
        page_find((const uint8_t *)PyBytes_AsString(content), (size_t)PyBytes_Size(content),
                  (const uint8_t *)PyBytes_AsString(term), (size_t)PyBytes_Size(term), &entry);
    *damaged = outcome == DAMAGED;
    if (outcome != FOUND)
        Py_RETURN_NONE;
    /* "y#" makes None of NULL. */
    return Py_BuildValue("Ly#II", (long long)entry.net, (const char *)entry.rows, (Py_ssize_t)entry.octets, entry.list,
                         entry.lists);
}

static PyObject *py_find(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *lines, *terms;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &lines, &PyTuple_Type, &terms))
        return NULL;
    PyObject *found = PyList_New(0);
    int damaged = 0;
    for (Py_ssize_t i = 0; found && !damaged && i < PyList_Size(lines); i++) {
        PyObject *entry = found_in(PyList_GetItem(lines, i), terms, &damaged);
        if (!entry || PyList_Append(found, entry) < 0)
            Py_CLEAR(found);
        Py_XDECREF(entry);
    }
    if (!found || !damaged)
        return found;
    Py_DECREF(found);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"are_sound", py_are_sound, METH_O, "are_sound(lines) -> whether each (key, crc, content) is what was written"},
    {"find", py_find, METH_VARARGS,
     "find(lines, terms) -> for each (number, key, crc, page) (net, rows, list, lists) or None; None for damage"},
    {NULL, NULL, 0, NULL},
};

static int begin(PyObject *module)
{
    (void)module;
    checksum_begin();
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)begin}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "edgeret.storage._terms", .m_methods = methods, .m_slots = slots,
};

PyMODINIT_FUNC PyInit__terms(void) { return PyModuleDef_Init(&definition); }
