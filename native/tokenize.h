/* A text to tokens: the ids of WordPiece, and where they stand. No Python in here.
 *
 * A tokenizer is a file of tables (docs/format.md), and may come from anywhere: whatever they hold, nothing outside of
 * them is read, and each step takes a byte of the text or ends a word.
 */
#include "trie.h"

#define LONGEST_WORD 1000 /* characters */
#define RANKS 64 /* of marks, from 1; 0 is no mark */
#define MOST_PARTS 32 /* that a character becomes */
#define MOST_ELEMENTS 8 /* that it is decomposed into */

enum { DROPPED, LETTER, SPACE, ALONE, SEQUENCE = 4, JOINS = 8, MOVES = 16, VALUE = 5 };

#define SYLLABLE (UINT32_MAX >> VALUE) /* in place of a sequence: the letters of Hangul, by arithmetic */

/* The tables of a file; sizes in numbers. */
typedef struct {
    uint32_t unknown; /* id */
    uint32_t longest; /* characters of a word that is no unknown token, LONGEST_WORD at most */
    uint32_t continuing; /* where the trie begins within a word, or NOWHERE */
    const uint16_t *pages; /* [PAGES] */
    const uint32_t *entries; /* [blocks][256] */
    const uint32_t *sequences;
    const uint32_t *marks; /* [marks_size][2]: code points in order, and where in sequences their elements are */
    size_t blocks, sequences_size, marks_size;
    Trie trie;
} Tokenizer;

/* The word that is being read: its bytes, and for each the character of the text that it comes from. */
typedef struct {
    const Tokenizer *tokenizer;
    Tokens *found;
    uint32_t words;
    uint32_t characters, first, last; /* how many, and where the outer two stand */
    uint32_t size;
    uint8_t bytes[4 * LONGEST_WORD];
    uint32_t places[4 * LONGEST_WORD];
} Word;

/* -- words */

/* The longest token at each place; where there is none, the whole word is unknown. */
static int split_word(const Word *word)
{
    const Tokenizer *tokenizer = word->tokenizer;
    for (uint32_t start = 0, stop = 0; start < word->size; start = stop) {
        const uint32_t from = start ? tokenizer->continuing : 0;
        uint32_t unit = number_at(&tokenizer->trie, from), best = 0;
        for (uint32_t i = start; i < word->size && (unit = child(&tokenizer->trie, unit, word->bytes[i])); i++)
            if (has_end(unit)) {
                best = unit;
                stop = i + 1;
            }
        if (!best)
            return 0;
        add_token(word->found, number_of(&tokenizer->trie, best), word->places[start], word->places[stop - 1] + 1, word->words);
    }
    return 1;
}

static void end_word(Word *word)
{
    if (!word->characters)
        return;
    Tokens *found = word->found;
    const size_t before = found->count;
    if (word->characters > word->tokenizer->longest || !split_word(word)) {
        found->count = before;
        add_token(found, word->tokenizer->unknown, word->first, word->last + 1, word->words);
    }
    word->words++;
    word->characters = word->size = 0;
}

static void add_letter(Word *word, uint32_t code, uint32_t place)
{
    if (!word->characters)
        word->first = place;
    word->last = place;
    if (word->characters <= word->tokenizer->longest)
        word->characters++;
    if (word->characters > word->tokenizer->longest)
        return;
    const uint32_t size = write_character(code, word->bytes + word->size);
    for (uint32_t i = 0; i < size; i++)
        word->places[word->size++] = place;
}

static void add_character(Word *word, uint32_t kind, uint32_t code, uint32_t place)
{
    if (kind == DROPPED)
        return;
    if (kind != LETTER)
        end_word(word);
    if (kind != SPACE)
        add_letter(word, code & 0x1FFFFF, place);
    if (kind == ALONE)
        end_word(word);
}

/* -- characters */

static uint32_t entry_of(const Tokenizer *tokenizer, uint32_t code)
{
    const uint32_t block = tokenizer->pages[code >> 8];
    return block < tokenizer->blocks ? tokenizer->entries[block << 8 | (code & 0xFF)] : 0;
}

static uint32_t sequence_at(const Tokenizer *tokenizer, size_t place)
{
    return place < tokenizer->sequences_size ? tokenizer->sequences[place] : 0;
}

static void add_parts(Word *word, size_t from, uint32_t count, uint32_t place)
{
    const size_t stop = from + (count < MOST_PARTS ? count : MOST_PARTS);
    for (size_t i = from; i < stop && i < word->tokenizer->sequences_size; i++) {
        const uint32_t part = word->tokenizer->sequences[i];
        add_character(word, part >> 21 & 3, part, place);
    }
}

static void add_syllable(Word *word, uint32_t code, uint32_t place)
{
    const uint32_t number = code - 0xAC00, last = number % 28;
    add_character(word, LETTER, 0x1100 + number / 588, place);
    add_character(word, LETTER, 0x1161 + number / 28 % 21, place);
    if (last)
        add_character(word, LETTER, 0x11A7 + last, place);
}

static void add_entry(Word *word, uint32_t entry, uint32_t code, uint32_t place)
{
    if (entry & SEQUENCE && entry >> VALUE == SYLLABLE)
        add_syllable(word, code, place);
    else if (entry & SEQUENCE)
        add_parts(word, (size_t)(entry >> VALUE) + 1, sequence_at(word->tokenizer, entry >> VALUE), place);
    else
        add_character(word, entry & 3, code + (entry >> VALUE), place);
}

/* -- marks: those of a run are put in the order of their ranks; the others are dropped where they stand */

