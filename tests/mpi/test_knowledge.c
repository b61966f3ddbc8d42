/* SPDX-License-Identifier: Apache-2.0 */
/* Shared prefixes, packed micro-batches and batched decoding against the plain way, on any number of ranks.
 *
 * usage: mpirun -n N test_knowledge GOLDEN_DIR MODEL_DIR...
 * For each model: random prompt families and the golden MMLU, FreebaseQA and multiple-choice questions are evaluated
 * in small micro-batches (prefixes cached, sequences side by side), and again one by one with everything recomputed.
 * Answers must be equal; logits and log-probabilities close. Prints hashes of the results' bits for
 * tests/mpi/compare_np.sh. Exit 0: all hold. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/eval/choices.h"
#include "espalier/eval/decode.h"
#include "espalier/eval/freebaseqa.h"
#include "espalier/eval/mmlu.h"
#include "espalier/model/forward.h"
#include "harness.h"

/* Batching changes the order of sums, not more. */
static const double CLOSE = 1e-4;
enum { CONTEXT = 200, BATCH = 40, VOCAB_USED = 64 };

typedef struct run {
    harness *h;
    espl_comm *c;
    espl_model *m;
    espl_tokenizer *t; /* rank 0 */
    const char *golden, *dir;
} run;

static void close_to(run *r, const char *what, double got, double want) {
    double d = fabs(got - want);
    r->h->worst = fmax(r->h->worst, d);
    if (!(d <= CLOSE)) harness_fail(r->h, "%s: %.9g, one by one %.9g", what, got, want);
}

static void print_hash(run *r, const char *what, const void *data, int64_t bytes) {
    if (espl_comm_rank(r->c) == 0)
        espl_str_printf(&r->h->lines, "%s %s %016llx\n", harness_base_name(r->dir), what,
                        (unsigned long long)espl_hash64(data, bytes, 0));
}

static void open_model(run *r, const espl_model_options *o) {
    espl_model_close(&r->m);
    check(r, espl_model_open(r->c, r->dir, o, &r->m) == ESPL_OK, "open");
}

/* The whole prompt as one sequence in slot 0, in pieces of a micro-batch. */
static void run_alone(run *r, const espl_prompts *p, int64_t family, int64_t prompt, espl_segment last) {
    static int32_t ids[1 << 14];
    const espl_prompt_family *f = &p->families[family];
    const espl_prompt *q = &p->prompts[prompt];
    int64_t n = f->n + q->n;
    memcpy(ids, p->ids + f->at, (size_t)f->n * sizeof *ids);
    memcpy(ids + f->n, p->ids + q->at, (size_t)q->n * sizeof *ids);
    for (int64_t at = 0, k; at < n; at += k) {
        k = n - at < BATCH ? n - at : BATCH;
        espl_segment s = {.pos = at, .n = k, .ids = ids + at};
        if (at + k == n) {
            s.selected = last.selected;
            s.n_selected = last.n_selected;
            s.selected_logits = last.selected_logits;
            s.greedy = last.greedy;
        }
        espl_batch b = {.segments = &s, .n = 1};
        check(r, espl_model_run(r->m, &b, 1, NULL, NULL) == ESPL_OK, "one by one");
    }
}

/* ------------------------------------------------------- random families */

/* As the eval room builds them, but here by hand: families of prompts with a common beginning. */
static void random_prompts(espl_rng *g, int64_t families, int64_t longest, espl_prompts *p) {
    espl_mem_alloc(&p->families, families, sizeof *p->families, "families");
    espl_mem_alloc(&p->prompts, families * 8, sizeof *p->prompts, "prompts");
    espl_mem_alloc(&p->ids, families * 9 * longest, sizeof *p->ids, "ids");
    for (int64_t f = 0; f < families; f++) {
        espl_prompt_family *x = &p->families[p->n_families++];
        *x = (espl_prompt_family){.at = p->n_ids, .n = espl_rng_below(g, longest), .first = p->n};
        x->count = 1 + espl_rng_below(g, 8);
        p->n_ids += x->n;
        for (int64_t i = 0; i < x->count; i++) {
            espl_prompt *q = &p->prompts[p->n++];
            *q = (espl_prompt){.at = p->n_ids, .n = 1 + espl_rng_below(g, longest / 2)};
            p->n_ids += q->n;
        }
    }
    for (int64_t i = 0; i < p->n_ids; i++) p->ids[i] = (int32_t)espl_rng_below(g, VOCAB_USED);
}

