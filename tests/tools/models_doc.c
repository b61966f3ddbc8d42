/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: models_doc GOLDEN_DIR         writes docs/models.md to standard output
 *        models_doc GOLDEN_DIR FILE    checks that FILE is that text; exit code 1 if it is not
 *
 * The page comes from the descriptions that the engine follows, and from the models with goldens, like
 * configuration_doc's from the table of options.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/model/config.h"
#include "page.h"

static const char introduction[] =
    "# Models\n"
    "\n"
    "espalier reads Hugging Face directories of these families without conversion. A family is recognised by "
    "`model_type` in\n"
    "`config.json`; whether a directory is read, and what it takes, says `espalier inspect DIR`.\n"
    "\n"
    "*Exact* means: on tiny random models, hidden states, logits, gradients, calibration and distillation agree with\n"
    "`transformers` 5.23 in float32 within 1e-4 of their size, with the same bits on 1 to 4 ranks (`ctest -R\n"
    "'mpi/(model|gradient)_golden'`). A model whose weights are BF16 or F16 is computed as float32 with these weights. "
    "What would\n"
    "change a logit and is not computed is refused by name, never approximated.\n"
    "\n"
    "This page is written by `build/release/tests/tools/models_doc tests/golden/models` from the descriptions in\n"
    "`src/model/family.c`; a test compares them. `CONTRIBUTING.md` shows how to add a family.\n";

static const char other_refusals[] =
    "- An unknown field of `config.json` that is not null, false, 0 or empty: it may stand for a variant of the "
    "architecture.\n"
    "  Fields of training frameworks are passed over with a note.\n"
    "- Other mixtures of experts, state-space layers, encoders, and models of text and images: other architectures.\n"
    "- Quantised weights (GPTQ, AWQ, FP8, GGUF), `.bin` files and adapters: the message names the next step.\n"
    "- A tensor that the family does not have, or one that is missing or of another shape.\n"
    "- `partial_rotary_factor` other than 1, except in `phi3`; `hidden_act` other than SiLU and GELU in its tanh "
    "form.\n";

/* ------------------------------------------------------------------ tables */

static const char *places_of_norms(const espl_family *f) {
    bool before = f->norms[ESPL_NORM_ATTENTION_IN], behind = f->norms[ESPL_NORM_ATTENTION_OUT];
    return before && behind ? "before and behind" : before ? "before" : "behind";
}

static const char *width_of_qk_norm(espl_qk_norm n) {
    return n == ESPL_QK_NORM_HEAD ? "each head" : n == ESPL_QK_NORM_ALL ? "all heads" : "–";
}

static void put_bias(espl_str *s, const char *linears, espl_bias_rule rule, const char *field, bool *any) {
    if (rule == ESPL_BIAS_NEVER) return;
    espl_str_printf(s, "%s%s", *any ? "; " : "", linears);
    if (rule == ESPL_BIAS_FIELD) espl_str_printf(s, " if `%s`", field);
    *any = true;
}

static void put_biases(espl_str *s, const espl_family *f) {
    bool any = false;
    put_bias(s, f->o_bias == f->qkv_bias ? "q, k, v, o" : "q, k, v", f->qkv_bias, "attention_bias", &any);
    if (f->o_bias != f->qkv_bias) put_bias(s, "o", f->o_bias, "attention_bias", &any);
    put_bias(s, "MLP", f->mlp_bias, "mlp_bias", &any);
    if (!any) espl_str_puts(s, "–");
}

static void put_windows(espl_str *s, const espl_family *f) {
    switch (f->window_rule) {
    case ESPL_WINDOW_NONE:
        espl_str_puts(s, "–");
        return;
    case ESPL_WINDOW_ALL:
        espl_str_puts(s, "all layers, if `sliding_window`");
        return;
    case ESPL_WINDOW_USED:
        espl_str_puts(s, "all layers, if `use_sliding_window`");
        return;
    case ESPL_WINDOW_SWITCH:
        espl_str_puts(s, "from `max_window_layers` on or by `layer_types`, if `use_sliding_window`");
        return;
    case ESPL_WINDOW_NOPE:
        espl_str_puts(s, "layers without RoPE or by `layer_types`, if `use_sliding_window`");
        return;
    case ESPL_WINDOW_PATTERN:
        espl_str_printf(s, "all but every %lldth layer, or by `layer_types`", (long long)f->window_pattern);
        return;
    }
}

static void put_rope_types(espl_str *s, const espl_family *f) {
    for (int t = 0, n = 0; t < ESPL_ROPE_TYPES; t++)
        if (f->rope_types >> t & 1)
            espl_str_printf(s, "%s%s", n++ ? ", " : "only ", espl_rope_type_name((espl_rope_type)t));
}

/* What is particular about a family's RoPE. */
static void put_rope(espl_str *s, const espl_family *f) {
    int64_t start = s->len;
    if (f->local_theta > 0) espl_str_puts(s, "sliding layers have their own");
    if (f->nope_interval > 0)
        espl_str_printf(s, "not in every %lldth layer, or by `no_rope_layers`", (long long)f->nope_interval);
    put_rope_types(s, f);
    if (f->partial_rotary) espl_str_puts(s, "; `partial_rotary_factor`");
    if (s->len == start) espl_str_puts(s, "–");
}

