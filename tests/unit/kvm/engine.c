/* The KVM engine against the interpreter: the same guests, stopped, kicked and interrupted at the
 * same counts, must leave the same state everywhere. Skipped (77) without a usable KVM. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "vmm/base/buf.h"

static struct run_result compare(const char *name, const struct run_plan *plan) {
    const struct guest *g = guest_find(name);
    cr_assert_not_null(g);
    struct run_result a, b;
    run_guest(g, &rv_engine_interpret, plan, &a);
    run_guest(g, &rv_engine_kvm, plan, &b);
    cr_assert_eq(a.r, 0, "interpret: %s", a.err.msg);
    cr_assert_eq(b.r, 0, "kvm: %s", b.err.msg);
    cr_assert_eq(a.end.reason, b.end.reason);
    cr_assert_eq(a.end.code, b.end.code);
    cr_assert_eq(a.end.at.icount, b.end.at.icount);
    cr_assert_eq(a.end.at.time, b.end.at.time);
    cr_assert_eq(a.output, b.output, "said \"%s\" and \"%s\"", a.text, b.text);
    const uint64_t *x = (const uint64_t *)a.digests.data, *y = (const uint64_t *)b.digests.data;
    for (size_t i = 0; i < a.digests.len / 8 && i < b.digests.len / 8; i++)
        cr_assert_eq(x[i], y[i], "%s differs first at instruction %llu", name,
                     (unsigned long long)x[i / 3 * 3]);
    cr_assert_eq(a.digests.len, b.digests.len);
    cr_assert_eq(a.end.cpu_digest, b.end.cpu_digest);
    cr_assert_eq(a.end.ram_digest, b.end.ram_digest);
    rv_buf_release(&a.digests);
    rv_buf_release(&b.digests);
    return b;
}

/* Digests after every instruction, then at odd intervals, then with stops and kicks between. */
static void compare_all(const char *name, enum rv_stop reason) {
    static const struct run_plan plans[] = {
        {.digest_every = 1, .input_every = 137, .max = 200000},
        {.digest_every = 97, .input_every = 137, .max = 200000},
        {.digest_every = 1013, .input_every = 11, .stop_every = 61, .kick = true, .max = 200000},
    };
    for (size_t i = 0; i < RV_COUNT(plans); i++) {
        struct run_result r = compare(name, &plans[i]);
        cr_expect_eq(r.end.reason, reason, "%s ended by %s", name, rv_stop_name(r.end.reason));
        /* The comparison means something only if KVM did most of the work. */
        cr_expect_gt(r.counts.stepped, r.counts.helped);
    }
}

