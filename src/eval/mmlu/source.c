/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MMLU's files as published (dev/, val/ and test/ with one CSV file per subject), its prompts, and the tokens of its
 * letters. Prompts are tested byte for byte against those of hendrycks/test (evaluate.py) and of
 * lm-evaluation-harness (tasks/mmlu): tests/golden/knowledge/make_prompts.py.
 */
#include "mmlu/source.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/base/log.h"
#include "espalier/tokenizer.h"
#include "text.h"

enum { MMLU_PATH_BYTES = 4096 };

/* Reads one subject's file and checks its answers: a wrong letter must not count as a wrong answer. */
static espl_status mmlu_read_file(const char *path, espl_csv *out) {
    ESPL_TRY(espl_csv_read(path, MMLU_COLUMNS, out));
    for (int64_t r = 0; r < out->rows; r++) {
        const char *a = espl_csv_cell(out, r, MMLU_COLUMN_ANSWER);
        if (a[0] < 'A' || a[0] > 'D' || a[1])
            return ESPL_FAIL(ESPL_FORMAT, "%s: line %" PRId64 ": the answer is \"%.20s\", expected A, B, C or D", path,
                             out->lines[r], a);
    }
    return ESPL_OK;
}

/* Copies "anatomy" of "anatomy_test.csv" to `name`. False for other files, and for "._anatomy_test.csv", which macOS
 * leaves in archives. */
static bool mmlu_subject_of_file(const char *file, const char *split, char *name) {
    char suffix[32];
    int n = snprintf(suffix, sizeof suffix, "_%s.csv", split);
    size_t len = strlen(file);
    if (n < 0 || len <= (size_t)n || strcmp(file + len - (size_t)n, suffix) != 0 || file[0] == '.') return false;
    snprintf(name, ESPL_MMLU_SUBJECT_MAX, "%.*s", (int)(len - (size_t)n), file);
    return true;
}

static int mmlu_compare_names(const void *a, const void *b) {
    return strcmp(((const espl_mmlu_source_subject *)a)->name, ((const espl_mmlu_source_subject *)b)->name);
}

/* The subjects of the split, sorted: directory order differs between file systems, results must not. */
static espl_status mmlu_list_subjects(espl_mmlu_source *s, const espl_mmlu_options *o) {
    char path[MMLU_PATH_BYTES], name[ESPL_MMLU_SUBJECT_MAX];
    const char *split = espl_mmlu_split_name(o->split);
    espl_status st = ESPL_OK;
    snprintf(path, sizeof path, "%s/%s", o->dir, split);
    DIR *d = opendir(path);
    if (!d) return ESPL_FAIL(ESPL_IO, "%s: %s", path, strerror(errno));
    for (struct dirent *e; (e = readdir(d));) {
        if (!mmlu_subject_of_file(e->d_name, split, name)) continue;
        ESPL_CHECK(st, done, espl_mem_resize(&s->subjects, s->n + 1, sizeof *s->subjects, "subjects"));
        s->subjects[s->n] = (espl_mmlu_source_subject){0};
        snprintf(s->subjects[s->n++].name, ESPL_MMLU_SUBJECT_MAX, "%s", name);
    }
    if (s->n == 0) {
        st = ESPL_FAIL(ESPL_IO, "%s: no file named <subject>_%s.csv", path, split);
        goto done;
    }
    qsort(s->subjects, (size_t)s->n, sizeof *s->subjects, mmlu_compare_names);
done:
    closedir(d);
    return st;
}

/* A report of K shots must not stand for fewer without a word. */
static void mmlu_note_few_examples(const espl_mmlu_source *s, const espl_mmlu_options *o) {
    int64_t few = 0, first = 0;
    for (int64_t i = 0; i < s->n; i++)
        if (s->subjects[i].dev.rows < o->shots && few++ == 0) first = i;
    if (few > 0)
        ESPL_INFO("note: %s: %" PRId64 " shots are asked for, but %" PRId64 " of %" PRId64
                  " subjects have fewer examples in dev (%s has %" PRId64 "): all of theirs are used",
                  o->dir, o->shots, few, s->n, s->subjects[first].name, s->subjects[first].dev.rows);
}

espl_status espl_mmlu_source_read(const espl_mmlu_options *o, espl_mmlu_source *out) {
    char path[MMLU_PATH_BYTES];
    const char *split = espl_mmlu_split_name(o->split);
    *out = (espl_mmlu_source){.style = o->style};
    ESPL_TRY(mmlu_list_subjects(out, o));
    for (int64_t i = 0; i < out->n; i++) {
        espl_mmlu_source_subject *s = &out->subjects[i];
        snprintf(path, sizeof path, "%s/%s/%s_%s.csv", o->dir, split, s->name, split);
        ESPL_TRY(mmlu_read_file(path, &s->asked));
        snprintf(path, sizeof path, "%s/dev/%s_dev.csv", o->dir, s->name);
        if (o->shots > 0) ESPL_TRY(mmlu_read_file(path, &s->dev));
    }
    mmlu_note_few_examples(out, o);
    return ESPL_OK;
}

