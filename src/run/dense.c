/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dense model's measures, and the files that keep them. A file is named by the hash of its key: a text that says
 * everything on which the numbers depend (the program, the libraries that compute, the processor, the model, every
 * token that is read, every option that could count). The file holds the key itself, which must be equal, the numbers
 * bit by bit, and a check over both. A key that differs where it need not costs a measurement, never a result.
 *
 * Jobs share the directory without locks: a file is written beside, under a name of this process, and renamed. Two that
 * measure at once write equal files.
 */
#include "dense.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/config/table.h"
#include "judge.h"

enum { DENSE_FILE_BYTES_MAX = 1 << 26, DENSE_WORD_DIGITS = 16 };

/* ------------------------------------------------------------------- key */

/* Does the processor's own description, or that of a library in memory, bear on the bits of a result? */
static bool dense_line_counts(const char *line) {
    static const char *const names[] = {"model name", "flags", "Features", "CPU part"}; /* of /proc/cpuinfo */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(line, names[i], strlen(names[i])) == 0) return true;
    return false;
}

static uint64_t dense_hash_processor(void) {
    char line[8192];
    uint64_t h = 0;
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f) && *line != '\n') /* an empty line ends the first processor */
        if (dense_line_counts(line)) h = espl_hash64(line, (int64_t)strlen(line), h);
    if (f) fclose(f);
    return h;
}

/* The libraries that compute, by name, size and time; those of MPI come and go with the network. */
static uint64_t dense_hash_libraries(void) {
    static const char *const names[] = {"blas", "lapack", "dnnl", "/libm.", "/libm-", "/libgomp", "/libc.", "/libc-"};
    char line[8192];
    uint64_t h = 0;
    FILE *f = fopen("/proc/self/maps", "re");
    while (f && fgets(line, sizeof line, f)) {
        const char *path = strchr(line, '/');
        espl_file_state state;
        bool counts = false;
        line[strcspn(line, "\n")] = '\0';
        for (size_t i = 0; path && i < sizeof names / sizeof *names; i++) counts |= strstr(path, names[i]) != NULL;
        if (!counts || !strstr(line, " r-xp ") || espl_file_state_of(path, &state) != ESPL_OK) continue;
        const int64_t what[] = {state.bytes, state.modified_ns};
        h += espl_hash64(path, (int64_t)strlen(path), espl_hash64(what, sizeof what, 0)); /* in any order */
    }
    if (f) fclose(f);
    return h;
}

static espl_status dense_hash_program(uint64_t *h) {
    espl_mapping map;
    ESPL_TRY(espl_file_map("/proc/self/exe", &map));
    *h = espl_hash64(map.data, map.len, 0);
    espl_file_unmap(&map);
    return ESPL_OK;
}

static uint64_t dense_hash_prompts(const espl_prompts *p) {
    uint64_t h = espl_hash64(p->ids, p->n_ids * (int64_t)sizeof *p->ids, 0);
    h = espl_hash64(p->families, p->n_families * (int64_t)sizeof *p->families, h);
    return espl_hash64(p->prompts, p->n * (int64_t)sizeof *p->prompts, h);
}

static uint64_t dense_hash_questions(const espl_questions *q) {
    uint64_t h = 0;
    if (q->has_mmlu) {
        h = dense_hash_prompts(&q->mmlu.prompts);
        h = espl_hash64(q->mmlu.questions, q->mmlu.n * (int64_t)sizeof *q->mmlu.questions, h);
        h = espl_hash64(q->mmlu.letters, sizeof q->mmlu.letters, h);
    }
    if (q->has_freebaseqa) {
        const espl_freebaseqa *f = &q->freebaseqa;
        uint64_t prompts = dense_hash_prompts(&f->prompts);
        h = espl_hash64(&prompts, sizeof prompts, h);
        h = espl_hash64(f->stops, f->n_stops, h);
        for (int64_t i = 0; i < f->n; i++) { /* the names that count as right are on rank 0, as this is */
            h = espl_hash64(&f->questions[i].max_tokens, sizeof f->questions[i].max_tokens, h);
            for (int64_t k = 0; k < f->questions[i].aliases; k++) {
                const char *alias = f->text + f->alias_at[f->questions[i].alias + k];
                h = espl_hash64(alias, (int64_t)strlen(alias) + 1, h);
            }
        }
    }
    return h;
}

