/*
 * run: the pruning job. Configuration, the loop (profile, ask, prune, judge, roll back or checkpoint), signals and
 * deadlines, the run directory, export. docs/run.md describes it for users.
 */
#ifndef ESPALIER_RUN_H
#define ESPALIER_RUN_H

#include "espalier/agent.h"
#include "espalier/comm.h"
#include "espalier/model.h"
#include "espalier/loop/loop.h"

/* ---------------------------------------------------------- configuration
 *
 * A JSON object of sections, with comments (to the end of a line from //, and C's) and trailing commas:
 * docs/configuration.md.
 *
 * X(section, meaning), in the order of the tables below. */
#define ESPL_RUN_SECTIONS(X)                                                                                           \
    X(model, "The model to prune")                                                                                     \
    X(run, "The run as a whole")                                                                                       \
    X(calibration, "What the sensitivity profile and the scores of weights are measured on")                           \
    X(validation, "What an iteration is judged by")                                                                    \
    X(probes, "Knowledge that is probed in the loop, so that the agent sees what it destroys")                         \
    X(report, "What is measured of the dense and of the pruned model at the end")                                      \
    X(prune, "The goal and its rules")                                                                                 \
    X(agent, "Who decides where to cut; from base_url on: backend openai")                                             \
    X(policy, "Backend policy, which is also the fallback (docs/agent.md)")

/*
 * One table drives reading, --set, --print-config, validation and docs/configuration.md.
 * X(type, section, key, default, lowest, highest, meaning); field section_key. TEXT: "" is none. For a TEXT with a
 * fixed set of values `lowest` is that set, "a|b|c", else NULL. */
