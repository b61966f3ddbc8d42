/* Opening a model: names and shapes of all tensors are checked, this rank's slice is bound. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 256 };

/* Binding: tensors of m's file, their vectors widened into `tables`; `bytes` of the file are used. */
typedef struct binder {
    const espl_model *m;
    espl_arena *tables;
    int64_t bytes;
} binder;

static espl_status find(const binder *b, const char *name, int n_dims, const int64_t *dims,
                        const espl_tensor_info **out) {
    return espl_weights_require(b->m->weights, name, n_dims, dims, out);
}

/* A vector, widened into the tables; where it is not `mine` it is only checked. */
static espl_status bind_vector(binder *b, const char *name, int64_t n, bool mine, float **out) {
    const espl_tensor_info *t;
    ESPL_TRY(find(b, name, 1, &n, &t));
    if (!mine) return ESPL_OK;
    *out = espl_arena_take(b->tables, (size_t)n * sizeof(float));
    if (!*out) return ESPL_FAIL(ESPL_INTERNAL, "model tables sized wrongly");
    espl_tensor_widen(t->data, t->dtype, n, *out);
    b->bytes += t->bytes;
    return ESPL_OK;
}

static espl_status bind_linear(binder *b, int64_t i, espl_linear_kind kind, espl_linear *mine) {
    char name[NAME_MAX_BYTES];
    const espl_model_config *c = &b->m->config;
    const espl_tensor_info *t;
    int64_t dims[2];
    float *bias = NULL;
    espl_model_linear_shape(c, kind, &dims[0], &dims[1]);
    snprintf(name, sizeof name, "model.layers.%lld.%s.weight", (long long)i, espl_linear_path(kind));
    ESPL_TRY(find(b, name, 2, dims, &t));
    if (espl_model_linear_bias(c, kind)) {
        snprintf(name, sizeof name, "model.layers.%lld.%s.bias", (long long)i, espl_linear_path(kind));
        ESPL_TRY(bind_vector(b, name, dims[0], mine != NULL, &bias));
    }
    if (!mine) return ESPL_OK;
    *mine = (espl_linear){.weight = t->data, .dtype = t->dtype, .out = dims[0], .in = dims[1], .bias = bias};
    b->bytes += t->bytes;
    return ESPL_OK;
}

static espl_status bind_norms(binder *b, int64_t i, bool mine, layer *l) {
    const espl_model_config *c = &b->m->config;
    const struct {
        const char *path;
        int64_t n;
        float **out;
        bool there;
    } norms[] = {{"input_layernorm", c->hidden, &l->input_norm, true},
                 {"post_attention_layernorm", c->hidden, &l->post_norm, true},
                 {"self_attn.q_norm", c->head_dim, &l->q_norm, c->qk_norm},
                 {"self_attn.k_norm", c->head_dim, &l->k_norm, c->qk_norm}};
    for (size_t k = 0; k < sizeof norms / sizeof *norms; k++) {
        char name[NAME_MAX_BYTES];
        if (!norms[k].there) continue;
        snprintf(name, sizeof name, "model.layers.%lld.%s.weight", (long long)i, norms[k].path);
        ESPL_TRY(bind_vector(b, name, norms[k].n, mine, norms[k].out));
    }
    return ESPL_OK;
}

/* l NULL: the layer is only checked. */
static espl_status bind_layer(binder *b, int64_t i, layer *l) {
    layer unused = {0};
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        ESPL_TRY(bind_linear(b, i, (espl_linear_kind)k, l ? &l->linears[k] : NULL));
        if (l) l->source[k] = l->linears[k].weight;
    }
    return bind_norms(b, i, l != NULL, l ? l : &unused);
}

espl_status espl_model_bind_layer(const espl_model *m, int64_t i, espl_arena *tables, layer *l) {
    binder b = {.m = m, .tables = tables};
    return bind_layer(&b, i, l);
}

/* The head is lm_head.weight where the file has it, else, if tied, the embedding table. (transformers ties only when
 * the two are equal, so with tie_word_embeddings and an lm_head.weight in the file, that tensor is what it computes
 * with.) */
static espl_status bind_ends(espl_model *m, binder *b) {
    const int64_t dims[2] = {m->config.vocab, m->config.hidden};
    const espl_tensor_info *embed, *head;
    ESPL_TRY(find(b, "model.embed_tokens.weight", 2, dims, &embed));
    head = embed;
    if (!m->config.tied || espl_weights_find(m->weights, "lm_head.weight"))
        ESPL_TRY(find(b, "lm_head.weight", 2, dims, &head));
    if (m->first) m->embed = embed;
    if (m->last) m->head = (espl_linear){.weight = head->data, .dtype = head->dtype, .out = dims[0], .in = dims[1]};
    b->bytes += m->first ? embed->bytes : 0;
    b->bytes += m->last && !(m->first && head == embed) ? head->bytes : 0;
    return bind_vector(b, "model.norm.weight", m->config.hidden, m->last, &m->final_norm);
}

