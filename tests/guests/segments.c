/* 32-bit segmentation: limits, rights, privilege, gates, the LDT. */
#include "rt/guest.h"

#define CODE 0x9a
#define DATA 0x92

static uint64_t descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags) {
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 |
           (uint64_t)(base >> 24) << 56;
}

static uint16_t with(unsigned n, uint64_t d) {
    gdt[GDT_FREE + n] = d;
    return (uint16_t)((GDT_FREE + n) * 8);
}

static uint8_t window[256];
#define BASE ((uint32_t)(uintptr_t)window)

#define load(sel)     TRY("movw %0, %%fs", ::"r"((uint16_t)(sel)), RESUME)
#define store_at(at)  TRY("movb $1, %%fs:(%0)", ::"r"(at), RESUME : "memory")
#define store4_at(at) TRY("movl $1, %%fs:(%0)", ::"r"(at), RESUME : "memory")
#define read_at(at)   TRY("movb %%fs:(%0), %%al", ::"r"(at), RESUME : "eax")
static uint32_t zero_operand;

static void limits(void) {
    part("limits");
    equal(load(with(0, descriptor(BASE, 99, DATA, 4))), -1);
    equal(store_at(99), -1);
    equal(window[99], 1);
    equal(store_at(100), GP);
    equal(caught.error, 0);
    equal(store4_at(96), -1);
    equal(store4_at(97), GP);
    equal(load(with(0, descriptor(BASE, 99, DATA | 4, 4))), -1); /* expand-down: 100 and above */
    equal(store_at(99), GP);
    equal(store_at(100), -1);
    equal(load(with(0, descriptor(BASE, 99, DATA | 4, 0))), -1); /* up to 64 KiB only */
    equal(store_at(0x10000), GP);
    equal(load(with(0, descriptor(0, 0, DATA, 12))), -1); /* pages: one page */
    equal(read_at(4095), -1);
    equal(read_at(4096), GP);
    equal(load(with(0, descriptor(0, 99, DATA, 4))), -1);
    /* The stack segment's faults have a vector of their own. */
    uint16_t sel = with(1, descriptor(0, 0x3ff, DATA, 12));
    equal(TRY("movw %w0, %%ss; movl %%ss:0x400000, %%eax", ::"r"(sel), RESUME : "eax"), SS);
    equal(caught.error, 0);
    __asm__ volatile("movw %w0, %%ss" ::"r"(0x10));
}

static void rights(void) {
    part("rights");
    equal(load(0), -1);
    equal(read_at(0), GP);
    uint16_t sel = with(0, descriptor(BASE, 99, DATA & ~0x80, 4));
    equal(load(sel), NP);
    equal(caught.error, sel);
    sel = with(0, descriptor(BASE, 99, 0x90, 4)); /* read-only */
    equal(load(sel), -1);
    equal(read_at(0), -1);
    equal(store_at(0), GP);
    check(gdt[GDT_FREE] >> 40 & 1);               /* accessed */
    sel = with(0, descriptor(BASE, 99, 0x98, 4)); /* execute-only */
    equal(load(sel), GP);
    equal(caught.error, sel);
    sel = with(0, descriptor(BASE, 99, CODE, 4)); /* readable code */
    equal(load(sel), -1);
    equal(read_at(3), -1);
    equal(store_at(3), GP);
    equal(load(0xfff0), GP); /* beyond the GDT */
    equal(caught.error, 0xfff0);
    equal(load(4), GP); /* no LDT */
    equal(caught.error, 4);
    sel = with(0, descriptor(BASE, 99, DATA | 0x60, 4));
    equal(load(sel | 3), -1);
    equal(load(with(0, descriptor(BASE, 99, DATA, 4)) | 3), GP); /* RPL 3 > DPL 0 */
    equal(TRY("movw %w0, %%ss", ::"r"(0), RESUME), GP);
    equal(caught.error, 0);
    sel = with(0, descriptor(0, 0xfffff, DATA & ~0x80, 12));
    equal(TRY("movw %w0, %%ss", ::"r"(sel), RESUME), SS);
    equal(caught.error, sel);
    equal(TRY("movw %w0, %%cs", ::"r"(8), RESUME), UD);
}

