#include "trace-format/message.h"

#include <stdlib.h>
#include <string.h>

#include "trace-format/proto.h"

/* protobuf-c's generated structs hold char * also for what is only read. */
static char *text(const char *s) {
    union {
        const char *in;
        char *out;
    } u = {.in = s ? s : ""};
    return u.out;
}

static ProtobufCBinaryData binary(const void *data, size_t len) {
    union {
        const void *in;
        uint8_t *out;
    } u = {.in = data};
    return (ProtobufCBinaryData){.len = len, .data = u.out};
}

static bool too_long(const char *s) { return s && strlen(s) > RV_TRACE_MAX_STRING; }

static int header_check(const struct rv_trace_header *h, struct rv_err *err) {
    bool bad = too_long(h->tool_version) || too_long(h->engine) || too_long(h->cpu_profile) ||
               too_long(h->host_cpu.vendor) || too_long(h->host_cpu.brand) ||
               too_long(h->boot_protocol) || too_long(h->command_line);
    if (h->image_count > RV_TRACE_MAX_IMAGES || h->device_count > RV_TRACE_MAX_DEVICES ||
        h->option_count > RV_TRACE_MAX_OPTIONS)
        return rv_fail(err, RV_E_USAGE,
                       "the trace header lists more than the format allows: "
                       "%zu images, %zu devices, %zu options",
                       h->image_count, h->device_count, h->option_count);
    for (size_t i = 0; i < h->image_count; i++)
        bad |= too_long(h->images[i].role) || too_long(h->images[i].name);
    for (size_t i = 0; i < h->device_count; i++) bad |= too_long(h->devices[i].name);
    for (size_t i = 0; i < h->option_count; i++)
        bad |= too_long(h->options[i].key) || too_long(h->options[i].text);
    if (bad)
        return rv_fail(err, RV_E_USAGE, "a string for the trace header is longer than %u bytes",
                       RV_TRACE_MAX_STRING);
    return 0;
}

int rv_header_put(struct rv_buf *out, const struct rv_trace_header *h, struct rv_err *err) {
    int rc = header_check(h, err);
    if (rc) return rc;
    Retro__HostCpu cpu;
    retro__host_cpu__init(&cpu);
    cpu.vendor = text(h->host_cpu.vendor);
    cpu.brand = text(h->host_cpu.brand);
    cpu.family = h->host_cpu.family;
    cpu.model = h->host_cpu.model;
    cpu.stepping = h->host_cpu.stepping;

    Retro__Image *images = rv_alloc(h->image_count * sizeof *images);
    Retro__Image **image_list = rv_alloc(h->image_count * sizeof(void *));
    for (size_t i = 0; i < h->image_count; i++) {
        const struct rv_trace_image *from = &h->images[i];
        retro__image__init(&images[i]);
        images[i].role = text(from->role);
        images[i].name = text(from->name);
        images[i].size = from->size;
        images[i].hash = binary(from->hash.bytes, sizeof from->hash.bytes);
        images[i].embedded = from->embedded;
        image_list[i] = &images[i];
    }
    Retro__Device *devices = rv_alloc(h->device_count * sizeof *devices);
    Retro__Device **device_list = rv_alloc(h->device_count * sizeof(void *));
    for (size_t i = 0; i < h->device_count; i++) {
        retro__device__init(&devices[i]);
        devices[i].name = text(h->devices[i].name);
        devices[i].version = h->devices[i].version;
        device_list[i] = &devices[i];
    }
    Retro__Option *options = rv_alloc(h->option_count * sizeof *options);
    Retro__Option **option_list = rv_alloc(h->option_count * sizeof(void *));
    for (size_t i = 0; i < h->option_count; i++) {
        retro__option__init(&options[i]);
        options[i].key = text(h->options[i].key);
        options[i].text = text(h->options[i].text);
        options[i].number = h->options[i].number;
        option_list[i] = &options[i];
    }

    Retro__Header m;
    retro__header__init(&m);
    m.format_version = RV_TRACE_FORMAT_VERSION;
    m.tool_version = text(h->tool_version);
    m.created = h->created;
    m.trace_id = binary(h->trace_id, sizeof h->trace_id);
    m.engine = text(h->engine);
    m.cpu_profile = text(h->cpu_profile);
    m.host_cpu = &cpu;
    m.memory_bytes = h->memory_bytes;
    m.rate = h->rate;
    m.boot_protocol = text(h->boot_protocol);
    m.command_line = text(h->command_line);
    m.boot_time = h->boot_time;
    m.n_images = h->image_count;
    m.images = image_list;
    m.n_devices = h->device_count;
    m.devices = device_list;
    m.n_options = h->option_count;
    m.options = option_list;
    if (protobuf_c_message_get_packed_size(&m.base) > RV_TRACE_MAX_HEADER)
        rc = rv_fail(err, RV_E_USAGE, "the trace header is larger than %u bytes",
                     RV_TRACE_MAX_HEADER);
    else
        rv_proto_encode(out, &m.base);
    free(images);
    free(image_list);
    free(devices);
    free(device_list);
    free(options);
    free(option_list);
    return rc;
}