static uint64_t dense_hash_knowledge(const espl_knowledge *k) {
    int64_t windows = k->first[ESPL_TOPICS], ids = windows * k->window * (int64_t)sizeof *k->ids;
    uint64_t h = espl_hash64(k->ids, ids, 0);
    h = espl_hash64(k->targets, ids, h);
    h = espl_hash64(k->lengths, windows * (int64_t)sizeof *k->lengths, h);
    h = espl_hash64(k->questions, k->n * (int64_t)sizeof *k->questions, h);
    h = espl_hash64(k->first, sizeof k->first, h);
    return espl_hash64(k->letters, sizeof k->letters, h);
}

/* Rank 0 only. The members of the run's identity that are about the model, not about what this run reads. */
static espl_status dense_put_model(const espl_job *j, espl_json_writer *w) {
    static const char *const data[] = {"calibration", "validation", "probe_questions", "knowledge_questions",
                                       "allocation"};
    cJSON *model;
    ESPL_TRY(espl_json_parse(j->identity.data, j->identity.len, "identity", &model));
    for (size_t i = 0; i < sizeof data / sizeof *data; i++) cJSON_DeleteItemFromObjectCaseSensitive(model, data[i]);
    char *text = cJSON_PrintUnformatted(model);
    if (text) espl_json_put_raw(w, "model", text, (int64_t)strlen(text));
    cJSON_free(text);
    espl_json_free(&model);
    return text ? ESPL_OK : ESPL_FAIL(ESPL_NOMEM, "no memory for the model's identity");
}

/* Options that may shape a measure: all but those of how the model is pruned, and for the judge those of the report. */
static void dense_put_options(const espl_job *j, bool report, espl_json_writer *w) {
    static const char *const others[] = {"model", "run",     "checkpoint", "calibration",
                                         "prune", "distill", "agent",      "policy"};
    for (const espl_option *row = espl_option_table; row < espl_option_table + ESPL_OPTIONS; row++) {
        espl_str name = {0}, value = {0};
        bool other = row == &espl_option_table[ESPL_OPTION_OF_knowledge_share];
        for (size_t i = 0; i < sizeof others / sizeof *others; i++) other |= strcmp(row->section, others[i]) == 0;
        other |= !report && strcmp(row->section, "report") == 0;
        if (other || espl_option_is_path(row)) continue; /* what a file holds is hashed, wherever it lies */
        espl_str_printf(&name, "%s.%s", row->section, row->key);
        espl_option_put_value(&value, row, j->o);
        if (name.failed || value.failed)
            w->out->failed = true;
        else
            espl_json_put_raw(w, name.data, value.data, value.len);
        espl_str_free(&name);
        espl_str_free(&value);
    }
    espl_json_put_i64(w, "run.batch", j->o->run_batch);
}

/* Rank 0 only. */
static espl_status dense_put_key(const espl_job *j, const char *what, espl_str *key) {
    const espl_inputs *in = &j->inputs;
    espl_json_writer w = espl_json_writer_on(key);
    bool report = strcmp(what, "report") == 0;
    uint64_t program;
    ESPL_TRY(dense_hash_program(&program));
    espl_json_open_object(&w, NULL, ESPL_JSON_COMPACT);
    espl_json_put_text(&w, "measure", what);
    espl_json_put_printf(&w, "program", "%016" PRIx64, program);
    espl_json_put_text(&w, "openblas", espl_tensor_blas_init());
    espl_json_put_printf(&w, "libraries", "%016" PRIx64, dense_hash_libraries());
    espl_json_put_printf(&w, "processor", "%016" PRIx64, dense_hash_processor());
    ESPL_TRY(dense_put_model(j, &w));
    uint64_t validation = espl_hash64(in->validation.ids, in->validation.n * (int64_t)sizeof *in->validation.ids, 0);
    espl_json_put_printf(&w, "validation", "%016" PRIx64, validation);
    if (report) {
        uint64_t test = espl_hash64(in->test.ids, in->test.n * (int64_t)sizeof *in->test.ids, 0);
        espl_json_put_printf(&w, "test", "%016" PRIx64, test);
        espl_json_put_printf(&w, "questions", "%016" PRIx64, dense_hash_questions(&in->report));
    } else {
        espl_json_put_printf(&w, "questions", "%016" PRIx64, dense_hash_questions(&in->probe));
        espl_json_put_printf(&w, "answers", "%016" PRIx64, dense_hash_knowledge(&in->judge));
    }
    dense_put_options(j, report, &w);
    espl_json_close(&w);
    return espl_str_status(key);
}

