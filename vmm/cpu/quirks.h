/* Where processors depart from the manual, or do what it leaves open, in ways that a guest's memory
 * shows. A guest that ran on hardware has met its ways: the trace says which, and replay does the
 * same. Engines that see every instruction record with RV_QUIRK_PORTABLE alone. */
#ifndef RV_VMM_CPU_QUIRKS_H
#define RV_VMM_CPU_QUIRKS_H

#include "vmm/base/err.h"
#include "vmm/base/types.h"

/* Bits; stored in traces: append only. */
enum rv_quirk {
    /* The flags that a fault pushes do not show RF (SDM 3B 17.3.1.1 has them show it). #UD is told
     * apart, because a KVM may deliver that one itself. */
    RV_QUIRK_NO_RF = 1 << 0,
    /* Control transfers leave the accessed bits of the descriptors they load alone: CS, and SS with
     * it (SDM 3A 3.4.5.1 has them set). */
    RV_QUIRK_NOT_ACCESSED = 1 << 1,
    RV_QUIRK_NO_RF_UD = 1 << 2,
    /* FXSAVE leaves bytes alone that the manual calls reserved: those behind each ST register; and
     * FOP's (SDM vol. 1, table 10-2). */
    RV_QUIRK_FXSAVE_GAPS = 1 << 3,
    RV_QUIRK_FXSAVE_NO_FOP = 1 << 4,
    /* Where the last x87 instruction was, what it was and what it accessed, reads as zero unless an
     * exception is pending (SDM vol. 1, 8.1.8 and 8.1.9 let processors do so for some). */
    RV_QUIRK_X87_NO_FIP = 1 << 5,
    RV_QUIRK_X87_NO_FDP = 1 << 6,
    RV_QUIRK_X87_NO_FOP = 1 << 7,
    /* x87 arithmetic, loads and stores leave C1 as it was, instead of showing there whether the
     * result was rounded up (SDM vol. 1, 8.1.3.3). */
    RV_QUIRK_X87_KEEPS_C1 = 1 << 8,
    /* An instruction that reads, changes and writes memory faults as a read where the page cannot
     * be read, and only then as a write (SDM 3A 4.7 has it be a write from the beginning). */
    RV_QUIRK_MODIFY_READS = 1 << 9,
    /* Not measured, but true of any: the arithmetic flags are not the same in replay wherever the
     * manual leaves some undefined, so digests leave them out. */
    RV_QUIRK_OPEN_FLAGS = 1 << 10,
    /* No processor's way, but the same on any: arithmetic flags become 0 where the manual leaves
     * them undefined and processors differ, and approximate reciprocals and roots have bits of our
     * own. Not so far the x87's transcendental functions. What engines record with that see every
     * instruction. */
    RV_QUIRK_PORTABLE = 1 << 11,
};
#define RV_QUIRKS_MEASURED 0x3ffull
#define RV_QUIRKS_KNOWN    0xfffull

struct rv_engine_ops;

/* Finds out by running a few instructions on an engine: of this host's processor, on the nested
 * one; RV_QUIRK_OPEN_FLAGS is not among them. A software engine follows the quirks in `follow` (0:
 * none) and shows those. Errors as the engine's create and run. */
int rv_quirks_measure(const struct rv_engine_ops *engine, uint64_t follow, uint64_t *quirks,
                      struct rv_err *err);

#endif