void espl_mmlu_source_free(espl_mmlu_source *s) {
    for (int64_t i = 0; i < s->n; i++) {
        espl_csv_free(&s->subjects[i].asked);
        espl_csv_free(&s->subjects[i].dev);
    }
    espl_mem_free(&s->subjects);
    s->n = 0;
}

/* -------------------------------------------------------------- prompts */

/* lm-eval's template strips the question, hendrycks/test does not. */
void espl_mmlu_source_question(const espl_mmlu_source *s, const espl_csv *c, int64_t row, espl_str *out) {
    const char *question = espl_csv_cell(c, row, MMLU_COLUMN_QUESTION);
    int64_t len = (int64_t)strlen(question);
    if (s->style == ESPL_MMLU_LM_EVAL) espl_text_strip(&question, &len);
    espl_str_put(out, question, len);
    for (int k = 0; k < ESPL_MMLU_CHOICES; k++)
        espl_str_printf(out, "\n%c. %s", 'A' + k, espl_csv_cell(c, row, MMLU_COLUMN_CHOICES + k));
    espl_str_puts(out, "\nAnswer:");
}

void espl_mmlu_source_header(const espl_mmlu_source *s, int64_t subject, espl_str *out) {
    espl_str_puts(out, "The following are multiple choice questions (with answers) about ");
    /* format_subject of hendrycks/test puts a space before every word: two after "about". */
    if (s->style == ESPL_MMLU_HENDRYCKS) espl_str_puts(out, " ");
    for (const char *p = s->subjects[subject].name; *p; p++) espl_str_put(out, *p == '_' ? " " : p, 1);
    espl_str_puts(out, ".\n\n");
}

void espl_mmlu_source_prompt(const espl_mmlu_source *s, int64_t subject, int64_t row, int64_t shots, espl_str *out) {
    const espl_mmlu_source_subject *u = &s->subjects[subject];
    espl_mmlu_source_header(s, subject, out);
    for (int64_t i = 0; i < shots; i++) {
        espl_mmlu_source_question(s, &u->dev, i, out);
        espl_str_printf(out, " %s\n\n", espl_csv_cell(&u->dev, i, MMLU_COLUMN_ANSWER));
    }
    espl_mmlu_source_question(s, &u->asked, row, out);
}

/* -------------------------------------------------------------- letters */

/* Encodes a short prompt with a letter after it. *start: number of ids of the prompt alone, which must be the first
 * ones of *out; what follows are the letter's, as lm-evaluation-harness finds the tokens of a continuation. */
static espl_status mmlu_encode_letter(const espl_tokenizer *t, char letter, espl_ids *out, int64_t *start) {
    static const char probe[] = "Question\nAnswer:";
    char text[sizeof probe + 2];
    espl_status st;
    espl_ids bare = {0};
    int n = snprintf(text, sizeof text, "%s %c", probe, letter);
    ESPL_CHECK(st, done, espl_tokenizer_encode(t, probe, (int64_t)sizeof probe - 1, true, &bare));
    ESPL_CHECK(st, done, espl_tokenizer_encode(t, text, n, true, out));
    bool follows = out->len > bare.len;
    for (int64_t i = 0; i < bare.len && follows; i++) follows = out->data[i] == bare.data[i];
    *start = bare.len;
    if (!follows)
        st = ESPL_FAIL(ESPL_UNSUPPORTED,
                       "the tokenizer joins \" %c\" with the colon before it: there is no token of the letter to score",
                       letter);
done:
    espl_ids_free(&bare);
    return st;
}

/* Some tokenizers (Metaspace ones) make a token of the space before the letter: it becomes part of the lead. */
espl_status espl_mmlu_letters(const espl_tokenizer *t, int32_t letters[ESPL_MMLU_CHOICES], espl_ids *lead) {
    espl_ids ids[ESPL_MMLU_CHOICES] = {0};
    int64_t start = 0;
    espl_status st;
    for (int k = 0; k < ESPL_MMLU_CHOICES; k++)
        ESPL_CHECK(st, done, mmlu_encode_letter(t, (char)('A' + k), &ids[k], &start));
    /* Only the last token may differ: what comes before it is the same for all four and joins the prompt. */
    for (int k = 0; k < ESPL_MMLU_CHOICES; k++) {
        int64_t last = ids[k].len - 1;
        bool valid = ids[k].len == ids[0].len && memcmp(ids[k].data, ids[0].data, (size_t)last * sizeof(int32_t)) == 0;
        letters[k] = ids[k].data[last];
        for (int j = 0; j < k; j++) valid = valid && letters[j] != letters[k];
        if (valid) continue;
        st = ESPL_FAIL(ESPL_UNSUPPORTED, "the tokenizer does not end \" A\" to \" D\" in one distinct token each");
        goto done;
    }
    st = espl_ids_append(lead, ids[0].data + start, ids[0].len - 1 - start);
done:
    for (int k = 0; k < ESPL_MMLU_CHOICES; k++) espl_ids_free(&ids[k]);
    return st;
}
