/* The CPU profiles. CPUID as in SDM vol. 2, CPUID; every leaf is a function of the profile and of
 * guest state alone. */
#include "vmm/cpu/profile.h"

#include <cpuid.h>
#include <inttypes.h>
#include <string.h>

#define TSC_HZ 1000000000ull /* one tick a nanosecond of guest time */

/* Leaf 1. */
enum {
    ECX1_SSE3 = 1u << 0,
    ECX1_SSSE3 = 1u << 9,
    ECX1_FMA = 1u << 12,
    ECX1_CX16 = 1u << 13,
    ECX1_PCID = 1u << 17,
    ECX1_SSE41 = 1u << 19,
    ECX1_SSE42 = 1u << 20,
    ECX1_X2APIC = 1u << 21,
    ECX1_MOVBE = 1u << 22,
    ECX1_POPCNT = 1u << 23,
    ECX1_TSC_DEADLINE = 1u << 24,
    ECX1_XSAVE = 1u << 26,
    ECX1_OSXSAVE = 1u << 27,
    ECX1_AVX = 1u << 28,
    ECX1_F16C = 1u << 29,
};
#define ECX1_HYPERVISOR (1u << 31)
enum {
    EDX1_FPU = 1u << 0,
    EDX1_DE = 1u << 2,
    EDX1_PSE = 1u << 3,
    EDX1_TSC = 1u << 4,
    EDX1_MSR = 1u << 5,
    EDX1_PAE = 1u << 6,
    EDX1_MCE = 1u << 7,
    EDX1_CX8 = 1u << 8,
    EDX1_APIC = 1u << 9,
    EDX1_SEP = 1u << 11,
    EDX1_MTRR = 1u << 12,
    EDX1_PGE = 1u << 13,
    EDX1_MCA = 1u << 14,
    EDX1_CMOV = 1u << 15,
    EDX1_PAT = 1u << 16,
    EDX1_PSE36 = 1u << 17,
    EDX1_CLFLUSH = 1u << 19,
    EDX1_MMX = 1u << 23,
    EDX1_FXSR = 1u << 24,
    EDX1_SSE = 1u << 25,
    EDX1_SSE2 = 1u << 26,
};
/* Leaf 7.0. */
enum {
    EBX7_FSGSBASE = 1u << 0,
    EBX7_TSC_ADJUST = 1u << 1,
    EBX7_BMI1 = 1u << 3,
    EBX7_AVX2 = 1u << 5,
    EBX7_SMEP = 1u << 7,
    EBX7_BMI2 = 1u << 8,
    EBX7_ERMS = 1u << 9,
    EBX7_INVPCID = 1u << 10,
    EBX7_NO_FPU_SEL = 1u << 13,
    EBX7_SMAP = 1u << 20,
    ECX7_UMIP = 1u << 2,
    EDX7_FSRM = 1u << 4,
    EDX7_IBRS = 1u << 26,
    EDX7_ARCH_CAPS = 1u << 29,
};
/* Leaf 0x80000001. */
enum {
    ECXE_LAHF = 1u << 0,
    ECXE_LZCNT = 1u << 5,
    ECXE_PREFETCHW = 1u << 8,
    EDXE_SYSCALL = 1u << 11,
    EDXE_NX = 1u << 20,
    EDXE_1G = 1u << 26,
    EDXE_RDTSCP = 1u << 27,
    EDXE_LM = 1u << 29,
};

/* What hardware can execute behind our back although CPUID does not show it is harmless; what it
 * cannot execute must not be shown. "hw" leaves out what not every processor with nested
 * virtualization has (PCID, INVPCID, UMIP), and what hardware does not do twice alike: XSAVE writes
 * which parts are in use, which depends on more than the guest. */
static bool is_hw(const struct rv_profile *p) { return p == &rv_profile_hw; }

#define MAX_BASIC    0x16u
#define MAX_EXTENDED 0x80000008u
#define MAX_HYPER    0x40000000u

static struct rv_cpuid text(const char *s, unsigned part) {
    struct rv_cpuid r = {0};
    char all[48] = {0};
    strncpy(all, s, sizeof all - 1);
    memcpy(&r, all + 16 * part, sizeof r);
    return r;
}

/* What v3 adds, where it shows. */
#define V3_ECX1 ((uint32_t)(ECX1_FMA | ECX1_MOVBE | ECX1_AVX | ECX1_F16C))
#define V3_EBX7 ((uint32_t)(EBX7_BMI1 | EBX7_AVX2 | EBX7_BMI2))
#define V3_ECXE ((uint32_t)ECXE_LZCNT)

