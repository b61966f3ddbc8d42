/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the endpoint's model reads: the rules once, and in each iteration the state, all profiles and the history. The
 * texts are part of the method: recorded dialogues hold them, and another wording is another agent.
 */
#include "prompt.h"

#include "action.h"
#include "clean.h"
#include "predict.h"
#include "profile_table.h"
#include "tools.h"
#include "view.h"

#include "espalier/base/integer.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum {
    MODEL_NAME_MAX = 128, /* bytes */
    SAID_MAX = 600,       /* bytes of the agent's own reasoning and reflection, each: the gist of it */
    LESSONS_PART = 4,     /* of the message, at most */
    FRAME_BYTES = 256     /* kept free for the headings around the history */
};

/* ---------------------------------------------------------------- system */

/* The rules are those that the parser enforces (reply.c): change both together. */
static void prompt_put_rules(espl_str *s, const espl_agent_view *v, const espl_prompt_options *how) {
    (void)how;
    const espl_budget *b = &v->budget;
    char name[ESPL_PATTERN_NAME_MAX];
    espl_str_puts(s, "Rules:\n- Use only names from the table of profiles.\n");
    if (v->layout.experts > 0)
        espl_str_printf(
            s,
            "- Layers have %" PRId64
            " experts. \"layers.3.mlp.experts.*.up_proj\" names one linear of each expert of layer 3, "
            "\"layers.3.mlp.experts.17.up_proj\" that of expert 17 alone. Each expert counts as a linear of "
            "its own.\n",
            v->layout.experts);
    espl_str_printf(s,
                    "- A step is the sparsity to add to a linear now, as a fraction of its weights: above 0, at most "
                    "%.6g. Name at most %" PRId64 " linears.\n",
                    b->max_step, b->max_linears);
    if (v->mixed) {
        espl_str_printf(
            s,
            "- Instead of a step, a linear that is still dense (sparsity 0) may be given \"2:4\" or \"4:8\", in "
            "quotes: of every 4 (8) consecutive inputs of a row exactly 2 (4) stay. It is %.6g %% sparse at "
            "once, whatever the largest step, and finished: it must not be named again.\n",
            100 * ESPL_PATTERN_CHOICE_SPARSITY);
        for (int k = 0; k < ESPL_LINEAR_KINDS; k++)
            for (int p = 0; p < ESPL_PATTERN_CHOICES; p++)
                if (!espl_view_fits(v, k, espl_pattern_choices[p])) /* linear k: of layer 0, like all of its kind */
                    espl_str_printf(s, "- \"%s\" does not fit the inputs of %s.\n",
                                    espl_pattern_name(espl_pattern_choices[p], name),
                                    espl_linear_pattern(v->layout, (espl_linear_kind)k));
    }
    espl_str_printf(s, "- No linear may end above sparsity %.6g; pruned weights do not come back.\n", b->cap);
    if (v->caps)
        espl_str_puts(
            s, "- The table names linears with another limit, and those that must not be pruned; the latter have "
               "no part in the target.\n");
    espl_str_printf(s,
                    "- If perplexity rises by more than %.6g %% over the last accepted state, the step is rolled back "
                    "and you are told.\n",
                    100 * b->threshold);
    if (b->share > 0)
        espl_str_printf(s,
                        "- Knowledge counts too: the rise is %.6g of that of log perplexity plus %.6g of that of the "
                        "loss of answers to factual questions.\n",
                        1 - b->share, b->share);
    if (b->limit > 0)
        espl_str_printf(s, "- The rise over the dense model must stay below %.6g %% in the same way.\n",
                        100 * b->limit);
    espl_str_printf(s, "- There are at most %" PRId64 " iterations; rolled back ones count.\n", b->max_iterations);
}

