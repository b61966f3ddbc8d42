/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The grid of ranks: replicas of the model x stages of its layers. No result depends on it (docs/architecture.md).
 */
#include "arrange.h"

#include <inttypes.h>

#include "agent_host.h"
#include "espalier/model/shape.h"
#include "espalier/run/node_memory.h"
#include "footprint.h"

/* Layers of the model and, since one replica answers for the agent, of a local agent's model. */
static espl_status arrange_count_layers(const espl_job *j, int64_t *layers) {
    espl_model_config agent = {0};
    *layers = j->config.layers;
    if (j->o->agent_backend != ESPL_BACKEND_LOCAL || espl_config_is_oneshot(j->o)) return ESPL_OK;
    ESPL_TRY(espl_model_config_read(espl_agent_host_model_path(j->o), &agent));
    *layers = espl_min_i64(*layers, agent.layers);
    espl_model_config_free(&agent);
    return ESPL_OK;
}

espl_status espl_arrange_choose(const espl_job *j, int ranks, int min_stages, int *replicas, int *stages) {
    espl_grid_request r = {.ranks = ranks, .replicas = j->o->run_replicas, .min_stages = min_stages};
    ESPL_TRY(arrange_count_layers(j, &r.layers));
    espl_status st = espl_grid_choose(&r, replicas, stages);
    return st == ESPL_OK ? ESPL_OK : ESPL_FAIL(st, "run.replicas: %s", espl_base_error_text());
}

/* Collective. The fewest stages with which the ranks of every node fit its memory. */
static espl_status arrange_find_stages(const espl_job *j, int *min_stages) {
    int ranks = espl_comm_size(j->comm), here = espl_comm_ranks_on_node(j->comm);
    int64_t memory = espl_node_memory(), max = espl_min_i64(ranks, j->config.layers), needed = 0;
    espl_footprint f;
    espl_status st;
    *min_stages = 1;
    ESPL_CHECK(st, agree, espl_footprint_of(j, &f));
    int64_t weights = espl_model_parameters(f.config) * f.bytes_per_weight;
    for (int s = 1; s <= max; s++) {
        ESPL_CHECK(st, agree, espl_footprint_rank(&f, ranks / s, s, &needed));
        needed = espl_node_needs(weights, needed, here, s);
        *min_stages = s;
        if (needed <= memory) break;
    }
    ESPL_DEBUG("%d rank(s) on this node need %" PRId64 " MiB of %" PRId64 " with %d stage(s)", here, needed >> 20,
               memory >> 20, *min_stages);
agree:
    ESPL_TRY(espl_comm_agree(j->comm, st));
    *min_stages = espl_comm_max(j->comm, *min_stages);
    return ESPL_OK;
}

espl_status espl_arrange_ranks(espl_job *j) {
    espl_comm *all = j->comm;
    int ranks = espl_comm_size(all), min_stages = 1, replicas = 1, stages = 1;
    if (ranks > 1 && j->o->run_replicas == 0) ESPL_TRY(arrange_find_stages(j, &min_stages));
    ESPL_TRY(espl_comm_agree(all, espl_arrange_choose(j, ranks, min_stages, &replicas, &stages)));
    if (ranks > 1)
        ESPL_INFO("%d ranks: %d replica(s) of the model, each of %d rank(s)%s", ranks, replicas, stages,
                  min_stages > 1 ? ", for want of memory" : "");
    if (replicas * stages < ranks)
        ESPL_INFO(
            "note: %d of %d ranks have nothing to do: %d replica(s) have %d rank(s) each, and the model has %" PRId64
            " layers",
            ranks - replicas * stages, ranks, replicas, stages, j->config.layers);
    return espl_comm_arrange(all, replicas, stages, &j->comm);
}
