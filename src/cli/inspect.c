#include "cli.h"

/* Everything inspect prints, gathered first. */
typedef struct view {
    const cli_options *o;
    espl_model_config config;
    espl_model_options options;
    espl_range *slices; /* [o->ranks] */
    int64_t dtype_tensors[ESPL_DTYPE_COUNT], dtype_bytes[ESPL_DTYPE_COUNT];
    int64_t bytes_per_weight;
} view;

static espl_status read_dtypes(view *v) {
    espl_weights *w;
    ESPL_TRY(espl_weights_open(v->o->positional, &w));
    for (int64_t i = 0; i < espl_weights_count(w); i++) {
        const espl_tensor_info *t = espl_weights_at(w, i);
        v->dtype_tensors[t->dtype]++;
        v->dtype_bytes[t->dtype] += t->bytes;
    }
    espl_weights_close(&w);
    v->bytes_per_weight = 2;
    for (int d = 0; d < ESPL_DTYPE_COUNT; d++)
        if (v->dtype_bytes[d] > 0 && (int64_t)espl_dtype_size((espl_dtype)d) > v->bytes_per_weight)
            v->bytes_per_weight = (int64_t)espl_dtype_size((espl_dtype)d);
    return ESPL_OK;
}

static espl_status gather(view *v) {
    ESPL_TRY(espl_model_config_read(v->o->positional, &v->config));
    ESPL_TRY(read_dtypes(v));
    v->options.context = v->o->window ? v->o->window : 2048;
    v->options.batch_tokens = v->o->batch < v->options.context ? v->o->batch : v->options.context;
    v->options.slots = 1;
    ESPL_TRY(espl_mem_alloc(&v->slices, v->o->ranks, sizeof *v->slices, "slices"));
    return espl_model_partition(&v->config, v->options.context, (int)v->o->ranks, v->slices);
}

static espl_model_memory memory_of(const view *v, int64_t rank) {
    return espl_model_memory_of(&v->config, &v->options, v->slices[rank], espl_tensor_threads(), v->bytes_per_weight);
}

static int64_t total_of(const espl_model_memory *m) {
    return m->weights + m->activations + m->kv_cache + m->workspace + m->tables + m->libraries;
}

/* Share of the forward pass's FLOPs that a rank computes. */
static double share_of(const view *v, int64_t rank) {
    double all = espl_model_head_flops(&v->config), mine = 0;
    for (int64_t i = 0; i < v->config.layers; i++) {
        double f = espl_model_layer_flops(&v->config, i, v->options.context);
        all += f;
        if (i >= v->slices[rank].first && i < v->slices[rank].last) mine += f;
    }
    if (rank == v->o->ranks - 1) mine += espl_model_head_flops(&v->config);
    return mine / all;
}

static const char *rope_name(const espl_model_config *c) {
    static const char *const names[] = {"default", "linear", "llama3"};
    return names[c->rope_type];
}

static void print_architecture(const view *v) {
    const espl_model_config *c = &v->config;
    int64_t all = espl_model_parameters(c), embedding = espl_model_embedding_parameters(c) * (c->tied ? 1 : 2);
    int64_t prunable = c->layers * espl_model_layer_linear_weights(c);
    printf("%s: %s, %lld layers, hidden %lld, ffn %lld, %lld heads (%lld kv) of %lld, vocabulary %lld%s\n",
           v->o->positional, espl_family_name(c->family), (long long)c->layers, (long long)c->hidden, (long long)c->ffn,
           (long long)c->heads, (long long)c->kv_heads, (long long)c->head_dim, (long long)c->vocab,
           c->tied ? ", tied head" : "");
    printf("RoPE: %s, theta %g; sliding window: ", rope_name(c), c->rope_theta);
    printf(c->window ? "%lld\n" : "none\n", (long long)c->window);
    printf("parameters: %lld, without embeddings %lld, in prunable linears %lld (%.1f %%)\n", (long long)all,
           (long long)(all - embedding), (long long)prunable, 100 * (double)prunable / (double)all);
    for (int d = 0; d < ESPL_DTYPE_COUNT; d++) {
        char b[32];
        if (v->dtype_tensors[d])
            printf("stored: %lld tensors in %s, %s\n", (long long)v->dtype_tensors[d], espl_dtype_name((espl_dtype)d),
                   cli_bytes(v->dtype_bytes[d], b));
    }
}

