/* A profile of exact counts, for speedscope and pprof. A stack has the process outermost, then what
 * its code belongs to, then the function. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "pprof.pb-c.h"
#include "tools/analysis/tables.h"
#include "tools/analysis/utf8.h"

static const char *function_name(const struct rv_tally_function *f) {
    return f->name ? f->name : "(no symbol)";
}

/* "ledger (84)" as UTF-8. */
static void process_name(const struct rv_tally_process *p, struct rv_buf *out) {
    rv_buf_clear(out);
    rv_utf8_put(out, (const uint8_t *)p->comm, strlen(p->comm));
    rv_buf_printf(out, " (%u)", p->pid);
}

/* ---- speedscope ---- */

static void put_json(FILE *f, const uint8_t *utf8, size_t len) {
    fputc('"', f);
    for (size_t i = 0; i < len; i++) {
        if (utf8[i] == '"' || utf8[i] == '\\')
            fprintf(f, "\\%c", utf8[i]);
        else if (utf8[i] < 32 || utf8[i] == 127)
            fprintf(f, "\\u%04x", utf8[i]);
        else
            fputc(utf8[i], f);
    }
    fputc('"', f);
}

static void put_text(FILE *f, const char *s) {
    struct rv_buf b = {0};
    rv_utf8_put(&b, (const uint8_t *)s, strlen(s));
    put_json(f, b.data, b.len);
    rv_buf_release(&b);
}

/* Frames: processes, then functions. A module is the file of its functions. */
static void put_frames(FILE *f, const struct rv_tally *t) {
    struct rv_buf name = {0};
    for (size_t i = 0; i < t->processes; i++) {
        process_name(&t->process[i], &name);
        fputs(i ? ",{\"name\":" : "{\"name\":", f);
        put_json(f, name.data, name.len);
        fputc('}', f);
    }
    for (size_t i = 0; i < t->functions; i++) {
        fputs(i || t->processes ? ",{\"name\":" : "{\"name\":", f);
        put_text(f, function_name(&t->function[i]));
        fputs(",\"file\":", f);
        put_text(f, t->function[i].module);
        fputc('}', f);
    }
    rv_buf_release(&name);
}

int rv_export_speedscope(const struct rv_export *x, const char *path, struct rv_err *err) {
    const struct rv_tally *t = x->tally;
    FILE *f = fopen(path, "wxe");
    if (!f) return rv_fail_errno(err, RV_E_HOST, "cannot create %s", path);
    fputs("{\"$schema\":\"https://www.speedscope.app/"
          "file-format-schema.json\",\"exporter\":\"retro\","
          "\"name\":",
          f);
    put_text(f, x->name);
    fputs(",\"activeProfileIndex\":0,\"shared\":{\"frames\":[", f);
    put_frames(f, t);
    fputs("]},\"profiles\":[{\"type\":\"sampled\",\"name\":\"instructions\",\"unit\":\"none\","
          "\"startValue\":0,\"endValue\":",
          f);
    fprintf(f, "%llu,\"samples\":[", (unsigned long long)t->total);
    for (size_t i = 0; i < t->entries; i++)
        fprintf(f, "%s[%u,%zu]", i ? "," : "", t->entry[i].process,
                t->processes + t->entry[i].function);
    fputs("],\"weights\":[", f);
    for (size_t i = 0; i < t->entries; i++)
        fprintf(f, "%s%llu", i ? "," : "", (unsigned long long)t->entry[i].instructions);
    fputs("]}]}\n", f);
    bool bad = ferror(f);
    if (fclose(f) != 0 || bad) return rv_fail_errno(err, RV_E_HOST, "cannot write %s", path);
    return 0;
}

/* ---- pprof ---- */

typedef Retro__Pprof__Profile profile;

/* Strings in the order in which they are added; equal ones are not looked for. */
struct strings {
    char **s;
    size_t n;
};

static int64_t add_string(struct strings *t, const uint8_t *data, size_t len) {
    struct rv_buf b = {0};
    rv_utf8_put(&b, data, len);
    rv_buf_put_u8(&b, 0);
    if ((t->n & (t->n - 1)) == 0) t->s = rv_realloc(t->s, (t->n ? 2 * t->n : 1) * sizeof *t->s);
    t->s[t->n] = (char *)b.data;
    return (int64_t)t->n++;
}

static int64_t add_text(struct strings *t, const char *s) {
    return add_string(t, (const uint8_t *)s, strlen(s));
}

/* One frame: a function, and the location that is it. Processes have numbers from 1, functions come
 * behind them. */
