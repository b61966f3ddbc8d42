/* SPDX-License-Identifier: Apache-2.0 */
/* The status of a run, read from its directory (espalier/run/status.h). */
#include "espalier/run/status.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "espalier/base/file.h"
#include "espalier/base/journal.h"
#include "espalier/base/json.h"
#include "espalier/run/job.h"
#include "espalier/run/lock.h"

enum { MANIFEST_BYTES_MAX = 1 << 26 };

const char *espl_run_state_name(espl_run_state state) {
    static const char *const names[] = {
#define X(name, text) text,
        ESPL_RUN_STATE_LIST(X)
#undef X
    };
    return names[state];
}

void espl_run_status_free(espl_run_status *s) {
    espl_str_free(&s->holder);
    espl_str_free(&s->end);
}

/* A number of an object that may be missing: NaN. */
static double status_number(const cJSON *object, const char *key) {
    const cJSON *v = object ? espl_json_member(object, key) : NULL;
    return v && cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

/* Only an accepted step changes the state; a rolled back one counts. */
static espl_status status_take_event(void *context, const cJSON *line, int64_t iteration) {
    espl_run_status *s = context;
    const cJSON *type = espl_json_member(line, "type"), *accepted = espl_json_member(line, "accepted");
    const char *name = type && cJSON_IsString(type) ? type->valuestring : "";
    s->changed = status_number(line, "time");
    if (!isfinite(s->started)) s->started = s->changed;
    if (strcmp(name, "start") == 0) {
        s->dense = s->perplexity = status_number(espl_json_member(line, "dense"), "perplexity");
        s->sparsity = status_number(line, "pruned") / status_number(line, "weights");
    } else if (strcmp(name, "outcome") == 0) {
        s->iterations = iteration;
        s->rollbacks += cJSON_IsFalse(accepted);
        s->step_seconds = status_number(line, "seconds");
        s->seconds_left = status_number(line, "seconds_left") + s->changed; /* the clock at the end */
        if (cJSON_IsFalse(accepted)) return ESPL_OK;
        s->sparsity = status_number(line, "sparsity_after");
        s->perplexity = status_number(espl_json_member(line, "after"), "perplexity");
    } else if (strcmp(name, "end") == 0) {
        const cJSON *text = espl_json_member(line, "text");
        espl_str_puts(&s->end, text && cJSON_IsString(text) ? text->valuestring : "");
    }
    return ESPL_OK;
}

static espl_status status_take_manifest(const char *path, espl_run_status *s) {
    cJSON *manifest = NULL;
    ESPL_TRY(espl_json_read(path, MANIFEST_BYTES_MAX, &manifest));
    const cJSON *config = espl_json_member(manifest, "config");
    s->target = status_number(config ? espl_json_member(config, "prune") : NULL, "target");
    espl_json_free(&manifest);
    return ESPL_OK;
}

espl_status espl_run_status_read(const char *dir, espl_run_status *out) {
    espl_str manifest = {0}, events = {0}, summary = {0};
    espl_status st;
    *out = (espl_run_status){.sparsity = NAN,
                             .target = NAN,
                             .dense = NAN,
                             .perplexity = NAN,
                             .started = NAN,
                             .changed = NAN,
                             .step_seconds = NAN,
                             .seconds_left = NAN};
    espl_str_printf(&manifest, "%s/manifest.json", dir);
    espl_str_printf(&events, "%s/events.jsonl", dir);
    espl_str_printf(&summary, "%s/summary.json", dir);
    ESPL_CHECK(st, done, espl_str_status(&manifest));
    ESPL_CHECK(st, done, espl_str_status(&events));
    ESPL_CHECK(st, done, espl_str_status(&summary));
    bool begun = espl_file_exists(manifest.data) || espl_file_exists(events.data);
    if (espl_run_lock_is_held(dir, &out->holder)) {
        out->state = ESPL_RUN_RUNNING;
    } else if (espl_file_exists(summary.data) && espl_run_summary_reads(summary.data, &out->verdict)) {
        out->state = ESPL_RUN_FINISHED;
    } else {
        out->state = begun ? ESPL_RUN_INTERRUPTED : ESPL_RUN_NONE;
    }
    if (espl_file_exists(manifest.data)) ESPL_CHECK(st, done, status_take_manifest(manifest.data, out));
    if (espl_file_exists(events.data)) ESPL_CHECK(st, done, espl_journal_read(events.data, status_take_event, out));
    out->seconds_left -= (double)time(NULL);
    if (out->seconds_left < 0) out->seconds_left = 0;
    if (out->state != ESPL_RUN_RUNNING) out->seconds_left = NAN;
    st = espl_str_status(&out->end);
done:
    espl_str_free(&manifest);
    espl_str_free(&events);
    espl_str_free(&summary);
    return st;
}
