/* Checksums: CRC-32 of zlib, PNG and Ethernet, as the lines of an index file carry it. No Python in here. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "octets.h"

/* What an octet leaves behind that is followed by 0 to 7 others. */
static uint32_t left_by[8][256];

static void tables_begin(void)
{
    for (uint32_t octet = 0; octet < 256; octet++) {
        uint32_t left = octet;
        for (int bit = 0; bit < 8; bit++)
            left = left >> 1 ^ (left & 1 ? 0xEDB88320u : 0);
        left_by[0][octet] = left;
    }
    for (int others = 1; others < 8; others++)
        for (int octet = 0; octet < 256; octet++)
            left_by[others][octet] = left_by[others - 1][octet] >> 8 ^ left_by[0][left_by[others - 1][octet] & 255];
}

/* Goes on with eight octets, the first of them the lowest. */
static inline uint32_t go_on(uint32_t left, uint64_t octets)
{
    octets ^= left;
    left = 0;
    for (int place = 0; place < 8; place++)
        left ^= left_by[7 - place][octets >> 8 * place & 255];
    return left;
}

static uint32_t go_plain(uint32_t left, const uint8_t *octets, size_t count)
{
    for (; count >= 8; count -= 8, octets += 8) {
        uint64_t next;
        memcpy(&next, octets, 8);
        left = go_on(left, little(next));
    }
    for (; count; count--)
        left = left >> 8 ^ left_by[0][(left ^ *octets++) & 255];
    return left;
}

static int always(void) { return 1; }

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define FOLDS __attribute__((target("pclmul,sse4.1")))

/* Octets of one register, as a remainder, so many bits further ahead: two products of 64 bits, which fit 128 again
 * (Gopal et al., Fast CRC Computation for Generic Polynomials Using PCLMULQDQ, 2009). */
static uint64_t near_by[2], far_by[2]; /* 128 bits ahead, and 512 */

/* x**power modulo the polynomial, in its reflected order, as a product without carries takes it. */
static uint64_t power_of_x(int power)
{
    uint32_t left = UINT32_C(1) << 31;
    while (power--)
        left = left >> 1 ^ (left & 1 ? 0xEDB88320u : 0);
    return (uint64_t)left << 1;
}

static void fold_begin(void)
{
    near_by[0] = power_of_x(128 + 32), near_by[1] = power_of_x(128 - 32);
    far_by[0] = power_of_x(512 + 32), far_by[1] = power_of_x(512 - 32);
}

FOLDS static inline __m128i fold(__m128i ahead, __m128i by, __m128i octets)
{
    const __m128i low = _mm_clmulepi64_si128(ahead, by, 0x00), high = _mm_clmulepi64_si128(ahead, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), octets);
}

FOLDS static uint32_t go_folding(uint32_t left, const uint8_t *octets, size_t count)
{
    if (count < 64)
        return go_plain(left, octets, count);
    const __m128i *at = (const __m128i *)(const void *)octets;
    const __m128i by_near = _mm_loadu_si128((const __m128i *)(const void *)near_by);
    const __m128i by_far = _mm_loadu_si128((const __m128i *)(const void *)far_by);
    __m128i sums[4];
    for (int i = 0; i < 4; i++)
        sums[i] = _mm_loadu_si128(at++);
    sums[0] = _mm_xor_si128(sums[0], _mm_cvtsi32_si128((int)left));
    for (count -= 64; count >= 64; count -= 64)
        for (int i = 0; i < 4; i++)
            sums[i] = fold(sums[i], by_far, _mm_loadu_si128(at++));
    __m128i sum = sums[0];
    for (int i = 1; i < 4; i++)
        sum = fold(sum, by_near, sums[i]);
    for (; count >= 16; count -= 16)
        sum = fold(sum, by_near, _mm_loadu_si128(at++));
    left = go_on(go_on(0, (uint64_t)_mm_cvtsi128_si64(sum)), (uint64_t)_mm_extract_epi64(sum, 1));
    return go_plain(left, (const uint8_t *)at, count);
}

static int has_carryless(void) { return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1"); }
#elif defined(__AARCH64EL__) && defined(__linux__) && !defined(__clang__)
#include <sys/auxv.h>

/* Most cores have an instruction for this very polynomial. */
__attribute__((target("+crc"))) static uint32_t go_by_instruction(uint32_t left, const uint8_t *octets, size_t count)
{
    for (; count >= 8; count -= 8, octets += 8) {
        uint64_t next;
        memcpy(&next, octets, 8);
        left = __builtin_aarch64_crc32x(left, next);
    }
    for (; count; count--)
        left = __builtin_aarch64_crc32b(left, *octets++);
    return left;
}

static int has_crc(void) { return (getauxval(AT_HWCAP) & 1ul << 7) != 0; } /* HWCAP_CRC32 */
#endif

/* Takes `count` more octets into a checksum that is not ended. */
typedef uint32_t Go(uint32_t left, const uint8_t *octets, size_t count);

/* Best first. */
static const struct {
    int (*runs_here)(void);
    Go *go;
} goes[] = {
#if defined(__x86_64__) && defined(__GNUC__)
    {has_carryless, go_folding},
#elif defined(__AARCH64EL__) && defined(__linux__) && !defined(__clang__)
    {has_crc, go_by_instruction},
#endif
    {always, go_plain},
};
#define GOES (sizeof goes / sizeof *goes)

static Go *go = go_plain;

static void checksum_begin(void)
{
    tables_begin();
#if defined(__x86_64__) && defined(__GNUC__)
    fold_begin();
#endif
    for (size_t i = GOES; i-- > 0;)
        if (goes[i].runs_here())
            go = goes[i].go;
}

/* The checksum of numbers, eight octets each, the lowest first, and of what follows them. */
static uint32_t checksum_of(const int64_t *numbers, size_t count, const uint8_t *content, size_t octets)
{
    uint32_t left = 0xFFFFFFFFu;
    for (size_t i = 0; i < count; i++)
        left = go_on(left, (uint64_t)numbers[i]);
    return ~go(left, content, octets);
}
