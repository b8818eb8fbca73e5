/* System instructions: interrupts, ports, control and debug registers, time (SDM vol. 2). */
#include "vmm/cpu/interp/mmu.h"
#include "vmm/cpu/interp/msr.h"
#include "vmm/cpu/interp/ops.h"
#include "vmm/cpu/interp/run.h"

static void need_ring0(struct rv_interp *c, const struct rv_insn *i) {
    if (c->cpl) rv_raise_error(c, i, RV_VEC_GP, 0);
}

/* Ends the block and has the dispatcher look at everything. */
static void end_and_look(struct rv_interp *c, const struct rv_insn *i) {
    rv_leave(c);
    rv_end(c, i);
}

RV_OP(ud) {
    (void)i;
    rv_raise(c, i, RV_VEC_UD);
}

/* Longer than 15 bytes. */
RV_OP(too_long) { rv_raise_error(c, i, RV_VEC_GP, 0); }

RV_OP(hlt) {
    need_ring0(c, i);
    c->x.halted = 1;
    end_and_look(c, i);
}

RV_OP(cli) {
    if (c->cpl > (c->x.rflags & RV_FL_IOPL) >> 12) rv_raise_error(c, i, RV_VEC_GP, 0);
    c->x.rflags &= ~(uint64_t)RV_FL_IF;
    rv_next(c, i);
}

RV_OP(sti) {
    if (c->cpl > (c->x.rflags & RV_FL_IOPL) >> 12) rv_raise_error(c, i, RV_VEC_GP, 0);
    if (!(c->x.rflags & RV_FL_IF)) {
        c->x.rflags |= RV_FL_IF;
        c->sti_at = c->end_icount;
    }
    rv_end(c, i);
    if (c->want_window) rv_leave(c);
}

/* ---- ports ---- */

void rv_port_check(struct rv_interp *c, const struct rv_insn *i, uint16_t port, unsigned size) {
    if (!(c->x.cr0 & RV_CR0_PE)) return;
    if (!(c->x.rflags & RV_FL_VM) && c->cpl <= (c->x.rflags & RV_FL_IOPL) >> 12) return;
    const struct rv_seg *tr = &c->x.seg[RV_TR];
    /* Only a 32-bit (or 64-bit) TSS has a permission map; its offset is at 102 (SDM vol. 1, 19.5).
     */
    if ((tr->attr & RV_SEG_P) && (tr->attr & 8) && tr->limit >= 103) {
        unsigned map = (unsigned)rv_sys_load(c, i, tr->base + 102, 2), at = map + port / 8;
        if (at + 1 <= tr->limit) {
            unsigned bits = (unsigned)rv_sys_load(c, i, tr->base + at, 2) >> (port & 7);
            if (!(bits & ((1u << size) - 1))) return;
        }
    }
    rv_raise_error(c, i, RV_VEC_GP, 0);
}

uint64_t rv_port_read(struct rv_interp *c, const struct rv_insn *i, uint16_t port, unsigned size) {
    rv_sync(c, i);
    struct rv_exit x = {.kind = RV_EXIT_PIO_READ, .size = size, .addr = port};
    c->bus->exit(c->bus->ctx, &x);
    rv_leave(c);
    return x.data;
}

void rv_port_write(struct rv_interp *c, const struct rv_insn *i, uint16_t port, unsigned size,
                   uint64_t v) {
    rv_sync(c, i);
    struct rv_exit x = {
        .kind = RV_EXIT_PIO_WRITE, .size = size, .addr = port, .data = v & rv_mask(size)};
    c->bus->exit(c->bus->ctx, &x);
    rv_leave(c);
}

/* Data breakpoints on ports (CR4.DE, DR7 R/W = 10b). */
static void watch_port(struct rv_interp *c, uint16_t port, unsigned size) {
    if (!c->watching || !(c->x.cr4 & RV_CR4_DE)) return;
    for (unsigned n = 0; n < 4; n++) {
        if (!(c->x.dr7 >> (2 * n) & 3) || (c->x.dr7 >> (16 + 4 * n) & 3) != 2) continue;
        unsigned len = (c->x.dr7 >> (18 + 4 * n) & 3) + 1u;
        if (port < c->x.dr[n] + len && c->x.dr[n] < (uint64_t)port + size) {
            c->x.pending_db = 1;
            c->x.pending_dr6 |= 1u << n;
        }
    }
}