#define GUEST_TEST(name, reason)                                                                   \
    Test(kvm_guest, name) { compare_all(#name, reason); }
GUEST_TEST(hello, RV_STOP_DEBUG_EXIT)
GUEST_TEST(arith, RV_STOP_DEBUG_EXIT)
GUEST_TEST(faults, RV_STOP_DEBUG_EXIT)
GUEST_TEST(smc, RV_STOP_DEBUG_EXIT)
GUEST_TEST(strings, RV_STOP_DEBUG_EXIT)
GUEST_TEST(timers, RV_STOP_DEBUG_EXIT)
GUEST_TEST(echo, RV_STOP_DEBUG_EXIT)
GUEST_TEST(real, RV_STOP_DEBUG_EXIT)
GUEST_TEST(protected, RV_STOP_DEBUG_EXIT)
GUEST_TEST(mixed, RV_STOP_DEBUG_EXIT)
GUEST_TEST(triple, RV_STOP_TRIPLE_FAULT)

Test(kvm_guest, output) {
    struct run_plan plan = {.max = 10000};
    struct run_result r = compare("hello", &plan);
    cr_assert(strncmp(r.text, "hhee", 4) == 0, "said \"%s\"", r.text);
    cr_assert_eq(r.end.code, 33);
}

Test(kvm_guest, interrupts_at_any_count) {
    for (rv_icount every = 1; every < 60; every += every < 12 ? 1 : 7) {
        struct run_plan plan = {.digest_every = 13, .input_every = every, .max = 100000};
        compare("echo", &plan);
    }
}

Test(kvm_guest, stops_at_any_count) {
    for (rv_icount every = 1; every < 9; every++) {
        struct run_plan plan = {.digest_every = 31, .stop_every = every, .max = 100000};
        compare("faults", &plan);
        compare("mixed", &plan);
    }
}

/* ---- random instructions ---- */

static void fuzz(unsigned bits) {
    struct rv_kvm_counts c = {0};
    cr_assert(fuzz_engines(1, 1500, bits, &c));
    cr_assert_gt(c.stepped, 1000);
}
Test(kvm_random, bits16) { fuzz(16); }
Test(kvm_random, bits32) { fuzz(32); }
Test(kvm_random, bits64) { fuzz(64); }

/* ---- the interface ---- */

static void load(struct side *s, const struct rv_engine_ops *ops, const uint8_t *code, size_t len) {
    cr_assert(side_begin(s, ops));
    struct rv_x86 x;
    struct rv_err err;
    uint64_t seed = 5;
    side_state(&seed, 32, &x);
    cr_assert(rv_ram_write(&s->ram, SIDE_CODE, code, len));
    cr_assert_eq(s->e->ops->set(s->e, &x, &err), 0);
}

static const uint8_t spin[] = {0x40, 0x43, 0xeb, 0xfc}; /* inc eax; inc ebx; jmp back */

Test(kvm_engine, stops_exactly) {
    struct side s;
    struct rv_err err;
    load(&s, &rv_engine_kvm, spin, sizeof spin);
    for (rv_icount at = 0; at < 200; at += 7) {
        cr_assert_eq(s.e->ops->run(s.e, at, false, &err), RV_RUN_UNTIL);
        cr_assert_eq(s.e->ops->icount(s.e), at);
    }
    cr_assert_eq(s.e->ops->run(s.e, 3, false, &err), RV_E_BUG);
    side_finish(&s);
}

/* A jump to itself changes nothing, and still counts. */
Test(kvm_engine, counts_jumps_to_themselves) {
    static const uint8_t code[] = {0xb9, 5, 0, 0, 0, 0xe2, 0xfe, 0xeb, 0xfe}; /* loop .; jmp . */
    struct side s;
    struct rv_err err;
    struct rv_x86 x;
    load(&s, &rv_engine_kvm, code, sizeof code);
    for (rv_icount at = 1; at < 20; at++) {
        cr_assert_eq(s.e->ops->run(s.e, at, false, &err), RV_RUN_UNTIL);
        s.e->ops->get(s.e, &x);
        cr_assert_eq(x.icount, at);
        cr_assert_eq(x.gpr[RV_RCX], at < 6 ? 6 - at : 0);
        cr_assert_eq(x.rip, SIDE_CODE + (at < 6 ? 5 : 7));
    }
    side_finish(&s);
}

static void *kick_later(void *e) {
    usleep(20000);
    ((struct rv_engine *)e)->ops->kick(e);
    return NULL;
}

static int run_kicked(struct side *s) {
    struct rv_err err;
    pthread_t t;
    cr_assert_eq(pthread_create(&t, NULL, kick_later, s->e), 0);
    int r = s->e->ops->run(s->e, RV_NEVER, false, &err);
    pthread_join(t, NULL);
    return r;
}

Test(kvm_engine, kick_ends_a_run, .timeout = 30) {
    struct side s;
    load(&s, &rv_engine_kvm, spin, sizeof spin);
    cr_assert_eq(run_kicked(&s), RV_RUN_KICKED);
    rv_icount at = s.e->ops->icount(s.e);
    struct rv_err err;
    cr_assert_eq(s.e->ops->run(s.e, at + 10, false, &err), RV_RUN_UNTIL);
    side_finish(&s);
}

/* An interrupt table of real mode at 0, whose every handler is at `to`. */
static void real_mode(struct side *s, const struct rv_engine_ops *ops, uint32_t to) {
    cr_assert(side_begin(s, ops));
    struct rv_x86 x;
    struct rv_err err;
    uint64_t seed = 9;
    side_state(&seed, 16, &x);
    x.rflags |= RV_FL_IF;
    cr_assert_eq(s->e->ops->set(s->e, &x, &err), 0);
    for (unsigned v = 0; v < 256; v++) cr_assert(rv_ram_write(&s->ram, 4 * v, &to, 4));
    static const uint8_t handler[] = {0x41, 0xcf}; /* inc cx; iret */
    cr_assert(rv_ram_write(&s->ram, SIDE_CODE, spin, sizeof spin));
    cr_assert(rv_ram_write(&s->ram, SIDE_CODE + 0x800, handler, sizeof handler));
}

/* UD2 whose handler is itself: exceptions without end, of which none retires. */
Test(kvm_engine, kick_ends_endless_exceptions, .timeout = 60) {
    static const uint8_t ud2[] = {0x0f, 0x0b};
    struct side s;
    real_mode(&s, &rv_engine_kvm, 0x10000000);
    cr_assert(rv_ram_write(&s.ram, SIDE_CODE, ud2, sizeof ud2));
    cr_assert_eq(run_kicked(&s), RV_RUN_STUCK);
    cr_assert_eq(s.e->ops->icount(s.e), 0);
    side_finish(&s);
}

Test(kvm_engine, interrupts_and_nmi) {
    static const struct rv_engine_ops *const engines[] = {&rv_engine_interpret, &rv_engine_kvm};
    uint64_t hash[2][40];
    for (unsigned n = 0; n < 2; n++) {
        struct side s;
        struct rv_err err;
        real_mode(&s, engines[n], 0x10000800);
        for (unsigned i = 0; i < 40; i++) {
            rv_icount at = s.e->ops->icount(s.e) + 1 + i % 5;
            cr_assert_eq(s.e->ops->run(s.e, at, false, &err), RV_RUN_UNTIL);
            if (i % 3 == 0)
                s.e->ops->nmi(s.e);
            else if (s.e->ops->interruptible(s.e))
                cr_assert_eq(s.e->ops->inject(s.e, 0x30 + i, &err), 0);
            else
                cr_assert_eq(s.e->ops->inject(s.e, 0x30, &err), RV_E_BUG);
            struct rv_x86 x;
            s.e->ops->get(s.e, &x);
            hash[n][i] = rv_x86_hash(&x, rv_ram_digest(&s.ram));
            /* Through get and set nothing may be lost. */
            if (i % 7 == 0) cr_assert_eq(s.e->ops->set(s.e, &x, &err), 0);
        }
        int r = s.e->ops->run(s.e, s.e->ops->icount(s.e) + 50, true, &err);
        cr_assert_eq(r, RV_RUN_WINDOW);
        s.bus.attention = true;
        cr_assert_eq(s.e->ops->run(s.e, s.e->ops->icount(s.e) + 50, false, &err), RV_RUN_ATTENTION);
        side_finish(&s);
    }
    cr_assert_arr_eq(hash[0], hash[1], sizeof hash[0]);
}

/* RAM written from outside between two runs: code, and through it decoded instructions. */
Test(kvm_engine, sees_writes_from_outside) {
    struct side s;
    struct rv_err err;
    struct rv_x86 x;
    load(&s, &rv_engine_kvm, spin, sizeof spin);
    cr_assert_eq(s.e->ops->run(s.e, 30, false, &err), RV_RUN_UNTIL);
    s.e->ops->get(s.e, &x);
    uint64_t eax = x.gpr[RV_RAX];
    static const uint8_t other[] = {0x48, 0x4b, 0xeb, 0xfc}; /* dec eax; dec ebx; jmp back */
    cr_assert(rv_ram_write(&s.ram, SIDE_CODE, other, sizeof other));
    cr_assert_eq(s.e->ops->run(s.e, 60, false, &err), RV_RUN_UNTIL);
    s.e->ops->get(s.e, &x);
    cr_assert_eq((uint32_t)x.gpr[RV_RAX], (uint32_t)eax - 10);
    side_finish(&s);
}

Test(kvm_probe, measures) {
    struct rv_kvm_report r;
    struct rv_err err;
    cr_assert_eq(rv_kvm_probe(&r, &err), 0);
    cr_assert(r.engine_works);
    cr_assert_gt(r.plain_ips, 1000);
    cr_assert_gt(r.port_exit_ns, 0);
    cr_assert_gt(r.step_ns, 0);
}

int main(int argc, char **argv) {
    if (!kvm_usable()) return 77;
    struct criterion_test_set *tests = criterion_initialize();
    int ok = !criterion_handle_args(argc, argv, true) || criterion_run_all_tests(tests);
    criterion_finalize(tests);
    return !ok;
}
