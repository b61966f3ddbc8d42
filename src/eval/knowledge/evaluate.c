/* SPDX-License-Identifier: Apache-2.0 */
/* The loss of each answer: windows of questions through the model, in pieces like the windows of a perplexity. */
#include "espalier/eval/knowledge.h"
#include "run_batches.h"

espl_status espl_eval_knowledge(espl_comm *c, espl_model *m, const espl_knowledge *k, double *loss) {
    const espl_grid *grid = espl_comm_grid(c);
    int64_t window = k->window, windows = k->first[ESPL_TOPICS], n = 0;
    int64_t first = espl_part_begin(windows, grid->replicas, grid->replica);
    int64_t last = espl_part_begin(windows, grid->replicas, grid->replica + 1);
    int64_t piece = espl_model_options_of(m)->batch_tokens, pieces = (window + piece - 1) / piece;
    espl_segment *segments = NULL;
    espl_batch *batches = NULL;
    double *logprob = NULL; /* [windows, window] */
    espl_status st;
    ESPL_CHECK(st, planned, espl_mem_alloc(&segments, windows * pieces, sizeof *segments, "segments"));
    ESPL_CHECK(st, planned, espl_mem_alloc(&batches, windows * pieces, sizeof *batches, "micro-batches"));
    ESPL_CHECK(st, planned, espl_mem_alloc(&logprob, windows * window, sizeof *logprob, "log-probabilities"));
    for (int64_t w = first; w < last; w++) {
        bool letters = espl_knowledge_topic(k, w) != ESPL_TOPIC_FACTS;
        for (int64_t at = 0; at < window; at += piece, n++) {
            segments[n] = (espl_segment){.pos = at,
                                         .n = espl_min_i64(piece, window - at),
                                         .ids = k->ids + w * window + at,
                                         .targets = k->targets + w * window + at,
                                         .logprob = logprob + w * window + at,
                                         .choices = letters ? k->letters : NULL,
                                         .n_choices = letters ? ESPL_MMLU_CHOICES : 0};
            batches[n] = (espl_batch){.segments = &segments[n], .n = 1};
        }
    }
planned:
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    ESPL_CHECK(st, done, espl_eval_run_batches(c, m, batches, n, windows * window, "answers"));
    espl_eval_share_results(c, logprob, NULL, windows, (size_t)window * sizeof *logprob);
    for (int64_t i = 0; logprob && i < k->n; i++) {
        const espl_knowledge_question *q = &k->questions[i];
        double sum = 0;
        for (int64_t t = q->at; t < q->at + q->n; t++) sum -= logprob[q->window * window + t];
        loss[i] = sum / (double)q->n;
    }
done:
    espl_mem_free(&segments);
    espl_mem_free(&batches);
    espl_mem_free(&logprob);
    return st;
}
