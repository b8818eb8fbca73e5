#include "tools/analysis/flame.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/analysis/arena.h"
#include "tools/analysis/utf8.h"
#include "vmm/base/buf.h"

#define WIDTH  1200.0
#define MARGIN 10.0
#define ROW    17.0
#define TOP    44.0
/* Frames narrower than this, in pixels, are not drawn. */
#define LEAST 0.1
#define CHAR  6.6 /* width of a character */

struct frame {
    const char *name;
    uint64_t own, all;
    uint32_t in;
    uint32_t hash_next;
    uint32_t first, next; /* children, as sorted */
};

struct rv_flame {
    struct frame *frame;
    uint32_t n, room;
    uint32_t *hash;
    uint32_t hash_size;
    struct rv_arena *arena;
};

struct rv_flame *rv_flame_new(void) {
    struct rv_flame *f = rv_alloc(sizeof *f);
    f->arena = rv_arena_new();
    f->room = 1024;
    f->frame = rv_alloc(f->room * sizeof *f->frame);
    f->frame[0] = (struct frame){.name = "all"};
    f->n = 1;
    f->hash_size = 2048;
    f->hash = rv_alloc(f->hash_size * sizeof *f->hash);
    return f;
}

void rv_flame_free(struct rv_flame *f) {
    if (!f) return;
    rv_arena_free(f->arena);
    free(f->frame);
    free(f->hash);
    free(f);
}

static uint32_t slot(const struct rv_flame *f, uint32_t in, const char *interned) {
    uint64_t h = ((uint64_t)(uintptr_t)interned ^ in * 0x9e3779b1ull) * 0xff51afd7ed558ccdull;
    return (uint32_t)(h >> 32) & (f->hash_size - 1);
}

static void grow(struct rv_flame *f) {
    f->room *= 2;
    f->frame = rv_realloc(f->frame, f->room * sizeof *f->frame);
    f->hash_size *= 2;
    free(f->hash);
    f->hash = rv_alloc(f->hash_size * sizeof *f->hash);
    for (uint32_t i = 1; i < f->n; i++) {
        uint32_t *s = &f->hash[slot(f, f->frame[i].in, f->frame[i].name)];
        f->frame[i].hash_next = *s;
        *s = i;
    }
}

uint32_t rv_flame_frame(struct rv_flame *f, uint32_t in, const char *name) {
    const char *own = rv_arena_intern(f->arena, name);
    uint32_t i = f->hash[slot(f, in, own)];
    while (i && !(f->frame[i].in == in && f->frame[i].name == own)) i = f->frame[i].hash_next;
    if (i) return i;
    if (f->n == f->room) grow(f);
    i = f->n++;
    uint32_t *s = &f->hash[slot(f, in, own)];
    f->frame[i] = (struct frame){.name = own, .in = in, .hash_next = *s};
    *s = i;
    return i;
}

void rv_flame_add(struct rv_flame *f, uint32_t frame, uint64_t weight) {
    f->frame[frame].own += weight;
}

uint64_t rv_flame_total(const struct rv_flame *f) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < f->n; i++) total += f->frame[i].own;
    return total;
}

static int by_name(const void *a, const void *b, void *ctx) {
    const struct rv_flame *f = ctx;
    return strcmp(f->frame[*(const uint32_t *)a].name, f->frame[*(const uint32_t *)b].name);
}

/* Sums, and children in the order of their names. A frame's number is above its parent's. */
static void settle(struct rv_flame *f) {
    uint32_t *order = rv_alloc(f->n * sizeof *order);
    for (uint32_t i = 0; i < f->n; i++) {
        order[i] = i;
        f->frame[i].all = f->frame[i].own;
        f->frame[i].first = f->frame[i].next = 0;
    }
    for (uint32_t i = f->n; i-- > 1;) f->frame[f->frame[i].in].all += f->frame[i].all;
    qsort_r(order + 1, f->n - 1, sizeof *order, by_name, f);
    for (uint32_t k = f->n; k-- > 1;) {
        struct frame *x = &f->frame[order[k]];
        x->next = f->frame[x->in].first;
        f->frame[x->in].first = order[k];
    }
    free(order);
}

