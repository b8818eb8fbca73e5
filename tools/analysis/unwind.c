/* In the kernel by ORC, as the kernel itself does it (arch/x86/kernel/unwind_orc.c); in programs by
 * libunwind, which is given the process's memory and registers and goes by .eh_frame, by signal
 * frames, and by frame pointers where there is nothing better. */
#include "tools/analysis/unwind.h"

#include <libunwind.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/buf.h"

#define KERNEL_HALF 0xffff800000000000ull
#define MAX_FRAME   (1u << 20)
#define READS       2000000 /* words of a guest's tables and stack that one stack may cost */

const char *rv_frame_how(enum rv_frame_how how) {
    static const char *const words[] = {"here", "orc", "cfi", "frame pointer", "registers"};
    return words[how];
}

const char *rv_unwind_end(enum rv_unwind_end end) {
    switch (end) {
    case RV_UNWIND_BOTTOM: return "the outermost function";
    case RV_UNWIND_FULL: return "more frames are not shown";
    case RV_UNWIND_NO_TABLES: return "no unwind tables say how to go on";
    case RV_UNWIND_NO_MEMORY: return "the stack cannot be read further";
    default: return "the stack makes no progress";
    }
}

/* Registers as far as they are known. */
struct regs {
    uint64_t gpr[RV_GPRS], pc;
    uint32_t known; /* bit n: gpr[n] */
};

struct walk {
    const struct rv_look *look;
    struct rv_frame *frame;
    size_t n, max;
    enum rv_unwind_end end;
    struct regs r;
};

static bool load(const struct walk *w, uint64_t va, uint64_t *out) {
    *out = 0;
    return rv_look_read(w->look, va, out, 8, NULL) == 8;
}

static bool put(struct walk *w, uint64_t pc, uint64_t sp, bool user, bool exact,
                enum rv_frame_how how) {
    if (w->n == w->max) {
        w->end = RV_UNWIND_FULL;
        return false;
    }
    w->frame[w->n++] =
        (struct rv_frame){.pc = pc, .sp = sp, .user = user, .exact = exact, .how = how};
    return true;
}

/* ---- the kernel ---- */

/* struct pt_regs (asm/ptrace.h): where it holds each register, in words. */
static const uint8_t saved[RV_GPRS] = {
    [RV_R15] = 0,  [RV_R14] = 1,  [RV_R13] = 2,  [RV_R12] = 3, [RV_RBP] = 4,  [RV_RBX] = 5,
    [RV_R11] = 6,  [RV_R10] = 7,  [RV_R9] = 8,   [RV_R8] = 9,  [RV_RAX] = 10, [RV_RCX] = 11,
    [RV_RDX] = 12, [RV_RSI] = 13, [RV_RDI] = 14, [RV_RSP] = 19};
enum { SAVED_IP = 16, SAVED_CS = 17, SAVED_WORDS = 21 };

/* Takes registers from a pt_regs at sp, or only what the CPU pushed there. False: unreadable. */
static bool take_regs(struct walk *w, uint64_t sp, bool all, uint64_t *cs) {
    uint64_t word[SAVED_WORDS] = {0};
    size_t first = all ? 0 : SAVED_IP, bytes = (SAVED_WORDS - first) * 8;
    if (rv_look_read(w->look, sp, word + first, bytes, NULL) != bytes) return false;
    if (all) {
        for (unsigned i = 0; i < RV_GPRS; i++) w->r.gpr[i] = word[saved[i]];
        w->r.known = (1u << RV_GPRS) - 1;
    }
    w->r.gpr[RV_RSP] = word[saved[RV_RSP]];
    w->r.pc = word[SAVED_IP];
    *cs = word[SAVED_CS];
    return true;
}

static bool base_of(const struct walk *w, const struct rv_orc_entry *e, uint64_t *sp) {
    static const uint8_t reg[] = {
        [RV_ORC_DX] = RV_RDX,          [RV_ORC_DI] = RV_RDI,         [RV_ORC_BP] = RV_RBP,
        [RV_ORC_SP] = RV_RSP,          [RV_ORC_R10] = RV_R10,        [RV_ORC_R13] = RV_R13,
        [RV_ORC_BP_INDIRECT] = RV_RBP, [RV_ORC_SP_INDIRECT] = RV_RSP};
    if (e->sp_reg < RV_ORC_DX || e->sp_reg > RV_ORC_SP_INDIRECT) return false;
    unsigned from = reg[e->sp_reg];
    if (!(w->r.known >> from & 1)) return false;
    uint64_t offset = (uint64_t)(int64_t)e->sp_offset;
    *sp = w->r.gpr[from];
    if (e->sp_reg == RV_ORC_SP_INDIRECT) {
        if (!load(w, *sp, sp)) return false;
        *sp += offset;
        return true;
    }
    /* DX, DI, R10 and R13 hold the value itself. */
    if (from == RV_RBP || from == RV_RSP) *sp += offset;
    return e->sp_reg != RV_ORC_BP_INDIRECT || load(w, *sp, sp);
}

