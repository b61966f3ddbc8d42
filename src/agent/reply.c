/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser of replies: hostile text in; a decision that keeps the budget, or a list of problems, out.
 *
 * find.c finds the object in the text; espl_reply_read reads its members, collecting what each linear was given, and
 * then fits that to the budget. What arithmetic can mend (cap, target) is trimmed with a note, since
 * language models calculate badly; everything else is a problem that the author is told. Problems are part of the next
 * prompt: their wording is recorded in dialogues.
 */
#include "reply.h"

#include "clean.h"
#include "find.h"
#include "view.h"

#include "espalier/base/integer.h"
#include "espalier/base/json_writer.h"
#include "espalier/base/memory.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

enum {
    PROBLEMS_MAX = 12,  /* told at once; more would only lengthen the prompt */
    NAME_SHOWN_MAX = 64 /* bytes of an unknown name that a problem repeats */
};
static const double SCALE_MAX = 10; /* of the policy's steps; beyond it they are at max_step anyway */
/* A step that is max_step but for rounding ("0.1" computed as 0.30 - 0.20) is not worth another request. */
static const double STEP_TOLERANCE = 1e-9;

/* What the reply gives one linear. All wishes are collected before any is fitted to the budget, because the sum
 * decides. */
typedef struct reply_wish {
    double step; /* as asked; 0: left alone */
    espl_pattern pattern;
    bool named;    /* by its own name, which may be given once */
    bool based;    /* of the plan that the reply starts from */
    int64_t count; /* weights to prune, under cap and target */
} reply_wish;

typedef struct reply_reader {
    const espl_agent_view *v;
    espl_decision *d;
    espl_str *problems, *notes;
    int64_t n_problems;
    reply_wish *wishes; /* [linears] */
    int64_t n_wishes;   /* linears with a step or pattern */
} reply_reader;

/* Adds a problem: "name" in quotes, if given, then the text. The name is the reply's, so it is cleaned and cut; the
 * text is ours and fits the buffer. */
static void __attribute__((format(printf, 4, 5)))
reply_problem(espl_str *problems, int64_t *n_problems, const char *name, const char *fmt, ...) {
    char text[256];
    va_list args;
    if (++*n_problems > PROBLEMS_MAX) {
        if (*n_problems == PROBLEMS_MAX + 1) espl_str_puts(problems, "and more like these\n");
        return;
    }
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (name) {
        espl_str_puts(problems, "\"");
        espl_agent_put_clean(problems, name, (int64_t)strlen(name), NAME_SHOWN_MAX);
        espl_str_puts(problems, "\" ");
    }
    espl_str_puts(problems, text);
    espl_str_puts(problems, "\n");
}
#define PROBLEM(r, name, ...) reply_problem((r)->problems, &(r)->n_problems, (name), __VA_ARGS__)

/* --------------------------------------------------------------- members */

/* The member of that name, NULL if it is missing or null. cJSON would return the first of several. */
static const cJSON *reply_member(reply_reader *r, const cJSON *doc, const char *key) {
    const cJSON *found = NULL;
    for (const cJSON *i = doc ? doc->child : NULL; i; i = i->next) {
        if (strcmp(i->string, key) != 0) continue;
        if (found) PROBLEM(r, NULL, "\"%s\" is given more than once", key);
        found = i;
    }
    return found && !cJSON_IsNull(found) ? found : NULL;
}

/* Replaces *out by the member's text, if it has one. The text is shown, recorded and sent again, so it is cleaned. */
static espl_status reply_read_text(reply_reader *r, const cJSON *doc, const char *key, char **out) {
    const cJSON *item = reply_member(r, doc, key);
    espl_str s = {0};
    if (!item) return ESPL_OK;
    if (!cJSON_IsString(item)) {
        PROBLEM(r, NULL, "\"%s\" must be a string", key);
        return ESPL_OK;
    }
    espl_str_puts(&s, ""); /* the text must not be NULL, also if it is empty */
    espl_agent_put_clean(&s, item->valuestring, (int64_t)strlen(item->valuestring), ESPL_AGENT_TEXT_MAX);
    ESPL_TRY(espl_str_status(&s));
    espl_mem_free(out);
    *out = s.data;
    return ESPL_OK;
}

