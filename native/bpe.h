/* A text to tokens: the ids of byte-level BPE, and where they stand. No Python in here.
 *
 * A tokenizer is a file of tables (docs/format.md), and may come from anywhere: whatever they hold, nothing outside of
 * them is read, and each step takes a byte of the text or a merge, which leaves one token less. The trie and the merges
 * stay in the file, as those of Unigram do.
 */
#include "trie.h"

#define MOST_DECOMPOSED 64 /* code points */
#define CLASSES 64 /* of marks, from 1; 0 is no mark */
#define PAIR 3 /* numbers: two code points, and the one that they become */
#define NONE UINT32_MAX

/* What a code point is to a word's pattern. */
enum { IS_OTHER, IS_LETTER, IS_NUMBER, IS_SPACE, KIND = 3 };

/* Whether it is blank to what strips blanks; which letter of an ending it is; whether it becomes something else by
 * itself, or may with what stands before it; its rank among marks; where its parts are. */
enum { IS_BLANK = 4, ENDING = 3, CHANGES = 1 << 7, FOLLOWS = 1 << 8, RANK = 9, PARTS = 15 };

#define LETTERS (UINT32_MAX >> PARTS) /* in place of parts: those of a syllable of Hangul, by arithmetic */

/* Of a tokenizer: see bpe.py. */
enum { PREFIXES = 1, TRIMS = 2, SPARES = 4, COMPOSES = 8, SPLITS_WORDS = 16, SPLITS_MORE = 32, NUMBERS = 8 };

/* How a part of a text is asked for. */
enum { CONTINUES = 1, CUTS = 2 };

typedef struct {
    uint32_t flags, vocabulary, merges;
    const uint16_t *pages; /* [PAGES] */
    const uint32_t *entries; /* [blocks][256] */
    const uint32_t *sequences;
    const uint32_t *octets; /* [256] */
    const uint32_t *pairs; /* [pairs_size][PAIR], in order */
    size_t blocks, sequences_size, pairs_size;
    Trie trie; /* behind its units where each token's merges begin, then the merges: another token, a rank, and what they make */
} Bpe;

/* A character of a normalized text, and of a decomposition. */
typedef struct {
    uint32_t byte, entry;
} Glyph;

typedef struct {
    uint32_t code, rank;
    int32_t change; /* by how much what comes behind moves */
} Mark;

/* Of a word that is merged: a token by the byte where it begins; no bytes are one that went into another. */
typedef struct {
    uint32_t id, size, before, behind;
} Link;

typedef struct {
    uint32_t rank, place, made;
} Offer;

/* What there is room for: any number of things of one kind. */
typedef struct {
    void *things;
    size_t room;
} Heap;

/* A part of the text that has no added token, and what is made of it. The first glyph and byte are left free, for a blank
 * that is put before the others. */
typedef struct {
    const Bpe *bpe;
    Tokens *found;
    uint32_t part, words;
    int is_begun;
    uint32_t origin, last, passed; /* characters: where the part begins, its last one, and how many are behind */
    size_t glyphs_size, bytes_size, marks_size, offers_size;
    Heap glyphs_heap, bytes_heap, places_heap, marks_heap, sorted_heap, links_heap, offers_heap;
    Glyph *glyphs; /* one more is the end */
    uint8_t *bytes;
    uint32_t *places; /* of each byte */
    Mark *marks, *sorted;
    Link *links;
    Offer *offers;
} Spelling;

static void *room_for(Spelling *spelling, Heap *heap, size_t count, size_t size)
{
    if (count > heap->room) {
        const size_t room = 2 * count + 64;
        void *things = room <= SIZE_MAX / size ? realloc(heap->things, room * size) : NULL;
        if (!things) {
            spelling->found->is_short = 1;
            return NULL;
        }
        heap->things = things;
        heap->room = room;
    }
    return heap->things;
}

static uint32_t about(const Bpe *bpe, uint32_t code)
{
    const uint32_t block = code >> 8 < PAGES ? bpe->pages[code >> 8] : NOWHERE;
    return block < bpe->blocks ? bpe->entries[block << 8 | (code & 0xFF)] : 0;
}

static uint32_t kind_at(const Spelling *spelling, size_t glyph) { return spelling->glyphs[glyph].entry & KIND; }

