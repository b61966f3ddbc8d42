/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Oniguruma's pattern syntax in PCRE2's. The library compiles patterns with Oniguruma; both engines backtrack with the
 * same leftmost-first semantics, so these differences remain: syntax (translated here or refused), the Unicode version
 * of the character classes and U+180E in \s (settled by espl_tok_proxy: the regex sees a stand-in of the same length),
 * and multi-character case folding under (?i), which no known tokenizer's pattern can meet. A construct that is not
 * known to mean the same in both is refused, because a wrong split would change ids without a word.
 */
#include "matcher.h"

#include "espalier/base/integer.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

#include <stdio.h>
#include <string.h>

enum { MAX_GROUPS = 64 };

typedef struct regex_translator {
    const char *p; /* the pattern */
    int64_t n, i;  /* its length, and what has been read */
    const espl_where *where;
    espl_str *out;
    int64_t atom;             /* where in out the part that a quantifier would repeat begins */
    int64_t open[MAX_GROUPS]; /* where in out each open group begins */
    int n_open;
} regex_translator;

static espl_status regex_refuse(const regex_translator *t, int64_t from, int64_t len, const char *why) {
    return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: \"%.*s\" at byte %lld of the pattern is not supported%s", t->where->text,
                     (int)espl_min_i64(len, t->n - from), t->p + from, (long long)from, why);
}

/* {2,3} {2} {2,} {,3}; any other brace is a character. PCRE2 reads {,3} as characters before version 10.43. */
static espl_status regex_put_interval(regex_translator *t) {
    int64_t i = t->i, end = i + 1, digits = 0;
    int commas = 0;
    for (; end < t->n && ((t->p[end] >= '0' && t->p[end] <= '9') || (t->p[end] == ',' && !commas)); end++)
        if (t->p[end] == ',')
            commas++;
        else
            digits++;
    if (digits == 0 || end == t->n || t->p[end] != '}') {
        espl_str_puts(t->out, "\\{");
        t->i++;
        return ESPL_OK;
    }
    end++;
    /* In Oniguruma {2}? means "twice or not at all", in PCRE2 a lazy {2}. */
    if (!commas && end < t->n && t->p[end] == '?') return regex_refuse(t, i, end + 1 - i, " (optional, not lazy)");
    espl_str_puts(t->out, t->p[i + 1] == ',' ? "{0" : "{");
    espl_str_put(t->out, t->p + i + 1, end - i - 1);
    t->i = end;
    if (end < t->n && t->p[end] == '+') {
        /* {2}+ repeats the interval, where PCRE2 would make it possessive: wrap what it repeats in (?: ). */
        int64_t tail = t->out->len - t->atom;
        espl_str_puts(t->out, "(?:)");
        if (t->out->failed) return espl_str_status(t->out);
        char *p = t->out->data + t->atom;
        memmove(p + 3, p, (size_t)tail);
        memcpy(p, "(?:", 3);
        p[tail + 3] = ')';
    }
    return ESPL_OK;
}

/* \p{X}, \P{X}: general categories, and the one script that tokenizers use. */
static espl_status regex_put_property(regex_translator *t) {
    static const char categories[] =
        "|L|Lu|Ll|Lt|Lm|Lo|M|Mn|Mc|Me|N|Nd|Nl|No|P|Pc|Pd|Ps|Pe|Pi|Pf|Po|S|Sm|Sc|Sk|So|Z|Zs|"
        "Zl|Zp|C|Cc|Cf|Co|Cn|";
    const char *p = t->p + t->i;
    const char *close = t->i + 2 < t->n && p[2] == '{' ? memchr(p, '}', (size_t)(t->n - t->i)) : NULL;
    if (!close) return regex_refuse(t, t->i, 4, "");
    const char *name = p + 3;
    int64_t n = close - name;
    bool han = n == 3 && memcmp(name, "Han", 3) == 0, category = false;
    if (n == 1 || n == 2) {
        char key[8];
        snprintf(key, sizeof key, "|%.*s|", (int)n, name);
        category = strstr(categories, key) != NULL;
    }
    if (!han && !category) return regex_refuse(t, t->i, n + 4, "");
    espl_str_put(t->out, p, 3);
    if (han) espl_str_puts(t->out, "sc:"); /* the script, not its extensions, which PCRE2's \p{Han} has too */
    espl_str_put(t->out, name, n + 1);
    t->i += n + 4;
    return ESPL_OK;
}

/* \uHHHH, \xHH, \x{H...}. \x80 and above without braces would be a byte of a UTF-8 sequence in Oniguruma. */
static espl_status regex_put_code(regex_translator *t) {
    int64_t i = t->i + 2, from = i;
    bool hex = t->p[t->i + 1] == 'x', braces = hex && i < t->n && t->p[i] == '{';
    if (braces) from = ++i;
    int64_t max = braces ? 6 : hex ? 2 : 4;
    while (i < t->n && i - from < max &&
           ((t->p[i] >= '0' && t->p[i] <= '9') || ((t->p[i] | 32) >= 'a' && (t->p[i] | 32) <= 'f')))
        i++;
    bool whole = braces ? i > from && i < t->n && t->p[i] == '}' : i - from == max;
    if (!whole) return regex_refuse(t, t->i, i - t->i + 1, "");
    if (hex && !braces && t->p[from] >= '8') return regex_refuse(t, t->i, i - t->i, " (a raw byte)");
    espl_str_printf(t->out, "\\x{%.*s}", (int)(i - from), t->p + from);
    t->i = i + braces;
    return ESPL_OK;
}

