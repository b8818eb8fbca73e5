/* Cases: instructions found by decoding random bytes from all opcode maps, with operands that sit
 * at the edges of their types, addresses that mostly hit the window, and random flags. */
#include <string.h>

#include "oracle.h"

uint64_t or_random(struct or_random *r) {
    /* splitmix64: any seed is good, and the same seed gives the same cases everywhere. */
    uint64_t z = (r->s += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static unsigned pick(struct or_random *r, unsigned n) { return (unsigned)(or_random(r) >> 32) % n; }
static bool chance(struct or_random *r, unsigned one_in) { return pick(r, one_in) == 0; }

/* ---- operand values ---- */

static const uint64_t edges[] = {
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x10000,
    0x7fffffff,
    0x80000000,
    0xffffffff,
    0x100000000,
    0x7fffffffffffffff,
    0x8000000000000000,
    0xffffffffffffffff,
    0xfffffffffffffffe,
    0xffffffff80000000,
    0x0101010101010101,
    0x8080808080808080,
    0x7fff8000ffff0001,
    0x5555555555555555,
};
static const uint32_t singles[] = {
    0,          0x80000000, 1,          0x007fffff, 0x00800000, 0x00800001, 0x7f7fffff,
    0xff7fffff, 0x7f800000, 0xff800000, 0x7f800001, 0x7fc00000, 0xffc12345, 0x3f800000,
    0xbf800000, 0x3f800001, 0x3effffff, 0x4f000000, 0xcf000000, 0x4effffff, 0x5f000000,
    0x33800000, 0x40490fdb, 0x3fc00000, 0x80000001,
};
static const uint64_t doubles[] = {
    0,
    0x8000000000000000,
    1,
    0x000fffffffffffff,
    0x0010000000000000,
    0x7fefffffffffffff,
    0xffefffffffffffff,
    0x7ff0000000000000,
    0xfff0000000000000,
    0x7ff0000000000001,
    0x7ff8000000000000,
    0xfff8123456789abc,
    0x3ff0000000000000,
    0xbff0000000000000,
    0x3ff0000000000001,
    0x41e0000000000000,
    0xc1e0000000000000,
    0x41dfffffffc00000,
    0x43e0000000000000,
    0xc3e0000000000000,
    0x3ca0000000000000,
    0x400921fb54442d18,
    0x3810000000000000,
    0x380fffffe0000000,
    0x47efffffe0000000,
    0x3690000000000000,
    0x8000000000000001,
    0x3fe0000000000000,
};
static const struct {
    uint64_t mantissa;
    uint16_t exponent;
} extendeds[] = {
    {0, 0},
    {0, 0x8000},
    {1, 0},
    {0x7fffffffffffffff, 0},
    {0x8000000000000000, 0},
    {0x8000000000000000, 1},
    {0xffffffffffffffff, 0x7ffe},
    {0x8000000000000000, 0x7fff},
    {0x8000000000000000, 0xffff},
    {0x8000000000000001, 0x7fff},
    {0xc000000000000000, 0x7fff},
    {0xc000000000000000, 0xffff},
    {0x8000000000000000, 0x3fff},
    {0x8000000000000000, 0xbfff},
    {0x8000000000000001, 0x3fff},
    {0x4000000000000000, 0x3fff},
    {0x0000000000000001, 0x7fff},
    {0xc90fdaa22168c235, 0x4000},
    {0x8000000000000000, 0x403e},
    {0x8000000000000000, 0xc03e},
    {0xffffff0000000000, 0x407e},
    {0x8000000000000000, 0x3f80},
    {0xfffffffffffff800, 0x43fe},
    {0x8000000000000000, 0x3c00},
    {0xde0b6b3a763ffff0, 0x4037},
};

static const uint16_t halves[] = {
    0,      0x8000, 1,      0x03ff, 0x0400, 0x7bff, 0xfbff, 0x7c00,
    0xfc00, 0x7c01, 0x7e00, 0xfe12, 0x3c00, 0xbc00, 0x3c01, 0x3555,
};

static uint64_t integer(struct or_random *r) {
    switch (pick(r, 4)) {
    case 0: return or_random(r);
    case 1: return pick(r, 256);
    default: return edges[pick(r, RV_COUNT(edges))];
    }
}

static void fill16(struct or_random *r, uint8_t *p) {
    unsigned kind = pick(r, 7);
    for (unsigned b = 0; b < 16; b += 4) {
        uint32_t v = chance(r, 6) ? (uint32_t)or_random(r) : singles[pick(r, RV_COUNT(singles))];
        memcpy(p + b, &v, 4);
    }
    if (kind == 0 || kind == 1)
        for (unsigned b = 0; b < 16; b += 8) {
            uint64_t v = chance(r, 6) ? or_random(r) : doubles[pick(r, RV_COUNT(doubles))];
            memcpy(p + b, &v, 8);
        }
    if (kind == 2)
        for (unsigned b = 0; b < 16; b += 8) {
            uint64_t v = integer(r);
            memcpy(p + b, &v, 8);
        }
    if (kind == 4)
        for (unsigned b = 0; b < 16; b += 2) {
            uint16_t v = chance(r, 6) ? (uint16_t)or_random(r) : halves[pick(r, RV_COUNT(halves))];
            memcpy(p + b, &v, 2);
        }
    if (kind == 3) /* text for the string instructions */
        for (unsigned b = 0; b < 16; b++) p[b] = chance(r, 12) ? 0 : (uint8_t)('a' + pick(r, 4));
}

static void extended(struct or_random *r, uint8_t *p) {
    unsigned n = pick(r, RV_COUNT(extendeds));
    uint64_t m = extendeds[n].mantissa;
    uint16_t e = extendeds[n].exponent;
    if (chance(r, 3)) {
        m = or_random(r) | 1ull << 63;
        e = (uint16_t)(0x3fff - 70 + (int)pick(r, 140)) | (chance(r, 2) ? 0x8000 : 0);
    }
    if (chance(r, 20)) e = (uint16_t)or_random(r);
    memcpy(p, &m, 8);
    memcpy(p + 8, &e, 2);
}

/* ---- the FPU's state ---- */

static void put16(uint8_t *p, unsigned v) {
    uint16_t w = (uint16_t)v;
    memcpy(p, &w, 2);
}

static void fpu(struct or_random *r, uint8_t *fx) {
    memset(fx, 0, 512);
    unsigned fcw = 0x37f, fsw = pick(r, 8) << 11;
    if (chance(r, 3)) fcw = 0x040 | pick(r, 4) << 8 | pick(r, 4) << 10 | 0x3f;
    if (chance(r, 10)) fcw &= ~pick(r, 64);
    fsw |= (unsigned)or_random(r) & 0x4700;
    if (chance(r, 2)) fsw |= pick(r, 64) & fcw;
    if (chance(r, 30)) fsw |= pick(r, 64); /* an unmasked exception may be pending */
    if (fsw & ~fcw & 0x3f) fsw |= 0x8080;
    put16(fx, fcw);
    put16(fx + 2, fsw);
    fx[4] = chance(r, 3) ? (uint8_t)or_random(r) : chance(r, 8) ? 0 : 0xff;
    for (unsigned n = 0; n < 8; n++) extended(r, fx + 32 + 16 * n);
    uint32_t mxcsr = 0x1f80;
    if (chance(r, 2))
        mxcsr |= (pick(r, 4) << 13) | (chance(r, 3) ? 0x8000 : 0) | (chance(r, 3) ? 0x40 : 0) |
                 pick(r, 64);
    if (chance(r, 8)) mxcsr &= ~(pick(r, 64) << 7);
    memcpy(fx + 24, &mxcsr, 4);
    for (unsigned n = 0; n < 16; n++) fill16(r, fx + 160 + 16 * n);
}

static void upper_halves(struct or_random *r, uint8_t *ymmh) {
    memset(ymmh, 0, 256);
    for (unsigned n = 0; n < 256 && !chance(r, 64); n += 16) fill16(r, ymmh + n);
}

/* ---- instructions ---- */

static ZydisDecoder decoder;

/* What v3 adds to v2. */
static bool is_v3(const ZydisDecodedInstruction *z) {
    if (z->mnemonic == ZYDIS_MNEMONIC_VPCLMULQDQ) return false; /* Zydis counts it as AVX */
    switch (z->meta.isa_ext) {
    case ZYDIS_ISA_EXT_AVX:
    case ZYDIS_ISA_EXT_AVX2:
    case ZYDIS_ISA_EXT_AVX2GATHER:
    case ZYDIS_ISA_EXT_BMI1:
    case ZYDIS_ISA_EXT_BMI2:
    case ZYDIS_ISA_EXT_F16C:
    case ZYDIS_ISA_EXT_FMA:
    case ZYDIS_ISA_EXT_LZCNT:
    case ZYDIS_ISA_EXT_MOVBE: return true;
    default: return false;
    }
}

static bool offered(const struct or_case *k) {
    const ZydisDecodedInstruction *z = &k->z;
    switch (z->meta.isa_ext) {
    case ZYDIS_ISA_EXT_BASE:
    case ZYDIS_ISA_EXT_X87:
    case ZYDIS_ISA_EXT_MMX:
    case ZYDIS_ISA_EXT_SSE:
    case ZYDIS_ISA_EXT_SSE2:
    case ZYDIS_ISA_EXT_SSE3:
    case ZYDIS_ISA_EXT_SSSE3:
    case ZYDIS_ISA_EXT_SSE4:
    case ZYDIS_ISA_EXT_XSAVE:
    case ZYDIS_ISA_EXT_PAUSE:
    case ZYDIS_ISA_EXT_CLFSH: return true;
    case ZYDIS_ISA_EXT_LONGMODE: return true;
    default: return k->profile->v3 && is_v3(z);
    }
}

/* What cannot run natively under a tracing process, or depends on the host's system state. */
static bool excluded(const ZydisDecodedInstruction *z) {
    switch (z->meta.category) {
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_IO:
    case ZYDIS_CATEGORY_IOSTRINGOP:
    case ZYDIS_CATEGORY_SEGOP: return true;
    default: break;
    }
    if (z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) return true;
    if (z->attributes &
        (ZYDIS_ATTRIB_IS_PRIVILEGED | ZYDIS_ATTRIB_HAS_SEGMENT_FS | ZYDIS_ATTRIB_HAS_SEGMENT_GS))
        return true;
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDPMC:
    case ZYDIS_MNEMONIC_XGETBV:
    case ZYDIS_MNEMONIC_XSETBV:
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
    case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_SYSEXIT:
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_STR:
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_SMSW:
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT: return true;
    case ZYDIS_MNEMONIC_MOV: return z->raw.modrm.offset && (z->opcode == 0x8e || z->opcode == 0x8c);
    case ZYDIS_MNEMONIC_POP:
    case ZYDIS_MNEMONIC_PUSH:
        return z->opcode == 0xa1 || z->opcode == 0xa9 || z->opcode == 0xa0 || z->opcode == 0xa8;
    default: return false;
    }
}

static void bytes(struct or_random *r, uint8_t *code) {
    unsigned n = 0;
    uint64_t v[2] = {or_random(r), or_random(r)};
    if (chance(r, 4)) code[n++] = 0x66;
    if (chance(r, 24)) code[n++] = 0x67;
    if (chance(r, 32)) code[n++] = 0xf0;
    if (chance(r, 6))
        code[n++] = 0xf3;
    else if (chance(r, 6))
        code[n++] = 0xf2;
    if (chance(r, 2)) code[n++] = (uint8_t)(0x40 | pick(r, 16));
    unsigned map = pick(r, 20);
    uint8_t opcode = (uint8_t)pick(r, 256);
    static const uint8_t groups[] = {0xae, 0xae, 0xc7, 0x71, 0x72, 0x73, 0xd7, 0xf7};
    if (map >= 10 && map < 15 && chance(r, 12)) opcode = groups[pick(r, RV_COUNT(groups))];
    if (map < 3) {
        opcode = (uint8_t)(0xd8 | pick(r, 8));
    } else if (map >= 10) {
        code[n++] = 0x0f;
        if (map >= 17) {
            code[n++] = map == 17 ? 0x38 : 0x3a;
            opcode &= chance(r, 8) ? 0xff : 0x7f;
        } else if (map >= 15) {
            code[n++] = 0x38;
            opcode &= chance(r, 4) ? 0xff : 0x3f;
        }
    }
    code[n++] = opcode;
    memcpy(code + n, v, (size_t)(OR_INSN_MAX - n));
    if (chance(r, 3)) code[n] |= 0xc0;
}

/* VEX: two or three bytes before the opcode, for the maps 0F, 0F38 and 0F3A. */
static void vex_bytes(struct or_random *r, uint8_t *code) {
    unsigned n = 0, map = 1 + pick(r, 3);
    uint64_t v[2] = {or_random(r), or_random(r)};
    if (chance(r, 24)) code[n++] = 0x67;
    /* vvvv is inverted: all ones when there is no such operand. */
    uint8_t w_vvvv_l_pp = (uint8_t)or_random(r);
    if (chance(r, 3)) w_vvvv_l_pp |= 0x78;
    if (map == 1 && chance(r, 2)) {
        code[n++] = 0xc5;
        code[n++] = w_vvvv_l_pp;
    } else {
        code[n++] = 0xc4;
        code[n++] = (uint8_t)(pick(r, 8) << 5 | map);
        code[n++] = w_vvvv_l_pp;
    }
    code[n] = (uint8_t)pick(r, 256);
    if (map == 2 && chance(r, 8)) code[n] = (uint8_t)(0xf0 | pick(r, 8)); /* BMI */
    bool gather = map == 2 && chance(r, 12);
    if (gather) code[n] = (uint8_t)(0x90 | pick(r, 4));
    if (map == 2 && chance(r, 16)) code[n] = (uint8_t)((chance(r, 2) ? 0x2c : 0x8c) | pick(r, 4));
    if (map == 1 && chance(r, 32)) code[n] = 0x77; /* VZEROALL, VZEROUPPER */
    n++;
    memcpy(code + n, v, (size_t)(OR_INSN_MAX - n));
    if (gather)
        code[n] = (uint8_t)((code[n] & 0x38) | pick(r, 3) << 6 | 4); /* only with SIB */
    else if (chance(r, 3))
        code[n] |= 0xc0;
}

/* MOVBE; LZCNT and TZCNT; XSAVE and XRSTOR, which have a component more. */
static void other_v3_bytes(struct or_random *r, uint8_t *code) {
    unsigned n = 0, kind = pick(r, 3);
    uint64_t v[2] = {or_random(r), or_random(r)};
    if (kind < 2 && chance(r, 3)) code[n++] = 0x66;
    if (chance(r, 24)) code[n++] = 0x67;
    if (kind == 1) code[n++] = 0xf3;
    if (chance(r, 2)) code[n++] = (uint8_t)(0x40 | pick(r, 16));
    code[n++] = 0x0f;
    if (kind == 0) code[n++] = 0x38;
    static const uint8_t opcodes[] = {0xf0, 0xbc, 0xae};
    code[n++] = (uint8_t)(opcodes[kind] | (kind < 2 ? pick(r, 2) : 0));
    memcpy(code + n, v, (size_t)(OR_INSN_MAX - n));
    if (kind == 2) code[n] = (uint8_t)((code[n] & 0xc7) | (4 + pick(r, 2)) << 3);
}

static bool decode(struct or_case *k) {
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, k->code, sizeof k->code, &k->z, k->op)))
        return false;
    /* SIB base 5 under mod 0 is no base, also with REX.B and 32-bit addresses, where Zydis 4.0
     * names R13D. */
    const ZydisDecodedInstruction *z = &k->z;
    bool none = z->raw.modrm.mod == 0 && z->raw.modrm.rm == 4 && z->raw.sib.base == 5;
    for (unsigned n = 0; none && n < z->operand_count_visible; n++)
        if (k->op[n].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            k->op[n].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
            k->op[n].mem.base = ZYDIS_REGISTER_NONE;
    return true;
}

