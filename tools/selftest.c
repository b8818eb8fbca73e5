/* Records and replays a guest of a few instructions: whether an engine does here what it is for. */
#include "tools/retro.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "record/session.h"
#include "replay/session.h"
#include "vmm/host/live.h"

/* Real mode at 0x7c00: sets the timer going, reads the time-stamp counter, waits in HLT for the
 * interrupt, whose handler prints and ends the run. */
static const uint8_t guest[] = {
    0x31, 0xc0, 0x8e, 0xd8,             /* xor ax, ax; mov ds, ax */
    0xc7, 0x06, 0x80, 0x00, 0x33, 0x7c, /* mov word [20h * 4], handler */
    0xa3, 0x82, 0x00,                   /* mov [20h * 4 + 2], ax */
    0xb0, 0x11, 0xe6, 0x20,             /* the interrupt controller: vectors from 20h, */
    0xb0, 0x20, 0xe6, 0x21, 0xb0, 0x04, 0xe6, 0x21, 0xb0, 0x01,
    0xe6, 0x21, 0xb0, 0xfe, 0xe6, 0x21,                         /* only line 0 open */
    0xb0, 0x34, 0xe6, 0x43,                                     /* the timer: every 4096 ticks */
    0xb0, 0x00, 0xe6, 0x40, 0xb0, 0x10, 0xe6, 0x40, 0x0f, 0x31, /* rdtsc */
    0xfb,                                                       /* sti */
    0xf4, 0xeb, 0xfd,                                           /* again: hlt; jmp again */
    0xb0, 0x6b, 0xe6, 0xe9, 0xb0, 0x00, 0xe6, 0xf4,             /* handler: print, exit with 0 */
    0xeb, 0xf3,                                                 /* jmp again */
};

static void kick(void *machine) { rv_machine_kick(machine); }

static int record(const struct rv_engine_ops *engine, const char *path, struct rv_err *err) {
    struct rv_record_config rc = {.path = path, .overwrite = true, .embed_images = true};
    struct rv_live_config lc = {.input_fd = -1,
                                .output_fd = -1,
                                .debugcon_fd = -1,
                                .host_time = !engine->counts,
                                .max_icount = RV_NEVER,
                                .stop_request = &retro_stop};
    struct rv_live *live = NULL;
    struct rv_record *rec = NULL;
    struct rv_end end;
    int r = retro_configure(engine, "auto", &rc.machine, err);
    rc.machine.memory = RV_RAM_MIN;
    rc.machine.boot = (struct rv_boot_request){
        .kind = RV_BOOT_FLAT, .kernel = {"self-test", guest, sizeof guest}, .cmdline = ""};
    if (!r) r = rv_live_new(&live, &lc, err);
    if (!r) r = rv_record_begin(&rec, &rc, rv_live_nondet(live), NULL, NULL, err);
    if (!r && !engine->counts) r = rv_live_kick_with(live, kick, rv_record_machine(rec), err);
    if (!r) {
        retro_kick_on_signal(rv_record_machine(rec));
        r = rv_record_run(rec, &end, err);
        retro_kick_on_signal(NULL);
    }
    if (!r && end.reason != RV_STOP_DEBUG_EXIT)
        r = rv_fail(err, RV_E_HOST, "the test guest ended by %s", rv_stop_name(end.reason));
    rv_live_free(live);
    rv_record_free(rec);
    return r;
}

static int replay(const char *path, struct rv_err *err) {
    struct rv_replay_config pc = {.path = path,
                                  .engine = &rv_engine_interpret,
                                  .player = {.target = RV_NEVER, .stop_request = &retro_stop}};
    struct rv_replay *rp = NULL;
    struct rv_end end;
    int r = rv_replay_begin(&rp, &pc, NULL, NULL, err);
    if (!r) r = rv_replay_run(rp, &end, err);
    if (!r && end.reason != RV_STOP_DEBUG_EXIT)
        r = rv_fail(err, RV_E_DIVERGED, "replay of the test guest ended by %s",
                    rv_stop_name(end.reason));
    rv_replay_free(rp);
    return r;
}

int retro_self_test(const struct rv_engine_ops *engine, struct rv_err *err) {
    const char *folder = getenv("TMPDIR");
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/retro-doctor-XXXXXX", folder ? folder : "/tmp");
    if (n < 0 || (size_t)n >= sizeof path)
        return rv_fail(err, RV_E_USAGE, "TMPDIR is too long a path");
    int fd = mkstemp(path);
    if (fd < 0) return rv_fail_errno(err, RV_E_HOST, "cannot make a file like %s", path);
    close(fd);
    int r = record(engine, path, err);
    if (!r) r = replay(path, err);
    unlink(path);
    return r;
}
