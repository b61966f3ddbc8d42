#include "internal.h"

#include <string.h>
#include <utf8proc.h>

#include "unicode_tables.h"

#define COUNT(a) ((int64_t)(sizeof(a) / sizeof *(a)))

int32_t espl_tok_decode_char(const char *s, int *n) {
    const unsigned char *p = (const unsigned char *)s;
    if (p[0] < 0x80) return *n = 1, p[0];
    if (p[0] < 0xE0) return *n = 2, (p[0] & 0x1F) << 6 | (p[1] & 0x3F);
    if (p[0] < 0xF0) return *n = 3, (p[0] & 0x0F) << 12 | (p[1] & 0x3F) << 6 | (p[2] & 0x3F);
    return *n = 4, (p[0] & 0x07) << 18 | (p[1] & 0x3F) << 12 | (p[2] & 0x3F) << 6 | (p[3] & 0x3F);
}

int espl_tok_encode_char(int32_t cp, char *dst) { return (int)utf8proc_encode_char(cp, (utf8proc_uint8_t *)dst); }

int64_t espl_tok_last_char(const char *p, int64_t n) {
    int64_t i = n - 1;
    while (i > 0 && ((unsigned char)p[i] & 0xC0) == 0x80) i--;
    return i;
}

/* ------------------------------------------------------------ character classes */