static uint8_t byte_at(const Spelling *spelling, size_t glyph) { return spelling->bytes[spelling->glyphs[glyph].byte]; }

/* -- tokens */

/* The next tokens are another word's, if the text can be cut before it or that is not asked. */
static void begin_word(Spelling *spelling, int is_apart)
{
    if (is_apart || !(spelling->part & CUTS) || !spelling->words)
        spelling->words++;
}

/* lead, tail: blanks at its ends. */
static void add_spelled(Spelling *spelling, uint32_t id, uint32_t start, uint32_t stop, uint32_t lead, uint32_t tail)
{
    const uint32_t flags = spelling->bpe->flags;
    if (flags & TRIMS && !(spelling->part & CUTS)) {
        const int is_first = !(spelling->part & CONTINUES) && (!spelling->found->count || start == 0);
        if (lead == 1 && is_first && flags & SPARES)
            lead = 0;
        start = lead < stop - start ? start + lead : stop;
        if (stop >= tail)
            stop = stop - tail > start ? stop - tail : start;
    }
    add_token(spelling->found, id, start, stop, spelling->words - 1);
}

static void add_bytes(Spelling *spelling, uint32_t id, uint32_t first, uint32_t stop)
{
    const uint8_t *bytes = spelling->bytes;
    uint32_t lead = 0, tail = 0;
    while (lead < stop - first && bytes[first + lead] == ' ')
        lead++;
    while (tail < stop - first && bytes[stop - 1 - tail] == ' ')
        tail++;
    add_spelled(spelling, id, spelling->places[first], spelling->places[stop - 1] + 1, lead, tail);
}

/* -- merges */

/* The merge of two tokens; its rank is NONE if there is none. */
static Offer merge_of(const Bpe *bpe, uint32_t one, uint32_t other)
{
    const Trie *trie = &bpe->trie;
    const size_t starts = trie->units + one, first = trie->units + (size_t)bpe->vocabulary + 1;
    size_t low = number_at(trie, starts), high = number_at(trie, starts + 1);
    low = low < bpe->merges ? low : bpe->merges;
    high = high < bpe->merges ? high : bpe->merges;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const uint32_t found = number_at(trie, first + 3 * middle);
        if (found == other)
            return (Offer){number_at(trie, first + 3 * middle + 1), 0, number_at(trie, first + 3 * middle + 2)};
        if (found < other)
            low = middle + 1;
        else
            high = middle;
    }
    return (Offer){NONE, 0, 0};
}

static int is_sooner(const Offer *one, const Offer *other)
{
    return one->rank < other->rank || (one->rank == other->rank && one->place < other->place);
}

/* A heap: the soonest is first. */
static void push_offer(Spelling *spelling, Offer offer)
{
    Offer *offers = room_for(spelling, &spelling->offers_heap, spelling->offers_size + 1, sizeof *offers);
    if (!offers)
        return;
    spelling->offers = offers;
    size_t at = spelling->offers_size++;
    for (size_t above; at && is_sooner(&offer, &offers[above = (at - 1) / 2]); at = above)
        offers[at] = offers[above];
    offers[at] = offer;
}

static Offer pop_offer(Spelling *spelling)
{
    Offer *offers = spelling->offers;
    const Offer soonest = offers[0], last = offers[--spelling->offers_size];
    const size_t size = spelling->offers_size;
    size_t at = 0;
    for (size_t below; (below = 2 * at + 1) < size; at = below) {
        below += below + 1 < size && is_sooner(&offers[below + 1], &offers[below]);
        if (!is_sooner(&offers[below], &last))
            break;
        offers[at] = offers[below];
    }
    offers[at] = last;
    return soonest;
}

static void offer_merge(Spelling *spelling, uint32_t place, uint32_t size)
{
    if (place == NONE || spelling->links[place].behind >= size)
        return;
    const Link *link = &spelling->links[place];
    Offer offer = merge_of(spelling->bpe, link->id, spelling->links[link->behind].id);
    offer.place = place;
    if (offer.rank != NONE)
        push_offer(spelling, offer);
}

