/* Of texts, and of tokens that are found in them. No Python in here. */
#ifndef TEXT_H
#define TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PAGES 4352 /* of 256 code points each */
#define NOWHERE UINT32_MAX

/* start, stop: characters of the text. word: counted from 0. */
typedef struct {
    uint32_t id, start, stop, word;
} Token;

typedef struct {
    Token *tokens; /* free it */
    size_t count, room;
    int is_short; /* of memory */
} Tokens;

/* A place in a text: bytes, and characters. */
typedef struct {
    size_t byte;
    uint32_t character;
} Place;

/* -- the text: sound UTF-8, as Python gives it */

static size_t width(uint8_t lead) { return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4; }

static uint32_t character_at(const uint8_t *text)
{
    if (text[0] < 0x80)
        return text[0];
    if (text[0] < 0xE0)
        return (text[0] & 0x1Fu) << 6 | (text[1] & 0x3Fu);
    if (text[0] < 0xF0)
        return (text[0] & 0x0Fu) << 12 | (text[1] & 0x3Fu) << 6 | (text[2] & 0x3Fu);
    return (text[0] & 0x07u) << 18 | (text[1] & 0x3Fu) << 12 | (text[2] & 0x3Fu) << 6 | (text[3] & 0x3Fu);
}

static void step(Place *place, const uint8_t *text)
{
    place->byte += width(text[place->byte]);
    place->character++;
}

static void step_back(Place *place, const uint8_t *text)
{
    do
        place->byte--;
    while ((text[place->byte] & 0xC0) == 0x80);
    place->character--;
}

static uint32_t write_character(uint32_t code, uint8_t *bytes)
{
    if (code < 0x80) {
        bytes[0] = (uint8_t)code;
        return 1;
    }
    const uint32_t more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    bytes[0] = (uint8_t)(0xF0 << (3 - more) | code >> 6 * more);
    for (uint32_t i = 1; i <= more; i++)
        bytes[i] = (uint8_t)(0x80 | (code >> 6 * (more - i) & 0x3F));
    return more + 1;
}

/* -- tokens */

static void add_token(Tokens *found, uint32_t id, uint32_t start, uint32_t stop, uint32_t word)
{
    if (found->count == found->room) {
        const size_t room = 2 * found->room + 64;
        Token *more = room <= SIZE_MAX / sizeof *more ? realloc(found->tokens, room * sizeof *more) : NULL;
        if (!more) {
            found->is_short = 1;
            return;
        }
        found->tokens = more;
        found->room = room;
    }
    found->tokens[found->count++] = (Token){id, start, stop, word};
}

#endif
