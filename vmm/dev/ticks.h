/* Conversion between guest time and the cycles of a device's clock. Both directions are exact from
 * power-on: nothing accumulates, so no clock drifts from another. */
#ifndef RV_VMM_DEV_TICKS_H
#define RV_VMM_DEV_TICKS_H

#include "vmm/base/types.h"

#define RV_PIT_HZ     1193182u /* 14.31818 MHz / 12 */
#define RV_ACPI_PM_HZ 3579545u /* 14.31818 MHz / 4, ACPI 6.4, 4.8.3.3 */

/* Whole cycles of an hz clock that have passed at guest time t. Wraps beyond 64 bits. */
static inline uint64_t rv_ticks_at(rv_ns t, uint64_t hz) {
    return (uint64_t)((unsigned __int128)t * hz / RV_NSEC);
}

/* The earliest guest time at which rv_ticks_at gives at least ticks; RV_NEVER when out of range. */
static inline rv_ns rv_ticks_time(uint64_t ticks, uint64_t hz) {
    if (!hz) return RV_NEVER;
    unsigned __int128 t = ((unsigned __int128)ticks * RV_NSEC + hz - 1) / hz;
    return t >= RV_NEVER ? RV_NEVER : (rv_ns)t;
}

#endif
