#include "tools/show.h"

#include <Zydis/Zydis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/ask.h"
#include "tools/retro.h"

/* ---- where ---- */

static double part_of(struct rv_timeline *t, rv_icount at) {
    rv_icount end = rv_timeline_end(t).icount;
    return end ? 100.0 * (double)at / (double)end : 100;
}

static const char *mode(const struct rv_look *look) {
    const struct rv_x86 *x = &look->cpu.cpu;
    if (!(x->cr0 & RV_CR0_PE)) return "real mode";
    if (rv_view_is_user(&look->cpu)) return "user mode";
    return "kernel mode";
}

void retro_show_where(struct rv_timeline *t, const struct rv_look *look) {
    char n[32];
    struct rv_moment now = rv_timeline_now(t);
    rv_ns time = rv_machine_now(look->machine).time;
    printf("position  %s", retro_group(now.icount, n));
    if (rv_timeline_at_end(t))
        printf(" (the end)");
    else if (now.delivered)
        printf(".%u", now.delivered);
    printf(", %.1f%%, %.6f s\n", part_of(t, now.icount), retro_seconds(time));
    if (!look->up) {
        printf("cpu       %s; no Linux is up here\n", mode(look));
        return;
    }
    bool runs = look->task.task == look->current;
    printf("process   %u", look->task.pid);
    if (look->task.tid != look->task.pid) printf(" thread %u", look->task.tid);
    putchar(' ');
    retro_print_text(stdout, (const uint8_t *)look->task.comm, strlen(look->task.comm));
    char path[256];
    const struct rv_linux *l = rv_guest_linux(look->guest);
    if (rv_linux_path(l, &look->kernel, rv_linux_exe(l, &look->kernel, look->task.mm), path,
                      sizeof path)) {
        printf(" (");
        retro_print_text(stdout, (const uint8_t *)path, strlen(path));
        printf(")");
    }
    printf(", %s\n", runs ? mode(look) : "does not run now");
}

json_t *retro_json_where(struct rv_timeline *t, const struct rv_look *look) {
    struct rv_moment now = rv_timeline_now(t);
    json_t *o = json_object();
    json_object_set_new(o, "position", json_integer((json_int_t)now.icount));
    json_object_set_new(o, "at_end", json_boolean(rv_timeline_at_end(t)));
    if (!rv_timeline_at_end(t)) json_object_set_new(o, "delivered", json_integer(now.delivered));
    json_object_set_new(o, "time", json_integer((json_int_t)rv_machine_now(look->machine).time));
    json_object_set_new(o, "mode", json_string(mode(look)));
    if (!look->up) return o;
    const struct rv_linux *l = rv_guest_linux(look->guest);
    char path[256];
    json_t *p = json_object();
    json_object_set_new(p, "pid", json_integer(look->task.pid));
    json_object_set_new(p, "tid", json_integer(look->task.tid));
    json_object_set_new(p, "ppid", json_integer(look->task.ppid));
    json_object_set_new(p, "comm", retro_json_utf8z(look->task.comm));
    json_object_set_new(p, "kernel", json_boolean(look->task.kernel));
    json_object_set_new(p, "runs", json_boolean(look->task.task == look->current));
    json_object_set_new(p, "task", retro_json_hex(look->task.task));
    json_object_set_new(p, "root", retro_json_hex(look->task.root));
    if (rv_linux_path(l, &look->kernel, rv_linux_exe(l, &look->kernel, look->task.mm), path,
                      sizeof path))
        json_object_set_new(p, "exe", retro_json_utf8z(path));
    json_object_set_new(o, "process", p);
    json_object_set_new(o, "kernel", json_string(rv_linux_version(l)));
    return o;
}

/* ---- names ---- */

void retro_show_name(const struct rv_look *look, uint64_t va) {
    char name[512];
    rv_look_name(look, va, name, sizeof name);
    if (!*name) return;
    printf(" <");
    retro_print_text(stdout, (const uint8_t *)name, strlen(name));
    putchar('>');
}

/* ---- the call stack ---- */

/* A return address may be the first of another function: what called is the byte before. */
static void name_of(const struct rv_look *look, const struct rv_frame *f, struct rv_place *p) {
    rv_look_place(look, f->exact ? f->pc : f->pc - 1, p);
    if (p->symbol && !f->exact) p->offset++;
}

