/* Random programs of a few instructions, run by two engines from the same state: every instruction
 * that the generator knows, with operands in, at the edge of and outside of memory, jumps from one
 * to another, faults in the middle, and a stop at any count. Everything must agree, whatever the
 * architecture leaves undefined: both run on this host. */
#include <stdio.h>
#include <string.h>

#include "side.h"

static unsigned pick(struct or_random *r, unsigned n) {
    return (unsigned)((or_random(r) >> 32) * n >> 32);
}

static int number(ZydisRegister reg) {
    ZydisRegister full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    return full >= ZYDIS_REGISTER_RAX && full <= ZYDIS_REGISTER_R15
               ? (int)(full - ZYDIS_REGISTER_RAX)
               : -1;
}

uint64_t or_program_address(const struct or_program *p, unsigned off) {
    return off < p->far ? OR_CODE + p->place + off : OR_FAR + off - p->far;
}

/* MOV r64, imm64 */
static void load(struct or_program *p, int reg, uint64_t v) {
    p->at[p->insns++] = p->len;
    p->code[p->len++] = (uint8_t)(0x48 | reg >> 3);
    p->code[p->len++] = (uint8_t)(0xb8 | (reg & 7));
    memcpy(p->code + p->len, &v, 8);
    p->len += 8;
}

static void put(struct or_program *p, const uint8_t *code, unsigned len) {
    p->at[p->insns++] = p->len;
    memcpy(p->code + p->len, code, len);
    p->len += len;
}
#define PUT(p, ...) put(p, (const uint8_t[]){__VA_ARGS__}, sizeof(uint8_t[]){__VA_ARGS__})

#define ROOM 7 /* instructions that one case may become */

/* VPSRLD or VPSRLQ of a gather's index register, which mostly holds nothing that hits memory. */
static void small_indices(struct or_program *p, const struct or_case *k) {
    unsigned reg = (unsigned)ZydisRegisterGetId(k->memory->mem.index);
    bool dwords = k->z.opcode == 0x90 || k->z.opcode == 0x92;
    PUT(p, 0xc4, (uint8_t)(reg < 8 ? 0xe1 : 0xc1), (uint8_t)((~reg & 15) << 3 | 5),
        dwords ? 0x72 : 0x73, (uint8_t)(0xd0 | (reg & 7)), dwords ? 26 : 58);
}

/* What can be divided by much: random dividends are too big for nearly anything. */
static void small_dividend(struct or_random *r, struct or_program *p) {
    uint64_t low = or_random(r) >> pick(r, 64);
    load(p, RV_RAX, low);
    load(p, RV_RDX, pick(r, 4) ? 0 : pick(r, 2) ? (uint64_t)((int64_t)low >> 63) : pick(r, 4));
}

static void append(struct or_random *r, struct or_program *p, const struct or_case *k) {
    unsigned loaded = 0;
    bool divides = k->z.mnemonic == ZYDIS_MNEMONIC_DIV || k->z.mnemonic == ZYDIS_MNEMONIC_IDIV;
    if (divides && pick(r, 4)) small_dividend(r, p);
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
    if (k->memory && k->memory->mem.type == ZYDIS_MEMOP_TYPE_VSIB && pick(r, 8))
        small_indices(p, k);
    p->at[p->insns++] = p->len;
    memcpy(p->code + p->len, k->code, k->z.length);
    if (k->memory &&
        (k->memory->mem.base == ZYDIS_REGISTER_RIP || k->memory->mem.base == ZYDIS_REGISTER_EIP)) {
        /* It was aimed from the page's start. */
        uint32_t disp;
        memcpy(&disp, p->code + p->len + k->z.raw.disp.offset, 4);
        disp -= (uint32_t)(or_program_address(p, p->len) - OR_CODE);
        memcpy(p->code + p->len + k->z.raw.disp.offset, &disp, 4);
    }
    p->len += k->z.length;
}

/* OR byte [page], 0 for each page that can be written, and a jump: the next block finds them in the
 * engine's caches. */
static void touch(struct or_program *p) {
    for (unsigned at = OR_DATA; at < OR_RO; at += RV_PAGE_SIZE)
        PUT(p, 0x80, 0x0c, 0x25, 0, (uint8_t)(at >> 8), (uint8_t)(at >> 16), 0, 0);
    PUT(p, 0xeb, 0);
}

