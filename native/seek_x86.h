/* Seeks for x86-64: AVX-512 with its population count, and AVX2. Included by _seek.h. */
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512vpopcntdq")))
#define AVX2 __attribute__((target("avx2,popcnt")))
#define FEW_OF_64 8 /* rows that are sooner counted one by one, of a strip with one plane */
#define FEW_OF_32 6 /* and of half a strip with several */

/* `words` and `planes` are constants where it is called, so that the loops over them vanish. */
AVX512 INLINE size_t seek_avx512_by(const Columns *columns, size_t from, size_t to, const Query *query,
                                    uint32_t bound, Found *found, size_t words, size_t planes)
{
    const __m512i below = _mm512_set1_epi64(bound);
    for (size_t strip = from; strip < to; strip++) {
        const uint64_t live = live_rows(columns, strip);
        const uint64_t *codes = columns->codes + strip * STRIP;
        found->near = 0;
        if (columns->sparse)
            read_live_ahead(columns, strip, to, words);
        for (uint64_t groups = live_groups(live); groups; groups &= groups - 1) {
            const unsigned row = (unsigned)__builtin_ctzll(groups) & ~7u;
            __m512i sums[MAX_PLANES];
            for (size_t plane = 0; plane < planes; plane++)
                sums[plane] = _mm512_setzero_si512();
            for (size_t word = 0; word < words; word++) {
                const __m512i code = _mm512_loadu_si512(codes + word * columns->stride + row);
                if (!columns->sparse)
                    read_ahead(codes + word * columns->stride + row);
                for (size_t plane = 0; plane < planes; plane++) {
                    const __m512i bits = _mm512_set1_epi64((int64_t)query->bits[plane * words + word]);
                    sums[plane] = _mm512_add_epi64(sums[plane], _mm512_popcnt_epi64(_mm512_xor_si512(code, bits)));
                }
            }
            __m512i total = sums[planes - 1];
            for (size_t plane = planes - 1; plane-- > 0;)
                total = _mm512_add_epi64(_mm512_add_epi64(total, total), sums[plane]);
            const uint64_t near = _mm512_cmplt_epu64_mask(total, below);
            if (near) {
                found->near |= near << row;
                _mm256_storeu_si256((__m256i *)(found->distances + row), _mm512_cvtepi64_epi32(total));
            }
        }
        found->near &= live;
        if (found->near)
            return strip;
    }
    return to;
}

AVX512 static size_t seek_avx512(const Columns *columns, size_t from, size_t to, const Query *query, uint32_t bound,
                                 Found *found)
{
    const size_t words = query->words, planes = query->planes;
#define BY(w, p) seek_avx512_by(columns, from, to, query, bound, found, w, p)
    if (planes == 1)
        return words == 4 ? BY(4, 1) : BY(words, 1);
    if (planes == 4)
        return words == 4 ? BY(4, 4) : BY(words, 4);
    return BY(words, planes);
#undef BY
}

/* One plane: how often each octet of these rows differs, at most 8 an octet and word: 16 words stay within 128. */
AVX2 INLINE __m256i avx2_count(const uint64_t *codes, size_t stride, const uint64_t *bits, size_t words)
{
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i ones = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    __m256i sums = _mm256_setzero_si256();
    for (size_t word = 0; word < words; word++) {
        const __m256i code = _mm256_loadu_si256((const __m256i *)(codes + word * stride));
        const __m256i different = _mm256_xor_si256(code, _mm256_set1_epi64x((int64_t)bits[word]));
        const __m256i upper = _mm256_and_si256(_mm256_srli_epi16(different, 4), low);
        sums = _mm256_add_epi8(sums, _mm256_shuffle_epi8(ones, _mm256_and_si256(different, low)));
        sums = _mm256_add_epi8(sums, _mm256_shuffle_epi8(ones, upper));
    }
    return sums;
}

