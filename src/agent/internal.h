/* What the files of the room agent share. */
#ifndef ESPALIER_AGENT_INTERNAL_H
#define ESPALIER_AGENT_INTERNAL_H

#include "espalier/agent/agent.h"
#include "espalier/agent/reply.h"

static inline int64_t espl_view_linears(const espl_agent_view *v) { return v->layers * ESPL_LINEAR_KINDS; }

static inline double espl_row_sparsity(const espl_profile_row *r) {
    return r->weights > 0 ? (double)r->pruned / (double)r->weights : 0;
}

/* Weights of all linears, and how many more may be pruned until the target (<= 0: none). */
int64_t espl_view_weights(const espl_agent_view *v);
int64_t espl_view_left(const espl_agent_view *v);
/* How many more weights of linear i may be pruned until the cap; 0 if none, and if it is N:M. */
int64_t espl_view_room(const espl_agent_view *v, int64_t i);
/* A step to show as an example. */
static inline double espl_view_example(const espl_agent_view *v) {
    return v->budget.max_step < 0.05 ? v->budget.max_step : 0.05;
}
/* The pattern that linear i has become. */
static inline espl_pattern espl_view_pattern(const espl_agent_view *v, int64_t i) {
    return v->patterns ? v->patterns[i] : (espl_pattern){0};
}
/* Are the inputs of linears like i whole groups of pattern p? */
bool espl_view_fits(const espl_agent_view *v, int64_t i, espl_pattern p);

/* damage.c: do all linears have a damage curve (in nats, as one needs them to compare linears)? The curve of one. */
bool espl_view_has_damage(const espl_agent_view *v);
double espl_row_damage(const espl_profile_row *r, double sparsity);

/* Relative change of perplexity over an outcome; NAN if it was not measured, INFINITY if it became no number. */
double espl_outcome_rise(const espl_outcome *o);

/* -------------------------------------------------------------- prompt.c */

/* The system message, and the user message of an iteration (at most max_bytes plus the table of profiles), appended to
 * *out. model_name may be NULL. */
void espl_agent_put_system(espl_str *out, const espl_agent_view *view, const char *model_name);
espl_status espl_agent_put_user(espl_str *out, const espl_agent_view *view, int64_t max_bytes);

/* ---------------------------------------------------------------- text.c */

/* The shortest of %.6g, %.12g, %.17g that reads back as v. */
void espl_put_number(espl_str *s, double v);
/* text as one line of clean UTF-8: control characters become spaces, anything invalid U+FFFD; cut after max bytes. */
void espl_put_clean(espl_str *s, const char *text, int64_t len, int64_t max);
/* A list of problems, one a line, as a part of a sentence: "one; another". */
void espl_put_problems(espl_str *s, const espl_str *problems);
/* At most max bytes of text, cut between UTF-8 sequences. */
int64_t espl_text_cut(const char *text, int64_t len, int64_t max);

/* --------------------------------------------------------------- costs.c */

/* What pruning costs, as far as profile and history tell. Damage of a step on linear i, in nats of mean negative
 * log-likelihood: exp(log_cost[i]) * (shape_i(after) - shape_i(before)), the shape being the profile's damage curve or
 * weights_i / weights * sparsity ^ power. */
typedef struct espl_costs {
    int64_t n, layers;
    bool curves;                    /* the profile has damage curves */
    double total;                   /* weights of all linears */
    double kind[ESPL_LINEAR_KINDS]; /* what is learned of the kinds: log, 0 before */
    double *log_cost;               /* [n] */
} espl_costs;

/* Learns from the history. Owned by the caller. */
espl_status espl_costs_learn(espl_costs *c, const espl_agent_view *v, const espl_policy_options *o);
void espl_costs_free(espl_costs *c);
double espl_costs_step(const espl_costs *c, const espl_agent_view *v, const espl_policy_options *o, int64_t i,
                       double before, double after);

/* ---------------------------------------------------------------- policy */

typedef struct espl_pick {
    int64_t linear, count; /* weights to prune */
    double step, score;    /* step = count / weights, or the round number that means the same count */
    espl_pattern pattern;  /* it becomes that; step and count are half */
} espl_pick;

/* What the mixed strategy has in mind with a linear. */
enum { MIXED_FREE, MIXED_WAITING, MIXED_TAKEN }; /* no pattern; to become N:M, later; now */

typedef struct espl_mixed {
    int64_t *plan;    /* [n] MIXED_* */
    int64_t *denied;  /* [n] bit k: this linear with espl_pattern_choices[k] was rolled back */
    espl_pick *picks; /* [n] scratch, then those that are taken: [n_picks] */
    int64_t n_picks, picked;
    double expected; /* damage of those */
} espl_mixed;

