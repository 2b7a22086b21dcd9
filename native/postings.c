/* The native build of postings.py: checks what Python hands over, then works without the GIL.
 * Stable ABI, so that one build serves every Python from 3.11 on.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "postings.h"

#include "python.h"

#define NO_LIST "expected lists of rows as edgeret.postings writes them, got other octets: they are damaged"

static PyObject *py_count(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer octets;
    Py_ssize_t start, end;
    if (!PyArg_ParseTuple(args, "y*nn", &octets, &start, &end))
        return NULL;
    int64_t count = -1;
    if (0 <= start && start <= end && end <= octets.len)
        count = list_count((const uint8_t *)octets.buf + start, (const uint8_t *)octets.buf + end);
    PyBuffer_Release(&octets);
    if (count >= 0)
        return PyLong_FromLongLong(count);
    PyErr_SetString(refusal, NO_LIST);
    return NULL;
}

static PyObject *decoded(const uint8_t *octets, Py_ssize_t size, const int64_t *starts, const int64_t *ends,
                         Py_ssize_t lists)
{
    PyObject *edges = PyBytes_FromStringAndSize(NULL, (lists + 1) * (Py_ssize_t)sizeof(int64_t));
    if (!edges)
        return NULL;
    int64_t *edge = (int64_t *)(void *)PyBytes_AsString(edges), total = 0;
    edge[0] = 0;
    int sound = 1;
    for (Py_ssize_t i = 0; sound && i < lists; i++) {
        sound = 0 <= starts[i] && starts[i] <= ends[i] && ends[i] <= size;
        const int64_t count = sound ? list_count(octets + starts[i], octets + ends[i]) : -1;
        sound = count >= 0;
        edge[i + 1] = total += count;
    }
    /* Overlapping lists could ask for more than there is. */
    sound = sound && total <= size;
    PyObject *result = NULL, *rows = NULL, *marks = NULL;
    if (sound) {
        rows = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)total * (Py_ssize_t)sizeof(int64_t));
        marks = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)total);
    }
    if (rows && marks) {
        int64_t *row = (int64_t *)(void *)PyBytes_AsString(rows);
        uint8_t *mark = (uint8_t *)PyBytes_AsString(marks);
        for (Py_ssize_t i = 0; sound && i < lists; i++)
            sound = list_decode(octets + starts[i], octets + ends[i], row + edge[i], mark + edge[i]);
        if (sound)
            result = PyTuple_Pack(3, edges, rows, marks);
    }
    if (!sound && !PyErr_Occurred())
        PyErr_SetString(refusal, NO_LIST);
    Py_XDECREF(rows);
    Py_XDECREF(marks);
    Py_DECREF(edges);
    return result;
}

static PyObject *py_decode(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *from, *to, *result = NULL;
    Py_buffer octets, starts, ends;
    if (!PyArg_ParseTuple(args, "y*OO", &octets, &from, &to))
        return NULL;
    if (view_of(from, &starts, "lq", 8, 1, "starts as int64 [lists]")) {
        if (view_of(to, &ends, "lq", 8, 1, "ends as int64 [lists]")) {
            if (starts.shape[0] == ends.shape[0])
                result = decoded(octets.buf, octets.len, starts.buf, ends.buf, starts.shape[0]);
            else
                PyErr_SetString(refusal, "expected as many starts as ends: pass both for each list");
            PyBuffer_Release(&ends);
        }
        PyBuffer_Release(&starts);
    }
    PyBuffer_Release(&octets);
    return result;
}

