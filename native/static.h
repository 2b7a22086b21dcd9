/* A static student: token ids in, a unit vector out. No Python in here.
 *
 * Activations are rounded to 16 bits, so that a dense layer sums products of integers: exact, in whatever order
 * a vector register takes them. What is summed as floats has an order of its own, which needs -ffp-contract=off.
 * So every instruction set gives the same bits. One piece of C serves them all, as compilers vectorize it, but for the
 * dense layers of static_vnni.h.
 */
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define LANES 8
#define TOP 32767 /* the largest rounded activation */
#define RUN 512 /* products whose sum fits into an int32: 512 * 128 * 32767 < 2**31 */
#define TOGETHER 4 /* outputs of a layer that share what is read of its inputs */
#define AHEAD_TOKENS 8 /* their rows lie far apart */
#define AHEAD_OCTETS 8192 /* of weights: hardware prefetchers stop at the end of each page */
#define LINE 64 /* octets that a prefetch brings */

/* The weights of output i are weights[i] times scales[i]. */
typedef struct {
    const int8_t *weights; /* [outputs][inputs] */
    const float *scales, *bias; /* [outputs] */
    const int32_t *sums; /* [outputs], of the weights of each, as `sum_weights` has them; NULL if no input is negative */
} Layer;

typedef struct {
    size_t dim, hidden; /* dim is even where there are tokens */
    Layer inner, outer; /* dim to hidden, hidden to dim */
} Student;

/* A row of the table: [dim / 2], entries plus 8, the low four bits first. */
typedef struct {
    const uint8_t *row;
    float scale;
} Token;

/* Writes float [dim]. tokens: NULL if `vector` has their sum already. scratch: SCRATCH_OCTETS of it, aligned to float.
 * Returns 0 if a number is not finite. */
typedef int Encode(const Student *, const Token *tokens, size_t count, void *scratch, float *vector);

#define SCRATCH_OCTETS (sizeof(float) + sizeof(int16_t)) /* times dim + hidden */

INLINE int is_finite(float number) { return fabsf(number) <= FLT_MAX; }

/* The bits of floats without a sign are in the order of the floats, NaN last: compilers find the largest of integers
 * many at a time. */