/* Letters and digits behind a backslash are translated or refused: many mean something else in PCRE2. Other characters
 * stand for themselves in both. */
static espl_status regex_put_escape(regex_translator *t, bool in_class) {
    char c = t->i + 1 < t->n ? t->p[t->i + 1] : '\0', lower = (char)(c | 32);
    bool letter = (c >= '0' && c <= '9') || (lower >= 'a' && lower <= 'z');
    if (c == 'p' || c == 'P') return regex_put_property(t);
    if (c == 'u' || c == 'x') return regex_put_code(t);
    if (letter && strchr("wdh", lower)) { /* spelt out: PCRE2's \w, \d and \h differ */
        bool negated = c != lower;
        if (negated && in_class) return regex_refuse(t, t->i, 2, " inside [ ]");
        if (!in_class) espl_str_puts(t->out, negated ? "[^" : "[");
        if (lower == 'w')
            espl_tok_put_word_class(t->out);
        else
            espl_str_puts(t->out, lower == 'd' ? "\\p{Nd}" : "0-9a-fA-F");
        if (!in_class) espl_str_puts(t->out, "]");
    } else if (c == 'v') { /* the vertical tab alone; in PCRE2 all vertical space */
        espl_str_puts(t->out, "\\x0b");
    } else if (c == ' ') {
        espl_str_puts(t->out, "\\x20");
    } else if (c > 0x20 && c < 0x7F && (!letter || strchr("sSrntfae", c))) {
        espl_str_put(t->out, t->p + t->i, 2);
    } else {
        return regex_refuse(t, t->i, 2, "");
    }
    t->i += 2;
    return ESPL_OK;
}

/* [ ... ]. One without end is left for PCRE2 to report. */
static espl_status regex_put_class(regex_translator *t) {
    espl_str_puts(t->out, "[");
    t->i++;
    if (t->i < t->n && t->p[t->i] == '^') {
        espl_str_puts(t->out, "^");
        t->i++;
    }
    if (t->i < t->n && t->p[t->i] == ']') return regex_refuse(t, t->i - 1, 2, "");
    while (t->i < t->n) {
        char c = t->p[t->i];
        if (c == '[') return regex_refuse(t, t->i, 2, " (a set inside a set)");
        if (c == '&' && t->i + 1 < t->n && t->p[t->i + 1] == '&') return regex_refuse(t, t->i, 2, " (intersection)");
        if (c == '\\') {
            ESPL_TRY(regex_put_escape(t, true));
            continue;
        }
        espl_str_put(t->out, &c, 1);
        t->i++;
        if (c == ']') break;
    }
    return ESPL_OK;
}

/* The beginning of a group. Captures become plain groups: nothing refers to them, and PCRE2 is faster without. */
static espl_status regex_put_group(regex_translator *t) {
    static const char *const known[] = {"(?:", "(?i:", "(?-i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    int64_t left = t->n - t->i;
    const char *p = t->p + t->i;
    if (t->i == 0 && left >= 4 && memcmp(p, "(?i)", 4) == 0) { /* an option for all that follows, no group */
        espl_str_puts(t->out, "(?i)");
        t->i += 4;
        return ESPL_OK;
    }
    if (t->n_open == MAX_GROUPS) return regex_refuse(t, t->i, 1, " (too many nested groups)");
    t->open[t->n_open++] = t->out->len;
    if (left < 2 || p[1] != '?') {
        if (left >= 2 && p[1] == '*') return regex_refuse(t, t->i, 2, ""); /* a verb in PCRE2 */
        espl_str_puts(t->out, "(?:");                                      /* nothing refers to captures */
        t->i++;
        return ESPL_OK;
    }
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        int64_t n = (int64_t)strlen(known[k]);
        if (left < n || memcmp(p, known[k], (size_t)n) != 0) continue;
        espl_str_put(t->out, known[k], n);
        t->i += n;
        return ESPL_OK;
    }
    return regex_refuse(t, t->i, 4, "");
}

/* One pass from left to right. What it does not know by its first character is copied. */
espl_status espl_tok_regex_translate(const char *pattern, int64_t len, const espl_where *where, espl_str *out) {
    regex_translator t = {.p = pattern, .n = len, .where = where, .out = out};
    espl_str_put(out, "", 0);
    while (t.i < t.n) {
        char c = pattern[t.i];
        /* Quantifiers and the later bytes of a character belong to the atom before them. */
        bool continues = c == '{' || c == '?' || c == '*' || c == '+' || ((unsigned char)c & 0xC0) == 0x80;
        if (!continues) t.atom = out->len;
        switch (c) {
        case '{':
            ESPL_TRY(regex_put_interval(&t));
            break;
        case '\\':
            ESPL_TRY(regex_put_escape(&t, false));
            break;
        case '[':
            ESPL_TRY(regex_put_class(&t));
            break;
        case '(':
            ESPL_TRY(regex_put_group(&t));
            break;
        case ')':
            if (t.n_open > 0) t.atom = t.open[--t.n_open];
            /* fall through */
        default:
            espl_str_put(out, &c, 1);
            t.i++;
        }
    }
    return espl_str_status(out);
}
