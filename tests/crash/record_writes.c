/* Writes down, in one order, what a process does to the files below one folder.
 *
 * Preloaded into a real Python. POWER_CUT_ROOT is the folder, POWER_CUT_LOG the file that gets the
 * records. Rule: a write is recorded before it is done, a sync twice, when it begins and when it has
 * ended; so what the record says is on the disk is there. Files are known by device and inode.
 *
 * What cannot be followed, such as a page written through a mapping, is recorded too, so that the
 * reader of the record can refuse it.
 */
#undef _FORTIFY_SOURCE /* those headers define what is defined here */
#undef _FILE_OFFSET_BITS /* pwrite and pwrite64 are two names, and both are followed */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES_MAX 4096
#define PATH_SIZE_MAX 4096

struct record {
    uint32_t kind;
    uint32_t flags;
    uint64_t file;
    uint64_t offset;
    uint64_t size; /* of what follows */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static uint64_t known[FILES_MAX];
static int known_count;

#define REAL(name, type, ...)                                                                      \
    static type (*real)(__VA_ARGS__);                                                              \
    if (!real)                                                                                     \
    real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static void die(const char *why) {
    syscall(SYS_write, 2, why, strlen(why));
    _exit(97);
}

static void put(const void *start, size_t size) {
    const char *next = start;
    while (size) {
        ssize_t done = syscall(SYS_write, log_fd, next, size);
        if (done <= 0)
            die("the record cannot be written\n");
        next += done;
        size -= done;
    }
}

static void say(char kind, int flags, uint64_t file, uint64_t offset, const void *more,
                size_t size) {
    struct record record = {(uint32_t)kind, (uint32_t)flags, file, offset, size};
    put(&record, sizeof record);
    if (size)
        put(more, size);
}

/* The one number of a file; `power_cut_record.number_of` makes the same. */
static uint64_t number_of(const struct stat *found) {
    return (uint64_t)found->st_dev * 1000003 + (uint64_t)found->st_ino;
}

static void know(const struct stat *found) {
    uint64_t file = number_of(found);
    for (int i = 0; i < known_count; i++)
        if (known[i] == file)
            return;
    if (known_count == FILES_MAX)
        die("too many files to record\n");
    known[known_count++] = file;
}

static int is_known(const struct stat *found) {
    uint64_t file = number_of(found);
    for (int i = 0; i < known_count; i++)
        if (known[i] == file)
            return 1;
    return 0;
}

/* The number of an open file that is recorded, else 0. */
static uint64_t file_of(int fd) {
    struct stat found;
    int error = errno;
    uint64_t file = 0;
    if (log_fd >= 0 && fd != log_fd && !fstat(fd, &found) && is_known(&found))
        file = number_of(&found);
    errno = error;
    return file;
}

static uint64_t file_at(const char *path) {
    struct stat found;
    int error = errno;
    uint64_t file = log_fd >= 0 && !lstat(path, &found) && is_known(&found) ? number_of(&found) : 0;
    errno = error;
    return file;
}

/* The folder that *path* is in, if that is recorded, else 0; *name*: what it is called there. */
static uint64_t folder_of(const char *path, char *name) {
    char copy[PATH_SIZE_MAX], other[PATH_SIZE_MAX];
    struct stat found;
    int error = errno;
    uint64_t folder = 0;
    if (log_fd >= 0 && path && strlen(path) < PATH_SIZE_MAX) {
        strcpy(copy, path);
        strcpy(other, path);
        strcpy(name, basename(copy));
        if (!stat(dirname(other), &found) && is_known(&found))
            folder = number_of(&found);
    }
    errno = error;
    return folder;
}

static int know_each(const char *path, const struct stat *found, int kind, struct FTW *where) {
    (void)path, (void)kind, (void)where;
    know(found);
    return 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *root = getenv("POWER_CUT_ROOT"), *log = getenv("POWER_CUT_LOG");
    if (!root || !log)
        return;
    unsetenv("LD_PRELOAD"); /* what the process starts is not recorded */
    if (nftw(root, know_each, 16, FTW_PHYS))
        die("the folder to record cannot be read\n");
    log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log_fd < 0)
        die("the record cannot be made\n");
}

/* For the program itself: something has happened that the disk must know by now. */
void power_cut_note(const char *text) {
    pthread_mutex_lock(&lock);
    say('N', 0, 0, 0, text, strlen(text));
    pthread_mutex_unlock(&lock);
}

static void refuse(int fd, const char *what) {
    uint64_t file = file_of(fd);
    if (!file)
        return;
    pthread_mutex_lock(&lock);
    say('X', 0, file, 0, what, strlen(what));
    pthread_mutex_unlock(&lock);
}

