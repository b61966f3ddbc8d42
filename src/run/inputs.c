/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads texts and questions. Only rank 0 reads files, because a file may differ between nodes, or be missing on some;
 * encoded ids go to all ranks, which then hold the same data.
 */
#include "inputs.h"

#include <inttypes.h>
#include <string.h>

#include "allocation.h"
#include "espalier/model/shape.h"
#include "limits.h"

enum { CALIBRATION_STREAM = 0x43414C49 }; /* stream of random numbers for the places of calibration windows */
enum { DEFAULT_CONTEXT = 2048 };          /* longest prompt for a model that does not state its longest context */

/* ----------------------------------------------------------------- texts */

static espl_status inputs_check_length(const char *key, const char *path, const espl_corpus *corpus, int64_t tokens) {
    if (corpus->n >= tokens) return ESPL_OK;
    return ESPL_FAIL(ESPL_CONFIG,
                     "%s: %s has %" PRId64 " tokens, but %" PRId64
                     " are wanted: use fewer or smaller windows, or more text",
                     key, path, corpus->n, tokens);
}

/* Local. Copies the calibration windows out of the corpus, at random places or consecutively. The random stream is
 * seeded by run.seed alone, so all ranks cut the same windows. */
static espl_status inputs_cut_joined(espl_job *j, const espl_corpus *corpus) {
    const espl_config *o = j->o;
    espl_inputs *in = &j->inputs;
    int64_t window = o->calibration_window;
    bool random = o->calibration_sample == ESPL_SAMPLE_RANDOM;
    espl_rng rng;
    espl_rng_seed(&rng, (uint64_t)o->run_seed, 0, CALIBRATION_STREAM);
    ESPL_TRY(
        inputs_check_length("calibration.text", o->calibration_text, corpus, random ? window : in->windows * window));
    ESPL_TRY(espl_mem_alloc(&in->calibration, in->windows * window, sizeof *in->calibration, "calibration windows"));
    for (int64_t i = 0; i < in->windows; i++) {
        int64_t at = random ? espl_rng_below(&rng, corpus->n - window + 1) : i * window;
        memcpy(in->calibration + i * window, corpus->ids + at, (size_t)window * sizeof *corpus->ids);
    }
    return ESPL_OK;
}

/* Collective. */
static espl_status inputs_read_calibration(espl_job *j) {
    const espl_config *o = j->o;
    espl_corpus corpus = {0};
    if (o->calibration_documents == ESPL_DOCUMENTS_INSIDE) {
        espl_cut cut = {.window = o->calibration_window,
                        .windows = j->inputs.windows,
                        .random = o->calibration_sample == ESPL_SAMPLE_RANDOM,
                        .seed = (uint64_t)o->run_seed,
                        .stream = CALIBRATION_STREAM};
        return espl_corpus_cut(j->comm, j->tokenizer, o->calibration_text, &cut, &j->inputs.calibration);
    }
    ESPL_TRY(espl_corpus_read(j->comm, j->tokenizer, o->calibration_text, &corpus));
    espl_status st = espl_comm_agree(j->comm, inputs_cut_joined(j, &corpus));
    espl_corpus_free(&corpus);
    return st;
}

/* Collective. */
static espl_status inputs_read_texts(espl_job *j) {
    const espl_config *o = j->o;
    espl_inputs *in = &j->inputs;
    in->windows = espl_max_i64(o->calibration_forward, o->calibration_backward);
    in->distilled = o->distill_windows > 0 ? o->distill_windows : in->windows;
    if (espl_config_distills(o)) in->windows = espl_max_i64(in->windows, in->distilled);
    ESPL_TRY(inputs_read_calibration(j));

    int64_t needed = espl_max_i64(o->validation_windows, 1) * o->validation_window;
    ESPL_TRY(espl_corpus_read(j->comm, j->tokenizer, o->validation_text, &in->validation));
    ESPL_TRY(inputs_check_length("validation.text", o->validation_text, &in->validation, needed));
    if (o->validation_windows > 0) in->validation.n = needed; /* the rest of the text is never measured */

    if (!*o->report_text) return ESPL_OK;
    ESPL_TRY(espl_corpus_read(j->comm, j->tokenizer, o->report_text, &in->test));
    return inputs_check_length("report.text", o->report_text, &in->test, o->report_window);
}