/* Which bytes an instruction is looked for in. */
enum family { LEGACY, VEX, OTHER_V3 };
static enum family family(struct or_random *r, const struct or_case *k) {
    if (!k->profile->v3 || !chance(r, 3)) return LEGACY;
    return chance(r, 12) ? OTHER_V3 : VEX;
}

static bool next_instruction(struct or_random *r, struct or_case *k, enum family f,
                             const char *filter) {
    static void (*const find[])(struct or_random *, uint8_t *) = {
        [LEGACY] = bytes, [VEX] = vex_bytes, [OTHER_V3] = other_v3_bytes};
    find[f](r, k->code);
    if (!decode(k)) return false;
    if (k->z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
        k->z.encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
        return false;
    if (!offered(k) || excluded(&k->z)) return false;
    if (filter && strcmp(filter, ZydisMnemonicGetString(k->z.mnemonic))) return false;
    return true;
}

/* Makes of a VEX instruction one that the processor does not know, which has to raise #UD: by a
 * vvvv, L or W that it does not take, by a prefix that may not stand before VEX, or by a gather's
 * registers being the same. True when it did. */
static bool spoil(struct or_random *r, struct or_case *k) {
    static const uint8_t prefixes[] = {0x66, 0xf0, 0xf2, 0xf3, 0x40, 0x48};
    uint8_t good[OR_INSN_MAX];
    ZydisDecodedInstruction z;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    memcpy(good, k->code, sizeof good);
    bool prefixed = k->code[0] == 0x67;
    uint8_t longer = 0;
    uint8_t *vex = k->code + prefixed, *last = vex + (*vex == 0xc4 ? 2 : 1);
    if ((*vex & 0xfe) != 0xc4) return false; /* other prefixes */
    switch (pick(r, 4)) {
    case 0: *last ^= (uint8_t)(pick(r, 15) + 1) << 3; break;
    case 1: *last ^= 4; break;
    case 2:
        if (*vex == 0xc4) *last ^= 0x80;
        break;
    default:
        memmove(k->code + prefixed + 1, good + prefixed, (size_t)(OR_INSN_MAX - 1 - prefixed));
        k->code[prefixed] = prefixes[pick(r, RV_COUNT(prefixes))];
        longer = 1;
    }
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, k->code, sizeof k->code, &z, op))) {
        k->z.length += longer;
        return true;
    }
    memcpy(k->code, good, sizeof good);
    return false;
}

