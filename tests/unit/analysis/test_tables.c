/* The tables that are read out of guests' memory: whole ones say what was put in, damaged and
 * hostile ones are refused or give less, and never crash (run under the sanitizers). */
#include <criterion/criterion.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/analysis/btf.h"
#include "tools/analysis/ehframe.h"
#include "tools/analysis/kallsyms.h"
#include "tools/analysis/orc.h"
#include "tools/analysis/prog.h"
#include "tools/analysis/syscall.h"
#include "vmm/base/buf.h"

#define BASE 0xffffffff81000000ull

/* ---- a random generator of our own, so that failures repeat ---- */

static uint64_t seed = 1;
static uint32_t draw(uint32_t below) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(seed >> 33) % below;
}

static void damage(uint8_t *data, size_t len) {
    for (unsigned n = 1 + draw(8); n; n--) {
        size_t at = draw((uint32_t)len);
        switch (draw(3)) {
        case 0: data[at] = (uint8_t)draw(256); break;
        case 1: data[at] ^= (uint8_t)(1u << draw(8)); break;
        default: memset(data + at, draw(2) ? 0xff : 0, len - at < 8 ? len - at : 8);
        }
    }
}

/* ---- kallsyms ---- */

enum layout { OLD, ORDERED, NEW }; /* until 6.1, with the order of names, from 6.4 */
#define SYMBOLS 700

static void align(struct rv_buf *b) {
    while (b->len % 8) rv_buf_put_u8(b, 0);
}

static void put_offsets(struct rv_buf *b) {
    /* The first symbols are per-CPU: absolute and positive; all others are below zero. */
    for (int i = 0; i < SYMBOLS; i++)
        rv_buf_put_u32(b, i < 4 ? (uint32_t)i * 64 : (uint32_t)(-1 - 16 * i));
    align(b);
    rv_buf_put_u64(b, BASE);
}

/* Every character stands for itself, but token 1 for "tsym_". */
static void make(struct rv_buf *b, enum layout layout) {
    uint32_t marker[SYMBOLS / 256 + 1];
    for (int i = 0; i < 4096; i++) rv_buf_put_u8(b, (uint8_t)(i * 7));
    if (layout != NEW) put_offsets(b);
    rv_buf_put_u32(b, SYMBOLS);
    align(b);
    size_t names = b->len;
    for (int i = 0; i < SYMBOLS; i++) {
        char name[8];
        int n = snprintf(name, sizeof name, "\1%d", i);
        if (i % 256 == 0) marker[i / 256] = (uint32_t)(b->len - names);
        rv_buf_put_u8(b, (uint8_t)n);
        rv_buf_put(b, name, (size_t)n);
    }
    align(b);
    for (int i = 0; i <= (SYMBOLS - 1) / 256; i++) rv_buf_put_u32(b, marker[i]);
    align(b);
    if (layout == ORDERED) {
        for (int i = 0; i < SYMBOLS * 3; i++) rv_buf_put_u8(b, (uint8_t)i);
        align(b);
    }
    size_t tokens = b->len;
    uint16_t index[256];
    for (unsigned i = 0; i < 256; i++) {
        index[i] = (uint16_t)(b->len - tokens);
        if (i == 1)
            rv_buf_put(b, "tsym_", 5);
        else
            rv_buf_put_u8(b, i ? (uint8_t)i : 1);
        rv_buf_put_u8(b, 0);
    }
    align(b);
    for (unsigned i = 0; i < 256; i++) rv_buf_put_u16(b, index[i]);
    align(b);
    if (layout == NEW) put_offsets(b);
    for (int i = 0; i < 4096; i++) rv_buf_put_u8(b, (uint8_t)(i * 5));
}

Test(kallsyms, layouts) {
    for (enum layout layout = OLD; layout <= NEW; layout++) {
        struct rv_buf b = {0};
        struct rv_symbols *s;
        struct rv_err err = {0};
        make(&b, layout);
        cr_assert_eq(rv_kallsyms_read(&s, b.data, b.len, &err), 0, "layout %d: %s", layout,
                     err.msg);
        cr_assert_eq(rv_symbols_count(s), SYMBOLS);
        cr_assert_eq(rv_symbols_find(s, "sym_2", NULL)->addr, 128);
        for (int i = 4; i < SYMBOLS; i++) {
            char name[16];
            snprintf(name, sizeof name, "sym_%d", i);
            const struct rv_symbol *y = rv_symbols_find(s, name, NULL);
            cr_assert(y && y->addr == BASE + 16 * (uint64_t)i && y->type == 't', "%s", name);
            cr_assert_eq(rv_symbols_at(s, y->addr + 15), y);
        }
        rv_symbols_free(s);
        rv_buf_release(&b);
    }
}

