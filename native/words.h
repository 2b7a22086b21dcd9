/* Words of a text for the lexicon: what edgeret/words.py describes, in C. No Python in here; docs/words.md has the rules. */
#ifndef EDGERET_WORDS_H
#define EDGERET_WORDS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SEPARATOR, IGNORED, LETTER, MARK, JOINER, COMMA, PLUS, HASH, EMOJI, REGION, HAN_KANA };

#define LONGEST 64
#define BLOCK 128
#define BLOCKS (0x110000 / BLOCK)
#define HEAD_BYTES 32

/* As in the file: where in the pool the folded form is (length 0: the code point itself), kind, order, case. */
typedef struct {
    uint16_t offset;
    uint8_t length, kind, order, is_upper, unused[2];
} Record;

typedef struct {
    const uint16_t *places, *blocks;
    const Record *records;
    const uint32_t *pool;
    uint32_t pool_size;
} Table;

/* A folded code point, and which character of the text it comes from. */
typedef struct {
    uint32_t code;
    uint8_t kind, order, is_upper;
    int64_t place;
} Unit;

typedef struct {
    Unit *units;
    int64_t count, room, length; /* length: characters of the text */
} Folded;

/* Is given each word, `length` code points; returns 0 to stop. */
typedef int (*Take)(void *context, const uint32_t *term, int length, int64_t start, int64_t stop);

static inline uint32_t read_u32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* 0 if the bytes are no table. They must be aligned to 4 bytes and outlive it. */
static int table_open(Table *table, const unsigned char *octets, size_t size)
{
    if (size < HEAD_BYTES || memcmp(octets, "edgeret words 1\n", 16) != 0)
        return 0;
    const uint64_t blocks = read_u32(octets + 16), records = read_u32(octets + 20), pool = read_u32(octets + 24);
    uint64_t at = HEAD_BYTES;
    table->places = (const uint16_t *)(const void *)(octets + at);
    at += 2 * (uint64_t)BLOCKS;
    table->blocks = (const uint16_t *)(const void *)(octets + at);
    at += 2 * BLOCK * blocks;
    table->records = (const Record *)(const void *)(octets + at);
    at += sizeof(Record) * records;
    table->pool = (const uint32_t *)(const void *)(octets + at);
    table->pool_size = (uint32_t)pool;
    return at + 4 * pool == size;
}

static inline const Record *record_of(const Table *table, uint32_t code)
{
    return &table->records[table->blocks[table->places[code / BLOCK] * BLOCK + code % BLOCK]];
}

/* The Hangul syllable of two parts, 0 if they make none. */
static uint32_t joined(uint32_t first, uint32_t second)
{
    if (first - 0x1100u < 19 && second - 0x1161u < 21)
        return 0xAC00 + ((first - 0x1100) * 21 + second - 0x1161) * 28;
    if (first - 0xAC00u < 11172 && (first - 0xAC00) % 28 == 0 && second - 0x11A8u < 27)
        return first + second - 0x11A7;
    return 0;
}

static int append(Folded *folded, Unit unit)
{
    if (unit.kind == HAN_KANA + 1 && folded->count) {
        Unit *last = &folded->units[folded->count - 1];
        const uint32_t syllable = joined(last->code, unit.code);
        if (syllable) {
            last->code = syllable;
            return 1;
        }
    }
    if (folded->count == folded->room) {
        const int64_t room = 2 * folded->room + 64;
        Unit *grown = realloc(folded->units, (size_t)room * sizeof(Unit));
        if (!grown)
            return 0;
        folded->units = grown;
        folded->room = room;
    }
    int64_t at = folded->count++;
    if (unit.kind == MARK && unit.order)
        for (; at && folded->units[at - 1].kind == MARK && folded->units[at - 1].order > unit.order; at--)
            folded->units[at] = folded->units[at - 1];
    folded->units[at] = unit;
    return 1;
}

