/* A load for tests/bench/loads: floating point as compilers make it. `numbers matrix` multiplies
 * matrices of doubles (SSE2, packed where the compiler sees it), `numbers orbit` advances bodies
 * under gravity (scalar, with square roots and divisions). Prints a figure that depends on all of
 * it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#define N 320

static double a[N][N], b[N][N], c[N][N];

static double matrix(void) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = i * 0.5 - j;
            b[i][j] = 1.0 / (1 + i + j);
        }
    for (int turn = 0; turn < 40; turn++)
        for (int i = 0; i < N; i++)
            for (int k = 0; k < N; k++)
                for (int j = 0; j < N; j++) c[i][j] += a[i][k] * b[k][j];
    double sum = 0;
    for (int i = 0; i < N; i++) sum += c[i][N - 1 - i];
    return sum;
}

struct body {
    double at[3], v[3], mass;
};

static double orbit(void) {
    static struct body body[5];
    for (int i = 0; i < 5; i++)
        for (int d = 0; d < 3; d++) {
            body[i].at[d] = 1 + i * (d + 1) * 0.7;
            body[i].v[d] = 0.01 * (i - 2) * (d - 1);
            body[i].mass = 1.0 / (1 + i);
        }
    for (int turn = 0; turn < 4000000; turn++) {
        for (int i = 0; i < 5; i++)
            for (int j = i + 1; j < 5; j++) {
                double d[3], r2 = 0.01;
                for (int k = 0; k < 3; k++) {
                    d[k] = body[i].at[k] - body[j].at[k];
                    r2 += d[k] * d[k];
                }
                double f = 0.001 / (r2 * sqrt(r2));
                for (int k = 0; k < 3; k++) {
                    body[i].v[k] -= d[k] * body[j].mass * f;
                    body[j].v[k] += d[k] * body[i].mass * f;
                }
            }
        for (int i = 0; i < 5; i++)
            for (int k = 0; k < 3; k++) body[i].at[k] += 0.001 * body[i].v[k];
    }
    return body[0].at[0] + body[4].at[2];
}

int main(int argc, char **argv) {
    double v = argc > 1 && !strcmp(argv[1], "orbit") ? orbit() : matrix();
    printf("%.12g\n", v);
    return 0;
}