/* ---- addresses ---- */

bool or_masked(const struct or_case *k) {
    switch (k->z.mnemonic) {
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ: return true;
    default: return false;
    }
}

static uint64_t target(struct or_random *r, const struct or_case *k, unsigned size) {
    bool lock = k->z.attributes & ZYDIS_ATTRIB_HAS_LOCK;
    unsigned align = size >= 512 ? 64 : size == 32 ? 32 : 16;
    uint64_t at = 0x100 + pick(r, OR_DATA_SIZE - 0x800);
    if (lock || !chance(r, 4)) at &= ~(uint64_t)(align - 1);
    if (lock) return OR_DATA + at;
    if (or_masked(k) && !chance(r, 3))
        at = (chance(r, 2) ? OR_WINDOW : OR_DATA_SIZE) - pick(r, size + 1); /* over the ends */
    else if (or_masked(k) && chance(r, 2))
        at = 0 - (uint64_t)pick(r, size + 1);
    else if (chance(r, 20))
        at = OR_DATA_SIZE + 0x100 + (pick(r, 0x800) & ~15u); /* read-only */
    else if (chance(r, 24))
        at = 0x2000 - pick(r, size + 1); /* over a page's end */
    else if (chance(r, 40))
        at = OR_DATA_SIZE - pick(r, size + 1); /* into the read-only one */
    else if (chance(r, 40))
        at = OR_WINDOW - pick(r, size + 17); /* over the end */
    else if (chance(r, 40))
        at = 0 - (uint64_t)pick(r, size + 17); /* before the start */
    return OR_DATA + at;
}