static PyObject *encoded(const int64_t *starts, Py_ssize_t lists, const int64_t *rows, const uint8_t *marks,
                         Py_ssize_t size)
{
    PyObject *edges = PyBytes_FromStringAndSize(NULL, (lists + 1) * (Py_ssize_t)sizeof(int64_t));
    if (!edges)
        return NULL;
    int64_t *edge = (int64_t *)(void *)PyBytes_AsString(edges);
    size_t room = 64 + 6 * (size_t)size, used = 0;
    uint8_t *octets = malloc(room);
    int sound = lists >= 0 && starts[0] >= 0 && starts[lists] <= size;
    edge[0] = 0;
    for (Py_ssize_t i = 0; octets && sound && i < lists; i++) {
        sound = starts[i] <= starts[i + 1] && starts[i + 1] <= size;
        for (int64_t at = starts[i]; octets && sound && at < starts[i + 1];) {
            const uint32_t count = rows_of_block(rows + at, (size_t)(starts[i + 1] - at));
            sound = count > 0;
            if (!sound)
                break;
            if (room - used < chunk_room(count)) {
                room = 2 * room + chunk_room(count);
                uint8_t *grown = realloc(octets, room);
                if (!grown)
                    free(octets);
                octets = grown;
                if (!octets)
                    break;
            }
            used = (size_t)(chunk_encode(octets + used, rows + at, marks + at, count) - octets);
            at += count;
        }
        edge[i + 1] = (int64_t)used;
    }
    PyObject *result = NULL;
    if (!octets)
        PyErr_NoMemory();
    else if (!sound)
        PyErr_SetString(refusal, "expected rows from 0 on in ascending order, got others: sort the rows of each list");
    else
        result = Py_BuildValue("y#O", (char *)octets, (Py_ssize_t)used, edges);
    free(octets);
    Py_DECREF(edges);
    return result;
}

static PyObject *py_encode(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *from, *of, *with, *result = NULL;
    Py_buffer starts, rows, marks;
    if (!PyArg_ParseTuple(args, "OOO", &from, &of, &with))
        return NULL;
    if (!view_of(from, &starts, "lq", 8, 1, "starts as int64 [lists + 1]"))
        return NULL;
    if (view_of(of, &rows, "lq", 8, 1, "rows as int64 [n]")) {
        if (view_of(with, &marks, "B", 1, 1, "marks as uint8 [n]")) {
            if (starts.shape[0] < 1 || rows.shape[0] != marks.shape[0])
                PyErr_SetString(refusal, "expected a mark for each row, and the end of the last list in starts");
            else
                result = encoded(starts.buf, starts.shape[0] - 1, rows.buf, marks.buf, rows.shape[0]);
            PyBuffer_Release(&marks);
        }
        PyBuffer_Release(&rows);
    }
    PyBuffer_Release(&starts);
    return result;
}

static PyObject *grouped(PyObject *blobs, Group *group, size_t total)
{
    PyObject *owners = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(total * sizeof(int64_t)));
    uint32_t *places = malloc((total + 1) * sizeof *places);
    PyObject *result = NULL, *names = NULL;
    if (owners && places) {
        int64_t *owner = (int64_t *)(void *)PyBytes_AsString(owners);
        for (Py_ssize_t i = 0, at = 0; i < PyTuple_Size(blobs); i++) {
            char *octets;
            Py_ssize_t size;
            PyBytes_AsStringAndSize(PyTuple_GetItem(blobs, i), &octets, &size);
            const uint8_t *next = (const uint8_t *)octets, *end = next + size;
            /* Behind the last name there is no line feed. */
            while (size && next <= end) {
                const Name name = name_at(next, end);
                owner[at++] = group_add(group, name);
                next += name.octets + 1;
            }
        }
        group_sort(group, places);
        size_t size = group->count ? group->count - 1 : 0;
        for (size_t i = 0; i < group->count; i++)
            size += group->names[i].octets;
        for (size_t i = 0; i < total; i++)
            owner[i] = places[owner[i]];
        names = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
        char *at = names ? PyBytes_AsString(names) : NULL;
        for (size_t i = 0; at && i < group->count; i++) {
            if (i)
                *at++ = '\n';
            memcpy(at, group->names[i].at, group->names[i].octets);
            at += group->names[i].octets;
        }
        if (names)
            result = PyTuple_Pack(2, names, owners);
    }
    if (!result && !PyErr_Occurred())
        PyErr_NoMemory();
    Py_XDECREF(names);
    Py_XDECREF(owners);
    free(places);
    return result;
}

static PyObject *py_group(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *blobs;
    if (!PyArg_ParseTuple(args, "O!", &PyTuple_Type, &blobs))
        return NULL;
    size_t total = 0;
    for (Py_ssize_t i = 0; i < PyTuple_Size(blobs); i++) {
        char *octets;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(blobs, i), &octets, &size) < 0)
            return NULL;
        total += names_count((const uint8_t *)octets, (size_t)size);
    }
    if (total > INT32_MAX)
        return PyErr_NoMemory();
    Group group = {0};
    PyObject *result = group_begin(&group, total) ? grouped(blobs, &group, total) : PyErr_NoMemory();
    group_end(&group);
    return result;
}

