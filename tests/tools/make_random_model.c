/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a Hugging Face directory with random weights: the shapes of a real model without its download.
 * Weights are N(0, 0.02), norms 1. The same options give the same bytes; a layer does not depend on how many there are.
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
#include "espalier/base/memory.h"
#include "espalier/base/region.h"
#include "espalier/base/str.h"
#include "espalier/weights/writer.h"

enum { CHUNK = 1 << 18, TABLE = 1 << 16, NAME_MAX_BYTES = 80 };

typedef struct model {
    const char *arch;
    int64_t hidden, layers, heads, kv_heads, head_dim, ffn, vocab, max_position;
    double rope_theta, eps;
    int tied; /* -1: the preset's */
    espl_dtype dtype;
    uint64_t seed;
    bool byte_tokenizer;
} model;

static const struct {
    const char *name;
    model m;
} presets[] = {
    {"tiny", {"qwen3", 64, 2, 4, 2, 16, 128, 320, 4096, 1e6, 1e-6, 1, ESPL_DTYPE_BF16, 0, false}},
    {"qwen3-0.6b", {"qwen3", 1024, 28, 16, 8, 128, 3072, 151936, 40960, 1e6, 1e-6, 1, ESPL_DTYPE_BF16, 0, false}},
    {"smollm2-135m", {"llama", 576, 30, 9, 3, 64, 1536, 49152, 8192, 1e5, 1e-5, 1, ESPL_DTYPE_BF16, 0, false}},
};

static const char usage[] =
    "usage: make_random_model [options] DIR\n"
    "  --preset tiny|qwen3-0.6b|smollm2-135m   what the other options do not say (tiny)\n"
    "  --arch qwen3|llama  --hidden N  --layers N  --heads N  --kv-heads N  --head-dim N  --ffn N  --vocab N\n"
    "  --tied  --untied  --dtype bf16|f16|f32  --seed N\n"
    "  --byte-tokenizer    also a tokenizer.json whose ids are the bytes of the text (and, at 256, <|endoftext|>)\n";

/* -------------------------------------------------------------- options */

static bool is_qwen3(const model *m) { return strcmp(m->arch, "qwen3") == 0; }

/* Fills what is still unset. */
static bool apply_preset(model *m, const char *name) {
    size_t k = 0, n = sizeof presets / sizeof *presets;
    while (k < n && strcmp(presets[k].name, name) != 0) k++;
    if (k == n) return false;
    const model *p = &presets[k].m;
    int64_t *mine[] = {&m->hidden,   &m->layers, &m->heads, &m->kv_heads,
                       &m->head_dim, &m->ffn,    &m->vocab, &m->max_position};
    const int64_t theirs[] = {p->hidden,   p->layers, p->heads, p->kv_heads,
                              p->head_dim, p->ffn,    p->vocab, p->max_position};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++)
        if (*mine[i] == 0) *mine[i] = theirs[i];
    if (!m->arch) m->arch = p->arch;
    if (m->tied < 0) m->tied = p->tied;
    m->rope_theta = p->rope_theta;
    m->eps = p->eps;
    return true;
}

static bool parse_count(const char *text, int64_t lo, int64_t *out) {
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || *end || end == text || v < lo || v > 10000000) return false;
    *out = v;
    return true;
}

static bool parse_dtype(const char *text, espl_dtype *out) {
    if (strcmp(text, "bf16") == 0) return *out = ESPL_DTYPE_BF16, true;
    if (strcmp(text, "f16") == 0) return *out = ESPL_DTYPE_F16, true;
    if (strcmp(text, "f32") == 0) return *out = ESPL_DTYPE_F32, true;
    return false;
}

enum { OPT_PRESET = 256, OPT_ARCH, OPT_DTYPE, OPT_SEED, OPT_TIED, OPT_UNTIED, OPT_TOKENIZER, OPT_COUNTS };

