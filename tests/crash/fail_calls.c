/* Makes calls of the system fail that a process makes for one file, when it is told to.
 *
 * Preloaded into a real Python, which says by fail_calls() what is to fail: from the nth call of a
 * kind on, so many, with an error. Where LMDB writes its meta page it does so through a descriptor
 * that is O_DSYNC; so that can be told from other pages.
 */
#undef _FORTIFY_SOURCE /* those headers define what is defined here */
#undef _FILE_OFFSET_BITS
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char file[4096];
static char kind[16];
static int before, left, code, failed;
static int gives_up; /* the next meta page fails, so that the file is opened and mapped anew */

#define REAL(name, type, ...)                                                                      \
    static type (*real)(__VA_ARGS__);                                                              \
    if (!real)                                                                                     \
    real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

/* From now on calls of the kind *what* on the file at *path* fail with *error*: after *skip* of them,
 * *count* of them. Before that, if *first*, a meta page fails, so that the file is opened and mapped
 * anew. Returns how many calls of the kind have failed since the last time. */
int fail_calls(const char *path, const char *what, int skip, int count, int error, int first) {
    pthread_mutex_lock(&lock);
    int result = failed;
    failed = 0;
    strncpy(file, path, sizeof file - 1);
    strncpy(kind, what, sizeof kind - 1);
    before = skip, left = count, code = error, gives_up = first;
    pthread_mutex_unlock(&lock);
    return result;
}

static int is_due(const char *what) {
    int result = 0;
    pthread_mutex_lock(&lock);
    if (gives_up && !strcmp(what, "meta")) {
        gives_up = 0;
        result = 1;
    } else if (left > 0 && !gives_up && !strcmp(what, kind)) {
        if (before > 0)
            before--;
        else {
            left--, failed++;
            result = 1;
        }
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static int is_file(int fd) {
    struct stat ours, theirs;
    int error = errno;
    int result = left > 0 && !fstat(fd, &theirs) && !stat(file, &ours) &&
                 ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev;
    errno = error;
    return result;
}

/* 1: this call fails; 2: it writes only a part. */
static int fails_to_write(int fd) {
    if (!is_file(fd))
        return 0;
    if (fcntl(fd, F_GETFL) & O_DSYNC) {
        if (is_due("meta"))
            return errno = code, 1;
        return is_due("meta part") ? 2 : 0;
    }
    if (is_due("page"))
        return errno = code, 1;
    return is_due("page part") ? 2 : 0;
}

#define WRITE(function, offset_type)                                                               \
    ssize_t function(int fd, const void *start, size_t size, offset_type offset) {                 \
        REAL(#function, ssize_t, int, const void *, size_t, offset_type);                          \
        int how = fails_to_write(fd);                                                              \
        return how == 1 ? -1 : real(fd, start, how ? size / 2 : size, offset);                     \
    }
WRITE(pwrite, off_t)
WRITE(pwrite64, off64_t)

#define WRITE_VECTOR(function, offset_type)                                                        \
    ssize_t function(int fd, const struct iovec *parts, int count, offset_type offset) {           \
        REAL(#function, ssize_t, int, const struct iovec *, int, offset_type);                     \
        int how = fails_to_write(fd);                                                              \
        return how == 1 ? -1 : real(fd, parts, how && count > 1 ? count / 2 : count, offset);      \
    }
WRITE_VECTOR(pwritev, off_t)
WRITE_VECTOR(pwritev64, off64_t)

#define SYNC(function)                                                                             \
    int function(int fd) {                                                                         \
        REAL(#function, int, int);                                                                 \
        if (is_file(fd) && is_due("sync"))                                                         \
            return errno = code, -1;                                                               \
        return real(fd);                                                                           \
    }
SYNC(fsync)
SYNC(fdatasync)

#define MAP(function, offset_type)                                                                 \
    void *function(void *start, size_t size, int access, int flags, int fd, offset_type offset) {  \
        REAL(#function, void *, void *, size_t, int, int, int, offset_type);                       \
        if (fd >= 0 && is_file(fd) && is_due("map"))                                               \
            return errno = code, MAP_FAILED;                                                       \
        return real(start, size, access, flags, fd, offset);                                       \
    }
MAP(mmap, off_t)
MAP(mmap64, off64_t)

#define OPEN(function)                                                                             \
    int function(const char *path, int flags, ...) {                                               \
        REAL(#function, int, const char *, int, ...);                                              \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;                                  \
        va_end(more);                                                                              \
        if (left > 0 && !strcmp(path, file) && is_due("open"))                                     \
            return errno = code, -1;                                                               \
        return real(path, flags, mode);                                                            \
    }
OPEN(open)
OPEN(open64)
