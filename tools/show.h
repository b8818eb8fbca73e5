/* A guest's state in words, for the commands that show it. */
#ifndef RV_TOOLS_SHOW_H
#define RV_TOOLS_SHOW_H

#include <jansson.h>

#include "tools/analysis/guest.h"
#include "tools/analysis/unwind.h"

#define RETRO_FRAMES 256

/* Where it is: position, part of the recording, guest time, process and mode. */
void retro_show_where(struct rv_timeline *t, const struct rv_look *look);
json_t *retro_json_where(struct rv_timeline *t, const struct rv_look *look);

/* The call stack, one frame a line, and why it ends. */
void retro_show_stack(const struct rv_look *look);
json_t *retro_json_stack(const struct rv_look *look);

void retro_show_registers(const struct rv_look *look);
json_t *retro_json_registers(const struct rv_look *look);

/* n instructions from va on, the one at va marked. */
void retro_show_code(const struct rv_look *look, uint64_t va, unsigned n);
json_t *retro_json_code(const struct rv_look *look, uint64_t va, unsigned n);
/* The instruction at va as text, or "" when it cannot be read. Returns its length in bytes. */
unsigned retro_instruction(const struct rv_look *look, uint64_t va, char *out, size_t size);

/* n words from the stack pointer on. */
void retro_show_words(const struct rv_look *look, unsigned n);
json_t *retro_json_words(const struct rv_look *look, unsigned n);

/* What the process has mapped. */
void retro_show_maps(const struct rv_look *look);
json_t *retro_json_maps(const struct rv_look *look);

/* Prints " <name>" when a name is known. */
void retro_show_name(const struct rv_look *look, uint64_t va);

#endif
