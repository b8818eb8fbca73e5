#include "tools/analysis/btf.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define MAGIC 0xeb9f
#define DEEP  32      /* typedefs, qualifiers and structures within each other */
#define LOOKS 1000000 /* at members, for one that is sought */

enum kind {
    INT = 1,
    PTR,
    ARRAY,
    STRUCT,
    UNION,
    ENUM,
    FWD,
    TYPEDEF,
    VOLATILE,
    CONST,
    RESTRICT,
    FUNC,
    FUNC_PROTO,
    VAR,
    DATASEC,
    FLOAT,
    DECL_TAG,
    TYPE_TAG,
    ENUM64,
};

struct rv_btf {
    uint8_t *types;
    char *strings;
    uint32_t types_len, strings_len;
    uint32_t *at; /* of type i, counted from 1: offset in types */
    uint32_t n;   /* types, and one for void */
    uint32_t *slot;
    size_t slots; /* hash of names of structures, unions, typedefs and functions */
};

/* A type as it is on file. */
struct type {
    uint32_t name, info, more; /* more: size or type */
};

static unsigned kind_of(const struct type *t) { return t->info >> 24 & 0x1f; }
static unsigned count_of(const struct type *t) { return t->info & 0xffff; }

/* Bytes behind a type's three words; false for kinds that are not known. */
static bool extra(const struct type *t, uint32_t *bytes) {
    unsigned n = count_of(t);
    switch (kind_of(t)) {
    case PTR:
    case FWD:
    case TYPEDEF:
    case VOLATILE:
    case CONST:
    case RESTRICT:
    case FUNC:
    case FLOAT:
    case TYPE_TAG: *bytes = 0; return true;
    case INT:
    case VAR:
    case DECL_TAG: *bytes = 4; return true;
    case ARRAY: *bytes = 12; return true;
    case STRUCT:
    case UNION:
    case DATASEC:
    case ENUM64: *bytes = 12 * n; return true;
    case ENUM:
    case FUNC_PROTO: *bytes = 8 * n; return true;
    default: return false;
    }
}

static bool get(const struct rv_btf *b, uint32_t id, struct type *t) {
    if (!id || id >= b->n) return false;
    memcpy(t, b->types + b->at[id], sizeof *t);
    return true;
}

static uint32_t word(const struct rv_btf *b, uint32_t id, unsigned i) {
    uint32_t v;
    memcpy(&v, b->types + b->at[id] + 12 + 4 * i, 4);
    return v;
}

static const char *name_of(const struct rv_btf *b, uint32_t offset) {
    return offset < b->strings_len ? b->strings + offset : "";
}

static bool is_named(unsigned kind) {
    return kind == STRUCT || kind == UNION || kind == TYPEDEF || kind == FUNC;
}

static size_t hash(const struct rv_btf *b, const char *name) {
    return XXH3_64bits(name, strlen(name)) & (b->slots - 1);
}

static void index_names(struct rv_btf *b) {
    for (b->slots = 1024; b->slots < 2 * (size_t)b->n;) b->slots *= 2;
    b->slot = rv_alloc(b->slots * sizeof *b->slot);
    for (uint32_t id = 1; id < b->n; id++) {
        struct type t;
        get(b, id, &t);
        const char *name = name_of(b, t.name);
        if (!is_named(kind_of(&t)) || !*name) continue;
        size_t i = hash(b, name);
        while (b->slot[i]) i = (i + 1) & (b->slots - 1);
        b->slot[i] = id;
    }
}

static bool is_function(unsigned kind) { return kind == FUNC; }

static uint32_t find(const struct rv_btf *b, const char *name, bool function) {
    for (size_t i = hash(b, name); b->slot[i]; i = (i + 1) & (b->slots - 1)) {
        struct type t;
        if (!get(b, b->slot[i], &t)) continue;
        if (is_function(kind_of(&t)) == function && strcmp(name_of(b, t.name), name) == 0)
            return b->slot[i];
    }
    return 0;
}

