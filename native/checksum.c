/* The native build of storage/checksum.py: lines as SQLite gives them, verified, as arrays. Stable ABI, so that one
 * build serves every Python from 3.11 on.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "checksum.h"

#include "digest.h"
#include "lines.h"

#include <math.h>

#define HEAD 4 /* numbers before a line's content */
#define FIXED 1073741824.0
#define AT_ONCE 256 /* products of 8 and 16 bits, whose sum fits 32 */

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

/* A vector in fixed point, whose unit is FIXED, in halves: entry i is 65536 * high[i] + low[i]. Every processor has an
 * instruction for sums of products of 16 bits.
 */
static void halve(const int32_t *vector, Py_ssize_t width, int16_t *high, int16_t *low)
{
    for (Py_ssize_t i = 0; i < width; i++) {
        high[i] = (int16_t)(((int64_t)vector[i] + 32768) >> 16);
        low[i] = (int16_t)(vector[i] - 65536 * (int64_t)high[i]);
    }
}

/* The sum of products; so few that it fits. */
static int32_t dot(const int16_t *one, const int16_t *other, Py_ssize_t count)
{
    int32_t sum = 0;
    for (Py_ssize_t i = 0; i < count; i++)
        sum += one[i] * other[i];
    return sum;
}

/* The cosine of a stored vector to one in halves: of integers, so that every build has it. */
static float cosine(const int8_t *stored, const int16_t *high, const int16_t *low, Py_ssize_t width)
{
    int64_t sum = 0, square = 0;
    for (Py_ssize_t from = 0; from < width; from += AT_ONCE) {
        const Py_ssize_t count = width - from < AT_ONCE ? width - from : AT_ONCE;
        int16_t wide[AT_ONCE];
        for (Py_ssize_t i = 0; i < count; i++)
            wide[i] = stored[from + i];
        sum += 65536 * (int64_t)dot(wide, high + from, count) + dot(wide, low + from, count);
        square += dot(wide, wide, count);
    }
    const double found = (double)sum / (sqrt((double)(square ? square : 1)) * FIXED);
    return (float)(found > 1 ? 1 : found < -1 ? -1 : found);
}

static PyObject *py_score(PyObject *module, PyObject *args)
{
    (void)module;
    Py_ssize_t width;
    Py_buffer stored, vectors;
    if (!PyArg_ParseTuple(args, "y*ny*", &stored, &width, &vectors))
        return NULL;
    const Py_ssize_t count = width > 0 ? stored.len / width : 0;
    const Py_ssize_t queries = width > 0 ? vectors.len / (width * (Py_ssize_t)sizeof(int32_t)) : 0;
    PyObject *scores = PyBytes_FromStringAndSize(NULL, count * (Py_ssize_t)sizeof(float));
    int16_t *halves = PyMem_Malloc(vectors.len > 0 ? (size_t)vectors.len : 1);
    if (scores && halves) {
        float *score = (float *)(void *)PyBytes_AsString(scores);
        for (Py_ssize_t i = 0; i < queries; i++)
            halve((const int32_t *)vectors.buf + i * width, width, halves + 2 * i * width, halves + (2 * i + 1) * width);
        for (Py_ssize_t row = 0; row < count; row++) {
            score[row] = -1;
            for (const int16_t *high = halves; high < halves + 2 * queries * width; high += 2 * width) {
                const float found = cosine((const int8_t *)stored.buf + row * width, high, high + width, width);
                score[row] = found > score[row] ? found : score[row];
            }
        }
    } else {
        Py_CLEAR(scores);
        PyErr_NoMemory();
    }
    PyMem_Free(halves);
    PyBuffer_Release(&stored);
    PyBuffer_Release(&vectors);
    return scores;
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

/* Writes a number in decimal, and says how long it is. */
static Py_ssize_t write_number(uint32_t number, char *into)
{
    char digits[10];
    int count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    for (int i = 0; i < count; i++)
        into[i] = digits[count - 1 - i];
    return count;
}

static PyObject *py_are_sound(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer contents, checksums;
    Py_ssize_t width, at = 0;
    if (!PyArg_ParseTuple(args, "y*ny*", &contents, &width, &checksums))
        return NULL;
    const char *told = checksums.buf, *end = told + checksums.len;
    while (width > 0 && contents.len - at >= width) {
        char number[11] = ",";
        const Py_ssize_t comma = at > 0;
        const uint32_t found = checksum_of(NULL, 0, (const uint8_t *)contents.buf + at, (size_t)width);
        const Py_ssize_t count = comma + write_number(found, number + comma);
        if (end - told < count || memcmp(told, number, (size_t)count))
            break;
        told += count, at += width;
    }
    const int sound = at == contents.len && told == end;
    PyBuffer_Release(&contents);
    PyBuffer_Release(&checksums);
    return PyBool_FromLong(sound);
}

/* Takes a text into a digest, its length before it; 0 if it is none, -1 with an exception set. */
static int digest_text(Digest *digest, PyObject *object)
{
    if (!PyUnicode_Check(object))
        return 0;
    Py_ssize_t count;
    const char *octets = PyUnicode_AsUTF8AndSize(object, &count);
    if (!octets)
        return -1;
    const uint64_t length = little((uint64_t)count);
    digest_add(digest, (const uint8_t *)&length, sizeof length);
    digest_add(digest, (const uint8_t *)octets, (size_t)count);
    return 1;
}

static PyObject *py_is_document(PyObject *module, PyObject *line)
{
    (void)module;
    if (!PyTuple_Check(line) || PyTuple_Size(line) != 7)
        Py_RETURN_FALSE;
    PyObject *known = PyTuple_GetItem(line, 4);
    int64_t numbers[2], told;
    if (!number_of(PyTuple_GetItem(line, 0), &numbers[0]) || !number_of(PyTuple_GetItem(line, 5), &numbers[1]) ||
        !number_of(PyTuple_GetItem(line, 6), &told) || !PyBytes_Check(known) || PyBytes_Size(known) != DIGEST_OCTETS)
        Py_RETURN_FALSE;
    Digest digest;
    digest_begin(&digest);
    for (int part = 1; part < 4; part++) {
        const int taken = digest_text(&digest, PyTuple_GetItem(line, part));
        if (taken < 0)
            return NULL;
        if (!taken)
            Py_RETURN_FALSE;
    }
    uint8_t found[DIGEST_OCTETS];
    digest_end(&digest, found);
    return PyBool_FromLong(memcmp(found, PyBytes_AsString(known), DIGEST_OCTETS) == 0 &&
                           told == checksum_of(numbers, 2, found, DIGEST_OCTETS));
}

static PyMethodDef methods[] = {
    {"sound_lines", py_sound_lines, METH_VARARGS,
     "sound_lines(lines, width) -> (int64 [lines, 4] as bytes, uint8 [lines, width] as bytes, how many are sound)"},
    {"are_sound", py_are_sound, METH_VARARGS,
     "are_sound(contents, width, checksums) -> whether each has its checksum, in decimal between commas"},
    {"score", py_score, METH_VARARGS, "score(stored, width, vectors) -> float [stored] as bytes"},
    {"is_document", py_is_document, METH_O, "is_document(line) -> whether it is what was written"},
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