typedef struct espl_policy {
    const espl_agent_view *v;
    const espl_policy_options *o;
    espl_costs costs;
    int64_t n, left;
    int64_t places;   /* linears that may be chosen */
    double *goal;     /* [n] planned final sparsity */
    double *marginal; /* allocate.c's */
    int64_t *resting; /* [n] last iteration in which a linear rests */
    double scale;     /* 1, smaller after rollbacks */
    double step_max;  /* largest step this time */
    double allowed;   /* damage a step may be expected to do */
    espl_pick *picks; /* [n] scratch, then the choice: [n_picks] in order of choice */
    int64_t n_picks, picked;
    double expected; /* damage of the choice */
    const char *stop;
    espl_mixed mixed;
} espl_policy;

/* The policy's answer as the JSON text an LLM would write, appended to *json. A pure function of its arguments:
 * everything it learns comes from view->history. */
espl_status espl_policy_propose(const espl_agent_view *view, const espl_policy_options *o, espl_str *json);

/* policy_mixed.c: which linears become N:M. */

/* Factor on the damage of half of a linear, 1 without a pattern. */
double espl_pattern_damage(const espl_policy_options *o, espl_pattern pattern);
espl_status espl_mixed_create(espl_policy *p);
void espl_mixed_free(espl_policy *p);
/* A culprit of a rollback. */
void espl_mixed_deny(espl_policy *p, const espl_decision_item *item);
/* Plans, and takes as many as `amount` weights, p->places and p->allowed let; what they leave of p->left, p->places and
 * p->allowed is the others'. Returns the weights that are taken. */
int64_t espl_mixed_take(espl_policy *p, double amount);
/* May linear i be pruned without a pattern? `strict` holds back those that are to become N:M later. */
bool espl_mixed_spares(const espl_policy *p, int64_t i, bool strict);
/* Puts what was taken behind the choice of the others, and back into p->left, p->places and p->allowed. */
void espl_mixed_join(espl_policy *p);

/* allocate.c: the planned final sparsities, by equal marginal damage under cap and spread. */
espl_status espl_policy_goals(espl_policy *p);
/* policy_text.c: the reply. */
void espl_policy_put_reply(espl_str *s, const espl_policy *p);

/* ---------------------------------------------------------------- replay.c */

typedef struct espl_replay espl_replay;
espl_status espl_replay_open(espl_replay **out, const char *path);
void espl_replay_close(espl_replay **r);
/* The recorded decision of view->iteration; out initialised in any case. */
espl_status espl_replay_ask(const espl_replay *r, const espl_agent_view *view, espl_decision *out);

/* ------------------------------------------------------------------ http.c */

typedef enum espl_http_result {
    ESPL_HTTP_DONE,      /* status and body are there */
    ESPL_HTTP_TRANSIENT, /* refused, lost, timed out: worth another try */
    ESPL_HTTP_BROKEN,    /* not worth one */
    ESPL_HTTP_CANCELLED
} espl_http_result;

typedef struct espl_http_reply {
    espl_http_result result;
    int64_t status;
    int64_t retry_after_ms; /* 0: not said */
    double seconds;
    espl_str body;
    char error[256]; /* "" if done */
} espl_http_reply;

typedef struct espl_http espl_http;
/* Connections to one URL. key NULL: none. Everything is copied. ESPL_CONFIG: URL or key cannot be used. */
espl_status espl_http_open(espl_http **out, const char *url, const char *key, const espl_agent_options *o);
void espl_http_close(espl_http **h);
/* Called with `cancelled` while waiting; may be NULL. */
void espl_http_on_wait(espl_http *h, bool (*cancelled)(void *), void *arg);
/* Posts JSON. reply is initialised here, freed by espl_http_reply_free. */
void espl_http_post(espl_http *h, const char *body, int64_t len, espl_http_reply *reply);
void espl_http_reply_free(espl_http_reply *r);
/* Waits; false if cancelled. */
bool espl_http_wait(espl_http *h, int64_t ms);
/* Overwrites the key wherever it stands in text. */
void espl_http_hide_key(const espl_http *h, espl_str *text);

/* ---------------------------------------------------------------- openai.c */

typedef struct espl_openai espl_openai;
espl_status espl_openai_open(espl_openai **out, const espl_agent_options *o);
void espl_openai_close(espl_openai **c);

/* One question: messages is a JSON array without its closing bracket. */
typedef struct espl_chat {
    const espl_str *messages;
    int64_t iteration, attempt;
    espl_journal *dialogue;
    espl_agent_stats *stats;
    bool *response_format; /* in and out: whether the server takes it */
} espl_chat;
/* The assistant's text, appended to *text; *cut_off: it ended at max_tokens. ESPL_AGENT: no answer. */
espl_status espl_openai_chat(espl_openai *c, const espl_chat *chat, espl_str *text, bool *cut_off);

/* ----------------------------------------------------------------- agent.c */

/* The part of an agent that a checkpoint carries. */
typedef struct espl_agent_memory {
    bool response_format;
    int64_t failures; /* iterations in a row without an answer */
    espl_agent_stats stats;
} espl_agent_memory;
void espl_agent_memory_put(espl_str *s, const espl_agent_memory *m);
espl_status espl_agent_memory_read(espl_agent_memory *m, const char *bytes, int64_t len);

/* options.c */
espl_status espl_agent_options_check(const espl_agent_options *o);
espl_status espl_view_check(const espl_agent_view *v);

#endif