/* Replaces *out by a number in lo .. hi, if the member is given. */
static void reply_read_number(reply_reader *r, const cJSON *doc, const char *key, double lo, double hi, double *out) {
    const cJSON *item = reply_member(r, doc, key);
    if (!item) return;
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= lo && item->valuedouble <= hi))
        PROBLEM(r, NULL, "\"%s\" must be a number from %.6g to %.6g", key, lo, hi);
    else
        *out = item->valuedouble;
}

/* ----------------------------------------------------------------- plan */

/* Reads the value of a member of "prune": a step or, with prune.mixed, an N:M pattern. False: a problem. */
static bool reply_read_value(reply_reader *r, const cJSON *item, reply_wish *out) {
    const espl_agent_view *v = r->v;
    double step = item->valuedouble;
    *out = (reply_wish){0};
    if (v->mixed && cJSON_IsString(item)) {
        if (!espl_pattern_parse(item->valuestring, &out->pattern) || espl_pattern_choice(out->pattern) < 0) {
            PROBLEM(r, item->string, "must have a number, or one of the patterns \"2:4\" and \"4:8\"");
            return false;
        }
        out->step = espl_pattern_sparsity(out->pattern);
        return true;
    }
    if (!cJSON_IsNumber(item) || !isfinite(step)) {
        PROBLEM(r, item->string, "must have a number");
    } else if (step < 0) {
        PROBLEM(r, item->string, "has a negative step; pruned weights do not come back");
    } else if (step > v->budget.max_step * (1 + STEP_TOLERANCE)) {
        PROBLEM(r, item->string, "has step %.6g; at most %.6g is allowed (a fraction, not percent)", step,
                v->budget.max_step);
    } else {
        out->step = step;
        return true;
    }
    return false;
}

/* Whether linear i can take a step or pattern. If not, and item names the linear, its author is told why. */
static bool reply_can_take(reply_reader *r, int64_t i, const reply_wish *wish, const cJSON *item) {
    const espl_agent_view *v = r->v;
    char has[ESPL_PATTERN_NAME_MAX], gets[ESPL_PATTERN_NAME_MAX];
    espl_pattern p = wish->pattern;
    espl_pattern_name(p, gets);
    if (wish->step == 0) return true;
    if (espl_pattern_is_n_m(espl_view_pattern(v, i))) {
        if (item)
            PROBLEM(r, item->string, "is %s and finished: more pruning would break its pattern",
                    espl_pattern_name(espl_view_pattern(v, i), has));
    } else if (!espl_pattern_is_n_m(p)) {
        return item || espl_view_room(v, i) > 0; /* a named linear is trimmed to the cap, with a note */
    } else if (v->rows[i].pruned > v->rows[i].zeros) {
        if (item)
            PROBLEM(r, item->string, "cannot become %s: some of it is pruned already, only a dense linear can", gets);
    } else if (!espl_view_fits(v, i, p)) {
        if (item)
            PROBLEM(r, item->string, "cannot become %s: its %" PRId64 " inputs are no multiple of %" PRId64, gets,
                    v->in[espl_linear_kind_of(v->layout, i)], p.m);
    } else if (espl_view_room(v, i) < llround(espl_pattern_sparsity(p) * (double)v->rows[i].weights)) {
        if (item)
            PROBLEM(r, item->string, "cannot become %s: no linear may end above sparsity %.6g", gets,
                    espl_view_cap(v, i));
    } else {
        return true;
    }
    return false;
}

