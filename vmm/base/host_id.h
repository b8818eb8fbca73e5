/* The processor that results of undefined flags and of some floating point come from. */
#ifndef RV_VMM_BASE_HOST_ID_H
#define RV_VMM_BASE_HOST_ID_H

struct rv_host_id {
    char vendor[13], brand[49]; /* as CPUID says, ended by 0 */
    unsigned family, model, stepping;
};

/* This host's (SDM vol. 2, CPUID). */
struct rv_host_id rv_host_id(void);

#endif
