/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a one-shot method will do, from the model's configuration and the options alone.
 */
#include "plan.h"

#include <math.h>

/* Maximum number of groups: every group's Hessians travel to their owners. */
enum { GROUPS_MAX = 32 };

method_plan espl_plan_make(const espl_model_config *c, const espl_method_options *o, int rank, int ranks) {
    method_plan p = {.config = c, .o = o, .rank = rank, .ranks = ranks};
    espl_allocation a = o->allocation;
    bool lsa = a == ESPL_ALLOCATION_LSA || a == ESPL_ALLOCATION_LSA_LINEAR, search = a == ESPL_ALLOCATION_SEARCH;
    espl_layout layout = espl_model_layout(c);
    p.linears = espl_layout_linears(layout);
    p.places = (int)espl_layout_layer_linears(layout);
    p.inputs = (int)(ATTENTION_INPUTS + MLP_INPUTS * espl_layout_mlps(layout));
    p.group = espl_max_i64((o->samples + GROUPS_MAX - 1) / GROUPS_MAX, 1);
    p.groups = (o->samples + p.group - 1) / p.group;
    for (int64_t g = rank; g < p.groups; g += ranks) p.local += espl_plan_group_size(&p, g);
    p.updating = o->update == ESPL_UPDATE_SPARSEGPT;
    /* The search scores its candidates even if SparseGPT then selects the masks. */
    p.model_gradients = o->score == ESPL_SCORE_GBLM && (!p.updating || search);
    p.surveys = (lsa || search || a == ESPL_ALLOCATION_OWL) && !espl_pattern_is_n_m(o->pattern);
    p.outputs = espl_score_needs_outputs(o->score);
    p.direct = p.outputs && !p.updating;
    p.blocks = c->layers * ((p.surveys ? 1 : 0) + (p.direct ? 0 : 1));
    p.survey = (pass_plan){.grams = lsa,
                           .squares = !lsa,
                           .owner = lsa      ? OWNER_INPUT
                                    : search ? OWNER_SLICE
                                             : OWNER_BLOCK};
    p.prune = (pass_plan){.grams = p.updating,
                          .squares = !p.updating && espl_score_needs_activations(o->score),
                          .gradients = !p.updating && o->score == ESPL_SCORE_RGS,
                          .owner = p.model_gradients ? OWNER_SLICE : OWNER_INPUT,
                          .before = p.surveys ? c->layers : 0};
    return p;
}

int64_t espl_plan_group_size(const method_plan *p, int64_t g) {
    return espl_min_i64(p->group, p->o->samples - g * p->group);
}

int espl_plan_owner(const method_plan *p, const pass_plan *pass, int64_t layer, int input) {
    if (pass->owner == OWNER_INPUT) return input % p->ranks;
    if (pass->owner == OWNER_BLOCK) return (int)(layer % p->ranks);
    int owner = 0;
    while (owner + 1 < p->stages && p->slices[owner + 1].first <= layer) owner++;
    return owner;
}

bool espl_plan_may_own(const method_plan *p, const pass_plan *pass, int input) {
    return pass->owner != OWNER_INPUT || input % p->ranks == p->rank;
}

int espl_input_first(int input) {
    int mlp = (input - ATTENTION_INPUTS) / MLP_INPUTS, down = (input - ATTENTION_INPUTS) % MLP_INPUTS;
    if (input < ATTENTION_INPUTS) return input == 0 ? ESPL_Q_PROJ : ESPL_O_PROJ;
    return (int)espl_linear_at(down ? ESPL_DOWN_PROJ : ESPL_GATE_PROJ, mlp);
}

espl_block_stage espl_input_stage(int input) {
    if (input < ATTENTION_INPUTS) return input == 0 ? ESPL_BLOCK_QKV : ESPL_BLOCK_O;
    return (input - ATTENTION_INPUTS) % MLP_INPUTS == 0 ? ESPL_BLOCK_GATE_UP : ESPL_BLOCK_DOWN;
}

int espl_input_of(int64_t at) {
    int mlp = (int)(at - ESPL_GATE_PROJ) / ESPL_MLP_LINEARS;
    if (at < ESPL_GATE_PROJ) return at == ESPL_O_PROJ;
    return ATTENTION_INPUTS + MLP_INPUTS * mlp + (espl_linear_kind_at(at) == ESPL_DOWN_PROJ);
}

void espl_plan_shape(const espl_model_config *c, int64_t at, int64_t *out, int64_t *in) {
    espl_model_linear_shape(c, espl_linear_kind_at(at), out, in);
}

bool espl_plan_drifts(const method_plan *p, const pass_plan *pass, int input) {
    return pass->drifts && (input < ATTENTION_INPUTS || p->config->experts == 0);
}

int64_t espl_input_size(const espl_model_config *c, int input) {
    int64_t out, in;
    espl_plan_shape(c, espl_input_first(input), &out, &in);
    return in;
}

void espl_plan_largest(const espl_model_config *c, int64_t *in, int64_t *out, int64_t *weights) {
    *in = *out = *weights = 0;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        int64_t o, i;
        espl_model_linear_shape(c, (espl_linear_kind)k, &o, &i);
        *in = espl_max_i64(*in, i);
        *out = espl_max_i64(*out, o);
        *weights = espl_max_i64(*weights, o * i);
    }
}

int64_t espl_plan_limits(const method_plan *p, const int64_t *weights, int64_t *max) {
    int64_t open = 0;
    for (int64_t i = 0; i < p->linears; i++) {
        double cap = espl_method_cap(p->o, i);
        max[i] = (int64_t)floor(cap * (double)weights[i]);
        if (cap > 0) open += weights[i];
    }
    return llround(p->o->target * (double)open);
}
