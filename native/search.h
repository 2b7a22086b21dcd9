/* A search: blocks of codes in, the k nearest rows of each query out. No Python in here.
 *
 * What a Seek finds is offered to a Best, which keeps the k smallest and lowers the bound for the
 * Seek's next run. Distances are small integers, so a count for each tells the k-th smallest.
 */
#include <stdlib.h>

#include "seek.h"

#define TILE_OCTETS 32768 /* of codes, read once from memory and then for each query of a batch */

typedef struct {
    size_t k, held, capacity;
    uint32_t bound; /* a newcomer must be below it: later rows lose ties */
    size_t below; /* held rows whose distance is below the bound: less than k once k are held */
    int64_t *rows;
    int32_t *distances;
    uint32_t *counts; /* held rows by distance, 0 to the largest there can be */
} Best;

static void best_shrink(Best *best)
{
    if (best->held <= best->k)
        return;
    /* k are held, so fewer than k are below the bound and the first rows at the bound make up k. */
    size_t kept = 0, ties = best->k - best->below;
    for (size_t i = 0; i < best->held; i++) {
        const uint32_t distance = (uint32_t)best->distances[i];
        if (distance < best->bound || (distance == best->bound && ties > 0)) {
            ties -= distance == best->bound;
            best->rows[kept] = best->rows[i];
            best->distances[kept++] = best->distances[i];
        }
    }
    best->held = kept;
}

INLINE void best_add(Best *best, int64_t row, uint32_t distance)
{
    if (best->held == best->capacity)
        best_shrink(best);
    best->rows[best->held] = row;
    best->distances[best->held++] = (int32_t)distance;
    best->counts[distance]++;
    best->below++;
    while (best->below >= best->k)
        best->below -= best->counts[--best->bound];
}

/* Room for all the rows of a block, or for twice k, since shrinking then leaves k. */
static int best_reserve(Best *best, size_t rows)
{
    const size_t enough = best->k < 128 ? 256 : 2 * best->k;
    size_t capacity = best->held + rows < enough ? best->held + rows : enough;
    if (capacity <= best->capacity)
        return 1;
    if (capacity < 2 * best->capacity)
        capacity = 2 * best->capacity < enough ? 2 * best->capacity : enough;
    int64_t *grown_rows = realloc(best->rows, capacity * sizeof *best->rows);
    if (grown_rows)
        best->rows = grown_rows;
    int32_t *grown_distances = realloc(best->distances, capacity * sizeof *best->distances);
    if (grown_distances)
        best->distances = grown_distances;
    if (!grown_rows || !grown_distances)
        return 0;
    best->capacity = capacity;
    return 1;
}

/* Writes the k smallest in order. Counting keeps equal distances in the order of their rows. */
static void best_rank(Best *best, size_t max_distance, int64_t *rows, int32_t *distances)
{
    uint32_t *starts = best->counts, start = 0;
    memset(starts, 0, (max_distance + 1) * sizeof *starts);
    for (size_t i = 0; i < best->held; i++)
        starts[best->distances[i]]++;
    for (size_t distance = 0; distance <= max_distance; distance++) {
        const uint32_t count = starts[distance];
        starts[distance] = start;
        start += count;
    }
    for (size_t i = 0; i < best->held; i++) {
        const uint32_t place = starts[best->distances[i]]++;
        rows[place] = best->rows[i];
        distances[place] = best->distances[i];
    }
}

typedef struct {
    const Isa *isa;
    size_t words, planes, queries;
    const uint64_t *bits; /* [queries][planes][words] */
    Best *best; /* [queries] */
    uint8_t *tables; /* [queries][16 * words][16], or NULL */
} Search;

static size_t max_distance(const Search *search)
{
    return ((1u << search->planes) - 1) * search->words * 64;
}

static void search_end(Search *search)
{
    for (size_t i = 0; search->best && i < search->queries; i++) {
        free(search->best[i].rows);
        free(search->best[i].distances);
        free(search->best[i].counts);
    }
    free(search->best);
    free(search->tables);
}

