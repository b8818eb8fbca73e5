#include "trace-format/event.h"

const char *rv_trace_kind_name(uint32_t kind) {
    switch (kind) {
    case RV_TRACE_INPUT: return "input";
    case RV_TRACE_JUMP: return "jump";
    case RV_TRACE_QUERY: return "query";
    case RV_TRACE_EFFECT: return "effect";
    case RV_TRACE_DIGEST: return "digest";
    case RV_TRACE_MARK: return "mark";
    case RV_TRACE_TRAP: return "trap";
    case RV_TRACE_LANDMARK: return "landmark";
    case RV_TRACE_STOP: return "stop";
    case RV_TRACE_FLAGS: return "flags";
    default: return "unknown";
    }
}