/* What a plan may hold beside steps by name. Small models need none of it. */
static void prompt_put_plans(espl_str *s, const espl_agent_view *v, const espl_prompt_options *how) {
    if (how->paper) return;
    espl_str_puts(s,
                  "\nPlans: in \"prune\" a name may be a pattern with stars, such as \"layers.3.*\" or \"*.up_proj\": "
                  "the step is for every linear that matches and can take it; a linear's own name overrides "
                  "patterns, and step 0 leaves it alone. \"base\": \"policy\" starts from the plan of the embedded "
                  "policy, which steps go where the profile expects the least damage; \"scale\": 0.5 halves its steps, "
                  "and the members of \"prune\" override them.");
    if (v->budget.share > 0)
        espl_str_printf(s, " \"knowledge\": how much answers weigh in that plan, 0 to 1 (else %.6g).", v->budget.share);
    if (isfinite(v->power))
        espl_str_printf(s,
                        " \"power\": within a linear, weights go by W^2 E[x^2] E[g^2]^power; 0 ignores which outputs "
                        "matter to the loss, 1 follows it fully (else %.6g).",
                        v->power);
    espl_str_puts(s, "\n");
}

/* The questions that may be asked before the decision. The objects are told in any case: servers may refuse tools, or
 * take them and show the model none. */
static void prompt_put_questions(espl_str *s, const espl_agent_view *v, const espl_prompt_options *how) {
    (void)v;
    if (how->paper || how->questions == 0) return;
    espl_str_printf(s, "\nBefore you decide you may ask up to %" PRId64 " questions per iteration, one at a time",
                    how->questions);
    if (how->experiments > 0) espl_str_printf(s, ", of them %" PRId64 " measurements", how->experiments);
    espl_str_printf(s, ". %s one of these objects instead of a decision:\n",
                    how->calls ? "Call a tool, or answer with" : "Answer with");
    for (int k = 0; k < ESPL_ACTION_COUNT; k++) {
        if (k == ESPL_ACTION_PROPOSE || (k == ESPL_ACTION_MEASURE && how->experiments == 0)) continue;
        espl_str_printf(s, "- {\"action\": \"%s\", %s} %s\n", espl_action_name((espl_action_kind)k),
                        k == ESPL_ACTION_INSPECT ? "\"linears\": \"layers.3.*\"" : "\"prune\": {...}",
                        espl_action_meaning((espl_action_kind)k));
    }
}

static void prompt_put_model(espl_str *s, const espl_agent_view *v, const espl_prompt_options *how) {
    (void)v;
    if (!how->model_name) return;
    espl_str_puts(s, " (");
    espl_agent_put_clean(s, how->model_name, (int64_t)strlen(how->model_name), MODEL_NAME_MAX);
    espl_str_puts(s, ")");
}

static void prompt_put_target(espl_str *s, const espl_agent_view *v, const espl_prompt_options *how) {
    (void)how;
    espl_str_printf(s, "%.6g", 100 * v->budget.target);
}

static void prompt_put_training(espl_str *s, const espl_agent_view *v, const espl_prompt_options *how) {
    (void)how;
    espl_str_puts(s, v->distills ? "The surviving weights then learn the dense model's predictions for a while."
                     : v->updates
                         ? "The surviving weights are then fitted to the dense model's outputs, linear by linear."
                         : "Nothing is retrained.");
}

/* What the columns of the table mean. */
static void prompt_put_profiles(espl_str *s, const espl_agent_view *v, const espl_prompt_options *how) {
    espl_str_puts(s, "Profiles: z_s is the z-score of how much even the weakest surviving weights of a linear matter "
                     "(weight times activation), z_g that of the loss gradient");
    if (!how->paper)
        espl_str_puts(s, ", z_k, where given, that of the gradient of the loss of answers to factual questions");
    espl_str_puts(s, ". High means sensitive: prune less. Low means robust: prune more. ");
    if (!how->paper)
        espl_str_puts(s, "price, where given, is the rise of perplexity in %, knowledge included, that pruning a "
                         "further 0.05 of a linear is expected to cause; trust its proportions more than its size. ");
    espl_str_puts(
        s, "Learn from the outcomes: what preceded a rollback is expensive, what was pruned at no cost is cheap. "
           "Damage grows faster than sparsity, so spread the pruning.\n");
    if (v->mixed)
        espl_str_puts(s, "Hardware computes \"2:4\" faster, some also \"4:8\", nothing else. It costs more perplexity "
                         "than the same sparsity without a pattern: \"4:8\" perhaps half more, \"2:4\" more than "
                         "twice. Make robust linears that should end near 50 % so, \"2:4\" where it does little "
                         "harm, before you prune them otherwise; leave the others unstructured.\n");
}

