/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser of replies: hostile text in; a decision that keeps the budget, or a list of problems, out.
 *
 * espl_reply_parse finds the JSON object in the text; espl_reply_read reads its members, collecting what each linear
 * was given, and then fits that to the budget. What arithmetic can mend (cap, target) is trimmed with a note, since
 * language models calculate badly; everything else is a problem that the author is told. Problems are part of the next
 * prompt: their wording is recorded in dialogues.
 */
#include "reply.h"

#include "clean.h"
#include "view.h"

#include "espalier/base/json_writer.h"
#include "espalier/base/memory.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

enum {
    DEPTH_MAX = 32,      /* a decision needs 2 levels; bounds the recursion of cJSON */
    CANDIDATES_MAX = 16, /* objects tried in a reply; bounds the time spent on "{{{{..." */
    PROBLEMS_MAX = 12,   /* told at once; more would only lengthen the prompt */
    NAME_SHOWN_MAX = 64  /* bytes of an unknown name that a problem repeats */
};
/* A step that is max_step but for rounding ("0.1" computed as 0.30 - 0.20) is not worth another request. */
static const double STEP_TOLERANCE = 1e-9;

/* What the reply gives one linear. All wishes are collected before any is fitted to the budget, because the sum
 * decides. */
typedef struct reply_wish {
    double step; /* as asked; 0: not named */
    espl_pattern pattern;
    int64_t count; /* weights to prune, under cap and target */
} reply_wish;

