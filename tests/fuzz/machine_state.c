/* libFuzzer: saved states of a machine, as a checkpoint in an index could hold them though its
 * checksum is right. Whatever is taken up runs for a while, and hurts nobody but the guest.
 *
 * The first byte chooses the state to begin with (power-on, or 64-bit mode with paging), the second
 * how many changes to it follow: an offset of two bytes and a byte to be put there. What is left is
 * code at the instruction pointer. */
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/time.h>

#include "tests/fuzz/kept.h"
#include "tests/quiet.h"
#include "vmm/base/buf.h"
#include "vmm/cpu/x86.h"
#include "vmm/machine.h"
#include "vmm/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define MEMORY (1u << 20)
#define CODE   0x7c00u
#define TABLES 0x1000u /* three pages: 512 GiB are the first 2 MiB again and again */
#define LIMIT  300u    /* instructions */

#define LATE 200000u /* us; a guest that takes exceptions without end retires no instruction */

static rv_icount end_at;
static atomic_bool late;

static int next(struct rv_nondet *nd, const struct rv_next *q, struct rv_push *out,
                struct rv_err *err) {
    (void)nd, (void)err;
    *out = (struct rv_push){0};
    if (q->idle || q->at.icount >= end_at || atomic_load(&late))
        *out = (struct rv_push){.kind = RV_PUSH_STOP, .value = RV_STOP_MAX_ICOUNT};
    return 0;
}

static void long_mode(struct rv_x86 *x) {
    x->cr0 |= RV_CR0_PE | RV_CR0_PG | RV_CR0_MP | RV_CR0_NE;
    x->cr4 = RV_CR4_PAE | RV_CR4_OSFXSR | RV_CR4_OSXMMEXCPT | RV_CR4_OSXSAVE;
    x->efer = RV_EFER_LME | RV_EFER_LMA | RV_EFER_SCE;
    x->xcr0 = RV_XCR0_X87 | RV_XCR0_SSE | RV_XCR0_AVX;
    x->cr3 = TABLES;
    for (unsigned n = 0; n < RV_SREGS; n++)
        x->seg[n] = (struct rv_seg){.limit = 0xffffffff, .sel = 16, .attr = 0xc093};
    x->seg[RV_CS] = (struct rv_seg){.limit = 0xffffffff, .sel = 8, .attr = 0xa09b};
    x->seg[RV_LDTR] = (struct rv_seg){.attr = 0x82};
    x->seg[RV_TR] = (struct rv_seg){.limit = 0x67, .sel = 24, .attr = 0x8b};
    x->rip = CODE;
    x->gpr[RV_RSP] = CODE;
}

/* One machine for all inputs of a process; it ends with it. */
static struct machine {
    struct rv_machine *m;
    struct rv_nondet_ops ops; /* quiet, but for next() */
    struct quiet host;
    struct rv_buf state[2];
    uint8_t *ram;
} the;

static void on_timer(int signal) {
    (void)signal;
    atomic_store(&late, true);
    rv_machine_kick(the.m);
}

static void set_timer(suseconds_t us) {
    struct itimerval t = {.it_value = {.tv_usec = us}, .it_interval = {.tv_usec = us}};
    setitimer(ITIMER_VIRTUAL, &t, NULL);
}