static int number(ZydisRegister reg) {
    ZydisRegister full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    return full >= ZYDIS_REGISTER_RAX && full <= ZYDIS_REGISTER_R15
               ? (int)(full - ZYDIS_REGISTER_RAX)
               : -1;
}

/* Sets registers, or the displacement, so that the explicit operand lies at k->target. */
static void aim(struct or_random *r, struct or_case *k) {
    const ZydisDecodedOperand *m = k->memory;
    uint64_t *gpr = k->in.gpr, t = k->target;
    int base = number(m->mem.base), index = number(m->mem.index);
    unsigned scale = index >= 0 ? m->mem.scale : 0;
    int64_t disp = m->mem.disp.has_displacement ? m->mem.disp.value : 0;
    if (m->mem.base == ZYDIS_REGISTER_RIP || m->mem.base == ZYDIS_REGISTER_EIP || base < 0) {
        uint64_t from = base < 0 && m->mem.base != ZYDIS_REGISTER_NONE ? OR_CODE + k->z.length : 0;
        if (index >= 0) gpr[index] = pick(r, 64);
        uint64_t d = t - from - (index >= 0 ? gpr[index] * scale : 0);
        if (k->z.raw.disp.size == 32) memcpy(k->code + k->z.raw.disp.offset, &d, 4);
        if (k->z.raw.disp.size == 64) memcpy(k->code + k->z.raw.disp.offset, &d, 8);
        decode(k);
        return;
    }
    if (base == index) {
        /* One register for both: solve for it as far as the factor divides. */
        gpr[base] = (t - (uint64_t)disp) / (scale + 1);
        k->target = gpr[base] * (scale + 1) + (uint64_t)disp;
        return;
    }
    if (index >= 0) gpr[index] = chance(r, 4) ? 0 - (uint64_t)pick(r, 64) : pick(r, 64);
    gpr[base] = t - (uint64_t)disp - (index >= 0 ? gpr[index] * scale : 0);
    if (k->z.address_width == 32) {
        gpr[base] = (uint32_t)gpr[base];
        if (chance(r, 2)) gpr[base] |= or_random(r) << 32; /* must be ignored */
    }
}

