/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What it costs to keep a reply within a form: processor time to find the allowed tokens, for a vocabulary and a reply
 * such as the agent's, with all linears of a model of 64 layers. Tokens are picked at random.
 *
 * usage: bench_constraint MODEL_DIR    (only its tokenizer is read)
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "constraint.h"
#include "espalier/base/integer.h"
#include "espalier/base/rng.h"

enum { LAYERS = 64, KINDS = 7, LINEARS = LAYERS * KINDS, REPLIES = 20, TOKENS = 400, NAME_BYTES = 48 };

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static espl_form_member linears[LINEARS];
static char names[LINEARS][NAME_BYTES];
static const espl_form step = {.kind = ESPL_FORM_NUMBER, .decimals = 3, .lo = 0.01, .hi = 0.1};
static const espl_form plan = {.kind = ESPL_FORM_MAP, .members = linears, .n_members = LINEARS, .min = 1, .max = 16};
static const espl_form text = {.kind = ESPL_FORM_TEXT, .max = 400};
static const espl_form_member parts[] = {{"reasoning", &text}, {"prune", &plan}, {"reflection", &text}};
static const espl_form reply = {.kind = ESPL_FORM_OBJECT, .members = parts, .n_members = 3};

static void name_linears(void) {
    static const char *const kinds[KINDS] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                             "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
                                             "mlp.down_proj"};
    for (int i = 0; i < LINEARS; i++) {
        snprintf(names[i], sizeof names[i], "layers.%d.%s", i / KINDS, kinds[i % KINDS]);
        linears[i] = (espl_form_member){names[i], &step};
    }
}

/* Sums of seconds and steps, within texts and elsewhere. */
typedef struct cost {
    double seconds[2], worst;
    int64_t steps[2];
} cost;

static espl_status write_reply(const espl_tokenizer *t, const espl_vocabulary *v, uint64_t seed, int32_t *allowed,
                               cost *sum) {
    espl_constraint k;
    espl_rng r;
    espl_status st = espl_constraint_create(&k, v, &reply, TOKENS);
    espl_rng_seed(&r, seed, 0, 0);
    for (bool more = st == ESPL_OK; more;) {
        int64_t room;
        bool in_text = espl_automaton_is_in_text(&k.state, &room);
        double start = cpu_seconds();
        int64_t n = espl_constraint_allow(&k, allowed);
        double seconds = cpu_seconds() - start;
        sum->seconds[in_text] += seconds;
        sum->steps[in_text]++;
        if (seconds > sum->worst) sum->worst = seconds;
        st = espl_constraint_take(&k, t, allowed[espl_rng_below(&r, n)], &more);
    }
    espl_constraint_free(&k);
    return st;
}

int main(int argc, char **argv) {
    espl_tokenizer *t;
    espl_vocabulary v = {0};
    cost sum = {0};
    if (argc != 2 || espl_tokenizer_open(argv[1], &t) != ESPL_OK) {
        fprintf(stderr, "usage: bench_constraint MODEL_DIR %s\n", espl_base_error_text());
        return 2;
    }
    name_linears();
    espl_model_config c = {.vocab = espl_tokenizer_vocab_size(t)};
    int32_t *allowed = calloc((size_t)c.vocab, sizeof *allowed);
    double start = cpu_seconds();
    espl_status st = espl_vocabulary_create(&v, t, &c);
    printf("%d tokens sorted in %.3f s\n", (int)c.vocab, cpu_seconds() - start);
    for (uint64_t seed = 0; st == ESPL_OK && seed < REPLIES; seed++) st = write_reply(t, &v, seed, allowed, &sum);
    if (st == ESPL_OK)
        printf("per token: %.3f ms within texts, %.3f ms elsewhere, at most %.3f ms\n",
               1e3 * sum.seconds[1] / (double)espl_max_i64(sum.steps[1], 1),
               1e3 * sum.seconds[0] / (double)espl_max_i64(sum.steps[0], 1), 1e3 * sum.worst);
    else
        fprintf(stderr, "%s\n", espl_base_error_text());
    free(allowed);
    espl_vocabulary_free(&v);
    espl_tokenizer_close(&t);
    return st == ESPL_OK ? 0 : 1;
}
