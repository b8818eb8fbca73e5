/* What AMD's processors do otherwise than Intel's, whose way the profiles follow. */
#include <cpuid.h>
#include <string.h>

#include "oracle.h"

bool or_on_amd(void) {
    unsigned a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && c == signature_AMD_ecx &&
           d == signature_AMD_edx;
}

static bool has_prefix(const struct or_case *k, uint8_t prefix) {
    for (unsigned n = 0; n < k->z.raw.prefix_count; n++)
        if (k->z.raw.prefixes[n].value == prefix) return true;
    return false;
}

/* APM vol. 3, the instructions, and "Operand-Size Overrides" of table B-1. */
static bool near_branch(const struct or_case *k, const struct or_outcome *guest) {
    if (k->z.meta.branch_type != ZYDIS_BRANCH_TYPE_NEAR &&
        k->z.meta.branch_type != ZYDIS_BRANCH_TYPE_SHORT)
        return false;
    /* 66 makes the instruction pointer and the displacement 16 bits. */
    if (has_prefix(k, 0x66)) return true;
    /* F2 and F3 say what LOOPE and LOOPNE wait for. */
    if (k->z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (k->z.opcode & 0xfe) == 0xe0 &&
        (has_prefix(k, 0xf2) || has_prefix(k, 0xf3)))
        return true;
    /* A target that is not canonical faults before anything is pushed, or when it is fetched. */
    return guest->fault.vector == 13;
}

bool or_amd_differs(const struct or_case *k, const struct or_outcome *native,
                    const struct or_outcome *guest) {
    switch (k->z.mnemonic) {
    case ZYDIS_MNEMONIC_NOP: /* PREFETCH and PREFETCHW have no form with registers */
        return k->z.opcode_map == ZYDIS_OPCODE_MAP_0F && k->z.opcode == 0x0d &&
               k->z.raw.modrm.mod == 3;
    case ZYDIS_MNEMONIC_PAUSE: /* with REX.B it is XCHG */ return k->z.raw.rex.B;
    case ZYDIS_MNEMONIC_MOVSXD: /* to 16 bits reads 32 */
        return k->z.operand_width == 16 && native->fault.vector == 14;
    case ZYDIS_MNEMONIC_VPERMQ:
    case ZYDIS_MNEMONIC_VPERMPD: /* do not look at VEX.W */ return guest->fault.vector == 6;
    case ZYDIS_MNEMONIC_FST:
    case ZYDIS_MNEMONIC_FSTP:
    case ZYDIS_MNEMONIC_FIST:
    case ZYDIS_MNEMONIC_FISTP:
    case ZYDIS_MNEMONIC_FISTTP:
    case ZYDIS_MNEMONIC_FBSTP:
    case ZYDIS_MNEMONIC_VCVTPS2PH:
        /* Look for the page before an unmasked exception says not to store. */
        return native->fault.vector == 14 && (guest->fault.vector < 0 || guest->fault.vector == 19);
    default: return near_branch(k, guest);
    }
}

void or_amd_alike(const struct or_case *k, struct or_outcome *o) {
    if (o->fault.vector < 0) return;
    if (k->z.attributes & (ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
        o->out.rflags &= ~0x8d5ull; /* of the last comparison, or of none */
    if (k->memory && k->memory->mem.type == ZYDIS_MEMOP_TYPE_VSIB) {
        /* Elements that are left to do keep their mask, or get one of all ones. */
        unsigned size = k->z.raw.vex.W ? 8 : 4;
        int reg = ZydisRegisterGetId(k->op[2].reg.value);
        for (unsigned at = 0; at < 32; at += size) {
            uint8_t *p =
                at < 16 ? o->out.fx + 160 + 16 * reg + at : o->out.ymmh + 16 * reg + at - 16;
            memset(p, p[size - 1] & 0x80 ? 0xff : 0, size);
        }
    }
}
