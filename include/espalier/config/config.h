/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config: the options of a job, from one table. Each row is a field of espl_config, a key of the JSON file, a name for
 * --set, a line of --print-config, a property of the JSON Schema and a row of docs/configuration.md. To add an option,
 * add a row (CONTRIBUTING.md; an option that names a file or has named values needs a second line elsewhere).
 *
 * Options that belong to another room (the agent's, the methods') are listed by that room, with their defaults and
 * ranges; this header only gives them a section.
 */
#ifndef ESPALIER_CONFIG_H
#define ESPALIER_CONFIG_H

#include "espalier/agent/options.h"
#include "espalier/comm.h"
#include "espalier/eval/mmlu.h"
#include "espalier/methods/options.h"
#include "espalier/tensor/arithmetic.h"

/* -------------------------------------------------------------- choices */

/* Where calibration windows come from. X(name, name in a configuration) */
#define ESPL_SAMPLE_LIST(X)                                                                                            \
    X(RANDOM, "random")                                                                                                \
    X(CONSECUTIVE, "consecutive")
typedef enum espl_sample {
#define X(name, text) ESPL_SAMPLE_##name,
    ESPL_SAMPLE_LIST(X)
#undef X
} espl_sample;
/* Whether a calibration window may reach over the end of a document. */
#define ESPL_DOCUMENTS_LIST(X)                                                                                         \
    X(JOINED, "joined")                                                                                                \
    X(INSIDE, "inside")
typedef enum espl_documents_use {
#define X(name, text) ESPL_DOCUMENTS_##name,
    ESPL_DOCUMENTS_LIST(X)
#undef X
} espl_documents_use;

/* How the ranks write the masks and updated weights of a checkpoint. */
#define ESPL_IO_LIST(X)                                                                                                \
    X(INDEPENDENT, "independent")                                                                                      \
    X(COLLECTIVE, "collective")
typedef enum espl_io {
#define X(name, text) ESPL_IO_##name,
    ESPL_IO_LIST(X)
#undef X
} espl_io;

/* When the agent's runs update weights. */
#define ESPL_UPDATE_WHEN_LIST(X)                                                                                       \
    X(END, "end")                                                                                                      \
    X(STEP, "step")
typedef enum espl_update_when {
#define X(name, text) ESPL_UPDATE_WHEN_##name,
    ESPL_UPDATE_WHEN_LIST(X)
#undef X
} espl_update_when;

/* -------------------------------------------------------------- options
 *
 * What a changed option means when a run is resumed, or when a sweep finds a run directory:
 *   IDENTITY      it says which model, texts or questions are used. Their content is compared, by hash, not their path.
 *   METHOD        another value is another method: --resume refuses it.
 *   CIRCUMSTANCE  where the run works and how long it waits. No result depends on it, and checkpoints do not hold it.
 *   FREE          the user may change it; the log names it, since the result then mixes two configurations.
 */
#define ESPL_RESUME_LIST(X)                                                                                            \
    X(IDENTITY)                                                                                                        \
    X(METHOD)                                                                                                          \
    X(CIRCUMSTANCE)                                                                                                    \
    X(FREE)
typedef enum espl_resume {
#define X(name) ESPL_RESUME_##name,
    ESPL_RESUME_LIST(X)
#undef X
} espl_resume;

/* X(section, meaning), in the order of the rows below. */
#define ESPL_CONFIG_SECTIONS(X)                                                                                        \
    X(model, "The model to prune")                                                                                     \
    X(run, "The run as a whole")                                                                                       \
    X(checkpoint, "How checkpoints are written (docs/checkpoint-format.md); what is in them does not depend on it")    \
    X(compute, "How it computes")                                                                                      \
    X(calibration, "What the sensitivity profile and the scores of weights are measured on")                           \
    X(validation, "What an iteration is judged by")                                                                    \
    X(probes, "Knowledge that is probed in the loop, so that the agent sees what it destroys")                         \
    X(knowledge, "Probe questions whose answers' loss shapes the pruning and judges it")                               \
    X(report, "What is measured of the dense and of the pruned model at the end")                                      \
    X(prune, "The goal and its rules")                                                                                 \
    X(distill, "Distillation: surviving weights learn the dense model's predictions on the calibration windows")       \
    X(agent, "Who decides what to prune. base_url and the options after it apply to backend openai; temperature, "     \
             "max_tokens and seed also to local, seed to random")                                                      \
    X(policy, "Backend policy, which is also the fallback (docs/agent.md)")

