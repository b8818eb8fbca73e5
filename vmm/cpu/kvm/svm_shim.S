/* The shim for AMD-V: runs in 64-bit mode as KVM's guest, at RV_L1_CODE. Enters the guest with the
 * registers it finds in the shared page, puts them back there when the guest comes out, and tells
 * user space through a port. VMRUN switches RAX, RSP, segments CS to SS and the control registers by
 * itself; FS, GS, TR, LDTR and the system-call MSRs stay in the processor, because nothing here uses
 * them, and are loaded only when user space changed them. AMD64 APM vol. 2, chapter 15. */
#include "vmm/cpu/kvm/shim.h"

        .section .rodata
        .code64
        .globl  rv_svm_shim, rv_svm_shim_end
rv_svm_shim:
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
        vmrun   %rax
        movq    %rcx, RV_COMM_GPR + 8 * 1
        movq    %rdx, RV_COMM_GPR + 8 * 2
        movq    %rbx, RV_COMM_GPR + 8 * 3
        movq    %rbp, RV_COMM_GPR + 8 * 5
        movq    %rsi, RV_COMM_GPR + 8 * 6
        movq    %rdi, RV_COMM_GPR + 8 * 7
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
