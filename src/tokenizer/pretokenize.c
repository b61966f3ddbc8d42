/*
 * Pre-tokenisers: a flat list of four primitive steps. A piece runs through the rest of the list as soon as a step has
 * cut it off, depth first, so no list of pieces is ever stored.
 */
#include "internal.h"

#include <cjson/cJSON.h>
#include <string.h>

/* https://github.com/openai/gpt-2/blob/master/src/encoder.py */
#define GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* ------------------------------------------------------------ parsing */

static espl_status new_step(espl_tokenizer *t, const espl_where *where, espl_pre_kind kind, espl_pre_step **out) {
    if (t->n_pre == ESPL_TOK_MAX_STEPS)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: more than %d steps", where->text, ESPL_TOK_MAX_STEPS);
    espl_pre_step *step = &t->pre[t->n_pre++];
    *step = (espl_pre_step){.kind = kind};
    if (out) *out = step;
    return ESPL_OK;
}

static espl_status get_behavior(const cJSON *node, const espl_where *where, bool required, espl_behavior *out) {
    static const struct {
        const char *name;
        espl_behavior behavior;
    } names[] = {{"Isolated", ESPL_SPLIT_ISOLATED},
                 {"Removed", ESPL_SPLIT_REMOVED},
                 {"MergedWithPrevious", ESPL_SPLIT_PREVIOUS},
                 {"MergedWithNext", ESPL_SPLIT_NEXT},
                 {"Contiguous", ESPL_SPLIT_CONTIGUOUS}};
    const char *s = NULL;
    ESPL_TRY(espl_json_get_str(node, "behavior", where->text, required, &s));
    if (!s) return ESPL_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(s, names[i].name) == 0) return *out = names[i].behavior, ESPL_OK;
    return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.behavior \"%.64s\" is not supported", where->text, s);
}

static espl_status parse_split(espl_tokenizer *t, const cJSON *node, const espl_where *where) {
    espl_pre_step *step = NULL;
    ESPL_TRY(espl_tok_check_keys(node, where, "type|pattern|behavior|invert"));
    ESPL_TRY(new_step(t, where, ESPL_PRE_SPLIT, &step));
    ESPL_TRY(get_behavior(node, where, true, &step->behavior));
    ESPL_TRY(espl_json_get_bool(node, "invert", where->text, false, &step->invert));
    return espl_tok_matcher_parse(&step->matcher, espl_json_member(node, "pattern"), where);
}

static espl_status parse_byte_level(espl_tokenizer *t, const cJSON *node, const espl_where *where) {
    bool prefix = true, regex = true;
    ESPL_TRY(espl_tok_check_keys(node, where, "type|add_prefix_space|trim_offsets|use_regex"));
    ESPL_TRY(espl_json_get_bool(node, "add_prefix_space", where->text, true, &prefix));
    ESPL_TRY(espl_json_get_bool(node, "use_regex", where->text, false, &regex));
    if (prefix) ESPL_TRY(new_step(t, where, ESPL_PRE_PREFIX_SPACE, NULL));
    if (regex) {
        espl_pre_step *step = NULL;
        ESPL_TRY(new_step(t, where, ESPL_PRE_SPLIT, &step));
        ESPL_TRY(espl_tok_matcher_regex(&step->matcher, GPT2_PATTERN, where));
    }
    return new_step(t, where, ESPL_PRE_BYTES, NULL);
}

static espl_status parse_class(espl_tokenizer *t, const cJSON *node, const espl_where *where, espl_char_class cls) {
    espl_pre_step *step = NULL;
    bool individual = false;
    const char *keys = cls == ESPL_CHAR_NUMERIC ? "type|individual_digits"
                       : cls == ESPL_CHAR_PUNCT ? "type|behavior"
                                                : "type";
    ESPL_TRY(espl_tok_check_keys(node, where, keys));
    ESPL_TRY(new_step(t, where, ESPL_PRE_SPLIT, &step));
    step->matcher.kind = ESPL_MATCH_CLASS;
    step->matcher.cls = cls;
    step->behavior = cls == ESPL_CHAR_SPACE ? ESPL_SPLIT_REMOVED : ESPL_SPLIT_ISOLATED;
    if (cls == ESPL_CHAR_PUNCT) return get_behavior(node, where, false, &step->behavior);
    if (cls != ESPL_CHAR_NUMERIC) return ESPL_OK;
    ESPL_TRY(espl_json_get_bool(node, "individual_digits", where->text, true, &individual));
    if (!individual) step->behavior = ESPL_SPLIT_CONTIGUOUS;
    return ESPL_OK;
}

static espl_status parse_words(espl_tokenizer *t, const cJSON *node, const espl_where *where) {
    espl_pre_step *step = NULL;
    ESPL_TRY(espl_tok_check_keys(node, where, "type"));
    ESPL_TRY(new_step(t, where, ESPL_PRE_SPLIT, &step));
    step->matcher.kind = ESPL_MATCH_WORDS;
    step->invert = true;
    step->behavior = ESPL_SPLIT_REMOVED;
    return ESPL_OK;
}

