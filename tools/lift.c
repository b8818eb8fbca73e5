/* Lifting: a recording made on hardware names its events by traps. Replayed once in software, the
 * same events pass the choke point with the count of instructions known, and a recorder that stands
 * there writes them down again.
 *
 *   machine <-> lift <-> recorder <-> below <-> player
 *
 * "lift" adds digests at fixed counts, as a recording in software has them, and keeps those at
 * traps from the recorder; "below" keeps the new ones from the player. */
#include "tools/retro.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "record/recorder.h"
#include "replay/session.h"
#include "trace-format/effect.h"
#include "vmm/base/buf.h"

struct below {
    struct rv_nondet nd;
    struct rv_nondet *player;
    const struct rv_landmark *seen; /* whose undefined flags were told */
};

struct lift {
    struct rv_nondet nd;
    struct below below;
    struct rv_nondet *recorder_nd;
    struct rv_recorder *recorder;
    struct rv_trace_writer *writer;
    struct rv_machine *machine;
    struct retro_meter *meter;
    rv_icount next_digest;
    struct rv_point agreed; /* where the recording was last compared with */
    struct rv_err err;      /* why wrap() failed */
    int failed;
};

static struct below *below_of(struct rv_nondet *nd) { return (struct below *)nd; }
static struct lift *lift_of(struct rv_nondet *nd) { return (struct lift *)nd; }

/* ---- below the recorder ---- */

static int below_query(struct rv_nondet *nd, struct rv_point at, enum rv_source source,
                       uint64_t *value, struct rv_err *err) {
    struct rv_nondet *p = below_of(nd)->player;
    return p->ops->query(p, at, source, value, err);
}
static int below_next(struct rv_nondet *nd, const struct rv_next *q, struct rv_push *out,
                      struct rv_err *err) {
    struct below *b = below_of(nd);
    /* The machine has cleared them when it found the landmark, which the new trace does not have.
     */
    if (q->landmark && !b->seen && q->landmark->undefined) {
        *out = (struct rv_push){
            .kind = RV_PUSH_FLAGS, .source = RV_SRC_CPU, .value = q->landmark->undefined};
        b->seen = q->landmark;
        return 0;
    }
    return b->player->ops->next(b->player, q, out, err);
}
static int below_horizon(struct rv_nondet *nd, struct rv_point at, struct rv_horizon *h,
                         struct rv_err *err) {
    struct below *b = below_of(nd);
    b->seen = NULL;
    return b->player->ops->horizon(b->player, at, h, err);
}
static int below_effect(struct rv_nondet *nd, struct rv_point at, enum rv_source sink,
                        const void *data, size_t len, struct rv_err *err) {
    struct rv_nondet *p = below_of(nd)->player;
    return p->ops->effect(p, at, sink, data, len, err);
}
static int below_digest(struct rv_nondet *nd, struct rv_point at, enum rv_source what,
                        uint64_t value, struct rv_err *err) {
    (void)nd, (void)at, (void)what, (void)value, (void)err;
    return 0;
}
static int below_stopped(struct rv_nondet *nd, const struct rv_end *end, struct rv_err *err) {
    struct rv_nondet *p = below_of(nd)->player;
    return p->ops->stopped(p, end, err);
}

static const struct rv_nondet_ops below_ops = {
    .query = below_query,
    .next = below_next,
    .horizon = below_horizon,
    .effect = below_effect,
    .digest = below_digest,
    .stopped = below_stopped,
};

/* ---- above the recorder ---- */

static int lift_query(struct rv_nondet *nd, struct rv_point at, enum rv_source source,
                      uint64_t *value, struct rv_err *err) {
    struct lift *l = lift_of(nd);
    int code = l->recorder_nd->ops->query(l->recorder_nd, at, source, value, err);
    if (!code) l->agreed = at;
    return code;
}

static int lift_next(struct rv_nondet *nd, const struct rv_next *q, struct rv_push *out,
                     struct rv_err *err) {
    struct lift *l = lift_of(nd);
    struct rv_nondet *r = l->recorder_nd;
    if (q->at.icount >= l->next_digest) {
        l->next_digest = q->at.icount + RV_DIGEST_DEFAULT;
        uint64_t cpu, ram;
        rv_machine_digests(l->machine, &cpu, &ram);
        int code = r->ops->digest(r, q->at, RV_SRC_CPU, cpu, err);
        if (!code) code = r->ops->digest(r, q->at, RV_SRC_RAM, ram, err);
        if (code) return code;
    }
    /* Without the landmark: in the new trace the place has a number. */
    int code = r->ops->next(r, q, out, err);
    if (!code && out->kind != RV_PUSH_NONE) l->agreed = q->at;
    return code;
}

