/* SPDX-License-Identifier: Apache-2.0 */
/* Measures at sparsities on the way. */
#include "milestones.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "espalier/base/json.h"
#include "judge.h"
#include "model_export.h"
#include "quality.h"

espl_status espl_milestones_read(espl_job *j) {
    double *asked = NULL;
    espl_status st;
    ESPL_CHECK(st, done, espl_config_milestones(j->o, &asked, &j->n_milestones));
    ESPL_CHECK(st, done, espl_mem_alloc(&j->milestones, j->n_milestones, sizeof *j->milestones, "milestones"));
    for (int64_t i = 0; i < j->n_milestones; i++)
        j->milestones[i] = (espl_milestone){.asked = asked[i], .sparsity = asked[i]};
done:
    espl_mem_free(&asked);
    return st;
}

void espl_milestones_free(espl_job *j) {
    espl_mem_free(&j->milestones);
    espl_str_free(&j->milestone_results);
}

static bool milestone_is_reached(const espl_job *j, int64_t i) {
    return j->pruned >= llround(j->milestones[i].sparsity * (double)j->weights);
}

double espl_milestones_goal(const espl_job *j) {
    return j->milestones_passed < j->n_milestones ? j->milestones[j->milestones_passed].sparsity : j->target;
}

void espl_milestones_put_directory(const espl_job *j, int64_t milestone, espl_str *name) {
    espl_str_puts(name, "model-");
    espl_str_put_shortest(name, j->milestones[milestone].asked);
}

/* Rank 0 only. */
static espl_status milestone_put(espl_job *j, int64_t i, const espl_report_quality *q) {
    espl_str *out = &j->milestone_results, name = {0};
    espl_milestones_put_directory(j, i, &name);
    espl_str_puts(out, out->len > 0 ? ",\n    " : "");
    espl_json_writer w = espl_json_writer_on(out);
    espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
    espl_json_put_shortest(&w, "target", j->milestones[i].asked);
    espl_json_put_i64(&w, "iterations", j->iteration);
    espl_json_put_i64(&w, "rollbacks", j->rollbacks);
    espl_json_put_f64(&w, "sparsity", espl_job_sparsity(j, j->pruned));
    espl_json_put_f64(&w, "sparsity_with_embeddings", espl_job_sparsity_of_model(j, j->pruned));
    espl_json_put_i64(&w, "pruned_weights", j->pruned);
    if (j->o->run_export_milestones) espl_json_put_text(&w, "model", name.data);
    espl_quality_put_report(&w, "pruned", j, q);
    espl_json_close(&w);
    out->failed |= name.failed;
    espl_str_free(&name);
    return espl_str_status(out);
}

/* Collective. */
static espl_status milestone_measure(espl_job *j, int64_t i) {
    espl_report_quality q = {0};
    espl_str name = {0};
    espl_status st;
    {
        ESPL_REGION_SCOPE(ESPL_REGION_REPORT);
        espl_log_status("milestone %.4g %%", 100 * j->milestones[i].asked);
        ESPL_CHECK(st, done, espl_quality_report(j, espl_judge_accepted_text(j), &q));
    }
    if (j->o->run_export_milestones) {
        espl_milestones_put_directory(j, i, &name);
        ESPL_CHECK(st, done, espl_comm_agree(j->comm, espl_str_status(&name)));
        ESPL_CHECK(st, done, espl_model_export(j, name.data, &q));
    }
    ESPL_CHECK(st, done, espl_comm_agree(j->comm, j->root ? milestone_put(j, i, &q) : ESPL_OK));
    ESPL_INFO("milestone %.4g %%: perplexity %.4f, as the report measures it", 100 * j->milestones[i].asked,
              q.test.windows > 0 ? q.test.perplexity : q.validation.perplexity);
done:
    espl_str_free(&name);
    espl_report_quality_free(&q);
    return st;
}

espl_status espl_milestones_measure(espl_job *j) {
    for (; j->milestones_passed < j->n_milestones && milestone_is_reached(j, j->milestones_passed);
         j->milestones_passed++)
        ESPL_TRY(milestone_measure(j, j->milestones_passed));
    return ESPL_OK;
}

/* ------------------------------------------------------------ keeping them */

void espl_milestones_put(const espl_job *j, espl_str *out) {
    const espl_str *all = &j->milestone_results;
    if (all->failed) out->failed = true;
    if (all->len > 0)
        espl_str_printf(out, "[\n    %s\n  ]", all->data);
    else
        espl_str_puts(out, "[]");
}

/* The list is only copied from file to file, so that it must be one, and no more. */
static espl_status milestones_take(espl_job *j, const espl_str *text, const char *path) {
    cJSON *list = NULL;
    if (text->len == 0) return ESPL_OK;
    ESPL_TRY(espl_json_parse(text->data, text->len, path, &list));
    bool any = cJSON_IsArray(list) && list->child, good = cJSON_IsArray(list);
    espl_json_free(&list);
    if (!good) return ESPL_FAIL(ESPL_FORMAT, "%s: \"milestones\" is no list", path);
    const char *first = strchr(text->data, '[') + 1, *last = strrchr(text->data, ']');
    while (first < last && strchr(" \n", *first)) first++;
    while (last > first && strchr(" \n", last[-1])) last--;
    espl_str_free(&j->milestone_results);
    if (any) espl_str_put(&j->milestone_results, first, last - first);
    return espl_str_status(&j->milestone_results);
}

espl_status espl_milestones_restore(espl_job *j, const espl_str *text, const char *path) {
    for (j->milestones_passed = 0;
         j->milestones_passed < j->n_milestones && milestone_is_reached(j, j->milestones_passed);
         j->milestones_passed++)
        ;
    return milestones_take(j, text, path);
}
