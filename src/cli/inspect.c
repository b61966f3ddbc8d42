/* SPDX-License-Identifier: Apache-2.0 */
/* espalier inspect: what a model is, and what each rank of a run would hold of it. Reads headers only, on rank 0. */
#include <inttypes.h>
#include <stdio.h>

#include "commands.h"
#include "espalier/base/integer.h"
#include "espalier/base/json_writer.h"
#include "espalier/base/memory.h"
#include "espalier/base/str.h"
#include "espalier/model/model.h"
#include "espalier/model/shape.h"
#include "options.h"

/* ---------------------------------------------------------------- options */

typedef struct inspect_options {
    cli_shared shared;
    int64_t ranks;
} inspect_options;

enum { KEY_RANKS = CLI_KEY_FIRST };

static const struct argp_option inspect_argp_options[] = {
    {NULL, 0, NULL, 0, "Plan:", CLI_GROUP_MODEL}, /* with --window and --batch */
    {"ranks", KEY_RANKS, "N", 0, "show the layer-to-rank map for N ranks (default: 1)", CLI_GROUP_MODEL},
    {0}};

static error_t inspect_parse(int key, char *value, struct argp_state *state) {
    inspect_options *o = state->input;
    if (key == ARGP_KEY_INIT) return cli_share(state, &o->shared);
    if (key == KEY_RANKS) return cli_take_integer("ranks", value, 1, CLI_RANKS_MAX, &o->ranks);
    return ARGP_ERR_UNKNOWN;
}

static const struct argp_child inspect_children[] = {{&cli_argp_window, 0, NULL, 0}, {&cli_argp_batch, 0, NULL, 0},
                                                     {&cli_argp_json, 0, NULL, 0},   {&cli_argp_output, 0, NULL, 0},
                                                     {&cli_argp_help, 0, NULL, 0},   {0}};
const struct argp cli_inspect_argp = {
    .options = inspect_argp_options,
    .parser = inspect_parse,
    .args_doc = "MODEL_DIR",
    .doc = "Shows architecture and parameters of a model, and layers, work and memory of each rank.",
    .children = inspect_children};

/* -------------------------------------------------------------- gathering */

/* Everything that is printed, gathered first: both forms of output show the same numbers. */
typedef struct inspection {
    const inspect_options *o;
    espl_model_config config;
    espl_model_options options;
    espl_range *slices; /* [o->ranks] */
    int64_t dtype_tensors[ESPL_DTYPE_COUNT], dtype_bytes[ESPL_DTYPE_COUNT];
    int64_t bytes_per_weight;                         /* of the widest dtype: an upper bound for mixed directories */
    int64_t parameters, without_embeddings, prunable; /* the last: weights of the decoder layers' linears */
} inspection;

/* Reads config.json and the headers of the weights, and cuts the layers into slices. Of the weights themselves nothing
 * is read: a model that does not fit this machine can be inspected. */
static espl_status inspection_read(inspection *v) {
    const char *dir = v->o->shared.operand;
    espl_weights *w;
    ESPL_TRY(espl_model_config_read(dir, &v->config));
    ESPL_TRY(espl_weights_open(dir, &w));
    espl_status st = espl_model_check_weights(&v->config, w);
    if (st != ESPL_OK) {
        espl_weights_close(&w);
        return st;
    }
    espl_model_config_log(&v->config);
    v->bytes_per_weight = 2; /* the narrowest supported dtype */
    for (int64_t i = 0; i < espl_weights_count(w); i++) {
        const espl_tensor_info *t = espl_weights_at(w, i);
        if (t->foreign) continue; /* no part of the model */
        v->dtype_tensors[t->dtype]++;
        v->dtype_bytes[t->dtype] += t->bytes;
        if (t->bytes > 0) v->bytes_per_weight = espl_max_i64(v->bytes_per_weight, (int64_t)espl_dtype_size(t->dtype));
    }
    espl_weights_close(&w);

    int64_t tables = v->config.tied ? 1 : 2; /* embedding and head */
    v->parameters = espl_model_parameters(&v->config);
    v->without_embeddings = v->parameters - tables * espl_model_embedding_parameters(&v->config);
    v->prunable = v->config.layers * espl_model_layer_linear_weights(&v->config);

    int64_t context = v->o->shared.window ? v->o->shared.window : CLI_DEFAULT_WINDOW;
    v->options =
        (espl_model_options){.context = context, .batch_tokens = espl_min_i64(v->o->shared.batch, context), .slots = 1};
    ESPL_TRY(espl_mem_alloc(&v->slices, v->o->ranks, sizeof *v->slices, "slices"));
    return espl_model_partition(&v->config, context, (int)v->o->ranks, v->slices);
}

