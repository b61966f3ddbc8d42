/* Repeats the decisions of a recorded dialogue. */
#include "internal.h"

#include <cjson/cJSON.h>
#include <string.h>

typedef struct record {
    int64_t iteration;
    char *reply; /* the decision's JSON; cJSON's memory */
} record;

struct espl_replay {
    record *records; /* [n] by ascending iteration */
    int64_t n, cap;
    char *path;
};

/* cJSON prints 15 digits: here all that the double needs. */
static bool keep_digits(cJSON *steps) {
    bool done = true;
    for (cJSON *step = steps ? steps->child : NULL, *next; step && done; step = next) {
        char digits[40];
        next = step->next;
        if (!cJSON_IsNumber(step)) continue;
        snprintf(digits, sizeof digits, "%.17g", step->valuedouble);
        cJSON *raw = cJSON_CreateRaw(digits);
        done = raw && cJSON_ReplaceItemInObjectCaseSensitive(steps, step->string, raw);
    }
    return done;
}

/* NULL: no memory. cJSON's memory. */
static char *print_exactly(const cJSON *decision) {
    cJSON *copy = cJSON_Duplicate(decision, true);
    char *text =
        copy && keep_digits(cJSON_GetObjectItemCaseSensitive(copy, "prune")) ? cJSON_PrintUnformatted(copy) : NULL;
    cJSON_Delete(copy);
    return text;
}

static espl_status add_record(espl_replay *r, const cJSON *decision, int64_t iteration) {
    if (r->n > 0 && r->records[r->n - 1].iteration >= iteration)
        return ESPL_FAIL(ESPL_FORMAT, "%s: the decision of iteration %lld stands behind that of iteration %lld",
                         r->path, (long long)iteration, (long long)r->records[r->n - 1].iteration);
    if (r->n == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 64;
        ESPL_TRY(espl_mem_resize(&r->records, r->cap, sizeof *r->records, "replay"));
    }
    char *text = print_exactly(decision);
    if (!text) return ESPL_FAIL(ESPL_NOMEM, "no memory to replay %s", r->path);
    r->records[r->n++] = (record){iteration, text};
    return ESPL_OK;
}

static espl_status read_record(void *ctx, const struct cJSON *line, int64_t iteration, int64_t offset) {
    espl_replay *r = ctx;
    const char *type = NULL;
    (void)offset;
    ESPL_TRY(espl_json_get_str(line, "type", r->path, true, &type));
    if (strcmp(type, "decision") != 0) return ESPL_OK;
    const cJSON *decision = espl_json_member(line, "decision");
    if (!cJSON_IsObject(decision))
        return ESPL_FAIL(ESPL_FORMAT, "%s: iteration %lld: \"decision\" must be an object", r->path,
                         (long long)iteration);
    return add_record(r, decision, iteration);
}

static espl_status open_replay(espl_replay *r, const char *path) {
    int64_t end;
    ESPL_TRY(espl_mem_alloc(&r->path, (int64_t)strlen(path) + 1, 1, "path"));
    memcpy(r->path, path, strlen(path) + 1);
    ESPL_TRY(espl_journal_read(path, read_record, r, &end));
    if (r->n == 0) return ESPL_FAIL(ESPL_FORMAT, "%s: holds no decision to replay", path);
    return ESPL_OK;
}

espl_status espl_replay_open(espl_replay **out, const char *path) {
    ESPL_TRY(espl_mem_alloc(out, 1, sizeof **out, "replay"));
    espl_status st = open_replay(*out, path);
    if (st != ESPL_OK) espl_replay_close(out);
    return st;
}

void espl_replay_close(espl_replay **r) {
    if (!*r) return;
    for (int64_t k = 0; k < (*r)->n; k++) cJSON_free((*r)->records[k].reply);
    espl_mem_free(&(*r)->records);
    espl_mem_free(&(*r)->path);
    espl_mem_free(r);
}

static const record *find_record(const espl_replay *r, int64_t iteration) {
    for (int64_t k = 0; k < r->n; k++)
        if (r->records[k].iteration == iteration) return &r->records[k];
    return NULL;
}

/* A recorded decision kept its budget, so any complaint or trimming means another model, budget or state. */
static espl_status parse_record(const espl_replay *r, const record *rec, const espl_agent_view *view,
                                espl_decision *out, espl_str *said) {
    espl_str why = {0};
    ESPL_TRY(espl_agent_parse(rec->reply, (int64_t)strlen(rec->reply), view, out, said, said));
    if (said->len == 0) return ESPL_OK;
    espl_put_problems(&why, said);
    espl_status st = ESPL_FAIL(ESPL_FORMAT, "%s: the decision of iteration %lld does not fit this run: %.400s", r->path,
                               (long long)rec->iteration, why.data ? why.data : "");
    espl_str_free(&why);
    return st;
}

espl_status espl_replay_ask(const espl_replay *r, const espl_agent_view *view, espl_decision *out) {
    espl_str said = {0};
    const record *rec = find_record(r, view->iteration);
    ESPL_TRY(espl_decision_init(out, 0));
    if (!rec)
        return ESPL_FAIL(ESPL_FORMAT, "%s: holds no decision of iteration %lld (it has %lld, up to iteration %lld)",
                         r->path, (long long)view->iteration, (long long)r->n,
                         (long long)r->records[r->n - 1].iteration);
    espl_decision_free(out);
    espl_status st = parse_record(r, rec, view, out, &said);
    espl_str_free(&said);
    return st;
}
