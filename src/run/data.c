/* Texts and questions, read before anything is computed. */
#include "internal.h"

#include <cjson/cJSON.h>
#include <string.h>

enum { CALIBRATION_PURPOSE = 0x43414C49 }; /* stream of random numbers: where calibration windows lie */

static const int64_t JSONL_MAX = (int64_t)1 << 34;

/* ------------------------------------------------------------------ texts */

static bool is_jsonl(const char *path) {
    size_t n = strlen(path);
    return n > 6 && strcmp(path + n - 6, ".jsonl") == 0;
}

static espl_status add_document(const char *path, int64_t number, const char *line, int64_t len, espl_str *out) {
    char where[512];
    struct cJSON *doc;
    const char *text;
    snprintf(where, sizeof where, "%s: line %lld", path, (long long)number);
    ESPL_TRY(espl_json_parse(line, len, where, &doc));
    espl_status st = espl_json_get_str(doc, "text", where, true, &text);
    if (st == ESPL_OK) {
        if (out->len > 0) espl_str_puts(out, "\n\n");
        espl_str_puts(out, text);
        st = espl_str_status(out);
    }
    espl_json_free(&doc);
    return st;
}

/* Documents of a .jsonl file, an empty line between them. */
static espl_status join_documents(const char *path, espl_str *out) {
    char *bytes;
    int64_t len, number = 1;
    ESPL_TRY(espl_file_read(path, JSONL_MAX, &bytes, &len));
    espl_status st = ESPL_OK;
    for (int64_t at = 0; at < len && st == ESPL_OK; number++) {
        const char *end = memchr(bytes + at, '\n', (size_t)(len - at));
        int64_t n = end ? end - (bytes + at) : len - at;
        if (n > 0) st = add_document(path, number, bytes + at, n, out);
        at += n + 1;
    }
    espl_mem_free(&bytes);
    return st;
}

/* Collective. */
static espl_status read_text(job *j, const char *path, espl_corpus *out) {
    espl_str text = {0};
    if (!is_jsonl(path)) return espl_corpus_read(j->c, j->t, path, out);
    espl_status st = espl_comm_agree(j->c, j->root ? join_documents(path, &text) : ESPL_OK);
    if (st == ESPL_OK) st = espl_corpus_encode(j->c, j->t, text.data ? text.data : "", text.len, out);
    espl_str_free(&text);
    return st;
}

static espl_status enough(const char *key, const char *path, const espl_corpus *corpus, int64_t tokens) {
    if (corpus->n >= tokens) return ESPL_OK;
    return ESPL_FAIL(ESPL_CONFIG,
                     "%s: %s has %lld tokens, but %lld are wanted: take fewer or smaller windows, or more "
                     "text",
                     key, path, (long long)corpus->n, (long long)tokens);
}

/* --------------------------------------------------------- calibration */

static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

static espl_status cut_windows(job *j, const espl_corpus *corpus) {
    const espl_config *o = j->o;
    int64_t window = o->calibration_window, n = j->data.windows;
    bool random = o->calibration_sample == ESPL_SAMPLE_RANDOM;
    espl_rng rng;
    espl_rng_seed(&rng, (uint64_t)o->run_seed, 0, CALIBRATION_PURPOSE);
    ESPL_TRY(enough("calibration.text", o->calibration_text, corpus, random ? window : n * window));
    ESPL_TRY(espl_mem_alloc(&j->data.calibration, n * window, sizeof *j->data.calibration, "calibration windows"));
    for (int64_t i = 0; i < n; i++) {
        int64_t at = random ? espl_rng_below(&rng, corpus->n - window + 1) : i * window;
        memcpy(j->data.calibration + i * window, corpus->ids + at, (size_t)window * sizeof *corpus->ids);
    }
    return ESPL_OK;
}

static espl_status read_calibration(job *j) {
    espl_corpus corpus = {0};
    j->data.windows = max64(j->o->calibration_forward, j->o->calibration_backward);
    ESPL_TRY(read_text(j, j->o->calibration_text, &corpus));
    espl_status st = espl_comm_agree(j->c, cut_windows(j, &corpus));
    espl_corpus_free(&corpus);
    return st;
}

