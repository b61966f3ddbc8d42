/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The grid of ranks: replicas of the model x stages of its layers, and teams of replicas. No result depends on it
 * (docs/architecture.md).
 */
#include "arrange.h"

#include <inttypes.h>

#include "agent_host.h"
#include "espalier/model/shape.h"
#include "espalier/run/node_memory.h"
#include "espalier/tensor/linear.h"
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

static int64_t arrange_rounds(int64_t n, int64_t parts) { return (n + parts - 1) / parts; }

/* What counts is the time of the replica that does the most: rounds of windows, times the blocks that it has of each. A
 * larger team also talks more, so it must save a tenth. */
int espl_arrange_team(const espl_config *o, const espl_model_config *c, int replicas) {
    enum { SAMPLE_COST = 4 }; /* forward passes that a sample takes: one, and three for the backward pass */
    const double worth = 0.9;
    int64_t samples = o->calibration_backward, others = espl_max_i64(o->calibration_forward - samples, 0);
    int64_t blocks = arrange_rounds(o->calibration_window, espl_tensor_block(o->calibration_window));
    double least = 0;
    int best = 1;
    if (espl_config_is_oneshot(o) || c->experts > 0) return 1;
    for (int members = 1; members <= replicas && members <= blocks; members++) {
        int64_t teams = replicas / members;
        double cost = (double)((SAMPLE_COST * arrange_rounds(samples, teams) + arrange_rounds(others, teams)) *
                               arrange_rounds(blocks, members));
        if (replicas % members != 0 || (members > 1 && cost > worth * least)) continue;
        least = cost;
        best = members;
    }
    return best;
}

espl_status espl_arrange_choose(const espl_job *j, int ranks, int min_stages, espl_grid *out) {
    espl_grid_request r = {.ranks = ranks, .replicas = j->o->run_replicas, .min_stages = min_stages};
    *out = (espl_grid){.replicas = 1, .stages = 1, .members = 1};
    ESPL_TRY(arrange_count_layers(j, &r.layers));
    espl_status st = espl_grid_choose(&r, &out->replicas, &out->stages);
    if (st != ESPL_OK) return ESPL_FAIL(st, "run.replicas: %s", espl_base_error_text());
    if (j->o->run_team > 0 && out->replicas % j->o->run_team != 0)
        return ESPL_FAIL(ESPL_CONFIG, "run.team: %" PRId64 " does not divide the %d replica%s of the model",
                         j->o->run_team, out->replicas, out->replicas == 1 ? "" : "s");
    out->members = j->o->run_team > 0 ? (int)j->o->run_team : espl_arrange_team(j->o, &j->config, out->replicas);
    return ESPL_OK;
}

/* Collective. The fewest stages with which the ranks of every node fit its memory. Teams are not chosen yet: a rank
 * that has a window to itself needs the most. */
static espl_status arrange_find_stages(const espl_job *j, int *min_stages) {
    int ranks = espl_comm_size(j->comm), here = espl_comm_ranks_on_node(j->comm);
    int64_t memory = espl_node_memory(), max = espl_min_i64(ranks, j->config.layers), needed = 0;
    espl_footprint f;
    espl_status st;
    *min_stages = 1;
    ESPL_CHECK(st, agree, espl_footprint_of(j, &f));
    int64_t weights = espl_model_parameters(f.config) * f.bytes_per_weight;
    for (int s = 1; s <= max; s++) {
        const espl_grid grid = {.replicas = ranks / s, .stages = s, .members = 1};
        ESPL_CHECK(st, agree, espl_footprint_rank(&f, &grid, &needed));
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
    int ranks = espl_comm_size(all), min_stages = 1;
    espl_grid grid;
    if (ranks > 1 && j->o->run_replicas == 0) ESPL_TRY(arrange_find_stages(j, &min_stages));
    ESPL_TRY(espl_comm_agree(all, espl_arrange_choose(j, ranks, min_stages, &grid)));
    if (ranks > 1)
        ESPL_INFO("%d ranks: %d replica(s) of the model, each of %d rank(s)%s", ranks, grid.replicas, grid.stages,
                  min_stages > 1 ? ", for want of memory" : "");
    if (grid.members > 1) ESPL_INFO("%d replicas take a calibration window together", grid.members);
    if (grid.replicas * grid.stages < ranks)
        ESPL_INFO(
            "note: %d of %d ranks have nothing to do: %d replica(s) have %d rank(s) each, and the model has %" PRId64
            " layers",
            ranks - grid.replicas * grid.stages, ranks, grid.replicas, grid.stages, j->config.layers);
    return espl_comm_arrange(all, grid.replicas, grid.stages, grid.members, &j->comm);
}
