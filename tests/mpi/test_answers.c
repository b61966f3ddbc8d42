/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Windows of probe questions on sapling: what they hold, that profile and judge share no question, and that the loss of
 * an answer is the same by the forward pass alone and by the pass that takes gradients.
 *
 * usage: test_answers SAPLING_DIRECTORY
 */
#include <stdlib.h>
#include <string.h>

#include "espalier/eval/knowledge.h"
#include "harness.h"

enum { WINDOW = 256, WINDOWS = 4, SKIP = 5 };
static const double TOLERANCE = 1e-4; /* nats: the two passes cut the vocabulary into other pieces */

typedef struct run {
    harness *h;
    espl_comm *c;
    espl_tokenizer *t; /* rank 0 */
    espl_model *m;
    char model[4096], mmlu[4096], facts[4096];
} run;

static espl_knowledge read_part(run *r, espl_question_part part) {
    espl_knowledge_options o = {.mmlu = r->mmlu,
                                .split = ESPL_MMLU_SPLIT_VAL,
                                .freebaseqa = r->facts,
                                .skip = SKIP,
                                .window = WINDOW,
                                .windows = WINDOWS,
                                .seed = 7,
                                .part = part};
    espl_knowledge k;
    check(r, espl_knowledge_read(r->c, r->t, &o, &k) == ESPL_OK, "read");
    return k;
}

/* Rank 0. The text of a question's answer, and of its prompt's last line into `line`. */
static void texts_of(run *r, const espl_knowledge *k, int64_t i, espl_str *answer, espl_str *prompt) {
    const espl_knowledge_question *q = &k->questions[i];
    const int32_t *ids = k->ids + q->window * k->window;
    int64_t from =
        i > 0 && k->questions[i - 1].window == q->window ? k->questions[i - 1].at + k->questions[i - 1].n + 1 : 0;
    answer->len = prompt->len = 0;
    check(r, espl_tokenizer_decode(r->t, ids + q->at + 1, q->n, true, answer) == ESPL_OK, "decode");
    check(r, espl_tokenizer_decode(r->t, ids + from, q->at + 1 - from, true, prompt) == ESPL_OK, "decode");
}

/* Every question ends where its answer is to be given, and its targets are the answer's tokens. */
static void check_content(run *r, const espl_knowledge *k) {
    espl_str answer = {0}, prompt = {0};
    int64_t targets = 0, answers = 0;
    for (int64_t i = 0; i < k->first[ESPL_TOPICS] * k->window; i++) targets += k->targets[i] >= 0;
    for (int64_t i = 0; i < k->n; i++) {
        const espl_knowledge_question *q = &k->questions[i];
        const int32_t *ids = k->ids + q->window * k->window, *wanted = k->targets + q->window * k->window;
        bool fact = espl_knowledge_topic(k, q->window) == ESPL_TOPIC_FACTS;
        answers += q->n;
        for (int64_t t = q->at; t < q->at + q->n; t++) check(r, wanted[t] == ids[t + 1], "a target is the next token");
        check(r, q->at + q->n < k->lengths[q->window], "an answer lies before the padding");
        check(r, fact || q->n == 1, "a letter is one token");
        if (!r->t) continue;
        texts_of(r, k, i, &answer, &prompt);
        const char *end = fact ? "\nA:" : "\nAnswer:";
        size_t n = strlen(end);
        check(r, prompt.len > (int64_t)n && strcmp(prompt.data + prompt.len - n, end) == 0,
              "a prompt ends in its answer's label");
        check(r, strstr(prompt.data, fact ? "Q: " : "\nD. ") != NULL, "a prompt holds its question");
        check(r, answer.len > 1 && answer.data[0] == ' ' && !strchr(answer.data, '\n'), "an answer is a line");
    }
    check(r, targets == answers && answers > k->n, "targets are those of the questions");
    espl_str_free(&answer);
    espl_str_free(&prompt);
}

