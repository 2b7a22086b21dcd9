/* Byte-level BPE without Python: over sound tables it gives the tokens that a slow search of all merges gives, and over
 * any tables whatsoever it stays within them and within the text. Run by `make native`, under the sanitizers by `make
 * sanitize`, and for AArch64 under qemu-user by `make neon`. */
#include "../../native/bpe.h"

#include "random.h"

/* Tokens beyond those of bytes, each of two others, in the order of their ranks. */
static const uint32_t merges[][2] = {{'a', 'b'}, {256, 'a'}, {'b', 'a'}, {' ', 256}, {256, 256}, {0xC3, 0xA9}, {260, 'b'}, {'c', 261}};
#define MERGES ((uint32_t)(sizeof merges / sizeof *merges))
#define VOCABULARY (256 + MERGES)
#define UNITS 512
#define COUNT (UNITS + VOCABULARY + 1 + 3 * MERGES)
static const char *const pieces[] = {"a", "b", "ab", "ba", " ", "  ", "c\xC3\xA9", "\xE4\xB8\xAD", "\xF0\x9F\x8D\x95", "'s", "1", "."};
#define PIECES (sizeof pieces / sizeof *pieces)

/* A trie without strings, then the merges by their first token. */
static Bpe sound_tables(Lazy *lazy, uint32_t *numbers)
{
    Bpe bpe = {.vocabulary = VOCABULARY, .merges = MERGES, .blocks = 1};
    uint16_t *pages = exactly(PAGES * sizeof *pages);
    uint32_t *entries = exactly(256 * sizeof *entries), *octets = exactly(256 * sizeof *octets);
    memset(pages, 0, PAGES * sizeof *pages);
    memset(entries, 0, 256 * sizeof *entries);
    for (uint32_t i = 0; i < 256; i++)
        octets[i] = i;
    bpe.pages = pages;
    bpe.entries = entries;
    bpe.octets = octets;
    memset(numbers, 0, COUNT * sizeof *numbers);
    uint32_t placed = 0, *listed = numbers + UNITS + VOCABULARY + 1;
    for (uint32_t one = 0; one < VOCABULARY; one++) {
        numbers[UNITS + one] = placed;
        for (uint32_t other = 0; other < VOCABULARY; other++)
            for (uint32_t rank = 0; rank < MERGES; rank++)
                if (merges[rank][0] == one && merges[rank][1] == other) {
                    listed[3 * placed] = other;
                    listed[3 * placed + 1] = rank;
                    listed[3 * placed++ + 2] = 256 + rank;
                }
    }
    numbers[UNITS + VOCABULARY] = placed;
    bpe.trie = (Trie){.numbers = numbers, .count = COUNT, .units = UNITS, .lazy = lazy};
    return bpe;
}

static int read_nothing(const void *from, size_t first, size_t count, uint32_t *to)
{
    (void)from, (void)first, (void)count, (void)to;
    return 0;
}

static int read_part(const void *from, size_t first, size_t count, uint32_t *to)
{
    memcpy(to, (const uint32_t *)from + first, count * sizeof *to);
    return 1;
}

static void tables_free(const Bpe *bpe)
{
    free((void *)(uintptr_t)bpe->pages);
    free((void *)(uintptr_t)bpe->entries);
    free((void *)(uintptr_t)bpe->octets);
    free((void *)(uintptr_t)bpe->sequences);
    free((void *)(uintptr_t)bpe->pairs);
    free(bpe->trie.lazy->is_there);
    free(bpe->trie.lazy->numbers);
}

/* The whole text is one word: of all merges the one of the lowest rank first, the leftmost of these. */
static size_t search(const uint8_t *text, size_t size, uint32_t *ids)
{
    size_t count = size;
    for (size_t i = 0; i < size; i++)
        ids[i] = text[i];
    for (uint32_t rank = 0; rank < MERGES;) {
        size_t at = 0;
        while (at + 1 < count && (ids[at] != merges[rank][0] || ids[at + 1] != merges[rank][1]))
            at++;
        if (at + 1 >= count) {
            rank++;
            continue;
        }
        ids[at] = 256 + rank;
        memmove(ids + at + 1, ids + at + 2, (count - at - 2) * sizeof *ids);
        count--;
        rank = 0;
    }
    return count;
}