/* The tokens of a word: one, or what merges make of the bytes' tokens. */
static void add_word(Spelling *spelling, size_t from, size_t to)
{
    const Bpe *bpe = spelling->bpe;
    const uint32_t first = spelling->glyphs[from].byte, size = spelling->glyphs[to].byte - first;
    const uint8_t *bytes = spelling->bytes + first;
    uint32_t unit = number_at(&bpe->trie, 0);
    for (uint32_t i = 0; i < size && unit; i++)
        unit = child(&bpe->trie, unit, bytes[i]);
    if (unit && has_end(unit)) {
        add_bytes(spelling, number_of(&bpe->trie, unit), first, first + size);
        return;
    }
    Link *links = room_for(spelling, &spelling->links_heap, size, sizeof *links);
    if (!links)
        return;
    spelling->links = links;
    for (uint32_t i = 0; i < size; i++)
        links[i] = (Link){bpe->octets[bytes[i]], 1, i ? i - 1 : NONE, i + 1};
    for (uint32_t i = 0; i < size; i++)
        offer_merge(spelling, i, size);
    while (spelling->offers_size) {
        const Offer offer = pop_offer(spelling);
        Link *link = &links[offer.place];
        if (!link->size || link->behind >= size)
            continue;
        Link *other = &links[link->behind];
        const Offer now = merge_of(bpe, link->id, other->id);
        if (now.rank == NONE || now.made != offer.made)
            continue;
        link->id = offer.made;
        link->size += other->size;
        other->size = 0;
        link->behind = other->behind;
        if (link->behind < size)
            links[link->behind].before = offer.place;
        offer_merge(spelling, link->before, size);
        offer_merge(spelling, offer.place, size);
    }
    for (uint32_t i = 0; i < size; i += links[i].size)
        add_bytes(spelling, links[i].id, first + i, first + i + links[i].size);
}

/* -- words */

/* Of an ending behind an apostrophe: how many letters it has, or 0. Its letters are s, t, m, d, r, e, v, l, from 1. */
static size_t ending_at(const Spelling *spelling, size_t at, size_t stop)
{
    uint32_t letters[2] = {0, 0};
    for (size_t i = 0; i < 2 && at + i < stop; i++)
        letters[i] = spelling->glyphs[at + i].entry >> ENDING & 15;
    if (letters[0] >= 1 && letters[0] <= 4)
        return 1;
    return (letters[1] == 6 && (letters[0] == 5 || letters[0] == 7)) || (letters[0] == 8 && letters[1] == 8) ? 2 : 0;
}

static size_t run_end(const Spelling *spelling, size_t at, size_t stop, uint32_t kind)
{
    while (at < stop && kind_at(spelling, at) == kind)
        at++;
    return at;
}

/* All blanks, but for the last one before something else, if there are more. */
static size_t blank_end(const Spelling *spelling, size_t at, size_t stop)
{
    const size_t end = run_end(spelling, at, stop, IS_SPACE);
    return end - (end < stop && end - at > 1);
}

static int is_line_end(const Spelling *spelling, size_t at)
{
    return byte_at(spelling, at) == '\r' || byte_at(spelling, at) == '\n';
}

/* As later models have it: a letter's word has any sign before it, a sign's the ends of lines behind it. */
static size_t later_end(const Spelling *spelling, size_t at, size_t stop)
{
    const uint32_t kind = kind_at(spelling, at), next = at + 1 < stop ? kind_at(spelling, at + 1) : KIND + 1;
    if (kind == IS_LETTER || (next == IS_LETTER && kind != IS_NUMBER && !is_line_end(spelling, at)))
        return run_end(spelling, at + (kind != IS_LETTER), stop, IS_LETTER);
    if (kind == IS_NUMBER) {
        const size_t most = spelling->bpe->flags >> NUMBERS, end = run_end(spelling, at, stop, IS_NUMBER);
        return most && at + most < end ? at + most : end;
    }
    const size_t first = at + (byte_at(spelling, at) == ' ' && next == IS_OTHER);
    if (kind_at(spelling, first) == IS_OTHER) {
        size_t end = run_end(spelling, first, stop, IS_OTHER);
        while (end < stop && is_line_end(spelling, end))
            end++;
        return end;
    }
    size_t end = run_end(spelling, at, stop, IS_SPACE);
    while (end > at && !is_line_end(spelling, end - 1))
        end--;
    return end > at ? end : blank_end(spelling, at, stop);
}

