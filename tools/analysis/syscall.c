/* Arguments are described by a letter each:
 *
 *   d int   u unsigned   x hexadecimal   l size   m mode   p address
 *   f descriptor   D descriptor of a folder   s string   a list of strings   e environment
 *   b bytes, as many as the next argument says   I list of pieces of bytes
 *   o open()   P mmap() protection   M mmap() flags   c clone()   A *at()   q access()   w lseek()
 *   F fcntl()   i ioctl()   S signal   h how to change a mask   g signal mask   k clock   O wait()
 *   v madvise()   n socket()   H arch_prctl()   j resource   Q futex()   t time   y limits
 * filled by the call:
 *   B bytes, as many as it returned   L the same, a path   C path   z struct stat   T time   V
 *   timeval   W wait status   r two descriptors   R the same   G signal mask   U struct utsname
 *   Y limits */
#include "tools/analysis/syscall.h"

#include <string.h>

#include "vmm/base/types.h"
#include "tools/analysis/syscall_names.h"

#define SHOWN 48 /* bytes of a buffer */
#define LIST  32 /* strings of a list */

const char *rv_syscall_name(unsigned number) {
    return number < RV_COUNT(calls) ? calls[number].name : NULL;
}

int rv_syscall_number(const char *name) {
    for (unsigned i = 0; i < RV_COUNT(calls); i++)
        if (calls[i].name && strcmp(calls[i].name, name) == 0) return (int)i;
    return -1;
}

const char *rv_errno_name(int64_t number) {
    return number > 0 && number < (int64_t)RV_COUNT(errors) ? errors[number] : NULL;
}

const char *rv_signal_name(unsigned number) {
    return number < RV_COUNT(signals) ? signals[number] : NULL;
}

bool rv_syscall_returns_address(unsigned number) {
    const char *n = rv_syscall_name(number);
    return n && (strcmp(n, "mmap") == 0 || strcmp(n, "brk") == 0 || strcmp(n, "mremap") == 0 ||
                 strcmp(n, "shmat") == 0);
}

/* ---- values that have names ---- */

struct word {
    uint64_t value;
    const char *name;
};

static const struct word open_flags[] = {{01, "O_WRONLY"},         {02, "O_RDWR"},
                                         {0100, "O_CREAT"},        {0200, "O_EXCL"},
                                         {0400, "O_NOCTTY"},       {01000, "O_TRUNC"},
                                         {02000, "O_APPEND"},      {04000, "O_NONBLOCK"},
                                         {04010000, "O_SYNC"},     {010000, "O_DSYNC"},
                                         {020000, "O_ASYNC"},      {040000, "O_DIRECT"},
                                         {0100000, "O_LARGEFILE"}, {020200000, "O_TMPFILE"},
                                         {0200000, "O_DIRECTORY"}, {0400000, "O_NOFOLLOW"},
                                         {01000000, "O_NOATIME"},  {02000000, "O_CLOEXEC"},
                                         {010000000, "O_PATH"},    {0, NULL}};
static const struct word prot_flags[] = {
    {1, "PROT_READ"}, {2, "PROT_WRITE"}, {4, "PROT_EXEC"}, {0, NULL}};
static const struct word map_flags[] = {{3, "MAP_SHARED_VALIDATE"},
                                        {1, "MAP_SHARED"},
                                        {2, "MAP_PRIVATE"},
                                        {0x10, "MAP_FIXED"},
                                        {0x20, "MAP_ANONYMOUS"},
                                        {0x40, "MAP_32BIT"},
                                        {0x100, "MAP_GROWSDOWN"},
                                        {0x800, "MAP_DENYWRITE"},
                                        {0x2000, "MAP_LOCKED"},
                                        {0x4000, "MAP_NORESERVE"},
                                        {0x8000, "MAP_POPULATE"},
                                        {0x10000, "MAP_NONBLOCK"},
                                        {0x20000, "MAP_STACK"},
                                        {0x40000, "MAP_HUGETLB"},
                                        {0x100000, "MAP_FIXED_NOREPLACE"},
                                        {0, NULL}};
