#include "tools/analysis/inputs.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace-format/effect.h"
#include "vmm/base/buf.h"
#include "vmm/dev/dev.h"

/* ---- the machines ---- */

struct list {
    struct rv_start_difference *out;
    size_t n;
};

static void add(struct list *l, const char *what, const char *a, const char *b) {
    if (l->n == RV_START_DIFFERENCES) return;
    struct rv_start_difference *d = &l->out[l->n++];
    d->what = what;
    snprintf(d->side[0], sizeof d->side[0], "%s", a);
    snprintf(d->side[1], sizeof d->side[1], "%s", b);
}

static void text(struct list *l, const char *what, const char *a, const char *b) {
    if (strcmp(a, b) != 0) add(l, what, *a ? a : "(none)", *b ? b : "(none)");
}

static void number(struct list *l, const char *what, uint64_t a, uint64_t b) {
    char s[2][24];
    if (a == b) return;
    snprintf(s[0], sizeof s[0], "%" PRIu64, a);
    snprintf(s[1], sizeof s[1], "%" PRIu64, b);
    add(l, what, s[0], s[1]);
}

static const struct rv_trace_image *image(const struct rv_trace_header *h, const char *role) {
    for (size_t i = 0; i < h->image_count; i++)
        if (strcmp(h->images[i].role, role) == 0) return &h->images[i];
    return NULL;
}

static void describe_image(const struct rv_trace_image *im, char *out, size_t size) {
    char hash[RV_TRACE_HASH_TEXT];
    if (!im)
        snprintf(out, size, "(none)");
    else
        snprintf(out, size, "%.80s, %" PRIu64 " bytes, %.16s", im->name, im->size,
                 rv_trace_hash_format(&im->hash, hash));
}

static void images(struct list *l, const struct rv_trace_header *a,
                   const struct rv_trace_header *b) {
    static const char *const roles[] = {"kernel", "initrd", "disk"};
    for (unsigned i = 0; i < RV_COUNT(roles); i++) {
        const struct rv_trace_image *x = image(a, roles[i]), *y = image(b, roles[i]);
        if ((!x && !y) || (x && y && rv_trace_hash_equal(&x->hash, &y->hash))) continue;
        char s[2][160];
        describe_image(x, s[0], sizeof s[0]);
        describe_image(y, s[1], sizeof s[1]);
        add(l, roles[i], s[0], s[1]);
    }
}

static uint64_t option(const struct rv_trace_header *h, const char *key) {
    return rv_trace_option_number(h, key, 0);
}

static void devices(struct list *l, const struct rv_trace_header *a,
                    const struct rv_trace_header *b) {
    char s[2][160];
    size_t n = a->device_count > b->device_count ? a->device_count : b->device_count;
    for (size_t i = 0; i < n; i++) {
        const struct rv_trace_header *h[2] = {a, b};
        for (unsigned k = 0; k < 2; k++)
            if (i < h[k]->device_count)
                snprintf(s[k], sizeof s[k], "%.80s version %" PRIu32, h[k]->devices[i].name,
                         h[k]->devices[i].version);
            else
                snprintf(s[k], sizeof s[k], "(none)");
        if (strcmp(s[0], s[1]) != 0) {
            add(l, "device", s[0], s[1]);
            return;
        }
    }
}

size_t rv_start_compare(const struct rv_trace_reader *ra, const struct rv_trace_reader *rb,
                        struct rv_start_difference out[RV_START_DIFFERENCES]) {
    const struct rv_trace_header *a = rv_trace_reader_header(ra), *b = rv_trace_reader_header(rb);
    struct list l = {.out = out};
    images(&l, a, b);
    text(&l, "command line", a->command_line, b->command_line);
    number(&l, "memory (bytes)", a->memory_bytes, b->memory_bytes);
    text(&l, "CPU profile", a->cpu_profile, b->cpu_profile);
    number(&l, "time an instruction takes (2^-32 ns)", a->rate, b->rate);
    text(&l, "boot", a->boot_protocol, b->boot_protocol);
    number(&l, "positions are traps", option(a, RV_OPTION_BY_TRAP), option(b, RV_OPTION_BY_TRAP));
    number(&l, "quirks of the processor", option(a, RV_OPTION_QUIRKS), option(b, RV_OPTION_QUIRKS));
    devices(&l, a, b);
    return l.n;
}

