/* Model-specific registers (SDM vol. 4): the CPU's own here, the APIC's through an exit. */
#include "vmm/cpu/interp/msr.h"

#include "vmm/cpu/interp/mmu.h"

enum {
    MSR_TSC = 0x10,
    MSR_FEATURE_CONTROL = 0x3a,
    MSR_TSC_ADJUST = 0x3b,
    MSR_SPEC_CTRL = 0x48,
    MSR_PRED_CMD = 0x49,
    MSR_BIOS_SIGN_ID = 0x8b,
    MSR_MTRR_CAP = 0xfe,
    MSR_ARCH_CAPABILITIES = 0x10a,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS = 0x17a,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_MTRR_PHYS = 0x200,
    MSR_MTRR_FIX64K = 0x250,
    MSR_MTRR_FIX16K = 0x258,
    MSR_MTRR_FIX4K = 0x268,
    MSR_PAT = 0x277,
    MSR_MTRR_DEF_TYPE = 0x2ff,
    MSR_TSC_DEADLINE = 0x6e0,
    MSR_X2APIC = 0x800,
    MSR_EFER = 0xc0000080,
    MSR_STAR = 0xc0000081,
    MSR_LSTAR = 0xc0000082,
    MSR_CSTAR = 0xc0000083,
    MSR_SFMASK = 0xc0000084,
    MSR_FS_BASE = 0xc0000100,
    MSR_GS_BASE = 0xc0000101,
    MSR_KERNEL_GS_BASE = 0xc0000102,
    MSR_TSC_AUX = 0xc0000103,
};

static bool outside(struct rv_interp *c, bool write, uint32_t index, uint64_t *value) {
    struct rv_exit x = {.kind = write ? RV_EXIT_MSR_WRITE : RV_EXIT_MSR_READ,
                        .size = 8,
                        .addr = index,
                        .data = write ? *value : 0};
    c->bus->exit(c->bus->ctx, &x);
    rv_leave(c);
    if (!write) *value = x.data;
    return !x.fault;
}

static uint64_t tsc_now(struct rv_interp *c) {
    uint64_t tsc = c->bus->tsc(c->bus->ctx);
    rv_leave(c);
    return tsc;
}

static bool is_apic(uint32_t index) {
    return index == RV_MSR_APIC_BASE || (index >= MSR_X2APIC && index < MSR_X2APIC + 0x100);
}

/* The fixed-range MTRR that index names, or NULL. */
static uint64_t *mtrr_fixed(struct rv_x86 *x, uint32_t index) {
    if (index == MSR_MTRR_FIX64K) return &x->mtrr_fixed[0];
    if (index >= MSR_MTRR_FIX16K && index < MSR_MTRR_FIX16K + 2)
        return &x->mtrr_fixed[1 + index - MSR_MTRR_FIX16K];
    if (index >= MSR_MTRR_FIX4K && index < MSR_MTRR_FIX4K + 8)
        return &x->mtrr_fixed[3 + index - MSR_MTRR_FIX4K];
    return NULL;
}

bool rv_msr_read(struct rv_interp *c, uint32_t index, uint64_t *v) {
    struct rv_x86 *x = &c->x;
    if (is_apic(index)) return outside(c, false, index, v);
    const uint64_t *fixed = mtrr_fixed(x, index);
    if (fixed) {
        *v = *fixed;
        return true;
    }
    if (index >= MSR_MTRR_PHYS && index < MSR_MTRR_PHYS + 16) {
        *v = x->mtrr_phys[index - MSR_MTRR_PHYS];
        return true;
    }
    switch (index) {
    case MSR_TSC: *v = tsc_now(c) + x->tsc_offset; return true;
    case MSR_TSC_ADJUST: *v = x->tsc_adjust; return true;
    case MSR_TSC_DEADLINE:
        if (!outside(c, false, index, v)) return false;
        if (*v) *v += x->tsc_offset;
        return true;
    case MSR_FEATURE_CONTROL: *v = 1; return true; /* locked, nothing enabled */
    case MSR_BIOS_SIGN_ID: *v = 0x1ull << 32; return true;
    case MSR_MTRR_CAP: *v = 8 | 1u << 8 | 1u << 10; return true;
    case MSR_ARCH_CAPABILITIES: *v = c->profile->arch_capabilities; return true;
    case MSR_SPEC_CTRL: *v = x->spec_ctrl; return true;
    case MSR_SYSENTER_CS: *v = x->sysenter_cs; return true;
    case MSR_SYSENTER_ESP: *v = x->sysenter_esp; return true;
    case MSR_SYSENTER_EIP: *v = x->sysenter_eip; return true;
    case MSR_MCG_CAP:
    case MSR_MCG_STATUS: *v = 0; return true;
    case MSR_MISC_ENABLE: *v = x->misc_enable; return true;
    case MSR_PAT: *v = x->pat; return true;
    case MSR_MTRR_DEF_TYPE: *v = x->mtrr_def_type; return true;
    case MSR_EFER: *v = x->efer; return true;
    case MSR_STAR: *v = x->star; return true;
    case MSR_LSTAR: *v = x->lstar; return true;
    case MSR_CSTAR: *v = x->cstar; return true;
    case MSR_SFMASK: *v = x->sfmask; return true;
    case MSR_FS_BASE: *v = x->seg[RV_FS].base; return true;
    case MSR_GS_BASE: *v = x->seg[RV_GS].base; return true;
    case MSR_KERNEL_GS_BASE: *v = x->kernel_gs_base; return true;
    case MSR_TSC_AUX: *v = x->tsc_aux; return true;
    default: return false;
    }
}