/* Writes */

static void begin_write(int fd, uint64_t file, off_t offset, const struct iovec *parts, int count) {
    struct record record = {'W', 0, file, (uint64_t)offset, 0};
    record.flags = (fcntl(fd, F_GETFL) & O_DSYNC) != 0;
    for (int i = 0; i < count; i++)
        record.size += parts[i].iov_len;
    put(&record, sizeof record);
    for (int i = 0; i < count; i++)
        put(parts[i].iov_base, parts[i].iov_len);
}

static ssize_t end_write(int fd, uint64_t file, ssize_t done, const struct iovec *parts, int count) {
    int error = errno;
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    if (done != (ssize_t)size)
        say('X', 0, file, 0, "a short write", 13);
    else if (fcntl(fd, F_GETFL) & O_DSYNC)
        say('D', 0, file, 0, NULL, 0);
    errno = error;
    return done;
}

#define RECORD_WRITE(offset, parts, count, call)                                                   \
    uint64_t file = file_of(fd);                                                                      \
    if (!file)                                                                                     \
        return call;                                                                               \
    pthread_mutex_lock(&lock);                                                                     \
    begin_write(fd, file, offset, parts, count);                                                   \
    ssize_t done = end_write(fd, file, call, parts, count);                                        \
    pthread_mutex_unlock(&lock);                                                                   \
    return done