/* Cuts the type section into types. */
static bool cut(struct rv_btf *b) {
    uint32_t room = 0, p = 0;
    b->n = 1;
    while (p < b->types_len) {
        struct type t;
        uint32_t more;
        if (b->types_len - p < sizeof t) return false;
        memcpy(&t, b->types + p, sizeof t);
        if (!extra(&t, &more) || more > b->types_len - p - sizeof t) return false;
        if (b->n >= room) {
            room = room ? 2 * room : 4096;
            b->at = rv_realloc(b->at, room * sizeof *b->at);
        }
        b->at[b->n++] = p;
        p += (uint32_t)sizeof t + more;
    }
    return b->n > 1;
}

int rv_btf_read(struct rv_btf **out, const uint8_t *data, size_t len, struct rv_err *err) {
    struct rv_cursor c = rv_cursor_of(data, len);
    uint16_t magic = rv_cursor_u16(&c);
    rv_cursor_u16(&c); /* version and flags */
    uint32_t header = rv_cursor_u32(&c), type_off = rv_cursor_u32(&c), type_len = rv_cursor_u32(&c),
             string_off = rv_cursor_u32(&c), string_len = rv_cursor_u32(&c);
    if (c.bad || magic != MAGIC || header < 24 || header > len || type_off > len - header ||
        type_len > len - header - type_off || string_off > len - header ||
        string_len > len - header - string_off || !string_len)
        return rv_fail(err, RV_E_FORMAT, "the kernel's BTF is damaged");
    struct rv_btf *b = rv_alloc(sizeof *b);
    b->types_len = type_len;
    b->strings_len = string_len;
    b->types = rv_alloc(type_len + 1);
    memcpy(b->types, data + header + type_off, type_len);
    b->strings = rv_alloc((size_t)string_len + 1);
    memcpy(b->strings, data + header + string_off, string_len);
    if (!cut(b)) {
        rv_btf_free(b);
        return rv_fail(err, RV_E_FORMAT, "the kernel's BTF holds types that are not known");
    }
    index_names(b);
    *out = b;
    return 0;
}

void rv_btf_free(struct rv_btf *b) {
    if (!b) return;
    free(b->types);
    free(b->strings);
    free(b->at);
    free(b->slot);
    free(b);
}

/* Looks through typedefs and qualifiers; *konst: one of them was const. 0: void, or too deep. */
static uint32_t plain(const struct rv_btf *b, uint32_t id, bool *konst) {
    struct type t;
    for (unsigned depth = 0; depth < DEEP && get(b, id, &t); depth++) {
        switch (kind_of(&t)) {
        case CONST:
            if (konst) *konst = true;
            id = t.more;
            break;
        case TYPEDEF:
        case VOLATILE:
        case RESTRICT:
        case TYPE_TAG: id = t.more; break;
        default: return id;
        }
    }
    return 0;
}

static bool size_of(const struct rv_btf *b, uint32_t id, uint64_t *size, unsigned depth) {
    struct type t;
    uint64_t one;
    id = plain(b, id, NULL);
    if (depth > DEEP || !get(b, id, &t)) return false;
    switch (kind_of(&t)) {
    case INT:
    case STRUCT:
    case UNION:
    case ENUM:
    case ENUM64:
    case FLOAT: *size = t.more; return true;
    case PTR: *size = 8; return true;
    case ARRAY:
        if (!size_of(b, word(b, id, 0), &one, depth + 1)) return false;
        *size = one * word(b, id, 2);
        return true;
    default: return false;
    }
}