/* Where the word ends that begins at a glyph. */
static size_t word_end(const Spelling *spelling, size_t at, size_t stop)
{
    const uint32_t flags = spelling->bpe->flags;
    if (!(flags & (SPLITS_WORDS | SPLITS_MORE)))
        return stop;
    const size_t ending = byte_at(spelling, at) == '\'' ? ending_at(spelling, at + 1, stop) : 0;
    if (ending)
        return at + 1 + ending;
    if (flags & SPLITS_MORE)
        return later_end(spelling, at, stop);
    const size_t first = at + (byte_at(spelling, at) == ' ' && at + 1 < stop && kind_at(spelling, at + 1) != IS_SPACE);
    const uint32_t kind = kind_at(spelling, first);
    return kind == IS_SPACE ? blank_end(spelling, at, stop) : run_end(spelling, first, stop, kind);
}

/* Of the glyphs in [from, to), before which there is another one, or none. */
static void add_words(Spelling *spelling, size_t from, size_t to)
{
    const uint32_t flags = spelling->bpe->flags;
    int is_apart = 1;
    if (flags & PREFIXES && (spelling->is_begun || !(spelling->part & CONTINUES))) {
        is_apart = !spelling->is_begun;
        if (byte_at(spelling, from) != ' ') {
            const uint32_t byte = spelling->glyphs[from--].byte;
            spelling->glyphs[from] = (Glyph){byte - 1, about(spelling->bpe, ' ')};
            spelling->bytes[byte - 1] = ' ';
            spelling->places[byte - 1] = spelling->places[byte];
        }
    }
    spelling->is_begun = 1;
    for (size_t stop; from < to && !spelling->found->is_short; from = stop, is_apart = 1) {
        stop = word_end(spelling, from, to);
        const int is_rest = stop == to && flags & SPLITS_MORE && kind_at(spelling, from) == IS_SPACE;
        begin_word(spelling, is_apart && !(spelling->glyphs[from].entry & FOLLOWS) && !is_rest);
        add_word(spelling, from, stop);
    }
}

/* -- characters */

static void add_glyph(Spelling *spelling, uint32_t code, int32_t change)
{
    uint32_t place = spelling->passed;
    if (change > 0)
        place -= place > 0;
    else
        spelling->passed += (uint32_t)(1 - change);
    place = spelling->origin + (place < spelling->last ? place : spelling->last);
    Glyph *glyphs = room_for(spelling, &spelling->glyphs_heap, spelling->glyphs_size + 2, sizeof *glyphs);
    uint8_t *bytes = room_for(spelling, &spelling->bytes_heap, spelling->bytes_size + 4, sizeof *bytes);
    uint32_t *places = room_for(spelling, &spelling->places_heap, spelling->bytes_size + 4, sizeof *places);
    if (spelling->found->is_short)
        return;
    spelling->glyphs = glyphs;
    spelling->bytes = bytes;
    spelling->places = places;
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        code = 0xFFFD;
    glyphs[spelling->glyphs_size++] = (Glyph){(uint32_t)spelling->bytes_size, about(spelling->bpe, code)};
    const uint32_t size = write_character(code, bytes + spelling->bytes_size);
    for (uint32_t i = 0; i < size; i++)
        places[spelling->bytes_size++] = place;
    glyphs[spelling->glyphs_size].byte = (uint32_t)spelling->bytes_size;
}

static void add_mark(Spelling *spelling, uint32_t code, int32_t change)
{
    Mark *marks = room_for(spelling, &spelling->marks_heap, spelling->marks_size + 1, sizeof *marks);
    if (!marks)
        return;
    spelling->marks = marks;
    marks[spelling->marks_size++] = (Mark){code, about(spelling->bpe, code) >> RANK & (CLASSES - 1), change};
}

static void decompose(Spelling *spelling, uint32_t code)
{
    const Bpe *bpe = spelling->bpe;
    const size_t place = about(bpe, code) >> PARTS;
    if (place == LETTERS) {
        const uint32_t number = code - 0xAC00;
        add_mark(spelling, 0x1100 + number / 588, 0);
        add_mark(spelling, 0x1161 + number / 28 % 21, 1);
        if (number % 28)
            add_mark(spelling, 0x11A7 + number % 28, 1);
    } else if (!place || place >= bpe->sequences_size) {
        add_mark(spelling, code, 0);
    } else {
        uint32_t count = bpe->sequences[place];
        count = count < MOST_DECOMPOSED ? count : MOST_DECOMPOSED;
        for (uint32_t i = 0; i < count && place + 1 + i < bpe->sequences_size; i++)
            add_mark(spelling, bpe->sequences[place + 1 + i] & 0x1FFFFF, i > 0);
    }
}