Test(kallsyms, damaged) {
    for (unsigned round = 0; round < 3000; round++) {
        struct rv_buf b = {0};
        struct rv_symbols *s = NULL;
        make(&b, (enum layout)(round % 3));
        damage(b.data + 4096, b.len - 8192);
        size_t len = round % 5 ? b.len : 1 + draw((uint32_t)b.len);
        /* Its own block, so that a read beyond it is seen. */
        uint8_t *copy = malloc(len);
        memcpy(copy, b.data, len);
        if (!rv_kallsyms_read(&s, copy, len, NULL)) {
            for (size_t i = 0; i < rv_symbols_count(s); i++)
                rv_symbols_at(s, rv_symbols_get(s, i)->addr);
            rv_symbols_free(s);
        }
        free(copy);
        rv_buf_release(&b);
    }
}

/* ---- BTF ---- */

struct made {
    struct rv_buf types, strings;
    uint32_t next;
};

static uint32_t text(struct made *m, const char *s) {
    uint32_t at = (uint32_t)m->strings.len;
    rv_buf_put(&m->strings, s, strlen(s) + 1);
    return at;
}

static uint32_t type(struct made *m, const char *name, unsigned kind, unsigned n, unsigned flag,
                     uint32_t more) {
    rv_buf_put_u32(&m->types, *name ? text(m, name) : 0);
    rv_buf_put_u32(&m->types, flag << 31 | kind << 24 | n);
    rv_buf_put_u32(&m->types, more);
    return ++m->next;
}

static void words(struct made *m, uint32_t a, uint32_t b, uint32_t c) {
    rv_buf_put_u32(&m->types, a);
    rv_buf_put_u32(&m->types, b);
    rv_buf_put_u32(&m->types, c);
}

static void finish(struct made *m, struct rv_buf *out) {
    rv_buf_put_u16(out, 0xeb9f);
    rv_buf_put_u16(out, 1);
    rv_buf_put_u32(out, 24);
    rv_buf_put_u32(out, 0);
    rv_buf_put_u32(out, (uint32_t)m->types.len);
    rv_buf_put_u32(out, (uint32_t)m->types.len);
    rv_buf_put_u32(out, (uint32_t)m->strings.len);
    rv_buf_put(out, m->types.data, m->types.len);
    rv_buf_put(out, m->strings.data, m->strings.len);
    rv_buf_release(&m->types);
    rv_buf_release(&m->strings);
}

static void make_btf(struct rv_buf *out) {
    struct made m = {0};
    rv_buf_put_u8(&m.strings, 0);
    uint32_t i32 = type(&m, "int", 1, 0, 0, 4);
    rv_buf_put_u32(&m.types, 1u << 24 | 32);
    uint32_t ch = type(&m, "char", 1, 0, 0, 1);
    rv_buf_put_u32(&m.types, 1u << 24 | 8);
    uint32_t konst = type(&m, "", 10, 0, 0, ch), string = type(&m, "", 2, 0, 0, konst);
    uint32_t array = type(&m, "", 3, 0, 0, 0);
    words(&m, ch, i32, 16);
    /* struct inner { int x; }; struct outer { int a; struct { struct inner in; int bits:3; }; char
     * comm[16]; } */
    uint32_t inner = type(&m, "inner", 4, 1, 0, 4);
    words(&m, text(&m, "x"), i32, 0);
    uint32_t unnamed = type(&m, "", 4, 2, 1, 8);
    words(&m, text(&m, "in"), inner, 0);
    words(&m, text(&m, "bits"), i32, 3u << 24 | 32);
    type(&m, "outer", 4, 3, 0, 32);
    words(&m, text(&m, "a"), i32, 0);
    words(&m, 0, unnamed, 64);
    words(&m, text(&m, "comm"), array, 128);
    uint32_t proto = type(&m, "", 13, 2, 0, i32);
    rv_buf_put_u32(&m.types, text(&m, "path"));
    rv_buf_put_u32(&m.types, string);
    rv_buf_put_u32(&m.types, text(&m, "flags"));
    rv_buf_put_u32(&m.types, i32);
    type(&m, "do_open", 12, 0, 0, proto);
    finish(&m, out);
}

