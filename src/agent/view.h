/* SPDX-License-Identifier: Apache-2.0 */
/* What parser, prompt and policy derive from a view: sums, room under the budget, damage curves, changes of perplexity.
 */
#ifndef ESPL_AGENT_VIEW_H
#define ESPL_AGENT_VIEW_H

#include "espalier/agent/view.h"

/* ESPL_CONFIG: budget, layers or a profile row out of range. The functions below rely on it. */
espl_status espl_view_check(const espl_agent_view *v);

static inline int64_t espl_view_linears(const espl_agent_view *v) { return espl_layout_linears(v->layout); }
/* Weights of all linears. */
int64_t espl_view_weights(const espl_agent_view *v);
/* Weights still to prune until the target; <= 0: the target is reached. */
int64_t espl_view_left(const espl_agent_view *v);
/* Weights of linear i that may still be pruned under the cap; 0 if it has an N:M pattern. */
int64_t espl_view_room(const espl_agent_view *v, int64_t i);
/* Maximum sparsity of linear i. */
static inline double espl_view_cap(const espl_agent_view *v, int64_t i) { return v->caps ? v->caps[i] : v->budget.cap; }
/* The target as a sparsity of the linears that may be pruned: those that may not have no part in it. */
double espl_view_aim(const espl_agent_view *v);
/* The N:M pattern of linear i, all zero if it has none. */
static inline espl_pattern espl_view_pattern(const espl_agent_view *v, int64_t i) {
    return v->patterns ? v->patterns[i] : (espl_pattern){0};
}
/* True if the input width of linear i is known and a multiple of the N:M pattern's group size. */
bool espl_view_fits(const espl_agent_view *v, int64_t i, espl_pattern p);
/* A valid step, for the example in prompts. */
double espl_view_example(const espl_agent_view *v);
/* "reasoning" of the example in the system message, and of the one in a correction: a reply is known by it to repeat
 * the example. */
#define ESPL_EXAMPLE_REASON "why these linears"
#define ESPL_EXAMPLE_REASON_SHORT "why"
#define ESPL_EXAMPLE_LINEAR "layers.0.mlp.up_proj"            /* the first one in both */
#define ESPL_EXAMPLE_EXPERTS "layers.0.mlp.experts.*.up_proj" /* the same of a model with experts */
static inline const char *espl_view_example_linear(const espl_agent_view *v) {
    return v->layout.experts > 0 ? ESPL_EXAMPLE_EXPERTS : ESPL_EXAMPLE_LINEAR;
}

/* True if every linear has a damage curve. Curves are in nats and the policy's power law is not, so that a profile with
 * some curves missing cannot be used. */
bool espl_view_has_damage(const espl_agent_view *v);

/* True if the profile has knowledge sensitivities. */
bool espl_view_has_knowledge(const espl_agent_view *v);

static inline double espl_row_sparsity(const espl_profile_row *r) {
    return r->weights > 0 ? (double)r->pruned / (double)r->weights : 0;
}
/* The row's damage curves at a sparsity, in nats; that of answers is NAN without questions. Only if
 * espl_view_has_damage. */
double espl_row_damage_text(const espl_profile_row *r, double sparsity);
double espl_row_damage_answers(const espl_profile_row *r, double sparsity);
/* The row's damage curve at a sparsity, in nats: of text and knowledge together; only if espl_view_has_damage. */
double espl_view_damage(const espl_agent_view *v, const espl_profile_row *r, double sparsity);

/* Relative change of perplexity over an outcome. NAN: not measured; INFINITY: perplexity after it is not finite. */
double espl_outcome_rise(const espl_outcome *o);
/* Damage of an outcome in nats, text and knowledge together: what judged it. NAN, INFINITY as above. */
double espl_outcome_damage(const espl_agent_view *v, const espl_outcome *o);

#endif
