/* The native build of storage/checksum.py: lines as SQLite gives them, verified, as arrays. Stable ABI, so that one
 * build serves every Python from 3.11 on.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "checksum.h"

#include "lines.h"

#include <math.h>

#define HEAD 4 /* numbers before a line's content */
#define FIXED 1073741824.0

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

/* The cosine of a stored vector to one in fixed point, whose unit is FIXED: of integers, so that every build has it. */
static float cosine(const int8_t *stored, const int32_t *vector, Py_ssize_t width)
{
    int64_t dot = 0, square = 0;
    for (Py_ssize_t i = 0; i < width; i++) {
        dot += (int64_t)stored[i] * vector[i];
        square += stored[i] * stored[i];
    }
    const double found = (double)dot / (sqrt((double)(square ? square : 1)) * FIXED);
    return (float)(found > 1 ? 1 : found < -1 ? -1 : found);
}

static PyObject *py_score_lines(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *lines, *result = NULL;
    Py_ssize_t width, sound = 0;
    Py_buffer vectors;
    if (!PyArg_ParseTuple(args, "O!ny*", &PyList_Type, &lines, &width, &vectors))
        return NULL;
    const Py_ssize_t count = PyList_Size(lines), head = HEAD * (Py_ssize_t)sizeof(int64_t);
    const Py_ssize_t vector = width * (Py_ssize_t)sizeof(int32_t);
    PyObject *heads = PyBytes_FromStringAndSize(NULL, count * head);
    PyObject *scores = PyBytes_FromStringAndSize(NULL, count * (Py_ssize_t)sizeof(float));
    char *content = PyMem_Malloc(width > 0 ? (size_t)width : 1);
    if (heads && scores && content && width > 0) {
        int64_t *numbers = (int64_t *)(void *)PyBytes_AsString(heads);
        float *score = (float *)(void *)PyBytes_AsString(scores);
        for (; sound < count && take_line(PyList_GetItem(lines, sound), width, numbers, content); sound++) {
            if (numbers[2] < 0 || numbers[2] > numbers[3])
                break;
            *score = -1;
            for (const char *at = vectors.buf; at + vector <= (const char *)vectors.buf + vectors.len; at += vector) {
                const float found = cosine((const int8_t *)content, (const int32_t *)(const void *)at, width);
                *score = found > *score ? found : *score;
            }
            numbers += HEAD;
            score++;
        }
        result = Py_BuildValue("OOn", heads, scores, sound);
    } else if (!PyErr_Occurred())
        PyErr_NoMemory();
    PyMem_Free(content);
    Py_XDECREF(heads);
    Py_XDECREF(scores);
    PyBuffer_Release(&vectors);
    return result;
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
    {"score_lines", py_score_lines, METH_VARARGS,
     "score_lines(lines, width, vectors) -> (int64 [lines, 4] as bytes, float [lines] as bytes, how many are sound)"},
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
