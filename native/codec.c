/* The native build of codec.py: the planes of a query. Stable ABI, so that one build serves every Python from 3.11 on. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#include "python.h"

#define PLANES 4
#define TOP 15 /* the highest level, from 0 on */

/* The level of a weight in steps from the middle. */
static unsigned level_of(float steps)
{
    if (!(steps >= -(TOP + 1) / 2))
        return 0;
    if (steps >= (TOP + 1) / 2)
        return TOP;
    const int whole = (int)steps;
    return (unsigned)(whole - ((float)whole > steps) + (TOP + 1) / 2);
}

static PyObject *py_planes(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *array;
    Py_buffer view;
    float spacing;
    if (!PyArg_ParseTuple(args, "Of", &array, &spacing) ||
        !view_of(array, &view, "f", sizeof(float), 1, "weights as float32 [bits]"))
        return NULL;
    const Py_ssize_t bits = view.shape[0], words = (bits + 63) / 64, octets = PLANES * words * (Py_ssize_t)sizeof(uint64_t);
    PyObject *result = PyBytes_FromStringAndSize(NULL, octets);
    if (result) {
        uint64_t *planes = (uint64_t *)(void *)PyBytes_AsString(result);
        const float *weights = view.buf;
        memset(planes, 0, (size_t)octets);
        for (Py_ssize_t bit = 0; bit < bits; bit++) {
            const uint64_t level = level_of(weights[bit] / spacing);
            for (int plane = 0; plane < PLANES; plane++)
                planes[plane * words + bit / 64] |= (level >> plane & 1) << bit % 64;
        }
    }
    PyBuffer_Release(&view);
    return result;
}

static PyMethodDef methods[] = {
    {"planes", py_planes, METH_VARARGS, "planes(weights, spacing) -> uint64 [4, words] as bytes"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_codec", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__codec(void)
{
    return import_refusal("InvalidVectorError") ? PyModule_Create(&definition) : NULL;
}
