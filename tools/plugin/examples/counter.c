/* Counts system calls and interrupts of a recording:
 *
 *     retro analyze --plugin ./counter.so FILE
 *     retro analyze --plugin ./counter.so,process=85 FILE */
#include <inttypes.h>
#include <retrovisor/plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALLS 512

struct counts {
    uint64_t call[CALLS + 1]; /* the last one: numbers beyond */
    uint64_t failed;
    uint64_t vector[256];
};

static int start(const struct retrovisor_api *api, struct retrovisor_host *h,
                 const struct retrovisor_argument *argument, size_t arguments, void **self) {
    struct retrovisor_filter f = {.size = sizeof f, .last = UINT64_MAX};
    for (size_t i = 0; i < arguments; i++) {
        if (strcmp(argument[i].key, "process") != 0) {
            api->fail(h, "the only argument is process=NUMBER");
            return -1;
        }
        f.process = (uint32_t)strtoul(argument[i].value, NULL, 10);
    }
    static const uint32_t kinds[] = {RETROVISOR_SYSCALL, RETROVISOR_SYSCALL_RETURN,
                                     RETROVISOR_INTERRUPT};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        f.kind = kinds[i];
        if (api->show(h, &f)) return -1;
    }
    *self = calloc(1, sizeof(struct counts));
    return *self ? 0 : -1;
}

static void *piece_begin(void *self, struct retrovisor_guest *g, uint64_t from) {
    (void)self, (void)g, (void)from;
    return calloc(1, sizeof(struct counts));
}

static void event(void *self, void *piece, struct retrovisor_guest *g,
                  const struct retrovisor_event *e) {
    struct counts *c = piece;
    (void)self, (void)g;
    if (!c) return;
    if (e->kind == RETROVISOR_SYSCALL) c->call[e->number < CALLS ? e->number : CALLS]++;
    if (e->kind == RETROVISOR_SYSCALL_RETURN && e->result < 0 && e->result >= -4095) c->failed++;
    if (e->kind == RETROVISOR_INTERRUPT) c->vector[e->vector & 0xff]++;
}

static int merge(void *self, void *piece) {
    struct counts *all = self, *c = piece;
    if (!c) return -1;
    for (size_t i = 0; i <= CALLS; i++) all->call[i] += c->call[i];
    for (size_t i = 0; i < 256; i++) all->vector[i] += c->vector[i];
    all->failed += c->failed;
    free(c);
    return 0;
}

static void drop(void *self, void *piece) {
    (void)self;
    free(piece);
}

static int finish(void *self, int whole) {
    struct counts *c = self;
    uint64_t calls = 0;
    for (size_t i = 0; i <= CALLS; i++) {
        calls += c->call[i];
        if (c->call[i]) printf("syscall %zu: %" PRIu64 "\n", i, c->call[i]);
    }
    for (size_t i = 0; i < 256; i++)
        if (c->vector[i]) printf("vector %zu: %" PRIu64 "\n", i, c->vector[i]);
    printf("%" PRIu64 " system calls, %" PRIu64 " of them failed%s\n", calls, c->failed,
           whole ? "" : " (interrupted)");
    free(c);
    return 0;
}

static const struct retrovisor_plugin plugin = {
    .size = sizeof plugin,
    .version = RETROVISOR_PLUGIN_VERSION,
    .name = "counter",
    .description = "counts system calls and interrupts",
    .start = start,
    .piece_begin = piece_begin,
    .event = event,
    .merge = merge,
    .drop = drop,
    .finish = finish,
};

const struct retrovisor_plugin *retrovisor_plugin(uint32_t host_version) {
    (void)host_version;
    return &plugin;
}
