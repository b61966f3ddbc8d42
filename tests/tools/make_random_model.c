/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a Hugging Face directory with random weights: the shapes of a real model without its download.
 *
 * Linear weights are N(0, 0.02), norms are 1. The same options give the same bytes, and a layer is the same whatever
 * the number of layers: every tensor has a random stream of its own, seeded by its name.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../normal.h"
#include "espalier/base/hash.h"
#include "espalier/base/integer.h"
#include "espalier/base/json_writer.h"
#include "espalier/base/memory.h"
#include "espalier/base/region.h"
#include "espalier/base/rng.h"
#include "espalier/base/str.h"
#include "espalier/weights/reader.h"
#include "espalier/weights/writer.h"

enum {
    CHUNK = 1 << 18, /* weights written at a time */
    TABLE = 1 << 16, /* normal numbers that weights are drawn from: one per value of 16 random bits */
    NAME_BYTES = 128,
    COUNT_MAX = 10000000, /* of any dimension */
    END_OF_TEXT = 256     /* the token behind the 256 bytes */
};

typedef struct model {
    const char *arch;
    int64_t hidden, layers, heads, kv_heads, head_dim, ffn, vocab, max_position;
    double rope_theta, eps;
    int tied; /* -1: as the preset */
    espl_dtype dtype;
    uint64_t seed;
    bool byte_tokenizer;
    int64_t experts, per_token; /* of qwen3_moe, whose ffn is that of an expert */
} model;

static const struct {
    const char *name;
    model m;
} presets[] = {
    {"tiny", {"qwen3", 64, 2, 4, 2, 16, 128, 320, 4096, 1e6, 1e-6, 1, ESPL_DTYPE_BF16, 0, false, 0, 0}},
    {"qwen3-0.6b", {"qwen3", 1024, 28, 16, 8, 128, 3072, 151936, 40960, 1e6, 1e-6, 1, ESPL_DTYPE_BF16, 0, false, 0, 0}},
    {"qwen3-4b", {"qwen3", 2560, 36, 32, 8, 128, 9728, 151936, 40960, 1e6, 1e-6, 1, ESPL_DTYPE_BF16, 0, false, 0, 0}},
    {"smollm2-135m", {"llama", 576, 30, 9, 3, 64, 1536, 49152, 8192, 1e5, 1e-5, 1, ESPL_DTYPE_BF16, 0, false, 0, 0}},
    {"qwen3-30b-a3b",
     {"qwen3_moe", 2048, 48, 32, 4, 128, 768, 151936, 40960, 1e6, 1e-6, 0, ESPL_DTYPE_BF16, 0, false, 128, 8}},
};

static const char usage[] =
    "usage: make_random_model [options] DIR\n"
    "  --preset tiny|qwen3-0.6b|qwen3-4b|smollm2-135m|qwen3-30b-a3b   values of options that are not given (default: "
    "tiny)\n"
    "  --arch qwen3|qwen3_moe|llama  --experts N  --per-token N  --hidden N  --layers N  --heads N  --kv-heads N  "
    "--head-dim N  --ffn N  --vocab N\n"
    "  --tied  --untied  --dtype bf16|f16|f32  --seed N\n"
    "  --byte-tokenizer    also a tokenizer.json whose ids are the bytes of the text (and, at 256, <|endoftext|>)\n";

/* ---------------------------------------------------------------- options */

static bool is_moe(const model *m) { return strcmp(m->arch, "qwen3_moe") == 0; }
static bool is_qwen3(const model *m) { return strcmp(m->arch, "qwen3") == 0 || is_moe(m); }

static bool parse_count(const char *text, int64_t lo, int64_t *out) {
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || *end || end == text || v < lo || v > COUNT_MAX) return false;
    *out = v;
    return true;
}

enum { OPT_PRESET = 256, OPT_ARCH, OPT_DTYPE, OPT_SEED, OPT_TIED, OPT_UNTIED, OPT_TOKENIZER, OPT_COUNTS };

