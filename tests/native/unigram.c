/* Unigram without Python: over sound tables it gives the tokens that a search of all paths gives, and over any tables
 * whatsoever it stays within them and within the text. Run by `make native`, under the sanitizers by `make sanitize`, and
 * for AArch64 under qemu-user by `make neon`. */
#include "../../native/unigram.h"

#include "random.h"

#define UNKNOWN 0

/* "_" stands for MARK. What is found before the others is behind ADDED, its id doubled, and one more if it takes blanks. */
static const char *const vocabulary[] = {"?",  "_",  "a",   "b",   "ab",        "_a",        "_ab",
                                         "ba", "bb", "aba", "_ba", "\xC3\xA9" "a", "a\xC3\xA9", "\xE4\xB8\xAD"};
#define WORDS (sizeof vocabulary / sizeof *vocabulary)
static const double scores[WORDS] = {0, -3, -2, -2.5, -4, -4, -5.5, -4.5, -6, -6, -7, -4, -4, -5};
static const char *const pieces[] = {"a", "b", "ab", " ", "  ", "\xC3\xA9", "\xE4\xB8\xAD", "x", "\xF0\x9F\x8D\x95"};
#define PIECES (sizeof pieces / sizeof *pieces)
#define UNKNOWN_SCORE (-17.0)

/* -- sound tables: node n has base 256 * (n + 1) */

#define UNITS (256 * 64)

static uint32_t numbers[UNITS + 2 * WORDS];
static size_t nodes;

static size_t node_of(size_t place, uint8_t label)
{
    if (!(numbers[place] >> 9))
        numbers[place] |= (uint32_t)(256 * ++nodes) << 9;
    const size_t found = numbers[place] >> 9 ^ label;
    numbers[found] |= label;
    return found;
}

static size_t with_marks(const char *text, uint8_t *bytes)
{
    size_t size = 0;
    for (; *text; text++)
        size += *text == '_' ? write_character(MARK, bytes + size) : (bytes[size] = (uint8_t)*text, 1u);
    return size;
}

static int reads;

static int read_part(const void *from, size_t first, size_t count, uint32_t *to)
{
    reads++;
    memcpy(to, (const uint32_t *)from + first, count * sizeof *to);
    return 1;
}

static int read_nothing(const void *from, size_t first, size_t count, uint32_t *to)
{
    (void)from, (void)first, (void)count, (void)to;
    return 0;
}

static void lend(Trie *trie, Lazy *lazy, const uint32_t *from, size_t count, size_t number)
{
    *lazy = (Lazy){.read = read_part, .from = from};
    lazy->numbers = exactly(count * sizeof *lazy->numbers);
    lazy->is_there = exactly(count / BLOCK + 1);
    memset(lazy->is_there, 0, count / BLOCK + 1);
    *trie = (Trie){.numbers = lazy->numbers, .count = count, .units = number, .lazy = lazy};
}

static Unigram sound_tables(Lazy *lazy)
{
    numbers[0] = 0xC0;
    for (uint32_t id = 0; id < WORDS; id++) {
        uint8_t bytes[64];
        const size_t size = with_marks(vocabulary[id], bytes);
        size_t place = 0;
        for (size_t i = 0; i < size; i++)
            place = node_of(place, bytes[i]);
        numbers[node_of(place, END)] |= id << 8;
        numbers[place] |= 1 << 8;
        memcpy(numbers + UNITS + 2 * id, &scores[id], sizeof *scores);
    }
    Unigram unigram = {.unknown = UNKNOWN, .unknown_score = UNKNOWN_SCORE, .blocks = 1};
    uint16_t *pages = exactly(PAGES * sizeof *pages);
    uint32_t *entries = exactly(256 * sizeof *entries);
    memset(pages, 0, PAGES * sizeof *pages);
    memset(entries, 0, 256 * sizeof *entries);
    entries[' '] = BLANK;
    unigram.pages = pages;
    unigram.entries = entries;
    lend(&unigram.trie, lazy, numbers, UNITS + 2 * WORDS, UNITS);
    return unigram;
}

static void tables_free(const Unigram *unigram)
{
    free((void *)(uintptr_t)unigram->pages);
    free((void *)(uintptr_t)unigram->entries);
    free((void *)(uintptr_t)unigram->sequences);
    free((void *)(uintptr_t)unigram->octets);
    free(unigram->trie.lazy->numbers);
    free(unigram->trie.lazy->is_there);
}

/* -- the search of all paths: the best score of a word */

static double best_score(const uint8_t *bytes, size_t size)
{
    if (!size)
        return 0;
    double best = -1e9;
    int is_known = 0;
    const size_t first = width(bytes[0]);
    for (size_t id = 0; id < WORDS; id++) {
        uint8_t piece[64];
        const size_t length = with_marks(vocabulary[id], piece);
        if (length > size || memcmp(piece, bytes, length) != 0)
            continue;
        is_known |= length == first;
        const double score = scores[id] + best_score(bytes + length, size - length);
        best = score > best ? score : best;
    }
    const double score = UNKNOWN_SCORE + best_score(bytes + first, size - first);
    return !is_known && score > best ? score : best;
}