/* Of 8 rows with one plane. */
AVX2 INLINE void avx2_find(Found *found, unsigned row, const uint64_t *codes, size_t stride, const uint64_t *bits,
                           size_t words, uint32_t bound)
{
    const __m256i zero = _mm256_setzero_si256();
    const __m256i first = _mm256_sad_epu8(avx2_count(codes, stride, bits, words), zero);
    const __m256i last = _mm256_sad_epu8(avx2_count(codes + 4, stride, bits, words), zero);
    /* Rows 0 to 3 in the lower halves, 4 to 7 in the upper ones. */
    const __m256i totals = _mm256_or_si256(first, _mm256_slli_epi64(last, 32));
    const __m256i nearer = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)bound), totals);
    if (_mm256_testz_si256(nearer, nearer))
        return;
    uint64_t distances[4];
    _mm256_storeu_si256((__m256i *)distances, totals);
    for (unsigned i = 0; i < 8; i++) {
        const uint32_t distance = (uint32_t)(distances[i % 4] >> 8 * (i & 4));
        found->distances[row + i] = distance;
        found->near |= (uint64_t)(distance < bound) << (row + i);
    }
}

AVX2 INLINE size_t seek_avx2_by(const Columns *columns, size_t from, size_t to, const Query *query, uint32_t bound,
                                Found *found, size_t words)
{
    for (size_t strip = from; strip < to; strip++) {
        const uint64_t live = live_rows(columns, strip);
        const uint64_t *codes = columns->codes + strip * STRIP;
        found->near = 0;
        if (columns->sparse) {
            read_live_ahead(columns, strip, to, words);
            if (popcount(live) <= FEW_OF_64) {
                find_rows(columns, strip, live, query, bound, found, words, 1);
                if (found->near)
                    return strip;
                continue;
            }
        }
        for (uint64_t groups = live_groups(live); groups; groups &= groups - 1) {
            const unsigned row = (unsigned)__builtin_ctzll(groups) & ~7u;
            if (!columns->sparse)
                for (size_t word = 0; word < words; word++)
                    read_ahead(codes + word * columns->stride + row);
            avx2_find(found, row, codes + row, columns->stride, query->bits, words, bound);
        }
        found->near &= live;
        if (found->near)
            return strip;
    }
    return to;
}

/* One word of 32 rows -> octet p of all the rows in octets[p].
 * Octet j of lane l is of row 4 * (j / 2) + 2 * l + j % 2.
 */
AVX2 INLINE void avx2_transpose(const uint64_t *column, __m256i octets[8])
{
    const __m128i zip_lane = _mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    const __m256i zip = _mm256_broadcastsi128_si256(zip_lane);
    __m256i two[8], four[8], eight[8];
    for (unsigned i = 0; i < 8; i++)
        two[i] = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(column + 4 * i)), zip);
    for (unsigned i = 0; i < 4; i++) {
        four[i] = _mm256_unpacklo_epi16(two[2 * i], two[2 * i + 1]);
        four[i + 4] = _mm256_unpackhi_epi16(two[2 * i], two[2 * i + 1]);
    }
    for (unsigned i = 0; i < 2; i++) {
        eight[i] = _mm256_unpacklo_epi32(four[2 * i], four[2 * i + 1]);
        eight[i + 2] = _mm256_unpackhi_epi32(four[2 * i], four[2 * i + 1]);
        eight[i + 4] = _mm256_unpacklo_epi32(four[2 * i + 4], four[2 * i + 5]);
        eight[i + 6] = _mm256_unpackhi_epi32(four[2 * i + 4], four[2 * i + 5]);
    }
    for (unsigned i = 0; i < 4; i++) {
        octets[2 * i] = _mm256_unpacklo_epi64(eight[2 * i], eight[2 * i + 1]);
        octets[2 * i + 1] = _mm256_unpackhi_epi64(eight[2 * i], eight[2 * i + 1]);
    }
}

