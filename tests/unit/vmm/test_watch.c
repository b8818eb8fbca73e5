/* Watching: what the host is told, when, and that the guest does not notice. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "under_test.h"

static void no_exit(void *ctx, struct rv_exit *x) {
    (void)ctx;
    x->data = ~0ull;
}
static uint64_t no_tsc(void *ctx) {
    (void)ctx;
    return 12345;
}

/* Flat 32-bit code without paging, an IDT at IDT whose gate 6 (#UD) leads to HANDLER. */
#define CODE    0x10000u
#define HANDLER 0x11000u
#define GDT     0x1000u
#define IDT     0x2000u
#define STACK   0x80000u
#define DATA    0x20000u

#define HITS 256
struct bench {
    struct rv_ram ram;
    struct rv_cpu_bus bus;
    struct rv_engine *e;
    struct rv_watch watch;
    struct rv_watch_hit hit[HITS];
    struct rv_x86 seen[HITS];
    unsigned hits, stop_at; /* stop at this hit, counted from 1; 0: never */
};

static bool on_hit(void *ctx, const struct rv_watch_hit *h) {
    struct bench *b = ctx;
    cr_assert_lt(b->hits, HITS);
    b->e->ops->get(b->e, &b->seen[b->hits]);
    b->hit[b->hits++] = *h;
    return b->hits == b->stop_at;
}

static void start(struct bench *b, const void *code, size_t n) {
    struct rv_err err = {0};
    memset(b, 0, sizeof *b);
    cr_assert_eq(rv_ram_init(&b->ram, 1 << 20, &err), 0);
    b->bus = (struct rv_cpu_bus){.exit = no_exit, .tsc = no_tsc};
    cr_assert_eq(engine_create(&b->e, &b->ram, &b->bus, &rv_profile_v2, &err), 0);
    uint64_t flat = 0x00cf9b000000ffffull;
    memcpy(b->ram.host + GDT + 8, &flat, 8);
    uint64_t gate =
        (HANDLER & 0xffffu) | 8u << 16 | 0x8e00ull << 32 | (uint64_t)(HANDLER >> 16) << 48;
    memcpy(b->ram.host + IDT + 8 * RV_VEC_UD, &gate, 8);
    memcpy(b->ram.host + CODE, code, n);
    struct rv_x86 x;
    rv_x86_reset(&x);
    x.cr0 = RV_CR0_PE | RV_CR0_ET | RV_CR0_NE;
    for (int s = 0; s < 6; s++)
        x.seg[s] = (struct rv_seg){
            .limit = ~0u, .sel = 16, .attr = RV_SEG_P | RV_SEG_S | RV_SEG_DB | RV_SEG_G | 3};
    x.seg[RV_CS].sel = 8;
    x.seg[RV_CS].attr = RV_SEG_P | RV_SEG_S | RV_SEG_DB | RV_SEG_G | 0xb;
    x.gdt = (struct rv_dtr){.base = GDT, .limit = 15};
    x.idt = (struct rv_dtr){.base = IDT, .limit = 8 * 32 - 1};
    x.rip = CODE;
    x.gpr[RV_RSP] = STACK;
    cr_assert_eq(b->e->ops->set(b->e, &x, &err), 0);
}

static void watch(struct bench *b, const struct rv_watchpoint *p, size_t n) {
    b->watch = (struct rv_watch){.point = p, .n = n, .hit = on_hit, .ctx = b};
    b->hits = 0;
    b->e->ops->watch(b->e, &b->watch);
}

static void finish(struct bench *b) {
    b->e->ops->destroy(b->e);
    rv_ram_release(&b->ram);
}

static int run(struct bench *b, rv_icount until) {
    struct rv_err err = {0};
    int r = b->e->ops->run(b->e, until, false, &err);
    cr_assert_geq(r, 0, "%s", err.msg);
    return r;
}

static struct rv_x86 state(struct bench *b) {
    struct rv_x86 x;
    b->e->ops->get(b->e, &x);
    return x;
}