/* Add a character of the text; 0 if memory is short. */
static int fold(Folded *folded, const Table *table, uint32_t code)
{
    const int64_t place = folded->length++;
    const Record *record = record_of(table, code);
    if (record->kind == IGNORED)
        return 1;
    if (!record->length)
        return append(folded, (Unit){code, record->kind, record->order, record->is_upper, place});
    for (uint32_t i = 0; i < record->length; i++) {
        const uint32_t part = table->pool[record->offset + i];
        const Record *its = record_of(table, part);
        if (!append(folded, (Unit){part, its->kind, its->order, record->is_upper, place}))
            return 0;
    }
    return 1;
}

static inline int is_digit(uint32_t code) { return code - '0' < 10; }

static inline int kind_at(const Folded *folded, int64_t at)
{
    return at >= 0 && at < folded->count ? folded->units[at].kind : SEPARATOR;
}

/* -- English: M. F. Porter, "An algorithm for suffix stripping", Program 14 (1980), with its author's later changes. */

static int consonant(const uint32_t *word, int at)
{
    switch (word[at]) {
    case 'a': case 'e': case 'i': case 'o': case 'u':
        return 0;
    case 'y':
        return at == 0 || !consonant(word, at - 1);
    default:
        return 1;
    }
}

static int measure(const uint32_t *word, int end)
{
    int count = 0, vowel = 0;
    for (int at = 0; at < end; at++) {
        const int is_consonant = consonant(word, at);
        count += vowel && is_consonant;
        vowel = !is_consonant;
    }
    return count;
}

static int has_vowel(const uint32_t *word, int end)
{
    for (int at = 0; at < end; at++)
        if (!consonant(word, at))
            return 1;
    return 0;
}

static int ends_double(const uint32_t *word, int length)
{
    return length > 1 && word[length - 1] == word[length - 2] && consonant(word, length - 1);
}

static int ends_cvc(const uint32_t *word, int length)
{
    if (length < 3 || word[length - 1] == 'w' || word[length - 1] == 'x' || word[length - 1] == 'y')
        return 0;
    return consonant(word, length - 1) && !consonant(word, length - 2) && consonant(word, length - 3);
}

static int ends(const uint32_t *word, int length, const char *ending)
{
    const int size = (int)strlen(ending);
    if (size > length)
        return 0;
    for (int i = 0; i < size; i++)
        if (word[length - size + i] != (unsigned char)ending[i])
            return 0;
    return size;
}

static int put(uint32_t *word, int at, const char *text)
{
    while (*text)
        word[at++] = (unsigned char)*text++;
    return at;
}

static int mended(uint32_t *word, int length)
{
    if (ends(word, length, "at") || ends(word, length, "bl") || ends(word, length, "iz"))
        return put(word, length, "e");
    const uint32_t last = word[length - 1];
    if (ends_double(word, length) && last != 'l' && last != 's' && last != 'z')
        return length - 1;
    return measure(word, length) == 1 && ends_cvc(word, length) ? put(word, length, "e") : length;
}

static int step_1(uint32_t *word, int length)
{
    int size;
    if (ends(word, length, "sses") || ends(word, length, "ies"))
        length -= 2;
    else if (ends(word, length, "s") && !ends(word, length, "ss"))
        length -= 1;
    if (ends(word, length, "eed"))
        length -= measure(word, length - 3) > 0;
    else if (((size = ends(word, length, "ed")) || (size = ends(word, length, "ing"))) && has_vowel(word, length - size))
        length = mended(word, length - size);
    if (ends(word, length, "y") && has_vowel(word, length - 1))
        word[length - 1] = 'i';
    return length;
}

static int replaced(uint32_t *word, int length, const char *const (*endings)[2])
{
    for (; (*endings)[0]; endings++) {
        const int size = ends(word, length, (*endings)[0]);
        if (size)
            return measure(word, length - size) ? put(word, length - size, (*endings)[1]) : length;
    }
    return length;
}

