/* A library to preload: writing below a directory fails, from the n-th call on. Reads do not.

   fail_io.py compiles and drives it. Armed by the environment when it is loaded (FAIL_IO_PREFIX,
   FAIL_IO_AFTER, FAIL_IO_ERRNO, FAIL_IO_KINDS), or by fail_io_arm in the process.
   What a file descriptor belongs to, /proc/self/fd says at each call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, WRITE = 2, SYNC = 4, RENAME = 8, MKDIR = 16, TRUNCATE = 32, REMOVE = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char prefix[PATH_MAX];
static volatile int armed = 0;
static int error_number, kinds;
static long after, calls, hits;

/* Calls below `where` of these kinds (0: all) fail with this error, after so many that do not. */
void fail_io_arm(const char *where, long after_calls, int error, int which) {
  pthread_mutex_lock(&lock);
  snprintf(prefix, sizeof prefix, "%s", where);
  for (size_t n = strlen(prefix); n > 1 && prefix[n - 1] == '/'; n--) prefix[n - 1] = 0;
  after = after_calls, error_number = error, kinds = which ? which : 127;
  calls = hits = 0, armed = 1;
  pthread_mutex_unlock(&lock);
}
void fail_io_disarm(void) { armed = 0; }
long fail_io_calls(void) { return calls; } /* calls of these kinds seen since armed */
long fail_io_hits(void) { return hits; }   /* of which failed */

__attribute__((constructor)) static void from_environment(void) {
  const char *where = getenv("FAIL_IO_PREFIX"), *n = getenv("FAIL_IO_AFTER");
  const char *error = getenv("FAIL_IO_ERRNO"), *which = getenv("FAIL_IO_KINDS");
  if (!where || !*where) return;
  fail_io_arm(where, n ? atol(n) : 0, error ? atoi(error) : ENOSPC, which ? atoi(which) : 0);
}