enum step { STEP_ON, STEP_END, STEP_USER };

/* To the caller of a kernel function, or to what was interrupted. */
static enum step kernel_step(struct walk *w, bool *exact, enum rv_frame_how *how) {
    const struct rv_orc *orc = rv_linux_orc(rv_guest_linux(w->look->guest));
    struct rv_orc_entry e;
    uint64_t sp, old = w->r.gpr[RV_RSP], bp = w->r.gpr[RV_RBP], cs = 0;
    w->end = RV_UNWIND_NO_TABLES;
    if (!orc || !rv_orc_find(orc, *exact ? w->r.pc : w->r.pc - 1, &e)) return STEP_END;
    if (e.type == RV_ORC_END) w->end = RV_UNWIND_BOTTOM;
    if (e.type == RV_ORC_END || e.type == RV_ORC_UNDEFINED) return STEP_END;
    w->end = RV_UNWIND_NO_MEMORY;
    if (!base_of(w, &e, &sp)) return STEP_END;
    if (e.type != RV_ORC_CALL) {
        /* What the CPU pushed is the last part of pt_regs. */
        if (!take_regs(w, sp, e.type == RV_ORC_REGS, &cs)) return STEP_END;
        *exact = true;
        *how = RV_FRAME_REGS;
        if ((cs & 3) == 3) return STEP_USER;
        if (e.type == RV_ORC_REGS) return STEP_ON;
    } else {
        if (!load(w, sp - 8, &w->r.pc)) return STEP_END;
        w->r.gpr[RV_RSP] = sp;
        *exact = false;
        *how = RV_FRAME_ORC;
        w->end = RV_UNWIND_LOOP;
        if (sp <= old) return STEP_END;
        /* A function may have changed all but these. */
        w->r.known &= 1u << RV_RSP | 1u << RV_RBP;
    }
    w->end = RV_UNWIND_NO_MEMORY;
    uint64_t at = e.bp_reg == RV_ORC_PREV_SP ? sp : bp;
    if ((e.bp_reg == RV_ORC_PREV_SP || e.bp_reg == RV_ORC_BP) &&
        !load(w, at + (uint64_t)(int64_t)e.bp_offset, &w->r.gpr[RV_RBP]))
        return STEP_END;
    return STEP_ON;
}

/* Walks the kernel's frames; true when it came to user space, whose registers are in w->r. */
static bool walk_kernel(struct walk *w) {
    bool exact = true;
    enum rv_frame_how how = RV_FRAME_FIRST;
    for (;;) {
        if (!put(w, w->r.pc, w->r.gpr[RV_RSP], false, exact, how)) return false;
        if (w->r.pc < KERNEL_HALF) {
            w->end = RV_UNWIND_BOTTOM;
            return false;
        }
        /* SYSCALL has just come in: the stack is still the program's, and RCX is where it was (SDM
         * 2B, SYSCALL). */
        if (how == RV_FRAME_FIRST && w->r.gpr[RV_RSP] < KERNEL_HALF && (w->r.known >> RV_RCX & 1)) {
            w->r.pc = w->r.gpr[RV_RCX];
            return true;
        }
        enum step s = kernel_step(w, &exact, &how);
        if (s != STEP_ON) return s == STEP_USER;
        if (!w->r.pc) {
            w->end = RV_UNWIND_BOTTOM;
            return false;
        }
    }
}

/* ---- programs ---- */

/* libunwind's functions for this machine, whatever the host's; the second is exported, but in no
 * header. */
extern int UNW_OBJ(dwarf_search_unwind_table)(unw_addr_space_t, unw_word_t, unw_dyn_info_t *,
                                              unw_proc_info_t *, int, void *);

/* Where libunwind finds the table that it searches: an address that no program has. */
#define TABLE 0x0000f00000000000ull

struct remote {
    struct walk *w;
    unsigned reads; /* left */
    bool found;     /* the last frame had a table entry */
    /* Of the program last asked for: pairs of the function's start and its entry, relative to
     * .eh_frame. */
    const struct rv_prog *prog;
    int32_t (*table)[2];
};

static void make_table(struct remote *m, const struct rv_prog *p) {
    if (m->prog == p) return;
    free(m->table);
    m->prog = p;
    m->table = rv_alloc((p->fdes + 1) * sizeof *m->table);
    for (size_t i = 0; i < p->fdes; i++) {
        m->table[i][0] = (int32_t)(p->fde[i].start - p->eh_frame);
        m->table[i][1] = (int32_t)(p->fde[i].at - p->eh_frame);
    }
}

