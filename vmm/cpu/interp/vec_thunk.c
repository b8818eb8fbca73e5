/* Native thunks: short functions made at run time that execute one guest opcode on the host.
 *
 * The guest's opcode byte, mandatory prefix, REX.W and immediate are kept; its operands become
 * fixed host registers and the memory at RSI, so that one function serves every encoding of an
 * operation and the set of functions is finite. Arguments arrive as the System V ABI passes them:
 * RDI dst, RSI src, RDX fx, RCX arg. Code pages are never writable and executable at once. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/cpu/interp/vec.h"

#define CHUNK_SIZE (64u << 10)
#define CODE_MAX   160u
#define HASH_BITS  12

struct thunk {
    struct rv_thunk_key key;
    rv_thunk fn;
    struct thunk *next;
};

struct chunk {
    struct chunk *next;
    uint8_t *base;
    size_t used;
};

struct rv_thunks {
    struct chunk *chunks; /* the first one has room */
    struct thunk *hash[1u << HASH_BITS];
};

struct code {
    uint8_t b[CODE_MAX];
    unsigned n;
};

static void put(struct code *k, const void *bytes, unsigned n) {
    rv_assert(k->n + n <= CODE_MAX);
    memcpy(k->b + k->n, bytes, n);
    k->n += n;
}
#define PUT(k, ...)                                                                                \
    do {                                                                                           \
        static const uint8_t bytes_[] = {__VA_ARGS__};                                             \
        put(k, bytes_, sizeof bytes_);                                                             \
    } while (0)

/* The guest's opcode with the given ModRM byte. */
static void put_insn(struct code *k, const struct rv_thunk_key *key, uint8_t modrm) {
    if (key->prefix) put(k, &key->prefix, 1);
    if (key->flags & RV_TF_REXW) PUT(k, 0x48);
    if (key->map >= 1) PUT(k, 0x0f);
    if (key->map == 2) PUT(k, 0x38);
    if (key->map == 3) PUT(k, 0x3a);
    put(k, &key->opcode, 1);
    put(k, &modrm, 1);
    if (key->has_imm) put(k, &key->imm, 1);
}

#define MODRM_1_RSI    0x0e /* reg 1, [rsi] */
#define MODRM_0_RSI    0x06 /* reg 0, [rsi] */
#define MODRM_1_2      0xca /* registers 1 and 2 */
#define MODRM_IMM(reg) (uint8_t)(0xc1 | (reg) << 3)

#define LOAD_XMM1(k)  PUT(k, 0x0f, 0x28, 0x0f)                     /* movaps xmm1,[rdi] */
#define STORE_XMM1(k) PUT(k, 0x0f, 0x29, 0x0f)                     /* movaps [rdi],xmm1 */
#define LOAD_XMM2(k)  PUT(k, 0x0f, 0x28, 0x16)                     /* movaps xmm2,[rsi] */
#define LOAD_MM1(k)   PUT(k, 0x0f, 0x6f, 0x0f)                     /* movq mm1,[rdi] */
#define STORE_MM1(k)  PUT(k, 0x0f, 0x7f, 0x0f)                     /* movq [rdi],mm1 */
#define LOAD_XMM0(k)  PUT(k, 0x0f, 0x28, 0x82, RV_FX_XMM, 0, 0, 0) /* movaps xmm0,[rdx+] */
#define EMMS(k)       PUT(k, 0x0f, 0x77)
#define FLAGS_EAX(k)  PUT(k, 0x9f, 0x0f, 0x90, 0xc0)        /* lahf; seto al */
#define MXCSR_IN(k)   PUT(k, 0x0f, 0xae, 0x52, RV_FX_MXCSR) /* ldmxcsr [rdx+24] */
/* stmxcsr [rdx+24]; ldmxcsr [rip+...]: the constant lies in front of the function. */
static void mxcsr_out(struct code *k) {
    PUT(k, 0x0f, 0xae, 0x5a, RV_FX_MXCSR, 0x0f, 0xae, 0x15);
    int32_t rel = -(int32_t)(k->n + 4);
    put(k, &rel, 4);
}

/* Every function is preceded by the MXCSR our own code runs with. */
#define HEAD 4u

/* The host's operands: ymm1 or r8 for ModRM.reg, ymm2 or r9 for VEX.vvvv, ymm4 for a register in
 * ModRM.rm, ymm3 for IS4, RDX. Prefix, ModRM and immediate. */