static bool parse_option(int c, const char *arg, model *m, const char **preset) {
    int64_t seed, *counts[] = {&m->hidden, &m->layers, &m->heads, &m->kv_heads, &m->head_dim, &m->ffn, &m->vocab};
    switch (c) {
    case OPT_PRESET:
        return *preset = arg, true;
    case OPT_ARCH:
        return m->arch = arg, is_qwen3(m) || strcmp(arg, "llama") == 0;
    case OPT_DTYPE:
        return parse_dtype(arg, &m->dtype);
    case OPT_SEED:
        return parse_count(arg, 0, &seed) && (m->seed = (uint64_t)seed, true);
    case OPT_TIED:
        return m->tied = 1, true;
    case OPT_UNTIED:
        return m->tied = 0, true;
    case OPT_TOKENIZER:
        return m->byte_tokenizer = true;
    }
    if (c < OPT_COUNTS) return false;
    return parse_count(arg, 1, counts[c - OPT_COUNTS]);
}

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
                                            {NULL, 0, NULL, 0}};
    const char *preset = "tiny";
    *m = (model){.tied = -1, .dtype = ESPL_DTYPE_BF16, .seed = 1};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        if (!parse_option(c, optarg, m, &preset)) return false;
    return optind == argc - 1 && apply_preset(m, preset) && m->heads % m->kv_heads == 0 &&
           (!m->byte_tokenizer || m->vocab >= 256);
}

/* -------------------------------------------------------------- tensors */

typedef struct plan {
    espl_tensor_spec *specs;
    char (*names)[NAME_MAX_BYTES];
    int64_t n;
    espl_dtype dtype;
} plan;

/* layer < 0: `name` is the whole name. cols 0: a vector. */
static void add(plan *p, int64_t layer, const char *name, int64_t rows, int64_t cols) {
    char *full = p->names[p->n];
    if (layer < 0)
        snprintf(full, NAME_MAX_BYTES, "%s", name);
    else
        snprintf(full, NAME_MAX_BYTES, "model.layers.%" PRId64 ".%s.weight", layer, name);
    p->specs[p->n++] =
        (espl_tensor_spec){.name = full, .dtype = p->dtype, .n_dims = cols ? 2 : 1, .dims = {rows, cols}};
}

static void add_layer(plan *p, const model *m, int64_t i) {
    int64_t q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;
    add(p, i, "input_layernorm", m->hidden, 0);
    add(p, i, "post_attention_layernorm", m->hidden, 0);
    add(p, i, "self_attn.q_proj", q, m->hidden);
    add(p, i, "self_attn.k_proj", kv, m->hidden);
    add(p, i, "self_attn.v_proj", kv, m->hidden);
    add(p, i, "self_attn.o_proj", m->hidden, q);
    add(p, i, "mlp.gate_proj", m->ffn, m->hidden);
    add(p, i, "mlp.up_proj", m->ffn, m->hidden);
    add(p, i, "mlp.down_proj", m->hidden, m->ffn);
    if (!is_qwen3(m)) return;
    add(p, i, "self_attn.q_norm", m->head_dim, 0);
    add(p, i, "self_attn.k_norm", m->head_dim, 0);
}

static espl_status make_plan(const model *m, plan *p) {
    int64_t n = 3 + m->layers * 11;
    *p = (plan){.dtype = m->dtype};
    ESPL_TRY(espl_mem_alloc(&p->specs, n, sizeof *p->specs, "tensor list"));
    ESPL_TRY(espl_mem_alloc(&p->names, n, sizeof *p->names, "tensor names"));
    add(p, -1, "model.embed_tokens.weight", m->vocab, m->hidden);
    for (int64_t i = 0; i < m->layers; i++) add_layer(p, m, i);
    add(p, -1, "model.norm.weight", m->hidden, 0);
    if (!m->tied) add(p, -1, "lm_head.weight", m->vocab, m->hidden);
    return ESPL_OK;
}

/* Values to draw from and a buffer to draw into, both in the model's dtype. */
typedef struct source {
    espl_dtype dtype;
    void *table, *buffer;
    uint64_t seed;
} source;

/* 65536 normal values once; a weight is one of them, picked by 16 random bits. Four weights per random number, so the
 * disk is what takes time. */
