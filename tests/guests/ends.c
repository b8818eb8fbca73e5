/* Every way a guest can end its run, chosen by the last word of the command line. */
#include "rt/guest.h"

static void double_fault(struct frame *f) {
    equal(f->error, 0);
    print("double fault\n");
    leave(failures);
}

int main(void) {
    print("ends: ");
    print(cmdline);
    put('\n');
    if (word("poweroff")) out16(0x604, 5 << 10 | 1 << 13);
    if (word("reset-i8042")) out8(0x64, 0xfe);
    if (word("reset-port92")) out8(0x92, 1);
    if (word("reset-cf9")) out8(0xcf9, 2), out8(0xcf9, 6);
    if (word("halt")) __asm__ volatile("cli; hlt");
    if (word("code")) leave(0xdeadbeef);
    if (word("double-fault")) {
        /* #GP whose gate is not present is #NP on top of #GP */
        handlers[DF] = double_fault;
        set_gate(GP, 0, 0, 0, 0);
        __asm__ volatile("mov $0xfff8, %%eax; mov %%eax, %%ds" ::: "eax");
    }
    if (word("triple-fault")) {
        struct {
            uint16_t limit;
            uint64_t base;
        } __attribute__((packed)) none = {0, 0};
        __asm__ volatile("lidt %0; ud2" ::"m"(none));
    }
    print("no such end\n");
    return 1;
}