/* X(type, section, key, default, lowest, highest, resume, meaning); the field is section_key.
 *   TEXT     char *, "" means none; lowest and highest are not used
 *   CHOICE   an enumeration: `lowest` names its list of names in src/config/table.c, `highest` is its C type
 *   INTEGER  int64_t
 *   REAL     double
 *   FLAG     bool
 *   NUMBERS  char *, "0.2, 0.3": a list of numbers, each within the range, as it stands between brackets in a file; ""
 *            is empty, and the default of every one
 * Rows of other rooms come through a macro that expands to X: callers must name their macro X. */
#define ESPL_CONFIG_METHOD_ROW(type, key, value, lo, hi, meaning) X(type, prune, key, value, lo, hi, FREE, meaning)
#define ESPL_CONFIG_OPTIONS(X)                                                                                         \
    X(TEXT, model, path, "", 0, 0, IDENTITY,                                                                           \
      "Hugging Face directory of the model to prune, or OWNER/NAME[@REVISION] in the hub's cache")                     \
    X(TEXT, run, dir, "", 0, 0, CIRCUMSTANCE, "run directory; made if missing")                                        \
    X(INTEGER, run, seed, 0, 0, 9007199254740991, IDENTITY, "seed of calibration windows and of probe questions")      \
    X(INTEGER, run, keep, 2, 1, 1000000, CIRCUMSTANCE, "checkpoints to keep, the newest ones")                         \
    X(FLAG, run, export, true, 0, 1, FREE, "write the pruned model as a Hugging Face directory at the end")            \
    X(FLAG, run, export_milestones, false, 0, 1, FREE,                                                                 \
      "also write the model of each of prune.milestones, as model-0.3")                                                \
    X(REAL, run, max_minutes, 0, 0, 1e7, CIRCUMSTANCE,                                                                 \
      "stop with exit code 75 when the next iteration might end later than this; 0: no limit")                         \
    X(TEXT, run, dense_cache, "", 0, 0, CIRCUMSTANCE,                                                                  \
      "directory that keeps what the dense model scores, for other runs that would measure the same; none: each run "  \
      "measures it. The runs of a sweep share .dense in its directory")                                                \
    X(INTEGER, run, batch, 1024, 1, 1048576, FREE, "tokens per micro-batch")                                           \
    X(INTEGER, run, replicas, 0, 0, 1048576, CIRCUMSTANCE,                                                             \
      "replicas of the model, which share windows and questions; the ranks of each hold slices of its layers. 0: as "  \
      "many as there is memory for")                                                                                   \
    X(INTEGER, run, team, 0, 0, 1048576, CIRCUMSTANCE,                                                                 \
      "replicas that take one calibration window of the profile together, each some of its tokens; it divides their "  \
      "number. 0: as few as keep all replicas about equally busy. Without effect on models with experts")              \
    X(CHOICE, checkpoint, io, ESPL_IO_INDEPENDENT, io, espl_io, CIRCUMSTANCE,                                          \
      "each rank writes its layers on its own, or all take part in collective MPI-IO calls")                           \
    X(INTEGER, checkpoint, alignment, 0, 0, 1073741824, CIRCUMSTANCE,                                                  \
      "bytes: datasets at least as large begin at a multiple of it, such as the stripe of a file system; 0: anywhere") \
    X(TEXT, checkpoint, hints, "", 0, 0, CIRCUMSTANCE,                                                                 \
      "hints for MPI-IO, such as striping_factor=8,striping_unit=1048576,cb_nodes=4")                                  \
    X(CHOICE, compute, arithmetic, ESPL_ARITHMETIC_F32, arithmetic, espl_arithmetic, METHOD,                           \
      "arithmetic of matrix products while the run profiles, searches, tries plans, prunes and judges: f32, or bf16 "  \
      "(oneDNN); distillation is always f32")                                                                          \
    X(TEXT, calibration, text, "", 0, 0, IDENTITY, "calibration text, or JSON Lines with a \"text\" each")             \
    X(INTEGER, calibration, window, 2048, 2, 16777216, IDENTITY, "tokens of a calibration window")                     \
    X(INTEGER, calibration, forward, 128, 0, 1000000, IDENTITY, "windows for activation statistics (Wanda)")           \
    X(INTEGER, calibration, backward, 16, 0, 1000000, IDENTITY, "windows whose gradients are taken")                   \
    X(CHOICE, calibration, sample, ESPL_SAMPLE_RANDOM, sample, espl_sample, IDENTITY,                                  \
      "windows at random places of the text, drawn by run.seed, or consecutive ones from its beginning")               \
    X(CHOICE, calibration, documents, ESPL_DOCUMENTS_JOINED, documents, espl_documents_use, IDENTITY,                  \
      "windows of the documents joined into one text, or each inside one document, as Wanda samples C4")               \
    X(TEXT, validation, text, "", 0, 0, IDENTITY, "text whose perplexity decides between accepting and rolling back")  \
    X(INTEGER, validation, window, 2048, 2, 16777216, IDENTITY, "tokens of a validation window")                       \
    X(INTEGER, validation, windows, 32, 0, 1000000, IDENTITY, "validation windows, from the beginning; 0: all")        \
    X(INTEGER, probes, every, 1, 1, 1000000, FREE, "iterations between two knowledge probes")                          \
    X(TEXT, probes, mmlu, "", 0, 0, IDENTITY, "MMLU directory for the probe in the loop")                              \
    X(CHOICE, probes, mmlu_split, ESPL_MMLU_SPLIT_VAL, mmlu_split, espl_mmlu_split, IDENTITY,                          \
      "MMLU split of the probe")                                                                                       \
    X(CHOICE, probes, mmlu_style, ESPL_MMLU_HENDRYCKS, mmlu_style, espl_mmlu_style, IDENTITY,                          \
      "MMLU prompts, in the loop and in the report")                                                                   \
    X(INTEGER, probes, mmlu_shots, 5, 0, 1000, IDENTITY, "MMLU examples, in the loop and in the report")               \
    X(INTEGER, probes, mmlu_questions, 100, 0, 1000000, IDENTITY,                                                      \
      "MMLU questions in the loop, a fixed sample; 0: all")                                                            \
    X(TEXT, probes, freebaseqa, "", 0, 0, IDENTITY, "FreebaseQA file for the probe in the loop")                       \
    X(TEXT, probes, freebaseqa_examples, "", 0, 0, IDENTITY,                                                           \
      "file of FreebaseQA's examples; none: the first questions of each file")                                         \
    X(INTEGER, probes, freebaseqa_shots, 5, 0, 1000, IDENTITY, "FreebaseQA examples, in the loop and in the report")   \
    X(INTEGER, probes, freebaseqa_questions, 100, 0, 1000000, IDENTITY, "FreebaseQA questions in the loop; 0: all")    \
    X(INTEGER, probes, freebaseqa_tokens, 32, 1, 100000, IDENTITY, "longest answer in tokens")                         \
    X(INTEGER, knowledge, windows, 8, 0, 100000, IDENTITY,                                                             \
      "windows of questions of each probe whose gradients go into the profile, and as many that judge a step; a "      \
      "third "                                                                                                         \
      "of the probes' questions is kept for the profile; 0: questions are only counted")                               \
    X(REAL, knowledge, share, 0.2, 0, 1, METHOD,                                                                       \
      "weight of the answers' loss against the text's, in scores, damage and judgement")                               \
    X(CHOICE, report, arithmetic, ESPL_ARITHMETIC_F32, arithmetic, espl_arithmetic, FREE,                              \
      "arithmetic of the report's measurements, whatever compute.arithmetic is")                                       \
    X(TEXT, report, text, "", 0, 0, FREE, "test text: perplexity of the dense and the pruned model at the end")        \
    X(INTEGER, report, window, 2048, 2, 16777216, FREE, "tokens of a test window")                                     \
    X(INTEGER, report, limit, 0, 0, 9007199254740991, FREE, "test tokens; 0: all")                                     \
    X(TEXT, report, mmlu, "", 0, 0, FREE, "MMLU directory for the report")                                             \
    X(CHOICE, report, mmlu_split, ESPL_MMLU_SPLIT_TEST, mmlu_split, espl_mmlu_split, FREE, "MMLU split of the report") \
    X(INTEGER, report, mmlu_questions, 0, 0, 1000000, FREE, "MMLU questions in the report; 0: all")                    \
    X(TEXT, report, freebaseqa, "", 0, 0, FREE, "FreebaseQA file for the report")                                      \
    X(INTEGER, report, freebaseqa_questions, 0, 0, 1000000, FREE, "FreebaseQA questions in the report; 0: all")        \
    ESPL_METHOD_GOAL_LIST(ESPL_CONFIG_METHOD_ROW)                                                                      \
    X(NUMBERS, prune, milestones, "", 0, 1, FREE,                                                                      \
      "agent: sparsities on the way to the target, rising; each is a target of its own, and what the report measures " \
      "is "                                                                                                            \
      "measured there, too")                                                                                           \
    X(TEXT, prune, targets, "", 0, 0, METHOD,                                                                          \
      "patterns of the linears that may be pruned, such as *.up_proj,layers.3.*; none: all. The target is of these")   \
    X(TEXT, prune, ignore, "", 0, 0, METHOD, "patterns of linears that are never pruned")                              \
    X(TEXT, prune, caps, "", 0, 0, METHOD,                                                                             \
      "caps of single linears, such as *.down_proj=0.5,layers.0.*=0.3; the last match counts, prune.cap without one")  \
    X(REAL, prune, max_step, 0.1, 1e-6, 1, FREE, "maximum sparsity added to one linear in one iteration")              \
    X(INTEGER, prune, max_linears, 8, 1, 1000000, FREE, "maximum number of linears in one decision")                   \
    X(REAL, prune, threshold, 0.1, 0, 1e6, FREE,                                                                       \
      "relative rise of perplexity (with knowledge: of the loss) over the last accepted state above which a step is "  \
      "rolled back")                                                                                                   \
    X(REAL, prune, max_rise, 4, 0, 1e6, FREE,                                                                          \
      "relative rise of perplexity over the dense model above which a step is rolled back; 0: no limit")               \
    X(INTEGER, prune, max_iterations, 100, 1, 1000000, FREE,                                                           \
      "maximum number of iterations, including rolled-back ones")                                                      \
    X(CHOICE, prune, score, ESPL_SCORE_WANDA, score, espl_score, METHOD,                                               \
      "score that orders a linear's weights; gblm and rgs (Wanda++) for one-shot methods only")                        \
    X(REAL, prune, curvature_power, -1, -1, 1, METHOD,                                                                 \
      "score curvature: exponent of the outputs' mean squared gradients; below 0: chosen on the validation windows")   \
    X(CHOICE, prune, allocation, ESPL_ALLOCATION_AGENT, allocation, espl_allocation, METHOD,                           \
      "who says how much each linear loses: the agent, step by step, or a baseline, in one shot")                      \
    X(TEXT, prune, allocation_file, "", 0, 0, IDENTITY,                                                                \
      "allocation file: sparsities by linear, JSON or CSV, such as allocation.json of a run; target and cap are not "  \
      "read then")                                                                                                     \
    X(TEXT, prune, pattern, "unstructured", 0, 0, METHOD,                                                              \
      "unstructured, row, layer, or N:M such as 2:4 (N of M stay; the target is then not read); agent: not N:M")       \
    X(FLAG, prune, mixed, false, 0, 1, METHOD, "the agent may also make a dense linear 2:4 or 4:8 in one go")          \
    X(CHOICE, prune, update, ESPL_UPDATE_NONE, update, espl_update, METHOD,                                            \
      "new weights for the survivors; in one shot, sparsegpt also chooses which weights are pruned")                   \
    X(CHOICE, prune, update_when, ESPL_UPDATE_WHEN_END, update_when, espl_update_when, METHOD,                         \
      "agent: update once the target is reached, or after each iteration")                                             \
    X(FLAG, prune, update_shift, true, 0, 1, METHOD,                                                                   \
      "obs, reconstruct: aim at the dense model's outputs on its own inputs, not on the pruned model's")               \
    X(FLAG, prune, regrow, false, 0, 1, METHOD,                                                                        \
      "agent with score curvature: each step chooses a linear's mask anew, so that pruned weights may come back")      \
    ESPL_METHOD_TUNING_LIST(ESPL_CONFIG_METHOD_ROW)                                                                    \
    X(REAL, distill, passes, 0, 0, 1000, METHOD, "passes over the windows once the target is reached; 0: none")        \
    X(INTEGER, distill, steps, 0, 0, 100000, METHOD, "steps after each earlier iteration of the agent")                \
    X(INTEGER, distill, windows, 0, 0, 1000000, IDENTITY,                                                              \
      "calibration windows to learn from; 0: those of the profile")                                                    \
    X(INTEGER, distill, batch, 4, 1, 100000, METHOD, "windows of a step")                                              \
    X(REAL, distill, rate, 0.01, 1e-9, 1, METHOD,                                                                      \
      "first step size, as a fraction of the root mean square of a linear's weights; it falls to 0")                   \
    X(REAL, distill, share, 0, 0, 1, METHOD, "weight of windows of probe questions among the text's windows")          \
    ESPL_AGENT_OPTION_LIST(X)