/* mov ecx, 100; loop: inc eax; mov [DATA], eax; dec ecx; jnz loop; hlt */
static const uint8_t counting[] = {0xb9, 100,  0, 0,    0,    0x40, 0xa3, 0,
                                   0,    0x02, 0, 0x49, 0x75, 0xf7, 0xf4};
#define STORE (CODE + 6) /* the mov */

Test(watch, a_breakpoint_comes_before_its_instruction) {
    struct bench b;
    start(&b, counting, sizeof counting);
    struct rv_watchpoint p = {.addr = STORE, .len = 1, .access = RV_WATCH_EXEC};
    watch(&b, &p, 1);
    cr_assert_eq(run(&b, 1000), RV_RUN_HALTED);
    cr_assert_eq(b.hits, 100);
    for (unsigned n = 0; n < 100; n++) {
        cr_assert_eq(b.hit[n].before.icount, 2 + 4 * n);
        cr_assert_eq(b.hit[n].before.delivered, 0);
        cr_assert_eq(b.hit[n].gva, STORE);
        cr_assert_eq(b.hit[n].gpa, STORE);
        cr_assert_eq(b.seen[n].rip, STORE, "the state is not exact in hit()");
        cr_assert_eq(b.seen[n].icount, 2 + 4 * n);
        cr_assert_eq(b.seen[n].gpr[RV_RAX], n + 1);
    }
    finish(&b);
}

Test(watch, stopping_and_going_on_reports_once) {
    struct bench b;
    start(&b, counting, sizeof counting);
    struct rv_watchpoint p = {.addr = STORE, .len = 1, .access = RV_WATCH_EXEC};
    for (unsigned n = 1; n <= 100; n++) {
        watch(&b, &p, 1);
        b.stop_at = 1;
        cr_assert_eq(run(&b, 1000), RV_RUN_WATCH);
        cr_assert_eq(state(&b).rip, STORE);
        cr_assert_eq(state(&b).gpr[RV_RAX], n);
        cr_assert_eq(b.hits, 1);
    }
    cr_assert_eq(run(&b, 1000), RV_RUN_HALTED);
    cr_assert_eq(b.hits, 1, "the last stop was reported again");
    /* Nothing watched any more: cut blocks must not ask. */
    b.e->ops->watch(b.e, NULL);
    struct rv_x86 x = state(&b);
    x.rip = CODE;
    x.halted = 0;
    cr_assert_eq(b.e->ops->restore(b.e, &x, NULL), 0);
    cr_assert_eq(run(&b, 10000), RV_RUN_HALTED);
    cr_assert_eq(b.hits, 1);
    finish(&b);
}

Test(watch, a_write_is_told_after_the_instruction) {
    struct bench b;
    start(&b, counting, sizeof counting);
    /* One byte of the four, and its neighbour that is never written. */
    struct rv_watchpoint p[] = {{.addr = DATA + 3, .len = 2, .access = RV_WATCH_WRITE},
                                {.addr = DATA + 8, .len = 8, .access = RV_WATCH_WRITE}};
    watch(&b, p, 2);
    b.stop_at = 40;
    cr_assert_eq(run(&b, 1000), RV_RUN_WATCHED);
    cr_assert_eq(b.hits, 40);
    struct rv_watch_hit *h = &b.hit[39];
    cr_assert_eq(h->before.icount, 2 + 4 * 39);
    cr_assert_eq(h->after.icount, 3 + 4 * 39);
    cr_assert_eq(h->rip, STORE);
    cr_assert_eq(h->gva, DATA);
    cr_assert_eq(h->size, 4);
    cr_assert_eq(h->access, RV_WATCH_WRITE);
    cr_assert_eq(b.seen[39].rip, STORE + 5);
    uint32_t value;
    cr_assert(rv_ram_read(&b.ram, DATA, &value, 4));
    cr_assert_eq(value, 40);
    cr_assert_eq(run(&b, 1000), RV_RUN_HALTED);
    cr_assert_eq(b.hits, 100);
    finish(&b);
}

