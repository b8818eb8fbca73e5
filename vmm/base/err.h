/* Errors as values: a function that can fail returns 0 or one of the negative codes below and fills
 * the caller's struct rv_err. Libraries never print and never exit; only tools/ does. */
#ifndef RV_BASE_ERR_H
#define RV_BASE_ERR_H

#include <stdarg.h>

/* What kind of thing went wrong decides who has to act on it, and the exit status of the command.
 */
enum rv_code {
    RV_OK = 0,
    RV_E_BUG = -1,         /* ours: an internal expectation did not hold */
    RV_E_HOST = -2,        /* the host refused: file, memory, device, full disk */
    RV_E_USAGE = -3,       /* the caller asked for something absurd */
    RV_E_FORMAT = -4,      /* a file is not what it should be: damaged trace, not a kernel */
    RV_E_DIVERGED = -5,    /* replay met something other than what was recorded */
    RV_E_UNSUPPORTED = -6, /* well formed, but this build or host cannot do it */
    RV_E_INTERRUPTED = -7, /* the user asked to stop */
    RV_E_END = -8,         /* nothing more to read: not a failure to the one who reads in a loop */
};

struct rv_err {
    int code;      /* enum rv_code; RV_OK when nothing was reported */
    char msg[512]; /* one line without a newline: what, where, and what to do */
};

/* Fills *err (which may be NULL) and returns code, so that `return rv_fail(err, ...)` reads well.
 * The message is cut, never overflowed. */
int rv_fail(struct rv_err *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As rv_fail, and appends ": " and the text of errno as it was on entry. */
int rv_fail_errno(struct rv_err *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts context in front of a message already in *err: "reading x.retro: <old message>". Returns
 * err->code. */
int rv_fail_in(struct rv_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A short name of the code's class ("host", "format", ...). Never NULL. */
const char *rv_code_name(int code);

/* An assertion that stays on in every build; cond must be free of side effects. Use it for our own
 * bugs only, never for what a guest, a file or a user did. */
#define rv_assert(cond) ((cond) ? (void)0 : rv_assert_failed(#cond, __FILE__, __LINE__, __func__))
void rv_assert_failed(const char *cond, const char *file, int line, const char *func)
    __attribute__((noreturn, cold));

#endif