static int lift_horizon(struct rv_nondet *nd, struct rv_point at, struct rv_horizon *h,
                        struct rv_err *err) {
    struct lift *l = lift_of(nd);
    /* Past the recorder, which would state from time to time that the trace is whole up to where
     * the machine is: that may be far behind the last place that agreed. */
    int code = rv_nondet_horizon(&l->below.nd, at, h, err);
    if (h->until > l->next_digest) h->until = l->next_digest;
    return code;
}

static int lift_effect(struct rv_nondet *nd, struct rv_point at, enum rv_source sink,
                       const void *data, size_t len, struct rv_err *err) {
    struct lift *l = lift_of(nd);
    int code = l->recorder_nd->ops->effect(l->recorder_nd, at, sink, data, len, err);
    if (!code) l->agreed = at;
    return code;
}

static int lift_digest(struct rv_nondet *nd, struct rv_point at, enum rv_source what,
                       uint64_t value, struct rv_err *err) {
    struct lift *l = lift_of(nd);
    int code = l->below.player->ops->digest(l->below.player, at, what, value, err);
    if (!code) l->agreed = at;
    return code;
}

static int lift_stopped(struct rv_nondet *nd, const struct rv_end *end, struct rv_err *err) {
    struct rv_nondet *r = lift_of(nd)->recorder_nd;
    return r->ops->stopped(r, end, err);
}

static const struct rv_nondet_ops lift_ops = {
    .query = lift_query,
    .next = lift_next,
    .horizon = lift_horizon,
    .effect = lift_effect,
    .digest = lift_digest,
    .stopped = lift_stopped,
};

static struct rv_nondet *wrap(void *ctx, struct rv_nondet *player) {
    struct lift *l = ctx;
    l->below = (struct below){.nd.ops = &below_ops, .player = player};
    l->failed = rv_recorder_new(&l->recorder, &l->below.nd, l->writer, false, NULL, &l->err);
    if (l->failed) return player;
    l->recorder_nd = rv_recorder_nondet(l->recorder);
    l->nd.ops = &lift_ops;
    return retro_meter_wrap(l->meter, &l->nd);
}

/* ---- the new file ---- */

struct gather {
    struct rv_buf bytes;
};

static int gather(void *ctx, const void *data, size_t len) {
    rv_buf_put(&((struct gather *)ctx)->bytes, data, len);
    return 0;
}

static int copy_blobs(const struct rv_trace_reader *r, struct rv_trace_writer *w,
                      struct rv_err *err) {
    for (size_t i = 0; i < rv_trace_reader_blob_count(r); i++) {
        struct rv_trace_hash hash, again;
        uint64_t size;
        struct gather g = {0};
        rv_trace_reader_blob_at(r, i, &hash, &size);
        int code = rv_trace_reader_blob_read(r, &hash, gather, &g, err);
        if (!code) code = rv_trace_writer_add_blob(w, g.bytes.data, g.bytes.len, &again, err);
        rv_buf_release(&g.bytes);
        if (code) return code;
    }
    return 0;
}

/* The header as it was, but that positions are instructions. */
static int begin_file(const struct rv_trace_reader *r, const char *path, bool overwrite,
                      struct rv_trace_writer **out, struct rv_err *err) {
    struct rv_trace_header h = *rv_trace_reader_header(r);
    struct rv_trace_option *options = rv_alloc((h.option_count + 1) * sizeof *options);
    size_t n = 0;
    for (size_t i = 0; i < h.option_count; i++) {
        if (strcmp(h.options[i].key, RV_OPTION_BY_TRAP) == 0) continue;
        options[n] = h.options[i];
        if (strcmp(options[n].key, RV_OPTION_DIGEST_EVERY) == 0)
            options[n].number = RV_DIGEST_DEFAULT;
        n++;
    }
    h.options = options;
    h.option_count = n;
    struct rv_trace_writer_options wo = {.flags = overwrite ? RV_TRACE_OVERWRITE : 0};
    int code = rv_trace_writer_new(out, path, &wo, &h, err);
    free(options);
    return code ? code : copy_blobs(r, *out, err);
}

static int seal(struct lift *l, const struct rv_trace_reader *r, const struct rv_end *end,
                struct rv_err *err) {
    struct rv_trace_summary s = *rv_trace_reader_summary(r);
    s.position = end->at.icount;
    return rv_trace_writer_seal(l->writer, &s, err);
}

