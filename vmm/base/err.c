#include "vmm/base/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int rv_fail(struct rv_err *err, int code, const char *fmt, ...) {
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->msg, sizeof err->msg, fmt, ap);
        va_end(ap);
        err->code = code;
    }
    return code;
}

int rv_fail_errno(struct rv_err *err, int code, const char *fmt, ...) {
    int saved = errno;
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
        va_end(ap);
        if (n >= 0 && (size_t)n < sizeof err->msg)
            snprintf(err->msg + n, sizeof err->msg - (size_t)n, ": %s", strerror(saved));
        err->code = code;
    }
    return code;
}

int rv_fail_in(struct rv_err *err, const char *fmt, ...) {
    if (!err) return RV_E_BUG;
    char old[sizeof err->msg];
    memcpy(old, err->msg, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->msg)
        snprintf(err->msg + n, sizeof err->msg - (size_t)n, ": %s", old);
    return err->code;
}

const char *rv_code_name(int code) {
    switch (code) {
    case RV_OK: return "ok";
    case RV_E_BUG: return "internal";
    case RV_E_HOST: return "host";
    case RV_E_USAGE: return "usage";
    case RV_E_FORMAT: return "format";
    case RV_E_DIVERGED: return "diverged";
    case RV_E_UNSUPPORTED: return "unsupported";
    case RV_E_INTERRUPTED: return "interrupted";
    case RV_E_END: return "end";
    default: return "unknown";
    }
}

void rv_assert_failed(const char *cond, const char *file, int line, const char *func) {
    fprintf(stderr, "retro: internal error: %s does not hold (%s:%d, %s); please report it\n", cond,
            file, line, func);
    abort();
}
