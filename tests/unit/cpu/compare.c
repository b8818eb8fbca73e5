/* What has to agree, and what the architecture leaves open. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "oracle.h"
#include "vmm/cpu/interp/decode.h"

/* Flags that are undefined only for some counts or sources, beyond those that Zydis' tables call
 * undefined for every operand. They are masked, not matched. */
static uint32_t undefined_flags(const struct or_case *k) {
    uint32_t u = k->z.cpu_flags ? k->z.cpu_flags->undefined : 0;
    switch (k->z.mnemonic) {
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
        u |= 0x810; /* AF; OF for counts other than 1 */
        break;
    case ZYDIS_MNEMONIC_SBB: return 0; /* Zydis 4.0 has AF undefined */
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
        u |= 0x800; /* OF for counts other than 1 */
        break;
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SALC:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
        u |= 0x811; /* AF; OF for counts other than 1; CF for counts beyond the size */
        break;
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR: u |= 0x895; break; /* all but ZF */
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_TEST: u |= 0x010; break;
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_IMUL: u |= 0x0d4; break;
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV: u |= 0x8d5; break;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS: u |= 0x894; break;
    case ZYDIS_MNEMONIC_ANDN:
    case ZYDIS_MNEMONIC_BLSI:
    case ZYDIS_MNEMONIC_BLSMSK:
    case ZYDIS_MNEMONIC_BLSR:
    case ZYDIS_MNEMONIC_BZHI: u |= 0x014; break;  /* AF, PF */
    case ZYDIS_MNEMONIC_BEXTR: u |= 0x094; break; /* AF, SF, PF */
    case ZYDIS_MNEMONIC_LZCNT:
    case ZYDIS_MNEMONIC_TZCNT: u |= 0x894; break; /* OF, SF, AF, PF */
    default: break;
    }
    return u;
}

/* Results that are undefined as a whole. */
static bool undefined_result(const struct or_case *k) {
    switch (k->z.mnemonic) {
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD: {
        unsigned count = k->op[2].type == ZYDIS_OPERAND_TYPE_IMMEDIATE
                             ? (unsigned)k->op[2].imm.value.u
                             : (unsigned)k->in.gpr[1];
        return k->z.operand_width == 16 && (count & 31) > 16;
    }
    case ZYDIS_MNEMONIC_BSWAP: return k->z.operand_width == 16;
    default: return false;
    }
}

/* Bytes [from, to) of memory at the explicit operand that are left out: host addresses in saved x87
 * pointers, and XSTATE_BV, for which a CPU may know an initial state or not. And MXCSR_MASK, where
 * the CPU has a bit more than the profile. */
static void blank(const struct or_case *k, uint8_t *mem) {
    unsigned from = 0, to = 0, also = 0, also_to = 0;
    switch (k->z.mnemonic) {
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
        also = 512;
        also_to = 520;
        __attribute__((fallthrough));
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
        from = 6;
        to = or_on_amd() ? 32 : 24;
        break;
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
        from = k->memory->size == 112 || k->memory->size == 752 ? 6 : 12;
        to = from == 6 ? 14 : 28;
        break;
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFQ: {
        /* The native run is single-stepped, and shows TF. */
        uint64_t at = k->in.gpr[4] - k->z.operand_width / 8u - OR_DATA;
        if (at + 1 < OR_WINDOW) mem[at + 1] &= 0xfe;
        return;
    }
    default: return;
    }
    uint64_t at = k->target - OR_DATA;
    for (unsigned n = from; n < to; n++)
        if (at + n < OR_WINDOW) mem[at + n] = 0;
    for (unsigned n = also; n < also_to; n++)
        if (at + n < OR_WINDOW) mem[at + n] = 0;
}

static char text[512];
static const char *differ(const char *what, uint64_t native, uint64_t guest) {
    snprintf(text, sizeof text, "%s: native %016llx, guest %016llx", what,
             (unsigned long long)native, (unsigned long long)guest);
    return text;
}

/* A gather that faults leaves what elements it did in its destination and mask. What it leaves
 * beyond all of its elements, which it clears when it is done, is cleared here. */
