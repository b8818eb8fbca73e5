#include "vmm/base/host_id.h"

#include <cpuid.h>
#include <string.h>

struct rv_host_id rv_host_id(void) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    struct rv_host_id h = {0};
    if (__get_cpuid(0, &a, &b, &c, &d)) {
        memcpy(h.vendor, &b, 4);
        memcpy(h.vendor + 4, &d, 4);
        memcpy(h.vendor + 8, &c, 4);
    }
    if (__get_cpuid(1, &a, &b, &c, &d)) {
        h.family = (a >> 8 & 15) + ((a >> 8 & 15) == 15 ? a >> 20 & 255 : 0);
        h.model = (a >> 4 & 15) | (a >> 12 & 0xf0);
        h.stepping = a & 15;
    }
    for (unsigned leaf = 0; leaf < 3; leaf++)
        if (__get_cpuid(0x80000002u + leaf, &a, &b, &c, &d)) {
            unsigned r[4] = {a, b, c, d};
            memcpy(h.brand + 16 * leaf, r, 16);
        }
    return h;
}