/* prepend_scheme, or the add_prefix_space of older files. */
static espl_status get_prepend(const cJSON *node, const espl_where *where, espl_prepend *out) {
    const char *scheme = NULL;
    bool prefix = true;
    ESPL_TRY(espl_json_get_str(node, "prepend_scheme", where->text, false, &scheme));
    ESPL_TRY(espl_json_get_bool(node, "add_prefix_space", where->text, false, &prefix));
    if (!scheme) scheme = prefix ? "always" : "never";
    if (!prefix && strcmp(scheme, "never") != 0)
        return ESPL_FAIL(ESPL_FORMAT, "%s: add_prefix_space contradicts prepend_scheme", where->text);
    if (strcmp(scheme, "always") == 0)
        *out = ESPL_PREPEND_ALWAYS;
    else if (strcmp(scheme, "never") == 0)
        *out = ESPL_PREPEND_NEVER;
    else if (strcmp(scheme, "first") == 0)
        *out = ESPL_PREPEND_FIRST;
    else
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.prepend_scheme \"%.64s\" is not supported", where->text, scheme);
    return ESPL_OK;
}

static espl_status parse_metaspace(espl_tokenizer *t, const cJSON *node, const espl_where *where) {
    espl_pre_step *step = NULL;
    bool split = true;
    int n;
    ESPL_TRY(espl_tok_check_keys(node, where, "type|replacement|add_prefix_space|prepend_scheme|split|str_rep"));
    ESPL_TRY(new_step(t, where, ESPL_PRE_METASPACE, &step));
    ESPL_TRY(espl_tok_get_text(node, "replacement", where, &step->replacement));
    const espl_bytes *r = &step->replacement;
    if (r->n == 0 || (espl_tok_decode_char(r->p, &n), n != r->n))
        return ESPL_FAIL(ESPL_FORMAT, "%s.replacement must be one character", where->text);
    ESPL_TRY(get_prepend(node, where, &step->prepend));
    ESPL_TRY(espl_json_get_bool(node, "split", where->text, false, &split));
    if (!split) return ESPL_OK;
    ESPL_TRY(new_step(t, where, ESPL_PRE_SPLIT, &step));
    step->behavior = ESPL_SPLIT_NEXT;
    return espl_tok_get_text(node, "replacement", where, &step->matcher.literal);
}

static espl_status parse_node(espl_tokenizer *t, const cJSON *node, const espl_where *where, int depth);

static espl_status parse_sequence(espl_tokenizer *t, const cJSON *node, const espl_where *where, int depth) {
    const cJSON *items;
    int64_t index = 0;
    if (depth == ESPL_TOK_MAX_NESTING) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: nested too deep", where->text);
    ESPL_TRY(espl_tok_check_keys(node, where, "type|pretokenizers"));
    ESPL_TRY(espl_tok_get_array(node, "pretokenizers", where, true, &items));
    for (const cJSON *i = items->child; i; i = i->next) {
        espl_where w = espl_tok_where_item(where, index++);
        ESPL_TRY(parse_node(t, i, &w, depth + 1));
    }
    return ESPL_OK;
}

static espl_status parse_node(espl_tokenizer *t, const cJSON *node, const espl_where *where, int depth) {
    const char *type = NULL;
    if (!cJSON_IsObject(node)) return ESPL_FAIL(ESPL_FORMAT, "%s must be an object", where->text);
    ESPL_TRY(espl_json_get_str(node, "type", where->text, true, &type));
    if (strcmp(type, "Sequence") == 0) return parse_sequence(t, node, where, depth);
    if (strcmp(type, "Split") == 0) return parse_split(t, node, where);
    if (strcmp(type, "ByteLevel") == 0) return parse_byte_level(t, node, where);
    if (strcmp(type, "Metaspace") == 0) return parse_metaspace(t, node, where);
    if (strcmp(type, "Digits") == 0) return parse_class(t, node, where, ESPL_CHAR_NUMERIC);
    if (strcmp(type, "Punctuation") == 0) return parse_class(t, node, where, ESPL_CHAR_PUNCT);
    if (strcmp(type, "WhitespaceSplit") == 0) return parse_class(t, node, where, ESPL_CHAR_SPACE);
    if (strcmp(type, "Whitespace") == 0) return parse_words(t, node, where);
    return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.type \"%.64s\" is not supported", where->text, type);
}

espl_status espl_tok_pre_parse(espl_tokenizer *t, const struct cJSON *node, const char *file, bool *byte_mode) {
    espl_where where = espl_tok_where(file, "pre_tokenizer");
    *byte_mode = false;
    if (!node) return ESPL_OK;
    ESPL_TRY(parse_node(t, node, &where, 0));
    /* Spelling bytes as characters last of all is the same as leaving them alone and spelling the vocabulary in bytes.
     */
    if (t->n_pre > 0 && t->pre[t->n_pre - 1].kind == ESPL_PRE_BYTES) {
        *byte_mode = true;
        t->n_pre--;
    }
    return ESPL_OK;
}

void espl_tok_pre_free(espl_tokenizer *t) {
    for (int64_t i = 0; i < t->n_pre; i++) {
        espl_tok_matcher_free(&t->pre[i].matcher);
        espl_tok_bytes_free(&t->pre[i].replacement);
    }
}

