/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options of the agent, with the only copy of their defaults, ranges and meanings: the configuration's table, the
 * checks of espl_agent_create and the structures below are generated from the two lists. All functions are Local.
 */
#ifndef ESPALIER_AGENT_OPTIONS_H
#define ESPALIER_AGENT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "espalier/loop/linear.h"

/* Who decides. X(name, name in a configuration) */
#define ESPL_BACKEND_LIST(X)                                                                                           \
    X(POLICY, "policy") /* the embedded policy */                                                                      \
    X(OPENAI, "openai") /* a language model behind an OpenAI-compatible endpoint */                                    \
    X(LOCAL, "local")   /* a language model that the run's own ranks compute */                                        \
    X(REPLAY, "replay") /* the decisions of a recorded dialogue */                                                     \
    X(RANDOM, "random") /* valid plans at random: a baseline */
typedef enum espl_agent_backend {
#define X(name, text) ESPL_BACKEND_##name,
    ESPL_BACKEND_LIST(X)
#undef X
        ESPL_BACKEND_COUNT
} espl_agent_backend;

/* What happens in an iteration for which the endpoint gave no usable answer. X(name, name in a configuration) */
#define ESPL_FALLBACK_LIST(X)                                                                                          \
    X(POLICY, "policy") /* the policy decides this iteration */                                                        \
    X(STOP, "stop")     /* the run ends with the last accepted state */                                                \
    X(FAIL, "fail")     /* espl_agent_ask fails with ESPL_AGENT, the program with exit code 69 */
typedef enum espl_agent_fallback {
#define X(name, text) ESPL_FALLBACK_##name,
    ESPL_FALLBACK_LIST(X)
#undef X
        ESPL_FALLBACK_COUNT
} espl_agent_fallback;

/* What a language model is told about the linears. X(name, name in a configuration) */
#define ESPL_VIEW_LIST(X)                                                                                              \
    X(FULL, "full")   /* prices, knowledge, expected against measured outcomes, the policy's plan; questions */        \
    X(PAPER, "paper") /* z_s, z_g and sparsity; no questions: the input of arXiv 2601.09694 */
typedef enum espl_agent_sight {
#define X(name, text) ESPL_VIEW_##name,
    ESPL_VIEW_LIST(X)
#undef X
        ESPL_VIEW_COUNT
} espl_agent_sight;

/* Lines of the table of profiles. X(name, name in a configuration) */
#define ESPL_TABLE_LIST(X)                                                                                             \
    X(LINEARS, "linears") /* one for each linear */                                                                    \
    X(GROUPS, "groups")   /* one for each layer and each kind of linear, and the cheapest linears */
typedef enum espl_agent_table {
#define X(name, text) ESPL_TABLE_##name,
    ESPL_TABLE_LIST(X)
#undef X
        ESPL_TABLE_COUNT
} espl_agent_table;

/* How a language model asks before it decides. X(name, name in a configuration) */
#define ESPL_TOOLS_LIST(X)                                                                                             \
    X(AUTO, "auto")       /* OpenAI tool calls, or JSON actions once the server refuses those */                       \
    X(ACTIONS, "actions") /* JSON actions in the text of replies */                                                    \
    X(NONE, "none")       /* not at all: each reply is a decision */
typedef enum espl_agent_tools {
#define X(name, text) ESPL_TOOLS_##name,
    ESPL_TOOLS_LIST(X)
#undef X
        ESPL_TOOLS_COUNT
} espl_agent_tools;

/* "openai", "fail": the names in a configuration. Static storage. */
const char *espl_agent_backend_name(espl_agent_backend b);
const char *espl_agent_fallback_name(espl_agent_fallback f);

/* True if a URL holds a user or password, or a query that names a key: it must not be printed or recorded. */
bool espl_agent_url_holds_secret(const char *url);

/* ------------------------------------------------------------ the lists */

/* Section "agent" of a configuration, in the format of ESPL_CONFIG_OPTIONS (config/config.h), which includes it.
 * X(type, section, key, default, lowest, highest, resume, meaning)
 *   TEXT     "" or NULL: none; lowest and highest are not used
 *   CHOICE   lowest: name of the list of values in the configuration; highest: the C type
 *   INTEGER, REAL, FLAG
 * `resume`: class of ESPL_RESUME_LIST (config); the agent ignores it. */
