/* SPDX-License-Identifier: Apache-2.0 */
/* config.json: what is read, what is refused, and how it is named. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "espalier/model/config.h"
#include "espalier/model/shape.h"

#define LLAMA_SIZES                                                                                                    \
    ", \"vocab_size\": 100, \"hidden_size\": 64, \"intermediate_size\": 128, \"num_hidden_layers\": 4, "               \
    "\"num_attention_heads\": 8"
#define LLAMA                                                                                                          \
    "\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"vocab_size\": 100, \"hidden_size\": 64, " \
    "\"intermediate_size\": 128, \"num_hidden_layers\": 4, \"num_attention_heads\": 8"
#define QWEN3                                                                                                          \
    "\"model_type\": \"qwen3\", \"vocab_size\": 100, \"hidden_size\": 64, \"intermediate_size\": 128, "                \
    "\"num_hidden_layers\": 4, \"num_attention_heads\": 8, \"num_key_value_heads\": 2"
#define MISTRAL                                                                                                        \
    "\"model_type\": \"mistral\", \"vocab_size\": 100, \"hidden_size\": 64, \"intermediate_size\": 128, "              \
    "\"num_hidden_layers\": 4, \"num_attention_heads\": 8, \"num_key_value_heads\": 2"

#define SIZES                                                                                                          \
    ", \"vocab_size\": 100, \"hidden_size\": 64, \"intermediate_size\": 128, \"num_hidden_layers\": 8, "               \
    "\"num_attention_heads\": 8, \"num_key_value_heads\": 2"
#define OLMO2 "\"model_type\": \"olmo2\"" SIZES
#define GEMMA3 "\"model_type\": \"gemma3_text\"" SIZES ", \"query_pre_attn_scalar\": 256"

#define SMOLLM3 "\"model_type\": \"smollm3\"" SIZES
#define GRANITE "\"model_type\": \"granite\"" SIZES
#define PHI3 "\"model_type\": \"phi3\"" SIZES
#define OLMO3 "\"model_type\": \"olmo3\"" SIZES

static espl_status parse(const char *body, espl_model_config *c) {
    char json[4096];
    snprintf(json, sizeof json, "{%s}", body);
    return espl_model_config_parse(json, (int64_t)strlen(json), "config.json", c);
}

static void refused(const char *body, espl_status status, const char *words) {
    espl_model_config c;
    espl_status st = parse(body, &c);
    if (st == ESPL_OK) {
        espl_model_config_free(&c);
        fail_msg("accepted: %s", body);
    }
    if (st != status || !strstr(espl_base_error_text(), words))
        fail_msg("%s: got %s \"%s\", wanted %s with \"%s\"", body, espl_status_name(st), espl_base_error_text(),
                 espl_status_name(status), words);
    assert_non_null(strstr(espl_base_error_text(), "config.json"));
}

static void llama_defaults_are_hugging_faces(void **state) {
    (void)state;
    espl_model_config c;
    assert_int_equal(parse(LLAMA, &c), ESPL_OK);
    assert_int_equal(c.kv_heads, 8);
    assert_int_equal(c.head_dim, 8);
    assert_true(c.rms_eps == 1e-6 && c.rope[0].theta == 10000 && !c.tied && !c.qkv_bias && c.window == 0);
    espl_model_config_free(&c);
}

static void qwen3_head_dim_does_not_follow_hidden(void **state) {
    (void)state;
    espl_model_config c;
    assert_int_equal(parse(QWEN3, &c), ESPL_OK);
    assert_int_equal(c.head_dim, 128);
    assert_int_equal(c.family->qk_norm, ESPL_QK_NORM_HEAD);
    espl_model_config_free(&c);
}

static void rope_settings_have_hugging_faces_precedence(void **state) {
    (void)state;
    espl_model_config c;
    assert_int_equal(parse(LLAMA ", \"rope_theta\": 5, \"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 4, "
                                 "\"rope_theta\": 7}",
                           &c),
                     ESPL_OK);
    assert_true(c.rope[0].type == ESPL_ROPE_LINEAR && c.rope[0].theta == 7 && c.rope[0].factor == 4);
    espl_model_config_free(&c);
    assert_int_equal(parse(LLAMA ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}, \"rope_parameters\": "
                                 "{\"rope_theta\": 7}",
                           &c),
                     ESPL_OK);
    assert_true(c.rope[0].theta == 10000 && c.rope[0].factor == 2);
    espl_model_config_free(&c);
    assert_int_equal(parse(LLAMA
                           ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, "
                           "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}",
                           &c),
                     ESPL_OK);
    assert_true(c.rope[0].type == ESPL_ROPE_LLAMA3 && c.rope[0].original == 8192);
    espl_model_config_free(&c);
    refused(LLAMA ", \"rope_scaling\": {\"type\": \"proportional\", \"factor\": 2}", ESPL_UNSUPPORTED, "proportional");
    refused(LLAMA ", \"rope_scaling\": {\"type\": \"linear\"}", ESPL_FORMAT, "factor");
    refused(LLAMA ", \"rope_scaling\": {\"full_attention\": {}}", ESPL_UNSUPPORTED, "full_attention");
    refused(LLAMA ", \"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8}", ESPL_FORMAT, "low_freq_factor");
    refused(LLAMA ", \"partial_rotary_factor\": 0.5", ESPL_UNSUPPORTED, "partial_rotary_factor");
}

static void sliding_windows_follow_the_family(void **state) {
    (void)state;
    espl_model_config c;
    assert_int_equal(parse(QWEN3 ", \"sliding_window\": 9, \"use_sliding_window\": false", &c), ESPL_OK);
    assert_int_equal(c.window, 0);
    espl_model_config_free(&c);
    assert_int_equal(parse(QWEN3 ", \"sliding_window\": 9, \"use_sliding_window\": true, \"max_window_layers\": 3", &c),
                     ESPL_OK);
    assert_true(c.window == 9 && !c.slides[2] && c.slides[3]);
    espl_model_config_free(&c);
    assert_int_equal(parse(MISTRAL, &c), ESPL_OK);
    assert_true(c.window == 4096 && c.slides[0]);
    espl_model_config_free(&c);
    assert_int_equal(parse(MISTRAL ", \"sliding_window\": null", &c), ESPL_OK);
    assert_true(c.window == 0 && !c.slides[0]);
    espl_model_config_free(&c);
    refused(LLAMA ", \"sliding_window\": 5", ESPL_UNSUPPORTED, "sliding_window");
    refused(QWEN3 ", \"layer_types\": [\"full_attention\"]", ESPL_FORMAT, "layer_types");
    refused(QWEN3 ", \"layer_types\": [\"sliding_attention\", \"full_attention\", \"full_attention\", "
                  "\"full_attention\"]",
            ESPL_UNSUPPORTED, "layer_types[0]");
    refused(MISTRAL ", \"sliding_window\": 0", ESPL_FORMAT, "sliding_window");
}

static void olmo2_has_norms_behind_its_branches(void **state) {
    (void)state;
    espl_model_config c;
    espl_layer_norm norms[ESPL_LAYER_NORMS];
    assert_int_equal(parse(OLMO2, &c), ESPL_OK);
    assert_true(c.rms_eps == 1e-5 && !c.tied && c.residual_scale == 1);
    espl_model_layer_norms(&c, norms);
    assert_null(norms[ESPL_NORM_ATTENTION_IN].name);
    assert_string_equal(norms[ESPL_NORM_MLP_OUT].name, "post_feedforward_layernorm");
    assert_true(norms[ESPL_LAYER_NORM_Q].n == 64 && norms[ESPL_LAYER_NORM_K].n == 16);
    /* q and o 64 x 64, k and v 16 x 64, three of 64 x 128, two norms of 64, one each of 64 and 16 */
    assert_int_equal(espl_model_layer_parameters(&c), 2 * 4096 + 2 * 1024 + 3 * 8192 + 2 * 64 + 80);
    espl_model_config_free(&c);
    refused(OLMO2 ", \"sliding_window\": 5", ESPL_UNSUPPORTED, "sliding_window");
    refused(OLMO2 ", \"clip_qkv\": 8", ESPL_UNSUPPORTED, "clip_qkv");
}