/* Section "policy" is ESPL_POLICY_LIST of the agent room; all of it is FREE. Fields are in the order of the table,
 * whatever that costs in padding. NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
typedef struct espl_config {
#define ESPL_CONFIG_FIELD_TEXT(type_) char *
#define ESPL_CONFIG_FIELD_CHOICE(type_) type_
#define ESPL_CONFIG_FIELD_INTEGER(type_) int64_t
#define ESPL_CONFIG_FIELD_REAL(type_) double
#define ESPL_CONFIG_FIELD_FLAG(type_) bool
#define ESPL_CONFIG_FIELD_NUMBERS(type_) char *
#define X(type, section, key, value, lo, hi, resume, meaning)                                                          \
    ESPL_CONFIG_FIELD_##type(hi) section##_##key; /* meaning */
    ESPL_CONFIG_OPTIONS(X)
#undef X
    espl_policy_options policy;
} espl_config;

/* -------------------------------------------------------------- reading */

/* Local. The defaults. Texts are owned: espl_config_free. */
espl_status espl_config_init(espl_config *o);
void espl_config_free(espl_config *o);
/* Local. Reads a JSON file ("-": standard input) with comments over what *o holds: an object of sections. ESPL_IO;
 * ESPL_CONFIG naming file, line, key, what was found and what was expected (unknown names, types, ranges, a name
 * twice). After a failure *o may hold a part of the file. */
