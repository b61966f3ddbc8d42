/* MMLU as published: dev/, val/ and test/ with one CSV file per subject; its prompts. */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mmlu.h"

enum { COLUMNS = 6, PATH_BYTES = 4096, PROBE_IDS = 64 };

static espl_status bad_cell(const char *path, int64_t line, const char *cell) {
    return ESPL_FAIL(ESPL_FORMAT, "%s: line %lld: the answer is \"%.20s\", expected A, B, C or D", path,
                     (long long)line, cell);
}

static espl_status read_file(const char *path, csv *out) {
    ESPL_TRY(csv_read(path, COLUMNS, out));
    for (int64_t r = 0; r < out->rows; r++) {
        const char *a = csv_cell(out, r, COLUMNS - 1);
        if (a[0] < 'A' || a[0] > 'D' || a[1]) return bad_cell(path, out->lines[r], a);
    }
    return ESPL_OK;
}

/* "anatomy" of "anatomy_test.csv"; false for other files, and for the "._anatomy_test.csv" that some archivers leave.
 */
static bool subject_of(const char *file, const char *split, char *name) {
    char suffix[32];
    int n = snprintf(suffix, sizeof suffix, "_%s.csv", split);
    size_t len = strlen(file);
    if (n < 0 || len <= (size_t)n || strcmp(file + len - (size_t)n, suffix) != 0 || file[0] == '.') return false;
    snprintf(name, ESPL_MMLU_SUBJECT_MAX, "%.*s", (int)(len - (size_t)n), file);
    return true;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const mmlu_subject *)a)->name, ((const mmlu_subject *)b)->name);
}

static espl_status add_subject(mmlu_source *s, const char *name) {
    ESPL_TRY(espl_mem_resize(&s->subjects, s->n + 1, sizeof *s->subjects, "subjects"));
    s->subjects[s->n] = (mmlu_subject){0};
    snprintf(s->subjects[s->n++].name, ESPL_MMLU_SUBJECT_MAX, "%s", name);
    return ESPL_OK;
}

static espl_status list_subjects(mmlu_source *s, const espl_mmlu_options *o) {
    char path[PATH_BYTES], name[ESPL_MMLU_SUBJECT_MAX];
    espl_status st = ESPL_OK;
    snprintf(path, sizeof path, "%s/%s", o->dir, o->split);
    DIR *d = opendir(path);
    if (!d) return ESPL_FAIL(ESPL_IO, "%s: %s", path, strerror(errno));
    for (struct dirent *e; st == ESPL_OK && (e = readdir(d));)
        if (subject_of(e->d_name, o->split, name)) st = add_subject(s, name);
    closedir(d);
    ESPL_TRY(st);
    if (s->n == 0) return ESPL_FAIL(ESPL_IO, "%s: no file named <subject>_%s.csv", path, o->split);
    qsort(s->subjects, (size_t)s->n, sizeof *s->subjects, by_name);
    return ESPL_OK;
}

espl_status mmlu_source_read(const espl_mmlu_options *o, mmlu_source *out) {
    char path[PATH_BYTES];
    *out = (mmlu_source){.style = o->style};
    ESPL_TRY(list_subjects(out, o));
    for (int64_t i = 0; i < out->n; i++) {
        mmlu_subject *s = &out->subjects[i];
        snprintf(path, sizeof path, "%s/%s/%s_%s.csv", o->dir, o->split, s->name, o->split);
        ESPL_TRY(read_file(path, &s->asked));
        snprintf(path, sizeof path, "%s/dev/%s_dev.csv", o->dir, s->name);
        if (o->shots > 0) ESPL_TRY(read_file(path, &s->dev));
    }
    return ESPL_OK;
}

void mmlu_source_free(mmlu_source *s) {
    for (int64_t i = 0; i < s->n; i++) {
        csv_free(&s->subjects[i].asked);
        csv_free(&s->subjects[i].dev);
    }
    espl_mem_free(&s->subjects);
    s->n = 0;
}

/* -------------------------------------------------------------- prompts */

