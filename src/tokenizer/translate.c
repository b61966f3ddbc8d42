/*
 * Oniguruma's pattern syntax in PCRE2's. The library compiles patterns with Oniguruma; both engines backtrack with the
 * same leftmost-first semantics, so three differences remain: syntax (translated here or refused), the Unicode version
 * of the character classes and U+180E in \s (settled by espl_tok_proxy: the regex sees a stand-in of the same length),
 * and multi-character case folding under (?i), which no known tokenizer's pattern can meet.
 */
#include "internal.h"

#include <string.h>

enum { MAX_GROUPS = 64 };

typedef struct translator {
    const char *p;
    int64_t n, i;
    const espl_where *where;
    espl_str *out;
    bool in_class;
    int64_t atom; /* where in out the thing that a quantifier would repeat begins */
    int64_t open[MAX_GROUPS];
    int n_open;
} translator;

static espl_status refuse(const translator *t, int64_t from, int64_t len, const char *why) {
    if (len > t->n - from) len = t->n - from;
    return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: \"%.*s\" at byte %lld of the pattern is not supported%s", t->where->text,
                     (int)len, t->p + from, (long long)from, why);
}

/* True, and *end behind it, when p[i..] is {digits,digits}, {digits}, {digits,} or {,digits}. */
static bool interval(const translator *t, int64_t i, int64_t *end) {
    int64_t j = i + 1, digits = 0;
    int commas = 0;
    for (; j < t->n && ((t->p[j] >= '0' && t->p[j] <= '9') || (t->p[j] == ',' && !commas)); j++)
        if (t->p[j] == ',')
            commas++;
        else
            digits++;
    *end = j + 1;
    return digits > 0 && j < t->n && t->p[j] == '}';
}

/* Puts (?: ) around the last atom and what quantifies it. */
static void wrap_atom(translator *t) {
    int64_t tail = t->out->len - t->atom;
    espl_str_puts(t->out, "(?:)");
    if (t->out->failed) return;
    char *p = t->out->data + t->atom;
    memmove(p + 3, p, (size_t)tail);
    memcpy(p, "(?:", 3);
    p[tail + 3] = ')';
}

static espl_status put_interval(translator *t) {
    int64_t end;
    if (!interval(t, t->i, &end)) {
        espl_str_puts(t->out, "\\{");
        t->i++;
        return ESPL_OK;
    }
    espl_str_puts(t->out, t->p[t->i + 1] == ',' ? "{0" : "{");
    espl_str_put(t->out, t->p + t->i + 1, end - t->i - 1);
    bool comma = memchr(t->p + t->i, ',', (size_t)(end - t->i)) != NULL;
    if (end < t->n && t->p[end] == '?' && !comma) return refuse(t, t->i, end + 1 - t->i, " (optional, not lazy)");
    t->i = end;
    if (end < t->n && t->p[end] == '+') wrap_atom(t); /* not possessive there: repeated again */
    return ESPL_OK;
}

static bool general_category(const char *name, int64_t n) {
    static const char *const known =
        "|L|Lu|Ll|Lt|Lm|Lo|M|Mn|Mc|Me|N|Nd|Nl|No|P|Pc|Pd|Ps|Pe|Pi|Pf|Po|S|Sm|Sc|Sk|So|Z|Zs|"
        "Zl|Zp|C|Cc|Cf|Co|Cn|";
    char key[8];
    if (n < 1 || n > 2) return false;
    snprintf(key, sizeof key, "|%.*s|", (int)n, name);
    return strstr(known, key) != NULL;
}

/* \p{X}, \P{X}: general categories, and the one script that tokenizers use. */
static espl_status put_property(translator *t) {
    const char *close =
        t->i + 2 < t->n && t->p[t->i + 2] == '{' ? memchr(t->p + t->i, '}', (size_t)(t->n - t->i)) : NULL;
    if (!close) return refuse(t, t->i, 4, "");
    const char *name = t->p + t->i + 3;
    int64_t n = close - name;
    bool han = n == 3 && memcmp(name, "Han", 3) == 0;
    if (!han && !general_category(name, n)) return refuse(t, t->i, n + 4, "");
    espl_str_put(t->out, t->p + t->i, 3);
    if (han) espl_str_puts(t->out, "sc:");
    espl_str_put(t->out, name, n + 1);
    t->i += n + 4;
    return ESPL_OK;
}

#define WORD_CLASS                                                                                                     \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{"    \
    "1f189}"

/* \w, \d, \h as Oniguruma's UTF-8 encoding has them. */
static espl_status put_class_escape(translator *t, char c) {
    static const struct {
        char escape;
        const char *members;
    } classes[] = {{'w', WORD_CLASS}, {'d', "\\p{Nd}"}, {'h', "0-9a-fA-F"}};
    const char *members = "";
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if ((c | 32) == classes[i].escape) members = classes[i].members;
    bool negated = c < 'a';
    if (negated && t->in_class) return refuse(t, t->i, 2, " inside [ ]");
    if (t->in_class)
        espl_str_puts(t->out, members);
    else
        espl_str_printf(t->out, "[%s%s]", negated ? "^" : "", members);
    t->i += 2;
    return ESPL_OK;
}

