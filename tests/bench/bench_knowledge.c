/* SPDX-License-Identifier: Apache-2.0 */
/* What prefix reuse and batching save in knowledge benchmarks.
 *
 * usage: [mpirun -n N] bench_knowledge MODEL_DIR [--subjects 2] [--questions 100] [--prefix 600] [--own 110]
 *            [--qa 256] [--qa-prefix 130] [--qa-own 22] [--tokens 8] [--width 0] [--alone 8] [--batch 1024]
 *            [--rounds 3] [--cpu 0]
 *
 * Random token ids in the shape of the benchmarks (real MMLU, 5 shots: 613 shared tokens and 110 of its own a question,
 * 246 questions a subject, so 6.5 times fewer tokens; by SmolLM2's tokenizer). Alternates, per round:
 *
 *   MMLU    (a) `subjects` x `questions` prompts of `prefix` + `own` tokens, the prefix of a subject computed once
 *           (b) the same micro-batches with every prompt computed whole: "tokens recomputed"
 *   decode  (a) `qa` continuations of `tokens` tokens behind one prefix, batched
 *           (b) one after the other, each prompt computed whole, as `generate` does
 *           (c) one after the other behind the cached prefix
 *
 * The (b) and (c) take `alone` of the prompts: their time per prompt is what counts. Prints one JSON line: medians over
 * rounds of milliseconds per prompt, and of the ratios within a round. On a machine whose other processes share the
 * cores, take one rank, one thread and --cpu 1: CPU seconds of this process instead of the clock's. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "espalier/base/json_writer.h"
#include "espalier/eval/decode.h"
#include "espalier/eval/mmlu.h"
#include "espalier/model/forward.h"

enum { MAX_ROUNDS = 32 };

typedef struct bench {
    espl_comm *c;
    espl_model *m;
    int64_t subjects, questions, prefix, own, qa, qa_prefix, qa_own, tokens, width, alone, batch, rounds, cpu;
    espl_mmlu shared, whole;
    espl_prompts qa_prompts;
    int64_t *max_tokens, *n_out;
    int32_t *out;
} bench;

static double now(const bench *b) {
    struct timespec t;
    clock_gettime(b->cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* families x count prompts of prefix + own random ids; with `whole`, each prompt is a family of one. */
static espl_status make_prompts(int64_t vocab, int64_t families, int64_t count, int64_t prefix, int64_t own, bool whole,
                                espl_prompts *p) {
    espl_rng rng;
    int64_t n = families * count, each = whole ? prefix + own : own;
    *p = (espl_prompts){.n = n, .n_families = whole ? n : families};
    p->n_ids = n * each + (whole ? 0 : families * prefix);
    ESPL_TRY(espl_mem_alloc(&p->ids, p->n_ids, sizeof *p->ids, "ids"));
    ESPL_TRY(espl_mem_alloc(&p->families, p->n_families, sizeof *p->families, "families"));
    ESPL_TRY(espl_mem_alloc(&p->prompts, n, sizeof *p->prompts, "prompts"));
    espl_rng_seed(&rng, 1, 0, 0);
    for (int64_t i = 0; i < p->n_ids; i++) p->ids[i] = (int32_t)espl_rng_below(&rng, vocab);
    for (int64_t i = 0, at = 0; i < n; i++) {
        if (whole) p->families[i] = (espl_prompt_family){.first = i, .count = 1};
        if (!whole && i % count == 0) {
            p->families[i / count] = (espl_prompt_family){.at = at, .n = prefix, .first = i, .count = count};
            at += prefix;
        }
        p->prompts[i] = (espl_prompt){.at = at, .n = each};
        at += each;
    }
    return ESPL_OK;
}

static espl_status make_mmlu(bench *b, int64_t vocab, bool whole, espl_mmlu *set) {
    int64_t subjects = whole ? 1 : b->subjects, questions = whole ? b->alone : b->questions;
    *set = (espl_mmlu){.n_subjects = 1, .n = subjects * questions, .letters = {1, 2, 3, 4}};
    ESPL_TRY(espl_mem_alloc(&set->subjects, 1, sizeof *set->subjects, "subjects"));
    ESPL_TRY(espl_mem_alloc(&set->questions, set->n, sizeof *set->questions, "questions"));
    return make_prompts(vocab, subjects, questions, b->prefix, b->own, whole, &set->prompts);
}

