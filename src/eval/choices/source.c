/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multiple-choice questions from JSON Lines, and their tokens as lm-evaluation-harness separates context and
 * continuation (_encode_pair in lm_eval/api/model.py).
 */
#include "choices/source.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <string.h>

#include "espalier/tokenizer.h"
#include "text.h"

enum {
    CHOICES_MAX_BYTES = 1 << 30,
    CHOICES_WHERE_BYTES = 512, /* "file: line 17" in messages */
    CHOICES_MAX = 1000         /* of one question */
};

/* Stores a string of the file; *at receives its offset. Offsets stay valid while the text grows, pointers would not. */
static espl_status choices_put_text(espl_choices_source *s, const cJSON *item, const char *where, const char *key,
                                    int64_t *at) {
    if (!cJSON_IsString(item)) return ESPL_FAIL(ESPL_FORMAT, "%s: \"%s\" must be text", where, key);
    *at = s->text.len;
    espl_str_put(&s->text, item->valuestring, (int64_t)strlen(item->valuestring) + 1);
    return espl_str_status(&s->text);
}

/* Makes room for one more question with that many choices. */
static espl_status choices_reserve(espl_choices_source *s, int64_t pairs) {
    if (s->n_pairs + pairs > s->cap_pairs) {
        int64_t cap = s->n_pairs + pairs + s->cap_pairs;
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

/* Adds one line of the file. An empty choice is refused: its score per character would divide by zero. */
static espl_status choices_read_question(espl_choices_source *s, const cJSON *doc, const char *where, int64_t line) {
    const cJSON *choices = espl_json_member(doc, "choices"), *context = espl_json_member(doc, "context"), *choice;
    const char *delimiter = " ";
    int64_t answer = 0, count = cJSON_IsArray(choices) ? cJSON_GetArraySize(choices) : 0;
    if (!cJSON_IsObject(doc)) return ESPL_FAIL(ESPL_FORMAT, "%s: not an object", where);
    if (count < 2 || count > CHOICES_MAX)
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"choices\" must be a list of 2 to %d texts", where, CHOICES_MAX);
    if (cJSON_IsArray(context) && cJSON_GetArraySize(context) != (int)count)
        return ESPL_FAIL(ESPL_FORMAT, "%s: %d contexts for %" PRId64 " choices", where, cJSON_GetArraySize(context),
                         count);
    ESPL_TRY(espl_json_get_i64(doc, "answer", where, true, 0, count - 1, &answer));
    ESPL_TRY(espl_json_get_str(doc, "delimiter", where, false, &delimiter));
    ESPL_TRY(choices_reserve(s, count));
    espl_choice_pair pair = {.delimiter = s->text.len};
    espl_str_put(&s->text, delimiter, (int64_t)strlen(delimiter) + 1);
    /* One context for all choices, stored once, or one for each. */
    const cJSON *own = cJSON_IsArray(context) ? context->child : NULL;
    if (!own) ESPL_TRY(choices_put_text(s, context, where, "context", &pair.context));
    s->questions[s->n] =
        (espl_choice_question){.line = line, .first = s->n_pairs, .count = count, .answer = (int32_t)answer};
    int64_t i = 0;
    cJSON_ArrayForEach(choice, choices) {
        if (own) ESPL_TRY(choices_put_text(s, own, where, "context", &pair.context));
        ESPL_TRY(choices_put_text(s, choice, where, "choices", &pair.choice));
        if (!s->text.data[pair.choice]) return ESPL_FAIL(ESPL_FORMAT, "%s: choice %" PRId64 " is empty", where, i);
        s->pairs[s->n_pairs++] = pair;
        if (own) own = own->next;
        i++;
    }
    s->n++;
    return ESPL_OK;
}

espl_status espl_choices_source_parse(const char *text, int64_t len, const char *name, espl_choices_source *out) {
    char where[CHOICES_WHERE_BYTES];
    *out = (espl_choices_source){0};
    for (int64_t at = 0, line = 1, n; at < len; line++, at += n + 1) {
        const char *end = memchr(text + at, '\n', (size_t)(len - at));
        n = end ? end - (text + at) : len - at;
        if (espl_text_rstrip(text + at, n) == 0) continue; /* a blank line */
        struct cJSON *doc;
        snprintf(where, sizeof where, "%s: line %" PRId64, name, line);
        ESPL_TRY(espl_json_parse(text + at, n, where, &doc));
        espl_status st = choices_read_question(out, doc, where, line);
        espl_json_free(&doc);
        ESPL_TRY(st);
    }
    return out->n ? ESPL_OK : ESPL_FAIL(ESPL_FORMAT, "%s: no questions", name);
}

espl_status espl_choices_source_read(const char *path, espl_choices_source *out) {
    char *text;
    int64_t len;
    *out = (espl_choices_source){0};
    ESPL_TRY(espl_file_read(path, CHOICES_MAX_BYTES, &text, &len));
    espl_status st = espl_choices_source_parse(text, len, path, out);
    espl_mem_free(&text);
    return st;
}

void espl_choices_source_free(espl_choices_source *s) {
    espl_mem_free(&s->questions);
    espl_mem_free(&s->pairs);
    espl_str_free(&s->text);
    *s = (espl_choices_source){0};
}

/* White space at the end of the context moves to the continuation, because tokenizers attach it to the next word. The
 * continuation's tokens are those of the whole text beyond the number of tokens of the context alone; if a token spans
 * both, the context's own tokens are kept. An empty context is the start token, unless the text begins with it. */
espl_status espl_choices_source_encode(const espl_choices_source *s, const espl_tokenizer *t, const espl_choice_pair *p,
                                       int32_t start, espl_ids *out, int64_t *scored) {
    const char *context = s->text.data + p->context;
    int64_t len = (int64_t)strlen(context), kept = espl_text_rstrip(context, len);
    espl_str text = {0};
    espl_ids whole = {0};
    espl_status st;
    out->len = 0;
    espl_str_put(&text, context, len);
    espl_str_puts(&text, s->text.data + p->delimiter);
    espl_str_puts(&text, s->text.data + p->choice);
    ESPL_CHECK(st, done, espl_str_status(&text));
    if (kept > 0) ESPL_CHECK(st, done, espl_tokenizer_encode(t, context, kept, true, out));
    ESPL_CHECK(st, done, espl_tokenizer_encode(t, text.data, text.len, kept > 0, &whole));
    int64_t before = out->len;
    if (before == 0 && whole.len > 0) {
        ESPL_CHECK(st, done, espl_ids_append(out, &start, 1));
        before = whole.data[0] == start;
    }
    *scored = espl_max_i64(whole.len - before, 0);
    if (*scored > 0) st = espl_ids_append(out, whole.data + before, *scored);
done:
    espl_ids_free(&whole);
    espl_str_free(&text);
    return st;
}
