/* Exact instruction counts of a recording, by process and function.
 *
 * The engine counts how often each piece of straight-line code ran (vmm/cpu/count.h), apart for
 * each task of a Linux guest; names come from the kernel's own symbols, from the programs' ELF
 * images in the guest's page cache, and from ELF files that are given. Such a piece of code is the
 * function's that it begins in. Everything adds up to the number of instructions exactly. */
#ifndef RV_ANALYSIS_TALLY_H
#define RV_ANALYSIS_TALLY_H

#include "replay/timeline.h"
#include "tools/analysis/guest.h"

/* A process as far as it ran one program: after exec() it is another entry. */
struct rv_tally_process {
    uint32_t pid;     /* 0 with comm "(no process)": before there was any, or no Linux */
    const char *comm; /* the guest's: any bytes */
    bool kernel;      /* a kernel thread */
    uint64_t instructions;
};

struct rv_tally_function {
    const char *name;   /* NULL: code that no symbol is known for */
    const char *module; /* "[kernel]", a program's path in the guest, "[anonymous]", ... */
    uint64_t address;   /* as its symbol has it: of the kernel in memory, of a program in its ELF */
    bool user;          /* ran at privilege level 3 */
    uint64_t instructions;
};

struct rv_tally_entry {
    uint32_t process, function; /* indices */
    uint64_t instructions;
};

/* Code that ran, of a file that the user gave or of the kernel: each instruction in it `times`.
 * Parts may overlap; they add up. */
struct rv_tally_code {
    uint32_t file; /* rv_guest_file(), or RV_TALLY_KERNEL */
    uint32_t bytes;
    uint64_t address; /* as linked; of the kernel: in memory */
    uint64_t times;
};
#define RV_TALLY_KERNEL UINT32_MAX

struct rv_tally {
    struct rv_tally_process *process;   /* by instructions, most first; so are the others */
    struct rv_tally_function *function; /* over all processes */
    struct rv_tally_entry *entry;
    struct rv_tally_code *code; /* by file and address; when asked for */
    size_t processes, functions, entries, codes;
    uint64_t total;
    bool interrupted;
    rv_icount upto;         /* counted before here */
    struct rv_arena *arena; /* strings live here */
};

struct rv_tally_config {
    struct rv_timeline *timeline;
    const struct rv_guest *guest; /* of that timeline */
    rv_icount from, to;           /* to: RV_NEVER is the end */
    bool code;                    /* rv_tally.code is wanted */
    /* Told now and then; may be NULL. Interruption is by the timeline's own callback: the tally is
     * then of what came before `upto`. */
    void (*progress)(void *ctx, rv_icount done, rv_icount total);
    void *ctx;
};

int rv_tally_gather(struct rv_tally **out, const struct rv_tally_config *config,
                    struct rv_err *err);
void rv_tally_free(struct rv_tally *t);

#endif
