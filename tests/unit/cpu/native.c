/* One instruction on the host's CPU. A signal handler's return loads any register state, so a case
 * begins with a signal to ourselves whose frame is replaced by the case's state with TF set, and
 * ends with the SIGTRAP after the instruction or the signal of its fault, whose frame is the
 * result. */
#include <cpuid.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "oracle.h"

#define STACK_SIZE (64u << 10)
#define TF         0x100u

static const int signals[] = {SIGTRAP, SIGSEGV, SIGFPE, SIGILL, SIGBUS};

static struct {
    struct sigaction old[RV_COUNT(signals)];
    stack_t old_stack;
    uint8_t *stack, *code;
    const struct or_case *k;
    struct or_outcome *o;
    enum { IDLE, START, RUNNING } phase;
    ucontext_t home;
    struct or_state home_fx;
    unsigned avx; /* where the upper halves are in an XSAVE image; 0: nowhere */
} n;

static const int greg[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                             REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                             REG_R12, REG_R13, REG_R14, REG_R15};

/* In the frame's FXSAVE image, bytes 464 on tell the kernel of an XSAVE image around it, whose
 * header says which components to load. The image is in the standard form: each component lies
 * where CPUID leaf 0xd says, whatever others there are. */
#define SW_MAGIC    464
#define SW_FEATURES 472
#define XSTATE_BV   512
#define BV_AVX      4u

static bool has_avx(const uint8_t *p) {
    uint32_t magic;
    memcpy(&magic, p + SW_MAGIC, sizeof magic);
    return magic == 0x46505853u && n.avx && (p[SW_FEATURES] & BV_AVX);
}

static void load_fx(struct _libc_fpstate *fp, const struct or_state *s) {
    uint8_t *p = (uint8_t *)fp;
    memcpy(p, s->fx, 416);
    memset(p + 28, 0xff, 2); /* MXCSR_MASK: not a register */
    memset(p + 30, 0, 2);
    uint32_t magic;
    memcpy(&magic, p + SW_MAGIC, sizeof magic);
    if (magic == 0x46505853u) p[XSTATE_BV] |= 3;
    if (!has_avx(p)) return;
    memcpy(p + n.avx, s->ymmh, sizeof s->ymmh);
    p[XSTATE_BV] |= BV_AVX;
}

static void take_fx(const struct _libc_fpstate *fp, struct or_state *s) {
    const uint8_t *p = (const uint8_t *)fp;
    memcpy(s->fx, p, sizeof s->fx);
    memset(s->ymmh, 0, sizeof s->ymmh);
    /* A component that is not in use has its initial values, whatever the image holds. */
    if (has_avx(p) && (p[XSTATE_BV] & BV_AVX)) memcpy(s->ymmh, p + n.avx, sizeof s->ymmh);
}

static void start(ucontext_t *u) {
    n.home = *u;
    take_fx(u->uc_mcontext.fpregs, &n.home_fx);
    greg_t *g = u->uc_mcontext.gregs;
    for (int r = 0; r < 16; r++) g[greg[r]] = (greg_t)n.k->in.gpr[r];
    g[REG_RIP] = (greg_t)n.k->in.rip;
    g[REG_EFL] = (greg_t)(n.k->in.rflags | TF);
    load_fx(u->uc_mcontext.fpregs, &n.k->in);
}

/* Instructions that trap before they are done: repeated ones after each turn, and gathers where an
 * element faults and there are others before it (SDM vol. 2, VPGATHERDD). */
static bool goes_on(const ucontext_t *u) {
    bool repeated =
        n.k->z.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
    bool gather = n.k->memory && n.k->memory->mem.type == ZYDIS_MEMOP_TYPE_VSIB;
    return (repeated || gather) && (uint64_t)u->uc_mcontext.gregs[REG_RIP] == n.k->in.rip;
}

static void finish(int sig, ucontext_t *u) {
    const greg_t *g = u->uc_mcontext.gregs;
    struct or_state *s = &n.o->out;
    for (int r = 0; r < 16; r++) s->gpr[r] = (uint64_t)g[greg[r]];
    s->rip = (uint64_t)g[REG_RIP];
    s->rflags = (uint64_t)g[REG_EFL] & ~(uint64_t)(TF | 0x10000u);
    take_fx(u->uc_mcontext.fpregs, s);
    n.o->fault = (struct or_fault){.vector = -1};
    if (sig != SIGTRAP) {
        n.o->fault.vector = (int)g[REG_TRAPNO];
        n.o->fault.error = (uint32_t)g[REG_ERR];
        if (n.o->fault.vector == 14) n.o->fault.cr2 = (uint64_t)g[REG_CR2];
    }
    struct _libc_fpstate *fp = u->uc_mcontext.fpregs;
    memcpy(u->uc_mcontext.gregs, n.home.uc_mcontext.gregs, sizeof u->uc_mcontext.gregs);
    load_fx(fp, &n.home_fx);
}

