/* Bare-metal guests and a machine to run them in, the same on any engine. */
#ifndef RV_TESTS_KVM_GUEST_H
#define RV_TESTS_KVM_GUEST_H

#include "vmm/base/buf.h"
#include "vmm/cpu/kvm/probe.h"
#include "vmm/machine.h"

/* A guest image: flat code and data for GUEST_BASE + 40 (after its flat header). */
struct guest {
    const char *name;
    unsigned mode; /* 16, 32 or 64 */
    const uint8_t *code, *end;
    const char *input; /* console input, one byte at a time */
};
#define GUEST_BASE 0x10000u

extern const struct guest guests[];
extern const unsigned guest_count;
const struct guest *guest_find(const char *name);

struct run_plan {
    uint64_t digest_every; /* instructions; 0: none */
    rv_icount input_every; /* instructions between bytes of input */
    rv_icount stop_every;  /* the horizon lies so near; 0: far */
    rv_icount max;         /* give up here */
    bool kick;             /* kick the machine there too */
};
struct run_result {
    int r;
    struct rv_err err;
    struct rv_end end;
    uint64_t output;       /* hash of everything the guest said, and where */
    char text[256];        /* its beginning */
    struct rv_buf digests; /* triples of 64 bits: icount, source, digest */
    struct rv_x86 cpu;
    struct rv_kvm_counts counts; /* of the KVM engine */
};

/* Runs the guest to its end. Release out->digests afterwards. */
void run_guest(const struct guest *g, const struct rv_engine_ops *engine,
               const struct run_plan *plan, struct run_result *out);

/* An engine with RAM and a bus of no devices. */
struct side {
    struct rv_ram ram;
    struct rv_cpu_bus bus;
    struct rv_engine *e;
};
#define SIDE_CODE 0x10000u
bool side_begin(struct side *s, const struct rv_engine_ops *ops);
void side_finish(struct side *s);
/* A state at SIDE_CODE with random registers, whose 64-bit mode needs page tables at 0x2000. */
void side_state(uint64_t *seed, unsigned bits, struct rv_x86 *x);

/* Runs random sequences of instructions on both engines; false, and the first differences on
 * stderr, when they do not agree. */
bool fuzz_engines(uint64_t seed, unsigned sequences, unsigned bits, struct rv_kvm_counts *counts);

/* True when a virtual CPU of the engine can be made; else says why on stderr. */
bool kvm_usable(void);

#endif
