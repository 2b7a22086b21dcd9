/* The tokenizer without Python: over sound tables it gives the tokens that a slow search of a list gives, and over any
 * tables whatsoever it stays within them and within the text. Run by `make native`, under the sanitizers by `make
 * sanitize`, and for AArch64 under qemu-user by `make neon`. */
#include "../../native/tokenize.h"

#include "random.h"

#define UNKNOWN 99

/* Within a word behind '+'; what is found before the others behind its label. */
static const char *const vocabulary[] = {"a",      "ab",     "abc", "b",    "+a",  "+b", "+bc", "+c", "+cab", "\xC3\xA9",
                                         "+\xC3\xA9", "\xE4\xB8\xAD", ".",   "\xFE[S]", "\xFE[SS]"};
#define WORDS (sizeof vocabulary / sizeof *vocabulary)
static const char *const pieces[] = {"a", "b", "c", "ab", "abc", " ", ".", "\xC3\xA9", "\xE4\xB8\xAD", "[S]", "[SS]", "[",
                                     "S]", "x", "\xCC\x81", "cab", "\xF0\x9F\x8D\x95"};
#define PIECES (sizeof pieces / sizeof *pieces)

/* -- sound tables */

/* Node n has base 256 * (n + 1): no two share a unit, and none has base 0. */
static uint32_t *units;
static size_t nodes;

static size_t node_of(uint32_t place, uint8_t label)
{
    if (!(units[place] >> 9))
        units[place] |= (uint32_t)(256 * ++nodes) << 9;
    const uint32_t found = units[place] >> 9 ^ label;
    units[found] |= label;
    return found;
}

/* Units without other children than their id have it themselves. */
static void fold_leaves(uint32_t size)
{
    for (uint32_t place = 0; place < size; place++) {
        const uint32_t base = units[place] >> 9;
        uint32_t children = 0;
        for (uint32_t label = 0; base && label < 256; label++)
            children += units[base ^ label] != 0;
        if (children == 1 && units[base ^ END])
            units[place] = (size + (units[base ^ END] >> 8)) << 9 | (units[place] & 0x1FF);
    }
}

static Tokenizer sound_tables(void)
{
    const size_t size = 256 * 64;
    units = exactly(size * sizeof *units);
    memset(units, 0, size * sizeof *units);
    nodes = 0;
    units[0] = 0xC0;
    Tokenizer tokenizer = {.unknown = UNKNOWN, .longest = 9};
    for (uint32_t id = 0; id < WORDS; id++) {
        uint32_t place = 0;
        for (const char *at = vocabulary[id]; *at; at++)
            place = (uint32_t)node_of(place, (uint8_t)*at);
        units[node_of(place, END)] |= id << 8;
        units[place] |= 1 << 8;
    }
    tokenizer.continuing = (uint32_t)node_of(0, '+');
    fold_leaves((uint32_t)size);
    tokenizer.trie = (Trie){.numbers = units, .count = size, .units = size};
    uint16_t *pages = exactly(PAGES * sizeof *pages);
    uint32_t *entries = exactly(2 * 256 * sizeof *entries);
    for (size_t i = 0; i < PAGES; i++)
        pages[i] = i ? 1 : 0;
    for (size_t i = 0; i < 512; i++)
        entries[i] = LETTER;
    entries[' '] = SPACE;
    entries['.'] = ALONE;
    entries[0x101] = DROPPED; /* U+0301, and others that no piece has */
    tokenizer.pages = pages;
    tokenizer.entries = entries;
    tokenizer.blocks = 2;
    return tokenizer;
}

static void tables_free(const Tokenizer *tokenizer)
{
    free((void *)(uintptr_t)tokenizer->pages);
    free((void *)(uintptr_t)tokenizer->entries);
    free((void *)(uintptr_t)tokenizer->sequences);
    free((void *)(uintptr_t)tokenizer->marks);
    free((void *)(uintptr_t)tokenizer->trie.numbers);
}