/* The whole text is a word here: with blanks as marks, and one before it. */
static int is_best(Unigram *unigram)
{
    char text[128];
    uint8_t word[256];
    size_t size = 0, length = write_character(MARK, word), characters = 0;
    unigram->flags = PREPENDS;
    for (size_t left = 1 + random_below(7); left; left--) {
        const char *piece = pieces[random_below(PIECES)];
        memcpy(text + size, piece, strlen(piece));
        size += strlen(piece);
    }
    length = text[0] == ' ' ? 0 : length;
    for (size_t i = 0; i < size; i += width((uint8_t)text[i]), characters++)
        length += write_character(text[i] == ' ' ? MARK : character_at((uint8_t *)text + i), word + length);
    char *bytes = exactly(size);
    memcpy(bytes, text, size);
    Tokens found = {0};
    int sound = tokenize_unigram(unigram, (const uint8_t *)bytes, size, &found) && found.count > 0;
    double score = 0;
    uint32_t stop = 0;
    for (size_t i = 0; sound && i < found.count; i++) {
        const Token *token = &found.tokens[i];
        score += token->id == UNKNOWN ? UNKNOWN_SCORE * (double)(token->stop - token->start) : scores[token->id];
        /* A mark that was put in stands where the first character does. */
        sound = token->start <= stop && token->stop >= stop && token->stop > token->start;
        stop = token->stop;
    }
    const double expected = best_score(word, length), apart = score - expected;
    sound = sound && stop == characters && apart < 1e-9 && apart > -1e-9;
    if (!sound)
        printf("FAILED '%.*s': %zu tokens with %f, expected %f\n", (int)size, text, found.count, score, expected);
    free(found.tokens);
    free(bytes);
    return sound;
}

/* -- any tables */

static int stays_within(void)
{
    Lazy lazy;
    Unigram any = {
        .unknown = UNKNOWN,
        .flags = (uint32_t)random_below(32),
        .unknown_score = UNKNOWN_SCORE,
        .blocks = random_below(4),
        .sequences_size = random_below(60),
        .octets_size = random_below(2) ? 256 : 0,
    };
    uint16_t *pages = exactly(PAGES * sizeof *pages);
    for (size_t i = 0; i < PAGES; i++)
        pages[i] = (uint16_t)(random_below(9) ? random_below(4) : random_below(1 << 16));
    any.pages = pages;
    any.entries = random_words(256 * any.blocks, 60 << MAPPED_VALUE);
    any.sequences = random_words(any.sequences_size, 600);
    any.octets = random_words(any.octets_size, 600);
    const size_t units = random_below(3000), count = units + random_below(500);
    uint32_t *words = random_words(count, 1 << 20);
    for (size_t i = 0; i < units; i++)
        if (random_below(2)) /* often the label that is asked for here */
            words[i] = (uint32_t)random_below(12) << 17 | (uint32_t)random_below(2) << 8 | (i & 0xFF);
    lend(&any.trie, &lazy, words, count, units);
    const int fails = !random_below(10);
    lazy.read = fails ? read_nothing : read_part;
    uint8_t text[4 * 300];
    size_t size = 0;
    const size_t many = random_below(300);
    for (size_t i = 0; i < many; i++) {
        const uint32_t code = (uint32_t)(random_below(2) ? random_below(200) : random_below(0xD800));
        size += write_character(random_below(20) ? code : 0x10000 + (uint32_t)random_below(0x100000), text + size);
    }
    uint8_t *bytes = exactly(size);
    memcpy(bytes, text, size);
    Tokens found = {0};
    int sound = tokenize_unigram(&any, bytes, size, &found) == !(fails && count) && !found.is_short;
    for (size_t i = 0; sound && i < found.count; i++)
        sound = found.tokens[i].start < found.tokens[i].stop && found.tokens[i].stop <= many;
    if (!sound)
        printf("FAILED over any tables: %zu characters, %zu tokens\n", many, found.count);
    free(found.tokens);
    free(bytes);
    free(words);
    tables_free(&any);
    return sound;
}

int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? atoi(argv[1]) : 400;
    unsigned passed = 0, failed = 0;
    Lazy lazy;
    Unigram sound = sound_tables(&lazy);
    for (int round = 0; round < 5 * rounds; round++) {
        const int is_sound = is_best(&sound);
        passed += (unsigned)is_sound;
        failed += (unsigned)!is_sound;
    }
    /* What was read once is not read again. */
    failed += reads > (UNITS + 2 * (int)WORDS) / BLOCK + 1;
    tables_free(&sound);
    for (int round = 0; round < 5 * rounds; round++) {
        const int is_sound = stays_within();
        passed += (unsigned)is_sound;
        failed += (unsigned)!is_sound;
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