static const struct word clone_flags[] = {{0x100, "CLONE_VM"},
                                          {0x200, "CLONE_FS"},
                                          {0x400, "CLONE_FILES"},
                                          {0x800, "CLONE_SIGHAND"},
                                          {0x1000, "CLONE_PIDFD"},
                                          {0x2000, "CLONE_PTRACE"},
                                          {0x4000, "CLONE_VFORK"},
                                          {0x8000, "CLONE_PARENT"},
                                          {0x10000, "CLONE_THREAD"},
                                          {0x20000, "CLONE_NEWNS"},
                                          {0x40000, "CLONE_SYSVSEM"},
                                          {0x80000, "CLONE_SETTLS"},
                                          {0x100000, "CLONE_PARENT_SETTID"},
                                          {0x200000, "CLONE_CHILD_CLEARTID"},
                                          {0x800000, "CLONE_UNTRACED"},
                                          {0x1000000, "CLONE_CHILD_SETTID"},
                                          {0x2000000, "CLONE_NEWCGROUP"},
                                          {0x4000000, "CLONE_NEWUTS"},
                                          {0x8000000, "CLONE_NEWIPC"},
                                          {0x10000000, "CLONE_NEWUSER"},
                                          {0x20000000, "CLONE_NEWPID"},
                                          {0x40000000, "CLONE_NEWNET"},
                                          {0x80000000, "CLONE_IO"},
                                          {0, NULL}};
static const struct word at_flags[] = {{0x100, "AT_SYMLINK_NOFOLLOW"}, {0x200, "AT_REMOVEDIR"},
                                       {0x400, "AT_SYMLINK_FOLLOW"},   {0x800, "AT_NO_AUTOMOUNT"},
                                       {0x1000, "AT_EMPTY_PATH"},      {0, NULL}};
static const struct word access_modes[] = {{4, "R_OK"}, {2, "W_OK"}, {1, "X_OK"}, {0, NULL}};
static const struct word wait_flags[] = {{1, "WNOHANG"},    {2, "WSTOPPED"},         {4, "WEXITED"},
                                         {8, "WCONTINUED"}, {0x01000000, "WNOWAIT"}, {0, NULL}};
static const struct word whence[] = {{0, "SEEK_SET"},  {1, "SEEK_CUR"},  {2, "SEEK_END"},
                                     {3, "SEEK_DATA"}, {4, "SEEK_HOLE"}, {0, NULL}};
static const struct word fcntls[] = {{0, "F_DUPFD"},
                                     {1, "F_GETFD"},
                                     {2, "F_SETFD"},
                                     {3, "F_GETFL"},
                                     {4, "F_SETFL"},
                                     {5, "F_GETLK"},
                                     {6, "F_SETLK"},
                                     {7, "F_SETLKW"},
                                     {8, "F_SETOWN"},
                                     {9, "F_GETOWN"},
                                     {1030, "F_DUPFD_CLOEXEC"},
                                     {1031, "F_SETPIPE_SZ"},
                                     {1032, "F_GETPIPE_SZ"},
                                     {0, NULL}};
static const struct word ioctls[] = {{0x5401, "TCGETS"},
                                     {0x5402, "TCSETS"},
                                     {0x5403, "TCSETSW"},
                                     {0x5404, "TCSETSF"},
                                     {0x540b, "TCFLSH"},
                                     {0x540e, "TIOCSCTTY"},
                                     {0x540f, "TIOCGPGRP"},
                                     {0x5410, "TIOCSPGRP"},
                                     {0x5413, "TIOCGWINSZ"},
                                     {0x5414, "TIOCSWINSZ"},
                                     {0x541b, "FIONREAD"},
                                     {0x5421, "FIONBIO"},
                                     {0x5422, "TIOCNOTTY"},
                                     {0x5429, "TIOCGSID"},
                                     {0x5451, "FIOCLEX"},
                                     {0x5450, "FIONCLEX"},
                                     {0, NULL}};
static const struct word hows[] = {
    {0, "SIG_BLOCK"}, {1, "SIG_UNBLOCK"}, {2, "SIG_SETMASK"}, {0, NULL}};
static const struct word clocks[] = {
    {0, "CLOCK_REALTIME"},          {1, "CLOCK_MONOTONIC"},     {2, "CLOCK_PROCESS_CPUTIME_ID"},
    {3, "CLOCK_THREAD_CPUTIME_ID"}, {4, "CLOCK_MONOTONIC_RAW"}, {5, "CLOCK_REALTIME_COARSE"},
    {6, "CLOCK_MONOTONIC_COARSE"},  {7, "CLOCK_BOOTTIME"},      {0, NULL}};
static const struct word advice[] = {
    {0, "MADV_NORMAL"},    {1, "MADV_RANDOM"},      {2, "MADV_SEQUENTIAL"},
    {3, "MADV_WILLNEED"},  {4, "MADV_DONTNEED"},    {8, "MADV_FREE"},
    {14, "MADV_HUGEPAGE"}, {15, "MADV_NOHUGEPAGE"}, {0, NULL}};
