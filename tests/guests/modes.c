/* Through every mode of the processor and back, several times (tour.S). */
#include "rt/guest.h"

extern void tour(void);
extern volatile uint16_t marks[5];
extern volatile uint64_t wide;
extern volatile uint32_t efer_seen, efer_after;

static volatile unsigned ticks;
static void tick(struct frame *f) { ticks++; }

int main(void) {
    handlers[0x22] = tick;
    for (unsigned turn = 0; turn < 20; turn++) {
        for (unsigned i = 0; i < 5; i++) marks[i] = 0xffff;
        wide = 0;
        tour();
        equal(marks[0], 0x08);
        equal(marks[1], 0x10);
        equal(marks[2], 0x20);
        equal(marks[3], 0x10);
        equal(marks[4], 0);
        equal(wide, 0x123456789abcdef0);
        equal(efer_seen, 0x500);
        equal(efer_after, 0);
        __asm__ volatile("int $0x22");
    }
    equal(ticks, 20);
    part("unreal mode");
    uint32_t got;
    *(volatile uint8_t *)0x700 = 0;
    __asm__ volatile("movl $0x200000, %%ebx; movl $0xcafe, %%fs:(%%ebx); movl %%fs:(%%ebx), %0"
                     : "=r"(got)::"ebx", "memory");
    equal(got, 0xcafe);
    part("limits return with a new load");
    __asm__ volatile("movw %%ds, %%ax; movw %%ax, %%fs" ::: "eax");
    __asm__ volatile("movl %%fs:(%%ebx), %0" : "=r"(got) : "b"(0x700));
    return 0;
}
