/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decisions and outcomes. Which linears are N:M is stored nowhere: it follows from the history, so that a resumed run
 * and a reader of the checkpoint derive the same.
 */
#include "espalier/loop/loop.h"

#include <math.h>
#include <string.h>

const char *espl_topic_name(espl_topic t) {
    static const char *const names[] = {
#define X(name, label) label,
        ESPL_TOPIC_LIST(X)
#undef X
    };
    return (unsigned)t < ESPL_TOPICS ? names[t] : "?";
}

void espl_topic_weights(const bool present[ESPL_TOPICS], double weights[ESPL_TOPICS]) {
    int mmlu = 0;
    for (int t = 0; t < ESPL_TOPICS; t++) mmlu += t != ESPL_TOPIC_FACTS && present[t];
    double facts = !present[ESPL_TOPIC_FACTS] ? 0 : mmlu > 0 ? 0.5 : 1;
    for (int t = 0; t < ESPL_TOPICS; t++)
        weights[t] = !present[t] ? 0 : t == ESPL_TOPIC_FACTS ? facts : (1 - facts) / mmlu;
}

double espl_quality_rise(const espl_quality *before, const espl_quality *after, double share) {
    double text = log(after->perplexity / before->perplexity), answers = after->answers - before->answers;
    if (!isfinite(before->perplexity) || before->perplexity <= 0 || after->perplexity == 0) return NAN;
    if (!isfinite(after->perplexity)) return INFINITY;
    if (isfinite(answers)) return (1 - share) * text + share * answers;
    return isfinite(before->answers) ? (1 - share) * text : text;
}

espl_status espl_decision_init(espl_decision *d, int64_t capacity) {
    espl_status st;
    *d = (espl_decision){.power = NAN, .expected_text = NAN, .expected_answers = NAN};
    ESPL_CHECK(st, failed, espl_mem_alloc(&d->items, capacity, sizeof *d->items, "decision"));
    ESPL_CHECK(st, failed, espl_str_dup(&d->reason, "", "decision"));
    ESPL_CHECK(st, failed, espl_str_dup(&d->reflection, "", "decision"));
    return ESPL_OK;
failed:
    espl_decision_free(d);
    return st;
}

void espl_decision_free(espl_decision *d) {
    espl_mem_free(&d->items);
    espl_mem_free(&d->reason);
    espl_mem_free(&d->reflection);
    d->n = 0;
}

void espl_outcome_patterns(const espl_outcome *history, int64_t n, espl_pattern *patterns, int64_t linears) {
    memset(patterns, 0, (size_t)linears * sizeof *patterns);
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; history[k].accepted && i < history[k].decision.n; i++) {
            const espl_decision_item *item = &history[k].decision.items[i];
            if (espl_pattern_is_n_m(item->pattern) && item->linear >= 0 && item->linear < linears)
                patterns[item->linear] = item->pattern;
        }
}
