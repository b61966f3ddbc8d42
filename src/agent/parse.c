/* Reads a reply: hostile text in, a decision that keeps the budget or a list of problems out. */
#include "internal.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 32, MAX_CANDIDATES = 16, MAX_PROBLEMS = 12 };

typedef struct reader {
    const espl_agent_view *v;
    espl_decision *d;
    espl_str *problems, *notes;
    int64_t n_problems;
    int64_t *count;        /* [7 * layers] weights to prune by linear */
    double *step;          /* [7 * layers] as asked; 0: not named */
    espl_pattern *pattern; /* [7 * layers] N:M as asked, else all zero */
    int64_t named;
} reader;

/* ------------------------------------------------------------- finding JSON */

static const char *find(const char *p, const char *end, const char *word) {
    return p < end ? memmem(p, (size_t)(end - p), word, strlen(word)) : NULL;
}

/* Without <think>...</think>, <thinking>...</thinking>; a block that never began or never ends counts too. */
static void strip_thoughts(espl_str *out, const char *text, int64_t len, const char *open, const char *close) {
    const char *p = text, *end = text + len, *first = find(p, end, close), *begin = find(p, end, open);
    if (first && (!begin || first < begin)) p = first + strlen(close); /* the template opened it */
    while ((begin = find(p, end, open))) {
        espl_str_put(out, p, begin - p);
        const char *stop = find(begin, end, close);
        p = stop ? stop + strlen(close) : end;
    }
    espl_str_put(out, p, end - p);
}

/* The byte behind the object that begins at p, NULL if it does not end or is too deep. */
static const char *object_end(const char *p, const char *end) {
    int depth = 0;
    bool text = false;
    for (; p < end; p++) {
        if (text && *p == '\\')
            p++;
        else if (*p == '"')
            text = !text;
        else if (text)
            continue;
        else if (*p == '{' || *p == '[') {
            if (++depth > MAX_DEPTH) return NULL;
        } else if ((*p == '}' || *p == ']') && --depth == 0)
            return p + 1;
    }
    return NULL;
}

static cJSON *parse_object(const char *p, const char *end) {
    cJSON *doc = cJSON_ParseWithLength(p, (size_t)(end - p));
    if (cJSON_IsObject(doc)) return doc;
    cJSON_Delete(doc);
    return NULL;
}

static bool is_decision(const cJSON *doc) {
    return doc && (cJSON_GetObjectItemCaseSensitive(doc, "prune") || cJSON_GetObjectItemCaseSensitive(doc, "stop"));
}

/* The first object with "prune" or "stop"; NULL if there is none. *other: the first { begins an object that is none
 * such. */
static cJSON *find_object(const char *p, const char *end, bool *other) {
    for (int tries = 0; tries < MAX_CANDIDATES && p < end; tries++) {
        p = memchr(p, '{', (size_t)(end - p));
        if (!p) break;
        const char *stop = object_end(p, end);
        cJSON *doc = stop ? parse_object(p, stop) : NULL;
        if (is_decision(doc)) return doc;
        if (tries == 0) *other = doc != NULL;
        cJSON_Delete(doc);
        p = doc ? stop : p + 1;
    }
    return NULL;
}

/* ----------------------------------------------------------------- problems */

static bool may_complain(reader *r) {
    if (++r->n_problems <= MAX_PROBLEMS) return true;
    if (r->n_problems == MAX_PROBLEMS + 1) espl_str_puts(r->problems, "and more of the kind\n");
    return false;
}

#define PROBLEM(r, ...)                                                                                                \
    do {                                                                                                               \
        if (may_complain(r)) {                                                                                         \
            espl_str_printf((r)->problems, __VA_ARGS__);                                                               \
            espl_str_puts((r)->problems, "\n");                                                                        \
        }                                                                                                              \
    } while (0)

/* A name from the reply, made harmless. */
static void problem_named(reader *r, const char *name, const char *text) {
    if (!may_complain(r)) return;
    espl_str_puts(r->problems, "\"");
    espl_put_clean(r->problems, name, (int64_t)strlen(name), 64);
    espl_str_printf(r->problems, "\" %s\n", text);
}

/* ------------------------------------------------------------------- fields */

/* The member of that name if it is there once and not null. */
static const cJSON *field(reader *r, const cJSON *doc, const char *key) {
    const cJSON *found = NULL;
    for (const cJSON *i = doc->child; i; i = i->next) {
        if (strcmp(i->string, key) != 0) continue;
        if (found) PROBLEM(r, "\"%s\" is given more than once", key);
        found = i;
    }
    return found && !cJSON_IsNull(found) ? found : NULL;
}

