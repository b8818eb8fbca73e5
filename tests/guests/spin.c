/* Loops that never leave the CPU, built so that places in them are hard to tell apart, under a
 * timer whose ticks say where they came: a replay that delivers a tick one round too early or too
 * late prints something else. */
#include "rt/guest.h"

#define TICKS 4
static uint32_t every = 40000; /* TSC ticks between two timer ticks */

static volatile uint32_t ticks;
static volatile uint64_t counter;
static bool tells; /* the tick shows where it came */

static void tick(struct frame *f) {
    ticks++;
    if (tells) {
        show("  tick at round", counter);
        show("          rip  ", f->ip);
    }
    lapic_write(LAPIC_EOI, 0);
    if (ticks < TICKS) lapic_write(LAPIC_INIT, every);
}

static void begin(const char *name, bool says) {
    part(name);
    ticks = 0;
    counter = 0;
    tells = says;
    lapic_write(LAPIC_INIT, every);
    irq_on();
}

static void end(void) {
    irq_off();
    check(ticks == TICKS);
}

/* Every round has the same registers; only a word of memory tells them apart. */
static void memory_counter(void) {
    begin("a counter in memory", true);
    __asm__ volatile("1: incq %0\n\tcmpl %2, %1\n\tjb 1b" : "+m"(counter) : "m"(ticks), "i"(TICKS));
    end();
}

/* The registers go through the same values again and again; a counter far away tells. */
static void registers_repeat(void) {
    begin("registers that repeat", true);
    __asm__ volatile("1: incq %0\n\t"
                     "mov $50, %%ecx\n"
                     "2: lea (%%rcx, %%rcx, 2), %%rax\n\t"
                     "dec %%ecx\n\tjnz 2b\n\t"
                     "cmpl %2, %1\n\tjb 1b"
                     : "+m"(counter)
                     : "m"(ticks), "i"(TICKS)
                     : "rax", "rcx");
    end();
}

/* Nothing at all tells the rounds apart: any of them is the right one. */
static void all_repeats(void) {
    begin("nothing changes", false);
    __asm__ volatile("1: mov $7, %%ecx\n"
                     "2: dec %%ecx\n\tjnz 2b\n\t"
                     "cmpl %1, %0\n\tjb 1b" ::"m"(ticks),
                     "i"(TICKS)
                     : "rcx");
    end();
}

/* The loop counts in its own code. */
static void writes_itself(void) {
    begin("a loop that writes itself", true);
    __asm__ volatile("1: movabs $0, %%rax\n\t"
                     "incq 1b + 2(%%rip)\n\t"
                     "mov %%rax, %0\n\t"
                     "xor %%eax, %%eax\n\t"
                     "cmpl %2, %1\n\tjb 1b"
                     : "=m"(counter)
                     : "m"(ticks), "i"(TICKS)
                     : "rax");
    end();
}

/* Rounds that differ in what they left below the stack pointer and on another page each time. */
static uint8_t scratch[64 * 4096];
static void many_pages(void) {
    begin("a write to another page each time", true);
    uint64_t at = 0;
    while (ticks < TICKS) {
        scratch[at]++;
        at = (at + 4096 + 8) % sizeof scratch;
        counter++;
    }
    end();
}

static void one_string(void) {
    begin("a string instruction that lasts", true);
    while (ticks < TICKS) {
        void *to = scratch;
        uint64_t n = sizeof scratch;
        __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"((uint8_t)counter) : "memory");
        counter++;
    }
    end();
}

int main(void) {
    handlers[0x40] = tick;
    lapic_on();
    lapic_write(LAPIC_DIVIDE, 0xb);
    lapic_write(LAPIC_TIMER, 0x40);
    if (number()) every = number() * 1000; /* the command line says, in thousands */
    memory_counter();
    registers_repeat();
    all_repeats();
    writes_itself();
    many_pages();
    one_string();
    return 0;
}