static espl_status read_validation(job *j) {
    const espl_config *o = j->o;
    espl_corpus *v = &j->data.validation;
    int64_t wanted = max64(o->validation_windows, 1) * o->validation_window;
    ESPL_TRY(read_text(j, o->validation_text, v));
    ESPL_TRY(enough("validation.text", o->validation_text, v, wanted));
    if (o->validation_windows > 0) v->n = wanted;
    return ESPL_OK;
}

static espl_status read_report(job *j) {
    if (!*j->o->report_text) return ESPL_OK;
    ESPL_TRY(read_text(j, j->o->report_text, &j->data.report));
    return enough("report.text", j->o->report_text, &j->data.report, j->o->report_window);
}

/* ------------------------------------------------------------ questions */

/* Longest prompt: what the model was made for. */
static int64_t context_of(const job *j) { return j->config.max_positions > 0 ? j->config.max_positions : 2048; }

static espl_status read_mmlu(job *j, const char *dir, const char *split, int64_t questions, knowledge *k) {
    espl_mmlu_options q = {.dir = dir,
                           .split = split,
                           .style = j->o->probes_mmlu_style,
                           .shots = j->o->probes_mmlu_shots,
                           .context = context_of(j),
                           .questions = questions,
                           .seed = (uint64_t)j->o->run_seed};
    if (!*dir) return ESPL_OK;
    k->has_mmlu = true;
    return espl_mmlu_read(j->c, j->t, &q, &k->mmlu);
}

static espl_status read_freebaseqa(job *j, const char *path, int64_t questions, knowledge *k) {
    const espl_config *o = j->o;
    espl_freebaseqa_options q = {.path = path,
                                 .shots_path = *o->probes_freebaseqa_examples ? o->probes_freebaseqa_examples : NULL,
                                 .mode = ESPL_FREEBASEQA_STANDARD,
                                 .shots = o->probes_freebaseqa_shots,
                                 .max_tokens = o->probes_freebaseqa_tokens,
                                 .context = context_of(j),
                                 .questions = questions,
                                 .seed = (uint64_t)o->run_seed};
    if (!*path) return ESPL_OK;
    k->has_freebaseqa = true;
    return espl_freebaseqa_read(j->c, j->t, &q, &k->freebaseqa);
}

espl_status espl_data_read(job *j) {
    const espl_config *o = j->o;
    job_data *d = &j->data;
    ESPL_TRY(read_calibration(j));
    ESPL_TRY(read_validation(j));
    ESPL_TRY(read_report(j));
    ESPL_TRY(
        read_mmlu(j, o->probes_mmlu, espl_mmlu_split_name(o->probes_mmlu_split), o->probes_mmlu_questions, &d->probe));
    ESPL_TRY(read_freebaseqa(j, o->probes_freebaseqa, o->probes_freebaseqa_questions, &d->probe));
    ESPL_TRY(
        read_mmlu(j, o->report_mmlu, espl_mmlu_split_name(o->report_mmlu_split), o->report_mmlu_questions, &d->final));
    return read_freebaseqa(j, o->report_freebaseqa, o->report_freebaseqa_questions, &d->final);
}

static void knowledge_free(knowledge *k) {
    espl_mmlu_free(&k->mmlu);
    espl_freebaseqa_free(&k->freebaseqa);
}

void espl_data_free(job_data *d) {
    espl_mem_free(&d->calibration);
    espl_corpus_free(&d->validation);
    espl_corpus_free(&d->report);
    knowledge_free(&d->probe);
    knowledge_free(&d->final);
}

static void knowledge_need(const job *j, const knowledge *k, int ranks, espl_model_options *mo) {
    if (k->has_mmlu) espl_prompts_need(&k->mmlu.prompts, mo);
    if (k->has_freebaseqa) espl_freebaseqa_need(&k->freebaseqa, &j->config, ranks, mo);
}

espl_model_options espl_data_model_options(const job *j, int ranks) {
    const espl_config *o = j->o;
    int64_t context = max64(o->calibration_window, o->validation_window);
    if (*o->report_text) context = max64(context, o->report_window);
    espl_model_options mo = {.context = context, .batch_tokens = o->run_batch, .slots = 1};
    knowledge_need(j, &j->data.probe, ranks, &mo);
    knowledge_need(j, &j->data.final, ranks, &mo);
    return mo;
}
