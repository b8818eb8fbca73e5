/* Something to step through: calls, recursion, loops, an exception and a timer behind it all. Built
 * with debug information and without optimisation, for tests/system/gdb.py, which knows the marked
 * lines. */
#include "rt/guest.h"

static volatile unsigned ticks;
static int table[8];
static int total;

static void tick(struct frame *f) {
    ticks++;
    lapic_write(LAPIC_EOI, 0);
}

static int faults;
static void undefined(struct frame *f) {
    faults++;   /* MARK: handler */
    f->ip += 2; /* over the UD2 */
}

static int add(int a, int b) {
    int sum = a + b;
    total = sum; /* MARK: total */
    return sum;
}

static int fibonacci(int n) {
    if (n < 2) return n; /* MARK: leaf */
    return add(fibonacci(n - 1), fibonacci(n - 2));
}

static void fill(int from) {
    for (int i = 0; i < 8; i++) {
        table[i] = from * i; /* MARK: fill */
    }
}

int main(void) {
    uint32_t rounds = number();
    handlers[0x40] = tick;
    handlers[6] = undefined;
    lapic_on();
    lapic_write(LAPIC_DIVIDE, 0xb);
    lapic_write(LAPIC_TIMER, 0x40 | 1 << 17);
    lapic_write(LAPIC_INIT, 20000);
    irq_on();
    for (uint32_t r = 0; r < rounds; r++) {
        fill((int)r);         /* MARK: round */
        int f = fibonacci(6); /* MARK: fibonacci */
        table[r % 8] += f;    /* MARK: after */
        __asm__ volatile("ud2");
        if (r % 16 == 0) {
            print("round ");
            print_dec(r);
            put('\n');
        }
    }
    irq_off();
    equal(faults, rounds);
    return 0; /* MARK: done */
}