/* Takes a member of "prune" whose name is a pattern: it is for every linear that matches and can take it. */
static void reply_read_matching(reply_reader *r, const cJSON *item) {
    reply_wish wish;
    int64_t matches = 0;
    if (!reply_read_value(r, item, &wish)) return;
    for (int64_t i = 0; i < espl_view_linears(r->v); i++) {
        if (!espl_linear_matches(r->v->layout, i, item->string)) continue;
        matches++;
        if (reply_can_take(r, i, &wish, NULL)) r->wishes[i] = wish;
    }
    if (matches == 0) PROBLEM(r, item->string, "matches no linear of this model");
}

/* Takes a member of "prune" that names a linear. The first condition that fails is the one to tell: an unknown name
 * before its value. */
static void reply_read_named(reply_reader *r, const cJSON *item) {
    int64_t i = espl_linear_parse(r->v->layout, item->string);
    reply_wish wish;
    if (i < 0) {
        PROBLEM(r, item->string, "is no linear of this model");
    } else if (reply_read_value(r, item, &wish)) {
        if (r->wishes[i].named) /* names differ by a leading "model." as well */
            PROBLEM(r, item->string, "is given more than once");
        else if (reply_can_take(r, i, &wish, item))
            r->wishes[i] = wish;
        r->wishes[i].named = true;
    }
}

/* The policy's plan as a start, its steps times "scale". */
static void reply_read_base(reply_reader *r, const cJSON *doc, const espl_decision *base) {
    double scale = 1;
    if (!base) return;
    reply_read_number(r, doc, "scale", 0, SCALE_MAX, &scale);
    for (int64_t k = 0; k < base->n; k++) {
        const espl_decision_item *item = &base->items[k];
        reply_wish *wish = &r->wishes[item->linear];
        *wish = (reply_wish){.step = item->step, .pattern = item->pattern, .based = true};
        if (!espl_pattern_is_n_m(item->pattern)) wish->step = fmin(scale * item->step, r->v->budget.max_step);
    }
}

/* Leaves out the smallest parts of the policy's plan until `excess` linears are gone, or no such part is left. Returns
 * how many were. */
static int64_t reply_drop_base(reply_reader *r, int64_t excess) {
    int64_t dropped = 0;
    for (; dropped < excess; dropped++) {
        reply_wish *least = NULL;
        double weights = INFINITY;
        for (int64_t i = 0; i < espl_view_linears(r->v); i++) {
            reply_wish *w = &r->wishes[i];
            if (!w->based || w->step == 0 || w->step * (double)r->v->rows[i].weights >= weights) continue;
            weights = w->step * (double)r->v->rows[i].weights;
            least = w;
        }
        if (!least) break;
        least->step = 0;
    }
    if (dropped > 0)
        espl_str_printf(r->notes,
                        "%" PRId64 " linears of the policy's plan left out: at most %" PRId64 " may be named\n",
                        dropped, r->v->budget.max_linears);
    return dropped;
}

/* Patterns first, whatever the order, so that a linear's own name always overrides them. */
static void reply_read_plan(reply_reader *r, const cJSON *doc, const espl_decision *base) {
    const cJSON *prune = reply_member(r, doc, "prune");
    int64_t n = 0;
    reply_read_base(r, doc, base);
    if (prune && !cJSON_IsObject(prune)) {
        PROBLEM(r, NULL, "\"prune\" must be an object of names and steps, like {\"layers.0.mlp.up_proj\": 0.05}");
        prune = NULL;
    }
    for (int named = 0; named <= 1; named++)
        for (const cJSON *i = prune ? prune->child : NULL; i; i = i->next)
            if (named == (strchr(i->string, '*') == NULL)) named ? reply_read_named(r, i) : reply_read_matching(r, i);
    for (int64_t i = 0; i < espl_view_linears(r->v); i++) n += r->wishes[i].step > 0;
    n -= reply_drop_base(r, n - r->v->budget.max_linears);
    if (n > r->v->budget.max_linears)
        PROBLEM(r, NULL, "%" PRId64 " linears are named; at most %" PRId64 " are allowed", n, r->v->budget.max_linears);
    r->n_wishes = n;
}

/* ---------------------------------------------------------------- budget */

/* Turns wishes into whole weights under the cap of each linear, and returns their sum. Patterns were checked against
 * the cap when they were read. */