INLINE int32_t bits_of(float number)
{
    int32_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

INLINE float float_of(int32_t bits)
{
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

INLINE void read_row_ahead(const uint8_t *row, size_t octets)
{
    for (size_t i = 0; i < octets; i += LINE)
        __builtin_prefetch(row + i);
}

INLINE void sum_rows(const Token *tokens, size_t count, size_t half, float *restrict halves, float *restrict total)
{
    memset(halves, 0, 2 * half * sizeof *halves);
    for (size_t i = 0; i < count && i < AHEAD_TOKENS; i++)
        read_row_ahead(tokens[i].row, half);
    for (size_t i = 0; i < count; i++) {
        if (count - i > AHEAD_TOKENS)
            read_row_ahead(tokens[i + AHEAD_TOKENS].row, half);
        const uint8_t *row = tokens[i].row;
        const float scale = tokens[i].scale;
        for (size_t j = 0; j < half; j++) {
            halves[j] += scale * (float)((row[j] & 15) - 8);
            halves[half + j] += scale * (float)((row[j] >> 4) - 8);
        }
    }
    for (size_t j = 0; j < half; j++) {
        total[2 * j] = halves[j];
        total[2 * j + 1] = halves[half + j];
    }
}

/* To length 1; zeros stay zeros. */
INLINE int normalize(float *vector, size_t count)
{
    double sums[LANES] = {0}, sum = 0; /* squares of floats are neither too large nor too small for a double */
    const size_t whole = count - count % LANES;
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++)
            sums[lane] += (double)vector[i + lane] * (double)vector[i + lane];
    for (size_t lane = 0; lane < count - whole; lane++)
        sums[lane] += (double)vector[whole + lane] * (double)vector[whole + lane];
    for (size_t lane = 0; lane < LANES; lane++)
        sum += sums[lane];
    const float length = (float)sqrt(sum);
    for (size_t i = 0; length > 0 && i < count; i++)
        vector[i] /= length;
    return is_finite(length);
}

/* Numbers times `factor`, at most TOP in size. */
INLINE void round_all(const float *numbers, size_t count, float factor, int16_t *restrict rounded)
{
    /* A cast cuts towards 0, so what is cut must not be negative. */
    for (size_t i = 0; i < count; i++)
        rounded[i] = (int16_t)((int32_t)(numbers[i] * factor + (TOP + 1.5f)) - (TOP + 1));
}

INLINE void sum_weights(const int8_t *weights, size_t size, size_t count, int32_t *sums)
{
    for (size_t i = 0; i < size; i++) {
        sums[i] = 0;
        for (size_t j = 0; j < count; j++)
            sums[i] += weights[i * count + j];
    }
}

INLINE void read_weights_ahead(const int8_t *weights, size_t octets)
{
    /* As an integer, since it may lie past the end; a prefetch never faults. */
    for (size_t i = 0; i < octets; i += LINE)
        __builtin_prefetch((const void *)((uintptr_t)(weights + i) + AHEAD_OCTETS));
}

/* `many` outputs from `first`; a constant where it is called, so that the loops over it vanish. */
INLINE void apply_some(const Layer *layer, size_t first, size_t many, const int16_t *restrict inputs, size_t count,
                       float step, float *restrict outputs)
{
    const int8_t *restrict weights = layer->weights + first * count;
    read_weights_ahead(weights, many * count);
    int64_t totals[TOGETHER] = {0};
    for (size_t from = 0; from < count; from += RUN) {
        const size_t to = count - from < RUN ? count : from + RUN;
        int32_t sums[TOGETHER] = {0};
        for (size_t i = from; i < to; i++)
            for (size_t j = 0; j < many; j++)
                sums[j] += weights[j * count + i] * inputs[i];
        for (size_t j = 0; j < many; j++)
            totals[j] += sums[j];
    }
    for (size_t j = first; j < first + many; j++)
        outputs[j] = (float)totals[j - first] * (step * layer->scales[j]) + layer->bias[j];
}

/* step: what an input of 1 stands for. outputs: float [size]. */
INLINE void apply(const Layer *layer, size_t size, const int16_t *inputs, size_t count, float step, float *outputs)
{
    const size_t whole = size - size % TOGETHER;
    for (size_t i = 0; i < whole; i += TOGETHER)
        apply_some(layer, i, TOGETHER, inputs, count, step, outputs);
    for (size_t i = whole; i < size; i++)
        apply_some(layer, i, 1, inputs, count, step, outputs);
}

typedef void Apply(const Layer *, size_t size, const int16_t *inputs, size_t count, float step, float *outputs);

INLINE int encode(const Student *student, const Token *tokens, size_t count, void *scratch, float *vector, Apply *dense)
{
    const size_t dim = student->dim, hidden = student->hidden;
    float *change = scratch, *activations = change + dim;
    int32_t most = 0, farthest = 0;
    int16_t *inputs = (int16_t *)(void *)(activations + hidden), *rounded = inputs + dim;
    if (tokens)
        sum_rows(tokens, count, dim / 2, change, vector);
    if (!normalize(vector, dim))
        return 0;
    round_all(vector, dim, TOP, inputs);
    dense(&student->inner, hidden, inputs, dim, 1.0f / TOP, activations);
    for (size_t i = 0; i < hidden; i++) {
        const int32_t size = bits_of(activations[i]) & INT32_MAX;
        farthest = size > farthest ? size : farthest;
        activations[i] = activations[i] > 0 ? activations[i] : 0;
        const int32_t left = bits_of(activations[i]);
        most = left > most ? left : most;
    }
    if (!is_finite(float_of(farthest)))
        return 0;
    const float step = float_of(most) / TOP;
    round_all(activations, hidden, step >= FLT_MIN ? 1 / step : 0, rounded);
    dense(&student->outer, dim, rounded, hidden, step, change);
    for (size_t i = 0; i < dim; i++)
        vector[i] += change[i];
    return normalize(vector, dim);
}

static int encode_plain(const Student *student, const Token *tokens, size_t count, void *scratch, float *vector)
{
    return encode(student, tokens, count, scratch, vector, apply);
}

static int always(void) { return 1; }

#if defined(__x86_64__) && defined(__GNUC__)
#define X86 1
#define ENCODE(NAME, TARGET, APPLY)                                                                                  \
    __attribute__((target(TARGET))) static int NAME(const Student *student, const Token *tokens, size_t count,       \
                                                    void *scratch, float *vector)                                    \
    {                                                                                                                \
        return encode(student, tokens, count, scratch, vector, APPLY);                                               \
    }
ENCODE(encode_avx512, "avx512f,avx512bw", apply)
ENCODE(encode_avx2, "avx2", apply)

static int has_avx512(void) { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"); }
static int has_avx2(void) { return __builtin_cpu_supports("avx2"); }

/* Older compilers do not know it. */
#if __GNUC__ >= 8 || (defined(__clang__) && __clang_major__ >= 7)
#define HAS_VNNI 1
#include "static_vnni.h"
ENCODE(encode_vnni, "avx512f,avx512bw,avx512vnni", apply_vnni)

static int has_vnni(void) { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
#endif
#endif

typedef struct {
    const char *name;
    int (*runs_here)(void);
    Encode *encode;
} Isa;

/* Best first. AArch64 always has NEON, which compilers use unasked. */
static const Isa isas[] = {
#ifdef X86
#ifdef HAS_VNNI
    {"avx512vnni", has_vnni, encode_vnni},
#endif
    {"avx512", has_avx512, encode_avx512},
    {"avx2", has_avx2, encode_avx2},
#endif
    {"plain", always, encode_plain},
};
#define ISAS (sizeof isas / sizeof *isas)