/* ---- the events ---- */

enum class { CLASS_INPUT, CLASS_OUTPUT, CLASS_DIGEST, CLASS_OTHER };

static const enum rv_source sinks[] = {RV_SRC_CONSOLE, RV_SRC_DEBUGCON};

static enum class class_of(const struct rv_trace_event *ev) {
    switch (ev->kind){
        case RV_TRACE_INPUT : case RV_TRACE_JUMP : case RV_TRACE_QUERY : case RV_TRACE_TRAP : case
        RV_TRACE_LANDMARK : case RV_TRACE_FLAGS : return CLASS_INPUT;
        case RV_TRACE_STOP : return ev->source == RV_STOPPED_FROM_OUTSIDE ? CLASS_INPUT
                                                                          : CLASS_OTHER;
        case RV_TRACE_EFFECT : return CLASS_OUTPUT;
        case RV_TRACE_DIGEST : return CLASS_DIGEST;
        default : return CLASS_OTHER;
    }
}

/* Walks the events of one class. */
struct walker {
    struct rv_trace_cursor *c;
    enum class class;
    bool any;
    uint64_t ordinal;
    struct rv_trace_event ev;
    uint64_t bytes[RV_TRACE_MAX_KINDS]; /* passed already, by source */
};

static int step(struct walker *w, struct rv_err *err) {
    if (w->any && w->ev.source < RV_COUNT(w->bytes)) w->bytes[w->ev.source] += w->ev.len;
    for (;;) {
        w->ordinal = rv_trace_cursor_ordinal(w->c);
        const struct rv_trace_event *ev;
        int r = rv_trace_cursor_next(w->c, &ev, err);
        w->any = r == 0;
        if (r) return r == RV_E_END ? 0 : r;
        w->ev = *ev;
        if (class_of(ev) == w->class) return 0;
    }
}

static void note_place(struct rv_trace_place *p, const struct walker *w, size_t offset) {
    *p = (struct rv_trace_place){.any = w->any, .ordinal = w->ordinal, .offset = offset};
    if (!w->any) return;
    p->ev = w->ev;
    if (w->ev.len) {
        p->data = rv_alloc(w->ev.len);
        memcpy(p->data, w->ev.data, w->ev.len);
        p->ev.data = p->data;
    }
    if (w->ev.source < RV_COUNT(w->bytes)) p->before = w->bytes[w->ev.source] + offset;
}

static bool same_event(const struct rv_trace_event *a, const struct rv_trace_event *b) {
    return a->kind == b->kind && a->source == b->source && a->position == b->position &&
           a->time == b->time && a->value == b->value && a->value2 == b->value2 &&
           a->len == b->len && (!a->len || memcmp(a->data, b->data, a->len) == 0);
}

static size_t common_prefix(const struct rv_trace_event *a, const struct rv_trace_event *b) {
    size_t n = 0;
    while (n < a->len && n < b->len && a->data[n] == b->data[n]) n++;
    return n;
}

/* Walks both up to the first difference of a class; *differ tells whether there is one. */
static int compare_class(struct walker w[2], bool *differ, uint64_t *common, struct rv_err *err) {
    *differ = false;
    for (*common = 0;; ++*common) {
        for (unsigned n = 0; n < 2; n++) {
            int r = step(&w[n], err);
            if (r) return r;
        }
        if (!w[0].any && !w[1].any) return 0;
        if (w[0].any && w[1].any && same_event(&w[0].ev, &w[1].ev)) continue;
        *differ = true;
        return 0;
    }
}