static size_t write_text(uint8_t *text, size_t most)
{
    size_t size = 0;
    for (size_t left = random_below(most); left; left--) {
        const char *piece = pieces[random_below(PIECES)];
        memcpy(text + size, piece, strlen(piece));
        size += strlen(piece);
    }
    return size;
}

static int is_merged(const Bpe *bpe)
{
    uint8_t text[256];
    const size_t size = write_text(text, 30);
    uint8_t *bytes = exactly(size);
    memcpy(bytes, text, size);
    uint32_t expected[256];
    const size_t count = search(bytes, size, expected);
    Tokens found = {0};
    int sound = tokenize_bytes(bpe, bytes, size, 0, &found) && found.count == count;
    for (size_t i = 0; sound && i < count; i++)
        sound = found.tokens[i].id == expected[i] && found.tokens[i].word == 0;
    if (!sound)
        printf("FAILED '%.*s': %zu tokens, expected %zu\n", (int)size, text, found.count, count);
    free(found.tokens);
    free(bytes);
    return sound;
}

static int stays_within(void)
{
    Lazy lazy = {0};
    Bpe any = {
        .flags = (uint32_t)random_below(1 << 11),
        .vocabulary = (uint32_t)random_below(600),
        .merges = (uint32_t)random_below(300),
        .blocks = random_below(4),
        .sequences_size = random_below(60),
        .pairs_size = random_below(20),
    };
    uint16_t *pages = exactly(PAGES * sizeof *pages);
    for (size_t i = 0; i < PAGES; i++)
        pages[i] = (uint16_t)(random_below(9) ? random_below(4) : random_below(1 << 16));
    any.pages = pages;
    any.entries = random_words(256 * any.blocks, 60u << PARTS);
    any.octets = random_words(256, 600);
    any.sequences = random_words(any.sequences_size, 600);
    any.pairs = random_words(PAIR * any.pairs_size, 300);
    const size_t units = random_below(3000), count = units + any.vocabulary + 1 + 3 * (size_t)any.merges;
    uint32_t *numbers = random_words(count, 600);
    for (size_t i = 0; i < units; i++)
        if (random_below(2)) /* often the label that is asked for here */
            numbers[i] = (uint32_t)random_below(12) << 17 | (uint32_t)random_below(2) << 8 | (i & 0xFF);
    const int fails = !random_below(10);
    lazy = (Lazy){.read = fails ? read_nothing : read_part, .from = numbers};
    lazy.numbers = exactly(count * sizeof *lazy.numbers);
    lazy.is_there = exactly(count / BLOCK + 1);
    memset(lazy.is_there, 0, count / BLOCK + 1);
    any.trie = (Trie){.numbers = lazy.numbers, .count = count, .units = units, .lazy = &lazy};
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
    int sound = tokenize_bytes(&any, bytes, size, (uint32_t)random_below(4), &found) == !fails && !found.is_short;
    for (size_t i = 0; sound && i < found.count; i++)
        sound = found.tokens[i].start <= found.tokens[i].stop && found.tokens[i].stop <= many;
    if (!sound)
        printf("FAILED over any tables: %zu characters, %zu tokens\n", many, found.count);
    free(found.tokens);
    free(bytes);
    free(numbers);
    tables_free(&any);
    return sound;
}

int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? atoi(argv[1]) : 400;
    unsigned passed = 0, failed = 0;
    static uint32_t numbers[COUNT];
    Lazy lazy = {.read = read_nothing};
    lazy.is_there = exactly(COUNT / BLOCK + 1);
    memset(lazy.is_there, 1, COUNT / BLOCK + 1);
    const Bpe sound = sound_tables(&lazy, numbers);
    for (int round = 0; round < 25 * rounds; round++) {
        const int is_sound = is_merged(&sound);
        passed += (unsigned)is_sound;
        failed += (unsigned)!is_sound;
    }
    tables_free(&sound);
    for (int round = 0; round < 5 * rounds; round++) {
        const int is_sound = stays_within();
        passed += (unsigned)is_sound;
        failed += (unsigned)!is_sound;
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
