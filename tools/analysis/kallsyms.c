/* The tables, each aligned to 8 bytes:
 *
 *   until 6.1:  offsets, relative_base, num_syms, names, markers, token_table, token_index
 *   from 6.4:   num_syms, names, markers, token_table, token_index, offsets, relative_base
 *
 * names holds for each symbol a length and so many bytes, each of which stands for a string of
 * token_table; token_index says where the strings begin; markers, where every 256th name does. The
 * token table is found by what it must hold; everything else follows, and is checked, from there.
 */
#include "tools/analysis/kallsyms.h"

#include <string.h>

#define TOKENS      256
#define MAX_SYMBOLS (4u << 20)
#define MAX_NAME    1024
#define EACH        256 /* names between markers */

struct tables {
    const uint8_t *image;
    size_t size;
    size_t tokens, index; /* token_table, token_index: offsets in the image */
    size_t index_end;
    size_t markers;
    size_t marker_count;
    size_t names, names_end;
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

/* Markers end where the token table begins, with up to four bytes of padding; the first is 0. */
static bool find_markers(struct tables *t, bool padded) {
    size_t end = t->tokens - (padded ? 4 : 0), at = end;
    if (at < 8) return false;
    at -= 4;
    uint32_t value = u32_at(t, at);
    while (value && at >= 4) {
        uint32_t before = u32_at(t, at - 4);
        if (before >= value) return false;
        value = before;
        at -= 4;
        if ((end - at) / 4 > MAX_SYMBOLS / EACH) return false;
    }
    t->markers = at;
    t->marker_count = (end - at) / 4;
    return value == 0 && at % 8 == 0;
}

/* Length of the name at `at`, and where its bytes begin; 0 when it does not fit. */
static size_t name_at(const struct tables *t, size_t at, size_t *bytes) {
    if (at >= t->size) return 0;
    size_t n = t->image[at++];
    if (n & 0x80) { /* Linux 6.1 and later: two bytes for names that are long */
        if (at >= t->size) return 0;
        n = (n & 0x7f) | (size_t)t->image[at++] << 7;
    }
    if (!n || n > t->size - at) return 0;
    *bytes = at;
    return n;
}

/* Whether names begin at `at`: every marker must point to a name, and they must end at the markers.
 */
static bool names_fit(struct tables *t, size_t at, uint32_t symbols) {
    size_t p = at, bytes = 0;
    for (uint32_t i = 0; i < symbols; i++) {
        if (i % EACH == 0 && u32_at(t, t->markers + i / EACH * 4) != p - at) return false;
        size_t n = name_at(t, p, &bytes);
        if (!n) return false;
        p = bytes + n;
        if (p > t->markers) return false;
    }
    t->names_end = p;
    return align8(p) == t->markers;
}

static bool find_names(struct tables *t) {
    uint32_t last = u32_at(t, t->markers + 4 * (t->marker_count - 1));
    if (last >= t->markers) return false;
    size_t limit = t->markers - last, least = limit > EACH * 512 ? limit - EACH * 512 : 8;
    for (size_t names = limit & ~(size_t)7; names >= 8 && names >= least; names -= 8) {
        uint32_t symbols = u32_at(t, names - 8);
        if (u32_at(t, names - 4) || !symbols || symbols > MAX_SYMBOLS) continue;
        if ((symbols + EACH - 1) / EACH != t->marker_count) continue;
        if (!names_fit(t, names, symbols)) continue;
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
        if (!((find_markers(&t, false) && find_names(&t)) ||
              (find_markers(&t, true) && find_names(&t))) ||
            !find_offsets(&t))
            continue;
        *out = rv_symbols_new();
        add_all(&t, *out);
        rv_symbols_sort(*out);
        return 0;
    }
    return rv_fail(err, RV_E_FORMAT,
                   any ? "the kernel's symbol tables have a layout that is not known"
                       : "no kernel symbol tables (kallsyms) in memory");
}