static void gemma3_has_two_kinds_of_layers(void **state) {
    (void)state;
    espl_model_config c;
    assert_int_equal(parse(GEMMA3, &c), ESPL_OK);
    assert_true(c.head_dim == 256 && c.tied && c.activation == ESPL_ACTIVATION_GELU_TANH && c.window == 4096);
    assert_true(c.embedding_scale == 8 && c.attention_scale == 1.0 / 16 && c.logit_scale == 1);
    for (int64_t i = 0; i < 8; i++) {
        assert_int_equal(c.slides[i], i != 5);
        assert_int_equal(c.layer_ropes[i], i == 5 ? ESPL_LAYER_ROPE_GLOBAL : ESPL_LAYER_ROPE_LOCAL);
    }
    assert_true(c.rope[ESPL_LAYER_ROPE_GLOBAL].theta == 1e6 && c.rope[ESPL_LAYER_ROPE_LOCAL].theta == 1e4);
    espl_model_config_free(&c);
    /* The classic scaling is that of full layers. */
    assert_int_equal(parse(GEMMA3 ", \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8}, "
                                  "\"rope_local_base_freq\": 5, \"sliding_window_pattern\": 2",
                           &c),
                     ESPL_OK);
    assert_true(c.rope[0].type == ESPL_ROPE_LINEAR && c.rope[1].type == ESPL_ROPE_DEFAULT && c.rope[1].theta == 5);
    assert_true(c.slides[0] && !c.slides[1]);
    espl_model_config_free(&c);
    assert_int_equal(parse(GEMMA3 ", \"rope_parameters\": {\"sliding_attention\": {\"rope_theta\": 7}, "
                                  "\"full_attention\": {\"rope_type\": \"linear\", \"factor\": 2}}",
                           &c),
                     ESPL_OK);
    assert_true(c.rope[0].factor == 2 && c.rope[0].theta == 1e6 && c.rope[1].theta == 7);
    espl_model_config_free(&c);
    refused(GEMMA3 ", \"rope_parameters\": {\"rope_type\": \"default\"}", ESPL_UNSUPPORTED, "full_attention");
    refused(GEMMA3
            ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}, \"rope_parameters\": {\"full_attention\": "
            "{}}",
            ESPL_UNSUPPORTED, "beside");
    refused(GEMMA3 ", \"sliding_window\": null", ESPL_FORMAT, "sliding_window");
    refused(GEMMA3 ", \"final_logit_softcapping\": 30", ESPL_UNSUPPORTED, "final_logit_softcapping");
    refused(GEMMA3 ", \"use_bidirectional_attention\": true", ESPL_UNSUPPORTED, "use_bidirectional_attention");
    refused(GEMMA3 ", \"hidden_activation\": \"gelu\"", ESPL_UNSUPPORTED, "hidden_activation");
    refused("\"model_type\": \"gemma3_text\"" SIZES, ESPL_FORMAT, "query_pre_attn_scalar");
    refused("\"model_type\": \"gemma3\"", ESPL_UNSUPPORTED, "gemma3_text");
}