/* Gives a register another value, after the explicit operand was aimed with it. */
static void change(struct or_case *k, int reg, uint64_t value) {
    const ZydisDecodedOperandMem *m = &k->memory->mem;
    uint64_t times = (number(m->base) == reg) + (number(m->index) == reg ? m->scale : 0u);
    k->target += times * (value - k->in.gpr[reg]);
    if (k->z.address_width == 32) k->target = (uint32_t)k->target;
    k->in.gpr[reg] = value;
}

/* Registers that hidden operands point with, and the few that would go far astray. */
static void implied(struct or_random *r, struct or_case *k) {
    uint64_t *gpr = k->in.gpr;
    static const uint8_t pointers[] = {3, 5, 6, 7}; /* rbx, rbp, rsi, rdi */
    for (unsigned n = 0; n < k->z.operand_count; n++) {
        const ZydisDecodedOperand *o = &k->op[n];
        if (o->type != ZYDIS_OPERAND_TYPE_MEMORY || o == k->memory) continue;
        for (unsigned p = 0; p < RV_COUNT(pointers); p++)
            if (number(o->mem.base) == pointers[p])
                gpr[pointers[p]] = target(r, k, o->size / 8u + 32);
    }
    if (k->z.mnemonic == ZYDIS_MNEMONIC_ENTER) gpr[5] = target(r, k, 256);
    gpr[4] = chance(r, 12) ? target(r, k, 32) : (OR_DATA + 0x800 + pick(r, 0x2000)) & ~7ull;
    if (k->z.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
        gpr[1] = chance(r, 4) ? 0 : pick(r, 40);
}

/* ---- vector registers with a meaning ---- */

static void set_element(struct or_case *k, int reg, unsigned n, unsigned size, uint64_t v) {
    unsigned at = n * size;
    uint8_t *p = at < 16 ? k->in.fx + 160 + 16 * reg + at : k->in.ymmh + 16 * reg + at - 16;
    memcpy(p, &v, size);
}

static uint64_t element(const struct or_case *k, int reg, unsigned n, unsigned size) {
    unsigned at = n * size;
    uint64_t v = 0;
    memcpy(&v, at < 16 ? k->in.fx + 160 + 16 * reg + at : k->in.ymmh + 16 * reg + at - 16, size);
    return v;
}

/* A mask with its elements' top bits set one time in a few: all, none or most of them. */
static void mask_elements(struct or_random *r, struct or_case *k, int reg, unsigned size) {
    unsigned clear = pick(r, 4);
    for (unsigned n = 0; n < 32 / size; n++) {
        uint64_t top = 1ull << (8 * size - 1), v = element(k, reg, n, size) & ~top;
        set_element(k, reg, n, size, pick(r, 4) < clear ? v : v | top);
    }
}

/* Masks for what lies at the window's ends: mostly the elements that are in it. */
static void mask_at_end(struct or_random *r, struct or_case *k) {
    bool load = k->memory == &k->op[2];
    int reg = ZydisRegisterGetId(k->op[1].reg.value);
    unsigned size =
        k->z.mnemonic == ZYDIS_MNEMONIC_VMASKMOVPS || k->z.mnemonic == ZYDIS_MNEMONIC_VPMASKMOVD
            ? 4
            : 8;
    mask_elements(r, k, reg, size);
    if (chance(r, 3)) return;
    uint64_t end = OR_DATA + (load ? OR_WINDOW : OR_DATA_SIZE), top = 1ull << (8 * size - 1);
    for (unsigned n = 0; n < 32 / size; n++) {
        uint64_t at = k->target + (uint64_t)n * size;
        if (at < OR_DATA || at + size > end)
            set_element(k, reg, n, size, element(k, reg, n, size) & ~top);
    }
}

/* Indices that hit the window, but for one now and then, and some of the mask. */
static void gather(struct or_random *r, struct or_case *k) {
    bool dwords =
        k->z.mnemonic == ZYDIS_MNEMONIC_VGATHERDPS || k->z.mnemonic == ZYDIS_MNEMONIC_VGATHERDPD ||
        k->z.mnemonic == ZYDIS_MNEMONIC_VPGATHERDD || k->z.mnemonic == ZYDIS_MNEMONIC_VPGATHERDQ;
    int index = ZydisRegisterGetId(k->memory->mem.index),
        mask = ZydisRegisterGetId(k->op[2].reg.value);
    unsigned size = dwords ? 4 : 8;
    /* Where nothing is on the host either: the sanitizers' shadow begins below 2 GiB. The last one
     * is for addresses of 64 bits. */
    static const uint64_t astray[] = {
        0x1000,    0x4000,         0xffffffffffffe000, 0x1000000000000000,
        0x4000000, 0x800000000000, 0xffffffff80000000,
    };
    unsigned stray = RV_COUNT(astray) - (k->z.address_width == 32);
    for (unsigned n = 0; n < 32 / size; n++) {
        uint64_t v = pick(r, 256);
        if (chance(r, 4)) v = 0 - (uint64_t)pick(r, 32);
        if (chance(r, 24)) v = astray[pick(r, stray)];
        set_element(k, index, n, size, v);
    }
    bool wide =
        k->z.mnemonic == ZYDIS_MNEMONIC_VGATHERDPD || k->z.mnemonic == ZYDIS_MNEMONIC_VGATHERQPD ||
        k->z.mnemonic == ZYDIS_MNEMONIC_VPGATHERDQ || k->z.mnemonic == ZYDIS_MNEMONIC_VPGATHERQQ;
    mask_elements(r, k, mask, wide ? 8 : 4);
}

/* BEXTR's and BZHI's third operand: a position and a length that are mostly in the operand. */
static void bit_field(struct or_random *r, struct or_case *k) {
    int reg = number(k->op[2].reg.value);
    if (reg < 0 || chance(r, 4)) return;
    k->in.gpr[reg] = pick(r, 80) | pick(r, 80) << 8;
    if (k->memory) aim(r, k);
}

static void xsave_area(struct or_random *r, struct or_case *k, uint8_t *area) {
    fpu(r, area);
    memset(area + 512, 0, 64);
    area[512] = (uint8_t)pick(r, k->profile->v3 ? 8 : 4);
    /* Never bit 63 of XCOMP_BV, the compacted form: the host may know it. */
    if (chance(r, 16)) area[513 + pick(r, 20)] = 0x40;
    if (k->profile->v3) upper_halves(r, area + 576);
}

static void special_cases(struct or_random *r, struct or_case *k) {
    uint64_t *gpr = k->in.gpr;
    if (or_masked(k)) mask_at_end(r, k);
    if (k->memory && k->memory->mem.type == ZYDIS_MEMOP_TYPE_VSIB) gather(r, k);
    switch (k->z.mnemonic) {
    case ZYDIS_MNEMONIC_BEXTR:
    case ZYDIS_MNEMONIC_BZHI: bit_field(r, k); break;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS: {
        int bit = k->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER ? number(k->op[1].reg.value) : -1;
        if (k->memory && bit >= 0 && bit != number(k->memory->mem.base) &&
            bit != number(k->memory->mem.index)) {
            gpr[bit] = (uint64_t)(int64_t)(int)(pick(r, 0x4000) - 0x2000);
            if (k->z.attributes & ZYDIS_ATTRIB_HAS_LOCK) gpr[bit] &= 63;
        } else if (k->memory && bit >= 0) {
            k->z.mnemonic = ZYDIS_MNEMONIC_INVALID; /* the register is part of the address */
        }
        break;
    }
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFQ: {
        /* TF, NT, AC and what only the kernel may set stay clear: we have to live with them. */
        uint64_t v = or_random(r) & 0xcd5, at = gpr[4] - OR_DATA;
        gpr[4] = OR_DATA + (at & 0x1ff8);
        memcpy(k->mem + (at & 0x1ff8), &v, 8);
        break;
    }
    case ZYDIS_MNEMONIC_ENTER:
        k->code[k->z.raw.imm[0].offset + 1] = 0;
        decode(k);
        break;
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
        change(k, 0, pick(r, k->profile->v3 ? 8 : 4));
        change(k, 2, 0);
        if (k->target - OR_DATA <= OR_WINDOW - 832)
            xsave_area(r, k, k->mem + (k->target - OR_DATA));
        break;
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
        if (k->target >= OR_DATA && k->target + 512 <= OR_DATA + OR_WINDOW) {
            uint8_t *area = k->mem + (k->target - OR_DATA);
            fpu(r, area);
            put16(area, (unsigned)or_random(r));
            put16(area + 2, (unsigned)or_random(r));
            if (chance(r, 8)) area[26] = 1; /* a reserved bit of MXCSR */
        }
        break;
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
        if (k->target >= OR_DATA && k->target + 4 <= OR_DATA + OR_WINDOW && !chance(r, 4))
            memset(k->mem + (k->target - OR_DATA) + 2, 0, 2);
        break;
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_VPCMPESTRI:
    case ZYDIS_MNEMONIC_VPCMPESTRM:
        gpr[0] = chance(r, 4) ? integer(r) : pick(r, 20);
        gpr[2] = chance(r, 4) ? integer(r) : pick(r, 20);
        if (k->memory) aim(r, k);
        break;
    default: break;
    }
}

/* LZCNT and TZCNT are decoded as such under any profile: without them they are left out, for the
 * host may have them. */
void or_prepare(struct or_random *r, struct or_case *k, const struct rv_profile *profile) {
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_LZCNT, ZYAN_TRUE);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_TZCNT, ZYAN_TRUE);
    memset(k, 0, sizeof *k);
    k->profile = profile;
    for (unsigned n = 0; n < OR_WINDOW; n += 16) fill16(r, k->mem + n);
}

