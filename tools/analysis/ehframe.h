/* Which entry of .eh_frame is for which function (Linux Standard Base, Core, 10.6): for programs
 * whose linker left out the table of them, as static ones often have it. The bytes are not trusted.
 */
#ifndef RV_ANALYSIS_EHFRAME_H
#define RV_ANALYSIS_EHFRAME_H

#include <stddef.h>
#include <stdint.h>

struct rv_fde {
    uint64_t start; /* of the function, as linked */
    uint64_t at;    /* address of the entry, as linked */
};

/* Entries of a section of len bytes that is linked at addr, by start; how many. *out is the
 * caller's to free(). What is damaged ends the list. */
size_t rv_ehframe_list(struct rv_fde **out, const uint8_t *bytes, size_t len, uint64_t addr);

#endif