Test(btf, members) {
    struct rv_buf b = {0};
    struct rv_btf *t;
    uint64_t at, size;
    unsigned bits;
    make_btf(&b);
    cr_assert_eq(rv_btf_read(&t, b.data, b.len, NULL), 0);
    cr_assert(rv_btf_member(t, "outer", "comm", &at, &size) && at == 16 && size == 16);
    cr_assert(rv_btf_member(t, "outer", "in.x", &at, &size) && at == 8 && size == 4);
    cr_assert(!rv_btf_member(t, "outer", "bits", &at, &size), "a bit field has no address");
    cr_assert(!rv_btf_member(t, "outer", "none", &at, &size));
    cr_assert(!rv_btf_member(t, "none", "a", &at, &size));
    cr_assert(rv_btf_field(t, "inner", "x", &bits) && bits == 0);
    cr_assert(rv_btf_sizeof(t, "outer", &size) && size == 32);
    struct rv_btf_param p[4], result;
    cr_assert_eq(rv_btf_function(t, "do_open", p, 4, &result), 2);
    cr_assert(p[0].string && strcmp(p[0].name, "path") == 0);
    cr_assert(p[1].class == RV_BTF_SIGNED && p[1].size == 4 && result.size == 4);
    cr_assert_eq(rv_btf_function(t, "inner", p, 4, &result), -1);
    rv_btf_free(t);
    rv_buf_release(&b);
}

static void ask_btf(const struct rv_btf *t) {
    uint64_t at, size;
    struct rv_btf_param p[4], result;
    rv_btf_member(t, "outer", "comm", &at, &size);
    rv_btf_member(t, "outer", "in.x", &at, &size);
    rv_btf_member(t, "inner", "x", &at, &size);
    rv_btf_field(t, "outer", "a", NULL);
    rv_btf_sizeof(t, "outer", &size);
    rv_btf_function(t, "do_open", p, 4, &result);
}

Test(btf, damaged) {
    for (unsigned round = 0; round < 20000; round++) {
        struct rv_buf b = {0};
        struct rv_btf *t;
        make_btf(&b);
        damage(b.data, b.len);
        size_t len = round % 3 ? b.len : 1 + draw((uint32_t)b.len);
        uint8_t *copy = malloc(len);
        memcpy(copy, b.data, len);
        if (!rv_btf_read(&t, copy, len, NULL)) {
            ask_btf(t);
            rv_btf_free(t);
        }
        free(copy);
        rv_buf_release(&b);
    }
}

/* Structures within themselves, as wide as can be, must not take forever. */
Test(btf, endless, .timeout = 20) {
    struct made m = {0};
    struct rv_buf b = {0};
    struct rv_btf *t;
    uint64_t at, size;
    rv_buf_put_u8(&m.strings, 0);
    type(&m, "outer", 4, 1000, 0, 8);
    for (unsigned i = 0; i < 1000; i++) words(&m, 0, 1, 0);
    type(&m, "a", 8, 0, 0, 3); /* typedefs of each other */
    type(&m, "b", 8, 0, 0, 2);
    finish(&m, &b);
    cr_assert_eq(rv_btf_read(&t, b.data, b.len, NULL), 0);
    cr_assert(!rv_btf_member(t, "outer", "comm", &at, &size));
    cr_assert(!rv_btf_sizeof(t, "a", &size));
    rv_btf_free(t);
    rv_buf_release(&b);
}

/* ---- ORC ---- */

Test(orc, finds_entries) {
    uint8_t ips[3 * 4], entries[3 * 6];
    const int32_t code[3] = {0x1000, 0x1010, 0x1020};
    for (int i = 0; i < 3; i++) {
        int32_t distance = code[i] - 4 * i;
        uint16_t word[3] = {(uint16_t)(8 * (i + 1)), (uint16_t)-16,
                            (uint16_t)(RV_ORC_SP | RV_ORC_PREV_SP << 4 | i << 8)};
        memcpy(ips + 4 * i, &distance, 4);
        memcpy(entries + 6 * i, word, 6);
    }
    struct rv_orc *o = rv_orc_new(ips, entries, 3, BASE, false);
    struct rv_orc_entry e;
    cr_assert(o && !rv_orc_find(o, BASE + 0xfff, &e));
    cr_assert(rv_orc_find(o, BASE + 0x101f, &e) && e.sp_offset == 16 && e.bp_offset == -16 &&
              e.sp_reg == RV_ORC_SP && e.bp_reg == RV_ORC_PREV_SP && e.type == RV_ORC_REGS);
    rv_orc_free(o);
    o = rv_orc_new(ips, entries, 3, BASE, true);
    cr_assert(rv_orc_find(o, BASE + 0x1020, &e) && e.type == RV_ORC_CALL);
    rv_orc_free(o);
    ips[1] = 0x7f; /* out of order */
    cr_assert_null(rv_orc_new(ips, entries, 3, BASE, false));
}

/* ---- ELF and .eh_frame ---- */

