/* The native build of pieces.py, unigram.py and bpe.py: checks what Python hands over, then tokenizes, WordPiece without
 * the GIL.
 * Stable ABI, so that one build serves every Python from 3.11 on.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <sys/mman.h>
#include <unistd.h>

#include "bpe.h"
#include "tokenize.h"
#include "unigram.h"

#include "python.h"

#define CAPSULE "edgeret.encode._tokenize.tokenizer"
#define UNIGRAM_CAPSULE "edgeret.encode._tokenize.unigram"
#define BPE_CAPSULE "edgeret.encode._tokenize.byte_pairs"
#define TABLES 6
#define UNIGRAM_TABLES 5
#define BPE_TABLES 6
#define MOST_NUMBERS (UINT32_MAX / sizeof(uint32_t)) /* of a file */

/* What stands around a text: ids, `before` of them before it and the others behind it. */
typedef struct {
    const uint32_t *special;
    Py_ssize_t before, around;
} Frame;

static const Array tables[TABLES] = {
    {"H", 2, 1, "pages as uint16 [4352]"},  {"IL", 4, 2, "entries as uint32 [blocks, 256]"},
    {"IL", 4, 1, "sequences as uint32 [n]"}, {"IL", 4, 2, "marks as uint32 [n, 2]"},
    {"IL", 4, 1, "units as uint32 [n]"},    {"IL", 4, 1, "special as uint32 [n]"},
};

/* A tokenizer in Python's memory: the views keep its tables alive. */
typedef struct {
    Tokenizer tokenizer;
    Frame frame;
    Py_buffer views[TABLES];
    int held; /* views */
} Borrowed;

static void borrowed_free(Borrowed *borrowed)
{
    release(borrowed->views, borrowed->held);
    PyMem_Free(borrowed);
}

static void capsule_free(PyObject *capsule) { borrowed_free(PyCapsule_GetPointer(capsule, CAPSULE)); }

static int set_tables(Borrowed *borrowed)
{
    const Py_buffer *views = borrowed->views;
    Tokenizer *tokenizer = &borrowed->tokenizer;
    borrowed->frame.special = views[5].buf;
    borrowed->frame.around = views[5].shape[0];
    tokenizer->pages = views[0].buf;
    tokenizer->entries = views[1].buf;
    tokenizer->sequences = views[2].buf;
    tokenizer->marks = views[3].buf;
    tokenizer->blocks = (size_t)views[1].shape[0];
    tokenizer->sequences_size = (size_t)views[2].shape[0];
    tokenizer->marks_size = (size_t)views[3].shape[0];
    const size_t units = (size_t)views[4].shape[0];
    tokenizer->trie = (Trie){.numbers = views[4].buf, .count = units, .units = units};
    if (views[0].shape[0] == PAGES && views[1].shape[1] == 256 && views[3].shape[1] == 2 &&
        tokenizer->longest <= LONGEST_WORD && borrowed->frame.before <= borrowed->frame.around)
        return 1;
    PyErr_SetString(refusal, "expected the tables of one tokenizer, got others: install or export the bundle again");
    return 0;
}

static PyObject *py_tokenizer(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *arrays[TABLES], *capsule = NULL;
    unsigned unknown, longest, continuing, before;
    if (!PyArg_ParseTuple(args, "OOOOOOIIII", &arrays[0], &arrays[1], &arrays[2], &arrays[3], &arrays[4], &arrays[5],
                          &unknown, &longest, &continuing, &before))
        return NULL;
    Borrowed *borrowed = PyMem_Calloc(1, sizeof *borrowed);
    if (!borrowed)
        return PyErr_NoMemory();
    borrowed->tokenizer.unknown = unknown;
    borrowed->tokenizer.longest = longest;
    borrowed->tokenizer.continuing = continuing;
    borrowed->frame.before = (Py_ssize_t)before;
    borrowed->held = views_of(arrays, tables, TABLES, borrowed->views);
    if (borrowed->held == TABLES && set_tables(borrowed))
        capsule = PyCapsule_New(borrowed, CAPSULE, capsule_free);
    if (!capsule)
        borrowed_free(borrowed);
    return capsule;
}

static int set_item(PyObject *list, Py_ssize_t place, PyObject *item)
{
    return item && PyList_SetItem(list, place, item) == 0;
}

static PyObject *new_span(uint32_t start, uint32_t stop)
{
    PyObject *span = PyTuple_New(2), *first = PyLong_FromUnsignedLong(start), *last = PyLong_FromUnsignedLong(stop);
    if (span && first && last) {
        PyTuple_SetItem(span, 0, first);
        PyTuple_SetItem(span, 1, last);
        return span;
    }
    Py_XDECREF(span);
    Py_XDECREF(first);
    Py_XDECREF(last);
    return NULL;
}

