/* A tree of weights by name, and its picture: a flame graph as one SVG file that needs nothing
 * else. A frame is as wide as its weight; a click zooms into it. */
#ifndef RV_ANALYSIS_FLAME_H
#define RV_ANALYSIS_FLAME_H

#include <stdio.h>

#include "vmm/base/types.h"

struct rv_flame; /* opaque */

struct rv_flame *rv_flame_new(void);
void rv_flame_free(struct rv_flame *f);

/* Where stacks begin. */
#define RV_FLAME_ROOT 0u
/* The frame of that name in a frame; names are copied and may hold any bytes. */
uint32_t rv_flame_frame(struct rv_flame *f, uint32_t in, const char *name);
/* Weight of the frame itself, without those in it. */
void rv_flame_add(struct rv_flame *f, uint32_t frame, uint64_t weight);
uint64_t rv_flame_total(const struct rv_flame *f);

/* A stack a line: "outer;inner weight", the format of flame graph tools. Control bytes and
 * semicolons in names become '_'. In the order of names. */
void rv_flame_folded(struct rv_flame *f, FILE *out);
/* title and unit are shown ("instructions"). */
void rv_flame_svg(struct rv_flame *f, const char *title, const char *unit, FILE *out);

#endif