/* ----------------------------------------------------------------- files */

/* A measure, its numbers in an order of its own. Whole numbers are exact in a double. */
typedef struct dense_record {
    espl_str key, path; /* rank 0 */
    double *values;     /* [n], owned */
    int64_t n;
} dense_record;

static void dense_free(dense_record *r) {
    espl_str_free(&r->key);
    espl_str_free(&r->path);
    espl_mem_free(&r->values);
}

static uint64_t dense_check(const dense_record *r) {
    uint64_t key = espl_hash64(r->key.data, r->key.len, 0);
    return espl_hash64(r->values, r->n * (int64_t)sizeof *r->values, key);
}

/* Exactly 16 hexadecimal digits. */
static bool dense_read_word(const char *text, uint64_t *out) {
    char digits[DENSE_WORD_DIGITS + 1], *end;
    memcpy(digits, text, DENSE_WORD_DIGITS);
    digits[DENSE_WORD_DIGITS] = '\0';
    if (strspn(digits, "0123456789abcdef") != DENSE_WORD_DIGITS) return false;
    *out = strtoull(digits, &end, 16);
    return true;
}

/* Rank 0 only. False if there is no such file, or if anything in it differs. */
static bool dense_read(dense_record *r) {
    cJSON *doc = NULL;
    char *text = NULL;
    int64_t len;
    uint64_t check = 0, word;
    if (!espl_file_exists(r->path.data)) return false;
    bool found = espl_file_read_regular(r->path.data, DENSE_FILE_BYTES_MAX, &text, &len) == ESPL_OK &&
                 espl_json_parse(text, len, r->path.data, &doc) == ESPL_OK;
    const char *key = cJSON_GetStringValue(espl_json_member(doc, "key"));
    const char *values = cJSON_GetStringValue(espl_json_member(doc, "values"));
    const char *stored = cJSON_GetStringValue(espl_json_member(doc, "check"));
    found = found && key && values && stored && strcmp(key, r->key.data) == 0 &&
            (int64_t)strlen(values) == r->n * DENSE_WORD_DIGITS && strlen(stored) == DENSE_WORD_DIGITS &&
            dense_read_word(stored, &check);
    for (int64_t i = 0; found && i < r->n; i++) {
        found = dense_read_word(values + i * DENSE_WORD_DIGITS, &word);
        if (found) memcpy(&r->values[i], &word, sizeof word);
    }
    found = found && check == dense_check(r);
    espl_json_free(&doc);
    espl_mem_free(&text);
    return found;
}

/* Is `name` what dense_write writes beside a file, NAME.json.HOST.PID or that with .part, of a process of this host
 * that is dead, or so old that whoever wrote it is? */
static bool dense_is_left(const char *dir, const char *name, const char *host) {
    enum { OLD_SECONDS = 3600 };
    const char *own = strstr(name, ".json.");
    char *end;
    espl_str path = {0};
    espl_file_state state;
    if (!own) return false;
    own += sizeof ".json." - 1;
    size_t n = strlen(host);
    if (n > 0 && strncmp(own, host, n) == 0 && own[n] == '.') {
        long pid = strtol(own + n + 1, &end, 10);
        return pid > 0 && (*end == '\0' || strcmp(end, ".part") == 0) && kill((pid_t)pid, 0) != 0 && errno == ESRCH;
    }
    espl_str_printf(&path, "%s/%s", dir, name);
    bool old = !path.failed && espl_file_state_of(path.data, &state) == ESPL_OK &&
               state.modified_ns / 1000000000 + OLD_SECONDS < (int64_t)time(NULL);
    espl_str_free(&path);
    return old;
}

/* Rank 0 only. Removes what killed processes have left beside the files. */
static void dense_remove_left(const char *dir, const char *host) {
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (dense_is_left(dir, e->d_name, host)) (void)unlinkat(dirfd(d), e->d_name, 0);
    if (d) closedir(d);
}

