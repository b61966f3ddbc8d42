/* SPDX-License-Identifier: Apache-2.0 */
/* Character classes, proxies and cases of the tokenizers library: utf8proc, corrected by the tables. */
#include "unicode.h"

#include "espalier/base/str.h"
#include "unicode_tables.h"

#include <utf8proc.h>

#define RANGE_OF(table, cp) range_find(table, (int64_t)(sizeof(table) / sizeof *(table)), cp)

/* The range of a sorted table that holds cp, or NULL. */
static const unicode_range *range_find(const unicode_range *table, int64_t n, int32_t cp) {
    int64_t lo = 0, hi = n;
    while (lo < hi) {
        int64_t mid = (lo + hi) / 2;
        if (cp > table[mid].hi)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && cp >= table[lo].lo ? &table[lo] : NULL;
}

/* Called for each character of 3 and 4 bytes of a text that meets a pattern, hence the two tests before the search. */
int32_t espl_tok_proxy(int32_t cp) {
    if (cp < proxies[0].lo || (cp >= PROXY_GAP_FIRST && cp <= PROXY_GAP_LAST)) return cp;
    const unicode_range *r = RANGE_OF(proxies, cp);
    return r ? r->value : cp;
}

bool espl_tok_is_norm_inert(int32_t cp) { return RANGE_OF(norm_inert, cp) != NULL; }

bool espl_tok_nfc_keeps(int32_t cp) { return cp <= nfc_keeps[0].hi || RANGE_OF(nfc_keeps, cp); }

/* The category of the proxy: utf8proc may be older than the code point. Categories first..last are neighbours in
 * utf8proc's order: LU LT LL LM LO MN MC ME ND NL NO PC PD PS PE PI PF PO ... */
static bool category_in(int32_t cp, utf8proc_category_t first, utf8proc_category_t last) {
    utf8proc_category_t g = utf8proc_category(espl_tok_proxy(cp));
    return g >= first && g <= last;
}

bool espl_tok_char_is(espl_char_class c, int32_t cp) {
    bool ascii = cp < 0x80, digit = cp >= '0' && cp <= '9', letter = (cp | 32) >= 'a' && (cp | 32) <= 'z';
    switch (c) {
    case ESPL_CHAR_SPACE: /* White_Space */
        return RANGE_OF(white_space, cp);
    case ESPL_CHAR_NUMERIC: /* N */
        if (ascii) return digit;
        return category_in(cp, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO) || RANGE_OF(numeric_added, cp);
    case ESPL_CHAR_PUNCT: /* in ASCII Rust's is_ascii_punctuation, which has symbols too; elsewhere P of Unicode 8 */
        if (ascii) return cp > ' ' && cp < 0x7F && !digit && !letter;
        if (RANGE_OF(punct_added, cp)) return true;
        if (espl_tok_proxy(cp) != cp || RANGE_OF(punct_dropped, cp)) return false; /* newer than Unicode 8 */
        return category_in(cp, UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO);
    case ESPL_CHAR_WORD: /* \w of Rust's regex crate: Alphabetic, M, Nd, Pc, Join_Control */
        return category_in(cp, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_NL) ||
               category_in(cp, UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PC) || cp == 0x200C || cp == 0x200D ||
               RANGE_OF(word_symbols, cp);
    }
    return false;
}

void espl_tok_put_word_class(espl_str *out) {
    espl_str_puts(out, "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}");
    for (size_t i = 0; i < sizeof word_symbols / sizeof *word_symbols; i++)
        espl_str_printf(out, "\\x{%x}-\\x{%x}", (unsigned)word_symbols[i].lo, (unsigned)word_symbols[i].hi);
}

/* Rust's to_lowercase of one character: the full mapping, without the context rule for the final sigma, which needs a
 * word. */
int espl_tok_lower(int32_t cp, int32_t out[2]) {
    if (cp == 0x130) { /* I with a dot: the one code point whose lower case is two */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    const unicode_range *r = cp >= lower_added[0].lo ? RANGE_OF(lower_added, cp) : NULL;
    out[0] = r ? cp + r->value : utf8proc_tolower(cp);
    return 1;
}