/* Takes over the words of a query: tuples (weight, lists, overlaps), the lists a tuple of bytes. */
static int take_words(Search *search, PyObject *words)
{
    search->words = (size_t)PyTuple_Size(words);
    search->word = calloc(search->words + 1, sizeof *search->word);
    if (!search->word) {
        PyErr_NoMemory();
        return 0;
    }
    uint64_t most = 0;
    for (size_t w = 0; w < search->words; w++) {
        PyObject *lists, *item = PyTuple_GetItem(words, (Py_ssize_t)w);
        unsigned long weight;
        int overlaps;
        if (!PyArg_ParseTuple(item, "kO!p", &weight, &PyTuple_Type, &lists, &overlaps))
            return 0;
        most += weight;
        if (weight > UINT32_MAX || most * 255 > INT32_MAX) {
            PyErr_SetString(refusal, "expected weights below 2**23 together, got more: scores would not fit");
            return 0;
        }
        const size_t first = search->cursors, count = (size_t)PyTuple_Size(lists);
        Cursor *grown = realloc(search->cursor, (first + count + 1) * sizeof *grown);
        if (!grown) {
            PyErr_NoMemory();
            return 0;
        }
        search->cursor = grown;
        for (size_t i = 0; i < count; i++) {
            char *octets;
            Py_ssize_t size;
            if (PyBytes_AsStringAndSize(PyTuple_GetItem(lists, (Py_ssize_t)i), &octets, &size) < 0)
                return 0;
            search->cursor[search->cursors++] = (Cursor){.at = (const uint8_t *)octets,
                                                         .end = (const uint8_t *)octets + size, .block = -1};
        }
        Word *word = &search->word[w];
        *word = (Word){.weight = (uint32_t)weight, .first = first, .end = search->cursors, .overlaps = overlaps};
        word_weigh(word, search->impacts);
    }
    return 1;
}

typedef struct {
    Py_buffer blocks, *views;
    Py_ssize_t held;
    const uint8_t **bits;
} Masks;

static void masks_release(Masks *masks)
{
    if (!masks->views)
        return;
    while (masks->held > 0)
        PyBuffer_Release(&masks->views[--masks->held]);
    PyBuffer_Release(&masks->blocks);
    PyMem_Free(masks->views);
    PyMem_Free(masks->bits);
}

static int take_masks(Search *search, Masks *masks, PyObject *blocks, PyObject *bitmaps)
{
    if (!view_of(blocks, &masks->blocks, "lq", 8, 1, "blocks of the mask as int64 [n]"))
        return 0;
    const Py_ssize_t count = masks->blocks.shape[0];
    masks->views = PyMem_Calloc((size_t)count + 1, sizeof *masks->views);
    masks->bits = PyMem_Calloc((size_t)count + 1, sizeof *masks->bits);
    if (!masks->views || !masks->bits) {
        PyBuffer_Release(&masks->blocks);
        PyMem_Free(masks->views);
        masks->views = NULL;
        PyErr_NoMemory();
        return 0;
    }
    if (PyTuple_Size(bitmaps) != count) {
        PyErr_SetString(refusal, "expected a bitmap for each block of the mask: pass as many");
        return 0;
    }
    for (; masks->held < count; masks->held++) {
        Py_buffer *view = &masks->views[masks->held];
        if (!view_of(PyTuple_GetItem(bitmaps, masks->held), view, "B", 1, 1, "bitmaps as uint8 [2048]"))
            return 0;
        if (view->shape[0] != BLOCK_OCTETS) {
            PyErr_Format(refusal, "expected bitmaps as uint8 [2048], got [%zd]: pack one bit for each row",
                         view->shape[0]);
            PyBuffer_Release(view);
            return 0;
        }
        masks->bits[masks->held] = view->buf;
    }
    search->mask_blocks = masks->blocks.buf;
    search->masks_of = masks->bits;
    search->masks = (size_t)count;
    return 1;
}