static const struct word domains[] = {{0, "AF_UNSPEC"}, {1, "AF_UNIX"},     {2, "AF_INET"},
                                      {10, "AF_INET6"}, {16, "AF_NETLINK"}, {17, "AF_PACKET"},
                                      {0, NULL}};
static const struct word arch_codes[] = {{0x1001, "ARCH_SET_GS"},     {0x1002, "ARCH_SET_FS"},
                                         {0x1003, "ARCH_GET_FS"},     {0x1004, "ARCH_GET_GS"},
                                         {0x3001, "ARCH_CET_STATUS"}, {0, NULL}};
static const struct word resources[] = {{0, "RLIMIT_CPU"},
                                        {1, "RLIMIT_FSIZE"},
                                        {2, "RLIMIT_DATA"},
                                        {3, "RLIMIT_STACK"},
                                        {4, "RLIMIT_CORE"},
                                        {5, "RLIMIT_RSS"},
                                        {6, "RLIMIT_NPROC"},
                                        {7, "RLIMIT_NOFILE"},
                                        {8, "RLIMIT_MEMLOCK"},
                                        {9, "RLIMIT_AS"},
                                        {0, NULL}};
static const struct word futexes[] = {{0, "FUTEX_WAIT"},
                                      {1, "FUTEX_WAKE"},
                                      {3, "FUTEX_REQUEUE"},
                                      {4, "FUTEX_CMP_REQUEUE"},
                                      {5, "FUTEX_WAKE_OP"},
                                      {6, "FUTEX_LOCK_PI"},
                                      {7, "FUTEX_UNLOCK_PI"},
                                      {9, "FUTEX_WAIT_BITSET"},
                                      {10, "FUTEX_WAKE_BITSET"},
                                      {128, "FUTEX_WAIT_PRIVATE"},
                                      {129, "FUTEX_WAKE_PRIVATE"},
                                      {137, "FUTEX_WAIT_BITSET_PRIVATE"},
                                      {0, NULL}};

static const char *word(const struct word *w, uint64_t value) {
    for (; w->name; w++)
        if (w->value == value) return w->name;
    return NULL;
}

static void put_word(struct rv_buf *out, const struct word *w, uint64_t value) {
    const char *name = word(w, value);
    if (name)
        rv_buf_printf(out, "%s", name);
    else
        rv_buf_printf(out, "%#llx", (unsigned long long)value);
}

/* Bits by name, what is left in hexadecimal; zero stands for `none`. */
static void put_bits(struct rv_buf *out, const struct word *w, uint64_t value, const char *none) {
    bool any = false;
    if (!value) {
        rv_buf_printf(out, "%s", none);
        return;
    }
    for (; w->name; w++) {
        if ((value & w->value) != w->value) continue;
        rv_buf_printf(out, "%s%s", any ? "|" : "", w->name);
        value &= ~w->value;
        any = true;
    }
    if (value) rv_buf_printf(out, "%s%#llx", any ? "|" : "", (unsigned long long)value);
}

/* ---- strings and structures ---- */

void rv_put_quoted(struct rv_buf *out, const uint8_t *data, size_t len) {
    rv_buf_put_u8(out, '"');
    for (size_t i = 0; i < len; i++) {
        uint8_t c = data[i], next = i + 1 < len ? data[i + 1] : 0;
        switch (c) {
        case '\n': rv_buf_put(out, "\\n", 2); break;
        case '\t': rv_buf_put(out, "\\t", 2); break;
        case '\r': rv_buf_put(out, "\\r", 2); break;
        case '\v': rv_buf_put(out, "\\v", 2); break;
        case '\f': rv_buf_put(out, "\\f", 2); break;
        case '"':
        case '\\':
            rv_buf_put_u8(out, '\\');
            rv_buf_put_u8(out, c);
            break;
        default:
            if (c >= ' ' && c < 127)
                rv_buf_put_u8(out, c);
            else /* as strace: no more digits than are needed */
                rv_buf_printf(out, next >= '0' && next <= '9' ? "\\%03o" : "\\%o", c);
        }
    }
    rv_buf_put_u8(out, '"');
}

static size_t rd(const struct rv_syscall_memory *m, uint64_t va, void *out, size_t len) {
    return m->read(m->ctx, va, out, len);
}

