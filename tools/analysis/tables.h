/* A run as tables: what the SQLite and CSV exports have in common. Every table, column and unit is
 * described in docs/export.md. */
#ifndef RV_ANALYSIS_TABLES_H
#define RV_ANALYSIS_TABLES_H

#include "tools/analysis/run.h"
#include "tools/analysis/tally.h"
#include "trace-format/reader.h"

enum rv_cell_kind {
    RV_CELL_NULL, /* there is none: a call that never returned, no task */
    RV_CELL_INT,
    RV_CELL_ADDRESS, /* an address or register: a number, shown in hexadecimal where text is */
    RV_CELL_TEXT,    /* bytes of the guest or trace that ought to be text */
    RV_CELL_BYTES,
};

struct rv_cell {
    enum rv_cell_kind kind;
    uint64_t n; /* INT: of an int64_t */
    const void *data;
    size_t len;
};

struct rv_column {
    const char *name;
    enum rv_cell_kind kind; /* of its cells that are not NULL */
};

/* What is exported. */
struct rv_export {
    const struct rv_guest_run *run;       /* NULL: for profiles */
    const struct rv_tally *tally;         /* for profiles only */
    const struct rv_trace_reader *reader; /* of the recording */
    const char *name;                     /* of the recording, for people */
};

#define RV_COLUMNS_MAX 24

struct rv_table {
    const char *name;
    struct rv_column column[RV_COLUMNS_MAX]; /* up to one without a name */
    /* Further columns of a key, for an index; NULL: none. SQL. */
    const char *index;
    size_t (*rows)(const struct rv_export *x);
    /* Fills in cell for each column; data is borrowed, valid until the next call. */
    void (*row)(const struct rv_export *x, size_t i, struct rv_cell *cell);
};

extern const struct rv_table rv_tables[];
extern const size_t rv_tables_count;
size_t rv_table_columns(const struct rv_table *t);

/* Writes all tables into a new SQLite database at path, which must not exist. */
int rv_export_sqlite(const struct rv_export *x, const char *path, struct rv_err *err);
/* Writes DIR/<table>.csv for each (RFC 4180, UTF-8, with a header line), making DIR if need be. */
int rv_export_csv(const struct rv_export *x, const char *dir, struct rv_err *err);
/* Writes a Perfetto trace (protobuf) to a new file. */
int rv_export_perfetto(const struct rv_export *x, const char *path, struct rv_err *err);
/* The tally as a file for speedscope (JSON), and for pprof (protobuf, gzip). */
int rv_export_speedscope(const struct rv_export *x, const char *path, struct rv_err *err);
int rv_export_pprof(const struct rv_export *x, const char *path, struct rv_err *err);

#endif
