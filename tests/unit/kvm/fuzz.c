/* Random integer instructions, one at a time on both engines, with everything compared after each:
 * registers, all flags (the undefined ones too) and, at the end of a sequence, memory. */
#include <stdio.h>
#include <string.h>

#include "guest.h"

enum { CODE = SIDE_CODE, DATA = 0x30000, INSNS = 24, TABLES = 0x2000 };

static void on_exit(void *ctx, struct rv_exit *x) {
    x->data = x->addr * 0x9e3779b97f4a7c15ull >> 40;
}
static uint64_t tsc(void *ctx) { return 0; }

static uint64_t rnd(uint64_t *s) {
    uint64_t z = *s += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* How the rest of an instruction looks: a ModRM byte, whose reg field may be fixed, an immediate.
 */
struct shape {
    uint8_t first, last; /* opcodes */
    bool two;            /* after 0F */
    bool modrm;
    uint8_t regs; /* allowed values of the reg field, a bit each; 0: all */
    uint8_t imm;  /* bytes; 4 shrinks to 2 with a 16-bit operand, 8 follows the operand */
    bool mem_only;
};

static const struct shape shapes[] = {
    {0x00, 0x03, 0, 1, 0, 0, 0},    {0x04, 0x04, 0, 0, 0, 1, 0},    {0x05, 0x05, 0, 0, 0, 4, 0},
    {0x08, 0x0b, 0, 1, 0, 0, 0},    {0x10, 0x13, 0, 1, 0, 0, 0},    {0x14, 0x14, 0, 0, 0, 1, 0},
    {0x18, 0x1b, 0, 1, 0, 0, 0},    {0x1d, 0x1d, 0, 0, 0, 4, 0},    {0x20, 0x23, 0, 1, 0, 0, 0},
    {0x28, 0x2b, 0, 1, 0, 0, 0},    {0x30, 0x33, 0, 1, 0, 0, 0},    {0x38, 0x3b, 0, 1, 0, 0, 0},
    {0x3c, 0x3c, 0, 0, 0, 1, 0},    {0x50, 0x5f, 0, 0, 0, 0, 0},    {0x63, 0x63, 0, 1, 0, 0, 0},
    {0x68, 0x68, 0, 0, 0, 4, 0},    {0x69, 0x69, 0, 1, 0, 4, 0},    {0x6a, 0x6a, 0, 0, 0, 1, 0},
    {0x6b, 0x6b, 0, 1, 0, 1, 0},    {0x80, 0x80, 0, 1, 0, 1, 0},    {0x81, 0x81, 0, 1, 0, 4, 0},
    {0x83, 0x83, 0, 1, 0, 1, 0},    {0x84, 0x8b, 0, 1, 0, 0, 0},    {0x8d, 0x8d, 0, 1, 0, 0, 1},
    {0x90, 0x99, 0, 0, 0, 0, 0},    {0x9e, 0x9f, 0, 0, 0, 0, 0},    {0xa4, 0xa7, 0, 0, 0, 0, 0},
    {0xa8, 0xa8, 0, 0, 0, 1, 0},    {0xa9, 0xa9, 0, 0, 0, 4, 0},    {0xaa, 0xaf, 0, 0, 0, 0, 0},
    {0xb0, 0xb7, 0, 0, 0, 1, 0},    {0xb8, 0xbf, 0, 0, 0, 8, 0},    {0xc0, 0xc1, 0, 1, 0, 1, 0},
    {0xc6, 0xc6, 0, 1, 1, 1, 0},    {0xc7, 0xc7, 0, 1, 1, 4, 0},    {0xd0, 0xd3, 0, 1, 0, 0, 0},
    {0xf5, 0xf5, 0, 0, 0, 0, 0},    {0xf6, 0xf6, 0, 1, 3, 1, 0},    {0xf7, 0xf7, 0, 1, 3, 4, 0},
    {0xf6, 0xf7, 0, 1, 0xfc, 0, 0}, {0xf6, 0xf7, 0, 1, 0x3c, 0, 0}, {0xf8, 0xf9, 0, 0, 0, 0, 0},
    {0xfc, 0xfd, 0, 0, 0, 0, 0},    {0xfe, 0xfe, 0, 1, 3, 0, 0},    {0xff, 0xff, 0, 1, 0x43, 0, 0},
    {0x1f, 0x1f, 1, 1, 1, 0, 0},    {0x40, 0x4f, 1, 1, 0, 0, 0},    {0x90, 0x9f, 1, 1, 0, 0, 0},
    {0xa3, 0xa3, 1, 1, 0, 0, 0},    {0xa4, 0xa4, 1, 1, 0, 1, 0},    {0xa5, 0xa5, 1, 1, 0, 0, 0},
    {0xab, 0xab, 1, 1, 0, 0, 0},    {0xac, 0xac, 1, 1, 0, 1, 0},    {0xad, 0xad, 1, 1, 0, 0, 0},
    {0xaf, 0xb1, 1, 1, 0, 0, 0},    {0xb3, 0xb3, 1, 1, 0, 0, 0},    {0xb6, 0xb7, 1, 1, 0, 0, 0},
    {0xb8, 0xb8, 1, 1, 0, 0, 0},    {0xba, 0xba, 1, 1, 0xf0, 1, 0}, {0xbb, 0xbf, 1, 1, 0, 0, 0},
    {0xc0, 0xc1, 1, 1, 0, 0, 0},    {0xc7, 0xc7, 1, 1, 2, 0, 1},    {0xc8, 0xcf, 1, 0, 0, 0, 0},
};

static unsigned put_modrm(uint64_t *seed, unsigned bits, const struct shape *s, uint8_t *out) {
    unsigned n = 0, reg = rnd(seed) & 7, mod = s->mem_only ? 1 : rnd(seed) & 3, rm = rnd(seed) & 7;
    while (s->regs && !(s->regs >> reg & 1)) reg = (reg + 1) & 7;
    if (mod == 2 || (mod == 0 && rm == (bits == 16 ? 6 : 5))) mod = 1;
    out[n++] = (uint8_t)(mod << 6 | reg << 3 | rm);
    if (mod != 3 && rm == 4 && bits != 16) {
        /* Without an index half of the time: two pointers make none. */
        unsigned index = rnd(seed) & 1 ? 4 : rnd(seed) & 7;
        out[n++] = (uint8_t)((rnd(seed) & 3) << 6 | index << 3 | (rnd(seed) & 3 ? 6 : 1));
    }
    if (mod == 1) out[n++] = (uint8_t)rnd(seed);
    return n;
}

static unsigned put_insn(uint64_t *seed, unsigned bits, uint8_t *out) {
    const struct shape *s = &shapes[rnd(seed) % RV_COUNT(shapes)];
    unsigned n = 0, op = s->first + (unsigned)(rnd(seed) % (s->last - s->first + 1u));
    bool wide = false, small = bits == 16;
    if (!(rnd(seed) & 3)) out[n++] = 0x66, small = !small;
    if (!(rnd(seed) & 15)) out[n++] = 0x67;
    if (!(rnd(seed) & 15)) out[n++] = 0x64; /* FS */
    if (s->two && op == 0xb8) out[n++] = 0xf3;
    if (!(rnd(seed) & 31)) out[n++] = 0xf0; /* LOCK, mostly illegal */
    if (bits == 64 && (rnd(seed) & 1)) {
        uint8_t rex = 0x40 | (rnd(seed) & 15);
        wide = rex & 8;
        out[n++] = rex;
    }
    if (s->two) out[n++] = 0x0f;
    out[n++] = (uint8_t)op;
    if (s->modrm) n += put_modrm(seed, bits, s, out + n);
    unsigned imm = s->imm;
    if (imm == 8) imm = wide ? 8 : 4;
    if (imm == 4 && small && !wide) imm = 2;
    for (unsigned i = 0; i < imm; i++) out[n++] = (uint8_t)rnd(seed);
    return n;
}

void side_state(uint64_t *seed, unsigned bits, struct rv_x86 *x) {
    rv_x86_reset(x);
    struct rv_seg code = {.limit = bits == 16 ? 0xffff : 0xffffffff, .sel = 8, .attr = 0x9b};
    struct rv_seg data = {.limit = code.limit, .sel = 16, .attr = 0x93};
    if (bits == 64) code.attr |= RV_SEG_L | RV_SEG_G;
    if (bits == 32) code.attr |= RV_SEG_DB | RV_SEG_G;
    if (bits != 16) data.attr |= RV_SEG_DB | RV_SEG_G;
    uint64_t shift =
        bits == 16 ? 0x10000 : 0; /* real mode: CS at the code, the others at the data */
    if (bits == 16) {
        code.base = shift, code.sel = 0x1000;
        data.base = DATA, data.sel = DATA >> 4;
    }
    for (unsigned i = 0; i <= RV_GS; i++) x->seg[i] = i == RV_CS ? code : data;
    x->seg[RV_FS].base += 0x100;
    x->seg[RV_FS].sel += bits == 16 ? 0x10 : 0;
    x->idt.limit = 0;
    if (bits == 16) x->idt.limit = 0x3ff;
    x->rip = CODE - shift;
    if (bits != 16) x->cr0 = RV_CR0_PE | RV_CR0_ET;
    if (bits == 64) {
        x->cr0 |= RV_CR0_PG;
        x->cr3 = TABLES;
        x->cr4 = RV_CR4_PAE;
        x->efer = RV_EFER_LME | RV_EFER_LMA;
    }
    uint64_t mask = bits == 64 ? ~0ull : bits == 32 ? 0xffffffffu : 0xffff;
    for (unsigned r = 0; r < (bits == 64 ? RV_GPRS : 8); r++) {
        uint64_t kind = rnd(seed) & 3, v = rnd(seed);
        if (kind < 2 || (r >= RV_RSP && r <= RV_RDI) || r == RV_RCX)
            v = (bits == 16 ? 0x4000 : DATA) + (v & 0xfff);
        else if (kind == 2)
            v &= 0xff;
        x->gpr[r] = v & mask;
    }
    x->gpr[RV_RSP] &= ~7ull;
    x->rflags = 2 | (rnd(seed) & (RV_FL_ARITH | RV_FL_DF));
}

bool side_begin(struct side *s, const struct rv_engine_ops *ops) {
    struct rv_err err;
    memset(s, 0, sizeof *s);
    s->bus = (struct rv_cpu_bus){.exit = on_exit, .tsc = tsc};
    return !rv_ram_init(&s->ram, RV_RAM_MIN, &err) &&
           !ops->create(&s->e, &s->ram, &s->bus, &rv_profile_v2, &err);
}

void side_finish(struct side *s) {
    if (s->e) s->e->ops->destroy(s->e);
    rv_ram_release(&s->ram);
}

static void show(const char *what, const struct rv_x86 *x) {
    fprintf(stderr, "  %-9s rip %llx flags %llx", what, (unsigned long long)x->rip,
            (unsigned long long)x->rflags);
    for (unsigned i = 0; i < RV_GPRS; i++) fprintf(stderr, " %llx", (unsigned long long)x->gpr[i]);
    fprintf(stderr, "\n");
}

static bool sequence(struct side *a, struct side *b, uint64_t seed, unsigned bits) {
    uint64_t first = seed;
    uint8_t code[INSNS * 16 + 16] = {0};
    unsigned len = 0;
    for (unsigned i = 0; i < INSNS; i++) len += put_insn(&seed, bits, code + len);
    uint8_t data[0x8000];
    for (size_t i = 0; i < sizeof data; i += 8) {
        uint64_t v = rnd(&seed);
        memcpy(data + i, &v, 8);
    }
    /* Accessed and dirty bits set beforehand in half of the sequences. */
    uint64_t bits_ad = rnd(&seed) & 1 ? 0x60 : 0;
    uint64_t tables[] = {(TABLES + 0x1000) | 3 | (bits_ad & 0x20),
                         (TABLES + 0x2000) | 3 | (bits_ad & 0x20), 0x83 | bits_ad};
    struct rv_x86 x, y, z;
    side_state(&seed, bits, &x);
    struct side *sides[] = {a, b};
    struct rv_err err = {0};
    for (unsigned n = 0; n < 2; n++) {
        struct side *s = sides[n];
        static const uint8_t zero[0x20000];
        rv_ram_write(&s->ram, CODE - 0x8000, zero, sizeof zero);
        rv_ram_write(&s->ram, CODE, code, len);
        rv_ram_write(&s->ram, DATA, data, sizeof data);
        rv_ram_write(&s->ram, DATA + 0x8000, zero, 0x8000);
        rv_ram_write(&s->ram, 0, zero, 0x1000);
        for (unsigned i = 0; i < 3; i++) rv_ram_write(&s->ram, TABLES + 0x1000 * i, &tables[i], 8);
        if (s->e->ops->set(s->e, &x, &err)) return false;
    }
    for (unsigned i = 0; i < INSNS; i++) {
        struct rv_x86 before;
        a->e->ops->get(a->e, &before);
        int ra = a->e->ops->run(a->e, i + 1, false, &err);
        int rb = b->e->ops->run(b->e, i + 1, false, &err);
        a->e->ops->get(a->e, &y);
        b->e->ops->get(b->e, &z);
        bool same = ra == rb && rv_x86_hash(&y, 0) == rv_x86_hash(&z, 0);
        if (same && (i + 1 == INSNS || ra != RV_RUN_UNTIL))
            same = memcmp(a->ram.host, b->ram.host, RV_RAM_MIN) == 0 &&
                   rv_ram_digest(&a->ram) == rv_ram_digest(&b->ram);
        if (!same) {
            uint64_t at = before.rip + before.seg[RV_CS].base;
            fprintf(stderr, "seed %llu, %u bits, instruction %u: results %d and %d %s\n  bytes",
                    (unsigned long long)first, bits, i, ra, rb, rb < 0 ? err.msg : "");
            for (unsigned n = 0; n < 15 && at + n < RV_RAM_MIN; n++)
                fprintf(stderr, " %02x", a->ram.host[at + n]);
            fprintf(stderr, "\n");
            show("before", &before);
            show("interpret", &y);
            show("kvm", &z);
            return false;
        }
        if (ra != RV_RUN_UNTIL) break;
    }
    return true;
}

bool fuzz_engines(uint64_t seed, unsigned sequences, unsigned bits, struct rv_kvm_counts *counts) {
    struct side a, b;
    bool ok = side_begin(&a, &rv_engine_interpret);
    ok = side_begin(&b, &rv_engine_kvm) && ok;
    unsigned bad = 0;
    for (unsigned n = 0; ok && n < sequences && bad < 8; n++)
        bad += !sequence(&a, &b, seed + n, bits);
    if (ok) *counts = rv_kvm_counts(b.e);
    side_finish(&a);
    side_finish(&b);
    return ok && !bad;
}
