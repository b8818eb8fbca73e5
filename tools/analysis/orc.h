/* ORC, the unwind tables that a Linux kernel has of itself (Linux
 * Documentation/arch/x86/orc-unwinder, asm/orc_types.h). The tables are the guest's and not
 * trusted. */
#ifndef RV_ANALYSIS_ORC_H
#define RV_ANALYSIS_ORC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rv_orc_type { RV_ORC_UNDEFINED, RV_ORC_END, RV_ORC_CALL, RV_ORC_REGS, RV_ORC_REGS_PARTIAL };
enum rv_orc_reg {
    RV_ORC_NONE,
    RV_ORC_PREV_SP,
    RV_ORC_DX,
    RV_ORC_DI,
    RV_ORC_BP,
    RV_ORC_SP,
    RV_ORC_R10,
    RV_ORC_R13,
    RV_ORC_BP_INDIRECT,
    RV_ORC_SP_INDIRECT,
};

struct rv_orc_entry {
    int16_t sp_offset, bp_offset;
    uint8_t sp_reg, bp_reg, type; /* enum rv_orc_reg, enum rv_orc_type */
};

struct rv_orc; /* opaque; does not change */

/* ips: n words, each the distance from its own address to the code that its entry is of; the first
 * is at `base`. entries: n entries of 6 bytes. Both are copied. wide: the layout of Linux 6.4 and
 * later, with three bits for the type. NULL when the words are not in order. */
struct rv_orc *rv_orc_new(const uint8_t *ips, const uint8_t *entries, size_t n, uint64_t base,
                          bool wide);
void rv_orc_free(struct rv_orc *o);
/* The entry for the instruction at ip; false: there is none. */
bool rv_orc_find(const struct rv_orc *o, uint64_t ip, struct rv_orc_entry *out);

#endif
