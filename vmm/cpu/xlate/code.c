/* Memory for translated code, and the ways in and out of it.
 *
 * The memory is mapped twice, once to write and once to execute: no address is ever both. It has a
 * fixed size; when it is full everything in it is forgotten. What runs rarely is kept apart, so
 * that the rest takes less of the host's caches. */
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/cpu/interp/vec.h"
#include "vmm/cpu/xlate/xlate.h"

#define CODE_SIZE (64u << 20)
#define COLD_FROM (CODE_SIZE / 8 * 5) /* about as the two are used */

/* Where each guest register is; HNONE: in x.gpr. */
const uint8_t rv_xlate_host[RV_GPRS] = {
    [RV_RAX] = HAX,  [RV_RCX] = H8,   [RV_RDX] = HDX,   [RV_RBX] = HBX,
    [RV_RSP] = H9,   [RV_RBP] = HBP,  [RV_RSI] = HSI,   [RV_RDI] = HDI,
    [RV_R8] = HNONE, [RV_R9] = HNONE, [RV_R10] = HNONE, [RV_R11] = HNONE,
    [RV_R12] = H12,  [RV_R13] = H13,  [RV_R14] = H14,   [RV_R15] = H15,
};

static void bytes(struct rv_emit *e, const void *b, size_t n) {
    memcpy(e->p, b, n);
    e->p += n;
}
#define PUT(e, ...)                                                                                \
    do {                                                                                           \
        static const uint8_t b_[] = {__VA_ARGS__};                                                 \
        bytes(e, b_, sizeof b_);                                                                   \
    } while (0)

/* All vector registers; wide: with their upper halves, by VEX-encoded instructions alone, because
 * processors dislike a mix while upper halves are in use. */
static void vectors(struct rv_emit *e, bool load, bool wide) {
    struct rv_enc movaps = {.map = 1, .opcode = load ? 0x28 : 0x29, .vex = wide};
    /* VINSERTF128 ymm, ymm, m128, 1 and VEXTRACTF128 m128, ymm, 1 */
    struct rv_enc upper = {
        .map = 3, .opcode = load ? 0x18 : 0x19, .vex = true, .l = true, .opsize = true};
    for (unsigned n = 0; n < 16; n++) {
        rv_emit_insn(e, movaps, n, rv_mem(HSP, RV_AT(x.fx) + RV_FX_XMM + 16 * (int32_t)n));
        if (!wide) continue;
        upper.vvvv = load ? (uint8_t)n : 0;
        rv_emit_insn(e, upper, n, rv_mem(HSP, RV_AT(x.ymmh) + 16 * (int32_t)n));
        rv_put8(e, 1);
    }
}
static void mxcsr(struct rv_emit *e, bool load, int32_t at) {
    rv_emit_insn(e, (struct rv_enc){.map = 1, .opcode = 0xae}, load ? 2 : 3, rv_mem(HSP, at));
}
static void set_vec(struct rv_emit *e, uint32_t state) {
    rv_emit_insn(e, (struct rv_enc){.w = true, .opcode = 0xc7}, 0, RV_HOT(vec));
    rv_put32(e, state);
}

/* RAX and the flags to struct rv_interp, and back but for RAX; both change rax. */
static void save_flags(struct rv_emit *e) {
    rv_emit_store(e, HAX, rv_mem(HSP, RV_AT_GPR(RV_RAX)));
    PUT(e, 0x9f, 0x0f, 0x90, 0xc0); /* lahf; seto al */
    rv_emit_insn(e, (struct rv_enc){.opsize = true, .opcode = 0x89}, HAX, rv_mem(HSP, RV_AT(fl)));
}
static void restore_flags(struct rv_emit *e) {
    struct rv_enc movzx = {.map = 1, .opcode = 0xb7};
    rv_emit_insn(e, movzx, HAX, rv_mem(HSP, RV_AT(fl)));
    PUT(e, 0x04, 0x7f, 0x9e); /* add al,127: OF; sahf */
}

/* The vector registers, if they are live, to struct rv_interp. */
static void save_vec(struct rv_emit *e, bool wide) {
    rv_emit_insn(e, (struct rv_enc){.w = true, .opcode = 0x83}, 7, RV_HOT(vec));
    rv_put8(e, RV_VEC_LIVE);
    uint8_t *other = rv_emit_jcc(e, 5);
    vectors(e, false, wide);
    if (wide) rv_emit_vzero(e, false); /* our own code is SSE */
    mxcsr(e, false, RV_AT(x.fx) + RV_FX_MXCSR);
    mxcsr(e, true, RV_AT(hot.mxcsr));
    set_vec(e, RV_VEC_MEMORY);
    rv_patch(other, e->p);
}

