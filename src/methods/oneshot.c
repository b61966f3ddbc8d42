/* One-shot pruning, block by block, with the samples spread over the ranks. */
#include "oneshot.h"

#include <math.h>
#include <string.h>

enum { MOST_GROUPS = 32 };                 /* of samples: a group's Hessian travels, so there are not too many */
static const double GRADIENT_WEIGHT = 100; /* GBLM's scale and Wanda++'s alpha */

static bool updating(const espl_method_options *o) { return o->update == ESPL_UPDATE_SPARSEGPT; }

static bool surveying(const espl_method_options *o) {
    return o->pattern.group != ESPL_GROUP_N_M && o->allocation != ESPL_ALLOCATION_UNIFORM &&
           o->allocation != ESPL_ALLOCATION_GIVEN;
}

/* Gradients of the whole model's loss, of each weight, are needed. */
static bool wants_gblm(const espl_method_options *o) {
    bool scores = !updating(o) || o->allocation == ESPL_ALLOCATION_SEARCH;
    return scores && o->score == ESPL_SCORE_GBLM;
}

int espl_oneshot_slice_owner(const oneshot *p, int64_t layer) {
    int owner = 0;
    for (int r = 1; r < p->ranks; r++)
        if (p->slices[r].first <= layer) owner = r;
    return owner;
}

/* ----------------------------------------------------------------- options */

static espl_status check_numbers(const espl_method_options *o) {
    if (o->samples < 1 || !(o->target >= 0 && o->target < 1) || !(o->cap > 0 && o->cap <= 1))
        return ESPL_FAIL(ESPL_CONFIG, "one-shot pruning of %lld samples to sparsity %g, of one linear at most %g",
                         (long long)o->samples, o->target, o->cap);
    if (updating(o) && (!(o->damping >= 0) || o->block < 1 || o->block > 1024))
        return ESPL_FAIL(ESPL_CONFIG, "SparseGPT with damping %g (0 or more) and blocks of %lld (1 to 1024) columns",
                         o->damping, (long long)o->block);
    if (updating(o) && o->pattern.group == ESPL_GROUP_N_M && o->block % o->pattern.m != 0)
        return ESPL_FAIL(ESPL_CONFIG, "SparseGPT in blocks of %lld columns cannot keep groups of %lld together",
                         (long long)o->block, (long long)o->pattern.m);
    return ESPL_OK;
}

static espl_status check_options(const oneshot *p) {
    const espl_method_options *o = p->o;
    ESPL_TRY(check_numbers(o));
    if (o->pattern.group == ESPL_GROUP_N_M && o->allocation != ESPL_ALLOCATION_UNIFORM)
        return ESPL_FAIL(ESPL_CONFIG, "a pattern of %lld:%lld fixes the sparsity: allocation \"%s\" has no part in it",
                         (long long)o->pattern.n, (long long)o->pattern.m, espl_allocation_name(o->allocation));
    if (o->allocation == ESPL_ALLOCATION_AGENT)
        return ESPL_FAIL(ESPL_USAGE, "allocation \"agent\" is not a one-shot method");
    if (o->allocation == ESPL_ALLOCATION_GIVEN && !o->given)
        return ESPL_FAIL(ESPL_CONFIG, "allocation \"given\" without sparsities");
    if (o->allocation == ESPL_ALLOCATION_SEARCH && !o->fitness)
        return ESPL_FAIL(ESPL_CONFIG, "allocation \"search\" without a fitness");
    if (o->allocation == ESPL_ALLOCATION_SEARCH && o->score == ESPL_SCORE_RGS)
        return ESPL_FAIL(ESPL_CONFIG, "allocation \"search\" with score \"rgs\": regional gradients are not kept");
    if (updating(o) && !p->masks->updates) return ESPL_FAIL(ESPL_USAGE, "SparseGPT without room for updated weights");
    for (int64_t i = 0; i < o->samples * o->window; i++)
        if (p->ids[i] < 0 || p->ids[i] >= p->config->vocab)
            return ESPL_FAIL(ESPL_USAGE, "token id %d is outside the model's vocabulary of %lld", p->ids[i],
                             (long long)p->config->vocab);
    return ESPL_OK;
}

/* ------------------------------------------------------------------ memory */

static void deal(oneshot *p) {
    p->group = (p->o->samples + MOST_GROUPS - 1) / MOST_GROUPS;
    p->groups = (p->o->samples + p->group - 1) / p->group;
    for (int64_t g = p->rank; g < p->groups; g += p->ranks)
        p->local += espl_min_i64(p->group, p->o->samples - g * p->group);
}