static void handler(int sig, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    switch (n.phase) {
    case START:
        n.phase = RUNNING;
        start(u);
        return;
    case RUNNING:
        if (sig == SIGTRAP && goes_on(u)) return; /* TF is still set */
        finish(sig, u);
        n.phase = IDLE;
        return;
    case IDLE:
        /* A fault of our own: die of it. */
        signal(sig, SIG_DFL);
        return;
    }
}

/* SDM vol. 1, 13.2: the offset of component 2. The kernel's frames leave out what it does not
 * enable. */
static unsigned avx_offset(void) {
    uint32_t size, offset, c, d;
    if (!__get_cpuid_count(0xd, 2, &size, &offset, &c, &d) || size != 256) return 0;
    return offset;
}

int or_native_init(struct rv_err *err) {
    n.avx = avx_offset();
    uint8_t *data = mmap((void *)OR_DATA, OR_WINDOW, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (data != (void *)OR_DATA) return rv_fail_errno(err, RV_E_HOST, "mapping the data window");
    int fd = memfd_create("oracle", 0);
    if (fd < 0 || ftruncate(fd, RV_PAGE_SIZE)) return rv_fail_errno(err, RV_E_HOST, "memfd");
    n.code = mmap(NULL, RV_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    void *code = mmap((void *)OR_CODE, RV_PAGE_SIZE, PROT_READ | PROT_EXEC,
                      MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
    close(fd);
    if (n.code == MAP_FAILED || code != (void *)OR_CODE)
        return rv_fail_errno(err, RV_E_HOST, "mapping the code page");
    /* Empty here, and in guests that are compared with this one. */
    void *far = mmap((void *)OR_FAR, RV_PAGE_SIZE, PROT_READ | PROT_EXEC,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (far != (void *)OR_FAR) return rv_fail_errno(err, RV_E_HOST, "mapping the second code page");
    n.stack = malloc(STACK_SIZE);
    if (!n.stack) return rv_fail(err, RV_E_HOST, "no memory for a signal stack");
    stack_t ss = {.ss_sp = n.stack, .ss_size = STACK_SIZE};
    struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&sa.sa_mask);
    if (sigaltstack(&ss, &n.old_stack)) return rv_fail_errno(err, RV_E_HOST, "sigaltstack");
    for (unsigned s = 0; s < RV_COUNT(signals); s++) sigaction(signals[s], &sa, &n.old[s]);
    return 0;
}

void or_native_release(void) {
    for (unsigned s = 0; s < RV_COUNT(signals); s++) sigaction(signals[s], &n.old[s], NULL);
    sigaltstack(&n.old_stack, NULL);
    free(n.stack);
    munmap((void *)OR_DATA, OR_WINDOW);
    munmap((void *)OR_CODE, RV_PAGE_SIZE);
    munmap((void *)OR_FAR, RV_PAGE_SIZE);
    munmap(n.code, RV_PAGE_SIZE);
    memset(&n, 0, sizeof n);
}

void or_native_run(const struct or_case *k, struct or_outcome *o) {
    void *ro = (void *)OR_RO;
    memcpy((void *)OR_DATA, k->mem, OR_DATA_SIZE);
    static bool ro_filled;
    if (!ro_filled || memcmp(ro, k->mem + OR_DATA_SIZE, RV_PAGE_SIZE)) {
        mprotect(ro, RV_PAGE_SIZE, PROT_READ | PROT_WRITE);
        memcpy(ro, k->mem + OR_DATA_SIZE, RV_PAGE_SIZE);
        mprotect(ro, RV_PAGE_SIZE, PROT_READ);
        ro_filled = true;
    }
    memcpy(n.code, k->code, sizeof k->code);
    n.k = k;
    n.o = o;
    n.phase = START;
    raise(SIGTRAP);
    memcpy(o->mem, (void *)OR_DATA, OR_WINDOW);
}