static void begin(struct walker w[2], const struct rv_trace_reader *const r[2], enum class class) {
    for (unsigned n = 0; n < 2; n++)
        w[n] = (struct walker){.c = rv_trace_cursor_new(r[n]), .class = class};
}

static void finish(struct walker w[2]) {
    for (unsigned n = 0; n < 2; n++) rv_trace_cursor_free(w[n].c);
}

static void note_both(struct rv_trace_place out[2], const struct walker w[2]) {
    size_t offset = 0;
    if (w[0].any && w[1].any && w[0].ev.kind == w[1].ev.kind && w[0].ev.source == w[1].ev.source)
        offset = common_prefix(&w[0].ev, &w[1].ev);
    for (unsigned n = 0; n < 2; n++) note_place(&out[n], &w[n], offset);
}

/* The next byte printed to a sink: w->ev holds it at *at. Recorders cut output into events as it
 * suits them, so only the bytes can be compared. */
static int next_byte(struct walker *w, enum rv_source sink, size_t *at, struct rv_err *err) {
    if (w->any) ++*at;
    while (!w->any || w->ev.source != (uint32_t)sink || *at >= w->ev.len) {
        int r = step(w, err);
        if (r || !w->any) return r;
        *at = 0;
    }
    return 0;
}

static int compare_output(struct rv_inputs_compared *out,
                          const struct rv_trace_reader *const readers[2], enum rv_source sink,
                          struct rv_err *err) {
    struct walker w[2];
    size_t at[2] = {0, 0};
    begin(w, readers, CLASS_OUTPUT);
    int r;
    do {
        r = next_byte(&w[0], sink, &at[0], err);
        if (!r) r = next_byte(&w[1], sink, &at[1], err);
    } while (!r && w[0].any && w[1].any && w[0].ev.data[at[0]] == w[1].ev.data[at[1]]);
    if (!r && (w[0].any || w[1].any)) {
        out->outputs_differ = true;
        for (unsigned n = 0; n < 2; n++) note_place(&out->output[n], &w[n], at[n]);
    }
    finish(w);
    return r;
}

/* Where the first difference of two input streams takes effect: the earlier of the two. */
static rv_icount parting(const struct walker w[2], const struct rv_trace_reader *const r[2]) {
    rv_icount at[2];
    for (unsigned n = 0; n < 2; n++) {
        struct rv_trace_state st;
        rv_trace_reader_state(r[n], &st);
        at[n] = w[n].any ? w[n].ev.position : st.position;
    }
    return at[0] < at[1] ? at[0] : at[1];
}

int rv_inputs_compare(const struct rv_trace_reader *a, const struct rv_trace_reader *b,
                      struct rv_inputs_compared *out, struct rv_err *err) {
    const struct rv_trace_reader *const readers[2] = {a, b};
    struct walker w[2];
    *out = (struct rv_inputs_compared){0};
    begin(w, readers, CLASS_INPUT);
    int r = compare_class(w, &out->differ, &out->common, err);
    if (!r && out->differ) {
        note_both(out->side, w);
        out->from = parting(w, readers);
    }
    finish(w);
    for (unsigned i = 0; !r && !out->outputs_differ && i < RV_COUNT(sinks); i++)
        r = compare_output(out, readers, sinks[i], err);
    if (r) return r;
    begin(w, readers, CLASS_DIGEST);
    for (;;) {
        r = step(&w[0], err);
        if (!r) r = step(&w[1], err);
        if (r || !w[0].any || !w[1].any) break;
        if (!same_event(&w[0].ev, &w[1].ev)) {
            out->digests_differ = true;
            out->digest_differs =
                w[0].ev.position < w[1].ev.position ? w[0].ev.position : w[1].ev.position;
            break;
        }
        out->digest_alike = w[0].ev.position;
        out->digests++;
    }
    finish(w);
    return r;
}

void rv_inputs_release(struct rv_inputs_compared *c) {
    for (unsigned n = 0; n < 2; n++) {
        free(c->side[n].data);
        free(c->output[n].data);
    }
    *c = (struct rv_inputs_compared){0};
}