static espl_status make_source(const model *m, source *s) {
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

static void draw(source *s, espl_rng *rng) {
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

static void fill_ones(source *s) {
    static float ones[CHUNK];
    for (int i = 0; i < CHUNK; i++) ones[i] = 1.0f;
    espl_tensor_narrow(ones, CHUNK, s->dtype, s->buffer);
}

static espl_status write_tensor(espl_weights_writer *w, const plan *p, int64_t i, source *s) {
    const char *name = p->specs[i].name;
    int64_t total = espl_weights_writer_tensor_bytes(w, i), chunk = CHUNK * (int64_t)espl_dtype_size(s->dtype);
    espl_rng rng;
    espl_rng_seed(&rng, s->seed, espl_hash64(name, (int64_t)strlen(name), 0), 1);
    for (int64_t at = 0; at < total; at += chunk) {
        if (p->specs[i].n_dims == 1)
            fill_ones(s);
        else
            draw(s, &rng);
        ESPL_TRY(espl_weights_writer_put(w, i, at, s->buffer, total - at < chunk ? total - at : chunk));
    }
    return ESPL_OK;
}

static espl_status write_planned(const plan *p, const model *m, espl_weights_writer *w) {
    source s;
    espl_status st = make_source(m, &s);
    if (st == ESPL_OK) st = espl_weights_writer_start(w);
    for (int64_t i = 0; st == ESPL_OK && i < p->n; i++) st = write_tensor(w, p, i, &s);
    if (st == ESPL_OK) st = espl_weights_writer_finish(w);
    espl_mem_free(&s.table);
    espl_mem_free(&s.buffer);
    return st;
}

static espl_status write_weights(const model *m, const char *dir) {
    char path[4096];
    plan p;
    espl_weights_writer *w = NULL;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    espl_status st = make_plan(m, &p);
    if (st == ESPL_OK) st = espl_weights_writer_create(path, p.specs, p.n, &w);
    if (st == ESPL_OK) st = write_planned(&p, m, w);
    espl_weights_writer_destroy(&w);
    espl_mem_free(&p.specs);
    espl_mem_free(&p.names);
    return st;
}

/* ----------------------------------------------------------- JSON files */

static espl_status write_text(const char *dir, const char *name, espl_str *s) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    espl_status st = espl_str_status(s);
    FILE *f = st == ESPL_OK ? fopen(path, "wb") : NULL;
    if (st == ESPL_OK && !f) st = ESPL_FAIL(ESPL_IO, "%s: cannot be created: %s", path, strerror(errno));
    bool written = f && fwrite(s->data, 1, (size_t)s->len, f) == (size_t)s->len;
    if (f && (fclose(f) != 0 || !written)) st = ESPL_FAIL(ESPL_IO, "%s: cannot be written", path);
    espl_str_free(s);
    return st;
}

static int64_t end_of_text(const model *m) { return m->byte_tokenizer && m->vocab > 256 ? 256 : m->vocab - 1; }

static void put_int(espl_str *s, const char *key, int64_t v) { espl_str_printf(s, "  \"%s\": %" PRId64 ",\n", key, v); }

static espl_status write_config(const model *m, const char *dir) {
    static const char *const dtypes[ESPL_DTYPE_COUNT] = {
        [ESPL_DTYPE_BF16] = "bfloat16", [ESPL_DTYPE_F16] = "float16", [ESPL_DTYPE_F32] = "float32"};
    espl_str s = {0};
    espl_str_printf(&s, "{\n  \"architectures\": [\n    \"%s\"\n  ],\n  \"attention_bias\": false,\n",
                    is_qwen3(m) ? "Qwen3ForCausalLM" : "LlamaForCausalLM");
    espl_str_puts(&s, "  \"attention_dropout\": 0.0,\n");
    put_int(&s, "bos_token_id", end_of_text(m));
    put_int(&s, "eos_token_id", end_of_text(m));
    put_int(&s, "head_dim", m->head_dim);
    espl_str_puts(&s, "  \"hidden_act\": \"silu\",\n");
    put_int(&s, "hidden_size", m->hidden);
    espl_str_puts(&s, "  \"initializer_range\": 0.02,\n");
    put_int(&s, "intermediate_size", m->ffn);
    put_int(&s, "max_position_embeddings", m->max_position);
    if (is_qwen3(m)) put_int(&s, "max_window_layers", m->layers);
    if (!is_qwen3(m)) espl_str_puts(&s, "  \"mlp_bias\": false,\n");
    espl_str_printf(&s, "  \"model_type\": \"%s\",\n", m->arch);
    put_int(&s, "num_attention_heads", m->heads);
    put_int(&s, "num_hidden_layers", m->layers);
    put_int(&s, "num_key_value_heads", m->kv_heads);
    espl_str_printf(&s, "  \"rms_norm_eps\": %g,\n  \"rope_scaling\": null,\n  \"rope_theta\": %.1f,\n", m->eps,
                    m->rope_theta);
    if (is_qwen3(m)) espl_str_puts(&s, "  \"sliding_window\": null,\n  \"use_sliding_window\": false,\n");
    espl_str_printf(&s, "  \"tie_word_embeddings\": %s,\n  \"torch_dtype\": \"%s\",\n  \"use_cache\": true,\n",
                    m->tied ? "true" : "false", dtypes[m->dtype]);
    espl_str_printf(&s, "  \"vocab_size\": %" PRId64 "\n}\n", m->vocab);
    return write_text(dir, "config.json", &s);
}

/* GPT-2's alphabet: printable bytes stand for themselves, the others for the characters from U+0100 on, in order. */
static void put_byte_char(espl_str *s, int byte, int *next) {
    bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 255 && byte != 173);
    int c = printable ? byte : 256 + (*next)++;
    char utf8[2] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))}, ascii = (char)c;
    if (c < 128)
        espl_str_put_json(s, &ascii, 1);
    else
        espl_str_put_json(s, utf8, 2);
}

