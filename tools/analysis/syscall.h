/* What x86-64 Linux's system calls are called and what their arguments mean. */
#ifndef RV_ANALYSIS_SYSCALL_H
#define RV_ANALYSIS_SYSCALL_H

#include "vmm/base/buf.h"

/* Name of a call by its number; NULL: not known. */
const char *rv_syscall_name(unsigned number);
/* Number by name; -1: there is none. */
int rv_syscall_number(const char *name);
/* "ENOENT" for 2; NULL: there is none. */
const char *rv_errno_name(int64_t number);
const char *rv_signal_name(unsigned number); /* "SIGSEGV"; NULL: there is none */

/* Reads memory of the process that calls. As rv_view_read(). */
struct rv_syscall_memory {
    size_t (*read)(void *ctx, uint64_t va, void *out, size_t len);
    void *ctx;
};

/* Appends the arguments as text, separated by ", ". In place of those that the call fills it puts
 * the byte RV_SYSCALL_LATER, since they are known only when it returns. No other control byte
 * appears. */
#define RV_SYSCALL_LATER 1
void rv_syscall_enter(struct rv_buf *out, unsigned number, const uint64_t arg[6],
                      const struct rv_syscall_memory *m);
/* When the call returned: appends the text of each argument that it filled, each ended with
 * RV_SYSCALL_LATER. m NULL: the call never returned, and they are shown as addresses. */
void rv_syscall_exit(struct rv_buf *out, unsigned number, const uint64_t arg[6], int64_t result,
                     const struct rv_syscall_memory *m);

/* Whether the call's result is an address, better shown in hexadecimal. */
bool rv_syscall_returns_address(unsigned number);

/* Appends the string at an address in double quotes, or the address when it cannot be read. */
void rv_put_string(struct rv_buf *out, uint64_t va, const struct rv_syscall_memory *m);
/* Appends bytes as a C string in double quotes. */
void rv_put_quoted(struct rv_buf *out, const uint8_t *data, size_t len);

#endif