static void put_vex_insn(struct code *k, const struct rv_thunk_key *key) {
    bool gpr_reg = key->flags & RV_TF_GPR_REG, gpr_v = key->flags & RV_TF_GPR_V;
    unsigned pp = key->prefix == 0x66 ? 1 : key->prefix == 0xf3 ? 2 : key->prefix == 0xf2 ? 3 : 0;
    unsigned v = !(key->flags & RV_TF_V) ? 0 : gpr_v ? 9 : 2;
    unsigned reg = key->flags & RV_TF_EXT ? key->modrm : gpr_reg ? 0 : 1;
    uint8_t b[] = {0xc4, (uint8_t)((gpr_reg ? 0x60 : 0xe0) | key->map),
                   (uint8_t)((key->flags & RV_TF_REXW ? 0x80 : 0) | (~v & 15) << 3 |
                             (key->flags & RV_TF_L ? 4 : 0) | pp),
                   key->opcode, (uint8_t)(reg << 3 | (key->flags & RV_TF_REG ? 0xc4 : 0x06))};
    put(k, b, sizeof b);
    if (key->has_imm) put(k, &key->imm, 1);
}

static void vex(struct code *k, const struct rv_thunk_key *key) {
    PUT(k, 0xc5, 0xfc, 0x10, 0x0f);       /* vmovups ymm1,[rdi] */
    PUT(k, 0xc5, 0xfc, 0x10, 0x57, 0x20); /* vmovups ymm2,[rdi+32] */
    PUT(k, 0xc5, 0xfc, 0x10, 0x67, 0x40); /* vmovups ymm4,[rdi+64] */
    PUT(k, 0xc5, 0xfc, 0x10, 0x5f, 0x60); /* vmovups ymm3,[rdi+96] */
    PUT(k, 0x4c, 0x8b, 0x07);             /* mov r8,[rdi] */
    PUT(k, 0x4c, 0x8b, 0x4f, 0x20);       /* mov r9,[rdi+32] */
    PUT(k, 0x49, 0x89, 0xd2);             /* mov r10,rdx */
    PUT(k, 0x48, 0x8b, 0x97, RV_VEX_RDX, 0, 0, 0);
    PUT(k, 0x8b, 0x01, 0x04, 0x7f, 0x9e); /* mov eax,[rcx]; add al,127: OF; sahf */
    put_vex_insn(k, key);
    PUT(k, 0x4c, 0x89, 0xd2); /* mov rdx,r10 */
    FLAGS_EAX(k);
    if (key->flags & RV_TF_GPR_REG)
        PUT(k, 0x4c, 0x89, 0x07); /* mov [rdi],r8 */
    else
        PUT(k, 0xc5, 0xfc, 0x11, 0x0f);
    if (key->flags & RV_TF_GPR_V)
        PUT(k, 0x4c, 0x89, 0x4f, 0x20); /* mov [rdi+32],r9 */
    else
        PUT(k, 0xc5, 0xfc, 0x11, 0x57, 0x20);
    if (key->flags & RV_TF_REG) PUT(k, 0xc5, 0xfc, 0x11, 0x67, 0x40);
    PUT(k, 0xc5, 0xf8, 0x77); /* vzeroupper: our own code is SSE */
}

