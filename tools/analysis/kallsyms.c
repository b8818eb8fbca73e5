/* The tables, each aligned to 8 bytes:
 *
 *   until 6.3:  offsets, relative_base, num_syms, names, markers, [order,] token_table, token_index
 *   from 6.4:   num_syms, names, markers, token_table, token_index, offsets, relative_base
 *
 * names holds for each symbol a length and so many bytes, each of which stands for a string of
 * token_table; token_index says where the strings begin; markers, where every 256th name does;
 * order, three bytes each, is that of the names sorted (6.2, and stable kernels of 6.1). The token
 * table is found by what it must hold; everything else follows, and is checked, from there.
 */
#include "tools/analysis/kallsyms.h"

#include <string.h>

#define TOKENS      256
#define MAX_SYMBOLS (4u << 20)
#define MAX_NAME    1024
#define EACH        256            /* names between markers */
#define FURTHEST    (32u << 20)    /* bytes of all names */
#define LOOKS       (256ull << 20) /* at names, in search of where they begin */

struct tables {
    const uint8_t *image;
    size_t size;
    size_t tokens, index; /* token_table, token_index: offsets in the image */
    size_t index_end;
    size_t names;
    uint32_t symbols;
    size_t offsets, relative_base;
};

static uint32_t u32_at(const struct tables *t, size_t at) {
    uint32_t v = 0;
    if (at + 4 <= t->size) memcpy(&v, t->image + at, 4);
    return v;
}

static uint16_t u16_at(const struct tables *t, size_t at) {
    uint16_t v = 0;
    if (at + 2 <= t->size) memcpy(&v, t->image + at, 2);
    return v;
}

static uint64_t u64_at(const struct tables *t, size_t at) {
    uint64_t v = 0;
    if (at + 8 <= t->size) memcpy(&v, t->image + at, 8);
    return v;
}

static size_t align8(size_t n) { return (n + 7) & ~(size_t)7; }

/* Whether 256 strings begin at `at`, with an index of them behind. */
static bool tokens_at(struct tables *t, size_t at) {
    size_t start[TOKENS], p = at;
    for (unsigned i = 0; i < TOKENS; i++) {
        start[i] = p - at;
        const uint8_t *nul = memchr(t->image + p, 0, t->size - p < 512 ? t->size - p : 512);
        if (!nul) return false;
        p = (size_t)(nul - t->image) + 1;
        if (p >= t->size) return false;
    }
    size_t index = align8(p);
    if (index + 2 * TOKENS > t->size) return false;
    for (unsigned i = 0; i < TOKENS; i++)
        if (u16_at(t, index + 2 * i) != start[i]) return false;
    t->tokens = at;
    t->index = index;
    t->index_end = index + 2 * TOKENS;
    return true;
}

/* The tokens '0' to '9' stand for themselves: names hold digits that no longer token covers. */
static bool find_tokens(struct tables *t, size_t from) {
    static const char digits[] = "0\0001\0002\0003\0004\0005\0006\0007\0008\0009";
    while (from < t->size) {
        const uint8_t *hit = memmem(t->image + from, t->size - from, digits, sizeof digits);
        if (!hit) return false;
        size_t at = (size_t)(hit - t->image);
        /* '0' is token 48: the table begins that many strings before. */
        for (size_t back = 48; back <= 8192 && back <= at; back++) {
            size_t start = at - back;
            if (start % 8 == 0 && tokens_at(t, start) && t->tokens + u16_at(t, t->index + 96) == at)
                return true;
        }
        from = at + 1;
    }
    return false;
}

/* Length of the name at `at`, and where its bytes begin; 0 when it does not fit. */
static size_t name_at(const struct tables *t, size_t at, size_t *bytes) {
    if (at >= t->tokens) return 0;
    size_t n = t->image[at++];
    if (n & 0x80) { /* Linux 6.1 and later: two bytes for names that are long */
        if (at >= t->tokens) return 0;
        n = (n & 0x7f) | (size_t)t->image[at++] << 7;
    }
    if (!n || n > t->tokens - at) return 0;
    *bytes = at;
    return n;
}

/* Whether so many names begin at `at`, with markers behind that point to every 256th of them, and
 * the token table behind those, or behind the order of names. */
