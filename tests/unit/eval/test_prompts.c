/* SPDX-License-Identifier: Apache-2.0 */
/* Prompts byte for byte against the goldens, refused question files, common prefixes, and the packing: no prompt may
 * read a cache row that does not hold its own tokens or its prefix. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "choices/source.h"
#include "freebaseqa/source.h"
#include "mmlu/source.h"
#include "packing.h"
#include "prompt_builder.h"

static const char *root(void) {
    const char *r = getenv("ESPL_TEST_ROOT");
    return r ? r : "tests";
}

static void path_of(char *out, const char *name) { snprintf(out, 4096, "%s/golden/knowledge/%s", root(), name); }

static struct cJSON *goldens(void) {
    char path[4096];
    struct cJSON *doc;
    path_of(path, "prompts.json");
    if (espl_json_read(path, 1 << 20, &doc) != ESPL_OK) fail_msg("%s", espl_base_error_text());
    return doc;
}

static const char *text_of(const cJSON *item, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(item, key)->valuestring;
}

static int number_of(const cJSON *item, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(item, key)->valueint;
}

static void check_mmlu(const cJSON *item, const char *dir) {
    espl_mmlu_options o = {
        .dir = dir, .split = ESPL_MMLU_SPLIT_TEST, .shots = number_of(item, "shots"), .context = 512};
    o.style = strcmp(text_of(item, "style"), "lm-eval") == 0 ? ESPL_MMLU_LM_EVAL : ESPL_MMLU_HENDRYCKS;
    espl_mmlu_source s;
    espl_str got = {0};
    int64_t subject = 0;
    if (espl_mmlu_source_read(&o, &s) != ESPL_OK) fail_msg("%s", espl_base_error_text());
    while (strcmp(s.subjects[subject].name, text_of(item, "subject")) != 0) subject++;
    espl_mmlu_source_prompt(&s, subject, number_of(item, "row"), o.shots, &got);
    assert_string_equal(got.data, text_of(item, "prompt"));
    espl_str_free(&got);
    espl_mmlu_source_free(&s);
}

static void test_mmlu_prompts_equal_published_code(void **state) {
    (void)state;
    char dir[4096];
    struct cJSON *doc = goldens();
    const cJSON *item;
    path_of(dir, "mmlu");
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(doc, "mmlu")) check_mmlu(item, dir);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(doc, "mmlu")), 20);
    espl_json_free(&doc);
}

static void test_freebaseqa_prompts_equal_goldens(void **state) {
    (void)state;
    char path[4096];
    struct cJSON *doc = goldens();
    espl_freebaseqa_source s;
    const cJSON *item;
    int64_t i = 2;
    path_of(path, "freebaseqa.json");
    if (espl_freebaseqa_source_read(path, &s) != ESPL_OK) fail_msg("%s", espl_base_error_text());
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(doc, "freebaseqa")) {
        espl_str got = {0};
        for (int64_t k = 0; k < 2; k++) espl_freebaseqa_source_example(&s, k, &got);
        espl_freebaseqa_source_prompt(&s, ESPL_FREEBASEQA_STANDARD, i++, &got);
        assert_string_equal(got.data, item->valuestring);
        espl_str_free(&got);
    }
    assert_int_equal(i, s.n);
    i = 0;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(doc, "llm_kick")) {
        espl_str got = {0};
        espl_freebaseqa_source_prompt(&s, ESPL_FREEBASEQA_LLM_KICK, i++, &got);
        assert_string_equal(got.data, item->valuestring);
        espl_str_free(&got);
    }
    assert_int_equal(s.questions[2].aliases, 4);
    assert_int_equal(s.questions[2].first_aliases, 2);
    espl_freebaseqa_source_free(&s);
    espl_json_free(&doc);
}

static void refuses_freebaseqa(const char *text, const char *words) {
    espl_freebaseqa_source s;
    espl_status st = espl_freebaseqa_source_parse(text, (int64_t)strlen(text), "f.json", &s);
    if (st != ESPL_FORMAT || !strstr(espl_base_error_text(), words))
        fail_msg("%s: got %s \"%s\"", text, espl_status_name(st), espl_base_error_text());
    espl_freebaseqa_source_free(&s);
}

static void test_malformed_freebaseqa_is_refused(void **state) {
    (void)state;
    refuses_freebaseqa("[]", "f.json: \"Questions\" must be a list");
    refuses_freebaseqa("{\"Questions\": [3]}", "f.json: question 0: not an object");
    refuses_freebaseqa("{\"Questions\": [{}]}", "question 0: \"RawQuestion\" is missing");
    refuses_freebaseqa("{\"Questions\": [{\"RawQuestion\": \"x\"}]}", "\"Parses\" must be a list");
    refuses_freebaseqa("{\"Questions\": [{\"RawQuestion\": \"x\", \"Parses\": []}]}", "question 0: no answer");
    refuses_freebaseqa("{\"Questions\": [{\"RawQuestion\": \"x\", \"Parses\": [{}]}]}", "\"Answers\", a list");
    refuses_freebaseqa("{\"Questions\": [{\"RawQuestion\": \"x\", \"Parses\": [{\"Answers\": [{}]}]}]}", "AnswersName");
    refuses_freebaseqa(
        "{\"Questions\": [{\"RawQuestion\": \"x\", \"Parses\": [{\"Answers\": [{\"AnswersName\": [1]}]}]}]}",
        "must hold strings");
    refuses_freebaseqa("{\"Questions\": [{\"RawQuestion\": 5}]}", "must be a string");
}

static void refuses_choices(const char *text, const char *words) {
    espl_choices_source s;
    espl_status st = espl_choices_source_parse(text, (int64_t)strlen(text), "c.jsonl", &s);
    if (st != ESPL_FORMAT || !strstr(espl_base_error_text(), words))
        fail_msg("%s: got %s \"%s\"", text, espl_status_name(st), espl_base_error_text());
    espl_choices_source_free(&s);
}

static void test_malformed_choices_are_refused(void **state) {
    (void)state;
    refuses_choices("", "c.jsonl: no questions");
    refuses_choices("\n{", "c.jsonl: line 2: not valid JSON");
    refuses_choices("7", "line 1: not an object");
    refuses_choices("{\"context\": \"x\"}", "\"choices\" must be a list of 2");
    refuses_choices("{\"context\": \"x\", \"choices\": [\"a\"], \"answer\": 0}", "must be a list of 2");
    refuses_choices("{\"context\": \"x\", \"choices\": [\"a\", \"b\"]}", "\"answer\" is missing");
    refuses_choices("{\"context\": \"x\", \"choices\": [\"a\", \"b\"], \"answer\": 2}", "expected 0 to 1");
    refuses_choices("{\"context\": \"x\", \"choices\": [\"a\", \"\"], \"answer\": 0}", "choice 1 is empty");
    refuses_choices("{\"context\": \"x\", \"choices\": [\"a\", 3], \"answer\": 0}", "\"choices\" must be text");
    refuses_choices("{\"choices\": [\"a\", \"b\"], \"answer\": 0}", "\"context\" must be text");
    refuses_choices("{\"context\": [\"x\"], \"choices\": [\"a\", \"b\"], \"answer\": 0}", "1 contexts for 2 choices");
}

static void test_missing_mmlu_files_are_refused(void **state) {
    (void)state;
    espl_mmlu_source s;
    char dir[4096];
    espl_mmlu_options o = {.dir = "nowhere", .split = ESPL_MMLU_SPLIT_TEST};
    assert_int_equal(espl_mmlu_source_read(&o, &s), ESPL_IO);
    espl_mmlu_source_free(&s);
    path_of(dir, "mmlu");
    o.dir = dir;
    o.split = ESPL_MMLU_SPLIT_VAL;
    assert_int_equal(espl_mmlu_source_read(&o, &s), ESPL_IO);
    espl_mmlu_source_free(&s);
}

/* ------------------------------------------------------- families, packing */