/* The form of the answer. */
static void prompt_put_answer(espl_str *s, const espl_agent_view *v, const espl_prompt_options *how) {
    espl_str_puts(s, how->paper || how->questions == 0 ? "Answer with one JSON object and nothing else"
                     : how->calls                      ? "Decide by calling propose, or with one JSON object"
                                                       : "Decide with one JSON object and nothing else");
    espl_str_printf(s,
                    ":\n{\"reasoning\": \"" ESPL_EXAMPLE_REASON
                    "\", \"reflection\": \"what the last outcome taught you\", "
                    "\"prune\": {\"%s\": %.6g%s%s%s}, \"stop\": false}\n",
                    espl_view_example_linear(v), espl_view_example(v), v->mixed ? ", \"layers.3." : "",
                    v->mixed ? espl_linear_pattern(v->layout, ESPL_DOWN_PROJ) : "", v->mixed ? "\": \"2:4\"" : "");
    if (!how->paper)
        espl_str_printf(s,
                        "It may also have \"lessons\": a list of at most %d short texts that replaces the list you are "
                        "shown: keep what is true, drop what proved wrong.\n",
                        ESPL_LESSONS_MAX);
    espl_str_puts(s, "\"stop\": true ends the work for good; use it only if going on would do more harm than good.\n");
}

/* The task before the rules, the rules before what the numbers mean, the form of the answer last, where models remember
 * it best. */
static const char default_system[] =
    "You are a gardener who prunes a large language model{{model}} step by step until {{target}} % of the weights of "
    "its "
    "linear layers are zero, while perplexity stays low and its factual knowledge is kept. {{training}} In each "
    "iteration "
    "you choose which linears to prune further and by how much; within a linear, the least important weights go "
    "first.\n\n{{rules}}\n{{profiles}}{{plans}}{{questions}}\n{{answer}}";

/* The fields of a system message. X(name in the text, function) */
#define PROMPT_FIELDS(X)                                                                                               \
    X("model", prompt_put_model)                                                                                       \
    X("target", prompt_put_target)                                                                                     \
    X("training", prompt_put_training)                                                                                 \
    X("rules", prompt_put_rules)                                                                                       \
    X("profiles", prompt_put_profiles)                                                                                 \
    X("plans", prompt_put_plans)                                                                                       \
    X("questions", prompt_put_questions)                                                                               \
    X("answer", prompt_put_answer)
static const struct {
    const char *name;
    void (*put)(espl_str *s, const espl_agent_view *v, const espl_prompt_options *how);
} prompt_fields[] = {
#define X(name, put) {name, put},
    PROMPT_FIELDS(X)
#undef X
};
enum { PROMPT_FIELD_COUNT = sizeof prompt_fields / sizeof *prompt_fields };

/* The next "{{name}}" in text: *begin, *end around it, and its number, PROMPT_FIELD_COUNT if there is no such field.
 * NULL: no more. */
static const char *prompt_next_field(const char *text, const char **end, size_t *field) {
    const char *begin = strstr(text, "{{"), *close = begin ? strstr(begin, "}}") : NULL;
    if (!close) return NULL;
    size_t n = (size_t)(close - begin) - 2;
    for (*field = 0; *field < PROMPT_FIELD_COUNT; ++*field)
        if (strlen(prompt_fields[*field].name) == n && strncmp(prompt_fields[*field].name, begin + 2, n) == 0) break;
    *end = close + 2;
    return begin;
}

espl_status espl_prompt_check_template(const char *text, const char *path) {
    static const char names[] =
#define X(name, put) " {{" name "}}"
        PROMPT_FIELDS(X)
#undef X
        ;
    enum { SHOWN_MAX = 64 };
    const char *end = text;
    size_t field;
    for (const char *begin; (begin = prompt_next_field(end, &end, &field));)
        if (field == PROMPT_FIELD_COUNT)
            return ESPL_FAIL(ESPL_CONFIG, "agent.prompt_file: %s: %.*s is no field; the fields are%s", path,
                             (int)espl_min_i64(end - begin, SHOWN_MAX), begin, names);
    return ESPL_OK;
}