espl_status espl_config_read(const char *path, espl_config *o);
/* Local. The same for text[0..len), called `name` in messages. */
espl_status espl_config_parse(const char *text, int64_t len, const char *name, espl_config *o);
/* Local. Reads the configuration that a run recorded in its manifest.json, over the defaults: an older version lacks
 * newer options. ESPL_IO; ESPL_FORMAT; ESPL_CONFIG. */
espl_status espl_config_read_recorded(const char *path, espl_config *o);
/* Local. Applies "section.key=value" of --set. The value is JSON; a text may stand without quotes. ESPL_CONFIG. */
espl_status espl_config_set(const char *assignment, espl_config *o);
/* Collective. Copies rank 0's configuration to every rank; elsewhere *o holds the defaults before. Only rank 0 reads
 * files, because they may differ between machines. */
espl_status espl_config_broadcast(espl_comm *c, espl_config *o);

/* ------------------------------------------------------------- checking */

/* Local. Checks options against each other: a model, a run directory, the texts that the method needs, an endpoint's
 * URL. ESPL_CONFIG. */
espl_status espl_config_check(const espl_config *o);
/* Local. Makes model.path, a directory or hub id, that model's directory, and agent.model_path likewise where a local
 * model decides. A status of espl_model_locate. */
espl_status espl_config_locate_model(espl_config *o);
/* Local. Checks that every file and directory to read from is readable, so that a run does not fail at its end, and
 * that the environment holds the endpoint's key. ESPL_IO naming key and path; ESPL_CONFIG naming the variable. */
