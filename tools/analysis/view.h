/* A guest's memory and registers at one moment, as one address space sees them.
 *
 * A view is a look at a machine that stands still: it is good until the machine runs on. */
#ifndef RV_ANALYSIS_VIEW_H
#define RV_ANALYSIS_VIEW_H

#include "vmm/cpu/x86.h"
#include "vmm/machine.h"
#include "vmm/mem/ram.h"

struct rv_view {
    const struct rv_ram *ram; /* of the machine; borrowed */
    struct rv_x86 cpu;        /* cpu.cr3 chooses the address space; may be changed */
};

/* The machine as its CPU sees it now. */
void rv_view_of(struct rv_view *v, struct rv_machine *m);

/* Physical address of a linear one; false when no page is mapped there. */
bool rv_view_translate(const struct rv_view *v, uint64_t va, rv_gpa *pa);

/* Reads up to the first byte that is not mapped or not RAM; the number of bytes read. */
size_t rv_view_read(const struct rv_view *v, uint64_t va, void *out, size_t len);

/* An integer, little endian; false when any of its bytes cannot be read (*out is 0 then). */
bool rv_view_u64(const struct rv_view *v, uint64_t va, uint64_t *out);
bool rv_view_u32(const struct rv_view *v, uint64_t va, uint32_t *out);
bool rv_view_u16(const struct rv_view *v, uint64_t va, uint16_t *out);

/* A C string of at most size - 1 bytes, ended with NUL. How many bytes it has, or -1 when the first
 * cannot be read. *whole (may be NULL): its NUL was found. */
int rv_view_string(const struct rv_view *v, uint64_t va, char *out, size_t size, bool *whole);

/* Whether the CPU runs in user mode. */
bool rv_view_is_user(const struct rv_view *v);
/* The instruction pointer and stack pointer as linear addresses. */
uint64_t rv_view_pc(const struct rv_view *v);
uint64_t rv_view_sp(const struct rv_view *v);

#endif