/* Marks in [first, stop), of ranks of `there`, in the order of these. */
static void order_run(Spelling *spelling, size_t first, size_t stop, uint64_t there)
{
    Mark *sorted = room_for(spelling, &spelling->sorted_heap, stop - first, sizeof *sorted);
    if (!sorted || stop - first < 2)
        return;
    size_t size = 0;
    for (uint32_t rank = 1; rank < CLASSES; rank++)
        for (size_t i = first; there >> rank & 1 && i < stop; i++)
            if (spelling->marks[i].rank == rank)
                sorted[size++] = spelling->marks[i];
    memcpy(spelling->marks + first, sorted, size * sizeof *sorted);
}

static void order(Spelling *spelling)
{
    for (size_t first = 0, stop; first < spelling->marks_size; first = stop + 1) {
        uint64_t there = 0;
        for (stop = first; stop < spelling->marks_size && spelling->marks[stop].rank; stop++)
            there |= UINT64_C(1) << spelling->marks[stop].rank;
        order_run(spelling, first, stop, there);
    }
}

/* What two code points become, or NONE. */
static uint32_t composed(const Bpe *bpe, uint32_t one, uint32_t other)
{
    if (one - 0x1100 < 19 && other - 0x1161 < 21)
        return 0xAC00 + ((one - 0x1100) * 21 + other - 0x1161) * 28;
    if (one - 0xAC00 < 11172 && (one - 0xAC00) % 28 == 0 && other - 0x11A8 < 27)
        return one + other - 0x11A7;
    size_t low = 0, high = bpe->pairs_size;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const uint32_t *pair = bpe->pairs + PAIR * middle;
        if (pair[0] == one && pair[1] == other)
            return pair[2];
        if (pair[0] < one || (pair[0] == one && pair[1] < other))
            low = middle + 1;
        else
            high = middle;
    }
    return NONE;
}

/* Marks are joined with what they stand behind, where no other mark of their rank is between. */
static void compose(Spelling *spelling)
{
    Mark *marks = spelling->marks;
    size_t size = 0, base = SIZE_MAX;
    uint32_t last = 0;
    for (size_t i = 0; i < spelling->marks_size; i++) {
        const Mark mark = marks[i];
        const int may_join = base != SIZE_MAX && (!last || last < mark.rank);
        const uint32_t made = may_join ? composed(spelling->bpe, marks[base].code, mark.code) : NONE;
        if (made != NONE) {
            marks[base] = (Mark){made, 0, marks[base].change + mark.change - 1};
            continue;
        }
        if (!mark.rank) {
            base = size;
            last = 0;
        } else if (base != SIZE_MAX) {
            last = mark.rank;
        }
        marks[size++] = mark;
    }
    spelling->marks_size = size;
}

/* The glyphs of a part of the text. */
static void normalize(Spelling *spelling, const uint8_t *text, Place from, Place to)
{
    const Bpe *bpe = spelling->bpe;
    spelling->glyphs_size = spelling->bytes_size = 1;
    spelling->origin = from.character;
    spelling->last = to.character - from.character - 1;
    spelling->passed = 0;
    for (Place at = from, stop; at.byte < to.byte && !spelling->found->is_short; at = stop) {
        const uint32_t code = character_at(text + at.byte);
        stop = at;
        step(&stop, text);
        const size_t alone = stop.byte;
        while (stop.byte < to.byte && about(bpe, character_at(text + stop.byte)) & FOLLOWS)
            step(&stop, text);
        if (stop.byte == alone && !(about(bpe, code) & CHANGES)) {
            add_glyph(spelling, code, 0);
            continue;
        }
        spelling->marks_size = 0;
        for (Place one = at; one.byte < stop.byte; step(&one, text))
            decompose(spelling, character_at(text + one.byte));
        order(spelling);
        if (bpe->flags & COMPOSES)
            compose(spelling);
        for (size_t i = 0; i < spelling->marks_size; i++)
            add_glyph(spelling, spelling->marks[i].code, spelling->marks[i].change);
    }
}

