/* Postings: lists of rows, written and read, and the search for the best rows of a query. No Python in here. */
#include <stdlib.h>

#include "lists.h"

#define CANDIDATES 256
#define SEARCH_COST 48 /* of looking a row up, in rows that are added one after another */

/* Does TAKE with `i` and `offset`, which is below BLOCK_ROWS, for each row of a chunk in order; then SOUND tells
 * whether its octets could hold that many rows. A macro, so that the loop is compiled around what it does. */
#define EACH_ROW(CHUNK, SOUND, TAKE)                                                                                  \
    do {                                                                                                              \
        uint32_t i = 0, wrong = 0;                                                                                    \
        if ((CHUNK)->offsets) {                                                                                       \
            for (; i < (CHUNK)->count; i++) {                                                                         \
                const uint32_t offset = read_u16((CHUNK)->offsets + 2 * i) & (BLOCK_ROWS - 1);                        \
                TAKE;                                                                                                 \
            }                                                                                                         \
        } else {                                                                                                      \
            const unsigned low_bits = (CHUNK)->low_bits;                                                              \
            const uint32_t low_mask = (1u << low_bits) - 1;                                                           \
            for (size_t octet = 0; octet < (CHUNK)->high_octets && i < (CHUNK)->count; octet += 8) {                  \
                uint64_t bits = read_bits((CHUNK)->high, (CHUNK)->high_octets, octet);                                \
                for (; bits && i < (CHUNK)->count; bits &= bits - 1, i++) {                                           \
                    const uint32_t high = (uint32_t)(8 * octet) + (uint32_t)__builtin_ctzll(bits) - i;                \
                    const size_t from = (size_t)i * low_bits;                                                         \
                    const uint32_t low = read_u32((CHUNK)->low + from / 8) >> from % 8 & low_mask;                    \
                    const uint32_t place = high << low_bits | low, offset = place & (BLOCK_ROWS - 1);                 \
                    wrong |= place;                                                                                   \
                    TAKE;                                                                                             \
                }                                                                                                     \
            }                                                                                                         \
        }                                                                                                             \
        SOUND = i == (CHUNK)->count && wrong < BLOCK_ROWS;                                                            \
    } while (0)

