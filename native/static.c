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
#define TENSORS 7
#define WIDEST 65536 /* dim and hidden: beyond any model, and products of sizes stay within 32 bits */
#define CHUNK_ROWS 256 /* of the table that get their memory together: 49 kB, where a row has 384 entries */

static const Array tensors[TENSORS] = {
    {"b", 1, 2, "inner as int8 [hidden, dim]"},           {"f", 4, 1, "inner_scales as float32 [hidden]"},
    {"f", 4, 1, "inner_bias as float32 [hidden]"},        {"b", 1, 2, "outer as int8 [dim, hidden]"},
    {"f", 4, 1, "outer_scales as float32 [dim]"},         {"f", 4, 1, "outer_bias as float32 [dim]"},
    {"f", 4, 1, "token_scales as float32 [vocabulary]"},
};

/* Rows of the table, which stay where they are; those of the chunk before are behind `before`. */
typedef struct Chunk {
    struct Chunk *before;
    uint8_t rows[];
} Chunk;

/* A student in Python's memory: the views keep its arrays alive. Rows of its table are read when a text has them, and
 * the first of them are kept. */
typedef struct {
    Student student;
    const Isa *isa;
    Py_buffer views[TENSORS];
    int held; /* views */
    PyObject *read; /* the octets of a row, by its id */
    size_t vocabulary, kept, most; /* rows: of the table, that are kept, and at most */
    const float *scales; /* [vocabulary] */
    const uint8_t **rows; /* [vocabulary], those that are kept, and NULL */
    int32_t *sums; /* of the inner layer's weights */
    Chunk *chunk;
} Borrowed;

static void borrowed_free(Borrowed *borrowed)
{
    release(borrowed->views, borrowed->held);
    Py_XDECREF(borrowed->read);
    while (borrowed->chunk) {
        Chunk *before = borrowed->chunk->before;
        PyMem_Free(borrowed->chunk);
        borrowed->chunk = before;
    }
    PyMem_Free(borrowed->rows);
    PyMem_Free(borrowed->sums);
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
    const Py_ssize_t vocabulary = has_table ? views[LAYERS].shape[0] : 0;
    const Py_ssize_t dim = views[3].shape[0], hidden = views[0].shape[0];
    const Py_ssize_t shapes[TENSORS][2] = {{hidden, dim}, {hidden}, {hidden}, {dim, hidden}, {dim}, {dim}, {vocabulary}};
    if (dim < 1 || dim > WIDEST || hidden > WIDEST || (has_table && dim % 2)) {
        PyErr_Format(refusal, "expected a dim of 1 to %d, even beside a table, and no larger hidden, got %zd and %zd: pass "
                              "the tensors of one bundle", WIDEST, dim, hidden);
        return 0;
    }
    for (int i = 0; i < borrowed->held; i++)
        for (int axis = 0; axis < tensors[i].ndim; axis++)
            if (views[i].shape[axis] != shapes[i][axis]) {
                PyErr_Format(refusal, "expected %s, here %zd on axis %d, got %zd: pass the tensors of one bundle",
                             tensors[i].expected, shapes[i][axis], axis, views[i].shape[axis]);
                return 0;
            }
    if (!(borrowed->sums = PyMem_Malloc((size_t)hidden * sizeof *borrowed->sums)))
        return PyErr_NoMemory() != NULL;
    sum_weights(views[0].buf, (size_t)hidden, (size_t)dim, borrowed->sums);
    borrowed->student = (Student){
        .dim = (size_t)dim,
        .hidden = (size_t)hidden,
        .inner = {views[0].buf, views[1].buf, views[2].buf, borrowed->sums},
        .outer = {views[3].buf, views[4].buf, views[5].buf, NULL},
    };
    if (!has_table)
        return 1;
    borrowed->vocabulary = (size_t)vocabulary;
    borrowed->scales = views[LAYERS].buf;
    borrowed->rows = PyMem_Calloc(borrowed->vocabulary, sizeof *borrowed->rows);
    return borrowed->rows || PyErr_NoMemory() != NULL;
}

/* A student of all tensors, or a head of the first. read, most: of the student's table. */
static PyObject *made(PyObject *const *arrays, int count, PyObject *read, size_t most, const char *isa)
{
    PyObject *capsule = NULL;
    Borrowed *borrowed = PyMem_Calloc(1, sizeof *borrowed);
    if (!borrowed)
        return PyErr_NoMemory();
    Py_XINCREF(read);
    borrowed->read = read;
    borrowed->most = most;
    borrowed->isa = isa_named(isa, "pass one of isas()");
    if (read && !PyCallable_Check(read))
        PyErr_SetString(refusal, "expected what reads a row, got no callable: pass what reads the bundle's table");
    else if (borrowed->isa)
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
    PyObject *arrays[TENSORS], *read;
    Py_ssize_t most;
    const char *isa;
    if (!PyArg_ParseTuple(args, "OnOOOOOOOs", &read, &most, &arrays[LAYERS], &arrays[0], &arrays[1], &arrays[2],
                          &arrays[3], &arrays[4], &arrays[5], &isa))
        return NULL;
    return made(arrays, TENSORS, read, most < 0 ? 0 : (size_t)most, isa);
}