/* Families of 1 to 12 prompts with random common prefixes. Ids take three values, so that prompts also agree by
 * chance. */
static void random_prompts(espl_rng *r, espl_prompt_builder *b, int64_t families, int64_t longest) {
    int32_t ids[4096];
    for (int64_t f = 0; f < families; f++) {
        int64_t shared = espl_rng_below(r, longest), count = 1 + espl_rng_below(r, 12);
        for (int64_t i = 0; i < shared; i++) ids[i] = (int32_t)espl_rng_below(r, 3);
        for (int64_t k = 0; k < count; k++) {
            int64_t n = shared + 1 + espl_rng_below(r, longest / 2), scored = 1 + espl_rng_below(r, n < 4 ? n : 4);
            for (int64_t i = shared; i < n; i++) ids[i] = (int32_t)espl_rng_below(r, 3);
            assert_int_equal(espl_prompt_builder_add(b, ids, n, scored, f), ESPL_OK);
        }
    }
}

/* The prefix and its own ids give each prompt back, and scored positions are never shared. */
static void check_families(const espl_prompt_builder *b, const espl_prompts *p) {
    assert_non_null(b->prompts);
    if (!b->prompts) return; /* the analyser does not know that the assertion ends the test */
    for (int64_t f = 0; f < p->n_families; f++) {
        const espl_prompt_family *g = &p->families[f];
        for (int64_t i = g->first; i < g->first + g->count; i++) {
            const espl_full_prompt *c = &b->prompts[i];
            const espl_prompt *q = &p->prompts[i];
            assert_int_equal(g->n + q->n, c->n);
            assert_true(q->n >= c->scored);
            assert_memory_equal(p->ids + g->at, b->ids.data + c->at, (size_t)g->n * sizeof(int32_t));
            assert_memory_equal(p->ids + q->at, b->ids.data + c->at + g->n, (size_t)q->n * sizeof(int32_t));
        }
    }
}