espl_status espl_config_check_files(const espl_config *o);

/* ------------------------------------------------------------- printing */

typedef enum espl_config_form {
    ESPL_CONFIG_PLAIN,     /* values only */
    ESPL_CONFIG_COMMENTED, /* with the meaning and range of each option: --print-config */
    ESPL_CONFIG_CONTENT,   /* values only, CIRCUMSTANCE options at their defaults: equal for equal runs */
    ESPL_CONFIG_PORTABLE   /* CONTENT with the last part of paths, and hub ids of models of the hub's cache: for others
                              to read, who have the files elsewhere */
} espl_config_form;
/* Local. Appends the configuration as a file that reads back as itself. */
espl_status espl_config_print(const espl_config *o, espl_config_form form, espl_str *out);
/* Local. Appends a JSON Schema (2020-12) of configuration files, for editors. Comments and trailing commas are beyond
 * JSON Schema. */
espl_status espl_config_print_schema(espl_str *out);

/* ------------------------------------------------------------ comparing */

/* Local. Appends "a.b, c.d": the options with different values whose resume class is in `classes`, a sum of
 * 1 << ESPL_RESUME_*; at most `max` of them. */
espl_status espl_config_differences(const espl_config *then, const espl_config *now, unsigned classes, int64_t max,
                                    espl_str *out);