/* ------------------------------------------------------------- questions */

/* Collective. Shots, style and examples are the same in the loop and in the report, so that their scores compare. */
static espl_status inputs_read_questions(espl_job *j, const char *mmlu, espl_mmlu_split split, int64_t mmlu_questions,
                                         const char *freebaseqa, int64_t freebaseqa_questions, espl_question_part part,
                                         espl_questions *out) {
    const espl_config *o = j->o;
    int64_t context = j->config.max_positions > 0 ? j->config.max_positions : DEFAULT_CONTEXT;
    if (*mmlu) {
        espl_mmlu_options m = {.dir = mmlu,
                               .split = split,
                               .style = o->probes_mmlu_style,
                               .shots = o->probes_mmlu_shots,
                               .context = context,
                               .questions = mmlu_questions,
                               .seed = (uint64_t)o->run_seed,
                               .part = part};
        out->has_mmlu = true;
        ESPL_TRY(espl_mmlu_read(j->comm, j->tokenizer, &m, &out->mmlu));
    }
    if (*freebaseqa) {
        const char *examples = o->probes_freebaseqa_examples;
        espl_freebaseqa_options f = {.path = freebaseqa,
                                     .shots_path = *examples ? examples : NULL,
                                     .mode = ESPL_FREEBASEQA_STANDARD,
                                     .shots = o->probes_freebaseqa_shots,
                                     .max_tokens = o->probes_freebaseqa_tokens,
                                     .context = context,
                                     .questions = freebaseqa_questions,
                                     .seed = (uint64_t)o->run_seed,
                                     .part = part};
        out->has_freebaseqa = true;
        ESPL_TRY(espl_freebaseqa_read(j->comm, j->tokenizer, &f, &out->freebaseqa));
    }
    return ESPL_OK;
}

/* Collective. The questions of a part as windows; the same files as the counted probes. */
static espl_status inputs_read_knowledge(espl_job *j, espl_question_part part, espl_knowledge *out) {
    const espl_config *o = j->o;
    int64_t window = o->calibration_window;
    if (j->config.max_positions > 0) window = espl_min_i64(window, j->config.max_positions);
    espl_knowledge_options k = {.mmlu = *o->probes_mmlu ? o->probes_mmlu : NULL,
                                .split = o->probes_mmlu_split,
                                .style = o->probes_mmlu_style,
                                .freebaseqa = *o->probes_freebaseqa ? o->probes_freebaseqa : NULL,
                                .skip = o->probes_freebaseqa_shots,
                                .window = window,
                                .windows = o->knowledge_windows,
                                .seed = (uint64_t)o->run_seed,
                                .part = part};
    if (o->knowledge_windows == 0 || (!k.mmlu && !k.freebaseqa)) return ESPL_OK;
    return espl_knowledge_read(j->comm, j->tokenizer, &k, out);
}

/* Every rank reads the same lists. */
static espl_status inputs_read_limits(espl_job *j) {
    double **caps = &j->inputs.caps;
    if (!espl_limits_are_set(j->o)) return ESPL_OK;
    ESPL_TRY(espl_mem_alloc(caps, espl_model_linears_of(&j->config), sizeof **caps, "caps of linears"));
    return espl_limits_read(j->o, espl_model_layout(&j->config), *caps);
}

/* Collective. */
static espl_status inputs_read_allocation(espl_job *j) {
    int64_t linears = espl_model_linears_of(&j->config);
    double **sparsity = &j->inputs.allocation;
    if (j->o->prune_allocation != ESPL_ALLOCATION_GIVEN) return ESPL_OK;
    ESPL_TRY(espl_comm_agree(j->comm, espl_mem_alloc(sparsity, linears, sizeof **sparsity, "allocation")));
    ESPL_TRY(espl_comm_agree(
        j->comm, j->root ? espl_allocation_read(j->o->prune_allocation_file, espl_model_layout(&j->config), *sparsity)
                         : ESPL_OK));
    espl_comm_broadcast(j->comm, *sparsity, linears * (int64_t)sizeof **sparsity, 0);
    return ESPL_OK;
}

