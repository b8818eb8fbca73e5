/* Random programs of a few instructions, run by two engines from the same state: every instruction
 * that the generator knows, with operands in, at the edge of and outside of memory, jumps from one
 * to another, faults in the middle, and a stop at any count. Everything must agree, whatever the
 * architecture leaves undefined: both run on this host. */
#include <stdio.h>
#include <string.h>

#include "side.h"

static unsigned pick(struct or_random *r, unsigned n) { return (unsigned)(or_random(r) >> 32) % n; }

static int number(ZydisRegister reg) {
    ZydisRegister full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    return full >= ZYDIS_REGISTER_RAX && full <= ZYDIS_REGISTER_R15
               ? (int)(full - ZYDIS_REGISTER_RAX)
               : -1;
}

/* MOV r64, imm64 */
static void load(struct or_program *p, int reg, uint64_t v) {
    p->at[p->insns++] = p->len;
    p->code[p->len++] = (uint8_t)(0x48 | reg >> 3);
    p->code[p->len++] = (uint8_t)(0xb8 | (reg & 7));
    memcpy(p->code + p->len, &v, 8);
    p->len += 8;
}

#define ROOM 5 /* instructions that one case may become */

static void append(struct or_program *p, const struct or_case *k) {
    unsigned loaded = 0;
    for (unsigned n = 0; n < k->z.operand_count; n++) {
        const ZydisDecodedOperandMem *m = &k->op[n].mem;
        if (k->op[n].type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
        int regs[2] = {number(m->base), number(m->index)};
        for (unsigned j = 0; j < 2; j++)
            if (regs[j] >= 0 && !(loaded >> regs[j] & 1)) {
                load(p, regs[j], k->in.gpr[regs[j]]);
                loaded |= 1u << regs[j];
            }
    }
    if ((k->z.attributes &
         (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) &&
        !(loaded >> RV_RCX & 1))
        load(p, RV_RCX, k->in.gpr[RV_RCX]);
    p->at[p->insns++] = p->len;
    memcpy(p->code + p->len, k->code, k->z.length);
    if (k->memory &&
        (k->memory->mem.base == ZYDIS_REGISTER_RIP || k->memory->mem.base == ZYDIS_REGISTER_EIP)) {
        /* It was aimed from the page's start. */
        uint32_t disp;
        memcpy(&disp, p->code + p->len + k->z.raw.disp.offset, 4);
        disp -= p->place + p->len;
        memcpy(p->code + p->len + k->z.raw.disp.offset, &disp, 4);
    }
    p->len += k->z.length;
}

/* Lets near jumps go from instruction to instruction, mostly. */
static void direct_jumps(struct or_random *r, struct or_program *p) {
    for (unsigned n = 0; n < p->insns; n++) {
        uint8_t *at = p->code + p->at[n];
        unsigned size, off;
        if ((at[0] & 0xf0) == 0x70 || at[0] == 0xeb || (at[0] >= 0xe0 && at[0] <= 0xe3))
            size = 1, off = 1;
        else if (at[0] == 0xe8 || at[0] == 0xe9)
            size = 4, off = 1;
        else if (at[0] == 0x0f && (at[1] & 0xf0) == 0x80)
            size = 4, off = 2;
        else
            continue;
        if (pick(r, 8) == 0) continue;
        int32_t rel = (int32_t)p->at[pick(r, p->insns)] - (int32_t)(p->at[n] + off + size);
        if (size == 1 && rel != (int8_t)rel) continue;
        memcpy(at + off, &rel, size);
    }
}

void or_program_generate(struct or_random *r, struct or_program *p) {
    struct or_case k = p->k;
    p->len = p->insns = 0;
    p->place = pick(r, 3) ? pick(r, 0xc00) : 0xf00 + pick(r, 0x100);
    unsigned want = 1 + pick(r, 12);
    for (unsigned n = 0; n < want && p->insns + ROOM < RV_COUNT(p->at); n++) {
        or_generate(r, &k, NULL);
        if (n == 0) memcpy(p->k.in.gpr, k.in.gpr, sizeof k.in.gpr);
        if (k.z.mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B && pick(r, 2)) k.in.gpr[RV_RBX] = 0;
        append(p, &k);
    }
    p->k.in.rflags = k.in.rflags;
    memcpy(p->k.in.fx, k.in.fx, sizeof k.in.fx);
    memcpy(p->k.mem, k.mem, sizeof k.mem);
    p->k.in.rip = OR_CODE + p->place;
    direct_jumps(r, p);
    p->stops[0] = 1 + pick(r, p->insns);
    p->stops[1] = p->stops[0] + pick(r, p->insns);
    p->stops[2] = p->stops[1] + pick(r, 4 * p->insns);
}

static int prepare(const struct or_program *p, struct or_side *g, struct rv_err *err) {
    struct rv_x86 x = g->start;
    memcpy(x.gpr, p->k.in.gpr, sizeof x.gpr);
    memcpy(x.fx, p->k.in.fx, sizeof x.fx);
    x.rip = p->k.in.rip;
    x.rflags = p->k.in.rflags;
    memcpy(g->ram.host + OR_DATA, p->k.mem, OR_WINDOW);
    unsigned n = p->len;
    if (n > RV_PAGE_SIZE - p->place) n = RV_PAGE_SIZE - p->place;
    memset(g->ram.host + OR_CODE, 0xf4, RV_PAGE_SIZE);
    memcpy(g->ram.host + OR_CODE + p->place, p->code, n);
    return g->e->ops->set(g->e, &x, err);
}

static char text[256];
static const char *differ(const char *what, rv_icount stop, uint64_t a, uint64_t b) {
    snprintf(text, sizeof text, "at instruction %llu, %s: %016llx and %016llx",
             (unsigned long long)stop, what, (unsigned long long)a, (unsigned long long)b);
    return text;
}

static const char *compare(struct or_side *a, struct or_side *b, rv_icount stop) {
    struct rv_x86 x, y;
    a->e->ops->get(a->e, &x);
    b->e->ops->get(b->e, &y);
    char name[24];
    for (unsigned n = 0; n < RV_GPRS; n++) {
        snprintf(name, sizeof name, "register %u", n);
        if (x.gpr[n] != y.gpr[n]) return differ(name, stop, x.gpr[n], y.gpr[n]);
    }
    if (x.rip != y.rip) return differ("rip", stop, x.rip, y.rip);
    if (x.rflags != y.rflags) return differ("rflags", stop, x.rflags, y.rflags);
    for (unsigned n = 0; n < 416; n += 8)
        if (memcmp(x.fx + n, y.fx + n, 8)) {
            uint64_t u, v;
            memcpy(&u, x.fx + n, 8);
            memcpy(&v, y.fx + n, 8);
            snprintf(name, sizeof name, "FXSAVE image +%u", n);
            return differ(name, stop, u, v);
        }
    uint64_t u = rv_state_hash(rv_x86_fields, &x, 0), v = rv_state_hash(rv_x86_fields, &y, 0);
    if (u != v) return differ("the state's hash", stop, u, v);
    for (uint64_t at = 0; at < a->ram.size; at += RV_PAGE_SIZE)
        if ((a->ram.dirty[at >> 12] || b->ram.dirty[at >> 12]) &&
            memcmp(a->ram.host + at, b->ram.host + at, RV_PAGE_SIZE))
            for (uint64_t n = at;; n++)
                if (a->ram.host[n] != b->ram.host[n]) {
                    snprintf(name, sizeof name, "memory at %llx", (unsigned long long)n);
                    return differ(name, stop, a->ram.host[n], b->ram.host[n]);
                }
    return NULL;
}

const char *or_program_run(const struct or_program *p, struct or_side *a, struct or_side *b) {
    struct rv_err err = {0};
    if (prepare(p, a, &err) || prepare(p, b, &err)) return "the engine takes no state";
    for (unsigned n = 0; n < RV_COUNT(p->stops); n++) {
        int ra = a->e->ops->run(a->e, p->stops[n], false, &err);
        int rb = b->e->ops->run(b->e, p->stops[n], false, &err);
        if (ra != rb) return differ("how it stopped", p->stops[n], (uint64_t)ra, (uint64_t)rb);
        const char *what = compare(a, b, p->stops[n]);
        if (what || ra != RV_RUN_UNTIL) return what;
    }
    return NULL;
}