static int64_t reply_apply_cap(reply_reader *r) {
    const espl_agent_view *v = r->v;
    int64_t total = 0, trimmed = 0;
    for (int64_t i = 0; i < espl_view_linears(v); i++) {
        reply_wish *w = &r->wishes[i];
        int64_t room = espl_view_room(v, i);
        if (w->step == 0) continue;
        w->count = llround(w->step * (double)v->rows[i].weights);
        if (w->count > room) {
            w->count = room;
            trimmed++;
        }
        total += w->count;
    }
    if (trimmed) espl_str_printf(r->notes, "%" PRId64 " linears trimmed to the cap\n", trimmed);
    return total;
}

/* Grants patterns in the order of the linears as long as `left` weights allow it, and returns what remains for steps. A
 * pattern cannot be scaled: half of 2:4 is no pattern. */
static int64_t reply_grant_patterns(reply_reader *r, int64_t left) {
    int64_t dropped = 0;
    for (int64_t i = 0; i < espl_view_linears(r->v); i++) {
        reply_wish *w = &r->wishes[i];
        if (!espl_pattern_is_n_m(w->pattern)) continue;
        if (w->count > left) {
            w->count = 0;
            dropped++;
        }
        left -= w->count;
    }
    if (dropped)
        espl_str_printf(r->notes,
                        "%" PRId64 " linears not made N:M: pruning half of their weights would exceed the target\n",
                        dropped);
    return left;
}

/* Scales the steps to end at the target to the weight, if they would exceed it. */
static void reply_scale_steps(reply_reader *r, int64_t left) {
    int64_t n = espl_view_linears(r->v), steps = 0, given = 0;
    for (int64_t i = 0; i < n; i++)
        if (!espl_pattern_is_n_m(r->wishes[i].pattern)) steps += r->wishes[i].count;
    if (steps <= left) return;

    /* Rounding the running sum, not each step, makes the counts add up to exactly `left`. */
    double factor = (double)left / (double)steps, asked = 0;
    for (int64_t i = 0; i < n; i++) {
        if (espl_pattern_is_n_m(r->wishes[i].pattern)) continue;
        asked += (double)r->wishes[i].count;
        int64_t upto = llround(asked * factor);
        r->wishes[i].count = upto - given;
        given = upto;
    }
    espl_str_printf(r->notes, "all steps scaled by %.6g to end at the target\n", factor);
}

/* The cap, then the target: patterns first, because they are whole or nothing, then steps. */
static void reply_fit_budget(reply_reader *r) {
    int64_t total = reply_apply_cap(r), left = espl_view_left(r->v);
    if (left <= 0)
        PROBLEM(r, NULL, "the target is reached: answer with \"stop\": true");
    else if (total <= 0)
        PROBLEM(r, NULL, "these linears cannot be pruned further (the cap, or steps of less than a weight)");
    else
        reply_scale_steps(r, reply_grant_patterns(r, left));
}

/* Fills the decision's items. A step stays as it was asked wherever it still means the count, so that the decision
 * reads back as itself. */
static espl_status reply_write_items(reply_reader *r) {
    const espl_agent_view *v = r->v;
    int64_t n = 0;
    ESPL_TRY(espl_mem_resize(&r->d->items, r->n_wishes, sizeof *r->d->items, "decision"));
    for (int64_t i = 0; i < espl_view_linears(v); i++) {
        const reply_wish *w = &r->wishes[i];
        double weights = (double)v->rows[i].weights;
        if (w->count <= 0) continue;
        bool same = w->count == llround(w->step * weights);
        /* The limit, which a step may exceed by STEP_TOLERANCE. */
        double most = espl_pattern_is_n_m(w->pattern) ? espl_pattern_sparsity(w->pattern) : v->budget.max_step;
        r->d->items[n++] = (espl_decision_item){i, same ? fmin(w->step, most) : (double)w->count / weights, w->pattern};
    }
    r->d->n = n;
    if (n == 0)
        PROBLEM(r, NULL, "pruning half of any of these linears would exceed the target: use steps, or smaller linears");
    return ESPL_OK;
}

