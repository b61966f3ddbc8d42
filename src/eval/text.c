/* Comparing answers: strip, lower case, SQuAD's normalisation. */
#include "internal.h"

#include <math.h>
#include <string.h>

/* The code point at p[0..n) and its length; a byte that is no UTF-8 stands for itself, above all code points. */
static int64_t decode(const char *text, int64_t n, uint32_t *cp) {
    const unsigned char *p = (const unsigned char *)text;
    int len = espl_utf8_length(text, n);
    static const unsigned char first_bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    if (len == 0) {
        *cp = 0x200000u + p[0];
        return 1;
    }
    *cp = p[0] & first_bits[len];
    for (int i = 1; i < len; i++) *cp = *cp << 6 | (p[i] & 0x3F);
    return len;
}

static void put_code_point(espl_str *s, uint32_t cp) {
    char b[4];
    int n = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (int i = n - 1; i > 0; i--, cp >>= 6) b[i] = (char)(0x80 | (cp & 0x3F));
    b[0] = (char)(lead[n] | cp);
    espl_str_put(s, b, n);
}

typedef struct span {
    uint32_t lo, hi;
} span;

static bool in_spans(uint32_t cp, const span *spans, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (cp >= spans[i].lo && cp <= spans[i].hi) return true;
    return false;
}
#define IN(cp, spans) in_spans(cp, spans, sizeof(spans) / sizeof *(spans))

