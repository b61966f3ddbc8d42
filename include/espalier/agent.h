/*
 * agent: who decides where to cut. One object on rank 0 is asked once per iteration and answers with a validated
 * decision; behind it stands an embedded policy, an OpenAI-compatible endpoint or a recorded dialogue. No MPI here.
 * All functions are Rank 0 only (pure ones may be called anywhere: Local). docs/agent.md describes prompt, reply,
 * policy and the record.
 *
 * Sparsities and steps are fractions of a linear's weights, 0 .. 1. A step means round(step * weights) more zeros.
 */
#ifndef ESPALIER_AGENT_H
#define ESPALIER_AGENT_H

#include "espalier/base.h"
#include "espalier/loop/loop.h"

/* ------------------------------------------------------------------ options */

/* X(name, name in a configuration) */
#define ESPL_BACKEND_LIST(X)                                                                                           \
    X(POLICY, "policy")                                                                                                \
    X(OPENAI, "openai")                                                                                                \
    X(REPLAY, "replay")
typedef enum espl_agent_backend {
#define X(name, text) ESPL_BACKEND_##name,
    ESPL_BACKEND_LIST(X)
#undef X
        ESPL_BACKEND_COUNT
} espl_agent_backend;

/* What happens in an iteration for which the endpoint gave no usable answer. X(name, name in a configuration) */
#define ESPL_FALLBACK_LIST(X)                                                                                          \
    X(POLICY, "policy") /* the policy decides this iteration */                                                        \
    X(STOP, "stop")     /* the run ends here, with what is accepted */                                                 \
    X(FAIL, "fail")     /* ESPL_AGENT: exit code 69 */
typedef enum espl_agent_fallback {
#define X(name, text) ESPL_FALLBACK_##name,
    ESPL_FALLBACK_LIST(X)
#undef X
        ESPL_FALLBACK_COUNT
} espl_agent_fallback;

/* Local. The name in a configuration ("openai"), static storage; and back: false for a name that is none. */
const char *espl_agent_backend_name(espl_agent_backend b);
bool espl_agent_backend_parse(const char *name, espl_agent_backend *out);
const char *espl_agent_fallback_name(espl_agent_fallback f);
bool espl_agent_fallback_parse(const char *name, espl_agent_fallback *out);

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

/* An OpenAI-compatible endpoint. Strings are borrowed until espl_agent_create has copied them. */
typedef struct espl_openai_options {
    const char *base_url; /* "https://host/v1"; "/chat/completions" is added. http and https only, no user:password */
    const char *model;    /* name of the model there */
    const char *api_key_env; /* environment variable that holds the key; NULL or "": no key is sent */
    const char *ca_file;     /* certificates to trust; NULL or "": the system's */
    double temperature;      /* 0.2; NAN: not sent */
    int64_t max_tokens;      /* 4096; 0: not sent */
    int64_t seed;            /* 0; < 0: not sent */
    int64_t connect_ms;      /* 10000 */
    int64_t total_ms;        /* 300000, per request */
    int64_t retries;         /* 4: requests repeated after 408, 425, 429, 5xx, time-out, lost or refused connection */
    int64_t retry_base_ms;   /* 1000: wait before the first repetition; doubled each time, no jitter */
    int64_t retry_max_ms;    /* 60000: longest wait; a server's Retry-After is honoured up to this */
    int64_t max_reply_bytes; /* 1 MiB: a longer reply is cut off and counts as no answer */
} espl_openai_options;

typedef struct espl_agent_options {
    espl_agent_backend backend;   /* POLICY */
    espl_agent_fallback fallback; /* POLICY; for backend OPENAI */
    int64_t max_invalid;          /* 2: how often an invalid reply is answered with its problems, per iteration */
    int64_t give_up_after;        /* 3: iterations in a row without an answer, then the endpoint is asked no more */
    bool honour_stop;             /* true; false: an endpoint may not end the run before the target */
    int64_t prompt_bytes;         /* 65536: most bytes of a user message (the table of profiles is always whole) */
    const char *model_name;       /* of the model being pruned, for the prompt; NULL: not named */
    const char *dialogue_path;    /* dialogue.jsonl, appended to; NULL: no record */
    int64_t keep_iterations;      /* 0; what dialogue_path holds of later iterations is cut off (resume) */
    const char *replay_path;      /* the dialogue.jsonl to replay; for backend REPLAY */
    espl_openai_options openai;
    espl_policy_options policy;
    bool (*cancelled)(void *); /* polled while waiting (10 times a second); true ends the wait with ESPL_STOPPED */
    void *cancelled_arg;
} espl_agent_options;

/* Local. The defaults named above. */
void espl_agent_options_init(espl_agent_options *o);
void espl_policy_options_init(espl_policy_options *o);

/* --------------------------------------------------------------------- view */