static bool names_fit(struct tables *t, size_t at, uint32_t symbols, uint64_t *looks) {
    size_t p = at, bytes = 0;
    for (uint32_t i = 0; i < symbols; i++) {
        size_t n = name_at(t, p, &bytes);
        if (!n || !*looks) return false;
        --*looks;
        p = bytes + n;
    }
    size_t markers = align8(p), count = (symbols + EACH - 1) / EACH;
    size_t end = align8(markers + 4 * count);
    if (end != t->tokens && end + align8(3 * (size_t)symbols) != t->tokens) return false;
    p = at;
    for (uint32_t i = 0; i < symbols; i++) {
        if (i % EACH == 0 && u32_at(t, markers + i / EACH * 4) != p - at) return false;
        p = name_at(t, p, &bytes) + bytes;
    }
    return true;
}

/* num_syms lies before the token table: looked for backwards, and taken when all fits. */
static bool find_names(struct tables *t) {
    uint64_t looks = LOOKS;
    size_t least = t->tokens > FURTHEST ? t->tokens - FURTHEST : 8;
    for (size_t names = t->tokens & ~(size_t)7; names >= 8 && names >= least; names -= 8) {
        uint32_t symbols = u32_at(t, names - 8);
        if (!symbols || symbols > MAX_SYMBOLS || u32_at(t, names - 4)) continue;
        if (2 * (size_t)symbols > t->tokens - names || !names_fit(t, names, symbols, &looks))
            continue;
        t->names = names;
        t->symbols = symbols;
        return true;
    }
    return false;
}

static bool kernel_address(uint64_t a) { return a >= 0xffffffff80000000ull; }

/* Where offsets and their base are: before num_syms, or behind the token index. */
static bool find_offsets(struct tables *t) {
    size_t n = align8((size_t)t->symbols * 4), count = t->names - 8;
    if (count >= n + 8 && kernel_address(u64_at(t, count - 8))) {
        t->relative_base = count - 8;
        t->offsets = count - 8 - n;
        return true;
    }
    if (t->index_end + n + 8 <= t->size && kernel_address(u64_at(t, t->index_end + n))) {
        t->offsets = t->index_end;
        t->relative_base = t->index_end + n;
        return true;
    }
    return false;
}

/* Spells a name out; its length, or 0 when it is longer than names are. */
static size_t spell(const struct tables *t, size_t at, size_t n, char *out) {
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        const char *token =
            (const char *)t->image + t->tokens + u16_at(t, t->index + 2 * t->image[at + i]);
        size_t part = strlen(token); /* tokens_at() has seen its NUL */
        if (len + part >= MAX_NAME) return 0;
        memcpy(out + len, token, part);
        len += part;
    }
    out[len] = 0;
    return len;
}

static void add_all(const struct tables *t, struct rv_symbols *out) {
    uint64_t base = u64_at(t, t->relative_base);
    /* With per-CPU symbols, those are positive and absolute, and all others are below zero. */
    bool absolute = false;
    for (uint32_t i = 0; i < t->symbols && !absolute; i++)
        absolute = u32_at(t, t->offsets + 4 * (size_t)i) >> 31;
    size_t p = t->names, bytes = 0;
    char name[MAX_NAME];
    for (uint32_t i = 0; i < t->symbols; i++) {
        size_t n = name_at(t, p, &bytes);
        p = bytes + n;
        if (spell(t, bytes, n, name) < 2) continue;
        uint32_t offset = u32_at(t, t->offsets + 4 * (size_t)i);
        uint64_t addr = absolute
                            ? offset >> 31 ? base - 1 - (uint64_t)(int64_t)(int32_t)offset : offset
                            : base + offset;
        rv_symbols_add(out, addr, 0, name[0], name + 1);
    }
}

int rv_kallsyms_read(struct rv_symbols **out, const uint8_t *image, size_t size,
                     struct rv_err *err) {
    struct tables t = {.image = image, .size = size};
    bool any = false;
    for (size_t from = 0; find_tokens(&t, from); from = t.tokens + 512) {
        any = true;
        if (!find_names(&t) || !find_offsets(&t)) continue;
        *out = rv_symbols_new();
        add_all(&t, *out);
        rv_symbols_sort(*out);
        return 0;
    }
    return rv_fail(err, RV_E_FORMAT,
                   any ? "the kernel's symbol tables have a layout that is not known"
                       : "no kernel symbol tables (kallsyms) in memory");
}