static void clear_beyond(const struct or_case *k, struct or_state *s) {
    bool half = k->z.opcode & 1 && !(k->z.raw.vex.W); /* quadword indices of doublewords */
    unsigned used = (k->z.raw.vex.L ? 32u : 16u) >> half;
    for (unsigned n = 0; n < 3; n += 2) {
        int reg = ZydisRegisterGetId(k->op[n].reg.value);
        if (used < 16) memset(s->fx + 160 + 16 * reg + used, 0, 16 - used);
        if (used < 32) memset(s->ymmh + 16 * reg, 0, 16);
    }
}

/* Reciprocals and roots: two that are within the manual's bound of the exact value. */
static bool is_near(uint32_t a, uint32_t b) {
    float x, y;
    memcpy(&x, &a, 4);
    memcpy(&y, &b, 4);
    return isnormal(x) && isnormal(y) && fabsf(x - y) <= fabsf(y) * 0x1.8p-12f * 2;
}
/* Gives the native result the bits of the guest's where these are near. */
static void approximate(const struct or_case *k, struct or_state *native,
                        const struct or_state *guest) {
    if (!rv_is_approximate(k->z.mnemonic)) return;
    unsigned n = (unsigned)ZydisRegisterGetId(k->op[0].reg.value);
    for (unsigned at = 0; at < 32; at += 4) {
        uint8_t *to = at < 16 ? native->fx + 160 + 16 * n + at : native->ymmh + 16 * n + at - 16;
        const uint8_t *from =
            at < 16 ? guest->fx + 160 + 16 * n + at : guest->ymmh + 16 * n + at - 16;
        uint32_t a, b;
        memcpy(&a, to, 4);
        memcpy(&b, from, 4);
        if (is_near(a, b)) memcpy(to, from, 4);
    }
}

static const char *compare_fx(const struct or_case *k, int vector, const struct or_state *native,
                              const struct or_state *guest) {
    const uint8_t *a = native->fx, *b = guest->fx;
    char name[16];
    uint64_t x = 0, y = 0;
    memcpy(&x, a, 5);
    memcpy(&y, b, 5);
    if (x != y) return differ("FTW:FSW:FCW", x, y);
    x = y = 0;
    memcpy(&x, a + 24, 4);
    memcpy(&y, b + 24, 4);
    /* Whether a result that overflows or underflows unmasked is also inexact depends on the digits
     * it would have with an unbounded exponent; ours says what the masked result says. */
    uint32_t unmasked = 0;
    memcpy(&unmasked, k->in.fx + 24, 4);
    if (vector == 19 && (~unmasked & 0xc00)) x &= ~0x20ull, y &= ~0x20ull;
    /* DPPS and DPPD stop between their multiplications and additions. VCVTPS2PH sets its flags
     * before its store faults. */
    bool stages = k->z.mnemonic == ZYDIS_MNEMONIC_DPPS || k->z.mnemonic == ZYDIS_MNEMONIC_DPPD ||
                  k->z.mnemonic == ZYDIS_MNEMONIC_VDPPS || k->z.mnemonic == ZYDIS_MNEMONIC_VDPPD;
    bool open =
        (stages && vector == 19) || (k->z.mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH && vector == 14);
    if (x != y && !open) return differ("MXCSR", x, y);
    for (unsigned n = 0; n < 48; n++) {
        const char *file = n < 16 ? "st" : "xmm";
        unsigned at = n < 16 ? 32 + 8 * n : 160 + 8 * (n - 16);
        memcpy(&x, a + at, 8);
        memcpy(&y, b + at, 8);
        snprintf(name, sizeof name, "%s%u.%u", file, (n < 16 ? n : n - 16) / 2, n % 2);
        if (x != y) return differ(name, x, y);
    }
    for (unsigned n = 0; n < 32; n++) {
        memcpy(&x, native->ymmh + 8 * n, 8);
        memcpy(&y, guest->ymmh + 8 * n, 8);
        snprintf(name, sizeof name, "ymm%u.%u", n / 2, 2 + n % 2);
        if (x != y) return differ(name, x, y);
    }
    return NULL;
}

/* CPUs go over to MMX use, or store the first parts of an operand, before they see a fault in the
 * rest of some instructions; ours changes nothing. */
