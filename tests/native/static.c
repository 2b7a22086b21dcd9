/* The static student's kernel without Python: every instruction set of this machine gives the same bits, near those
 * of double precision. Run by `make native`, under the sanitizers by `make sanitize`, and for AArch64 under qemu-user
 * by `make neon`. */
#include "../../native/static.h"

#include "random.h"

#define FARTHEST 1e-5 /* cosine distance */

static float random_float(float most) { return most * ((float)random_below(2001) / 1000 - 1); }

static float *random_floats(size_t count, float most)
{
    float *floats = exactly(count * sizeof *floats);
    for (size_t i = 0; i < count; i++)
        floats[i] = random_float(most);
    return floats;
}

static uint8_t *random_octets(size_t count)
{
    uint8_t *octets = exactly(count);
    for (size_t i = 0; i < count; i++)
        octets[i] = (uint8_t)random_below(256);
    return octets;
}

/* Some with weights that are all as far from 0 as they can be. has_sums: of the inner layer. */
static Layer random_layer(size_t outputs, size_t inputs, int has_sums)
{
    uint8_t *octets = random_octets(outputs * inputs);
    if (random_below(4) == 0)
        memset(octets, random_below(2) ? 127 : 128, outputs * inputs);
    const int8_t *weights = (const int8_t *)octets;
    int32_t *sums = has_sums ? exactly(outputs * sizeof *sums) : NULL;
    if (sums)
        sum_weights(weights, outputs, inputs, sums);
    return (Layer){weights, random_floats(outputs, 0.02f), random_floats(outputs, 0.1f), sums};
}

static void layer_free(const Layer *layer)
{
    free((void *)(uintptr_t)layer->weights);
    free((void *)(uintptr_t)layer->scales);
    free((void *)(uintptr_t)layer->bias);
    free((void *)(uintptr_t)layer->sums);
}

static void normalize_double(double *vector, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += vector[i] * vector[i];
    for (size_t i = 0; sum > 0 && i < count; i++)
        vector[i] /= sqrt(sum);
}

static double output(const Layer *layer, size_t row, const double *inputs, size_t count)
{
    double sum = layer->bias[row];
    for (size_t i = 0; i < count; i++)
        sum += (double)layer->scales[row] * layer->weights[row * count + i] * inputs[i];
    return sum;
}

static void encode_double(const Student *student, const Token *tokens, size_t count, double *vector)
{
    const size_t dim = student->dim, hidden = student->hidden;
    double *activations = exactly(hidden * sizeof *activations), *change = exactly(dim * sizeof *change);
    for (size_t i = 0; i < dim; i++) {
        vector[i] = 0;
        for (size_t token = 0; token < count; token++) {
            const int octet = tokens[token].row[i / 2];
            vector[i] += (double)tokens[token].scale * ((octet >> (i % 2 ? 4 : 0) & 15) - 8);
        }
    }
    normalize_double(vector, dim);
    for (size_t i = 0; i < hidden; i++)
        activations[i] = fmax(0, output(&student->inner, i, vector, dim));
    for (size_t i = 0; i < dim; i++)
        change[i] = output(&student->outer, i, activations, hidden);
    for (size_t i = 0; i < dim; i++)
        vector[i] += change[i];
    normalize_double(vector, dim);
    free(activations);
    free(change);
}

static int agrees(const Student *student, const Token *tokens, size_t count)
{
    const size_t dim = student->dim;
    double *expected = exactly(dim * sizeof *expected);
    float *first = exactly(dim * sizeof *first), *vector = exactly(dim * sizeof *vector);
    void *scratch = exactly((dim + student->hidden) * SCRATCH_OCTETS);
    int sound = 1;
    encode_double(student, tokens, count, expected);
    for (size_t i = 0; sound && i < ISAS; i++) {
        if (!isas[i].runs_here())
            continue;
        double cosine = 0;
        sound = isas[i].encode(student, tokens, count, scratch, vector);
        for (size_t j = 0; j < dim; j++)
            cosine += vector[j] * expected[j];
        if (i == 0 || !isas[i - 1].runs_here())
            memcpy(first, vector, dim * sizeof *first);
        sound = sound && cosine > 1 - FARTHEST && memcmp(first, vector, dim * sizeof *first) == 0;
        sum_rows(tokens, count, dim / 2, scratch, vector);
        sound = sound && isas[i].encode(student, NULL, 0, scratch, vector) &&
                memcmp(first, vector, dim * sizeof *first) == 0;
        if (!sound)
            printf("FAILED %s: dim %zu hidden %zu tokens %zu cosine %.9f\n", isas[i].name, dim, student->hidden, count,
                   cosine);
    }
    free(expected);
    free(first);
    free(vector);
    free(scratch);
    return sound;
}

/* Numbers too large to be summed are refused, and zeros are answered. */
static int refuses(Student student, const Token *tokens, size_t count)
{
    static const float hostile[] = {INFINITY, NAN, FLT_MAX, -FLT_MAX, FLT_MIN, 0};
    float *vector = exactly(student.dim * sizeof *vector);
    void *scratch = exactly((student.dim + student.hidden) * SCRATCH_OCTETS);
    int sound = 1;
    for (unsigned i = 0; i < 6 * 5; i++) {
        const size_t largest = student.dim + student.hidden;
        float *floats = exactly(largest * sizeof *floats);
        Token *changed_tokens = exactly(count * sizeof *changed_tokens);
        for (size_t j = 0; j < count; j++)
            changed_tokens[j] = (Token){tokens[j].row, i < 6 ? hostile[i % 6] : tokens[j].scale};
        for (size_t j = 0; j < largest; j++)
            floats[j] = hostile[i % 6];
        Student changed = student;
        const float *unused, **changeable[] = {&unused, &changed.inner.scales, &changed.inner.bias,
                                               &changed.outer.scales, &changed.outer.bias};
        *changeable[i / 6] = floats;
        for (size_t j = 0; j < ISAS; j++)
            if (isas[j].runs_here() && isas[j].encode(&changed, changed_tokens, count, scratch, vector))
                for (size_t k = 0; k < student.dim; k++)
                    sound = sound && fabsf(vector[k]) <= 1;
        free(floats);
        free(changed_tokens);
    }
    free(vector);
    free(scratch);
    return sound;
}

int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? atoi(argv[1]) : 400;
    unsigned passed = 0, failed = 0;
    for (int round = 0; round < rounds; round++) {
        static const size_t dims[] = {2, 4, 14, 16, 18, 64, 130, 384, 386, 512, 576, 1030};
        static const size_t sizes[] = {0, 1, 2, 3, 5, 8, 31, 64, 255, 256, 511, 512, 513, 1025};
        static const size_t counts[] = {0, 1, 2, 7, 8, 9, 15, 256};
        Student student = {.dim = dims[random_below(12)], .hidden = sizes[random_below(14)]};
        const size_t count = counts[random_below(8)], half = student.dim / 2, vocabulary = 1 + random_below(300);
        uint8_t *rows = random_octets(vocabulary * half);
        Token *tokens = exactly(count * sizeof *tokens);
        for (size_t i = 0; i < count; i++)
            tokens[i] = (Token){rows + half * random_below(vocabulary), random_float(1)};
        student.inner = random_layer(student.hidden, student.dim, 1);
        student.outer = random_layer(student.dim, student.hidden, 0);
        const int is_sound = agrees(&student, tokens, count) && refuses(student, tokens, count);
        passed += (unsigned)is_sound;
        failed += (unsigned)!is_sound;
        layer_free(&student.inner);
        layer_free(&student.outer);
        free(rows);
        free(tokens);
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
