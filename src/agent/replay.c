/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repeats the decisions of a recorded dialogue. They are kept as JSON documents and read by the parser of replies, so
 * that numbers are the doubles of the file and a decision that does not fit this run is found.
 */
#include "replay.h"

#include "clean.h"
#include "reply.h"

#include "espalier/base/journal.h"
#include "espalier/base/json.h"
#include "espalier/base/memory.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <string.h>

typedef struct replay_record {
    int64_t iteration;
    cJSON *decision; /* owned */
} replay_record;

struct espl_replay {
    replay_record *records; /* [n] by ascending iteration */
    int64_t n, cap;
    char *path;
};

/* Keeps a copy of the decision of a line of type "decision"; requests, replies and errors are not needed. */
static espl_status replay_read_line(void *ctx, const struct cJSON *line, int64_t iteration) {
    espl_replay *r = ctx;
    const char *type = NULL;
    ESPL_TRY(espl_json_get_str(line, "type", r->path, true, &type));
    if (strcmp(type, "decision") != 0) return ESPL_OK;
    const cJSON *decision = espl_json_member(line, "decision");
    if (!cJSON_IsObject(decision))
        return ESPL_FAIL(ESPL_FORMAT, "%s: iteration %" PRId64 ": \"decision\" must be an object", r->path, iteration);
    if (r->n > 0 && r->records[r->n - 1].iteration >= iteration)
        return ESPL_FAIL(ESPL_FORMAT,
                         "%s: the decision of iteration %" PRId64 " follows that of iteration %" PRId64
                         ", expected ascending iterations",
                         r->path, iteration, r->records[r->n - 1].iteration);
    if (r->n == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 64; /* runs have some dozens of iterations */
        ESPL_TRY(espl_mem_resize(&r->records, r->cap, sizeof *r->records, "replay"));
    }
    cJSON *copy = cJSON_Duplicate(decision, true); /* the line is freed when this function returns */
    if (!copy) return ESPL_FAIL(ESPL_NOMEM, "no memory to replay %s", r->path);
    r->records[r->n++] = (replay_record){iteration, copy};
    return ESPL_OK;
}

espl_status espl_replay_open(espl_replay **out, const char *path) {
    espl_status st;
    ESPL_TRY(espl_mem_alloc(out, 1, sizeof **out, "replay"));
    espl_replay *r = *out;
    ESPL_CHECK(st, failed, espl_str_dup(&r->path, path, "path"));
    ESPL_CHECK(st, failed, espl_journal_read(path, replay_read_line, r));
    if (r->n > 0) return ESPL_OK;
    st = ESPL_FAIL(ESPL_FORMAT, "%s: holds no decision to replay", path);
failed:
    espl_replay_close(out);
    return st;
}

void espl_replay_close(espl_replay **r) {
    if (!*r) return;
    for (int64_t k = 0; k < (*r)->n; k++) cJSON_Delete((*r)->records[k].decision);
    espl_mem_free(&(*r)->records);
    espl_mem_free(&(*r)->path);
    espl_mem_free(r);
}

espl_status espl_replay_ask(const espl_replay *r, const espl_agent_view *view, espl_decision *out) {
    const replay_record *record = NULL;
    for (int64_t k = 0; k < r->n; k++)
        if (r->records[k].iteration == view->iteration) record = &r->records[k];
    if (!record) {
        ESPL_TRY(espl_decision_init(out, 0));
        return ESPL_FAIL(ESPL_FORMAT,
                         "%s: holds no decision of iteration %" PRId64 " (it has %" PRId64 ", up to iteration %" PRId64
                         ")",
                         r->path, view->iteration, r->n, r->records[r->n - 1].iteration);
    }
    /* A recorded decision kept its budget, so any problem or note means another model, budget or state. */
    espl_str said = {0}, why = {0};
    espl_status st = espl_reply_read(record->decision, view, NULL, out, &said, &said);
    if (st == ESPL_OK && said.len > 0) {
        espl_agent_put_joined(&why, &said);
        st = ESPL_FAIL(ESPL_FORMAT, "%s: the decision of iteration %" PRId64 " does not fit this run: %.400s", r->path,
                       record->iteration, why.data ? why.data : "");
    }
    espl_str_free(&said);
    espl_str_free(&why);
    return st;
}