void retro_show_stack(const struct rv_look *look) {
    struct rv_frame *f = calloc(RETRO_FRAMES, sizeof *f);
    enum rv_unwind_end end;
    size_t n = f ? rv_unwind(look, f, RETRO_FRAMES, &end) : 0;
    for (size_t i = 0; i < n; i++) {
        struct rv_place p;
        name_of(look, &f[i], &p);
        if (i && f[i].user != f[i - 1].user)
            printf("--- user mode\n");
        else if (f[i].how == RV_FRAME_REGS && i)
            printf("--- interrupted\n");
        printf("#%-3zu 0x%016" PRIx64 " ", i, f[i].pc);
        if (p.symbol) {
            retro_print_text(stdout, (const uint8_t *)p.symbol, strlen(p.symbol));
            if (p.offset) printf("+0x%" PRIx64, p.offset);
        } else {
            printf("??");
        }
        if (*p.module && strcmp(p.module, "kernel") != 0) {
            printf(" (");
            retro_print_text(stdout, (const uint8_t *)p.module, strlen(p.module));
            putchar(')');
        }
        if (f[i].how == RV_FRAME_POINTER) printf(" [by frame pointer]");
        putchar('\n');
    }
    if (n && end != RV_UNWIND_BOTTOM) printf("     (%s)\n", rv_unwind_end(end));
    if (!n) printf("     (%s)\n", f ? rv_unwind_end(end) : "no memory");
    free(f);
}

json_t *retro_json_stack(const struct rv_look *look) {
    struct rv_frame *f = calloc(RETRO_FRAMES, sizeof *f);
    enum rv_unwind_end end;
    size_t n = f ? rv_unwind(look, f, RETRO_FRAMES, &end) : 0;
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++) {
        struct rv_place p;
        name_of(look, &f[i], &p);
        json_t *o = json_object();
        json_object_set_new(o, "pc", retro_json_hex(f[i].pc));
        json_object_set_new(o, "sp", retro_json_hex(f[i].sp));
        json_object_set_new(o, "user", json_boolean(f[i].user));
        json_object_set_new(o, "how", json_string(rv_frame_how(f[i].how)));
        if (p.symbol) {
            json_object_set_new(o, "symbol", retro_json_utf8z(p.symbol));
            json_object_set_new(o, "offset", json_integer((json_int_t)p.offset));
        }
        if (*p.module) json_object_set_new(o, "module", retro_json_utf8z(p.module));
        json_array_append_new(a, o);
    }
    free(f);
    return a;
}

/* ---- registers ---- */

static const char *const names[RV_GPRS] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                           "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

static void flags_text(uint64_t flags, char *out, size_t size) {
    static const struct {
        unsigned bit;
        const char *name;
    } bits[] = {{0, "CF"}, {2, "PF"},  {4, "AF"},  {6, "ZF"},  {7, "SF"},  {8, "TF"},
                {9, "IF"}, {10, "DF"}, {11, "OF"}, {14, "NT"}, {16, "RF"}, {18, "AC"}};
    size_t n = 0;
    *out = 0;
    for (unsigned i = 0; i < RV_COUNT(bits); i++)
        if (flags >> bits[i].bit & 1)
            n += (size_t)snprintf(out + n, size - n, "%s%s", n ? " " : "", bits[i].name);
}

void retro_show_registers(const struct rv_look *look) {
    static const uint8_t order[] = {RV_RAX, RV_RBX, RV_RCX, RV_RDX, RV_RSI, RV_RDI, RV_RBP, RV_RSP,
                                    RV_R8,  RV_R9,  RV_R10, RV_R11, RV_R12, RV_R13, RV_R14, RV_R15};
    const struct rv_x86 *x = &look->cpu.cpu;
    char flags[64];
    for (unsigned i = 0; i < RV_GPRS; i++)
        printf("%-3s 0x%016" PRIx64 "%s", names[order[i]], x->gpr[order[i]],
               i % 4 == 3 ? "\n" : "  ");
    flags_text(x->rflags, flags, sizeof flags);
    printf("rip 0x%016" PRIx64, rv_view_pc(&look->cpu));
    retro_show_name(look, rv_view_pc(&look->cpu));
    printf("\nrflags 0x%" PRIx64 " [%s]  cs 0x%x  ss 0x%x  fs_base 0x%" PRIx64
           "  gs_base 0x%" PRIx64 "\ncr0 0x%" PRIx64 "  cr2 0x%" PRIx64 "  cr3 0x%" PRIx64
           "  cr4 0x%" PRIx64 "\n",
           x->rflags, flags, x->seg[RV_CS].sel, x->seg[RV_SS].sel, x->seg[RV_FS].base,
           x->seg[RV_GS].base, x->cr0, x->cr2, x->cr3, x->cr4);
}

json_t *retro_json_registers(const struct rv_look *look) {
    const struct rv_x86 *x = &look->cpu.cpu;
    json_t *o = json_object();
    for (unsigned i = 0; i < RV_GPRS; i++)
        json_object_set_new(o, names[i], retro_json_hex(x->gpr[i]));
    json_object_set_new(o, "rip", retro_json_hex(rv_view_pc(&look->cpu)));
    json_object_set_new(o, "rflags", retro_json_hex(x->rflags));
    json_object_set_new(o, "cs", retro_json_hex(x->seg[RV_CS].sel));
    json_object_set_new(o, "ss", retro_json_hex(x->seg[RV_SS].sel));
    json_object_set_new(o, "fs_base", retro_json_hex(x->seg[RV_FS].base));
    json_object_set_new(o, "gs_base", retro_json_hex(x->seg[RV_GS].base));
    json_object_set_new(o, "cr0", retro_json_hex(x->cr0));
    json_object_set_new(o, "cr2", retro_json_hex(x->cr2));
    json_object_set_new(o, "cr3", retro_json_hex(x->cr3));
    json_object_set_new(o, "cr4", retro_json_hex(x->cr4));
    return o;
}