static void smollm3_has_layers_without_rope(void **state) {
    (void)state;
    espl_model_config c;
    assert_int_equal(parse(SMOLLM3, &c), ESPL_OK);
    assert_true(c.tied && c.rope[0].theta == 2e6 && c.window == 0);
    for (int64_t i = 0; i < 8; i++)
        assert_int_equal(c.layer_ropes[i], i % 4 == 3 ? ESPL_LAYER_ROPE_NONE : ESPL_LAYER_ROPE_GLOBAL);
    espl_model_config_free(&c);
    assert_int_equal(parse(SMOLLM3 ", \"use_sliding_window\": true, \"sliding_window\": 5, \"no_rope_layers\": "
                                   "[1, 1, 0, 1, 1, 1, 1, 0]",
                           &c),
                     ESPL_OK);
    for (int64_t i = 0; i < 8; i++) assert_int_equal(c.slides[i], i == 2 || i == 7);
    assert_int_equal(c.layer_ropes[3], ESPL_LAYER_ROPE_GLOBAL);
    espl_model_config_free(&c);
    refused(SMOLLM3 ", \"no_rope_layers\": [1, 0]", ESPL_FORMAT, "no_rope_layers");
    refused(SMOLLM3 ", \"no_rope_layers\": [1, 0, 2, 1, 1, 1, 1, 1]", ESPL_FORMAT, "no_rope_layers[2]");
    refused(SMOLLM3 ", \"no_rope_layer_interval\": 0", ESPL_FORMAT, "no_rope_layer_interval");
    refused(LLAMA ", \"no_rope_layers\": [1, 1, 1, 0]", ESPL_UNSUPPORTED, "no_rope_layers");
}