static bool set_canonical(uint64_t *field, uint64_t v) {
    if (!rv_canonical(v)) return false;
    *field = v;
    return true;
}

static bool valid_pat(uint64_t v) {
    for (unsigned n = 0; n < 8; n++, v >>= 8) {
        unsigned t = v & 0xff;
        if (t == 2 || t == 3 || t > 7) return false;
    }
    return true;
}

bool rv_msr_write(struct rv_interp *c, uint32_t index, uint64_t v) {
    struct rv_x86 *x = &c->x;
    if (is_apic(index)) return outside(c, true, index, &v);
    uint64_t *fixed = mtrr_fixed(x, index);
    if (fixed) {
        *fixed = v;
        return true;
    }
    if (index >= MSR_MTRR_PHYS && index < MSR_MTRR_PHYS + 16) {
        x->mtrr_phys[index - MSR_MTRR_PHYS] = v;
        return true;
    }
    switch (index) {
    case MSR_TSC: {
        /* Writing the counter moves TSC_ADJUST by the same amount (SDM 3B 18.17.3). */
        uint64_t offset = v - tsc_now(c);
        x->tsc_adjust += offset - x->tsc_offset;
        x->tsc_offset = offset;
        return true;
    }
    case MSR_TSC_ADJUST:
        x->tsc_offset += v - x->tsc_adjust;
        x->tsc_adjust = v;
        return true;
    case MSR_TSC_DEADLINE:
        if (v) {
            v -= x->tsc_offset;
            if (!v) v = 1; /* zero would disarm */
        }
        return outside(c, true, index, &v);
    case MSR_BIOS_SIGN_ID: return true;
    case MSR_SPEC_CTRL:
        if (v & ~7ull) return false;
        x->spec_ctrl = v;
        return true;
    case MSR_PRED_CMD: return !(v & ~1ull);
    case MSR_SYSENTER_CS: x->sysenter_cs = v; return true;
    case MSR_SYSENTER_ESP: return set_canonical(&x->sysenter_esp, v);
    case MSR_SYSENTER_EIP: return set_canonical(&x->sysenter_eip, v);
    case MSR_MCG_STATUS: return v == 0;
    case MSR_MISC_ENABLE: x->misc_enable = v; return true;
    case MSR_PAT:
        if (!valid_pat(v)) return false;
        x->pat = v;
        return true;
    case MSR_MTRR_DEF_TYPE: x->mtrr_def_type = v; return true;
    case MSR_EFER: {
        if (v & ~c->profile->efer_mask & ~RV_EFER_LMA) return false;
        if ((x->cr0 & RV_CR0_PG) && ((v ^ x->efer) & RV_EFER_LME)) return false;
        uint64_t old = x->efer;
        x->efer = (v & ~RV_EFER_LMA) | (old & RV_EFER_LMA);
        c->dropped = true;
        if ((old ^ x->efer) & RV_EFER_NXE) rv_mmu_flush(c);
        rv_mmu_mode(c);
        return true;
    }
    case MSR_STAR: x->star = v; return true;
    case MSR_LSTAR: return set_canonical(&x->lstar, v);
    case MSR_CSTAR: return set_canonical(&x->cstar, v);
    case MSR_SFMASK: x->sfmask = v & 0xffffffffu; return true;
    case MSR_FS_BASE: return set_canonical(&x->seg[RV_FS].base, v);
    case MSR_GS_BASE: return set_canonical(&x->seg[RV_GS].base, v);
    case MSR_KERNEL_GS_BASE: return set_canonical(&x->kernel_gs_base, v);
    case MSR_TSC_AUX:
        if (v >> 32) return false;
        x->tsc_aux = v;
        return true;
    default: return false;
    }
}