/* An instruction of those that compilers use on the stack, mostly not far from its pointer. */
static void on_stack(struct or_random *r, struct or_program *p) {
    uint8_t reg = (uint8_t)pick(r, 8), rexb = (uint8_t)(0x48 | pick(r, 2)),
            rexr = (uint8_t)(0x48 | pick(r, 2) << 2);
    uint8_t modrm = (uint8_t)(0x44 | reg << 3), disp = (uint8_t)(pick(r, 9) * 8 - 24);
    if (pick(r, 8) == 0) disp = (uint8_t)or_random(r);
    switch (pick(r, 22)) {
    case 0:
    case 1:
    case 2: PUT(p, rexb, 0x50 | reg); break; /* push */
    case 3:
    case 4: PUT(p, rexb, 0x58 | reg); break;               /* pop */
    case 5: PUT(p, 0x6a, disp); break;                     /* push imm */
    case 6: PUT(p, 0x68, 1, 2, 3, disp); break;            /* push imm */
    case 7: PUT(p, 0xff, 0x74, 0x24, disp); break;         /* push [rsp+] */
    case 8: PUT(p, rexr, 0x8b, modrm, 0x24, disp); break;  /* mov reg, [rsp+] */
    case 9: PUT(p, rexr, 0x89, modrm, 0x24, disp); break;  /* mov [rsp+], reg */
    case 10: PUT(p, rexr, 0x01, modrm, 0x24, disp); break; /* add [rsp+], reg */
    case 11: PUT(p, 0x38, modrm, 0x24, disp); break;       /* cmp [rsp+], reg8 */
    case 12: PUT(p, 0x0f, 0xb7, modrm, 0x24, disp); break; /* movzx reg, [rsp+] */
    case 13: PUT(p, 0x0f, 0x10, modrm, 0x24, disp); break; /* movups xmm, [rsp+] */
    case 14: PUT(p, 0x0f, 0x29, modrm, 0x24, disp); break; /* movaps [rsp+], xmm */
    case 15: PUT(p, 0x48, 0x83, 0xec, disp); break;        /* sub rsp, imm */
    case 16: PUT(p, 0x48, 0x83, 0xc4, disp & 0x38); break; /* add rsp, imm */
    case 17: PUT(p, 0x48, 0x8d, 0x64, 0x24, disp); break;  /* lea rsp, [rsp+] */
    case 18:
        PUT(p, 0x48, 0x89, 0xe5); /* mov rbp, rsp */
        PUT(p, 0xc9);             /* leave */
        break;
    case 19: PUT(p, 0xc3); break; /* ret */
    case 20: PUT(p, 0xc2, disp & 0x38, 0); break;
    default: PUT(p, 0xe8, 0, 0, 0, 0); /* call */
    }
}

/* The same for AVX, with some SSE in between, and what compilers put between the two. */
static void avx_on_stack(struct or_random *r, struct or_program *p) {
    uint8_t reg = (uint8_t)pick(r, 8), modrm = (uint8_t)(0x44 | reg << 3);
    uint8_t rr = (uint8_t)(0xc0 | pick(r, 64)), disp = (uint8_t)(pick(r, 9) * 8 - 32);
    /* R, vvvv and L of the two-byte prefix; pp is 0, 1 or 2. */
    uint8_t r_l = (uint8_t)(0xf8 ^ pick(r, 2) << 7 ^ pick(r, 2) << 2),
            any = (uint8_t)(r_l ^ pick(r, 16) << 3);
    switch (pick(r, 14)) {
    case 0: PUT(p, 0xc5, r_l | 2, 0x6f, modrm, 0x24, disp); break; /* vmovdqu reg, [rsp+] */
    case 1: PUT(p, 0xc5, r_l | 2, 0x7f, modrm, 0x24, disp); break; /* vmovdqu [rsp+], reg */
    case 2: PUT(p, 0xc5, r_l | 1, 0x6f, modrm, 0x24, disp); break; /* vmovdqa reg, [rsp+] */
    case 3: PUT(p, 0xc5, r_l, 0x29, modrm, 0x24, disp); break;     /* vmovaps [rsp+], reg */
    case 4: PUT(p, 0xc5, r_l, 0x28, rr); break;                    /* vmovaps reg, reg */
    case 5: PUT(p, 0xc5, r_l, 0x11, modrm, 0x24, disp); break;     /* vmovups [rsp+], reg */
    case 6: PUT(p, 0xc5, any | 1, 0xfe, modrm, 0x24, disp); break; /* vpaddd reg, reg, [rsp+] */
    case 7: PUT(p, 0xc5, any | 1, 0xef, rr); break;                /* vpxor reg, reg, reg */
    case 8: PUT(p, 0xc5, any, 0x58, modrm, 0x24, disp); break;     /* vaddps reg, reg, [rsp+] */
    case 9: PUT(p, 0xc5, any & 0xfb, 0x14, rr); break;             /* vunpcklps xmm */
    case 10: PUT(p, 0x0f, 0x54, rr); break;                        /* andps xmm, xmm */
    case 11: PUT(p, 0x66, 0x0f, 0x6f, rr); break;                  /* movdqa xmm, xmm */
    case 12: PUT(p, 0xc5, 0xfc, 0x77); break;                      /* vzeroall */
    default: PUT(p, 0xc5, 0xf8, 0x77);                             /* vzeroupper */
    }
}

