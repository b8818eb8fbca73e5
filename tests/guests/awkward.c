/* Interrupts and faults at awkward places. */
#include "tables.h"

static volatile unsigned hits, nmis;
static volatile uint64_t hit_ip;
static void on_ipi(struct frame *f) {
    hits++;
    hit_ip = f->ip;
    lapic_write(LAPIC_EOI, 0);
}

static void ipi(void) { lapic_write(LAPIC_ICR, 0x40000 | 0x60); } /* to self, vector 0x60 */

/* Sends an IPI with interrupts off, runs the text, tells whether and where it was taken. Labels: 1
 * is where it must be taken. */
#define PENDING(text, taken)                                                                       \
    do {                                                                                           \
        uint64_t at_;                                                                              \
        hits = 0;                                                                                  \
        ipi();                                                                                     \
        __asm__ volatile("lea 1f(%%rip), %0\n\t" text                                              \
                         : "=&r"(at_)::"rax", "rbx", "rcx", "rdx", "memory", "cc");                \
        equal(hits, taken);                                                                        \
        if (taken) equal(hit_ip, at_);                                                             \
        irq_on();                                                                                  \
        __asm__ volatile("nop; nop");                                                              \
        irq_off();                                                                                 \
        equal(hits, 1);                                                                            \
    } while (0)

static void shadows(void) {
    part("STI and MOV SS");
    handlers[0x60] = on_ipi;
    lapic_on();
    PENDING("sti; nop; 1: nop; cli", 1);
    PENDING("sti; cli; 1: nop", 0);
    PENDING("sti; hlt; 1: cli", 1);
    PENDING("pushfq; orl $0x200, (%%rsp); popfq; 1: nop; cli", 1);
    PENDING("sti; rep; nop; 1: nop; nop; cli", 1);
    PENDING("sti; xor %%eax, %%eax; 1: cpuid; cli", 1);
    /* A fault right after STI: its handler sees interrupts on, and they are off within. */
    PENDING("mov $1f, %%eax; mov %%eax, resume_at; sti; ud2; 1: cli", 1);
    PENDING("mov %%ss, %%eax; pushfq; orl $0x200, (%%rsp); mov %%eax, %%ss; popfq; 1: nop; cli", 1);
    part("task priority");
    hits = 0;
    __asm__ volatile("mov %0, %%cr8" ::"r"(6ull));
    ipi();
    irq_on();
    __asm__ volatile("nop; nop; nop");
    equal(hits, 0);
    __asm__ volatile("mov %0, %%cr8" ::"r"(5ull));
    __asm__ volatile("nop; nop");
    irq_off();
    equal(hits, 1);
    __asm__ volatile("mov %0, %%cr8" ::"r"(0ull));
}

static volatile uint64_t nmi_order;
static void on_nmi(struct frame *f) {
    unsigned depth = nmis++;
    nmi_order = nmi_order << 4 | 1;
    if (depth == 0) {
        lapic_write(LAPIC_ICR, 0x44400); /* another: waits for our IRET */
        __asm__ volatile("nop; nop");
        equal(nmis, 1);
    }
    nmi_order = nmi_order << 4 | 2;
}

static void nmi(void) {
    part("NMI");
    handlers[NMI] = on_nmi;
    lapic_write(LAPIC_ICR, 0x44400);
    __asm__ volatile("nop; nop");
    equal(nmis, 2);
    equal(nmi_order, 0x1212);
    /* One wakes HLT even with interrupts off: the PIT, passed on as NMI by pin 2 of the IOAPIC. */
    volatile uint32_t *select = (volatile uint32_t *)0xfec00000u,
                      *window = (volatile uint32_t *)0xfec00010u;
    nmis = 10;
    pit_period(0, 5000);
    *select = 0x10 + 2 * 2 + 1;
    *window = 0;
    *select = 0x10 + 2 * 2;
    *window = 0x400;
    __asm__ volatile("cli; hlt");
    equal(nmis, 11);
    *window = 0x10000;
}

static volatile unsigned ticks;
static void tick(struct frame *f) {
    ticks++;
    lapic_write(LAPIC_EOI, 0);
}

