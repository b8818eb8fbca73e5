/* What runs a plugin (plugin.h) over a recording. */
#ifndef RV_TOOLS_PLUGIN_HOST_H
#define RV_TOOLS_PLUGIN_HOST_H

#include "tools/analysis/guest.h"

struct retro_plugin; /* opaque */

/* Loads "PATH[,key[=value]...]". RV_E_USAGE, with what to do, for a file that is no plugin or one
 * for another version. */
int retro_plugin_load(struct retro_plugin **out, const char *text, struct rv_err *err);
void retro_plugin_free(struct retro_plugin *p);

struct retro_plugin_run {
    struct rv_timeline *timeline;
    const struct rv_guest *guest;
    rv_icount from, to;
    void (*progress)(void *ctx, rv_icount done, rv_icount total);
    void *ctx;
    bool interrupted; /* out: only what came before `upto` was shown */
    rv_icount upto;
};
int retro_plugin_run(struct retro_plugin *p, struct retro_plugin_run *run, struct rv_err *err);

#endif
