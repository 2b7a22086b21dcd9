/* The native build of scan.py: checks what Python hands over, then searches without the GIL.
 * Stable ABI, so that one build serves every Python from 3.11 on.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "search.h"

#include "python.h"

#define GROUP 64 /* blocks */
#define REMEDY "unset EDGERET_SCAN_ISA"

typedef struct {
    Py_buffer codes, live;
    Columns columns;
    size_t rows;
    int64_t first_row;
} Block;

static void block_release(Block *block)
{
    PyBuffer_Release(&block->codes);
    if (block->columns.live)
        PyBuffer_Release(&block->live);
}

/* words 0: any number of words. */
static int block_acquire(Block *block, PyObject *object, size_t words, int64_t next_row)
{
    if (!PyTuple_Check(object) || PyTuple_Size(object) != 3) {
        PyErr_SetString(refusal, "expected blocks as (first_row, codes, live): pass scan.Block");
        return 0;
    }
    block->columns.live = NULL;
    block->first_row = PyLong_AsLongLong(PyTuple_GetItem(object, 0));
    if (block->first_row == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        PyErr_SetString(refusal, "expected first_row as an int below 2**63: pass the row of the first code");
        return 0;
    }
    if (!view_of(PyTuple_GetItem(object, 1), &block->codes, "QL", 8, 2, "codes as uint64 [words, rows]"))
        return 0;
    block->rows = (size_t)block->codes.shape[1];
    block->columns.codes = block->codes.buf;
    block->columns.stride = block->rows;
    if (words && block->codes.shape[0] != (Py_ssize_t)words)
        PyErr_Format(refusal, "expected codes of %zu words, got %zd: use queries and codes of the same bits",
                     words, block->codes.shape[0]);
    else if (block->first_row < next_row || block->first_row > INT64_MAX - (int64_t)block->rows)
        PyErr_Format(refusal,
                     "expected a block that starts at row %lld or later, got %lld: "
                     "pass blocks in ascending order of rows",
                     (long long)next_row, (long long)block->first_row);
    else {
        PyObject *live = PyTuple_GetItem(object, 2);
        if (live == Py_None)
            return 1;
        if (view_of(live, &block->live, "B", 1, 1, "live as uint8 [ceil(rows / 8)]")) {
            block->columns.live = block->live.buf;
            const size_t octets = block->rows / 8 + (block->rows % 8 != 0);
            if (block->live.shape[0] == (Py_ssize_t)octets)
                return 1;
            PyErr_Format(refusal, "expected live as uint8 [%zu], got [%zd]: pack one bit for each row", octets,
                         block->live.shape[0]);
        }
    }
    block_release(block);
    return 0;
}

/* Takes up to `room` blocks and scans them without the GIL; returns how many, or -1 with an exception set. */
static int search_some(const Search *search, PyObject *iterator, int64_t *next_row, int room)
{
    Block blocks[GROUP];
    PyObject *items[GROUP], *item;
    int taken = 0, enough = 1;
    while (taken < room && (item = PyIter_Next(iterator))) {
        if (!block_acquire(&blocks[taken], item, search->words, *next_row)) {
            Py_DECREF(item);
            break;
        }
        *next_row = blocks[taken].first_row + (int64_t)blocks[taken].rows;
        items[taken++] = item;
    }
    const int sound = !PyErr_Occurred();
    Py_BEGIN_ALLOW_THREADS
    for (int i = 0; sound && enough && i < taken; i++)
        enough = search_block(search, &blocks[i].columns, blocks[i].rows, blocks[i].first_row);
    Py_END_ALLOW_THREADS
    for (int i = 0; i < taken; i++) {
        block_release(&blocks[i]);
        Py_DECREF(items[i]);
    }
    if (!enough)
        PyErr_NoMemory();
    return sound && enough ? taken : -1;
}

/* Runs through all blocks; returns 0 with an exception set. */
static int search_all(const Search *search, PyObject *blocks)
{
    PyObject *iterator = PyObject_GetIter(blocks);
    if (!iterator)
        return 0;
    /* What is in memory already goes in groups, to change hands over the GIL less often; a stream one by one. */
    const int room = PyList_Check(blocks) || PyTuple_Check(blocks) ? GROUP : 1;
    int64_t next_row = 0;
    int taken;
    do
        taken = search_some(search, iterator, &next_row, room);
    while (taken > 0);
    Py_DECREF(iterator);
    return taken == 0;
}

static PyObject *search_result(const Search *search)
{
    for (size_t i = 0; i < search->queries; i++)
        best_shrink(&search->best[i]);
    const size_t each = search->queries ? search->best[0].held : 0;
    PyObject *rows = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(search->queries * each * sizeof(int64_t)));
    PyObject *distances = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(search->queries * each * sizeof(int32_t)));
    PyObject *result = NULL;
    if (rows && distances) {
        int64_t *rows_out = (int64_t *)(void *)PyBytes_AsString(rows);
        int32_t *distances_out = (int32_t *)(void *)PyBytes_AsString(distances);
        for (size_t i = 0; i < search->queries; i++)
            best_rank(&search->best[i], max_distance(search), rows_out + i * each, distances_out + i * each);
        result = PyTuple_Pack(2, rows, distances);
    }
    Py_XDECREF(rows);
    Py_XDECREF(distances);
    return result;
}

static PyObject *py_top_k(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *blocks, *planes, *result = NULL;
    Py_ssize_t k;
    const char *isa;
    Py_buffer view;
    if (!PyArg_ParseTuple(args, "OOns", &blocks, &planes, &k, &isa))
        return NULL;
    Search search = {.isa = isa_named(isa, REMEDY)};
    if (!search.isa || !view_of(planes, &view, "QL", 8, 3, "planes as uint64 [queries, planes, words]"))
        return NULL;
    search.queries = (size_t)view.shape[0];
    search.planes = (size_t)view.shape[1];
    search.words = (size_t)view.shape[2];
    search.bits = view.buf;
    if (search.planes < 1 || search.planes > MAX_PLANES || search.words < 1 || search.words > MAX_WORDS)
        PyErr_Format(refusal,
                     "expected 1 to %d planes of 1 to %d words, got %zu of %zu: pass what the codec makes", MAX_PLANES,
                     MAX_WORDS, search.planes, search.words);
    else if (k < 1 || k > INT32_MAX)
        PyErr_Format(refusal, "expected k from 1 to 2**31 - 1, got %zd: ask for one row or more", k);
    else if (!search_begin(&search, (size_t)k))
        PyErr_NoMemory();
    else if (search_all(&search, blocks))
        result = search_result(&search);
    search_end(&search);
    PyBuffer_Release(&view);
    return result;
}

static PyMethodDef methods[] = {
    {"top_k", py_top_k, METH_VARARGS, "top_k(blocks, planes, k, isa) -> (int64 rows, int32 distances) as bytes"},
    {"isas", py_isas, METH_NOARGS, "isas() -> the instruction sets that run here, best first"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_scan", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__scan(void)
{
    return import_refusal("InvalidQueryError") ? PyModule_Create(&definition) : NULL;
}
