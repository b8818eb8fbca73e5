/* String instructions. One with REP counts as one instruction; what it has done shows in RCX, RSI
 * and RDI, so that it goes on after a fault. Long ones come back to the dispatcher now and then. */
#include "vmm/cpu/interp/ops.h"
#include "vmm/cpu/interp/run.h"
#include "vmm/cpu/interp/seg.h"

/* Elements before a look at whether somebody wants the engine to stop. */
#define SLICE (1u << 13)

static uint64_t source_va(struct rv_interp *c, const struct rv_insn *i, unsigned size) {
    uint64_t off = c->x.gpr[RV_RSI] & rv_mask(i->asize);
    if (c->mode & RV_MODE_64)
        return i->seg == RV_FS || i->seg == RV_GS ? off + c->x.seg[i->seg].base : off;
    return rv_seg_linear(c, i, i->seg, off, size, false);
}

static uint64_t dest_va(struct rv_interp *c, const struct rv_insn *i, unsigned size, bool write) {
    uint64_t off = c->x.gpr[RV_RDI] & rv_mask(i->asize);
    if (c->mode & RV_MODE_64) return off;
    return rv_seg_linear(c, i, RV_ES, off, size, write);
}

static int64_t step(const struct rv_interp *c, const struct rv_insn *i) {
    return c->x.rflags & RV_FL_DF ? -(int64_t)i->size : i->size;
}

static void advance(struct rv_interp *c, const struct rv_insn *i, unsigned reg, int64_t by) {
    rv_reg_set(c, RV_GPR_OFFSET(reg), i->asize, c->x.gpr[reg] + (uint64_t)by);
}

static bool repeats(const struct rv_insn *i) { return i->flags & (RV_I_REP | RV_I_REPNE); }
static uint64_t count(const struct rv_interp *c, const struct rv_insn *i) {
    return c->x.gpr[RV_RCX] & rv_mask(i->asize);
}
static void count_down(struct rv_interp *c, const struct rv_insn *i, uint64_t by) {
    rv_reg_set(c, RV_GPR_OFFSET(RV_RCX), i->asize, count(c, i) - by);
}

/* How many elements from va go forward inside its page. */
static uint64_t in_page(uint64_t va, unsigned size) { return (RV_PAGE_SIZE - (va & 0xfff)) / size; }

/* Elements that a bulk operation may cover at once: 64-bit addresses going up. */
static bool bulk(const struct rv_interp *c, const struct rv_insn *i) {
    return (c->mode & RV_MODE_64) && i->asize == 8 && !(c->x.rflags & RV_FL_DF);
}

/* Between two elements of a repeated instruction the traps of the first are taken: a single step, a
 * data breakpoint (SDM 3B 18.3.1.2, 18.3.1.4). */
static void trap_between(struct rv_interp *c, const struct rv_insn *i) {
    if (!(c->x.rflags & RV_FL_TF) && !c->x.pending_db) return;
    if (c->x.rflags & RV_FL_TF) c->x.pending_dr6 |= 1u << 14;
    c->x.pending_db = 1;
    rv_restart(c, i);
}

/* Runs one(c, i) once, or RCX times. many() may do some of the elements in one go; returns how
 * many. */
static void repeat(struct rv_interp *c, const struct rv_insn *i,
                   void (*one)(struct rv_interp *, const struct rv_insn *),
                   uint64_t (*many)(struct rv_interp *, const struct rv_insn *, uint64_t)) {
    if (!repeats(i)) {
        one(c, i);
        rv_next(c, i);
        return;
    }
    bool fast = many && bulk(c, i) && !(c->x.rflags & RV_FL_TF);
    for (unsigned budget = SLICE; count(c, i);) {
        uint64_t done = fast ? many(c, i, count(c, i)) : 0;
        if (!done) {
            one(c, i);
            done = 1;
        }
        count_down(c, i, done);
        if (count(c, i)) trap_between(c, i);
        /* A page's worth in bulk costs about as much as a few elements one by one. */
        budget -= done > 8 ? 8 : (unsigned)done;
        if (budget - 1 >= SLICE && count(c, i)) rv_restart(c, i);
    }
    rv_next(c, i);
}

static void movs_one(struct rv_interp *c, const struct rv_insn *i) {
    uint64_t from = source_va(c, i, i->size), to = dest_va(c, i, i->size, true);
    rv_store(c, i, to, i->size, rv_load(c, i, from, i->size));
    advance(c, i, RV_RSI, step(c, i));
    advance(c, i, RV_RDI, step(c, i));
}

static uint64_t movs_many(struct rv_interp *c, const struct rv_insn *i, uint64_t n) {
    uint64_t from = source_va(c, i, i->size), to = dest_va(c, i, i->size, true);
    uint64_t a = in_page(from, i->size), b = in_page(to, i->size);
    if (n > a) n = a;
    if (n > b) n = b;
    if (n < 2) return 0;
    unsigned bytes = (unsigned)(n * i->size);
    const uint8_t *src = rv_fast_r(c, from, bytes);
    uint8_t *dst = rv_fast_w(c, to, bytes);
    if (!src || !dst) return 0;
    /* An upward overlap repeats a pattern: that is element-wise work. */
    if (dst > src && dst < src + bytes) return 0;
    memmove(dst, src, bytes);
    c->x.gpr[RV_RSI] += bytes;
    c->x.gpr[RV_RDI] += bytes;
    return n;
}

