/* A full disk ends a recording, and does not spoil it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sample.h"
#include "trace-format/verify.h"

static struct rv_err err;

TestSuite(smalldisk, .fini = sample_done);
TestSuite(sizelimit, .fini = sample_done);

/* Appends incompressible events until a write fails; returns how many were accepted. */
static uint64_t fill(struct rv_trace_writer *w, int *rc) {
    uint8_t noise[1000];
    uint64_t state = 3, n = 0;
    for (;; n++) {
        for (size_t i = 0; i < sizeof noise; i++) noise[i] = (uint8_t)sample_random(&state);
        struct rv_trace_event ev = {
            .kind = RV_TRACE_INPUT, .position = n, .time = n, .data = noise, .len = sizeof noise};
        *rc = rv_trace_writer_append(w, &ev, &err);
        if (!*rc && n % 4 == 3) *rc = rv_trace_writer_flush(w, n, n, &err);
        if (*rc) return n;
    }
}

/* Whatever the failure was, the file is whole up to where the writer says. */
static void check(const char *path, const struct rv_trace_writer *w, bool sealed) {
    uint64_t position;
    rv_trace_writer_complete(w, &position, NULL);
    struct stat st;
    struct rv_trace_writer_stats stats;
    rv_trace_writer_stats(w, &stats);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq((uint64_t)st.st_size, stats.bytes);
    struct rv_trace_verdict v;
    cr_assert_eq(rv_trace_verify(path, NULL, NULL, &v, &err), 0, "%s", err.msg);
    cr_assert_eq(v.sealed, sealed);
    struct rv_trace_reader *r;
    cr_assert_eq(rv_trace_reader_open(&r, path, &err), 0, "%s", err.msg);
    struct rv_trace_state s;
    rv_trace_reader_state(r, &s);
    cr_assert(s.whole && s.torn_bytes == 0 && s.position == position && s.events > 0);
    cr_assert_eq(v.events, position + 1);
    if (sealed) cr_assert(rv_trace_reader_summary(r)->lost_tail);
    rv_trace_reader_free(r);
}

static void record_until_full(const char *path, uint32_t reserve, bool sealed) {
    struct rv_trace_header header = sample_header;
    header.image_count = 0;
    struct rv_trace_writer *w;
    struct rv_trace_writer_options opt = {.reserve = reserve};
    cr_assert_eq(rv_trace_writer_new(&w, path, &opt, &header, &err), 0, "%s", err.msg);
    int rc;
    fill(w, &rc);
    cr_assert_eq(rc, RV_E_HOST);
    cr_assert(strstr(err.msg, path) && strstr(err.msg, "replayable up to"), "%s", err.msg);
    char first[sizeof err.msg];
    memcpy(first, err.msg, sizeof first);
    check(path, w, false);
    /* Later calls say the same. */
    struct rv_trace_event ev = {.kind = RV_TRACE_MARK, .position = 1ull << 40};
    cr_assert_eq(rv_trace_writer_append(w, &ev, &err), RV_E_HOST);
    cr_assert_str_eq(err.msg, first);
    struct rv_trace_summary s = {.reason = RV_TRACE_REASON_USER, .position = 1ull << 40};
    rc = rv_trace_writer_seal(w, &s, &err);
    if (sealed) cr_assert_eq(rc, 0, "%s", err.msg);
    check(path, w, rc == 0);
    rv_trace_writer_free(w);
}

/* A mount that ends with this test's process; only root can have it. The reason for skipping is
 * printed, so that nobody takes the skip for a pass. */
static void small_disk(const char *dir, const char *size) {
    mkdir(dir, 0700);
    if (unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("none", dir, "tmpfs", 0, size) == 0)
        return;
    int why = errno;
    rmdir(dir);
    sample_done();
    fprintf(stderr, "SKIPPED: a small tmpfs cannot be mounted here (%s)\n", strerror(why));
    cr_skip_test("no small tmpfs");
}

static void on_small_disk(uint32_t reserve, bool sealed) {
    char dir[300], path[320];
    snprintf(dir, sizeof dir, "%s/disk", sample_dir());
    snprintf(path, sizeof path, "%s/a.retro", dir);
    small_disk(dir, "size=256k");
    record_until_full(path, reserve, sealed);
    umount(dir);
    rmdir(dir);
}

Test(smalldisk, with_reserve_it_is_sealed) { on_small_disk(8192, true); }
Test(smalldisk, without_reserve_it_is_whole) { on_small_disk(0, false); }

