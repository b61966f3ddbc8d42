/* Prompt sets: common beginnings are found on ids, so that nothing depends on where a tokenizer merges. */
#include "internal.h"

#include <string.h>

void espl_prompts_free(espl_prompts *p) {
    espl_mem_free(&p->ids);
    espl_mem_free(&p->families);
    espl_mem_free(&p->prompts);
    *p = (espl_prompts){0};
}

static espl_status put_ids(espl_ids *to, const int32_t *ids, int64_t n) {
    if (!to->data || to->len + n > to->cap) {
        int64_t cap = to->len + n + to->cap / 2;
        ESPL_TRY(espl_mem_resize(&to->data, cap, sizeof *to->data, "prompt ids"));
        to->cap = cap;
    }
    if (n > 0) memcpy(to->data + to->len, ids, (size_t)n * sizeof *ids);
    to->len += n;
    return ESPL_OK;
}

espl_status builder_add(prompt_builder *b, const int32_t *ids, int64_t n, int64_t scored, int64_t group) {
    if (b->n == b->cap) {
        int64_t cap = b->cap ? b->cap * 2 : 256;
        ESPL_TRY(espl_mem_resize(&b->prompts, cap, sizeof *b->prompts, "prompts"));
        b->cap = cap;
    }
    b->prompts[b->n] = (collected){.at = b->ids.len, .n = n, .scored = scored, .group = group};
    ESPL_TRY(put_ids(&b->ids, ids, n));
    b->n++;
    return ESPL_OK;
}

void builder_free(prompt_builder *b) {
    espl_ids_free(&b->ids);
    espl_mem_free(&b->prompts);
    *b = (prompt_builder){0};
}

/* Leading ids that prompts first .. last - 1 share; 0 for a single prompt, which shares with nobody. */
static int64_t common(const prompt_builder *b, int64_t first, int64_t last) {
    const collected *a = &b->prompts[first];
    int64_t n = last - first > 1 ? a->n - a->scored : 0;
    for (int64_t i = first + 1; i < last; i++) {
        const collected *p = &b->prompts[i];
        int64_t same = 0, most = p->n - p->scored < n ? p->n - p->scored : n;
        while (same < most && b->ids.data[a->at + same] == b->ids.data[p->at + same]) same++;
        n = same;
    }
    return n;
}

static int64_t group_end(const prompt_builder *b, int64_t first) {
    int64_t i = first + 1;
    while (i < b->n && b->prompts[i].group == b->prompts[first].group) i++;
    return i;
}

static espl_status add_family(const prompt_builder *b, int64_t first, int64_t last, espl_prompts *out, espl_ids *ids) {
    int64_t shared = common(b, first, last);
    out->families[out->n_families++] =
        (espl_prompt_family){.at = ids->len, .n = shared, .first = first, .count = last - first};
    ESPL_TRY(put_ids(ids, b->ids.data + b->prompts[first].at, shared));
    for (int64_t i = first; i < last; i++) {
        const collected *p = &b->prompts[i];
        out->prompts[i] = (espl_prompt){.at = ids->len, .n = p->n - shared};
        ESPL_TRY(put_ids(ids, b->ids.data + p->at + shared, p->n - shared));
    }
    return ESPL_OK;
}

espl_status builder_finish(const prompt_builder *b, espl_prompts *out) {
    espl_ids ids = {0};
    *out = (espl_prompts){.n = b->n};
    espl_status st = espl_mem_alloc(&out->families, b->n, sizeof *out->families, "prompt families");
    if (st == ESPL_OK) st = espl_mem_alloc(&out->prompts, b->n, sizeof *out->prompts, "prompts");
    for (int64_t first = 0, last; st == ESPL_OK && first < b->n; first = last) {
        last = group_end(b, first);
        st = add_family(b, first, last, out, &ids);
    }
    out->ids = ids.data;
    out->n_ids = ids.len;
    if (st != ESPL_OK) espl_prompts_free(out);
    return st;
}

espl_status prompts_share(espl_comm *c, espl_prompts *p) {
    int64_t counts[3] = {p->n_ids, p->n_families, p->n};
    espl_comm_broadcast(c, counts, sizeof counts, 0);
    p->n_ids = counts[0];
    p->n_families = counts[1];
    p->n = counts[2];
    ESPL_TRY(espl_eval_share_array(c, &p->ids, p->n_ids, sizeof *p->ids, "prompt ids"));
    ESPL_TRY(espl_eval_share_array(c, &p->families, p->n_families, sizeof *p->families, "prompt families"));
    return espl_eval_share_array(c, &p->prompts, p->n, sizeof *p->prompts, "prompts");
}

/* The largest need of a packing (pack.c): a long family's prefix stays while micro-batches of its prompts pass behind
 * it; two slots, so that the next family's prefix can come with the last prompts of the one before. */
void espl_prompts_need(const espl_prompts *p, espl_model_options *o) {
    int64_t context = o->batch_tokens;
    for (int64_t f = 0; f < p->n_families; f++) {
        const espl_prompt_family *g = &p->families[f];
        int64_t longest = 0, all = g->n;
        for (int64_t i = g->first; i < g->first + g->count; i++) {
            longest = p->prompts[i].n > longest ? p->prompts[i].n : longest;
            all += p->prompts[i].n;
        }
        int64_t behind = longest > o->batch_tokens ? longest : o->batch_tokens;
        int64_t need = all <= o->batch_tokens ? all : all < g->n + behind ? all : g->n + behind;
        context = need > context ? need : context;
    }
    o->context = context > o->context ? context : o->context;
    o->slots = o->slots > 2 ? o->slots : 2;
}