static bool is_space(int32_t c) { /* Unicode White_Space */
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static bool is_numeric(int32_t c) { /* N; Rust is at Unicode 17 */
    utf8proc_category_t g = utf8proc_category(espl_tok_proxy(c));
    return (g >= UTF8PROC_CATEGORY_ND && g <= UTF8PROC_CATEGORY_NO) || (c >= 0x11DE0 && c <= 0x11DE9) ||
           (c >= 0x16FF4 && c <= 0x16FF6);
}

static bool is_word(int32_t c) { /* the regex crate's \w: Alphabetic, M, Nd, Pc, Join_Control */
    utf8proc_category_t g = utf8proc_category(espl_tok_proxy(c));
    if (g >= UTF8PROC_CATEGORY_LU && g <= UTF8PROC_CATEGORY_NL) return true; /* L, M, Nd, Nl */
    return g == UTF8PROC_CATEGORY_PC || c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
           (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

/* The library's table of punctuation (crate unicode_categories) is of Unicode 8: P today, but not there. */
static const struct {
    int32_t lo, hi;
} new_punct[] = {
    {0x61D, 0x61D},     {0x9FD, 0x9FD},     {0xA76, 0xA76},     {0xC77, 0xC77},     {0xC84, 0xC84},
    {0x1B7D, 0x1B7E},   {0x2E43, 0x2E4F},   {0x2E52, 0x2E5D},   {0x10EAD, 0x10EAD}, {0x10F55, 0x10F59},
    {0x10F86, 0x10F89}, {0x1144B, 0x1144F}, {0x1145A, 0x1145B}, {0x1145D, 0x1145D}, {0x11660, 0x1166C},
    {0x116B9, 0x116B9}, {0x1183B, 0x1183B}, {0x11944, 0x11946}, {0x119E2, 0x119E2}, {0x11A3F, 0x11A46},
    {0x11A9A, 0x11A9C}, {0x11A9E, 0x11AA2}, {0x11C41, 0x11C45}, {0x11C70, 0x11C71}, {0x11EF7, 0x11EF8},
    {0x11FFF, 0x11FFF}, {0x12FF1, 0x12FF2}, {0x16E97, 0x16E9A}, {0x16FE2, 0x16FE2}, {0x1E95E, 0x1E95F},
};

static bool is_punct(int32_t c) {
    if (c < 0x80) return c > ' ' && c < 0x7F && !(c >= '0' && c <= '9') && !((c | 32) >= 'a' && (c | 32) <= 'z');
    if (c == 0x166D || c == 0x111C9) return true; /* were P then */
    if (espl_tok_proxy(c) != c) return false;     /* newer still */
    for (int64_t i = 0; i < COUNT(new_punct); i++)
        if (c >= new_punct[i].lo && c <= new_punct[i].hi) return false;
    utf8proc_category_t g = utf8proc_category(c);
    return g >= UTF8PROC_CATEGORY_PC && g <= UTF8PROC_CATEGORY_PO;
}

bool espl_tok_char_is(espl_char_class c, int32_t cp) {
    switch (c) {
    case ESPL_CHAR_SPACE:
        return is_space(cp);
    case ESPL_CHAR_NUMERIC:
        return cp < 0x80 ? cp >= '0' && cp <= '9' : is_numeric(cp);
    case ESPL_CHAR_PUNCT:
        return is_punct(cp);
    case ESPL_CHAR_WORD:
        return is_word(cp);
    }
    return false;
}

int32_t espl_tok_proxy(int32_t cp) {
    if (cp < proxies[0].lo || (cp >= 0x31F0 && cp < 0xA7CB)) return cp; /* nothing new in the bulk of CJK */
    int64_t lo = 0, hi = COUNT(proxies);
    while (lo < hi) {
        int64_t mid = (lo + hi) / 2;
        if (cp > proxies[mid].hi)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < COUNT(proxies) && cp >= proxies[lo].lo ? proxies[lo].proxy : cp;
}

bool espl_tok_norm_inert(int32_t cp) {
    int64_t lo = 0, hi = COUNT(norm_inert);
    while (lo < hi) {
        int64_t mid = (lo + hi) / 2;
        if (cp > norm_inert[mid].hi)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < COUNT(norm_inert) && cp >= norm_inert[lo].lo;
}

/* Pairs of cases newer than utf8proc's Unicode 15: lo..hi map to themselves + by, every `step`th. */
static const struct {
    int32_t lo, hi, step, by;
} new_lower[] = {
    {0x1C89, 0x1C89, 1, 1},      {0xA7CB, 0xA7CB, 1, 0x264 - 0xA7CB},
    {0xA7CC, 0xA7CE, 2, 1},      {0xA7D2, 0xA7D4, 2, 1},
    {0xA7DA, 0xA7DA, 1, 1},      {0xA7DC, 0xA7DC, 1, 0x19B - 0xA7DC},
    {0x10D50, 0x10D65, 1, 0x20}, {0x16EA0, 0x16EB8, 1, 0x1B},
};

int espl_tok_lower(int32_t cp, int32_t out[2]) {
    out[0] = utf8proc_tolower(cp);
    if (cp == 0x130) { /* the one full mapping of two characters */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    for (int64_t i = 0; cp >= new_lower[0].lo && i < COUNT(new_lower); i++)
        if (cp >= new_lower[i].lo && cp <= new_lower[i].hi && (cp - new_lower[i].lo) % new_lower[i].step == 0)
            out[0] = cp + new_lower[i].by;
    return 1;
}

/* ------------------------------------------------------------ GPT-2's byte alphabet */

/* Printable Latin-1 bytes stand for themselves, the 68 others for U+0100 onwards, in order. */
static bool printable(int b) { return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE; }

int32_t espl_tok_byte_char(uint8_t byte) {
    if (printable(byte)) return byte;
    if (byte <= 0x20) return 0x100 + byte;
    return byte == 0xAD ? 0x143 : 0x100 + 0x21 + (byte - 0x7F);
}

int espl_tok_char_byte(int32_t cp) {
    if (cp < 0x100) return printable(cp) ? cp : -1;
    if (cp <= 0x120) return cp - 0x100;
    if (cp == 0x143) return 0xAD;
    return cp <= 0x142 ? cp - 0x121 + 0x7F : -1;
}

void espl_tok_put_byte_chars(espl_str *out, const char *s, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        char c[4];
        espl_str_put(out, c, espl_tok_encode_char(espl_tok_byte_char((uint8_t)s[i]), c));
    }
}

/* ------------------------------------------------------------ ill-formed UTF-8 */

int64_t espl_tok_valid_prefix(const char *s, int64_t n) {
    int64_t i = 0;
    while (i < n) {
        uint64_t eight;
        if (i + 8 <= n && (memcpy(&eight, s + i, 8), (eight & 0x8080808080808080u) == 0)) {
            i += 8;
            continue;
        }
        int len = espl_utf8_length(s + i, n - i);
        if (len == 0) return i;
        i += len;
    }
    return n;
}

/* Length of the maximal ill-formed subsequence at p: as many bytes as could have begun a valid one, at least 1. */
static int64_t ill_formed_length(const char *p, int64_t n) {
    for (int64_t len = n < 3 ? n : 3; len > 1; len--) {
        char probe[4] = {(char)0x80, (char)0x80, (char)0x80, (char)0x80}; /* 80 is a fine third or fourth byte */
        memcpy(probe, p, (size_t)len);
        if (espl_utf8_length(probe, 4) > len) return len;
    }
    return 1;
}

void espl_tok_put_repaired(espl_str *out, const char *s, int64_t n) {
    for (int64_t i = 0; i < n;) {
        int64_t good = espl_tok_valid_prefix(s + i, n - i);
        espl_str_put(out, s + i, good);
        i += good;
        if (i == n) break;
        espl_str_put(out, "\xEF\xBF\xBD", 3);
        i += ill_formed_length(s + i, n - i);
    }
}
