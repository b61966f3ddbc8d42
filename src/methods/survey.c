/* Allocations that look at the dense model first. */
#include "oneshot.h"

#include <math.h>
#include <string.h>

static espl_status tick(oneshot *p) {
    p->done++;
    if (p->o->progress) p->o->progress(p->o->context, p->done, p->passes);
    return ESPL_OK;
}

/* ---------------------------------------------------------------- measures */

/* One row of a linear's Wanda scores into scratch: their sum, and how many exceed the threshold. */
static void row_scores(const espl_linear *l, const float *norm, int64_t r, float threshold, float *w, double *sum,
                       int64_t *above) {
    const char *from = (const char *)l->weight + (size_t)(r * l->in) * espl_dtype_size(l->dtype);
    double s = 0;
    int64_t n = 0;
    espl_tensor_widen(from, l->dtype, l->in, w);
    for (int64_t c = 0; c < l->in; c++) {
        float score = fabsf(w[c]) * norm[c];
        s += (double)score;
        n += score > threshold;
    }
    *sum = s;
    *above = n;
}

/* Over all linears of the loaded block. rows [most rows] is scratch: sums are added in row order. */
static void block_scores(oneshot *p, float threshold, double *rows, double *sum, int64_t *above) {
    espl_workspace *ws = espl_model_workspace(p->m);
    int64_t count = 0;
    *sum = 0;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        const espl_linear *l = espl_block_linear(p->block, (espl_linear_kind)k);
        const float *norm = p->norm[espl_oneshot_input_of((espl_linear_kind)k)];
#pragma omp parallel for schedule(static) reduction(+ : count)
        for (int64_t r = 0; r < l->out; r++) {
            int64_t n;
            row_scores(l, norm, r, threshold, espl_workspace_scratch(ws), &rows[r], &n);
            count += n;
        }
        for (int64_t r = 0; r < l->out; r++) *sum += rows[r];
    }
    *above = count;
}

/* Per cent of the block's scores above M times their mean. */
static espl_status outliers(oneshot *p, double *share) {
    int64_t above, most = 0, out, in;
    double sum, *rows, n = (double)espl_model_layer_linear_weights(p->config);
    for (int i = 0; i < INPUTS; i++) espl_oneshot_norm(p, i, false, p->norm[i]);
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        espl_oneshot_shape(p, (espl_linear_kind)k, &out, &in);
        most = out > most ? out : most;
    }
    ESPL_TRY(espl_mem_alloc(&rows, most, sizeof *rows, "row sums"));
    block_scores(p, INFINITY, rows, &sum, &above);
    block_scores(p, (float)(p->o->owl_outlier * sum / n), rows, &sum, &above);
    espl_mem_free(&rows);
    *share = 100 * (double)above / n;
    return ESPL_OK;
}

/* The whole of (2 / samples) H in f32 from its lower triangle. */
static void spread_hessian(const oneshot *p, int input, int64_t n, float *full) {
    const double *sum = p->s.gram_sum[input];
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++)
            full[i * n + j] = full[j * n + i] = (float)(2.0 / (double)p->o->samples * sum[i * n + j]);
}

static espl_status greedy_errors(oneshot *p, int64_t layer, double *errors) {
    for (int i = 0; i < INPUTS; i++) {
        if (espl_oneshot_owner(p, layer, i) != p->rank) continue;
        spread_hessian(p, i, espl_block_linear(p->block, espl_oneshot_first(i))->in, p->factor);
        for (int k = (int)espl_oneshot_first(i); k < (int)espl_oneshot_first(i + 1); k++)
            ESPL_TRY(espl_prune_lsa_error(espl_block_linear(p->block, (espl_linear_kind)k), p->factor, &errors[k],
                                          espl_model_workspace(p->m)));
    }
    return ESPL_OK;
}

/* Norms of a block that is in this rank's slice, kept for the search. */
static espl_status keep_norms(oneshot *p, int64_t layer) {
    if (!espl_oneshot_mine(p, layer)) return ESPL_OK;
    for (int i = 0; i < INPUTS; i++) {
        float **to = &p->norms[(layer - espl_model_slice(p->m).first) * INPUTS + i];
        ESPL_TRY(espl_mem_alloc(to, espl_block_linear(p->block, espl_oneshot_first(i))->in, sizeof **to, "norms"));
        espl_oneshot_norm(p, i, espl_score_needs_gradients(p->o->score), *to);
    }
    return ESPL_OK;
}

static espl_status measure(oneshot *p, int64_t layer, double *values) {
    if (p->o->allocation == ESPL_ALLOCATION_SEARCH) return keep_norms(p, layer);
    if (p->o->allocation != ESPL_ALLOCATION_OWL) return greedy_errors(p, layer, values);
    return espl_oneshot_owner(p, layer, 0) == p->rank ? outliers(p, values) : ESPL_OK;
}

/* values [layers * ESPL_LINEAR_KINDS]: of each linear, or, first of its block's, of a block. */
static espl_status survey(oneshot *p, double *values) {
    espl_status st = espl_comm_agree(p->comm, espl_oneshot_embed(p));
    for (int64_t b = 0; b < p->config->layers && st == ESPL_OK; b++) {
        double *mine = values + b * ESPL_LINEAR_KINDS;
        st = espl_comm_agree(p->comm, espl_block_load(p->block, b));
        if (st == ESPL_OK) st = espl_oneshot_collect(p, b);
        if (st == ESPL_OK) st = espl_comm_agree(p->comm, measure(p, b, mine));
        for (int k = 0; k < ESPL_LINEAR_KINDS && st == ESPL_OK; k++)
            espl_comm_broadcast(p->comm, &mine[k], sizeof *mine,
                                espl_oneshot_owner(p, b, espl_oneshot_input_of((espl_linear_kind)k)));
        if (st == ESPL_OK && b + 1 < p->config->layers) espl_oneshot_advance(p);
        if (st == ESPL_OK) st = tick(p);
    }
    return st;
}

