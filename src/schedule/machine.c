/* SPDX-License-Identifier: Apache-2.0 */
/* Speeds of a computer, and their file. */
#include "espalier/schedule/machine.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static const char machine_format[] = "espalier-machine-1";
enum { MACHINE_FILE_BYTES = 1 << 16, MACHINE_THREADS = 4096, MACHINE_CORES = 4096 };
static const double GIGA = 1e9, MICRO = 1e-6;

espl_machine espl_machine_unknown(void) { return (espl_machine){.latency = 5e-6, .bandwidth = 5e9, .disk = 0.5e9}; }

double espl_machine_flops(const espl_machine *m, int64_t threads) {
    const espl_machine_speed *s = m->speeds;
    if (m->n == 0) return 0;
    int64_t k = 0; /* the first one with at least so many threads */
    while (k < m->n && s[k].threads < threads) k++;
    if (k == m->n) return s[k - 1].flops * (double)threads / (double)s[k - 1].threads;
    if (k == 0 || s[k].threads == threads) return s[k].flops * (double)threads / (double)s[k].threads;
    const espl_machine_speed *low = &s[k - 1], *high = &s[k];
    double part = log((double)threads / (double)low->threads) / log((double)high->threads / (double)low->threads);
    return low->flops * pow(high->flops / low->flops, part);
}

double espl_machine_transfer(const espl_machine *m, double bytes) { return m->latency + bytes / m->bandwidth; }

/* ------------------------------------------------------------------- file */

static espl_status machine_take_speeds(const cJSON *doc, const char *path, espl_machine *out) {
    const cJSON *speeds = espl_json_member(doc, "speeds"), *item;
    if (!cJSON_IsArray(speeds) || cJSON_GetArraySize(speeds) < 1 || cJSON_GetArraySize(speeds) > ESPL_MACHINE_SPEEDS)
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"speeds\" must be a list of 1 to %d objects", path, ESPL_MACHINE_SPEEDS);
    cJSON_ArrayForEach(item, speeds) {
        espl_machine_speed *s = &out->speeds[out->n];
        char where[512];
        snprintf(where, sizeof where, "%s: speeds[%" PRId64 "]", path, out->n);
        ESPL_TRY(espl_json_get_i64(item, "threads", where, true, 1, MACHINE_THREADS, &s->threads));
        ESPL_TRY(espl_json_get_f64(item, "gflops", where, true, 1e-6, 1e9, &s->flops));
        s->flops *= GIGA;
        if (out->n > 0 && s->threads <= out->speeds[out->n - 1].threads)
            return ESPL_FAIL(ESPL_FORMAT, "%s: \"threads\" must grow from entry to entry", where);
        out->n++;
    }
    return ESPL_OK;
}

espl_status espl_machine_read(const char *path, espl_machine *out) {
    cJSON *doc = NULL;
    const char *format = "";
    espl_status st;
    *out = espl_machine_unknown();
    ESPL_CHECK(st, done, espl_json_read(path, MACHINE_FILE_BYTES, &doc));
    ESPL_CHECK(st, done, espl_json_get_str(doc, "format", path, true, &format));
    if (strcmp(format, machine_format) != 0) {
        st = ESPL_FAIL(ESPL_FORMAT, "%s: \"format\" is \"%s\", expected \"%s\" (prune --dry-run --calibrate writes it)",
                       path, format, machine_format);
        goto done;
    }
    double latency = out->latency / MICRO, bandwidth = out->bandwidth / GIGA, disk = out->disk / GIGA;
    ESPL_CHECK(st, done, machine_take_speeds(doc, path, out));
    ESPL_CHECK(st, done, espl_json_get_i64(doc, "cores", path, false, 1, MACHINE_CORES, &out->cores));
    ESPL_CHECK(st, done, espl_json_get_i64(doc, "domains", path, false, 1, MACHINE_CORES, &out->domains));
    if (out->domains > 0 && (out->cores == 0 || out->cores % out->domains != 0)) {
        st = ESPL_FAIL(ESPL_FORMAT, "%s: \"domains\" is %" PRId64 ", which does not divide \"cores\" (%" PRId64 ")",
                       path, out->domains, out->cores);
        goto done;
    }
    ESPL_CHECK(st, done, espl_json_get_f64(doc, "latency_us", path, false, 0, 1e9, &latency));
    ESPL_CHECK(st, done, espl_json_get_f64(doc, "bandwidth_gb_s", path, false, 1e-6, 1e9, &bandwidth));
    ESPL_CHECK(st, done, espl_json_get_f64(doc, "disk_gb_s", path, false, 1e-6, 1e9, &disk));
    out->latency = latency * MICRO;
    out->bandwidth = bandwidth * GIGA;
    out->disk = disk * GIGA;
done:
    espl_json_free(&doc);
    return st;
}

espl_status espl_machine_write(const espl_machine *m, const char *path) {
    enum { DIGITS = 4 };
    espl_str text = {0};
    espl_json_writer w = espl_json_writer_on(&text);
    espl_status st;
    espl_json_open_object(&w, NULL, ESPL_JSON_LINES);
    espl_json_put_text(&w, "format", machine_format);
    espl_json_open_array(&w, "speeds", ESPL_JSON_LINES);
    for (int64_t i = 0; i < m->n; i++) {
        espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
        espl_json_put_i64(&w, "threads", m->speeds[i].threads);
        espl_json_put_rounded(&w, "gflops", m->speeds[i].flops / GIGA, DIGITS);
        espl_json_close(&w);
    }
    espl_json_close(&w);
    if (m->cores > 0) espl_json_put_i64(&w, "cores", m->cores);
    if (m->domains > 0) espl_json_put_i64(&w, "domains", m->domains);
    espl_json_put_rounded(&w, "latency_us", m->latency / MICRO, DIGITS);
    espl_json_put_rounded(&w, "bandwidth_gb_s", m->bandwidth / GIGA, DIGITS);
    espl_json_put_rounded(&w, "disk_gb_s", m->disk / GIGA, DIGITS);
    espl_json_close(&w);
    espl_str_puts(&text, "\n");
    ESPL_CHECK(st, done, espl_str_status(&text));
    st = espl_file_replace(path, text.data, text.len);
done:
    espl_str_free(&text);
    return st;
}