/* What the agent sees before iteration `iteration`. Borrowed by every function that takes it. */
typedef struct espl_agent_view {
    int64_t iteration; /* 1, 2, ... */
    espl_budget budget;
    int64_t layers;
    const espl_profile_row *rows;    /* [7 * layers], by espl_linear_index; of the state that is accepted now */
    double sparsity, sparsity_model; /* overall: of the linears' weights, and of all parameters with embeddings */
    espl_probe dense, last;          /* the unpruned model, and the last accepted state */
    const espl_outcome *history;     /* [n_history] all iterations so far, oldest first, rolled back ones too */
    int64_t n_history;
    bool mixed;                    /* the agent may make a dense linear N:M in one go */
    int64_t in[ESPL_LINEAR_KINDS]; /* inputs of a linear of each kind; 0: not known, so that no N:M fits */
    const espl_pattern *patterns;  /* [7 * layers] N:M pattern of a linear, which is finished then, else all zero; NULL:
                                    * no linear has one */
} espl_agent_view;

/* -------------------------------------------------------------------- agent */

typedef struct espl_agent espl_agent;

/* Rank 0 only. An agent that keeps copies of the options; opens (and, to keep_iterations, cuts) the dialogue file and
 * reads the replay file. Owned by the caller. ESPL_CONFIG: an option out of range, a URL or a key that cannot be used,
 * a named key variable that is not set; ESPL_IO, ESPL_FORMAT: dialogue or replay file. */
espl_status espl_agent_create(espl_agent **out, const espl_agent_options *o);
/* Rank 0 only. NULL-safe. */
void espl_agent_destroy(espl_agent **a);

/* Rank 0 only. The decision of view->iteration, recorded. Blocks while an endpoint thinks: at most
 * (max_invalid + 1) * (retries + 1) * (total_ms + retry_max_ms).
 * *out is filled in any case and owned by the caller: espl_decision_free. It keeps the budget: known linears, each
 * once, ascending; 0 < step <= max_step, or (view->mixed) a pattern on a dense linear that it fits, step
 * the pattern's sparsity; nothing on a linear that is N:M already; no linear above the cap; all together not above the
 * target, and exactly at it (to the weight) when the steps that were asked for reach it. Either out->n > 0 or
 * out->stop. ESPL_AGENT: no usable answer and fallback FAIL; ESPL_FORMAT: the replay has no such iteration or does not
 * fit; ESPL_STOPPED: `cancelled`; ESPL_IO: the record cannot be written; ESPL_CONFIG: a budget or view out of range. */
espl_status espl_agent_ask(espl_agent *a, const espl_agent_view *view, espl_decision *out);

/* Rank 0 only. Where the newest decision came from: "policy", "openai", "replay", "policy (fallback)",
 * "stop (fallback)"; "" before the first. Static storage. */
const char *espl_agent_source(const espl_agent *a);

/* Totals since creation, restored ones included. */
typedef struct espl_agent_stats {
    int64_t requests, retries, invalid, fallbacks; /* HTTP requests; those repeated; invalid replies; iterations */
    int64_t prompt_tokens, completion_tokens;      /* as the endpoint counts */
    double seconds;                                /* spent asking; not restored */
} espl_agent_stats;
/* Rank 0 only. */
espl_agent_stats espl_agent_stats_get(const espl_agent *a);

/* Rank 0 only. What an agent must remember beyond the view, as bytes (JSON) appended to *out; for a checkpoint. */
espl_status espl_agent_state_save(const espl_agent *a, espl_str *out);
/* Rank 0 only. Takes up a saved state: with the same options and views the agent goes on as the saved one would have.
 * ESPL_FORMAT: not such a state; the agent is unchanged then. */
espl_status espl_agent_state_restore(espl_agent *a, const char *bytes, int64_t len);

/* ------------------------------------------------------------- its pieces */

/* Local. The policy's answer as the JSON text an LLM would write, appended to *json. A pure function of its arguments:
 * everything it learns comes from view->history. */
espl_status espl_policy_propose(const espl_agent_view *view, const espl_policy_options *o, espl_str *json);

enum { ESPL_AGENT_REPLY_MAX = 1 << 20, ESPL_AGENT_TEXT_MAX = 4000 }; /* bytes of a reply; of reason or reflection */

/* Local. Reads a reply: hostile text of any length. <think> blocks and anything around the first JSON object with
 * "prune" or "stop" are ignored. *out is initialised, and owned by the caller in any case.
 * Problems (what the author must mend, one per line, at most a few) are appended to *problems: if any, *out is empty.
 * Notes (what was trimmed: caps, the overall target, N:M that it leaves no room for, pruning along with stop) are
 * appended to *notes.
 * ESPL_NOMEM is the only failure. */
espl_status espl_agent_parse(const char *text, int64_t len, const espl_agent_view *view, espl_decision *out,
                             espl_str *problems, espl_str *notes);

/* Local. Appends the decision as reply JSON with names, patterns as texts ("2:4"); numbers read back as the same
 * doubles. */
void espl_agent_put_decision(espl_str *s, const espl_decision *d);

/* Local. The system message, and the user message of an iteration (at most max_bytes plus the table of profiles),
 * appended to *out. model_name may be NULL. */
void espl_agent_put_system(espl_str *out, const espl_agent_view *view, const char *model_name);
espl_status espl_agent_put_user(espl_str *out, const espl_agent_view *view, int64_t max_bytes);

#endif