/* With several planes, looking up what four bits add takes fewer steps than counting each plane. */
AVX2 INLINE size_t seek_avx2_tables(const Columns *columns, size_t from, size_t to, const Query *query, uint32_t bound,
                                    Found *found, size_t words, size_t planes)
{
    const __m256i low = _mm256_set1_epi8(15), even = _mm256_set1_epi16(0xff), below = _mm256_set1_epi16((short)bound);
    for (size_t strip = from; strip < to; strip++) {
        const uint64_t live = live_rows(columns, strip);
        const uint64_t *codes = columns->codes + strip * STRIP;
        found->near = 0;
        if (columns->sparse)
            read_live_ahead(columns, strip, to, words);
        for (unsigned row = 0; row < STRIP; row += 32) {
            const uint64_t half = live & UINT64_C(0xffffffff) << row;
            if (popcount(half) <= (columns->sparse ? FEW_OF_32 : 0)) {
                find_rows(columns, strip, half, query, bound, found, words, planes);
                continue;
            }
            __m256i totals[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
            const __m128i *tables = (const __m128i *)query->tables;
            for (size_t word = 0; word < words; word++) {
                const uint64_t *column = codes + word * columns->stride + row;
                __m256i octets[8];
                for (unsigned i = 0; !columns->sparse && i < 32; i += 8)
                    read_ahead(column + i);
                avx2_transpose(column, octets);
                for (unsigned i = 0; i < 8; i += 2, tables += 4) {
                    __m256i sums = _mm256_setzero_si256(); /* four times at most 4 * 15 stay within 240 */
                    for (unsigned j = 0; j < 2; j++) {
                        const __m256i lower = _mm256_and_si256(octets[i + j], low);
                        const __m256i upper = _mm256_and_si256(_mm256_srli_epi16(octets[i + j], 4), low);
                        const __m256i table[2] = {_mm256_broadcastsi128_si256(_mm_loadu_si128(tables + 2 * j)),
                                                  _mm256_broadcastsi128_si256(_mm_loadu_si128(tables + 2 * j + 1))};
                        sums = _mm256_add_epi8(sums, _mm256_shuffle_epi8(table[0], lower));
                        sums = _mm256_add_epi8(sums, _mm256_shuffle_epi8(table[1], upper));
                    }
                    totals[0] = _mm256_add_epi16(totals[0], _mm256_and_si256(sums, even));
                    totals[1] = _mm256_add_epi16(totals[1], _mm256_srli_epi16(sums, 8));
                }
            }
            const __m256i nearer =
                _mm256_or_si256(_mm256_cmpgt_epi16(below, totals[0]), _mm256_cmpgt_epi16(below, totals[1]));
            if (_mm256_testz_si256(nearer, nearer))
                continue;
            for (unsigned odd = 0; odd < 2; odd++) {
                uint16_t distances[16];
                _mm256_storeu_si256((__m256i *)distances, totals[odd]);
                for (unsigned i = 0; i < 16; i++) {
                    const unsigned at = row + 4 * (i % 8) + 2 * (i / 8) + odd;
                    found->distances[at] = distances[i];
                    found->near |= (uint64_t)(distances[i] < bound) << at;
                }
            }
        }
        found->near &= live;
        if (found->near)
            return strip;
    }
    return to;
}

AVX2 static size_t seek_avx2(const Columns *columns, size_t from, size_t to, const Query *query, uint32_t bound,
                             Found *found)
{
    const size_t words = query->words, planes = query->planes;
    if (planes == 1)
        return words == 4 ? seek_avx2_by(columns, from, to, query, bound, found, 4)
                          : seek_avx2_by(columns, from, to, query, bound, found, words);
    return words == 4 && planes == 4 ? seek_avx2_tables(columns, from, to, query, bound, found, 4, 4)
                                     : seek_avx2_tables(columns, from, to, query, bound, found, words, planes);
}

/* Small x86 boards have this one and no AVX. */
__attribute__((target("popcnt"))) static size_t seek_popcnt(const Columns *columns, size_t from, size_t to,
                                                            const Query *query, uint32_t bound, Found *found)
{
    return seek_one_by_one(columns, from, to, query, bound, found);
}

static int has_popcnt(void) { return __builtin_cpu_supports("popcnt"); }
static int has_avx512(void) { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vpopcntdq"); }
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt"); }