static int check(const struct rv_trace_reader *r, const char *path, struct rv_err *err) {
    struct rv_trace_state st;
    rv_trace_reader_state(r, &st);
    if (!st.sealed)
        return rv_fail(err, RV_E_USAGE,
                       "%s is unsealed: its recorder did not finish; run retro salvage first",
                       path);
    if (rv_trace_option_number(rv_trace_reader_header(r), RV_OPTION_BY_TRAP, 0)) return 0;
    return rv_fail(err, RV_E_USAGE, "%s has instructions for positions already: nothing to lift",
                   path);
}

uint64_t retro_trace_length(const char *path) {
    struct rv_trace_reader *r;
    if (rv_trace_reader_open(&r, path, NULL)) return 0;
    struct rv_trace_state st;
    rv_trace_reader_state(r, &st);
    rv_trace_reader_free(r);
    return st.position;
}

int retro_is_by_trap(const char *path, bool *by_trap, struct rv_err *err) {
    struct rv_trace_reader *r;
    int code = rv_trace_reader_open(&r, path, err);
    if (code) return code;
    *by_trap = rv_trace_option_number(rv_trace_reader_header(r), RV_OPTION_BY_TRAP, 0);
    rv_trace_reader_free(r);
    return 0;
}

static int play(struct lift *l, const struct retro_lift *how, struct retro_lift_result *result,
                struct rv_err *err) {
    struct rv_replay_config config = {
        .path = how->path,
        .engine = how->engine,
        .player = {.target = RV_NEVER, .stop_request = &retro_stop},
    };
    struct rv_replay *rp = NULL;
    int code = rv_replay_begin(&rp, &config, wrap, l, err);
    if (!code && l->failed) {
        *err = l->err;
        code = l->failed;
    }
    if (!code) {
        l->machine = rv_replay_machine(rp);
        retro_kick_on_signal(l->machine);
        code = rv_replay_run(rp, &result->end, err);
        retro_kick_on_signal(NULL);
        rv_machine_landmarks(l->machine, &result->landmarks, &result->candidates);
    }
    if (!code && atomic_load(&retro_stop))
        code = rv_fail(err, RV_E_INTERRUPTED, "interrupted; %s is as it was", how->path);
    if (!code) code = rv_recorder_failure(l->recorder, err);
    if (!code) code = seal(l, rv_replay_reader(rp), &result->end, err);
    if (code == RV_E_DIVERGED && l->recorder) {
        result->agreed = l->agreed;
        result->kept = rv_recorder_flush(l->recorder, l->agreed, NULL) == 0;
    }
    rv_trace_writer_stats(l->writer, &result->stats);
    rv_replay_free(rp);
    return code;
}

int retro_lift(const struct retro_lift *how, struct retro_lift_result *result, struct rv_err *err) {
    *result = (struct retro_lift_result){0};
    struct rv_trace_reader *r;
    int code = rv_trace_reader_open(&r, how->path, err);
    if (code) return code;
    bool in_place = strcmp(how->path, how->out) == 0;
    struct rv_buf temp = {0};
    rv_buf_printf(&temp, "%s%s", how->out, in_place ? ".lifting" : "");
    rv_buf_put_u8(&temp, 0);
    const char *path = (const char *)temp.data;
    struct lift l = {.meter = how->meter, .next_digest = RV_DIGEST_DEFAULT};
    code = check(r, how->path, err);
    if (!code) code = begin_file(r, path, in_place || how->overwrite, &l.writer, err);
    rv_trace_reader_free(r);
    if (!code) code = play(&l, how, result, err);
    rv_recorder_free(l.recorder);
    bool created = l.writer;
    rv_trace_writer_free(l.writer);
    if (!code && in_place && rename(path, how->out))
        code = rv_fail_errno(err, RV_E_HOST, "cannot put the lifted trace in the place of %s",
                             how->out);
    if (in_place) result->kept = false;
    if (code && created && !result->kept) remove(path);
    rv_buf_release(&temp);
    return code;
}

int retro_lift_first(const char *path, bool quiet, struct rv_err *err) {
    bool by_trap;
    int code = retro_is_by_trap(path, &by_trap, err);
    if (code || !by_trap) return code;
    if (!quiet) fprintf(stderr, "retro: %s was recorded on hardware: lifting it first\n", path);
    struct retro_lift how = {
        .path = path,
        .out = path,
        .engine = rv_engine_software(),
        .meter =
            retro_meter_new(!quiet && isatty(STDERR_FILENO), "lifting", retro_trace_length(path)),
    };
    retro_meter_count_traps(how.meter);
    struct retro_lift_result result;
    code = retro_lift(&how, &result, err);
    retro_meter_free(how.meter);
    if (code == RV_E_DIVERGED)
        rv_fail_in(err, "to look at what agrees, make a trace of it with retro lift --output");
    return code;
}