static void assemble(struct code *k, const struct rv_thunk_key *key) {
    bool fp = key->flags & RV_TF_FP;
    static const uint8_t head[HEAD] = {RV_MXCSR_RESET & 0xff, RV_MXCSR_RESET >> 8, 0, 0};
    put(k, head, HEAD);
    if (fp) MXCSR_IN(k);
    switch ((enum rv_thunk_form)key->form) {
    case RV_T_XMM0: LOAD_XMM0(k); __attribute__((fallthrough));
    case RV_T_XMM:
    case RV_T_XMM_MMX:
        LOAD_XMM1(k);
        if (key->flags & RV_TF_REG) LOAD_XMM2(k);
        put_insn(k, key, key->flags & RV_TF_REG ? MODRM_1_2 : MODRM_1_RSI);
        STORE_XMM1(k);
        if (key->form == RV_T_XMM_MMX) EMMS(k); /* CVTPI2PS may touch the x87 tags */
        break;
    case RV_T_XMM_IMM:
        LOAD_XMM1(k);
        put_insn(k, key, MODRM_IMM(key->modrm));
        STORE_XMM1(k);
        break;
    case RV_T_FLAGS:
        LOAD_XMM1(k);
        put_insn(k, key, MODRM_1_RSI);
        FLAGS_EAX(k);
        break;
    case RV_T_GPR: put_insn(k, key, MODRM_0_RSI); break;
    case RV_T_STRING:
        PUT(k, 0x49, 0x89, 0xd0);                               /* mov r8,rdx */
        PUT(k, 0x48, 0x8b, 0x01, 0x48, 0x8b, 0x51, 8 * RV_RDX); /* rax, rdx from arg */
        PUT(k, 0x41, 0x0f, 0x28, 0x80, RV_FX_XMM, 0, 0, 0);     /* movaps xmm0,[r8+] */
        LOAD_XMM1(k);
        put_insn(k, key, MODRM_1_RSI);
        FLAGS_EAX(k);
        PUT(k, 0x41, 0x0f, 0x29, 0x80, RV_FX_XMM, 0, 0, 0); /* movaps [r8+],xmm0 */
        PUT(k, 0x0f, 0xb7, 0xc0, 0x48, 0xc1, 0xe1, 32, 0x48, 0x09, 0xc8);
        break; /* movzx eax,ax; shl rcx,32; or rax,rcx */
    case RV_T_MMX:
        LOAD_MM1(k);
        put_insn(k, key, MODRM_1_RSI);
        STORE_MM1(k);
        EMMS(k);
        break;
    case RV_T_MMX_IMM:
        LOAD_MM1(k);
        put_insn(k, key, MODRM_IMM(key->modrm));
        STORE_MM1(k);
        EMMS(k);
        break;
    case RV_T_MMX_XMM:
        put_insn(k, key, MODRM_1_RSI);
        STORE_MM1(k);
        EMMS(k);
        break;
    case RV_T_X87:
        /* fxrstor64 [rdx]; mov eax,[rcx]; add al,127: OF; sahf */
        PUT(k, 0x48, 0x0f, 0xae, 0x0a, 0x8b, 0x01, 0x04, 0x7f, 0x9e);
        put_insn(k, key, key->modrm);
        FLAGS_EAX(k);
        PUT(k, 0x48, 0x0f, 0xae, 0x02, 0xdb, 0xe3); /* fxsave64 [rdx]; fninit */
        break;
    case RV_T_VEX: vex(k, key); break;
    }
    if (fp) mxcsr_out(k);
    PUT(k, 0xc3);
}

int rv_thunks_new(struct rv_thunks **out, struct rv_err *err) {
    *out = calloc(1, sizeof **out);
    return *out ? 0 : rv_fail(err, RV_E_HOST, "no memory for the vector unit");
}

void rv_thunks_free(struct rv_thunks *t) {
    if (!t) return;
    for (unsigned h = 0; h < RV_COUNT(t->hash); h++)
        for (struct thunk *e = t->hash[h], *next; e; e = next) {
            next = e->next;
            free(e);
        }
    for (struct chunk *k = t->chunks, *next; k; k = next) {
        next = k->next;
        munmap(k->base, CHUNK_SIZE);
        free(k);
    }
    free(t);
}

static struct chunk *room(struct rv_thunks *t, size_t need) {
    if (t->chunks && CHUNK_SIZE - t->chunks->used >= need) return t->chunks;
    struct chunk *k = calloc(1, sizeof *k);
    if (!k) return NULL;
    k->base = mmap(NULL, CHUNK_SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (k->base == MAP_FAILED) {
        free(k);
        return NULL;
    }
    k->next = t->chunks;
    t->chunks = k;
    return k;
}

rv_thunk rv_thunk_get(struct rv_thunks *t, const struct rv_thunk_key *key) {
    uint64_t bits;
    _Static_assert(sizeof *key == sizeof bits, "a key is compared and hashed as one word");
    memcpy(&bits, key, sizeof bits);
    unsigned h = (unsigned)((bits * 0x9e3779b97f4a7c15ull) >> (64 - HASH_BITS));
    for (struct thunk *e = t->hash[h]; e; e = e->next)
        if (!memcmp(&e->key, key, sizeof *key)) return e->fn;

    struct code code = {.n = 0};
    assemble(&code, key);
    size_t size = (code.n + 15) & ~15u;
    struct thunk *e = calloc(1, sizeof *e);
    struct chunk *k = room(t, size);
    /* Decoding has no way to report a host that is out of memory, and going on would make the guest
     * see something that no CPU does. */
    rv_assert(e && k);
    int rc = mprotect(k->base, CHUNK_SIZE, PROT_READ | PROT_WRITE);
    rv_assert(!rc);
    memcpy(k->base + k->used, code.b, code.n);
    rc = mprotect(k->base, CHUNK_SIZE, PROT_READ | PROT_EXEC);
    rv_assert(!rc);
    uintptr_t fn = (uintptr_t)(k->base + k->used + HEAD);
    *e = (struct thunk){.key = *key, .fn = (rv_thunk)fn, .next = t->hash[h]};
    t->hash[h] = e;
    k->used += size;
    return e->fn;
}