/* A timer that interrupts everywhere while strings are moved and summed. */
static void strings(void) {
    part("string instructions under a fast timer");
    handlers[0x61] = tick;
    lapic_write(LAPIC_DIVIDE, 0xb);
    lapic_write(LAPIC_TIMER, 0x61 | 1 << 17);
    lapic_write(LAPIC_INIT, 777);
    irq_on();
    uint64_t sum = 0;
    for (unsigned round = 0; round < 200; round++) {
        uint8_t *d = pages[0];
        uint64_t n = 4096;
        __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(round) : "memory");
        const uint8_t *s = pages[0];
        d = pages[1];
        n = 512;
        __asm__ volatile("rep movsq" : "+S"(s), "+D"(d), "+c"(n)::"memory");
        for (unsigned i = 0; i < 4096; i += 64) sum += pages[1][i];
    }
    irq_off();
    lapic_write(LAPIC_INIT, 0);
    equal(sum, 64 * 199 * 200 / 2);
    check(ticks > 50);
}

/* REP MOVS that faults in the middle: registers stand at the element that faulted. */
static void faults(void) {
    part("string instructions that fault");
    map(0, ADDRESS(pages[2]) | P | W);
    map(1, 0);
    for (unsigned size = 1; size <= 8; size *= 2) {
        uint64_t s = ADDRESS(pages[3]), d = at_page(1) - 64, n = 100;
        equal(size == 1   ? TRY("rep movsb",
                                : "+S"(s), "+D"(d), "+c"(n)
                                : RESUME
                                : "memory")
              : size == 2 ? TRY("rep movsw",
                                : "+S"(s), "+D"(d), "+c"(n)
                                : RESUME
                                : "memory")
              : size == 4 ? TRY("rep movsl",
                                : "+S"(s), "+D"(d), "+c"(n)
                                : RESUME
                                : "memory")
                          : TRY("rep movsq",
                                : "+S"(s), "+D"(d), "+c"(n)
                                : RESUME
                                : "memory"),
              PF);
        equal(n, 100 - 64 / size);
        equal(d, at_page(1));
        equal(s, ADDRESS(pages[3]) + 64);
        equal(caught.error, 2);
    }
    /* Backwards, out of the mapped page at its front. */
    map(1, ADDRESS(pages[2]) | P | W);
    map(0, 0);
    uint64_t d = at_page(1) + 15, n = 100;
    equal(TRY("std; rep stosb; cld", : "+D"(d), "+c"(n) : "a"(0), RESUME : "memory"), PF);
    __asm__ volatile("cld");
    equal(n, 84);
    equal(d, at_page(1) - 1);
    /* REPE CMPSB stops at the difference before the missing page is reached. */
    pages[2][4] = 1;
    pages[3][4] = 2;
    uint64_t s = at_page(1);
    d = ADDRESS(pages[3]);
    n = 100000;
    __asm__ volatile("repe cmpsb" : "+S"(s), "+D"(d), "+c"(n)::"memory", "cc");
    equal(n, 100000 - 5);
    /* A count of zero touches nothing. */
    n = 0;
    d = at_page(0);
    equal(TRY("rep stosb", : "+D"(d), "+c"(n) : "a"(0), RESUME : "memory"), -1);
}

/* Single steps through a string instruction: a trap after each element. */
static volatile unsigned steps;
static void step(struct frame *f) { steps++; }
static void stepping(void) {
    part("single steps within REP");
    handlers[DB] = step;
    uint64_t n = 7;
    uint8_t *d = pages[0];
    steps = 0;
    __asm__ volatile(
        "pushfq; orl $0x100, (%%rsp); popfq; rep stosb; pushfq; andl $~0x100, (%%rsp); popfq"
        : "+D"(d), "+c"(n)
        : "a"(1)
        : "memory", "cc");
    equal(n, 0);
    equal(steps, 7 + 3);
    handlers[DB] = NULL;
}

int main(void) {
    tables_on();
    shadows();
    nmi();
    strings();
    faults();
    stepping();
    return 0;
}