static espl_status prepare_block(oneshot *p) {
    int64_t out, in, most_in = 0, most = 0, floats = p->o->window * p->config->hidden;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        espl_oneshot_shape(p, (espl_linear_kind)k, &out, &in);
        most_in = in > most_in ? in : most_in;
        most = out * in > most ? out * in : most;
        ESPL_TRY(espl_mem_alloc(&p->block_masks[k], out * espl_mask_words(in), sizeof(uint64_t), "block masks"));
        if (updating(p->o)) ESPL_TRY(espl_mem_alloc(&p->block_weights[k], out * in, sizeof(float), "block weights"));
    }
    for (int i = 0; i < INPUTS; i++) {
        espl_oneshot_shape(p, espl_oneshot_first(i), &out, &in);
        ESPL_TRY(espl_mem_alloc(&p->norm[i], in, sizeof(float), "activation norms"));
    }
    if (updating(p->o) || p->s.gradients) ESPL_TRY(espl_mem_alloc(&p->matrix, most, sizeof(float), "a linear"));
    if (p->s.grams) ESPL_TRY(espl_mem_alloc(&p->factor, most_in, (size_t)most_in * sizeof(float), "Hessian factor"));
    ESPL_TRY(espl_mem_alloc(&p->dead, most_in, sizeof *p->dead, "dead features"));
    if (p->s.gradients) ESPL_TRY(espl_mem_alloc(&p->sample, floats, sizeof(float), "block output"));
    return espl_mem_alloc(&p->states, p->local, (size_t)floats * sizeof(float), "hidden states of the samples");
}

static espl_status prepare_counts(oneshot *p) {
    int64_t out, in, layers = espl_range_count(espl_model_slice(p->m));
    ESPL_TRY(espl_mem_alloc(&p->counts, p->linears, sizeof *p->counts, "counts"));
    ESPL_TRY(espl_mem_alloc(&p->weights, p->linears, sizeof *p->weights, "counts"));
    for (int64_t i = 0; i < p->linears; i++) {
        espl_oneshot_shape(p, espl_linear_kind_of(i), &out, &in);
        p->weights[i] = out * in;
    }
    return espl_mem_alloc(&p->norms, layers * INPUTS, sizeof *p->norms, "norms of the search");
}

/* GBLM: a float for every weight of the slice. */
static espl_status prepare_gradients(oneshot *p) {
    int64_t out, in, n = espl_range_count(p->mine);
    if (!wants_gblm(p->o)) return ESPL_OK;
    ESPL_TRY(espl_mem_alloc(&p->gradients, n, sizeof *p->gradients, "gradients"));
    for (int64_t i = 0; i < n; i++) {
        espl_oneshot_shape(p, espl_linear_kind_of(i), &out, &in);
        ESPL_TRY(espl_mem_alloc(&p->gradients[i], out * in, sizeof(float), "gradients"));
    }
    return ESPL_OK;
}

static espl_status prepare(oneshot *p) {
    bool back = !updating(p->o) && p->o->score == ESPL_SCORE_RGS;
    deal(p);
    ESPL_TRY(espl_mem_alloc(&p->slices, p->ranks, sizeof *p->slices, "slices"));
    ESPL_TRY(espl_model_partition(p->config, espl_model_options_of(p->m)->context, p->ranks, p->slices));
    ESPL_TRY(espl_block_create(p->m, p->o->window, back, &p->block));
    ESPL_TRY(prepare_counts(p));
    return prepare_gradients(p);
}

static void free_lists(oneshot *p) {
    int64_t layers = espl_range_count(espl_model_slice(p->m));
    for (int64_t i = 0; p->gradients && i < espl_range_count(p->mine); i++) espl_mem_free(&p->gradients[i]);
    for (int64_t i = 0; p->norms && i < layers * INPUTS; i++) espl_mem_free(&p->norms[i]);
    espl_mem_free(&p->gradients);
    espl_mem_free(&p->norms);
}

/* What a pass over the blocks takes. */
static void free_pass(oneshot *p) {
    espl_statistics_free(&p->s);
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        espl_mem_free(&p->block_masks[k]);
        espl_mem_free(&p->block_weights[k]);
    }
    for (int i = 0; i < INPUTS; i++) espl_mem_free(&p->norm[i]);
    espl_mem_free(&p->matrix);
    espl_mem_free(&p->factor);
    espl_mem_free(&p->dead);
    espl_mem_free(&p->sample);
    espl_mem_free(&p->states);
}

static void release(oneshot *p) {
    free_pass(p);
    free_lists(p);
    espl_block_destroy(&p->block);
    espl_mem_free(&p->slices);
    espl_mem_free(&p->counts);
    espl_mem_free(&p->weights);
}