/* Bytes of a rank with as many threads as this process has. */
static espl_model_memory inspection_memory(const inspection *v, int64_t rank) {
    return espl_model_memory_of(&v->config, &v->options, v->slices[rank], espl_tensor_threads(), v->bytes_per_weight);
}

/* Fraction of the forward pass's FLOPs that a rank computes. The last rank also computes the head. */
static double inspection_work(const inspection *v, int64_t rank) {
    double head = espl_model_head_flops(&v->config), all = head, mine = 0;
    for (int64_t i = 0; i < v->config.layers; i++) {
        double layer = espl_model_layer_flops(&v->config, i, v->options.context);
        all += layer;
        if (i >= v->slices[rank].first && i < v->slices[rank].last) mine += layer;
    }
    if (rank == v->o->ranks - 1) mine += head;
    return mine / all;
}

/* --------------------------------------------------------------- printing */

/* Formats "123.4 MiB" into buf [32] and returns it. */
static const char *format_bytes(int64_t bytes, char *buf) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    int u = 0;
    for (; v >= 1024 && u < 4; u++) v /= 1024;
    snprintf(buf, 32, u ? "%.1f %s" : "%.0f %s", v, units[u]);
    return buf;
}

/* RoPE and windows, and in how many layers, unless all are alike. */
static void inspection_print_positions(const espl_model_config *c) {
    const espl_rope_config *global = &c->rope[ESPL_LAYER_ROPE_GLOBAL], *local = &c->rope[ESPL_LAYER_ROPE_LOCAL];
    int64_t locals = 0, none = 0, slide = 0;
    for (int64_t i = 0; i < c->layers; i++) {
        locals += c->layer_ropes[i] == ESPL_LAYER_ROPE_LOCAL;
        none += c->layer_ropes[i] == ESPL_LAYER_ROPE_NONE;
        slide += c->slides[i];
    }
    printf("RoPE: %s, theta %g", espl_rope_type_name(global->type), global->theta);
    if (locals) printf(" (in %" PRId64 " layers %s, theta %g)", locals, espl_rope_type_name(local->type), local->theta);
    if (none) printf(" (none in %" PRId64 " layers)", none);
    printf("; sliding window: ");
    if (!c->window)
        printf("none\n");
    else if (slide == c->layers)
        printf("%" PRId64 "\n", c->window);
    else
        printf("%" PRId64 " in %" PRId64 " layers\n", c->window, slide);
}

static void inspection_print_model(const inspection *v) {
    const espl_model_config *c = &v->config;
    printf("%s: %s, %" PRId64 " layers, hidden %" PRId64 ", ffn %" PRId64 ", %" PRId64 " heads (%" PRId64
           " kv) of %" PRId64 ", vocabulary %" PRId64 "%s\n",
           v->o->shared.operand, c->family->type, c->layers, c->hidden, c->ffn, c->heads, c->kv_heads, c->head_dim,
           c->vocab, c->tied ? ", tied head" : "");
    inspection_print_positions(c);
    printf("parameters: %" PRId64 ", without embeddings %" PRId64 ", in prunable linears %" PRId64 " (%.1f %%)\n",
           v->parameters, v->without_embeddings, v->prunable, 100 * (double)v->prunable / (double)v->parameters);
    for (int d = 0; d < ESPL_DTYPE_COUNT; d++) {
        char b[32];
        if (v->dtype_tensors[d])
            printf("stored: %" PRId64 " tensors in %s, %s\n", v->dtype_tensors[d], espl_dtype_name((espl_dtype)d),
                   format_bytes(v->dtype_bytes[d], b));
    }
}

/* A line per rank. Layers are printed as a closed interval, "0-13". */
static void inspection_print_ranks(const inspection *v) {
    printf("\nper rank, window %" PRId64 ", micro-batch %" PRId64 ", %d thread(s):\n", v->options.context,
           v->options.batch_tokens, espl_tensor_threads());
    printf("%5s %12s %7s %11s %11s %11s %11s %11s %11s\n", "rank", "layers", "work", "weights", "activations",
           "KV cache", "scratch", "libraries", "total");
    for (int64_t r = 0; r < v->o->ranks; r++) {
        espl_model_memory m = inspection_memory(v, r);
        int64_t scratch = m.workspace + m.tables;
        int64_t total = m.weights + m.activations + m.kv_cache + scratch + m.libraries;
        char layers[48], b[6][32];
        snprintf(layers, sizeof layers, "%" PRId64 "-%" PRId64 "%s", v->slices[r].first, v->slices[r].last - 1,
                 r == v->o->ranks - 1 ? "+head" : "");
        printf("%5" PRId64 " %12s %6.1f%% %11s %11s %11s %11s %11s %11s\n", r, layers, 100 * inspection_work(v, r),
               format_bytes(m.weights, b[0]), format_bytes(m.activations, b[1]), format_bytes(m.kv_cache, b[2]),
               format_bytes(scratch, b[3]), format_bytes(m.libraries, b[4]), format_bytes(total, b[5]));
    }
}