static const char *header_limits(const Retro__Header *m) {
    if (m->trace_id.len != sizeof((struct rv_trace_header *)0)->trace_id)
        return "the header's trace id is not 16 bytes";
    if (m->n_images > RV_TRACE_MAX_IMAGES || m->n_devices > RV_TRACE_MAX_DEVICES ||
        m->n_options > RV_TRACE_MAX_OPTIONS)
        return "the header lists more than the format allows";
    for (size_t i = 0; i < m->n_images; i++)
        if (m->images[i]->hash.len != sizeof(struct rv_trace_hash))
            return "an image's hash in the header is not 16 bytes";
    return NULL;
}

const char *rv_header_get(struct rv_header_msg *out, const uint8_t *data, size_t len) {
    *out = (struct rv_header_msg){0};
    if (len > RV_TRACE_MAX_HEADER) return "the header is larger than the format allows";
    Retro__Header *m = rv_proto_decode(&retro__header__descriptor, data, len);
    if (!m) return "the header does not decode";
    const char *bad = header_limits(m);
    if (bad) {
        rv_proto_release(m);
        return bad;
    }
    struct rv_trace_image *images = rv_alloc(m->n_images * sizeof *images);
    struct rv_trace_device *devices = rv_alloc(m->n_devices * sizeof *devices);
    struct rv_trace_option *options = rv_alloc(m->n_options * sizeof *options);
    for (size_t i = 0; i < m->n_images; i++) {
        const Retro__Image *from = m->images[i];
        images[i] = (struct rv_trace_image){
            .role = from->role, .name = from->name, .size = from->size, .embedded = from->embedded};
        memcpy(images[i].hash.bytes, from->hash.data, sizeof images[i].hash.bytes);
    }
    for (size_t i = 0; i < m->n_devices; i++)
        devices[i] = (struct rv_trace_device){.name = m->devices[i]->name,
                                              .version = m->devices[i]->version};
    for (size_t i = 0; i < m->n_options; i++)
        options[i] = (struct rv_trace_option){.key = m->options[i]->key,
                                              .text = m->options[i]->text,
                                              .number = m->options[i]->number};
    out->message = m;
    out->header = (struct rv_trace_header){
        .format_version = m->format_version,
        .tool_version = m->tool_version,
        .created = m->created,
        .engine = m->engine,
        .cpu_profile = m->cpu_profile,
        .host_cpu = {.vendor = "", .brand = ""},
        .memory_bytes = m->memory_bytes,
        .rate = m->rate,
        .boot_protocol = m->boot_protocol,
        .command_line = m->command_line,
        .boot_time = m->boot_time,
        .images = images,
        .image_count = m->n_images,
        .devices = devices,
        .device_count = m->n_devices,
        .options = options,
        .option_count = m->n_options,
    };
    memcpy(out->header.trace_id, m->trace_id.data, sizeof out->header.trace_id);
    if (m->host_cpu)
        out->header.host_cpu = (struct rv_trace_host_cpu){
            .vendor = m->host_cpu->vendor,
            .brand = m->host_cpu->brand,
            .family = m->host_cpu->family,
            .model = m->host_cpu->model,
            .stepping = m->host_cpu->stepping,
        };
    return NULL;
}

