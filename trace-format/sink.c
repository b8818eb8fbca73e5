#include "trace-format/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/buf.h"

/* Space is set aside in steps of this size, to keep the calls few. */
#define ALLOCATE_STEP (1u << 20)

int rv_sink_open(struct rv_sink *s, const char *path, bool overwrite, uint32_t reserve,
                 struct rv_err *err) {
    *s = (struct rv_sink){.fd = -1, .reserve = reserve};
    int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK |
                (overwrite ? 0 : O_EXCL);
    int fd = open(path, flags, 0666);
    if (fd < 0 && errno == EEXIST)
        return rv_fail(err, RV_E_USAGE,
                       "%s exists already; choose another name, or allow it to be overwritten",
                       path);
    if (fd < 0) return rv_fail_errno(err, RV_E_HOST, "cannot create %s", path);
    struct stat st;
    int rc = 0;
    if (fstat(fd, &st) < 0)
        rc = rv_fail_errno(err, RV_E_HOST, "cannot use %s", path);
    else if (!S_ISREG(st.st_mode))
        rc = rv_fail(err, RV_E_USAGE, "%s is not a regular file; a trace needs one", path);
    /* The lock keeps a second recorder from emptying a trace that is being written. */
    else if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
        rc = rv_fail(err, RV_E_HOST, "%s is being written by another recorder", path);
    else if (ftruncate(fd, 0) < 0)
        rc = rv_fail_errno(err, RV_E_HOST, "cannot empty %s", path);
    if (rc) {
        close(fd);
        return rc;
    }
    s->fd = fd;
    s->path = rv_strdup(path);
    return 0;
}

/* Sets blocks aside for the next len bytes and the reserve after them. */
static int allocate(struct rv_sink *s, size_t len, struct rv_err *err) {
    uint64_t want = s->end + len + s->reserve;
    if (!s->reserve || want <= s->allocated) return 0;
    uint64_t from = s->allocated > s->end ? s->allocated : s->end;
    const uint64_t targets[] = {want + ALLOCATE_STEP, want};
    for (size_t i = 0; i < 2; i++) {
        int rc;
        do rc = fallocate(s->fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(targets[i] - from));
        while (rc < 0 && errno == EINTR);
        if (rc == 0) {
            s->allocated = targets[i];
            return 0;
        }
    }
    if (errno == EOPNOTSUPP || errno == ENOSYS) {
        s->reserve = 0;
        return 0;
    }
    return rv_fail_errno(err, RV_E_HOST, "cannot write to %s", s->path);
}

int rv_sink_append(struct rv_sink *s, const void *data, size_t len, bool dip, struct rv_err *err) {
    int rc = dip ? 0 : allocate(s, len, err);
    if (rc) return rc;
    const uint8_t *p = data;
    size_t left = len;
    while (left) {
        ssize_t n = write(s->fd, p, left);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            if (n == 0) errno = EIO;
            rc = rv_fail_errno(err, RV_E_HOST, "cannot write to %s", s->path);
            /* Best effort: a torn chunk at the end is also what a reader copes with. */
            rv_sink_rewind(s, s->end, NULL);
            return rc;
        }
        p += n;
        left -= (size_t)n;
    }
    s->end += len;
    return 0;
}

int rv_sink_rewind(struct rv_sink *s, uint64_t end, struct rv_err *err) {
    int rc;
    do rc = ftruncate(s->fd, (off_t)end);
    while (rc < 0 && errno == EINTR);
    if (rc < 0) return rv_fail_errno(err, RV_E_HOST, "cannot shorten %s", s->path);
    s->end = end;
    /* Truncation gives back what was set aside. */
    s->allocated = end;
    return 0;
}

int rv_sink_sync(struct rv_sink *s, struct rv_err *err) {
    if (fdatasync(s->fd) < 0)
        return rv_fail_errno(err, RV_E_HOST, "cannot bring %s to stable storage", s->path);
    return 0;
}

void rv_sink_close(struct rv_sink *s, bool remove) {
    if (s->fd >= 0) {
        if (remove)
            unlink(s->path);
        else if (s->allocated > s->end)
            rv_sink_rewind(s, s->end, NULL);
        close(s->fd);
    }
    free(s->path);
    *s = (struct rv_sink){.fd = -1};
}
