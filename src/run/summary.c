/* SPDX-License-Identifier: Apache-2.0 */
/* summary.json is complete or absent: a run that has one is finished, so a damaged one must not count. */
#include "summary.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>
#include <zlib.h>

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/memory.h"
#include "espalier/run/job.h"

enum { SUMMARY_BYTES_MAX = 1 << 26 };

static const char CHECKSUM[] = "crc32";

static unsigned long summary_checksum(const char *bytes, int64_t len) {
    return crc32_z(crc32_z(0, NULL, 0), (const unsigned char *)bytes, (size_t)len);
}

void espl_summary_put_checksum(espl_json_writer *w) {
    unsigned long checksum = w->out->failed ? 0 : summary_checksum(w->out->data, w->out->len);
    espl_json_put_printf(w, CHECKSUM, "%08lx", checksum);
}

/* Summaries of earlier versions have no checksum: that they are whole is all that can be known. */
static bool summary_checksum_holds(const cJSON *summary, const char *text) {
    const char *stored = cJSON_GetStringValue(espl_json_member(summary, CHECKSUM)), *last = NULL;
    char computed[16];
    if (!espl_json_member(summary, CHECKSUM)) return true;
    for (const char *at = text; (at = strstr(at, ",\n  \"crc32\": ")); at++) last = at;
    if (!last || !stored) return false;
    snprintf(computed, sizeof computed, "%08lx", summary_checksum(text, last - text));
    return strcmp(stored, computed) == 0;
}

/* Summaries of earlier versions do not say. */
static espl_status summary_verdict(const cJSON *summary) {
    static const espl_status verdicts[] = {ESPL_OFF_TARGET, ESPL_FELL_BACK};
    const char *state = cJSON_GetStringValue(espl_json_member(summary, "state"));
    for (size_t i = 0; state && i < sizeof verdicts / sizeof *verdicts; i++)
        if (strcmp(state, espl_status_name(verdicts[i])) == 0) return verdicts[i];
    return ESPL_OK;
}

bool espl_run_summary_reads(const char *path, espl_status *verdict) {
    cJSON *summary = NULL;
    char *text = NULL;
    int64_t len;
    bool good = espl_file_read_regular(path, SUMMARY_BYTES_MAX, &text, &len) == ESPL_OK &&
                espl_json_parse(text, len, path, &summary) == ESPL_OK && cJSON_IsObject(summary) && summary->child &&
                summary_checksum_holds(summary, text);
    *verdict = good ? summary_verdict(summary) : ESPL_OK;
    espl_json_free(&summary);
    espl_mem_free(&text);
    return good;
}

/* A number of an object in member "pruned", NaN if it is not there. */
static double summary_number(const cJSON *summary, const char *measure, const char *key) {
    const cJSON *m = espl_json_member(summary, "pruned");
    m = m ? espl_json_member(m, measure) : NULL;
    m = m ? espl_json_member(m, key) : NULL;
    return m && cJSON_IsNumber(m) ? m->valuedouble : NAN;
}

/* RUN/checkpoints/FILE lies beside RUN/summary.json, which names the checkpoint that it measured. */
espl_run_measures espl_run_measures_of(const char *checkpoint) {
    espl_run_measures out = {NAN, NAN, NAN};
    const char *slash = strrchr(checkpoint, '/'), *name = slash ? slash + 1 : checkpoint;
    espl_str path = {0};
    espl_status verdict;
    cJSON *summary = NULL;
    espl_str_put(&path, checkpoint, name - checkpoint);
    espl_str_puts(&path, "../summary.json");
    if (path.failed || !espl_file_exists(path.data) || !espl_run_summary_reads(path.data, &verdict)) goto done;
    if (espl_json_read(path.data, SUMMARY_BYTES_MAX, &summary) != ESPL_OK) goto done;
    const char *masks = cJSON_GetStringValue(espl_json_member(summary, "masks"));
    const char *measured = masks ? strrchr(masks, '/') : NULL;
    if (!measured || strcmp(measured + 1, name) != 0) goto done;
    out = (espl_run_measures){.test = summary_number(summary, "test", "perplexity"),
                              .mmlu = summary_number(summary, "mmlu", "rate"),
                              .freebaseqa = summary_number(summary, "freebaseqa", "rate")};
done:
    espl_json_free(&summary);
    espl_str_free(&path);
    return out;
}
