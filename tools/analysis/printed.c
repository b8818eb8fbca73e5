#include "tools/analysis/printed.h"

#include <stdlib.h>
#include <string.h>

static void begin(struct rv_printed *l, const struct rv_run_console *c) {
    if ((l->n & (l->n - 1)) == 0)
        l->line = rv_realloc(l->line, (l->n ? 2 * l->n : 1) * sizeof *l->line);
    l->line[l->n++] = (struct rv_printed_line){
        .at = c->at, .time = c->time, .task = c->task, .start = l->text.len};
}

void rv_printed_make(struct rv_printed *out, const struct rv_guest_run *run) {
    *out = (struct rv_printed){0};
    bool fresh = true;
    for (size_t i = 0; i < run->consoles; i++) {
        const struct rv_run_console *c = &run->console[i];
        if (i && c->time - run->console[i - 1].time > RV_NSEC) fresh = true;
        for (uint32_t done = 0; done < c->len;) {
            const uint8_t *from = c->data + done, *lf = memchr(from, '\n', c->len - done);
            uint32_t part = lf ? (uint32_t)(lf - from) + 1 : c->len - done;
            if (fresh) begin(out, c);
            rv_buf_put(&out->text, from, part);
            out->line[out->n - 1].len += part;
            fresh = lf != NULL;
            done += part;
        }
    }
}

void rv_printed_release(struct rv_printed *l) {
    free(l->line);
    rv_buf_release(&l->text);
    *l = (struct rv_printed){0};
}
