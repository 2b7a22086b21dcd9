/* A medium that can be watched and broken: preloaded, it stands between a process and the C library.
 *
 * It counts every change to a file in one folder: creation, write, truncation, sync, removal, renaming. It can
 * write each of them to a log, stop the process at one of them, or let it fail, once or from then on.
 * Shared memory of SQLite (-shm) is not of the medium: it is rebuilt after a crash. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FILES = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];
static char *names[FILES]; /* of open files in the folder, by descriptor */
static int log_file = -1;
static long counted, fail_at, die_at;
static int failure, lasting, read_only;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* -- what the tests call */

void shim_watch(const char *path, const char *log) {
    snprintf(folder, sizeof folder, "%s/", path);
    log_file = -1;
    if (log != NULL) {
        log_file = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    }
}

/* Count from 0 again; let change number `at` fail with `error`, and all after it if `stays`. 0 disarms. */
void shim_fail(long at, int error, int stays) {
    counted = die_at = 0;
    fail_at = at;
    failure = error;
    lasting = stays;
}

void shim_die(long at) {
    counted = fail_at = 0;
    die_at = at;
}

/* From now on everything that asks to write in the folder is refused with `error`; 0 ends it. */
void shim_read_only(int error) { read_only = error; }

long shim_count(void) { return counted; }

/* -- one change */

static int refused(const char *path) {
    size_t length = strlen(folder);
    return read_only != 0 && strncmp(path, folder, length - 1) == 0 &&
           (path[length - 1] == '/' || path[length - 1] == 0);
}

static const char *within(const char *path) {
    size_t length = strlen(folder);
    if (length == 0 || path == NULL) return NULL;
    if (strlen(path) == length - 1 && strncmp(path, folder, length - 1) == 0) return "."; /* the folder itself */
    if (strncmp(path, folder, length) != 0) return NULL;
    size_t rest = strlen(path);
    if (rest >= 4 && strcmp(path + rest - 4, "-shm") == 0) return NULL;
    return path + length;
}

static const char *name_of(int file) { return file >= 0 && file < FILES ? names[file] : NULL; }

static void put(const void *data, size_t size) {
    const char *rest = data;
    while (size > 0) {
        long written = syscall(SYS_write, log_file, rest, size);
        if (written <= 0) _exit(71);
        rest += written;
        size -= (size_t)written;
    }
}

/* 0 if the change may happen, else the error it fails with. */
static int change(char kind, const char *name, int64_t offset, const void *data, size_t size) {
    int result = 0;
    pthread_mutex_lock(&lock);
    counted++;
    if (die_at != 0 && counted == die_at) _exit(70);
    if (fail_at != 0 && (counted == fail_at || (lasting && counted > fail_at))) result = failure;
    if (read_only != 0) result = read_only;
    if (result == 0 && log_file >= 0) {
        int64_t head[4] = {kind, offset, (int64_t)strlen(name), (int64_t)size};
        put(head, sizeof head);
        put(name, strlen(name));
        put(data, size);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

#define OR_FAIL(...)                  \
    do {                              \
        int error = change(__VA_ARGS__); \
        if (error != 0) {             \
            errno = error;            \
            return -1;                \
        }                             \
    } while (0)

/* -- the calls that SQLite and Python make */

static int opened(int at, const char *path, int flags, mode_t mode) {
    const char *name = at == AT_FDCWD || path[0] == '/' ? within(path) : NULL;
    int writes = (flags & O_ACCMODE) != O_RDONLY;
    struct stat there;
    if ((writes || (flags & O_CREAT)) && refused(path)) {
        errno = read_only;
        return -1;
    }
    if (name != NULL && (flags & O_CREAT) && stat(path, &there) != 0) OR_FAIL('c', name, 0, "", 0);
    int file = (int)syscall(SYS_openat, at, path, flags, mode);
    if (file >= 0 && file < FILES) {
        free(names[file]);
        names[file] = name == NULL ? NULL : strdup(name);
        if (name != NULL && writes && (flags & O_TRUNC)) OR_FAIL('t', name, 0, "", 0);
    }
    return file;
}

static mode_t mode_in(int flags, va_list rest) {
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
}

#define OPEN(name)                                    \
    int name(const char *path, int flags, ...) {      \
        va_list rest;                                 \
        va_start(rest, flags);                        \
        mode_t mode = mode_in(flags, rest);           \
        va_end(rest);                                 \
        return opened(AT_FDCWD, path, flags, mode);   \
    }
#define OPENAT(name)                                  \
    int name(int at, const char *path, int flags, ...) { \
        va_list rest;                                 \
        va_start(rest, flags);                        \
        mode_t mode = mode_in(flags, rest);           \
        va_end(rest);                                 \
        return opened(at, path, flags, mode);         \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int creat(const char *path, mode_t mode) {
    return opened(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

int close(int file) {
    if (name_of(file) != NULL) {
        free(names[file]);
        names[file] = NULL;
    }
    return (int)syscall(SYS_close, file);
}

ssize_t write(int file, const void *data, size_t size) {
    const char *name = name_of(file);
    if (name != NULL) OR_FAIL('w', name, lseek(file, 0, SEEK_CUR), data, size);
    return syscall(SYS_write, file, data, size);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t offset) {
    const char *name = name_of(file);
    if (name != NULL) OR_FAIL('w', name, offset, data, size);
    return syscall(SYS_pwrite64, file, data, size, offset);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset) {
    return pwrite(file, data, size, offset);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    if (name_of(file) == NULL) return syscall(SYS_writev, file, parts, count);
    ssize_t total = 0;
    for (int part = 0; part < count; part++) {
        ssize_t written = write(file, parts[part].iov_base, parts[part].iov_len);
        if (written < 0) return total > 0 ? total : -1;
        total += written;
        if ((size_t)written < parts[part].iov_len) break;
    }
    return total;
}

int ftruncate(int file, off_t size) {
    const char *name = name_of(file);
    if (name != NULL) OR_FAIL('t', name, size, "", 0);
    return (int)syscall(SYS_ftruncate, file, size);
}

int ftruncate64(int file, off64_t size) { return ftruncate(file, size); }

int fsync(int file) {
    const char *name = name_of(file);
    if (name != NULL) OR_FAIL('s', name, 0, "", 0);
    return (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    const char *name = name_of(file);
    if (name != NULL) OR_FAIL('s', name, 0, "", 0);
    return (int)syscall(SYS_fdatasync, file);
}

int unlink(const char *path) {
    const char *name = within(path);
    struct stat there;
    if (name != NULL && stat(path, &there) == 0) OR_FAIL('u', name, 0, "", 0);
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int unlinkat(int at, const char *path, int flags) {
    char joined[PATH_MAX];
    const char *parent = at == AT_FDCWD || path[0] == '/' ? NULL : name_of(at);
    const char *name = parent == NULL ? within(path) : joined;
    struct stat there;
    if (parent != NULL) snprintf(joined, sizeof joined, "%s/%s", parent, path);
    if (name != NULL && !(flags & AT_REMOVEDIR) && fstatat(at, path, &there, 0) == 0) OR_FAIL('u', name, 0, "", 0);
    return (int)syscall(SYS_unlinkat, at, path, flags);
}

int rename(const char *from, const char *to) {
    const char *name = within(from), *target = within(to);
    if (name != NULL && target != NULL) OR_FAIL('r', name, 0, target, strlen(target));
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int access(const char *path, int mode) {
    if ((mode & W_OK) && refused(path)) {
        errno = read_only;
        return -1;
    }
    return NEXT(access)(path, mode);
}