void espl_prompt_put_system(espl_str *out, const espl_agent_view *view, const espl_prompt_options *how) {
    const char *text = how->system ? how->system : default_system, *end;
    size_t field;
    for (const char *begin; (begin = prompt_next_field(text, &end, &field)); text = end) {
        espl_str_put(out, text, begin - text);
        if (field < PROMPT_FIELD_COUNT) prompt_fields[field].put(out, view, how);
    }
    espl_str_puts(out, text);
}

/* ------------------------------------------------------------ user message */

/* The name of a category of MMLU, without the set's. */
static const char *prompt_category(int c) {
    return espl_topic_name((espl_topic)(ESPL_TOPIC_STEM + c)) + strlen("mmlu_");
}

/* The iteration in which the accepted state's questions were asked, if a later one was accepted without asking: 0 for
 * the dense model. -1: they are of the accepted state. */
static int64_t prompt_asked_before(const espl_agent_view *v) {
    bool later = false;
    for (int64_t k = v->n_history - 1; k >= 0; k--) {
        const espl_outcome *o = &v->history[k];
        if (!o->accepted) continue;
        if (o->after.mmlu_total > 0 || o->after.freebaseqa_total > 0) return later ? o->iteration : -1;
        later = true;
    }
    return later ? 0 : -1;
}

/* "FreebaseQA: 31 of 100 right (dense 40 of 100)": counts, because a per cent of 100 questions hides its error. */
static void prompt_put_knowledge(espl_str *s, const char *name, int64_t right, int64_t total, int64_t dense_right,
                                 int64_t dense_total) {
    espl_str_printf(s, "%s: %" PRId64 " of %" PRId64 " right", name, right, total);
    if (dense_total > 0) espl_str_printf(s, " (dense %" PRId64 " of %" PRId64 ")", dense_right, dense_total);
}

/* Answers to the probe questions. Probes that are switched off are not mentioned. */
static void prompt_put_probes(espl_str *s, const espl_agent_view *v) {
    const espl_quality *last = &v->last, *dense = &v->dense;
    int64_t asked = prompt_asked_before(v);
    if (last->freebaseqa_total > 0) {
        prompt_put_knowledge(s, "FreebaseQA", last->freebaseqa_right, last->freebaseqa_total, dense->freebaseqa_right,
                             dense->freebaseqa_total);
        espl_str_puts(s, ".\n");
    }
    if (last->mmlu_total > 0) {
        prompt_put_knowledge(s, "MMLU", last->mmlu_right, last->mmlu_total, dense->mmlu_right, dense->mmlu_total);
        const char *between = "; ";
        for (int c = 0; c < ESPL_MMLU_TOPICS; c++) {
            if (last->mmlu_category_total[c] == 0) continue;
            espl_str_puts(s, between);
            prompt_put_knowledge(s, prompt_category(c), last->mmlu_category_right[c], last->mmlu_category_total[c],
                                 dense->mmlu_category_right[c], dense->mmlu_category_total[c]);
            between = ", ";
        }
        espl_str_puts(s, ".\n");
    }
    if (asked < 0 || last->freebaseqa_total + last->mmlu_total == 0) return;
    if (asked == 0)
        espl_str_puts(s, "(These answers are the dense model's: no step has asked since.)\n");
    else
        espl_str_printf(s, "(These answers are of iteration %" PRId64 ": no accepted step has asked since.)\n", asked);
}

/* How much of an outcome is shown. */
typedef enum prompt_detail { DETAIL_LINE, DETAIL_WHOLE } prompt_detail;

/* What the agent said then is its only memory: each iteration is a conversation of its own. */
static void prompt_put_said(espl_str *s, const char *what, const char *text) {
    if (!text || !*text) return;
    espl_str_printf(s, "  %s: ", what);
    espl_agent_put_clean(s, text, (int64_t)strlen(text), SAID_MAX);
    espl_str_puts(s, "\n");
}