typedef struct reply_reader {
    const espl_agent_view *v;
    espl_decision *d;
    espl_str *problems, *notes;
    int64_t n_problems;
    reply_wish *wishes; /* [7 * layers] */
    int64_t named;      /* linears with a step or pattern */
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

/* Takes a pattern for the dense linear i, if its inputs and the cap allow it. */
static void reply_read_pattern(reply_reader *r, const cJSON *item, int64_t i) {
    const espl_agent_view *v = r->v;
    char name[ESPL_PATTERN_NAME_MAX];
    espl_pattern p;
    if (!espl_pattern_parse(item->valuestring, &p) || espl_pattern_choice(p) < 0) {
        PROBLEM(r, item->string, "must have a number, or one of the patterns \"2:4\" and \"4:8\"");
        return;
    }
    espl_pattern_name(p, name);
    if (v->rows[i].pruned > v->rows[i].zeros) {
        PROBLEM(r, item->string, "cannot become %s: some of it is pruned already, only a dense linear can", name);
    } else if (!espl_view_fits(v, i, p)) {
        PROBLEM(r, item->string, "cannot become %s: its %" PRId64 " inputs are no multiple of %" PRId64, name,
                v->in[espl_linear_kind_of(i)], p.m);
    } else if (espl_view_room(v, i) < llround(espl_pattern_sparsity(p) * (double)v->rows[i].weights)) {
        PROBLEM(r, item->string, "cannot become %s: no linear may end above sparsity %.6g", name, v->budget.cap);
    } else {
        r->wishes[i].step = espl_pattern_sparsity(p);
        r->wishes[i].pattern = p;
        r->named++;
    }
}

/* Takes one member of "prune": a linear's name with a step or a pattern. The conditions are ordered so that the first
 * one that fails is the one to tell: an unknown name before its value, the value's type before its size. */
static void reply_read_wish(reply_reader *r, const cJSON *item) {
    const espl_agent_view *v = r->v;
    char name[ESPL_PATTERN_NAME_MAX];
    int64_t i = espl_linear_parse(item->string, v->layers);
    double step = item->valuedouble;
    bool is_pattern = v->mixed && cJSON_IsString(item);
    if (i < 0) {
        PROBLEM(r, item->string, "is no linear of this model");
    } else if (!is_pattern && (!cJSON_IsNumber(item) || !isfinite(step))) {
        PROBLEM(r, item->string, "must have a number");
    } else if (r->wishes[i].step != 0) { /* names differ by a leading "model." as well */
        PROBLEM(r, item->string, "is given more than once");
    } else if (espl_pattern_is_n_m(espl_view_pattern(v, i)) && (is_pattern || step != 0)) {
        PROBLEM(r, item->string, "is %s and finished: more pruning would break its pattern",
                espl_pattern_name(espl_view_pattern(v, i), name));
    } else if (is_pattern) {
        reply_read_pattern(r, item, i);
    } else if (step < 0) {
        PROBLEM(r, item->string, "has a negative step; pruned weights do not come back");
    } else if (step > v->budget.max_step * (1 + STEP_TOLERANCE)) {
        PROBLEM(r, item->string, "has step %.6g; at most %.6g is allowed (a fraction, not percent)", step,
                v->budget.max_step);
    } else if (step > 0) {
        r->wishes[i].step = step;
        r->named++;
    }
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
    ESPL_TRY(espl_mem_resize(&r->d->items, r->named, sizeof *r->d->items, "decision"));
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

espl_status espl_reply_read(const cJSON *doc, const espl_agent_view *view, espl_decision *out, espl_str *problems,
                            espl_str *notes) {
    reply_reader r = {.v = view, .d = out, .problems = problems, .notes = notes};
    espl_status st;
    *out = (espl_decision){0};
    ESPL_CHECK(st, done, espl_mem_alloc(&r.wishes, espl_view_linears(view), sizeof *r.wishes, "reply"));
    ESPL_CHECK(st, done, espl_decision_init(out, 0));
    ESPL_CHECK(st, done, reply_read_text(&r, doc, "reasoning", &out->reason));
    ESPL_CHECK(st, done, reply_read_text(&r, doc, "reflection", &out->reflection));

    const cJSON *prune = reply_member(&r, doc, "prune");
    if (prune && !cJSON_IsObject(prune)) {
        PROBLEM(&r, NULL, "\"prune\" must be an object of names and steps, like {\"layers.0.mlp.up_proj\": 0.05}");
        prune = NULL;
    }
    for (const cJSON *i = prune ? prune->child : NULL; i; i = i->next) reply_read_wish(&r, i);
    if (r.named > view->budget.max_linears)
        PROBLEM(&r, NULL, "%" PRId64 " linears are named; at most %" PRId64 " are allowed", r.named,
                view->budget.max_linears);

    /* "stop" beside steps is a stop: its author judged that going on does harm. */
    const cJSON *stop = reply_member(&r, doc, "stop");
    if (stop && !cJSON_IsBool(stop)) PROBLEM(&r, NULL, "\"stop\" must be true or false");
    out->stop = cJSON_IsTrue(stop);

    if (r.n_problems == 0 && out->stop) {
        if (r.named > 0) espl_str_puts(notes, "stop asked: its steps are not taken\n");
    } else if (r.n_problems == 0 && r.named == 0) {
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

/* ------------------------------------------------------------ finding JSON */

/* Replies may hold NUL bytes, so that C's string functions would not see all of them. */
static const char *reply_find(const char *p, const char *end, const char *word) {
    return p < end ? memmem(p, (size_t)(end - p), word, strlen(word)) : NULL;
}

/* Copies text without blocks from `open` to `close`. A block that never ends goes to the end of the text; one that
 * never begins starts there, since some chat templates put the opening tag into the prompt. */
static void reply_strip_thoughts(espl_str *out, const char *text, int64_t len, const char *open, const char *close) {
    const char *p = text, *end = text + len;
    const char *begin = reply_find(p, end, open), *stop = reply_find(p, end, close);
    if (stop && (!begin || stop < begin)) p = stop + strlen(close);
    while ((begin = reply_find(p, end, open))) {
        espl_str_put(out, p, begin - p);
        stop = reply_find(begin, end, close);
        p = stop ? stop + strlen(close) : end;
    }
    espl_str_put(out, p, end - p);
}

/* Parses the object that begins at p; *stop is the byte behind it. NULL if it does not end, is nested too deep or is
 * not JSON. Owned by the caller: cJSON_Delete. */
static cJSON *reply_parse_object(const char *p, const char *end, const char **stop) {
    /* Brackets are balanced before cJSON sees the text: it recurses, and tells no end of what it could not read. */
    int depth = 0;
    bool in_string = false;
    *stop = NULL;
    for (const char *q = p; q < end && !*stop; q++) {
        if (in_string && *q == '\\') {
            q++; /* the escaped character, perhaps a quote */
        } else if (*q == '"') {
            in_string = !in_string;
        } else if (!in_string && (*q == '{' || *q == '[')) {
            if (++depth > DEPTH_MAX) return NULL;
        } else if (!in_string && (*q == '}' || *q == ']') && --depth == 0) {
            *stop = q + 1;
        }
    }
    cJSON *doc = *stop ? cJSON_ParseWithLength(p, (size_t)(*stop - p)) : NULL;
    if (cJSON_IsObject(doc)) return doc;
    cJSON_Delete(doc);
    return NULL;
}

/* Other objects are common: examples, notes, tool calls. */
static bool reply_is_decision(const cJSON *doc) {
    return doc && (cJSON_GetObjectItemCaseSensitive(doc, "prune") || cJSON_GetObjectItemCaseSensitive(doc, "stop"));
}

/* Finds the decision in a reply: *doc, NULL if there is none. *other: the first { begins an object of something else.
 */
static espl_status reply_find_decision(const char *text, int64_t len, cJSON **doc, bool *other) {
    espl_str once = {0}, twice = {0};
    espl_status st = ESPL_OK;
    const char *p = text, *end = text + len, *stop;
    *doc = NULL;
    *other = false;

    /* A reply that is one object and nothing else is taken as it is: its strings may speak of <think>. */
    static const char blanks[4] = " \t\r\n";
    while (p < end && memchr(blanks, *p, sizeof blanks)) p++;
    while (p < end && memchr(blanks, end[-1], sizeof blanks)) end--;
    if (p < end && *p == '{') *doc = reply_parse_object(p, end, &stop);
    if (reply_is_decision(*doc) && stop == end) return ESPL_OK;
    cJSON_Delete(*doc);
    *doc = NULL;

    reply_strip_thoughts(&once, text, len, "<think>", "</think>");
    reply_strip_thoughts(&twice, once.data ? once.data : "", once.len, "<thinking>", "</thinking>");
    ESPL_CHECK(st, done, espl_str_status(once.failed ? &once : &twice));
    p = twice.data ? twice.data : "";
    end = p + twice.len;
    for (int tries = 0; tries < CANDIDATES_MAX && p < end; tries++) {
        p = memchr(p, '{', (size_t)(end - p));
        if (!p) break;
        *doc = reply_parse_object(p, end, &stop);
        if (reply_is_decision(*doc)) break;
        if (tries == 0) *other = *doc != NULL;
        p = *doc ? stop : p + 1; /* behind an object of something else, or into a brace that begins none */
        cJSON_Delete(*doc);
        *doc = NULL;
    }
done:
    espl_str_free(&once);
    espl_str_free(&twice);
    return st;
}

espl_status espl_reply_parse(const char *text, int64_t len, const espl_agent_view *view, espl_decision *out,
                             espl_str *problems, espl_str *notes) {
    int64_t n_problems = 0;
    cJSON *doc = NULL;
    bool other = false;
    *out = (espl_decision){0};
    if (len > ESPL_AGENT_REPLY_MAX)
        reply_problem(problems, &n_problems, NULL, "the reply has %" PRId64 " bytes; at most %d are read", len,
                      ESPL_AGENT_REPLY_MAX);
    else
        ESPL_TRY(reply_find_decision(text, len, &doc, &other));
    if (!doc && n_problems == 0)
        reply_problem(problems, &n_problems, NULL, "%s",
                      other ? "the reply's JSON object has neither \"prune\" nor \"stop\""
                            : "the reply holds no complete JSON object with \"prune\" or \"stop\"");
    if (n_problems > 0) {
        ESPL_TRY(espl_decision_init(out, 0));
        return espl_str_status(problems);
    }
    espl_status st = espl_reply_read(doc, view, out, problems, notes);
    cJSON_Delete(doc);
    return st;
}

/* Every item has a member, whatever it came from: a decision of the policy is recorded as one of a language model would
 * be. */
void espl_reply_put(espl_str *s, const espl_decision *d) {
    char name[64], pattern[ESPL_PATTERN_NAME_MAX];
    espl_json_writer w = espl_json_writer_on(s);
    espl_json_open_object(&w, NULL, ESPL_JSON_COMPACT);
    espl_json_put_text(&w, "reasoning", d->reason);
    espl_json_put_text(&w, "reflection", d->reflection);
    espl_json_open_object(&w, "prune", ESPL_JSON_COMPACT);
    for (int64_t k = 0; k < d->n; k++) {
        const espl_decision_item *item = &d->items[k];
        espl_linear_name(item->linear, name);
        if (espl_pattern_is_n_m(item->pattern))
            espl_json_put_text(&w, name, espl_pattern_name(item->pattern, pattern));
        else
            espl_json_put_shortest(&w, name, item->step);
    }
    espl_json_close(&w);
    espl_json_put_bool(&w, "stop", d->stop);
    espl_json_close(&w);
}
