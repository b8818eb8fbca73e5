/* All that a guest did in a recording, gathered in one pass: its processes, what ran when, system
 * calls, interrupts and exceptions, what it mapped, what it printed.
 *
 * Arrays are in order of position. Indices refer to other arrays of the same run; RV_NONE means
 * none. Strings belong to the run and are the guest's: they may hold any bytes but NUL. A guest
 * that is not a Linux that we know has no tasks and what follows from them; `system` says so, and
 * why. */
#ifndef RV_ANALYSIS_RUN_H
#define RV_ANALYSIS_RUN_H

#include "replay/timeline.h"

#define RV_NONE UINT32_MAX

/* A thread; a process is the thread whose tid is its pid. Kernel threads have `kernel` set. Numbers
 * are those of the initial PID namespace. */
struct rv_run_task {
    uint32_t tid, pid; /* of the thread; of its process (the kernel's tgid) */
    uint32_t parent;   /* index of the task that made it, or RV_NONE */
    uint32_t process;  /* index of its process's first thread; of itself when that is this */
    bool kernel;
    const char *comm; /* the last it had */
    const char *exe;  /* path of the last program executed, or NULL */
    uint64_t task;    /* address of its task_struct; used again by others after it ends */
    uint64_t root;    /* physical address of its last page table root; 0: kernel thread */
    rv_icount start,
        end; /* made; left the CPU for good, or RV_NEVER: lived to the recording's end */
    rv_ns start_time, end_time;
    bool exited;
    rv_icount exit_at; /* where it began to exit, its memory still there; when exited */
    int exit_code;     /* as wait(2) reports it; when exited */
    uint64_t
        instructions; /* retired while it was the current task, in user mode and in the kernel */
    rv_ns cpu_time;   /* guest time that it was current */
    uint64_t syscalls, faults, switches; /* how many; switches: times it was switched to */
};

/* At `at` the CPU began to run `task`. The first is at the position where the first task was seen.
 */
struct rv_run_switch {
    rv_icount at;
    rv_ns time;
    uint32_t task;
};

enum rv_abi { RV_ABI_64, RV_ABI_32 }; /* which numbers and registers a system call uses */

struct rv_run_syscall {
    rv_icount enter, exit; /* exit RV_NEVER: it never returned */
    rv_ns enter_time, exit_time;
    uint32_t task;
    uint16_t number, abi;
    uint64_t arg[6];
    int64_t result;   /* as the kernel gives it: -4095..-1 is an errno. Valid when it returned. */
    const char *name; /* "openat"; "syscall_999" when nobody knows it */
    const char *args; /* decoded arguments without the parentheses, e.g. AT_FDCWD, "/etc/passwd" */
    uint64_t rip;     /* of the instruction after the call, in user space */
};

enum rv_trap_kind {
    RV_TRAP_EXCEPTION, /* vectors 0 to 31 but for NMI */
    RV_TRAP_INTERRUPT, /* from a device or a timer */
    RV_TRAP_NMI,
    RV_TRAP_SOFT, /* INT n, INT3, INTO */
};

/* The CPU delivered an exception or interrupt. */
struct rv_run_trap {
    struct rv_moment at; /* just after the delivery */
    rv_ns time;
    rv_icount end; /* where its handler was done; RV_NEVER: not seen */
    rv_ns end_time;
    uint8_t vector, kind; /* enum rv_trap_kind */
    bool user;            /* it interrupted user mode */
    uint32_t error;       /* error code, or 0 */
    uint64_t rip;         /* of the instruction interrupted */
    uint64_t address;     /* page faults: the address; else 0 */
    uint32_t task;        /* that was interrupted, or RV_NONE */
};

struct rv_run_exec {
    rv_icount at;
    rv_ns time;
    uint32_t task;
    const char *path,
        *args; /* as it was asked for; arguments, spaces between, quoted where needed */
};

/* A mapping of a file into a process, made at `at`. */
struct rv_run_map {
    rv_icount at;
    uint32_t task;
    uint64_t start, end, offset; /* addresses; of start in the file, bytes */
    uint32_t prot;               /* 1 read, 2 write, 4 execute */
    bool shared;
    const char *path;
};

/* Bytes that left the machine by its console, in one piece of the trace. */
struct rv_run_console {
    rv_icount at;
    rv_ns time;
    const uint8_t *data;
    uint32_t len;
    uint32_t task; /* current task then, or RV_NONE */
};

/* A mark that the guest or the recording's maker put into the trace. */
struct rv_run_mark {
    rv_icount at;
    rv_ns time;
    const char *name;
};

/* An event of the trace, without its data (`retro events` has all). */
struct rv_run_event {
    rv_icount at;
    rv_ns time;
    uint32_t kind, source; /* as in struct rv_trace_event */
    uint32_t len;          /* of its data */
    uint64_t value;
};

struct rv_guest_run {
    rv_icount end; /* the recording's, or where gathering was interrupted */
    rv_ns end_time;
    bool interrupted; /* only what came before `end` is here */
    enum rv_stop reason;
    const char *system;      /* "Linux version 6.1.0-..."; NULL: the guest was not recognised */
    const char *system_note; /* how it was recognised, or why not */
    uint64_t idle;           /* instructions retired by the idle task */
    struct rv_run_task *task;
    struct rv_run_switch *sw;
    struct rv_run_syscall *syscall;
    struct rv_run_trap *trap;
    struct rv_run_exec *exec;
    struct rv_run_map *map;
    struct rv_run_console *console;
    struct rv_run_mark *mark;
    struct rv_run_event *event;
    size_t tasks, switches, syscalls, traps, execs, maps, consoles, marks, events;
    struct rv_arena *arena; /* strings and data live here */
};

enum rv_run_what {
    RV_RUN_TASKS = 1,    /* tasks, switches, execs, exits */
    RV_RUN_SYSCALLS = 2, /* implies TASKS */
    RV_RUN_TRAPS = 4,
    RV_RUN_MAPS = 8,   /* implies TASKS */
    RV_RUN_TRACE = 16, /* console, marks, events: from the trace alone */
    RV_RUN_ALL = 31,
};

struct rv_run_config {
    struct rv_timeline *timeline; /* where it stands afterwards is anywhere */
    unsigned what;                /* enum rv_run_what */
    /* Told now and then; may be NULL. Interruption is by the timeline's own callback. */
    void (*progress)(void *ctx, rv_icount done, rv_icount total);
    void *ctx;
};

/* Gathers. Interrupted, it returns 0 with what came before and `interrupted` set. A guest that is
 * no Linux is no error. */
int rv_run_gather(struct rv_guest_run **out, const struct rv_run_config *config,
                  struct rv_err *err);
void rv_run_free(struct rv_guest_run *r);

/* The task that was current at a position (RV_NONE: none known), by its switches. */
uint32_t rv_run_task_at(const struct rv_guest_run *r, rv_icount at);

#endif