/* "FreebaseQA 31 -> 30 of 100": only where both states were asked the same number of questions. */
static void prompt_put_counts(espl_str *s, const char *name, int64_t before, int64_t after, int64_t total,
                              int64_t total_after) {
    if (total > 0 && total == total_after)
        espl_str_printf(s, ", %s %" PRId64 " -> %" PRId64 " of %" PRId64, name, before, after, total);
}

/* Appends an outcome: what was tried, what was expected and what came of it, and with DETAIL_WHOLE also where and why.
 * Returns the number of bytes appended. */
static int64_t prompt_put_outcome(espl_str *s, const espl_agent_view *v, const espl_outcome *o, bool paper,
                                  prompt_detail detail) {
    int64_t start = s->len;
    const espl_quality *before = &o->before, *after = &o->after;
    double expected = espl_predict_expected(v, &o->decision), measured = espl_outcome_damage(v, o);
    espl_str_printf(s, "iteration %" PRId64 ": %s, %" PRId64 " linears, sparsity %.3f %% -> %.3f %%", o->iteration,
                    o->accepted ? "accepted" : "ROLLED BACK", o->decision.n, 100 * o->sparsity_before,
                    100 * o->sparsity_after);
    espl_tools_put_change(s, before, after, paper ? NAN : o->decision.expected_text,
                          paper ? NAN : o->decision.expected_answers);
    if (!paper && isfinite(expected) && isfinite(measured))
        espl_str_printf(s, "; together %+.3g %%, expected %+.3g %%", 100 * expm1(measured), 100 * expm1(expected));
    prompt_put_counts(s, "FreebaseQA", before->freebaseqa_right, after->freebaseqa_right, before->freebaseqa_total,
                      after->freebaseqa_total);
    prompt_put_counts(s, "MMLU", before->mmlu_right, after->mmlu_right, before->mmlu_total, after->mmlu_total);
    for (int c = 0; detail == DETAIL_WHOLE && c < ESPL_MMLU_TOPICS; c++)
        prompt_put_counts(s, prompt_category(c), before->mmlu_category_right[c], after->mmlu_category_right[c],
                          before->mmlu_category_total[c], after->mmlu_category_total[c]);
    espl_str_puts(s, "\n");
    if (detail == DETAIL_LINE) return s->len - start;

    espl_str_puts(s, "  pruned:");
    espl_tools_put_items(s, v->layout, &o->decision);
    espl_str_puts(s, "\n");
    prompt_put_said(s, "reasoning", o->decision.reason);
    prompt_put_said(s, "reflection", o->decision.reflection);
    return s->len - start;
}

/* Appends the history in at most about `bytes`: the newest outcomes whole in half of them, those before in one line
 * each, the oldest as a count. */
static void prompt_put_history(espl_str *s, const espl_agent_view *v, bool paper, int64_t bytes) {
    espl_str scratch = {0};
    int64_t n = v->n_history, first_line = n, first_whole = n, used = 0, rolled_back = 0;
    if (n == 0) {
        espl_str_puts(s, "\nNo step was taken yet.\n");
        return;
    }
    espl_str_puts(s, "\nHistory, oldest first:\n");
    /* Newest first: how far back does each level of detail fit? Outcomes are written to be measured. */
    for (int64_t k = n - 1; k >= 0; k--) {
        scratch.len = 0;
        int64_t whole = prompt_put_outcome(&scratch, v, &v->history[k], paper, DETAIL_WHOLE);
        scratch.len = 0;
        int64_t line = prompt_put_outcome(&scratch, v, &v->history[k], paper, DETAIL_LINE);
        bool is_whole = first_whole == k + 1 && used + whole <= bytes / 2;
        used += is_whole ? whole : line;
        if (used > bytes) break;
        if (is_whole) first_whole = k;
        first_line = k;
    }
    for (int64_t k = 0; k < first_line; k++) rolled_back += !v->history[k].accepted;
    if (first_line > 0)
        espl_str_printf(s, "%" PRId64 " older iterations: %" PRId64 " accepted, %" PRId64 " rolled back.\n", first_line,
                        first_line - rolled_back, rolled_back);
    for (int64_t k = first_line; k < n; k++)
        prompt_put_outcome(s, v, &v->history[k], paper, k >= first_whole ? DETAIL_WHOLE : DETAIL_LINE);
    s->failed = s->failed || scratch.failed;
    espl_str_free(&scratch);
}