RV_OP(in) {
    uint16_t port = i->ext ? (uint16_t)c->x.gpr[RV_RDX] : (uint8_t)i->imm;
    rv_port_check(c, i, port, i->size);
    rv_reg_set(c, RV_GPR_OFFSET(RV_RAX), i->size, rv_port_read(c, i, port, i->size));
    watch_port(c, port, i->size);
    rv_end(c, i);
}

RV_OP(out) {
    uint16_t port = i->ext ? (uint16_t)c->x.gpr[RV_RDX] : (uint8_t)i->imm;
    rv_port_check(c, i, port, i->size);
    rv_port_write(c, i, port, i->size, c->x.gpr[RV_RAX]);
    watch_port(c, port, i->size);
    rv_end(c, i);
}

/* ---- identification and time ---- */

RV_OP(cpuid) {
    enum { LEAF1_EDX_APIC = 1 << 9, APIC_ENABLED = 1 << 11 };
    uint64_t *g = c->x.gpr;
    uint32_t leaf = (uint32_t)g[RV_RAX];
    struct rv_cpuid r = c->profile->cpuid(c->profile, leaf, (uint32_t)g[RV_RCX], &c->x);
    if (leaf == 1) {
        /* A CPU whose APIC is disabled in its base MSR looks like one without (SDM 3A 11.4.3). */
        uint64_t base;
        rv_sync(c, i);
        if (!rv_msr_read(c, RV_MSR_APIC_BASE, &base) || !(base & APIC_ENABLED))
            r.edx &= ~(uint32_t)LEAF1_EDX_APIC;
    }
    g[RV_RAX] = r.eax;
    g[RV_RBX] = r.ebx;
    g[RV_RCX] = r.ecx;
    g[RV_RDX] = r.edx;
    rv_end(c, i);
}

/* RDTSC and RDTSCP (ext 1). */
RV_OP(rdtsc) {
    if (c->cpl && (c->x.cr4 & RV_CR4_TSD)) rv_raise_error(c, i, RV_VEC_GP, 0);
    rv_sync(c, i);
    uint64_t tsc = c->bus->tsc(c->bus->ctx) + c->x.tsc_offset;
    if (c->bus->attention) rv_leave(c);
    c->x.gpr[RV_RAX] = (uint32_t)tsc;
    c->x.gpr[RV_RDX] = tsc >> 32;
    if (i->ext) c->x.gpr[RV_RCX] = (uint32_t)c->x.tsc_aux;
    rv_next(c, i);
}

/* No performance counters: every index is invalid. */
RV_OP(rdpmc) { rv_raise_error(c, i, RV_VEC_GP, 0); }

RV_OP(rdmsr) {
    need_ring0(c, i);
    rv_sync(c, i);
    uint64_t v;
    if (!rv_msr_read(c, (uint32_t)c->x.gpr[RV_RCX], &v)) rv_raise_error(c, i, RV_VEC_GP, 0);
    c->x.gpr[RV_RAX] = (uint32_t)v;
    c->x.gpr[RV_RDX] = v >> 32;
    end_and_look(c, i);
}

RV_OP(wrmsr) {
    need_ring0(c, i);
    rv_sync(c, i);
    uint64_t v = (uint32_t)c->x.gpr[RV_RAX] | c->x.gpr[RV_RDX] << 32;
    if (!rv_msr_write(c, (uint32_t)c->x.gpr[RV_RCX], v)) rv_raise_error(c, i, RV_VEC_GP, 0);
    end_and_look(c, i);
}

/* ---- control registers ---- */

static void write_cr0(struct rv_interp *c, const struct rv_insn *i, uint64_t v) {
    struct rv_x86 *x = &c->x;
    uint64_t old = x->cr0;
    if (v >> 32) rv_raise_error(c, i, RV_VEC_GP, 0);
    v = (v & (RV_CR0_PE | RV_CR0_MP | RV_CR0_EM | RV_CR0_TS | RV_CR0_NE | RV_CR0_WP | RV_CR0_AM |
              RV_CR0_NW | RV_CR0_CD | RV_CR0_PG)) |
        RV_CR0_ET;
    if ((v & RV_CR0_PG) && !(v & RV_CR0_PE)) rv_raise_error(c, i, RV_VEC_GP, 0);
    if ((v & RV_CR0_NW) && !(v & RV_CR0_CD)) rv_raise_error(c, i, RV_VEC_GP, 0);
    bool pg_on = (v & RV_CR0_PG) && !(old & RV_CR0_PG);
    bool pg_off = !(v & RV_CR0_PG) && (old & RV_CR0_PG);
    if (pg_on && (x->efer & RV_EFER_LME)) {
        if (!(x->cr4 & RV_CR4_PAE) || (x->seg[RV_CS].attr & RV_SEG_L))
            rv_raise_error(c, i, RV_VEC_GP, 0);
        x->efer |= RV_EFER_LMA;
    }
    if (pg_off) {
        if ((c->mode & RV_MODE_64) || (x->cr4 & RV_CR4_PCIDE)) rv_raise_error(c, i, RV_VEC_GP, 0);
        x->efer &= ~RV_EFER_LMA;
    }
    x->cr0 = v;
    c->dropped = true;
    if ((v ^ old) & (RV_CR0_PG | RV_CR0_WP | RV_CR0_PE)) rv_mmu_flush(c);
}

