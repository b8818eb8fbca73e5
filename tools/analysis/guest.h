/* What addresses mean in a recording's guest: the kernel found in it, programs' symbols, and, at
 * one moment, the process that runs. */
#ifndef RV_ANALYSIS_GUEST_H
#define RV_ANALYSIS_GUEST_H

#include "tools/analysis/prog.h"
#include "tools/analysis/linux.h"

struct rv_guest; /* opaque; used by one thread */

struct rv_guest_config {
    struct rv_timeline *timeline;
    /* ELF files with symbols, each PATH or PATH@ADDRESS (where its lowest address is). One that a
     * program in the guest was made from (same build ID, else same file name) serves that program;
     * others, where they were linked to be or at ADDRESS, whatever runs there. */
    const char *const *symbols;
    unsigned n;
};
/* Looks for a kernel (leaving the timeline anywhere) and reads the files. No Linux is no error. */
int rv_guest_open(struct rv_guest **out, const struct rv_guest_config *config, struct rv_err *err);
void rv_guest_free(struct rv_guest *g);
const struct rv_linux *rv_guest_linux(const struct rv_guest *g); /* NULL: none was found */
const char *rv_guest_why_not(const struct rv_guest *g);          /* why none was, a sentence */

/* The files of rv_guest_config, i below rv_guest_files(). Placed: `bias` is to be added to its
 * addresses wherever that code runs. */
struct rv_guest_file {
    const char *path;
    const struct rv_prog *prog;
    bool placed;
    uint64_t bias;
};
unsigned rv_guest_files(const struct rv_guest *g);
struct rv_guest_file rv_guest_file(const struct rv_guest *g, unsigned i);
/* The one that a program in the guest was made from, by its path there; NULL: none. May be called
 * by many threads. */
const struct rv_prog *rv_guest_given(const struct rv_guest *g, const char *path,
                                     const struct rv_prog *own);

/* A look at the guest where a machine stands, through the eyes of one process. Good until the
 * machine runs on; rv_look_release() ends it. */
struct rv_look {
    struct rv_guest *guest;
    struct rv_machine *machine;
    struct rv_view cpu; /* as it is */
    struct rv_view kernel, user;
    bool up;       /* Linux is up: kernel and task are valid */
    bool has_user; /* the process has memory of its own: user and vma are valid */
    struct rv_linux_task task;
    uint64_t current; /* the task that the CPU runs */
    struct rv_linux_vma *vma;
    size_t vmas;
};
/* Of the process that runs; of another with `pid` (0: what runs). RV_E_USAGE when there is none of
 * that number. */
int rv_look_at(struct rv_look *look, struct rv_guest *g, struct rv_machine *m, uint32_t pid,
               struct rv_err *err);
/* The same, of the thread that is in the look's CPU or of one by its task_struct. */
void rv_look_release(struct rv_look *look);

/* Reads memory as the process would in kernel mode: see rv_linux_user_read(). Why it ended early is
 * in *why (may be NULL). */
size_t rv_look_read(const struct rv_look *look, uint64_t va, void *out, size_t len,
                    enum rv_absent *why);
/* Where a linear address is in physical memory; false when it is not. */
bool rv_look_translate(const struct rv_look *look, uint64_t va, rv_gpa *pa);

/* What an address is part of. */
struct rv_place {
    const char *symbol;  /* NULL: no symbol is known there */
    uint64_t offset;     /* from the symbol's start */
    uint64_t start, end; /* of the symbol */
    char module[64];     /* file name of the program or library, "kernel", or "" */
};
void rv_look_place(const struct rv_look *look, uint64_t va, struct rv_place *place);
/* "main+0x12 (ledger)", or "" when nothing is known; in out. Returns out. */
const char *rv_look_name(const struct rv_look *look, uint64_t va, char *out, size_t size);

/* An address from text: a number, a symbol of the kernel or of the process, or symbol+number;
 * "kernel:SYMBOL" and "FILE:SYMBOL" say whose. *size: the symbol's own, 0 when not known. */
int rv_look_resolve(const struct rv_look *look, const char *text, uint64_t *addr, uint64_t *size,
                    struct rv_err *err);

/* The ELF file mapped at an address and what is to be added to its addresses; NULL: none known. */
const struct rv_prog *rv_look_prog(const struct rv_look *look, uint64_t va, uint64_t *bias);

#endif