/* ---- code and stack ---- */

unsigned retro_instruction(const struct rv_look *look, uint64_t va, char *out, size_t size) {
    const struct rv_x86 *x = &look->cpu.cpu;
    uint8_t bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
    bool lm = (x->efer & RV_EFER_LMA) && (x->seg[RV_CS].attr & RV_SEG_L);
    bool wide = x->seg[RV_CS].attr & RV_SEG_DB;
    ZydisDisassembledInstruction z;
    *out = 0;
    size_t got = rv_look_read(look, va, bytes, sizeof bytes, NULL);
    ZydisMachineMode machine = lm     ? ZYDIS_MACHINE_MODE_LONG_64
                               : wide ? ZYDIS_MACHINE_MODE_LEGACY_32
                                      : ZYDIS_MACHINE_MODE_LEGACY_16;
    if (!got || !ZYAN_SUCCESS(ZydisDisassembleIntel(machine, va, bytes, got, &z))) return 0;
    snprintf(out, size, "%s", z.text);
    return z.info.length;
}

void retro_show_code(const struct rv_look *look, uint64_t va, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        char text[128];
        unsigned len = retro_instruction(look, va, text, sizeof text);
        printf("%s 0x%016" PRIx64, i ? "  " : "=>", va);
        retro_show_name(look, va);
        printf("  %s\n", len ? text : "(cannot be read)");
        if (!len) break;
        va += len;
    }
}

json_t *retro_json_code(const struct rv_look *look, uint64_t va, unsigned n) {
    json_t *a = json_array();
    for (unsigned i = 0; i < n; i++) {
        char text[128];
        unsigned len = retro_instruction(look, va, text, sizeof text);
        if (!len) break;
        json_t *o = json_object();
        json_object_set_new(o, "address", retro_json_hex(va));
        json_object_set_new(o, "text", json_string(text));
        json_array_append_new(a, o);
        va += len;
    }
    return a;
}

void retro_show_words(const struct rv_look *look, unsigned n) {
    uint64_t sp = rv_view_sp(&look->cpu), v;
    enum rv_absent why;
    for (unsigned i = 0; i < n; i++) {
        printf("   0x%016" PRIx64 "  ", sp + 8 * i);
        if (rv_look_read(look, sp + 8 * i, &v, 8, &why) != 8) {
            printf("(%s)\n", rv_absent_text(why));
            break;
        }
        printf("0x%016" PRIx64, v);
        retro_show_name(look, v);
        putchar('\n');
    }
}

json_t *retro_json_words(const struct rv_look *look, unsigned n) {
    uint64_t sp = rv_view_sp(&look->cpu), v;
    json_t *a = json_array();
    for (unsigned i = 0; i < n && rv_look_read(look, sp + 8 * i, &v, 8, NULL) == 8; i++)
        json_array_append_new(a, retro_json_hex(v));
    return a;
}

/* ---- mappings ---- */

static void describe(const struct rv_look *look, const struct rv_linux_vma *v, char prot[5],
                     char *path, size_t size) {
    snprintf(prot, 5, "%c%c%c%c", v->prot & 1 ? 'r' : '-', v->prot & 2 ? 'w' : '-',
             v->prot & 4 ? 'x' : '-', v->shared ? 's' : 'p');
    *path = 0;
    if (v->file) rv_linux_path(rv_guest_linux(look->guest), &look->kernel, v->file, path, size);
}

void retro_show_maps(const struct rv_look *look) {
    char prot[5], path[1024];
    for (size_t i = 0; i < look->vmas; i++) {
        const struct rv_linux_vma *v = &look->vma[i];
        describe(look, v, prot, path, sizeof path);
        printf("   0x%012" PRIx64 "-0x%012" PRIx64 " %s %8" PRIx64 " ", v->start, v->end, prot,
               v->offset);
        retro_print_text(stdout, (const uint8_t *)path, strlen(path));
        putchar('\n');
    }
    if (!look->vmas) puts("   none of its own");
}

json_t *retro_json_maps(const struct rv_look *look) {
    char prot[5], path[1024];
    json_t *a = json_array();
    for (size_t i = 0; i < look->vmas; i++) {
        const struct rv_linux_vma *v = &look->vma[i];
        describe(look, v, prot, path, sizeof path);
        json_t *o = json_object();
        json_object_set_new(o, "start", retro_json_hex(v->start));
        json_object_set_new(o, "end", retro_json_hex(v->end));
        json_object_set_new(o, "prot", json_string(prot));
        json_object_set_new(o, "offset", json_integer((json_int_t)v->offset));
        if (*path) json_object_set_new(o, "path", retro_json_utf8z(path));
        json_array_append_new(a, o);
    }
    return a;
}
