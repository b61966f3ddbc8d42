/* SPDX-License-Identifier: Apache-2.0 */
/* rooms: eval */
/*
 * Benchmark files and texts as hostile input. The first byte selects the reader: c CSV, d documents, f FreebaseQA,
 * j choices; any other the normalisation of answers. Besides crashes it looks for offsets beyond the data, and leaks.
 */
#include "../../src/eval/choices/source.h"
#include "../../src/eval/freebaseqa/source.h"
#include "../../src/eval/mmlu/csv.h"
#include "../../src/eval/text.h"
#include "espalier/eval/documents.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_csv(const char *text, int64_t len) {
    espl_csv c;
    if (espl_csv_parse(text, len, "t.csv", 6, &c) != ESPL_OK) return;
    for (int64_t i = 0; i < c.rows * 6; i++)
        if (__builtin_strlen(espl_csv_cell(&c, i / 6, i % 6)) > (size_t)len) __builtin_trap();
    espl_csv_free(&c);
}

static void read_freebaseqa(const char *text, int64_t len) {
    espl_freebaseqa_source s;
    espl_str out = {0};
    if (espl_freebaseqa_source_parse(text, len, "f.json", &s) == ESPL_OK)
        for (int64_t i = 0; i < s.n; i++) {
            espl_freebaseqa_source_example(&s, i, &out);
            espl_freebaseqa_source_prompt(&s, ESPL_FREEBASEQA_LLM_KICK, i, &out);
        }
    espl_str_free(&out);
    espl_freebaseqa_source_free(&s);
}

static void read_choices(const char *text, int64_t len) {
    espl_choices_source s;
    if (espl_choices_source_parse(text, len, "c.jsonl", &s) == ESPL_OK)
        for (int64_t i = 0; i < s.n; i++)
            if (s.questions[i].first + s.questions[i].count > s.n_pairs) __builtin_trap();
    espl_choices_source_free(&s);
}

static void read_documents(const char *text, int64_t len) {
    espl_documents d = {0};
    if (espl_documents_parse(text, len, "d.jsonl", &d) == ESPL_OK)
        for (int64_t i = 0; i < d.n; i++)
            if (d.items[i].start < 0 || d.items[i].len < 0 || d.items[i].start + d.items[i].len > d.text.len)
                __builtin_trap();
    espl_documents_free(&d);
}

static void normalise(const char *text, int64_t len) {
    espl_str a = {0}, b = {0};
    espl_text_normalise(text, len, &a);
    espl_text_squeeze(text, len, &b);
    if (espl_text_characters(text, len) > len || espl_text_rstrip(text, len) > len) __builtin_trap();
    if (a.len > 0 && (a.data[0] == ' ' || a.data[a.len - 1] == ' ')) __builtin_trap();
    espl_text_has_words(a.data, b.data);
    espl_str_free(&a);
    espl_str_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    const char *text = (const char *)data + 1;
    int64_t len = (int64_t)size - 1;
    switch (data[0]) {
    case 'c':
        read_csv(text, len);
        break;
    case 'd':
        read_documents(text, len);
        break;
    case 'f':
        read_freebaseqa(text, len);
        break;
    case 'j':
        read_choices(text, len);
        break;
    default:
        normalise(text, len);
    }
    return espl_mem_balance() == 0 ? 0 : (__builtin_trap(), 0);
}
