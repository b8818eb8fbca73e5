/* Which engines there are and what they do on this host, measured rather than believed. */
#include "tools/retro.h"

#include <string.h>

#include "vmm/cpu/kvm/probe.h"
#include "vmm/cpu/quirks.h"

/* A counting loop in 64-bit code that never ends: dec ecx; jnz; jmp. */
static const uint8_t loop_code[] = {0xff, 0xc9, 0x75, 0xfc, 0xeb, 0xfa};
#define LOOP_BASE  0x10000u
#define LOOP_PML4  0x1000u /* the first GiB as it is, in one page */
#define LOOP_PDPT  0x2000u
#define LOOP_COUNT 1000000u

static void no_exit(void *ctx, struct rv_exit *x) {
    (void)ctx;
    x->data = ~0ull;
}
static uint64_t no_tsc(void *ctx) {
    (void)ctx;
    return 0;
}

static void loop_state(struct rv_ram *ram, struct rv_x86 *x) {
    uint64_t pml4 = LOOP_PDPT | 3, pdpt = 0x83;
    memcpy(ram->host + LOOP_PML4, &pml4, sizeof pml4);
    memcpy(ram->host + LOOP_PDPT, &pdpt, sizeof pdpt);
    memcpy(ram->host + LOOP_BASE, loop_code, sizeof loop_code);
    rv_x86_reset(x);
    x->cr0 |= RV_CR0_PE | RV_CR0_PG;
    x->cr3 = LOOP_PML4;
    x->cr4 = RV_CR4_PAE;
    x->efer = RV_EFER_LME | RV_EFER_LMA;
    x->seg[RV_CS] = (struct rv_seg){
        .limit = ~0u, .sel = 8, .attr = RV_SEG_P | RV_SEG_S | RV_SEG_L | RV_SEG_G | 0xb};
    x->rip = LOOP_BASE;
}

/* Instructions a second of a software engine on that loop; 0 when it does not even start. */
static double measure(const struct rv_engine_ops *engine) {
    struct rv_ram ram;
    if (rv_ram_init(&ram, 1 << 20, NULL)) return 0;
    struct rv_cpu_bus bus = {.exit = no_exit, .tsc = no_tsc};
    struct rv_engine *e;
    double speed = 0;
    if (!engine->create(&e, &ram, &bus, &rv_profile_v2, NULL)) {
        struct rv_x86 x;
        loop_state(&ram, &x);
        double began = retro_now();
        if (!e->ops->set(e, &x, NULL) && e->ops->run(e, LOOP_COUNT, false, NULL) == RV_RUN_UNTIL)
            speed = LOOP_COUNT / (retro_now() - began);
        e->ops->destroy(e);
    }
    rv_ram_release(&ram);
    return speed;
}

void retro_measure(struct retro_speeds *out, struct rv_kvm_report *kvm, struct rv_err *kvm_err) {
    *out = (struct retro_speeds){.interpret = measure(&rv_engine_interpret),
                                 .translate = measure(&rv_engine_translate)};
    *kvm_err = (struct rv_err){0};
    if (!rv_kvm_probe(kvm, kvm_err) && kvm->engine_works && kvm->step_ns)
        out->kvm = 1e9 / (double)kvm->step_ns;
}

const struct rv_engine_ops *retro_choose(const struct retro_speeds *s, const char **why) {
    bool translates = s->translate > 0;
    if (s->kvm > (translates ? s->translate : s->interpret)) {
        *why = "it is the fastest one here";
        return &rv_engine_kvm;
    }
    *why = !translates  ? "this host's CPU cannot run translated code"
           : s->kvm > 0 ? "it is faster here than single-stepping KVM"
                        : "it needs no KVM";
    return translates ? &rv_engine_translate : &rv_engine_interpret;
}

/* Whether this host's KVM lets its guests run guests, found out by trying. */
static bool nested_works(bool verbose) {
    struct rv_nested_report report;
    struct rv_err err = {0};
    if (rv_nested_probe(&report, &err)) {
        if (verbose) fprintf(stderr, "retro: no engine kvm-nested: %s\n", err.msg);
    } else if (!report.works && verbose) {
        fprintf(stderr, "retro: no engine kvm-nested: it does not work on this host's KVM; retro "
                        "doctor says what\n");
    }
    return report.works;
}

