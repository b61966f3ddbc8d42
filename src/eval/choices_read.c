/* Multiple-choice questions from JSON Lines, and their tokens as lm-evaluation-harness cuts them. */
#include "choices.h"

#include <cjson/cJSON.h>
#include <string.h>

enum { JSONL_BYTES = 1 << 30, WHERE_BYTES = 512, MOST_CHOICES = 1000 };

static espl_status put_string(choices_source *s, const cJSON *item, const char *where, const char *what, int64_t *at) {
    if (!cJSON_IsString(item)) return ESPL_FAIL(ESPL_FORMAT, "%s: \"%s\" must be text", where, what);
    *at = s->text.len;
    espl_str_put(&s->text, item->valuestring, (int64_t)strlen(item->valuestring) + 1);
    return espl_str_status(&s->text);
}

static espl_status reserve(choices_source *s, int64_t more) {
    if (s->n_pairs + more > s->cap_pairs) {
        int64_t cap = s->n_pairs + more + s->cap_pairs;
        ESPL_TRY(espl_mem_resize(&s->pairs, cap, sizeof *s->pairs, "choices"));
        s->cap_pairs = cap;
    }
    if (s->n == s->cap) {
        int64_t cap = s->cap ? s->cap * 2 : 256;
        ESPL_TRY(espl_mem_resize(&s->questions, cap, sizeof *s->questions, "questions"));
        s->cap = cap;
    }
    return ESPL_OK;
}

/* Context i of a question: the one for all, or its own. */
static espl_status read_context(choices_source *s, const cJSON *context, const char *where, int64_t i, int64_t count,
                                int64_t *at) {
    if (!cJSON_IsArray(context)) return i > 0 ? ESPL_OK : put_string(s, context, where, "context", at);
    if (cJSON_GetArraySize(context) != (int)count)
        return ESPL_FAIL(ESPL_FORMAT, "%s: %d contexts for %lld choices", where, cJSON_GetArraySize(context),
                         (long long)count);
    return put_string(s, cJSON_GetArrayItem(context, (int)i), where, "context", at);
}

static espl_status read_pairs(choices_source *s, const cJSON *doc, const char *where, int64_t count,
                              int64_t delimiter) {
    const cJSON *choices = espl_json_member(doc, "choices"), *choice = choices->child;
    int64_t context = 0;
    for (int64_t i = 0; i < count; i++, choice = choice->next) {
        choice_pair *p = &s->pairs[s->n_pairs];
        ESPL_TRY(read_context(s, espl_json_member(doc, "context"), where, i, count, &context));
        ESPL_TRY(put_string(s, choice, where, "choices", &p->choice));
        p->context = context;
        p->delimiter = delimiter;
        if (!s->text.data[p->choice]) return ESPL_FAIL(ESPL_FORMAT, "%s: choice %lld is empty", where, (long long)i);
        s->n_pairs++;
    }
    return ESPL_OK;
}

static espl_status read_object(choices_source *s, const cJSON *doc, const char *where, int64_t line) {
    const cJSON *choices = espl_json_member(doc, "choices");
    const char *delimiter = " ";
    int64_t answer = 0, count = cJSON_IsArray(choices) ? cJSON_GetArraySize(choices) : 0;
    if (!cJSON_IsObject(doc)) return ESPL_FAIL(ESPL_FORMAT, "%s: not an object", where);
    if (count < 2 || count > MOST_CHOICES)
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"choices\" must be a list of 2 to %d texts", where, MOST_CHOICES);
    ESPL_TRY(espl_json_get_i64(doc, "answer", where, true, 0, count - 1, &answer));
    ESPL_TRY(espl_json_get_str(doc, "delimiter", where, false, &delimiter));
    ESPL_TRY(reserve(s, count));
    int64_t at = s->text.len;
    espl_str_put(&s->text, delimiter, (int64_t)strlen(delimiter) + 1);
    s->questions[s->n] = (espl_choice_question){.line = line, .first = s->n_pairs, .count = count};
    s->questions[s->n].answer = (int32_t)answer;
    ESPL_TRY(read_pairs(s, doc, where, count, at));
    s->n++;
    return ESPL_OK;
}

