/* Plugins for `retro analyze`: programs of your own that are shown what happened in a recording.
 *
 *     #include <retrovisor/plugin.h>
 *     cc -shared -fPIC $(pkg-config --cflags retrovisor) -o mine.so mine.c
 *     retro analyze --plugin ./mine.so,key=value FILE
 *
 * A plugin is a shared library with one function, retrovisor_plugin(), that gives a description of
 * itself: which interface it was built for, and functions that are called.
 *
 * The recording is replayed in pieces, on several threads at a time:
 *
 *     start()                                         once; says what is to be shown
 *     piece_begin()  event() event() ...  piece_end() for each piece, on one of several threads
 *     merge()                                         piece after piece, in order, on one thread
 *     finish()                                        once; the place to print
 *
 * What piece_begin() returns belongs to its piece alone, so that nothing has to be locked. A plugin
 * that wants everything in the order in which it happened sets RETROVISOR_IN_ORDER: then all is
 * called in order, and no two calls at a time.
 *
 * The interface has a version. A later Retrovisor still takes plugins of this one: structures only
 * grow at their ends, and tell their size. */
#ifndef RETROVISOR_PLUGIN_H
#define RETROVISOR_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RETROVISOR_PLUGIN_VERSION 1

/* What can be shown. */
enum retrovisor_kind {
    /* An instruction is about to run. It may still fault. Range: its linear address. */
    RETROVISOR_INSTRUCTION = 1,
    /* Straight-line code that ran, as a sum: told at the end of a piece, with how often it ran in
     * it. Each instruction is in it as often as it retired, so `instructions * times` add up to the
     * length of the recording. Range: linear address of its first instruction. */
    RETROVISOR_BLOCK = 2,
    /* An instruction, or the delivery of an exception, read or wrote memory. Told after it. Range:
     * the linear address, or the physical one with `physical`. */
    RETROVISOR_MEMORY = 3,
    /* An exception or interrupt was delivered; its handler's first instruction is next. Range:
     * vector. */
    RETROVISOR_INTERRUPT = 4,
    /* SYSCALL was executed; the kernel's first instruction is next. Range: number (RAX). */
    RETROVISOR_SYSCALL = 5,
    /* A system call is about to return. Needs a Linux that is recognised. Range: number. */
    RETROVISOR_SYSCALL_RETURN = 6,
};

enum retrovisor_access { RETROVISOR_READ = 1, RETROVISOR_WRITE = 2 };
enum retrovisor_privilege { RETROVISOR_USER = 1, RETROVISOR_KERNEL = 2 };
enum retrovisor_delivery { RETROVISOR_EXCEPTION, RETROVISOR_DEVICE, RETROVISOR_SOFTWARE };

/* What to show: events of a kind that match in everything. Looked at before a plugin is called, and
 * for ranges before the event is even noticed: what no filter is for costs next to nothing. */
struct retrovisor_filter {
    uint32_t size;        /* sizeof(struct retrovisor_filter) */
    uint32_t kind;        /* enum retrovisor_kind */
    uint64_t first, last; /* range, both ends included; 0 and UINT64_MAX: everything */
    uint32_t access;      /* MEMORY: enum retrovisor_access, one or both */
    uint32_t privilege;   /* enum retrovisor_privilege, one or both; 0: both. Of INTERRUPT: what was
                             interrupted */
    uint32_t process;     /* of a Linux guest: its number; 0: any */
    uint32_t physical;    /* MEMORY: the range is of physical addresses */
};

struct retrovisor_event {
    uint32_t size; /* sizeof(struct retrovisor_event) of the host */
    uint32_t kind;
    uint64_t position;     /* instructions retired before it; BLOCK: 0 */
    uint64_t time;         /* guest nanoseconds; BLOCK: 0 */
    uint64_t pc;           /* linear address: of the instruction, or of what was interrupted */
    uint64_t address;      /* MEMORY: linear, UINT64_MAX where there is none; BLOCK: of the first
                              instruction; INTERRUPT: of a page fault, else 0 */
    uint64_t physical;     /* MEMORY, BLOCK, INSTRUCTION */
    uint32_t bytes;        /* MEMORY: within one page; BLOCK */
    uint32_t access;       /* MEMORY: enum retrovisor_access, one */
    uint32_t privilege;    /* enum retrovisor_privilege */
    uint32_t instructions; /* BLOCK */
    uint64_t times;        /* BLOCK: it ran */
    uint64_t root;         /* BLOCK: CR3 while it ran */
    uint32_t vector;       /* INTERRUPT */
    uint32_t delivery;     /* INTERRUPT: enum retrovisor_delivery */
    uint32_t has_error, error; /* INTERRUPT: error code */
    uint64_t number;           /* SYSCALL, SYSCALL_RETURN */
    uint64_t argument[6];      /* SYSCALL */
    int64_t result;            /* SYSCALL_RETURN: -4095 to -1 are errors */
};