espl_status espl_reply_read(const cJSON *doc, const espl_agent_view *view, const espl_decision *base,
                            espl_decision *out, espl_str *problems, espl_str *notes) {
    reply_reader r = {.v = view, .d = out, .problems = problems, .notes = notes};
    espl_status st;
    *out = (espl_decision){0};
    ESPL_CHECK(st, done, espl_mem_alloc(&r.wishes, espl_view_linears(view), sizeof *r.wishes, "reply"));
    ESPL_CHECK(st, done, espl_decision_init(out, 0));
    ESPL_CHECK(st, done, reply_read_text(&r, doc, "reasoning", &out->reason));
    ESPL_CHECK(st, done, reply_read_text(&r, doc, "reflection", &out->reflection));
    reply_read_plan(&r, doc, base);
    if (isfinite(view->power)) reply_read_number(&r, doc, "power", 0, 1, &out->power);

    /* "stop" beside steps is a stop: its author judged that going on does harm. */
    const cJSON *stop = reply_member(&r, doc, "stop");
    if (stop && !cJSON_IsBool(stop)) PROBLEM(&r, NULL, "\"stop\" must be true or false");
    out->stop = cJSON_IsTrue(stop);

    if (r.n_problems == 0 && out->stop) {
        if (r.n_wishes > 0) espl_str_puts(notes, "stop asked: its steps are not taken\n");
    } else if (r.n_problems == 0 && r.n_wishes == 0) {
        PROBLEM(&r, NULL, "\"prune\" names no linear with a step above 0, and \"stop\" is not true");
    } else if (r.n_problems == 0) {
        reply_fit_budget(&r);
        if (r.n_problems == 0) ESPL_CHECK(st, done, reply_write_items(&r));
    }
    if (r.n_problems > 0) { /* no part of an invalid decision may be carried out */
        espl_decision_free(out);
        ESPL_CHECK(st, done, espl_decision_init(out, 0));
    }
    if (problems->failed || notes->failed) st = espl_str_status(problems->failed ? problems : notes);
done:
    espl_mem_free(&r.wishes);
    return st;
}

espl_status espl_reply_parse(const char *text, int64_t len, const espl_agent_view *view, espl_decision *out,
                             espl_str *problems, espl_str *notes) {
    cJSON *doc = NULL;
    *out = (espl_decision){0};
    espl_status st = espl_reply_find(text, len, &doc, problems);
    if (st == ESPL_OK) st = doc ? espl_reply_read(doc, view, NULL, out, problems, notes) : espl_decision_init(out, 0);
    cJSON_Delete(doc);
    return st;
}

/* Every item has a member, whatever it came from: a decision of the policy is recorded as one of a language model would
 * be. */
void espl_reply_put(espl_str *s, espl_layout layout, const espl_decision *d) {
    char name[ESPL_LINEAR_NAME_MAX], pattern[ESPL_PATTERN_NAME_MAX];
    espl_json_writer w = espl_json_writer_on(s);
    espl_json_open_object(&w, NULL, ESPL_JSON_COMPACT);
    espl_json_put_text(&w, "reasoning", d->reason);
    espl_json_put_text(&w, "reflection", d->reflection);
    espl_json_open_object(&w, "prune", ESPL_JSON_COMPACT);
    for (int64_t k = 0; k < d->n; k++) {
        const espl_decision_item *item = &d->items[k];
        espl_linear_name(layout, item->linear, name);
        if (espl_pattern_is_n_m(item->pattern))
            espl_json_put_text(&w, name, espl_pattern_name(item->pattern, pattern));
        else
            espl_json_put_shortest(&w, name, item->step);
    }
    espl_json_close(&w);
    if (isfinite(d->power)) espl_json_put_shortest(&w, "power", d->power);
    espl_json_put_bool(&w, "stop", d->stop);
    espl_json_close(&w);
}
