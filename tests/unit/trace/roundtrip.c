/* What is written is what is read. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sample.h"

static struct rv_err err;

static struct rv_trace_reader *open_trace(const char *path) {
    struct rv_trace_reader *r = NULL;
    cr_assert_eq(rv_trace_reader_open(&r, path, &err), 0, "%s", err.msg);
    return r;
}

static void expect_events(const struct rv_trace_reader *r, uint64_t n) {
    struct sample_digest want = sample_expect(n), got;
    cr_assert_eq(sample_digest(r, &got, &err), 0, "%s", err.msg);
    cr_assert_eq(got.count, want.count);
    cr_assert(rv_trace_hash_equal(&got.hash, &want.hash));
}

TestSuite(roundtrip, .fini = sample_done);

Test(roundtrip, sealed) {
    const char *path = sample_path("a.retro");
    sample_write(path, 5000, 700, true);
    struct rv_trace_reader *r = open_trace(path);
    struct rv_trace_state s;
    rv_trace_reader_state(r, &s);
    cr_assert(s.sealed && s.has_index && s.whole && !s.damage);
    cr_assert_eq(s.events, 5000);
    cr_assert_eq(s.position, sample_event(4999).position);
    const struct rv_trace_summary *sum = rv_trace_reader_summary(r);
    cr_assert_str_eq(sum->text, "done");
    cr_assert_eq(sum->events, 5000);
    cr_assert_eq(sum->counts[RV_TRACE_INPUT], 500);
    expect_events(r, 5000);
    rv_trace_reader_free(r);
}

Test(roundtrip, unsealed) {
    const char *path = sample_path("a.retro");
    sample_write(path, 5000, 700, false);
    struct rv_trace_reader *r = open_trace(path);
    struct rv_trace_state s;
    rv_trace_reader_state(r, &s);
    cr_assert(!s.sealed && !s.has_index && s.whole && !s.torn_bytes);
    cr_assert_null(rv_trace_reader_summary(r));
    expect_events(r, 4900);
    cr_assert_eq(s.position, sample_event(4899).position);
    cr_assert_eq(s.time, sample_event(4899).time);
    rv_trace_reader_free(r);
}

Test(roundtrip, header) {
    const char *path = sample_path("a.retro");
    sample_write(path, 0, 0, true);
    struct rv_trace_reader *r = open_trace(path);
    const struct rv_trace_header *h = rv_trace_reader_header(r), *w = &sample_header;
    cr_assert_eq(h->format_version, RV_TRACE_FORMAT_VERSION);
    cr_assert_str_eq(h->tool_version, w->tool_version);
    cr_assert_eq(h->created, w->created);
    cr_assert_arr_eq(h->trace_id, w->trace_id, 16);
    cr_assert_str_eq(h->engine, w->engine);
    cr_assert_str_eq(h->cpu_profile, w->cpu_profile);
    cr_assert_str_eq(h->host_cpu.vendor, w->host_cpu.vendor);
    cr_assert_str_eq(h->host_cpu.brand, w->host_cpu.brand);
    cr_assert(h->host_cpu.family == 6 && h->host_cpu.model == 85 && h->host_cpu.stepping == 7);
    cr_assert_eq(h->memory_bytes, w->memory_bytes);
    cr_assert_eq(h->rate, w->rate);
    cr_assert_str_eq(h->boot_protocol, w->boot_protocol);
    cr_assert_str_eq(h->command_line, w->command_line);
    cr_assert_eq(h->boot_time, w->boot_time);
    cr_assert_eq(h->image_count, 1);
    cr_assert_str_eq(h->images[0].role, "kernel");
    cr_assert_str_eq(h->images[0].name, "bzImage");
    cr_assert_eq(h->images[0].size, 5);
    cr_assert(rv_trace_hash_equal(&h->images[0].hash, &w->images[0].hash));
    cr_assert(h->images[0].embedded);
    cr_assert_eq(h->device_count, 2);
    cr_assert_str_eq(h->devices[1].name, "pit8254");
    cr_assert_eq(h->devices[1].version, 3);
    cr_assert_eq(h->option_count, 2);
    cr_assert_str_eq(h->options[0].text, "test");
    cr_assert_eq(h->options[1].number, 1);
    rv_trace_reader_free(r);
}

/* A recorder that is killed in the middle of its work leaves a trace without damage. */
Test(roundtrip, killed_recorder) {
    for (int round = 0; round < 10; round++) {
        const char *path = sample_path("a.retro");
        unlink(path);
        pid_t child = fork();
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL); /* should the test end first */
            struct rv_trace_writer *w;
            struct rv_trace_writer_options opt = {.reserve = 8192};
            if (rv_trace_writer_new(&w, path, &opt, &sample_header, NULL)) _exit(1);
            for (uint64_t i = 0; i < 1 << 20; i++) {
                struct rv_trace_event ev = sample_event(i);
                if (rv_trace_writer_append(w, &ev, NULL)) _exit(2);
                if (i % 5 == 4 && rv_trace_writer_flush(w, ev.position, ev.time, NULL)) _exit(3);
            }
            _exit(4);
        }
        struct stat st;
        for (int wait = 0; stat(path, &st) || st.st_size < 20000; wait++) {
            cr_assert_lt(wait, 100000, "nothing is recorded");
            usleep(100);
        }
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        cr_assert(WIFSIGNALED(status));
        struct rv_trace_reader *r = open_trace(path);
        struct rv_trace_state s;
        rv_trace_reader_state(r, &s);
        cr_assert(!s.sealed && s.whole && !s.damage && s.events > 100 && s.events % 5 == 0);
        cr_assert_eq(s.position, sample_event(s.events - 1).position);
        expect_events(r, s.events);
        rv_trace_reader_free(r);
    }
}