/* Random prompts as an MMLU set without texts. */
static void random_mmlu(run *r, uint64_t seed, espl_mmlu *set) {
    espl_rng g;
    espl_rng_seed(&g, seed, 0, 0);
    *set = (espl_mmlu){.n_subjects = 1, .letters = {7, 11, 13, 17}};
    random_prompts(&g, 9, seed % 2 ? 100 : 20, &set->prompts);
    set->n = set->prompts.n;
    check(r, espl_mem_alloc(&set->subjects, 1, sizeof *set->subjects, "subjects") == ESPL_OK, "memory");
    check(r, espl_mem_alloc(&set->questions, set->n, sizeof *set->questions, "questions") == ESPL_OK, "memory");
}

static void compare_mmlu(run *r, const espl_mmlu *set, const char *what) {
    espl_mmlu_result got;
    float logits[4] = {0};
    bool last = harness_is_last_rank(r->h);
    check(r, espl_eval_mmlu(r->c, r->m, set, &got) == ESPL_OK, what);
    if (!got.answers) return;
    for (int64_t f = 0; f < set->prompts.n_families; f++) {
        const espl_prompt_family *x = &set->prompts.families[f];
        for (int64_t i = x->first; i < x->first + x->count; i++) {
            espl_segment s = {.selected = set->letters, .n_selected = 4, .selected_logits = logits};
            run_alone(r, &set->prompts, f, i, s);
            if (!last) continue;
            int best = 0;
            for (int k = 0; k < 4; k++) {
                close_to(r, what, (double)got.answers[i].logits[k], (double)logits[k]);
                best = logits[k] > logits[best] ? k : best;
            }
            check(r, best == got.answers[i].choice, "the same answer");
        }
    }
    print_hash(r, what, got.answers, set->n * (int64_t)sizeof *got.answers);
    espl_mmlu_result_free(&got);
}

static void families(run *r) {
    for (uint64_t seed = 1; seed <= 4; seed++) {
        espl_mmlu set;
        random_mmlu(r, seed, &set);
        espl_model_options o = {.batch_tokens = BATCH};
        espl_prompts_need(&set.prompts, &o);
        open_model(r, &o);
        if (r->m) compare_mmlu(r, &set, "families");
        espl_mmlu_free(&set);
    }
}

static void golden_mmlu(run *r) {
    char dir[4096];
    snprintf(dir, sizeof dir, "%s/mmlu", r->golden);
    for (int style = 0; style < ESPL_MMLU_STYLE_COUNT; style++) {
        espl_mmlu set;
        espl_mmlu_options q = {
            .dir = dir, .split = ESPL_MMLU_SPLIT_TEST, .shots = 2, .context = 320, .style = (espl_mmlu_style)style};
        espl_model_options o = {.batch_tokens = BATCH};
        check(r, espl_mmlu_read(r->c, r->t, &q, &set) == ESPL_OK, "golden MMLU");
        if (!set.n) continue;
        check(r, set.n == 5 && set.n_subjects == 2, "the number of golden questions");
        espl_prompts_need(&set.prompts, &o);
        open_model(r, &o);
        if (r->m) compare_mmlu(r, &set, espl_mmlu_style_name(q.style));
        espl_mmlu_free(&set);
    }
}

/* -------------------------------------------------------------- decoding */

static int64_t continue_alone(run *r, const espl_prompts *p, int64_t i, const espl_decoding *d, int32_t *out) {
    int32_t id = 0;
    int64_t n = 0, at = p->families[0].n + p->prompts[i].n;
    int root = espl_comm_size(r->c) - 1;
    run_alone(r, p, 0, i, (espl_segment){.greedy = &id});
    for (;;) {
        espl_comm_broadcast(r->c, &id, sizeof id, root);
        uint8_t stop = id < d->n_stops ? d->stops[id] : 0;
        if (stop != ESPL_STOP_DROP) out[n++] = id;
        if (stop || n == d->max_tokens[i]) return n;
        int32_t fed = id;
        espl_segment s = {.pos = at++, .n = 1, .ids = &fed, .greedy = &id};
        espl_batch b = {.segments = &s, .n = 1};
        check(r, espl_model_run(r->m, &b, 1, NULL, NULL) == ESPL_OK, "one token");
    }
}