static int on_find(unw_addr_space_t as, unw_word_t ip, unw_proc_info_t *info, int need, void *ctx) {
    struct remote *m = ctx;
    uint64_t bias;
    const struct rv_prog *p = rv_look_prog(m->w->look, ip, &bias);
    m->found = false;
    if (!p || !p->fdes) return -UNW_ENOINFO;
    make_table(m, p);
    unw_dyn_info_t di = {.format = UNW_INFO_FORMAT_REMOTE_TABLE, .start_ip = 0, .end_ip = ~0ull};
    di.u.rti.segbase = p->eh_frame + bias;
    di.u.rti.table_data = TABLE;
    di.u.rti.table_len = p->fdes * sizeof *m->table / sizeof(unw_word_t);
    int r = UNW_OBJ(dwarf_search_unwind_table)(as, ip, &di, info, need, ctx);
    m->found = r == 0;
    return r;
}

static void on_put_info(unw_addr_space_t as, unw_proc_info_t *info, void *ctx) {
    (void)as, (void)ctx;
    free(info->unwind_info);
    info->unwind_info = NULL;
}

static int on_list(unw_addr_space_t as, unw_word_t *list, void *ctx) {
    (void)as, (void)list, (void)ctx;
    return -UNW_ENOINFO;
}

static int on_memory(unw_addr_space_t as, unw_word_t va, unw_word_t *value, int write, void *ctx) {
    struct remote *m = ctx;
    (void)as;
    *value = write ? *value : 0;
    if (write || !m->reads || va >= KERNEL_HALF) return -UNW_EINVAL;
    m->reads--;
    if (va >= TABLE) {
        uint64_t at = va - TABLE, size = m->prog ? m->prog->fdes * sizeof *m->table : 0;
        if (at >= size) return -UNW_EINVAL;
        memcpy(value, (const uint8_t *)m->table + at, size - at < 8 ? size - at : 8);
        return 0;
    }
    /* A word at the very end of what is mapped may be read in part. */
    return rv_look_read(m->w->look, va, value, 8, NULL) ? 0 : -UNW_EINVAL;
}

static int on_register(unw_addr_space_t as, unw_regnum_t n, unw_word_t *value, int write,
                       void *ctx) {
    static const uint8_t gpr[] = {RV_RAX, RV_RDX, RV_RCX, RV_RBX, RV_RSI, RV_RDI, RV_RBP, RV_RSP};
    struct remote *m = ctx;
    const struct regs *r = &m->w->r;
    (void)as;
    if (write || n < 0 || n > UNW_X86_64_RIP) return -UNW_EBADREG;
    if (n == UNW_X86_64_RIP) {
        *value = r->pc;
        return 0;
    }
    unsigned i = n < 8 ? gpr[n] : (unsigned)n;
    if (!(r->known >> i & 1)) return -UNW_EBADREG;
    *value = r->gpr[i];
    return 0;
}

static int on_fp(unw_addr_space_t as, unw_regnum_t n, unw_fpreg_t *value, int write, void *ctx) {
    (void)as, (void)n, (void)value, (void)write, (void)ctx;
    return -UNW_EBADREG;
}

static int on_resume(unw_addr_space_t as, unw_cursor_t *c, void *ctx) {
    (void)as, (void)c, (void)ctx;
    return -UNW_EINVAL;
}

static int on_name(unw_addr_space_t as, unw_word_t va, char *buf, size_t n, unw_word_t *offset,
                   void *ctx) {
    (void)as, (void)va, (void)buf, (void)n, (void)offset, (void)ctx;
    return -UNW_ENOINFO;
}

/* Whether a program may run there: a guess that leads elsewhere is none. */
static bool is_code(const struct rv_look *look, uint64_t pc) {
    for (size_t i = 0; i < look->vmas; i++)
        if (pc > look->vma[i].start && pc < look->vma[i].end) return look->vma[i].prot & 4;
    return !look->vmas;
}