struct frame {
    Retro__Pprof__Function function;
    Retro__Pprof__Location location;
    Retro__Pprof__Line line, *lines[1];
};

static void set_frame(struct frame *f, uint64_t id, int64_t name, int64_t file, uint64_t address) {
    retro__pprof__function__init(&f->function);
    retro__pprof__location__init(&f->location);
    retro__pprof__line__init(&f->line);
    f->function.id = f->location.id = f->line.function_id = id;
    f->function.name = name;
    f->function.filename = file;
    f->location.address = address;
    f->lines[0] = &f->line;
    f->location.line = f->lines;
    f->location.n_line = 1;
}

struct sample {
    Retro__Pprof__Sample sample;
    uint64_t locations[2];
    int64_t value[1];
    Retro__Pprof__Label label, *labels[1];
};

static int write_gzip(const char *path, const uint8_t *data, size_t len, struct rv_err *err) {
    gzFile z = gzopen(path, "wbxe");
    if (!z) return rv_fail_errno(err, RV_E_HOST, "cannot create %s", path);
    bool bad = false;
    for (size_t done = 0; done < len && !bad;) {
        unsigned part = len - done > 1u << 20 ? 1u << 20 : (unsigned)(len - done);
        bad = gzwrite(z, data + done, part) != (int)part;
        done += part;
    }
    if (gzclose(z) != Z_OK || bad) return rv_fail_errno(err, RV_E_HOST, "cannot write %s", path);
    return 0;
}

int rv_export_pprof(const struct rv_export *x, const char *path, struct rv_err *err) {
    const struct rv_tally *t = x->tally;
    profile p = RETRO__PPROF__PROFILE__INIT;
    Retro__Pprof__ValueType type = RETRO__PPROF__VALUE_TYPE__INIT, *types[1] = {&type};
    struct strings strings = {0};
    struct rv_buf name = {0};
    size_t frames = t->processes + t->functions;
    struct frame *frame = rv_alloc((frames + 1) * sizeof *frame);
    struct sample *sample = rv_alloc((t->entries + 1) * sizeof *sample);
    p.function = rv_alloc((frames + 1) * sizeof(void *));
    p.location = rv_alloc((frames + 1) * sizeof(void *));
    p.sample = rv_alloc((t->entries + 1) * sizeof(void *));
    add_text(&strings, "");
    type.type = add_text(&strings, "instructions");
    type.unit = add_text(&strings, "count");
    int64_t pid = add_text(&strings, "pid");
    for (size_t i = 0; i < t->processes; i++) {
        process_name(&t->process[i], &name);
        set_frame(&frame[i], i + 1, add_string(&strings, name.data, name.len), 0, 0);
    }
    for (size_t i = 0; i < t->functions; i++)
        set_frame(&frame[t->processes + i], t->processes + i + 1,
                  add_text(&strings, function_name(&t->function[i])),
                  add_text(&strings, t->function[i].module), t->function[i].address);
    for (size_t i = 0; i < frames; i++) {
        p.function[i] = &frame[i].function;
        p.location[i] = &frame[i].location;
    }
    for (size_t i = 0; i < t->entries; i++) {
        const struct rv_tally_entry *e = &t->entry[i];
        struct sample *s = &sample[i];
        retro__pprof__sample__init(&s->sample);
        retro__pprof__label__init(&s->label);
        s->locations[0] = t->processes + e->function + 1;
        s->locations[1] = e->process + 1;
        s->value[0] = (int64_t)e->instructions;
        s->label.key = pid;
        s->label.num = t->process[e->process].pid;
        s->labels[0] = &s->label;
        s->sample.location_id = s->locations;
        s->sample.n_location_id = 2;
        s->sample.value = s->value;
        s->sample.n_value = 1;
        s->sample.label = s->labels;
        s->sample.n_label = 1;
        p.sample[i] = &s->sample;
    }
    p.sample_type = types;
    p.n_sample_type = 1;
    p.n_sample = t->entries;
    p.n_function = p.n_location = frames;
    p.string_table = strings.s;
    p.n_string_table = strings.n;
    struct rv_buf packed = {0};
    size_t size = retro__pprof__profile__get_packed_size(&p);
    retro__pprof__profile__pack(&p, rv_buf_grow(&packed, size));
    int r = write_gzip(path, packed.data, packed.len, err);
    rv_buf_release(&packed);
    rv_buf_release(&name);
    for (size_t i = 0; i < strings.n; i++) free(strings.s[i]);
    free(strings.s);
    free(p.sample);
    free(p.location);
    free(p.function);
    free(sample);
    free(frame);
    return r;
}
