/* SPDX-License-Identifier: Apache-2.0 */
/* README.md of an export. The texts in it that come from elsewhere, such as names, are quoted as JSON in the front
 * matter, which YAML reads, and stand in code spans below it. */
#include "card.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "espalier/config/table.h"
#include "espalier/export.h"
#include "espalier/model/locate.h"
#include "espalier/model/shape.h"
#include "espl_revision.h"

/* Appends a name in a code span, without what would end it or its line. */
static void card_put_code(espl_str *out, const char *name) {
    espl_str_puts(out, "`");
    for (const char *p = name; *p; p++) espl_str_put(out, (unsigned char)*p < ' ' || *p == '`' ? "?" : p, 1);
    espl_str_puts(out, "`");
}

static espl_status card_put_front_matter(const espl_job *j, const char *base, espl_str *out) {
    bool known;
    espl_str_puts(out, "---\nbase_model: ");
    espl_str_put_json(out, base, (int64_t)strlen(base));
    espl_str_puts(out, "\nlibrary_name: transformers\npipeline_tag: text-generation\n");
    ESPL_TRY(espl_export_put_licence(j->o->model_path, out, &known));
    espl_str_puts(out, "tags:\n- espalier\n- pruning\n- sparse\n---\n\n");
    return espl_str_status(out);
}

static espl_status card_put_method(const espl_job *j, const char *decided_by, espl_str *out) {
    const espl_config *o = j->o;
    /* A run may end before its last step, which some updates follow, or take them back. */
    bool reached = espl_config_is_oneshot(o) || j->pruned >= llround(j->target * (double)j->weights);
    bool updated =
        j->masks.updated && !j->update.taken_back && (reached || o->prune_update_when == ESPL_UPDATE_WHEN_STEP);
    espl_str agent = {0};
    espl_str_puts(out, "## Method\n\n");
    if (espl_config_is_oneshot(o)) {
        espl_str_printf(out, "One shot: score %s, allocation %s, pattern %s, update %s.\n",
                        espl_score_name(o->prune_score), espl_allocation_name(o->prune_allocation), o->prune_pattern,
                        espl_update_name(updated ? o->prune_update : ESPL_UPDATE_NONE));
    } else {
        espl_str_printf(out,
                        "Agent-guided adaptive pruning after [arXiv 2601.09694](https://arxiv.org/abs/2601.09694): "
                        "%" PRId64 " iterations, %" PRId64 " of them rolled back. Score %s, pattern %s. Decisions by ",
                        j->iteration, j->rollbacks, espl_score_name(o->prune_score), o->prune_pattern);
        espl_str_puts(out, decided_by);
        if (o->agent_backend == ESPL_BACKEND_LOCAL)
            espl_model_put_id(o->agent_model_path, &agent);
        else if (o->agent_backend == ESPL_BACKEND_OPENAI)
            espl_str_puts(&agent, o->agent_model);
        if (agent.len > 0) espl_str_puts(out, ", asked: ");
        if (agent.len > 0) card_put_code(out, agent.data);
        espl_str_puts(out, ".\n");
    }
    if (!espl_config_is_oneshot(o) && o->prune_update != ESPL_UPDATE_NONE && updated)
        espl_str_printf(out, "Surviving weights were updated %s (%s).\n",
                        o->prune_update_when == ESPL_UPDATE_WHEN_STEP ? "after each iteration" : "at the end",
                        espl_update_name(o->prune_update));
    if (espl_config_distills(o) && j->masks.updated && (reached || o->distill_steps > 0))
        espl_str_puts(out, "The surviving weights learned the dense model's predictions (distillation).\n");
    espl_status st = espl_str_status(&agent);
    espl_str_free(&agent);
    return st;
}

static void card_put_sparsity(const espl_job *j, espl_str *out) {
    espl_str_puts(out, "\n## Sparsity\n\n| | weights | zero |\n|---|---|---|\n");
    espl_str_printf(out, "| linear layers of the decoder | %" PRId64 " | %.3f %% |\n", j->weights,
                    100 * espl_job_sparsity(j, j->pruned));
    espl_str_printf(out, "| all parameters, with embeddings | %" PRId64 " | %.3f %% |\n",
                    espl_model_parameters(&j->config), 100 * espl_job_sparsity_of_model(j, j->pruned));
}

static void card_put_perplexity(espl_str *out, const char *name, const espl_perplexity *dense,
                                const espl_perplexity *pruned) {
    if (!(dense->perplexity > 0)) return;
    espl_str_printf(out, "| perplexity, %s (", name);
    if (dense->windows > 0) espl_str_printf(out, "%" PRId64 " ", dense->windows); /* a checkpoint does not say */
    espl_str_printf(out, "windows of %" PRId64 " tokens) | %.4f | %.4f |\n", dense->window, dense->perplexity,
                    pruned->perplexity);
}

static void card_put_proportion(espl_str *out, const char *name, const espl_proportion *dense,
                                const espl_proportion *pruned) {
    espl_str_printf(out, "| %s (%" PRId64 " questions) | %.1f %% | %.1f %% (95 %%: %.1f to %.1f) |\n", name, pruned->n,
                    100 * dense->rate, 100 * pruned->rate, 100 * pruned->low, 100 * pruned->high);
}