static size_t read_self(uint8_t **out) {
    FILE *f = fopen("/proc/self/exe", "rb");
    cr_assert_not_null(f);
    struct rv_buf b = {0};
    size_t got;
    do {
        uint8_t *to = rv_buf_grow(&b, 65536);
        got = fread(to, 1, 65536, f);
        b.len -= 65536 - got;
    } while (got == 65536);
    fclose(f);
    *out = b.data;
    return b.len;
}

Test(prog, own_symbols) {
    uint8_t *image;
    size_t len = read_self(&image);
    struct rv_prog *p;
    cr_assert_eq(rv_prog_read(&p, image, len, NULL), 0);
    const struct rv_symbol *main_ = rv_symbols_find(p->symbols, "main", NULL),
                           *own = rv_symbols_find(p->symbols, "make_btf", NULL);
    cr_assert(own || main_, "its own functions are not among the symbols");
    cr_assert_gt(p->fdes, 10);
    /* Entries are for functions: most begin where a symbol does. */
    size_t hits = 0;
    for (size_t i = 0; i < p->fdes; i++) {
        const struct rv_symbol *y = rv_symbols_at(p->symbols, p->fde[i].start);
        hits += y && y->addr == p->fde[i].start;
    }
    cr_assert_gt(hits, p->fdes / 2, "%zu of %zu", hits, p->fdes);
    uint64_t bias;
    cr_assert(rv_prog_bias(p, 0x555555554000 + p->load[0].addr, p->load[0].offset, &bias));
    cr_assert_eq(bias, 0x555555554000);
    rv_prog_free(p);
    free(image);
}

Test(prog, damaged) {
    uint8_t *image;
    size_t len = read_self(&image);
    for (unsigned round = 0; round < 60; round++) {
        struct rv_prog *p;
        uint8_t *copy = malloc(len);
        memcpy(copy, image, len);
        damage(copy, 512); /* headers */
        Elf64_Ehdr h;
        memcpy(&h, image, sizeof h);
        damage(copy + h.e_shoff, 64u * h.e_shnum);
        if (!rv_prog_read(&p, copy, round % 4 ? len : 64 + draw((uint32_t)len - 64), NULL))
            rv_prog_free(p);
        free(copy);
    }
    free(image);
}

Test(ehframe, damaged) {
    for (unsigned round = 0; round < 20000; round++) {
        size_t len = 8 + draw(256);
        uint8_t *bytes = malloc(len);
        for (size_t i = 0; i < len; i++) bytes[i] = (uint8_t)(draw(3) ? draw(32) : draw(256));
        uint32_t size = 16;
        memcpy(bytes, &size, 4);
        struct rv_fde *fde;
        rv_ehframe_list(&fde, bytes, len, 0x1000);
        free(fde);
        free(bytes);
    }
}

/* ---- system calls ---- */

static size_t no_memory(void *ctx, uint64_t va, void *out, size_t len) {
    (void)ctx, (void)va, (void)out, (void)len;
    return 0;
}

static size_t some_memory(void *ctx, uint64_t va, void *out, size_t len) {
    (void)ctx, (void)va;
    for (size_t i = 0; i < len; i++) ((uint8_t *)out)[i] = (uint8_t)draw(256);
    return draw(4) ? len : draw((uint32_t)len + 1);
}

Test(syscall, any_arguments) {
    const struct rv_syscall_memory none = {no_memory, NULL}, some = {some_memory, NULL};
    for (unsigned n = 0; n < 600; n++) {
        for (unsigned round = 0; round < 20; round++) {
            struct rv_buf in = {0}, out = {0};
            uint64_t arg[6];
            for (unsigned i = 0; i < 6; i++)
                arg[i] = draw(2) ? draw(64) : (uint64_t)draw(~0u) << 20;
            const struct rv_syscall_memory *m = round % 2 ? &some : &none;
            rv_syscall_enter(&in, n, arg, m);
            rv_syscall_exit(&out, n, arg, (int64_t)draw(200) - 20, m);
            size_t later = 0, filled = 0;
            for (size_t i = 0; i < in.len; i++) {
                cr_assert(in.data[i] == RV_SYSCALL_LATER || in.data[i] >= ' ');
                later += in.data[i] == RV_SYSCALL_LATER;
            }
            for (size_t i = 0; i < out.len; i++) filled += out.data[i] == RV_SYSCALL_LATER;
            cr_assert_eq(later, filled, "%s", rv_syscall_name(n));
            rv_buf_release(&in);
            rv_buf_release(&out);
        }
    }
    cr_assert_str_eq(rv_syscall_name(257), "openat");
    cr_assert_eq(rv_syscall_number("openat"), 257);
    cr_assert_str_eq(rv_errno_name(2), "ENOENT");
    cr_assert_null(rv_syscall_name(100000));
}
