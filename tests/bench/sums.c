/* A load for tests/bench/loads: SHA-256 as OpenSSL computes it, with SSSE3 or AVX2 where the
 * processor has them. `sums MEGABYTES` hashes that many megabytes of zeros and prints the sum. */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#define MEGABYTE (1u << 20)

static unsigned char zeros[MEGABYTE];

int main(int argc, char **argv) {
    long megabytes = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
    EVP_MD_CTX *sum = EVP_MD_CTX_new();
    if (megabytes <= 0 || !sum || !EVP_DigestInit_ex(sum, EVP_sha256(), NULL)) {
        fprintf(stderr, "usage: sums MEGABYTES\n");
        return 2;
    }
    for (long i = 0; i < megabytes; i++)
        if (!EVP_DigestUpdate(sum, zeros, sizeof zeros)) return 1;
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned size;
    if (!EVP_DigestFinal_ex(sum, bytes, &size)) return 1;
    EVP_MD_CTX_free(sum);
    for (unsigned i = 0; i < size; i++) printf("%02x", bytes[i]);
    printf("\n");
    return 0;
}
