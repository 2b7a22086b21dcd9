/* Seeks for AArch64: NEON, with and without the dot product. Included by _seek.h. */
#include <arm_neon.h>
#ifdef __linux__
#include <sys/auxv.h>
#endif

#define DOT __attribute__((target("arch=armv8.2-a+dotprod")))

INLINE void neon_find(Found *found, unsigned row, uint16x8_t totals, uint16x8_t below)
{
    const uint16x8_t nearer = vcltq_u16(totals, below);
    if (vget_lane_u64(vreinterpret_u64_u8(vmovn_u16(nearer)), 0) == 0)
        return;
    uint16_t distances[8], is_near[8];
    vst1q_u16(distances, totals);
    vst1q_u16(is_near, nearer);
    for (unsigned i = 0; i < 8; i++) {
        found->distances[row + i] = distances[i];
        found->near |= (uint64_t)(is_near[i] & 1) << (row + i);
    }
}

INLINE uint16x8_t neon_totals(const uint64_t *codes, size_t stride, const Query *query, size_t words, size_t planes)
{
    uint8x16_t sums[MAX_PLANES][4];
    for (size_t plane = 0; plane < planes; plane++)
        for (unsigned pair = 0; pair < 4; pair++)
            sums[plane][pair] = vdupq_n_u8(0);
    for (size_t word = 0; word < words; word++)
        for (size_t plane = 0; plane < planes; plane++) {
            const uint64x2_t bits = vdupq_n_u64(query->bits[plane * words + word]);
            for (unsigned pair = 0; pair < 4; pair++) {
                const uint64x2_t different = veorq_u64(vld1q_u64(codes + word * stride + 2 * pair), bits);
                sums[plane][pair] = vaddq_u8(sums[plane][pair], vcntq_u8(vreinterpretq_u8_u64(different)));
            }
        }
    uint16x8_t totals[4];
    for (unsigned pair = 0; pair < 4; pair++) {
        totals[pair] = vpaddlq_u8(sums[planes - 1][pair]);
        for (size_t plane = planes - 1; plane-- > 0;)
            totals[pair] = vpadalq_u8(vaddq_u16(totals[pair], totals[pair]), sums[plane][pair]);
    }
    return vpaddq_u16(vpaddq_u16(totals[0], totals[1]), vpaddq_u16(totals[2], totals[3]));
}

DOT INLINE uint16x8_t neon_dot_totals(const uint64_t *codes, size_t stride, const Query *query, size_t words,
                                      size_t planes)
{
    uint32x4_t totals[4] = {vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0)};
    for (size_t word = 0; word < words; word++)
        for (size_t plane = 0; plane < planes; plane++) {
            const uint64x2_t bits = vdupq_n_u64(query->bits[plane * words + word]);
            const uint8x16_t weight = vdupq_n_u8((uint8_t)(1 << plane));
            for (unsigned pair = 0; pair < 4; pair++) {
                const uint64x2_t different = veorq_u64(vld1q_u64(codes + word * stride + 2 * pair), bits);
                totals[pair] = vdotq_u32(totals[pair], vcntq_u8(vreinterpretq_u8_u64(different)), weight);
            }
        }
    return vcombine_u16(vmovn_u32(vpaddq_u32(totals[0], totals[1])), vmovn_u32(vpaddq_u32(totals[2], totals[3])));
}

static int has_dot_product(void)
{
#if defined(__linux__) && defined(HWCAP_ASIMDDP)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
    return 0;
#endif
}

/* A macro, since the dot product can only be inlined into a function of its own target. */
#define SEEK_NEON(TARGET, NAME, TOTALS, PLANES)                                                                    \
    TARGET static size_t NAME(const Columns *columns, size_t from, size_t to, const Query *query, uint32_t bound,  \
                              Found *found)                                                                        \
    {                                                                                                              \
        const uint16x8_t below = vdupq_n_u16((uint16_t)bound);                                                     \
        for (size_t strip = from; strip < to; strip++) {                                                           \
            const uint64_t live = live_rows(columns, strip);                                                       \
            const uint64_t *codes = columns->codes + strip * STRIP;                                                \
            found->near = 0;                                                                                       \
            if (columns->sparse)                                                                                   \
                read_live_ahead(columns, strip, to, query->words);                                                 \
            for (unsigned row = 0; row < STRIP; row += 8)                                                          \
                if (live >> row & 0xff)                                                                            \
                    neon_find(found, row, TOTALS(codes + row, columns->stride, query, query->words, PLANES), below); \
            found->near &= live;                                                                                   \
            if (found->near)                                                                                       \
                return strip;                                                                                      \
        }                                                                                                          \
        return to;                                                                                                 \
    }
SEEK_NEON(, seek_neon_1, neon_totals, 1)
SEEK_NEON(, seek_neon_4, neon_totals, 4)
SEEK_NEON(, seek_neon_any, neon_totals, query->planes)
SEEK_NEON(DOT, seek_neon_dot_4, neon_dot_totals, 4)

static size_t seek_neon(const Columns *columns, size_t from, size_t to, const Query *query, uint32_t bound,
                        Found *found)
{
    Seek *seek = query->planes == 1 ? seek_neon_1 : query->planes == 4 ? seek_neon_4 : seek_neon_any;
    return seek(columns, from, to, query, bound, found);
}

/* With one plane there is nothing to weigh, and plain counting is as short. */
static size_t seek_neon_dot(const Columns *columns, size_t from, size_t to, const Query *query, uint32_t bound,
                            Found *found)
{
    return (query->planes == 4 ? seek_neon_dot_4 : seek_neon)(columns, from, to, query, bound, found);
}
