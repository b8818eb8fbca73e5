#include "tools/retro.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A decimal number (0x for hexadecimal) and what follows it. */
static bool number(const char *text, uint64_t *n, const char **rest) {
    if (!isdigit((unsigned char)*text)) return false;
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 0);
    if (errno) return false;
    *n = v;
    *rest = end;
    return true;
}

static bool scaled(const char *text, uint64_t k, uint64_t *out) {
    const char *unit;
    uint64_t n, factor = 1;
    if (!number(text, &n, &unit)) return false;
    switch (*unit) {
    case 0: break;
    case 'k':
    case 'K': factor = k; break;
    case 'M': factor = k * k; break;
    case 'G': factor = k * k * k; break;
    default: return false;
    }
    if (*unit && unit[1]) return false;
    return !__builtin_mul_overflow(n, factor, out);
}

bool retro_parse_size(const char *text, uint64_t *bytes) { return scaled(text, 1024, bytes); }
bool retro_parse_count(const char *text, uint64_t *n) { return scaled(text, 1000, n); }

bool retro_parse_seconds(const char *text, uint64_t *ns) {
    char *end;
    errno = 0;
    double s = strtod(text, &end);
    if (errno || end == text || *end || !(s > 0) || s > 1e9) return false;
    *ns = (uint64_t)(s * 1e9);
    return *ns > 0;
}

bool retro_parse_position(const char *text, rv_icount *position) {
    if (strcmp(text, "end") == 0) {
        *position = RV_NEVER;
        return true;
    }
    return retro_parse_count(text, position);
}
