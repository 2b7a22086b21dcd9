/* A dense layer with AVX-512's VNNI, which multiplies octets without a sign by octets with one: the two octets of each
 * input, each by itself. Numbers wrap, and the last of them has room, so that the sums are those of `apply`. Included
 * by static.h. */
#include <immintrin.h>

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vnni")))
#define STEP 64 /* octets of a register */

/* Sums of `weights` [TOGETHER][count] times the inputs' high octets, times 256, and low ones. */
VNNI INLINE __m128i four_sums(const int8_t *weights, size_t count, const uint8_t *high, const uint8_t *low)
{
    __m512i sums[TOGETHER], lows[TOGETHER];
    for (size_t j = 0; j < TOGETHER; j++)
        sums[j] = lows[j] = _mm512_setzero_si512();
    for (size_t i = 0; i < count; i += STEP) {
        const __m512i above = _mm512_loadu_si512(high + i), below = _mm512_loadu_si512(low + i);
        for (size_t j = 0; j < TOGETHER; j++) {
            const __m512i some = _mm512_loadu_si512(weights + j * count + i);
            sums[j] = _mm512_dpbusd_epi32(sums[j], above, some);
            lows[j] = _mm512_dpbusd_epi32(lows[j], below, some);
        }
    }
    for (size_t j = 0; j < TOGETHER; j++)
        sums[j] = _mm512_add_epi32(_mm512_slli_epi32(sums[j], 8), lows[j]);
    /* Four registers become one, whose quarters have a part of each sum. */
    __m512i pairs[2];
    for (size_t j = 0; j < 2; j++)
        pairs[j] = _mm512_add_epi32(_mm512_unpacklo_epi32(sums[2 * j], sums[2 * j + 1]),
                                    _mm512_unpackhi_epi32(sums[2 * j], sums[2 * j + 1]));
    const __m512i quarters = _mm512_add_epi32(_mm512_unpacklo_epi64(pairs[0], pairs[1]),
                                              _mm512_unpackhi_epi64(pairs[0], pairs[1]));
    const __m256i halves = _mm256_add_epi32(_mm512_castsi512_si256(quarters), _mm512_extracti64x4_epi64(quarters, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
}

/* Does what `apply` does, and lets it do what has other sizes. */
VNNI INLINE void apply_vnni(const Layer *layer, size_t size, const int16_t *inputs, size_t count, float step,
                            float *outputs)
{
    uint8_t high[RUN], low[RUN];
    if (count % STEP || count > RUN || size % TOGETHER) {
        apply(layer, size, inputs, count, step, outputs);
        return;
    }
    /* Those with a sign are moved up by half of all numbers. */
    const unsigned moved = layer->sums ? 1u << 15 : 0;
    for (size_t i = 0; i < count; i++) {
        const unsigned input = (unsigned)inputs[i] + moved;
        high[i] = (uint8_t)(input >> 8);
        low[i] = (uint8_t)input;
    }
    for (size_t i = 0; i < size; i += TOGETHER) {
        read_weights_ahead(layer->weights + i * count, TOGETHER * count);
        __m128i sums = four_sums(layer->weights + i * count, count, high, low);
        if (layer->sums)
            sums = _mm_sub_epi32(sums, _mm_slli_epi32(_mm_loadu_si128((const void *)(layer->sums + i)), 15));
        const __m128 factors = _mm_mul_ps(_mm_set1_ps(step), _mm_loadu_ps(layer->scales + i));
        _mm_storeu_ps(outputs + i, _mm_add_ps(_mm_mul_ps(_mm_cvtepi32_ps(sums), factors),
                                              _mm_loadu_ps(layer->bias + i)));
    }
}
