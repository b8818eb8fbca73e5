/* Guest addresses, positions and times. Names say which kind an integer is; the units are fixed. */
#ifndef RV_BASE_TYPES_H
#define RV_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t rv_gpa;    /* guest physical address, bytes */
typedef uint64_t rv_gva;    /* guest virtual (linear) address, bytes */
typedef uint64_t rv_icount; /* position: instructions retired since power-on */
typedef uint64_t rv_ns;     /* guest time since power-on, nanoseconds */

#define RV_NEVER      UINT64_MAX /* no deadline, no position */
#define RV_PAGE_SHIFT 12
#define RV_PAGE_SIZE  4096u
#define RV_PAGE_MASK  (~(uint64_t)0xfff)
#define RV_NSEC       1000000000ull

#define rv_likely(x)   __builtin_expect(!!(x), 1)
#define rv_unlikely(x) __builtin_expect(!!(x), 0)
#define RV_COUNT(a)    (sizeof(a) / sizeof((a)[0]))

#endif
