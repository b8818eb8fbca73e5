#include "tools/analysis/coverage.h"

#include <elfutils/libdw.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/analysis/arena.h"
#include "vmm/base/buf.h"

/* ---- how often an address ran ---- */

/* From `address` to the next step, `times`. */
struct step {
    uint64_t address;
    int64_t change; /* in times; summed up later */
    uint64_t times;
};

struct steps {
    struct step *v;
    size_t n;
};

static int by_step(const void *pa, const void *pb) {
    const struct step *a = pa, *b = pb;
    return a->address < b->address ? -1 : a->address > b->address;
}

static struct steps steps_of(const struct rv_tally *t, uint32_t file) {
    struct steps s = {.v = rv_alloc((2 * t->codes + 1) * sizeof *s.v)};
    for (size_t i = 0; i < t->codes; i++) {
        const struct rv_tally_code *c = &t->code[i];
        if (c->file != file) continue;
        s.v[s.n++] = (struct step){.address = c->address, .change = (int64_t)c->times};
        s.v[s.n++] = (struct step){.address = c->address + c->bytes, .change = -(int64_t)c->times};
    }
    if (s.n) qsort(s.v, s.n, sizeof *s.v, by_step);
    uint64_t times = 0;
    for (size_t i = 0; i < s.n; i++) s.v[i].times = times += (uint64_t)s.v[i].change;
    return s;
}

static uint64_t times_at(const struct steps *s, uint64_t address) {
    size_t low = 0, high = s->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (s->v[mid].address <= address)
            low = mid + 1;
        else
            high = mid;
    }
    return low ? s->v[low - 1].times : 0;
}

/* ---- lines ---- */

struct line {
    const char *source; /* interned */
    int line;
    uint64_t address, times;
};

struct lines {
    struct line *v; /* by source and line */
    size_t n, room;
    struct rv_arena *arena;
};

static void add_line(struct lines *s, const char *source, int line, uint64_t address,
                     uint64_t times) {
    if (s->n == s->room) {
        s->room = s->room ? 2 * s->room : 1024;
        s->v = rv_realloc(s->v, s->room * sizeof *s->v);
    }
    s->v[s->n++] = (struct line){rv_arena_intern(s->arena, source), line, address, times};
}

static void read_unit(struct lines *s, Dwarf_Die *unit, const struct steps *steps) {
    Dwarf_Lines *rows;
    size_t n;
    if (dwarf_getsrclines(unit, &rows, &n) != 0) return;
    for (size_t i = 0; i < n; i++) {
        Dwarf_Line *row = dwarf_onesrcline(rows, i);
        Dwarf_Addr address;
        int line;
        bool end = true, statement = false;
        const char *source = dwarf_linesrc(row, NULL, NULL);
        if (!source || dwarf_lineaddr(row, &address) || dwarf_lineno(row, &line) || line <= 0 ||
            dwarf_lineendsequence(row, &end) || end || dwarf_linebeginstatement(row, &statement) ||
            !statement)
            continue;
        add_line(s, source, line, address, times_at(steps, address));
    }
}

static int by_line(const void *pa, const void *pb) {
    const struct line *a = pa, *b = pb;
    int d = a->source == b->source ? 0 : strcmp(a->source, b->source);
    return d ? d : a->line - b->line;
}

/* One entry a line: as often as the part of it that ran most. */
static void join_lines(struct lines *s) {
    size_t n = 0;
    if (s->n) qsort(s->v, s->n, sizeof *s->v, by_line);
    for (size_t i = 0; i < s->n; i++) {
        struct line *last = n ? &s->v[n - 1] : NULL;
        if (!last || last->source != s->v[i].source || last->line != s->v[i].line)
            s->v[n++] = s->v[i];
        else if (s->v[i].times > last->times)
            last->times = s->v[i].times;
    }
    s->n = n;
}

static int by_place(const void *pa, const void *pb) {
    const struct line *a = pa, *b = pb;
    return a->address < b->address ? -1 : a->address > b->address;
}

static int read_lines(struct lines *s, const char *path, const struct steps *steps,
                      struct rv_err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return rv_fail_errno(err, RV_E_HOST, "cannot open %s", path);
    Dwarf *dw = dwarf_begin(fd, DWARF_C_READ);
    Dwarf_CU *unit = NULL;
    Dwarf_Die die;
    while (dw && dwarf_get_units(dw, unit, &unit, NULL, NULL, &die, NULL) == 0)
        read_unit(s, &die, steps);
    if (dw) dwarf_end(dw);
    close(fd);
    return 0;
}

/* ---- functions ---- */

struct function {
    const char *name, *source;
    int line;
    uint64_t times;
};

static bool is_code(const struct rv_symbol *y) { return strchr("tTwW", y->type) != NULL; }

