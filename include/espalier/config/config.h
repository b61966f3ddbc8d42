/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config: the options of a job. One table drives the JSON reader, --set, --print-config and docs/configuration.md.
 */
#ifndef ESPALIER_CONFIG_CONFIG_H
#define ESPALIER_CONFIG_CONFIG_H

#include "espalier/agent/options.h"
#include "espalier/comm.h"
#include "espalier/methods/options.h"

/* ---------------------------------------------------------- configuration
 *
 * A JSON object of sections, with comments (to the end of a line from //, and C's) and trailing commas:
 * docs/configuration.md.
 *
 * X(section, meaning), in the order of the tables below. */
#define ESPL_CONFIG_SECTIONS(X)                                                                                        \
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
#define ESPL_CONFIG_OPTIONS(X)                                                                                         \
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
typedef struct espl_config {
#define ESPL_CONFIG_TYPE_TEXT char *
#define ESPL_CONFIG_TYPE_INTEGER int64_t
#define ESPL_CONFIG_TYPE_REAL double
#define ESPL_CONFIG_TYPE_FLAG bool
#define X(type, section, key, value, lo, hi, meaning) ESPL_CONFIG_TYPE_##type section##_##key; /* meaning */
    ESPL_CONFIG_OPTIONS(X)
#undef X
    espl_policy_options policy;
} espl_config;

/* Local. The defaults. Texts are owned: free with espl_config_free. */
espl_status espl_config_init(espl_config *o);
void espl_config_free(espl_config *o);
/* Local. Reads a JSON file ("-": standard input) with comments over what *o holds: an object of sections. ESPL_IO;
 * ESPL_CONFIG naming file, line, key path, what was found and what was expected (unknown keys, types, ranges, a key
 * twice). After a failure *o may hold a part of the file. */
espl_status espl_config_read(const char *path, espl_config *o);
/* Local. The same for text[0..len), called `name` in messages. */
espl_status espl_config_parse(const char *text, int64_t len, const char *name, espl_config *o);
/* Local. "section.key=value" as of --set; the value is JSON; a text may do without quotes. ESPL_CONFIG. */
espl_status espl_config_set(const char *assignment, espl_config *o);
/* Local. What must hold between options (a model, a run directory, texts that are needed, an endpoint's URL).
 * ESPL_CONFIG. */
espl_status espl_config_check(const espl_config *o);
/* Local. Every file and directory that is named, to read from, can be read: better known now than at the end. ESPL_IO
 * naming key and path. */
espl_status espl_config_files(const espl_config *o);
/* Local. The effective configuration as JSON that reads back as itself; with `comments`, each option's meaning. */
espl_status espl_config_print(const espl_config *o, bool comments, espl_str *out);

/* Collective. Rank 0's configuration on every rank (elsewhere *o holds the defaults before): files may differ between
 * machines. */
espl_status espl_config_share(espl_comm *c, espl_config *o);

/* --------------------------------------------------------------- method */

/* Local. Is it a baseline that prunes in one go, without an agent? */
bool espl_config_is_oneshot(const espl_config *o);
/* Local. The method that section prune describes. ESPL_CONFIG. */
espl_status espl_config_method(const espl_config *o, espl_method_options *p);

#endif
