/* Task switches of 32-bit protected mode: JMP, CALL, IRET, task gates, and what goes wrong. */
#include "rt/guest.h"

struct task {
    uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp,
        esi, edi;
    uint32_t es, cs, ss, ds, fs, gs, ldt, trap_iomap;
};

static struct task other, on_fault;
static uint8_t stack_a[2048], stack_b[2048];
extern uint32_t tss[26];
#define MAIN ((struct task *)tss)
enum { MAIN_SEL = 0x28, OTHER_SEL = 0x48, FAULT_SEL = 0x50 };

static volatile uint32_t seen, seen_link, fault_error, fault_ip;

static void set_tss(uint16_t sel, struct task *t, unsigned access) {
    uint64_t base = (uintptr_t)t;
    gdt[sel / 8] = 103 | (base & 0xffffff) << 16 | (uint64_t)access << 40 | (base >> 24) << 56;
}

static bool busy(uint16_t sel) { return gdt[sel / 8] >> 41 & 1; }

static void prepare(struct task *t, uint16_t sel, void (*f)(void), uint8_t *stack_end) {
    *t = (struct task){.eip = (uint32_t)(uintptr_t)f,
                       .eflags = 2,
                       .esp = (uint32_t)(uintptr_t)stack_end,
                       .es = 0x10,
                       .cs = 8,
                       .ss = 0x10,
                       .ds = 0x10,
                       .fs = 0x10,
                       .gs = 0x10,
                       .eax = 0x5eed,
                       .trap_iomap = 104u << 16};
    set_tss(sel, t, 0x89);
}

/* Runs as the called task: counts and returns by IRET, again and again. */
__attribute__((naked)) static void callee(void) {
    __asm__("1: movl %eax, seen; incl %eax; movl other, %ecx; movl %ecx, seen_link; iret; jmp 1b");
}
/* Comes back by a jump. */
__attribute__((naked)) static void jumper(void) {
    __asm__("1: movl %eax, seen; incl %eax; ljmp $0x28, $0; jmp 1b");
}
/* Takes #UD by a task gate: skips the instruction in the interrupted task. */
__attribute__((naked)) static void ud_task(void) {
    __asm__("1: incl seen; addl $2, tss + 32; iret; jmp 1b");
}
/* Takes #GP, which pushes an error code onto the new task's stack. */
__attribute__((naked)) static void gp_task(void) {
    __asm__("1: popl fault_error; movl tss + 32, %eax; movl %eax, fault_ip; addl $2, tss + 32; "
            "iret; jmp 1b");
}

static void calls(void) {
    part("CALL and IRET");
    prepare(&other, OTHER_SEL, callee, stack_a + sizeof stack_a);
    for (unsigned i = 0; i < 3; i++) {
        __asm__ volatile("lcall $0x48, $0" ::: "memory");
        equal(seen, 0x5eed + i);
        equal(seen_link & 0xffff, MAIN_SEL);
        check(busy(MAIN_SEL) && !busy(OTHER_SEL));
        uint32_t cr0 = READ_REG(cr0);
        check(cr0 & 8); /* TS */
        __asm__ volatile("clts");
    }
    part("JMP");
    prepare(&other, OTHER_SEL, jumper, stack_a + sizeof stack_a);
    for (unsigned i = 0; i < 3; i++) {
        __asm__ volatile("ljmp $0x48, $0" ::: "memory");
        equal(seen, 0x5eed + i);
        check(busy(MAIN_SEL) && !busy(OTHER_SEL));
    }
    part("a task gate");
    prepare(&other, OTHER_SEL, callee, stack_a + sizeof stack_a);
    gdt[GDT_FREE + 3] = (uint64_t)OTHER_SEL << 16 | 0x85ull << 40;
    __asm__ volatile("lcall $0x60, $0" ::: "memory");
    equal(seen, 0x5eed);
}

static void wrong(void) {
    part("what goes wrong");
    equal(TRY("lcall $0x28, $0", ::RESUME), GP); /* the running task is busy */
    equal(caught.error, MAIN_SEL);
    set_tss(OTHER_SEL, &other, 0x09);
    equal(TRY("lcall $0x48, $0", ::RESUME), NP);
    equal(caught.error, OTHER_SEL);
    set_tss(OTHER_SEL, &other, 0x89);
    gdt[OTHER_SEL / 8] &= ~0xffffull; /* limit 0 */
    equal(TRY("lcall $0x48, $0", ::RESUME), TS);
    equal(caught.error, OTHER_SEL);
}

static void gates(void) {
    part("exceptions through task gates");
    prepare(&on_fault, FAULT_SEL, ud_task, stack_b + sizeof stack_b);
    set_gate(UD, 0, 0x85, 0, FAULT_SEL);
    seen = 0;
    for (unsigned i = 0; i < 3; i++) __asm__ volatile("ud2" ::: "memory");
    equal(seen, 3);
    prepare(&on_fault, FAULT_SEL, gp_task, stack_b + sizeof stack_b);
    set_gate(GP, 0, 0x85, 0, FAULT_SEL);
    uint32_t at;
    __asm__ volatile("movl $0xfff8, %%eax; movl $1f, %0\n1: mov %%eax, %%fs"
                     : "=m"(at)::"eax", "memory");
    equal(fault_error, 0xfff8);
    equal(fault_ip, at);
}

int main(void) {
    calls();
    wrong();
    gates();
    return 0;
}