/* ------------------------------------------------------------------ search */

static espl_status apply_candidate(oneshot *p, const int64_t *counts) {
    for (int64_t index = p->mine.first; index < p->mine.last; index++) {
        int64_t i = index - p->mine.first;
        espl_linear l = *espl_model_linear(p->m, index);
        espl_scoring s = {.score = p->o->score, .gradient = p->gradients ? p->gradients[i] : NULL};
        s.norm = p->norms[espl_linear_layer(i) * INPUTS + espl_oneshot_input_of(espl_linear_kind_of(i))];
        uint64_t *mask = espl_masks_of(p->masks, index);
        if (l.out * l.in - espl_mask_count(mask, l.out, l.in) == counts[index]) continue; /* as it was before */
        l.mask = mask;
        espl_mask_fill(mask, l.out, l.in);
        ESPL_TRY(espl_prune_linear(&l, &s, &p->o->pattern, counts[index], mask, espl_model_workspace(p->m)));
    }
    return ESPL_OK;
}

static espl_status candidate_fitness(void *context, const int64_t *counts, int64_t stage, double *fitness) {
    oneshot *p = context;
    ESPL_TRY(espl_comm_agree(p->comm, apply_candidate(p, counts)));
    return p->o->fitness(p->o->context, stage, fitness);
}

/* From uniform on. The search changes the masks of the model, which is dense again afterwards. */
static espl_status search(oneshot *p) {
    int64_t *most;
    double best;
    espl_status st = espl_mem_alloc(&most, p->linears, sizeof *most, "search limits");
    st = espl_comm_agree(p->comm, st);
    if (st == ESPL_OK) {
        espl_masks_clear(p->masks);
        espl_masks_apply(p->masks);
        for (int64_t i = 0; i < p->linears; i++) most[i] = (int64_t)floor(p->o->cap * (double)p->weights[i]);
        st = espl_allocate_search(&p->o->search, p->o->search_evaluations, p->weights, most, p->linears,
                                  candidate_fitness, p, p->counts, &best);
    }
    espl_masks_apply_dense(p->masks);
    espl_mem_free(&most);
    return espl_comm_agree(p->comm, st);
}

/* ------------------------------------------------------------- allocations */

/* A value per block as one per linear. */
static void per_linear(const oneshot *p, const double *blocks, double *sparsity) {
    for (int64_t i = 0; i < p->linears; i++) sparsity[i] = blocks[espl_linear_layer(i)];
}

/* sparsity [linears] from what the survey found; blocks [layers] is scratch. */
static void from_survey(const oneshot *p, const double *values, double *blocks, double *sparsity) {
    const espl_method_options *o = p->o;
    double beta = o->lsa_beta < 0 ? espl_lsa_beta(o->target) : o->lsa_beta;
    if (o->allocation == ESPL_ALLOCATION_LSA_LINEAR) {
        espl_allocate_lsa(values, p->weights, p->linears, o->target, beta, sparsity);
        return;
    }
    for (int64_t b = 0; b < p->config->layers; b++) {
        const double *mine = values + b * ESPL_LINEAR_KINDS;
        blocks[b] = mine[0];
        if (o->allocation == ESPL_ALLOCATION_OWL) continue;
        for (int k = 1; k < ESPL_LINEAR_KINDS; k++) blocks[b] += mine[k];
    }
    if (o->allocation == ESPL_ALLOCATION_OWL) {
        espl_allocate_owl(blocks, p->config->layers, o->target, o->owl_lambda, sparsity);
    } else {
        espl_allocate_lsa(blocks, NULL, p->config->layers, o->target, beta, sparsity);
    }
    memcpy(blocks, sparsity, (size_t)p->config->layers * sizeof *blocks);
    per_linear(p, blocks, sparsity);
}

static espl_status allocate(oneshot *p, double *values, double *blocks, double *sparsity) {
    const espl_method_options *o = p->o;
    bool look = o->allocation != ESPL_ALLOCATION_UNIFORM && o->allocation != ESPL_ALLOCATION_GIVEN;
    if (look) ESPL_TRY(survey(p, values));
    for (int64_t i = 0; i < p->linears; i++) sparsity[i] = o->target;
    if (o->allocation == ESPL_ALLOCATION_GIVEN) memcpy(sparsity, o->given, (size_t)p->linears * sizeof *sparsity);
    if (look && o->allocation != ESPL_ALLOCATION_SEARCH) from_survey(p, values, blocks, sparsity);
    ESPL_TRY(espl_allocate_exact(sparsity, p->weights, p->linears, o->target, o->cap, p->counts));
    return o->allocation == ESPL_ALLOCATION_SEARCH ? search(p) : ESPL_OK;
}

static void count_pattern(oneshot *p) {
    for (int64_t i = 0; i < p->linears; i++) {
        int64_t out, in;
        espl_oneshot_shape(p, espl_linear_kind_of(i), &out, &in);
        p->counts[i] = espl_prune_pattern_count(&p->o->pattern, out, in);
    }
}

espl_status espl_oneshot_allocate(oneshot *p) {
    double *room;
    if (p->o->pattern.group == ESPL_GROUP_N_M) {
        count_pattern(p);
        return ESPL_OK;
    }
    espl_status st = espl_mem_alloc(&room, 2 * p->linears + p->config->layers, sizeof *room, "allocation");
    st = espl_comm_agree(p->comm, st);
    if (st == ESPL_OK && room) st = allocate(p, room, room + 2 * p->linears, room + p->linears);
    espl_mem_free(&room);
    return st;
}