#define ESPL_AGENT_OPTION_LIST(X)                                                                                      \
    X(CHOICE, agent, backend, ESPL_BACKEND_POLICY, backend, espl_agent_backend, FREE, "who decides")                   \
    X(CHOICE, agent, fallback, ESPL_FALLBACK_POLICY, fallback, espl_agent_fallback, FREE,                              \
      "who decides when the endpoint does not")                                                                        \
    X(INTEGER, agent, max_invalid, 2, 0, 100, FREE, "how often an invalid reply is answered with its problems")        \
    X(INTEGER, agent, give_up_after, 3, 1, 1000000, FREE,                                                              \
      "consecutive iterations without a usable answer before the endpoint is given up")                                \
    X(FLAG, agent, honour_stop, true, 0, 1, FREE, "the endpoint may end the run before the target")                    \
    X(CHOICE, agent, view, ESPL_VIEW_FULL, view, espl_agent_sight, FREE,                                               \
      "what a language model sees: all that is measured, or the paper's z_s, z_g and sparsity alone")                  \
    X(CHOICE, agent, table, ESPL_TABLE_LINEARS, table, espl_agent_table, FREE,                                         \
      "lines of the table of profiles: every linear, or layers and kinds, for a short context")                        \
    X(CHOICE, agent, tools, ESPL_TOOLS_AUTO, tools, espl_agent_tools, FREE,                                            \
      "how a language model asks before it decides")                                                                   \
    X(INTEGER, agent, questions, 8, 0, 1000, FREE, "questions that it may ask in an iteration")                        \
    X(INTEGER, agent, experiments, 2, 0, 1000, FREE, "plans among them that are measured and taken back")              \
    X(REAL, agent, max_fallback_share, 0.1, 0, 1, FREE,                                                                \
      "a run with a larger share of fallback decisions counts as the policy's, and ends with exit code 4")             \
    X(INTEGER, agent, prompt_bytes, 65536, 2048, 67108864, FREE,                                                       \
      "maximum bytes of a message beyond the table of profiles")                                                       \
    X(TEXT, agent, prompt_file, "", 0, 0, FREE, "system message in place of ours, with {{fields}} (docs/agent.md)")    \
    X(TEXT, agent, replay, "", 0, 0, FREE, "dialogue.jsonl to replay")                                                 \
    X(TEXT, agent, model_path, "", 0, 0, FREE,                                                                         \
      "backend local: directory of the model that decides; \"self\": the dense model that is pruned")                  \
    X(INTEGER, agent, context, 8192, 256, 10000000, FREE, "backend local: tokens of a prompt and its reply together")  \
    X(TEXT, agent, base_url, "", 0, 0, CIRCUMSTANCE, "endpoint, for example http://127.0.0.1:8000/v1")                 \
    X(TEXT, agent, model, "", 0, 0, FREE, "name of the model there")                                                   \
    X(TEXT, agent, api_key_env, "", 0, 0, CIRCUMSTANCE,                                                                \
      "environment variable that holds the key; none: no key is sent")                                                 \
    X(FLAG, agent, plain_http, false, 0, 1, CIRCUMSTANCE, "send the key over http, unencrypted, to another host")      \
    X(TEXT, agent, extra_body, "", 0, 0, FREE,                                                                         \
      "JSON object whose members are added to requests, such as {\"reasoning_effort\": \"low\"}")                      \
    X(TEXT, agent, ca_file, "", 0, 0, CIRCUMSTANCE, "certificates to trust; none: the system's")                       \
    X(REAL, agent, temperature, 0.2, -1, 10, FREE, "sampling temperature; below 0: not sent")                          \
    X(INTEGER, agent, max_tokens, 4096, 0, 10000000, FREE, "longest reply in tokens; 0: not sent")                     \
    X(INTEGER, agent, seed, 0, -1, 9007199254740991, FREE, "sampling seed; below 0: not sent")                         \
    X(INTEGER, agent, connect_ms, 10000, 1, 1000000000, CIRCUMSTANCE, "time to connect")                               \
    X(INTEGER, agent, total_ms, 300000, 1, 1000000000, CIRCUMSTANCE, "time for one request")                           \
    X(INTEGER, agent, retries, 4, 0, 100, CIRCUMSTANCE,                                                                \
      "requests repeated after 408, 425, 429, 5xx and lost connections")                                               \
    X(INTEGER, agent, retry_base_ms, 1000, 0, 1000000000, CIRCUMSTANCE,                                                \
      "wait before the first repetition, then doubled")                                                                \
    X(INTEGER, agent, retry_max_ms, 60000, 0, 1000000000, CIRCUMSTANCE, "longest wait")                                \
    X(INTEGER, agent, max_reply_bytes, 1048576, 1024, 268435456, FREE, "a longer reply counts as none")