int retro_engine(const char *name, bool verbose, const struct rv_engine_ops **out,
                 struct rv_err *err) {
    static const struct rv_engine_ops *const engines[] = {
        &rv_engine_translate, &rv_engine_interpret, &rv_engine_kvm, &rv_engine_nested};
    if (strcmp(name, "kvm") == 0) {
        *out = nested_works(verbose) ? &rv_engine_nested : &rv_engine_kvm;
        return 0;
    }
    for (unsigned i = 0; i < RV_COUNT(engines); i++)
        if (strcmp(name, engines[i]->name) == 0) {
            *out = engines[i];
            return 0;
        }
    if (strcmp(name, "auto") != 0)
        return rv_fail(
            err, RV_E_USAGE,
            "there is no engine \"%s\"; take auto, translate, interpret, kvm, kvm-nested "
            "or kvm-direct",
            name);
    struct retro_speeds s;
    struct rv_kvm_report kvm;
    struct rv_err kvm_err;
    const char *why;
    retro_measure(&s, &kvm, &kvm_err);
    *out = retro_choose(&s, &why);
    if (verbose) {
        fprintf(stderr,
                "retro: engine %s: %s (translate %.0f, interpret %.0f million instructions/s, ",
                (*out)->name, why, s.translate / 1e6, s.interpret / 1e6);
        if (kvm_err.code)
            fprintf(stderr, "no kvm: %s)\n", kvm_err.msg);
        else
            fprintf(stderr, "kvm %.2f)\n", s.kvm / 1e6);
    }
    return 0;
}

/* ---- the CPU that the guest sees ---- */

/* What auto takes for software engines, where the host has all of v3. */
static const struct rv_profile *const auto_profile = &rv_profile_v3;

const struct rv_profile *retro_auto_profile(const char **lacks) {
    *lacks = rv_profile_lacks(&rv_profile_v3);
    return *lacks ? &rv_profile_v2 : auto_profile;
}

static int choose_profile(const struct rv_engine_ops *engine, const char *cpu,
                          const struct rv_profile **out, struct rv_err *err) {
    bool software = engine == &rv_engine_translate || engine == &rv_engine_interpret;
    const char *lacks;
    if (strcmp(cpu, "auto") == 0) {
        *out = !engine->counts ? &rv_profile_hw
               : software      ? retro_auto_profile(&lacks)
                               : &rv_profile_v2;
        return 0;
    }
    const struct rv_profile *p = *out = rv_profile_find(cpu);
    if (!p) return rv_fail(err, RV_E_USAGE, "--cpu %s is none of auto, v2, v3, hw", cpu);
    if (!engine->counts && p != &rv_profile_hw)
        return rv_fail(err, RV_E_USAGE,
                       "engine %s offers CPU profile hw alone; leave --cpu out, or take --engine "
                       "translate for %s",
                       engine->name, p->name);
    if (engine->counts && p == &rv_profile_hw)
        return rv_fail(err, RV_E_USAGE,
                       "CPU profile hw is for engine kvm-nested; with engine %s leave --cpu out",
                       engine->name);
    if (p->v3 && !software)
        return rv_fail(err, RV_E_USAGE,
                       "engine %s offers CPU profile v2 alone; leave --cpu out, or take --engine "
                       "translate for v3",
                       engine->name);
    lacks = software ? rv_profile_lacks(p) : NULL;
    if (lacks)
        return rv_fail(err, RV_E_UNSUPPORTED,
                       "for CPU profile %s this host's CPU lacks %s; take %sa host that has it",
                       p->name, lacks, p->v3 ? "--cpu v2, or " : "");
    return 0;
}

int retro_configure(const struct rv_engine_ops *engine, const char *cpu,
                    struct rv_machine_config *c, struct rv_err *err) {
    *c = (struct rv_machine_config){
        .engine = engine, .rate = RV_RATE_DEFAULT, .digest_every = RV_DIGEST_DEFAULT};
    int r = choose_profile(engine, cpu, &c->profile, err);
    if (engine->counts) c->quirks = RV_QUIRK_PORTABLE;
    if (r || engine->counts) return r;
    c->rate = RV_RATE_HOST;
    c->by_trap = true;
    c->digest_every = RV_DIGEST_TRAPS;
    r = rv_quirks_measure(&rv_engine_nested, 0, &c->quirks, err);
    c->quirks |= RV_QUIRK_OPEN_FLAGS;
    return r;
}
