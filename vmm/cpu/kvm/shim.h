/* Where things are in L1 memory; for C and for the shims' assembly. */
#ifndef RV_VMM_CPU_KVM_SHIM_H
#define RV_VMM_CPU_KVM_SHIM_H

/* L1's own page tables: one to one for the first GiB. */
#define RV_L1_PML4  0x1000
#define RV_L1_PDPT  0x2000
#define RV_L1_PD    0x3000
#define RV_L1_STACK 0x5000 /* grows down from here */
/* What shim and user space share. */
#define RV_L1_COMM      0x5000
#define RV_COMM_GPR     (RV_L1_COMM + 0x000) /* 16 x 8 bytes, in the order of enum rv_gpr */
#define RV_COMM_RELOAD  (RV_L1_COMM + 0x080) /* 8 bytes: not 0: load all of the control block */
#define RV_COMM_FX      (RV_L1_COMM + 0x200) /* 512 bytes, FXSAVE64 format */
#define RV_L1_CODE      0x6000
#define RV_L1_CONTROL   0x8000 /* VMCB or VMCS */
#define RV_L1_HOST      0x9000 /* host save area, or VMXON region */
#define RV_L1_IO_MAP    0xa000 /* 3 pages */
#define RV_L1_MSR_MAP   0xd000 /* 2 pages */
#define RV_L1_NPT       0x10000
#define RV_L1_RAM       0x100000000 /* guest RAM, as it lies in struct rv_ram */
#define RV_SHIM_PORT    0x10

#endif
