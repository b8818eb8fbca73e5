/* The shim for Intel VT-x: runs in 64-bit mode as KVM's guest, at RV_L1_CODE. Writes the fields that
 * user space has listed, enters the guest with the registers it finds in the shared page, puts them
 * back there when the guest comes out, and tells user space through a port. The control block itself
 * is read by user space, all at once. SDM vol. 3C, chapters 24 to 27 and 30. */
#include "vmm/cpu/kvm/shim.h"

#define MSR_KERNEL_GS_BASE     0xc0000102
#define FIELD_EXIT_REASON      0x4402
#define FIELD_QUALIFICATION    0x6400
#define FIELD_EVENT            0x4404
#define FIELD_INSTRUCTION_ERROR 0x4400

        .section .rodata
        .code64
        .globl  rv_vmx_shim, rv_vmx_shim_out, rv_vmx_shim_end
rv_vmx_shim:
        movl    $RV_VMX_NO_VMXON, %eax
        vmxon   RV_COMM_VMXON
        jbe     tell
        movl    $RV_VMX_NO_VMCS, %eax
        vmclear RV_COMM_VMCS
        jbe     tell
        vmptrld RV_COMM_VMCS
        jbe     tell
        movl    $RV_VMX_DONE, %eax
tell:   movq    %rax, RV_COMM_STATUS
        outb    %al, $RV_SHIM_PORT

        /* Fields to be written: number and value, until a number that is none. */
        movl    $RV_COMM_LIST, %esi
1:      movq    (%rsi), %rdx
        cmpq    $-1, %rdx
        je      2f
        movl    $RV_VMX_NO_FIELD, %eax
        vmwrite 8(%rsi), %rdx
        jbe     tell
        addq    $16, %rsi
        jmp     1b
2:      movl    $RV_VMX_DONE, %eax
        cmpq    $0, RV_COMM_ENTER
        je      tell

        movq    RV_COMM_CR2, %rax
        movq    %rax, %cr2
        movl    $MSR_KERNEL_GS_BASE, %ecx
        movl    RV_COMM_KERNEL_GS, %eax
        movl    RV_COMM_KERNEL_GS + 4, %edx
        wrmsr
        fxrstor64 RV_COMM_FX
        movq    RV_COMM_GPR + 8 * 0, %rax
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
        cmpq    $0, RV_COMM_LAUNCHED
        jne     3f
        vmlaunch
        jmp     4f
3:      vmresume
4:      movl    $RV_VMX_NO_ENTRY, %eax
        movl    $FIELD_INSTRUCTION_ERROR, %edx
        vmread  %rdx, RV_COMM_REASON
        jmp     tell

        /* The guest is out. */
rv_vmx_shim_out:
        movq    %rax, RV_COMM_GPR + 8 * 0
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
        movq    %cr2, %rax
        movq    %rax, RV_COMM_CR2
        movl    $MSR_KERNEL_GS_BASE, %ecx
        rdmsr
        movl    %eax, RV_COMM_KERNEL_GS
        movl    %edx, RV_COMM_KERNEL_GS + 4
        movl    $FIELD_QUALIFICATION, %edx
        vmread  %rdx, RV_COMM_QUALIFICATION
        movl    $FIELD_EVENT, %edx
        vmread  %rdx, RV_COMM_EVENT
        movl    $FIELD_EXIT_REASON, %edx
        vmread  %rdx, RV_COMM_REASON
        movl    $RV_VMX_OUT, %eax
        /* An entry that failed late has not launched anything. */
        btq     $31, RV_COMM_REASON
        jc      tell
        movq    $1, RV_COMM_LAUNCHED
        jmp     tell
rv_vmx_shim_end:
        .section .note.GNU-stack, "", @progbits