Test(watch, reads_and_writes_are_told_apart) {
    /* mov eax,[DATA]; inc dword [DATA]; mov [DATA],eax; hlt */
    static const uint8_t code[] = {0xa1, 0, 0,    2, 0, 0xff, 0x05, 0,   0,
                                   2,    0, 0xa3, 0, 0, 2,    0,    0xf4};
    static const struct {
        unsigned access, hits;
    } cases[] = {{RV_WATCH_READ, 2}, {RV_WATCH_WRITE, 2}, {RV_WATCH_READ | RV_WATCH_WRITE, 4}};
    for (unsigned n = 0; n < RV_COUNT(cases); n++)
        for (int physical = 0; physical < 2; physical++) {
            struct bench b;
            start(&b, code, sizeof code);
            struct rv_watchpoint p = {
                .addr = DATA, .len = 4, .access = cases[n].access, .physical = physical};
            watch(&b, &p, 1);
            cr_assert_eq(run(&b, 1000), RV_RUN_HALTED);
            cr_assert_eq(b.hits, cases[n].hits, "case %u: %u", n, b.hits);
            finish(&b);
        }
}

Test(watch, string_instructions_count_once) {
    /* mov edi, DATA; mov ecx, 1000; rep stosb; hlt */
    static const uint8_t code[] = {0xbf, 0, 0, 2, 0, 0xb9, 0xe8, 3, 0, 0, 0xf3, 0xaa, 0xf4};
    struct bench b;
    start(&b, code, sizeof code);
    struct rv_watchpoint p = {.addr = DATA + 500, .len = 2, .access = RV_WATCH_WRITE};
    watch(&b, &p, 1);
    cr_assert_eq(run(&b, 1000), RV_RUN_HALTED);
    cr_assert_eq(b.hits, 2);
    for (unsigned n = 0; n < 2; n++) {
        cr_assert_eq(b.hit[n].gva, DATA + 500 + n);
        cr_assert_eq(b.hit[n].before.icount, 2);
        cr_assert_eq(b.hit[n].after.icount, 3);
    }
    finish(&b);
}

/* Element by element, long enough to come back to the dispatcher in the middle. */
Test(watch, long_string_instructions_are_told_when_they_retire) {
    /* mov edi, DATA + 29999; mov ecx, 30000; std; rep stosb; nop; nop; hlt */
    static const uint8_t code[] = {0xbf, 0x2f, 0x75, 2,    0,    0xb9, 0x30, 0x75,
                                   0,    0,    0xfd, 0xf3, 0xaa, 0x90, 0x90, 0xf4};
    struct bench b;
    start(&b, code, sizeof code);
    struct rv_watchpoint p = {.addr = DATA + 29990, .len = 1, .access = RV_WATCH_WRITE};
    watch(&b, &p, 1);
    b.stop_at = 1;
    cr_assert_eq(run(&b, 1000), RV_RUN_WATCHED);
    cr_assert_eq(b.hits, 1);
    cr_assert_eq(b.hit[0].before.icount, 3);
    cr_assert_eq(b.hit[0].after.icount, 4);
    cr_assert_eq(b.seen[0].gpr[RV_RCX], 0);
    cr_assert_eq(state(&b).icount, 4);
    cr_assert_eq(run(&b, 1000), RV_RUN_HALTED);
    finish(&b);
}

