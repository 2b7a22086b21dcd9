/* Checksums without Python: those of lines of any size are what single bits make of them, by each build that runs here.
 * Run by `make native`, under the sanitizers by `make sanitize`, and for AArch64 under qemu-user by `make neon`. */
#include "../../native/checksum.h"

#include "random.h"

static uint32_t bit_by_bit(uint32_t left, uint8_t octet)
{
    left ^= octet;
    for (int bit = 0; bit < 8; bit++)
        left = left >> 1 ^ (left & 1 ? 0xEDB88320u : 0);
    return left;
}

int main(int given, char **arguments)
{
    const int lines = given > 1 ? atoi(arguments[1]) : 2000;
    int rounds = 0, passed = 0;
    checksum_begin();
    for (int line = 0; line < lines; line++) {
        int64_t numbers[4];
        const size_t count = random_below(5);
        uint32_t expected = 0xFFFFFFFFu;
        for (size_t i = 0; i < count; i++) {
            numbers[i] = (int64_t)random_word() >> random_below(64);
            for (int octet = 0; octet < 8; octet++)
                expected = bit_by_bit(expected, (uint8_t)((uint64_t)numbers[i] >> 8 * octet));
        }
        const size_t octets = random_below(500);
        uint8_t *content = exactly(octets);
        for (size_t i = 0; i < octets; i++) {
            content[i] = (uint8_t)random_word();
            expected = bit_by_bit(expected, content[i]);
        }
        for (size_t i = 0; i < GOES; i++) {
            if (!goes[i].runs_here())
                continue;
            go = goes[i].go;
            passed += checksum_of(numbers, count, content, octets) == ~expected;
            rounds++;
        }
        free(content);
    }
    printf("%d passed, %d failed\n", passed, rounds - passed);
    return passed != rounds;
}
