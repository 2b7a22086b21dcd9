/* Checksums without Python: those of lines of any size are what single bits make of them. Run by `make native`, under
 * the sanitizers by `make sanitize`, and for AArch64 under qemu-user by `make neon`. */
#include "../../native/checksum.h"

#include "random.h"

static uint32_t bit_by_bit(uint32_t left, uint8_t octet)
{
    left ^= octet;
    for (int bit = 0; bit < 8; bit++)
        left = left >> 1 ^ (left & 1 ? 0xEDB88320u : 0);
    return left;
}

int main(int count, char **arguments)
{
    const int rounds = count > 1 ? atoi(arguments[1]) : 2000;
    int failed = 0;
    checksum_begin();
    for (int round = 0; round < rounds; round++) {
        int64_t numbers[HEAD];
        uint32_t expected = 0xFFFFFFFFu;
        for (int i = 0; i < HEAD; i++) {
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
        failed += line_checksum(numbers, content, octets) != ~expected;
        free(content);
    }
    printf("%d passed, %d failed\n", rounds - failed, failed);
    return failed != 0;
}
