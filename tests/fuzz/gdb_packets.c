/* libFuzzer: bytes of a gdb client, through the framing to the meaning of packets, on a small
 * recording. The first byte chooses the register layout. Checksums do not count, so that packets
 * get through. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "record/session.h"
#include "replay/gdb/stub.h"
#include "replay/gdb/wire.h"
#include "tests/fuzz/kept.h"
#include "tests/quiet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A boot sector that counts in memory, prints, and ends. */
static const uint8_t guest[512] = {
    0xfa,         0x31,         0xc0, 0x8e, 0xd8,       /* cli; ds = 0 */
    0xb9,         0xe8,         0x03,                   /* mov cx, 1000 */
    0xff,         0x06,         0x00, 0x07,             /* inc word [700h] */
    0xe2,         0xfa,                                 /* loop */
    0xba,         0xf8,         0x03, 0xb0, 0x2e, 0xee, /* print '.' */
    0xb0,         0x2a,         0xe6, 0xf4, 0xf4,       /* end */
    [510] = 0x55, [511] = 0xaa,
};

static struct rv_timeline *open_timeline(void) {
    char path[] = "/tmp/rv-fuzz-gdb-XXXXXX";
    int fd = mkstemp(path);
    if (fd >= 0) close(fd);
    struct quiet host = quiet_host(1000000);
    struct rv_machine_config machine = {
        .memory = 1 << 20,
        .engine = &rv_engine_interpret,
        .profile = &rv_profile_v2,
        .rate = RV_RATE_DEFAULT,
        .boot = {.kernel = {.name = "guest", .data = guest, .len = sizeof guest},
                 .kind = RV_BOOT_FLAT}};
    struct rv_record_config rc = {
        .path = path, .overwrite = true, .embed_images = true, .machine = machine};
    struct rv_record *r;
    struct rv_end end;
    struct rv_err err = {0};
    kept_check(rv_record_begin(&r, &rc, &host.nd, NULL, NULL, &err), &err);
    kept_check(rv_record_run(r, &end, &err), &err);
    rv_record_free(r);
    struct rv_timeline *t;
    struct rv_timeline_config tc = {.replay = {.path = path}, .memory = 1 << 20, .workers = 1};
    char note[600];
    kept_check(rv_timeline_open(&t, &tc, note, sizeof note, &err), &err);
    unlink(path);
    return t;
}

static void print(void *ctx, const char *text, size_t n) {
    size_t *sum = ctx;
    for (size_t i = 0; i < n; i++) *sum += (unsigned char)text[i];
}

/* One recording and one session for all inputs of a process; it ends with it. */
static struct rv_timeline *timeline(void) {
    static struct rv_timeline *t;
    if (!t) t = open_timeline();
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size) return 0;
    struct rv_gdb_stub *s = rv_gdb_stub_new(timeline());
    struct rv_gdb_wire w;
    struct rv_buf reply = {0};
    size_t sum = 0;
    rv_gdb_wire_init(&w);
    w.checked = false;
    rv_gdb_stub_connect(s, (enum rv_gdb_view)(data[0] % RV_GDB_VIEWS));
    if (rv_gdb_wire_feed(&w, data + 1, size - 1))
        for (enum rv_gdb_item item; (item = rv_gdb_wire_next(&w)) != RV_GDB_NOTHING;) {
            if (item != RV_GDB_PACKET) continue;
            rv_buf_clear(&reply);
            rv_gdb_handle(s, (const char *)w.packet.data, w.packet.len, &reply, print, &sum);
            if (reply.len > 2 * RV_GDB_PACKET_MAX) abort();
        }
    if (rv_timeline_branched(timeline())) rv_timeline_unbranch(timeline(), NULL);
    rv_buf_release(&reply);
    rv_gdb_wire_release(&w);
    rv_gdb_stub_free(s);
    return 0;
}