static PyObject *py_head(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *arrays[LAYERS];
    const char *isa;
    if (!PyArg_ParseTuple(args, "OOOOOOs", &arrays[0], &arrays[1], &arrays[2], &arrays[3], &arrays[4], &arrays[5],
                          &isa))
        return NULL;
    return made(arrays, LAYERS, NULL, 0, isa);
}

/* Memory for one row more that is kept; NULL if there is none left. */
static uint8_t *next_row(Borrowed *borrowed, size_t octets)
{
    const size_t place = borrowed->kept % CHUNK_ROWS;
    if (borrowed->kept >= borrowed->most)
        return NULL;
    if (place == 0) {
        Chunk *fresh = PyMem_Malloc(sizeof *fresh + CHUNK_ROWS * octets);
        if (!fresh)
            return NULL;
        fresh->before = borrowed->chunk;
        borrowed->chunk = fresh;
    }
    borrowed->kept++;
    return borrowed->chunk->rows + octets * place;
}

/* Where the row of a token lies, which is read if it is not kept; into `spare`, if it cannot be. NULL if that fails. */
static const uint8_t *row_of(Borrowed *borrowed, size_t id, uint8_t *spare)
{
    const size_t octets = borrowed->student.dim / 2;
    if (borrowed->rows[id])
        return borrowed->rows[id];
    PyObject *found = PyObject_CallFunction(borrowed->read, "n", (Py_ssize_t)id);
    if (!found)
        return NULL;
    const uint8_t *row = NULL;
    if (!PyBytes_Check(found) || (size_t)PyBytes_Size(found) != octets)
        PyErr_Format(refusal, "expected %zu bytes of token %zu, got something else: pass what reads the bundle's table",
                     octets, id);
    else {
        /* Another thread may have read it meanwhile: it is not kept twice. */
        uint8_t *kept = borrowed->rows[id] ? NULL : next_row(borrowed, octets);
        row = memcpy(kept ? kept : spare, PyBytes_AsString(found), octets);
        if (kept)
            borrowed->rows[id] = kept;
    }
    Py_DECREF(found);
    return row;
}

/* The tokens of a list of ids. spare: memory for a row of each. */
static int read_tokens(Borrowed *borrowed, PyObject *list, Token *tokens, Py_ssize_t count, uint8_t *spare)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyList_GetItem(list, i);
        if (!item) /* what reads a row has made the list shorter */
            return 0;
        const Py_ssize_t id = PyLong_AsSsize_t(item);
        if (id < 0 || (size_t)id >= borrowed->vocabulary) {
            PyErr_Clear();
            PyErr_Format(refusal, "expected token ids below %zu, got %R: install or export the bundle again",
                         borrowed->vocabulary, item);
            return 0;
        }
        const uint8_t *row = row_of(borrowed, (size_t)id, spare + (size_t)i * (borrowed->student.dim / 2));
        if (!row)
            return 0;
        tokens[i] = (Token){row, borrowed->scales[id]};
    }
    return 1;
}

/* Fills `vector`, a bytearray, as `Encode` does; takes it over if it cannot. */
static PyObject *filled(const Borrowed *borrowed, const Token *tokens, Py_ssize_t count, void *scratch, PyObject *vector)
{
    float *numbers = (float *)(void *)PyByteArray_AsString(vector);
    int sound;
    Py_BEGIN_ALLOW_THREADS
    sound = borrowed->isa->encode(&borrowed->student, tokens, (size_t)count, scratch, numbers);
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
    Borrowed *borrowed = PyCapsule_GetPointer(capsule, STUDENT);
    if (!borrowed)
        return NULL;
    const Student *student = &borrowed->student;
    const Py_ssize_t count = PyList_Size(list);
    const size_t scratch = (student->dim + student->hidden) * SCRATCH_OCTETS, each = sizeof(Token) + student->dim / 2;
    Token *tokens = (size_t)count <= (PY_SSIZE_T_MAX - scratch) / each ? PyMem_Malloc((size_t)count * each + scratch) : NULL;
    PyObject *vector = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(student->dim * sizeof(float)));
    if (vector && !tokens)
        PyErr_NoMemory();
    if (vector && tokens && read_tokens(borrowed, list, tokens, count, (uint8_t *)(tokens + count) + scratch))
        vector = filled(borrowed, tokens, count, tokens + count, vector);
    else
        Py_CLEAR(vector);
    PyMem_Free(tokens);
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
     "student(read, most, token_scales, inner, inner_scales, inner_bias, outer, outer_scales, outer_bias, isa) -> capsule"},
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