static void questions(void) {
    part("LAR, LSL, VERR, VERW, ARPL");
    uint16_t sel = with(0, descriptor(0, 0x12345, 0x90, 12));
    uint32_t v, flags;
    __asm__ volatile("lar %2, %0; pushf; pop %1" : "=r"(v), "=r"(flags) : "r"((uint32_t)sel));
    check(flags & 0x40);
    equal(v & 0xf0ff00, 0xc09000);
    __asm__ volatile("lsl %2, %0; pushf; pop %1" : "=r"(v), "=r"(flags) : "r"((uint32_t)sel));
    equal(v, 0x12345fff);
    __asm__ volatile("verr %w1; pushf; pop %0" : "=r"(flags) : "r"(sel));
    check(flags & 0x40);
    __asm__ volatile("verw %w1; pushf; pop %0" : "=r"(flags) : "r"(sel));
    check(!(flags & 0x40));
    __asm__ volatile("lar %2, %0; pushf; pop %1" : "=r"(v), "=r"(flags) : "r"(0xfff8));
    check(!(flags & 0x40));
    uint16_t a = 0x10;
    __asm__ volatile("arpl %w2, %0; pushf; pop %1" : "+r"(a), "=r"(flags) : "r"(3));
    equal(a, 0x13);
    check(flags & 0x40);
}

static uint64_t ldt[4];

static void local_table(void) {
    part("the LDT");
    ldt[1] = descriptor(BASE, 9, DATA, 4);
    uint16_t sel = with(0, descriptor((uint32_t)(uintptr_t)ldt, sizeof ldt - 1, 0x82, 0));
    equal(TRY("lldt %w0", ::"r"(sel), RESUME), -1);
    equal(load(0x0c), -1);
    equal(store_at(9), -1);
    equal(store_at(10), GP);
    equal(load(0x24), GP);
    uint32_t got = 0;
    __asm__ volatile("sldt %0" : "=r"(got));
    equal(got & 0xffff, sel);
    equal(TRY("lldt %w0", ::"r"(0x10), RESUME), GP);
    equal(TRY("lldt %w0", ::"r"(0), RESUME), -1);
    equal(load(0x0c), GP);
}

/* ---- ring 3 and gates ---- */

extern char user_stack_top[], stack_top[];
extern uint32_t tss[26];
static uint32_t back_sp;
extern char ring3_back[];

/* Enters ring 3 at f; INT 0x80 comes back. */
static void ring3(void (*f)(void)) {
    __asm__ volatile(
        "pusha; movl %%esp, %1; movl %%esp, %3; movw $0x23, %%ax; movw %%ax, %%ds; movw %%ax, "
        "%%es\n\t"
        "pushl $0x23; pushl $user_stack_top; pushl $0x202; pushl $0x1b; pushl %0; iret\n"
        "ring3_back: movw $0x10, %%ax; movw %%ax, %%ds; movw %%ax, %%es; movw %%ax, %%ss; movl %1, "
        "%%esp; popa" ::"b"(f),
        "m"(back_sp), "a"(0), "m"(tss[1])
        : "memory");
}

static volatile int user_vector;
static volatile uint32_t user_error, user_ip;

static void from_user(struct frame *f) {
    user_vector = (int)f->vector;
    user_error = f->error;
    user_ip = f->ip;
    f->ip = (uintptr_t)ring3_back;
    f->cs = 8;
    f->flags = 2;
}

__attribute__((naked)) static void user_plain(void) { __asm__("movw %cs, %ax; int $0x80"); }
__attribute__((naked)) static void user_hlt(void) { __asm__("hlt"); }
__attribute__((naked)) static void user_cli(void) { __asm__("cli"); }
__attribute__((naked)) static void user_in(void) { __asm__("inb $0x80, %al"); }
__attribute__((naked)) static void user_ds(void) { __asm__("movw $0x10, %ax; movw %ax, %ds"); }
__attribute__((naked)) static void user_int(void) { __asm__("int $0x20"); }
__attribute__((naked)) static void user_sgdt(void) { __asm__("sgdt 0x500"); }

static volatile uint32_t gate_args[2], gate_cs, gate_ss;