static void put_address(struct rv_buf *out, uint64_t va) {
    if (va)
        rv_buf_printf(out, "%#llx", (unsigned long long)va);
    else
        rv_buf_printf(out, "NULL");
}

static void put_bytes(struct rv_buf *out, uint64_t va, uint64_t len,
                      const struct rv_syscall_memory *m) {
    uint8_t text[SHOWN] = {0};
    size_t n = len < SHOWN ? (size_t)len : SHOWN, got = n ? rd(m, va, text, n) : 0;
    if (n && !got) {
        put_address(out, va);
        return;
    }
    rv_put_quoted(out, text, got);
    if (got < len) rv_buf_put(out, "...", 3);
}

void rv_put_string(struct rv_buf *out, uint64_t va, const struct rv_syscall_memory *m) {
    uint8_t text[256];
    size_t got = va ? rd(m, va, text, sizeof text) : 0;
    if (!got) {
        put_address(out, va);
        return;
    }
    const uint8_t *nul = memchr(text, 0, got);
    rv_put_quoted(out, text, nul ? (size_t)(nul - text) : got);
    if (!nul) rv_buf_put(out, "...", 3);
}

static uint64_t load(const struct rv_syscall_memory *m, uint64_t va, bool *ok) {
    uint64_t v = 0;
    *ok = rd(m, va, &v, 8) == 8;
    return v;
}

static void put_list(struct rv_buf *out, uint64_t va, bool count_only,
                     const struct rv_syscall_memory *m) {
    bool ok = false;
    unsigned n = 0;
    if (!va) {
        put_address(out, va);
        return;
    }
    if (!count_only) rv_buf_put_u8(out, '[');
    for (;; n++) {
        uint64_t one = load(m, va + 8ull * n, &ok);
        if (!ok || !one || n > 4096) break;
        if (count_only) continue;
        if (n >= LIST) {
            rv_buf_printf(out, ", ...");
            break;
        }
        if (n) rv_buf_put(out, ", ", 2);
        rv_put_string(out, one, m);
    }
    if (count_only)
        rv_buf_printf(out, "%#llx /* %u vars */", (unsigned long long)va, n);
    else
        rv_buf_put_u8(out, ']');
}

static void put_pieces(struct rv_buf *out, uint64_t va, uint64_t n,
                       const struct rv_syscall_memory *m) {
    rv_buf_put_u8(out, '[');
    for (uint64_t i = 0; i < n; i++) {
        uint64_t piece[2];
        if (i) rv_buf_put(out, ", ", 2);
        if (i == 8 || rd(m, va + 16 * i, piece, 16) != 16) {
            rv_buf_put(out, "...", 3);
            break;
        }
        rv_buf_printf(out, "{");
        put_bytes(out, piece[0], piece[1], m);
        rv_buf_printf(out, ", %llu}", (unsigned long long)piece[1]);
    }
    rv_buf_put_u8(out, ']');
}

static void put_signal(struct rv_buf *out, uint64_t n) {
    const char *name = n <= 64 ? rv_signal_name((unsigned)n) : NULL;
    if (name)
        rv_buf_printf(out, "%s", name);
    else if (n >= 32 && n <= 64)
        rv_buf_printf(out, "SIGRT_%llu", (unsigned long long)(n - 32));
    else
        rv_buf_printf(out, "%lld", (long long)n);
}

static void put_mask(struct rv_buf *out, uint64_t va, const struct rv_syscall_memory *m) {
    bool ok = false;
    uint64_t mask = va ? load(m, va, &ok) : 0;
    if (!ok) {
        put_address(out, va);
        return;
    }
    bool most = __builtin_popcountll(mask) > 32, any = false;
    if (most) mask = ~mask;
    rv_buf_printf(out, "%s[", most ? "~" : "");
    for (unsigned i = 0; i < 64; i++) {
        if (!(mask >> i & 1)) continue;
        if (any) rv_buf_put_u8(out, ' ');
        const char *name = rv_signal_name(i + 1);
        if (name)
            rv_buf_printf(out, "%s", name + 3);
        else
            rv_buf_printf(out, "RT_%u", i - 31);
        any = true;
    }
    rv_buf_put_u8(out, ']');
}

static void put_time(struct rv_buf *out, uint64_t va, const char *part,
                     const struct rv_syscall_memory *m) {
    int64_t t[2];
    if (!va || rd(m, va, t, 16) != 16)
        put_address(out, va);
    else
        rv_buf_printf(out, "{tv_sec=%lld, tv_%s=%lld}", (long long)t[0], part, (long long)t[1]);
}

