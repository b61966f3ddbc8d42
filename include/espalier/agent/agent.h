/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent: decides where to prune. One object on rank 0 is asked once per iteration and answers with a validated
 * decision, which comes from the embedded policy, a language model (an endpoint, or the host's), a recording or chance.
 * No MPI here. All functions are Rank 0 only. docs/agent.md describes prompt, reply, policy and record.
 */
#ifndef ESPALIER_AGENT_H
#define ESPALIER_AGENT_H

#include "espalier/agent/options.h"
#include "espalier/agent/view.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"
#include "espalier/form/form.h"

typedef struct espl_agent espl_agent;

/* Creates an agent, which copies the options; opens the dialogue file, cut to keep_iterations, and reads the replay
 * file. Owned by the caller. ESPL_CONFIG: an option out of range, an unusable URL or key, the key's environment
 * variable is not set; ESPL_IO: dialogue or replay file; ESPL_FORMAT: replay file. */
espl_status espl_agent_create(espl_agent **out, const espl_agent_options *o);
/* NULL-safe. */
void espl_agent_destroy(espl_agent **a);
/* Seals the dialogue after an iteration, and flushes it to disk (base/journal.h). Nothing without a dialogue. ESPL_IO.
 */
espl_status espl_agent_seal_dialogue(espl_agent *a, int64_t iteration);

/* A dialogue for a local model, and its reply. */
typedef struct espl_agent_message {
    const char *role, *text; /* "system", "user" or "assistant" */
} espl_agent_message;
typedef struct espl_agent_prompt {
    const espl_agent_message *messages;
    int64_t n_messages;
    const espl_form *form; /* of the reply */
    int64_t max_tokens;
    double temperature;
    uint64_t seed;
} espl_agent_prompt;
typedef struct espl_agent_completion {
    espl_str text; /* appended to */
    int64_t prompt_tokens, tokens;
    bool cut_off; /* at max_tokens */
} espl_agent_completion;

/* What an agent may ask of the run while it decides. */
typedef struct espl_agent_host {
    /* Prunes by the plan, measures the losses, says what the verdict would be, and takes the plan back. NULL: nothing
     * can be measured. A failure ends the run. */
    espl_status (*measure)(void *arg, const espl_decision *plan, espl_quality *after, bool *accepted);
    /* Backend local: the model's reply to the messages, of the given form and at most max_tokens long. ESPL_CONFIG:
     * they exceed its context; ESPL_STOPPED: cancelled; any other failure ends the run. */
    espl_status (*complete)(void *arg, const espl_agent_prompt *prompt, espl_agent_completion *out);
    void *arg;
} espl_agent_host;

/* Decides on view->iteration and records the decision. Blocks while an endpoint answers: at most
 * (max_invalid + questions + 1) * (retries + 1) * (total_ms + retry_max_ms), and while the host measures.
 * *out is always initialised and owned by the caller: espl_decision_free. The decision keeps the budget:
 * - linears of the model, each at most once, ascending, none with an N:M pattern already;
 * - 0 < step <= max_step, meaning round(step * weights) more zeros; or, with view->mixed, a pattern that fits the
 * inputs of a dense linear, with the pattern's sparsity as step;
 * - no linear above the cap, all together not above the target, and exactly at it if the requested steps reach it;
 * - out->n > 0 or out->stop, not both.
 * host may be NULL: nothing can be measured.
 * ESPL_AGENT: no usable answer and fallback FAIL; ESPL_DENIED: the endpoint denies access, whatever the fallback;
 * ESPL_FORMAT: the replay has no such iteration, or its decision does
 * not fit this run; ESPL_STOPPED: `cancelled`; ESPL_IO: the record cannot be written; ESPL_CONFIG: budget or view out
 * of range. */
espl_status espl_agent_ask(espl_agent *a, const espl_agent_view *view, const espl_agent_host *host, espl_decision *out);

/* Appends the messages that a language model would read first if it were asked now, each under a line "--- role ---".
 * Nothing is sent, recorded or counted. ESPL_CONFIG: budget or view out of range. */
espl_status espl_agent_put_prompt(espl_agent *a, const espl_agent_view *view, const espl_agent_host *host,
                                  espl_str *out);

/* The origin of the newest decision: the name of the backend, "policy (fallback)", "stop (fallback)"; "" before
 * the first. Static storage. */
const char *espl_agent_source(const espl_agent *a);

/* Totals since the start of the run, those of the restored state included. */
typedef struct espl_agent_stats {
    int64_t requests, retries;                /* to a model; HTTP requests that repeated a failed one */
    int64_t invalid;                          /* invalid replies */
    int64_t decisions;                        /* iterations that were decided, by whomever */
    int64_t fallbacks;                        /* of these: without a usable answer */
    int64_t questions, experiments;           /* actions before decisions; those of them that were measured */
    int64_t prompt_tokens, completion_tokens; /* as the endpoint counts */
    double seconds;                           /* spent in espl_agent_ask since creation; not restored */
} espl_agent_stats;
espl_agent_stats espl_agent_stats_get(const espl_agent *a);
/* Who decided, for tables and summaries: the name of the backend, or that of the policy if more than max_fallback_share
 * of the decisions were fallbacks. Static storage. */
const char *espl_agent_decided_by(const espl_agent *a);

/* The same of a saved state and the options that it was saved with, of which backend, fallback and max_fallback_share
 * are read: without an agent, which an export of a checkpoint does not need. ESPL_FORMAT: not such a state. */
espl_status espl_agent_state_decided_by(const espl_agent_options *o, const char *bytes, int64_t len, const char **name);

/* Appends what the agent must remember beyond its view to *out, as JSON, for a checkpoint. */
espl_status espl_agent_state_save(const espl_agent *a, espl_str *out);
/* Restores a saved state: with the same options and views the agent then continues as the saved one would have.
 * ESPL_FORMAT: not such a state; the agent is unchanged then. */
espl_status espl_agent_state_restore(espl_agent *a, const char *bytes, int64_t len);

#endif