INLINE uint32_t count_bits(uint64_t bits)
{
    bits -= bits >> 1 & UINT64_C(0x5555555555555555);
    bits = (bits & UINT64_C(0x3333333333333333)) + (bits >> 2 & UINT64_C(0x3333333333333333));
    bits = (bits + (bits >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (uint32_t)((bits * UINT64_C(0x0101010101010101)) >> 56);
}

/* The mark of one row; -1 if the chunk does not have it. */
static int chunk_mark(const Chunk *chunk, uint32_t offset)
{
    if (chunk->offsets) {
        for (uint32_t i = 0; i < chunk->count; i++)
            if ((read_u16(chunk->offsets + 2 * i) & (BLOCK_ROWS - 1)) == offset)
                return chunk->marks[i];
        return -1;
    }
    /* As many zeros as the high part says stand before the ones of its rows. */
    const uint32_t high = offset >> chunk->low_bits, low_mask = (1u << chunk->low_bits) - 1;
    uint32_t zeros = 0;
    size_t octet = 0, place = 0;
    for (; octet < chunk->high_octets; octet += 8) {
        const uint64_t bits = read_bits(chunk->high, chunk->high_octets, octet);
        const uint32_t here = 64 - count_bits(bits);
        if (zeros + here >= high) {
            uint64_t gaps = ~bits;
            for (; zeros + 1 < high; zeros++)
                gaps &= gaps - 1;
            place = 8 * octet + (zeros < high ? (size_t)__builtin_ctzll(gaps) + 1 : 0);
            break;
        }
        zeros += here;
    }
    if (octet >= chunk->high_octets)
        return -1;
    for (size_t i = place - high; i < chunk->count && place / 8 < chunk->high_octets; i++, place++) {
        if (!(chunk->high[place / 8] >> place % 8 & 1))
            return -1;
        const size_t from = i * chunk->low_bits;
        const uint32_t low = read_u32(chunk->low + from / 8) >> from % 8 & low_mask;
        if (low == (offset & low_mask))
            return chunk->marks[i];
    }
    return -1;
}

/* Writes the rows and marks of a list, as many as it counts; 0 if its octets are no list. */
static int list_decode(const uint8_t *at, const uint8_t *end, int64_t *rows, uint8_t *marks)
{
    Chunk chunk;
    while (at < end) {
        int sound;
        if (!chunk_open(&chunk, &at, end))
            return 0;
        const int64_t first = (int64_t)chunk.block * BLOCK_ROWS;
        EACH_ROW(&chunk, sound, rows[i] = first + offset);
        uint8_t highest = 0;
        for (uint32_t i = 0; i < chunk.count; i++)
            highest = higher(highest, chunk.marks[i]);
        if (!sound || highest != chunk.highest)
            return 0;
        memcpy(marks, chunk.marks, chunk.count);
        rows += chunk.count;
        marks += chunk.count;
    }
    return 1;
}

/* The most octets that so many rows of one block take. */
INLINE size_t chunk_room(size_t count) { return 16 + 4 * count; }

/* Writes the chunk of rows that share a block, in ascending order; returns its end. */
static uint8_t *chunk_encode(uint8_t *at, const int64_t *rows, const uint8_t *marks, uint32_t count)
{
    uint64_t head = (uint64_t)(rows[0] / BLOCK_ROWS) << 1 | (count >= MANY);
    for (; head >= 0x80; head >>= 7)
        *at++ = (uint8_t)(head | 0x80);
    *at++ = (uint8_t)head;
    if (count < MANY) {
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t offset = (uint32_t)(rows[i] % BLOCK_ROWS) | (i + 1 == count ? LAST : 0);
            *at++ = (uint8_t)offset;
            *at++ = (uint8_t)(offset >> 8);
        }
    } else {
        const unsigned low_bits = low_bits_of(count);
        const size_t high_octets = (count + (BLOCK_ROWS >> low_bits) + 7) / 8;
        uint8_t highest = 0;
        for (uint32_t i = 0; i < count; i++)
            highest = higher(highest, marks[i]);
        *at++ = (uint8_t)count;
        *at++ = (uint8_t)(count >> 8);
        *at++ = highest;
        memset(at, 0, high_octets);
        for (uint32_t i = 0; i < count; i++) {
            const size_t place = ((size_t)(rows[i] % BLOCK_ROWS) >> low_bits) + i;
            at[place / 8] |= (uint8_t)(1u << place % 8);
        }
        at += high_octets;
        uint32_t held = 0;
        unsigned bits = 0;
        for (uint32_t i = 0; i < count; i++) {
            held |= ((uint32_t)(rows[i] % BLOCK_ROWS) & ((1u << low_bits) - 1)) << bits;
            for (bits += low_bits; bits >= 8; bits -= 8, held >>= 8)
                *at++ = (uint8_t)held;
        }
        if (bits)
            *at++ = (uint8_t)held;
    }
    memcpy(at, marks, count);
    return at + count;
}

/* How many rows from the first on share its block; 0 if they do not ascend or are too far out. */
static uint32_t rows_of_block(const int64_t *rows, size_t count)
{
    const int64_t block = rows[0] / BLOCK_ROWS;
    if (rows[0] < 0 || block > MOST_BLOCKS)
        return 0;
    uint32_t found = 1;
    for (; found < count && rows[found] / BLOCK_ROWS == block; found++)
        if (rows[found] <= rows[found - 1])
            return 0;
    return found < count && rows[found] < rows[found - 1] ? 0 : found;
}

/* -- names of terms: octets with a line feed between them */

typedef struct {
    uint64_t start; /* its first octets, the first one highest: most names differ there */
    const uint8_t *at;
    uint32_t octets, number;
} Name;

static int by_octets(const void *left, const void *right)
{
    const Name *a = left, *b = right;
    if (a->start != b->start)
        return a->start < b->start ? -1 : 1;
    const int order = memcmp(a->at, b->at, a->octets < b->octets ? a->octets : b->octets);
    return order ? order : (a->octets > b->octets) - (a->octets < b->octets);
}

INLINE Name name_at(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *stop = memchr(at, '\n', (size_t)(end - at));
    Name name = {0, at, (uint32_t)((stop ? stop : end) - at), 0};
    for (uint32_t i = 0; i < 8; i++)
        name.start = name.start << 8 | (i < name.octets ? at[i] : 0);
    return name;
}

INLINE size_t names_count(const uint8_t *octets, size_t size)
{
    size_t count = size > 0;
    for (size_t i = 0; i < size; i++)
        count += octets[i] == '\n';
    return count;
}

typedef struct {
    Name *names; /* distinct ones, those before `count` */
    uint32_t *slots; /* a hash table of their numbers, from 1 on; 0 is empty */
    size_t count, mask;
} Group;

/* Room for so many names; 0 without memory. */
static int group_begin(Group *group, size_t most)
{
    size_t room = 16;
    while (room < 2 * most)
        room *= 2;
    group->names = malloc((most + 1) * sizeof *group->names);
    group->slots = calloc(room, sizeof *group->slots);
    group->mask = room - 1;
    return group->names && group->slots;
}

/* The number of a name, the same for equal ones. */
static uint32_t group_add(Group *group, Name name)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (uint32_t i = 0; i < name.octets; i++)
        hash = (hash ^ name.at[i]) * UINT64_C(0x100000001b3);
    size_t slot = (size_t)(hash ^ hash >> 29) & group->mask;
    for (; group->slots[slot]; slot = (slot + 1) & group->mask) {
        const Name *known = &group->names[group->slots[slot] - 1];
        if (known->start == name.start && known->octets == name.octets &&
            memcmp(known->at, name.at, name.octets) == 0)
            return known->number;
    }
    name.number = (uint32_t)group->count;
    group->names[group->count++] = name;
    group->slots[slot] = (uint32_t)group->count;
    return name.number;
}