/* The XSAVE area up to and including these components, in the standard form. */
static uint32_t xsave_size(uint64_t xcr0) { return xcr0 & RV_XCR0_AVX ? 832 : 576; }

static struct rv_cpuid profile_cpuid(const struct rv_profile *p, uint32_t leaf, uint32_t sub,
                                     const struct rv_x86 *s) {
    struct rv_cpuid r = {0};
    if (leaf >= 0x40000000u && leaf <= 0x400000ffu) {
        /* Vendor string where hypervisors put theirs; no paravirtual interface behind it. */
        if (leaf == 0x40000000u) {
            r.eax = MAX_HYPER;
            memcpy(&r.ebx, "Retr", 4);
            memcpy(&r.ecx, "ovis", 4);
            memcpy(&r.edx, "or64", 4);
        }
        return r;
    }
    /* Beyond the last leaf processors answer with the last basic one. */
    if (leaf > MAX_BASIC && (leaf < 0x80000000u || leaf > MAX_EXTENDED)) leaf = MAX_BASIC;
    switch (leaf) {
    case 0:
        r.eax = MAX_BASIC;
        memcpy(&r.ebx, "Genu", 4);
        memcpy(&r.edx, "ineI", 4);
        memcpy(&r.ecx, "ntel", 4);
        break;
    case 1:
        r.eax = 0x206a7; /* family 6, model 0x2a, stepping 7: an x86-64-v2 class processor */
        r.ebx = 8u << 8 | 1u << 16;
        r.ecx = ECX1_SSE3 | ECX1_SSSE3 | ECX1_CX16 | ECX1_PCID | ECX1_SSE41 | ECX1_SSE42 |
                ECX1_X2APIC | ECX1_POPCNT | ECX1_TSC_DEADLINE | ECX1_XSAVE | ECX1_HYPERVISOR |
                (s->cr4 & RV_CR4_OSXSAVE ? ECX1_OSXSAVE : 0);
        if (is_hw(p)) r.ecx &= ~(uint32_t)(ECX1_PCID | ECX1_XSAVE | ECX1_OSXSAVE);
        if (p->v3) r.ecx |= V3_ECX1;
        r.edx = EDX1_FPU | EDX1_DE | EDX1_PSE | EDX1_TSC | EDX1_MSR | EDX1_PAE | EDX1_MCE |
                EDX1_CX8 | EDX1_APIC | EDX1_SEP | EDX1_MTRR | EDX1_PGE | EDX1_MCA | EDX1_CMOV |
                EDX1_PAT | EDX1_PSE36 | EDX1_CLFLUSH | EDX1_MMX | EDX1_FXSR | EDX1_SSE | EDX1_SSE2;
        break;
    case 2:
        r.eax = 0x76036301;
        r.ebx = 0xf0b5ff;
        r.edx = 0xc10000;
        break;
    case 4: /* 32 KiB L1, 1 MiB L2; nothing shared */
        if (sub < 3) {
            static const struct {
                uint32_t type, level, ways, sets;
            } cache[] = {{1, 1, 8, 64}, {2, 1, 8, 64}, {3, 2, 16, 1024}};
            r.eax = cache[sub].type | cache[sub].level << 5 | 1u << 8;
            r.ebx = 63 | (cache[sub].ways - 1) << 22;
            r.ecx = cache[sub].sets - 1;
        }
        break;
    case 7:
        if (sub == 0) {
            r.ebx = EBX7_FSGSBASE | EBX7_TSC_ADJUST | EBX7_SMEP | EBX7_ERMS | EBX7_INVPCID |
                    EBX7_NO_FPU_SEL | EBX7_SMAP;
            r.ecx = ECX7_UMIP;
            r.edx = EDX7_FSRM | EDX7_IBRS | EDX7_ARCH_CAPS;
            if (is_hw(p)) r.ebx &= ~(uint32_t)EBX7_INVPCID, r.ecx = 0;
            if (p->v3) r.ebx |= V3_EBX7;
        }
        break;
    case 0xd:
        if (sub == 0 && p->xcr0_mask) {
            r.eax = (uint32_t)p->xcr0_mask;
            r.ebx = xsave_size(s->xcr0);
            r.ecx = xsave_size(p->xcr0_mask);
        } else if (sub == 2 && p->v3) {
            r.eax = 256;
            r.ebx = 576;
        }
        break;
    case 0x15:
        r.eax = 1;
        r.ebx = 1;
        r.ecx = (uint32_t)p->tsc_hz;
        break;
    case 0x16:
        r.eax = r.ebx = (uint32_t)(p->tsc_hz / 1000000);
        r.ecx = 100;
        break;
    case 0x80000000u: r.eax = MAX_EXTENDED; break;
    case 0x80000001u:
        r.ecx = ECXE_LAHF | ECXE_PREFETCHW | (p->v3 ? V3_ECXE : 0);
        r.edx = EDXE_NX | EDXE_1G | EDXE_RDTSCP | EDXE_LM;
        /* As processors of this vendor, SYSCALL shows only in 64-bit mode. */
        if ((s->efer & RV_EFER_LMA) && (s->seg[RV_CS].attr & RV_SEG_L)) r.edx |= EDXE_SYSCALL;
        break;
    case 0x80000002u:
    case 0x80000003u:
    case 0x80000004u:
        r = text(p->v3 ? "Retrovisor x86-64-v3" : "Retrovisor x86-64-v2", leaf - 0x80000002u);
        break;
    case 0x80000006u: r.ecx = 64 | 8u << 12 | 1024u << 16; break;
    case 0x80000007u: r.edx = 1u << 8; break; /* invariant TSC */
    case 0x80000008u: r.eax = p->phys_bits | 48u << 8; break;
    }
    return r;
}

/* RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO,
 * FBSDP_NO, PSDP_NO, PBRSB_NO, BHI_NO, GDS_NO, RFDS_NO, ITS_NO: nothing to mitigate here, so a
 * guest need not slow itself down. */
#define V2_ARCH_CAPABILITIES                                                                       \
    (1u << 0 | 1u << 1 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 8 | 1u << 13 | 1u << 14 |   \
     1u << 15 | 1u << 20 | 1u << 24 | 1u << 26 | 1u << 27 | 1ull << 62)

#define V2_CR4                                                                                     \
    (RV_CR4_TSD | RV_CR4_DE | RV_CR4_PSE | RV_CR4_PAE | RV_CR4_MCE | RV_CR4_PGE | RV_CR4_PCE |     \
     RV_CR4_OSFXSR | RV_CR4_OSXMMEXCPT | RV_CR4_UMIP | RV_CR4_FSGSBASE | RV_CR4_PCIDE |            \
     RV_CR4_OSXSAVE | RV_CR4_SMEP | RV_CR4_SMAP)

const struct rv_profile rv_profile_v2 = {
    .name = "v2",
    .phys_bits = 40,
    .tsc_hz = TSC_HZ,
    .cr4_mask = V2_CR4,
    .efer_mask = RV_EFER_SCE | RV_EFER_LME | RV_EFER_NXE,
    .xcr0_mask = RV_XCR0_X87 | RV_XCR0_SSE,
    .arch_capabilities = V2_ARCH_CAPABILITIES,
    .cpuid = profile_cpuid,
};

const struct rv_profile rv_profile_v3 = {
    .name = "v3",
    .phys_bits = 40,
    .tsc_hz = TSC_HZ,
    .cr4_mask = V2_CR4,
    .efer_mask = RV_EFER_SCE | RV_EFER_LME | RV_EFER_NXE,
    .xcr0_mask = RV_XCR0_X87 | RV_XCR0_SSE | RV_XCR0_AVX,
    .arch_capabilities = V2_ARCH_CAPABILITIES,
    .v3 = true,
    .cpuid = profile_cpuid,
};

const struct rv_profile rv_profile_hw = {
    .name = "hw",
    .phys_bits = 40,
    .tsc_hz = TSC_HZ,
    .cr4_mask = RV_CR4_TSD | RV_CR4_DE | RV_CR4_PSE | RV_CR4_PAE | RV_CR4_MCE | RV_CR4_PGE |
                RV_CR4_PCE | RV_CR4_OSFXSR | RV_CR4_OSXMMEXCPT | RV_CR4_FSGSBASE | RV_CR4_SMEP |
                RV_CR4_SMAP,
    .efer_mask = RV_EFER_SCE | RV_EFER_LME | RV_EFER_NXE,
    .xcr0_mask = 0,
    .arch_capabilities = V2_ARCH_CAPABILITIES,
    .cpuid = profile_cpuid,
};

const struct rv_profile *rv_profile_find(const char *name) {
    static const struct rv_profile *const all[] = {&rv_profile_v2, &rv_profile_v3, &rv_profile_hw};
    for (unsigned i = 0; i < RV_COUNT(all); i++)
        if (strcmp(name, all[i]->name) == 0) return all[i];
    return NULL;
}

