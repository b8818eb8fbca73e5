/* Instructions as text. */
#ifndef RV_ANALYSIS_CODE_H
#define RV_ANALYSIS_CODE_H

#include <Zydis/Zydis.h>

#include "tools/analysis/view.h"

/* Decodes the instruction at offset rip of the view's code segment, as Intel writes it; false when
 * none can be read or decoded there. */
bool rv_code_decode(const struct rv_view *v, uint64_t rip, ZydisDisassembledInstruction *out);

/* Its text alone. Returns its length in bytes; 0 when there is none, which out then says. */
unsigned rv_code_at(const struct rv_view *v, uint64_t rip, char *out, size_t size);

#endif