/* The segment's limit ends it, and the handler halts. */
Test(watch, string_instructions_that_fault_are_told_at_the_handler) {
    /* mov edi, DATA; mov ecx, 30000; rep stosb */
    static const uint8_t code[] = {0xbf, 0, 0, 2, 0, 0xb9, 0x30, 0x75, 0, 0, 0xf3, 0xaa};
    struct bench b;
    start(&b, code, sizeof code);
    memcpy(b.ram.host + IDT + 8 * RV_VEC_GP, b.ram.host + IDT + 8 * RV_VEC_UD, 8);
    b.ram.host[HANDLER] = 0xf4;
    struct rv_x86 x = state(&b);
    struct rv_err err = {0};
    x.seg[RV_ES].limit = DATA + 20000;
    x.seg[RV_ES].attr &= (uint16_t)~RV_SEG_G;
    cr_assert_eq(b.e->ops->set(b.e, &x, &err), 0);
    struct rv_watchpoint p = {.addr = DATA + 10, .len = 1, .access = RV_WATCH_WRITE};
    watch(&b, &p, 1);
    cr_assert_eq(run(&b, 1000), RV_RUN_HALTED);
    cr_assert_eq(b.hits, 1);
    cr_assert_eq(b.hit[0].before.icount, 2);
    cr_assert_eq(b.hit[0].before.delivered, 0);
    cr_assert_eq(b.hit[0].after.icount, 2);
    cr_assert_eq(b.hit[0].after.delivered, 1);
    cr_assert_eq(b.seen[0].rip, HANDLER);
    finish(&b);
}

/* ud2; hlt, and in the handler: pop eax; add eax, 2; push eax; iret */
static const uint8_t faulting[] = {0x0f, 0x0b, 0xf4};
static const uint8_t handler[] = {0x58, 0x83, 0xc0, 0x02, 0x50, 0xcf};

Test(watch, delivery_is_a_moment_of_its_own) {
    struct bench b;
    start(&b, faulting, sizeof faulting);
    memcpy(b.ram.host + HANDLER, handler, sizeof handler);
    struct rv_watchpoint p[] = {{.len = UINT64_MAX, .access = RV_WATCH_EXEC}};
    watch(&b, p, 1);
    cr_assert_eq(run(&b, 1000), RV_RUN_HALTED);
    static const struct {
        unsigned icount, delivered, rip;
    } want[] = {{0, 0, CODE},        {0, 1, HANDLER},     {1, 0, HANDLER + 1},
                {2, 0, HANDLER + 4}, {3, 0, HANDLER + 5}, {4, 0, CODE + 2}};
    cr_assert_eq(b.hits, RV_COUNT(want));
    for (unsigned n = 0; n < RV_COUNT(want); n++) {
        cr_assert_eq(b.hit[n].before.icount, want[n].icount);
        cr_assert_eq(b.hit[n].before.delivered, want[n].delivered);
        cr_assert_eq(b.seen[n].rip, want[n].rip);
    }
    finish(&b);
}

Test(watch, delivery_writes_are_told_before_the_handler) {
    struct bench b;
    start(&b, faulting, sizeof faulting);
    memcpy(b.ram.host + HANDLER, handler, sizeof handler);
    struct rv_watchpoint p = {.addr = STACK - 12, .len = 4, .access = RV_WATCH_WRITE};
    watch(&b, &p, 1);
    b.stop_at = 1;
    cr_assert_eq(run(&b, 1000), RV_RUN_WATCH);
    cr_assert_eq(state(&b).rip, HANDLER);
    cr_assert_eq(state(&b).icount, 0);
    cr_assert_eq(b.hit[0].before.delivered, 0);
    cr_assert_eq(b.hit[0].after.delivered, 1);
    cr_assert_eq(run(&b, 1000), RV_RUN_HALTED);
    cr_assert_eq(b.hits, 2, "the handler's push was missed");
    cr_assert_eq(b.hit[1].before.icount, 2);
    finish(&b);
}

/* int 6 at CODE, ud2 behind it; an interrupt is injected at the end. */
static const uint8_t delivering[] = {0xcd, 0x06, 0x90, 0x0f, 0x0b, 0xfb, 0x90, 0xf4};

static void set_gate(struct bench *b, unsigned vector) {
    memcpy(b->ram.host + IDT + 8 * vector, b->ram.host + IDT + 8 * RV_VEC_UD, 8);
}