static espl_status read_text(reader *r, const cJSON *doc, const char *key, char **out) {
    const cJSON *item = field(r, doc, key);
    espl_str s = {0};
    if (!item) return ESPL_OK;
    if (!cJSON_IsString(item)) {
        PROBLEM(r, "\"%s\" must be a string", key);
        return ESPL_OK;
    }
    espl_str_puts(&s, "");
    espl_put_clean(&s, item->valuestring, (int64_t)strlen(item->valuestring), ESPL_AGENT_TEXT_MAX);
    ESPL_TRY(espl_str_status(&s));
    espl_mem_free(out);
    *out = s.data;
    return ESPL_OK;
}

/* Why linear i cannot become of pattern p, into text; false: it can. */
static bool is_barred(const espl_agent_view *v, int64_t i, espl_pattern p, char *text, size_t size) {
    char name[ESPL_PATTERN_NAME_MAX];
    espl_pattern_name(p, name);
    if (v->rows[i].pruned > 0)
        snprintf(text, size, "cannot become %s: some of it is pruned already, only a dense linear can", name);
    else if (!espl_view_fits(v, i, p))
        snprintf(text, size, "cannot become %s: its %lld inputs are no multiple of %lld", name,
                 (long long)v->in[espl_linear_kind_of(i)], (long long)p.m);
    else if (espl_view_room(v, i) < llround(espl_pattern_sparsity(p) * (double)v->rows[i].weights))
        snprintf(text, size, "cannot become %s: no linear may end above sparsity %.6g", name, v->budget.cap);
    else
        return false;
    return true;
}

static void read_pattern(reader *r, const cJSON *item, int64_t i) {
    char text[160];
    espl_pattern p;
    if (!espl_pattern_parse(item->valuestring, &p) || espl_pattern_choice(p) < 0)
        return problem_named(r, item->string, "must have a number, or one of the patterns \"2:4\" and \"4:8\"");
    if (is_barred(r->v, i, p, text, sizeof text)) return problem_named(r, item->string, text);
    r->step[i] = espl_pattern_sparsity(p);
    r->pattern[i] = p;
    r->named++;
}

static void read_step(reader *r, const cJSON *item) {
    char text[160], pattern[ESPL_PATTERN_NAME_MAX];
    const espl_budget *b = &r->v->budget;
    int64_t i = espl_linear_parse(item->string, r->v->layers);
    double step = item->valuedouble;
    bool is_pattern = r->v->mixed && cJSON_IsString(item);
    if (i < 0) return problem_named(r, item->string, "is no linear of this model");
    if (!is_pattern && (!cJSON_IsNumber(item) || !isfinite(step)))
        return problem_named(r, item->string, "must have a number");
    if (r->step[i] != 0) return problem_named(r, item->string, "is given more than once");
    if (espl_pattern_is_n_m(espl_view_pattern(r->v, i)) && (is_pattern || step != 0)) {
        snprintf(text, sizeof text, "is %s and finished: more pruning would break its pattern",
                 espl_pattern_name(espl_view_pattern(r->v, i), pattern));
        return problem_named(r, item->string, text);
    }
    if (is_pattern) return read_pattern(r, item, i);
    if (step < 0) return problem_named(r, item->string, "has a negative step; pruned weights do not come back");
    if (step > b->max_step * (1 + 1e-9)) {
        snprintf(text, sizeof text, "has step %.6g; at most %.6g is allowed (a fraction, not percent)", step,
                 b->max_step);
        return problem_named(r, item->string, text);
    }
    if (step == 0) return;
    r->step[i] = step;
    r->named++;
}

static void read_prune(reader *r, const cJSON *doc) {
    const cJSON *prune = field(r, doc, "prune");
    if (!prune) return;
    if (!cJSON_IsObject(prune)) {
        PROBLEM(r, "\"prune\" must be an object of names and steps, like {\"layers.0.mlp.up_proj\": 0.05}");
        return;
    }
    for (const cJSON *i = prune->child; i; i = i->next) read_step(r, i);
    if (r->named > r->v->budget.max_linears)
        PROBLEM(r, "%lld linears are named; at most %lld are allowed", (long long)r->named,
                (long long)r->v->budget.max_linears);
}

