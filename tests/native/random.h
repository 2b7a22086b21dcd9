/* Random numbers, the same in every run, and memory of exactly a size, so that a sanitizer sees a read past its end. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t state = 88172645463325252u;

/* xorshift64: Marsaglia, 2003. */
static uint64_t random_word(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static size_t random_below(size_t limit) { return (size_t)(random_word() % limit); }

static void *exactly(size_t octets)
{
    void *memory = malloc(octets ? octets : 1);
    if (!memory)
        exit(2);
    return memory;
}

/* Numbers below `most` for the greater part, and any others. */
static inline uint32_t *random_words(size_t count, uint32_t most)
{
    uint32_t *words = exactly(count * sizeof *words);
    for (size_t i = 0; i < count; i++)
        words[i] = random_below(3) ? (uint32_t)random_below(most) : (uint32_t)random_word();
    return words;
}
