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

static Layer random_layer(size_t outputs, size_t inputs)
{
    return (Layer){(const int8_t *)random_octets(outputs * inputs), random_floats(outputs, 0.02f),
                   random_floats(outputs, 0.1f)};
}

static void layer_free(const Layer *layer)
{
    free((void *)(uintptr_t)layer->weights);
    free((void *)(uintptr_t)layer->scales);
    free((void *)(uintptr_t)layer->bias);
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

static void encode_double(const Student *student, const size_t *ids, size_t count, double *vector)
{
    const size_t dim = student->dim, hidden = student->hidden;
    double *activations = exactly(hidden * sizeof *activations), *change = exactly(dim * sizeof *change);
    for (size_t i = 0; i < dim; i++) {
        vector[i] = 0;
        for (size_t token = 0; token < count; token++) {
            const int octet = student->rows[ids[token] * (dim / 2) + i / 2];
            vector[i] += (double)student->scales[ids[token]] * ((octet >> (i % 2 ? 4 : 0) & 15) - 8);
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

static int agrees(const Student *student, const size_t *ids, size_t count)
{
    const size_t dim = student->dim;
    double *expected = exactly(dim * sizeof *expected);
    float *first = exactly(dim * sizeof *first), *vector = exactly(dim * sizeof *vector);
    void *scratch = exactly((dim + student->hidden) * SCRATCH_OCTETS);
    int sound = 1;
    encode_double(student, ids, count, expected);
    for (size_t i = 0; sound && i < ISAS; i++) {
        if (!isas[i].runs_here())
            continue;
        double cosine = 0;
        sound = isas[i].encode(student, ids, count, scratch, vector);
        for (size_t j = 0; j < dim; j++)
            cosine += vector[j] * expected[j];
        if (i == 0 || !isas[i - 1].runs_here())
            memcpy(first, vector, dim * sizeof *first);
        sound = sound && cosine > 1 - FARTHEST && memcmp(first, vector, dim * sizeof *first) == 0;
        sum_rows(student, ids, count, scratch, vector);
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
static int refuses(Student student, const size_t *ids, size_t count)
{
    static const float hostile[] = {INFINITY, NAN, FLT_MAX, -FLT_MAX, FLT_MIN, 0};
    float *vector = exactly(student.dim * sizeof *vector);
    void *scratch = exactly((student.dim + student.hidden) * SCRATCH_OCTETS);
    int sound = 1;
    for (unsigned i = 0; i < 6 * 5; i++) {
        const size_t largest = student.dim + student.hidden + student.vocabulary;
        float *floats = exactly(largest * sizeof *floats);
        for (size_t j = 0; j < largest; j++)
            floats[j] = hostile[i % 6];
        Student changed = student;
        const float **changeable[] = {&changed.scales, &changed.inner.scales, &changed.inner.bias,
                                      &changed.outer.scales, &changed.outer.bias};
        *changeable[i / 6] = floats;
        for (size_t j = 0; j < ISAS; j++)
            if (isas[j].runs_here() && isas[j].encode(&changed, ids, count, scratch, vector))
                for (size_t k = 0; k < student.dim; k++)
                    sound = sound && fabsf(vector[k]) <= 1;
        free(floats);
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
        static const size_t dims[] = {2, 4, 14, 16, 18, 64, 130, 384, 386, 1030};
        static const size_t sizes[] = {0, 1, 2, 3, 5, 8, 31, 64, 255, 256, 511, 512, 513, 1025};
        static const size_t counts[] = {0, 1, 2, 7, 8, 9, 15, 256};
        Student student = {.vocabulary = 1 + random_below(300), .dim = dims[random_below(10)],
                           .hidden = sizes[random_below(14)]};
        const size_t count = counts[random_below(8)];
        size_t *ids = exactly(count * sizeof *ids);
        for (size_t i = 0; i < count; i++)
            ids[i] = random_below(student.vocabulary);
        student.rows = random_octets(student.vocabulary * student.dim / 2);
        student.scales = random_floats(student.vocabulary, 1);
        student.inner = random_layer(student.hidden, student.dim);
        student.outer = random_layer(student.dim, student.hidden);
        const int is_sound = agrees(&student, ids, count) && refuses(student, ids, count);
        passed += (unsigned)is_sound;
        failed += (unsigned)!is_sound;
        layer_free(&student.inner);
        layer_free(&student.outer);
        free((void *)(uintptr_t)student.rows);
        free((void *)(uintptr_t)student.scales);
        free(ids);
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