/* Scales, norms' offset, and tensors that hold several linears. */
static void put_particulars(espl_str *s, const espl_family *f) {
    const char *between = "";
    if (f->norm_offset > 0) {
        espl_str_printf(s, "norms multiply by %g + weight", f->norm_offset);
        between = "; ";
    }
    if (f->scales_embedding) espl_str_printf(s, "%sembedding × √hidden", between), between = "; ";
    if (f->query_scalar) espl_str_printf(s, "%sscores / √`%s`", between, f->query_scalar), between = "; ";
    if (f->multipliers) {
        espl_str_printf(s, "%s`embedding_multiplier`, `attention_multiplier`, `residual_multiplier`, `logits_scaling`",
                        between);
        between = "; ";
    }
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        bool first = f->linears[k] && (k == 0 || !f->linears[k - 1] || strcmp(f->linears[k], f->linears[k - 1]) != 0);
        if (first) espl_str_printf(s, "%s`%s` holds several linears", between, f->linears[k]), between = "; ";
    }
    if (f->experts) espl_str_printf(s, "%sexperts, chosen by a router that is left as it is", between), between = "; ";
    if (!*between) espl_str_puts(s, "–");
}

static const char *rope_meaning(espl_rope_type type) {
    static const char *const meanings[ESPL_ROPE_TYPES] = {
        [ESPL_ROPE_DEFAULT] = "any length",
        [ESPL_ROPE_LINEAR] = "any length",
        [ESPL_ROPE_LLAMA3] = "any length",
        [ESPL_ROPE_DYNAMIC] = "up to `max_position_embeddings`: frequencies then change with the length of the text",
        [ESPL_ROPE_LONGROPE] = "up to `original_max_position_embeddings`: longer texts have other frequencies",
        [ESPL_ROPE_YARN] = "any length"};
    return meanings[type];
}

/* ----------------------------------------------------------- golden models */

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The names of the models of family f in `dir`, sorted. */
static bool put_models(espl_str *s, const char *dir, const espl_family *f) {
    char *names[256], path[4096];
    int n = 0, put = 0;
    DIR *d = opendir(dir);
    if (!d) return false;
    for (const struct dirent *e; (e = readdir(d)) && n < 256;)
        if (e->d_name[0] != '.') names[n++] = strdup(e->d_name);
    closedir(d);
    qsort(names, (size_t)n, sizeof *names, by_name);
    for (int i = 0; i < n; i++) {
        espl_model_config c;
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        if (espl_model_config_read(path, &c) == ESPL_OK && c.family == f)
            espl_str_printf(s, "%s`%s`", put++ ? ", " : "", names[i]);
        espl_model_config_free(&c);
        free(names[i]);
    }
    return put > 0;
}

/* -------------------------------------------------------------------- page */

static bool put_page(espl_str *s, const char *goldens) {
    const espl_family *f;
    bool good = true;
    espl_str_puts(s, introduction);
    espl_str_puts(
        s, "\n## Families\n\n| `model_type` | architecture | published as | exact: checked on |\n|---|---|---|---|\n");
    for (int i = 0; (f = espl_family_at(i)); i++) {
        espl_str_printf(s, "| `%s` | `%s` | %s | ", f->type, f->architecture, f->models);
        good = put_models(s, goldens, f) && good; /* a family without goldens is not exact */
        espl_str_puts(s, " |\n");
    }
    espl_str_puts(s,
                  "\n## What differs\n\nRMSNorms stand before or behind attention and MLP, on the residual stream; the "
                  "QK-norm is over each head or all heads.\n\n"
                  "| `model_type` | norms | QK-norm | activation | biases | sliding window | RoPE | other |\n"
                  "|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; (f = espl_family_at(i)); i++) {
        espl_str_printf(s, "| `%s` | %s | %s | %s | ", f->type, places_of_norms(f), width_of_qk_norm(f->qk_norm),
                        f->activation == ESPL_ACTIVATION_SILU ? "SiLU" : "GELU (tanh)");
        put_biases(s, f);
        espl_str_puts(s, " | ");
        put_windows(s, f);
        espl_str_puts(s, " | ");
        put_rope(s, f);
        espl_str_puts(s, " | ");
        put_particulars(s, f);
        espl_str_puts(s, " |\n");
    }
    espl_str_puts(s, "\n## RoPE scaling\n\n| `rope_type` | computed |\n|---|---|\n");
    for (int t = 0; t < ESPL_ROPE_TYPES; t++)
        espl_str_printf(s, "| `%s` | %s |\n", espl_rope_type_name((espl_rope_type)t), rope_meaning((espl_rope_type)t));
    espl_str_puts(s, "| others | no: refused by name |\n\n## What is refused, and why\n\n");
    for (int i = 0; (f = espl_family_at(i)); i++)
        if (f->refused) espl_str_printf(s, "- `%s`: %s.\n", f->type, f->refused);
    espl_str_puts(s, other_refusals);
    espl_str_puts(s, "\nFields of `config.json` that must be missing, null, false, 0 or empty:\n\n| field | otherwise "
                     "|\n|---|---|\n");
    for (int i = 0; espl_model_refused_field(i); i++)
        espl_str_printf(s, "| `%s` | %s |\n", espl_model_refused_field(i)->key, espl_model_refused_field(i)->why);
    return good;
}

int main(int argc, char **argv) {
    espl_str s = {0};
    if (argc < 2) {
        fprintf(stderr, "usage: models_doc GOLDEN_DIR [FILE]\n");
        return 2;
    }
    bool good = put_page(&s, argv[1]);
    if (!good) fprintf(stderr, "%s: a family has no golden model\n", argv[1]);
    int code = page_publish(&s, argc > 2 ? argv[2] : NULL, "models_doc tests/golden/models");
    espl_str_free(&s);
    return good ? code : 1;
}