/* Everything; keeps rcx and r10. */
static void save(struct rv_emit *e, bool wide) {
    save_flags(e);
    for (unsigned n = 1; n < RV_GPRS; n++)
        if (rv_xlate_host[n] != HNONE)
            rv_emit_store(e, rv_xlate_host[n], rv_mem(HSP, RV_AT_GPR(n)));
    save_vec(e, wide);
}

static void restore(struct rv_emit *e) {
    restore_flags(e);
    for (unsigned n = 0; n < RV_GPRS; n++)
        if (rv_xlate_host[n] != HNONE) rv_emit_load(e, rv_xlate_host[n], rv_mem(HSP, RV_AT_GPR(n)));
}

static void restore_vec(struct rv_emit *e, bool wide) {
    vectors(e, true, wide);
    mxcsr(e, true, RV_AT(x.fx) + RV_FX_MXCSR);
    set_vec(e, RV_VEC_LIVE);
}

/* uint64_t (*)(struct rv_interp *c, const uint8_t *code): the struct rv_out by which translated
 * code was left, or 0 when a step did. */
static void emit_enter(struct rv_emit *e) {
    PUT(e, 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57); /* push rbx rbp r12-15 */
    PUT(e, 0x48, 0x83, 0xec, 0x08);                                     /* sub rsp,8 */
    rv_emit_store(e, HSP, rv_mem(HDI, offsetof(struct rv_interp, hot.host_sp)));
    rv_emit_lea(e, HSP, rv_mem(HDI, RV_SP_BIAS));
    rv_emit_store(e, HSI, RV_HOT(temp[0]));
    restore(e);
    rv_emit_jmp_rm(e, RV_HOT(temp[0]));
}

static void emit_return(struct rv_emit *e) {
    rv_emit_load(e, HSP, RV_HOT(host_sp));
    PUT(e, 0x48, 0x83, 0xc4, 0x08); /* add rsp,8 */
    PUT(e, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3);
}

/* rcx: struct rv_out. */
static void emit_leave(struct rv_emit *e, bool wide) {
    save(e, wide);
    rv_emit_lea(e, HAX, rv_mem(HCX, 0));
    emit_return(e);
}

/* rcx: struct rv_insn, r10: where translated code goes on, r11: what rv_xlate_step takes as rest.
 */
static void emit_step(struct rv_emit *e, bool with_vec, bool wide) {
    rv_emit_store(e, H10, RV_HOT(temp[0]));
    save(e, wide);
    rv_emit_lea(e, HDI, rv_mem(HSP, -RV_SP_BIAS));
    rv_emit_lea(e, HSI, rv_mem(HCX, 0));
    rv_emit_imm(e, HDX, with_vec);
    rv_emit_lea(e, HCX, rv_mem(H11, 0));
    rv_emit_lea(e, HBX, rv_mem(HSP, 0));
    rv_emit_load(e, HSP, RV_HOT(host_sp));
    rv_emit_imm(e, HAX, (uint64_t)(uintptr_t)&rv_xlate_step);
    PUT(e, 0xff, 0xd0); /* call rax */
    rv_emit_lea(e, HSP, rv_mem(HBX, 0));
    PUT(e, 0x48, 0x85, 0xc0); /* test rax,rax */
    uint8_t *out = rv_emit_jcc(e, 5);
    if (with_vec) restore_vec(e, wide);
    restore(e);
    rv_emit_jmp_rm(e, RV_HOT(temp[0]));
    rv_patch(out, e->p);
    PUT(e, 0x31, 0xc0); /* xor eax,eax */
    emit_return(e);
}

typedef const uint8_t *(*find_fn)(struct rv_interp *c, uint64_t what);

/* r10: what is looked for, r11: where to go on with what was found in r11, when there is any. Else
 * a step of the struct rv_insn at rcx, or out by the struct rv_out at rcx. The jump leads to the
 * beginning of a block, which asks for the vector registers itself. */