/* Sorts the names; what a number's place is then, it writes to `places`. */
static void group_sort(Group *group, uint32_t *places)
{
    qsort(group->names, group->count, sizeof *group->names, by_octets);
    for (size_t i = 0; i < group->count; i++)
        places[group->names[i].number] = (uint32_t)i;
}

static void group_end(Group *group)
{
    free(group->names);
    free(group->slots);
}

/* -- the search */

typedef struct {
    const uint8_t *at, *end;
    Chunk chunk;
    int64_t block; /* of the chunk; MOST_BLOCKS + 1 at the end */
} Cursor;

/* A word of the query: its lists, whose rows may be the same ones if it stands for several terms. */
typedef struct {
    uint32_t weight;
    size_t first, end; /* of its cursors */
    int overlaps;
    uint32_t gains[256]; /* what it adds to a row by its mark: weight times impact */
} Word;

static inline void word_weigh(Word *word, const uint8_t *impacts)
{
    for (size_t mark = 0; mark < 256; mark++)
        word->gains[mark] = word->weight * impacts[mark];
}

typedef struct {
    uint32_t score;
    int64_t row;
} Hit;

typedef struct {
    size_t words, cursors, k, held, room, masks, musts;
    Word *word;
    Cursor *cursor;
    const uint8_t *impacts; /* [256], what each mark counts; of a higher one it is no less */
    Hit *hits; /* a heap, the worst one first */
    const int64_t *mask_blocks; /* ascending; NULL: all rows may be found */
    const uint8_t *const *masks_of; /* BLOCK_OCTETS each */
    const int64_t *must; /* ascending, distinct */
    uint32_t *must_scores;
    uint32_t *sums; /* [BLOCK_ROWS], below 2**31, zero between blocks */
    uint8_t *best; /* [BLOCK_ROWS], of a word that overlaps, zero between words */
    size_t mask_at, must_at;
    uint32_t floor; /* what is found must score more: later rows lose ties */
    uint64_t added, skipped; /* rows of lists */
} Search;

#define PAST_END ((int64_t)MOST_BLOCKS + 1)

/* Moves to the next chunk; 0 if there is none where there should be. */
static int cursor_next(Cursor *cursor)
{
    const int64_t before = cursor->block;
    if (cursor->at == cursor->end) {
        cursor->block = PAST_END;
        return 1;
    }
    if (!chunk_open(&cursor->chunk, &cursor->at, cursor->end) || (int64_t)cursor->chunk.block <= before)
        return 0;
    cursor->block = cursor->chunk.block;
    return 1;
}

INLINE int is_worse(Hit a, Hit b) { return a.score < b.score || (a.score == b.score && a.row > b.row); }

static void hits_sink(Hit *hits, size_t held, size_t at)
{
    const Hit hit = hits[at];
    for (size_t child; (child = 2 * at + 1) < held; at = child) {
        if (child + 1 < held && is_worse(hits[child + 1], hits[child]))
            child++;
        if (!is_worse(hits[child], hit))
            break;
        hits[at] = hits[child];
    }
    hits[at] = hit;
}

/* Takes a row that scores more than the floor; 0 without memory. */
static int hits_add(Search *search, Hit hit)
{
    if (search->held == search->k) {
        search->hits[0] = hit;
        hits_sink(search->hits, search->held, 0);
        search->floor = search->hits[0].score;
        return 1;
    }
    if (search->held == search->room) {
        const size_t room = 2 * search->room + 64;
        Hit *grown = realloc(search->hits, room * sizeof *grown);
        if (!grown)
            return 0;
        search->hits = grown;
        search->room = room;
    }
    search->hits[search->held++] = hit;
    if (search->held == search->k) {
        for (size_t i = search->k / 2; i-- > 0;)
            hits_sink(search->hits, search->held, i);
        search->floor = search->hits[0].score;
    }
    return 1;
}