/* The values of one option, whose key is c. *preset is set for the end of parsing. */
static bool parse_option(int c, const char *arg, model *m, const char **preset) {
    int64_t seed, *counts[] = {&m->hidden, &m->layers, &m->heads,   &m->kv_heads, &m->head_dim,
                               &m->ffn,    &m->vocab,  &m->experts, &m->per_token};
    switch (c) {
    case OPT_PRESET:
        return *preset = arg, true;
    case OPT_ARCH:
        return m->arch = arg, is_qwen3(m) || strcmp(arg, "llama") == 0;
    case OPT_DTYPE:
        m->dtype = strcmp(arg, "f16") == 0   ? ESPL_DTYPE_F16
                   : strcmp(arg, "f32") == 0 ? ESPL_DTYPE_F32
                                             : ESPL_DTYPE_BF16;
        return m->dtype != ESPL_DTYPE_BF16 || strcmp(arg, "bf16") == 0;
    case OPT_SEED:
        return parse_count(arg, 0, &seed) && (m->seed = (uint64_t)seed, true);
    case OPT_TIED:
        return m->tied = 1, true;
    case OPT_UNTIED:
        return m->tied = 0, true;
    case OPT_TOKENIZER:
        return m->byte_tokenizer = true;
    }
    return c >= OPT_COUNTS && parse_count(arg, 1, counts[c - OPT_COUNTS]);
}

/* Fills *m from the command line and, where that says nothing, from the preset. False: print the usage. */
static bool parse_options(int argc, char **argv, model *m) {
    static const struct option options[] = {{"preset", 1, NULL, OPT_PRESET},
                                            {"arch", 1, NULL, OPT_ARCH},
                                            {"dtype", 1, NULL, OPT_DTYPE},
                                            {"seed", 1, NULL, OPT_SEED},
                                            {"tied", 0, NULL, OPT_TIED},
                                            {"untied", 0, NULL, OPT_UNTIED},
                                            {"byte-tokenizer", 0, NULL, OPT_TOKENIZER},
                                            {"hidden", 1, NULL, OPT_COUNTS},
                                            {"layers", 1, NULL, OPT_COUNTS + 1},
                                            {"heads", 1, NULL, OPT_COUNTS + 2},
                                            {"kv-heads", 1, NULL, OPT_COUNTS + 3},
                                            {"head-dim", 1, NULL, OPT_COUNTS + 4},
                                            {"ffn", 1, NULL, OPT_COUNTS + 5},
                                            {"vocab", 1, NULL, OPT_COUNTS + 6},
                                            {"experts", 1, NULL, OPT_COUNTS + 7},
                                            {"per-token", 1, NULL, OPT_COUNTS + 8},
                                            {NULL, 0, NULL, 0}};
    const char *name = "tiny";
    *m = (model){.tied = -1, .dtype = ESPL_DTYPE_BF16, .seed = 1};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        if (!parse_option(c, optarg, m, &name)) return false;
    if (optind != argc - 1) return false;

    size_t k = 0, n = sizeof presets / sizeof *presets;
    while (k < n && strcmp(presets[k].name, name) != 0) k++;
    if (k == n) return false;
    const model *p = &presets[k].m;
    int64_t *given[] = {&m->hidden,   &m->layers, &m->heads, &m->kv_heads,
                        &m->head_dim, &m->ffn,    &m->vocab, &m->max_position};
    const int64_t preset[] = {p->hidden,   p->layers, p->heads, p->kv_heads,
                              p->head_dim, p->ffn,    p->vocab, p->max_position};
    for (size_t i = 0; i < sizeof given / sizeof *given; i++)
        if (*given[i] == 0) *given[i] = preset[i];
    if (!m->arch) m->arch = p->arch;
    if (m->experts == 0) m->experts = p->experts > 0 ? p->experts : 8;
    if (m->per_token == 0) m->per_token = p->per_token > 0 ? p->per_token : 2;
    if (!is_moe(m)) m->experts = m->per_token = 0;
    if (m->tied < 0) m->tied = p->tied;
    m->rope_theta = p->rope_theta;
    m->eps = p->eps;
    return m->heads % m->kv_heads == 0 && m->per_token <= m->experts && (!m->byte_tokenizer || m->vocab >= 256);
}

/* ---------------------------------------------------------------- tensors */

/* The tensors to write. */
typedef struct plan {
    espl_tensor_spec *specs;
    char (*names)[NAME_BYTES];
    int64_t n;
    espl_dtype dtype;
} plan;

/* Adds a tensor. layer < 0: `name` is the whole name. cols 0: a vector. */
static void plan_add(plan *p, int64_t layer, const char *name, int64_t rows, int64_t cols) {
    char *full = p->names[p->n];
    if (layer < 0)
        snprintf(full, NAME_BYTES, "%s", name);
    else
        snprintf(full, NAME_BYTES, "model.layers.%" PRId64 ".%s.weight", layer, name);
    p->specs[p->n++] =
        (espl_tensor_spec){.name = full, .dtype = p->dtype, .n_dims = cols ? 2 : 1, .dims = {rows, cols}};
}