static void put_limits(struct rv_buf *out, uint64_t va, const struct rv_syscall_memory *m) {
    uint64_t v[2];
    if (!va || rd(m, va, v, 16) != 16) {
        put_address(out, va);
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        rv_buf_printf(out, "%s=", i ? ", rlim_max" : "{rlim_cur");
        if (v[i] == UINT64_MAX)
            rv_buf_printf(out, "RLIM64_INFINITY");
        else if (v[i] > 1024 && v[i] % 1024 == 0)
            rv_buf_printf(out, "%llu*1024", (unsigned long long)(v[i] / 1024));
        else
            rv_buf_printf(out, "%llu", (unsigned long long)v[i]);
    }
    rv_buf_put_u8(out, '}');
}

/* struct stat: st_mode at 24, st_rdev at 40, st_size at 48. */
static void put_stat(struct rv_buf *out, uint64_t va, const struct rv_syscall_memory *m) {
    static const struct word types[] = {
        {0140000, "S_IFSOCK"}, {0120000, "S_IFLNK"}, {0100000, "S_IFREG"}, {0060000, "S_IFBLK"},
        {0040000, "S_IFDIR"},  {0020000, "S_IFCHR"}, {0010000, "S_IFIFO"}, {0, NULL}};
    uint64_t s[18];
    if (!va || rd(m, va, s, 144) != 144) {
        put_address(out, va);
        return;
    }
    uint32_t mode = (uint32_t)s[3];
    rv_buf_printf(out, "{st_mode=");
    put_word(out, types, mode & 0170000);
    rv_buf_printf(out, "|%04o, ", mode & 07777);
    if ((mode & 0170000) == 0060000 || (mode & 0170000) == 0020000)
        rv_buf_printf(out, "st_rdev=makedev(%#llx, %#llx), ...}",
                      (unsigned long long)(s[5] >> 8 & 0xfff), (unsigned long long)(s[5] & 0xff));
    else
        rv_buf_printf(out, "st_size=%llu, ...}", (unsigned long long)s[6]);
}

static void put_wait_status(struct rv_buf *out, uint64_t va, const struct rv_syscall_memory *m) {
    int s;
    if (!va || rd(m, va, &s, 4) != 4) {
        put_address(out, va);
    } else if ((s & 0x7f) == 0) {
        rv_buf_printf(out, "[{WIFEXITED(s) && WEXITSTATUS(s) == %d}]", s >> 8 & 0xff);
    } else if ((s & 0x7f) != 0x7f) {
        rv_buf_printf(out, "[{WIFSIGNALED(s) && WTERMSIG(s) == ");
        put_signal(out, (uint64_t)(s & 0x7f));
        rv_buf_printf(out, "%s}]", s & 0x80 ? " && WCOREDUMP(s)" : "");
    } else {
        rv_buf_printf(out, "[{%#x}]", (unsigned)s);
    }
}

/* ---- arguments ---- */

static bool is_later(char letter) { return strchr("BLCzTVWrRGUY", letter) != NULL; }

static const char *letters(unsigned number) {
    const char *s = number < RV_COUNT(calls) ? calls[number].args : NULL;
    return s ? s : "xxxxxx";
}

/* The mode of a file that open() does not make is not an argument. */
static bool has_mode(const char *s, unsigned i, const uint64_t *arg) {
    return !(i && s[i] == 'm' && s[i - 1] == 'o' && !(arg[i - 1] & 020000100));
}

