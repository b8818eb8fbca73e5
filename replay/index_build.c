/* Making an index: one replay from start to end, stopping at the end of each epoch. */
#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "replay/index.h"
#include "replay/index_priv.h"
#include "replay/worker.h"

/* The recording is cut into this many epochs, but not into shorter ones than the interpreter runs
 * in a few milliseconds; every so many epochs a checkpoint is filed. So the index is bounded by the
 * checkpoints' number times what the guest writes between two, and a seek by the length of a
 * checkpoint's stretch. */
#define EPOCHS     512u
#define EPOCH_MIN  (1u << 20)
#define PER_FILING 8u

struct build {
    const struct rv_index_config *config;
    struct rv_worker *w;
    struct rv_history *h;
    uint8_t *written; /* one byte a page: since the last filed checkpoint */
    struct rv_lines lines;
    struct rv_buf out;
    uint64_t offset; /* in the file, of out's start */
    rv_icount total, step;
};

static int flush(struct build *b, struct rv_err *err) {
    for (size_t done = 0; done < b->out.len;) {
        ssize_t n = write(b->h->fd, b->out.data + done, b->out.len - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return rv_fail_errno(err, RV_E_HOST, "cannot write the index");
        done += (size_t)n;
    }
    b->offset += b->out.len;
    rv_buf_clear(&b->out);
    return 0;
}

static void file_page(struct build *b, uint64_t page, rv_icount at, const uint8_t *content) {
    static const uint8_t zeroes[RV_PAGE_SIZE];
    struct rv_version v = {.at = at, .kind = RV_VERSION_ZERO};
    if (memcmp(content, zeroes, RV_PAGE_SIZE) != 0) {
        char packed[LZ4_COMPRESSBOUND(RV_PAGE_SIZE)];
        int n =
            LZ4_compress_default((const char *)content, packed, RV_PAGE_SIZE, (int)sizeof packed);
        bool shrinks = n > 0 && n < (int)RV_PAGE_SIZE;
        v.kind = RV_VERSION_FILE;
        v.offset = b->offset + b->out.len;
        v.len = (uint16_t)(shrinks ? (unsigned)n : RV_PAGE_SIZE);
        v.hash = (uint32_t)XXH3_64bits(content, RV_PAGE_SIZE);
        rv_buf_put(&b->out, shrinks ? (const void *)packed : content, v.len);
    }
    rv_pages_add(b->h->pages, page, &v);
}

static int file_checkpoint(struct build *b, struct rv_err *err) {
    struct rv_machine *m = rv_worker_machine(b->w);
    const struct rv_ram *ram = rv_machine_ram(m);
    struct rv_point now = rv_machine_now(m);
    struct rv_buf state = {0};
    int r = rv_worker_state(b->w, &state, err);
    for (uint64_t page = 0; !r && page < b->h->page_count; page++) {
        if (!b->written[page]) continue;
        file_page(b, page, now.icount, ram->host + (page << RV_PAGE_SHIFT));
        b->written[page] = 0;
        if (b->out.len >= 1u << 20) r = flush(b, err);
    }
    if (r) {
        rv_buf_release(&state);
        return r;
    }
    struct rv_checkpoint c = {.at = now.icount,
                              .time = now.time,
                              .state = state.data,
                              .len = (uint32_t)state.len,
                              .filed = true};
    rv_history_add(b->h, &c);
    return 0;
}

static void note_code(void *ctx, const struct rv_count *code) {
    struct rv_lines *l = &((struct build *)ctx)->lines;
    if (code->va == RV_COUNT_NOWHERE)
        l->anywhere = true;
    else
        rv_lines_note(l, code->va, code->bytes);
}

/* Code is counted from here on, to learn of each epoch what ran. */
static void count_code(struct build *b) {
    struct rv_engine *e = rv_machine_engine(rv_worker_machine(b->w));
    if (e->ops->count)
        e->ops->count(e, true);
    else
        b->lines.anywhere = true;
}

/* Takes what was written and executed since the last call. */
static void end_epoch(struct build *b, rv_icount from) {
    struct rv_ram *ram = rv_machine_ram(rv_worker_machine(b->w));
    uint8_t *changed = rv_ram_changed(ram);
    struct rv_engine *e = rv_machine_engine(rv_worker_machine(b->w));
    if (e->ops->counted) e->ops->counted(e, note_code, b);
    b->h->epoch = rv_realloc(b->h->epoch, (b->h->epochs + 1) * sizeof *b->h->epoch);
    b->h->epoch[b->h->epochs++] =
        (struct rv_epoch){.from = from,
                          .written = rv_page_set_of(changed, b->h->page_count),
                          .executed = rv_page_set_of(ram->executed, b->h->page_count),
                          .lines = rv_lines_take(&b->lines)};
    for (uint64_t page = 0; page < b->h->page_count; page++) b->written[page] |= changed[page];
    memset(changed, 0, b->h->page_count);
    memset(ram->executed, 0, b->h->page_count);
    count_code(b);
}

static int replay_all(struct build *b, struct rv_err *err) {
    struct rv_ram *ram = rv_machine_ram(rv_worker_machine(b->w));
    /* What loading the guest wrote belongs to the first checkpoint, not to an epoch. */
    uint8_t *changed = rv_ram_changed(ram);
    memcpy(b->written, changed, b->h->page_count);
    memset(changed, 0, b->h->page_count);
    count_code(b);
    int r = file_checkpoint(b, err);
    for (rv_icount from = 0; !r; from += b->step) {
        if (b->h->epochs == RV_INDEX_EPOCHS)
            return rv_fail(err, RV_E_UNSUPPORTED,
                           "the recording is longer than %llu instructions: too long for an index",
                           (unsigned long long)from);
        int reason = rv_worker_run(b->w, from + b->step, err);
        if (reason < 0) return reason;
        end_epoch(b, from);
        if (b->w->ended) break;
        if (reason != RV_STOP_TARGET)
            return rv_fail(err, RV_E_INTERRUPTED, "interrupted; no index was written");
        if (b->h->epochs % PER_FILING == 0) r = file_checkpoint(b, err);
    }
    if (r) return r;
    b->h->end = b->w->end.at.icount;
    b->h->end_time = b->w->end.at.time;
    b->h->reason = b->w->end.reason;
    return 0;
}

static bool on_poll(void *ctx, rv_icount at) {
    struct build *b = ctx;
    return b->config->progress && b->config->progress(b->config->ctx, at, b->total);
}

/* A file to write to: *name is to become the index, or NULL when it has no name. */
static int create(const struct rv_index_config *config, char **name, int *fd, struct rv_err *err) {
    *name = NULL;
    if (config->temporary) {
        const char *dir = getenv("TMPDIR");
        *fd = open(dir && *dir ? dir : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (*fd < 0)
            return rv_fail_errno(
                err, RV_E_HOST,
                "cannot make a temporary index; point TMPDIR to a folder with room");
        return 0;
    }
    size_t n = strlen(config->replay.path) + 32;
    *name = rv_alloc(n);
    snprintf(*name, n, "%s.index.%ld", config->replay.path, (long)getpid());
    *fd = open(*name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666);
    if (*fd >= 0) return 0;
    int r = rv_fail_errno(err, RV_E_HOST, "cannot write an index beside %s", config->replay.path);
    free(*name);
    *name = NULL;
    return r;
}

static int finish(struct build *b, const char *name, struct rv_err *err) {
    int r = flush(b, err);
    if (r) return r;
    rv_index_put_table(&b->out, b->h, b->offset);
    r = flush(b, err);
    b->h->file_size = b->offset;
    if (r || !name) return r;
    char *path = rv_index_path(b->config->replay.path);
    if (rename(name, path)) r = rv_fail_errno(err, RV_E_HOST, "cannot write %s", path);
    free(path);
    return r;
}

static void plan(struct build *b) {
    struct rv_trace_state st;
    rv_trace_reader_state(rv_replay_reader(b->w->replay), &st);
    b->total = st.position;
    b->step = st.position / EPOCHS + 1;
    if (b->step < EPOCH_MIN) b->step = EPOCH_MIN;
}

int rv_index_build(struct rv_history **out, const struct rv_index_config *config,
                   struct rv_err *err) {
    struct build b = {.config = config};
    struct rv_index_identity id;
    char *name = NULL;
    int r = rv_index_identify(config->replay.path, &id, err);
    if (!r) r = rv_worker_new(&b.w, &config->replay, err);
    if (!r) {
        struct rv_ram *ram = rv_machine_ram(rv_worker_machine(b.w));
        b.h = rv_history_new(ram->size >> RV_PAGE_SHIFT);
        b.written = rv_alloc(b.h->page_count);
        b.w->poll = on_poll;
        b.w->ctx = &b;
        plan(&b);
        r = create(config, &name, &b.h->fd, err);
    }
    if (!r) {
        rv_index_put_preamble(&b.out, &id);
        r = replay_all(&b, err);
    }
    if (!r) r = finish(&b, name, err);
    if (r && name) unlink(name);
    free(name);
    free(b.written);
    rv_lines_free(&b.lines);
    rv_buf_release(&b.out);
    rv_worker_free(b.w);
    if (r || !out)
        rv_history_free(b.h);
    else
        *out = b.h;
    return r;
}