/* An MLP at `path`; that of a model with experts is its expert 0. */
static void plan_add_mlp(plan *p, int64_t layer, const char *path, const model *m) {
    static const char *const kinds[] = {"gate_proj", "up_proj", "down_proj"};
    char name[64];
    for (int k = 0; k < 3; k++) {
        bool first = m->experts > 0 && strcmp(path, "mlp") == 0;
        snprintf(name, sizeof name, "%s.%s", first ? "mlp.experts.0" : path, kinds[k]);
        plan_add(p, layer, name, k == 2 ? m->hidden : m->ffn, k == 2 ? m->ffn : m->hidden);
    }
}

static espl_status plan_make(const model *m, plan *p) {
    enum { TENSORS_PER_LAYER_MAX = 12, TENSORS_PER_EXPERT = 3, TENSORS_OUTSIDE = 3 };
    int64_t n = TENSORS_OUTSIDE + m->layers * (TENSORS_PER_LAYER_MAX + TENSORS_PER_EXPERT * m->experts);
    int64_t q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;
    *p = (plan){.dtype = m->dtype};
    ESPL_TRY(espl_mem_alloc(&p->specs, n, sizeof *p->specs, "tensor list"));
    ESPL_TRY(espl_mem_alloc(&p->names, n, sizeof *p->names, "tensor names"));
    plan_add(p, -1, "model.embed_tokens.weight", m->vocab, m->hidden);
    for (int64_t i = 0; i < m->layers; i++) {
        plan_add(p, i, "input_layernorm", m->hidden, 0);
        plan_add(p, i, "post_attention_layernorm", m->hidden, 0);
        plan_add(p, i, "self_attn.q_proj", q, m->hidden);
        plan_add(p, i, "self_attn.k_proj", kv, m->hidden);
        plan_add(p, i, "self_attn.v_proj", kv, m->hidden);
        plan_add(p, i, "self_attn.o_proj", m->hidden, q);
        if (m->experts > 0) plan_add(p, i, "mlp.gate", m->experts, m->hidden);
        plan_add_mlp(p, i, "mlp", m);
        for (int64_t e = 1; e < m->experts; e++) {
            char expert[32];
            snprintf(expert, sizeof expert, "mlp.experts.%" PRId64, e);
            plan_add_mlp(p, i, expert, m);
        }
        if (!is_qwen3(m)) continue;
        plan_add(p, i, "self_attn.q_norm", m->head_dim, 0);
        plan_add(p, i, "self_attn.k_norm", m->head_dim, 0);
    }
    plan_add(p, -1, "model.norm.weight", m->hidden, 0);
    if (!m->tied) plan_add(p, -1, "lm_head.weight", m->vocab, m->hidden);
    return ESPL_OK;
}

/* Values to draw from and a buffer to draw into, both in the model's dtype. */
typedef struct source {
    espl_dtype dtype;
    void *table, *buffer; /* [TABLE], [CHUNK] */
    uint64_t seed;
} source;

/* Weights are picked from a table of normal numbers by 16 random bits, four per random number: drawing is then faster
 * than the disk. */
static espl_status source_make(const model *m, source *s) {
    static float normals[TABLE];
    espl_rng rng;
    size_t size = espl_dtype_size(m->dtype);
    *s = (source){.dtype = m->dtype, .seed = m->seed};
    ESPL_TRY(espl_mem_alloc(&s->table, TABLE, size, "table of weights"));
    ESPL_TRY(espl_mem_alloc(&s->buffer, CHUNK, size, "buffer"));
    espl_rng_seed(&rng, m->seed, 0, 0);
    for (int i = 0; i < TABLE; i++) normals[i] = (float)(0.02 * test_normal(&rng));
    espl_tensor_narrow(normals, TABLE, m->dtype, s->table);
    return ESPL_OK;
}

/* Fills the buffer with the next weights of a tensor. */
static void source_draw(source *s, espl_rng *rng) {
    uint16_t *half = s->buffer;
    uint32_t *full = s->buffer;
    for (int64_t i = 0; i < CHUNK; i += 4) {
        uint64_t bits = espl_rng_next(rng);
        for (int k = 0; k < 4; k++, bits >>= 16)
            if (s->dtype == ESPL_DTYPE_F32)
                full[i + k] = ((const uint32_t *)s->table)[bits & 0xFFFF];
            else
                half[i + k] = ((const uint16_t *)s->table)[bits & 0xFFFF];
    }
}