/* An instruction of those that compilers use between registers. */
static void between_registers(struct or_random *r, struct or_program *p) {
    uint8_t rex = (uint8_t)(0x40 | pick(r, 2) << 3 | pick(r, 2) << 2 | pick(r, 2)),
            rm = (uint8_t)pick(r, 8), rr = (uint8_t)(0xc0 | pick(r, 8) << 3 | rm);
    /* Two operands, either way round. */
    static const uint8_t two[] = {0x00, 0x01, 0x02, 0x03, 0x09, 0x11, 0x13, 0x21, 0x23,
                                  0x29, 0x2b, 0x31, 0x33, 0x38, 0x39, 0x3b, 0x63, 0x85,
                                  0x87, 0x88, 0x89, 0x89, 0x8a, 0x8b, 0x8b, 0x8b};
    static const uint8_t two_0f[] = {0x40, 0x42, 0x4c, 0xa3, 0xa5, 0xaf, 0xb3, 0xb6,
                                     0xb7, 0xbc, 0xbd, 0xbe, 0xbf, 0xc0, 0xc1, 0xb1};
    switch (pick(r, 10)) {
    case 0: PUT(p, rex, 0xc1, (uint8_t)(0xc0 | pick(r, 2) << 3 | rm), (uint8_t)pick(r, 70)); break;
    case 1: PUT(p, rex, 0xc1, (uint8_t)(0xe0 | pick(r, 2) << 3 | rm), (uint8_t)pick(r, 70)); break;
    case 2: PUT(p, rex, 0xd3, rr); break;                                     /* shifts by CL */
    case 3: PUT(p, rex, 0xff, (uint8_t)(0xc0 | pick(r, 2) << 3 | rm)); break; /* inc, dec */
    case 4:
        if (pick(r, 2)) {
            small_dividend(r, p);
            PUT(p, rex, 0xf7, (uint8_t)(0xf0 | pick(r, 2) << 3 | rm)); /* div, idiv */
        } else {
            PUT(p, rex, 0xf7, (uint8_t)(0xd0 | pick(r, 4) << 3 | rm)); /* not to imul */
        }
        break;
    case 5: PUT(p, rex, 0x0f, (uint8_t)(0x90 | pick(r, 16)), rr); break; /* setcc */
    case 6:
    case 7: PUT(p, rex, 0x0f, two_0f[pick(r, sizeof two_0f)], rr); break;
    default: PUT(p, rex, two[pick(r, sizeof two)], rr);
    }
}

static uint64_t near_edge(struct or_random *r) {
    uint64_t page = pick(r, 2) ? OR_DATA + RV_PAGE_SIZE * pick(r, 6) : OR_RO;
    if (pick(r, 16) == 0) page |= 1ull << 32;
    return pick(r, 3) ? page - 64 + pick(r, 128) : page + pick(r, RV_PAGE_SIZE);
}

/* A string instruction. */
static void on_string(struct or_random *r, struct or_program *p) {
    static const uint8_t ops[] = {0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa4, 0xab};
    static const uint8_t prefixes[] = {0xf3, 0xf3, 0xf3, 0xf3, 0xf2, 0x64, 0x67};
    static const uint64_t counts[] = {0,          1,          RV_PAGE_SIZE, 1ull << 32,
                                      1ull << 52, 1ull << 61, ~0ull};
    unsigned most = pick(r, 3) ? 40 : 700;
    load(p, RV_RCX, pick(r, 6) ? pick(r, most) : counts[pick(r, RV_COUNT(counts))]);
    load(p, RV_RDI, near_edge(r));
    load(p, RV_RSI, near_edge(r));
    PUT(p, pick(r, 8) ? 0xfc : 0xfd); /* cld, std */
    uint8_t op = ops[pick(r, sizeof ops)], prefix = prefixes[pick(r, sizeof prefixes)];
    switch (pick(r, 8)) {
    case 0: PUT(p, op); break;
    case 1: PUT(p, 0x48, op); break;
    case 4: PUT(p, 0x67, prefix, op); break;
    case 2: PUT(p, 0x66, prefix, op); break;
    case 3: PUT(p, prefix, 0x48, op); break;
    default: PUT(p, prefix, op);
    }
}

