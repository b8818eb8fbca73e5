#include "tools/analysis/code.h"

#include <stdio.h>

bool rv_code_decode(const struct rv_view *v, uint64_t rip, ZydisDisassembledInstruction *out) {
    const struct rv_seg *cs = &v->cpu.seg[RV_CS];
    bool code64 = (v->cpu.efer & RV_EFER_LMA) && (cs->attr & RV_SEG_L);
    ZydisMachineMode mode = code64                 ? ZYDIS_MACHINE_MODE_LONG_64
                            : cs->attr & RV_SEG_DB ? ZYDIS_MACHINE_MODE_LEGACY_32
                                                   : ZYDIS_MACHINE_MODE_LEGACY_16;
    uint8_t bytes[15];
    size_t n = rv_view_read(v, code64 ? rip : cs->base + rip, bytes, sizeof bytes);
    return n && ZYAN_SUCCESS(ZydisDisassembleIntel(mode, rip, bytes, n, out));
}

unsigned rv_code_at(const struct rv_view *v, uint64_t rip, char *out, size_t size) {
    ZydisDisassembledInstruction d;
    bool decoded = rv_code_decode(v, rip, &d);
    snprintf(out, size, "%s", decoded ? d.text : "(no instruction can be read)");
    return decoded ? d.info.length : 0;
}
