/* CPUID, MSRs, control registers, SYSCALL, ring 3: what they give and what they refuse. */
#include "tables.h"

static void identity(void) {
    part("CPUID");
    static const uint32_t leaves[] = {0,          1,          2,          4,          7,
                                      0xd,        0x15,       0x16,       0x40000000, 0x80000000,
                                      0x80000001, 0x80000002, 0x80000008, 0x12345678, 0xffffffff};
    for (unsigned i = 0; i < sizeof leaves / sizeof *leaves; i++) {
        struct cpuid r = cpuid(leaves[i], 0);
        print_hex(leaves[i]);
        print(": ");
        print_hex(r.a), put(' '), print_hex(r.b), put(' '), print_hex(r.c), put(' '),
            print_hex(r.d);
        put('\n');
    }
    check(!(cpuid(1, 0).c >> 27 & 1));
    if (has_xsave()) {
        WRITE_REG(cr4, READ_REG(cr4) | 1 << 18);
        check(cpuid(1, 0).c >> 27 & 1); /* OSXSAVE follows CR4 */
        WRITE_REG(cr4, READ_REG(cr4) & ~(1ull << 18));
    }
    struct cpuid wide = {0};
    uint64_t rax = ~0ull, rbx = ~0ull, rcx = 0, rdx = ~0ull;
    __asm__ volatile("mov $1, %%eax; or %%rax, %%rax; cpuid"
                     : "+a"(rax), "+b"(rbx), "+c"(rcx), "+d"(rdx));
    equal((rax | rbx | rcx | rdx) >> 32, wide.a); /* upper halves are cleared */
}

#define try_wrmsr(index, v)                                                                        \
    TRY("wrmsr", ::"c"(index), "a"((uint32_t)(v)), "d"((uint32_t)((uint64_t)(v) >> 32)), RESUME)
#define try_rdmsr(index) TRY("rdmsr", ::"c"(index), RESUME : "eax", "edx")

static void msrs(void) {
    part("MSRs");
    equal(try_rdmsr(0x12345), GP);
    equal(caught.error, 0);
    equal(try_wrmsr(0x12345, 0), GP);
    equal(try_wrmsr(EFER, 1ull << 20), GP);
    equal(try_wrmsr(EFER, rdmsr(EFER) & ~0x100ull), GP); /* LME while paging */
    equal(try_wrmsr(0xc0000082, 0x800000000000), GP);
    equal(try_wrmsr(0xc0000100, 1ull << 63), GP);
    equal(try_wrmsr(0x277, 2), GP); /* PAT type 2 */
    equal(try_wrmsr(0x277, 0x0007040600070406), -1);
    equal(rdmsr(0x277), 0x0007040600070406);
    equal(try_wrmsr(0x1b, ~0ull), GP);
    equal(try_rdmsr(0x802), GP); /* x2APIC is off */
    for (uint64_t v = 1; v; v <<= 9) {
        if (v >> 47) continue;
        wrmsr(0xc0000102, v);
        equal(rdmsr(0xc0000102), v);
    }
    wrmsr(0xc0000101, 0x1111);
    wrmsr(0xc0000102, 0x2222);
    __asm__ volatile("swapgs");
    equal(rdmsr(0xc0000101), 0x2222);
    __asm__ volatile("swapgs");
    static uint64_t cell = 0xfeed;
    uint64_t got;
    wrmsr(0xc0000100, ADDRESS(&cell));
    __asm__ volatile("mov %%fs:0, %0" : "=r"(got));
    equal(got, 0xfeed);
    equal(TRY("rdfsbase %0", : "=r"(got) : RESUME), UD);
    WRITE_REG(cr4, READ_REG(cr4) | 1 << 16);
    equal(TRY("rdfsbase %0", : "=r"(got) : RESUME), -1);
    equal(got, ADDRESS(&cell));
    equal(TRY("wrgsbase %0", ::"r"(1ull << 62), RESUME), GP);
}

#define try_cr(n, v) TRY("mov %0, %%cr" #n, ::"r"((uint64_t)(v)), RESUME)

static void controls(void) {
    part("control registers");
    uint64_t cr0 = READ_REG(cr0), cr4 = READ_REG(cr4), cr3 = READ_REG(cr3);
    equal(try_cr(0, cr0 & ~1ull), GP);                        /* PG without PE */
    equal(try_cr(0, cr0 & ~(1ull << 31)), GP);                /* in 64-bit code */
    equal(try_cr(0, (cr0 | 1ull << 29) & ~(1ull << 30)), GP); /* NW without CD */
    equal(try_cr(0, cr0 | 1ull << 32), GP);
    equal(try_cr(4, cr4 & ~0x20ull), GP);   /* PAE in long mode */
    equal(try_cr(4, cr4 | 1ull << 14), GP); /* SMX: absent */
    equal(try_cr(4, cr4 | 1ull << 40), GP);
    equal(try_cr(3, cr3 | 1ull << 45), GP);
    equal(try_cr(8, 16), GP);
    equal(TRY("mov %%cr1, %%rax", ::RESUME : "rax"), UD);
    equal(TRY("mov %%cr7, %%rax", ::RESUME : "rax"), UD);
    equal(READ_REG(cr0), cr0);
    equal(READ_REG(cr4), cr4);
    uint16_t msw;
    __asm__ volatile("smsw %0" : "=r"(msw));
    equal(msw, cr0 & 0xffff);
}

