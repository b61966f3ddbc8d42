/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The grid of ranks: replicas of the model x stages of its layers. No result depends on it (docs/architecture.md).
 */
#include "arrange.h"

#include <inttypes.h>

#include "agent_host.h"

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

espl_status espl_arrange_choose(const espl_job *j, int ranks, int *replicas, int *stages) {
    espl_grid_request r = {.ranks = ranks, .replicas = j->o->run_replicas, .min_stages = 1};
    ESPL_TRY(arrange_count_layers(j, &r.layers));
    espl_status st = espl_grid_choose(&r, replicas, stages);
    return st == ESPL_OK ? ESPL_OK : ESPL_FAIL(st, "run.replicas: %s", espl_base_error_text());
}

espl_status espl_arrange_ranks(espl_job *j) {
    espl_comm *all = j->comm;
    int ranks = espl_comm_size(all), replicas = 1, stages = 1;
    ESPL_TRY(espl_comm_agree(all, espl_arrange_choose(j, ranks, &replicas, &stages)));
    if (ranks > 1) ESPL_INFO("%d ranks: %d replica(s) of the model, each of %d stage(s)", ranks, replicas, stages);
    if (replicas * stages < ranks)
        ESPL_INFO("note: %d of %d ranks have nothing to do: a replica has %d stage(s), and the model %" PRId64
                  " layers",
                  ranks - replicas * stages, ranks, stages, j->config.layers);
    return espl_comm_arrange(all, replicas, stages, &j->comm);
}
