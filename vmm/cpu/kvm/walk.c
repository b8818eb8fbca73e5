/* A read-only walk of the guest's page tables (SDM 3A chapter 4), which finds accesses that change
 * nothing but the data itself. It also keeps KVM's cached translations honest: the software engines
 * behave as a CPU without a TLB would, so every entry that KVM may have cached is remembered with
 * its value, and a different value found later makes KVM forget everything first. */
#include <string.h>

#include "vmm/cpu/kvm/kvm.h"

#define PTE_P  (1ull << 0)
#define PTE_W  (1ull << 1)
#define PTE_U  (1ull << 2)
#define PTE_A  (1ull << 5)
#define PTE_D  (1ull << 6)
#define PTE_PS (1ull << 7)
#define PTE_NX (1ull << 63)

void rv_kvm_forget(struct rv_kvm *k) {
    memset(k->seen.slot, 0xff, sizeof k->seen.slot);
    k->seen.used = 0;
    k->seen.generation++;
    k->v.flush = true;
}

static void remember(struct rv_kvm *k, uint64_t offset, uint64_t value) {
    struct rv_kvm_seen *s = &k->seen;
    unsigned n = (unsigned)((offset >> 2) * 0x9e3779b1u >> 7) % RV_KVM_SEEN;
    while (s->slot[n].offset != UINT64_MAX) {
        if (s->slot[n].offset == offset) {
            if (s->slot[n].value == value) return;
            break;
        }
        n = (n + 1) % RV_KVM_SEEN;
    }
    if (s->slot[n].offset != UINT64_MAX || s->used >= RV_KVM_SEEN / 2) {
        rv_kvm_forget(k);
        n = (unsigned)((offset >> 2) * 0x9e3779b1u >> 7) % RV_KVM_SEEN;
    }
    s->slot[n].offset = offset;
    s->slot[n].value = value;
    s->used++;
}

bool rv_kvm_walk(struct rv_kvm *k, uint64_t va, enum rv_kvm_access access, uint64_t *offset) {
    const struct rv_x86 *x = &k->x;
    if (!(x->cr0 & RV_CR0_PG)) {
        *offset = rv_ram_offset(k->ram, va & 0xffffffffu);
        return *offset != UINT64_MAX;
    }
    bool lm = x->efer & RV_EFER_LMA, pae = x->cr4 & RV_CR4_PAE, nxe = x->efer & RV_EFER_NXE;
    bool user = (x->cr0 & RV_CR0_PE) && RV_SEG_DPL(x->seg[RV_SS].attr) == 3;
    bool write = access == RV_KVM_WRITE, fetch = access == RV_KVM_FETCH;
    unsigned size = pae ? 8 : 4, bits = pae ? 9 : 10, count = 0;
    unsigned level = lm ? 4 : pae ? 3 : 2;
    uint64_t address = 0x000ffffffffff000ull;
    uint64_t table = lm ? x->cr3 & address : x->cr3 & (pae ? 0xffffffe0u : 0xfffff000u);
    bool may_write = true, may_user = true, nx = false;
    uint64_t offsets[4], entries[4];
    for (;; level--) {
        unsigned shift = 12 + bits * (level - 1);
        bool pdpte = pae && !lm && level == 3;
        uint64_t index = va >> shift & (pdpte ? 3 : (1u << bits) - 1);
        uint64_t off = rv_ram_offset(k->ram, table + index * size), e = 0;
        if (off == UINT64_MAX) return false;
        memcpy(&e, k->ram->host + off, size);
        offsets[count] = off;
        entries[count++] = e;
        if (!(e & PTE_P)) return false;
        if (pdpte) {
            table = e & address;
            continue;
        }
        if (!(e & PTE_A)) return false;
        if ((e & PTE_NX) && pae && !nxe) return false;
        may_write &= !!(e & PTE_W);
        may_user &= !!(e & PTE_U);
        nx |= pae && (e & PTE_NX);
        bool large = level > 1 && (e & PTE_PS);
        if (large && level == 4) return false;
        if (large && !pae) return false; /* PSE-36 pages: rare enough for the interpreter */
        if (level == 1 || large) {
            uint64_t mask = (1ull << shift) - 1;
            if (large && (e & mask & 0x000fffffffffe000ull)) return false;
            if (write && !(e & PTE_D)) return false;
            uint64_t pa = (e & address & ~mask) | (va & mask);
            *offset = rv_ram_offset(k->ram, pa);
            if (*offset == UINT64_MAX) return false;
            break;
        }
        table = e & address;
    }
    if (user && !may_user) return false;
    if (!user && may_user) {
        if (fetch && (x->cr4 & RV_CR4_SMEP)) return false;
        if (!fetch && (x->cr4 & RV_CR4_SMAP) && !(x->rflags & RV_FL_AC)) return false;
    }
    if (write && !may_write && (user || (x->cr0 & RV_CR0_WP))) return false;
    if (fetch && nx) return false;
    for (unsigned i = 0; i < count; i++) remember(k, offsets[i], entries[i]);
    return true;
}