#define ESPL_RUN_OPTIONS(X)                                                                                            \
    X(TEXT, model, path, "", NULL, 0, "Hugging Face directory of the model to prune")                                  \
    X(TEXT, run, dir, "", NULL, 0, "run directory; made if missing")                                                   \
    X(INTEGER, run, seed, 0, 0, 9007199254740991, "seed of calibration windows and of probe questions")                \
    X(INTEGER, run, keep, 2, 1, 1000000, "checkpoints to keep, the newest ones")                                       \
    X(FLAG, run, export, true, 0, 1, "write the pruned model as a Hugging Face directory at the end")                  \
    X(REAL, run, max_minutes, 0, 0, 1e7,                                                                               \
      "stop with exit code 75 when the next iteration might end later than this; 0: no limit")                         \
    X(INTEGER, run, batch, 1024, 1, 1048576, "tokens per micro-batch")                                                 \
    X(TEXT, calibration, text, "", NULL, 0, "calibration text, or .jsonl with a \"text\" per line")                    \
    X(INTEGER, calibration, window, 2048, 2, 16777216, "tokens of a calibration window")                               \
    X(INTEGER, calibration, forward, 128, 0, 1000000, "windows for activation statistics (Wanda)")                     \
    X(INTEGER, calibration, backward, 16, 0, 1000000, "windows whose gradients are taken")                             \
    X(TEXT, calibration, sample, "random", "random|consecutive", 0,                                                    \
      "windows at random places of the text, drawn by run.seed, or from its beginning on")                             \
    X(TEXT, validation, text, "", NULL, 0, "text whose perplexity decides between accepting and rolling back")         \
    X(INTEGER, validation, window, 2048, 2, 16777216, "tokens of a validation window")                                 \
    X(INTEGER, validation, windows, 32, 0, 1000000, "validation windows, from the beginning; 0: all")                  \
    X(INTEGER, probes, every, 1, 1, 1000000, "iterations between two knowledge probes")                                \
    X(TEXT, probes, mmlu, "", NULL, 0, "MMLU directory for the probe in the loop")                                     \
    X(TEXT, probes, mmlu_split, "val", "val|test|dev", 0, "MMLU split of the probe")                                   \
    X(TEXT, probes, mmlu_style, "hendrycks", "hendrycks|lm-eval", 0, "MMLU prompts, in the loop and in the report")    \
    X(INTEGER, probes, mmlu_shots, 5, 0, 1000, "MMLU examples, in the loop and in the report")                         \
    X(INTEGER, probes, mmlu_questions, 100, 0, 1000000, "MMLU questions in the loop, a fixed sample; 0: all")          \
    X(TEXT, probes, freebaseqa, "", NULL, 0, "FreebaseQA file for the probe in the loop")                              \
    X(TEXT, probes, freebaseqa_examples, "", NULL, 0,                                                                  \
      "file of FreebaseQA's examples; none: the first questions of each file")                                         \
    X(INTEGER, probes, freebaseqa_shots, 5, 0, 1000, "FreebaseQA examples, in the loop and in the report")             \
    X(INTEGER, probes, freebaseqa_questions, 100, 0, 1000000, "FreebaseQA questions in the loop; 0: all")              \
    X(INTEGER, probes, freebaseqa_tokens, 32, 1, 100000, "longest answer in tokens")                                   \
    X(TEXT, report, text, "", NULL, 0, "test text: perplexity of the dense and the pruned model at the end")           \
    X(INTEGER, report, window, 2048, 2, 16777216, "tokens of a test window")                                           \
    X(INTEGER, report, limit, 0, 0, 9007199254740991, "test tokens; 0: all")                                           \
    X(TEXT, report, mmlu, "", NULL, 0, "MMLU directory for the report")                                                \
    X(TEXT, report, mmlu_split, "test", "val|test|dev", 0, "MMLU split of the report")                                 \
    X(INTEGER, report, mmlu_questions, 0, 0, 1000000, "MMLU questions in the report; 0: all")                          \
    X(TEXT, report, freebaseqa, "", NULL, 0, "FreebaseQA file for the report")                                         \
    X(INTEGER, report, freebaseqa_questions, 0, 0, 1000000, "FreebaseQA questions in the report; 0: all")              \
    X(REAL, prune, target, 0.45, 0, 1, "sparsity of all prunable linears to reach")                                    \
    X(REAL, prune, cap, 0.8, 0, 1, "most sparsity of one linear")                                                      \
    X(REAL, prune, max_step, 0.1, 1e-6, 1, "most sparsity added to one linear in one iteration")                       \
    X(INTEGER, prune, max_linears, 8, 1, 1000000, "most linears in one decision")                                      \
    X(REAL, prune, threshold, 0.1, 0, 1e6,                                                                             \
      "perplexity increase over the last accepted state, relative, that is rolled back")                               \
    X(INTEGER, prune, max_iterations, 100, 1, 1000000, "iterations at most, rolled back ones included")                \
    X(TEXT, prune, score, "wanda", "wanda|magnitude|ria|gblm|rgs", 0,                                                  \
      "score that orders a linear's weights; gblm and rgs (Wanda++) in one shot only")                                 \
    X(TEXT, prune, allocation, "agent", "agent|uniform|owl|lsa|lsa-linear|search", 0,                                  \
      "who says how much each linear loses: the agent, step by step, or a baseline, in one shot")                      \
    X(TEXT, prune, pattern, "unstructured", NULL, 0,                                                                   \
      "unstructured, row, layer, or N:M such as 2:4 (N of M stay; the target is then not read); agent: unstructured")  \
    X(FLAG, prune, mixed, false, 0, 1, "the agent may also make a dense linear 2:4 or 4:8 in one go")                  \
    X(TEXT, prune, update, "none", "none|sparsegpt", 0, "what becomes of the weights that stay; in one shot only")     \
    X(REAL, prune, damping, 0.01, 0, 1e6, "SparseGPT: share of the Hessian's mean diagonal that is added to it")       \
    X(REAL, prune, owl_outlier, 5, 0, 1e9, "OWL: a score so many times the mean is an outlier (M)")                    \
    X(REAL, prune, owl_lambda, 0.08, 0, 1, "OWL: how far a block's sparsity may lie from the target")                  \
    X(REAL, prune, lsa_beta, -1, -1, 1, "LSA: the same; below 0: the published value for the target")                  \
    X(INTEGER, prune, search_evaluations, 400, 1, 100000000, "search: allocations that are tried")                     \
    X(TEXT, agent, backend, "policy", "policy|openai|replay", 0, "who decides")                                        \
    X(TEXT, agent, fallback, "policy", "policy|stop|fail", 0, "who decides when the endpoint does not")                \
    X(INTEGER, agent, max_invalid, 2, 0, 100, "how often an invalid reply is answered with its problems")              \
    X(INTEGER, agent, give_up_after, 3, 1, 1000000, "iterations without an answer after which it is asked no more")    \
    X(FLAG, agent, honour_stop, true, 0, 1, "the endpoint may end the run before the target")                          \
    X(INTEGER, agent, prompt_bytes, 65536, 2048, 67108864, "most bytes of a message beyond the table of profiles")     \
    X(TEXT, agent, replay, "", NULL, 0, "dialogue.jsonl to replay")                                                    \
    X(TEXT, agent, base_url, "", NULL, 0, "endpoint, for example http://127.0.0.1:8000/v1")                            \
    X(TEXT, agent, model, "", NULL, 0, "name of the model there")                                                      \
    X(TEXT, agent, api_key_env, "", NULL, 0, "environment variable that holds the key; none: no key is sent")          \
    X(TEXT, agent, ca_file, "", NULL, 0, "certificates to trust; none: the system's")                                  \
    X(REAL, agent, temperature, 0.2, -1, 10, "sampling temperature; below 0: not sent")                                \
    X(INTEGER, agent, max_tokens, 4096, 0, 10000000, "longest reply in tokens; 0: not sent")                           \
    X(INTEGER, agent, seed, 0, -1, 9007199254740991, "sampling seed; below 0: not sent")                               \
    X(INTEGER, agent, connect_ms, 10000, 1, 1000000000, "time to connect")                                             \
    X(INTEGER, agent, total_ms, 300000, 1, 1000000000, "time for one request")                                         \
    X(INTEGER, agent, retries, 4, 0, 100, "requests repeated after 408, 425, 429, 5xx and lost connections")           \
    X(INTEGER, agent, retry_base_ms, 1000, 0, 1000000000, "wait before the first repetition, then doubled")            \
    X(INTEGER, agent, retry_max_ms, 60000, 0, 1000000000, "longest wait")                                              \
    X(INTEGER, agent, max_reply_bytes, 1048576, 1024, 268435456, "a longer reply counts as none")

