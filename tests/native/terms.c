/* Terms without Python: each name of a page is found with its own entry and no other is, and whatever a page holds, no
 * octet past its end is read. Run by `make native`, under the sanitizers by `make sanitize`, and for AArch64 under
 * qemu-user by `make neon`. */
#include "../../native/terms.h"

#include "random.h"

#define NAMES 12

static void put(uint8_t *at, uint32_t number, int octets)
{
    for (int i = 0; i < octets; i++)
        at[i] = (uint8_t)(number >> 8 * i);
}

/* A page of names of 1 to 3 letters, its entries told, each counting its number; returns its size. */
static size_t make_page(uint8_t *page, char names[NAMES][4])
{
    size_t octets = 1;
    page[PAGE_HEAD] = '\n';
    for (int i = 0; i < NAMES; i++) {
        const size_t length = strlen(names[i]);
        memcpy(page + PAGE_HEAD + octets, names[i], length);
        octets += length + 1;
        page[PAGE_HEAD + octets - 1] = '\n';
    }
    put(page, NAMES, 2);
    put(page + 2, (uint32_t)octets, 2);
    uint8_t *places = page + PAGE_HEAD + octets, *entries = places + 2 * (NAMES + 1);
    for (int i = 0; i <= NAMES; i++)
        put(places + 2 * i, (uint32_t)(i < NAMES ? TOLD : 0) | (uint32_t)(4 * i), 2);
    for (int i = 0; i < NAMES; i++)
        put(entries + 4 * i, (uint32_t)i, 4);
    return (size_t)(entries - page) + 4 * NAMES;
}

static int finds(const uint8_t *page, size_t size, const char *name, int64_t number)
{
    Entry entry;
    const Outcome outcome = page_find(page, size, (const uint8_t *)name, strlen(name), &entry);
    return number < 0 ? outcome == ABSENT : outcome == FOUND && entry.net == number && entry.octets == 0;
}

int main(int given, char **arguments)
{
    const int rounds = given > 1 ? atoi(arguments[1]) : 2000;
    int failed = 0;
    for (int round = 0; round < rounds; round++) {
        char names[NAMES][4] = {""};
        for (int i = 0; i < NAMES; i++) /* each begins with a letter of its own */
            for (size_t at = 0, length = 1 + random_below(3); at < length; at++)
                names[i][at] = (char)('a' + (at ? (int)random_below(26) : i));
        uint8_t room[512], *page;
        size_t size = make_page(room, names);
        page = exactly(size);
        memcpy(page, room, size);
        for (int i = 0; i < NAMES; i++)
            failed += !finds(page, size, names[i], i);
        failed += !finds(page, size, "z", -1) + !finds(page, size, "", -1) + !finds(page, size, "abcdef", -1);
        /* Damage may find anything, within the page. */
        for (int i = 0; i < 8; i++)
            page[random_below(i % 2 ? size : PAGE_HEAD)] = (uint8_t)random_word();
        for (int i = 0; i < NAMES; i++) {
            Entry entry;
            const size_t cut = random_below(size + 1);
            uint8_t *part = exactly(cut);
            memcpy(part, page, cut);
            const uint8_t *name = (const uint8_t *)names[i];
            if (page_find(part, cut, name, strlen(names[i]), &entry) == FOUND && entry.rows)
                failed += entry.rows < part || entry.rows + entry.octets > part + cut;
            free(part);
        }
        free(page);
    }
    printf("%d rounds, %d failed\n", rounds, failed);
    return failed != 0;
}