static void granite_has_multipliers(void **state) {
    (void)state;
    espl_model_config c;
    assert_int_equal(
        parse(GRANITE ", \"embedding_multiplier\": 12, \"residual_multiplier\": 0.25, \"logits_scaling\": 8", &c),
        ESPL_OK);
    assert_true(c.embedding_scale == 12 && c.attention_scale == 1 && c.residual_scale == 0.25 &&
                c.logit_scale == 0.125);
    espl_model_config_free(&c);
    refused(GRANITE ", \"logits_scaling\": 0", ESPL_FORMAT, "logits_scaling");
    refused(LLAMA ", \"embedding_multiplier\": 12", ESPL_UNSUPPORTED, "embedding_multiplier");
}

static void phi3_stores_several_linears_as_one(void **state) {
    (void)state;
    espl_model_config c;
    assert_int_equal(parse(PHI3 ", \"sliding_window\": 2047", &c), ESPL_OK);
    assert_true(c.rms_eps == 1e-5 && c.window == 2047 && c.slides[0] && !c.qkv_bias);
    static const int64_t first[] = {0, 64, 80, 0, 0, 128, 0}, rows[] = {96, 96, 96, 64, 256, 256, 64};
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        espl_linear_place p = espl_model_linear_place(&c, espl_linear_index(espl_model_layout(&c), 3, k));
        assert_true(p.first == first[k] && p.rows == rows[k]);
    }
    assert_string_equal(espl_model_linear_place(&c, ESPL_V_PROJ).name, "model.layers.0.self_attn.qkv_proj.weight");
    assert_int_equal(espl_model_tensor_linear(&c, "model.layers.2.mlp.gate_up_proj.weight"),
                     espl_linear_index(espl_model_layout(&c), 2, ESPL_GATE_PROJ));
    assert_int_equal(espl_model_tensor_linear(&c, "model.layers.2.mlp.up_proj.weight"), -1);
    assert_int_equal(espl_model_tensor_linear(&c, "model.layers.8.mlp.down_proj.weight"), -1);
    assert_int_equal(espl_model_tensor_linear(&c, "model.layers.-1.mlp.down_proj.weight"), -1);
    espl_model_config_free(&c);
}

#define MOE                                                                                                            \
    "\"architectures\": [\"Qwen3MoeForCausalLM\"], \"model_type\": \"qwen3_moe\", \"vocab_size\": 100, "               \
    "\"hidden_size\": 64, \"intermediate_size\": 200, \"num_hidden_layers\": 8, \"num_attention_heads\": 4, "          \
    "\"num_key_value_heads\": 2, \"moe_intermediate_size\": 24"