enum { SLOTS = 2, MAX_ROWS = 8192 };

/* Replays micro-batches on a cache as the forward pass uses it: all segments of a micro-batch are stored, then read.
 * Prompts first .. last - 1 must be read as a whole. */
static void replay_packing(const espl_prompts *p, const espl_packing *k, const espl_model_options *o,
                           const espl_batch *batches, int64_t n_batches, int64_t first, int64_t last) {
    static int32_t cache[SLOTS][MAX_ROWS];
    int64_t *seen = calloc((size_t)p->n, sizeof *seen);
    memset(cache, -1, sizeof cache);
    for (int64_t b = 0; b < n_batches; b++) {
        int64_t tokens = 0;
        const espl_segment *segments = batches[b].segments;
        for (int64_t i = 0; i < batches[b].n; i++) {
            const espl_segment *s = &segments[i];
            int64_t row = s->row + s->pos - s->prefix_n;
            assert_true(s->n >= 1 && row >= 0 && row + s->n <= o->context && s->pos + s->n <= o->context);
            memcpy(&cache[s->slot][row], s->ids, (size_t)s->n * sizeof(int32_t));
            tokens += s->n;
        }
        assert_true(tokens <= o->batch_tokens);
        for (int64_t i = 0; i < batches[b].n; i++) {
            const espl_segment *s = &segments[i];
            int64_t owner = k->owner[&segments[i] - k->segments];
            if (owner < first || owner >= last) continue; /* prefixes have owner -1 */
            const espl_prompt_family *g = p->families;
            while (owner >= g->first + g->count) g++;
            assert_int_equal(s->prefix_n, g->n);
            assert_memory_equal(&cache[s->prefix_slot][s->prefix_row], p->ids + g->at, (size_t)g->n * 4);
            assert_memory_equal(&cache[s->slot][s->row], p->ids + p->prompts[owner].at,
                                (size_t)(s->pos + s->n - s->prefix_n) * 4);
            assert_int_equal(seen[owner], s->pos - g->n);
            seen[owner] += s->n;
            assert_int_equal(espl_packing_ends_prompt(k, p, &segments[i] - k->segments),
                             seen[owner] == p->prompts[owner].n);
        }
    }
    for (int64_t i = first; i < last; i++) assert_int_equal(seen[i], p->prompts[i].n);
    free(seen);
}