static uint64_t do_hlt(void *a) {
    __asm__ volatile("hlt");
    return 0;
}
static uint64_t do_rdmsr(void *a) {
    __asm__ volatile("rdmsr");
    return 0;
}
static uint64_t do_cr(void *a) {
    __asm__ volatile("mov %%cr0, %%rax" ::: "rax");
    return 0;
}
static uint64_t do_in(void *a) {
    __asm__ volatile("inb $0xe9, %%al" ::: "rax");
    return 0;
}
static uint64_t do_in80(void *a) {
    __asm__ volatile("inb $0x80, %%al" ::: "rax");
    return 0;
}
static uint64_t do_tsc(void *a) { return rdtsc(); }
static uint64_t do_sgdt(void *a) {
    __asm__ volatile("sgdt (%0)" ::"r"(a) : "memory");
    return 0;
}
static uint64_t do_sti(void *a) {
    __asm__ volatile("sti");
    return 5;
}
static uint64_t do_popf(void *a) {
    uint64_t f;
    __asm__ volatile("pushq $0x3002; popfq; pushfq; pop %0" : "=r"(f)::"cc", "memory");
    return f;
}
static uint64_t do_ac(void *a) {
    __asm__ volatile("pushfq; orl $0x40000, (%%rsp); popfq; movl 1(%0), %%eax" ::"r"(a)
                     : "rax", "cc", "memory");
    return 0;
}
static uint64_t do_syscall(void *a) {
    uint64_t r;
    __asm__ volatile("mov $7, %%eax; syscall" : "=a"(r)::"rcx", "r11", "memory");
    return r;
}

extern char user_stack_top[];
static int user(uint64_t (*f)(void *)) {
    no_trap();
    fault_returns = true;
    in_user(f, (void *)(user_offset + ADDRESS(user_stack_top) - 256));
    fault_returns = false;
    return caught.vector;
}

__attribute__((naked)) static void syscall_entry(void) { __asm__("lea 35(%rax), %rax; sysretq"); }

static struct {
    uint32_t tss[26];
    uint8_t bitmap[33];
} wide_tss;

static void ring3(void) {
    part("ring 3");
    equal(user(do_hlt), GP);
    equal(user(do_rdmsr), GP);
    equal(user(do_cr), GP);
    equal(user(do_in), GP);
    equal(user(do_sti), GP);
    equal(user(do_tsc), -1);
    WRITE_REG(cr4, READ_REG(cr4) | 4);
    equal(user(do_tsc), GP);
    WRITE_REG(cr4, READ_REG(cr4) & ~4ull);
    equal(user(do_sgdt), -1);
    if (has_umip()) {
        WRITE_REG(cr4, READ_REG(cr4) | 1 << 11);
        equal(user(do_sgdt), GP);
        WRITE_REG(cr4, READ_REG(cr4) & ~(1ull << 11));
    }
    equal(in_user(do_popf, NULL) & 0x3200, 0x200); /* neither IOPL nor IF change */
    user_flags = 0x3202;
    equal(user(do_sti), -1);
    equal(user(do_in), -1);
    user_flags = 0x202;
    WRITE_REG(cr0, READ_REG(cr0) | 1 << 18);
    equal(user(do_ac), AC);
    equal(caught.error, 0);
    WRITE_REG(cr0, READ_REG(cr0) & ~(1ull << 18));
    equal(user(do_ac), -1);
    part("the I/O bitmap");
    for (unsigned i = 0; i < 26; i++) wide_tss.tss[i] = tss[i];
    for (unsigned i = 0; i < 33; i++) wide_tss.bitmap[i] = i == 32 ? 0xff : 0;
    wide_tss.bitmap[0x80 / 8] = 1;
    uint64_t base = ADDRESS(&wide_tss);
    gdt[6] =
        (sizeof wide_tss - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    wide_tss.tss[25] = 104u << 16;
    __asm__ volatile("ltr %w0" ::"r"(0x30));
    equal(user(do_in), -1);
    equal(user(do_in80), GP);
    part("SYSCALL");
    wrmsr(0xc0000081, 0x001b0010ull << 32);
    wrmsr(0xc0000082, ADDRESS(syscall_entry));
    wrmsr(0xc0000084, 0x200);
    equal(user(do_syscall), UD);
    wrmsr(EFER, rdmsr(EFER) | 1);
    equal(in_user(do_syscall, NULL), 42);
}

/* The string forms of port I/O: every width, both directions, a fault in the middle. */
static void string_io(void) {
    part("INS and OUTS");
    static const char text[] = "written by OUTS\n";
    const char *s = text;
    uint64_t n = sizeof text - 1;
    __asm__ volatile("rep outsb" : "+S"(s), "+c"(n) : "d"(COM1) : "memory");
    equal(n, 0);
    uint8_t *d = pages[0];
    n = 8;
    __asm__ volatile("rep insb" : "+D"(d), "+c"(n) : "d"(0xe9) : "memory");
    equal(*(uint64_t *)pages[0], 0xe9e9e9e9e9e9e9e9);
    d = pages[0] + 60;
    n = 4;
    __asm__ volatile("std; rep insl; cld" : "+D"(d), "+c"(n) : "d"(0x5000) : "memory");
    equal(ADDRESS(d), ADDRESS(pages[0]) + 44);
    equal(*(uint64_t *)(pages[0] + 48), ~0ull);
    equal(*(uint32_t *)(pages[0] + 44), 0);
    map(0, ADDRESS(pages[1]) | P | W);
    map(1, 0);
    uint64_t at = at_page(1) - 6;
    n = 10;
    equal(TRY("rep insw", : "+D"(at), "+c"(n) : "d"(0x5000), RESUME : "memory"), PF);
    equal(n, 7);
    equal(at, at_page(1));
    s = (const char *)at_page(1) - 3;
    n = 10;
    equal(TRY("rep outsb", : "+S"(s), "+c"(n) : "d"(0x80), RESUME : "memory"), PF);
    equal(n, 7);
}

int main(void) {
    tables_on();
    identity();
    msrs();
    controls();
    ring3();
    string_io();
    return 0;
}