static unsigned operand_size(const struct or_case *k) {
    unsigned size = k->memory->size / 8u;
    if (size >= 576 && k->profile->v3)
        return 832; /* XSAVE: Zydis knows only the first components */
    return size ? size : 1;
}

void or_generate(struct or_random *r, struct or_case *k, const char *filter) {
    do {
        enum family f = family(r, k);
        while (!next_instruction(r, k, f, filter))
            if (filter) f = family(r, k); /* it may be in any */
        for (unsigned n = 0; n < 16; n++) k->in.gpr[n] = integer(r);
        fpu(r, k->in.fx);
        if (k->profile->v3) upper_halves(r, k->in.ymmh);
        k->in.rip = OR_CODE;
        k->in.rflags = 0x202 | (or_random(r) & 0x8d5) | (chance(r, 6) ? 0x400 : 0);
        k->memory = NULL;
        k->target = 0;
        if (f == VEX && chance(r, 24) && spoil(r, k)) return;
        for (unsigned n = 0; n < k->z.operand_count_visible; n++)
            if (k->op[n].type == ZYDIS_OPERAND_TYPE_MEMORY &&
                k->op[n].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
                k->memory = &k->op[n];
        implied(r, k);
        if (k->memory) {
            k->target = target(r, k, operand_size(k));
            aim(r, k);
            uint64_t at = k->target - OR_DATA;
            if (at < OR_DATA_SIZE - 32) {
                fill16(r, k->mem + at);
                fill16(r, k->mem + at + 16);
                if (k->memory->size == 80) extended(r, k->mem + at);
            }
        }
        special_cases(r, k);
    } while (k->z.mnemonic == ZYDIS_MNEMONIC_INVALID);
}
