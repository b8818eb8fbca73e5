#include "replay/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace-format/effect.h"
#include "vmm/base/buf.h"
#include "vmm/host/file.h"

struct rv_replay {
    struct rv_trace_reader *reader;
    struct rv_player *player;
    struct rv_machine *machine;
    uint8_t *images[2];
};

/* Images beyond this size are no kernels; a trace may claim anything. */
#define IMAGE_MAX (1ull << 30)

static int load_image(struct rv_replay *r, const struct rv_trace_image *ti, const char *override,
                      uint8_t **data, struct rv_err *err) {
    uint64_t size = ti->size;
    if (size > IMAGE_MAX)
        return rv_fail(err, RV_E_FORMAT, "%s: its %s is said to have %llu bytes; run retro verify",
                       rv_trace_reader_name(r->reader), ti->role, (unsigned long long)size);
    if (!override && rv_trace_reader_blob_size(r->reader, &ti->hash, &size)) {
        if (size != ti->size)
            return rv_fail(err, RV_E_FORMAT, "%s: its %s has %llu bytes instead of %llu",
                           rv_trace_reader_name(r->reader), ti->role, (unsigned long long)size,
                           (unsigned long long)ti->size);
        *data = rv_alloc(size);
        return rv_trace_reader_blob_fetch(r->reader, &ti->hash, *data, size, err);
    }
    const char *path = override ? override : ti->name;
    size_t len;
    int code = rv_file_read(path, IMAGE_MAX, data, &len, err);
    if (code)
        return rv_fail_in(err, "the trace does not hold its %s; give it with --%s", ti->role,
                          ti->role);
    struct rv_trace_hash hash = rv_trace_hash_of(*data, len);
    if (len != ti->size || !rv_trace_hash_equal(&hash, &ti->hash))
        return rv_fail(err, RV_E_USAGE,
                       "%s is not the %s that was recorded (its content differs); give the right "
                       "one with --%s",
                       path, ti->role, ti->role);
    return 0;
}

static int check_devices(const struct rv_trace_header *h, const char *name, struct rv_err *err) {
    unsigned n;
    const struct rv_dev_ops *const *models = rv_pc_models(&n);
    /* Later versions only add devices: an older machine has fewer. */
    if (h->device_count > n || !h->device_count)
        return rv_fail(err, RV_E_UNSUPPORTED,
                       "%s: recorded on a machine with %zu devices, this build has %u; replay it "
                       "with Retrovisor %.40s",
                       name, h->device_count, n, h->tool_version);
    for (unsigned i = 0; i < h->device_count; i++)
        if (strcmp(models[i]->name, h->devices[i].name) != 0 ||
            models[i]->version != h->devices[i].version)
            return rv_fail(err, RV_E_UNSUPPORTED,
                           "%s: recorded with device %.40s version %u, this build has %s version "
                           "%u; replay it with Retrovisor %.40s",
                           name, h->devices[i].name, h->devices[i].version, models[i]->name,
                           models[i]->version, h->tool_version);
    return 0;
}

/* A software engine executes vector instructions with the host's own. */
static int check_cpu(const struct rv_profile *profile, const char *name, struct rv_err *err) {
    const char *lacks = rv_profile_lacks(profile);
    if (!lacks) return 0;
    return rv_fail(err, RV_E_UNSUPPORTED,
                   "%s: recorded with CPU profile %s, for which this host's CPU lacks %s; replay "
                   "it on a host that has it",
                   name, profile->name, lacks);
}