int rv_profile_allows(const struct rv_profile *p, const struct rv_x86 *s, struct rv_err *err) {
    const uint64_t flags = 2 | RV_FL_ARITH | RV_FL_TF | RV_FL_IF | RV_FL_DF | RV_FL_IOPL |
                           RV_FL_NT | RV_FL_RF | RV_FL_VM | RV_FL_AC | RV_FL_VIF | RV_FL_VIP |
                           RV_FL_ID;
    bool paging = s->cr0 & RV_CR0_PG, long_mode = s->efer & RV_EFER_LMA;
    const struct {
        const char *name;
        uint64_t value;
        bool ok;
    } all[] = {
        {"CR0", s->cr0, !paging || (s->cr0 & RV_CR0_PE)},
        {"EFER", s->efer,
         !(s->efer & ~(p->efer_mask | RV_EFER_LMA)) &&
             long_mode == (paging && (s->efer & RV_EFER_LME))},
        {"CR4", s->cr4, !(s->cr4 & ~p->cr4_mask) && (!long_mode || (s->cr4 & RV_CR4_PAE))},
        /* Without XSAVE, too, it is as after a reset. */
        {"XCR0", s->xcr0, !(s->xcr0 & ~(p->xcr0_mask | RV_XCR0_X87)) && (s->xcr0 & RV_XCR0_X87)},
        {"RFLAGS", s->rflags, !(s->rflags & ~flags) && (s->rflags & 2)},
        /* The host's own load of it would fault. */
        {"MXCSR", rv_x86_mxcsr(s), !(rv_x86_mxcsr(s) & ~RV_MXCSR_VALID)},
    };
    for (unsigned n = 0; n < RV_COUNT(all); n++)
        if (!all[n].ok)
            return rv_fail(err, RV_E_FORMAT, "saved state of the CPU: %s cannot be 0x%" PRIx64,
                           all[n].name, all[n].value);
    return 0;
}

/* The host's CPUID, leaf and subleaf; zeroes when it has no such leaf. */
static struct rv_cpuid host_cpuid(uint32_t leaf, uint32_t sub) {
    struct rv_cpuid r = {0};
    if (!__get_cpuid_count(leaf, sub, &r.eax, &r.ebx, &r.ecx, &r.edx)) return (struct rv_cpuid){0};
    return r;
}

const char *rv_profile_lacks_on(const struct rv_profile *p, const struct rv_host_cpu *host) {
    const struct rv_cpuid *one = &host->one, *seven = &host->seven, *ext = &host->ext;
    const struct {
        const char *name;
        bool has, v3;
    } all[] = {
        {"SSE3", one->ecx & ECX1_SSE3, false},    {"SSSE3", one->ecx & ECX1_SSSE3, false},
        {"SSE4.1", one->ecx & ECX1_SSE41, false}, {"SSE4.2", one->ecx & ECX1_SSE42, false},
        {"AVX", one->ecx & ECX1_AVX, true},       {"AVX2", seven->ebx & EBX7_AVX2, true},
        {"BMI1", seven->ebx & EBX7_BMI1, true},   {"BMI2", seven->ebx & EBX7_BMI2, true},
        {"F16C", one->ecx & ECX1_F16C, true},     {"FMA", one->ecx & ECX1_FMA, true},
        {"LZCNT", ext->ecx & ECXE_LZCNT, true},   {"MOVBE", one->ecx & ECX1_MOVBE, true},
    };
    for (unsigned n = 0; n < RV_COUNT(all); n++)
        if (!all[n].has && (p->v3 || !all[n].v3)) return all[n].name;
    if (!p->v3) return NULL;
    /* The host's operating system has to keep the upper halves, too. */
    uint64_t need = RV_XCR0_SSE | RV_XCR0_AVX;
    return (host->xcr0 & need) == need ? NULL : "AVX enabled by its operating system";
}

const char *rv_profile_lacks(const struct rv_profile *p) {
    struct rv_host_cpu host = {
        .one = host_cpuid(1, 0), .seven = host_cpuid(7, 0), .ext = host_cpuid(0x80000001u, 0)};
    if (host.one.ecx & ECX1_OSXSAVE) {
        uint32_t low, high;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        host.xcr0 = low | (uint64_t)high << 32;
    }
    return rv_profile_lacks_on(p, &host);
}