static void experts_take_the_place_of_the_mlp(void **state) {
    (void)state;
    espl_model_config c;
    assert_int_equal(parse(MOE ", \"num_experts\": 16", &c), ESPL_OK);
    assert_true(c.experts == 16 && c.experts_per_token == 8 && !c.experts_normed && c.ffn == 24 && c.head_dim == 16);
    espl_layout l = espl_model_layout(&c);
    int64_t index = espl_linear_index(l, 3, espl_linear_at(ESPL_DOWN_PROJ, 15)), attention = 2 * 64 * (64 + 32);
    espl_linear_place p = espl_model_linear_place(&c, index);
    assert_string_equal(p.name, "model.layers.3.mlp.experts.15.down_proj.weight");
    assert_true(p.first == 0 && p.rows == 64);
    assert_int_equal(espl_model_tensor_linear(&c, p.name), index);
    assert_int_equal(espl_model_tensor_linear(&c, "model.layers.3.mlp.gate.weight"), -1);
    assert_int_equal(espl_model_tensor_linear(&c, "model.layers.3.mlp.up_proj.weight"), -1);
    assert_int_equal(espl_model_layer_linear_weights(&c), attention + 16 * 3 * 64 * 24);
    assert_int_equal(espl_model_layer_active_weights(&c), attention + 8 * 3 * 64 * 24 + 16 * 64);
    espl_model_config_free(&c);
    assert_int_equal(parse(MOE ", \"num_local_experts\": 4, \"num_experts_per_tok\": 4, \"norm_topk_prob\": true, "
                               "\"mlp_only_layers\": [9], \"use_sliding_window\": true, \"sliding_window\": 5",
                           &c),
                     ESPL_OK);
    assert_true(c.experts == 4 && c.experts_per_token == 4 && c.experts_normed && c.window == 5 && c.slides[0]);
    espl_model_config_free(&c);
    refused(MOE, ESPL_FORMAT, "num_experts");
    refused(MOE ", \"num_experts\": 0", ESPL_FORMAT, "num_experts");
    refused(MOE ", \"num_experts\": 8, \"num_local_experts\": 4", ESPL_FORMAT, "contradicts num_local_experts 4");
    refused(MOE ", \"num_experts\": 4, \"num_experts_per_tok\": 5", ESPL_FORMAT, "exceeds num_experts 4");
    refused(MOE ", \"num_experts\": 8, \"decoder_sparse_step\": 2", ESPL_UNSUPPORTED, "decoder_sparse_step 2");
    refused(MOE ", \"num_experts\": 8, \"mlp_only_layers\": [0]", ESPL_UNSUPPORTED, "mlp_only_layers names layer 0");
    refused(MOE ", \"num_experts\": 8, \"mlp_only_layers\": [\"0\"]", ESPL_FORMAT, "mlp_only_layers");
    refused(LLAMA ", \"num_experts\": 8", ESPL_UNSUPPORTED, "num_experts");
}

static void longrope_ends_at_the_original_length(void **state) {
    (void)state;
    espl_model_config c;
#define SHORT ", \"rope_scaling\": {\"type\": \"su\", \"long_factor\": [1], \"short_factor\": "
    assert_int_equal(
        parse(PHI3 ", \"max_position_embeddings\": 131072, \"partial_rotary_factor\": 0.75" SHORT "[1, 1.5, 2]}", &c),
        ESPL_OK);
    assert_true(c.rotary == 6 && c.rope[0].divisors[1] == 1.5 && c.rope[0].limit == 4096);
    assert_true(fabs(c.rope[0].attention - sqrt(1 + log(32) / log(4096))) < 1e-12);
    assert_int_equal(c.max_positions, 4096); /* and a note says so */
    assert_non_null(strstr(c.notes.data, "longrope is computed up to 4096 tokens"));
    espl_model_config_free(&c);
    refused(PHI3 SHORT "[1, 2]}", ESPL_FORMAT, "short_factor");
    refused(PHI3 SHORT "[1, 2, 3, 0]}", ESPL_FORMAT, "short_factor[3]");
    refused(PHI3 ", \"partial_rotary_factor\": 0.4", ESPL_UNSUPPORTED, "partial_rotary_factor");
    refused(PHI3 ", \"partial_rotary_factor\": 1.5", ESPL_UNSUPPORTED, "partial_rotary_factor");
    refused(PHI3 ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}", ESPL_UNSUPPORTED, "linear");
#undef SHORT
}

