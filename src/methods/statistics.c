/* Statistics of a block over samples that are spread over the ranks. Samples go in groups of a fixed size, group g to
 * rank g mod ranks; a group's sums are formed on one rank, and added in the order of the groups. */
#include "oneshot.h"

#include <math.h>
#include <string.h>

espl_linear_kind espl_oneshot_first(int i) {
    static const espl_linear_kind first[INPUTS + 1] = {ESPL_Q_PROJ, ESPL_O_PROJ, ESPL_GATE_PROJ, ESPL_DOWN_PROJ,
                                                       ESPL_LINEAR_KINDS};
    return first[i];
}

int espl_oneshot_input_of(espl_linear_kind kind) {
    int i = 0;
    while (kind >= espl_oneshot_first(i + 1)) i++;
    return i;
}

void espl_oneshot_shape(const oneshot *p, espl_linear_kind kind, int64_t *out, int64_t *in) {
    espl_model_linear_shape(p->config, kind, out, in);
}

static int64_t input_size(const oneshot *p, int i) {
    int64_t out, in;
    espl_oneshot_shape(p, espl_oneshot_first(i), &out, &in);
    return in;
}

bool espl_oneshot_mine(const oneshot *p, int64_t layer) {
    espl_range slice = espl_model_slice(p->m);
    return layer >= slice.first && layer < slice.last;
}

int espl_oneshot_owner(const oneshot *p, int64_t layer, int input) {
    if (p->rule == OWNER_SLICE) return espl_oneshot_slice_owner(p, layer);
    return p->rule == OWNER_BLOCK ? (int)(layer % p->ranks) : input % p->ranks;
}

/* ------------------------------------------------------------------ memory */

void espl_statistics_free(statistics *s) {
    for (int i = 0; i < INPUTS; i++) {
        espl_mem_free(&s->square_part[i]);
        espl_mem_free(&s->square_sum[i]);
        espl_mem_free(&s->gram_part[i]);
        espl_mem_free(&s->gram_sum[i]);
    }
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        espl_mem_free(&s->gradient_part[k]);
        espl_mem_free(&s->gradient_sum[k]);
    }
}

/* With one owner by turns or by slice every rank is one sooner or later. */
static bool may_own(const oneshot *p, int input) { return p->rule != OWNER_INPUT || input % p->ranks == p->rank; }

static espl_status prepare_input(oneshot *p, int i) {
    statistics *s = &p->s;
    int64_t in = input_size(p, i);
    if (s->squares) {
        ESPL_TRY(espl_mem_alloc(&s->square_part[i], in, sizeof(double), "sums of squares"));
        ESPL_TRY(espl_mem_alloc(&s->square_sum[i], in, sizeof(double), "sums of squares"));
    }
    if (!s->grams) return ESPL_OK;
    ESPL_TRY(espl_mem_alloc(&s->gram_part[i], in, (size_t)in * sizeof(float), "a group's Hessian"));
    if (may_own(p, i)) ESPL_TRY(espl_mem_alloc(&s->gram_sum[i], in, (size_t)in * sizeof(double), "Hessian"));
    return ESPL_OK;
}

static espl_status prepare_gradient(oneshot *p, espl_linear_kind kind) {
    int64_t out, in;
    if (!p->s.gradients) return ESPL_OK;
    espl_oneshot_shape(p, kind, &out, &in);
    ESPL_TRY(espl_mem_alloc(&p->s.gradient_part[kind], out, (size_t)in * sizeof(float), "gradients"));
    if (!may_own(p, espl_oneshot_input_of(kind))) return ESPL_OK;
    return espl_mem_alloc(&p->s.gradient_sum[kind], out, (size_t)in * sizeof(double), "gradients");
}

espl_status espl_statistics_prepare(oneshot *p) {
    for (int i = 0; i < INPUTS; i++) ESPL_TRY(prepare_input(p, i));
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) ESPL_TRY(prepare_gradient(p, (espl_linear_kind)k));
    return ESPL_OK;
}

/* ----------------------------------------------------------------- samples */

static int64_t sample_floats(const oneshot *p) { return p->o->window * p->config->hidden; }

static float *state(const oneshot *p, int64_t local) { return p->states + local * sample_floats(p); }

/* Samples of group g; its first on this rank's list is `local`. */
static int64_t group_size(const oneshot *p, int64_t g) { return espl_min_i64(p->group, p->o->samples - g * p->group); }

espl_status espl_oneshot_embed(oneshot *p) {
    int64_t local = 0;
    for (int64_t g = p->rank; g < p->groups; g += p->ranks)
        for (int64_t i = 0; i < group_size(p, g); i++)
            ESPL_TRY(espl_block_embed(p->block, p->ids + (g * p->group + i) * p->o->window, state(p, local++)));
    return ESPL_OK;
}