static int step_4(const uint32_t *word, int length)
{
    static const char *const endings[] = {"al",  "ance", "ence", "er", "ic",  "able", "ible", "ant", "ement", "ment",
                                          "ent", "ion",  "ou",   "ism", "ate", "iti", "ous",  "ive", "ize"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        const int end = length - ends(word, length, endings[i]);
        if (end < length) {
            const int fits = strcmp(endings[i], "ion") != 0 || (end > 0 && (word[end - 1] == 's' || word[end - 1] == 't'));
            return fits && measure(word, end) > 1 ? end : length;
        }
    }
    return length;
}

static int step_5(const uint32_t *word, int length)
{
    if (ends(word, length, "e")) {
        const int m = measure(word, length - 1);
        if (m > 1 || (m == 1 && !ends_cvc(word, length - 1)))
            length--;
    }
    if (ends(word, length, "ll") && measure(word, length) > 1)
        length--;
    return length;
}

/* Stem a word in place, which has room for one code point more; its new length. */
static int stem(uint32_t *word, int length)
{
    static const char *const second[][2] = {
        {"ational", "ate"}, {"tional", "tion"}, {"enci", "ence"},   {"anci", "ance"},   {"izer", "ize"},  {"bli", "ble"},
        {"alli", "al"},     {"entli", "ent"},   {"eli", "e"},       {"ousli", "ous"},   {"ization", "ize"}, {"ation", "ate"},
        {"ator", "ate"},    {"alism", "al"},    {"iveness", "ive"}, {"fulness", "ful"}, {"ousness", "ous"}, {"aliti", "al"},
        {"iviti", "ive"},   {"biliti", "ble"},  {"logi", "log"},    {NULL, NULL}};
    static const char *const third[][2] = {{"icate", "ic"}, {"ative", ""}, {"alize", "al"}, {"iciti", "ic"},
                                           {"ical", "ic"},  {"ful", ""},   {"ness", ""},    {NULL, NULL}};
    if (length < 3)
        return length;
    for (int i = 0; i < length; i++)
        if (word[i] - 'a' >= 26)
            return length;
    length = step_1(word, length);
    length = replaced(word, length, second);
    length = replaced(word, length, third);
    return step_5(word, step_4(word, length));
}

/* -- from units to words */

typedef struct {
    const Folded *folded;
    int stems;
    Take take;
    void *context;
} Splitter;

/* A word of the units from `first` on to before `end`, hyphens left out if so told. */
static int give(const Splitter *splitter, int64_t first, int64_t end, int without_hyphens)
{
    const Folded *folded = splitter->folded;
    uint32_t term[LONGEST + 1];
    int length = 0;
    for (int64_t at = first; at < end && length < LONGEST; at++)
        if (!without_hyphens || folded->units[at].code != '-')
            term[length++] = folded->units[at].code;
    if (splitter->stems)
        length = stem(term, length);
    const int64_t last = folded->units[end - 1].place;
    const int64_t following = end < folded->count ? folded->units[end].place : folded->length;
    return splitter->take(splitter->context, term, length, folded->units[first].place,
                          following > last + 1 ? following : last + 1);
}

static int64_t run_end(const Folded *folded, int64_t at, int kind)
{
    while (at < folded->count && (folded->units[at].kind == kind || folded->units[at].kind == MARK))
        at++;
    return at;
}

static int joins(const Folded *folded, int64_t at)
{
    switch (kind_at(folded, at)) {
    case COMMA:
        return is_digit(folded->units[at - 1].code) && is_digit(folded->units[at + 1].code);
    case JOINER: case PLUS: case HASH:
        return 1;
    default:
        return 0;
    }
}

/* The span of a name such as C++, C# or .NET; 0 if it is none. */
static int marked(const Folded *folded, int64_t *first, int64_t *end)
{
    for (int64_t at = *first; at < *end; at++)
        if (is_digit(folded->units[at].code))
            return 0;
    const int after = kind_at(folded, *end), second = kind_at(folded, *end + 1), third = kind_at(folded, *end + 2);
    if (after == PLUS && second == PLUS) {
        if (third != LETTER && third != PLUS) {
            *end += 2;
            return 1;
        }
    } else if (after == HASH && second != LETTER && second != HASH) {
        *end += 1;
        return 1;
    }
    if (*first > 0 && folded->units[*first - 1].code == '.' && kind_at(folded, *first - 2) == SEPARATOR) {
        *first -= 1;
        return 1;
    }
    return 0;
}