static void card_put_quality(const espl_job *j, const espl_report_quality *dense, const espl_report_quality *pruned,
                             espl_str *out) {
    espl_str_puts(out, "\n## Dense against pruned\n\n| | dense | pruned |\n|---|---|---|\n");
    card_put_perplexity(out, "validation text", &dense->validation, &pruned->validation);
    card_put_perplexity(out, "test text", &dense->test, &pruned->test);
    if (j->inputs.report.has_mmlu) card_put_proportion(out, "MMLU", &dense->mmlu.micro, &pruned->mmlu.micro);
    if (j->inputs.report.has_freebaseqa)
        card_put_proportion(out, "FreebaseQA, exact match", &dense->freebaseqa.exact, &pruned->freebaseqa.exact);
    espl_str_puts(out,
                  "\nThe validation text guided the pruning, so its perplexity flatters the pruned model. Texts and "
                  "questions are named in `espalier_recipe.json`.\n");
}

/* Paths are those of whoever repeats it: each that the configuration names must be given. */
static void card_put_command(const espl_job *j, espl_str *out) {
    espl_str_printf(
        out,
        "\n## How it was made\n\nBy espalier %s (revision %s). `espalier_recipe.json` holds the "
        "configuration, hashes of model and data, all decisions, and the sparsity of each linear. To repeat "
        "it:\n\n```sh\njq .config espalier_recipe.json > run.json\n"
        "espalier prune run.json --set run.dir=RUN",
        ESPL_VERSION, ESPL_REVISION);
    for (int i = 0; i < ESPL_OPTIONS; i++) {
        const espl_option *row = &espl_option_table[i];
        espl_str value = {0};
        if (espl_option_is_path(row)) espl_option_put_plain(&value, row, j->o);
        if (value.len > 0 && strcmp(value.data, "self") != 0)
            espl_str_printf(out, " \\\n  --set %s.%s=PATH", row->section, row->key);
        out->failed |= value.failed;
        espl_str_free(&value);
    }
    if (j->o->agent_backend == ESPL_BACKEND_OPENAI && !espl_config_is_oneshot(j->o))
        espl_str_puts(out, " \\\n  --set agent.base_url=URL");
    espl_str_puts(out, "\n```\n");
}

/* Linears of each N:M pattern, from which hardware may profit. */
static void card_put_patterns(const espl_job *j, espl_str *out) {
    static const char faster[] = "hardware for it can run them faster, in programs that convert them.";
    char name[ESPL_PATTERN_NAME_MAX];
    espl_pattern all;
    if (espl_pattern_parse(j->o->prune_pattern, &all))
        espl_str_printf(out, "- All linears have the pattern %s: %s\n", espl_pattern_name(all, name), faster);
    for (int k = 0; k < ESPL_PATTERN_CHOICES; k++) {
        int64_t n = 0;
        for (int64_t i = 0; i < j->linears; i++) n += espl_pattern_equal(j->patterns[i], espl_pattern_choices[k]);
        if (n > 0)
            espl_str_printf(out, "- %" PRId64 " of %" PRId64 " linears have the pattern %s: %s\n", n, j->linears,
                            espl_pattern_name(espl_pattern_choices[k], name), faster);
    }
}

static void card_put_use(const espl_job *j, espl_str *out) {
    espl_str_puts(
        out, "\n## What is smaller, and what is not\n\n"
             "- The zeros are stored: the files are as large as those of the base model, and programs that multiply "
             "dense matrices need as much memory and time.\n"
             "- Compressed files (`zstd`, `gzip`) are smaller than those of the base model. Formats and kernels "
             "for sparse matrices can use the zeros.\n");
    card_put_patterns(j, out);
    espl_str_puts(out, "- Training changes zeros into other numbers unless it keeps them.\n");
}

espl_status espl_card_write(const espl_job *j, const char *decided_by, const espl_report_quality *dense,
                            const espl_report_quality *pruned, espl_str *out) {
    espl_str id = {0}, name = {0};
    espl_status st;
    espl_model_put_id(j->o->model_path, &id);
    espl_model_put_name(j->o->model_path, &name);
    ESPL_CHECK(st, done, espl_str_status(&id));
    ESPL_CHECK(st, done, espl_str_status(&name));
    ESPL_CHECK(st, done, card_put_front_matter(j, id.data, out));
    espl_str_puts(out, "# ");
    card_put_code(out, name.data);
    espl_str_printf(out, ", pruned to %.1f %%\n\n", 100 * espl_job_sparsity(j, j->pruned));
    card_put_code(out, id.data);
    espl_str_puts(out,
                  " with a part of the weights of its linear layers set to zero. Licence, uses and limits are those "
                  "of the base model; its card, if it came with one, is `README.base.md`.\n\n");
    ESPL_CHECK(st, done, card_put_method(j, decided_by, out));
    card_put_sparsity(j, out);
    card_put_quality(j, dense, pruned, out);
    card_put_command(j, out);
    card_put_use(j, out);
    st = espl_str_status(out);
done:
    espl_str_free(&id);
    espl_str_free(&name);
    return st;
}