void espl_oneshot_advance(oneshot *p) {
    for (int64_t i = 0; i < p->local; i++) {
        espl_block_forward(p->block, state(p, i));
        espl_comm_progress(p->comm);
    }
}

static void clear_parts(oneshot *p) {
    statistics *s = &p->s;
    for (int i = 0; i < INPUTS; i++) {
        int64_t in = input_size(p, i);
        if (s->squares) memset(s->square_part[i], 0, (size_t)in * sizeof(double));
        if (s->grams) memset(s->gram_part[i], 0, (size_t)(in * in) * sizeof(float));
    }
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        int64_t out, in;
        espl_oneshot_shape(p, (espl_linear_kind)k, &out, &in);
        if (s->gradients) memset(s->gradient_part[k], 0, (size_t)(out * in) * sizeof(float));
    }
}

/* y / ||y||, the gradient of ||y||; false if y is 0. */
static bool normalise(float *y, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)y[i] * (double)y[i];
    if (!(sum > 0)) return false;
    float scale = (float)(1 / sqrt(sum));
    for (int64_t i = 0; i < n; i++) y[i] *= scale;
    return true;
}

/* Regional gradient: of the norm of the block's output (Wanda++). */
static void add_gradient(oneshot *p, const float *x) {
    memcpy(p->sample, x, (size_t)sample_floats(p) * sizeof *x);
    espl_block_forward(p->block, p->sample);
    if (normalise(p->sample, sample_floats(p))) espl_block_backward(p->block, x, p->sample, p->s.gradient_part);
}

static void add_sample(oneshot *p, const float *x) {
    const float *inputs[ESPL_LINEAR_KINDS];
    if (p->s.squares || p->s.grams) espl_block_inputs(p->block, x, inputs);
    for (int i = 0; i < INPUTS; i++) {
        const float *in = p->s.squares || p->s.grams ? inputs[espl_oneshot_first(i)] : NULL;
        if (p->s.squares) espl_tensor_square_sums(in, p->o->window, input_size(p, i), p->s.square_part[i]);
        if (p->s.grams) espl_tensor_gram(in, p->o->window, input_size(p, i), p->s.gram_part[i]);
    }
    if (p->s.gradients) add_gradient(p, x);
    espl_comm_progress(p->comm);
}

static void clear_sums(oneshot *p, int64_t layer) {
    statistics *s = &p->s;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        int i = espl_oneshot_input_of((espl_linear_kind)k);
        int64_t out, in;
        if (espl_oneshot_owner(p, layer, i) != p->rank) continue;
        espl_oneshot_shape(p, (espl_linear_kind)k, &out, &in);
        if (s->squares) memset(s->square_sum[i], 0, (size_t)in * sizeof(double));
        if (s->grams) memset(s->gram_sum[i], 0, (size_t)(in * in) * sizeof(double));
        if (s->gradients) memset(s->gradient_sum[k], 0, (size_t)(out * in) * sizeof(double));
    }
}

/* The parts of one round of groups, of the first `contributors` ranks, to the owners. */
static espl_status add_round(oneshot *p, int64_t layer, int contributors) {
    statistics *s = &p->s;
    for (int i = 0; i < INPUTS; i++) {
        int owner = espl_oneshot_owner(p, layer, i);
        int64_t in = input_size(p, i);
        if (s->squares)
            ESPL_TRY(espl_comm_add_f64(p->comm, s->square_part[i], in, contributors, owner, s->square_sum[i]));
        if (s->grams)
            ESPL_TRY(espl_comm_add_f32(p->comm, s->gram_part[i], in * in, contributors, owner, s->gram_sum[i]));
    }
    for (int k = 0; k < ESPL_LINEAR_KINDS && s->gradients; k++) {
        int owner = espl_oneshot_owner(p, layer, espl_oneshot_input_of((espl_linear_kind)k));
        int64_t out, in;
        espl_oneshot_shape(p, (espl_linear_kind)k, &out, &in);
        ESPL_TRY(espl_comm_add_f32(p->comm, s->gradient_part[k], out * in, contributors, owner, s->gradient_sum[k]));
    }
    return ESPL_OK;
}

espl_status espl_oneshot_collect(oneshot *p, int64_t layer) {
    int64_t local = 0;
    espl_status st = ESPL_OK;
    clear_sums(p, layer);
    for (int64_t first = 0; first < p->groups && st == ESPL_OK; first += p->ranks) {
        clear_parts(p);
        if (first + p->rank < p->groups)
            for (int64_t i = 0; i < group_size(p, first + p->rank); i++) add_sample(p, state(p, local++));
        st = add_round(p, layer, (int)espl_min_i64(p->ranks, p->groups - first));
    }
    return st;
}

void espl_oneshot_norm(const oneshot *p, int input, bool mean, float *norm) {
    double scale = mean ? (double)p->o->samples : 1;
    for (int64_t j = 0; j < input_size(p, input); j++) norm[j] = (float)sqrt(p->s.square_sum[input][j] / scale);
}
