/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds prompt sets. Common prefixes are found on token ids, not on text: a tokenizer may merge the last character of
 * a shared text with the first one of what follows, and only equal ids have equal keys and values in the cache.
 */
#include "prompt_builder.h"

#include "espalier/tokenizer.h"

/* All ids are copied to one array: prompts are many and short. */
espl_status espl_prompt_builder_add(espl_prompt_builder *b, const int32_t *ids, int64_t n, int64_t scored,
                                    int64_t group) {
    if (b->n == b->cap) {
        int64_t cap = b->cap ? b->cap * 2 : 256;
        ESPL_TRY(espl_mem_resize(&b->prompts, cap, sizeof *b->prompts, "prompts"));
        b->cap = cap;
    }
    b->prompts[b->n] = (espl_full_prompt){.at = b->ids.len, .n = n, .scored = scored, .group = group};
    ESPL_TRY(espl_ids_append(&b->ids, ids, n));
    b->n++;
    return ESPL_OK;
}

void espl_prompt_builder_free(espl_prompt_builder *b) {
    espl_ids_free(&b->ids);
    espl_mem_free(&b->prompts);
    *b = (espl_prompt_builder){0};
}

/* Number of leading ids that prompts first .. last - 1 have in common. A single prompt shares nothing: a prefix of its
 * own would only cost a segment. */
static int64_t builder_common_prefix(const espl_prompt_builder *b, int64_t first, int64_t last) {
    if (last - first < 2) return 0;
    const espl_full_prompt *a = &b->prompts[first];
    int64_t common = a->n - a->scored;
    for (int64_t i = first + 1; i < last; i++) {
        const espl_full_prompt *p = &b->prompts[i];
        int64_t same = 0, max = espl_min_i64(p->n - p->scored, common);
        while (same < max && b->ids.data[a->at + same] == b->ids.data[p->at + same]) same++;
        common = same;
    }
    return common;
}

/* Families are consecutive prompts of one group: callers sort, the builder does not. */
espl_status espl_prompt_builder_finish(const espl_prompt_builder *b, espl_prompts *out) {
    espl_status st;
    espl_ids ids = {0};
    *out = (espl_prompts){.n = b->n};
    ESPL_CHECK(st, done, espl_mem_alloc(&out->families, b->n, sizeof *out->families, "prompt families"));
    ESPL_CHECK(st, done, espl_mem_alloc(&out->prompts, b->n, sizeof *out->prompts, "prompts"));
    for (int64_t first = 0, last; first < b->n; first = last) {
        for (last = first + 1; last < b->n && b->prompts[last].group == b->prompts[first].group;) last++;
        int64_t shared = builder_common_prefix(b, first, last);
        out->families[out->n_families++] =
            (espl_prompt_family){.at = ids.len, .n = shared, .first = first, .count = last - first};
        ESPL_CHECK(st, done, espl_ids_append(&ids, b->ids.data + b->prompts[first].at, shared));
        for (int64_t i = first; i < last; i++) {
            const espl_full_prompt *p = &b->prompts[i];
            out->prompts[i] = (espl_prompt){.at = ids.len, .n = p->n - shared};
            ESPL_CHECK(st, done, espl_ids_append(&ids, b->ids.data + p->at + shared, p->n - shared));
        }
    }
done:
    out->ids = ids.data;
    out->n_ids = ids.len;
    if (st != ESPL_OK) espl_prompts_free(out);
    return st;
}

void espl_prompts_free(espl_prompts *p) {
    espl_mem_free(&p->ids);
    espl_mem_free(&p->families);
    espl_mem_free(&p->prompts);
    *p = (espl_prompts){0};
}
