/* Which pages of code ran, and how many instructions in each:
 *
 *     retro analyze --plugin ./coverage.so FILE
 *     retro analyze --plugin ./coverage.so,user FILE      only of programs */
#include <inttypes.h>
#include <retrovisor/plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct page {
    uint64_t number; /* of the linear address, with the root of its address space */
    uint64_t root;
    uint64_t instructions; /* 0: free */
};

struct pages {
    struct page *page; /* a hash */
    size_t n, room;
};

static void put(struct pages *p, uint64_t number, uint64_t root, uint64_t instructions) {
    if (2 * p->n >= p->room) {
        struct pages grown = {.room = p->room ? 2 * p->room : 1024};
        grown.page = calloc(grown.room, sizeof *grown.page);
        if (!grown.page) abort();
        for (size_t i = 0; i < p->room; i++)
            if (p->page[i].instructions)
                put(&grown, p->page[i].number, p->page[i].root, p->page[i].instructions);
        free(p->page);
        *p = grown;
    }
    size_t i = (size_t)((number ^ root) * 0x9e3779b97f4a7c15ull >> 20) & (p->room - 1);
    while (p->page[i].instructions && !(p->page[i].number == number && p->page[i].root == root))
        i = (i + 1) & (p->room - 1);
    if (!p->page[i].instructions) p->n++;
    p->page[i].number = number;
    p->page[i].root = root;
    p->page[i].instructions += instructions;
}

static int start(const struct retrovisor_api *api, struct retrovisor_host *h,
                 const struct retrovisor_argument *argument, size_t arguments, void **self) {
    struct retrovisor_filter f = {.size = sizeof f, .kind = RETROVISOR_BLOCK, .last = UINT64_MAX};
    for (size_t i = 0; i < arguments; i++) {
        if (strcmp(argument[i].key, "user") != 0) {
            api->fail(h, "the only argument is user");
            return -1;
        }
        f.privilege = RETROVISOR_USER;
    }
    *self = calloc(1, sizeof(struct pages));
    return *self ? api->show(h, &f) : -1;
}

static void *piece_begin(void *self, struct retrovisor_guest *g, uint64_t from) {
    (void)self, (void)g, (void)from;
    return calloc(1, sizeof(struct pages));
}

static void event(void *self, void *piece, struct retrovisor_guest *g,
                  const struct retrovisor_event *e) {
    (void)self, (void)g;
    /* The kernel is the same in all address spaces. */
    uint64_t root = e->privilege == RETROVISOR_USER ? e->root : 0;
    if (piece) put(piece, e->address >> 12, root, e->instructions * e->times);
}

static void drop(void *self, void *piece) {
    struct pages *p = piece;
    (void)self;
    if (p) free(p->page);
    free(p);
}

static int merge(void *self, void *piece) {
    struct pages *p = piece;
    if (!p) return -1;
    for (size_t i = 0; i < p->room; i++)
        if (p->page[i].instructions)
            put(self, p->page[i].number, p->page[i].root, p->page[i].instructions);
    drop(self, p);
    return 0;
}

static int by_address(const void *pa, const void *pb) {
    const struct page *a = pa, *b = pb;
    if (a->number != b->number) return a->number < b->number ? -1 : 1;
    return a->root < b->root ? -1 : a->root > b->root;
}

static int finish(void *self, int whole) {
    struct pages *p = self;
    uint64_t total = 0;
    size_t n = 0;
    for (size_t i = 0; i < p->room; i++)
        if (p->page[i].instructions) p->page[n++] = p->page[i];
    qsort(p->page, n, sizeof *p->page, by_address);
    for (size_t i = 0; i < n; i++) {
        printf("%016" PRIx64 " %016" PRIx64 " %" PRIu64 "\n", p->page[i].number << 12,
               p->page[i].root, p->page[i].instructions);
        total += p->page[i].instructions;
    }
    printf("%" PRIu64 " instructions in %zu pages%s\n", total, n, whole ? "" : " (interrupted)");
    free(p->page);
    free(p);
    return 0;
}

static const struct retrovisor_plugin plugin = {
    .size = sizeof plugin,
    .version = RETROVISOR_PLUGIN_VERSION,
    .name = "coverage",
    .description = "counts instructions by page of code",
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
