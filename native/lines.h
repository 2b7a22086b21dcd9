/* Lines as SQLite gives them, verified. Included after Python.h and checksum.h. */

/* A number of 64 bits; 0 if it is none. */
static inline int number_of(PyObject *object, int64_t *number)
{
    int overflow = 0;
    *number = PyLong_Check(object) ? PyLong_AsLongLongAndOverflow(object, &overflow) : (overflow = 1);
    return !overflow;
}