static bool hex(char c) { return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f'); }

/* \uHHHH, \xHH, \x{H...} */
static espl_status put_hex_escape(translator *t) {
    int64_t i = t->i + 2, from = i;
    bool braces = t->p[t->i + 1] == 'x' && i < t->n && t->p[i] == '{';
    if (braces) from = ++i;
    int64_t max = braces ? 6 : t->p[t->i + 1] == 'u' ? 4 : 2;
    while (i < t->n && i - from < max && hex(t->p[i])) i++;
    bool whole = braces ? i > from && i < t->n && t->p[i] == '}' : i - from == max;
    if (!whole) return refuse(t, t->i, i - t->i + 1, "");
    if (!braces && t->p[t->i + 1] == 'x' && t->p[from] >= '8') return refuse(t, t->i, i - t->i, " (a raw byte)");
    espl_str_printf(t->out, "\\x{%.*s}", (int)(i - from), t->p + from);
    t->i = i + braces;
    return ESPL_OK;
}

static espl_status put_escape(translator *t) {
    char c = t->i + 1 < t->n ? t->p[t->i + 1] : '\0';
    if (c == 'p' || c == 'P') return put_property(t);
    if (c == 'u' || c == 'x') return put_hex_escape(t);
    if (c != '\0' && strchr("wWdDhH", c)) return put_class_escape(t, c);
    bool letter = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
    if (c == 'v')
        espl_str_puts(t->out, "\\x0b"); /* vertical tab alone */
    else if (c > 0x20 && c < 0x7F && (!letter || strchr("sSrntfae", c)))
        espl_str_put(t->out, t->p + t->i, 2);
    else if (c == ' ')
        espl_str_puts(t->out, "\\x20");
    else
        return refuse(t, t->i, 2, "");
    t->i += 2;
    return ESPL_OK;
}

static espl_status put_group(translator *t) {
    static const char *const known[] = {"(?:", "(?i:", "(?-i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    int64_t left = t->n - t->i;
    if (t->n_open == MAX_GROUPS) return refuse(t, t->i, 1, " (too many nested groups)");
    t->open[t->n_open++] = t->out->len;
    if (left < 2 || t->p[t->i + 1] != '?') {
        if (left >= 2 && t->p[t->i + 1] == '*') return refuse(t, t->i, 2, "");
        espl_str_puts(t->out, "(?:"); /* nothing refers to captures */
        t->i++;
        return ESPL_OK;
    }
    if (t->i == 0 && left >= 4 && memcmp(t->p, "(?i)", 4) == 0) {
        t->n_open--;
        espl_str_puts(t->out, "(?i)");
        t->i += 4;
        return ESPL_OK;
    }
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        int64_t n = (int64_t)strlen(known[k]);
        if (left < n || memcmp(t->p + t->i, known[k], (size_t)n) != 0) continue;
        espl_str_put(t->out, known[k], n);
        t->i += n;
        return ESPL_OK;
    }
    return refuse(t, t->i, 4, "");
}

static espl_status put_class_char(translator *t) {
    char c = t->p[t->i];
    if (c == '\\') return put_escape(t);
    if (c == '[') return refuse(t, t->i, 2, " (a set inside a set)");
    if (c == '&' && t->i + 1 < t->n && t->p[t->i + 1] == '&') return refuse(t, t->i, 2, " (intersection)");
    if (c == ']') t->in_class = false;
    espl_str_put(t->out, &c, 1);
    t->i++;
    return ESPL_OK;
}

static espl_status put_class_open(translator *t) {
    t->in_class = true;
    espl_str_puts(t->out, "[");
    t->i++;
    if (t->i < t->n && t->p[t->i] == '^') {
        espl_str_puts(t->out, "^");
        t->i++;
    }
    if (t->i < t->n && t->p[t->i] == ']') return refuse(t, t->i - 1, 2, "");
    return ESPL_OK;
}

static espl_status put_plain(translator *t) {
    char c = t->p[t->i];
    if (c == '{') return put_interval(t);
    bool continues = c == '?' || c == '*' || c == '+' || ((unsigned char)c & 0xC0) == 0x80;
    if (!continues) t->atom = t->out->len;
    switch (c) {
    case '\\':
        return put_escape(t);
    case '[':
        return put_class_open(t);
    case '(':
        return put_group(t);
    case ')':
        if (t->n_open > 0) t->atom = t->open[--t->n_open];
        espl_str_puts(t->out, ")");
        break;
    default:
        espl_str_put(t->out, &c, 1);
    }
    t->i++;
    return ESPL_OK;
}

espl_status espl_tok_regex_translate(const char *pattern, int64_t len, const espl_where *where, espl_str *out) {
    translator t = {.p = pattern, .n = len, .where = where, .out = out};
    espl_str_put(out, "", 0);
    while (t.i < t.n) ESPL_TRY(t.in_class ? put_class_char(&t) : put_plain(&t));
    return espl_str_status(out);
}