/* --------------------------------------------------------------- method */

/* Local. Does prune.allocation name a one-shot method, rather than the agent? */
bool espl_config_is_oneshot(const espl_config *o);
/* Local. Why such a run cannot have milestones, for a message; NULL: it can. */
const char *espl_config_refuses_milestones(const espl_config *o);
/* Local. prune.milestones as numbers [*n] into *out, owned by the caller; NULL if there are none. ESPL_NOMEM. */
espl_status espl_config_milestones(const espl_config *o, double **out, int64_t *n);
/* Local. Are weights updated for masks that are given (methods/update.h), rather than by SparseGPT with its own? */
bool espl_config_updates_masked(const espl_config *o);
/* Local. Are surviving weights trained at all? */
bool espl_config_distills(const espl_config *o);
/* Local. The one-shot method, or the agent's way of pruning a linear, that section prune describes. ESPL_CONFIG:
 * prune.pattern is none of the patterns. */
espl_status espl_config_method(const espl_config *o, espl_method_options *p);
/* Local. The group of weights that compete in a step of the agent: what prune.pattern says; "unstructured" is the row,
 * but the layer for score curvature. */
espl_pattern espl_config_step_pattern(const espl_config *o);

/* Local. Name in a configuration: "random". Static storage. */
const char *espl_sample_name(espl_sample s);

#endif