static void inputs_note_long_window(const espl_job *j, const char *section, int64_t window) {
    if (j->config.max_positions > 0 && window > j->config.max_positions)
        ESPL_INFO("note: %s.window is %" PRId64 ", but the model was trained for at most %" PRId64
                  " tokens (max_position_embeddings)",
                  section, window, j->config.max_positions);
}

espl_status espl_inputs_read(espl_job *j) {
    const espl_config *o = j->o;
    ESPL_TRY(espl_comm_agree(j->comm, espl_model_config_read(o->model_path, &j->config)));
    ESPL_TRY(espl_comm_agree(j->comm, j->root ? espl_tokenizer_open(o->model_path, &j->tokenizer) : ESPL_OK));
    ESPL_TRY(espl_comm_agree(j->comm, inputs_read_limits(j)));
    ESPL_TRY(inputs_read_allocation(j));
    inputs_note_long_window(j, "calibration", o->calibration_window);
    inputs_note_long_window(j, "validation", o->validation_window);
    if (*o->report_text) inputs_note_long_window(j, "report", o->report_window);
    ESPL_TRY(inputs_read_texts(j));
    /* What shapes the pruning must not be counted among what judges it. */
    espl_question_part asked = o->knowledge_windows > 0 ? ESPL_PART_JUDGE : ESPL_PART_ALL;
    ESPL_TRY(inputs_read_questions(j, o->probes_mmlu, o->probes_mmlu_split, o->probes_mmlu_questions,
                                   o->probes_freebaseqa, o->probes_freebaseqa_questions, asked, &j->inputs.probe));
    ESPL_TRY(inputs_read_knowledge(j, ESPL_PART_PROFILE, &j->inputs.profile));
    ESPL_TRY(inputs_read_knowledge(j, ESPL_PART_JUDGE, &j->inputs.judge));
    return inputs_read_questions(j, o->report_mmlu, o->report_mmlu_split, o->report_mmlu_questions,
                                 o->report_freebaseqa, o->report_freebaseqa_questions, ESPL_PART_ALL,
                                 &j->inputs.report);
}

void espl_inputs_free(espl_job *j) {
    espl_inputs *in = &j->inputs;
    espl_mem_free(&in->calibration);
    espl_mem_free(&in->allocation);
    espl_mem_free(&in->caps);
    espl_corpus_free(&in->validation);
    espl_corpus_free(&in->test);
    espl_knowledge_free(&in->profile);
    espl_knowledge_free(&in->judge);
    espl_mmlu_free(&in->probe.mmlu);
    espl_mmlu_free(&in->report.mmlu);
    espl_freebaseqa_free(&in->probe.freebaseqa);
    espl_freebaseqa_free(&in->report.freebaseqa);
    espl_tokenizer_close(&j->tokenizer);
    espl_model_config_free(&j->config);
}

espl_model_options espl_inputs_model_options(const espl_job *j) {
    const espl_config *o = j->o;
    const espl_questions *sets[] = {&j->inputs.probe, &j->inputs.report};
    int64_t context = espl_max_i64(o->calibration_window, o->validation_window);
    if (*o->report_text) context = espl_max_i64(context, o->report_window);
    espl_model_options mo = {.context = context, .batch_tokens = o->run_batch, .slots = 1};
    for (int i = 0; i < 2; i++) {
        if (sets[i]->has_mmlu) espl_prompts_need(&sets[i]->mmlu.prompts, &mo);
        if (sets[i]->has_freebaseqa) espl_freebaseqa_need(&sets[i]->freebaseqa, &j->config, &mo);
    }
    return mo;
}