/* Section "policy" is agent.h's ESPL_POLICY_LIST. */
typedef struct espl_run_config {
#define ESPL_RUN_TYPE_TEXT char *
#define ESPL_RUN_TYPE_INTEGER int64_t
#define ESPL_RUN_TYPE_REAL double
#define ESPL_RUN_TYPE_FLAG bool
#define X(type, section, key, value, lo, hi, meaning) ESPL_RUN_TYPE_##type section##_##key; /* meaning */
    ESPL_RUN_OPTIONS(X)
#undef X
    espl_policy_options policy;
} espl_run_config;

/* Local. The defaults. Texts are owned: free with espl_run_config_free. */
espl_status espl_run_config_init(espl_run_config *o);
void espl_run_config_free(espl_run_config *o);
/* Local. Reads a JSON file ("-": standard input) with comments over what *o holds: an object of sections. ESPL_IO;
 * ESPL_CONFIG naming file, line, key path, what was found and what was expected (unknown keys, types, ranges, a key
 * twice). After a failure *o may hold a part of the file. */
espl_status espl_run_config_read(const char *path, espl_run_config *o);
/* Local. The same for text[0..len), called `name` in messages. */
espl_status espl_run_config_parse(const char *text, int64_t len, const char *name, espl_run_config *o);
/* Local. "section.key=value" as of --set; the value is JSON; a text may do without quotes. ESPL_CONFIG. */
espl_status espl_run_config_set(const char *assignment, espl_run_config *o);
/* Local. What must hold between options (a model, a run directory, texts that are needed, an endpoint's URL).
 * ESPL_CONFIG. */
espl_status espl_run_config_check(const espl_run_config *o);
/* Local. Every file and directory that is named, to read from, can be read: better known now than at the end. ESPL_IO
 * naming key and path. */
espl_status espl_run_config_files(const espl_run_config *o);
/* Local. The effective configuration as JSON that reads back as itself; with `comments`, each option's meaning. */
espl_status espl_run_config_print(const espl_run_config *o, bool comments, espl_str *out);

/* Collective. Rank 0's configuration on every rank (elsewhere *o holds the defaults before): files may differ between
 * machines. */
espl_status espl_run_config_share(espl_comm *c, espl_run_config *o);

/* -------------------------------------------------------------------- job */

/* Collective. Runs (or, with `resume`, continues) the job. ESPL_STOPPED (75): stopped early, can be resumed. */
espl_status espl_run_prune(espl_comm *c, const espl_run_config *o, bool resume);

/* Collective. A hash of the weights of all linears as the source has them, on rank 0 (elsewhere 0): "weights" in a
 * checkpoint's identity. The model must not have been given other weights. */
espl_status espl_run_hash_weights(espl_comm *c, const espl_model *m, uint64_t *hash);

/* Collective. Prints on rank 0 what the job would take: layer-to-rank map, bytes per rank, time per iteration. ranks: 0
 * for the number that is running. */