static void put_in(struct rv_buf *out, const char *s, unsigned i, const uint64_t *arg,
                   const struct rv_syscall_memory *m) {
    uint64_t v = arg[i];
    switch (s[i]) {
    case 'd':
    case 'f': rv_buf_printf(out, "%d", (int)v); break;
    case 'D':
        if ((int)v == -100)
            rv_buf_printf(out, "AT_FDCWD");
        else
            rv_buf_printf(out, "%d", (int)v);
        break;
    case 'u': rv_buf_printf(out, "%u", (unsigned)v); break;
    case 'l': rv_buf_printf(out, "%llu", (unsigned long long)v); break;
    case 'm': rv_buf_printf(out, "0%o", (unsigned)v); break;
    case 'p': put_address(out, v); break;
    case 's': rv_put_string(out, v, m); break;
    case 'a': put_list(out, v, false, m); break;
    case 'e': put_list(out, v, true, m); break;
    case 'b': put_bytes(out, v, i < 5 ? arg[i + 1] : 0, m); break;
    case 'I': put_pieces(out, v, i < 5 ? arg[i + 1] : 0, m); break;
    case 'o':
        if (!(v & 3)) rv_buf_printf(out, "O_RDONLY%s", v ? "|" : "");
        if (v) put_bits(out, open_flags, v, "");
        break;
    case 'P': put_bits(out, prot_flags, v, "PROT_NONE"); break;
    case 'M': put_bits(out, map_flags, v, "0"); break;
    case 'c': {
        put_bits(out, clone_flags, v & ~0xffull, "0");
        if (v & 0xff) {
            rv_buf_put_u8(out, '|');
            put_signal(out, v & 0xff);
        }
        break;
    }
    case 'A': put_bits(out, at_flags, (uint32_t)v, "0"); break;
    case 'q': put_bits(out, access_modes, (uint32_t)v, "F_OK"); break;
    case 'O': put_bits(out, wait_flags, (uint32_t)v, "0"); break;
    case 'w': put_word(out, whence, v); break;
    case 'F': put_word(out, fcntls, (uint32_t)v); break;
    case 'i': put_word(out, ioctls, (uint32_t)v); break;
    case 'S': put_signal(out, v); break;
    case 'h': put_word(out, hows, v); break;
    case 'g': put_mask(out, v, m); break;
    case 'k': put_word(out, clocks, v); break;
    case 'v': put_word(out, advice, v); break;
    case 'n': put_word(out, domains, v); break;
    case 'H': put_word(out, arch_codes, v); break;
    case 'j': put_word(out, resources, v); break;
    case 'Q': put_word(out, futexes, (uint32_t)v); break;
    case 't': put_time(out, v, "nsec", m); break;
    case 'y': put_limits(out, v, m); break;
    default:
        if (v)
            rv_buf_printf(out, "%#llx", (unsigned long long)v);
        else
            rv_buf_put_u8(out, '0');
    }
}

void rv_syscall_enter(struct rv_buf *out, unsigned number, const uint64_t arg[6],
                      const struct rv_syscall_memory *m) {
    const char *s = letters(number);
    for (unsigned i = 0; s[i] && i < 6; i++) {
        if (!has_mode(s, i, arg)) continue;
        if (i) rv_buf_put(out, ", ", 2);
        if (is_later(s[i]))
            rv_buf_put_u8(out, RV_SYSCALL_LATER);
        else
            put_in(out, s, i, arg, m);
    }
}

static void put_out(struct rv_buf *out, char letter, uint64_t v, int64_t result,
                    const struct rv_syscall_memory *m) {
    int two[2];
    char text[6][65];
    switch (letter) {
    case 'B':
    case 'L': put_bytes(out, v, (uint64_t)result, m); break;
    case 'C': rv_put_string(out, v, m); break;
    case 'z': put_stat(out, v, m); break;
    case 'T': put_time(out, v, "nsec", m); break;
    case 'V': put_time(out, v, "usec", m); break;
    case 'W': put_wait_status(out, v, m); break;
    case 'G': put_mask(out, v, m); break;
    case 'Y': put_limits(out, v, m); break;
    case 'U':
        if (rd(m, v, text, 6 * 65) == 6 * 65) {
            rv_buf_printf(out, "{sysname=");
            rv_put_quoted(out, (const uint8_t *)text[0], strnlen(text[0], 65));
            rv_buf_printf(out, ", nodename=");
            rv_put_quoted(out, (const uint8_t *)text[1], strnlen(text[1], 65));
            rv_buf_printf(out, ", ...}");
            break;
        }
        put_address(out, v);
        break;
    default:
        if (rd(m, v, two, 8) == 8)
            rv_buf_printf(out, "[%d, %d]", two[0], two[1]);
        else
            put_address(out, v);
    }
}

void rv_syscall_exit(struct rv_buf *out, unsigned number, const uint64_t arg[6], int64_t result,
                     const struct rv_syscall_memory *m) {
    const char *s = letters(number);
    for (unsigned i = 0; s[i] && i < 6; i++) {
        if (!is_later(s[i])) continue;
        bool untouched = result < 0 || (s[i] == 'W' && result == 0);
        if (!m || !arg[i] || untouched)
            put_address(out, arg[i]);
        else
            put_out(out, s[i], arg[i], result, m);
        rv_buf_put_u8(out, RV_SYSCALL_LATER);
    }
}