/* Rank 0 only. */
static espl_status dense_write(const espl_job *j, const dense_record *r) {
    espl_str text = {0}, values = {0}, beside = {0};
    espl_json_writer w = espl_json_writer_on(&text);
    char host[64] = "";
    espl_status st;
    for (int64_t i = 0; i < r->n; i++) {
        uint64_t word;
        memcpy(&word, &r->values[i], sizeof word);
        espl_str_printf(&values, "%016" PRIx64, word);
    }
    espl_json_open_object(&w, NULL, ESPL_JSON_LINES);
    espl_json_put_text(&w, "key", r->key.data);
    espl_json_put_text(&w, "values", values.data);
    espl_json_put_printf(&w, "check", "%016" PRIx64, dense_check(r));
    espl_json_close(&w);
    espl_str_puts(&text, "\n");
    (void)gethostname(host, sizeof host - 1);
    espl_str_printf(&beside, "%s.%s.%" PRId64, r->path.data, host, (int64_t)getpid());
    ESPL_CHECK(st, done, espl_str_status(&values));
    ESPL_CHECK(st, done, espl_str_status(&text));
    ESPL_CHECK(st, done, espl_str_status(&beside));
    ESPL_CHECK(st, done, espl_file_make_directory(j->o->run_dense_cache));
    dense_remove_left(j->o->run_dense_cache, host);
    ESPL_CHECK(st, done, espl_file_replace(beside.data, text.data, text.len));
    if (rename(beside.data, r->path.data) != 0) {
        st = ESPL_FAIL(ESPL_IO, "%s: cannot be written: %s", r->path.data, strerror(errno));
        unlink(beside.data);
    }
done:
    espl_str_free(&text);
    espl_str_free(&values);
    espl_str_free(&beside);
    return st;
}

/* Collective. Makes a record of n numbers, and fills them in if they are kept. */
static espl_status dense_recall(espl_job *j, const char *what, int64_t n, dense_record *r, bool *found) {
    espl_status st;
    *r = (dense_record){.n = n};
    *found = false;
    ESPL_CHECK(st, agree, espl_mem_alloc(&r->values, n, sizeof *r->values, "measures of the dense model"));
    /* Without the model's identity, as where only a prompt is printed, there is no key. */
    if (!j->root || !*j->o->run_dense_cache || j->identity.len == 0) goto agree;
    ESPL_CHECK(st, agree, dense_put_key(j, what, &r->key));
    espl_str_printf(&r->path, "%s/%s-%016" PRIx64 ".json", j->o->run_dense_cache, what,
                    espl_hash64(r->key.data, r->key.len, 0));
    ESPL_CHECK(st, agree, espl_str_status(&r->path));
    *found = dense_read(r);
    if (*found) ESPL_INFO("the dense model was measured before: %s", r->path.data);
agree:
    ESPL_TRY(espl_comm_agree(j->comm, st));
    espl_comm_broadcast(j->comm, found, sizeof *found, 0);
    if (*found) espl_comm_broadcast(j->comm, r->values, n * (int64_t)sizeof *r->values, 0);
    return ESPL_OK;
}

/* Rank 0 only. A run does not fail because others cannot use its numbers. */
static void dense_keep(const espl_job *j, const dense_record *r) {
    if (r->key.len == 0 || dense_write(j, r) == ESPL_OK) return;
    ESPL_INFO("note: the dense model's measures are not kept: %s", espl_base_error_text());
}

/* -------------------------------------------------------------- measures */

/* Walks the numbers of a record: writes them into it, or reads them out of it. */
typedef struct dense_walk {
    double *at;
    bool reads;
} dense_walk;

static void dense_real(dense_walk *w, double *value) {
    if (w->reads)
        *value = *w->at;
    else
        *w->at = *value;
    w->at++;
}

static void dense_whole(dense_walk *w, int64_t *value) {
    if (w->reads)
        *value = (int64_t)*w->at;
    else
        *w->at = (double)*value;
    w->at++;
}

enum {
    DENSE_QUALITY = 9 + 2 * ESPL_MMLU_TOPICS,
    DENSE_PERPLEXITY = 7,
    DENSE_PROPORTION = 2,
    DENSE_REPORT = 2 * 7 + 3 * 2
};