/* Buffers that old exporters stored beside the weights; recomputed here. */
static bool is_buffer(const char *name) {
    static const char suffix[] = ".rotary_emb.inv_freq";
    size_t n = strlen(name), s = sizeof suffix - 1;
    return n > s && strcmp(name + n - s, suffix) == 0;
}

static bool layer_name_known(const espl_model_config *c, const char *rest) {
    static const char *const norms[] = {"input_layernorm.weight", "post_attention_layernorm.weight",
                                        "self_attn.q_norm.weight", "self_attn.k_norm.weight"};
    char name[NAME_MAX_BYTES];
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        snprintf(name, sizeof name, "%s.weight", espl_linear_path((espl_linear_kind)k));
        if (strcmp(rest, name) == 0) return true;
        snprintf(name, sizeof name, "%s.bias", espl_linear_path((espl_linear_kind)k));
        if (strcmp(rest, name) == 0) return espl_model_linear_bias(c, (espl_linear_kind)k);
    }
    for (int k = 0; k < (c->qk_norm ? 4 : 2); k++)
        if (strcmp(rest, norms[k]) == 0) return true;
    return false;
}

static bool name_known(const espl_model_config *c, const char *name) {
    static const char prefix[] = "model.layers.";
    if (strncmp(name, prefix, sizeof prefix - 1) == 0) {
        char *end;
        long long i = strtoll(name + sizeof prefix - 1, &end, 10);
        return *end == '.' && i >= 0 && i < c->layers && layer_name_known(c, end + 1);
    }
    return strcmp(name, "model.embed_tokens.weight") == 0 || strcmp(name, "model.norm.weight") == 0 ||
           strcmp(name, "lm_head.weight") == 0;
}

static espl_status check_extras(const espl_model *m) {
    const espl_weights *w = m->weights;
    for (int64_t i = 0; i < espl_weights_count(w); i++) {
        const espl_tensor_info *t = espl_weights_at(w, i);
        if (!is_buffer(t->name) && !name_known(&m->config, t->name))
            return ESPL_FAIL(ESPL_FORMAT,
                             "%s: unexpected tensor \"%s\": a %s model with %lld layers has none of that name", t->file,
                             t->name, espl_family_name(m->config.family), (long long)m->config.layers);
    }
    return ESPL_OK;
}

static espl_status bind_all(espl_model *m) {
    binder b = {.m = m, .tables = m->tables};
    ESPL_TRY(bind_ends(m, &b));
    for (int64_t i = 0; i < m->config.layers; i++) {
        bool mine = i >= m->slice.first && i < m->slice.last;
        ESPL_TRY(bind_layer(&b, i, mine ? &m->layers[i - m->slice.first] : NULL));
    }
    m->mapped_bytes = b.bytes;
    return check_extras(m);
}

static espl_status make_buffers(espl_model *m) {
    slice_dims d = espl_model_dims(&m->config, &m->options, m->slice);
    espl_model_memory mem = espl_model_memory_used(m);
    int64_t half = m->options.context * m->config.head_dim / 2;
    ESPL_TRY(espl_arena_create(&m->activations, (size_t)mem.activations, "activations"));
    ESPL_TRY(espl_arena_create(&m->tables, (size_t)mem.tables, "model tables"));
    ESPL_TRY(espl_arena_create(&m->cache, (size_t)mem.kv_cache, "KV cache"));
    ESPL_TRY(espl_workspace_create(&m->workspace));
    ESPL_TRY(espl_mem_alloc(&m->layers, espl_range_count(m->slice), sizeof *m->layers, "layers"));
    m->kv = espl_arena_take(m->cache, (size_t)mem.kv_cache);
    m->rope.cos = espl_arena_take(m->tables, (size_t)half * sizeof(float));
    m->rope.sin = espl_arena_take(m->tables, (size_t)half * sizeof(float));
    if (!espl_model_carve(m->activations, &d, &m->b) || !m->kv || !m->rope.cos || !m->rope.sin)
        return ESPL_FAIL(ESPL_INTERNAL, "model buffers sized wrongly");
    espl_model_fill_rope(&m->config, m->options.context, &m->rope);
    return ESPL_OK;
}

static espl_status choose_slice(espl_model *m) {
    int ranks = espl_comm_size(m->comm), rank = espl_comm_rank(m->comm);
    espl_range *slices;
    ESPL_TRY(espl_mem_alloc(&slices, ranks, sizeof *slices, "slices"));
    espl_status st = espl_model_partition(&m->config, m->options.context, ranks, slices);
    if (st == ESPL_OK) m->slice = slices[rank];
    espl_mem_free(&slices);
    m->first = rank == 0;
    m->last = rank == ranks - 1;
    return st;
}

static espl_status open_local(espl_model *m, const char *dir) {
    ESPL_TRY(espl_model_config_read(dir, &m->config));
    ESPL_TRY(choose_slice(m));
    ESPL_TRY(espl_weights_open(dir, &m->weights));
    ESPL_TRY(make_buffers(m));
    return bind_all(m);
}

