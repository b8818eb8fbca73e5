/* Whole files from the host. */
#ifndef RV_VMM_HOST_FILE_H
#define RV_VMM_HOST_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/err.h"

/* Reads a regular file of at most max bytes into *data (the caller frees it). */
int rv_file_read(const char *path, uint64_t max, uint8_t **data, size_t *len, struct rv_err *err);

#endif