static espl_status open_all(bench *b, const char *dir) {
    espl_model_config config;
    espl_model_options o = {.batch_tokens = b->batch, .logits_rows = 1};
    ESPL_TRY(espl_model_config_read(dir, &config));
    ESPL_TRY(make_mmlu(b, config.vocab, false, &b->shared));
    ESPL_TRY(make_mmlu(b, config.vocab, true, &b->whole));
    ESPL_TRY(make_prompts(config.vocab, 1, b->qa, b->qa_prefix, b->qa_own, false, &b->qa_prompts));
    ESPL_TRY(espl_mem_alloc(&b->max_tokens, b->qa, sizeof *b->max_tokens, "bench"));
    ESPL_TRY(espl_mem_alloc(&b->n_out, b->qa, sizeof *b->n_out, "bench"));
    ESPL_TRY(espl_mem_alloc(&b->out, b->qa * b->tokens, sizeof *b->out, "bench"));
    for (int64_t i = 0; i < b->qa; i++) b->max_tokens[i] = b->tokens;
    espl_prompts_need(&b->shared.prompts, &o);
    espl_prompts_need(&b->whole.prompts, &o);
    espl_decode_need(&b->qa_prompts, &(espl_decoding){.max_tokens = b->max_tokens, .width = b->width}, &config, &o);
    espl_model_config_free(&config);
    return espl_model_open(b->c, dir, &o, &b->m);
}

static double time_mmlu(bench *b, const espl_mmlu *set) {
    espl_mmlu_result r;
    double start = now(b);
    if (espl_eval_mmlu(b->c, b->m, set, &r) == ESPL_OK) espl_mmlu_result_free(&r);
    return (now(b) - start) / (double)set->n;
}

static double time_batched(bench *b) {
    double start = now(b);
    espl_decoding d = {.max_tokens = b->max_tokens, .width = b->width};
    espl_eval_decode(b->c, b->m, &b->qa_prompts, &d, b->out, b->n_out);
    return (now(b) - start) / (double)b->qa;
}

static void feed(bench *b, espl_segment s) {
    espl_batch batch = {.segments = &s, .n = 1};
    espl_model_run(b->m, &batch, 1, NULL, NULL);
}

/* Each question alone, as `generate` does it: its prompt, whole or behind the prefix computed once, then token by
 * token; an end-of-sequence token does not end it, as in the batched runs. */
