/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Comparing answers as the Python code of the benchmarks does. Python's strings are Unicode: what counts as white
 * space, as a word character or as lower case follows str.isspace(), re's \w and str.lower(), from small tables, since
 * only Latin, Greek, Cyrillic and Armenian letters have a case that matters for names.
 */
#include "text.h"

#include <string.h>

/* Above all code points: bytes that are not UTF-8 stand for themselves. */
enum { TEXT_BAD_BYTE = 0x200000, TEXT_LAST_CODE_POINT = 0x10FFFF };

/* Reads the code point at text[0..n), n >= 1, and returns its length in bytes. */
static int64_t text_code_point(const char *text, int64_t n, uint32_t *cp) {
    static const unsigned char first_bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    const unsigned char *p = (const unsigned char *)text;
    int len = espl_utf8_length(text, n);
    if (len == 0) {
        *cp = (uint32_t)TEXT_BAD_BYTE + p[0];
        return 1;
    }
    *cp = p[0] & first_bits[len];
    for (int i = 1; i < len; i++) *cp = *cp << 6 | (p[i] & 0x3F);
    return len;
}

typedef struct text_span {
    uint32_t lo, hi;
} text_span;

static bool text_in_spans(uint32_t cp, const text_span *spans, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (cp >= spans[i].lo && cp <= spans[i].hi) return true;
    return false;
}
#define TEXT_IN(cp, spans) text_in_spans(cp, spans, sizeof(spans) / sizeof *(spans))

