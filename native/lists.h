/* Lists: rows that hold a word, each with a mark. No Python in here. docs/lexicon.md describes the bytes.
 *
 * A list is a row of chunks, one for each block of rows. Every read is bounded by the list, whatever its bytes are, and
 * every row by its block: a list that somebody forged gives an error or other rows, never another's memory.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "octets.h"

#define INLINE static inline __attribute__((always_inline))
#define BLOCK_ROWS 16384
#define BLOCK_OCTETS (BLOCK_ROWS / 8)
#define MANY 8 /* rows of a chunk that is packed */
#define LAST 0x8000u /* marks the last row of a chunk that is not */
#define MOST_BLOCKS 0x7fffffffu
#define COUNT_BITS 0xe0 /* of a mark: how often the word stands there; the others: how short the passage is */

typedef struct {
    uint32_t block, count;
    uint8_t highest; /* no mark has more count bits, or more others */
    const uint8_t *offsets; /* of few rows, two octets each; NULL of many */
    const uint8_t *high, *low; /* of many */
    size_t high_octets, low_octets;
    unsigned low_bits;
    const uint8_t *marks;
} Chunk;

INLINE uint32_t read_u16(const uint8_t *at) { return (uint32_t)at[0] | (uint32_t)at[1] << 8; }

/* Of a packed chunk's low bits, any octet: its marks follow, of which there are MANY at least. */
INLINE uint32_t read_u32(const uint8_t *at) { return read_u16(at) | read_u16(at + 2) << 16; }

/* Bits from `from` on in their order, zeros past the end. */
INLINE uint64_t read_bits(const uint8_t *at, size_t octets, size_t octet)
{
    uint64_t bits = 0;
    if (octet + 8 <= octets)
        memcpy(&bits, at + octet, 8);
    else if (octet < octets)
        memcpy(&bits, at + octet, octets - octet);
    return little(bits);
}

INLINE unsigned low_bits_of(uint32_t count) { return 31u - (unsigned)__builtin_clz(BLOCK_ROWS / count); }

/* The mark that both are no more than. */
INLINE uint8_t higher(uint8_t a, uint8_t b)
{
    const int counts = (a & COUNT_BITS) > (b & COUNT_BITS) ? a & COUNT_BITS : b & COUNT_BITS;
    const int others = (a & ~COUNT_BITS) > (b & ~COUNT_BITS) ? a & ~COUNT_BITS : b & ~COUNT_BITS;
    return (uint8_t)(counts | others);
}

/* Reads a chunk's head at *at and moves to its end; 0 if the octets are no chunk. */
static int chunk_open(Chunk *chunk, const uint8_t **at, const uint8_t *end)
{
    const uint8_t *next = *at;
    uint64_t head = 0;
    for (unsigned shift = 0;; shift += 7) {
        if (next == end || shift > 28)
            return 0;
        head |= (uint64_t)(*next & 0x7f) << shift;
        if (!(*next++ & 0x80))
            break;
    }
    if (head >> 1 > MOST_BLOCKS)
        return 0;
    chunk->block = (uint32_t)(head >> 1);
    chunk->highest = 0;
    if (head & 1) {
        if (end - next < 3)
            return 0;
        chunk->count = read_u16(next);
        chunk->highest = next[2];
        next += 3;
        if (chunk->count < MANY || chunk->count > BLOCK_ROWS)
            return 0;
        chunk->offsets = NULL;
        chunk->low_bits = low_bits_of(chunk->count);
        chunk->high_octets = (chunk->count + (BLOCK_ROWS >> chunk->low_bits) + 7) / 8;
        chunk->low_octets = ((size_t)chunk->count * chunk->low_bits + 7) / 8;
        chunk->high = next;
        chunk->low = next + chunk->high_octets;
        if ((size_t)(end - next) < chunk->high_octets + chunk->low_octets + chunk->count)
            return 0;
        chunk->marks = chunk->low + chunk->low_octets;
    } else {
        chunk->offsets = next;
        chunk->count = 0;
        do {
            if (end - next < 2 || ++chunk->count == MANY)
                return 0;
            next += 2;
        } while (!(read_u16(next - 2) & LAST));
        if ((size_t)(end - next) < chunk->count)
            return 0;
        chunk->marks = next;
        for (uint32_t i = 0; i < chunk->count; i++)
            chunk->highest = higher(chunk->highest, next[i]);
    }
    *at = chunk->marks + chunk->count;
    return 1;
}

/* How many rows a list has, or -1 if its octets are no list. */
static int64_t list_count(const uint8_t *at, const uint8_t *end)
{
    Chunk chunk;
    int64_t count = 0, block = -1;
    while (at < end) {
        if (!chunk_open(&chunk, &at, end) || chunk.block <= block)
            return -1;
        block = chunk.block;
        count += chunk.count;
    }
    return count;
}
