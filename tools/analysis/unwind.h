/* Call stacks of the kernel and of programs, through interrupts and system calls. */
#ifndef RV_ANALYSIS_UNWIND_H
#define RV_ANALYSIS_UNWIND_H

#include "tools/analysis/guest.h"

/* How a frame was come to from the one before it. */
enum rv_frame_how {
    RV_FRAME_FIRST,   /* where it begins */
    RV_FRAME_ORC,     /* the kernel's own tables */
    RV_FRAME_CFI,     /* .eh_frame */
    RV_FRAME_POINTER, /* no table: the frame pointer was taken for one, or the return address from
                         the stack at a function's start */
    RV_FRAME_REGS,    /* registers that an interrupt, exception or system call saved */
};
const char *rv_frame_how(enum rv_frame_how how); /* a word for it */

struct rv_frame {
    uint64_t pc, sp;
    bool user;
    bool exact; /* pc is where it stopped, not a return address: names are of pc, not of pc - 1 */
    enum rv_frame_how how;
};

/* Why there are no more frames. */
enum rv_unwind_end {
    RV_UNWIND_BOTTOM,    /* there are none: the outermost function */
    RV_UNWIND_FULL,      /* no more were asked for */
    RV_UNWIND_NO_TABLES, /* how to go on is not known */
    RV_UNWIND_NO_MEMORY, /* the stack cannot be read */
    RV_UNWIND_LOOP,      /* the stack makes no progress */
};
const char *rv_unwind_end(enum rv_unwind_end end);

/* The stack of the look's thread, the innermost frame first: of what the CPU runs, or where another
 * thread was left when it was switched from. How many of at most max frames. */
size_t rv_unwind(const struct rv_look *look, struct rv_frame *frame, size_t max,
                 enum rv_unwind_end *end);

#endif
