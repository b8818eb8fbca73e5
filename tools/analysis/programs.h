/* Which program's code is at a process's address: kept while a pass goes through a piece of
 * history, from the mappings that exist at its start and are made in it. Programs are read from the
 * page cache once, and shared by all pieces. */
#ifndef RV_ANALYSIS_PROGRAMS_H
#define RV_ANALYSIS_PROGRAMS_H

#include "tools/analysis/guest.h"

struct rv_program {
    const char *path;           /* in the guest */
    const struct rv_prog *prog; /* given by the user, or the guest's own; NULL: it is no ELF */
    struct rv_prog *own;
    uint64_t size;
    struct rv_program *next;
};

struct rv_programs; /* opaque; used by many threads */

/* Files that the user gave take the place of the guest's programs that they are. Borrows g, which
 * has a Linux. */
struct rv_programs *rv_programs_new(const struct rv_guest *g);
void rv_programs_free(struct rv_programs *p);

/* Mappings of code, by address space. For one thread. */
struct rv_mappings {
    struct rv_mapping {
        uint64_t root, owner, start, end;
        uint64_t bias; /* of the program there: address less address as linked */
        const struct rv_program *program;
    } * mapping;
    size_t n, room;
};

/* k is the kernel's view now. Takes note of all mappings of a task's address space, in place of
 * those noted for it and the same owner. A root is used again when its process has ended: the
 * owner, a number of the caller's, tells whose it was. */
void rv_mappings_all(struct rv_mappings *m, struct rv_programs *p, const struct rv_view *k,
                     const struct rv_linux_task *task, uint64_t owner);
/* Takes note of a mapping made just now: vma is the address of its vm_area_struct. */
void rv_mappings_add(struct rv_mappings *m, struct rv_programs *p, const struct rv_view *k,
                     const struct rv_linux_task *task, uint64_t owner, uint64_t vma);
/* The mapping that holds an address: the owner's last one, or else anybody's with that root; NULL:
 * none. */
const struct rv_mapping *rv_mappings_at(const struct rv_mappings *m, uint64_t root, uint64_t owner,
                                        uint64_t va);
/* The function at an address in a mapping, or NULL; and the address as the program is linked. */
const struct rv_symbol *rv_mapping_function(const struct rv_mapping *m, uint64_t va,
                                            uint64_t *address);
void rv_mappings_release(struct rv_mappings *m);

#endif