/* Looks a member up by the first n bytes of its name, within unnamed members too. */
static bool member(const struct rv_btf *b, uint32_t id, const char *name, size_t n, uint64_t base,
                   uint64_t *offset, uint32_t *type, unsigned depth, unsigned *looks) {
    struct type t;
    id = plain(b, id, NULL);
    if (depth > DEEP || !get(b, id, &t) || (kind_of(&t) != STRUCT && kind_of(&t) != UNION))
        return false;
    for (unsigned i = 0; i < count_of(&t); i++) {
        if (!*looks) return false;
        --*looks;
        const char *own = name_of(b, word(b, id, 3 * i));
        uint32_t bits = word(b, id, 3 * i + 2), of = word(b, id, 3 * i + 1);
        bool field = t.info >> 31 && bits >> 24;
        if (t.info >> 31) bits &= 0xffffff;
        if (strlen(own) == n && memcmp(own, name, n) == 0 && n) {
            if (field || bits % 8) return false;
            *offset = base + bits / 8;
            *type = of;
            return true;
        }
        if (!*own && !field &&
            member(b, of, name, n, base + bits / 8, offset, type, depth + 1, looks))
            return true;
    }
    return false;
}

bool rv_btf_member(const struct rv_btf *b, const char *type, const char *path, uint64_t *offset,
                   uint64_t *size) {
    uint32_t id = find(b, type, false);
    unsigned looks = LOOKS;
    *offset = 0;
    for (const char *p = path; id; p++) {
        size_t n = strcspn(p, ".");
        if (!member(b, id, p, n, *offset, offset, &id, 0, &looks)) return false;
        p += n;
        if (!*p) return !size || size_of(b, id, size, 0);
    }
    return false;
}

bool rv_btf_field(const struct rv_btf *b, const char *type, const char *name, unsigned *bits) {
    struct type t;
    uint32_t id = find(b, type, false);
    if (!get(b, id, &t) || (kind_of(&t) != STRUCT && kind_of(&t) != UNION)) return false;
    for (unsigned i = 0; i < count_of(&t); i++) {
        if (strcmp(name_of(b, word(b, id, 3 * i)), name) != 0) continue;
        if (bits) *bits = t.info >> 31 ? word(b, id, 3 * i + 2) >> 24 : 0;
        return true;
    }
    return false;
}

bool rv_btf_sizeof(const struct rv_btf *b, const char *type, uint64_t *size) {
    uint32_t id = find(b, type, false);
    return id && size_of(b, id, size, 0);
}

static void describe(const struct rv_btf *b, uint32_t id, struct rv_btf_param *p) {
    struct type t, to;
    uint64_t size = 0;
    id = plain(b, id, NULL);
    p->class = RV_BTF_OTHER;
    if (!get(b, id, &t)) return;
    size_of(b, id, &size, 0);
    p->size = size > 16 ? 16 : (unsigned)size;
    switch (kind_of(&t)) {
    case INT: {
        unsigned encoding = word(b, id, 0) >> 24;
        p->class = encoding & 4 ? RV_BTF_BOOL : encoding & 1 ? RV_BTF_SIGNED : RV_BTF_UNSIGNED;
        break;
    }
    case ENUM:
    case ENUM64: p->class = RV_BTF_SIGNED; break;
    case PTR: {
        bool konst = false;
        uint32_t target = plain(b, t.more, &konst);
        p->class = RV_BTF_POINTER;
        if (!get(b, target, &to)) break;
        if (kind_of(&to) == INT && to.more == 1) p->string = konst;
        if (kind_of(&to) == STRUCT || kind_of(&to) == UNION) p->type = name_of(b, to.name);
        break;
    }
    default: break;
    }
}

int rv_btf_function(const struct rv_btf *b, const char *name, struct rv_btf_param *param, int max,
                    struct rv_btf_param *result) {
    struct type f, proto;
    uint32_t id = find(b, name, true);
    if (!get(b, id, &f) || !get(b, f.more, &proto) || kind_of(&proto) != FUNC_PROTO) return -1;
    *result = (struct rv_btf_param){.name = ""};
    describe(b, proto.more, result);
    int n = (int)count_of(&proto);
    /* The last of a function with variable arguments has neither name nor type. */
    if (n && !word(b, f.more, 2 * (unsigned)n - 1)) n--;
    for (int i = 0; i < n && i < max; i++) {
        param[i] = (struct rv_btf_param){.name = name_of(b, word(b, f.more, 2 * (unsigned)i))};
        describe(b, word(b, f.more, 2 * (unsigned)i + 1), &param[i]);
    }
    return n;
}
