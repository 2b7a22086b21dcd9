/* Seek: run over packed codes until something is near. One for each instruction set, chosen at run time.
 *
 * Codes are word-major (word w of row r is codes[w * rows + r]), so one vector register holds the
 * same word of many rows and nothing is ever summed across lanes of different rows. Rows are taken
 * in strips of 64. Hits are rare, so all the time of a scan is spent in here.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "octets.h"

#define INLINE static inline __attribute__((always_inline))
#define STRIP 64
#define MAX_WORDS 16
#define MAX_PLANES 4
#define AHEAD_OCTETS 2048 /* hardware prefetchers stop at the end of each page */
#define AHEAD_STRIPS 6

typedef struct {
    size_t words, planes;
    const uint64_t *bits; /* [planes][words] */
    const uint8_t *tables; /* [16 * words][16]: what four bits of a code add, or NULL if the Isa needs none */
} Query;

typedef struct {
    const uint64_t *codes; /* [words][stride] */
    size_t stride;
    const uint8_t *live; /* a bit for each row, or NULL */
    int sparse; /* few groups of 8 rows are live: what is read next must be looked up */
} Columns;

typedef struct {
    uint64_t near; /* bit i: row i of the strip is live and below the bound */
    uint32_t distances[STRIP]; /* set where near is */
} Found;

/* The first strip of [from, to) that has something near, or `to`. */
typedef size_t Seek(const Columns *, size_t from, size_t to, const Query *, uint32_t bound, Found *);


INLINE void read_ahead(const void *address)
{
    /* As an integer, since it may lie past the end; a prefetch never faults. */
    __builtin_prefetch((const void *)((uintptr_t)address + AHEAD_OCTETS));
}

INLINE uint64_t live_rows(const Columns *columns, size_t strip)
{
    uint64_t live = ~UINT64_C(0);
    if (columns->live) {
        memcpy(&live, columns->live + strip * (STRIP / 8), sizeof live);
        live = little(live);
    }
    return live;
}

/* The highest bit of each octet that is not 0: of each group of 8 rows with a live one. */
INLINE uint64_t live_groups(uint64_t live)
{
    const uint64_t low = UINT64_C(0x7f7f7f7f7f7f7f7f);
    return (((live & low) + low) | live) & ~low;
}

INLINE void read_live_ahead(const Columns *columns, size_t strip, size_t to, size_t words)
{
    strip += AHEAD_STRIPS;
    if (strip >= to)
        return;
    for (uint64_t groups = live_groups(live_rows(columns, strip)); groups; groups &= groups - 1)
        for (size_t word = 0; word < words; word++)
            __builtin_prefetch(columns->codes + word * columns->stride + strip * STRIP +
                               ((unsigned)__builtin_ctzll(groups) & ~7u));
}

/* Compilers know this pattern and use the instruction for it where the target has one. */
INLINE uint32_t popcount(uint64_t x)
{
    x -= x >> 1 & UINT64_C(0x5555555555555555);
    x = (x & UINT64_C(0x3333333333333333)) + (x >> 2 & UINT64_C(0x3333333333333333));
    x = (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (uint32_t)((x * UINT64_C(0x0101010101010101)) >> 56);
}

/* Of these rows of a strip, one after the other. `words` and `planes` may be constants where it is called. */
INLINE void find_rows(const Columns *columns, size_t strip, uint64_t rows, const Query *query, uint32_t bound, Found *found,
                      size_t words, size_t planes)
{
    const uint64_t *codes = columns->codes + strip * STRIP;
    for (; rows; rows &= rows - 1) {
        const unsigned row = (unsigned)__builtin_ctzll(rows);
        uint32_t total = 0;
        for (size_t plane = planes; plane-- > 0;) {
            total *= 2;
            for (size_t word = 0; word < words; word++)
                total += popcount(codes[word * columns->stride + row] ^ query->bits[plane * words + word]);
        }
        found->distances[row] = total;
        found->near |= (uint64_t)(total < bound) << row;
    }
}

INLINE size_t seek_one_by_one(const Columns *columns, size_t from, size_t to, const Query *query, uint32_t bound,
                              Found *found)
{
    for (size_t strip = from; strip < to; strip++) {
        found->near = 0;
        find_rows(columns, strip, live_rows(columns, strip), query, bound, found, query->words, query->planes);
        if (found->near)
            return strip;
    }
    return to;
}

static size_t seek_plain(const Columns *columns, size_t from, size_t to, const Query *query, uint32_t bound,
                         Found *found)
{
    return seek_one_by_one(columns, from, to, query, bound, found);
}

#if defined(__x86_64__) && defined(__GNUC__)
#define X86 1
#include "seek_x86.h"
#elif defined(__AARCH64EL__) && defined(__GNUC__)
#define NEON 1
#include "seek_neon.h"
#endif

typedef struct {
    const char *name;
    int (*runs_here)(void);
    Seek *seek;
    int has_tables;
} Isa;

static int always(void) { return 1; }

/* Best first. */
static const Isa isas[] = {
#ifdef X86
    {"avx512", has_avx512, seek_avx512, 0},
    {"avx2", has_avx2, seek_avx2, 1},
    {"popcnt", has_popcnt, seek_popcnt, 0},
#endif
#ifdef NEON
    {"neon-dot", has_dot_product, seek_neon_dot, 0},
    {"neon", always, seek_neon, 0},
#endif
    {"plain", always, seek_plain, 0},
};
#define ISAS (sizeof isas / sizeof *isas)
