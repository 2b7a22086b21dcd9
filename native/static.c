/* The native build of static.py: checks what Python hands over, then encodes without the GIL.
 * Stable ABI, so that one build serves every Python from 3.11 on.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "static.h"

#include "python.h"

#define CAPSULE "edgeret.encode._static.student"
#define TENSORS 8

static const Array tensors[TENSORS] = {
    {"B", 1, 2, "tokens as uint8 [vocabulary, dim / 2]"}, {"f", 4, 1, "token_scales as float32 [vocabulary]"},
    {"b", 1, 2, "inner as int8 [hidden, dim]"},           {"f", 4, 1, "inner_scales as float32 [hidden]"},
    {"f", 4, 1, "inner_bias as float32 [hidden]"},        {"b", 1, 2, "outer as int8 [dim, hidden]"},
    {"f", 4, 1, "outer_scales as float32 [dim]"},         {"f", 4, 1, "outer_bias as float32 [dim]"},
};

/* A student in Python's memory: the views keep its arrays alive. */
typedef struct {
    Student student;
    const Isa *isa;
    Py_buffer views[TENSORS];
    int held; /* views */
} Borrowed;

static void borrowed_free(Borrowed *borrowed)
{
    release(borrowed->views, borrowed->held);
    PyMem_Free(borrowed);
}

static void capsule_free(PyObject *capsule) { borrowed_free(PyCapsule_GetPointer(capsule, CAPSULE)); }

/* Whether the tensors have the sizes that the first and the third one tell; sets the student. */
static int fit_together(Borrowed *borrowed)
{
    const Py_buffer *views = borrowed->views;
    const Py_ssize_t vocabulary = views[0].shape[0], half = views[0].shape[1], hidden = views[2].shape[0];
    const Py_ssize_t shapes[TENSORS][2] = {{vocabulary, half}, {vocabulary}, {hidden, 2 * half}, {hidden}, {hidden},
                                           {2 * half, hidden}, {2 * half},   {2 * half}};
    if (half < 1) {
        PyErr_SetString(refusal, "expected a dim of at least 2, got 0: pass the tensors of one bundle");
        return 0;
    }
    for (int i = 0; i < TENSORS; i++)
        for (int axis = 0; axis < tensors[i].ndim; axis++)
            if (views[i].shape[axis] != shapes[i][axis]) {
                PyErr_Format(refusal, "expected %s, here %zd on axis %d, got %zd: pass the tensors of one bundle",
                             tensors[i].expected, shapes[i][axis], axis, views[i].shape[axis]);
                return 0;
            }
    borrowed->student = (Student){
        .vocabulary = (size_t)vocabulary,
        .dim = 2 * (size_t)half,
        .hidden = (size_t)hidden,
        .rows = views[0].buf,
        .scales = views[1].buf,
        .inner = {views[2].buf, views[3].buf, views[4].buf},
        .outer = {views[5].buf, views[6].buf, views[7].buf},
    };
    return 1;
}

static PyObject *py_student(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *arrays[TENSORS], *capsule = NULL;
    const char *isa;
    if (!PyArg_ParseTuple(args, "OOOOOOOOs", &arrays[0], &arrays[1], &arrays[2], &arrays[3], &arrays[4], &arrays[5],
                          &arrays[6], &arrays[7], &isa))
        return NULL;
    Borrowed *borrowed = PyMem_Calloc(1, sizeof *borrowed);
    if (!borrowed)
        return PyErr_NoMemory();
    borrowed->isa = isa_named(isa, "pass one of isas()");
    if (borrowed->isa)
        borrowed->held = views_of(arrays, tensors, TENSORS, borrowed->views);
    if (borrowed->held == TENSORS && fit_together(borrowed))
        capsule = PyCapsule_New(borrowed, CAPSULE, capsule_free);
    if (!capsule)
        borrowed_free(borrowed);
    return capsule;
}

static int read_ids(PyObject *list, size_t *ids, Py_ssize_t count, size_t vocabulary)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyList_GetItem(list, i);
        const Py_ssize_t id = PyLong_AsSsize_t(item);
        if (id < 0 || (size_t)id >= vocabulary) {
            PyErr_Clear();
            PyErr_Format(refusal, "expected token ids below %zu, got %R: install or export the bundle again",
                         vocabulary, item);
            return 0;
        }
        ids[i] = (size_t)id;
    }
    return 1;
}

static PyObject *py_encode(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *capsule, *list;
    if (!PyArg_ParseTuple(args, "OO!", &capsule, &PyList_Type, &list))
        return NULL;
    const Borrowed *borrowed = PyCapsule_GetPointer(capsule, CAPSULE);
    if (!borrowed)
        return NULL;
    const Student *student = &borrowed->student;
    const Py_ssize_t count = PyList_Size(list);
    size_t *ids = PyMem_Malloc((size_t)count * sizeof *ids + (student->dim + student->hidden) * SCRATCH_OCTETS);
    PyObject *vector = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(student->dim * sizeof(float)));
    int sound = vector && ids;
    if (vector && !ids)
        PyErr_NoMemory();
    if (sound && (sound = read_ids(list, ids, count, student->vocabulary))) {
        float *numbers = (float *)(void *)PyByteArray_AsString(vector);
        Py_BEGIN_ALLOW_THREADS
        sound = borrowed->isa->encode(student, ids, (size_t)count, ids + count, numbers);
        Py_END_ALLOW_THREADS
        if (!sound)
            PyErr_SetString(refusal, "expected weights that give finite vectors, got larger ones: "
                                     "install or export the bundle again");
    }
    PyMem_Free(ids);
    if (!sound)
        Py_CLEAR(vector);
    return vector;
}

static PyMethodDef methods[] = {
    {"student", py_student, METH_VARARGS,
     "student(tokens, token_scales, inner, inner_scales, inner_bias, outer, outer_scales, outer_bias, isa) -> capsule"},
    {"encode", py_encode, METH_VARARGS, "encode(student, ids) -> a unit vector, float32 [dim], as a bytearray"},
    {"isas", py_isas, METH_NOARGS, "isas() -> the instruction sets that run here, best first"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_static", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__static(void)
{
    return import_refusal("BundleError") ? PyModule_Create(&definition) : NULL;
}