static void olmo3_has_a_window_in_three_of_four_layers(void **state) {
    (void)state;
    espl_model_config c;
    assert_int_equal(parse(OLMO3 ", \"rope_theta\": 500000", &c), ESPL_OK);
    for (int64_t i = 0; i < 8; i++) {
        assert_int_equal(c.slides[i], i % 4 != 3);
        assert_int_equal(c.layer_ropes[i], i % 4 == 3 ? ESPL_LAYER_ROPE_GLOBAL : ESPL_LAYER_ROPE_LOCAL);
    }
    assert_true(c.window == 4096 && c.rope[0].theta == 500000 && c.rope[1].theta == 500000);
    espl_model_config_free(&c);
    /* transformers would take it for full layers only. */
    refused(OLMO3 ", \"rope_theta\": 10000", ESPL_UNSUPPORTED, "rope_theta 10000");
    assert_int_equal(parse(OLMO3 ", \"rope_parameters\": {\"full_attention\": {\"rope_theta\": 10000}, "
                                 "\"sliding_attention\": {\"rope_theta\": 10000}}",
                           &c),
                     ESPL_OK);
    assert_true(c.rope[0].theta == 10000 && c.rope[1].theta == 10000);
    espl_model_config_free(&c);
}

static void yarn_keeps_short_waves_and_stretches_long_ones(void **state) {
    (void)state;
    espl_model_config c;
#define YARN "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4"
    assert_int_equal(parse(LLAMA ", \"head_dim\": 64, \"max_position_embeddings\": 4096, " YARN
                                 ", \"original_max_position_embeddings\": 1024}",
                           &c),
                     ESPL_OK);
    assert_true(c.rope[0].divisors[0] == 1 && c.rope[0].divisors[31] == 4 && c.rope[0].limit == 0);
    /* Pair j turns 1024 / (2 pi 10000^(j / 32)) times: 32 times at j = 5.7, once at 17.7. */
    assert_true(c.rope[0].divisors[5] == 1 && c.rope[0].divisors[6] > 1);
    assert_true(c.rope[0].divisors[17] < 4 && c.rope[0].divisors[18] == 4);
    assert_true(fabs(c.rope[0].attention - (0.1 * log(4) + 1)) < 1e-12);
    espl_model_config_free(&c);
    refused(LLAMA ", \"max_position_embeddings\": 64, \"rope_scaling\": {\"type\": \"yarn\"}", ESPL_FORMAT, "factor");
    refused(LLAMA ", " YARN "}", ESPL_FORMAT, "original_max_position_embeddings");
    refused(LLAMA ", \"max_position_embeddings\": 64, \"rope_theta\": 1, " YARN "}", ESPL_FORMAT, "rope_theta");
    refused(OLMO3 ", \"max_position_embeddings\": 64, " YARN ", \"truncate\": false}", ESPL_UNSUPPORTED, "truncate");
    refused(PHI3 ", " YARN "}", ESPL_UNSUPPORTED, "yarn");
#undef YARN
}

/* Any family may have the other activation. */
static void activations_are_read_by_their_names(void **state) {
    (void)state;
    espl_model_config c;
    assert_int_equal(parse(LLAMA ", \"hidden_act\": \"gelu_pytorch_tanh\"", &c), ESPL_OK);
    assert_int_equal(c.activation, ESPL_ACTIVATION_GELU_TANH);
    espl_model_config_free(&c);
}

static void what_we_do_not_compute_is_refused_by_name(void **state) {
    (void)state;
    refused("\"model_type\": \"gpt2\"", ESPL_UNSUPPORTED, "gpt2");
    refused("\"model_type\": \"llama\", \"architectures\": [\"LlamaForSequenceClassification\"]", ESPL_UNSUPPORTED,
            "LlamaForSequenceClassification");
    refused(LLAMA ", \"num_experts\": 8", ESPL_UNSUPPORTED, "num_experts");
    refused(LLAMA ", \"hidden_act\": \"gelu\"", ESPL_UNSUPPORTED, "gelu");
    refused(LLAMA ", \"quantization_config\": {\"bits\": 4}", ESPL_UNSUPPORTED, "quantization_config");
    refused(LLAMA ", \"is_encoder_decoder\": true", ESPL_UNSUPPORTED, "is_encoder_decoder");
    refused(LLAMA ", \"head_dim\": 7", ESPL_UNSUPPORTED, "head_dim");
}

/* Accepted, with a note that holds `words`. */
static void noted(const char *body, const char *words) {
    espl_model_config c;
    if (parse(body, &c) != ESPL_OK) fail_msg("%s: %s", body, espl_base_error_text());
    if (!c.notes.data || !strstr(c.notes.data, words))
        fail_msg("%s: noted \"%s\", wanted \"%s\"", body, c.notes.data ? c.notes.data : "", words);
    espl_model_config_free(&c);
}

