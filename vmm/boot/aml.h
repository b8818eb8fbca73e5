/* A builder for the few ACPI Machine Language terms that our tables need. Source: ACPI 6.4, chapter
 * 20 for the encoding, 6.4 for resource descriptors. Each function appends one term to a buffer. */
#ifndef RV_VMM_BOOT_AML_H
#define RV_VMM_BOOT_AML_H

#include "vmm/base/buf.h"
#include "vmm/base/types.h"

/* Names are given in full: path segments of four characters, with a leading backslash for the root.
 */
void rv_aml_int(struct rv_buf *b, uint64_t v);
void rv_aml_name(struct rv_buf *b, const char *name); /* Name(name, ...): its value follows */
void rv_aml_eisa(struct rv_buf *b, const char *id);   /* EisaId("PNP0A03") */

/* Blocks with a length: begin returns a mark, end closes it and fills the length in. */
size_t rv_aml_scope_begin(struct rv_buf *b, const char *name);
size_t rv_aml_device_begin(struct rv_buf *b, const char *name);
size_t rv_aml_package_begin(struct rv_buf *b, uint8_t elements);
void rv_aml_end(struct rv_buf *b, size_t mark);

/* A buffer holding a resource template; end adds the end tag and both lengths. */
size_t rv_aml_resources_begin(struct rv_buf *b);
void rv_aml_resources_end(struct rv_buf *b, size_t mark);
void rv_aml_io(struct rv_buf *b, uint16_t port, uint8_t len);
void rv_aml_irq(struct rv_buf *b, unsigned irq); /* edge triggered, active high */
enum rv_aml_window { RV_AML_MEMORY = 0, RV_AML_IO = 1, RV_AML_BUS = 2 };
/* An address space window [first, last] that a bridge passes on. */
void rv_aml_window16(struct rv_buf *b, enum rv_aml_window kind, uint16_t first, uint16_t last);
void rv_aml_window32(struct rv_buf *b, enum rv_aml_window kind, uint32_t first, uint32_t last);

#endif