static void begin_delivering(struct bench *b) {
    static const uint8_t skipping[] = {0x58, 0x83, 0xc0, 0x02, 0x50, 0xcf};
    start(b, delivering, sizeof delivering);
    memcpy(b->ram.host + HANDLER, skipping, sizeof skipping);
    set_gate(b, 0x14);
}

Test(watch, deliveries_are_told_with_what_they_were) {
    struct bench b;
    begin_delivering(&b);
    struct rv_watchpoint p = {.addr = 0, .len = 256, .access = RV_WATCH_DELIVER};
    watch(&b, &p, 1);
    /* INT returns two bytes further on, behind the NOP and into UD2's place: rip + 2 + 2. */
    cr_assert_eq(run(&b, 5), RV_RUN_UNTIL);
    cr_assert_eq(b.hits, 1);
    cr_assert_eq(b.hit[0].access, RV_WATCH_DELIVER);
    cr_assert_eq(b.hit[0].vector, 6);
    cr_assert_eq(b.hit[0].delivery, RV_DELIVER_SOFT);
    cr_assert_not(b.hit[0].has_error);
    cr_assert_eq(b.hit[0].rip, CODE);
    cr_assert_eq(b.hit[0].before.icount, 0);
    cr_assert_eq(b.hit[0].after.icount, 1);
    cr_assert_eq(b.hit[0].after.delivered, 0);
    cr_assert_eq(b.seen[0].rip, HANDLER);
    cr_assert_eq(b.seen[0].icount, 1);
    cr_assert_eq(state(&b).rip, CODE + 4);
    struct rv_x86 x = state(&b);
    x.rip = CODE + 3;
    cr_assert_eq(b.e->ops->restore(b.e, &x, NULL), 0);
    cr_assert_eq(run(&b, 10), RV_RUN_UNTIL);
    cr_assert_eq(b.hits, 2);
    cr_assert_eq(b.hit[1].vector, RV_VEC_UD);
    cr_assert_eq(b.hit[1].delivery, RV_DELIVER_EXCEPTION);
    cr_assert_eq(b.hit[1].rip, CODE + 3);
    cr_assert_eq(b.hit[1].before.icount, 5);
    cr_assert_eq(b.hit[1].before.delivered, 0);
    cr_assert_eq(b.hit[1].after.icount, 5);
    cr_assert_eq(b.hit[1].after.delivered, 1);
    cr_assert_eq(b.seen[1].rip, HANDLER);
    struct rv_err err = {0};
    cr_assert_eq(run(&b, 11), RV_RUN_UNTIL); /* over STI's shadow */
    cr_assert_eq(b.e->ops->inject(b.e, 0x14, &err), 0, "%s", err.msg);
    cr_assert_eq(b.hits, 3);
    cr_assert_eq(b.hit[2].vector, 0x14);
    cr_assert_eq(b.hit[2].delivery, RV_DELIVER_INTERRUPT);
    cr_assert_eq(b.hit[2].rip, CODE + 7);
    cr_assert_eq(b.hit[2].before.icount, 11);
    cr_assert_eq(b.hit[2].after.delivered, 1);
    cr_assert_eq(b.seen[2].rip, HANDLER);
    finish(&b);
}

Test(watch, deliveries_stop_before_the_handler) {
    struct bench b;
    begin_delivering(&b);
    struct rv_watchpoint p[] = {{.addr = 6, .len = 1, .access = RV_WATCH_DELIVER},
                                {.addr = STACK - 12, .len = 12, .access = RV_WATCH_WRITE}};
    watch(&b, p, 2);
    b.stop_at = 1;
    cr_assert_eq(run(&b, 100), RV_RUN_WATCH);
    cr_assert_eq(state(&b).rip, HANDLER);
    cr_assert_eq(state(&b).icount, 1);
    cr_assert_eq(b.hits, 1);
    /* What the delivery wrote is told when it goes on; and where it was to stop anyway. */
    cr_assert_eq(run(&b, 2), RV_RUN_UNTIL);
    cr_assert_eq(b.hits, 4);
    finish(&b);
    begin_delivering(&b);
    watch(&b, p, 2);
    b.stop_at = 1;
    cr_assert_eq(run(&b, 1), RV_RUN_WATCHED);
    cr_assert_eq(b.hits, 4);
    finish(&b);
    /* An exception beside it. */
    static const struct rv_watchpoint other = {.addr = 7, .len = 249, .access = RV_WATCH_DELIVER};
    begin_delivering(&b);
    watch(&b, &other, 1);
    cr_assert_eq(run(&b, 5), RV_RUN_UNTIL);
    cr_assert_eq(b.hits, 0);
    finish(&b);
}