static void read_stop(reader *r, const cJSON *doc) {
    const cJSON *stop = field(r, doc, "stop");
    if (stop && !cJSON_IsBool(stop)) PROBLEM(r, "\"stop\" must be true or false");
    r->d->stop = cJSON_IsTrue(stop);
}

/* ------------------------------------------------------------------- budget */

/* Steps become whole weights under the cap. Returns their sum. */
static int64_t apply_cap(reader *r) {
    int64_t sum = 0, trimmed = 0;
    for (int64_t i = 0; i < espl_view_linears(r->v); i++) {
        int64_t room = espl_view_room(r->v, i);
        if (r->step[i] == 0) continue;
        r->count[i] = llround(r->step[i] * (double)r->v->rows[i].weights);
        if (r->count[i] > room) {
            r->count[i] = room;
            trimmed++;
        }
        sum += r->count[i];
    }
    if (trimmed) espl_str_printf(r->notes, "%lld linears trimmed to the cap\n", (long long)trimmed);
    return sum;
}

/* N:M is whole or not at all: drops those that go beyond the target. Returns the weights of the others. */
static int64_t apply_target_to_patterns(reader *r, int64_t left) {
    int64_t sum = 0, dropped = 0;
    for (int64_t i = 0; i < espl_view_linears(r->v); i++) {
        if (!espl_pattern_is_n_m(r->pattern[i])) continue;
        if (r->count[i] > left - sum) {
            r->count[i] = 0;
            dropped++;
        }
        sum += r->count[i];
    }
    if (dropped)
        espl_str_printf(r->notes, "%lld linears not made N:M: the target leaves no room for half of them\n",
                        (long long)dropped);
    return sum;
}

/* Scales the steps so that all counts together are exactly what is left until the target. */
static void apply_target(reader *r, int64_t left) {
    int64_t sum = 0, given = 0;
    double asked = 0;
    left -= apply_target_to_patterns(r, left);
    for (int64_t i = 0; i < espl_view_linears(r->v); i++) sum += espl_pattern_is_n_m(r->pattern[i]) ? 0 : r->count[i];
    if (sum <= left) return;
    double f = (double)left / (double)sum;
    for (int64_t i = 0; i < espl_view_linears(r->v); i++) {
        if (espl_pattern_is_n_m(r->pattern[i])) continue;
        asked += (double)r->count[i];
        int64_t upto = llround(asked * f);
        r->count[i] = upto - given;
        given = upto;
    }
    espl_str_printf(r->notes, "all steps scaled by %.6g to end at the target\n", f);
}

/* Counts as steps: the step as asked where it means the count. */
static espl_status write_items(reader *r) {
    int64_t n = 0;
    ESPL_TRY(espl_mem_resize(&r->d->items, r->named, sizeof *r->d->items, "decision"));
    for (int64_t i = 0; i < espl_view_linears(r->v); i++) {
        double w = (double)r->v->rows[i].weights;
        if (r->count[i] <= 0) continue;
        bool same = r->count[i] == llround(r->step[i] * w);
        double most = espl_pattern_is_n_m(r->pattern[i]) ? espl_pattern_sparsity(r->pattern[i]) : r->v->budget.max_step;
        r->d->items[n++] =
            (espl_decision_item){i, same ? fmin(r->step[i], most) : (double)r->count[i] / w, r->pattern[i]};
    }
    r->d->n = n;
    if (n == 0) PROBLEM(r, "the target leaves no room for half of any of these linears: give steps, or smaller ones");
    return ESPL_OK;
}

static espl_status apply_budget(reader *r) {
    int64_t left = espl_view_left(r->v);
    if (r->d->stop) {
        if (r->named > 0) espl_str_puts(r->notes, "stop asked: its steps are not taken\n");
        return ESPL_OK;
    }
    if (r->named == 0) {
        PROBLEM(r, "\"prune\" names no linear with a step above 0, and \"stop\" is not true");
        return ESPL_OK;
    }
    int64_t sum = apply_cap(r);
    if (sum <= 0 || left <= 0) {
        PROBLEM(r, left <= 0 ? "the target is reached: answer with \"stop\": true"
                             : "nothing to prune is left in these linears (the cap, or steps of less than a weight)");
        return ESPL_OK;
    }
    apply_target(r, left);
    return write_items(r);
}

/* -------------------------------------------------------------------- reply */

