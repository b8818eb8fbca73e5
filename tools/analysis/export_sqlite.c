/* SQLite: one table each, in one transaction. */
#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

#include "tools/analysis/tables.h"
#include "tools/analysis/utf8.h"

struct out {
    sqlite3 *db;
    const char *path;
    struct rv_buf text[RV_COLUMNS_MAX]; /* of the row, as UTF-8 */
};

static int failed(struct out *o, struct rv_err *err) {
    return rv_fail(err, RV_E_HOST, "cannot write %s: %s", o->path, sqlite3_errmsg(o->db));
}

static int run(struct out *o, const char *sql, struct rv_err *err) {
    return sqlite3_exec(o->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : failed(o, err);
}

static const char *type_of(enum rv_cell_kind kind) {
    return kind == RV_CELL_TEXT ? "TEXT" : kind == RV_CELL_BYTES ? "BLOB" : "INTEGER";
}

static int create(struct out *o, const struct rv_table *t, struct rv_err *err) {
    struct rv_buf sql = {0};
    rv_buf_printf(&sql, "CREATE TABLE %s (", t->name);
    for (size_t i = 0; i < rv_table_columns(t); i++) {
        const struct rv_column *c = &t->column[i];
        bool id = i == 0 && c->kind == RV_CELL_INT;
        /* The facts of a recording are of several types. */
        bool any = t->column[0].kind == RV_CELL_TEXT && i == 1;
        rv_buf_printf(&sql, "%s\"%s\" %s", i ? ", " : "", c->name,
                      id    ? "INTEGER PRIMARY KEY"
                      : any ? "ANY"
                            : type_of(c->kind));
    }
    rv_buf_printf(&sql, ")");
    rv_buf_put_u8(&sql, 0);
    int r = run(o, (const char *)sql.data, err);
    rv_buf_release(&sql);
    return r;
}

/* Indices are made last, which is faster. */
static int add_index(struct out *o, const struct rv_table *t, struct rv_err *err) {
    if (!t->index) return 0;
    char sql[160];
    snprintf(sql, sizeof sql, "CREATE INDEX %s_index ON %s (%s)", t->name, t->name, t->index);
    return run(o, sql, err);
}

static int bind(struct out *o, sqlite3_stmt *s, int i, const struct rv_cell *c) {
    switch (c->kind) {
    case RV_CELL_NULL: return sqlite3_bind_null(s, i);
    case RV_CELL_INT:
    case RV_CELL_ADDRESS: return sqlite3_bind_int64(s, i, (sqlite3_int64)c->n);
    case RV_CELL_BYTES: return sqlite3_bind_blob64(s, i, c->data, c->len, SQLITE_TRANSIENT);
    default: break;
    }
    struct rv_buf *b = &o->text[i - 1];
    rv_buf_clear(b);
    rv_utf8_put(b, c->data, c->len);
    return sqlite3_bind_text64(s, i, b->len ? (const char *)b->data : "", b->len, SQLITE_STATIC,
                               SQLITE_UTF8);
}

static int fill(struct out *o, const struct rv_export *x, const struct rv_table *t,
                struct rv_err *err) {
    struct rv_buf sql = {0};
    size_t columns = rv_table_columns(t);
    rv_buf_printf(&sql, "INSERT INTO %s VALUES (", t->name);
    for (size_t i = 0; i < columns; i++) rv_buf_printf(&sql, "%s?", i ? "," : "");
    rv_buf_printf(&sql, ")");
    rv_buf_put_u8(&sql, 0);
    sqlite3_stmt *s = NULL;
    bool ok = sqlite3_prepare_v2(o->db, (const char *)sql.data, -1, &s, NULL) == SQLITE_OK;
    struct rv_cell cell[RV_COLUMNS_MAX];
    for (size_t i = 0, n = t->rows(x); ok && i < n; i++) {
        t->row(x, i, cell);
        for (size_t k = 0; ok && k < columns; k++)
            ok = bind(o, s, (int)k + 1, &cell[k]) == SQLITE_OK;
        ok = ok && sqlite3_step(s) == SQLITE_DONE && sqlite3_reset(s) == SQLITE_OK;
    }
    int r = ok ? 0 : failed(o, err);
    sqlite3_finalize(s);
    rv_buf_release(&sql);
    return r;
}

int rv_export_sqlite(const struct rv_export *x, const char *path, struct rv_err *err) {
    struct out o = {.path = path};
    int r = 0;
    if (sqlite3_open_v2(path, &o.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) != SQLITE_OK)
        r = failed(&o, err);
    /* A file that was not finished is removed: nothing has to be undone in it. */
    if (!r) r = run(&o, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN", err);
    for (size_t i = 0; !r && i < rv_tables_count; i++) {
        r = create(&o, &rv_tables[i], err);
        if (!r) r = fill(&o, x, &rv_tables[i], err);
        if (!r) r = add_index(&o, &rv_tables[i], err);
    }
    if (!r) r = run(&o, "COMMIT", err);
    sqlite3_close(o.db);
    for (size_t i = 0; i < RV_COLUMNS_MAX; i++) rv_buf_release(&o.text[i]);
    return r;
}
