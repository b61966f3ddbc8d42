/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pass over the blocks of the model.
 */
#include "pass.h"

void espl_pass_take(block_pass *p, const method_plan *plan, const pass_plan *wanted, espl_comm *comm, espl_block *block,
                    pool *buffers) {
    p->plan = plan;
    p->wanted = wanted;
    p->buffers = buffers;
    espl_statistics_take(&p->s, plan, wanted, comm, block, buffers);
    p->states =
        espl_pool_take(buffers, plan->local, (size_t)(plan->o->window * plan->config->hidden) * sizeof *p->states,
                       "hidden states of the samples");
}

espl_status espl_pass_embed(block_pass *p, const int32_t *ids) {
    const method_plan *plan = p->plan;
    int64_t window = plan->o->window, floats = window * plan->config->hidden, local = 0;
    ESPL_TRY(p->buffers->st);
    for (int64_t g = plan->rank; g < plan->groups; g += plan->ranks)
        for (int64_t i = 0; i < espl_plan_group_size(plan, g); i++)
            ESPL_TRY(espl_block_embed(p->s.block, ids + (g * plan->group + i) * window, p->states + local++ * floats));
    return ESPL_OK;
}

espl_status espl_pass_run(block_pass *p, const int32_t *ids) {
    const espl_method_options *o = p->plan->o;
    espl_comm *comm = p->s.comm;
    espl_block *block = p->s.block;
    int64_t layers = p->plan->config->layers, floats = o->window * p->plan->config->hidden;
    ESPL_TRY(espl_comm_agree(comm, espl_pass_embed(p, ids)));
    for (int64_t layer = 0; layer < layers; layer++) {
        /* Loading and work are local: agree before the next collective, which a failed rank would not reach. */
        ESPL_TRY(espl_comm_agree(comm, espl_block_load(block, layer)));
        ESPL_TRY(espl_statistics_collect(&p->s, layer, p->states, NULL, (espl_range){0, p->plan->groups}));
        ESPL_TRY(espl_comm_agree(comm, p->work(p->context, layer)));
        /* From here on the block is pruned: the next block's inputs are those of the pruned model. */
        if (p->publish) p->publish(p->context, layer);
        for (int64_t i = 0; i < p->plan->local && layer + 1 < layers; i++) {
            espl_block_forward(block, p->states + i * floats);
            espl_comm_progress(comm);
        }
        if (o->progress) o->progress(o->context, p->wanted->before + layer + 1, p->plan->blocks);
    }
    return ESPL_OK;
}