static void fill_tables(const Search *search, size_t number)
{
    const uint64_t *bits = search->bits + number * search->planes * search->words;
    uint8_t *tables = search->tables + number * search->words * 256;
    for (size_t first = 0; first < search->words * 64; first += 4, tables += 16) {
        /* What no bit of a code adds, and what each of four bits adds to that: from sums of fewer bits come all. */
        int steps[4] = {0};
        tables[0] = 0;
        for (size_t plane = 0; plane < search->planes; plane++)
            for (unsigned bit = 0; bit < 4; bit++) {
                const int is_set = bits[plane * search->words + first / 64] >> (first % 64 + bit) & 1;
                tables[0] += (uint8_t)(is_set << plane);
                steps[bit] += (1 - 2 * is_set) * (1 << plane);
            }
        for (unsigned bit = 0; bit < 4; bit++)
            for (unsigned code = 0; code < 1u << bit; code++)
                tables[code | 1u << bit] = (uint8_t)(tables[code] + steps[bit]);
    }
}

static int search_begin(Search *search, size_t k)
{
    search->best = calloc(search->queries ? search->queries : 1, sizeof *search->best);
    int ready = search->best != NULL;
    for (size_t i = 0; ready && i < search->queries; i++) {
        Best *best = &search->best[i];
        best->k = k;
        best->bound = (uint32_t)max_distance(search) + 1;
        best->counts = calloc(max_distance(search) + 1, sizeof *best->counts);
        ready = best->counts != NULL;
    }
    if (ready && search->isa->has_tables && search->planes > 1 && search->queries) {
        search->tables = malloc(search->queries * search->words * 256);
        ready = search->tables != NULL;
        for (size_t i = 0; ready && i < search->queries; i++)
            fill_tables(search, i);
    }
    return ready;
}

static void search_strips(const Search *search, const Columns *columns, size_t from, size_t to, int64_t first_row)
{
    Found found;
    for (size_t i = 0; i < search->queries; i++) {
        const Query query = {search->words, search->planes, search->bits + i * search->planes * search->words,
                             search->tables ? search->tables + i * search->words * 256 : NULL};
        Best *best = &search->best[i];
        size_t strip = from;
        while ((strip = search->isa->seek(columns, strip, to, &query, best->bound, &found)) < to) {
            for (uint64_t near = found.near; near; near &= near - 1) {
                const int row = __builtin_ctzll(near);
                if (found.distances[row] < best->bound)
                    best_add(best, first_row + (int64_t)(strip * STRIP) + row, found.distances[row]);
            }
            strip++;
        }
    }
}

/* Whether most groups of 8 rows have no live one. */
static int is_sparse(const Columns *block, size_t rows)
{
    size_t groups = 0;
    for (size_t i = 0; block->live && i < rows / 8; i++)
        groups += block->live[i] != 0;
    return block->live && groups < rows / 32;
}

/* Returns 0 without memory. */
static int search_block(const Search *search, Columns *block, size_t rows, int64_t first_row)
{
    block->sparse = is_sparse(block, rows);
    for (size_t i = 0; i < search->queries; i++)
        if (!best_reserve(&search->best[i], rows))
            return 0;
    const size_t strips = rows / STRIP, left = rows % STRIP;
    size_t tile = search->queries > 1 ? TILE_OCTETS / (STRIP * sizeof(uint64_t) * search->words) : strips;
    for (size_t from = 0; from < strips; from += tile)
        search_strips(search, block, from, from + tile < strips ? from + tile : strips, first_row);
    if (left) {
        /* A copy padded with dead rows: a Seek never reads past the block. */
        uint64_t codes[MAX_WORDS * STRIP] = {0};
        uint8_t live[STRIP / 8] = {0};
        for (size_t word = 0; word < search->words; word++)
            memcpy(codes + word * STRIP, block->codes + word * block->stride + strips * STRIP, left * sizeof *codes);
        for (size_t row = 0; row < left; row++)
            live[row / 8] |= (uint8_t)((block->live ? block->live[(strips * STRIP + row) / 8] : 0xff) & 1 << row % 8);
        const Columns tail = {codes, STRIP, live, 0};
        search_strips(search, &tail, 0, 1, first_row + (int64_t)(strips * STRIP));
    }
    return 1;
}
