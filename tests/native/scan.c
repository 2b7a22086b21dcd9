/* The scan's kernel without Python: every instruction set of this machine against counting one by one.
 * Run by `make native`, under the sanitizers by `make sanitize`, and for AArch64 under qemu-user by `make neon`. */
#include "../../native/search.h"

#include "random.h"

typedef struct {
    int64_t row;
    int32_t distance;
} Pair;

static int by_distance_then_row(const void *left, const void *right)
{
    const Pair *a = left, *b = right;
    if (a->distance != b->distance)
        return a->distance < b->distance ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

static int agrees(const Isa *isa, size_t words, size_t planes, size_t queries, size_t k, const size_t *sizes,
                  size_t blocks, unsigned live_of_64, int has_ties)
{
    size_t rows = 0, live_rows_seen = 0;
    for (size_t i = 0; i < blocks; i++)
        rows += sizes[i];
    uint64_t *bits = exactly(queries * planes * words * sizeof *bits);
    for (size_t i = 0; i < queries * planes * words; i++)
        bits[i] = random_word();
    Pair *all = exactly(queries * rows * sizeof *all);
    Search search = {.isa = isa, .words = words, .planes = planes, .queries = queries, .bits = bits};
    int sound = search_begin(&search, k);
    int64_t first_row = (int64_t)random_below(1000);
    for (size_t i = 0; sound && i < blocks; i++) {
        const size_t octets = (sizes[i] + 7) / 8;
        uint64_t *codes = exactly(sizes[i] * words * sizeof *codes);
        uint8_t *live = exactly(octets);
        for (size_t j = 0; j < sizes[i] * words; j++)
            codes[j] = has_ties ? random_word() & 1 : random_word();
        memset(live, 0, octets);
        for (size_t j = 0; j < octets * 8; j++)
            live[j / 8] |= (uint8_t)((random_below(64) < live_of_64) << j % 8);
        Columns columns = {codes, sizes[i], live_of_64 == 64 ? NULL : live, 0};
        for (size_t row = 0; row < sizes[i]; row++) {
            if (columns.live && !(live[row / 8] >> row % 8 & 1))
                continue;
            for (size_t q = 0; q < queries; q++) {
                Pair pair = {first_row + (int64_t)row, 0};
                for (size_t p = 0; p < planes; p++)
                    for (size_t w = 0; w < words; w++)
                        pair.distance +=
                            __builtin_popcountll(codes[w * sizes[i] + row] ^ bits[(q * planes + p) * words + w]) << p;
                all[q * rows + live_rows_seen] = pair;
            }
            live_rows_seen++;
        }
        sound = search_block(&search, &columns, sizes[i], first_row);
        first_row += (int64_t)(sizes[i] + random_below(3));
        free(codes);
        free(live);
    }
    const size_t expected = live_rows_seen < k ? live_rows_seen : k;
    int64_t *found_rows = exactly(expected * sizeof *found_rows);
    int32_t *found = exactly(expected * sizeof *found);
    for (size_t q = 0; sound && q < queries; q++) {
        qsort(all + q * rows, live_rows_seen, sizeof *all, by_distance_then_row);
        best_shrink(&search.best[q]);
        sound = search.best[q].held == expected;
        if (sound)
            best_rank(&search.best[q], max_distance(&search), found_rows, found);
        for (size_t i = 0; sound && i < expected; i++)
            sound = found_rows[i] == all[q * rows + i].row && found[i] == all[q * rows + i].distance;
    }
    search_end(&search);
    free(found);
    free(found_rows);
    free(all);
    free(bits);
    if (!sound)
        printf("FAILED %s: words %zu planes %zu queries %zu k %zu rows %zu live %u/64 ties %d\n", isa->name, words,
               planes, queries, k, rows, live_of_64, has_ties);
    return sound;
}

int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? atoi(argv[1]) : 400;
    unsigned passed = 0, failed = 0;
    for (size_t i = 0; i < ISAS; i++) {
        if (!isas[i].runs_here()) {
            printf("%s does not run on this machine\n", isas[i].name);
            continue;
        }
        for (int round = 0; round < rounds; round++) {
            static const size_t edges[] = {0, 1, 7, 8, 31, 32, 63, 64, 65, 127, 128, 129, 255, 1000, 1024, 1025};
            static const size_t ks[] = {1, 2, 10, 100, 5000};
            static const unsigned shares[] = {0, 1, 2, 8, 24, 40, 64}; /* of 64 rows; of 2 most groups of 8 have none */
            const size_t sizes[] = {edges[random_below(16)], edges[random_below(16)], edges[random_below(16)]};
            const int is_sound = agrees(&isas[i], 1 + random_below(MAX_WORDS), 1 + random_below(MAX_PLANES),
                                        1 + random_below(4), ks[random_below(5)], sizes, 1 + random_below(3),
                                        shares[random_below(7)], random_below(2) == 0);
            passed += (unsigned)is_sound;
            failed += (unsigned)!is_sound;
        }
        printf("%s\n", isas[i].name);
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
