/* Byte strings, each with a number, as a double array (docs/format.md), in memory or in a file. No Python in here.
 *
 * It may come from anywhere: whatever it holds, nothing outside of it is read.
 */
#ifndef TRIE_H
#define TRIE_H

#include "text.h"

#define BLOCK 1024 /* numbers that are read together */

/* Labels of the trie that no UTF-8 has. */
enum { MAPS = 0xFD, ADDED = 0xFE, END = 0xFF };

/* Numbers of a file, as far as they were read. */
typedef struct {
    uint32_t *numbers;
    uint8_t *is_there; /* of each block */
    int (*read)(const void *from, size_t first, size_t count, uint32_t *numbers); /* 0 if it failed */
    const void *from;
    int failed;
} Lazy;

typedef struct {
    const uint32_t *numbers; /* units, and what stands behind them */
    size_t count, units;
    Lazy *lazy; /* of these numbers; NULL: all are there */
} Trie;

static uint32_t number_at(const Trie *trie, size_t place)
{
    if (place >= trie->count)
        return 0;
    Lazy *lazy = trie->lazy;
    const size_t block = place / BLOCK, first = block * BLOCK;
    if (lazy && !lazy->is_there[block]) {
        const size_t count = trie->count - first < BLOCK ? trie->count - first : BLOCK;
        if (!lazy->read(lazy->from, first, count, lazy->numbers + first)) {
            lazy->failed = 1;
            return 0;
        }
        lazy->is_there[block] = 1;
    }
    return trie->numbers[place];
}

/* The unit of a child, or 0: no unit has both base 0 and label 0. */
static uint32_t child(const Trie *trie, uint32_t unit, uint8_t label)
{
    const uint32_t place = unit >> 9 ^ label;
    const uint32_t found = place < trie->units ? number_at(trie, place) : 0;
    return (found & 0xFF) == label ? found : 0;
}

static int has_end(uint32_t unit) { return unit >> 8 & 1; }

/* A base past the end has no children: it is the number, behind that of units. */
static uint32_t number_of(const Trie *trie, uint32_t unit)
{
    const size_t base = unit >> 9;
    return base >= trie->units ? (uint32_t)(base - trie->units) : child(trie, unit, END) >> 8;
}

/* Where the longest string below `unit` that a text has at `from` ends; `from` if there is none. */
static Place longest_at(const Trie *trie, uint32_t unit, const uint8_t *text, size_t size, Place from, uint32_t *number)
{
    Place stop = from, at = from;
    while (at.byte < size) {
        for (const size_t next = at.byte + width(text[at.byte]); unit && at.byte < next; at.byte++)
            unit = child(trie, unit, text[at.byte]);
        at.character++;
        if (!unit)
            break;
        if (has_end(unit)) {
            stop = at;
            *number = number_of(trie, unit);
        }
    }
    return stop;
}

#endif