void rv_header_msg_release(struct rv_header_msg *m) {
    rv_proto_release(m->message);
    union {
        const void *in;
        void *out;
    } images = {m->header.images}, devices = {m->header.devices}, options = {m->header.options};
    free(images.out);
    free(devices.out);
    free(options.out);
    *m = (struct rv_header_msg){0};
}

void rv_summary_put(struct rv_buf *out, const struct rv_trace_summary *s) {
    Retro__KindCount counts[RV_TRACE_MAX_KINDS];
    Retro__KindCount *list[RV_TRACE_MAX_KINDS];
    size_t n = 0;
    for (uint32_t kind = 0; s->counts && kind < RV_TRACE_MAX_KINDS; kind++) {
        if (!s->counts[kind]) continue;
        retro__kind_count__init(&counts[n]);
        counts[n].kind = kind;
        counts[n].count = s->counts[kind];
        list[n] = &counts[n];
        n++;
    }
    Retro__Summary m;
    retro__summary__init(&m);
    m.reason = s->reason;
    m.text = text(s->text);
    m.position = s->position;
    m.time = s->time;
    m.cpu_digest = s->cpu_digest;
    m.ram_digest = s->ram_digest;
    m.console_bytes = s->console_bytes;
    m.events = s->events;
    m.n_counts = n;
    m.counts = list;
    m.lost_tail = s->lost_tail;
    rv_proto_encode(out, &m.base);
}

const char *rv_summary_get(struct rv_summary_msg *out, const uint8_t *data, size_t len) {
    *out = (struct rv_summary_msg){0};
    if (len > RV_TRACE_MAX_HEADER) return "the summary is larger than the format allows";
    Retro__Summary *m = rv_proto_decode(&retro__summary__descriptor, data, len);
    if (!m) return "the summary does not decode";
    for (size_t i = 0; i < m->n_counts; i++) {
        if (m->counts[i]->kind >= RV_TRACE_MAX_KINDS) {
            rv_proto_release(m);
            return "the summary counts events of an impossible kind";
        }
        out->counts[m->counts[i]->kind] = m->counts[i]->count;
    }
    out->message = m;
    out->summary = (struct rv_trace_summary){
        .reason = m->reason,
        .text = m->text,
        .position = m->position,
        .time = m->time,
        .cpu_digest = m->cpu_digest,
        .ram_digest = m->ram_digest,
        .console_bytes = m->console_bytes,
        .lost_tail = m->lost_tail,
        .events = m->events,
        .counts = out->counts,
    };
    return NULL;
}

void rv_summary_msg_release(struct rv_summary_msg *m) {
    rv_proto_release(m->message);
    *m = (struct rv_summary_msg){0};
}

void rv_batch_put(struct rv_buf *out, const struct rv_batch *b) {
    Retro__EventBatch m;
    retro__event_batch__init(&m);
    m.complete_position = b->complete_position;
    m.complete_time = b->complete_time;
    m.first_time = b->first_time;
    m.events = binary(b->events.p, (size_t)(b->events.end - b->events.p));
    rv_proto_encode(out, &m.base);
}

const char *rv_batch_get(struct rv_batch *out, const uint8_t *data, size_t len) {
    *out = (struct rv_batch){0};
    Retro__EventBatch *m = rv_proto_decode(&retro__event_batch__descriptor, data, len);
    if (!m) return "the event batch does not decode";
    *out = (struct rv_batch){
        .complete_position = m->complete_position,
        .complete_time = m->complete_time,
        .first_time = m->first_time,
        .events = rv_cursor_of(m->events.data, m->events.len),
        .message = m,
    };
    return NULL;
}

void rv_batch_release(struct rv_batch *b) {
    rv_proto_release(b->message);
    *b = (struct rv_batch){0};
}
