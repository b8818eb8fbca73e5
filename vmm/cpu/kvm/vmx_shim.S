/* The shim for Intel VT-x: runs in 64-bit mode as KVM's guest, at RV_L1_CODE. Writes the fields that
 * user space has listed, enters the guest with the registers it finds in the shared page, puts them
 * back there when the guest comes out, and tells user space through a port. The control block itself
 * is read by user space, all at once. SDM vol. 3C, chapters 24 to 27 and 30. */
#include "vmm/cpu/kvm/shim_clock.inc"

#define MSR_KERNEL_GS_BASE     0xc0000102
#define FIELD_EXIT_REASON      0x4402
#define FIELD_QUALIFICATION    0x6400
#define FIELD_EVENT            0x4404
#define FIELD_INSTRUCTION_ERROR 0x4400
#define FIELD_LENGTH           0x440c
#define FIELD_CS_RIGHTS        0x4816
#define FIELD_BLOCKING         0x4824
#define FIELD_RIP              0x681e
#define FIELD_RFLAGS           0x6820
#define EXIT_RDTSC             16
#define EXIT_RDTSCP            51
#define RIGHTS_L               13 /* bits */
#define FLAG_TF                8
#define FLAG_RF                16

        /* To a register from a field of the current VMCS, and back. Uses RDX. */
        .macro  get_field field to
        movl    $\field, %edx
        vmread  %rdx, \to
        .endm
        .macro  put_field field from
        movl    $\field, %edx
        vmwrite \from, %rdx
        .endm

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
        rv_clock_begin

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
        movq    %rsi, RV_COMM_GPR + 8 * 6
        movq    %rdi, RV_COMM_GPR + 8 * 7

        /* The time? Answered here in 64-bit code that does not step. The fields that this takes are
         * among those that a KVM with shadow VMCSs lets its guests have without an exit. */
        cmpl    $0, RV_CLOCK_LEFT
        je      out
        get_field FIELD_EXIT_REASON, %rbx
        cmpq    $EXIT_RDTSC, %rbx
        je      5f
        cmpq    $EXIT_RDTSCP, %rbx
        jne     out
5:      get_field FIELD_CS_RIGHTS, %rax
        btl     $RIGHTS_L, %eax
        jnc     out
        get_field FIELD_RFLAGS, %rsi
        btl     $FLAG_TF, %esi
        jc      out
        rv_clock_read out
        movl    %eax, %ecx
        movq    %rcx, RV_COMM_GPR + 8 * 0
        shrq    $32, %rax
        movq    %rax, RV_COMM_GPR + 8 * 2
        cmpl    $EXIT_RDTSCP, %ebx
        jne     6f
        movl    RV_CLOCK_AUX, %ecx
        movq    %rcx, RV_COMM_GPR + 8 * 1
6:      get_field FIELD_LENGTH, %rax
        get_field FIELD_RIP, %rcx
        addq    %rax, %rcx
        put_field FIELD_RIP, %rcx
        btrl    $FLAG_RF, %esi
        jnc     7f
        put_field FIELD_RFLAGS, %rsi
7:      get_field FIELD_BLOCKING, %rax
        testl   $3, %eax
        jz      8f
        andl    $~3, %eax
        put_field FIELD_BLOCKING, %rax
8:      movq    RV_COMM_GPR + 8 * 0, %rax
        movq    RV_COMM_GPR + 8 * 1, %rcx
        movq    RV_COMM_GPR + 8 * 2, %rdx
        movq    RV_COMM_GPR + 8 * 3, %rbx
        movq    RV_COMM_GPR + 8 * 6, %rsi
        movq    RV_COMM_GPR + 8 * 7, %rdi
        movq    $1, RV_COMM_LAUNCHED
        vmresume
        jmp     4b

out:    movq    %rbp, RV_COMM_GPR + 8 * 5
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