static bool has_mmx(const struct or_case *k) {
    for (unsigned n = 0; n < k->z.operand_count; n++)
        if (k->op[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            k->op[n].reg.value >= ZYDIS_REGISTER_MM0 && k->op[n].reg.value <= ZYDIS_REGISTER_MM7)
            return true;
    return false;
}

static const char *compare(const struct or_case *k, const struct or_outcome *native,
                           const struct or_outcome *guest) {
    static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    const struct or_fault *f = &native->fault, *g = &guest->fault;
    /* Whether MASKMOVx faults for bytes that the mask leaves out is the implementation's choice. */
    if (f->vector == 14 &&
        (k->z.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ || k->z.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ||
         k->z.mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU))
        return NULL;
    /* XRSTOR may look at the header before it reads what lies around it. */
    bool xrstor =
        k->z.mnemonic == ZYDIS_MNEMONIC_XRSTOR || k->z.mnemonic == ZYDIS_MNEMONIC_XRSTOR64;
    if (xrstor && f->vector == 13 && g->vector == 14) return NULL;
    if (f->vector != g->vector) return differ("vector", (uint64_t)f->vector, (uint64_t)g->vector);
    if (f->vector >= 0) {
        bool has_error = f->vector == 8 || (f->vector >= 10 && f->vector <= 14) || f->vector == 17;
        /* Which page of a wide operand a CPU touches first is its own affair, and whether the
         * host's kernel has a page at some address of its half shows in the error code. */
        bool wide =
            k->memory && k->memory->size >= 112 && k->memory->size != 128 && k->memory->size != 256;
        uint32_t error_mask = f->vector == 14 && (wide || f->cr2 >> 63) ? ~1u : ~0u;
        /* ENTER reads old frame pointers and writes new ones: which first, is open, too. */
        if (k->z.mnemonic == ZYDIS_MNEMONIC_ENTER) has_error = false, wide = true;
        if (has_error && (f->error ^ g->error) & error_mask)
            return differ("error code", f->error, g->error);
        /* Of masked moves CPUs name any byte in the page that faults. */
        uint64_t cr2_mask = or_masked(k) ? ~(uint64_t)0xfff : ~0ull;
        if (f->vector == 14 && !wide && (f->cr2 ^ g->cr2) & cr2_mask)
            return differ("CR2", f->cr2, g->cr2);
    }
    if (native->out.rip != guest->out.rip) return differ("rip", native->out.rip, guest->out.rip);
    if (f->vector < 0 && undefined_result(k)) return NULL;
    for (unsigned n = 0; n < 16; n++)
        if (native->out.gpr[n] != guest->out.gpr[n])
            return differ(names[n], native->out.gpr[n], guest->out.gpr[n]);
    uint64_t mask = ~(uint64_t)(f->vector < 0 ? undefined_flags(k) : 0);
    if ((native->out.rflags ^ guest->out.rflags) & mask)
        return differ("rflags", native->out.rflags, guest->out.rflags);
    if (f->vector < 0 || !has_mmx(k)) {
        struct or_state a = native->out, b = guest->out;
        if (f->vector >= 0 && k->memory && k->memory->mem.type == ZYDIS_MEMOP_TYPE_VSIB) {
            clear_beyond(k, &a);
            clear_beyond(k, &b);
        }
        approximate(k, &a, &b);
        const char *fx = compare_fx(k, f->vector, &a, &b);
        if (fx) return fx;
    }
    bool vector_size = k->memory && (k->memory->size == 128 || k->memory->size == 256);
    if (f->vector >= 0 && k->memory && k->memory->size >= 80 && !vector_size) return NULL;
    if (f->vector >= 0 && k->z.mnemonic == ZYDIS_MNEMONIC_ENTER) return NULL;
    if (!memcmp(native->mem, guest->mem, OR_WINDOW)) return NULL;
    static uint8_t a[OR_WINDOW], b[OR_WINDOW];
    memcpy(a, native->mem, sizeof a);
    memcpy(b, guest->mem, sizeof b);
    blank(k, a);
    blank(k, b);
    for (unsigned n = 0; n < OR_WINDOW; n++)
        if (a[n] != b[n]) {
            snprintf(text, sizeof text, "memory at operand%+lld: native %02x, guest %02x",
                     (long long)(OR_DATA + n - k->target), a[n], b[n]);
            return text;
        }
    return NULL;
}

const char *or_compare(const struct or_case *k, const struct or_outcome *native,
                       const struct or_outcome *guest) {
    if (!or_on_amd()) return compare(k, native, guest);
    if (or_amd_differs(k, native, guest)) return NULL;
    static struct or_outcome a, b;
    a = *native;
    b = *guest;
    or_amd_alike(k, &a);
    or_amd_alike(k, &b);
    return compare(k, &a, &b);
}