static int build(struct rv_replay *r, const struct rv_replay_config *config,
                 struct rv_nondet *(*wrap)(void *ctx, struct rv_nondet *), void *ctx,
                 struct rv_err *err) {
    const struct rv_trace_header *h = rv_trace_reader_header(r->reader);
    const char *name = rv_trace_reader_name(r->reader);
    int code = check_devices(h, name, err);
    if (code) return code;
    struct rv_machine_config mc = {
        .memory = h->memory_bytes,
        .engine = config->engine ? config->engine : rv_engine_software(),
        .profile = rv_profile_find(h->cpu_profile),
        .rate = h->rate,
        .by_trap = rv_trace_option_number(h, RV_OPTION_BY_TRAP, 0),
        .quirks = rv_trace_option_number(h, RV_OPTION_QUIRKS, 0),
        .devices = (unsigned)h->device_count,
        .digest_every = rv_trace_option_number(h, RV_OPTION_DIGEST_EVERY, 0),
        .boot = {.cmdline = h->command_line},
    };
    uint64_t kind = rv_trace_option_number(h, RV_OPTION_BOOT_KIND, RV_BOOT_AUTO);
    if (kind > RV_BOOT_FLAT || (mc.by_trap && mc.rate != RV_RATE_HOST) ||
        h->memory_bytes < RV_RAM_MIN || h->memory_bytes > RV_RAM_MAX ||
        h->memory_bytes % RV_PAGE_SIZE)
        return rv_fail(err, RV_E_FORMAT, "%s: its header describes no machine; run retro verify",
                       name);
    mc.boot.kind = (enum rv_boot_kind)kind;
    if (mc.quirks & ~RV_QUIRKS_KNOWN)
        return rv_fail(err, RV_E_UNSUPPORTED,
                       "%s: recorded on a processor with ways (0x%llx) that this build does not "
                       "know; replay it with Retrovisor %.40s",
                       name, (unsigned long long)mc.quirks, h->tool_version);
    if (!mc.profile)
        return rv_fail(err, RV_E_UNSUPPORTED,
                       "%s: recorded with CPU profile \"%.40s\", which this build does not know",
                       name, h->cpu_profile);
    code = check_cpu(mc.profile, name, err);
    if (code) return code;
    for (size_t i = 0; i < h->image_count; i++) {
        const struct rv_trace_image *ti = &h->images[i];
        bool kernel = strcmp(ti->role, "kernel") == 0;
        if (!kernel && strcmp(ti->role, "initrd") != 0)
            return rv_fail(err, RV_E_UNSUPPORTED, "%s: has an image of unknown role \"%.40s\"",
                           name, ti->role);
        uint8_t **data = &r->images[kernel ? 0 : 1];
        if (*data) return rv_fail(err, RV_E_FORMAT, "%s: names two images as %s", name, ti->role);
        code = load_image(r, ti, kernel ? config->kernel : config->initrd, data, err);
        if (code) return code;
        struct rv_image *image = kernel ? &mc.boot.kernel : &mc.boot.initrd;
        *image = (struct rv_image){.name = ti->name, .data = *data, .len = ti->size};
    }
    if (!mc.boot.kernel.data)
        return rv_fail(err, RV_E_FORMAT, "%s: names no kernel; run retro verify", name);
    struct rv_player_config pc = config->player;
    pc.by_trap = mc.by_trap;
    pc.portable = mc.quirks & RV_QUIRK_PORTABLE;
    code = rv_player_new(&r->player, r->reader, &pc, err);
    if (code) return code;
    struct rv_nondet *nd = rv_player_nondet(r->player);
    if (wrap) nd = wrap(ctx, nd);
    code = rv_machine_new(&r->machine, &mc, nd, err);
    return code == RV_E_UNSUPPORTED ? rv_fail_in(err, "%s", name) : code;
}

int rv_replay_begin(struct rv_replay **out, const struct rv_replay_config *config,
                    struct rv_nondet *(*wrap)(void *ctx, struct rv_nondet *), void *ctx,
                    struct rv_err *err) {
    struct rv_replay *r = rv_alloc(sizeof *r);
    int code = rv_trace_reader_open(&r->reader, config->path, err);
    if (!code) code = build(r, config, wrap, ctx, err);
    if (code) {
        rv_replay_free(r);
        return code;
    }
    *out = r;
    return 0;
}

struct rv_machine *rv_replay_machine(struct rv_replay *r) {
    return r->machine;
}
const struct rv_trace_reader *rv_replay_reader(const struct rv_replay *r) { return r->reader; }
struct rv_player *rv_replay_player(struct rv_replay *r) {
    return r->player;
}

int rv_replay_run(struct rv_replay *r, struct rv_end *end, struct rv_err *err) {
    return rv_machine_run(r->machine, end, err);
}

void rv_replay_free(struct rv_replay *r) {
    if (!r) return;
    rv_machine_free(r->machine);
    rv_player_free(r->player);
    rv_trace_reader_free(r->reader);
    for (unsigned i = 0; i < 2; i++) free(r->images[i]);
    free(r);
}