/* The frame after i in the order of the tree; 0: none. */
static uint32_t after(const struct rv_flame *f, uint32_t i) {
    if (f->frame[i].first) return f->frame[i].first;
    while (i && !f->frame[i].next) i = f->frame[i].in;
    return i ? f->frame[i].next : 0;
}

/* ---- folded ---- */

static void put_name(const char *name, FILE *out) {
    for (; *name; name++) {
        unsigned char c = (unsigned char)*name;
        putc(c < 32 || c == ';' || c == 127 ? '_' : c, out);
    }
}

void rv_flame_folded(struct rv_flame *f, FILE *out) {
    settle(f);
    uint32_t *path = rv_alloc(f->n * sizeof *path);
    for (uint32_t i = after(f, 0); i; i = after(f, i)) {
        if (!f->frame[i].own) continue;
        uint32_t depth = 0;
        for (uint32_t k = i; k; k = f->frame[k].in) path[depth++] = k;
        while (depth-- > 0) {
            put_name(f->frame[path[depth]].name, out);
            putc(depth ? ';' : ' ', out);
        }
        fprintf(out, "%" PRIu64 "\n", f->frame[i].own);
    }
    free(path);
}

/* ---- SVG ---- */

static void put_xml(const char *name, size_t most, FILE *out) {
    struct rv_buf text = {0};
    rv_utf8_put(&text, (const uint8_t *)name, strlen(name));
    size_t shown = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = text.data[i];
        if ((c & 0xc0) != 0x80 && shown++ == most) break;
        if (c == '<')
            fputs("&lt;", out);
        else if (c == '&')
            fputs("&amp;", out);
        else if (c == '"')
            fputs("&quot;", out);
        else
            putc(c < 32 || c == 127 ? '_' : c, out);
    }
    rv_buf_release(&text);
}

/* A warm colour that a name always has. */
static void colour(const char *name, unsigned rgb[3]) {
    uint32_t h = 2166136261u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 16777619u;
    rgb[0] = 205 + (h & 0xff) % 50;
    rgb[1] = 90 + (h >> 8 & 0xff) % 130;
    rgb[2] = 40 + (h >> 16 & 0xff) % 50;
}

static const char script[] =
    "<script><![CDATA[\n"
    "(function(){var W=1180,X=10,C=6.6,s=document.querySelector('svg'),"
    "g=[].slice.call(s.querySelectorAll('g.f')),info=document.getElementById('info'),"
    "reset=document.getElementById('reset');\n"
    "function n(e,a){return parseFloat(e.getAttribute(a))}\n"
    "function zoom(t){var x0=n(t,'data-x'),w0=n(t,'data-w'),d0=n(t,'data-d');\n"
    "g.forEach(function(e){var x=n(e,'data-x'),w=n(e,'data-w'),d=n(e,'data-d'),"
    "r=e.querySelector('rect'),l=e.querySelector('text'),a,b;\n"
    "if(d<d0){a=0;b=x<=x0&&x+w>=x0+w0?1:0}else{a=(x-x0)/w0;b=w/w0;"
    "if(a<-1e-9||a+b>1+1e-6)b=0}\n"
    "e.style.display=b*W<0.1?'none':'';e.style.opacity=d<d0?0.5:1;\n"
    "r.setAttribute('x',X+a*W);r.setAttribute('width',Math.max(b*W,0));"
    "l.setAttribute('x',X+a*W+3);\n"
    "var m=Math.floor((b*W-6)/C),t=e.getAttribute('data-n');"
    "l.textContent=m<3?'':t.length<=m?t:t.slice(0,m-2)+'..'});\n"
    "reset.style.display=d0?'':'none'}\n"
    "g.forEach(function(e){e.addEventListener('click',function(){zoom(e)});"
    "e.addEventListener('keydown',function(k){if(k.key==='Enter')zoom(e)});"
    "e.addEventListener('mouseover',function(){info.textContent="
    "e.querySelector('title').textContent});"
    "e.addEventListener('focus',function(){info.textContent="
    "e.querySelector('title').textContent})});\n"
    "reset.addEventListener('click',function(){zoom(g[0])});\n"
    "s.addEventListener('keydown',function(k){if(k.key==='Escape')zoom(g[0])});\n"
    "})();\n]]></script>\n";