/* Python's str.isspace. */
static bool is_space(uint32_t cp) {
    static const span spaces[] = {{0x09, 0x0D},     {0x1C, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                                  {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                  {0x205F, 0x205F}, {0x3000, 0x3000}};
    return IN(cp, spaces);
}

/* Python's \w, nearly: above Latin-1, everything but white space and the blocks of punctuation and symbols. */
static bool is_word(uint32_t cp) {
    static const span letters[] = {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}, {'_', '_'}};
    static const span signs[] = {
        {0x80, 0xA9},     {0xAB, 0xB1},     {0xB4, 0xB4},     {0xB6, 0xB8},     {0xBB, 0xBB},     {0xBF, 0xBF},
        {0xD7, 0xD7},     {0xF7, 0xF7},     {0x2000, 0x206F}, {0x20A0, 0x20CF}, {0x2190, 0x23FF}, {0x2500, 0x27BF},
        {0x2900, 0x2BFF}, {0x3000, 0x3004}, {0x3008, 0x3020}, {0xFF01, 0xFF0F}, {0xFF1A, 0xFF20}};
    return cp < 0x80 ? IN(cp, letters) : !is_space(cp) && !IN(cp, signs);
}

/* Letters `step` apart whose lower case is `add` further on. */
static const struct {
    uint32_t lo, hi, step, add;
} cases[] = {{'A', 'Z', 1, 32},     {0xC0, 0xD6, 1, 32},    {0xD8, 0xDE, 1, 32},    {0x100, 0x12E, 2, 1},
             {0x132, 0x136, 2, 1},  {0x139, 0x147, 2, 1},   {0x14A, 0x176, 2, 1},   {0x179, 0x17D, 2, 1},
             {0x1CD, 0x1DB, 2, 1},  {0x1DE, 0x1EE, 2, 1},   {0x1F8, 0x21E, 2, 1},   {0x222, 0x232, 2, 1},
             {0x386, 0x386, 1, 38}, {0x388, 0x38A, 1, 37},  {0x38C, 0x38C, 1, 64},  {0x38E, 0x38F, 1, 63},
             {0x391, 0x3A1, 1, 32}, {0x3A3, 0x3AB, 1, 32},  {0x400, 0x40F, 1, 80},  {0x410, 0x42F, 1, 32},
             {0x460, 0x480, 2, 1},  {0x48A, 0x4BE, 2, 1},   {0x4C1, 0x4CD, 2, 1},   {0x4D0, 0x52E, 2, 1},
             {0x531, 0x556, 1, 48}, {0x1E00, 0x1E94, 2, 1}, {0x1EA0, 0x1EFE, 2, 1}, {0xFF21, 0xFF3A, 1, 32}};

static uint32_t lower(uint32_t cp) {
    if (cp == 0x178) return 0xFF;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (cp >= cases[i].lo && cp <= cases[i].hi && (cp - cases[i].lo) % cases[i].step == 0) return cp + cases[i].add;
    return cp;
}

/* One code point of text, lower case; capital I with a dot becomes two, as in Python. */
static void put_lower(espl_str *s, const char *p, int64_t n, uint32_t cp) {
    if (cp > 0x10FFFF)
        espl_str_put(s, p, n);
    else if (cp == 0x130)
        espl_str_puts(s, "i\xCC\x87");
    else
        put_code_point(s, lower(cp));
}

int64_t text_rstrip(const char *text, int64_t len) {
    int64_t end = 0;
    uint32_t cp = 0;
    for (int64_t i = 0; i < len;) {
        i += decode(text + i, len - i, &cp);
        if (!is_space(cp)) end = i;
    }
    return end;
}

void text_strip(const char **text, int64_t *len) {
    uint32_t cp = 0;
    *len = text_rstrip(*text, *len);
    while (*len > 0) {
        int64_t n = decode(*text, *len, &cp);
        if (!is_space(cp)) return;
        *text += n;
        *len -= n;
    }
}

int64_t text_characters(const char *text, int64_t len) {
    int64_t n = 0;
    uint32_t cp;
    for (int64_t i = 0; i < len; n++) i += decode(text + i, len - i, &cp);
    return n;
}

void text_squeeze(const char *text, int64_t len, espl_str *out) {
    uint32_t cp = 0;
    text_strip(&text, &len);
    for (int64_t i = 0, n; i < len; i += n) {
        n = decode(text + i, len - i, &cp);
        if (cp != ' ') put_lower(out, text + i, n, cp);
    }
    espl_str_put(out, "", 0);
}

void text_put_number(const char *before, double v, int digits, espl_str *out) {
    espl_str_puts(out, before);
    if (isfinite(v))
        espl_str_printf(out, "%.*g", digits, v);
    else
        espl_str_puts(out, "null");
}

/* ---------------------------------------------------------------- SQuAD */

static bool is_punctuation(uint32_t cp) { return cp > 0x20 && cp < 0x7F && (!is_word(cp) || cp == '_'); }

static void lower_without_punctuation(const char *text, int64_t len, espl_str *out) {
    uint32_t cp = 0;
    for (int64_t i = 0, n; i < len; i += n) {
        n = decode(text + i, len - i, &cp);
        if (!is_punctuation(cp)) put_lower(out, text + i, n, cp);
    }
}

static bool is_article(const char *word, int64_t n) {
    return (n == 1 && *word == 'a') || (n == 2 && memcmp(word, "an", 2) == 0) ||
           (n == 3 && memcmp(word, "the", 3) == 0);
}

/* Bytes of the run of word characters, or of a single other character, at text. */
static int64_t run_length(const char *text, int64_t len, bool *word, bool *space) {
    uint32_t cp = 0;
    int64_t n = decode(text, len, &cp);
    *word = is_word(cp);
    *space = is_space(cp);
    while (*word && n < len) {
        int64_t more = decode(text + n, len - n, &cp);
        if (!is_word(cp)) break;
        n += more;
    }
    return n;
}

void espl_text_normalise(const char *text, int64_t len, espl_str *out) {
    espl_str plain = {0};
    bool word, space, gap = false;
    int64_t start = out->len;
    lower_without_punctuation(text, len, &plain);
    for (int64_t i = 0, n; i < plain.len; i += n) {
        n = run_length(plain.data + i, plain.len - i, &word, &space);
        if (space || (word && is_article(plain.data + i, n))) {
            gap = true; /* an article becomes a space */
            continue;
        }
        if (gap && out->len > start) espl_str_puts(out, " ");
        gap = false;
        espl_str_put(out, plain.data + i, n);
    }
    espl_str_put(out, "", 0); /* never without its NUL */
    out->failed |= plain.failed;
    espl_str_free(&plain);
}

bool espl_text_has_words(const char *a, const char *b) {
    size_t n = strlen(b);
    if (n == 0) return false;
    for (const char *p = a; (p = strstr(p, b)); p++)
        if ((p == a || p[-1] == ' ') && (p[n] == '\0' || p[n] == ' ')) return true;
    return false;
}
