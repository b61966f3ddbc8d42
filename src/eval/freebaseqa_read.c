/* FreebaseQA's JSON, and the prompts of its two protocols. */
#include "freebaseqa.h"

#include <cjson/cJSON.h>
#include <string.h>

enum { JSON_BYTES = 1 << 29, WHERE_BYTES = 512 };

static espl_status put_text(freebaseqa_source *s, const char *text, int64_t *at) {
    *at = s->text.len;
    espl_str_put(&s->text, text, (int64_t)strlen(text) + 1);
    return espl_str_status(&s->text);
}

static espl_status put_alias(freebaseqa_source *s, const cJSON *name, const char *where) {
    if (!cJSON_IsString(name)) return ESPL_FAIL(ESPL_FORMAT, "%s: \"AnswersName\" must hold strings", where);
    if (s->n_aliases == s->cap_aliases) {
        int64_t cap = s->cap_aliases ? s->cap_aliases * 2 : 256;
        ESPL_TRY(espl_mem_resize(&s->alias_at, cap, sizeof *s->alias_at, "answers"));
        s->cap_aliases = cap;
    }
    ESPL_TRY(put_text(s, name->valuestring, &s->alias_at[s->n_aliases]));
    s->n_aliases++;
    return ESPL_OK;
}

static espl_status read_answer(freebaseqa_source *s, const cJSON *answer, const char *where) {
    const cJSON *names = espl_json_member(answer, "AnswersName"), *name;
    if (!cJSON_IsObject(answer) || !cJSON_IsArray(names))
        return ESPL_FAIL(ESPL_FORMAT, "%s: an answer needs \"AnswersName\", a list", where);
    cJSON_ArrayForEach(name, names) ESPL_TRY(put_alias(s, name, where));
    return ESPL_OK;
}

static espl_status read_parses(freebaseqa_source *s, const cJSON *parses, const char *where,
                               espl_freebaseqa_question *q) {
    const cJSON *parse, *answer;
    bool first = true;
    q->alias = s->n_aliases;
    cJSON_ArrayForEach(parse, parses) {
        const cJSON *answers = espl_json_member(parse, "Answers");
        if (!cJSON_IsObject(parse) || !cJSON_IsArray(answers))
            return ESPL_FAIL(ESPL_FORMAT, "%s: a parse needs \"Answers\", a list", where);
        cJSON_ArrayForEach(answer, answers) {
            ESPL_TRY(read_answer(s, answer, where));
            if (first) q->first_aliases = s->n_aliases - q->alias;
            first = false;
        }
    }
    q->aliases = s->n_aliases - q->alias;
    if (q->aliases == 0) return ESPL_FAIL(ESPL_FORMAT, "%s: no answer", where);
    return ESPL_OK;
}

static espl_status read_question(freebaseqa_source *s, const cJSON *item, const char *where,
                                 espl_freebaseqa_question *q) {
    const char *id = "", *question = NULL;
    if (!cJSON_IsObject(item)) return ESPL_FAIL(ESPL_FORMAT, "%s: not an object", where);
    ESPL_TRY(espl_json_get_str(item, "Question-ID", where, false, &id));
    ESPL_TRY(espl_json_get_str(item, "RawQuestion", where, true, &question));
    ESPL_TRY(put_text(s, id, &q->id));
    ESPL_TRY(put_text(s, question, &q->question));
    const cJSON *parses = espl_json_member(item, "Parses");
    if (!cJSON_IsArray(parses)) return ESPL_FAIL(ESPL_FORMAT, "%s: \"Parses\" must be a list", where);
    return read_parses(s, parses, where, q);
}

static espl_status read_document(freebaseqa_source *s, const cJSON *doc, const char *name) {
    const cJSON *list = cJSON_IsObject(doc) ? espl_json_member(doc, "Questions") : NULL, *item;
    char where[WHERE_BYTES];
    if (!cJSON_IsArray(list)) return ESPL_FAIL(ESPL_FORMAT, "%s: \"Questions\" must be a list", name);
    ESPL_TRY(espl_mem_alloc(&s->questions, cJSON_GetArraySize(list), sizeof *s->questions, "questions"));
    cJSON_ArrayForEach(item, list) {
        snprintf(where, sizeof where, "%s: question %lld", name, (long long)s->n);
        ESPL_TRY(read_question(s, item, where, &s->questions[s->n]));
        s->n++;
    }
    return ESPL_OK;
}

espl_status freebaseqa_source_parse(const char *text, int64_t len, const char *name, freebaseqa_source *out) {
    struct cJSON *doc;
    *out = (freebaseqa_source){0};
    ESPL_TRY(espl_json_parse(text, len, name, &doc));
    espl_status st = read_document(out, doc, name);
    espl_json_free(&doc);
    return st;
}

espl_status freebaseqa_source_read(const char *path, freebaseqa_source *out) {
    char *text;
    int64_t len;
    *out = (freebaseqa_source){0};
    ESPL_TRY(espl_file_read(path, JSON_BYTES, &text, &len));
    espl_status st = freebaseqa_source_parse(text, len, path, out);
    espl_mem_free(&text);
    return st;
}

void freebaseqa_source_free(freebaseqa_source *s) {
    espl_mem_free(&s->questions);
    espl_mem_free(&s->alias_at);
    espl_str_free(&s->text);
    *s = (freebaseqa_source){0};
}

const char *freebaseqa_text(const freebaseqa_source *s, int64_t at) { return s->text.data + at; }

/* The example's answer is its first alias. */
void freebaseqa_example(const freebaseqa_source *s, int64_t i, espl_str *out) {
    const espl_freebaseqa_question *q = &s->questions[i];
    espl_str_printf(out, "Q: %s\nA: %s\n\n", freebaseqa_text(s, q->question),
                    freebaseqa_text(s, s->alias_at[q->alias]));
}

void freebaseqa_prompt(const freebaseqa_source *s, espl_freebaseqa_mode mode, int64_t i, espl_str *out) {
    const char *question = freebaseqa_text(s, s->questions[i].question);
    if (mode == ESPL_FREEBASEQA_LLM_KICK)
        espl_str_printf(out, "Please give answer to this question: %s\nThe answer is ", question);
    else
        espl_str_printf(out, "Q: %s\nA:", question);
}