/* Near the edge of a page, mostly. */
static uint64_t stack_pointer(struct or_random *r) {
    uint64_t page = OR_DATA + RV_PAGE_SIZE * pick(r, 6);
    uint64_t at = page - 128 + pick(r, 256);
    if (pick(r, 4) == 0) at = page + pick(r, RV_PAGE_SIZE);
    if (pick(r, 4) == 0) return at & ~31ull;
    return pick(r, 8) ? at & ~7ull : at;
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
        int64_t rel = (int64_t)(or_program_address(p, p->at[pick(r, p->insns)]) -
                                or_program_address(p, p->at[n]) - off - size);
        if (size == 1 && rel != (int8_t)rel) continue;
        memcpy(at + off, &rel, size);
    }
}

/* The rest of the program is in another page. */
static void go_far(struct or_program *p) {
    uint32_t rel = (uint32_t)(OR_FAR - or_program_address(p, p->len + 5));
    PUT(p, 0xe9, (uint8_t)rel, (uint8_t)(rel >> 8), (uint8_t)(rel >> 16), (uint8_t)(rel >> 24));
    p->far = p->len;
}

void or_program_generate(struct or_random *r, struct or_program *p) {
    struct or_case k = p->k;
    p->len = p->insns = 0;
    /* Behind the second page there is none. */
    p->place = (pick(r, 3) ? pick(r, 0xc00) : 0xf00 + pick(r, 0x100)) + RV_PAGE_SIZE * pick(r, 2);
    p->far = UINT32_MAX;
    unsigned want = 1 + pick(r, 12), near = pick(r, 3) ? want : pick(r, want);
    bool stack = pick(r, 2), plain = pick(r, 4) == 0, masks = pick(r, 4) == 0;
    if (stack) touch(p);
    for (unsigned n = 0; n < want && p->insns + ROOM + 1 < RV_COUNT(p->at); n++) {
        if (n && n == near) go_far(p);
        or_generate(r, &k, NULL);
        if (n == 0) memcpy(p->k.in.gpr, k.in.gpr, sizeof k.in.gpr);
        if (k.z.mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B && pick(r, 2)) k.in.gpr[RV_RBX] = 0;
        if (masks && pick(r, 3) == 0)
            PUT(p, pick(r, 3) ? 0xfb : 0xfa); /* sti, cli */
        else if (stack && k.profile->v3 && pick(r, 4) == 0)
            avx_on_stack(r, p);
        else if (stack && pick(r, 16) == 0)
            on_string(r, p);
        else if (plain && pick(r, 8))
            between_registers(r, p);
        else if (stack && pick(r, 3))
            on_stack(r, p);
        else
            append(r, p, &k);
    }
    if (stack) p->k.in.gpr[RV_RSP] = stack_pointer(r);
    p->k.in.rflags = k.in.rflags | (masks ? RV_FL_IOPL : 0);
    memcpy(p->k.in.fx, k.in.fx, sizeof k.in.fx);
    memcpy(p->k.in.ymmh, k.in.ymmh, sizeof k.in.ymmh);
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
    memcpy(x.ymmh, p->k.in.ymmh, sizeof x.ymmh);
    x.rip = p->k.in.rip;
    x.rflags = p->k.in.rflags;
    memcpy(g->ram.host + OR_DATA, p->k.mem, OR_WINDOW);
    unsigned far = p->far < p->len ? p->far : p->len, n = far;
    if (n > OR_CODE_SIZE - p->place) n = OR_CODE_SIZE - p->place;
    memset(g->ram.host + OR_CODE, 0xf4, OR_CODE_SIZE);
    memset(g->ram.host + OR_FAR, 0xf4, RV_PAGE_SIZE);
    memcpy(g->ram.host + OR_CODE + p->place, p->code, n);
    memcpy(g->ram.host + OR_FAR, p->code + far, p->len - far);
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
    for (unsigned n = 0; n < sizeof x.ymmh; n += 8)
        if (memcmp(x.ymmh + n, y.ymmh + n, 8)) {
            uint64_t u, v;
            memcpy(&u, x.ymmh + n, 8);
            memcpy(&v, y.ymmh + n, 8);
            snprintf(name, sizeof name, "ymm%u.%u", n / 16, 2 + n / 8 % 2);
            return differ(name, stop, u, v);
        }
    uint64_t u = rv_x86_hash(&x, 0), v = rv_x86_hash(&y, 0);
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
        const char *what = ra != rb
                               ? differ("how it stopped", p->stops[n], (uint64_t)ra, (uint64_t)rb)
                               : compare(a, b, p->stops[n]);
        /* The next program is to begin with the same memory again. */
        if (what) memcpy(b->ram.host, a->ram.host, a->ram.size);
        if (what || ra != RV_RUN_UNTIL) return what;
    }
    return NULL;
}
