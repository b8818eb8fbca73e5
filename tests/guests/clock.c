/* Reads of the time-stamp counter, in every form and from every place: an engine may answer some of
 * them by itself, and must not be seen doing so. */
#include "rt/guest.h"

#define MSR_TSC     0x10
#define MSR_TSC_AUX 0xc0000103u

/* Long enough for an engine that has just completed something in software to go back to where it
 * came from. */
static void compute(void) {
    for (volatile unsigned i = 0; i < 3000; i++) {}
}

static uint64_t sum;

struct read {
    uint64_t ax, dx, cx;
};

/* Calls code, which reads the counter and returns, with known values in every other register. */
static struct read call(const void *code) {
    struct read r = {.ax = ~0ull, .dx = ~0ull, .cx = ~0ull};
    uint64_t bad;
    __asm__ volatile("mov $0x1111, %%rbx; mov $0x2222, %%rsi; mov $0x3333, %%rdi\n\t"
                     "mov $0x4444, %%r8; mov $0x5555, %%r9; mov $0x6666, %%r10\n\t"
                     "mov $0x7777, %%r12; mov $0x8888, %%r13; mov $0x9999, %%r14\n\t"
                     "stc; call *%%r11\n\t"
                     "setnc %%r11b; movzbl %%r11b, %%r11d\n\t"
                     "xor $0x1111, %%rbx; xor $0x2222, %%rsi; xor $0x3333, %%rdi\n\t"
                     "xor $0x4444, %%r8; xor $0x5555, %%r9; xor $0x6666, %%r10\n\t"
                     "xor $0x7777, %%r12; xor $0x8888, %%r13; xor $0x9999, %%r14\n\t"
                     "or %%rbx, %%r11; or %%rsi, %%r11; or %%rdi, %%r11; or %%r8, %%r11\n\t"
                     "or %%r9, %%r11; or %%r10, %%r11; or %%r12, %%r11; or %%r13, %%r11\n\t"
                     "or %%r14, %%r11"
                     : "+a"(r.ax), "+d"(r.dx), "+c"(r.cx), "=r"(bad)
                     : "3"(code)
                     : "rbx", "rsi", "rdi", "r8", "r9", "r10", "r12", "r13", "r14", "cc", "memory");
    equal(bad, 0);
    equal(r.ax >> 32, 0);
    equal(r.dx >> 32, 0);
    return r;
}

static uint64_t last;

static void later(struct read r) {
    uint64_t now = r.ax | r.dx << 32;
    check(now >= last);
    last = now;
    sum = sum * 31 + now;
}

static uint8_t room[3 * 4096] __attribute__((aligned(4096)));

/* The instruction, at this place in the room; its ECX is aux when it gives one. */
static void at(unsigned offset, const uint8_t *code, unsigned n, bool p, uint32_t aux) {
    for (unsigned i = 0; i < n; i++) room[offset + i] = code[i];
    room[offset + n] = 0xc3; /* ret */
    compute();
    for (unsigned i = 0; i < 20; i++) {
        struct read r = call(room + offset);
        equal(r.cx, p ? aux : ~0ull);
        later(r);
    }
}

static const struct {
    uint8_t code[5], n;
    bool p;
} forms[] = {
    {{0x0f, 0x31}, 2, false},
    {{0x0f, 0x01, 0xf9}, 3, true},
    {{0x66, 0x0f, 0x31}, 3, false},
    {{0xf3, 0x0f, 0x31}, 3, false},
    {{0x48, 0x0f, 0x31}, 3, false},
    {{0x2e, 0x48, 0x0f, 0x31}, 4, false},
    {{0x48, 0x0f, 0x01, 0xf9}, 4, true},
    {{0x64, 0x41, 0x0f, 0x01, 0xf9}, 5, true},
};

static void everywhere(uint32_t aux) {
    for (unsigned f = 0; f < sizeof forms / sizeof *forms; f++) {
        at(64, forms[f].code, forms[f].n, forms[f].p, aux);
        /* Up to, and over, the end of a page. */
        for (unsigned before = 0; before <= forms[f].n; before++)
            at(4096 - before, forms[f].code, forms[f].n, forms[f].p, aux);
    }
}

static volatile unsigned hits;
static void on_db(struct frame *f) { hits++; }

static void steps(void) {
    part("single steps");
    handlers[DB] = on_db;
    for (unsigned i = 0; i < 20; i++) {
        compute();
        hits = 0;
        __asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq; rdtsc; rdtscp;"
                         "pushfq; andl $~0x100, (%%rsp); popfq" ::
                             : "rax", "rdx", "rcx", "cc", "memory");
        equal(hits, 5);
    }
}

#define TICKS 20
#define EVERY 20000 /* ns between two */

static volatile unsigned ticks;
static volatile uint64_t rounds;

static void tick(struct frame *f) {
    sum = (sum * 31 + rounds) * 31 + f->ip;
    if (++ticks < TICKS) lapic_write(LAPIC_INIT, EVERY);
    lapic_write(LAPIC_EOI, 0);
}

/* A read that moves time past a timer: its interrupt comes right there, and the sum says where. */
static void due(void) {
    part("ticks");
    handlers[0x40] = tick;
    lapic_on();
    lapic_write(LAPIC_DIVIDE, 0xb);
    lapic_write(LAPIC_TIMER, 0x40);
    lapic_write(LAPIC_INIT, EVERY);
    irq_on();
    while (ticks < TICKS) {
        rdtsc();
        for (unsigned i = 0; i < 20; i++) rounds++;
    }
    irq_off();
}

int main(void) {
    part("forms and places");
    wrmsr(MSR_TSC_AUX, 0);
    everywhere(0);
    part("TSC_AUX");
    wrmsr(MSR_TSC_AUX, 0x89abcdef);
    everywhere(0x89abcdef);
    part("another counter");
    wrmsr(MSR_TSC, 1ull << 60);
    compute();
    struct read r = call(room + 64);
    check((r.ax | r.dx << 32) >= 1ull << 60);
    later(r);
    everywhere(0x89abcdef);
    steps();
    due();
    part("many");
    compute();
    for (unsigned i = 0; i < 5000; i++) {
        uint64_t now = rdtsc();
        check(now >= last);
        last = now;
        sum = sum * 31 + now;
    }
    show("sum", sum);
    return 0;
}
