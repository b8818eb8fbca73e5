/* For tests of the translator. */
#ifndef RV_VMM_CPU_XLATE_EAGER_H
#define RV_VMM_CPU_XLATE_EAGER_H

#include "vmm/cpu/engine.h"

/* From now on every block is translated before it runs the first time. e is of
 * rv_engine_translate. */
void rv_translate_eagerly(struct rv_engine *e);

#endif
