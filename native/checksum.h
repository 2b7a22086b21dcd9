/* Checksums: CRC-32 of zlib, PNG and Ethernet, and lines of an index file that carry it. No Python in here. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HEAD 4 /* numbers before a line's content */

/* What an octet leaves behind that is followed by 0 to 7 others. */
static uint32_t left_by[8][256];

static void checksum_begin(void)
{
    for (uint32_t octet = 0; octet < 256; octet++) {
        uint32_t left = octet;
        for (int bit = 0; bit < 8; bit++)
            left = left >> 1 ^ (left & 1 ? 0xEDB88320u : 0);
        left_by[0][octet] = left;
    }
    for (int others = 1; others < 8; others++)
        for (int octet = 0; octet < 256; octet++)
            left_by[others][octet] = left_by[others - 1][octet] >> 8 ^ left_by[0][left_by[others - 1][octet] & 255];
}

static inline uint64_t little(uint64_t number)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(number);
#else
    return number;
#endif
}

/* Goes on with eight octets, the first of them the lowest. */
static inline uint32_t go_on(uint32_t left, uint64_t octets)
{
    octets ^= left;
    left = 0;
    for (int place = 0; place < 8; place++)
        left ^= left_by[7 - place][octets >> 8 * place & 255];
    return left;
}

/* The checksum of a line: of its numbers, eight octets each, the lowest first, and its content. */
static uint32_t line_checksum(const int64_t *numbers, const uint8_t *content, size_t octets)
{
    uint32_t left = 0xFFFFFFFFu;
    for (int i = 0; i < HEAD; i++)
        left = go_on(left, (uint64_t)numbers[i]);
    for (; octets >= 8; octets -= 8, content += 8) {
        uint64_t next;
        memcpy(&next, content, 8);
        left = go_on(left, little(next));
    }
    for (; octets; octets--)
        left = left >> 8 ^ left_by[0][(left ^ *content++) & 255];
    return ~left;
}
