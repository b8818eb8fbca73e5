/* Looking for bytes through history: what was there from the beginning, and what lived for a few
 * instructions only. */
#include <criterion/criterion.h>
#include <string.h>

#include "ticking.h"
#include "tools/analysis/query.h"
#include "vmm/base/buf.h"

TestSuite(find, .init = ticking_record, .fini = ticking_remove);

struct sought {
    rv_gpa gpa;
    unsigned times;
    rv_icount by;
};

static int on_sighting(void *ctx, const struct rv_sighting *s, struct rv_err *err) {
    struct sought *o = ctx;
    (void)err;
    if (s->gpa != o->gpa) return 0;
    o->times++;
    o->by = s->by;
    return 0;
}

static struct sought look_for(const void *bytes, size_t len, rv_gpa gpa, bool exact) {
    struct rv_timeline *t;
    struct rv_err err = {0};
    char note[600];
    struct rv_timeline_config c = {
        .replay = {.path = ticking_path}, .memory = 1 << 20, .workers = 2};
    struct sought o = {.gpa = gpa};
    rv_icount upto;
    bool interrupted;
    cr_assert_eq(rv_timeline_open(&t, &c, note, sizeof note, &err), 0, "%s", err.msg);
    cr_assert_eq(
        rv_query_bytes(t, bytes, len, exact, on_sighting, NULL, &o, &upto, &interrupted, &err), 0,
        "%s", err.msg);
    cr_expect_eq(upto, rv_timeline_end(t).icount);
    cr_expect_not(interrupted);
    rv_timeline_free(t);
    return o;
}

/* The guest's code, which lies where it was loaded. */
Test(find, what_was_there_before_the_first_instruction) {
    static const uint8_t compare[] = {0x80, 0x3e, 0x04, 0x07, 200};
    struct rv_timeline *t;
    struct rv_err err = {0};
    char note[600];
    struct rv_timeline_config c = {
        .replay = {.path = ticking_path}, .memory = 1 << 20, .workers = 1};
    cr_assert_eq(rv_timeline_open(&t, &c, note, sizeof note, &err), 0, "%s", err.msg);
    const uint8_t *ram = rv_machine_ram(rv_timeline_machine(t))->host;
    const uint8_t *at = memmem(ram, 1 << 20, compare, sizeof compare);
    cr_assert_not_null(at);
    rv_gpa gpa = (rv_gpa)(at - ram);
    rv_timeline_free(t);
    for (unsigned exact = 0; exact < 2; exact++) {
        struct sought o = look_for(compare, sizeof compare, gpa, exact);
        cr_expect_eq(o.times, 1);
        cr_expect_eq(o.by, 0);
    }
}

/* A value of the counter at 700h, which the next turn of the loop replaces. */
Test(find, what_came_and_went) {
    static const uint8_t value[] = {0x34, 0x12, 0x00, 0x00};
    struct sought o = look_for(value, sizeof value, 0x700, true);
    cr_expect_eq(o.times, 1);
    cr_expect_gt(o.by, 0x1234);
}