static PyObject *search_result(const Search *search, PyObject *must_scores)
{
    PyObject *rows = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(search->held * sizeof(int64_t)));
    PyObject *scores = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(search->held * sizeof(uint32_t)));
    PyObject *result = NULL;
    if (rows && scores) {
        int64_t *row = (int64_t *)(void *)PyBytes_AsString(rows);
        uint32_t *score = (uint32_t *)(void *)PyBytes_AsString(scores);
        for (size_t i = 0; i < search->held; i++) {
            row[i] = search->hits[i].row;
            score[i] = search->hits[i].score;
        }
        result = Py_BuildValue("OOOKK", rows, scores, must_scores, (unsigned long long)search->added,
                               (unsigned long long)search->skipped);
    }
    Py_XDECREF(rows);
    Py_XDECREF(scores);
    return result;
}

static PyObject *py_top_k(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *words, *table, *blocks, *bitmaps, *must, *result = NULL, *must_scores = NULL;
    Py_ssize_t k;
    Py_buffer musts, impacts;
    if (!PyArg_ParseTuple(args, "O!nOOO!O", &PyTuple_Type, &words, &k, &table, &blocks, &PyTuple_Type, &bitmaps, &must))
        return NULL;
    if (k < 1 || k > INT32_MAX) {
        PyErr_Format(refusal, "expected k from 1 to 2**31 - 1, got %zd: ask for one row or more", k);
        return NULL;
    }
    if (!view_of(table, &impacts, "B", 1, 1, "impacts as uint8 [256]"))
        return NULL;
    if (impacts.shape[0] != 256) {
        PyErr_Format(refusal, "expected impacts as uint8 [256], got [%zd]: pass one for each mark", impacts.shape[0]);
        PyBuffer_Release(&impacts);
        return NULL;
    }
    if (!view_of(must, &musts, "lq", 8, 1, "rows that must be scored as int64 [n]")) {
        PyBuffer_Release(&impacts);
        return NULL;
    }
    Search search = {.k = (size_t)k, .impacts = impacts.buf, .must = musts.buf, .musts = (size_t)musts.shape[0]};
    Masks masks = {.views = NULL};
    must_scores = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(search.musts * sizeof(uint32_t)));
    int sound = must_scores && take_words(&search, words) &&
                (blocks == Py_None || take_masks(&search, &masks, blocks, bitmaps));
    for (size_t i = 0; sound && i < search.musts; i++)
        if (search.must[i] < 0 || (i && search.must[i] <= search.must[i - 1])) {
            PyErr_SetString(refusal, "expected distinct rows from 0 on in ascending order, got others: sort them");
            sound = 0;
        }
    if (sound) {
        search.must_scores = (uint32_t *)(void *)PyBytes_AsString(must_scores);
        memset(search.must_scores, 0, search.musts * sizeof(uint32_t));
        int found;
        Py_BEGIN_ALLOW_THREADS
        found = search_run(&search);
        Py_END_ALLOW_THREADS
        if (found == SOUND)
            result = search_result(&search, must_scores);
        else if (found == NO_MEMORY)
            PyErr_NoMemory();
        else
            PyErr_SetString(refusal, NO_LIST);
    }
    Py_XDECREF(must_scores);
    masks_release(&masks);
    free(search.word);
    free(search.cursor);
    free(search.hits);
    PyBuffer_Release(&musts);
    PyBuffer_Release(&impacts);
    return result;
}

static PyMethodDef methods[] = {
    {"count", py_count, METH_VARARGS, "count(octets, start, end) -> rows of the list"},
    {"decode", py_decode, METH_VARARGS, "decode(octets, starts, ends) -> (int64 edges, int64 rows, uint8 marks)"},
    {"encode", py_encode, METH_VARARGS, "encode(starts, rows, marks) -> (octets, int64 edges)"},
    {"group", py_group, METH_VARARGS, "group(blobs) -> (names, int64 owners)"},
    {"top_k", py_top_k, METH_VARARGS,
     "top_k(words, k, impacts, blocks, bitmaps, must) -> (int64 rows, uint32 scores, uint32 must_scores, added, skipped)"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_postings", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__postings(void)
{
    return import_refusal("InvalidQueryError") ? PyModule_Create(&definition) : NULL;
}