/* hendrycks/test's format_subject leaves a space before every word, hence two after "about". */
static void put_header(espl_str *out, espl_mmlu_style style, const char *subject) {
    espl_str_puts(out, "The following are multiple choice questions (with answers) about ");
    if (style == ESPL_MMLU_HENDRYCKS) espl_str_puts(out, " ");
    for (const char *p = subject; *p; p++) espl_str_put(out, *p == '_' ? " " : p, 1);
    espl_str_puts(out, ".\n\n");
}

/* lm-eval strips the question, hendrycks does not. */
static void put_question(espl_str *out, espl_mmlu_style style, const csv *c, int64_t row) {
    const char *question = csv_cell(c, row, 0);
    int64_t len = (int64_t)strlen(question);
    if (style == ESPL_MMLU_LM_EVAL) text_strip(&question, &len);
    espl_str_put(out, question, len);
    for (int k = 0; k < 4; k++) espl_str_printf(out, "\n%c. %s", 'A' + k, csv_cell(c, row, 1 + k));
    espl_str_puts(out, "\nAnswer:");
}

void mmlu_prompt(const mmlu_source *s, int64_t subject, int64_t row, int64_t shots, espl_str *out) {
    const mmlu_subject *u = &s->subjects[subject];
    put_header(out, s->style, u->name);
    for (int64_t i = 0; i < shots; i++) {
        put_question(out, s->style, &u->dev, i);
        espl_str_printf(out, " %s\n\n", csv_cell(&u->dev, i, COLUMNS - 1));
    }
    put_question(out, s->style, &u->asked, row);
}

static bool begins_with(const espl_ids *a, const espl_ids *b) {
    for (int64_t i = 0; i < b->len; i++)
        if (i >= a->len || a->data[i] != b->data[i]) return false;
    return true;
}

/* What a letter adds to the ids of a prompt, as lm-evaluation-harness finds a continuation's tokens. */
static espl_status letter_ids(const espl_tokenizer *t, char letter, espl_ids *out, int64_t *start) {
    static const char probe[] = "Question\nAnswer:";
    char text[sizeof probe + 2];
    espl_ids bare = {0};
    int n = snprintf(text, sizeof text, "%s %c", probe, letter);
    espl_status st = espl_tokenizer_encode(t, probe, (int64_t)sizeof probe - 1, true, &bare);
    if (st == ESPL_OK) st = espl_tokenizer_encode(t, text, n, true, out);
    *start = bare.len;
    if (st == ESPL_OK && (out->len == bare.len || !begins_with(out, &bare)))
        st = ESPL_FAIL(ESPL_UNSUPPORTED, "the tokenizer joins \" %c\" with the colon before it: no letter to score",
                       letter);
    espl_ids_free(&bare);
    return st;
}

/* The letters' tokens must differ in the last only: what comes before it is the same for all, and joins the prompt. */
static espl_status compare_letters(const espl_ids *ids, int64_t start, int32_t letters[4], espl_ids *lead) {
    for (int k = 0; k < 4; k++) {
        int64_t last = ids[k].len - 1;
        bool same =
            ids[k].len == ids[0].len && memcmp(ids[k].data, ids[0].data, (size_t)last * sizeof *ids[k].data) == 0;
        letters[k] = ids[k].data[last];
        for (int j = 0; j < k; j++) same = same && letters[j] != letters[k];
        if (!same) return ESPL_FAIL(ESPL_UNSUPPORTED, "the letters \" A\" to \" D\" do not end in one token each");
    }
    int64_t n = ids[0].len - 1 - start;
    ESPL_TRY(espl_mem_alloc(&lead->data, n, sizeof *lead->data, "letters"));
    memcpy(lead->data, ids[0].data + start, (size_t)n * sizeof *lead->data);
    lead->len = lead->cap = n;
    return ESPL_OK;
}

espl_status mmlu_letters(const espl_tokenizer *t, int32_t letters[4], espl_ids *lead) {
    espl_ids ids[4] = {0};
    int64_t start = 0;
    espl_status st = ESPL_OK;
    for (int k = 0; k < 4 && st == ESPL_OK; k++) st = letter_ids(t, (char)('A' + k), &ids[k], &start);
    if (st == ESPL_OK) st = compare_letters(ids, start, letters, lead);
    for (int k = 0; k < 4; k++) espl_ids_free(&ids[k]);
    return st;
}