static void put_vocab(espl_str *s, bool end) {
    int next = 0;
    for (int byte = 0; byte < 256; byte++) {
        espl_str_puts(s, byte ? "," : "");
        put_byte_char(s, byte, &next);
        espl_str_printf(s, ":%d", byte);
    }
    if (end) espl_str_puts(s, ",\"<|endoftext|>\":256");
}

static espl_status write_tokenizer(const model *m, const char *dir) {
    espl_str s = {0};
    bool end = m->vocab > 256;
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
    put_vocab(&s, end);
    espl_str_puts(&s, "},\"merges\":[]}}\n");
    return write_text(dir, "tokenizer.json", &s);
}

static espl_status write_tokenizer_config(const model *m, const char *dir) {
    espl_str s = {0};
    espl_str_puts(&s, "{\n  \"clean_up_tokenization_spaces\": false,\n");
    if (m->vocab > 256) espl_str_puts(&s, "  \"eos_token\": \"<|endoftext|>\",\n");
    espl_str_puts(&s, "  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n");
    return write_text(dir, "tokenizer_config.json", &s);
}

/* ----------------------------------------------------------------- main */

static espl_status report(const char *dir, double seconds) {
    espl_weights *w;
    ESPL_TRY(espl_weights_open(dir, &w));
    double gb = (double)espl_weights_bytes(w) / 1e9;
    printf("%s: %" PRId64 " tensors, %.3f GB in %.1f s\n", dir, espl_weights_count(w), gb, seconds);
    espl_weights_close(&w);
    return ESPL_OK;
}

static espl_status make_model(const model *m, const char *dir) {
    double start = espl_clock_now();
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return ESPL_FAIL(ESPL_IO, "%s: cannot be created: %s", dir, strerror(errno));
    ESPL_TRY(write_config(m, dir));
    if (m->byte_tokenizer) ESPL_TRY(write_tokenizer(m, dir));
    if (m->byte_tokenizer) ESPL_TRY(write_tokenizer_config(m, dir));
    ESPL_TRY(write_weights(m, dir));
    return report(dir, espl_clock_now() - start);
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