/* Appends as many lessons as fit in `bytes`, the first ones first: how they are ordered is the agent's. */
static void prompt_put_lessons(espl_str *s, const espl_str *lessons, int64_t bytes) {
    int64_t shown = 0, left = 0;
    if (lessons->len == 0) return;
    espl_str_puts(s, "\nYour lessons so far:\n");
    for (int64_t next; shown < lessons->len; shown = next) {
        const char *line = lessons->data + shown, *end = strchr(line, '\n');
        next = end ? end + 1 - lessons->data : lessons->len;
        if (next > bytes) break;
        espl_str_put(s, line, next - shown);
    }
    for (int64_t k = shown; k < lessons->len; k++) left += lessons->data[k] == '\n';
    if (left > 0) espl_str_printf(s, "(%" PRId64 " more do not fit: be brief)\n", left);
}

espl_status espl_prompt_put_user(espl_str *out, const espl_agent_view *view, const espl_prompt_options *how) {
    int64_t start = out->len;
    ESPL_TRY(espl_view_check(view));

    /* Where the run stands: pace, perplexity, knowledge. Probes that are switched off are not mentioned. */
    const espl_budget *b = &view->budget;
    int64_t remaining = b->max_iterations - view->iteration + 1;
    espl_str_printf(out, "Iteration %" PRId64 " of at most %" PRId64 ".\n", view->iteration, b->max_iterations);
    espl_str_printf(out, "Overall sparsity of the linears: %.3f %%; target %.3f %%.", 100 * view->sparsity,
                    100 * b->target);
    if (isfinite(view->sparsity_model)) espl_str_printf(out, " With embeddings: %.3f %%.", 100 * view->sparsity_model);
    if (remaining > 0)
        espl_str_printf(out, " An even pace adds %.3f %% per iteration.",
                        100 * (b->target - view->sparsity) / (double)remaining);
    espl_str_puts(out, "\n");
    if (isfinite(view->last.perplexity)) {
        espl_str_printf(out, "Perplexity: %.6g", view->last.perplexity);
        if (isfinite(view->dense.perplexity) && view->dense.perplexity > 0)
            espl_str_printf(out, " (dense %.6g, %+.2f %%)", view->dense.perplexity,
                            100 * (view->last.perplexity / view->dense.perplexity - 1));
        espl_str_puts(out, ".\n");
    }
    if (b->share > 0 && isfinite(view->last.answers))
        espl_str_printf(out, "Loss of answers: %.4g nats per token (dense %.4g).\n", view->last.answers,
                        view->dense.answers);
    prompt_put_probes(out, view);

    double bias = espl_predict_bias(view);
    if (!how->paper && isfinite(bias))
        espl_str_printf(out, "Rises measured so far were %.2g times the expected ones in sum.\n", bias);
    if (!how->paper) prompt_put_lessons(out, how->lessons, how->max_bytes / LESSONS_PART);

    int64_t head = out->len - start;
    espl_profile_table_put(out, view, how->paper, how->groups); /* not counted: the agent may name any linear */
    prompt_put_history(out, view, how->paper, how->max_bytes - head - FRAME_BYTES);
    espl_str_puts(out, how->calls ? "\nAsk or decide." : "\nYour decision, as one JSON object:");
    return espl_str_status(out);
}

/* Repeats the form of an answer, with a step that is allowed: small models copy it. */
void espl_prompt_put_correction(espl_str *out, const espl_agent_view *view, const espl_str *problems) {
    espl_str_puts(out, "This decision cannot be carried out:\n");
    espl_str_put(out, problems->data, problems->len);
    espl_str_printf(out,
                    "Correct it and answer with one JSON object and nothing else, as in\n"
                    "{\"reasoning\": \"" ESPL_EXAMPLE_REASON_SHORT "\", \"prune\": {\"%s\": %.6g}, \"stop\": false}\n",
                    espl_view_example_linear(view), espl_view_example(view));
}
