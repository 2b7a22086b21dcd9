/* The native build of static.py: checks what Python hands over, then encodes without the GIL.
 * Stable ABI, so that one build serves every Python from 3.11 on.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "static.h"

#include "python.h"

#define STUDENT "edgeret.encode._static.student"
#define HEAD "edgeret.encode._static.head"
#define LAYERS 6 /* the tensors of a head, which is a student without a table */
#define TENSORS 8

static const Array tensors[TENSORS] = {
    {"b", 1, 2, "inner as int8 [hidden, dim]"},           {"f", 4, 1, "inner_scales as float32 [hidden]"},
    {"f", 4, 1, "inner_bias as float32 [hidden]"},        {"b", 1, 2, "outer as int8 [dim, hidden]"},
    {"f", 4, 1, "outer_scales as float32 [dim]"},         {"f", 4, 1, "outer_bias as float32 [dim]"},
    {"B", 1, 2, "tokens as uint8 [vocabulary, dim / 2]"}, {"f", 4, 1, "token_scales as float32 [vocabulary]"},
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

static void capsule_free(PyObject *capsule)
{
    borrowed_free(PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule)));
}

/* Whether the tensors have the sizes that inner and the table, or else outer, tell; sets the student. */
static int fit_together(Borrowed *borrowed)
{
    const Py_buffer *views = borrowed->views;
    const int has_table = borrowed->held == TENSORS;
    const Py_ssize_t vocabulary = has_table ? views[LAYERS].shape[0] : 0, half = has_table ? views[LAYERS].shape[1] : 0;
    const Py_ssize_t dim = has_table ? 2 * half : views[3].shape[0], hidden = views[0].shape[0];
    const Py_ssize_t shapes[TENSORS][2] = {{hidden, dim}, {hidden}, {hidden},           {dim, hidden},
                                           {dim},         {dim},    {vocabulary, half}, {vocabulary}};
    if (dim < 1) {
        PyErr_SetString(refusal, "expected a dim of at least 1, got 0: pass the tensors of one bundle");
        return 0;
    }
    for (int i = 0; i < borrowed->held; i++)
        for (int axis = 0; axis < tensors[i].ndim; axis++)
            if (views[i].shape[axis] != shapes[i][axis]) {
                PyErr_Format(refusal, "expected %s, here %zd on axis %d, got %zd: pass the tensors of one bundle",
                             tensors[i].expected, shapes[i][axis], axis, views[i].shape[axis]);
                return 0;
            }
    borrowed->student = (Student){
        .vocabulary = (size_t)vocabulary,
        .dim = (size_t)dim,
        .hidden = (size_t)hidden,
        .rows = has_table ? views[LAYERS].buf : NULL,
        .scales = has_table ? views[LAYERS + 1].buf : NULL,
        .inner = {views[0].buf, views[1].buf, views[2].buf},
        .outer = {views[3].buf, views[4].buf, views[5].buf},
    };
    return 1;
}

/* A student of all tensors, or a head of the first. */
static PyObject *made(PyObject *const *arrays, int count, const char *isa)
{
    PyObject *capsule = NULL;
    Borrowed *borrowed = PyMem_Calloc(1, sizeof *borrowed);
    if (!borrowed)
        return PyErr_NoMemory();
    borrowed->isa = isa_named(isa, "pass one of isas()");
    if (borrowed->isa)
        borrowed->held = views_of(arrays, tensors, count, borrowed->views);
    if (borrowed->held == count && fit_together(borrowed))
        capsule = PyCapsule_New(borrowed, count == TENSORS ? STUDENT : HEAD, capsule_free);
    if (!capsule)
        borrowed_free(borrowed);
    return capsule;
}

static PyObject *py_student(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *arrays[TENSORS];
    const char *isa;
    if (!PyArg_ParseTuple(args, "OOOOOOOOs", &arrays[LAYERS], &arrays[LAYERS + 1], &arrays[0], &arrays[1], &arrays[2],
                          &arrays[3], &arrays[4], &arrays[5], &isa))
        return NULL;
    return made(arrays, TENSORS, isa);
}

