/* Exact counts of executed instructions, by code and address space. Counting is unseen by the
 * guest: it changes neither its state nor its positions. */
#ifndef RV_VMM_CPU_COUNT_H
#define RV_VMM_CPU_COUNT_H

#include "vmm/base/types.h"

/* Consecutive instructions that were executed equally often. An instruction counts when it retires:
 * over all that an engine tells of, insns * times adds up to the instructions it retired while it
 * counted. The same code may be told of in several parts, also overlapping ones: parts are to be
 * added up. */
struct rv_count {
    uint64_t cr3;   /* when they ran, as the guest loaded it; RV_COUNT_OTHERS */
    uint64_t tag;   /* the host's, by count_as(); 0 before */
    uint64_t va;    /* linear address of the first; RV_COUNT_NOWHERE */
    rv_gpa pa;      /* and physical; RV_COUNT_NOWHERE */
    uint32_t bytes; /* of all of them, within one page but for an instruction that crosses */
    uint32_t insns; /* 0, with bytes 0: the instruction at va was come to so often without being
                       executed, because it faulted or the run ended before it */
    uint64_t times; /* each was executed; at least 1 */
    bool user;      /* at privilege level 3 */
};

/* In one count, pairs of cr3 and tag beyond this many are not told apart: they are told of
 * together, with tag 0 and this for their cr3. */
#define RV_COUNT_SPACES 4096u
#define RV_COUNT_OTHERS UINT64_MAX
/* Code that is not in RAM, whatever its address. */
#define RV_COUNT_NOWHERE UINT64_MAX

#endif
