/* A CPU profile: what CPUID shows and which features exist. Fixed, named in the trace, the same on
 * every engine, and free of anything that cannot be replayed (no RDRAND, no performance counters).
 */
#ifndef RV_VMM_CPU_PROFILE_H
#define RV_VMM_CPU_PROFILE_H

#include "vmm/base/types.h"
#include "vmm/cpu/x86.h"

struct rv_cpuid {
    uint32_t eax, ebx, ecx, edx;
};

struct rv_profile {
    const char *name;
    unsigned phys_bits;
    uint64_t tsc_hz;   /* ticks a second of guest time */
    uint64_t cr4_mask; /* bits the guest may set */
    uint64_t efer_mask;
    uint64_t xcr0_mask;
    uint64_t arch_capabilities;
    bool v3; /* x86-64-v3: AVX, AVX2, BMI1, BMI2, F16C, FMA, LZCNT, MOVBE */
    struct rv_cpuid (*cpuid)(const struct rv_profile *p, uint32_t leaf, uint32_t subleaf,
                             const struct rv_x86 *s);
};

/* x86-64-v2: SSE4.2, POPCNT, CX16, and PCID, SMEP, SMAP, UMIP, FSGSBASE, XSAVE, x2APIC, NX, 1 GiB
 * pages, RDTSCP, TSC deadline. */
extern const struct rv_profile rv_profile_v2;

/* x86-64-v3: all of v2, and AVX, AVX2, BMI1, BMI2, F16C, FMA, LZCNT and MOVBE. Software engines
 * execute these with the host's own instructions. */
extern const struct rv_profile rv_profile_v3;

/* The same as v2 for guests that run on hardware: without what depends on the processor's model. */
extern const struct rv_profile rv_profile_hw;

/* By name ("v2", "v3", "hw"), or NULL. */
const struct rv_profile *rv_profile_find(const char *name);

/* What the host's CPU lacks to run a guest with this profile on a software engine: the name of an
 * extension, or NULL when it lacks nothing. */
const char *rv_profile_lacks(const struct rv_profile *p);

/* Whether a CPU with this profile can be in that state, as far as engines rely on it: control
 * registers, RFLAGS and MXCSR hold what the guest could have written there. For states that come
 * from a file. RV_E_FORMAT says what it cannot be. */
int rv_profile_allows(const struct rv_profile *p, const struct rv_x86 *s, struct rv_err *err);

/* What a CPU says of itself: CPUID leaves 1, 7.0 and 0x80000001, and XCR0, 0 without OSXSAVE. */
struct rv_host_cpu {
    struct rv_cpuid one, seven, ext;
    uint64_t xcr0;
};
/* The same of any CPU. */
const char *rv_profile_lacks_on(const struct rv_profile *p, const struct rv_host_cpu *host);

#endif
