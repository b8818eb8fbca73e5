/* Private to tools/analysis/linux*.c. */
#ifndef RV_ANALYSIS_LINUX_PRIV_H
#define RV_ANALYSIS_LINUX_PRIV_H

#include "tools/analysis/linux.h"

/* Offsets of members, in bytes, named structure_member. */
#define RV_LINUX_MEMBERS(X)                                                                        \
    X(task_struct, pid)                                                                            \
    X(task_struct, tgid)                                                                           \
    X(task_struct, comm)                                                                           \
    X(task_struct, mm)                                                                             \
    X(task_struct, flags)                                                                          \
    X(task_struct, stack)                                                                          \
    X(task_struct, files)                                                                          \
    X(task_struct, tasks)                                                                          \
    X(task_struct, signal)                                                                         \
    X(task_struct, thread_node)                                                                    \
    X(task_struct, real_parent)                                                                    \
    X(task_struct, exit_code)                                                                      \
    X(task_struct, thread)                                                                         \
    X(thread_struct, sp)                                                                           \
    X(signal_struct, thread_head)                                                                  \
    X(mm_struct, pgd)                                                                              \
    X(mm_struct, exe_file)                                                                         \
    X(mm_struct, arg_start)                                                                        \
    X(mm_struct, arg_end)                                                                          \
    X(vm_area_struct, vm_start)                                                                    \
    X(vm_area_struct, vm_end)                                                                      \
    X(vm_area_struct, vm_flags)                                                                    \
    X(vm_area_struct, vm_pgoff)                                                                    \
    X(vm_area_struct, vm_file)                                                                     \
    X(file, f_path)                                                                                \
    X(file, f_inode)                                                                               \
    X(file, f_mapping)                                                                             \
    X(path, mnt)                                                                                   \
    X(path, dentry)                                                                                \
    X(dentry, d_parent)                                                                            \
    X(dentry, d_name)                                                                              \
    X(dentry, d_sb)                                                                                \
    X(qstr, name)                                                                                  \
    X(super_block, s_type)                                                                         \
    X(file_system_type, name)                                                                      \
    X(mount, mnt)                                                                                  \
    X(mount, mnt_parent)                                                                           \
    X(mount, mnt_mountpoint)                                                                       \
    X(vfsmount, mnt_root)                                                                          \
    X(inode, i_size)                                                                               \
    X(inode, i_ino)                                                                                \
    X(address_space, i_pages)                                                                      \
    X(xarray, xa_head)                                                                             \
    X(xa_node, shift)                                                                              \
    X(xa_node, slots)                                                                              \
    X(files_struct, fdt)                                                                           \
    X(fdtable, fd)                                                                                 \
    X(fdtable, max_fds)

#define RV_LINUX_OFFSET(type, member) uint32_t type##_##member;
struct rv_linux_offsets {
    RV_LINUX_MEMBERS(RV_LINUX_OFFSET)
};

struct rv_linux {
    struct rv_symbols *symbols;
    struct rv_btf *btf;
    struct rv_orc *orc;
    struct rv_linux_offsets at;
    uint64_t root; /* physical address of init_top_pgt */
    uint64_t banner;
    char banner_text[64]; /* as it is in memory, to see that the kernel is up */
    char version[128], how[192];
    uint64_t current;        /* per-CPU address of the current task */
    uint64_t per_cpu_offset; /* address of __per_cpu_offset; 0: one CPU only, no offset */
    uint64_t init_task;
    uint64_t vmemmap_base, page_size; /* address of the variable; sizeof(struct page) */
    uint64_t page_offset_base;        /* address of the variable */
    uint64_t stack_size;
    /* Of mappings: a maple tree (Linux 6.1 and later), or a list. */
    bool maple;
    uint64_t mm_root; /* of mm_struct: ma_root of the tree, or the first vm_area_struct */
    uint64_t vma_next;
    uint64_t range_pivot, range_slot, arange_pivot, arange_slot;
    unsigned range_slots, arange_slots;
};

bool rv_linux_u64(const struct rv_view *k, uint64_t va, uint64_t *out);

#endif
