/* A text to tokens: the ids of Unigram, and where they stand. No Python in here.
 *
 * A tokenizer is a file of tables (docs/format.md), and may come from anywhere: whatever they hold, nothing outside of
 * them is read, and each step takes a byte of the text. The trie and the scores stay in the file, and are read from it
 * block by block as texts touch them.
 */
#include "trie.h"

#define MARK 0x2581 /* in place of a blank */
#define SHORT_GRAPHEME 6 /* bytes; longer ones are mapped code point by code point */
#define MOST_MAPPED 64 /* code points that one becomes */
#define NO_PIECE UINT32_MAX
#define LONGEST_PIECES (UINT32_MAX / 2) /* bytes of a word */

/* What a code point is within a grapheme. */
enum { OTHER, JOINED, CONTROL, PREPENDED, RETURN, FEED, GRAPHEME = 7 };

enum { BLANK = 8, MAPPED = 16, MAPPED_VALUE = 8 };

/* Of a tokenizer: words are what stands between blanks; one begins with a mark; each mark begins one; blanks in a row
 * become one; those at the end are left out. */
enum { SPLITS_BLANKS = 1, PREPENDS = 2, SPLITS_MARKS = 4, COLLAPSES = 8, STRIPS = 16 };

typedef struct {
    uint32_t unknown, flags;
    double unknown_score;
    const uint16_t *pages; /* [PAGES] */
    const uint32_t *entries; /* [blocks][256] */
    const uint32_t *sequences;
    const uint32_t *octets; /* ids of what stands for a byte, [256] or none */
    size_t blocks, sequences_size, octets_size;
    Trie trie; /* behind its units a score for each id, two numbers */
} Unigram;

/* Of a word up to a byte: the score of the best path, where its last piece begins, and that piece. */
typedef struct {
    double score;
    uint32_t from, id;
} Path;

/* A code point that was mapped. change: by how much what comes behind moves; see add_mapped. */
typedef struct {
    uint32_t code;
    int32_t change;
} Part;

/* A segment of the text that has no added token, and the word of it that is being read. */
typedef struct {
    const Unigram *unigram;
    Tokens *found;
    uint32_t words;
    uint32_t origin, last, passed; /* characters: where the segment begins, its last one, and how many are behind */
    Part held;
    uint32_t parts, stop; /* how many there were, and how many count */
    int is_held, is_first, is_blank, is_counting;
    uint32_t blank_place;
    size_t size, room;
    uint8_t *bytes;
    uint32_t *places; /* of each byte, and one more */
    Path *paths;
} Reading;