/* -- the slow search */

/* The longest entry of the list behind `prefix` that `text` begins with, or WORDS; its bytes without the prefix. */
static size_t longest(const char *prefix, const char *text, size_t size, size_t *taken)
{
    size_t best = WORDS;
    *taken = 0;
    for (size_t id = 0; id < WORDS; id++) {
        const size_t ahead = strlen(prefix);
        if (strncmp(vocabulary[id], prefix, ahead) != 0)
            continue;
        const size_t length = strlen(vocabulary[id]) - ahead;
        if (length > *taken && length <= size && memcmp(vocabulary[id] + ahead, text, length) == 0) {
            best = id;
            *taken = length;
        }
    }
    return best;
}

static uint32_t characters(const char *text, size_t size)
{
    uint32_t count = 0;
    for (size_t i = 0; i < size; i++)
        count += (text[i] & 0xC0) != 0x80;
    return count;
}

/* Tokens of a word at `text`, its first character being number `place`. */
static size_t search_word(const char *text, size_t size, uint32_t place, Token *tokens)
{
    char plain[64];
    uint32_t places[64];
    size_t kept = 0, count = 0, taken;
    uint32_t last = place, first = UINT32_MAX, length = 0;
    for (size_t i = 0, at = place; i < size; at++) {
        const size_t bytes = width((uint8_t)text[i]);
        if (memcmp(text + i, "\xCC\x81", 2) != 0) {
            memcpy(plain + kept, text + i, bytes);
            for (size_t j = 0; j < bytes; j++)
                places[kept++] = (uint32_t)at;
            first = first == UINT32_MAX ? (uint32_t)at : first;
            last = (uint32_t)at;
            length++;
        }
        i += bytes;
    }
    if (!kept)
        return 0;
    for (size_t at = 0; length <= 9 && at < kept; at += taken) {
        const size_t id = longest(at ? "+" : "", plain + at, kept - at, &taken);
        if (id == WORDS)
            break;
        tokens[count++] = (Token){(uint32_t)id, places[at], places[at + taken - 1] + 1, 0};
        if (at + taken == kept)
            return count;
    }
    tokens[0] = (Token){UNKNOWN, first, last + 1, 0};
    return 1;
}

static size_t search(const char *text, size_t size, Token *tokens)
{
    size_t count = 0, begin = 0, taken;
    for (size_t at = 0; at <= size; at += at < size ? width((uint8_t)text[at]) : 1) {
        const int is_end = at == size || text[at] == ' ' || text[at] == '.';
        size_t id = at < size ? longest("\xFE", text + at, size - at, &taken) : WORDS;
        if (!is_end && id == WORDS)
            continue;
        count += search_word(text + begin, at - begin, characters(text, begin), tokens + count);
        begin = at + (at < size);
        const uint32_t place = characters(text, at);
        if (id != WORDS) {
            tokens[count++] = (Token){(uint32_t)id, place, place + characters(text + at, taken), 0};
            begin = at + taken;
            at = begin - 1; /* the last byte of a token, which is one of a character */
        } else if (at < size && text[at] == '.') {
            tokens[count++] = (Token){(uint32_t)longest("", ".", 1, &taken), place, place + 1, 0};
        }
    }
    return count;
}

static int is_found(const Tokenizer *tokenizer)
{
    char text[256];
    size_t size = 0;
    for (size_t left = random_below(12); left; left--) {
        const char *piece = pieces[random_below(PIECES)];
        memcpy(text + size, piece, strlen(piece));
        size += strlen(piece);
    }
    char *bytes = exactly(size);
    memcpy(bytes, text, size);
    Token expected[256];
    const size_t count = search(bytes, size, expected);
    Tokens found = {0};
    int sound = tokenize(tokenizer, (const uint8_t *)bytes, size, &found) && found.count == count;
    for (size_t i = 0; sound && i < count; i++)
        sound = found.tokens[i].id == expected[i].id && found.tokens[i].start == expected[i].start &&
                found.tokens[i].stop == expected[i].stop;
    if (!sound)
        printf("FAILED '%.*s': %zu tokens, expected %zu\n", (int)size, text, found.count, count);
    free(found.tokens);
    free(bytes);
    return sound;
}

