/* Terms: the entry of a term in a page of the lexicon. No Python in here. docs/lexicon.md describes the bytes.
 *
 * Every read is bounded by the page, whatever its bytes are.
 */
#include "lists.h"

#define PAGE_HEAD 4 /* octets before the names: how many terms there are, and how many octets of names */
#define OUTSIDE 0x8000u /* the list is elsewhere */
#define TOLD 0x4000u /* the number of rows is written before the list */
#define PLACE 0x3fffu

/* What a page has of a term. */
typedef struct {
    int64_t net; /* rows added less rows removed */
    const uint8_t *rows; /* the list, or NULL if it is outside */
    size_t octets;
    uint32_t list, lists; /* outside: the first, and how many */
} Entry;

typedef enum { FOUND, ABSENT, DAMAGED } Outcome;

/* The octets from a place on; none past the end. */
static inline size_t left_at(size_t size, size_t place) { return place < size ? size - place : 0; }

/* Looks a name up among those that line feeds enclose; how many are before it, -1 if it is not there. */
static ptrdiff_t name_number(const uint8_t *names, size_t octets, const uint8_t *term, size_t length)
{
    ptrdiff_t number = 0;
    const uint8_t *end = names + octets, *at = octets ? memchr(names, '\n', octets) : NULL;
    /* A line feed with the name and another behind it. */
    while (at && (size_t)(end - at) >= length + 2) {
        if (at[length + 1] == '\n' && (!length || memcmp(at + 1, term, length) == 0))
            return number;
        number++;
        at = memchr(at + 1, '\n', (size_t)(end - at) - 1);
    }
    return -1;
}

static Outcome read_entry(const uint8_t *page, size_t size, size_t start, size_t end, unsigned flags, Entry *entry)
{
    *entry = (Entry){.rows = NULL};
    if (flags & OUTSIDE) {
        if (left_at(size, start) < 10)
            return DAMAGED;
        entry->net = (int32_t)read_u32(page + start);
        entry->list = read_u32(page + start + 4);
        entry->lists = read_u16(page + start + 8);
        return FOUND;
    }
    if (flags & TOLD) {
        if (left_at(size, start) < 4)
            return DAMAGED;
        entry->net = (int32_t)read_u32(page + start);
        start += 4;
    }
    end = end < size ? end : size;
    start = start < end ? start : end;
    entry->rows = page + start;
    entry->octets = end - start;
    if (!(flags & TOLD))
        entry->net = list_count(page + start, page + end);
    return entry->net < 0 && !(flags & TOLD) ? DAMAGED : FOUND;
}

static Outcome page_find(const uint8_t *page, size_t size, const uint8_t *term, size_t length, Entry *entry)
{
    if (size < PAGE_HEAD)
        return DAMAGED;
    const size_t count = read_u16(page), octets = read_u16(page + 2), end = PAGE_HEAD + octets;
    const size_t readable = left_at(size, PAGE_HEAD);
    const ptrdiff_t number = name_number(page + PAGE_HEAD, octets < readable ? octets : readable, term, length);
    if (number < 0)
        return ABSENT;
    const size_t place = end + 2 * (size_t)number;
    if (left_at(size, place) < 4)
        return DAMAGED;
    const unsigned start = read_u16(page + place), stop = read_u16(page + place + 2);
    const size_t first = end + 2 * (count + 1);
    return read_entry(page, size, first + (start & PLACE), first + (stop & PLACE), start, entry);
}