static PyObject *py_head(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *arrays[LAYERS];
    const char *isa;
    if (!PyArg_ParseTuple(args, "OOOOOOs", &arrays[0], &arrays[1], &arrays[2], &arrays[3], &arrays[4], &arrays[5],
                          &isa))
        return NULL;
    return made(arrays, LAYERS, isa);
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

/* Fills `vector`, a bytearray, as `Encode` does; takes it over if it cannot. */
static PyObject *filled(const Borrowed *borrowed, const size_t *ids, Py_ssize_t count, void *scratch, PyObject *vector)
{
    float *numbers = (float *)(void *)PyByteArray_AsString(vector);
    int sound;
    Py_BEGIN_ALLOW_THREADS
    sound = borrowed->isa->encode(&borrowed->student, ids, (size_t)count, scratch, numbers);
    Py_END_ALLOW_THREADS
    if (!sound) {
        PyErr_SetString(refusal, "expected weights that give finite vectors, got larger ones: "
                                 "install or export the bundle again");
        Py_CLEAR(vector);
    }
    return vector;
}

static PyObject *py_encode(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *capsule, *list;
    if (!PyArg_ParseTuple(args, "OO!", &capsule, &PyList_Type, &list))
        return NULL;
    const Borrowed *borrowed = PyCapsule_GetPointer(capsule, STUDENT);
    if (!borrowed)
        return NULL;
    const Student *student = &borrowed->student;
    const Py_ssize_t count = PyList_Size(list);
    size_t *ids = PyMem_Malloc((size_t)count * sizeof *ids + (student->dim + student->hidden) * SCRATCH_OCTETS);
    PyObject *vector = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(student->dim * sizeof(float)));
    if (vector && !ids)
        PyErr_NoMemory();
    if (vector && ids && read_ids(list, ids, count, student->vocabulary))
        vector = filled(borrowed, ids, count, ids + count, vector);
    else
        Py_CLEAR(vector);
    PyMem_Free(ids);
    return vector;
}

static PyObject *py_correct(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *capsule, *array, *vector = NULL;
    Py_buffer sum;
    if (!PyArg_ParseTuple(args, "OO", &capsule, &array))
        return NULL;
    const Borrowed *borrowed = PyCapsule_GetPointer(capsule, HEAD);
    if (!borrowed || !view_of(array, &sum, "f", 4, 1, "a sum as float32 [dim]"))
        return NULL;
    const Student *student = &borrowed->student;
    void *scratch = PyMem_Malloc((student->dim + student->hidden) * SCRATCH_OCTETS);
    if ((size_t)sum.shape[0] != student->dim)
        PyErr_Format(refusal, "expected a sum as float32 [%zu], got %zd entries: pass that of the bundle's table",
                     student->dim, sum.shape[0]);
    else if (!scratch)
        PyErr_NoMemory();
    else if ((vector = PyByteArray_FromStringAndSize(sum.buf, sum.len)))
        vector = filled(borrowed, NULL, 0, scratch, vector);
    PyMem_Free(scratch);
    PyBuffer_Release(&sum);
    return vector;
}

static PyMethodDef methods[] = {
    {"student", py_student, METH_VARARGS,
     "student(tokens, token_scales, inner, inner_scales, inner_bias, outer, outer_scales, outer_bias, isa) -> capsule"},
    {"head", py_head, METH_VARARGS,
     "head(inner, inner_scales, inner_bias, outer, outer_scales, outer_bias, isa) -> capsule"},
    {"encode", py_encode, METH_VARARGS, "encode(student, ids) -> a unit vector, float32 [dim], as a bytearray"},
    {"correct", py_correct, METH_VARARGS,
     "correct(head, sum of embeddings) -> a unit vector, float32 [dim], as a bytearray"},
    {"isas", py_isas, METH_NOARGS, "isas() -> the instruction sets that run here, best first"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_static", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__static(void)
{
    return import_refusal("BundleError") ? PyModule_Create(&definition) : NULL;
}