/* ----------------------------------------------------------------- a block */

/* 100 sqrt(mean g^2) of a linear from the sums. */
static const float *regional_gradient(oneshot *p, espl_linear_kind kind, int64_t n) {
    const double *sum = p->s.gradient_sum[kind];
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) p->matrix[i] = (float)(GRADIENT_WEIGHT * sqrt(sum[i] / (double)p->o->samples));
    return p->matrix;
}

static espl_status prune_by_score(oneshot *p, int64_t index) {
    espl_linear_kind kind = espl_linear_kind_of(index);
    const espl_linear *l = espl_block_linear(p->block, kind);
    espl_scoring s = {.score = p->o->score, .norm = p->norm[espl_oneshot_input_of(kind)]};
    if (p->o->score == ESPL_SCORE_RGS) s.gradient = regional_gradient(p, kind, l->out * l->in);
    if (p->gradients) s.gradient = p->gradients[index - p->mine.first];
    return espl_prune_linear(l, &s, &p->o->pattern, p->counts[index], p->block_masks[kind], espl_model_workspace(p->m));
}

static espl_status prune_by_surgeon(oneshot *p, int64_t index) {
    espl_linear_kind kind = espl_linear_kind_of(index);
    const espl_linear *l = espl_block_linear(p->block, kind);
    espl_sparsegpt_options o = {
        .factor = p->factor, .dead = p->dead, .pattern = p->o->pattern, .count = p->counts[index]};
    double loss;
    o.block = p->o->block;
    ESPL_TRY(espl_prune_sparsegpt(l, &o, p->block_masks[kind], p->matrix, &loss, espl_model_workspace(p->m)));
    espl_tensor_narrow(p->matrix, l->out * l->in, l->dtype, p->block_weights[kind]);
    char name[64];
    ESPL_DEBUG("%s: SparseGPT loss %g", espl_linear_name(index, name), loss);
    return ESPL_OK;
}

/* What all linears of an input share. */
static espl_status prepare_input(oneshot *p, int i) {
    int64_t in = espl_block_linear(p->block, espl_oneshot_first(i))->in;
    if (updating(p->o))
        return espl_prune_factor(p->s.gram_sum[i], in, 2.0 / (double)p->o->samples, p->o->damping, p->factor, p->dead);
    if (p->s.squares) espl_oneshot_norm(p, i, espl_score_needs_gradients(p->o->score), p->norm[i]);
    return ESPL_OK;
}

static espl_status prune_linear(oneshot *p, int64_t index) {
    char name[64];
    int kind = (int)espl_linear_kind_of(index);
    espl_linear l = *espl_block_linear(p->block, (espl_linear_kind)kind);
    espl_mask_fill(p->block_masks[kind], l.out, l.in);
    ESPL_TRY(updating(p->o) ? prune_by_surgeon(p, index) : prune_by_score(p, index));
    l.mask = p->block_masks[kind];
    if (l.out * l.in - espl_tensor_surviving(&l) == p->counts[index]) return ESPL_OK;
    return ESPL_FAIL(ESPL_INTERNAL, "%s lost another number of weights than the %lld it should",
                     espl_linear_name(index, name), (long long)p->counts[index]);
}

/* The linears that this rank works on. */
static espl_status prune_mine(oneshot *p, int64_t layer) {
    for (int i = 0; i < INPUTS; i++) {
        if (espl_oneshot_owner(p, layer, i) != p->rank) continue;
        ESPL_TRY(prepare_input(p, i));
        for (int k = (int)espl_oneshot_first(i); k < (int)espl_oneshot_first(i + 1); k++)
            ESPL_TRY(prune_linear(p, espl_linear_index(layer, (espl_linear_kind)k)));
    }
    return ESPL_OK;
}

/* A linear's mask, and its weights, from its owner to all; the slice's rank keeps them. */
static void publish(oneshot *p, int64_t layer, espl_linear_kind kind) {
    espl_linear *l = espl_block_linear(p->block, kind);
    int owner = espl_oneshot_owner(p, layer, espl_oneshot_input_of(kind));
    int64_t mask_bytes = espl_mask_bytes(l->out, l->in);
    int64_t weight_bytes = l->out * l->in * (int64_t)espl_dtype_size(l->dtype);
    int64_t index = espl_linear_index(layer, kind);
    espl_comm_broadcast(p->comm, p->block_masks[kind], mask_bytes, owner);
    l->mask = p->block_masks[kind];
    if (espl_oneshot_mine(p, layer)) memcpy(espl_masks_of(p->masks, index), l->mask, (size_t)mask_bytes);
    if (!updating(p->o)) return;
    espl_comm_broadcast(p->comm, p->block_weights[kind], weight_bytes, owner);
    l->weight = p->block_weights[kind];
    if (espl_oneshot_mine(p, layer)) memcpy(espl_masks_update_of(p->masks, index), l->weight, (size_t)weight_bytes);
}