espl_status espl_run_dry(espl_comm *c, const espl_run_config *o, int64_t ranks);

/* ------------------------------------------------------------------ sweep
 *
 * A grid of runs, each with a number (from 0 here, from 1 for users), a name and a directory of that name:
 * docs/sweep.md. How far they are stands in their directories alone. */
typedef struct espl_sweep espl_sweep;

enum { ESPL_SWEEP_MAX = 10000 }; /* runs at most */

/* X(name, text) */
#define ESPL_SWEEP_STATE_LIST(X)                                                                                       \
    X(FINISHED, "finished")                                                                                            \
    X(RESUMABLE, "resumable") /* has a checkpoint, or is under way */                                                  \
    X(FAILED, "failed")                                                                                                \
    X(DIFFERS, "differs") /* the directory holds a run with another configuration */                                   \
    X(NEW, "new")

typedef enum espl_sweep_state {
#define X(name, text) ESPL_SWEEP_##name,
    ESPL_SWEEP_STATE_LIST(X)
#undef X
        ESPL_SWEEP_STATES
} espl_sweep_state;

/* "resumable". Static storage. */
const char *espl_sweep_state_name(espl_sweep_state state);

/* Local. Reads a sweep ("-": standard input) and expands it. ESPL_IO; ESPL_CONFIG naming file, line and what was
 * expected. Owned by the caller. */
espl_status espl_sweep_read(const char *path, espl_sweep **out);
espl_status espl_sweep_parse(const char *text, int64_t len, const char *name, espl_sweep **out);
void espl_sweep_free(espl_sweep **s);
/* Local. "section.key=value" for every run, over all else. ESPL_CONFIG, also for an option that the sweep varies. */
espl_status espl_sweep_set(espl_sweep *s, const char *assignment);

int64_t espl_sweep_count(const espl_sweep *s);                 /* Local */
const char *espl_sweep_name(const espl_sweep *s, int64_t run); /* Local. Borrowed. */
/* Local. The configuration of a run over what *o holds, which are the defaults. ESPL_IO, ESPL_CONFIG. */
espl_status espl_sweep_config(const espl_sweep *s, int64_t run, espl_run_config *o);
/* Local. Every run's configuration is possible (espl_run_config_check). The error names the run. */
espl_status espl_sweep_check(const espl_sweep *s);

/* Local. How far a run is, and, appended, what there is to say about it. */
espl_status espl_sweep_state_of(const espl_sweep *s, int64_t run, espl_sweep_state *state, espl_str *note);
/* Local. One line per run, and totals, appended. */
espl_status espl_sweep_list(const espl_sweep *s, espl_str *out);
/* Local. The users' numbers of the runs that are still to be done, as Slurm's --array takes them, "1-4,7"; "" if there
 * are none. Appended. */
espl_status espl_sweep_unfinished(const espl_sweep *s, espl_str *out);

/* Collective. Does what is still to be done, one run after another, those that failed before at last, or only run
 * `only` (below 0: all). s: on rank 0, elsewhere NULL. A run that fails goes on record in its directory, and the others
 * go on: ESPL_FAILED at the end. ESPL_STOPPED; ESPL_CONFIG: a directory holds another run. run.max_minutes counts from
 * here. */
espl_status espl_sweep_run(espl_comm *c, const espl_sweep *s, int64_t only);

/* ----------------------------------------------------------------- export */

struct espl_model;
/* Collective. Writes the current, masked model as a Hugging Face directory: the source's shards with their headers to
 * the byte, pruned weights +0, all other bits as the model has them (espl_model_set_weight) or as in the source, and
 * the other files of `source` (config.json, tokenizer files, ...) but for directories, other weights and what is larger
 * than 1 GiB. Each rank writes the tensors of its slice; the result does not depend on how many there are. It grows as
 * DIR.part and appears under its name, on the disk, only when complete. An empty directory and an earlier export of
 * this model are replaced. On failure DIR is as it was, and DIR.part is gone. dir is read on rank 0. ESPL_IO naming the
 * file: also if dir is the source or holds anything else. */
espl_status espl_run_export(espl_comm *c, const struct espl_model *m, const char *source, const char *dir);
/* Collective. ESPL_IO as espl_run_export would fail for dir and what is in it. Makes dir's parent, nothing else. */
espl_status espl_run_export_check(espl_comm *c, const struct espl_model *m, const char *source, const char *dir);

#endif