/* -- any tables */

static Tokenizer any_tables(void)
{
    Tokenizer tokenizer = {
        .unknown = UNKNOWN,
        .longest = (uint32_t)random_below(LONGEST_WORD + 1),
        .continuing = random_below(2) ? NOWHERE : (uint32_t)random_below(600),
        .blocks = random_below(4),
        .sequences_size = random_below(60),
        .marks_size = random_below(20),
    };
    uint16_t *pages = exactly(PAGES * sizeof *pages);
    for (size_t i = 0; i < PAGES; i++)
        pages[i] = (uint16_t)(random_below(9) ? random_below(4) : random_below(1 << 16));
    uint32_t *entries = random_words(256 * tokenizer.blocks, 60 << VALUE), *marks = random_words(2 * tokenizer.marks_size, 60);
    for (size_t i = 0; i < 256 * tokenizer.blocks; i++)
        if (!random_below(50))
            entries[i] = SEQUENCE | SYLLABLE << VALUE;
    const size_t many = random_below(2000);
    uint32_t *any = random_words(many, 1 << 20);
    for (size_t i = 0; i < tokenizer.marks_size; i++)
        marks[2 * i] = (uint32_t)(7 * i);
    for (size_t i = 0; i < many; i++)
        if (random_below(2)) /* often the label that is asked for here */
            any[i] = (uint32_t)random_below(8) << 17 | (uint32_t)random_below(2) << 8 | (i & 0xFF);
    tokenizer.pages = pages;
    tokenizer.entries = entries;
    tokenizer.sequences = random_words(tokenizer.sequences_size, 600);
    tokenizer.marks = marks;
    tokenizer.trie = (Trie){.numbers = any, .count = many, .units = many};
    return tokenizer;
}

static int stays_within(const Tokenizer *tokenizer)
{
    uint8_t text[4 * 400];
    size_t size = 0;
    const size_t many = random_below(400);
    for (size_t i = 0; i < many; i++) {
        const uint32_t code = (uint32_t)(random_below(2) ? random_below(200) : random_below(0xD800));
        size += write_character(random_below(20) ? code : 0x10000 + (uint32_t)random_below(0x100000), text + size);
    }
    uint8_t *bytes = exactly(size);
    memcpy(bytes, text, size);
    Tokens found = {0}, again = {0};
    int sound = tokenize(tokenizer, bytes, size, &found) && tokenize(tokenizer, bytes, size, &again);
    sound = sound && found.count == again.count;
    for (size_t i = 0; sound && i < found.count; i++) {
        const Token *token = &found.tokens[i];
        sound = memcmp(token, &again.tokens[i], sizeof *token) == 0 && token->start < token->stop && token->stop <= many;
    }
    if (!sound)
        printf("FAILED over any tables: %zu characters, %zu tokens\n", many, found.count);
    free(found.tokens);
    free(again.tokens);
    free(bytes);
    return sound;
}

int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? atoi(argv[1]) : 400;
    unsigned passed = 0, failed = 0;
    const Tokenizer sound = sound_tables();
    for (int round = 0; round < 25 * rounds; round++) {
        const int is_sound = is_found(&sound);
        passed += (unsigned)is_sound;
        failed += (unsigned)!is_sound;
    }
    tables_free(&sound);
    for (int round = 0; round < 5 * rounds; round++) {
        const Tokenizer any = any_tables();
        const int is_sound = stays_within(&any);
        passed += (unsigned)is_sound;
        failed += (unsigned)!is_sound;
        tables_free(&any);
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