/* Python's str.isspace(). */
static bool text_is_space(uint32_t cp) {
    static const text_span spaces[] = {{0x09, 0x0D},     {0x1C, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                                       {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                       {0x205F, 0x205F}, {0x3000, 0x3000}};
    return TEXT_IN(cp, spaces);
}

/* Nearly Python's \w: above ASCII, everything but white space and the signs of Latin-1, and from U+2000 on the blocks
 * of punctuation, currency signs, arrows and mathematical and technical symbols, box drawing to dingbats, further
 * arrows and symbols, CJK punctuation and full-width punctuation. Names with rarer signs normalise like the
 * continuation they are compared with, so that the approximation cannot make equal texts differ. */
static bool text_is_word(uint32_t cp) {
    static const text_span letters[] = {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}, {'_', '_'}};
    static const text_span signs[] = {
        {0x80, 0xA9},     {0xAB, 0xB1},     {0xB4, 0xB4},     {0xB6, 0xB8},     {0xBB, 0xBB},     {0xBF, 0xBF},
        {0xD7, 0xD7},     {0xF7, 0xF7},     {0x2000, 0x206F}, {0x20A0, 0x20CF}, {0x2190, 0x23FF}, {0x2500, 0x27BF},
        {0x2900, 0x2BFF}, {0x3000, 0x3004}, {0x3008, 0x3020}, {0xFF01, 0xFF0F}, {0xFF1A, 0xFF20}};
    return cp < 0x80 ? TEXT_IN(cp, letters) : !text_is_space(cp) && !TEXT_IN(cp, signs);
}

/* Capitals lo, lo + step, ... hi; the lower case of each is `add` above it. In Latin Extended, Cyrillic Supplement and
 * Latin Extended Additional capitals and small letters alternate (step 2, add 1). From Unicode's UnicodeData.txt. */
static const struct {
    uint32_t lo, hi, step, add;
} text_capitals[] = {{'A', 'Z', 1, 32},     {0xC0, 0xD6, 1, 32},    {0xD8, 0xDE, 1, 32},    {0x100, 0x12E, 2, 1},
                     {0x132, 0x136, 2, 1},  {0x139, 0x147, 2, 1},   {0x14A, 0x176, 2, 1},   {0x179, 0x17D, 2, 1},
                     {0x1CD, 0x1DB, 2, 1},  {0x1DE, 0x1EE, 2, 1},   {0x1F8, 0x21E, 2, 1},   {0x222, 0x232, 2, 1},
                     {0x386, 0x386, 1, 38}, {0x388, 0x38A, 1, 37},  {0x38C, 0x38C, 1, 64},  {0x38E, 0x38F, 1, 63},
                     {0x391, 0x3A1, 1, 32}, {0x3A3, 0x3AB, 1, 32},  {0x400, 0x40F, 1, 80},  {0x410, 0x42F, 1, 32},
                     {0x460, 0x480, 2, 1},  {0x48A, 0x4BE, 2, 1},   {0x4C1, 0x4CD, 2, 1},   {0x4D0, 0x52E, 2, 1},
                     {0x531, 0x556, 1, 48}, {0x1E00, 0x1E94, 2, 1}, {0x1EA0, 0x1EFE, 2, 1}, {0xFF21, 0xFF3A, 1, 32}};

/* The lower case of one code point, itself if it has none. */
static uint32_t text_lower(uint32_t cp) {
    if (cp == 0x178) return 0xFF; /* Y with diaeresis: its lower case is in Latin-1 */
    for (size_t i = 0; i < sizeof text_capitals / sizeof *text_capitals; i++)
        if (cp >= text_capitals[i].lo && cp <= text_capitals[i].hi &&
            (cp - text_capitals[i].lo) % text_capitals[i].step == 0)
            return cp + text_capitals[i].add;
    return cp;
}

/* Appends code point cp, which is p[0..n) in the text, in lower case. */
static void text_put_lower(const char *p, int64_t n, uint32_t cp, espl_str *out) {
    static const unsigned char lead_bits[] = {0, 0, 0xC0, 0xE0, 0xF0};
    if (cp > TEXT_LAST_CODE_POINT) {
        espl_str_put(out, p, n);
        return;
    }
    if (cp == 0x130) { /* capital I with a dot becomes two code points, as in Python */
        espl_str_puts(out, "i\xCC\x87");
        return;
    }
    cp = text_lower(cp);
    char b[4];
    int len = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (int i = len - 1; i > 0; i--, cp >>= 6) b[i] = (char)(0x80 | (cp & 0x3F));
    b[0] = (char)(lead_bits[len] | cp);
    espl_str_put(out, b, len);
}

int64_t espl_text_rstrip(const char *text, int64_t len) {
    int64_t end = 0;
    uint32_t cp = 0;
    for (int64_t i = 0; i < len;) {
        i += text_code_point(text + i, len - i, &cp);
        if (!text_is_space(cp)) end = i;
    }
    return end;
}

void espl_text_strip(const char **text, int64_t *len) {
    uint32_t cp = 0;
    *len = espl_text_rstrip(*text, *len);
    while (*len > 0) {
        int64_t n = text_code_point(*text, *len, &cp);
        if (!text_is_space(cp)) return;
        *text += n;
        *len -= n;
    }
}

/* acc_norm divides by this: it must agree with Python's len() to the unit. */
int64_t espl_text_characters(const char *text, int64_t len) {
    int64_t n = 0;
    uint32_t cp;
    for (int64_t i = 0; i < len; n++) i += text_code_point(text + i, len - i, &cp);
    return n;
}

void espl_text_squeeze(const char *text, int64_t len, espl_str *out) {
    uint32_t cp = 0;
    espl_text_strip(&text, &len);
    for (int64_t i = 0, n; i < len; i += n) {
        n = text_code_point(text + i, len - i, &cp);
        if (cp != ' ') text_put_lower(text + i, n, cp, out);
    }
    espl_str_put(out, "", 0);
}

/* Bytes of the run of word characters, or of the single other character, at the start of text. */
static int64_t text_run_length(const char *text, int64_t len, bool *space) {
    uint32_t cp = 0;
    int64_t n = text_code_point(text, len, &cp);
    *space = text_is_space(cp);
    for (bool word = text_is_word(cp); word && n < len;) {
        int64_t more = text_code_point(text + n, len - n, &cp);
        if (!text_is_word(cp)) break;
        n += more;
    }
    return n;
}

/* The script's steps in its order: lower case, remove string.punctuation, replace \b(a|an|the)\b by a space, join the
 * words by single spaces. Removing punctuation first matters: "the-answer" is one word and keeps its article. */
void espl_text_normalise(const char *text, int64_t len, espl_str *out) {
    espl_str plain = {0};
    bool space, gap = false;
    int64_t start = out->len;
    uint32_t cp = 0;
    for (int64_t i = 0, n; i < len; i += n) {
        n = text_code_point(text + i, len - i, &cp);
        bool punctuation = cp > 0x20 && cp < 0x7F && (!text_is_word(cp) || cp == '_');
        if (!punctuation) text_put_lower(text + i, n, cp, &plain);
    }
    for (int64_t i = 0, n; i < plain.len; i += n) {
        const char *run = plain.data + i;
        n = text_run_length(run, plain.len - i, &space);
        bool article =
            (n == 1 && *run == 'a') || (n == 2 && memcmp(run, "an", 2) == 0) || (n == 3 && memcmp(run, "the", 3) == 0);
        if (space || article) {
            gap = true;
            continue;
        }
        if (gap && out->len > start) espl_str_puts(out, " ");
        gap = false;
        espl_str_put(out, run, n);
    }
    espl_str_put(out, "", 0);
    out->failed |= plain.failed;
    espl_str_free(&plain);
}

/* Normalised texts have single spaces only, so that a word ends at a space or at the end of the text. */
bool espl_text_has_words(const char *a, const char *b) {
    size_t n = strlen(b);
    if (n == 0) return false;
    for (const char *p = a; (p = strstr(p, b)); p++)
        if ((p == a || p[-1] == ' ') && (p[n] == '\0' || p[n] == ' ')) return true;
    return false;
}
