/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser of replies: hostile text in; a decision that keeps the budget, or a list of problems, out.
 *
 * espl_reply_parse finds the decision in the text; espl_reply_read reads its members, collecting what each linear
 * was given, and then fits that to the budget. What arithmetic can mend (cap, target) is trimmed with a note, since
 * language models calculate badly; everything else is a problem that the author is told. Problems are part of the next
 * prompt: their wording is recorded in dialogues.
 */
#include "reply.h"

#include "clean.h"
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
    DEPTH_MAX = 32,           /* a decision needs 2 levels; bounds the recursion of cJSON */
    SCANS_MAX = 64,           /* times the length of a reply that are looked at; bounds the time spent on "{ { { ..." */
    MALFORMED_SHOWN_MAX = 24, /* bytes of it that the author is shown */
    PROBLEMS_MAX = 12,        /* told at once; more would only lengthen the prompt */
    NAME_SHOWN_MAX = 64       /* bytes of an unknown name that a problem repeats */
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

/* How models and servers mark what a model thinks before it answers. A block that never ends goes to the end of the
 * text; one that never begins starts there, since some chat templates put the opening mark into the prompt. */
static const struct {
    const char *open, *close;
} thought_marks[] = {
    {"<think>", "</think>"},
    {"<thinking>", "</thinking>"},
    {"<thought>", "</thought>"},
    {"<thoughts>", "</thoughts>"},
    {"<reasoning>", "</reasoning>"},
    {"<reflection>", "</reflection>"},
    {"<analysis>", "</analysis>"},
    {"<scratchpad>", "</scratchpad>"},
    {"<seed:think>", "</seed:think>"},
    {"<longcat_think>", "</longcat_think>"},
    {"[THINK]", "[/THINK]"},
    {"\xE2\x97\x81think\xE2\x96\xB7", "\xE2\x97\x81/think\xE2\x96\xB7"}, /* Kimi's triangles */
    {"<|begin_of_thought|>", "<|end_of_thought|>"},
    {"<|START_THINKING|>", "<|END_THINKING|>"},
    {"<|channel|>analysis", "<|end|>"}, /* gpt-oss behind a server that leaves its channels in the text */
    {"<|channel|>commentary", "<|end|>"},
};
/* What stands before the last of these is no answer, even where a thought does not end as it should. */
static const char *const answer_marks[] = {"<|channel|>final<|message|>", "<|begin_of_solution|>",
                                           "<|START_RESPONSE|>"};

/* The first `word` in p[0 .. end), whatever its case; NULL if there is none. Replies may hold NUL bytes, so that C's
 * string functions would not see all of them. */
static const char *reply_find(const char *p, const char *end, const char *word) {
    int64_t n = (int64_t)strlen(word);
    for (; p && end - p >= n; p++) {
        p = memchr(p, word[0], (size_t)(end - p - n + 1)); /* all begin with a sign that has no case */
        if (!p) return NULL;
        if (strncasecmp(p, word, (size_t)n) == 0) return p;
    }
    return NULL;
}

static void reply_strip_thoughts(espl_str *out, const char *p, const char *end, const char *open, const char *close) {
    const char *begin = reply_find(p, end, open), *stop = reply_find(p, end, close);
    /* A mark like <|end|> ends other things, too: then only an opening mark makes a thought. */
    if (stop && (!begin || stop < begin) && close[1] != '|') p = stop + strlen(close);
    while ((begin = reply_find(p, end, open))) {
        espl_str_put(out, p, begin - p);
        stop = reply_find(begin, end, close);
        p = stop ? stop + strlen(close) : end;
    }
    espl_str_put(out, p, end - p);
}

/* Replaces *s by the part of text that is no thought. */
static espl_status reply_keep_answer(const char *text, int64_t len, espl_str *s) {
    const char *p = text, *end = text + len, *mark;
    for (size_t i = 0; i < sizeof answer_marks / sizeof *answer_marks; i++)
        while ((mark = reply_find(p, end, answer_marks[i]))) p = mark + strlen(answer_marks[i]);
    espl_str_put(s, p, end - p);
    for (size_t i = 0; i < sizeof thought_marks / sizeof *thought_marks && !s->failed; i++) {
        p = s->data ? s->data : "";
        if (!reply_find(p, p + s->len, thought_marks[i].open) && !reply_find(p, p + s->len, thought_marks[i].close))
            continue;
        espl_str next = {0};
        reply_strip_thoughts(&next, p, p + s->len, thought_marks[i].open, thought_marks[i].close);
        espl_str_free(s);
        *s = next;
    }
    return espl_str_status(s);
}

/* Parses the object that begins at p; *stop is the byte behind it, NULL if it does not end within the text or is nested
 * too deep. NULL if it is not JSON; *fault is then where it stops being JSON. `left` bounds the bytes that are looked
 * at. Owned by the caller: cJSON_Delete. */
static cJSON *reply_parse_object(const char *p, const char *end, const char **stop, const char **fault, int64_t *left) {
    /* Brackets are balanced before cJSON sees the text: it recurses, and tells no end of what it could not read. */
    const char *q = p;
    int depth = 0;
    bool in_string = false;
    *stop = *fault = NULL;
    for (; q < end && !*stop && depth <= DEPTH_MAX; q++) {
        if (in_string && *q == '\\') {
            q++; /* the escaped character, perhaps a quote */
        } else if (*q == '"') {
            in_string = !in_string;
        } else if (!in_string && (*q == '{' || *q == '[')) {
            depth++;
        } else if (!in_string && (*q == '}' || *q == ']') && --depth == 0) {
            *stop = q + 1;
        }
    }
    *left -= q - p;
    cJSON *doc = *stop ? cJSON_ParseWithLengthOpts(p, (size_t)(*stop - p), fault, 0) : NULL;
    if (cJSON_IsObject(doc)) return doc;
    cJSON_Delete(doc);
    return NULL;
}