static espl_status write_tensor(espl_weights_writer *w, const plan *p, int64_t i, source *s) {
    static float ones[CHUNK];
    const char *name = p->specs[i].name;
    int64_t total = espl_weights_writer_tensor_bytes(w, i), chunk = CHUNK * (int64_t)espl_dtype_size(s->dtype);
    bool norm = p->specs[i].n_dims == 1;
    espl_rng rng;
    espl_rng_seed(&rng, s->seed, espl_hash64(name, (int64_t)strlen(name), 0), 1);
    if (norm) {
        for (int k = 0; k < CHUNK; k++) ones[k] = 1.0f;
        espl_tensor_narrow(ones, CHUNK, s->dtype, s->buffer);
    }
    for (int64_t at = 0; at < total; at += chunk) {
        if (!norm) source_draw(s, &rng);
        ESPL_TRY(espl_weights_writer_put(w, i, at, s->buffer, espl_min_i64(total - at, chunk)));
    }
    return ESPL_OK;
}

static espl_status write_weights(const model *m, const char *dir) {
    char path[4096];
    plan p = {0};
    source s = {0};
    espl_weights_writer *w = NULL;
    espl_status st;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    ESPL_CHECK(st, done, plan_make(m, &p));
    ESPL_CHECK(st, done, espl_weights_writer_create(path, p.specs, p.n, &w));
    ESPL_CHECK(st, done, source_make(m, &s));
    ESPL_CHECK(st, done, espl_weights_writer_start(w));
    for (int64_t i = 0; i < p.n; i++) ESPL_CHECK(st, done, write_tensor(w, &p, i, &s));
    st = espl_weights_writer_finish(w);
done:
    espl_weights_writer_destroy(&w);
    espl_mem_free(&s.table);
    espl_mem_free(&s.buffer);
    espl_mem_free(&p.specs);
    espl_mem_free(&p.names);
    return st;
}

/* ------------------------------------------------------------- JSON files */

/* Writes *s to DIR/NAME and frees it. */
static espl_status write_text(const char *dir, const char *name, espl_str *s) {
    char path[4096];
    FILE *f = NULL;
    espl_status st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ESPL_CHECK(st, done, espl_str_status(s));
    f = fopen(path, "wb");
    if (!f) {
        st = ESPL_FAIL(ESPL_IO, "%s: cannot be created: %s", path, strerror(errno));
        goto done;
    }
    bool written = fwrite(s->data, 1, (size_t)s->len, f) == (size_t)s->len;
    if (fclose(f) != 0 || !written) st = ESPL_FAIL(ESPL_IO, "%s: cannot be written", path);
done:
    espl_str_free(s);
    return st;
}

/* config.json with the keys of a real model's, in alphabetical order as transformers writes them. */
static espl_status write_config(const model *m, const char *dir) {
    static const char *const dtypes[ESPL_DTYPE_COUNT] = {
        [ESPL_DTYPE_BF16] = "bfloat16", [ESPL_DTYPE_F16] = "float16", [ESPL_DTYPE_F32] = "float32"};
    bool qwen3 = is_qwen3(m);
    int64_t end = m->byte_tokenizer && m->vocab > END_OF_TEXT ? END_OF_TEXT : m->vocab - 1;
    espl_str s = {0};
    espl_json_writer w = espl_json_writer_on(&s);
    espl_json_open_object(&w, NULL, ESPL_JSON_LINES);
    espl_json_open_array(&w, "architectures", ESPL_JSON_LINES);
    espl_json_put_text(&w, NULL, is_moe(m) ? "Qwen3MoeForCausalLM" : qwen3 ? "Qwen3ForCausalLM" : "LlamaForCausalLM");
    espl_json_close(&w);
    espl_json_put_bool(&w, "attention_bias", false);
    espl_json_put_fixed(&w, "attention_dropout", 0, 1);
    espl_json_put_i64(&w, "bos_token_id", end);
    if (is_moe(m)) espl_json_put_i64(&w, "decoder_sparse_step", 1);
    espl_json_put_i64(&w, "eos_token_id", end);
    espl_json_put_i64(&w, "head_dim", m->head_dim);
    espl_json_put_text(&w, "hidden_act", "silu");
    espl_json_put_i64(&w, "hidden_size", m->hidden);
    espl_json_put_rounded(&w, "initializer_range", 0.02, 6);
    espl_json_put_i64(&w, "intermediate_size", m->ffn);
    espl_json_put_i64(&w, "max_position_embeddings", m->max_position);
    if (qwen3) espl_json_put_i64(&w, "max_window_layers", m->layers);
    if (!qwen3) espl_json_put_bool(&w, "mlp_bias", false);
    espl_json_put_text(&w, "model_type", m->arch);
    if (is_moe(m)) {
        espl_json_put_i64(&w, "moe_intermediate_size", m->ffn);
        espl_json_put_bool(&w, "norm_topk_prob", true);
        espl_json_put_i64(&w, "num_experts", m->experts);
        espl_json_put_i64(&w, "num_experts_per_tok", m->per_token);
    }
    espl_json_put_i64(&w, "num_attention_heads", m->heads);
    espl_json_put_i64(&w, "num_hidden_layers", m->layers);
    espl_json_put_i64(&w, "num_key_value_heads", m->kv_heads);
    espl_json_put_rounded(&w, "rms_norm_eps", m->eps, 6);
    espl_json_put_text(&w, "rope_scaling", NULL);
    espl_json_put_fixed(&w, "rope_theta", m->rope_theta, 1);
    if (qwen3) espl_json_put_text(&w, "sliding_window", NULL);
    if (qwen3) espl_json_put_bool(&w, "use_sliding_window", false);
    espl_json_put_bool(&w, "tie_word_embeddings", m->tied);
    espl_json_put_text(&w, "torch_dtype", dtypes[m->dtype]);
    espl_json_put_bool(&w, "use_cache", true);
    espl_json_put_i64(&w, "vocab_size", m->vocab);
    espl_json_close(&w);
    espl_str_puts(&s, "\n");
    return write_text(dir, "config.json", &s);
}