/* Programs read this form: keys and their order stay. */
static espl_status inspection_print_json(const inspection *v) {
    const espl_model_config *c = &v->config;
    espl_str out = {0};
    espl_json_writer w = espl_json_writer_on(&out);
    espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
    espl_json_put_text(&w, "model_type", c->family->type);
    espl_json_put_i64(&w, "layers", c->layers);
    espl_json_put_i64(&w, "hidden", c->hidden);
    espl_json_put_i64(&w, "ffn", c->ffn);
    espl_json_put_i64(&w, "heads", c->heads);
    espl_json_put_i64(&w, "kv_heads", c->kv_heads);
    espl_json_put_i64(&w, "head_dim", c->head_dim);
    espl_json_put_i64(&w, "vocab", c->vocab);
    espl_json_put_bool(&w, "tied", c->tied);
    espl_json_put_text(&w, "rope_type", espl_rope_type_name(c->rope[ESPL_LAYER_ROPE_GLOBAL].type));
    espl_json_put_rounded(&w, "rope_theta", c->rope[ESPL_LAYER_ROPE_GLOBAL].theta, 10);
    espl_json_put_i64(&w, "sliding_window", c->window);
    espl_json_put_i64(&w, "parameters", v->parameters);
    espl_json_put_i64(&w, "parameters_without_embeddings", v->without_embeddings);
    espl_json_put_i64(&w, "prunable_weights", v->prunable);
    espl_json_open_object(&w, "dtypes", ESPL_JSON_SPACED); /* bytes of each */
    for (int d = 0; d < ESPL_DTYPE_COUNT; d++)
        if (v->dtype_tensors[d]) espl_json_put_i64(&w, espl_dtype_name((espl_dtype)d), v->dtype_bytes[d]);
    espl_json_close(&w);
    espl_json_put_i64(&w, "window", v->options.context);
    espl_json_put_i64(&w, "threads", espl_tensor_threads());
    espl_json_open_array(&w, "ranks", ESPL_JSON_SPACED);
    for (int64_t r = 0; r < v->o->ranks; r++) {
        espl_model_memory m = inspection_memory(v, r);
        espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
        espl_json_put_i64(&w, "rank", r);
        espl_json_put_i64(&w, "first_layer", v->slices[r].first);
        espl_json_put_i64(&w, "last_layer", v->slices[r].last - 1);
        espl_json_put_fixed(&w, "work", inspection_work(v, r), 6);
        espl_json_put_i64(&w, "weight_bytes", m.weights);
        espl_json_put_i64(&w, "activation_bytes", m.activations);
        espl_json_put_i64(&w, "kv_cache_bytes", m.kv_cache);
        espl_json_put_i64(&w, "workspace_bytes", m.workspace);
        espl_json_put_i64(&w, "table_bytes", m.tables);
        espl_json_put_i64(&w, "library_bytes", m.libraries);
        espl_json_close(&w);
    }
    espl_json_close(&w);
    espl_json_close(&w);
    espl_status st = espl_str_status(&out);
    if (st == ESPL_OK) puts(out.data);
    espl_str_free(&out);
    return st;
}

espl_status cli_inspect(espl_comm *c, int argc, char **argv) {
    inspect_options o = {.shared.batch = CLI_DEFAULT_BATCH, .ranks = 1};
    inspection v = {.o = &o};
    espl_status st = ESPL_OK;
    ESPL_TRY(cli_parse(c, &cli_inspect_argp, argc, argv, &o, &o.shared));
    if (o.shared.done) return ESPL_OK;
    if (!o.shared.operand) return ESPL_FAIL(ESPL_USAGE, "inspect: MODEL_DIR is missing");
    if (espl_comm_rank(c) == 0) {
        ESPL_CHECK(st, agree, cli_locate_model(&o.shared, &o.shared.operand));
        ESPL_CHECK(st, agree, inspection_read(&v));
        if (o.shared.json) {
            st = inspection_print_json(&v);
        } else {
            inspection_print_model(&v);
            inspection_print_ranks(&v);
        }
    }
agree:
    espl_mem_free(&v.slices);
    espl_model_config_free(&v.config);
    return espl_comm_agree(c, st);
}
