/* The postings' kernel without Python: what was packed is unpacked, the best rows are those of adding everything up, and
 * random octets do no harm. Run by `make native`, under the sanitizers by `make sanitize`, and for AArch64 under
 * qemu-user by `make neon`. */
#include "../../native/postings.h"

#include "random.h"

#define WORDS 6
#define BLOCKS 3
#define ROWS (BLOCKS * BLOCK_ROWS)

static uint32_t sums[ROWS];
static uint8_t impacts[256]; /* more for a mark that has more in both of its parts */

static int by_score_then_row(const void *left, const void *right)
{
    const Hit *a = left, *b = right;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

/* Packs a random list of one row in about `gap`, in memory of exactly its size; adds what its marks count to `best`. */
static uint8_t *packed(size_t gap, size_t *octets, uint8_t *best, int *sound)
{
    int64_t *rows = exactly(ROWS * sizeof *rows);
    uint8_t *marks = exactly(ROWS);
    size_t count = 0;
    for (int64_t row = (int64_t)random_below(gap); row < ROWS; row += 1 + (int64_t)random_below(2 * gap - 1)) {
        rows[count] = row;
        marks[count] = (uint8_t)(1 + random_below(random_below(4) ? 20 : 255));
        if (impacts[marks[count]] > best[row])
            best[row] = impacts[marks[count]];
        count++;
    }
    uint8_t *room = exactly(ROWS * 6), *at = room;
    for (size_t from = 0; from < count;) {
        const uint32_t here = rows_of_block(rows + from, count - from);
        uint8_t *end = chunk_encode(at, rows + from, marks + from, here);
        *sound &= here > 0 && (size_t)(end - at) <= chunk_room(here);
        at = end;
        from += here;
    }
    *octets = (size_t)(at - room);
    uint8_t *list = exactly(*octets);
    memcpy(list, room, *octets);
    int64_t *again = exactly(count * sizeof *again);
    uint8_t *marks_again = exactly(count);
    *sound &= list_count(list, list + *octets) == (int64_t)count &&
              list_decode(list, list + *octets, again, marks_again) &&
              memcmp(rows, again, count * sizeof *rows) == 0 && memcmp(marks, marks_again, count) == 0;
    free(again);
    free(marks_again);
    free(room);
    free(rows);
    free(marks);
    return list;
}

static int agrees(size_t k, size_t musts, int has_mask)
{
    static const size_t gaps[] = {1, 2, 7, 40, 300, 3000, 30000};
    uint8_t *lists[2 * WORDS], *best = exactly(ROWS), bits[BLOCKS][BLOCK_OCTETS];
    Cursor cursors[2 * WORDS];
    Word words[WORDS];
    int sound = 1;
    size_t held = 0;
    memset(sums, 0, sizeof sums);
    for (size_t w = 0; w < WORDS; w++) {
        const size_t gap = gaps[random_below(sizeof gaps / sizeof *gaps)];
        const int overlaps = random_below(4) == 0;
        words[w] = (Word){
            .weight = (uint32_t)(1 + random_below(2 + gap)), .first = held, .end = held + 1 + (size_t)overlaps, .overlaps = overlaps};
        word_weigh(&words[w], impacts);
        memset(best, 0, ROWS);
        for (; held < words[w].end; held++) {
            size_t octets;
            lists[held] = packed(gap, &octets, best, &sound);
            cursors[held] = (Cursor){.at = lists[held], .end = lists[held] + octets, .block = -1};
        }
        for (size_t row = 0; row < ROWS; row++)
            sums[row] += words[w].weight * best[row];
    }
    const int64_t blocks[] = {0, 2};
    const uint8_t *masks[] = {bits[0], bits[2]};
    for (size_t i = 0; i < sizeof bits; i++)
        bits[i / BLOCK_OCTETS][i % BLOCK_OCTETS] = (uint8_t)random_word();
    int64_t *must = exactly(musts * sizeof *must);
    uint32_t *must_scores = exactly(musts * sizeof *must_scores);
    for (size_t i = 0; i < musts; i++) {
        must[i] = (int64_t)(i * (ROWS / musts) + random_below(ROWS / musts));
        must_scores[i] = 0;
    }
    Search search = {.k = k, .impacts = impacts, .word = words, .words = WORDS, .cursor = cursors, .cursors = held, .must = must,
                     .musts = musts, .must_scores = must_scores, .masks = 2};
    if (has_mask) {
        search.mask_blocks = blocks;
        search.masks_of = masks;
    }
    sound &= search_run(&search) == SOUND;
    for (size_t i = 0; i < musts; i++)
        sound &= must_scores[i] == sums[must[i]];
    Hit *all = exactly(ROWS * sizeof *all);
    size_t count = 0;
    for (size_t row = 0; row < ROWS; row++) {
        const size_t block = row / BLOCK_ROWS, offset = row % BLOCK_ROWS;
        if (sums[row] && (!has_mask || (block != 1 && bits[block][offset / 8] >> offset % 8 & 1)))
            all[count++] = (Hit){sums[row], (int64_t)row};
    }
    qsort(all, count, sizeof *all, by_score_then_row);
    sound &= search.held == (count < k ? count : k);
    for (size_t i = 0; sound && i < search.held; i++)
        sound = search.hits[i].row == all[i].row && search.hits[i].score == all[i].score;
    free(all);
    free(search.hits);
    free(must);
    free(must_scores);
    free(best);
    while (held > 0)
        free(lists[--held]);
    if (!sound)
        printf("FAILED k %zu musts %zu mask %d\n", k, musts, has_mask);
    return sound;
}

/* Octets of nobody: whatever comes of them, nothing outside of them is read. */
static void forge(void)
{
    const size_t size = random_below(300);
    uint8_t *octets = exactly(size);
    for (size_t i = 0; i < size; i++)
        octets[i] = (uint8_t)(random_below(3) ? random_word() : 0);
    if (size > 4 && random_below(2)) {
        octets[0] = 1;
        octets[1] = (uint8_t)(MANY + random_below(60));
        octets[2] = 0;
    }
    const int64_t count = list_count(octets, octets + size);
    if (count >= 0) {
        int64_t *rows = exactly((size_t)count * sizeof *rows);
        uint8_t *marks = exactly((size_t)count);
        list_decode(octets, octets + size, rows, marks);
        free(rows);
        free(marks);
    }
    Cursor cursors[] = {{.at = octets, .end = octets + size, .block = -1}, {.at = octets, .end = octets + size, .block = -1}};
    Word words[] = {{.weight = 7, .end = 1}, {.weight = 3, .first = 1, .end = 2, .overlaps = 1}};
    for (size_t w = 0; w < 2; w++)
        word_weigh(&words[w], impacts);
    const int64_t must[] = {1, 5, 900, BLOCK_ROWS + 3};
    uint32_t must_scores[4];
    Search search = {.k = 3, .impacts = impacts, .word = words, .words = 2, .cursor = cursors, .cursors = 2, .must = must, .musts = 4,
                     .must_scores = must_scores};
    search_run(&search);
    free(search.hits);
    free(octets);
}

/* Names are different, in order, and each has the place of its equal. */
static int groups(void)
{
    const size_t count = 1 + random_below(300);
    uint8_t *octets = exactly(count * 12), *at = octets;
    for (size_t i = 0; i < count; i++) {
        if (i)
            *at++ = '\n';
        for (size_t size = random_below(11); size > 0; size--)
            *at++ = (uint8_t)("ab\xff"[random_below(3)]);
    }
    const size_t size = (size_t)(at - octets);
    uint8_t *names = exactly(size);
    memcpy(names, octets, size);
    free(octets);
    const uint8_t *end = names + size, *next = names;
    int sound = names_count(names, size) == (size ? count : 0);
    Group group = {0};
    uint32_t *numbers = exactly(count * sizeof *numbers), *places = exactly(count * sizeof *places);
    if (!group_begin(&group, count))
        exit(2);
    size_t held = 0;
    for (; size && next <= end; held++) {
        const Name name = name_at(next, end);
        numbers[held] = group_add(&group, name);
        next += name.octets + 1;
    }
    group_sort(&group, places);
    for (size_t i = 1; i < group.count; i++)
        sound &= by_octets(&group.names[i - 1], &group.names[i]) < 0;
    next = names;
    for (size_t i = 0; i < held; i++) {
        const Name name = name_at(next, end);
        sound &= by_octets(&group.names[places[numbers[i]]], &name) == 0;
        next += name.octets + 1;
    }
    group_end(&group);
    free(numbers);
    free(places);
    free(names);
    if (!sound)
        printf("FAILED names %zu\n", count);
    return sound;
}

int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? atoi(argv[1]) : 300;
    static const size_t ks[] = {1, 2, 10, 100, 5000, 60000}, musts[] = {0, 1, 30, 1000};
    unsigned passed = 0, failed = 0;
    for (unsigned mark = 0; mark < 256; mark++)
        impacts[mark] = (uint8_t)(1 + 31 * (mark >> 5) + (mark & 31));
    for (int round = 0; round < rounds; round++) {
        const int is_sound = groups() & agrees(ks[random_below(6)], musts[random_below(4)], random_below(2) == 0);
        passed += (unsigned)is_sound;
        failed += (unsigned)!is_sound;
        for (int i = 0; i < 50; i++)
            forge();
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
