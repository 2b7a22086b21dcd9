/* Digests: BLAKE2b of 16 octets (RFC 7693), as documents carry it. No Python in here. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "octets.h"

#define DIGEST_OCTETS 16
#define CHUNK 128

typedef struct {
    uint64_t state[8], taken; /* octets that the state has, those of the chunk not yet among them */
    size_t held;
    uint8_t chunk[CHUNK];
} Digest;

/* The fractions of the square roots of the first eight primes. */
static const uint64_t digest_start[8] = {
    UINT64_C(0x6a09e667f3bcc908), UINT64_C(0xbb67ae8584caa73b), UINT64_C(0x3c6ef372fe94f82b),
    UINT64_C(0xa54ff53a5f1d36f1), UINT64_C(0x510e527fade682d1), UINT64_C(0x9b05688c2b3e6c1f),
    UINT64_C(0x1f83d9abfb41bd6b), UINT64_C(0x5be0cd19137e2179),
};

/* In which order each round takes the words of a chunk; the eleventh is as the first, the twelfth as the second. */
static const uint8_t digest_order[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

static inline uint64_t turned(uint64_t word, int bits) { return word >> bits | word << (64 - bits); }

static inline void digest_mix(uint64_t *a, uint64_t *b, uint64_t *c, uint64_t *d, uint64_t one, uint64_t other)
{
    *a += *b + one;
    *d = turned(*d ^ *a, 32);
    *c += *d;
    *b = turned(*b ^ *c, 24);
    *a += *b + other;
    *d = turned(*d ^ *a, 16);
    *c += *d;
    *b = turned(*b ^ *c, 63);
}

/* Takes a whole chunk, with which `taken` octets are taken; what is past the end is 0. */
static void digest_take(Digest *digest, const uint8_t *chunk, int is_last)
{
    uint64_t words[16], v[16];
    memcpy(words, chunk, CHUNK);
    for (int i = 0; i < 16; i++)
        words[i] = little(words[i]);
    memcpy(v, digest->state, sizeof digest->state);
    memcpy(v + 8, digest_start, sizeof digest_start);
    v[12] ^= digest->taken;
    if (is_last)
        v[14] = ~v[14];
    for (int round = 0; round < 12; round++) {
        const uint8_t *at = digest_order[round % 10];
        for (int i = 0; i < 4; i++)
            digest_mix(&v[i], &v[i + 4], &v[i + 8], &v[i + 12], words[at[2 * i]], words[at[2 * i + 1]]);
        for (int i = 0; i < 4; i++)
            digest_mix(&v[i], &v[4 + (i + 1) % 4], &v[8 + (i + 2) % 4], &v[12 + (i + 3) % 4], words[at[8 + 2 * i]],
                       words[at[9 + 2 * i]]);
    }
    for (int i = 0; i < 8; i++)
        digest->state[i] ^= v[i] ^ v[i + 8];
}

static void digest_begin(Digest *digest)
{
    memcpy(digest->state, digest_start, sizeof digest->state);
    digest->state[0] ^= 0x01010000 ^ DIGEST_OCTETS;
    digest->taken = digest->held = 0;
}

static void digest_add(Digest *digest, const uint8_t *octets, size_t count)
{
    while (count) {
        /* The last chunk, though it is full, waits for the end. */
        if (digest->held == CHUNK) {
            digest->taken += CHUNK;
            digest_take(digest, digest->chunk, 0);
            digest->held = 0;
        }
        const size_t room = CHUNK - digest->held, some = count < room ? count : room;
        memcpy(digest->chunk + digest->held, octets, some);
        digest->held += some;
        octets += some;
        count -= some;
    }
}

static void digest_end(Digest *digest, uint8_t found[DIGEST_OCTETS])
{
    digest->taken += digest->held;
    memset(digest->chunk + digest->held, 0, CHUNK - digest->held);
    digest_take(digest, digest->chunk, 1);
    for (int i = 0; i < DIGEST_OCTETS / 8; i++)
        digest->state[i] = little(digest->state[i]);
    memcpy(found, digest->state, DIGEST_OCTETS);
}