/* A text to be tokenized, as Python asks for it. */
typedef struct {
    const void *tokenizer;
    const uint8_t *text; /* UTF-8 */
    size_t size;
    int special, placed; /* whether with special tokens, and whether with spans and words */
    unsigned part; /* which part of a text it is */
} Question;

static PyObject *as_lists(const Frame *frame, const Tokens *found, const Question *asked)
{
    const Py_ssize_t before = asked->special ? frame->before : 0, around = asked->special ? frame->around : 0;
    const Py_ssize_t count = (Py_ssize_t)found->count + around, placed = asked->placed ? count : 0;
    PyObject *ids = PyList_New(count), *spans = PyList_New(placed), *words = PyList_New(placed), *result = NULL;
    PyObject *nowhere = new_span(0, 0), *no_word = PyLong_FromLong(-1);
    int sound = ids && spans && words && nowhere && no_word;
    for (Py_ssize_t i = 0; sound && i < count; i++) {
        const Py_ssize_t place = i - before;
        if (place >= 0 && place < (Py_ssize_t)found->count) {
            const Token *token = &found->tokens[place];
            sound = set_item(ids, i, PyLong_FromUnsignedLong(token->id)) &&
                    (!placed || (set_item(spans, i, new_span(token->start, token->stop)) &&
                                 set_item(words, i, PyLong_FromUnsignedLong(token->word))));
        } else {
            const Py_ssize_t number = place < 0 ? i : place - (Py_ssize_t)found->count + before;
            sound = set_item(ids, i, PyLong_FromUnsignedLong(frame->special[number])) &&
                    (!placed || (set_item(spans, i, Py_NewRef(nowhere)) && set_item(words, i, Py_NewRef(no_word))));
        }
    }
    if (sound)
        result = PyTuple_Pack(3, ids, spans, words);
    Py_XDECREF(ids);
    Py_XDECREF(spans);
    Py_XDECREF(words);
    Py_XDECREF(nowhere);
    Py_XDECREF(no_word);
    return result;
}

static int asked_for(PyObject *args, const char *capsule_name, Question *asked)
{
    PyObject *capsule, *text;
    Py_ssize_t size;
    asked->part = 0;
    if (!PyArg_ParseTuple(args, "OUpp|I", &capsule, &text, &asked->special, &asked->placed, &asked->part))
        return 0;
    asked->tokenizer = PyCapsule_GetPointer(capsule, capsule_name);
    const char *octets = asked->tokenizer ? PyUnicode_AsUTF8AndSize(text, &size) : NULL;
    if (!octets)
        return 0;
    if ((uint64_t)size >= NOWHERE) {
        PyErr_SetString(refusal, "expected a text of less than 4 GiB, got more: tokenize a part of it at a time");
        return 0;
    }
    asked->text = (const uint8_t *)octets;
    asked->size = (size_t)size;
    return 1;
}

static PyObject *py_encode(PyObject *module, PyObject *args)
{
    (void)module;
    Question asked;
    int sound;
    if (!asked_for(args, CAPSULE, &asked))
        return NULL;
    const Borrowed *borrowed = asked.tokenizer;
    Tokens found = {0};
    Py_BEGIN_ALLOW_THREADS
    sound = tokenize(&borrowed->tokenizer, asked.text, asked.size, &found);
    Py_END_ALLOW_THREADS
    PyObject *result = sound ? as_lists(&borrowed->frame, &found, &asked) : PyErr_NoMemory();
    free(found.tokens);
    return result;
}

/* -- Unigram */

static const Array unigram_tables[UNIGRAM_TABLES] = {
    {"H", 2, 1, "pages as uint16 [4352]"},   {"IL", 4, 2, "entries as uint32 [blocks, 256]"},
    {"IL", 4, 1, "sequences as uint32 [n]"}, {"IL", 4, 1, "special as uint32 [n]"},
    {"IL", 4, 1, "octets as uint32 [256] or none"},
};

/* A tokenizer in Python's memory, and as much of its file as was touched in memory of its own. */
typedef struct {
    Unigram unigram;
    Bpe bpe;
    Frame frame;
    Lazy lazy;
    int file;
    off_t offset; /* of the first number in the file */
    size_t nbytes; /* of the numbers in memory */
    Py_buffer views[BPE_TABLES];
    int held; /* views */
} Lent;

static void lent_free(Lent *lent)
{
    release(lent->views, lent->held);
    if (lent->lazy.numbers)
        munmap(lent->lazy.numbers, lent->nbytes);
    PyMem_Free(lent->lazy.is_there);
    PyMem_Free(lent);
}