static void write_cr3(struct rv_interp *c, const struct rv_insn *i, uint64_t v) {
    struct rv_x86 *x = &c->x;
    if (x->cr4 & RV_CR4_PCIDE) v &= ~(1ull << 63); /* keep the caches: ours are always coherent */
    if (x->efer & RV_EFER_LMA) {
        if (v >> c->profile->phys_bits) rv_raise_error(c, i, RV_VEC_GP, 0);
    } else {
        v &= 0xffffffffu;
    }
    c->dropped = true;
    if (v == x->cr3) return;
    /* Another context number over the same tables translates alike. */
    bool same = !((v ^ x->cr3) & ~0xfffull);
    x->cr3 = v;
    if (!(x->efer & RV_EFER_LMA))
        rv_mmu_flush(c);
    else if (!same)
        rv_mmu_switched(c);
}

static void write_cr4(struct rv_interp *c, const struct rv_insn *i, uint64_t v) {
    struct rv_x86 *x = &c->x;
    uint64_t old = x->cr4;
    if (v & ~c->profile->cr4_mask) rv_raise_error(c, i, RV_VEC_GP, 0);
    if ((x->efer & RV_EFER_LMA) && !(v & RV_CR4_PAE)) rv_raise_error(c, i, RV_VEC_GP, 0);
    if ((v & RV_CR4_PCIDE) && !(old & RV_CR4_PCIDE) &&
        (!(x->efer & RV_EFER_LMA) || (x->cr3 & 0xfff)))
        rv_raise_error(c, i, RV_VEC_GP, 0);
    x->cr4 = v;
    c->dropped = true;
    if ((v ^ old) & (RV_CR4_PSE | RV_CR4_PAE | RV_CR4_SMEP | RV_CR4_SMAP)) rv_mmu_flush(c);
}

static uint64_t cr8(struct rv_interp *c, const struct rv_insn *i, bool write, uint64_t v) {
    rv_sync(c, i);
    struct rv_exit x = {.kind = write ? RV_EXIT_CR8_WRITE : RV_EXIT_CR8_READ, .size = 8, .data = v};
    c->bus->exit(c->bus->ctx, &x);
    rv_leave(c);
    return x.data;
}

RV_OP(mov_from_cr) {
    need_ring0(c, i);
    uint64_t v;
    switch (i->ext) {
    case 0: v = c->x.cr0; break;
    case 2: v = c->x.cr2; break;
    case 3: v = c->x.cr3; break;
    case 4: v = c->x.cr4; break;
    default: v = cr8(c, i, false, 0);
    }
    rv_reg_set(c, i->r1, c->mode & RV_MODE_64 ? 8 : 4, v);
    rv_end(c, i);
}

RV_OP(mov_to_cr) {
    need_ring0(c, i);
    uint64_t v = rv_reg_get(c, i->r2, c->mode & RV_MODE_64 ? 8 : 4);
    switch (i->ext) {
    case 0: write_cr0(c, i, v); break;
    case 2: c->x.cr2 = v; break;
    case 3: write_cr3(c, i, v); break;
    case 4: write_cr4(c, i, v); break;
    default:
        if (v >> 4) rv_raise_error(c, i, RV_VEC_GP, 0);
        cr8(c, i, true, v);
    }
    rv_end(c, i);
    rv_mmu_mode(c);
    rv_leave(c);
}

RV_OP(clts) {
    need_ring0(c, i);
    c->x.cr0 &= ~RV_CR0_TS;
    end_and_look(c, i);
}

/* LMSW sets PE but never clears it. */
RV_OP(lmsw) {
    need_ring0(c, i);
    uint16_t v = i->r2 ? *rv_reg16(c, i->r2) : rv_load16(c, i, rv_ea(c, i, 2, false));
    write_cr0(c, i, (c->x.cr0 & ~0xeull) | (v & 0xfu));
    rv_end(c, i);
    rv_mmu_mode(c);
    rv_leave(c);
}

