/* The native build of storage/checksum.py: lines as SQLite gives them, verified, as arrays. Stable ABI, so that one
 * build serves every Python from 3.11 on.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "checksum.h"

#include "lines.h"

#define HEAD 4 /* numbers before a line's content */

/* Copies a line's numbers and content; 0 if they are not what was written. */
static int take_line(PyObject *line, Py_ssize_t width, int64_t *head, char *content)
{
    if (!PyTuple_Check(line) || PyTuple_Size(line) != HEAD + 2)
        return 0;
    for (int i = 0; i < HEAD; i++)
        if (!number_of(PyTuple_GetItem(line, i), &head[i]))
            return 0;
    PyObject *octets = PyTuple_GetItem(line, HEAD);
    int64_t told;
    if (!PyBytes_Check(octets) || PyBytes_Size(octets) != width || !number_of(PyTuple_GetItem(line, HEAD + 1), &told))
        return 0;
    memcpy(content, PyBytes_AsString(octets), (size_t)width);
    return told == checksum_of(head, HEAD, (const uint8_t *)content, (size_t)width);
}

static PyObject *py_sound_lines(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *lines, *result = NULL;
    Py_ssize_t width, sound = 0;
    if (!PyArg_ParseTuple(args, "O!n", &PyList_Type, &lines, &width))
        return NULL;
    const Py_ssize_t count = PyList_Size(lines), head = HEAD * (Py_ssize_t)sizeof(int64_t);
    if (width < 0 || count > PY_SSIZE_T_MAX / (width + head))
        return PyErr_NoMemory();
    PyObject *heads = PyBytes_FromStringAndSize(NULL, count * head);
    PyObject *contents = PyBytes_FromStringAndSize(NULL, count * width);
    if (heads && contents) {
        int64_t *numbers = (int64_t *)(void *)PyBytes_AsString(heads);
        char *at = PyBytes_AsString(contents);
        while (sound < count && take_line(PyList_GetItem(lines, sound), width, numbers + HEAD * sound, at + width * sound))
            sound++;
        result = Py_BuildValue("OOn", heads, contents, sound);
    }
    Py_XDECREF(heads);
    Py_XDECREF(contents);
    return result;
}

static PyMethodDef methods[] = {
    {"sound_lines", py_sound_lines, METH_VARARGS,
     "sound_lines(lines, width) -> (int64 [lines, 4] as bytes, uint8 [lines, width] as bytes, how many are sound)"},
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
    PyModuleDef_HEAD_INIT, .m_name = "edgeret.storage._checksum", .m_methods = methods, .m_slots = slots,
};

PyMODINIT_FUNC PyInit__checksum(void) { return PyModuleDef_Init(&definition); }