static void unigram_capsule_free(PyObject *capsule) { lent_free(PyCapsule_GetPointer(capsule, UNIGRAM_CAPSULE)); }

static void bpe_capsule_free(PyObject *capsule) { lent_free(PyCapsule_GetPointer(capsule, BPE_CAPSULE)); }

static int read_numbers(const void *from, size_t first, size_t count, uint32_t *numbers)
{
    const Lent *lent = from;
    char *to = (char *)numbers;
    for (size_t done = 0, size = count * sizeof *numbers; done < size;) {
        const ssize_t more = pread(lent->file, to + done, size - done, lent->offset + (off_t)(first * sizeof *numbers + done));
        if (more <= 0)
            return 0;
        done += (size_t)more;
    }
    return 1;
}

/* A trie, and what stands behind it, `count` numbers in all. Pages of them are there once they are written. */
static int lend(Lent *lent, Trie *trie, size_t units, size_t count)
{
    lent->nbytes = count * sizeof(uint32_t);
    void *numbers = mmap(NULL, lent->nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    lent->lazy.numbers = numbers == MAP_FAILED ? NULL : numbers;
    lent->lazy.is_there = PyMem_Calloc(count / BLOCK + 1, 1);
    lent->lazy.read = read_numbers;
    lent->lazy.from = lent;
    *trie = (Trie){.numbers = lent->lazy.numbers, .count = count, .units = units, .lazy = &lent->lazy};
    if (lent->lazy.numbers && lent->lazy.is_there)
        return 1;
    PyErr_NoMemory();
    return 0;
}

static int refuse_tables(void)
{
    PyErr_SetString(refusal, "expected the tables of one tokenizer, got others: install or export the bundle again");
    return 0;
}

static int set_frame(Lent *lent, const Py_buffer *special)
{
    lent->frame.special = special->buf;
    lent->frame.around = special->shape[0];
    return lent->frame.before <= lent->frame.around;
}

static int set_unigram(Lent *lent, size_t units, size_t scores)
{
    const Py_buffer *views = lent->views;
    Unigram *unigram = &lent->unigram;
    unigram->pages = views[0].buf;
    unigram->entries = views[1].buf;
    unigram->sequences = views[2].buf;
    unigram->octets = views[4].buf;
    unigram->blocks = (size_t)views[1].shape[0];
    unigram->sequences_size = (size_t)views[2].shape[0];
    unigram->octets_size = (size_t)views[4].shape[0];
    if (!set_frame(lent, &views[3]) || views[0].shape[0] != PAGES || views[1].shape[1] != 256 ||
        (unigram->octets_size && unigram->octets_size != 256) || !units || units + 2 * scores > MOST_NUMBERS)
        return refuse_tables();
    return lend(lent, &unigram->trie, units, units + 2 * scores);
}

static PyObject *py_unigram(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *arrays[UNIGRAM_TABLES], *capsule = NULL;
    unsigned unknown, flags, before, units, scores;
    int file;
    Py_ssize_t offset;
    double unknown_score;
    if (!PyArg_ParseTuple(args, "OOOOOIdIIinII", &arrays[0], &arrays[1], &arrays[2], &arrays[3], &arrays[4], &unknown,
                          &unknown_score, &flags, &before, &file, &offset, &units, &scores))
        return NULL;
    Lent *lent = PyMem_Calloc(1, sizeof *lent);
    if (!lent)
        return PyErr_NoMemory();
    lent->unigram.unknown = unknown;
    lent->unigram.unknown_score = unknown_score;
    lent->unigram.flags = flags;
    lent->frame.before = (Py_ssize_t)before;
    lent->file = file;
    lent->offset = (off_t)offset;
    lent->held = views_of(arrays, unigram_tables, UNIGRAM_TABLES, lent->views);
    if (lent->held == UNIGRAM_TABLES && set_unigram(lent, units, scores))
        capsule = PyCapsule_New(lent, UNIGRAM_CAPSULE, unigram_capsule_free);
    if (!capsule)
        lent_free(lent);
    return capsule;
}

/* The lists of what was found, which is let go. */
static PyObject *taken(const Frame *frame, Tokens *found, int is_sound, const Question *asked)
{
    PyObject *result = NULL;
    if (is_sound)
        result = as_lists(frame, found, asked);
    else if (found->is_short)
        PyErr_NoMemory();
    else
        PyErr_SetString(refusal, "expected tokenizer.bin as long as it was, found less: install or export the bundle again");
    free(found->tokens);
    return result;
}

/* With the GIL: threads would read one block at once. */
static PyObject *py_encode_unigram(PyObject *module, PyObject *args)
{
    (void)module;
    Question asked;
    if (!asked_for(args, UNIGRAM_CAPSULE, &asked))
        return NULL;
    const Lent *lent = asked.tokenizer;
    Tokens found = {0};
    const int is_sound = tokenize_unigram(&lent->unigram, asked.text, asked.size, &found);
    return taken(&lent->frame, &found, is_sound, &asked);
}

/* -- byte pairs */

static const Array bpe_tables[BPE_TABLES] = {
    {"H", 2, 1, "pages as uint16 [4352]"},     {"IL", 4, 2, "entries as uint32 [blocks, 256]"},
    {"IL", 4, 1, "sequences as uint32 [n]"},   {"IL", 4, 1, "special as uint32 [n]"},
    {"IL", 4, 1, "octets as uint32 [256]"},    {"IL", 4, 2, "pairs as uint32 [n, 3]"},
};

static int set_bpe(Lent *lent, size_t units)
{
    const Py_buffer *views = lent->views;
    Bpe *bpe = &lent->bpe;
    bpe->pages = views[0].buf;
    bpe->entries = views[1].buf;
    bpe->sequences = views[2].buf;
    bpe->octets = views[4].buf;
    bpe->pairs = views[5].buf;
    bpe->blocks = (size_t)views[1].shape[0];
    bpe->sequences_size = (size_t)views[2].shape[0];
    bpe->pairs_size = (size_t)views[5].shape[0];
    const size_t count = units + bpe->vocabulary + 1 + 3 * (size_t)bpe->merges;
    if (!set_frame(lent, &views[3]) || views[0].shape[0] != PAGES || views[1].shape[1] != 256 ||
        views[4].shape[0] != 256 || views[5].shape[1] != PAIR || !units || count > MOST_NUMBERS)
        return refuse_tables();
    return lend(lent, &bpe->trie, units, count);
}

static PyObject *py_byte_pairs(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *arrays[BPE_TABLES], *capsule = NULL;
    unsigned flags, before, units, vocabulary, merges;
    int file;
    Py_ssize_t offset;
    if (!PyArg_ParseTuple(args, "OOOOOOIIinIII", &arrays[0], &arrays[1], &arrays[2], &arrays[3], &arrays[4], &arrays[5],
                          &flags, &before, &file, &offset, &units, &vocabulary, &merges))
        return NULL;
    Lent *lent = PyMem_Calloc(1, sizeof *lent);
    if (!lent)
        return PyErr_NoMemory();
    lent->bpe.flags = flags;
    lent->bpe.vocabulary = vocabulary;
    lent->bpe.merges = merges;
    lent->frame.before = (Py_ssize_t)before;
    lent->file = file;
    lent->offset = (off_t)offset;
    lent->held = views_of(arrays, bpe_tables, BPE_TABLES, lent->views);
    if (lent->held == BPE_TABLES && set_bpe(lent, units))
        capsule = PyCapsule_New(lent, BPE_CAPSULE, bpe_capsule_free);
    if (!capsule)
        lent_free(lent);
    return capsule;
}

/* With the GIL, as Unigram. */
static PyObject *py_encode_byte_pairs(PyObject *module, PyObject *args)
{
    (void)module;
    Question asked;
    if (!asked_for(args, BPE_CAPSULE, &asked))
        return NULL;
    const Lent *lent = asked.tokenizer;
    Tokens found = {0};
    const int is_sound = tokenize_bytes(&lent->bpe, asked.text, asked.size, asked.part, &found);
    return taken(&lent->frame, &found, is_sound, &asked);
}

static PyMethodDef methods[] = {
    {"tokenizer", py_tokenizer, METH_VARARGS,
     "tokenizer(pages, entries, sequences, marks, units, special, unknown, longest, continuing, before) -> capsule"},
    {"encode", py_encode, METH_VARARGS,
     "encode(tokenizer, text, special, placed) -> (ids, spans, words), a list each; spans and words empty unless placed"},
    {"unigram", py_unigram, METH_VARARGS,
     "unigram(pages, entries, sequences, special, octets, unknown, unknown_score, flags, before, file, offset, units, "
     "scores) -> capsule"},
    {"encode_unigram", py_encode_unigram, METH_VARARGS, "as encode"},
    {"byte_pairs", py_byte_pairs, METH_VARARGS,
     "byte_pairs(pages, entries, sequences, special, octets, pairs, flags, before, file, offset, units, vocabulary, merges) "
     "-> capsule"},
    {"encode_byte_pairs", py_encode_byte_pairs, METH_VARARGS, "as encode, and which part of a text it is"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_tokenize", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__tokenize(void)
{
    return import_refusal("BundleError") ? PyModule_Create(&definition) : NULL;
}