RV_OP(movs) { repeat(c, i, movs_one, movs_many); }

static void stos_one(struct rv_interp *c, const struct rv_insn *i) {
    rv_store(c, i, dest_va(c, i, i->size, true), i->size, c->x.gpr[RV_RAX]);
    advance(c, i, RV_RDI, step(c, i));
}

static uint64_t stos_many(struct rv_interp *c, const struct rv_insn *i, uint64_t n) {
    uint64_t to = dest_va(c, i, i->size, true), a = in_page(to, i->size);
    if (n > a) n = a;
    if (n < 2) return 0;
    unsigned bytes = (unsigned)(n * i->size);
    uint8_t *dst = rv_fast_w(c, to, bytes);
    if (!dst) return 0;
    uint64_t v = c->x.gpr[RV_RAX];
    switch (i->size) {
    case 1: memset(dst, (int)(uint8_t)v, n); break;
    case 2:
        for (uint64_t k = 0; k < n; k++) memcpy(dst + 2 * k, &v, 2);
        break;
    case 4:
        for (uint64_t k = 0; k < n; k++) memcpy(dst + 4 * k, &v, 4);
        break;
    default:
        if (v == 0)
            memset(dst, 0, bytes);
        else
            for (uint64_t k = 0; k < n; k++) memcpy(dst + 8 * k, &v, 8);
    }
    c->x.gpr[RV_RDI] += bytes;
    return n;
}

RV_OP(stos) { repeat(c, i, stos_one, stos_many); }

static void lods_one(struct rv_interp *c, const struct rv_insn *i) {
    uint64_t v = rv_load(c, i, source_va(c, i, i->size), i->size);
    rv_reg_set(c, RV_GPR_OFFSET(RV_RAX), i->size, v);
    advance(c, i, RV_RSI, step(c, i));
}

RV_OP(lods) { repeat(c, i, lods_one, NULL); }

/* CMP of two values of the instruction's size. */
static void compare(struct rv_interp *c, const struct rv_insn *i, uint64_t d, uint64_t s) {
    uint16_t fl;
#define STEP(suf, mod)                                                                             \
    __asm__("cmp" suf " %" mod "2, %" mod "1\n\tlahf\n\tseto %%al"                                 \
            : "=&a"(fl)                                                                            \
            : "r"(d), "r"(s)                                                                       \
            : "cc")
    switch (i->size) {
    case 1: STEP("b", "b"); break;
    case 2: STEP("w", "w"); break;
    case 4: STEP("l", "k"); break;
    default: STEP("q", "q");
    }
#undef STEP
    c->fl = fl;
}

/* SCAS and CMPS stop early: with REPE on a difference, with REPNE on equality. */
static void search(struct rv_interp *c, const struct rv_insn *i,
                   void (*one)(struct rv_interp *, const struct rv_insn *)) {
    if (!repeats(i)) {
        one(c, i);
        rv_next(c, i);
        return;
    }
    bool until_equal = i->flags & RV_I_REPNE;
    uint32_t before = c->fl; /* what a fault in any element shows: SDM vol. 2, CMPS */
    for (unsigned budget = SLICE; count(c, i); budget--) {
        if (!budget) rv_restart(c, i);
        c->fl = before;
        one(c, i);
        count_down(c, i, 1);
        if (!!(c->fl & 0x4000) == until_equal) break;
        if (count(c, i)) trap_between(c, i);
    }
    rv_next(c, i);
}

static void scas_one(struct rv_interp *c, const struct rv_insn *i) {
    uint64_t v = rv_load(c, i, dest_va(c, i, i->size, false), i->size);
    compare(c, i, c->x.gpr[RV_RAX], v);
    advance(c, i, RV_RDI, step(c, i));
}

RV_OP(scas) { search(c, i, scas_one); }

static void cmps_one(struct rv_interp *c, const struct rv_insn *i) {
    /* When both fault, CPUs report the destination. */
    uint64_t b = rv_load(c, i, dest_va(c, i, i->size, false), i->size);
    uint64_t a = rv_load(c, i, source_va(c, i, i->size), i->size);
    compare(c, i, a, b);
    advance(c, i, RV_RSI, step(c, i));
    advance(c, i, RV_RDI, step(c, i));
}

RV_OP(cmps) { search(c, i, cmps_one); }

static void ins_one(struct rv_interp *c, const struct rv_insn *i) {
    uint64_t va = dest_va(c, i, i->size, true);
    rv_probe_write(c, i, va, i->size);
    uint64_t v = rv_port_read(c, i, (uint16_t)c->x.gpr[RV_RDX], i->size);
    rv_store(c, i, va, i->size, v);
    advance(c, i, RV_RDI, step(c, i));
}

RV_OP(ins) {
    rv_port_check(c, i, (uint16_t)c->x.gpr[RV_RDX], i->size);
    rv_alone(c, i);
    repeat(c, i, ins_one, NULL);
}

static void outs_one(struct rv_interp *c, const struct rv_insn *i) {
    uint64_t v = rv_load(c, i, source_va(c, i, i->size), i->size);
    rv_port_write(c, i, (uint16_t)c->x.gpr[RV_RDX], i->size, v);
    advance(c, i, RV_RSI, step(c, i));
}

RV_OP(outs) {
    rv_port_check(c, i, (uint16_t)c->x.gpr[RV_RDX], i->size);
    rv_alone(c, i);
    repeat(c, i, outs_one, NULL);
}