/* Where a write without an offset goes. */
static off_t place_in(int fd) {
    struct stat found;
    if (fcntl(fd, F_GETFL) & O_APPEND && !fstat(fd, &found))
        return found.st_size;
    return lseek(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *start, size_t size) {
    REAL("write", ssize_t, int, const void *, size_t);
    struct iovec part = {(void *)start, size};
    RECORD_WRITE(place_in(fd), &part, 1, real(fd, start, size));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL("writev", ssize_t, int, const struct iovec *, int);
    RECORD_WRITE(place_in(fd), parts, count, real(fd, parts, count));
}

#define DEFINE_PWRITE(name, offset_type)                                                           \
    ssize_t name(int fd, const void *start, size_t size, offset_type offset) {                     \
        REAL(#name, ssize_t, int, const void *, size_t, offset_type);                              \
        struct iovec part = {(void *)start, size};                                                 \
        RECORD_WRITE(offset, &part, 1, real(fd, start, size, offset));                             \
    }

#define DEFINE_PWRITEV(name, offset_type)                                                          \
    ssize_t name(int fd, const struct iovec *parts, int count, offset_type offset) {               \
        REAL(#name, ssize_t, int, const struct iovec *, int, offset_type);                         \
        RECORD_WRITE(offset, parts, count, real(fd, parts, count, offset));                        \
    }

static void record_truncate(uint64_t file, uint64_t size) {
    pthread_mutex_lock(&lock);
    say('T', 0, file, size, NULL, 0);
    pthread_mutex_unlock(&lock);
}

#define DEFINE_TRUNCATE(name, of, what, what_type, offset_type)                                    \
    int name(what_type what, offset_type size) {                                                   \
        REAL(#name, int, what_type, offset_type);                                                  \
        uint64_t file = of(what);                                                                     \
        if (file)                                                                                  \
            record_truncate(file, size);                                                           \
        return real(what, size);                                                                   \
    }

/* A mapping that can be written through: what it does to the file is not seen. */
#define DEFINE_MMAP(name, offset_type)                                                             \
    void *name(void *start, size_t size, int rights, int flags, int fd, offset_type offset) {      \
        REAL(#name, void *, void *, size_t, int, int, int, offset_type);                           \
        uint64_t file = fd >= 0 && rights & PROT_WRITE && flags & MAP_SHARED ? file_of(fd) : 0;       \
        if (file) {                                                                                \
            pthread_mutex_lock(&lock);                                                             \
            say('M', 0, file, 0, NULL, 0);                                                         \
            pthread_mutex_unlock(&lock);                                                           \
        }                                                                                          \
        return real(start, size, rights, flags, fd, offset);                                       \
    }

DEFINE_PWRITE(pwrite, off_t)
DEFINE_PWRITEV(pwritev, off_t)
DEFINE_TRUNCATE(ftruncate, file_of, fd, int, off_t)
DEFINE_TRUNCATE(truncate, file_at, path, const char *, off_t)
DEFINE_MMAP(mmap, off_t)

/* Syncs */

#define DEFINE_SYNC(name)                                                                          \
    int name(int fd) {                                                                             \
        REAL(#name, int, int);                                                                     \
        uint64_t file = file_of(fd);                                                                  \
        if (!file)                                                                                 \
            return real(fd);                                                                       \
        uint64_t thread = syscall(SYS_gettid);                                                     \
        pthread_mutex_lock(&lock);                                                                 \
        say('B', 0, file, thread, NULL, 0);                                                        \
        pthread_mutex_unlock(&lock);                                                               \
        int failed = real(fd);                                                                     \
        pthread_mutex_lock(&lock);                                                                 \
        if (!failed)                                                                               \
            say('E', 0, file, thread, NULL, 0);                                                    \
        pthread_mutex_unlock(&lock);                                                               \
        return failed;                                                                             \
    }

DEFINE_SYNC(fsync)
DEFINE_SYNC(fdatasync)

/* Names */

static int record_open(int fd, const char *path, int flags, int existed) {
    char name[PATH_SIZE_MAX];
    struct stat found;
    int error = errno;
    uint64_t folder = fd >= 0 && flags & O_CREAT && !existed ? folder_of(path, name) : 0;
    if (folder && !fstat(fd, &found)) {
        pthread_mutex_lock(&lock);
        know(&found);
        say('C', 0, folder, number_of(&found), name, strlen(name));
        pthread_mutex_unlock(&lock);
    } else if (fd >= 0 && flags & O_TRUNC && file_of(fd)) {
        record_truncate(file_of(fd), 0);
    }
    errno = error;
    return fd;
}

static int is_there(const char *path) {
    struct stat found;
    int error = errno;
    int answer = !lstat(path, &found);
    errno = error;
    return answer;
}

#define DEFINE_OPEN(name)                                                                          \
    int name(const char *path, int flags, ...) {                                                   \
        REAL(#name, int, const char *, int, ...);                                                  \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        int mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, int) : 0;    \
        va_end(more);                                                                              \
        int existed = flags & O_CREAT ? is_there(path) : 1;                                        \
        return record_open(real(path, flags, mode), path, flags, existed);                         \
    }

DEFINE_OPEN(open)

int mkdir(const char *path, mode_t mode) {
    REAL("mkdir", int, const char *, mode_t);
    char name[PATH_SIZE_MAX];
    struct stat found;
    uint64_t folder = folder_of(path, name);
    int failed = real(path, mode);
    if (folder && !failed && !stat(path, &found)) {
        pthread_mutex_lock(&lock);
        know(&found);
        say('C', 1, folder, number_of(&found), name, strlen(name));
        pthread_mutex_unlock(&lock);
    }
    return failed;
}

static void record_removal(const char *path, int failed) {
    char name[PATH_SIZE_MAX];
    uint64_t folder = failed ? 0 : folder_of(path, name);
    if (!folder)
        return;
    pthread_mutex_lock(&lock);
    say('U', 0, folder, 0, name, strlen(name));
    pthread_mutex_unlock(&lock);
}

int unlink(const char *path) {
    REAL("unlink", int, const char *);
    int failed = real(path);
    record_removal(path, failed);
    return failed;
}

int rmdir(const char *path) {
    REAL("rmdir", int, const char *);
    int failed = real(path);
    record_removal(path, failed);
    return failed;
}

int rename(const char *from, const char *to) {
    REAL("rename", int, const char *, const char *);
    char old[PATH_SIZE_MAX], new[PATH_SIZE_MAX], both[2 * PATH_SIZE_MAX];
    uint64_t folder = folder_of(from, old), other = folder_of(to, new);
    int failed = real(from, to);
    if (!failed && (folder || other)) {
        pthread_mutex_lock(&lock);
        if (folder == other) {
            size_t size = snprintf(both, sizeof both, "%s/%s", old, new);
            say('R', 0, folder, 0, both, size);
        } else {
            say('X', 0, folder, 0, "a move to another folder", 24);
        }
        pthread_mutex_unlock(&lock);
    }
    return failed;
}

/* What nobody here does. */

int posix_fallocate(int fd, off_t offset, off_t size) {
    REAL("posix_fallocate", int, int, off_t, off_t);
    refuse(fd, "posix_fallocate");
    return real(fd, offset, size);
}

int fallocate(int fd, int mode, off_t offset, off_t size) {
    REAL("fallocate", int, int, int, off_t, off_t);
    refuse(fd, "fallocate");
    return real(fd, mode, offset, size);
}

#ifdef __GLIBC__
DEFINE_PWRITE(pwrite64, off64_t)
DEFINE_PWRITEV(pwritev64, off64_t)
DEFINE_TRUNCATE(ftruncate64, file_of, fd, int, off64_t)
DEFINE_TRUNCATE(truncate64, file_at, path, const char *, off64_t)
DEFINE_MMAP(mmap64, off64_t)
DEFINE_OPEN(open64)
#endif