/* One family; continuations of 1 to 12 tokens; a tenth of the vocabulary ends them. */
static void decode_with(run *r, int64_t prompts, int64_t prefix, int64_t width) {
    enum { MAX_TOKENS = 12, PROMPTS = 64 };
    espl_rng g;
    espl_prompts p = {0};
    int64_t max_tokens[PROMPTS], n[PROMPTS] = {0}, total = 0;
    int32_t out[PROMPTS * MAX_TOKENS] = {0}, want[MAX_TOKENS];
    uint8_t stops[4096] = {0};
    espl_rng_seed(&g, (uint64_t)(prompts + prefix), 1, 0);
    random_prompts(&g, 1, 60, &p);
    p.families[0] = (espl_prompt_family){.at = 0, .n = prefix, .count = prompts};
    espl_mem_resize(&p.prompts, prompts, sizeof *p.prompts, "prompts");
    p.n = prompts;
    p.n_ids = prefix;
    espl_mem_resize(&p.ids, prefix + prompts * 50, sizeof *p.ids, "ids");
    for (int64_t i = 0; i < prompts; i++) {
        p.prompts[i] = (espl_prompt){.at = p.n_ids, .n = 1 + espl_rng_below(&g, i % 5 ? 8 : 50)};
        p.n_ids += p.prompts[i].n;
        max_tokens[i] = 1 + espl_rng_below(&g, MAX_TOKENS);
    }
    for (int64_t i = 0; i < p.n_ids; i++) p.ids[i] = (int32_t)espl_rng_below(&g, VOCAB_USED);
    for (size_t i = 0; i < sizeof stops; i++) stops[i] = (uint8_t)(espl_rng_below(&g, 20) < 2 ? 1 + i % 2 : 0);
    espl_decoding d = {
        .max_tokens = max_tokens, .stops = stops, .n_stops = espl_model_config_of(r->m)->vocab, .width = width};
    espl_model_options o = {.batch_tokens = BATCH};
    espl_decode_need(&p, &d, espl_model_config_of(r->m), &o);
    open_model(r, &o);
    check(r, espl_eval_decode(r->c, r->m, &p, &d, out, n) == ESPL_OK, "decode");
    for (int64_t i = 0; i < prompts; total += max_tokens[i++]) {
        int64_t k = continue_alone(r, &p, i, &d, want);
        check(r, k == n[i] && memcmp(want, out + total, (size_t)k * sizeof *want) == 0, "the same continuation");
    }
    print_hash(r, "decode", out, total * (int64_t)sizeof *out);
    espl_prompts_free(&p);
}

static void golden_freebaseqa(run *r) {
    char path[4096];
    snprintf(path, sizeof path, "%s/freebaseqa.json", r->golden);
    for (int mode = 0; mode < ESPL_FREEBASEQA_MODE_COUNT; mode++) {
        espl_freebaseqa set;
        espl_freebaseqa_result got;
        espl_freebaseqa_options q = {.path = path, .mode = (espl_freebaseqa_mode)mode, .shots = 2, .max_tokens = 8};
        espl_model_options o = {.batch_tokens = BATCH};
        espl_str details = {0};
        q.context = 400;
        check(r, espl_freebaseqa_read(r->c, r->t, &q, &set) == ESPL_OK, "golden FreebaseQA");
        if (!set.n) continue;
        check(r, set.n == (mode ? 4 : 2), "the number of golden questions");
        espl_freebaseqa_need(&set, espl_model_config_of(r->m), &o);
        open_model(r, &o);
        check(r, espl_eval_freebaseqa(r->c, r->m, &set, &got) == ESPL_OK, "FreebaseQA");
        if (espl_comm_rank(r->c) == 0) espl_freebaseqa_details(&set, &got, &details);
        if (details.data) espl_str_puts(&r->h->lines, details.data);
        espl_str_free(&details);
        espl_freebaseqa_result_free(&got);
        espl_freebaseqa_free(&set);
    }
}