/* The functions of a symbol table below `end`; *out is the caller's. rows are by address. */
static size_t functions_of(const struct rv_symbols *symbols, uint64_t end, const struct line *row,
                           size_t rows, const struct steps *steps, struct function **out) {
    size_t n = 0;
    *out = rv_alloc((rv_symbols_count(symbols) + 1) * sizeof **out);
    for (size_t i = 0; i < rv_symbols_count(symbols); i++) {
        const struct rv_symbol *y = rv_symbols_get(symbols, i);
        /* Of several names for one address, the plainest. */
        if (!is_code(y) || y->addr >= end || rv_symbols_at(symbols, y->addr) != y) continue;
        struct line key = {.address = y->addr};
        const struct line *l = rows ? bsearch(&key, row, rows, sizeof *row, by_place) : NULL;
        if (rows && !l) continue;
        n++;
        (*out)[n - 1] = (struct function){.name = y->name,
                                          .source = l ? l->source : NULL,
                                          .line = l ? l->line : (int)n,
                                          .times = times_at(steps, y->addr)};
    }
    return n;
}

/* A function's record is a line of text, and so is a source's name. */
static void put_text(const char *s, FILE *out) {
    for (; *s; s++) putc((unsigned char)*s < 32 ? '_' : *s, out);
}

static void put_functions(const struct function *f, size_t n, const char *source, FILE *out,
                          struct rv_coverage_sums *sums) {
    uint64_t found = 0, run = 0;
    for (size_t i = 0; i < n; i++) {
        if (f[i].source != source) continue;
        fprintf(out, "FN:%d,", f[i].line);
        put_text(f[i].name, out);
        putc('\n', out);
    }
    for (size_t i = 0; i < n; i++) {
        if (f[i].source != source) continue;
        fprintf(out, "FNDA:%" PRIu64 ",", f[i].times);
        put_text(f[i].name, out);
        putc('\n', out);
        found++;
        run += f[i].times != 0;
    }
    fprintf(out, "FNF:%" PRIu64 "\nFNH:%" PRIu64 "\n", found, run);
    sums->functions += found;
    sums->functions_run += run;
}

/* ---- records ---- */

static void put_source(const char *name, FILE *out) {
    fputs("TN:\nSF:", out);
    put_text(name, out);
    putc('\n', out);
}

static void put_lines(const struct lines *s, const struct function *f, size_t functions, FILE *out,
                      struct rv_coverage_sums *sums) {
    for (size_t i = 0; i < s->n;) {
        const char *source = s->v[i].source;
        uint64_t found = 0, run = 0;
        put_source(source, out);
        put_functions(f, functions, source, out, sums);
        for (; i < s->n && s->v[i].source == source; i++) {
            fprintf(out, "DA:%d,%" PRIu64 "\n", s->v[i].line, s->v[i].times);
            found++;
            run += s->v[i].times != 0;
        }
        fprintf(out, "LF:%" PRIu64 "\nLH:%" PRIu64 "\nend_of_record\n", found, run);
        sums->lines += found;
        sums->lines_run += run;
    }
}

static void put_symbols(const char *name, const struct rv_symbols *symbols, uint64_t end,
                        const struct steps *steps, FILE *out, struct rv_coverage_sums *sums) {
    struct function *f;
    size_t n = functions_of(symbols, end, NULL, 0, steps, &f);
    put_source(name, out);
    put_functions(f, n, NULL, out, sums);
    fputs("end_of_record\n", out);
    free(f);
}

int rv_coverage_file(const struct rv_tally *t, const struct rv_guest *g, unsigned i, FILE *out,
                     struct rv_coverage_sums *sums, struct rv_err *err) {
    struct rv_guest_file file = rv_guest_file(g, i);
    struct steps steps = steps_of(t, i);
    struct lines lines = {.arena = rv_arena_new()};
    int r = read_lines(&lines, file.path, &steps, err);
    if (!r && !lines.n) {
        put_symbols(file.path, file.prog->symbols, UINT64_MAX, &steps, out, sums);
    } else if (!r) {
        struct function *f;
        struct line *row = rv_alloc(lines.n * sizeof *row);
        memcpy(row, lines.v, lines.n * sizeof *row);
        qsort(row, lines.n, sizeof *row, by_place);
        size_t n = functions_of(file.prog->symbols, UINT64_MAX, row, lines.n, &steps, &f);
        join_lines(&lines);
        put_lines(&lines, f, n, out, sums);
        free(row);
        free(f);
    }
    rv_arena_free(lines.arena);
    free(lines.v);
    free(steps.v);
    return r;
}

void rv_coverage_kernel(const struct rv_tally *t, const struct rv_guest *g, FILE *out,
                        struct rv_coverage_sums *sums) {
    const struct rv_linux *l = rv_guest_linux(g);
    struct steps steps = steps_of(t, RV_TALLY_KERNEL);
    put_symbols("[kernel]", rv_linux_symbols(l), UINT64_MAX, &steps, out, sums);
    free(steps.v);
}
