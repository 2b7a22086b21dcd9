/* Words without Python: any code points give words that lie in the text, hold 1 to 64 code points, and are the same again.
 * Run by `make native`, under the sanitizers by `make sanitize`, and for AArch64 under qemu-user by `make neon`. */
#include "../../native/words.h"

#include "random.h"

static const uint32_t likely[] = {'a', 'E', 's', 'i', 'n', 'g', '7', '.', '-', '_', ',', '+', '#', ' ', 0xE9, 0x301, 0xDF, 0xFB01,
                                  0x3231, 0x130, 0xAD, 0x4E1C, 0x304B, 0x3099, 0xFF76, 0xFF9E, 0x1112, 0x1161, 0x11AB, 0xE01,
                                  0xE48, 0x926, 0x94D, 0x1F355, 0x1F1E9, 0x200D, 0xBD, 0xFDFA};

typedef struct {
    uint64_t hash;
    int64_t words, length;
    int wrong;
} Seen;

static int look(void *context, const uint32_t *term, int length, int64_t start, int64_t stop)
{
    Seen *seen = context;
    seen->wrong |= length < 1 || length > LONGEST || start < 0 || start >= stop || stop > seen->length;
    for (int i = 0; i < length; i++)
        seen->hash = (seen->hash ^ term[i]) * 0x100000001B3u;
    seen->hash = (seen->hash ^ (uint64_t)(start * 31 + stop)) * 0x100000001B3u;
    seen->words++;
    return 1;
}

static Seen words_of(const Table *table, const uint32_t *text, size_t length)
{
    Folded folded = {NULL, 0, 0, 0};
    for (size_t i = 0; i < length; i++)
        if (!fold(&folded, table, text[i]))
            exit(2);
    Seen seen = {1, 0, (int64_t)length, 0};
    split(&(Splitter){&folded, 1, look, &seen});
    free(folded.units);
    return seen;
}

int main(int count, char **arguments)
{
    const int rounds = count > 1 ? atoi(arguments[1]) : 20000;
    FILE *file = fopen("edgeret/words.bin", "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0)
        return 2;
    const size_t size = (size_t)ftell(file);
    unsigned char *octets = exactly(size);
    rewind(file);
    Table table;
    if (fread(octets, 1, size, file) != size || !table_open(&table, octets, size) || table_open(&table, octets, size - 1))
        return 1;
    table_open(&table, octets, size);
    fclose(file);
    int failed = 0;
    for (int round = 0; round < rounds; round++) {
        const size_t length = random_below(round % 100 ? 40 : 400);
        uint32_t *text = exactly(length * sizeof *text);
        for (size_t i = 0; i < length; i++)
            text[i] = random_below(8) ? likely[random_below(sizeof likely / sizeof *likely)] : (uint32_t)random_below(0x110000);
        const Seen once = words_of(&table, text, length), again = words_of(&table, text, length);
        failed += once.wrong || once.hash != again.hash || once.words != again.words;
        free(text);
    }
    free(octets);
    printf("%d passed, %d failed\n", rounds - failed, failed);
    return failed != 0;
}
