/* The Linux kernel in a guest: found in its memory, with its symbols and types, wherever it was
 * loaded; and what its structures say at a moment.
 *
 * Everything here is read from the guest and bounded: a guest that has damaged its own structures
 * gets short or empty answers. x86-64 kernels with 4-level paging; kallsyms as in kallsyms.h, and
 * BTF. */
#ifndef RV_ANALYSIS_LINUX_H
#define RV_ANALYSIS_LINUX_H

#include "replay/timeline.h"
#include "tools/analysis/btf.h"
#include "tools/analysis/orc.h"
#include "tools/analysis/symbols.h"
#include "tools/analysis/view.h"

struct rv_linux; /* opaque; does not change once found, and may be used by many threads */

/* Looks for a kernel in the machine as it stands now. RV_E_FORMAT, with the reason, when there is
 * none. */
int rv_linux_find(struct rv_linux **out, struct rv_machine *m, struct rv_err *err);
/* Looks at several moments of a recording, the last first; leaves the timeline anywhere. A kernel
 * stays where it is once it runs: what is found holds for all moments at which rv_linux_view() says
 * that it is up. */
int rv_linux_find_in(struct rv_linux **out, struct rv_timeline *t, struct rv_err *err);
void rv_linux_free(struct rv_linux *l);

const char *
rv_linux_version(const struct rv_linux *l);         /* "Linux version 6.1..." up to the builder */
const char *rv_linux_how(const struct rv_linux *l); /* how it was recognised, a sentence */
const struct rv_symbols *rv_linux_symbols(const struct rv_linux *l);
const struct rv_btf *rv_linux_btf(const struct rv_linux *l);
const struct rv_orc *rv_linux_orc(const struct rv_linux *l); /* NULL: it has none */
/* Address of a kernel symbol; 0: there is none. */
uint64_t rv_linux_symbol(const struct rv_linux *l, const char *name);

/* The machine as the kernel sees it now, through the kernel's own page tables whatever the CPU
 * uses. False before the kernel is up. */
bool rv_linux_view(const struct rv_linux *l, struct rv_machine *m, struct rv_view *kernel);

/* ---- tasks; k is a view by rv_linux_view() ---- */

struct rv_linux_task {
    uint64_t task; /* address of the task_struct */
    uint32_t tid, pid, ppid;
    uint32_t parent_tid; /* of its real parent */
    bool kernel;         /* a kernel thread */
    uint64_t mm;         /* 0: none */
    uint64_t root;       /* physical address of its page table root; 0: none */
    char comm[16];
};

/* Address of the task_struct of what the CPU runs; 0: cannot be read. */
uint64_t rv_linux_current(const struct rv_linux *l, const struct rv_view *k);
bool rv_linux_task(const struct rv_linux *l, const struct rv_view *k, uint64_t task,
                   struct rv_linux_task *out);
/* Every thread, the idle task first: *out is the caller's to free(). How many. */
size_t rv_linux_tasks(const struct rv_linux *l, const struct rv_view *k,
                      struct rv_linux_task **out);
/* The task with that number (a process's first thread for its number); false when there is none. */
bool rv_linux_task_by_tid(const struct rv_linux *l, const struct rv_view *k, uint32_t tid,
                          struct rv_linux_task *out);
/* Stack pointer that a task which does not run was left with, and the ends of its kernel stack. */
uint64_t rv_linux_saved_sp(const struct rv_linux *l, const struct rv_view *k, uint64_t task);
bool rv_linux_stack(const struct rv_linux *l, const struct rv_view *k, uint64_t task, uint64_t *low,
                    uint64_t *high);
/* Code as wait(2) reports it, of a task that has exited. */
int rv_linux_exit_code(const struct rv_linux *l, const struct rv_view *k, uint64_t task);

/* The same machine with a process's page tables; false for one that has none. */
bool rv_linux_user_view(const struct rv_linux *l, const struct rv_view *k, uint64_t mm,
                        struct rv_view *user);

/* ---- mappings and files ---- */

struct rv_linux_vma {
    uint64_t start, end, offset; /* of start in the file, bytes */
    uint32_t prot;               /* 1 read, 2 write, 4 execute */
    bool shared;
    uint64_t file; /* address of the struct file; 0: anonymous */
};

/* A process's mappings by address: *out is the caller's to free(). How many. */
size_t rv_linux_vmas(const struct rv_linux *l, const struct rv_view *k, uint64_t mm,
                     struct rv_linux_vma **out);
bool rv_linux_vma(const struct rv_linux *l, const struct rv_view *k, uint64_t vma,
                  struct rv_linux_vma *out);
/* Path of an open file from the root of its mount namespace, or "pipe:[7]" and the like for what
 * has none. The length; 0: cannot be read. */
size_t rv_linux_path(const struct rv_linux *l, const struct rv_view *k, uint64_t file, char *out,
                     size_t size);
/* The struct file behind a process's file descriptor; 0: none. */
uint64_t rv_linux_fd(const struct rv_linux *l, const struct rv_view *k, uint64_t task, int fd);
/* The program that a mm executes, as a struct file; 0: none. */
uint64_t rv_linux_exe(const struct rv_linux *l, const struct rv_view *k, uint64_t mm);
/* A number that stands for a file's content as long as the guest keeps it in memory: its
 * address_space. And its size in bytes. */
uint64_t rv_linux_file_id(const struct rv_linux *l, const struct rv_view *k, uint64_t file);
uint64_t rv_linux_file_size(const struct rv_linux *l, const struct rv_view *k, uint64_t file);
/* Reads what the page cache holds of a file, up to the first page it does not. */
size_t rv_linux_file_read(const struct rv_linux *l, const struct rv_view *k, uint64_t file,
                          uint64_t offset, void *out, size_t len);

/* Why memory of a process could not be read. */
enum rv_absent { RV_PRESENT, RV_UNMAPPED, RV_SWAPPED, RV_NOT_CACHED, RV_NO_ACCESS };
const char *rv_absent_text(enum rv_absent why); /* "is not mapped", ... */

/* Reads memory of a process as the process would: a page that it has not touched yet comes from the
 * page cache, or is zero. Stops at the first byte that cannot be had, and says why in *why (may be
 * NULL). user is by rv_linux_user_view(); vma, n by rv_linux_vmas(). */
size_t rv_linux_user_read(const struct rv_linux *l, const struct rv_view *k,
                          const struct rv_view *user, const struct rv_linux_vma *vma, size_t n,
                          uint64_t va, void *out, size_t len, enum rv_absent *why);

/* The strings from `start` to `end` in a process (argv, environment), with spaces between; those
 * that hold spaces or more in double quotes. The length. */
size_t rv_linux_strings(const struct rv_view *user, uint64_t start, uint64_t end, char *out,
                        size_t size);
/* Where the arguments of a mm's program lie. */
bool rv_linux_args(const struct rv_linux *l, const struct rv_view *k, uint64_t mm, uint64_t *start,
                   uint64_t *end);

#endif