static espl_status read_fields(reader *r, const cJSON *doc) {
    ESPL_TRY(read_text(r, doc, "reasoning", &r->d->reason));
    ESPL_TRY(read_text(r, doc, "reflection", &r->d->reflection));
    read_prune(r, doc);
    read_stop(r, doc);
    return r->n_problems == 0 ? apply_budget(r) : ESPL_OK;
}

static espl_status read_object(reader *r, cJSON *doc) {
    espl_status st = read_fields(r, doc);
    cJSON_Delete(doc);
    return st;
}

static espl_status find_and_read(reader *r, const char *text, int64_t len) {
    bool other = false;
    cJSON *doc = find_object(text, text + len, &other);
    if (doc) return read_object(r, doc);
    PROBLEM(r, "%s",
            other ? "the reply's JSON object has neither \"prune\" nor \"stop\""
                  : "the reply holds no complete JSON object with \"prune\" or \"stop\"");
    return ESPL_OK;
}

static espl_status read_around(reader *r, const char *text, int64_t len) {
    espl_str once = {0}, twice = {0};
    strip_thoughts(&once, text, len, "<think>", "</think>");
    strip_thoughts(&twice, once.data ? once.data : "", once.len, "<thinking>", "</thinking>");
    espl_status st = once.failed ? espl_str_status(&once) : espl_str_status(&twice);
    if (st == ESPL_OK) st = find_and_read(r, twice.data ? twice.data : "", twice.len);
    espl_str_free(&once);
    espl_str_free(&twice);
    return st;
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/* Text that is one object and nothing else is taken as it is: its strings may speak of <think>. */
static espl_status read_reply(reader *r, const char *text, int64_t len) {
    if (len > ESPL_AGENT_REPLY_MAX) {
        PROBLEM(r, "the reply has %lld bytes; at most %d are read", (long long)len, ESPL_AGENT_REPLY_MAX);
        return ESPL_OK;
    }
    const char *p = text, *end = text + len;
    while (p < end && is_blank(*p)) p++;
    while (p < end && is_blank(end[-1])) end--;
    cJSON *doc = p < end && *p == '{' && object_end(p, end) == end ? parse_object(p, end) : NULL;
    if (is_decision(doc)) return read_object(r, doc);
    cJSON_Delete(doc);
    return read_around(r, text, len);
}

espl_status espl_agent_parse(const char *text, int64_t len, const espl_agent_view *view, espl_decision *out,
                             espl_str *problems, espl_str *notes) {
    reader r = {.v = view, .d = out, .problems = problems, .notes = notes};
    ESPL_TRY(espl_decision_init(out, 0));
    espl_status st = espl_mem_alloc(&r.count, espl_view_linears(view), sizeof *r.count, "reply");
    if (st == ESPL_OK) st = espl_mem_alloc(&r.step, espl_view_linears(view), sizeof *r.step, "reply");
    if (st == ESPL_OK) st = espl_mem_alloc(&r.pattern, espl_view_linears(view), sizeof *r.pattern, "reply");
    if (st == ESPL_OK) st = read_reply(&r, text, len);
    espl_mem_free(&r.count);
    espl_mem_free(&r.step);
    espl_mem_free(&r.pattern);
    if (st == ESPL_OK && problems->failed) st = espl_str_status(problems);
    if (st == ESPL_OK && notes->failed) st = espl_str_status(notes);
    if (st == ESPL_OK && r.n_problems > 0) {
        espl_decision_free(out);
        st = espl_decision_init(out, 0);
        out->stop = false;
    }
    return st;
}

void espl_agent_put_decision(espl_str *s, const espl_decision *d) {
    char name[64], pattern[ESPL_PATTERN_NAME_MAX];
    espl_str_puts(s, "{\"reasoning\":");
    espl_str_put_json(s, d->reason, (int64_t)strlen(d->reason));
    espl_str_puts(s, ",\"reflection\":");
    espl_str_put_json(s, d->reflection, (int64_t)strlen(d->reflection));
    espl_str_puts(s, ",\"prune\":{");
    for (int64_t k = 0; k < d->n; k++) {
        espl_str_printf(s, "%s\"%s\":", k ? "," : "", espl_linear_name(d->items[k].linear, name));
        if (espl_pattern_is_n_m(d->items[k].pattern))
            espl_str_printf(s, "\"%s\"", espl_pattern_name(d->items[k].pattern, pattern));
        else
            espl_put_number(s, d->items[k].step);
    }
    espl_str_printf(s, "},\"stop\":%s}", d->stop ? "true" : "false");
}