/* The embedded policy. All defaults are ours, not the paper's. X(type, name, default, lowest, highest, meaning) */
#define ESPL_POLICY_LIST(X)                                                                                            \
    X(double, weight_s, 0.2, -4, 4, "log of a linear's expected cost per unit of z_s, before anything is learned")     \
    X(double, weight_g, 0.2, -4, 4, "the same per unit of z_g")                                                        \
    X(double, z_clip, 2.5, 0, 100, "z-scores are cut to +- this")                                                      \
    X(double, power, 3, 1.1, 10, "damage of a linear grows as sparsity ^ power")                                       \
    X(double, spread, 0.45, 0, 1, "how far above the target a linear's sparsity is planned at most")                   \
    X(double, horizon, 24, 1, 1e6, "accepted iterations in which to reach the target if all goes well")                \
    X(double, schedule, 0.75, 0.1, 10, "planned sparsity after a fraction t of the horizon: target * t ^ schedule")    \
    X(double, safety, 0.5, 0.01, 1, "share of the rollback threshold a step may be expected to use (0.9 in need)")     \
    X(double, backoff, 0.5, 0.01, 0.99, "factor on amount and steps after a rollback")                                 \
    X(double, recover, 1.5, 1, 100, "factor on them after an accepted iteration, up to 1 again")                       \
    X(double, finest, 1.0 / 256, 1e-9, 1, "smallest factor on the planned amount")                                     \
    X(double, cooldown, 3, 0, 1e6, "iterations for which the culprits of a rollback rest")                             \
    X(double, min_step, 0.005, 0, 1, "smaller steps are left for later while larger ones are to be had")               \
    X(double, damage_2_4, 2.3, 1, 100,                                                                                 \
      "prune.mixed: damage of 2:4 as a multiple of that of 50 % unstructured; a guess")                                \
    X(double, damage_4_8, 1.5, 1, 100, "the same of 4:8")                                                              \
    X(double, pattern_near, 0.05, 0, 1, "prune.mixed: dense linears planned at 50 % less this, or more, may be N:M")   \
    X(double, pattern_extra, 0.25, 0, 100, "prune.mixed: share of the plan's expected damage that N:M may add to it")  \
    X(double, passes, 12, 0, 1000, "Gauss-Newton passes when learning costs from the history; 0: never learn")         \
    X(double, noise, 0.5, 0.001, 100, "standard error of an outcome's log damage against the model")                   \
    X(double, doubt_global, 1, 0, 100, "prior standard deviation of the log cost: of all linears together,")           \
    X(double, doubt_slope, 0.05, 0, 100, "of the effect of a unit of z_s or z_g,")                                     \
    X(double, doubt_kind, 0.15, 0, 100, "of a kind of linear,")                                                        \
    X(double, doubt_layer, 0.1, 0, 100, "of a decoder layer,")                                                         \
    X(double, doubt_own, 0.1, 0, 100, "and of a linear itself;")                                                       \
    X(double, guess, 4, 1, 100, "factor on these five, and divisor of the noise, where there are no damage curves")
typedef struct espl_policy_options {
#define X(type, name, value, lo, hi, meaning) type name; /* meaning */
    ESPL_POLICY_LIST(X)
#undef X
} espl_policy_options;

/* ------------------------------------------------------- the structures */

struct espl_outcome; /* loop/loop.h */

typedef struct espl_agent_options {
#define ESPL_AGENT_FIELD_TEXT(ctype) const char *
#define ESPL_AGENT_FIELD_CHOICE(ctype) ctype
#define ESPL_AGENT_FIELD_INTEGER(ctype) int64_t
#define ESPL_AGENT_FIELD_REAL(ctype) double
#define ESPL_AGENT_FIELD_FLAG(ctype) bool
/* NOLINTNEXTLINE(bugprone-macro-parentheses): a member's name */
#define X(type, section, key, value, lo, hi, resume, meaning) ESPL_AGENT_FIELD_##type(hi) key; /* meaning */
    ESPL_AGENT_OPTION_LIST(X)
#undef X
    espl_policy_options policy;
    /* Of the run, not of its configuration: */
    int64_t run_seed;          /* of backends random and local, beside agent.seed */
    const char *model_name;    /* of the model that is pruned, for the prompt; NULL: not named */
    const char *dialogue_path; /* dialogue.jsonl, appended to; NULL: no record */
    int64_t keep_iterations;   /* records of later iterations in dialogue_path are cut off (resume) */
    /* [n_history] What the run carried out so far, borrowed until espl_agent_create returns. Decisions that are missing
     * in dialogue_path, which may have been damaged, are written again from it. */
    const struct espl_outcome *history;
    espl_layout layout; /* of the model that they are about */
    int64_t n_history;
    bool (*cancelled)(void *); /* polled ten times a second while waiting; true ends the wait with ESPL_STOPPED */
    void *cancelled_arg;
} espl_agent_options;

/* The defaults. Texts are static; those that a caller sets are borrowed until espl_agent_create has copied them. */
void espl_agent_options_init(espl_agent_options *o);

#endif
