/* What both shims have in common to tell the guest the time: assembly macros. */
#ifndef RV_VMM_CPU_KVM_SHIM_CLOCK_H
#define RV_VMM_CPU_KVM_SHIM_CLOCK_H

#include "vmm/cpu/kvm/shim.h"

/* Once for each time that user space sends the guest in: the shim's own counter at that moment. */
        .macro  rv_clock_begin
        rdtsc
        shlq    $32, %rdx
        orq     %rdx, %rax
        movq    %rax, RV_CLOCK_START
        .endm

/* Answers one read: guest time moves on to the host's clock, rounded down to a leading bit and two
 * more (rv_clock_round), and the step is noted in the ring. Leaves the guest's counter in RAX.
 * Jumps to `no`, with nothing changed, when user space has to answer. Uses RAX, RCX, RDX, RDI. */
        .macro  rv_clock_read no
        cmpl    $0, RV_CLOCK_LEFT
        je      \no
        rdtsc
        shlq    $32, %rdx
        orq     %rdx, %rax
        subq    RV_CLOCK_START, %rax
        jb      \no
        mulq    RV_CLOCK_SCALE
        shrdq   $32, %rdx, %rax         /* ns since the start */
        addq    RV_CLOCK_HOST, %rax
        subq    RV_CLOCK_NOW, %rax
        jae     9001f
        xorl    %eax, %eax              /* the guest is ahead: its time stands still */
9001:   cmpq    $8, %rax
        jb      9002f
        bsrq    %rax, %rcx
        cmpl    $RV_CLOCK_STEP_MAX, %ecx
        ja      \no
        subl    $2, %ecx
        shrq    %cl, %rax
        shlq    %cl, %rax
9002:   movq    %rax, %rdi
        addq    RV_CLOCK_NOW, %rax
        cmpq    RV_CLOCK_BEFORE, %rax
        jae     \no
        movq    %rax, RV_CLOCK_NOW
        movl    RV_CLOCK_COUNT, %ecx
        movq    %rdi, RV_L1_RING(, %rcx, 8)
        incl    RV_CLOCK_COUNT
        decl    RV_CLOCK_LEFT
        mulq    RV_CLOCK_HZ
        movl    $1000000000, %ecx
        divq    %rcx                    /* fits: RV_CLOCK_BEFORE sees to that */
        addq    RV_CLOCK_OFFSET, %rax
        .endm

#endif