static void put_frame(const struct rv_flame *f, uint32_t i, unsigned depth, double x, double height,
                      const char *unit, FILE *out) {
    const struct frame *k = &f->frame[i];
    double total = f->frame[0].all ? (double)f->frame[0].all : 1;
    double inner = WIDTH - 2 * MARGIN, w = (double)k->all / total;
    double y = height - 8 - (depth + 1) * ROW;
    unsigned rgb[3];
    colour(k->name, rgb);
    fprintf(out,
            "<g class=\"f\" tabindex=\"0\" data-x=\"%.9f\" data-w=\"%.9f\" data-d=\"%u\" "
            "data-n=\"",
            x / total, w, depth);
    put_xml(k->name, SIZE_MAX, out);
    fputs("\"><title>", out);
    put_xml(k->name, SIZE_MAX, out);
    fprintf(out,
            ": %" PRIu64 " %s, %.2f%%; itself %" PRIu64
            "</title><rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" "
            "fill=\"rgb(%u,%u,%u)\" rx=\"1\"/><text x=\"%.2f\" y=\"%.1f\">",
            k->all, unit, 100 * w, k->own, MARGIN + x / total * inner, y, w * inner, ROW - 1,
            rgb[0], rgb[1], rgb[2], MARGIN + x / total * inner + 3, y + ROW - 5);
    double room = (w * inner - 6) / CHAR;
    if (room >= 3) {
        size_t most = (size_t)room, length = strlen(k->name);
        put_xml(k->name, length <= most ? length : most - 2, out);
        if (length > most) fputs("..", out);
    }
    fputs("</text></g>\n", out);
}

void rv_flame_svg(struct rv_flame *f, const char *title, const char *unit, FILE *out) {
    settle(f);
    double total = f->frame[0].all ? (double)f->frame[0].all : 1;
    double least = LEAST / (WIDTH - 2 * MARGIN) * total;
    double *x = rv_alloc(f->n * sizeof *x), *used = rv_alloc(f->n * sizeof *used);
    unsigned *depth = rv_alloc(f->n * sizeof *depth), deepest = 0;
    for (uint32_t i = after(f, 0); i; i = after(f, i)) {
        uint32_t in = f->frame[i].in;
        depth[i] = depth[in] + 1;
        x[i] = x[in] + used[in];
        used[in] += (double)f->frame[i].all;
        if ((double)f->frame[i].all >= least && depth[i] > deepest) deepest = depth[i];
    }
    double height = TOP + (deepest + 1) * ROW + 16;
    fprintf(out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
            "width=\"%.0f\" height=\"%.0f\" role=\"img\">\n"
            "<style>text{font:12px Menlo,Consolas,monospace;fill:#111;pointer-events:none}"
            "g.f{cursor:pointer}g.f:hover rect,g.f:focus rect{stroke:#111}g.f:focus{outline:none}"
            "#reset{pointer-events:auto;cursor:pointer;fill:#04c}</style>\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#fbfaf7\"/>\n"
            "<text x=\"%.0f\" y=\"18\" style=\"font-weight:bold\">",
            WIDTH, height, WIDTH, height, MARGIN);
    put_xml(title, SIZE_MAX, out);
    fprintf(out,
            "</text><text id=\"info\" x=\"%.0f\" y=\"36\"></text>"
            "<text id=\"reset\" x=\"%.0f\" y=\"18\" style=\"display:none\">whole graph</text>\n",
            MARGIN, WIDTH - 90);
    for (uint32_t i = 0, first = 1; first || i; i = after(f, i), first = 0)
        if ((double)f->frame[i].all >= least) put_frame(f, i, depth[i], x[i], height, unit, out);
    fputs(script, out);
    fputs("</svg>\n", out);
    free(x);
    free(used);
    free(depth);
}