/* Elements of a decomposition, one after the other. */
typedef struct {
    size_t next; /* in sequences */
    uint32_t left;
    uint32_t rank, size; /* of the one that was read */
    size_t parts;
} Elements;

static Elements elements_of(const Tokenizer *tokenizer, uint32_t code)
{
    size_t low = 0, high = tokenizer->marks_size;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (tokenizer->marks[2 * middle] < code)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == tokenizer->marks_size || tokenizer->marks[2 * low] != code)
        return (Elements){0};
    const size_t place = tokenizer->marks[2 * low + 1];
    const uint32_t count = sequence_at(tokenizer, place);
    return (Elements){.next = place + 1, .left = count < MOST_ELEMENTS ? count : MOST_ELEMENTS};
}

static int read_element(const Tokenizer *tokenizer, Elements *elements)
{
    if (!elements->left || elements->next >= tokenizer->sequences_size)
        return 0;
    const uint32_t head = tokenizer->sequences[elements->next];
    elements->left--;
    elements->rank = head >> 8 & (RANKS - 1);
    elements->size = head & 0xFF;
    elements->parts = elements->next + 1;
    elements->next = elements->parts + elements->size;
    return 1;
}

static int begins_with_mark(const Tokenizer *tokenizer, uint32_t code)
{
    Elements elements = elements_of(tokenizer, code);
    return read_element(tokenizer, &elements) && elements.rank;
}

/* Marks of a run in the text's order. */
typedef struct {
    Place place, stop;
    Elements elements;
    uint32_t character; /* where the character of the elements stands */
    int number; /* of the element that was read, from 1 */
} Marks;

static int read_mark(const Tokenizer *tokenizer, const uint8_t *text, Marks *marks)
{
    for (;;) {
        while (read_element(tokenizer, &marks->elements)) {
            marks->number++;
            if (marks->elements.rank)
                return 1;
        }
        if (marks->place.byte >= marks->stop.byte)
            return 0;
        marks->elements = elements_of(tokenizer, character_at(text + marks->place.byte));
        marks->character = marks->place.character;
        marks->number = 0;
        step(&marks->place, text);
    }
}

/* Of the characters in [from, to), whose first may have others before its marks. A mark stands where the text has the
 * one in whose place it goes; the second of a character and those behind it, where the one before them does. */
static void order_marks(Word *word, const uint8_t *text, Place from, Place to)
{
    const Tokenizer *tokenizer = word->tokenizer;
    uint8_t is_there[RANKS] = {0};
    Marks marks = {.place = from, .stop = to};
    while (read_mark(tokenizer, text, &marks))
        is_there[marks.elements.rank] = 1;
    Marks places = {.place = from, .stop = to};
    uint32_t place = from.character;
    for (uint32_t rank = 1; rank < RANKS; rank++) {
        if (!is_there[rank])
            continue;
        marks = (Marks){.place = from, .stop = to};
        while (read_mark(tokenizer, text, &marks)) {
            if (marks.elements.rank != rank)
                continue;
            if (marks.number == 1) {
                while (read_mark(tokenizer, text, &places) && places.number != 1)
                    ;
                place = places.character;
            }
            add_parts(word, marks.elements.parts, marks.elements.size, place);
        }
    }
}

/* Words of a part of the text that has no added token. */
static void add_run(Word *word, const uint8_t *text, Place from, Place to)
{
    const Tokenizer *tokenizer = word->tokenizer;
    Place at = from;
    while (at.byte < to.byte) {
        const uint32_t code = character_at(text + at.byte), entry = entry_of(tokenizer, code);
        if (!(entry & MOVES)) {
            add_entry(word, entry, code, at.character);
            step(&at, text);
            continue;
        }
        Place first = at;
        if (begins_with_mark(tokenizer, code)) {
            /* Back to where the run begins: what stands between has left nothing of its marks. */
            while (first.byte > from.byte) {
                Place before = first;
                step_back(&before, text);
                const uint32_t other = character_at(text + before.byte), found = entry_of(tokenizer, other);
                if (!(found & JOINS) && (found & (3 | SEQUENCE)) != DROPPED)
                    break;
                first = before;
                if (found & JOINS && !begins_with_mark(tokenizer, other))
                    break;
            }
        } else {
            Elements elements = elements_of(tokenizer, code);
            while (read_element(tokenizer, &elements) && !elements.rank)
                add_parts(word, elements.parts, elements.size, at.character);
        }
        for (step(&at, text); at.byte < to.byte; step(&at, text)) {
            const uint32_t other = character_at(text + at.byte), found = entry_of(tokenizer, other);
            if (found & JOINS ? !begins_with_mark(tokenizer, other) : (found & (3 | SEQUENCE)) != DROPPED)
                break;
        }
        order_marks(word, text, first, at);
    }
    end_word(word);
}

/* -- the whole */

/* The tokens of a text of sound UTF-8, less than 2**32 characters. Returns 0 for want of memory. */
static int tokenize(const Tokenizer *tokenizer, const uint8_t *text, size_t size, Tokens *found)
{
    Word word;
    word.tokenizer = tokenizer;
    word.found = found;
    word.words = word.characters = word.size = 0;
    const uint32_t root = child(&tokenizer->trie, number_at(&tokenizer->trie, 0), ADDED);
    Place from = {0}, at = {0};
    while (at.byte < size) {
        uint32_t id = 0;
        const Place stop = root ? longest_at(&tokenizer->trie, root, text, size, at, &id) : at;
        if (stop.byte == at.byte) {
            step(&at, text);
            continue;
        }
        add_run(&word, text, from, at);
        add_token(found, id, at.character, stop.character, word.words++);
        from = at = stop;
    }
    add_run(&word, text, from, at);
    return !found->is_short;
}