static double time_alone(bench *b, bool whole) {
    const espl_prompts *p = &b->qa_prompts;
    int last = espl_comm_size(b->c) - 1;
    const espl_segment prefix = {.n = b->qa_prefix, .ids = p->ids};
    if (!whole) feed(b, prefix);
    double start = now(b);
    for (int64_t i = 0; i < b->alone; i++) {
        int32_t id = 0, fed;
        espl_segment s = {.slot = 1, .pos = b->qa_prefix, .prefix_n = b->qa_prefix, .n = b->qa_own, .greedy = &id};
        s.ids = p->ids + p->prompts[i].at;
        if (whole) feed(b, prefix);
        for (int64_t t = 0; t < b->tokens; t++) {
            feed(b, s);
            espl_comm_broadcast(b->c, &id, sizeof id, last);
            fed = id;
            s.pos += s.n;
            s.n = 1;
            s.ids = &fed;
        }
    }
    return (now(b) - start) / (double)b->alone;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *v, int64_t n) {
    double sorted[MAX_ROUNDS];
    memcpy(sorted, v, (size_t)n * sizeof *v);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* Tokens of the MMLU prompts when every prefix is recomputed, over those with each prefix computed once. */
static double token_ratio(const bench *b) {
    double own = (double)(b->questions * b->own);
    return ((double)(b->questions * b->prefix) + own) / ((double)b->prefix + own);
}

static espl_status run(bench *b, const char *dir) {
    enum { SHARED, WHOLE, BATCHED, GENERATE, ONE, KINDS };
    static const int pairs[][2] = {{SHARED, WHOLE}, {BATCHED, GENERATE}, {BATCHED, ONE}};
    double t[KINDS][MAX_ROUNDS], ratio[3][MAX_ROUNDS];
    ESPL_TRY(open_all(b, dir));
    time_batched(b); /* warm: pages mapped */
    for (int64_t r = 0; r < b->rounds; r++) {
        t[SHARED][r] = time_mmlu(b, &b->shared);
        t[WHOLE][r] = time_mmlu(b, &b->whole);
        t[BATCHED][r] = time_batched(b);
        t[GENERATE][r] = time_alone(b, true);
        t[ONE][r] = time_alone(b, false);
        for (int k = 0; k < 3; k++) ratio[k][r] = t[pairs[k][1]][r] / t[pairs[k][0]][r];
    }
    if (espl_comm_rank(b->c) != 0) return ESPL_OK;
    espl_str line = {0};
    espl_json_writer w = espl_json_writer_on(&line);
    espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
    espl_json_put_text(&w, "model", dir);
    espl_json_put_i64(&w, "ranks", espl_comm_size(b->c));
    espl_json_put_i64(&w, "threads", espl_tensor_threads());
    espl_json_put_text(&w, "clock", b->cpu ? "cpu" : "wall");
    espl_json_put_i64(&w, "rounds", b->rounds);
    espl_json_open_object(&w, "mmlu", ESPL_JSON_SPACED);
    espl_json_put_i64(&w, "prompts", b->shared.n);
    espl_json_put_i64(&w, "prefix", b->prefix);
    espl_json_put_i64(&w, "own", b->own);
    espl_json_put_fixed(&w, "ms", 1e3 * median(t[SHARED], b->rounds), 3);
    espl_json_put_fixed(&w, "recomputed_ms", 1e3 * median(t[WHOLE], b->rounds), 3);
    espl_json_put_fixed(&w, "token_ratio", token_ratio(b), 2);
    espl_json_put_fixed(&w, "ratio", median(ratio[0], b->rounds), 2);
    espl_json_close(&w);
    espl_json_open_object(&w, "decode", ESPL_JSON_SPACED);
    espl_json_put_i64(&w, "questions", b->qa);
    espl_json_put_i64(&w, "prefix", b->qa_prefix);
    espl_json_put_i64(&w, "own", b->qa_own);
    espl_json_put_i64(&w, "tokens", b->tokens);
    espl_json_put_fixed(&w, "ms", 1e3 * median(t[BATCHED], b->rounds), 3);
    espl_json_put_fixed(&w, "generate_ms", 1e3 * median(t[GENERATE], b->rounds), 3);
    espl_json_put_fixed(&w, "one_by_one_cached_ms", 1e3 * median(t[ONE], b->rounds), 3);
    espl_json_put_fixed(&w, "ratio_generate", median(ratio[1], b->rounds), 2);
    espl_json_put_fixed(&w, "ratio_cached", median(ratio[2], b->rounds), 2);
    espl_json_close(&w);
    espl_json_close(&w);
    espl_status st = espl_str_status(&line);
    if (st == ESPL_OK) puts(line.data);
    espl_str_free(&line);
    return st;
}

static void bench_free(bench *b) {
    espl_model_close(&b->m);
    espl_mmlu_free(&b->shared);
    espl_mmlu_free(&b->whole);
    espl_prompts_free(&b->qa_prompts);
    espl_mem_free(&b->max_tokens);
    espl_mem_free(&b->n_out);
    espl_mem_free(&b->out);
}

static void take_option(bench *b, const char *name, const char *value) {
    const struct {
        const char *name;
        int64_t *at;
    } table[] = {{"--subjects", &b->subjects},
                 {"--questions", &b->questions},
                 {"--prefix", &b->prefix},
                 {"--own", &b->own},
                 {"--qa", &b->qa},
                 {"--qa-prefix", &b->qa_prefix},
                 {"--qa-own", &b->qa_own},
                 {"--tokens", &b->tokens},
                 {"--alone", &b->alone},
                 {"--batch", &b->batch},
                 {"--width", &b->width},
                 {"--rounds", &b->rounds},
                 {"--cpu", &b->cpu}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, name) == 0) *table[i].at = strtoll(value, NULL, 10);
}

static espl_status check_options(const bench *b) {
    if (b->rounds < 1 || b->rounds > MAX_ROUNDS)
        return ESPL_FAIL(ESPL_USAGE, "--rounds: from 1 to %d", (int)MAX_ROUNDS);
    if (b->alone < 2 || b->alone > b->qa) return ESPL_FAIL(ESPL_USAGE, "--alone: from 2 to what --qa says");
    return ESPL_OK;
}

int main(int argc, char **argv) {
    bench b = {.subjects = 2, .questions = 100, .prefix = 600, .own = 110, .qa = 256};
    b.qa_prefix = 130;
    b.qa_own = 22;
    b.tokens = 8;
    b.alone = 8;
    b.batch = 1024;
    b.rounds = 3;
    if (espl_comm_create(&argc, &argv, &b.c) != ESPL_OK) return 1;
    espl_log_init(ESPL_LOG_QUIET, espl_comm_rank(b.c));
    espl_tensor_blas_init();
    for (int i = 2; i + 1 < argc; i += 2) take_option(&b, argv[i], argv[i + 1]);
    espl_status st = argc < 2 ? ESPL_FAIL(ESPL_USAGE, "bench_knowledge MODEL_DIR [options]") : check_options(&b);
    if (st == ESPL_OK) st = espl_comm_agree(b.c, run(&b, argv[1]));
    if (st != ESPL_OK && espl_comm_rank(b.c) == 0) fprintf(stderr, "%s\n", espl_base_error_text());
    bench_free(&b);
    espl_comm_destroy(&b.c);
    return espl_status_exit_code(st);
}