/* Rank 0. No question of one set is in the other. */
static void check_disjoint(run *r, const espl_knowledge *a, const espl_knowledge *b) {
    espl_str answer = {0}, x = {0}, y = {0};
    for (int64_t i = 0; r->t && i < a->n; i++) {
        texts_of(r, a, i, &answer, &x);
        /* Behind the line that names an MMLU subject, which many questions follow. */
        const char *p = strstr(x.data, ".\n\n");
        p = p ? p + 3 : x.data + strspn(x.data, "\n");
        for (int64_t j = 0; j < b->n; j++) {
            texts_of(r, b, j, &answer, &y);
            if (strstr(y.data, p)) harness_fail(r->h, "both parts ask: %s", p);
        }
    }
    espl_str_free(&answer);
    espl_str_free(&x);
    espl_str_free(&y);
}

/* Sums of losses by topic: by the forward pass, and by the calibration with these windows as samples. */
static void check_losses(run *r, const espl_knowledge *k) {
    espl_topic_samples samples[ESPL_TOPICS];
    double *loss = malloc((size_t)k->n * sizeof *loss);
    check(r, espl_eval_knowledge(r->c, r->m, k, loss) == ESPL_OK, "losses");
    espl_knowledge_samples(k, samples);
    for (int t = 0; t < ESPL_TOPICS; t++) {
        espl_calibration_options o = {.window = k->window, .backward = samples[t].windows};
        espl_calibration c;
        double sum = 0, other = 0, tokens = 0;
        if (samples[t].windows == 0) continue;
        for (int64_t i = 0; i < k->n; i++) {
            if ((int)espl_knowledge_topic(k, k->questions[i].window) != t) continue;
            sum += loss[i] * (double)k->questions[i].n;
            tokens += (double)k->questions[i].n;
        }
        o.targets = samples[t].targets;
        o.choices = samples[t].choices;
        o.n_choices = samples[t].n_choices;
        check(r, espl_model_calibrate(r->m, &o, samples[t].ids, NULL, NULL, &c) == ESPL_OK, "calibrate");
        for (int64_t i = 0; i < c.samples; i++) other += c.loss[i];
        other *= c.predictions;
        double difference = fabs(sum - other) / tokens;
        r->h->worst = fmax(r->h->worst, difference);
        if (!(difference <= TOLERANCE) || !(sum > 0))
            harness_fail(r->h, "%s: loss %.9g, by the backward pass %.9g", espl_topic_name((espl_topic)t), sum / tokens,
                         other / tokens);
        if (espl_comm_rank(r->c) == 0)
            espl_str_printf(&r->h->lines, "%s %a %a\n", espl_topic_name((espl_topic)t), sum, other);
        espl_calibration_free(&c);
    }
    free(loss);
}

int main(int argc, char **argv) {
    harness h;
    if (!harness_begin(&h, &argc, &argv, 1, ESPL_LOG_QUIET)) return 2;
    run r = {.h = &h, .c = h.c};
    espl_tensor_blas_init();
    h.name = "answers";
    snprintf(r.model, sizeof r.model, "%s/model", argv[1]);
    snprintf(r.mmlu, sizeof r.mmlu, "%s/data/mmlu", argv[1]);
    snprintf(r.facts, sizeof r.facts, "%s/data/freebaseqa-dev.json", argv[1]);
    if (espl_comm_rank(h.c) == 0) check(&r, espl_tokenizer_open(r.model, &r.t) == ESPL_OK, "tokenizer");
    espl_model_options o = {.context = WINDOW, .batch_tokens = 100, .slots = 1};
    check(&r, espl_model_open(h.c, r.model, &o, &r.m) == ESPL_OK, "open");
    espl_knowledge profile = read_part(&r, ESPL_PART_PROFILE), judge = read_part(&r, ESPL_PART_JUDGE);
    check(&r, profile.n > 20 && judge.n > 20, "both parts have questions");
    check_content(&r, &profile);
    check_content(&r, &judge);
    check_disjoint(&r, &profile, &judge);
    check_losses(&r, &judge);
    espl_knowledge_free(&profile);
    espl_knowledge_free(&judge);
    espl_model_close(&r.m);
    espl_tokenizer_close(&r.t);
    return harness_end(&h);
}
