/* A static student: token ids in, a unit vector out. No Python in here.
 *
 * Activations are rounded to 16 bits, so that a dense layer sums products of integers: exact, in whatever order
 * a vector register takes them. What is summed as floats has an order of its own, which needs -ffp-contract=off.
 * So every instruction set gives the same bits, and one piece of C serves them all: compilers vectorize it.
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
} Layer;

typedef struct {
    size_t vocabulary, dim, hidden; /* dim is even where there is a table */
    const uint8_t *rows; /* [vocabulary][dim / 2]: entries plus 8, the low four bits first */
    const float *scales; /* [vocabulary] */
    Layer inner, outer; /* dim to hidden, hidden to dim */
} Student;

/* Writes float [dim]. ids: NULL if `vector` has their sum already, and the student's table is not asked. scratch:
 * SCRATCH_OCTETS of it, aligned to float. Returns 0 if a number is not finite. */
typedef int Encode(const Student *, const size_t *ids, size_t count, void *scratch, float *vector);

#define SCRATCH_OCTETS (sizeof(float) + sizeof(int16_t)) /* times dim + hidden */

INLINE int is_finite(float number) { return fabsf(number) <= FLT_MAX; }

INLINE void read_row_ahead(const Student *student, size_t id)
{
    const size_t octets = student->dim / 2;
    __builtin_prefetch(student->scales + id);
    for (size_t i = 0; i < octets; i += LINE)
        __builtin_prefetch(student->rows + id * octets + i);
}

INLINE void sum_rows(const Student *student, const size_t *ids, size_t count, float *restrict halves,
                     float *restrict total)
{
    const size_t half = student->dim / 2;
    memset(halves, 0, 2 * half * sizeof *halves);
    for (size_t i = 0; i < count && i < AHEAD_TOKENS; i++)
        read_row_ahead(student, ids[i]);
    for (size_t i = 0; i < count; i++) {
        if (count - i > AHEAD_TOKENS)
            read_row_ahead(student, ids[i + AHEAD_TOKENS]);
        const uint8_t *row = student->rows + ids[i] * half;
        const float scale = student->scales[ids[i]];
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

/* `many` outputs from `first`; a constant where it is called, so that the loops over it vanish. */
INLINE void apply_some(const Layer *layer, size_t first, size_t many, const int16_t *restrict inputs, size_t count,
                       float step, float *restrict outputs)
{
    const int8_t *restrict weights = layer->weights + first * count;
    /* As an integer, since it may lie past the end; a prefetch never faults. */
    for (size_t i = 0; i < many * count; i += LINE)
        __builtin_prefetch((const void *)((uintptr_t)(weights + i) + AHEAD_OCTETS));
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

INLINE int encode(const Student *student, const size_t *ids, size_t count, void *scratch, float *vector)
{
    const size_t dim = student->dim, hidden = student->hidden;
    float *change = scratch, *activations = change + dim, most = 0;
    int16_t *inputs = (int16_t *)(void *)(activations + hidden), *rounded = inputs + dim;
    if (ids)
        sum_rows(student, ids, count, change, vector);
    if (!normalize(vector, dim))
        return 0;
    round_all(vector, dim, TOP, inputs);
    apply(&student->inner, hidden, inputs, dim, 1.0f / TOP, activations);
    for (size_t i = 0; i < hidden; i++) {
        if (!is_finite(activations[i]))
            return 0;
        activations[i] = activations[i] > 0 ? activations[i] : 0;
        most = activations[i] > most ? activations[i] : most;
    }
    const float step = most / TOP;
    round_all(activations, hidden, step >= FLT_MIN ? 1 / step : 0, rounded);
    apply(&student->outer, dim, rounded, hidden, step, change);
    for (size_t i = 0; i < dim; i++)
        vector[i] += change[i];
    return normalize(vector, dim);
}

static int encode_plain(const Student *student, const size_t *ids, size_t count, void *scratch, float *vector)
{
    return encode(student, ids, count, scratch, vector);
}

static int always(void) { return 1; }

#if defined(__x86_64__) && defined(__GNUC__)
#define X86 1
#define ENCODE(NAME, TARGET)                                                                                         \
    __attribute__((target(TARGET))) static int NAME(const Student *student, const size_t *ids, size_t count,         \
                                                    void *scratch, float *vector)                                    \
    {                                                                                                                \
        return encode(student, ids, count, scratch, vector);                                                         \
    }
ENCODE(encode_avx512, "avx512f,avx512bw")
ENCODE(encode_avx2, "avx2")

static int has_avx512(void) { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"); }
static int has_avx2(void) { return __builtin_cpu_supports("avx2"); }
#endif

typedef struct {
    const char *name;
    int (*runs_here)(void);
    Encode *encode;
} Isa;

/* Best first. AArch64 always has NEON, which compilers use unasked. */
static const Isa isas[] = {
#ifdef X86
    {"avx512", has_avx512, encode_avx512},
    {"avx2", has_avx2, encode_avx2},
#endif
    {"plain", always, encode_plain},
};
#define ISAS (sizeof isas / sizeof *isas)