static void walk_user(struct walk *w, bool first) {
    unw_accessors_t accessors = {.find_proc_info = on_find,
                                 .put_unwind_info = on_put_info,
                                 .get_dyn_info_list_addr = on_list,
                                 .access_mem = on_memory,
                                 .access_reg = on_register,
                                 .access_fpreg = on_fp,
                                 .resume = on_resume,
                                 .get_proc_name = on_name};
    struct remote m = {.w = w, .reads = READS};
    enum rv_frame_how how = first ? RV_FRAME_FIRST : RV_FRAME_REGS;
    unw_addr_space_t as = unw_create_addr_space(&accessors, 0);
    unw_cursor_t c;
    w->end = RV_UNWIND_NO_TABLES;
    if (!as) return;
    bool exact = true;
    if (unw_init_remote(&c, as, &m) < 0) {
        put(w, w->r.pc, w->r.gpr[RV_RSP], true, true, how);
        unw_destroy_addr_space(as);
        free(m.table);
        return;
    }
    for (;;) {
        unw_word_t pc, sp, next;
        if (unw_get_reg(&c, UNW_REG_IP, &pc) < 0 || unw_get_reg(&c, UNW_REG_SP, &sp) < 0) break;
        if (!put(w, pc, sp, true, exact, how)) break;
        exact = unw_is_signal_frame(&c) > 0;
        m.found = false;
        int r = unw_step(&c);
        w->end = r == 0 ? RV_UNWIND_BOTTOM : m.found ? RV_UNWIND_NO_MEMORY : RV_UNWIND_NO_TABLES;
        if (r <= 0) break;
        how = m.found ? RV_FRAME_CFI : RV_FRAME_POINTER;
        if (unw_get_reg(&c, UNW_REG_IP, &pc) < 0 || unw_get_reg(&c, UNW_REG_SP, &next) < 0) break;
        if (!pc) {
            w->end = RV_UNWIND_BOTTOM;
            break;
        }
        if (how == RV_FRAME_POINTER && !is_code(w->look, pc)) {
            w->end = RV_UNWIND_NO_TABLES;
            break;
        }
        if (next <= sp && !exact) {
            w->end = RV_UNWIND_LOOP;
            break;
        }
    }
    unw_destroy_addr_space(as);
    free(m.table);
}

/* ---- both ---- */

/* A thread that does not run: __switch_to_asm has pushed what a function must keep, in the order of
 * struct inactive_task_frame (asm/switch_to.h): r15, r14, r13, r12, rbx, rbp, the return address.
 */
static bool sleeping(struct walk *w) {
    static const uint8_t order[] = {RV_R15, RV_R14, RV_R13, RV_R12, RV_RBX, RV_RBP};
    const struct rv_look *k = w->look;
    uint64_t sp = rv_linux_saved_sp(rv_guest_linux(k->guest), &k->kernel, k->task.task), word[7];
    w->end = RV_UNWIND_NO_MEMORY;
    if (rv_look_read(k, sp, word, sizeof word, NULL) != sizeof word) return false;
    w->r.known = 1u << RV_RSP;
    for (unsigned i = 0; i < 6; i++) {
        w->r.gpr[order[i]] = word[i];
        w->r.known |= 1u << order[i];
    }
    w->r.pc = word[6];
    w->r.gpr[RV_RSP] = sp + sizeof word;
    return true;
}

/* Where nothing is known of the code: by frame pointers, as long as they lead up the stack. Code
 * that keeps none ends the walk, or leaves functions out. */
static void walk_pointers(struct walk *w, bool user) {
    enum rv_frame_how how = RV_FRAME_FIRST;
    uint64_t next, sp = w->r.gpr[RV_RSP], bp = w->r.gpr[RV_RBP];
    while (put(w, w->r.pc, sp, user, how == RV_FRAME_FIRST, how)) {
        w->end = RV_UNWIND_NO_TABLES;
        if (bp < sp || bp - sp > MAX_FRAME || bp % 8 || !load(w, bp, &next) ||
            !load(w, bp + 8, &w->r.pc) || !w->r.pc)
            return;
        sp = bp + 16;
        bp = next;
        how = RV_FRAME_POINTER;
    }
}

size_t rv_unwind(const struct rv_look *look, struct rv_frame *frame, size_t max,
                 enum rv_unwind_end *end) {
    struct walk w = {.look = look, .frame = frame, .max = max, .end = RV_UNWIND_NO_TABLES};
    bool asleep = look->up && look->task.task != look->current;
    if (!asleep) {
        memcpy(w.r.gpr, look->cpu.cpu.gpr, sizeof w.r.gpr);
        w.r.known = (1u << RV_GPRS) - 1;
        w.r.pc = rv_view_pc(&look->cpu);
        w.r.gpr[RV_RSP] = rv_view_sp(&look->cpu);
    }
    bool user = !asleep && rv_view_is_user(&look->cpu);
    if (asleep && !sleeping(&w)) {
        *end = w.end;
        return 0;
    }
    bool down = user;
    if (!user && look->up) down = walk_kernel(&w);
    if (!look->up)
        walk_pointers(&w, user);
    else if (down)
        walk_user(&w, user);
    *end = w.end;
    return w.n;
}
