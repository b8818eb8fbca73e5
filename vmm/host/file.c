#include "vmm/host/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/buf.h"

int rv_file_read(const char *path, uint64_t max, uint8_t **data, size_t *len, struct rv_err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return rv_fail_errno(err, RV_E_HOST, "cannot open %s", path);
    struct stat st;
    int r = 0;
    if (fstat(fd, &st)) {
        r = rv_fail_errno(err, RV_E_HOST, "cannot look at %s", path);
    } else if (!S_ISREG(st.st_mode)) {
        r = rv_fail(err, RV_E_USAGE, "%s is not a regular file", path);
    } else if ((uint64_t)st.st_size > max) {
        r = rv_fail(err, RV_E_USAGE, "%s has %lld bytes; at most %llu make sense here", path,
                    (long long)st.st_size, (unsigned long long)max);
    }
    if (r) {
        close(fd);
        return r;
    }
    size_t size = (size_t)st.st_size, got = 0;
    uint8_t *buf = rv_alloc(size);
    while (got < size) {
        ssize_t n = read(fd, buf + got, size - got);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            r = rv_fail_errno(err, RV_E_HOST, "cannot read %s", path);
            break;
        }
        if (n == 0) break; /* it shrank meanwhile */
        got += (size_t)n;
    }
    close(fd);
    if (r) {
        free(buf);
        return r;
    }
    *data = buf;
    *len = got;
    return 0;
}
