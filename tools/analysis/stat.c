#include "tools/analysis/stat.h"

#include <stdlib.h>
#include <string.h>

#include "vmm/base/buf.h"

static size_t span_of(const struct rv_stat *s, rv_icount at) {
    size_t i = s->spans - 1;
    while (i > 0 && s->span[i].from > at) i--;
    return i;
}

static struct rv_stat_span *span_at(struct rv_stat *s, rv_icount at) {
    return &s->span[span_of(s, at)];
}

/* Marks a set's pages; how many were not marked before. */
static uint64_t mark(uint8_t *marks, uint64_t pages, const struct rv_page_set *set, uint8_t bit) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < set->n; i++) {
        if (set->page[i] >= pages || (marks[set->page[i]] & bit)) continue;
        marks[set->page[i]] |= bit;
        n++;
    }
    return n;
}

enum { WRITTEN = 1, EXECUTED = 2 };

static void count_pages(struct rv_stat *s, const struct rv_history *h) {
    uint8_t *all = rv_alloc(h->page_count), *here = rv_alloc(h->page_count);
    size_t last = SIZE_MAX;
    s->pages = h->page_count;
    for (size_t i = 0; i < h->epochs && h->epoch[i].from < s->instructions; i++) {
        const struct rv_epoch *e = &h->epoch[i];
        size_t n = span_of(s, e->from);
        struct rv_stat_span *span = &s->span[n];
        if (n != last) memset(here, 0, h->page_count);
        last = n;
        span->written += mark(here, h->page_count, &e->written, WRITTEN);
        span->executed += mark(here, h->page_count, &e->executed, EXECUTED);
        s->written += mark(all, h->page_count, &e->written, WRITTEN);
        s->executed += mark(all, h->page_count, &e->executed, EXECUTED);
    }
    for (uint64_t i = 0; i < h->page_count; i++) s->touched += all[i] != 0;
    free(all);
    free(here);
}

static void count_time(struct rv_stat *s, const struct rv_guest_run *run,
                       const struct rv_trace_header *h) {
    for (size_t i = 0; i < run->events; i++)
        if (run->event[i].kind == RV_TRACE_JUMP) s->moved_on += run->event[i].value;
    if (!h->rate) return;
    rv_ns computing = (rv_ns)(((unsigned __int128)run->end * h->rate) >> 32);
    s->not_computing = run->end_time > computing ? run->end_time - computing : 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct rv_stat_call *)a)->name, ((const struct rv_stat_call *)b)->name);
}

static int by_times(const void *a, const void *b) {
    const struct rv_stat_call *x = a, *y = b;
    return x->times != y->times ? (x->times < y->times ? 1 : -1) : by_name(a, b);
}

static void count_calls(struct rv_stat *s, const struct rv_guest_run *run) {
    struct rv_stat_call *c = rv_alloc((run->syscalls + 1) * sizeof *c);
    for (size_t i = 0; i < run->syscalls; i++) {
        const struct rv_run_syscall *y = &run->syscall[i];
        bool failed = y->exit != RV_NEVER && y->result < 0 && y->result >= -4095;
        c[i] = (struct rv_stat_call){y->name, 1, failed,
                                     y->exit == RV_NEVER ? 0 : y->exit_time - y->enter_time};
        s->failed += failed;
        span_at(s, y->enter)->syscalls++;
    }
    qsort(c, run->syscalls, sizeof *c, by_name);
    for (size_t i = 0; i < run->syscalls; i++) {
        struct rv_stat_call *last = s->calls ? &c[s->calls - 1] : NULL;
        if (!last || strcmp(last->name, c[i].name) != 0) {
            c[s->calls++] = c[i];
            continue;
        }
        last->times++;
        last->failed += c[i].failed;
        last->time += c[i].time;
    }
    qsort(c, s->calls, sizeof *c, by_times);
    s->call = c;
}

static void count_tasks(struct rv_stat *s, const struct rv_guest_run *run) {
    for (size_t i = 0; i < run->tasks; i++) {
        const struct rv_run_task *t = &run->task[i];
        if (t->kernel) {
            s->kernel_threads++;
            continue;
        }
        s->threads++;
        s->processes += t->process == i;
        s->signalled += t->process == i && t->exited && (t->exit_code & 0x7f);
    }
    s->execs = run->execs;
}

void rv_stat_make(struct rv_stat *out, const struct rv_guest_run *run,
                  const struct rv_history *history, const struct rv_trace_reader *reader) {
    *out = (struct rv_stat){.instructions = run->end, .time = run->end_time};
    out->spans = run->end < RV_STAT_SPANS ? 1 : RV_STAT_SPANS;
    for (size_t i = 0; i < out->spans; i++)
        out->span[i].from = (rv_icount)((unsigned __int128)run->end * i / out->spans);
    count_time(out, run, rv_trace_reader_header(reader));
    count_pages(out, history);
    count_tasks(out, run);
    count_calls(out, run);
    for (size_t i = 0; i < run->traps; i++) {
        const struct rv_run_trap *t = &run->trap[i];
        struct rv_stat_span *span = span_at(out, t->at.icount);
        out->vector[t->kind & 3][t->vector]++;
        *(t->kind == RV_TRAP_EXCEPTION ? &span->exceptions : &span->interrupts) += 1;
    }
    for (size_t i = 0; i < run->switches; i++) span_at(out, run->sw[i].at)->switches++;
    for (size_t i = 0; i < run->consoles; i++)
        span_at(out, run->console[i].at)->printed += run->console[i].len;
    for (size_t i = 0; i < run->events; i++)
        if (run->event[i].kind == RV_TRACE_INPUT)
            span_at(out, run->event[i].at)->input += run->event[i].len;
}

void rv_stat_release(struct rv_stat *s) {
    free(s->call);
    *s = (struct rv_stat){0};
}
