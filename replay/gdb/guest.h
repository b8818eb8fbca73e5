/* A machine as gdb sees it: numbered registers, a description of them, and memory by virtual
 * address. Only looks, but for the functions named set. */
#ifndef RV_REPLAY_GDB_GUEST_H
#define RV_REPLAY_GDB_GUEST_H

#include "vmm/base/buf.h"
#include "vmm/machine.h"

/* How registers are laid out. 16 and 32 differ in the architecture they name and
 * in that 16 gives the stack pointer as a linear address. The instruction pointer is always given
 * as a linear address, so that code can be read where it says. */
enum rv_gdb_view { RV_GDB_VIEW_64, RV_GDB_VIEW_32, RV_GDB_VIEW_16, RV_GDB_VIEWS };

/* What a connection has: a view, with the upper halves of the ymm registers or without. */
struct rv_gdb_layout {
    enum rv_gdb_view view;
    bool avx;
};

/* What registers are read from. */
struct rv_gdb_cpu {
    struct rv_x86 x;
    uint64_t cr8;
};
void rv_gdb_state(struct rv_machine *m, struct rv_gdb_cpu *cpu);

/* The target description, XML. */
void rv_gdb_describe(struct rv_gdb_layout layout, struct rv_buf *out);
unsigned rv_gdb_register_count(struct rv_gdb_layout layout);
/* Bytes of a register; 0 when there is no such. */
unsigned rv_gdb_register_size(struct rv_gdb_layout layout, unsigned number);
/* Its bytes, little endian. out and in hold at least 16 bytes. set: false
 * when this register cannot be changed. */
void rv_gdb_register_get(struct rv_gdb_layout layout, unsigned number, const struct rv_gdb_cpu *cpu,
                         uint8_t *out);
bool rv_gdb_register_set(struct rv_gdb_layout layout, unsigned number, struct rv_x86 *x,
                         const uint8_t *in);
/* Numbers that a stop reply carries. */
struct rv_gdb_numbers {
    unsigned bp, sp, pc;
};
struct rv_gdb_numbers rv_gdb_numbers(struct rv_gdb_layout layout);

/* Linear address of the next instruction. */
uint64_t rv_gdb_pc(const struct rv_x86 *x);

/* Guest physical address of a linear one, by the page tables as they are; nothing is checked but
 * presence. */
bool rv_gdb_translate(const struct rv_ram *ram, const struct rv_x86 *x, uint64_t va, rv_gpa *pa);
/* How many of len bytes could be read or written from the start on: RAM alone. */
size_t rv_gdb_read(struct rv_machine *m, bool physical, uint64_t addr, void *out, size_t len);
size_t rv_gdb_write(struct rv_machine *m, bool physical, uint64_t addr, const void *in, size_t len);

#endif