Test(watch, a_stop_at_an_injected_interrupt) {
    struct bench b;
    struct rv_err err = {0};
    begin_delivering(&b);
    struct rv_x86 x = state(&b);
    x.rip = CODE + 5;
    cr_assert_eq(b.e->ops->restore(b.e, &x, NULL), 0);
    struct rv_watchpoint p = {.addr = 0x14, .len = 1, .access = RV_WATCH_DELIVER};
    watch(&b, &p, 1);
    b.stop_at = 1;
    cr_assert_eq(run(&b, 2), RV_RUN_UNTIL);
    cr_assert_eq(b.e->ops->inject(b.e, 0x14, &err), 0, "%s", err.msg);
    cr_assert_eq(run(&b, 50), RV_RUN_WATCH);
    cr_assert_eq(state(&b).rip, HANDLER);
    cr_assert_eq(state(&b).icount, 2);
    finish(&b);
}

Test(watch, the_guest_does_not_notice) {
    struct rv_x86 want;
    uint64_t ram = 0;
    for (unsigned how = 0; how < 5; how++) {
        static const struct rv_watchpoint p[] = {
            {.addr = CODE, .len = 64, .access = RV_WATCH_EXEC},
            {.len = UINT64_MAX, .access = RV_WATCH_EXEC},
            {.addr = DATA, .len = 64, .access = RV_WATCH_WRITE | RV_WATCH_READ},
            {.addr = STACK - 64, .len = 64, .access = RV_WATCH_WRITE, .physical = true}};
        struct bench b;
        start(&b, counting, sizeof counting);
        /* Fewer turns, so that hits fit. */
        b.ram.host[CODE + 1] = 20;
        if (how) watch(&b, &p[how - 1], 1);
        cr_assert_eq(run(&b, 1000), RV_RUN_HALTED);
        struct rv_x86 got = state(&b);
        uint64_t digest = rv_ram_digest(&b.ram);
        if (!how) {
            want = got;
            ram = digest;
        } else {
            cr_assert_eq(rv_x86_hash(&got, 0), rv_x86_hash(&want, 0));
            cr_assert_eq(digest, ram);
        }
        finish(&b);
    }
}

Test(watch, executed_pages_are_noted) {
    struct bench b;
    start(&b, faulting, sizeof faulting);
    memcpy(b.ram.host + HANDLER, handler, sizeof handler);
    cr_assert_eq(run(&b, 1000), RV_RUN_HALTED);
    for (uint64_t n = 0; n < b.ram.size >> RV_PAGE_SHIFT; n++)
        cr_assert_eq(b.ram.executed[n], n == CODE >> 12 || n == HANDLER >> 12, "page %zu",
                     (size_t)n);
    /* Cleared, and noted again though the code is known. */
    memset(b.ram.executed, 0, b.ram.size >> RV_PAGE_SHIFT);
    rv_ram_changed(&b.ram);
    struct rv_x86 x = state(&b);
    x.rip = CODE;
    x.halted = 0;
    x.gpr[RV_RSP] = STACK;
    cr_assert_eq(b.e->ops->restore(b.e, &x, NULL), 0);
    cr_assert_eq(run(&b, 1000), RV_RUN_HALTED);
    cr_assert_eq(b.ram.executed[CODE >> 12], 1);
    cr_assert_eq(b.ram.executed[HANDLER >> 12], 1);
    finish(&b);
}