static void what_changes_nothing_is_noted(void **state) {
    (void)state;
    espl_model_config c;
    noted(LLAMA ", \"embd_pdrop\": null", "\"embd_pdrop\" is ignored");
    noted(LLAMA ", \"num_experts\": 0", "\"num_experts\" is ignored");
    noted(LLAMA ", \"some_variant\": false", "some_variant");
    noted(LLAMA ", \"gradient_checkpointing\": true, \"classifier_dropout\": 0.1", "gradient_checkpointing");
    noted(LLAMA ", \"tokenizer_padding_side\": \"right\"", "tokenizer_padding_side");
    noted(LLAMA ", \"rms_norm_eps\": 1e-5, \"layer_norm_eps\": 1e-6", "layer_norm_eps");
    refused(LLAMA ", \"layer_norm_eps\": 1e-6", ESPL_UNSUPPORTED, "layer_norm_eps"); /* perhaps meant for RMSNorm */
    noted("\"model_type\": \"llama\", \"architectures\": [\"LLaMAForCausalLM\"]" LLAMA_SIZES,
          "architecture LLaMAForCausalLM is read as LlamaForCausalLM");
    noted("\"model_type\": \"llama\", \"architectures\": [\"LlamaModel\"]" LLAMA_SIZES, "LlamaModel");
    refused("\"model_type\": \"llama\", \"architectures\": [\"Qwen3Model\"]" LLAMA_SIZES, ESPL_UNSUPPORTED,
            "Qwen3Model");
    refused("\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLMs\"]" LLAMA_SIZES, ESPL_UNSUPPORTED,
            "LlamaForCausalLMs");
    noted(LLAMA ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2, \"finetuned\": true}", "finetuned");
    noted(LLAMA ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2, \"mrope_section\": null}", "mrope_section");
    refused(LLAMA ", \"rope_scaling\": {\"type\": \"default\", \"mrope_section\": [1]}", ESPL_UNSUPPORTED,
            "mrope_section");
    noted(LLAMA ", \"eos_token_id\": [1, 100], \"bos_token_id\": 151643",
          "eos_token_id 100 is not in the vocabulary of 100");
    noted(LLAMA ", \"bos_token_id\": -1", "bos_token_id -1");
    assert_int_equal(parse(LLAMA ", \"eos_token_id\": [1, 100, 2], \"bos_token_id\": 100", &c), ESPL_OK);
    assert_true(c.n_eos == 2 && c.eos[1] == 2 && c.bos == -1);
    espl_model_config_free(&c);
    assert_int_equal(parse(LLAMA, &c), ESPL_OK);
    assert_int_equal(c.notes.len, 0);
    espl_model_config_free(&c);
}

static void dynamic_rope_needs_a_trained_length(void **state) {
    (void)state;
    espl_model_config c;
    static const char dynamic[] = ", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}";
    char body[1024];
    snprintf(body, sizeof body, "%s%s", LLAMA, dynamic);
    refused(body, ESPL_FORMAT, "max_position_embeddings");
    snprintf(body, sizeof body, "%s, \"max_position_embeddings\": 512%s", LLAMA, dynamic);
    assert_int_equal(parse(body, &c), ESPL_OK);
    assert_true(c.rope[0].type == ESPL_ROPE_DYNAMIC && c.rope[0].limit == 512);
    espl_model_config_free(&c);
}

