#include "replay/gdb/guest.h"

#include <string.h>

/* ---- the registers ---- */

enum kind {
    GPR, /* arg: number */
    PC,  /* linear */
    SP,  /* linear */
    FLAGS,
    SEG,  /* arg: enum rv_sreg */
    ST,   /* arg: number */
    FPU,  /* arg: enum fpu */
    XMM,  /* arg: number */
    YMMH, /* arg: number */
    MXCSR,
    BASE,   /* arg: enum rv_sreg: the segment's base */
    SYSTEM, /* arg: offset of 8 bytes in struct rv_x86 */
    LIMIT,  /* arg: offset of a descriptor table register */
    CR8,
};
enum fpu { FCTRL, FSTAT, FTAG, FISEG, FIOFF, FOSEG, FOOFF, FOP };

struct reg {
    const char *name, *type; /* type NULL: by size */
    uint8_t kind, size;
    uint16_t arg;
};

#define G(n, r)                                                                                    \
    { n, NULL, GPR, 8, RV_##r }
#define G4(n, r)                                                                                   \
    { n, NULL, GPR, 4, RV_##r }
#define S(n, r)                                                                                    \
    { n, NULL, SEG, 4, RV_##r }
#define F(n, r)                                                                                    \
    { n, NULL, FPU, 4, r }
#define ST_(n)                                                                                     \
    { "st" #n, "i387_ext", ST, 10, n }
#define X(n)                                                                                       \
    { "xmm" #n, "vec128", XMM, 16, n }
#define Y(n)                                                                                       \
    { "ymm" #n "h", "uint128", YMMH, 16, n }
#define SYS(n, m)                                                                                  \
    { n, NULL, SYSTEM, 8, offsetof(struct rv_x86, m) }

#define SEGMENTS S("cs", CS), S("ss", SS), S("ds", DS), S("es", ES), S("fs", FS), S("gs", GS)
#define X87                                                                                        \
    ST_(0), ST_(1), ST_(2), ST_(3), ST_(4), ST_(5), ST_(6), ST_(7), F("fctrl", FCTRL),             \
        F("fstat", FSTAT), F("ftag", FTAG), F("fiseg", FISEG), F("fioff", FIOFF),                  \
        F("foseg", FOSEG), F("fooff", FOOFF), F("fop", FOP)
/* What gdb knows nothing of has a feature of its own; $cr3 and so on work all the same. */
#define SYSTEM_REGS                                                                                \
    SYS("cr0", cr0), SYS("cr2", cr2), SYS("cr3", cr3), SYS("cr4", cr4), {"cr8", NULL, CR8, 8, 0},  \
        SYS("efer", efer), SYS("kernel_gs_base", kernel_gs_base), SYS("star", star),               \
        SYS("lstar", lstar), SYS("gdtr_base", gdt.base),                                           \
        {"gdtr_limit", NULL, LIMIT, 4, offsetof(struct rv_x86, gdt.limit)},                        \
        SYS("idtr_base", idt.base),                                                                \
        {"idtr_limit", NULL, LIMIT, 4, offsetof(struct rv_x86, idt.limit)}, SYS("dr0", dr[0]),     \
        SYS("dr1", dr[1]), SYS("dr2", dr[2]), SYS("dr3", dr[3]), SYS("dr6", dr6), SYS("dr7", dr7), \
        S("tr", TR), S("ldtr", LDTR)

static const struct reg core64[] = {G("rax", RAX),
                                    G("rbx", RBX),
                                    G("rcx", RCX),
                                    G("rdx", RDX),
                                    G("rsi", RSI),
                                    G("rdi", RDI),
                                    {"rbp", "data_ptr", GPR, 8, RV_RBP},
                                    {"rsp", "data_ptr", GPR, 8, RV_RSP},
                                    G("r8", R8),
                                    G("r9", R9),
                                    G("r10", R10),
                                    G("r11", R11),
                                    G("r12", R12),
                                    G("r13", R13),
                                    G("r14", R14),
                                    G("r15", R15),
                                    {"rip", "code_ptr", PC, 8, 0},
                                    {"eflags", "i386_eflags", FLAGS, 4, 0},
                                    SEGMENTS,
                                    X87};
static const struct reg core32[] = {G4("eax", RAX),
                                    G4("ecx", RCX),
                                    G4("edx", RDX),
                                    G4("ebx", RBX),
                                    {"esp", "data_ptr", GPR, 4, RV_RSP},
                                    {"ebp", "data_ptr", GPR, 4, RV_RBP},
                                    G4("esi", RSI),
                                    G4("edi", RDI),
                                    {"eip", "code_ptr", PC, 4, 0},
                                    {"eflags", "i386_eflags", FLAGS, 4, 0},
                                    SEGMENTS,
                                    X87};
static const struct reg core16[] = {G4("eax", RAX),
                                    G4("ecx", RCX),
                                    G4("edx", RDX),
                                    G4("ebx", RBX),
                                    {"esp", "data_ptr", SP, 4, 0},
                                    {"ebp", "data_ptr", GPR, 4, RV_RBP},
                                    G4("esi", RSI),
                                    G4("edi", RDI),
                                    {"eip", "code_ptr", PC, 4, 0},
                                    {"eflags", "i386_eflags", FLAGS, 4, 0},
                                    SEGMENTS,
                                    X87};
static const struct reg sse64[] = {X(0),
                                   X(1),
                                   X(2),
                                   X(3),
                                   X(4),
                                   X(5),
                                   X(6),
                                   X(7),
                                   X(8),
                                   X(9),
                                   X(10),
                                   X(11),
                                   X(12),
                                   X(13),
                                   X(14),
                                   X(15),
                                   {"mxcsr", "i386_mxcsr", MXCSR, 4, 0}};
static const struct reg sse32[] = {
    X(0), X(1), X(2), X(3), X(4), X(5), X(6), X(7), {"mxcsr", "i386_mxcsr", MXCSR, 4, 0}};
static const struct reg avx64[] = {Y(0), Y(1), Y(2),  Y(3),  Y(4),  Y(5),  Y(6),  Y(7),
                                   Y(8), Y(9), Y(10), Y(11), Y(12), Y(13), Y(14), Y(15)};
static const struct reg avx32[] = {Y(0), Y(1), Y(2), Y(3), Y(4), Y(5), Y(6), Y(7)};
static const struct reg bases[] = {{"fs_base", NULL, BASE, 8, RV_FS},
                                   {"gs_base", NULL, BASE, 8, RV_GS}};
static const struct reg system_regs[] = {SYSTEM_REGS};

#define FEATURE(n, t)                                                                              \
    { n, t, RV_COUNT(t) }
struct feature {
    const char *name;
    const struct reg *reg;
    unsigned count;
};
static const struct view {
    const char *architecture;
    struct feature feature[5]; /* that every recording has */
    struct feature avx;        /* behind them */
    struct rv_gdb_numbers numbers;
} views[RV_GDB_VIEWS] = {
    [RV_GDB_VIEW_64] = {"i386:x86-64",
                        {FEATURE("org.gnu.gdb.i386.core", core64),
                         FEATURE("org.gnu.gdb.i386.sse", sse64),
                         FEATURE("org.gnu.gdb.i386.segments", bases),
                         FEATURE("org.retrovisor.system", system_regs)},
                        FEATURE("org.gnu.gdb.i386.avx", avx64),
                        {6, 7, 16}},
    [RV_GDB_VIEW_32] = {"i386",
                        {FEATURE("org.gnu.gdb.i386.core", core32),
                         FEATURE("org.gnu.gdb.i386.sse", sse32),
                         FEATURE("org.retrovisor.system", system_regs)},
                        FEATURE("org.gnu.gdb.i386.avx", avx32),
                        {5, 4, 8}},
    [RV_GDB_VIEW_16] = {"i8086",
                        {FEATURE("org.gnu.gdb.i386.core", core16),
                         FEATURE("org.gnu.gdb.i386.sse", sse32),
                         FEATURE("org.retrovisor.system", system_regs)},
                        FEATURE("org.gnu.gdb.i386.avx", avx32),
                        {5, 4, 8}},
};

/* The nth feature of a layout, or NULL. */
static const struct feature *feature(struct rv_gdb_layout layout, unsigned n) {
    const struct view *v = &views[layout.view];
    for (const struct feature *f = v->feature; f->name; f++)
        if (n-- == 0) return f;
    return n == 0 && layout.avx ? &v->avx : NULL;
}

static const struct reg *find(struct rv_gdb_layout layout, unsigned number) {
    const struct feature *f;
    for (unsigned n = 0; (f = feature(layout, n)); n++) {
        if (number < f->count) return &f->reg[number];
        number -= f->count;
    }
    return NULL;
}

unsigned rv_gdb_register_count(struct rv_gdb_layout layout) {
    const struct feature *f;
    unsigned count = 0;
    for (unsigned n = 0; (f = feature(layout, n)); n++) count += f->count;
    return count;
}

unsigned rv_gdb_register_size(struct rv_gdb_layout layout, unsigned number) {
    const struct reg *r = find(layout, number);
    return r ? r->size : 0;
}

struct rv_gdb_numbers rv_gdb_numbers(struct rv_gdb_layout layout) {
    return views[layout.view].numbers;
}

/* ---- the description ---- */

static const char flags_type[] =
    "<flags id=\"i386_eflags\" size=\"4\">"
    "<field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"\" start=\"1\" end=\"1\"/>"
    "<field name=\"PF\" start=\"2\" end=\"2\"/><field name=\"AF\" start=\"4\" end=\"4\"/>"
    "<field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/>"
    "<field name=\"TF\" start=\"8\" end=\"8\"/><field name=\"IF\" start=\"9\" end=\"9\"/>"
    "<field name=\"DF\" start=\"10\" end=\"10\"/><field name=\"OF\" start=\"11\" end=\"11\"/>"
    "<field name=\"NT\" start=\"14\" end=\"14\"/><field name=\"RF\" start=\"16\" end=\"16\"/>"
    "<field name=\"VM\" start=\"17\" end=\"17\"/><field name=\"AC\" start=\"18\" end=\"18\"/>"
    "<field name=\"VIF\" start=\"19\" end=\"19\"/><field name=\"VIP\" start=\"20\" end=\"20\"/>"
    "<field name=\"ID\" start=\"21\" end=\"21\"/></flags>";
static const char sse_types[] =
    "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>"
    "<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
    "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/>"
    "<vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
    "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
    "<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
    "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/>"
    "<field name=\"v2_double\" type=\"v2d\"/><field name=\"v16_int8\" type=\"v16i8\"/>"
    "<field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>"
    "<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>"
    "<flags id=\"i386_mxcsr\" size=\"4\">"
    "<field name=\"IE\" start=\"0\" end=\"0\"/><field name=\"DE\" start=\"1\" end=\"1\"/>"
    "<field name=\"ZE\" start=\"2\" end=\"2\"/><field name=\"OE\" start=\"3\" end=\"3\"/>"
    "<field name=\"UE\" start=\"4\" end=\"4\"/><field name=\"PE\" start=\"5\" end=\"5\"/>"
    "<field name=\"DAZ\" start=\"6\" end=\"6\"/><field name=\"IM\" start=\"7\" end=\"7\"/>"
    "<field name=\"DM\" start=\"8\" end=\"8\"/><field name=\"ZM\" start=\"9\" end=\"9\"/>"
    "<field name=\"OM\" start=\"10\" end=\"10\"/><field name=\"UM\" start=\"11\" end=\"11\"/>"
    "<field name=\"PM\" start=\"12\" end=\"12\"/><field name=\"FZ\" start=\"15\" end=\"15\"/>"
    "</flags>";

void rv_gdb_describe(struct rv_gdb_layout layout, struct rv_buf *out) {
    const struct feature *f;
    rv_buf_printf(out,
                  "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>"
                  "<architecture>%s</architecture>",
                  views[layout.view].architecture);
    for (unsigned n = 0; (f = feature(layout, n)); n++) {
        rv_buf_printf(out, "<feature name=\"%s\">", f->name);
        if (f->reg[0].kind == GPR) rv_buf_put(out, flags_type, sizeof flags_type - 1);
        if (f->reg[0].kind == XMM) rv_buf_put(out, sse_types, sizeof sse_types - 1);
        for (unsigned i = 0; i < f->count; i++) {
            const struct reg *r = &f->reg[i];
            const char *group = r->kind == ST || r->kind == FPU ? " group=\"float\""
                                : f->reg == system_regs         ? " group=\"system\""
                                                                : "";
            rv_buf_printf(out, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\"%s/>", r->name,
                          r->size * 8u,
                          r->type        ? r->type
                          : r->size == 8 ? "int64"
                                         : "int32",
                          group);
        }
        rv_buf_printf(out, "</feature>");
    }
    rv_buf_printf(out, "</target>");
}

/* ---- values ---- */

static bool long_mode(const struct rv_x86 *x) {
    return (x->efer & RV_EFER_LMA) && (x->seg[RV_CS].attr & RV_SEG_L);
}

uint64_t rv_gdb_pc(const struct rv_x86 *x) {
    return long_mode(x) ? x->rip : (x->seg[RV_CS].base + x->rip) & 0xffffffffu;
}

/* FXSAVE keeps one bit a register, in physical order; the x87 itself two, which tell zero and
 * special values from others (SDM vol. 1, 8.1.7 and 10.5.1). */
static uint16_t full_tag(const uint8_t *fx) {
    uint16_t tag = 0;
    unsigned top = fx[3] >> 3 & 7;
    for (unsigned physical = 0; physical < 8; physical++) {
        unsigned two = 3;
        if (fx[4] >> physical & 1) {
            const uint8_t *st = fx + 32 + 16 * ((physical - top) & 7);
            uint64_t mantissa;
            uint16_t exponent;
            memcpy(&mantissa, st, 8);
            memcpy(&exponent, st + 8, 2);
            exponent &= 0x7fff;
            two = exponent == 0 && mantissa == 0                             ? 1
                  : exponent == 0x7fff || exponent == 0 || !(mantissa >> 63) ? 2
                                                                             : 0;
        }
        tag |= (uint16_t)(two << 2 * physical);
    }
    return tag;
}

static uint32_t fpu(const struct rv_x86 *x, unsigned which) {
    const uint8_t *fx = x->fx;
    uint32_t v = 0;
    switch (which) {
    case FCTRL: memcpy(&v, fx, 2); break;
    case FSTAT: memcpy(&v, fx + 2, 2); break;
    case FTAG: v = full_tag(fx); break;
    case FISEG: memcpy(&v, fx + 12, 4); break;
    case FIOFF: memcpy(&v, fx + 8, 4); break;
    case FOSEG: memcpy(&v, fx + 20, 4); break;
    case FOOFF: memcpy(&v, fx + 16, 4); break;
    default: memcpy(&v, fx + 6, 2); break;
    }
    return v;
}

void rv_gdb_register_get(struct rv_gdb_layout layout, unsigned number, const struct rv_gdb_cpu *cpu,
                         uint8_t *out) {
    const struct rv_x86 *x = &cpu->x;
    const struct reg *r = find(layout, number);
    uint64_t v = 0;
    switch (r->kind) {
    case GPR: v = x->gpr[r->arg]; break;
    case PC: v = rv_gdb_pc(x); break;
    case SP: v = x->seg[RV_SS].base + (uint16_t)x->gpr[RV_RSP]; break;
    case FLAGS: v = x->rflags; break;
    case SEG: v = x->seg[r->arg].sel; break;
    case ST: memcpy(out, x->fx + 32 + 16 * r->arg, 10); return;
    case FPU: v = fpu(x, r->arg); break;
    case XMM: memcpy(out, x->fx + 160 + 16 * r->arg, 16); return;
    case YMMH: memcpy(out, x->ymmh + 16 * r->arg, 16); return;
    case MXCSR: memcpy(&v, x->fx + 24, 4); break;
    case BASE: v = x->seg[r->arg].base; break;
    case SYSTEM: memcpy(&v, (const uint8_t *)x + r->arg, 8); break;
    case LIMIT: memcpy(&v, (const uint8_t *)x + r->arg, 2); break;
    case CR8: v = cpu->cr8; break;
    }
    memcpy(out, &v, r->size);
}

bool rv_gdb_register_set(struct rv_gdb_layout layout, unsigned number, struct rv_x86 *x,
                         const uint8_t *in) {
    const struct reg *r = find(layout, number);
    uint64_t v = 0;
    if (r->size <= 8) memcpy(&v, in, r->size);
    switch (r->kind) {
    case GPR:
        if (r->size == 4)
            x->gpr[r->arg] = (x->gpr[r->arg] & ~0xffffffffull) | v;
        else
            x->gpr[r->arg] = v;
        return true;
    case PC: x->rip = long_mode(x) ? v : (v - x->seg[RV_CS].base) & 0xffffffffu; return true;
    case FLAGS:
        x->rflags = (x->rflags & ~(uint64_t)(RV_FL_ARITH | RV_FL_DF | RV_FL_IF | RV_FL_TF)) |
                    (v & (RV_FL_ARITH | RV_FL_DF | RV_FL_IF | RV_FL_TF));
        return true;
    case ST: memcpy(x->fx + 32 + 16 * r->arg, in, 10); return true;
    case XMM: memcpy(x->fx + 160 + 16 * r->arg, in, 16); return true;
    case YMMH: memcpy(x->ymmh + 16 * r->arg, in, 16); return true;
    case BASE:
        if (v >> 47 && v >> 47 != 0x1ffff) return false;
        x->seg[r->arg].base = v;
        return true;
    default: return false; /* changing these would need the checks of the instructions that do */
    }
}

void rv_gdb_state(struct rv_machine *m, struct rv_gdb_cpu *cpu) {
    struct rv_engine *e = rv_machine_engine(m);
    e->ops->get(e, &cpu->x);
    cpu->cr8 = rv_pc_cr8(rv_machine_pc(m));
}

/* ---- memory ---- */

bool rv_gdb_translate(const struct rv_ram *ram, const struct rv_x86 *x, uint64_t va, rv_gpa *pa) {
    bool lm = x->efer & RV_EFER_LMA, pae = x->cr4 & RV_CR4_PAE;
    if (!lm) va &= 0xffffffffu;
    if (!(x->cr0 & RV_CR0_PG)) {
        *pa = va;
        return true;
    }
    if (lm && (uint64_t)((int64_t)(va << 16) >> 16) != va) return false;
    unsigned size = pae ? 8 : 4, bits = pae ? 9 : 10, level = lm ? 4 : pae ? 3 : 2;
    const uint64_t address = 0x000ffffffffff000ull;
    uint64_t table = lm ? x->cr3 & address : pae ? x->cr3 & 0xffffffe0u : x->cr3 & 0xfffff000u;
    for (;; level--) {
        unsigned shift = 12 + bits * (level - 1);
        uint64_t index = va >> shift & ((1u << bits) - 1), entry = 0;
        if (!rv_ram_read(ram, table + index * size, &entry, size) || !(entry & 1)) return false;
        bool may_be_large =
            level > 1 && level < 4 && !(level == 3 && !lm) && (pae || (x->cr4 & RV_CR4_PSE));
        bool large = may_be_large && (entry & 0x80);
        if (level == 1 || large) {
            uint64_t mask = (1ull << shift) - 1;
            uint64_t base = entry & address;
            if (large && !pae) base = (entry & 0xffc00000u) | (entry >> 13 & 0xff) << 32;
            *pa = (base & ~mask) | (va & mask);
            return true;
        }
        table = entry & address;
    }
}

/* Walks over the pages of a range, handing each part's physical address to one(). */
static size_t access(struct rv_machine *m, bool physical, uint64_t addr, uint8_t *buf, size_t len,
                     bool (*one)(struct rv_ram *, rv_gpa, uint8_t *, size_t)) {
    struct rv_ram *ram = rv_machine_ram(m);
    struct rv_gdb_cpu cpu;
    rv_gdb_state(m, &cpu);
    size_t done = 0;
    while (done < len) {
        uint64_t at = addr + done;
        size_t part = RV_PAGE_SIZE - (at & 0xfff);
        if (part > len - done) part = len - done;
        rv_gpa pa = at;
        if (!physical && !rv_gdb_translate(ram, &cpu.x, at, &pa)) break;
        if (!one(ram, pa, buf + done, part)) break;
        done += part;
    }
    return done;
}

static bool read_part(struct rv_ram *ram, rv_gpa pa, uint8_t *buf, size_t n) {
    return rv_ram_read(ram, pa, buf, n);
}
static bool write_part(struct rv_ram *ram, rv_gpa pa, uint8_t *buf, size_t n) {
    return rv_ram_write(ram, pa, buf, n);
}

size_t rv_gdb_read(struct rv_machine *m, bool physical, uint64_t addr, void *out, size_t len) {
    return access(m, physical, addr, out, len, read_part);
}

size_t rv_gdb_write(struct rv_machine *m, bool physical, uint64_t addr, const void *in,
                    size_t len) {
    return access(m, physical, addr, (uint8_t *)(uintptr_t)in, len, write_part);
}