static bool blank(const char *text, int64_t len) {
    text_strip(&text, &len);
    return len == 0;
}

static espl_status read_line(choices_source *s, const char *text, int64_t len, const char *name, int64_t line) {
    char where[WHERE_BYTES];
    struct cJSON *doc;
    if (blank(text, len)) return ESPL_OK;
    snprintf(where, sizeof where, "%s: line %lld", name, (long long)line);
    ESPL_TRY(espl_json_parse(text, len, where, &doc));
    espl_status st = read_object(s, doc, where, line);
    espl_json_free(&doc);
    return st;
}

espl_status choices_source_parse(const char *text, int64_t len, const char *name, choices_source *out) {
    *out = (choices_source){0};
    for (int64_t at = 0, line = 1; at < len; line++) {
        const char *end = memchr(text + at, '\n', (size_t)(len - at));
        int64_t n = end ? end - (text + at) : len - at;
        ESPL_TRY(read_line(out, text + at, n, name, line));
        at += n + 1;
    }
    return out->n ? ESPL_OK : ESPL_FAIL(ESPL_FORMAT, "%s: no questions", name);
}

espl_status choices_source_read(const char *path, choices_source *out) {
    char *text;
    int64_t len;
    *out = (choices_source){0};
    ESPL_TRY(espl_file_read(path, JSONL_BYTES, &text, &len));
    espl_status st = choices_source_parse(text, len, path, out);
    espl_mem_free(&text);
    return st;
}

void choices_source_free(choices_source *s) {
    espl_mem_free(&s->questions);
    espl_mem_free(&s->pairs);
    espl_str_free(&s->text);
    *s = (choices_source){0};
}

/* ---------------------------------------------------------------- tokens */

/* out: the context's ids; then also those that the whole text has beyond them. */
static espl_status join(espl_ids *out, const espl_ids *whole, int32_t start, int64_t *scored) {
    int64_t before = out->len, cap = before + whole->len + 1;
    ESPL_TRY(espl_mem_resize(&out->data, cap, sizeof *out->data, "choice ids"));
    out->cap = cap;
    if (before == 0 && whole->len > 0) {
        out->data[out->len++] = start;
        before = whole->data[0] == start;
    }
    for (int64_t i = before; i < whole->len; i++) out->data[out->len++] = whole->data[i];
    *scored = whole->len - before;
    return ESPL_OK;
}

/* lm-evaluation-harness's _encode_pair: white space at the context's end moves to the continuation; the continuation's
 * ids are what the whole text has beyond as many ids as the context has alone. An empty context is the model's BOS or
 * EOS token, unless the text begins with it. */
espl_status choices_encode(const espl_tokenizer *t, const choices_source *s, const choice_pair *p, int32_t start,
                           espl_ids *out, int64_t *scored) {
    const char *context = s->text.data + p->context;
    int64_t len = (int64_t)strlen(context), kept = text_rstrip(context, len);
    espl_str text = {0};
    espl_ids whole = {0};
    out->len = 0;
    espl_str_put(&text, context, len);
    espl_str_puts(&text, s->text.data + p->delimiter);
    espl_str_puts(&text, s->text.data + p->choice);
    espl_status st = espl_str_status(&text);
    if (st == ESPL_OK && kept > 0) st = espl_tokenizer_encode(t, context, kept, true, out);
    if (st == ESPL_OK) st = espl_tokenizer_encode(t, text.data, text.len, kept > 0, &whole);
    if (st == ESPL_OK) st = join(out, &whole, start, scored);
    espl_ids_free(&whole);
    espl_str_free(&text);
    return st;
}