/* Other objects are common: examples, notes, tool calls. */
static bool reply_is_decision(const cJSON *doc) {
    return doc && (cJSON_GetObjectItemCaseSensitive(doc, "prune") || cJSON_GetObjectItemCaseSensitive(doc, "stop"));
}

/* The example of the prompt, which models repeat before or after their own decision. */
static bool reply_is_example(const cJSON *doc) {
    const char *reason = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, "reasoning"));
    const cJSON *prune = cJSON_GetObjectItemCaseSensitive(doc, "prune");
    return reason && (strcmp(reason, ESPL_EXAMPLE_REASON) == 0 || strcmp(reason, ESPL_EXAMPLE_REASON_SHORT) == 0) &&
           prune && prune->child && prune->child->string && strcmp(prune->child->string, ESPL_EXAMPLE_LINEAR) == 0;
}

/* The last place of the text that was meant as part of a decision: its first key, in quotes of either kind. NULL: none.
 */
static const char *reply_last_mention(const char *p, const char *end) {
    static const char *const keys[] = {"\"prune\"", "'prune'"};
    const char *last = NULL;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        for (const char *q = p; (q = reply_find(q, end, keys[i])); q++)
            if (!last || q > last) last = q;
    return last;
}

/* What reply_find_decision found. */
typedef struct reply_found {
    cJSON *doc;         /* the decision; NULL: none. Owned */
    bool other;         /* the first { begins an object of something else */
    espl_str malformed; /* what stands where the last attempt at a decision stops being JSON; empty: nowhere */
} reply_found;

/* The last decision counts: models weigh drafts in the open before they decide. What looks like a decision and cannot
 * be read counts as well, or a draft before it would be carried out. */
static espl_status reply_find_decision(const char *text, int64_t len, reply_found *found) {
    espl_str answer = {0};
    const char *p = text, *end = text + len, *stop, *fault;
    int64_t left = SCANS_MAX * len;
    *found = (reply_found){0};

    /* A reply that is one object and nothing else is taken as it is: its strings may speak of <think>. */
    static const char blanks[4] = " \t\r\n";
    while (p < end && memchr(blanks, *p, sizeof blanks)) p++;
    while (p < end && memchr(blanks, end[-1], sizeof blanks)) end--;
    if (p < end && *p == '{') found->doc = reply_parse_object(p, end, &stop, &fault, &left);
    if (reply_is_decision(found->doc) && stop == end) return ESPL_OK;
    cJSON_Delete(found->doc);
    found->doc = NULL;

    espl_status st;
    ESPL_CHECK(st, done, reply_keep_answer(text, len, &answer));
    p = answer.data ? answer.data : "";
    end = p + answer.len;
    const char *mention = reply_last_mention(p, end); /* found once: an open brace may reach to the end each time */
    bool first = true, broken = false;
    for (; p < end && left > 0; first = false) {
        p = memchr(p, '{', (size_t)(end - p));
        if (!p) break;
        cJSON *doc = reply_parse_object(p, end, &stop, &fault, &left);
        if (first) found->other = doc && !reply_is_decision(doc);
        bool decides = reply_is_decision(doc) && !(found->doc && reply_is_example(doc));
        if (decides || (!doc && mention && mention > p && (!stop || reply_last_mention(p, stop)))) {
            cJSON_Delete(found->doc);
            found->doc = decides ? doc : NULL;
            found->malformed.len = 0;
            broken = !decides;
            if (fault && !decides) { /* the fault in its surroundings */
                const char *from = fault - espl_min_i64(fault - p, MALFORMED_SHOWN_MAX / 2);
                espl_str_put(&found->malformed, from, espl_min_i64(stop - from, MALFORMED_SHOWN_MAX));
            }
        }
        if (found->doc != doc) cJSON_Delete(doc);
        p = doc ? stop : p + 1; /* behind an object, or into a brace that begins none */
    }
    if (left <= 0) { /* what was not looked at might be the decision */
        cJSON_Delete(found->doc);
        found->doc = NULL;
    }
    if (broken) found->other = false;
    st = espl_str_status(&found->malformed);
done:
    espl_str_free(&answer);
    return st;
}

espl_status espl_reply_parse(const char *text, int64_t len, const espl_agent_view *view, espl_decision *out,
                             espl_str *problems, espl_str *notes) {
    int64_t n_problems = 0;
    reply_found found = {0};
    espl_status st;
    *out = (espl_decision){0};
    if (len > ESPL_AGENT_REPLY_MAX)
        reply_problem(problems, &n_problems, NULL, "the reply has %" PRId64 " bytes; at most %d are read", len,
                      ESPL_AGENT_REPLY_MAX);
    else
        ESPL_CHECK(st, done, reply_find_decision(text, len, &found));
    if (found.malformed.len > 0)
        reply_problem(problems, &n_problems, found.malformed.data,
                      "is where the reply's object stops being valid JSON: no comments, no comma before a bracket, "
                      "names and texts in double quotes");
    else if (!found.doc && n_problems == 0)
        reply_problem(problems, &n_problems, NULL, "%s",
                      found.other ? "the reply's JSON object has neither \"prune\" nor \"stop\""
                                  : "the reply holds no complete JSON object with \"prune\" or \"stop\"");
    if (n_problems > 0) {
        ESPL_CHECK(st, done, espl_decision_init(out, 0));
        st = espl_str_status(problems);
    } else {
        st = espl_reply_read(found.doc, view, out, problems, notes);
    }
done:
    cJSON_Delete(found.doc);
    espl_str_free(&found.malformed);
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