static int by_score(const void *left, const void *right)
{
    const Hit *a = left, *b = right;
    return is_worse(*a, *b) - is_worse(*b, *a);
}

/* Adds what a word counts in a block to the sums; 0 if a chunk is not sound. */
static int word_add(Search *search, const Word *word, int64_t block)
{
    uint32_t *sums = search->sums;
    const uint8_t *impacts = search->impacts;
    const uint32_t *gains = word->gains;
    for (size_t c = word->first; c < word->end; c++) {
        const Chunk *chunk = &search->cursor[c].chunk;
        int sound;
        if (search->cursor[c].block != block)
            continue;
        search->added += chunk->count;
        if (word->overlaps) {
            uint8_t *best = search->best;
            EACH_ROW(chunk, sound, const uint8_t own = impacts[chunk->marks[i]];
                     if (own > best[offset]) best[offset] = own);
        } else {
            EACH_ROW(chunk, sound, sums[offset] += gains[chunk->marks[i]]);
        }
        if (!sound)
            return 0;
    }
    if (word->overlaps) {
        for (size_t i = 0; i < BLOCK_ROWS; i++)
            sums[i] += word->weight * search->best[i];
        memset(search->best, 0, BLOCK_ROWS);
    }
    return 1;
}

/* What a word adds to one row. */
static uint32_t word_lookup(const Search *search, const Word *word, int64_t block, uint32_t offset)
{
    uint32_t best = 0;
    for (size_t c = word->first; c < word->end; c++) {
        if (search->cursor[c].block != block)
            continue;
        const int mark = chunk_mark(&search->cursor[c].chunk, offset);
        if (mark >= 0 && search->impacts[mark] > best)
            best = search->impacts[mark];
    }
    return word->weight * best;
}

INLINE int may_be_found(const uint8_t *mask, uint32_t offset) { return !mask || mask[offset / 8] >> offset % 8 & 1; }

/* Whether one of 32 sums is above `above`; both are below 2**31, so the difference tells it by its sign. */
INLINE int any_above(const uint32_t *sums, uint32_t above)
{
    uint32_t differences = 0;
    for (uint32_t i = 0; i < 32; i++)
        differences |= above - sums[i];
    return (int32_t)differences < 0;
}

/* The rows of the block whose sum is above `above`, in order; more than `most` if there are more than that. */
static size_t candidates_of(const Search *search, const uint8_t *mask, uint32_t above, uint16_t *found, size_t most)
{
    size_t count = 0;
    for (uint32_t first = 0; first < BLOCK_ROWS; first += 32) {
        if (!any_above(search->sums + first, above))
            continue;
        for (uint32_t offset = first; offset < first + 32; offset++)
            if (search->sums[offset] > above && may_be_found(mask, offset)) {
                if (count == most)
                    return most + 1;
                found[count++] = (uint16_t)offset;
            }
    }
    return count;
}

static int take_all(Search *search, const uint8_t *mask, int64_t first_row)
{
    for (uint32_t first = 0; first < BLOCK_ROWS; first += 32) {
        if (!any_above(search->sums + first, search->floor))
            continue;
        for (uint32_t i = 0; i < 32; i++)
            if (search->sums[first + i] > search->floor && may_be_found(mask, first + i) &&
                !hits_add(search, (Hit){search->sums[first + i], first_row + first + i}))
                return 0;
    }
    return 1;
}

/* The bitmap of a block, NULL for all of it; 0 if no row of it may be found. */
static int mask_of(Search *search, int64_t block, const uint8_t **mask)
{
    *mask = NULL;
    if (!search->mask_blocks)
        return 1;
    while (search->mask_at < search->masks && search->mask_blocks[search->mask_at] < block)
        search->mask_at++;
    if (search->mask_at == search->masks || search->mask_blocks[search->mask_at] != block)
        return 0;
    *mask = search->masks_of[search->mask_at];
    return 1;
}

typedef struct {
    const Word *word;
    uint64_t bound; /* the most that it adds to a row of the block */
    uint64_t count;
} Share;

/* The words of a block, those that add most first; returns how many. */
static size_t shares_of(const Search *search, int64_t block, Share *shares, uint64_t *total)
{
    size_t found = 0;
    *total = 0;
    for (size_t w = 0; w < search->words; w++) {
        const Word *word = &search->word[w];
        uint32_t highest = 0;
        uint64_t count = 0;
        for (size_t c = word->first; c < word->end; c++) {
            if (search->cursor[c].block != block)
                continue;
            count += search->cursor[c].chunk.count;
            if (search->impacts[search->cursor[c].chunk.highest] > highest)
                highest = search->impacts[search->cursor[c].chunk.highest];
        }
        if (!count)
            continue;
        const Share share = {word, (uint64_t)word->weight * highest, count};
        size_t at = found++;
        for (; at && shares[at - 1].bound < share.bound; at--)
            shares[at] = shares[at - 1];
        shares[at] = share;
        *total += share.bound;
    }
    return found;
}