static void emit_find(struct rv_emit *e, find_fn find, const uint8_t *otherwise, bool wide) {
    static const uint8_t lost[] = {RV_RDX, RV_RBX, RV_RSI, RV_RDI, RV_RCX, RV_RSP};
    rv_emit_store(e, H11, RV_HOT(temp[0]));
    rv_emit_store(e, HCX, RV_HOT(temp[2]));
    save_flags(e);
    for (unsigned n = 0; n < RV_COUNT(lost); n++)
        rv_emit_store(e, rv_xlate_host[lost[n]], rv_mem(HSP, RV_AT_GPR(lost[n])));
    save_vec(e, wide);
    rv_emit_lea(e, HDI, rv_mem(HSP, -RV_SP_BIAS));
    rv_emit_lea(e, HSI, rv_mem(H10, 0));
    rv_emit_lea(e, HBX, rv_mem(HSP, 0));
    rv_emit_load(e, HSP, RV_HOT(host_sp));
    rv_emit_imm(e, HAX, (uint64_t)(uintptr_t)find);
    PUT(e, 0xff, 0xd0); /* call rax */
    rv_emit_lea(e, HSP, rv_mem(HBX, 0));
    rv_emit_lea(e, H11, rv_mem(HAX, 0));
    PUT(e, 0x48, 0x85, 0xc0); /* test rax,rax */
    uint8_t *none = rv_emit_jcc(e, 4);
    for (unsigned found = 0; found < 2; found++) {
        restore_flags(e);
        for (unsigned n = 0; n < RV_COUNT(lost); n++)
            rv_emit_load(e, rv_xlate_host[lost[n]], rv_mem(HSP, RV_AT_GPR(lost[n])));
        rv_emit_load(e, HAX, rv_mem(HSP, RV_AT_GPR(RV_RAX)));
        if (found) break;
        rv_emit_jmp_rm(e, RV_HOT(temp[0]));
        rv_patch(none, e->p);
    }
    rv_emit_load(e, HCX, RV_HOT(temp[2]));
    rv_patch(rv_emit_jmp(e), otherwise);
}

/* r11: struct rv_out for leaving without having done anything, r10: where to go on. Keeps flags. */
static void emit_load_vec(struct rv_emit *e, const uint8_t *leave, bool wide) {
    rv_emit_load(e, HCX, RV_HOT(vec));
    rv_emit_lea(e, HCX, rv_mem(HCX, -RV_VEC_MEMORY));
    uint8_t *barred = rv_emit_unless_zero(e);
    restore_vec(e, wide);
    rv_emit_jmp_rm(e, rv_reg(H10));
    rv_patch(barred, e->p);
    rv_emit_lea(e, HCX, rv_mem(H11, 0));
    rv_patch(rv_emit_jmp(e), leave);
}

int rv_code_new(struct rv_xlate *x, bool wide, struct rv_err *err) {
    int fd = memfd_create("translated", MFD_CLOEXEC);
    if (fd < 0) return rv_fail_errno(err, RV_E_HOST, "no memory for translated code");
    void *rw = MAP_FAILED, *rx = MAP_FAILED;
    if (!ftruncate(fd, CODE_SIZE)) {
        rw = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        rx = mmap(NULL, CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    }
    int r = rw == MAP_FAILED || rx == MAP_FAILED
                ? rv_fail_errno(err, RV_E_HOST, "cannot map memory for translated code")
                : 0;
    close(fd);
    if (rw != MAP_FAILED) x->rw = rw;
    if (rx != MAP_FAILED) x->rx = rx;
    x->size = CODE_SIZE;
    if (r) return r;
    struct rv_emit e = {.p = x->rw};
    x->enter = (size_t)(e.p - x->rw);
    emit_enter(&e);
    uint8_t *leave = e.p;
    x->leave = (size_t)(e.p - x->rw);
    emit_leave(&e, wide);
    x->step = (size_t)(e.p - x->rw);
    emit_step(&e, false, wide);
    x->step_vec = (size_t)(e.p - x->rw);
    emit_step(&e, true, wide);
    x->find_step = (size_t)(e.p - x->rw);
    emit_find(&e, rv_xlate_find, x->rw + x->step, wide);
    x->find_leave = (size_t)(e.p - x->rw);
    emit_find(&e, rv_xlate_find, leave, wide);
    x->find_window = (size_t)(e.p - x->rw);
    emit_find(&e, rv_xlate_window, leave, wide);
    x->load_vec = (size_t)(e.p - x->rw);
    emit_load_vec(&e, leave, wide);
    x->cold = x->cold_used = COLD_FROM;
    x->start = x->used = ((size_t)(e.p - x->rw) + 63) & ~(size_t)63;
    return 0;
}

void rv_code_free(struct rv_xlate *x) {
    if (x->rw) munmap(x->rw, x->size);
    /* munmap takes no pointer to const. */
    if (x->rx) munmap((void *)(uintptr_t)x->rx, x->size);
    x->rw = NULL;
    x->rx = NULL;
}