static void begin(void) {
    static const uint8_t boot[512] = {[510] = 0x55, [511] = 0xaa};
    struct rv_err err = {0};
    struct rv_machine_config c = {
        .memory = MEMORY,
        .engine = &rv_engine_interpret,
        .profile = &rv_profile_v3,
        .rate = RV_RATE_DEFAULT,
        .boot = {.kernel = {.name = "guest", .data = boot, .len = sizeof boot},
                 .kind = RV_BOOT_FLAT}};
    the.ops = quiet_ops;
    the.ops.next = next;
    the.host = quiet_host(LIMIT);
    the.host.nd.ops = &the.ops;
    signal(SIGVTALRM, on_timer);
    kept_check(rv_machine_new(&the.m, &c, &the.host.nd, &err), &err);
    struct rv_ram *ram = rv_machine_ram(the.m);
    /* Page tables: each entry leads to the next page's first, the last one's are large pages. */
    for (unsigned n = 0; n < 512; n++) {
        uint64_t entry[] = {(TABLES + 0x1000) | 7, (TABLES + 0x2000) | 7, 0x87};
        for (unsigned level = 0; level < 3; level++)
            rv_ram_write(ram, TABLES + 0x1000 * level + 8 * n, &entry[level], 8);
    }
    the.ram = rv_alloc(ram->size);
    memcpy(the.ram, ram->host, ram->size);
    memset(rv_ram_changed(ram), 0, ram->size >> RV_PAGE_SHIFT);
    struct rv_x86 x;
    struct rv_buf fields = {0};
    for (unsigned n = 0; n < 2; n++) kept_check(rv_machine_save(the.m, &the.state[n], &err), &err);
    rv_machine_engine(the.m)->ops->get(rv_machine_engine(the.m), &x);
    long_mode(&x);
    rv_state_save(rv_x86_fields, &x, &fields);
    memcpy(the.state[1].data, fields.data, fields.len);
    rv_buf_release(&fields);
}

static void put_back_ram(void) {
    struct rv_ram *ram = rv_machine_ram(the.m);
    const uint8_t *changed = rv_ram_changed(ram);
    for (uint64_t page = 0; page < ram->size >> RV_PAGE_SHIFT; page++)
        if (changed[page])
            rv_ram_write(ram, page << RV_PAGE_SHIFT, the.ram + (page << RV_PAGE_SHIFT),
                         RV_PAGE_SIZE);
    memset(rv_ram_changed(ram), 0, ram->size >> RV_PAGE_SHIFT);
}

/* Takes a state up, with code at CODE; gives it back. */
static void take_up(struct rv_buf *state, const uint8_t *code, size_t len) {
    struct rv_err err = {0};
    put_back_ram();
    rv_ram_write(rv_machine_ram(the.m), CODE, code, len);
    struct rv_cursor in = rv_cursor_of(state->data, state->len);
    if (rv_machine_load(the.m, &in, &err) == 0) {
        struct rv_end end;
        end_at = rv_machine_now(the.m).icount + LIMIT;
        atomic_store(&late, false);
        set_timer(LATE);
        (void)rv_machine_advance(the.m, &end, &err);
        set_timer(0);
    }
    rv_buf_release(state);
}

/* One of the states to begin with, to be changed. */
static struct rv_buf state_of(unsigned which) {
    struct rv_buf state = {0};
    rv_buf_put(&state, the.state[which].data, the.state[which].len);
    return state;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    struct rv_buf state = state_of(data[0] & 1);
    unsigned changes = data[1];
    data += 2;
    size -= 2;
    for (; changes && size >= 3; changes--, data += 3, size -= 3)
        state.data[((unsigned)data[0] | (unsigned)data[1] << 8) % state.len] = data[2];
    take_up(&state, data, size < 512 ? size : 512);
    return 0;
}

/* What random changes would take long to find: SSE instructions with each bit of MXCSR exchanged.
 */
static void sse_with_any_mxcsr(void) {
    static const uint8_t code[] = {0x0f, 0x58, 0xc1,       /* addps xmm0, xmm1 */
                                   0xf2, 0x0f, 0x58, 0xc8, /* addsd xmm1, xmm0 */
                                   0xf4};                  /* hlt */
    for (unsigned bit = 0; bit < 32; bit++) {
        struct rv_buf state = state_of(1), fields = {0};
        struct rv_x86 x;
        struct rv_err err = {0};
        struct rv_cursor in = rv_cursor_of(state.data, state.len);
        kept_check(rv_state_load(rv_x86_fields, &x, &in, &err), &err);
        x.fx[24 + bit / 8] ^= (uint8_t)(1u << bit % 8);
        rv_state_save(rv_x86_fields, &x, &fields);
        memcpy(state.data, fields.data, fields.len);
        rv_buf_release(&fields);
        take_up(&state, code, sizeof code);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    begin();
    sse_with_any_mxcsr();
    return 0;
}