Test(smalldisk, a_trace_that_does_not_fit_at_all_is_removed) {
    char dir[300], path[320], other[320];
    snprintf(dir, sizeof dir, "%s/disk", sample_dir());
    snprintf(path, sizeof path, "%s/a.retro", dir);
    snprintf(other, sizeof other, "%s/other", dir);
    small_disk(dir, "size=16k");
    int fd = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    static const char zeroes[4096];
    while (write(fd, zeroes, sizeof zeroes) > 0) continue;
    close(fd);
    struct rv_trace_writer *w;
    cr_assert_eq(rv_trace_writer_new(&w, path, NULL, &sample_header, &err), RV_E_HOST);
    cr_assert_neq(access(path, F_OK), 0);
    umount(dir);
    rmdir(dir);
}

/* A file size limit fails in the middle of a chunk, wherever the limit is. */
Test(sizelimit, at_any_place) {
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t limit = 9000; limit < 9500; limit += 7) {
        char name[32];
        snprintf(name, sizeof name, "%lu.retro", (unsigned long)limit);
        const char *path = sample_path(name);
        struct rlimit old, now;
        getrlimit(RLIMIT_FSIZE, &old);
        now = old;
        now.rlim_cur = limit;
        setrlimit(RLIMIT_FSIZE, &now);
        record_until_full(path, limit % 2 ? 8192 : 0, false);
        setrlimit(RLIMIT_FSIZE, &old);
    }
}

/* The blob that does not fit leaves parts behind, which nobody takes for a blob. */
Test(sizelimit, a_blob_that_does_not_fit) {
    signal(SIGXFSZ, SIG_IGN);
    const char *path = sample_path("a.retro");
    struct rlimit old, now;
    getrlimit(RLIMIT_FSIZE, &old);
    now = old;
    now.rlim_cur = 2500000;
    struct rv_trace_writer *w;
    cr_assert_eq(rv_trace_writer_new(&w, path, NULL, &sample_header, &err), 0);
    size_t len = 4u << 20;
    uint8_t *data = rv_alloc(len);
    uint64_t state = 1;
    for (size_t i = 0; i < len; i++) data[i] = (uint8_t)sample_random(&state);
    setrlimit(RLIMIT_FSIZE, &now);
    struct rv_trace_hash hash;
    cr_assert_eq(rv_trace_writer_add_blob(w, data, len, &hash, &err), RV_E_HOST);
    setrlimit(RLIMIT_FSIZE, &old);
    struct rv_trace_summary s = {.text = "no room"};
    cr_assert_eq(rv_trace_writer_seal(w, &s, &err), 0, "%s", err.msg);
    rv_trace_writer_free(w);
    struct rv_trace_reader *r;
    cr_assert_eq(rv_trace_reader_open(&r, path, &err), 0, "%s", err.msg);
    cr_assert_eq(rv_trace_reader_blob_count(r), 0);
    cr_assert(!rv_trace_reader_blob_size(r, &hash, NULL));
    rv_trace_reader_free(r);
    free(data);
}

/* Summary and trailer fit where the index does not: sealed all the same. */
Test(sizelimit, an_index_that_does_not_fit) {
    signal(SIGXFSZ, SIG_IGN);
    const char *path = sample_path("a.retro");
    struct rv_trace_header header = sample_header;
    header.image_count = 0;
    struct rv_trace_writer *w;
    cr_assert_eq(rv_trace_writer_new(&w, path, NULL, &header, &err), 0);
    uint64_t state = 1, position = 0;
    for (int i = 0; i < 2000; i++) {
        position += sample_random(&state) >> 40;
        cr_assert_eq(rv_trace_writer_flush(w, position, position, &err), 0);
    }
    struct rv_trace_writer_stats stats;
    rv_trace_writer_stats(w, &stats);
    struct rlimit old, now;
    getrlimit(RLIMIT_FSIZE, &old);
    now = old;
    now.rlim_cur = stats.bytes + 500;
    setrlimit(RLIMIT_FSIZE, &now);
    struct rv_trace_summary s = {.text = "full", .position = position, .time = position};
    cr_assert_eq(rv_trace_writer_seal(w, &s, &err), 0, "%s", err.msg);
    setrlimit(RLIMIT_FSIZE, &old);
    rv_trace_writer_free(w);
    struct rv_trace_reader *r;
    cr_assert_eq(rv_trace_reader_open(&r, path, &err), 0, "%s", err.msg);
    struct rv_trace_state t;
    rv_trace_reader_state(r, &t);
    cr_assert(t.sealed && !t.has_index && t.whole && t.position == position);
    cr_assert_str_eq(rv_trace_reader_summary(r)->text, "full");
    rv_trace_reader_free(r);
    struct rv_trace_verdict v;
    cr_assert_eq(rv_trace_verify(path, NULL, NULL, &v, &err), 0, "%s", err.msg);
    cr_assert_eq(v.notes, 1);
}