/* --------------------------------------------------------------- choices */

/* The log-probability of a choice from one sequence with targets. */
static double choice_alone(run *r, const espl_choices *set, int64_t family, int64_t i) {
    static int32_t ids[4096], targets[4096];
    static double logprob[4096];
    const espl_prompts *p = &set->prompts;
    const espl_prompt_family *f = &p->families[family];
    const espl_prompt *q = &p->prompts[i];
    int64_t n = f->n + q->n;
    double sum = 0;
    for (int64_t k = 0; k < n; k++) {
        ids[k] = p->ids[k < f->n ? f->at + k : q->at + k - f->n];
        targets[k] = k < f->n ? -1 : set->targets[q->at + k - f->n];
    }
    for (int64_t at = 0, k; at < n; at += k) {
        k = n - at < BATCH ? n - at : BATCH;
        espl_segment s = {.pos = at, .n = k, .ids = ids + at, .targets = targets + at, .logprob = logprob + at};
        espl_batch b = {.segments = &s, .n = 1};
        check(r, espl_model_run(r->m, &b, 1, NULL, NULL) == ESPL_OK, "choice");
    }
    for (int64_t k = 0; k < n; k++) sum += targets[k] >= 0 ? logprob[k] : 0;
    return sum;
}

static void golden_choices(run *r) {
    char path[4096];
    espl_choices set;
    espl_choices_result got;
    espl_model_options o = {.batch_tokens = BATCH};
    snprintf(path, sizeof path, "%s/choices.jsonl", r->golden);
    espl_choices_options q = {.path = path, .context = CONTEXT, .start = 1};
    check(r, espl_choices_read(r->c, r->t, &q, &set) == ESPL_OK, "golden choices");
    if (!set.n) return;
    check(r, set.n == 4 && set.prompts.n == 9, "the number of golden choices");
    espl_prompts_need(&set.prompts, &o);
    open_model(r, &o);
    check(r, espl_eval_choices(r->c, r->m, &set, &got) == ESPL_OK, "choices");
    for (int64_t f = 0; f < set.prompts.n_families; f++) {
        const espl_prompt_family *x = &set.prompts.families[f];
        for (int64_t i = x->first; i < x->first + x->count; i++) {
            double want = choice_alone(r, &set, f, i);
            if (harness_is_last_rank(r->h)) close_to(r, "choice", got.logprob[i], want);
        }
    }
    print_hash(r, "choices", got.logprob, set.prompts.n * (int64_t)sizeof *got.logprob);
    espl_choices_result_free(&got);
    espl_choices_free(&set);
}

static void test_model(run *r) {
    check(r, espl_comm_rank(r->c) != 0 || espl_tokenizer_open(r->dir, &r->t) == ESPL_OK, "tokenizer");
    families(r);
    golden_mmlu(r);
    if (r->m) {
        decode_with(r, 1, 0, 0);
        decode_with(r, 3, 30, 1);
        decode_with(r, 40, 70, 3);
        decode_with(r, 64, 0, 0);
        golden_freebaseqa(r);
        golden_choices(r);
    }
    espl_model_close(&r->m);
    espl_tokenizer_close(&r->t);
}

int main(int argc, char **argv) {
    harness h;
    if (!harness_begin(&h, &argc, &argv, 2, ESPL_LOG_QUIET)) return 2;
    espl_tensor_blas_init();
    for (int i = 2; i < argc; i++) {
        run r = {.h = &h, .c = h.c, .golden = argv[1], .dir = argv[i]};
        h.name = argv[i];
        test_model(&r);
    }
    espl_comm_broadcast(h.c, &h.worst, sizeof h.worst, espl_comm_size(h.c) - 1);
    if (espl_comm_rank(h.c) == 0) fprintf(stderr, "largest difference from one by one: %.2g\n", h.worst);
    return harness_end(&h);
}
