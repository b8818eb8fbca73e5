#include "ticking.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <unistd.h>

#include "record/session.h"

static const uint8_t guest[512] = {
    0xfa,          0x31,         0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc,
    0x00,          0x70,                                             /* cli; ds=ss=0; sp=7000h */
    0xc7,          0x06,         0x20, 0x00, 0x60, 0x7c,             /* [20h] = 7c60h: vector 8 */
    0xc7,          0x06,         0x22, 0x00, 0x00, 0x00,             /* [22h] = 0 */
    0xb0,          0x34,         0xe6, 0x43, 0xb0, 0x00, 0xe6, 0x40, /* timer: rate generator, */
    0xb0,          0x10,         0xe6, 0x40,                         /* every 1000h ticks */
    0xb0,          0x11,         0xe6, 0x20, 0xb0, 0x08, 0xe6, 0x21, /* interrupt controller: */
    0xb0,          0x04,         0xe6, 0x21, 0xb0, 0x01, 0xe6, 0x21, /* vectors from 8 */
    0xb0,          0xfe,         0xe6, 0x21, 0xfb,                   /* timer alone; sti */
    0x66,          0xff,         0x06, 0x00, 0x07,                   /* 37h: inc dword [700h] */
    0xf7,          0x06,         0x00, 0x07, 0xff, 0x3f,             /* every 4000h: */
    0x75,          0x07,         0xba, 0xf8, 0x03, 0xb0, 0x2e, 0xee, /* print '.' */
    0xf4,                                                            /* and wait for a tick */
    0x80,          0x3e,         0x04, 0x07, 200,                    /* until [704h] is 200 */
    0x75,          0xe6,         0xb0, 0x2a, 0xe6, 0xf4,             /* then end with 42 */
    [0x60] = 0x50, 0x53,         0x06, 0xfe, 0x06, 0x04, 0x07, /* push ax, bx, es; inc [704h] */
    0xa1,          0x04,         0x07, 0xb4, 0x00, 0xc1, 0xe0, 0x08, /* ax = [704h] * 100h */
    0x05,          0x00,         0x10, 0x8e, 0xc0, 0xbb, 0x00, 0x00, /* es = 1000h + that, bx = 0 */
    0x26,          0xff,         0x07,                               /* inc word es:[bx] */
    0xb0,          0x20,         0xe6, 0x20, 0x07, 0x5b, 0x58, 0xcf, /* eoi; pop; iret */
    [510] = 0x55,  [511] = 0xaa,
};

char ticking_path[64], ticking_index[80];

void ticking_record(void) {
    snprintf(ticking_path, sizeof ticking_path, "/tmp/rv-timeline-%d.retro", getpid());
    snprintf(ticking_index, sizeof ticking_index, "%s.index", ticking_path);
    struct quiet host = quiet_host(1000000);
    struct rv_record_config rc = {
        .path = ticking_path,
        .overwrite = true,
        .embed_images = true,
        .machine = {.memory = 4 << 20,
                    .engine = &rv_engine_interpret,
                    .profile = &rv_profile_v2,
                    .rate = RV_RATE_DEFAULT,
                    .digest_every = 1 << 20,
                    .boot = {.kernel = {.name = "guest", .data = guest, .len = sizeof guest},
                             .kind = RV_BOOT_FLAT}}};
    struct rv_record *r;
    struct rv_end end;
    struct rv_err err = {0};
    cr_assert_eq(rv_record_begin(&r, &rc, &host.nd, NULL, NULL, &err), 0, "%s", err.msg);
    cr_assert_eq(rv_record_run(r, &end, &err), 0, "%s", err.msg);
    rv_record_free(r);
    cr_assert_eq(end.reason, RV_STOP_DEBUG_EXIT);
}

void ticking_remove(void) {
    remove(ticking_path);
    remove(ticking_index);
}