RV_OP(smsw) {
    if (c->cpl && (c->x.cr4 & RV_CR4_UMIP)) rv_raise_error(c, i, RV_VEC_GP, 0);
    if (i->r1)
        rv_reg_set(c, i->r1, i->size, c->x.cr0);
    else
        rv_store16(c, i, rv_ea(c, i, 2, true), (uint16_t)c->x.cr0);
    rv_next(c, i);
}

/* ---- debug registers ---- */

static unsigned debug_register(struct rv_interp *c, const struct rv_insn *i) {
    unsigned n = i->ext;
    if (n == 4 || n == 5) {
        if (c->x.cr4 & RV_CR4_DE) rv_raise(c, i, RV_VEC_UD);
        n += 2;
    }
    need_ring0(c, i);
    if (c->x.dr7 >> 13 & 1) { /* general detect */
        c->x.dr6 |= 1u << 13;
        c->x.dr7 &= ~(1ull << 13);
        rv_raise(c, i, RV_VEC_DB);
    }
    return n;
}

RV_OP(mov_from_dr) {
    unsigned n = debug_register(c, i);
    uint64_t v = n < 4 ? c->x.dr[n] : n == 6 ? c->x.dr6 : c->x.dr7;
    rv_reg_set(c, i->r1, c->mode & RV_MODE_64 ? 8 : 4, v);
    rv_next(c, i);
}

RV_OP(mov_to_dr) {
    unsigned n = debug_register(c, i);
    uint64_t v = rv_reg_get(c, i->r2, c->mode & RV_MODE_64 ? 8 : 4);
    if (n >= 6 && v >> 32) rv_raise_error(c, i, RV_VEC_GP, 0);
    if (n < 4)
        c->x.dr[n] = v;
    else if (n == 6)
        c->x.dr6 = (v & 0xe00fu) | 0xffff0ff0u;
    else
        c->x.dr7 = (v & 0xffff2bffu) | 0x400;
    rv_end(c, i);
    rv_mmu_mode(c);
    rv_leave(c);
}

/* ---- caches and address translation ---- */

/* INVLPG: nothing to do, because cached translations follow the page tables (mmu.c). */
RV_OP(invlpg) {
    need_ring0(c, i);
    c->dropped = true;
    rv_next(c, i);
}

RV_OP(invpcid) {
    need_ring0(c, i);
    uint64_t type = *rv_reg64(c, i->r1), va = rv_ea(c, i, 16, false);
    if (!(c->mode & RV_MODE_64)) type &= 0xffffffffu;
    uint64_t pcid = rv_load64(c, i, va), address = rv_load64(c, i, va + 8);
    if (type > 3 || (type < 2 && (pcid >> 12 || (!(c->x.cr4 & RV_CR4_PCIDE) && pcid))) ||
        (type == 0 && !rv_canonical(address)))
        rv_raise_error(c, i, RV_VEC_GP, 0);
    c->dropped = true;
    rv_next(c, i);
}

RV_OP(wbinvd) {
    need_ring0(c, i);
    rv_next(c, i);
}

/* ---- segment bases ---- */

RV_OP(swapgs) {
    need_ring0(c, i);
    uint64_t base = c->x.seg[RV_GS].base;
    c->x.seg[RV_GS].base = c->x.kernel_gs_base;
    c->x.kernel_gs_base = base;
    rv_next(c, i);
}

/* RDFSBASE, RDGSBASE, WRFSBASE (ext 2), WRGSBASE (ext 3). */
RV_OP(fsgsbase) {
    if (!(c->x.cr4 & RV_CR4_FSGSBASE)) rv_raise(c, i, RV_VEC_UD);
    struct rv_seg *s = &c->x.seg[i->ext & 1 ? RV_GS : RV_FS];
    if (i->ext & 2) {
        uint64_t v = rv_reg_get(c, i->r1, i->size);
        if (!rv_canonical(v)) rv_raise_error(c, i, RV_VEC_GP, 0);
        s->base = v;
    } else {
        rv_reg_set(c, i->r1, i->size, s->base);
    }
    rv_next(c, i);
}

/* CLAC and STAC (ext 1). Legal whether or not CR4.SMAP is set (SDM vol. 2). */
RV_OP(clac_stac) {
    if (c->cpl) rv_raise(c, i, RV_VEC_UD);
    if (i->ext)
        c->x.rflags |= RV_FL_AC;
    else
        c->x.rflags &= ~(uint64_t)RV_FL_AC;
    rv_mmu_mode(c);
    rv_end(c, i);
}
