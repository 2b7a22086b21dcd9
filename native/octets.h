/* Octets: numbers as files have them, the lowest octet first. */
#ifndef OCTETS_H
#define OCTETS_H

#include <stdint.h>

/* A number that was copied from a file, or is to be copied there. */
static inline uint64_t little(uint64_t number)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(number);
#else
    return number;
#endif
}

#endif