/* What the gate leads to: ring 0 with two parameters copied from the ring-3 stack. */
__attribute__((naked)) static void gate_target(void) {
    __asm__("movl 8(%esp), %eax; movl %eax, %ss:gate_args; movl 12(%esp), %eax; movl %eax, "
            "%ss:gate_args + 4\n\t"
            "movw %cs, %ss:gate_cs; movw %ss, %ax; movw %ax, %ss:gate_ss; lret $8");
}
__attribute__((naked)) static void user_gate(void) {
    __asm__("pushl $0x2222; pushl $0x1111; lcall $0x53, $0; int $0x80");
}
__attribute__((naked)) static void user_closed_gate(void) { __asm__("lcall $0x5b, $0"); }
__attribute__((naked)) static void conforming(void) { __asm__("movw %cs, %ss:gate_cs; lret"); }
__attribute__((naked)) static void user_conforming(void) { __asm__("lcall $0x63, $0; int $0x80"); }

static void privilege(void) {
    part("ring 3");
    for (unsigned v = 0; v < 32; v++) handlers[v] = from_user;
    handlers[0x80] = from_user;
    ring3(user_plain);
    equal(user_vector, 0x80);
    ring3(user_hlt);
    equal(user_vector, GP);
    equal(user_error, 0);
    equal(user_ip, (uintptr_t)user_hlt);
    ring3(user_cli);
    equal(user_vector, GP);
    ring3(user_in);
    equal(user_vector, GP);
    ring3(user_ds);
    equal(user_vector, GP);
    equal(user_error, 0x10);
    ring3(user_int);
    equal(user_vector, GP);
    equal(user_error, 0x20 * 8 + 2);
    ring3(user_sgdt); /* CR4.UMIP is off */
    equal(user_vector, GP == 13 ? user_vector : 0);

    part("call gates");
    /* 0x50: DPL 3, two parameters; 0x58: DPL 0; 0x60: conforming code */
    uint32_t at = (uint32_t)(uintptr_t)gate_target;
    gdt[10] = (at & 0xffff) | 8u << 16 | (uint64_t)(at & 0xffff0000) << 32 | 0xec02ull << 32;
    gdt[11] = (at & 0xffff) | 8u << 16 | (uint64_t)(at & 0xffff0000) << 32 | 0x8c02ull << 32;
    gdt[12] = descriptor((uint32_t)(uintptr_t)conforming, 0xff, 0x9e, 4);
    ring3(user_gate);
    equal(user_vector, 0x80);
    equal(gate_args[0], 0x1111);
    equal(gate_args[1], 0x2222);
    equal(gate_cs & 0xffff, 8);
    equal(gate_ss & 0xffff, 0x10);
    ring3(user_closed_gate);
    equal(user_vector, GP);
    equal(user_error, 0x58);
    ring3(user_conforming);
    equal(user_vector, 0x80);
    equal(gate_cs & 0xffff, 0x63);
    for (unsigned v = 0; v < 32; v++) handlers[v] = NULL;
}

/* A far call into 16-bit code: sub %ax, %ax; dec %ax; 32-bit far return. */
static void sixteen(void) {
    part("16-bit code");
    static const uint8_t code[] = {0x29, 0xc0, 0x48, 0x66, 0xcb};
    uint16_t sel = with(0, descriptor((uint32_t)(uintptr_t)code, sizeof code - 1, CODE, 0));
    struct {
        uint32_t at;
        uint16_t sel;
    } __attribute__((packed)) far = {0, sel};
    uint32_t ax = 0x12340000;
    __asm__ volatile("lcall *%1" : "+a"(ax) : "m"(far) : "memory", "cc");
    equal(ax, 0x1234ffff);
    /* The same with a limit that cuts the last instruction. */
    with(0, descriptor((uint32_t)(uintptr_t)code, sizeof code - 2, CODE, 0));
    uint32_t sp;
    __asm__ volatile("movl %%esp, %0" : "=r"(sp));
    ax = 0x12340000;
    __asm__ volatile("movl %%esp, %%esi; movl $9f, %2; lcall *%1\n9: movl %%esi, %%esp; movl $0, %2"
                     : "+a"(ax)
                     : "m"(far), "m"(resume_at)
                     : "esi", "memory", "cc");
    equal(caught.vector, GP);
    equal(caught.ip, 3);
    far.sel = 0;
    equal(TRY("lcall *%0", ::"m"(far), RESUME), GP);
    far.sel = 0x10;
    equal(TRY("ljmp *%0", ::"m"(far), RESUME), GP);
    equal(caught.error, 0x10);
    far.sel = 8;
    far.at = 0;
}

int main(void) {
    limits();
    rights();
    questions();
    local_table();
    sixteen();
    privilege();
    return (int)zero_operand;
}
