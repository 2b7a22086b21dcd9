/* What the extension modules share: views of arrays and, where there are `isas`, the choice among them. Included after
 * Python.h and those. */

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define NATIVE_ORDER '>'
#else
#define NATIVE_ORDER '<'
#endif

static PyObject *refusal; /* the class of edgeret.errors for arguments that do not fit */

static int import_refusal(const char *name)
{
    PyObject *errors = PyImport_ImportModule("edgeret.errors");
    refusal = errors ? PyObject_GetAttrString(errors, name) : NULL;
    Py_XDECREF(errors);
    return refusal != NULL;
}

/* A read-only view of an aligned C-contiguous array; `formats` are the letters of its dtype in a struct. */
static int view_of(PyObject *object, Py_buffer *view, const char *formats, Py_ssize_t itemsize, int ndim,
                   const char *expected)
{
    if (PyObject_GetBuffer(object, view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) < 0) {
        PyErr_Clear();
        PyErr_Format(refusal, "expected %s, got something else: pass a C-contiguous array", expected);
        return 0;
    }
    const char *format = view->format ? view->format : "B";
    if (*format == '@' || *format == '=' || *format == NATIVE_ORDER)
        format++;
    if (view->ndim == ndim && view->itemsize == itemsize && *format && strchr(formats, *format) && !format[1] &&
        (uintptr_t)view->buf % (size_t)itemsize == 0)
        return 1;
    PyErr_Format(refusal, "expected %s, got format '%s' with %d dimensions: pass an aligned array of that dtype",
                 expected, format, view->ndim);
    PyBuffer_Release(view);
    return 0;
}

/* An array as `view_of` takes it. */
typedef struct {
    const char *formats;
    Py_ssize_t itemsize;
    int ndim;
    const char *expected;
} Array;

/* Views of arrays, one after the other, as far as they are as expected; how many there are, to be released. */
static inline int views_of(PyObject *const *objects, const Array *arrays, int count, Py_buffer *views)
{
    for (int i = 0; i < count; i++)
        if (!view_of(objects[i], &views[i], arrays[i].formats, arrays[i].itemsize, arrays[i].ndim, arrays[i].expected))
            return i;
    return count;
}

static inline void release(Py_buffer *views, int held)
{
    while (held > 0)
        PyBuffer_Release(&views[--held]);
}

#ifdef ISAS
static const Isa *isa_named(const char *name, const char *remedy)
{
    for (size_t i = 0; i < ISAS; i++)
        if (strcmp(isas[i].name, name) == 0 && isas[i].runs_here())
            return &isas[i];
    PyErr_Format(refusal, "expected an instruction set of this machine, got '%s': %s", name, remedy);
    return NULL;
}

static PyObject *py_isas(PyObject *module, PyObject *args)
{
    (void)module;
    (void)args;
    PyObject *names = PyList_New(0);
    for (size_t i = 0; names && i < ISAS; i++) {
        PyObject *name = isas[i].runs_here() ? PyUnicode_FromString(isas[i].name) : NULL;
        if (name && PyList_Append(names, name) < 0)
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    PyObject *result = names && !PyErr_Occurred() ? PyList_AsTuple(names) : NULL;
    Py_XDECREF(names);
    return result;
}
#endif
