/* SPDX-License-Identifier: Apache-2.0 */
/* Card and recipe are files of the export, which appears with them or not at all. */
#include "model_export.h"

#include "card.h"
#include "dense.h"
#include "espalier/export.h"
#include "recipe.h"

espl_status espl_model_export(espl_job *j, const char *name, const espl_report_quality *pruned) {
    const espl_report_quality *dense;
    espl_export_about about = {0};
    espl_str dir = {0};
    int64_t *lost = NULL, total;
    espl_status st;
    ESPL_TRY(espl_dense_report(j, &dense));
    ESPL_REGION_SCOPE(ESPL_REGION_EXPORT);
    st = j->root ? espl_mem_alloc(&lost, j->linears, sizeof *lost, "counts") : ESPL_OK;
    ESPL_CHECK(st, done, espl_comm_agree(j->comm, st));
    ESPL_CHECK(st, done, espl_masks_count_pruned(&j->masks, lost, &total));
    st = espl_job_path(j, name, &dir);
    if (st == ESPL_OK && j->root) st = espl_card_write(j, espl_agent_decided_by(j->agent), dense, pruned, &about.card);
    if (st == ESPL_OK && j->root) st = espl_recipe_write(j, lost, &about.recipe);
    ESPL_CHECK(st, done, espl_comm_agree(j->comm, st));
    ESPL_CHECK(st, done, espl_export_model(j->comm, j->model, j->o->model_path, dir.data, &about));
    ESPL_INFO("exported %s", dir.data);
done:
    espl_mem_free(&lost);
    espl_str_free(&about.card);
    espl_str_free(&about.recipe);
    espl_str_free(&dir);
    return st;
}