static void print_ranks(const view *v) {
    printf("\nper rank, window %lld, micro-batch %lld, %d thread(s):\n", (long long)v->options.context,
           (long long)v->options.batch_tokens, espl_tensor_threads());
    printf("%5s %12s %7s %11s %11s %11s %11s %11s %11s\n", "rank", "layers", "work", "weights", "activations",
           "KV cache", "scratch", "libraries", "total");
    for (int64_t r = 0; r < v->o->ranks; r++) {
        espl_model_memory m = memory_of(v, r);
        char layers[48], b[6][32];
        snprintf(layers, sizeof layers, "%lld-%lld%s", (long long)v->slices[r].first, (long long)v->slices[r].last - 1,
                 r == v->o->ranks - 1 ? "+head" : "");
        printf("%5lld %12s %6.1f%% %11s %11s %11s %11s %11s %11s\n", (long long)r, layers, 100 * share_of(v, r),
               cli_bytes(m.weights, b[0]), cli_bytes(m.activations, b[1]), cli_bytes(m.kv_cache, b[2]),
               cli_bytes(m.workspace + m.tables, b[3]), cli_bytes(m.libraries, b[4]), cli_bytes(total_of(&m), b[5]));
    }
}

static void json_ranks(const view *v) {
    for (int64_t r = 0; r < v->o->ranks; r++) {
        espl_model_memory m = memory_of(v, r);
        printf(
            "%s{\"rank\": %lld, \"first_layer\": %lld, \"last_layer\": %lld, \"work\": %.6f, \"weight_bytes\": %lld, "
            "\"activation_bytes\": %lld, \"kv_cache_bytes\": %lld, \"workspace_bytes\": %lld, \"table_bytes\": %lld, "
            "\"library_bytes\": %lld}",
            r ? ", " : "", (long long)r, (long long)v->slices[r].first, (long long)v->slices[r].last - 1,
            share_of(v, r), (long long)m.weights, (long long)m.activations, (long long)m.kv_cache,
            (long long)m.workspace, (long long)m.tables, (long long)m.libraries);
    }
}

static void print_json(const view *v) {
    const espl_model_config *c = &v->config;
    int64_t all = espl_model_parameters(c), embedding = espl_model_embedding_parameters(c) * (c->tied ? 1 : 2);
    printf("{\"model_type\": \"%s\", \"layers\": %lld, \"hidden\": %lld, \"ffn\": %lld, \"heads\": %lld, "
           "\"kv_heads\": %lld, \"head_dim\": %lld, \"vocab\": %lld, \"tied\": %s, \"rope_type\": \"%s\", "
           "\"rope_theta\": %.10g, \"sliding_window\": %lld, ",
           espl_family_name(c->family), (long long)c->layers, (long long)c->hidden, (long long)c->ffn,
           (long long)c->heads, (long long)c->kv_heads, (long long)c->head_dim, (long long)c->vocab,
           c->tied ? "true" : "false", rope_name(c), c->rope_theta, (long long)c->window);
    printf("\"parameters\": %lld, \"parameters_without_embeddings\": %lld, \"prunable_weights\": %lld, \"dtypes\": {",
           (long long)all, (long long)(all - embedding), (long long)(c->layers * espl_model_layer_linear_weights(c)));
    for (int d = 0, n = 0; d < ESPL_DTYPE_COUNT; d++)
        if (v->dtype_tensors[d])
            printf("%s\"%s\": %lld", n++ ? ", " : "", espl_dtype_name((espl_dtype)d), (long long)v->dtype_bytes[d]);
    printf("}, \"window\": %lld, \"threads\": %d, \"ranks\": [", (long long)v->options.context, espl_tensor_threads());
    json_ranks(v);
    puts("]}");
}

static espl_status inspect(const cli_options *o) {
    view v = {.o = o, .config = {.bos = -1}};
    espl_status st = gather(&v);
    if (st == ESPL_OK && o->json) print_json(&v);
    if (st == ESPL_OK && !o->json) {
        print_architecture(&v);
        print_ranks(&v);
    }
    espl_mem_free(&v.slices);
    espl_model_config_free(&v.config);
    return st;
}

espl_status cli_inspect(espl_comm *c, const cli_options *o) {
    return espl_comm_agree(c, espl_comm_rank(c) == 0 ? inspect(o) : ESPL_OK);
}