espl_status espl_model_open(espl_comm *comm, const char *dir, const espl_model_options *o, espl_model **out) {
    double start = espl_clock_now();
    espl_model *m;
    *out = NULL;
    espl_status st = espl_mem_alloc(&m, 1, sizeof *m, "model");
    if (st == ESPL_OK) {
        m->comm = comm;
        m->options = *o;
        st = open_local(m, dir);
    }
    st = espl_comm_agree(comm, st);
    if (st != ESPL_OK) espl_model_close(&m);
    *out = m;
    espl_region_add(ESPL_REGION_LOAD, espl_clock_now() - start);
    return st;
}

void espl_model_close(espl_model **mp) {
    if (!mp || !*mp) return;
    espl_model *m = *mp;
    espl_workspace_destroy(&m->workspace);
    espl_arena_destroy(&m->activations);
    espl_arena_destroy(&m->tables);
    espl_arena_destroy(&m->cache);
    espl_mem_free(&m->layers);
    espl_weights_close(&m->weights);
    espl_model_config_free(&m->config);
    espl_mem_free(mp);
}

const espl_model_config *espl_model_config_of(const espl_model *m) { return &m->config; }

const espl_weights *espl_model_weights(const espl_model *m) { return m->weights; }

int64_t espl_model_batch_tokens(const espl_model *m) { return m->options.batch_tokens; }

espl_range espl_model_slice(const espl_model *m) { return m->slice; }

espl_range espl_model_linears(const espl_model *m) {
    return (espl_range){espl_linear_index(m->slice.first, ESPL_Q_PROJ), espl_linear_index(m->slice.last, ESPL_Q_PROJ)};
}

espl_model_memory espl_model_memory_used(const espl_model *m) {
    espl_model_memory mem = espl_model_memory_of(&m->config, &m->options, m->slice, espl_tensor_threads(), 2);
    mem.weights = m->mapped_bytes;
    return mem;
}

void espl_model_set_tap(espl_model *m, espl_model_tap tap, void *context) {
    m->tap = tap;
    m->tap_context = context;
}

void espl_model_set_gradient_tap(espl_model *m, espl_model_tap tap, void *context) {
    m->gradient_tap = tap;
    m->gradient_context = context;
}

static espl_linear *own_linear(const espl_model *m, int64_t index) {
    int64_t i = espl_linear_layer(index);
    if (i < m->slice.first || i >= m->slice.last) return NULL;
    return &m->layers[i - m->slice.first].linears[espl_linear_kind_of(index)];
}

const espl_linear *espl_model_linear(const espl_model *m, int64_t index) { return own_linear(m, index); }

static espl_status require_own(const espl_model *m, int64_t index, espl_linear **l) {
    *l = own_linear(m, index);
    if (*l) return ESPL_OK;
    return ESPL_FAIL(ESPL_INTERNAL, "linear %lld is not in layers %lld to %lld of this rank", (long long)index,
                     (long long)m->slice.first, (long long)(m->slice.last - 1));
}

espl_status espl_model_set_mask(espl_model *m, int64_t index, const uint64_t *mask) {
    espl_linear *l;
    ESPL_TRY(require_own(m, index, &l));
    l->mask = mask;
    return ESPL_OK;
}

espl_status espl_model_set_weight(espl_model *m, int64_t index, const void *weight) {
    espl_linear *l;
    ESPL_TRY(require_own(m, index, &l));
    l->weight =
        weight ? weight : m->layers[espl_linear_layer(index) - m->slice.first].source[espl_linear_kind_of(index)];
    return ESPL_OK;
}

espl_workspace *espl_model_workspace(const espl_model *m) { return m->workspace; }

/* A hash of the hashes of all linears, so that each rank reads its own weights only. */
espl_status espl_model_hash_weights(espl_comm *c, const espl_model *m, uint64_t *hash) {
    bool root = espl_comm_rank(c) == 0;
    espl_range mine = espl_model_linears(m);
    int64_t n = espl_range_count(mine), linears = m->config.layers * ESPL_LINEAR_KINDS;
    uint64_t *hashes = NULL, *all = NULL;
    *hash = 0;
    espl_status st = espl_mem_alloc(&hashes, n, sizeof *hashes, "weight hashes");
    if (st == ESPL_OK && root) st = espl_mem_alloc(&all, linears, sizeof *all, "weight hashes");
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    for (int64_t i = 0; i < n; i++) {
        const espl_linear *l = espl_model_linear(m, mine.first + i);
        hashes[i] = espl_hash64(l->weight, l->out * l->in * (int64_t)espl_dtype_size(l->dtype), 0);
    }
    ESPL_CHECK(st, done, espl_comm_gather_records(c, hashes, n, sizeof *hashes, linears, all));
    if (root) *hash = espl_hash64(all, linears * (int64_t)sizeof *all, 0);
done:
    espl_mem_free(&hashes);
    espl_mem_free(&all);
    return st;
}