static espl_status prune_block(oneshot *p, int64_t layer) {
    ESPL_TRY(espl_comm_agree(p->comm, espl_block_load(p->block, layer)));
    ESPL_TRY(espl_oneshot_collect(p, layer));
    ESPL_TRY(espl_comm_agree(p->comm, prune_mine(p, layer)));
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) publish(p, layer, (espl_linear_kind)k);
    if (layer + 1 < p->config->layers) espl_oneshot_advance(p);
    p->done++;
    if (p->o->progress) p->o->progress(p->o->context, p->done, p->passes);
    return ESPL_OK;
}

/* -------------------------------------------------------------------- job */

static espl_status start_pass(oneshot *p) {
    ESPL_TRY(espl_statistics_prepare(p));
    return prepare_block(p);
}

/* What the allocation looks at. */
static espl_status allocate(oneshot *p) {
    espl_allocation a = p->o->allocation;
    p->s = (statistics){0};
    if (surveying(p->o)) {
        p->s.grams = a == ESPL_ALLOCATION_LSA || a == ESPL_ALLOCATION_LSA_LINEAR;
        p->s.squares = !p->s.grams;
        p->rule = p->s.grams ? OWNER_INPUT : a == ESPL_ALLOCATION_OWL ? OWNER_BLOCK : OWNER_SLICE;
        ESPL_TRY(espl_comm_agree(p->comm, start_pass(p)));
    }
    espl_status st = espl_oneshot_allocate(p);
    free_pass(p);
    return st;
}

static espl_status prune_blocks(oneshot *p) {
    p->s = (statistics){.grams = updating(p->o),
                        .squares = !updating(p->o) && espl_score_needs_activations(p->o->score),
                        .gradients = !updating(p->o) && p->o->score == ESPL_SCORE_RGS};
    p->rule = p->gradients ? OWNER_SLICE : OWNER_INPUT;
    espl_status st = start_pass(p);
    if (st == ESPL_OK) st = espl_oneshot_embed(p);
    st = espl_comm_agree(p->comm, st);
    for (int64_t b = 0; b < p->config->layers && st == ESPL_OK; b++) st = prune_block(p, b);
    return st;
}

/* GBLM: 100 sqrt(sum g^2) of the dense model's loss, by the pipeline. */
static espl_status model_gradients(oneshot *p) {
    espl_calibration_options o = {.window = p->o->window, .backward = p->o->samples};
    espl_calibration c;
    if (!p->gradients) return ESPL_OK;
    o.gradient_squares = p->gradients;
    ESPL_TRY(espl_model_calibrate(p->m, &o, p->ids, NULL, NULL, &c));
    espl_calibration_free(&c);
    for (int64_t i = 0; i < espl_range_count(p->mine); i++) {
        float *g = p->gradients[i];
        int64_t n = p->weights[i];
#pragma omp parallel for schedule(static)
        for (int64_t j = 0; j < n; j++) g[j] = (float)GRADIENT_WEIGHT * sqrtf(g[j]);
    }
    return ESPL_OK;
}

espl_status espl_method_run(espl_comm *comm, const espl_method_options *o, const int32_t *ids, espl_masks *masks,
                            int64_t *counts) {
    oneshot p = {.comm = comm, .m = masks->m, .config = espl_model_config_of(masks->m), .o = o, .ids = ids};
    p.masks = masks, p.mine = masks->linears;
    p.rank = espl_comm_rank(comm), p.ranks = espl_comm_size(comm);
    p.linears = p.config->layers * ESPL_LINEAR_KINDS;
    p.passes = p.config->layers * (surveying(o) ? 2 : 1);
    espl_status st = check_options(&p);
    if (st == ESPL_OK) st = prepare(&p);
    masks->updated = false;
    espl_masks_apply_dense(masks); /* a dense model to start from */
    st = espl_comm_agree(comm, st);
    if (st == ESPL_OK) st = model_gradients(&p);
    if (st == ESPL_OK) st = allocate(&p);
    if (st == ESPL_OK) st = prune_blocks(&p);
    masks->updated = st == ESPL_OK && updating(o);
    if (st == ESPL_OK) espl_masks_apply(masks);
    if (st == ESPL_OK && counts) memcpy(counts, p.counts, (size_t)p.linears * sizeof *counts);
    release(&p);
    return st;
}
