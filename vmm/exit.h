/* A CPU exit in neutral form: what an engine hands to the machine when an instruction needs
 * something outside the CPU. Made by engines, dispatched by a const table, testable without either.
 */
#ifndef RV_VMM_EXIT_H
#define RV_VMM_EXIT_H

#include "vmm/base/types.h"

enum rv_exit_kind {
    RV_EXIT_PIO_READ,
    RV_EXIT_PIO_WRITE,
    RV_EXIT_MMIO_READ,
    RV_EXIT_MMIO_WRITE,
    /* An MSR that the CPU model does not keep itself: APIC base, x2APIC registers, TSC deadline.
     * The deadline is exchanged in TSC ticks of guest time: the engine takes off the guest's
     * offset. */
    RV_EXIT_MSR_READ,
    RV_EXIT_MSR_WRITE,
    RV_EXIT_CR8_READ, /* task priority, the LAPIC's */
    RV_EXIT_CR8_WRITE,
    RV_EXIT_KINDS
};

struct rv_exit {
    enum rv_exit_kind kind;
    unsigned size; /* PIO: 1, 2, 4; MMIO: 1, 2, 4, 8 */
    uint64_t addr; /* port, gpa or MSR index */
    uint64_t data; /* in for writes, out for reads; zero-extended */
    bool fault;    /* out: the access is architecturally wrong (MSR: raise #GP(0)) */
};

#endif
