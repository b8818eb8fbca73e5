/* The shim for AMD-V: runs in 64-bit mode as KVM's guest, at RV_L1_CODE. Enters the guest with the
 * registers it finds in the shared page, puts them back there when the guest comes out, and tells
 * user space through a port. VMRUN switches RAX, RSP, segments CS to SS and the control registers by
 * itself; FS, GS, TR, LDTR and the system-call MSRs stay in the processor, because nothing here uses
 * them, and are loaded only when user space changed them. Reads of the clock it answers by itself as long
 * as user space lets it. AMD64 APM vol. 2, chapter 15. */
#include "vmm/cpu/kvm/shim_clock.inc"

/* In the VMCB. */
#define VMCB(at)        (RV_L1_CONTROL + (at))
#define TLB             VMCB(0x05c)
#define SHADOW          VMCB(0x068)
#define EXITCODE        VMCB(0x070)
#define CS_ATTR         VMCB(0x412)
#define EFER            VMCB(0x4d0)
#define CR3             VMCB(0x550)
#define RFLAGS          VMCB(0x570)
#define RIP             VMCB(0x578)
#define RAX             VMCB(0x5f8)
#define EXIT_RDTSC      0x6e
#define EXIT_RDTSCP     0x87
#define ATTR_L          (1 << 9)
#define EFER_LMA        (1 << 10)
#define FLAG_TF         (1 << 8)
#define FLAG_RF         (1 << 16)
#define HIGH_BASE       0x100000000 /* RV_RAM_HIGH_BASE */

/* A guest physical address in RAM to one of L1. Jumps to `no` elsewhere. Uses RDI. */
        .macro  to_l1 at no
        cmpq    RV_CLOCK_RAM_LOW, \at
        jb      9101f
        movabsq $HIGH_BASE, %rdi
        subq    %rdi, \at
        jb      \no
        cmpq    RV_CLOCK_RAM_HIGH, \at
        jae     \no
        addq    RV_CLOCK_RAM_LOW, \at
9101:   movabsq $RV_L1_RAM, %rdi
        addq    %rdi, \at
        .endm

        .section .rodata
        .code64
        .globl  rv_svm_shim, rv_svm_shim_end
rv_svm_shim:
        rv_clock_begin
        cmpq    $0, RV_COMM_RELOAD
        je      1f
        movl    $RV_L1_CONTROL, %eax
        vmload  %rax
        movq    $0, RV_COMM_RELOAD
1:      fxrstor64 RV_COMM_FX
        movq    RV_COMM_GPR + 8 * 1, %rcx
        movq    RV_COMM_GPR + 8 * 2, %rdx
        movq    RV_COMM_GPR + 8 * 3, %rbx
        movq    RV_COMM_GPR + 8 * 5, %rbp
        movq    RV_COMM_GPR + 8 * 6, %rsi
        movq    RV_COMM_GPR + 8 * 7, %rdi
        movq    RV_COMM_GPR + 8 * 8, %r8
        movq    RV_COMM_GPR + 8 * 9, %r9
        movq    RV_COMM_GPR + 8 * 10, %r10
        movq    RV_COMM_GPR + 8 * 11, %r11
        movq    RV_COMM_GPR + 8 * 12, %r12
        movq    RV_COMM_GPR + 8 * 13, %r13
        movq    RV_COMM_GPR + 8 * 14, %r14
        movq    RV_COMM_GPR + 8 * 15, %r15
        movl    $RV_L1_CONTROL, %eax
enter:  vmrun   %rax
        movq    %rcx, RV_COMM_GPR + 8 * 1
        movq    %rdx, RV_COMM_GPR + 8 * 2
        movq    %rbx, RV_COMM_GPR + 8 * 3
        movq    %rsi, RV_COMM_GPR + 8 * 6
        movq    %rdi, RV_COMM_GPR + 8 * 7

        /* The time? Answered here in 64-bit code that does not step. The instruction may have
         * prefixes, so it is looked at: the guest's page tables lead to it, as they have just led
         * the processor there. Which of the two it is says the instruction, too: QEMU's AMD-V tells
         * both by one code. */
        movq    EXITCODE, %rax
        cmpq    $EXIT_RDTSC, %rax
        je      1f
        cmpq    $EXIT_RDTSCP, %rax
        jne     tell
1:      testl   $EFER_LMA, EFER
        jz      tell
        testw   $ATTR_L, CS_ATTR
        jz      tell
        testl   $FLAG_TF, RFLAGS
        jnz     tell
        movq    RIP, %rdx
        movl    %edx, %eax
        andl    $0xfff, %eax
        cmpl    $0xffd, %eax
        ja      tell
        movq    CR3, %rsi
        movl    $39, %ecx
2:      movabsq $0x000ffffffffff000, %rdi
        andq    %rdi, %rsi
        movq    %rdx, %rdi
        shrq    %cl, %rdi
        andl    $0x1ff, %edi
        leaq    (%rsi, %rdi, 8), %rsi
        to_l1   %rsi tell
        movq    (%rsi), %rsi
        testb   $1, %sil
        jz      tell
        cmpl    $12, %ecx
        je      3f
        testb   $0x80, %sil
        jnz     3f
        subl    $9, %ecx
        jmp     2b
3:      movl    $1, %eax                /* a page of 1 << ECX bytes */
        shlq    %cl, %rax
        decq    %rax
        andq    %rax, %rdx
        notq    %rax
        andq    %rax, %rsi
        movabsq $0x000fffffffffffff, %rdi
        andq    %rdi, %rsi
        orq     %rdx, %rsi
        to_l1   %rsi tell
        movzwl  (%rsi), %eax
        movl    $2, %ebx
        cmpl    $0x310f, %eax
        je      4f
        movl    $3, %ebx
        cmpl    $0x010f, %eax
        jne     tell
        cmpb    $0xf9, 2(%rsi)
        jne     tell
4:      rv_clock_read tell
        movl    %eax, %ecx
        movq    %rcx, RAX
        shrq    $32, %rax
        movq    %rax, %rdx
        movq    RV_COMM_GPR + 8 * 1, %rcx
        cmpl    $3, %ebx
        jne     5f
        movl    RV_CLOCK_AUX, %ecx
5:      addq    %rbx, RIP
        andl    $~FLAG_RF, RFLAGS
        movq    $0, SHADOW
        movb    $0, TLB
        movq    RV_COMM_GPR + 8 * 3, %rbx
        movq    RV_COMM_GPR + 8 * 6, %rsi
        movq    RV_COMM_GPR + 8 * 7, %rdi
        movl    $RV_L1_CONTROL, %eax
        jmp     enter

tell:   movq    %rbp, RV_COMM_GPR + 8 * 5
        movq    %r8, RV_COMM_GPR + 8 * 8
        movq    %r9, RV_COMM_GPR + 8 * 9
        movq    %r10, RV_COMM_GPR + 8 * 10
        movq    %r11, RV_COMM_GPR + 8 * 11
        movq    %r12, RV_COMM_GPR + 8 * 12
        movq    %r13, RV_COMM_GPR + 8 * 13
        movq    %r14, RV_COMM_GPR + 8 * 14
        movq    %r15, RV_COMM_GPR + 8 * 15
        fxsave64 RV_COMM_FX
        movl    $RV_L1_CONTROL, %eax
        vmsave  %rax
        outb    %al, $RV_SHIM_PORT
        jmp     rv_svm_shim
rv_svm_shim_end:
        .section .note.GNU-stack, "", @progbits