static int is_hump(const Folded *folded, int64_t at, int64_t end)
{
    const Unit *unit = &folded->units[at];
    if (!unit->is_upper || unit->place == unit[-1].place)
        return 0;
    return !unit[-1].is_upper ||
           (at + 1 < end && !unit[1].is_upper && unit[1].kind == LETTER && !is_digit(unit[1].code));
}

/* A run of letters, then the parts of its camelCase. */
static int give_run(const Splitter *splitter, int64_t first, int64_t end)
{
    const Folded *folded = splitter->folded;
    if (!give(splitter, first, end, 0))
        return 0;
    int64_t start = first;
    for (int64_t at = first + 1; at <= end; at++) {
        if (at < end && !is_hump(folded, at, end))
            continue;
        if (at == end && start == first)
            break; /* one part: the run itself */
        if (at - start > 1 && !give(splitter, start, at, 0))
            return 0;
        start = at;
    }
    return 1;
}

/* The compound that begins at `at`; where it ends, -1 if told to stop. */
static int64_t give_compound(const Splitter *splitter, int64_t at)
{
    const Folded *folded = splitter->folded;
    int64_t end = run_end(folded, at, LETTER), first = at;
    int parts = 1, hyphens = 1, digits = 0;
    while (kind_at(folded, end + 1) == LETTER && joins(folded, end)) {
        hyphens &= folded->units[end].code == '-';
        end = run_end(folded, end + 1, LETTER);
        parts++;
    }
    if (parts > 1) {
        int64_t length = end - at;
        for (int64_t i = at; i < end; i++)
            digits |= is_digit(folded->units[i].code);
        const int without = hyphens && !digits;
        length -= without ? parts - 1 : 0;
        if (length <= LONGEST && !give(splitter, at, end, without))
            return -1;
    } else {
        int64_t stop = end;
        if (marked(folded, &first, &stop) && stop - first <= LONGEST && !give(splitter, first, stop, 0))
            return -1;
    }
    for (int64_t start = at; start < end;) {
        const int64_t stop = run_end(folded, start, LETTER);
        if (!give_run(splitter, start, stop))
            return -1;
        start = stop + 1;
    }
    return end;
}

/* Overlapping pairs of characters, marks with their letter; the last one alone too. 0 if told to stop. */
static int give_pairs(const Splitter *splitter, int64_t first, int64_t end)
{
    const Folded *folded = splitter->folded;
    for (int64_t start = first; start < end;) {
        int64_t middle = start + 1;
        while (middle < end && folded->units[middle].kind == MARK)
            middle++;
        int64_t stop = middle < end ? middle + 1 : middle;
        while (stop < end && folded->units[stop].kind == MARK)
            stop++;
        if (!give(splitter, start, stop, 0))
            return 0;
        start = middle;
    }
    return 1;
}

/* Give every word; 0 if told to stop. */
static int split(const Splitter *splitter)
{
    const Folded *folded = splitter->folded;
    for (int64_t at = 0; at < folded->count;) {
        const int kind = folded->units[at].kind;
        if (kind == LETTER) {
            at = give_compound(splitter, at);
            if (at < 0)
                return 0;
        } else if (kind >= HAN_KANA) {
            const int64_t end = run_end(folded, at, kind);
            if (!give_pairs(splitter, at, end))
                return 0;
            at = end;
        } else if (kind == EMOJI || kind == REGION) {
            const int64_t end = at + 1 + (kind == REGION && kind_at(folded, at + 1) == REGION);
            if (!give(splitter, at, end, 0))
                return 0;
            at = end;
        } else {
            at++;
        }
    }
    return 1;
}

#endif