/* ------------------------------------------------------------ running */

static espl_status run(espl_work *w, int64_t index, const espl_piece *piece);

static bool starts_with(const espl_piece *piece, const char *s, int64_t n) {
    return piece->n >= n && memcmp(piece->p, s, (size_t)n) == 0;
}

static espl_status run_rewritten(espl_work *w, int64_t index, const espl_piece *piece) {
    espl_str *out = &w->pre[index];
    ESPL_TRY(espl_str_status(out));
    espl_piece rewritten = {.p = out->data, .n = out->len, .first = piece->first};
    return run(w, index + 1, &rewritten);
}

static espl_status prefix_space(espl_work *w, int64_t index, const espl_piece *piece) {
    if (piece->p[0] == ' ') return run(w, index + 1, piece);
    w->pre[index].len = 0;
    espl_str_puts(&w->pre[index], " ");
    espl_str_put(&w->pre[index], piece->p, piece->n);
    return run_rewritten(w, index, piece);
}

static espl_status metaspace(espl_work *w, int64_t index, const espl_piece *piece) {
    const espl_pre_step *step = &w->t->pre[index];
    const espl_bytes *r = &step->replacement;
    espl_str *out = &w->pre[index];
    bool wanted = step->prepend == ESPL_PREPEND_ALWAYS || (step->prepend == ESPL_PREPEND_FIRST && piece->first);
    out->len = 0;
    if (wanted && piece->p[0] != ' ' && !starts_with(piece, r->p, r->n)) espl_str_put(out, r->p, r->n);
    for (int64_t i = 0; i < piece->n;) {
        const char *space = memchr(piece->p + i, ' ', (size_t)(piece->n - i));
        int64_t end = space ? space - piece->p : piece->n;
        espl_str_put(out, piece->p + i, end - i);
        if (space) espl_str_put(out, r->p, r->n);
        i = end + 1;
    }
    return run_rewritten(w, index, piece);
}

static espl_status spell_bytes(espl_work *w, int64_t index, const espl_piece *piece) {
    w->pre[index].len = 0;
    espl_tok_put_byte_chars(&w->pre[index], piece->p, piece->n);
    return run_rewritten(w, index, piece);
}

/* The span being grown, and whether the one before was a match. */
typedef struct splitter {
    espl_work *w;
    int64_t index;
    const espl_piece *piece;
    int64_t start, end;
    bool open, match;
} splitter;

static espl_status emit(splitter *s) {
    espl_piece p = {.p = s->piece->p + s->start, .n = s->end - s->start, .first = s->piece->first && s->start == 0};
    bool keep = s->open && p.n > 0;
    s->open = false;
    return keep ? run(s->w, s->index + 1, &p) : ESPL_OK;
}

/* Does the span continue the one before it? */
static bool joins(const splitter *s, espl_behavior behavior, bool match) {
    if (!s->open) return false;
    switch (behavior) {
    case ESPL_SPLIT_CONTIGUOUS:
        return match == s->match;
    case ESPL_SPLIT_PREVIOUS:
        return match && !s->match;
    case ESPL_SPLIT_NEXT:
        return !match && s->match;
    default:
        return false;
    }
}

static espl_status split_span(splitter *s, espl_behavior behavior, int64_t start, int64_t end, bool match) {
    if (!joins(s, behavior, match)) {
        ESPL_TRY(emit(s));
        s->start = start;
    }
    s->end = end;
    s->open = !(behavior == ESPL_SPLIT_REMOVED && match);
    s->match = match;
    return ESPL_OK;
}

static espl_status split(espl_work *w, int64_t index, const espl_piece *piece) {
    const espl_pre_step *step = &w->t->pre[index];
    splitter s = {.w = w, .index = index, .piece = piece};
    espl_spans spans;
    bool more = true, match;
    int64_t start, end;
    espl_status st = espl_tok_spans_open(&spans, &step->matcher, piece->p, piece->n, &w->match);
    while (st == ESPL_OK && (st = espl_tok_spans_next(&spans, &more, &start, &end, &match)) == ESPL_OK && more)
        st = split_span(&s, step->behavior, start, end, match != step->invert);
    if (st == ESPL_OK) st = emit(&s);
    espl_tok_spans_close(&spans);
    return st;
}

static espl_status run(espl_work *w, int64_t index, const espl_piece *piece) {
    if (index == w->t->n_pre) return espl_tok_bpe(w, piece->p, piece->n);
    switch (w->t->pre[index].kind) {
    case ESPL_PRE_SPLIT:
        return split(w, index, piece);
    case ESPL_PRE_PREFIX_SPACE:
        return prefix_space(w, index, piece);
    case ESPL_PRE_METASPACE:
        return metaspace(w, index, piece);
    case ESPL_PRE_BYTES:
        return spell_bytes(w, index, piece);
    }
    return ESPL_OK;
}

espl_status espl_tok_pretokenize(espl_work *w, const espl_piece *piece) {
    return piece->n > 0 ? run(w, 0, piece) : ESPL_OK;
}