static double score_of(const Trie *trie, uint32_t id)
{
    const size_t place = trie->units + 2 * (size_t)id;
    const uint64_t bits = (uint64_t)number_at(trie, place + 1) << 32 | number_at(trie, place);
    double score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

/* -- words */

static void reach(Path *path, double score, uint32_t from, uint32_t id)
{
    if (path->from == NOWHERE || score > path->score)
        *path = (Path){score, from, id};
}

static void find_paths(Reading *reading)
{
    const Trie *trie = &reading->unigram->trie;
    const uint32_t size = (uint32_t)reading->size, root = number_at(trie, 0);
    Path *paths = reading->paths;
    for (uint32_t i = 0; i <= size; i++)
        paths[i] = (Path){0, NOWHERE, NO_PIECE};
    for (uint32_t start = 0, next; start < size; start = next) {
        next = start + (uint32_t)width(reading->bytes[start]);
        const double score = paths[start].score;
        uint32_t unit = root;
        int is_known = 0;
        for (uint32_t i = start; i < size && (unit = child(trie, unit, reading->bytes[i])); i++) {
            if (!has_end(unit))
                continue;
            const uint32_t id = number_of(trie, unit);
            reach(&paths[i + 1], score + score_of(trie, id), start, id);
            is_known |= i + 1 == next;
        }
        if (!is_known)
            reach(&paths[next], score + reading->unigram->unknown_score, start, NO_PIECE);
    }
}

static int is_unknown(const Reading *reading, uint32_t id)
{
    return id == NO_PIECE || id == reading->unigram->unknown;
}

/* Tokens of the best path; unknown ones that follow each other are one, or all their bytes. */
static void end_piece(Reading *reading)
{
    if (!reading->size)
        return;
    const Unigram *unigram = reading->unigram;
    const uint32_t size = (uint32_t)reading->size, *places = reading->places;
    find_paths(reading);
    uint32_t *stops = reading->places + reading->room; /* where the piece that begins at a byte ends */
    for (uint32_t stop = size; stop; stop = reading->paths[stop].from)
        stops[reading->paths[stop].from] = stop;
    for (uint32_t start = 0, stop; start < size; start = stop) {
        stop = stops[start];
        uint32_t id = reading->paths[stop].id;
        int in_bytes = id == NO_PIECE;
        if (is_unknown(reading, id)) {
            for (; stop < size && is_unknown(reading, reading->paths[stops[stop]].id); stop = stops[stop])
                in_bytes = 1;
            id = unigram->unknown;
        }
        if (!in_bytes || !unigram->octets_size) {
            add_token(reading->found, id, places[start], places[stop - 1] + 1, reading->words);
            continue;
        }
        for (uint32_t i = start; i < stop; i++)
            add_token(reading->found, unigram->octets[reading->bytes[i]], places[start], places[stop - 1] + 1,
                      reading->words);
    }
    reading->words++;
    reading->size = 0;
}

static int has_room(Reading *reading)
{
    if (reading->size + 8 <= reading->room)
        return 1;
    const size_t room = 2 * reading->room + 256;
    uint8_t *bytes = room < LONGEST_PIECES ? realloc(reading->bytes, room) : NULL;
    reading->bytes = bytes ? bytes : reading->bytes;
    uint32_t *places = bytes ? realloc(reading->places, 2 * room * sizeof *places) : NULL;
    reading->places = places ? places : reading->places;
    Path *paths = places ? realloc(reading->paths, (room + 1) * sizeof *paths) : NULL;
    reading->paths = paths ? paths : reading->paths;
    if (!paths) {
        reading->found->is_short = 1;
        return 0;
    }
    reading->room = room;
    return 1;
}

static void append(Reading *reading, uint32_t code, uint32_t place)
{
    if (!has_room(reading))
        return;
    const uint32_t size = write_character(code, reading->bytes + reading->size);
    for (uint32_t i = 0; i < size; i++)
        reading->places[reading->size++] = place;
}

/* -- characters */

static uint32_t mapping_of(const Unigram *unigram, uint32_t code)
{
    const uint32_t block = code >> 8 < PAGES ? unigram->pages[code >> 8] : NOWHERE;
    return block < unigram->blocks ? unigram->entries[block << 8 | (code & 0xFF)] : 0;
}

static void add_code(Reading *reading, uint32_t code, uint32_t place)
{
    const uint32_t flags = reading->unigram->flags;
    if (flags & SPLITS_BLANKS && mapping_of(reading->unigram, code) & BLANK) {
        end_piece(reading);
        reading->is_first = 1;
        return;
    }
    if (code == ' ')
        code = MARK;
    if (reading->is_first && flags & PREPENDS && code != MARK)
        append(reading, MARK, place);
    else if (code == MARK && flags & SPLITS_MARKS)
        end_piece(reading);
    reading->is_first = 0;
    append(reading, code, place);
}

static void end_blanks(Reading *reading)
{
    if (reading->is_blank)
        add_code(reading, ' ', reading->blank_place);
    reading->is_blank = 0;
}

/* The code point that was held, at its place: one that the mapping adds stands where the one before it does, and one
 * that it drops has the one before it take two. */
static void add_held(Reading *reading)
{
    if (!reading->is_held)
        return;
    reading->is_held = 0;
    uint32_t place = reading->passed;
    if (reading->held.change > 0)
        place -= place > 0;
    else
        reading->passed += (uint32_t)(1 - reading->held.change);
    place = reading->origin + (place < reading->last ? place : reading->last);
    if (reading->is_counting) {
        reading->parts++;
        if (!(mapping_of(reading->unigram, reading->held.code) & BLANK))
            reading->stop = reading->parts;
        return;
    }
    if (reading->unigram->flags & STRIPS && reading->parts++ >= reading->stop)
        return;
    if (reading->unigram->flags & COLLAPSES && reading->held.code == ' ') {
        reading->is_blank = 1;
        reading->blank_place = place;
        return;
    }
    end_blanks(reading);
    add_code(reading, reading->held.code, place);
}

static void add_part(Reading *reading, uint32_t code, int32_t change)
{
    add_held(reading);
    reading->held = (Part){code & 0x1FFFFF, change};
    reading->is_held = 1;
}

/* What `count` code points become: a sequence. */
static void add_mapped(Reading *reading, size_t place, uint32_t count)
{
    const Unigram *unigram = reading->unigram;
    uint32_t size = place < unigram->sequences_size ? unigram->sequences[place] : 0;
    size = size < MOST_MAPPED ? size : MOST_MAPPED;
    for (uint32_t i = 0; i < size; i++)
        add_part(reading, place + 1 + i < unigram->sequences_size ? unigram->sequences[place + 1 + i] : 0, i >= count);
    if (size < count && reading->is_held)
        reading->held.change -= (int32_t)(count - size);
}

static void add_one(Reading *reading, uint32_t mapping, uint32_t code)
{
    if (mapping & MAPPED)
        add_mapped(reading, mapping >> MAPPED_VALUE, 1);
    else
        add_part(reading, code, 0);
}

static int is_control(uint32_t kind) { return kind == CONTROL || kind == RETURN || kind == FEED; }

/* Whether a grapheme ends between two code points. Of longer ones, such as those of Hangul, the map has none. */
static int is_boundary(uint32_t before, uint32_t behind)
{
    if (is_control(before) || is_control(behind))
        return before != RETURN || behind != FEED;
    return behind != JOINED && before != PREPENDED;
}

/* The shortest sequence of the map that a grapheme begins with: its place, or NOWHERE. */
static uint32_t mapped_grapheme(const Trie *trie, uint32_t unit, const uint8_t *text, size_t size)
{
    for (size_t i = 0; i < size && (unit = child(trie, unit, text[i])); i++)
        if (has_end(unit))
            return number_of(trie, unit);
    return NOWHERE;
}

static void add_parts_of(Reading *reading, uint32_t graphemes, const uint8_t *text, Place from, Place to)
{
    const Unigram *unigram = reading->unigram;
    reading->parts = 0;
    reading->origin = from.character;
    reading->last = to.character - from.character - 1;
    reading->passed = 0;
    reading->is_first = 1;
    for (Place at = from; at.byte < to.byte;) {
        const uint32_t code = character_at(text + at.byte), mapping = mapping_of(unigram, code);
        Place stop = at;
        step(&stop, text);
        uint32_t before = mapping & GRAPHEME;
        while (stop.byte < to.byte) {
            const uint32_t behind = mapping_of(unigram, character_at(text + stop.byte)) & GRAPHEME;
            if (is_boundary(before, behind))
                break;
            before = behind;
            step(&stop, text);
        }
        const uint32_t count = stop.character - at.character;
        uint32_t place = NOWHERE;
        if (count > 1 && stop.byte - at.byte < SHORT_GRAPHEME)
            place = mapping & MAPPED ? mapping >> MAPPED_VALUE
                                     : mapped_grapheme(&unigram->trie, graphemes, text + at.byte, stop.byte - at.byte);
        if (place != NOWHERE) {
            add_mapped(reading, place, count);
            at = stop;
        }
        for (; at.byte < stop.byte; step(&at, text)) {
            const uint32_t one = character_at(text + at.byte);
            add_one(reading, mapping_of(unigram, one), one);
        }
    }
    add_held(reading);
}

static void add_segment(Reading *reading, uint32_t graphemes, const uint8_t *text, Place from, Place to)
{
    if (from.byte == to.byte)
        return;
    if (reading->unigram->flags & STRIPS) {
        reading->is_counting = 1;
        reading->stop = 0;
        add_parts_of(reading, graphemes, text, from, to);
        reading->is_counting = 0;
    }
    add_parts_of(reading, graphemes, text, from, to);
    end_blanks(reading);
    end_piece(reading);
}

/* -- the whole */

/* The tokens of a text of sound UTF-8, less than 2**32 characters. Returns 0 for want of memory, or if the file could
 * not be read: then `is_short` of what was found is 0. */
static int tokenize_unigram(const Unigram *unigram, const uint8_t *text, size_t size, Tokens *found)
{
    Reading reading = {.unigram = unigram, .found = found};
    unigram->trie.lazy->failed = 0;
    const Trie *trie = &unigram->trie;
    const uint32_t root = number_at(trie, 0), added = child(trie, root, ADDED), graphemes = child(trie, root, MAPS);
    Place from = {0}, at = {0};
    while (at.byte < size && !trie->lazy->failed && !found->is_short) {
        uint32_t number = 0;
        Place stop = added ? longest_at(trie, added, text, size, at, &number) : at;
        if (stop.byte == at.byte) {
            step(&at, text);
            continue;
        }
        /* It may take the blanks before it. */
        while (number & 1 && at.byte > from.byte) {
            Place before = at;
            step_back(&before, text);
            if (!(mapping_of(unigram, character_at(text + before.byte)) & BLANK))
                break;
            at = before;
        }
        add_segment(&reading, graphemes, text, from, at);
        add_token(found, number >> 1, at.character, stop.character, reading.words++);
        from = at = stop;
    }
    add_segment(&reading, graphemes, text, from, at);
    free(reading.bytes);
    free(reading.places);
    free(reading.paths);
    return !trie->lazy->failed && !found->is_short;
}
