/* CSV as RFC 4180 has it: CRLF, a header line, quotes where needed. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tools/analysis/tables.h"
#include "tools/analysis/utf8.h"

static void put_text(FILE *out, const uint8_t *data, size_t len) {
    bool plain = true;
    for (size_t i = 0; i < len && plain; i++)
        plain = data[i] != ',' && data[i] != '"' && data[i] != '\n' && data[i] != '\r';
    if (plain) {
        if (len) fwrite(data, 1, len, out);
        return;
    }
    fputc('"', out);
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '"') fputc('"', out);
        fputc(data[i], out);
    }
    fputc('"', out);
}

static void put_cell(FILE *out, const struct rv_cell *c, struct rv_buf *scratch) {
    switch (c->kind) {
    case RV_CELL_NULL: break;
    case RV_CELL_INT: fprintf(out, "%" PRId64, (int64_t)c->n); break;
    case RV_CELL_ADDRESS: fprintf(out, "0x%" PRIx64, c->n); break;
    case RV_CELL_TEXT:
    case RV_CELL_BYTES:
        rv_buf_clear(scratch);
        rv_utf8_put(scratch, c->data, c->len);
        put_text(out, scratch->data, scratch->len);
        break;
    }
}

static int put_table(const struct rv_export *x, const struct rv_table *t, const char *path,
                     struct rv_err *err) {
    FILE *out = fopen(path, "wxe");
    if (!out) return rv_fail_errno(err, RV_E_HOST, "cannot create %s", path);
    struct rv_buf scratch = {0};
    struct rv_cell cell[RV_COLUMNS_MAX];
    size_t columns = rv_table_columns(t);
    for (size_t k = 0; k < columns; k++) fprintf(out, "%s%s", k ? "," : "", t->column[k].name);
    fputs("\r\n", out);
    for (size_t i = 0, n = t->rows(x); i < n && !ferror(out); i++) {
        t->row(x, i, cell);
        for (size_t k = 0; k < columns; k++) {
            if (k) fputc(',', out);
            put_cell(out, &cell[k], &scratch);
        }
        fputs("\r\n", out);
    }
    rv_buf_release(&scratch);
    bool bad = ferror(out);
    if (fclose(out) != 0 || bad) return rv_fail_errno(err, RV_E_HOST, "cannot write %s", path);
    return 0;
}

int rv_export_csv(const struct rv_export *x, const char *dir, struct rv_err *err) {
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return rv_fail_errno(err, RV_E_HOST, "cannot make the folder %s", dir);
    int r = 0;
    for (size_t i = 0; !r && i < rv_tables_count; i++) {
        struct rv_buf path = {0};
        rv_buf_printf(&path, "%s/%s.csv", dir, rv_tables[i].name);
        rv_buf_put_u8(&path, 0);
        r = put_table(x, &rv_tables[i], (const char *)path.data, err);
        rv_buf_release(&path);
    }
    return r;
}