/* Whether this call on a path is to fail; sets errno then. */
static int fails(int kind, const char *path) {
  size_t n = strlen(prefix);
  if (!(kinds & kind) || strncmp(path, prefix, n) || (path[n] && path[n] != '/')) return 0;
  pthread_mutex_lock(&lock);
  int fail = armed && calls++ >= after;
  if (fail) hits++;
  pthread_mutex_unlock(&lock);
  if (fail) errno = error_number;
  return fail;
}
static int fd_fails(int kind, int fd) {
  char link[64], path[PATH_MAX];
  if (!armed) return 0;
  int kept = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  errno = kept;
  if (n < 0) return 0;
  path[n] = 0;
  return fails(kind, path);
}
static int at_fails(int kind, int dir, const char *name) {
  char link[64], path[2 * PATH_MAX];
  if (!armed || !name) return 0;
  if (name[0] == '/') return fails(kind, name);
  int kept = errno;
  if (dir == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
  else snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
  ssize_t n = readlink(link, path, PATH_MAX - 1);
  errno = kept;
  if (n < 0) return 0;
  while (!strncmp(name, "./", 2)) name += 2;
  snprintf(path + n, PATH_MAX, "/%s", name);
  return fails(kind, path);
}
static int for_writing(int flags) {
  return (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
}

#define REAL(type, name, params) \
  static type(*real) params;     \
  if (!real) real = (type(*) params)dlsym(RTLD_NEXT, #name);
#define WRAP(type, name, params, args, fail) \
  type name params {                         \
    REAL(type, name, params)                 \
    return (fail) ? -1 : real args;          \
  }
#define MODE                               \
  mode_t mode = 0;                         \
  if (flags & (O_CREAT | __O_TMPFILE)) {   \
    va_list rest;                          \
    va_start(rest, flags);                 \
    mode = va_arg(rest, mode_t);           \
    va_end(rest);                          \
  }
#define OPENS(name)                                                               \
  int name(const char *path, int flags, ...) {                                    \
    REAL(int, name, (const char *, int, ...)) MODE                                \
    return for_writing(flags) && at_fails(OPEN, AT_FDCWD, path) ? -1              \
                                                                : real(path, flags, mode); \
  }
#define OPENATS(name)                                                             \
  int name(int dir, const char *path, int flags, ...) {                           \
    REAL(int, name, (int, const char *, int, ...)) MODE                           \
    return for_writing(flags) && at_fails(OPEN, dir, path) ? -1                   \
                                                           : real(dir, path, flags, mode); \
  }
#define FOPENS(name)                                                              \
  FILE *name(const char *path, const char *how) {                                 \
    REAL(FILE *, name, (const char *, const char *))                              \
    return strpbrk(how, "wa+") && at_fails(OPEN, AT_FDCWD, path) ? NULL : real(path, how); \
  }
OPENS(open) OPENS(open64) OPENATS(openat) OPENATS(openat64) FOPENS(fopen) FOPENS(fopen64)

size_t fwrite(const void *data, size_t size, size_t n, FILE *file) {
  REAL(size_t, fwrite, (const void *, size_t, size_t, FILE *))
  return armed && fd_fails(WRITE, fileno(file)) ? 0 : real(data, size, n, file);
}

#define AT AT_FDCWD
WRAP(int, creat, (const char *p, mode_t m), (p, m), at_fails(OPEN, AT, p))
WRAP(int, creat64, (const char *p, mode_t m), (p, m), at_fails(OPEN, AT, p))
WRAP(ssize_t, write, (int f, const void *b, size_t n), (f, b, n), fd_fails(WRITE, f))
WRAP(ssize_t, writev, (int f, const struct iovec *v, int n), (f, v, n), fd_fails(WRITE, f))
WRAP(ssize_t, pwrite, (int f, const void *b, size_t n, off_t o), (f, b, n, o), fd_fails(WRITE, f))
WRAP(ssize_t, pwrite64, (int f, const void *b, size_t n, off64_t o), (f, b, n, o), fd_fails(WRITE, f))
WRAP(ssize_t, pwritev, (int f, const struct iovec *v, int n, off_t o), (f, v, n, o), fd_fails(WRITE, f))
WRAP(ssize_t, pwritev64, (int f, const struct iovec *v, int n, off64_t o), (f, v, n, o), fd_fails(WRITE, f))
WRAP(ssize_t, sendfile, (int f, int g, off_t *o, size_t n), (f, g, o, n), fd_fails(WRITE, f))
WRAP(ssize_t, sendfile64, (int f, int g, off64_t *o, size_t n), (f, g, o, n), fd_fails(WRITE, f))
WRAP(ssize_t, copy_file_range, (int g, off64_t *p, int f, off64_t *o, size_t n, unsigned x), (g, p, f, o, n, x), fd_fails(WRITE, f))
WRAP(int, fsync, (int f), (f), fd_fails(SYNC, f))
WRAP(int, fdatasync, (int f), (f), fd_fails(SYNC, f))
WRAP(int, rename, (const char *p, const char *q), (p, q), at_fails(RENAME, AT, q))
WRAP(int, renameat, (int d, const char *p, int e, const char *q), (d, p, e, q), at_fails(RENAME, e, q))
WRAP(int, renameat2, (int d, const char *p, int e, const char *q, unsigned x), (d, p, e, q, x), at_fails(RENAME, e, q))
WRAP(int, link, (const char *p, const char *q), (p, q), at_fails(RENAME, AT, q))
WRAP(int, linkat, (int d, const char *p, int e, const char *q, int x), (d, p, e, q, x), at_fails(RENAME, e, q))
WRAP(int, mkdir, (const char *p, mode_t m), (p, m), at_fails(MKDIR, AT, p))
WRAP(int, mkdirat, (int d, const char *p, mode_t m), (d, p, m), at_fails(MKDIR, d, p))
WRAP(int, truncate, (const char *p, off_t n), (p, n), at_fails(TRUNCATE, AT, p))
WRAP(int, truncate64, (const char *p, off64_t n), (p, n), at_fails(TRUNCATE, AT, p))
WRAP(int, ftruncate, (int f, off_t n), (f, n), fd_fails(TRUNCATE, f))
WRAP(int, ftruncate64, (int f, off64_t n), (f, n), fd_fails(TRUNCATE, f))
WRAP(int, unlink, (const char *p), (p), at_fails(REMOVE, AT, p))
WRAP(int, unlinkat, (int d, const char *p, int x), (d, p, x), at_fails(REMOVE, d, p))
WRAP(int, rmdir, (const char *p), (p), at_fails(REMOVE, AT, p))