/* The parts of up to MAX_REPLICAS replicas are the whole, and each holds what its prompts read. */
static void replay_shares(const espl_prompts *p, const espl_packing *k, const espl_model_options *o) {
    enum { MAX_REPLICAS = 5 };
    for (int replicas = 1; replicas <= MAX_REPLICAS; replicas++) {
        int64_t next = 0;
        for (int r = 0; r < replicas; r++) {
            espl_packing_part part;
            assert_int_equal(espl_packing_share(k, p, replicas, r, &part), ESPL_OK);
            assert_int_equal(part.prompts[r], next);
            next = part.prompts[r + 1];
            replay_packing(p, k, o, part.batches, part.n, part.prompts[r], next);
            if (replicas == 1) assert_int_equal(part.n, k->n_batches);
            espl_packing_part_free(&part);
        }
        assert_int_equal(next, p->n);
    }
}

static void test_packing_keeps_prefixes_in_the_cache(void **state) {
    (void)state;
    int64_t before = espl_mem_balance();
    for (uint64_t seed = 0; seed < 300; seed++) {
        espl_rng r;
        espl_prompt_builder b = {0};
        espl_prompts p;
        espl_packing k;
        espl_rng_seed(&r, seed, 0, 0);
        int64_t batch = 8 + espl_rng_below(&r, 120);
        random_prompts(&r, &b, 1 + espl_rng_below(&r, 12), 4 + espl_rng_below(&r, seed % 3 ? 40 : 400));
        assert_int_equal(espl_prompt_builder_finish(&b, &p), ESPL_OK);
        check_families(&b, &p);
        espl_model_options o = {.batch_tokens = batch};
        espl_prompts_need(&p, &o);
        assert_true(o.slots == SLOTS && o.context <= MAX_ROWS);
        assert_int_equal(espl_packing_create(&p, &o, &k), ESPL_OK);
        replay_packing(&p, &k, &o, k.batches, k.n_batches, 0, p.n);
        replay_shares(&p, &k, &o);
        espl_packing_free(&k);
        espl_prompts_free(&p);
        espl_prompt_builder_free(&b);
    }
    assert_int_equal(espl_mem_balance(), before);
}

static void test_packing_refuses_small_models(void **state) {
    (void)state;
    const int32_t ids[64] = {0};
    espl_prompt_builder b = {0};
    espl_prompts p;
    espl_packing k;
    assert_int_equal(espl_prompt_builder_add(&b, ids, 64, 1, 0), ESPL_OK);
    assert_int_equal(espl_prompt_builder_finish(&b, &p), ESPL_OK);
    espl_model_options o = {.batch_tokens = 8, .context = 63, .slots = 2};
    assert_int_equal(espl_packing_create(&p, &o, &k), ESPL_CONFIG);
    o.context = 64;
    assert_int_equal(espl_packing_create(&p, &o, &k), ESPL_OK);
    espl_packing_free(&k);
    o.slots = 1;
    assert_int_equal(espl_packing_create(&p, &o, &k), ESPL_CONFIG);
    espl_prompts_free(&p);
    espl_prompt_builder_free(&b);
}

static void test_categories_are_those_of_hendrycks(void **state) {
    (void)state;
    assert_int_equal(espl_mmlu_category_of("anatomy"), ESPL_MMLU_OTHER); /* lm-eval: STEM */
    assert_int_equal(espl_mmlu_category_of("astronomy"), ESPL_MMLU_STEM);
    assert_int_equal(espl_mmlu_category_of("professional_law"), ESPL_MMLU_HUMANITIES);
    assert_int_equal(espl_mmlu_category_of("sociology"), ESPL_MMLU_SOCIAL);
    assert_int_equal(espl_mmlu_category_of("airports"), ESPL_MMLU_OTHER);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mmlu_prompts_equal_published_code),
        cmocka_unit_test(test_freebaseqa_prompts_equal_goldens),
        cmocka_unit_test(test_malformed_freebaseqa_is_refused),
        cmocka_unit_test(test_malformed_choices_are_refused),
        cmocka_unit_test(test_missing_mmlu_files_are_refused),
        cmocka_unit_test(test_packing_keeps_prefixes_in_the_cache),
        cmocka_unit_test(test_packing_refuses_small_models),
        cmocka_unit_test(test_categories_are_those_of_hendrycks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