/* So many rows are looked up sooner than a word's rows are added. */
INLINE size_t most_candidates(uint64_t count)
{
    const uint64_t most = count / SEARCH_COST;
    return most < CANDIDATES ? (size_t)most : CANDIDATES;
}

enum { SOUND = 1, DAMAGED = 0, NO_MEMORY = -1 };

/* Scores one block. shares: room for all words. */
static int search_block(Search *search, int64_t block, Share *shares)
{
    const int64_t first_row = block * BLOCK_ROWS;
    while (search->must_at < search->musts && search->must[search->must_at] < first_row)
        search->must_at++;
    const size_t must_from = search->must_at;
    while (search->must_at < search->musts && search->must[search->must_at] < first_row + BLOCK_ROWS)
        search->must_at++;
    uint64_t rest;
    const uint8_t *mask;
    const size_t words = shares_of(search, block, shares, &rest);
    uint32_t *sums = search->sums;
    uint16_t met[CANDIDATES];
    size_t candidates = 0, done = 0;
    /* Whether all rows may still be among the best, or only those that were met. */
    int is_open = mask_of(search, block, &mask) && rest > search->floor, is_clean = 1;
    for (; is_open && done < words; done++) {
        /* What was not met by now cannot get above the floor any more. */
        if (rest <= search->floor) {
            const size_t most = most_candidates(shares[done].count);
            if (most)
                candidates = candidates_of(search, mask, search->floor - (uint32_t)rest, met, most);
            if (most && candidates <= most) {
                is_open = 0;
                break;
            }
        }
        if (!word_add(search, shares[done].word, block))
            return DAMAGED;
        is_clean = 0;
        rest -= shares[done].bound;
    }
    /* What is left is looked up: for candidates, and for rows that must be scored. */
    for (; done < words; done++) {
        const Word *word = shares[done].word;
        search->skipped += shares[done].count;
        size_t c = 0;
        for (; c < candidates; c++)
            sums[met[c]] += word_lookup(search, word, block, met[c]);
        c = 0;
        for (size_t m = must_from; m < search->must_at; m++) {
            const uint32_t offset = (uint32_t)(search->must[m] - first_row);
            while (c < candidates && met[c] < offset)
                c++;
            if (c == candidates || met[c] != offset)
                sums[offset] += word_lookup(search, word, block, offset);
        }
        is_clean = is_clean && !candidates && must_from == search->must_at;
    }
    for (size_t m = must_from; m < search->must_at; m++)
        search->must_scores[m] = sums[search->must[m] - first_row];
    int kept = 1;
    if (is_open)
        kept = take_all(search, mask, first_row);
    for (size_t c = 0; !is_open && kept && c < candidates; c++)
        if (sums[met[c]] > search->floor)
            kept = hits_add(search, (Hit){sums[met[c]], first_row + met[c]});
    if (!is_clean)
        memset(sums, 0, BLOCK_ROWS * sizeof *sums);
    return kept ? SOUND : NO_MEMORY;
}

/* Finds the best rows and sorts them. The cursors stand before their first chunks, with block -1. */
static int search_run(Search *search)
{
    Share *shares = malloc((search->words + 1) * sizeof *shares);
    search->sums = calloc(BLOCK_ROWS, sizeof *search->sums);
    search->best = calloc(BLOCK_ROWS, 1);
    int found = shares && search->sums && search->best ? SOUND : NO_MEMORY;
    for (size_t c = 0; found == SOUND && c < search->cursors; c++)
        found = cursor_next(&search->cursor[c]);
    while (found == SOUND) {
        int64_t block = PAST_END;
        for (size_t c = 0; c < search->cursors; c++)
            if (search->cursor[c].block < block)
                block = search->cursor[c].block;
        if (block == PAST_END)
            break;
        found = search_block(search, block, shares);
        for (size_t c = 0; found == SOUND && c < search->cursors; c++)
            if (search->cursor[c].block == block)
                found = cursor_next(&search->cursor[c]);
    }
    if (found == SOUND && search->held)
        qsort(search->hits, search->held, sizeof *search->hits, by_score);
    free(shares);
    free(search->sums);
    free(search->best);
    return found;
}
