/* retro-mutate IN OUT SEED: writes a damaged copy of a trace. The same seed gives the same damage.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mutation.h"

static int read_all(const char *path, struct rv_buf *buf) {
    FILE *f = fopen(path, "rbe");
    if (!f) return -1;
    uint8_t part[65536];
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;) rv_buf_put(buf, part, n);
    int bad = ferror(f) ? -1 : 0;
    fclose(f);
    return bad;
}

static int write_all(const char *path, const struct rv_buf *buf) {
    FILE *f = fopen(path, "wbe");
    if (!f) return -1;
    int bad = buf->len && fwrite(buf->data, buf->len, 1, f) != 1 ? -1 : 0;
    return fclose(f) || bad ? -1 : 0;
}

int main(int argc, char **argv) {
    char *end = NULL;
    uint64_t seed = argc == 4 ? strtoull(argv[3], &end, 0) : 0;
    if (argc != 4 || end == argv[3] || *end) {
        fprintf(stderr, "usage: retro-mutate IN OUT SEED\n");
        return 2;
    }
    struct rv_buf in = {0}, out = {0};
    int rc = 1;
    if (read_all(argv[1], &in)) {
        fprintf(stderr, "retro-mutate: cannot read %s: %s\n", argv[1], strerror(errno));
    } else {
        bool repaired = mutation_apply(in.data, in.len, seed, &out);
        rc = write_all(argv[2], &out) ? 1 : 0;
        if (rc)
            fprintf(stderr, "retro-mutate: cannot write %s: %s\n", argv[2], strerror(errno));
        else
            printf("%s\n", repaired ? "checksums repaired" : "checksums left");
    }
    rv_buf_release(&in);
    rv_buf_release(&out);
    return rc;
}