static void dense_walk_judge(dense_walk *w, espl_job *j) {
    espl_quality *q = &j->dense;
    double *reals[] = {&q->perplexity, &q->nll, &q->nll_stderr, &q->answers, &q->answers_stderr};
    int64_t *wholes[] = {&q->freebaseqa_right, &q->freebaseqa_total, &q->mmlu_right, &q->mmlu_total};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) dense_real(w, reals[i]);
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++) dense_whole(w, wholes[i]);
    for (int t = 0; t < ESPL_MMLU_TOPICS; t++) {
        dense_whole(w, &q->mmlu_category_right[t]);
        dense_whole(w, &q->mmlu_category_total[t]);
    }
    for (int64_t i = 0; i < j->validation_windows; i++) dense_real(w, &j->judged_windows[i]);
    for (int64_t i = 0; i < j->inputs.judge.n; i++) dense_real(w, &j->judged_answers[i]);
}

static void dense_walk_perplexity(dense_walk *w, espl_perplexity *p) {
    int64_t *wholes[] = {&p->window, &p->windows, &p->tokens};
    double *reals[] = {&p->nll, &p->nll_stderr, &p->perplexity, &p->perplexity_stderr};
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++) dense_whole(w, wholes[i]);
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) dense_real(w, reals[i]);
}

static void dense_walk_proportion(dense_walk *w, espl_proportion *p) {
    dense_whole(w, &p->hits);
    dense_whole(w, &p->n);
    if (w->reads) *p = espl_proportion_of(p->hits, p->n);
}

static void dense_walk_report(dense_walk *w, espl_report_quality *q) {
    dense_walk_perplexity(w, &q->validation);
    dense_walk_perplexity(w, &q->test);
    dense_walk_proportion(w, &q->mmlu.micro);
    dense_walk_proportion(w, &q->freebaseqa.exact);
    dense_walk_proportion(w, &q->freebaseqa.contains);
}

espl_status espl_dense_measure(espl_job *j) {
    dense_record r;
    bool found;
    espl_status st;
    ESPL_CHECK(st, done,
               dense_recall(j, "judge", DENSE_QUALITY + j->validation_windows + j->inputs.judge.n, &r, &found));
    if (found) {
        dense_walk_judge(&(dense_walk){.at = r.values, .reads = true}, j);
        goto done;
    }
    ESPL_CHECK(st, done, espl_judge_measure(j, &j->dense));
    if (!isfinite(j->dense.perplexity)) goto done; /* the caller says so */
    ESPL_CHECK(st, done, espl_quality_probe(j, &j->dense));
    dense_walk_judge(&(dense_walk){.at = r.values}, j);
    if (j->root) dense_keep(j, &r);
done:
    if (st == ESPL_OK)
        j->dense_text = espl_perplexity_of(j->judged_windows, j->validation_windows, j->o->validation_window);
    dense_free(&r);
    return st;
}

/* Collective. The model must be dense. */
static espl_status dense_measure_report(espl_job *j, espl_report_quality *out) {
    dense_record r;
    bool found;
    espl_status st;
    ESPL_CHECK(st, done, dense_recall(j, "report", DENSE_REPORT, &r, &found));
    if (found) {
        dense_walk_report(&(dense_walk){.at = r.values, .reads = true}, out);
        goto done;
    }
    ESPL_CHECK(st, done, espl_quality_report(j, j->dense_text, out));
    dense_walk_report(&(dense_walk){.at = r.values}, out);
    if (j->root) dense_keep(j, &r);
done:
    dense_free(&r);
    return st;
}

espl_status espl_dense_report(espl_job *j, const espl_report_quality **out) {
    ESPL_REGION_SCOPE(ESPL_REGION_REPORT);
    *out = j->dense_report;
    if (*out) return ESPL_OK;
    espl_status st = espl_mem_alloc(&j->dense_report, 1, sizeof *j->dense_report, "measures of the dense model");
    ESPL_TRY(espl_comm_agree(j->comm, st));
    espl_masks_apply_dense(&j->masks);
    ESPL_TRY(dense_measure_report(j, j->dense_report));
    espl_masks_apply(&j->masks);
    *out = j->dense_report;
    return ESPL_OK;
}

void espl_dense_free(espl_job *j) {
    if (j->dense_report) espl_report_quality_free(j->dense_report);
    espl_mem_free(&j->dense_report);
}
