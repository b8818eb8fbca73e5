#include "record/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "trace-format/effect.h"
#include "vmm/base/buf.h"
#include "vmm/base/host_id.h"

struct rv_record {
    struct rv_trace_writer *writer;
    struct rv_recorder *recorder;
    struct rv_machine *machine;
};

int rv_record_begin(struct rv_record **out, const struct rv_record_config *config,
                    struct rv_nondet *live,
                    struct rv_nondet *(*wrap)(void *ctx, struct rv_nondet *), void *ctx,
                    struct rv_err *err) {
    struct rv_record *r = rv_alloc(sizeof *r);
    const struct rv_machine_config *mc = &config->machine;
    struct rv_host_id host = rv_host_id();
    uint64_t epoch = 0;
    int code = live->ops->query(live, (struct rv_point){0}, RV_SRC_RTC, &epoch, err);
    if (code) {
        free(r);
        return code;
    }
    struct rv_trace_image images[2];
    size_t n_images = 0;
    const struct rv_image *boot_images[2] = {&mc->boot.kernel, &mc->boot.initrd};
    static const char *const roles[2] = {"kernel", "initrd"};
    for (unsigned i = 0; i < 2; i++)
        if (boot_images[i]->data)
            images[n_images++] = (struct rv_trace_image){
                .role = roles[i],
                .name = boot_images[i]->name,
                .size = boot_images[i]->len,
                .hash = rv_trace_hash_of(boot_images[i]->data, boot_images[i]->len),
                .embedded = config->embed_images};
    struct rv_trace_option options[] = {
        {.key = RV_OPTION_DIGEST_EVERY, .number = mc->digest_every},
        {.key = RV_OPTION_BOOT_KIND, .number = mc->boot.kind},
        {.key = RV_OPTION_QUIRKS, .number = mc->quirks},
        {.key = RV_OPTION_BY_TRAP, .number = 1}, /* only where it is so */
    };
    unsigned n_devices = 0;
    const struct rv_dev_ops *const *models = rv_pc_models(&n_devices);
    if (mc->devices) n_devices = mc->devices;
    struct rv_trace_device *devices = rv_alloc(n_devices * sizeof *devices);
    for (unsigned i = 0; i < n_devices; i++)
        devices[i] =
            (struct rv_trace_device){.name = models[i]->name, .version = models[i]->version};
    struct rv_trace_header header = {
        .tool_version = RV_VERSION,
        .created = (uint64_t)time(NULL),
        .engine = mc->engine->name,
        .cpu_profile = mc->profile->name,
        .host_cpu = {.vendor = host.vendor,
                     .brand = host.brand,
                     .family = host.family,
                     .model = host.model,
                     .stepping = host.stepping},
        .memory_bytes = mc->memory,
        .rate = mc->rate,
        .boot_protocol = rv_boot_kind_name(rv_boot_detect(&mc->boot)),
        .command_line = mc->boot.cmdline ? mc->boot.cmdline : "",
        .boot_time = epoch,
        .images = images,
        .image_count = n_images,
        .devices = devices,
        .device_count = n_devices,
        .options = options,
        .option_count = RV_COUNT(options) - (mc->by_trap ? 0 : 1),
    };
    if (getrandom(header.trace_id, sizeof header.trace_id, 0) != sizeof header.trace_id)
        memcpy(header.trace_id, &header.created, sizeof header.created);
    struct rv_trace_writer_options wo = {.flags = config->overwrite ? RV_TRACE_OVERWRITE : 0,
                                         .reserve = 8192};
    code = rv_trace_writer_new(&r->writer, config->path, &wo, &header, err);
    free(devices);
    for (unsigned i = 0; !code && config->embed_images && i < 2; i++)
        if (boot_images[i]->data) {
            struct rv_trace_hash hash;
            code = rv_trace_writer_add_blob(r->writer, boot_images[i]->data, boot_images[i]->len,
                                            &hash, err);
        }
    if (!code) code = rv_recorder_new(&r->recorder, live, r->writer, mc->by_trap, &epoch, err);
    if (!code) {
        struct rv_nondet *nd = rv_recorder_nondet(r->recorder);
        if (wrap) nd = wrap(ctx, nd);
        code = rv_machine_new(&r->machine, mc, nd, err);
    }
    /* What was asked at power-on is worth keeping from the first moment. */
    if (!code) code = rv_trace_writer_flush(r->writer, 0, 0, err);
    if (code) {
        bool created = r->writer != NULL;
        rv_record_free(r);
        /* A trace without a machine says nothing: do not leave it lying about. */
        if (created) remove(config->path);
        return code;
    }
    *out = r;
    return 0;
}

struct rv_machine *rv_record_machine(struct rv_record *r) {
    return r->machine;
}

int rv_record_run(struct rv_record *r, struct rv_end *end, struct rv_err *err) {
    int code = rv_machine_run(r->machine, end, err);
    if (code && end->reason == RV_STOP_NONE) end->reason = RV_STOP_ENGINE;
    struct rv_err failure = {0};
    int failed = rv_recorder_failure(r->recorder, &failure);
    struct rv_trace_summary summary = {
        .reason = RV_TRACE_REASON_USER + (uint32_t)end->reason,
        .text = code ? err->msg : rv_stop_text(end->reason),
        .position = rv_machine_position(r->machine, end->at),
        .time = end->at.time,
        .cpu_digest = end->cpu_digest,
        .ram_digest = end->ram_digest,
        .console_bytes = rv_recorder_console_bytes(r->recorder),
    };
    struct rv_err seal_err;
    int sealed = rv_trace_writer_seal(r->writer, &summary, &seal_err);
    if (code) return code;
    if (failed) {
        if (err) *err = failure;
        return failed;
    }
    if (sealed && err) *err = seal_err;
    return sealed;
}

void rv_record_stats(const struct rv_record *r, struct rv_trace_writer_stats *stats) {
    rv_trace_writer_stats(r->writer, stats);
}

void rv_record_free(struct rv_record *r) {
    if (!r) return;
    rv_machine_free(r->machine);
    rv_recorder_free(r->recorder);
    rv_trace_writer_free(r->writer);
    free(r);
}