enum retrovisor_register {
    RETROVISOR_RAX,
    RETROVISOR_RCX,
    RETROVISOR_RDX,
    RETROVISOR_RBX,
    RETROVISOR_RSP,
    RETROVISOR_RBP,
    RETROVISOR_RSI,
    RETROVISOR_RDI,
    RETROVISOR_R8,
    RETROVISOR_R9,
    RETROVISOR_R10,
    RETROVISOR_R11,
    RETROVISOR_R12,
    RETROVISOR_R13,
    RETROVISOR_R14,
    RETROVISOR_R15,
    RETROVISOR_RIP,
    RETROVISOR_RFLAGS,
    RETROVISOR_CR0,
    RETROVISOR_CR2,
    RETROVISOR_CR3,
    RETROVISOR_CR4,
    RETROVISOR_FS_BASE,
    RETROVISOR_GS_BASE,
};

struct retrovisor_host;  /* what start() is given */
struct retrovisor_guest; /* the guest as it stands; valid during the call that it was given to */

/* What a plugin may call. The same for all its calls, and usable from all threads. */
struct retrovisor_api {
    uint32_t size;
    /* In start(): asks for events. 0, or -1 when the filter makes no sense (fail() was called). */
    int (*show)(struct retrovisor_host *h, const struct retrovisor_filter *f);
    /* In start(): says what is wrong, for the user to read. The plugin then returns -1. */
    void (*fail)(struct retrovisor_host *h, const char *message);

    uint64_t (*reg)(struct retrovisor_guest *g, enum retrovisor_register r);
    /* Reads memory by linear or physical address; how many bytes could be read. */
    size_t (*read)(struct retrovisor_guest *g, uint64_t address, void *out, size_t n);
    size_t (*read_physical)(struct retrovisor_guest *g, uint64_t address, void *out, size_t n);
    /* Number of the process that runs, and its name in name[16]; 0: not known. */
    uint32_t (*process)(struct retrovisor_guest *g, char *name);
    /* The kernel's name for an address and the offset in it; NULL: none. */
    const char *(*symbol)(struct retrovisor_guest *g, uint64_t address, uint64_t *offset);
    /* The address of a kernel symbol; 0: none. In start(), too. */
    uint64_t (*find)(struct retrovisor_host *h, const char *name);
};

/* An argument from the command line. */
struct retrovisor_argument {
    const char *key, *value; /* value: "" when there was no '=' */
};

enum retrovisor_flags { RETROVISOR_IN_ORDER = 1 };

/* All functions but event may be NULL. Those that return int give 0, or -1 to end everything. */
struct retrovisor_plugin {
    uint32_t size;    /* sizeof(struct retrovisor_plugin) */
    uint32_t version; /* RETROVISOR_PLUGIN_VERSION */
    const char *name, *description;
    uint32_t flags; /* enum retrovisor_flags */
    /* *self is what the other functions are given. argument is kept as long as the plugin is. */
    int (*start)(const struct retrovisor_api *api, struct retrovisor_host *h,
                 const struct retrovisor_argument *argument, size_t arguments, void **self);
    /* The guest stands at `from`. What is returned is the piece's own. */
    void *(*piece_begin)(void *self, struct retrovisor_guest *g, uint64_t from);
    void (*event)(void *self, void *piece, struct retrovisor_guest *g,
                  const struct retrovisor_event *e);
    void (*piece_end)(void *self, void *piece, struct retrovisor_guest *g, uint64_t to);
    /* Takes over a piece; frees it. */
    int (*merge)(void *self, void *piece);
    /* A piece that will not be merged, because the work was interrupted: frees it. */
    void (*drop)(void *self, void *piece);
    /* whole: nothing was left out. Prints, and frees self. */
    int (*finish)(void *self, int whole);
};

/* The one symbol of a plugin. host_version is that of the Retrovisor that asks. */
const struct retrovisor_plugin *retrovisor_plugin(uint32_t host_version);

#ifdef __cplusplus
}
#endif

#endif