static void malformed_values_name_the_key(void **state) {
    (void)state;
    refused("\"model_type\": 3", ESPL_FORMAT, "model_type");
    refused("", ESPL_FORMAT, "model_type");
    refused(LLAMA ", \"vocab_size\": 1.5}, {\"x\": 1", ESPL_FORMAT, "unexpected text");
    refused(LLAMA ", \"num_key_value_heads\": 3", ESPL_FORMAT, "num_key_value_heads");
    refused(LLAMA ", \"num_key_value_heads\": -1", ESPL_FORMAT, "num_key_value_heads");
    refused(LLAMA ", \"rms_norm_eps\": \"x\"", ESPL_FORMAT, "rms_norm_eps");
    refused(LLAMA ", \"tie_word_embeddings\": 1", ESPL_FORMAT, "tie_word_embeddings");
    refused(LLAMA ", \"eos_token_id\": [1, \"</s>\"]", ESPL_FORMAT, "eos_token_id");
    refused(LLAMA ", \"bos_token_id\": 1.5", ESPL_FORMAT, "bos_token_id");
    refused(LLAMA ", \"eos_token_id\": [1, 2, 3, 4, 5, 6, 7, 8, 9]", ESPL_FORMAT, "has 9 ids, expected at most 8");
    refused("\"model_type\": \"llama\", \"vocab_size\": 1e30", ESPL_FORMAT, "vocab_size");
    refused("\"model_type\": \"qwen3\", \"vocab_size\": 100, \"hidden_size\": 64, \"intermediate_size\": 128, "
            "\"num_hidden_layers\": 4, \"num_attention_heads\": 8",
            ESPL_FORMAT, "num_key_value_heads");
    espl_model_config c;
    assert_int_equal(espl_model_config_parse("[]", 2, "config.json", &c), ESPL_FORMAT);
    assert_int_equal(espl_model_config_parse("", 0, "config.json", &c), ESPL_FORMAT);
    refused(LLAMA ", \"hidden_size\": 32", ESPL_FORMAT, "\"hidden_size\" occurs twice");
    refused(LLAMA ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2, \"factor\": 4}", ESPL_FORMAT,
            "rope_scaling: field \"factor\" occurs twice");
}

static void eos_may_be_a_list(void **state) {
    (void)state;
    espl_model_config c;
    assert_int_equal(parse(LLAMA ", \"eos_token_id\": [1, 99], \"bos_token_id\": null", &c), ESPL_OK);
    assert_true(c.n_eos == 2 && c.eos[1] == 99 && c.bos == -1);
    espl_model_config_free(&c);
}

static void counts_match_the_published_qwen3_sizes(void **state) {
    (void)state;
    espl_model_config c;
    static const char json[] =
        "{\"model_type\": \"qwen3\", \"vocab_size\": 151936, \"hidden_size\": 1024, \"intermediate_size\": 3072, "
        "\"num_hidden_layers\": 28, \"num_attention_heads\": 16, \"num_key_value_heads\": 8, \"head_dim\": 128, "
        "\"tie_word_embeddings\": true}";
    assert_int_equal(espl_model_config_parse(json, sizeof json - 1, "config.json", &c), ESPL_OK);
    assert_int_equal(espl_model_parameters(&c), 596049920); /* "0.6B"; non-embedding "0.44B" on the model card */
    assert_int_equal(espl_model_parameters(&c) - espl_model_embedding_parameters(&c), 440467456);
    espl_model_config_free(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_defaults_are_hugging_faces),
        cmocka_unit_test(qwen3_head_dim_does_not_follow_hidden),
        cmocka_unit_test(rope_settings_have_hugging_faces_precedence),
        cmocka_unit_test(sliding_windows_follow_the_family),
        cmocka_unit_test(olmo2_has_norms_behind_its_branches),
        cmocka_unit_test(gemma3_has_two_kinds_of_layers),
        cmocka_unit_test(smollm3_has_layers_without_rope),
        cmocka_unit_test(granite_has_multipliers),
        cmocka_unit_test(phi3_stores_several_linears_as_one),
        cmocka_unit_test(experts_take_the_place_of_the_mlp),
        cmocka_unit_test(longrope_ends_at_the_original_length),
        cmocka_unit_test(olmo3_has_a_window_in_three_of_four_layers),
        cmocka_unit_test(yarn_keeps_short_waves_and_stretches_long_ones),
        cmocka_unit_test(activations_are_read_by_their_names),
        cmocka_unit_test(what_we_do_not_compute_is_refused_by_name),
        cmocka_unit_test(what_changes_nothing_is_noted),
        cmocka_unit_test(dynamic_rope_needs_a_trained_length),
        cmocka_unit_test(malformed_values_name_the_key),
        cmocka_unit_test(eos_may_be_a_list),
        cmocka_unit_test(counts_match_the_published_qwen3_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
