/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FreebaseQA's JSON as published (github.com/kelvin-jiang/FreebaseQA), and the prompts of its two protocols:
 * {"Questions": [{"Question-ID", "RawQuestion", "Parses": [{"Answers": [{"AnswersName": ["..."]}]}]}]}.
 *
 * All names of all answers of all parses are kept in order, because llm-kick looks at the first answer only.
 */
#include "freebaseqa/source.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <string.h>

enum {
    FREEBASEQA_MAX_BYTES = 1 << 29, /* the train split has 24 MB */
    FREEBASEQA_WHERE_BYTES = 512    /* "file: question 17" in messages */
};

/* Stores a string; *at receives its offset. Offsets stay valid while the text grows, pointers would not. */
static espl_status freebaseqa_put_text(espl_freebaseqa_source *s, const char *text, int64_t *at) {
    *at = s->text.len;
    espl_str_put(&s->text, text, (int64_t)strlen(text) + 1);
    return espl_str_status(&s->text);
}

/* Appends the names of one answer to the question's aliases. */
static espl_status freebaseqa_read_answer(espl_freebaseqa_source *s, const cJSON *answer, const char *where) {
    const cJSON *names = espl_json_member(answer, "AnswersName"), *name;
    if (!cJSON_IsObject(answer) || !cJSON_IsArray(names))
        return ESPL_FAIL(ESPL_FORMAT, "%s: an answer needs \"AnswersName\", a list", where);
    cJSON_ArrayForEach(name, names) {
        if (!cJSON_IsString(name)) return ESPL_FAIL(ESPL_FORMAT, "%s: \"AnswersName\" must hold strings", where);
        if (s->n_aliases == s->cap_aliases) {
            int64_t cap = s->cap_aliases ? s->cap_aliases * 2 : 256;
            ESPL_TRY(espl_mem_resize(&s->alias_at, cap, sizeof *s->alias_at, "answers"));
            s->cap_aliases = cap;
        }
        ESPL_TRY(freebaseqa_put_text(s, name->valuestring, &s->alias_at[s->n_aliases]));
        s->n_aliases++;
    }
    return ESPL_OK;
}

/* Reads one question into *q. A question whose answers have no name could never be answered: refused. */
static espl_status freebaseqa_read_question(espl_freebaseqa_source *s, const cJSON *item, const char *where,
                                            espl_freebaseqa_question *q) {
    const char *id = "", *question = NULL;
    const cJSON *parses = espl_json_member(item, "Parses"), *parse, *answer;
    if (!cJSON_IsObject(item)) return ESPL_FAIL(ESPL_FORMAT, "%s: not an object", where);
    ESPL_TRY(espl_json_get_str(item, "Question-ID", where, false, &id));
    ESPL_TRY(espl_json_get_str(item, "RawQuestion", where, true, &question));
    ESPL_TRY(freebaseqa_put_text(s, id, &q->id));
    ESPL_TRY(freebaseqa_put_text(s, question, &q->question));
    if (!cJSON_IsArray(parses)) return ESPL_FAIL(ESPL_FORMAT, "%s: \"Parses\" must be a list", where);
    bool first = true;
    q->alias = s->n_aliases;
    cJSON_ArrayForEach(parse, parses) {
        const cJSON *answers = espl_json_member(parse, "Answers");
        if (!cJSON_IsObject(parse) || !cJSON_IsArray(answers))
            return ESPL_FAIL(ESPL_FORMAT, "%s: a parse needs \"Answers\", a list", where);
        cJSON_ArrayForEach(answer, answers) {
            ESPL_TRY(freebaseqa_read_answer(s, answer, where));
            if (first) q->first_aliases = s->n_aliases - q->alias;
            first = false;
        }
    }
    q->aliases = s->n_aliases - q->alias;
    return q->aliases > 0 ? ESPL_OK : ESPL_FAIL(ESPL_FORMAT, "%s: no answer", where);
}

espl_status espl_freebaseqa_source_parse(const char *text, int64_t len, const char *name, espl_freebaseqa_source *out) {
    struct cJSON *doc;
    espl_status st;
    char where[FREEBASEQA_WHERE_BYTES];
    *out = (espl_freebaseqa_source){0};
    ESPL_TRY(espl_json_parse(text, len, name, &doc));
    const cJSON *list = cJSON_IsObject(doc) ? espl_json_member(doc, "Questions") : NULL, *item;
    if (!cJSON_IsArray(list)) {
        st = ESPL_FAIL(ESPL_FORMAT, "%s: \"Questions\" must be a list", name);
        goto done;
    }
    ESPL_CHECK(st, done,
               espl_mem_alloc(&out->questions, cJSON_GetArraySize(list), sizeof *out->questions, "questions"));
    cJSON_ArrayForEach(item, list) {
        snprintf(where, sizeof where, "%s: question %" PRId64, name, out->n);
        ESPL_CHECK(st, done, freebaseqa_read_question(out, item, where, &out->questions[out->n]));
        out->n++;
    }
done:
    espl_json_free(&doc);
    return st;
}

espl_status espl_freebaseqa_source_read(const char *path, espl_freebaseqa_source *out) {
    char *text;
    int64_t len;
    *out = (espl_freebaseqa_source){0};
    ESPL_TRY(espl_file_read(path, FREEBASEQA_MAX_BYTES, &text, &len));
    espl_status st = espl_freebaseqa_source_parse(text, len, path, out);
    espl_mem_free(&text);
    return st;
}

void espl_freebaseqa_source_free(espl_freebaseqa_source *s) {
    espl_mem_free(&s->questions);
    espl_mem_free(&s->alias_at);
    espl_str_free(&s->text);
    *s = (espl_freebaseqa_source){0};
}

void espl_freebaseqa_source_example(const espl_freebaseqa_source *s, int64_t i, espl_str *out) {
    const espl_freebaseqa_question *q = &s->questions[i];
    espl_str_printf(out, "Q: %s\nA: %s\n\n", s->text.data + q->question, s->text.data + s->alias_at[q->alias]);
}

void espl_freebaseqa_source_prompt(const espl_freebaseqa_source *s, espl_freebaseqa_mode mode, int64_t i,
                                   espl_str *out) {
    const char *question = s->text.data + s->questions[i].question;
    if (mode == ESPL_FREEBASEQA_LLM_KICK)
        espl_str_printf(out, "Please give answer to this question: %s\nThe answer is ", question);
    else
        espl_str_printf(out, "Q: %s\nA:", question);
}