/* tokenizer.json with a token for every byte, as GPT-2 spells bytes: printable ones stand for themselves, the others
 * for the characters from U+0100 on, in order. */
static espl_status write_tokenizer(const model *m, const char *dir) {
    espl_str s = {0};
    bool end = m->vocab > END_OF_TEXT;
    espl_str_puts(&s, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    if (end)
        espl_str_puts(&s, "{\"id\":256,\"content\":\"<|endoftext|>\",\"single_word\":false,\"lstrip\":false,"
                          "\"rstrip\":false,\"normalized\":false,\"special\":true}");
    espl_str_puts(&s, "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                      "\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,\"decoder\":{\"type\":"
                      "\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},\"model\":{"
                      "\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,"
                      "\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false,"
                      "\"vocab\":{");
    for (int byte = 0, next = 0x100; byte < 256; byte++) {
        bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 255 && byte != 173);
        int c = printable ? byte : next++;
        char ascii = (char)c, utf8[2] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))};
        if (byte > 0) espl_str_puts(&s, ",");
        espl_str_put_json(&s, c < 128 ? &ascii : utf8, c < 128 ? 1 : 2);
        espl_str_printf(&s, ":%d", byte);
    }
    if (end) espl_str_puts(&s, ",\"<|endoftext|>\":256");
    espl_str_puts(&s, "},\"merges\":[]}}\n");
    ESPL_TRY(write_text(dir, "tokenizer.json", &s));

    espl_str_puts(&s, "{\n  \"clean_up_tokenization_spaces\": false,\n");
    if (end) espl_str_puts(&s, "  \"eos_token\": \"<|endoftext|>\",\n");
    espl_str_puts(&s, "  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n");
    return write_text(dir, "tokenizer_config.json", &s);
}

/* ------------------------------------------------------------------- main */

static espl_status make_model(const model *m, const char *dir) {
    double start = espl_clock_now();
    espl_weights *w;
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return ESPL_FAIL(ESPL_IO, "%s: cannot be created: %s", dir, strerror(errno));
    ESPL_TRY(write_config(m, dir));
    if (m->byte_tokenizer) ESPL_TRY(write_tokenizer(m, dir));
    ESPL_TRY(write_weights(m, dir));
    ESPL_TRY(espl_weights_open(dir, &w)); /* reads back what was written */
    printf("%s: %" PRId64 " tensors, %.3f GB in %.1f s\n", dir, espl_weights_count(w),
           (double)espl_weights_bytes(w) / 1e9, espl_clock_now() - start);
    espl_weights_close(&w);
    return ESPL_OK;
}

int main(int argc, char **argv) {
    model m;
    if (!parse_options(argc, argv, &m)) {
        fputs(usage, stderr);
        return espl_status_exit_code(ESPL_USAGE);
    }
    espl_status st = make_model(&m, argv[argc - 1]);
    if (st != ESPL_OK) fprintf(stderr, "make_random_model: %s\n", espl_base_error_text());
    return espl_status_exit_code(st);
}