/* -- the whole */

/* Words of a part of the text without added tokens, but for those that are found once it is normalized. */
static void add_stretch(Spelling *spelling, uint32_t added, const uint8_t *text, Place from, Place to)
{
    if (from.byte == to.byte)
        return;
    normalize(spelling, text, from, to);
    size_t first = 1;
    for (size_t at = 1; added && at < spelling->glyphs_size && !spelling->found->is_short;) {
        uint32_t number = 0, lead = 0, tail = 0;
        const Place begin = {.byte = spelling->glyphs[at].byte, .character = (uint32_t)at};
        const size_t stop =
            longest_at(&spelling->bpe->trie, added, spelling->bytes, spelling->bytes_size, begin, &number).character;
        if (stop == at) {
            at++;
            continue;
        }
        while (number & 1 && at > first && spelling->glyphs[at - 1].entry & IS_BLANK)
            at--;
        while (at + lead < stop && spelling->glyphs[at + lead].entry & IS_BLANK)
            lead++;
        while (at + tail < stop && spelling->glyphs[stop - 1 - tail].entry & IS_BLANK)
            tail++;
        const uint32_t *places = spelling->places, start = places[spelling->glyphs[at].byte];
        const uint32_t end = places[spelling->glyphs[stop].byte - 1] + 1;
        if (first < at)
            add_words(spelling, first, at);
        begin_word(spelling, 1);
        add_spelled(spelling, number >> 1, start, end, lead, tail);
        spelling->is_begun = 1;
        first = at = stop;
    }
    if (first < spelling->glyphs_size && !spelling->found->is_short)
        add_words(spelling, first, spelling->glyphs_size);
}

static int is_blank_at(const Bpe *bpe, const uint8_t *text, Place at)
{
    return (about(bpe, character_at(text + at.byte)) & IS_BLANK) != 0;
}

static uint32_t blanks_before(const Bpe *bpe, const uint8_t *text, Place from, Place to)
{
    uint32_t count = 0;
    for (; to.byte > from.byte; count++) {
        step_back(&to, text);
        if (!is_blank_at(bpe, text, to))
            break;
    }
    return count;
}

static uint32_t blanks_behind(const Bpe *bpe, const uint8_t *text, Place from, Place to)
{
    uint32_t count = 0;
    for (; from.byte < to.byte && is_blank_at(bpe, text, from); step(&from, text))
        count++;
    return count;
}

/* The tokens of a text of sound UTF-8, less than 2**32 characters, or of a part of one. Returns 0 for want of memory, or
 * if the file could not be read: then `is_short` of what was found is 0. */
static int tokenize_bytes(const Bpe *bpe, const uint8_t *text, size_t size, uint32_t part, Tokens *found)
{
    Spelling spelling = {.bpe = bpe, .found = found, .part = part};
    const Trie *trie = &bpe->trie;
    trie->lazy->failed = 0;
    const uint32_t root = number_at(trie, 0), added = child(trie, root, ADDED), normal = child(trie, root, MAPS);
    Place from = {0}, at = {0};
    while (at.byte < size && !trie->lazy->failed && !found->is_short) {
        uint32_t number = 0;
        Place stop = added ? longest_at(trie, added, text, size, at, &number) : at;
        if (stop.byte == at.byte) {
            step(&at, text);
            continue;
        }
        for (uint32_t blanks = number & 1 ? blanks_before(bpe, text, from, at) : 0; blanks; blanks--)
            step_back(&at, text);
        add_stretch(&spelling, normal, text, from, at);
        begin_word(&spelling, 1);
        add_spelled(&spelling, number >> 1, at.character, stop.character, blanks_behind(bpe, text, at, stop),
                    blanks_before(bpe, text, at, stop));
        spelling.is_begun = 1;
        from = at = stop;
    }
    add_stretch(&spelling, normal, text, from, at);
    void *all[] = {spelling.glyphs_heap.things, spelling.bytes_heap.things, spelling.places_heap.things,
                   spelling.marks_heap.things, spelling.sorted_heap.things, spelling.links_heap.things,
                   spelling.offers_heap.things};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    return !trie->lazy->failed && !found->is_short;
}
