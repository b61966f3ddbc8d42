/* SPDX-License-Identifier: Apache-2.0 */
/* espalier generate: continues a prompt. The text is shown as it grows, or printed as one JSON object at the end. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "espalier/base/integer.h"
#include "espalier/base/json_writer.h"
#include "espalier/base/log.h"
#include "espalier/base/memory.h"
#include "espalier/base/region.h"
#include "espalier/base/str.h"
#include "espalier/chat/generate.h"
#include "espalier/eval/corpus.h"
#include "model.h"
#include "options.h"

enum { DEFAULT_TOKENS = 128 };

/* ---------------------------------------------------------------- options */

/* Given on the command line; defaults in cli_generate. */
typedef struct generate_options {
    cli_shared shared;
    const char *prompt;
    int64_t max_tokens, seed;
    espl_sampling sampling;
} generate_options;

enum { KEY_PROMPT = CLI_KEY_FIRST, KEY_MAX_TOKENS, KEY_TEMPERATURE, KEY_TOP_P, KEY_SEED };

static const struct argp_option generate_argp_options[] = {
    {NULL, 0, NULL, 0, "Text:", CLI_GROUP_COMMAND},
    {"prompt", KEY_PROMPT, "TEXT", 0, "text to continue; - is standard input (required)", CLI_GROUP_COMMAND},
    {"max-tokens", KEY_MAX_TOKENS, "N", 0, "maximum number of tokens to generate (default: 128)", CLI_GROUP_COMMAND},
    {NULL, 0, NULL, 0, "Sampling:", CLI_GROUP_COMMAND + 1},
    {"temperature", KEY_TEMPERATURE, "T", 0, "sampling temperature; 0 is greedy (default: 0)", CLI_GROUP_COMMAND + 1},
    {"top-p", KEY_TOP_P, "P", 0, "sample among the most likely tokens of total probability P (default: 1)",
     CLI_GROUP_COMMAND + 1},
    {"seed", KEY_SEED, "N", 0, "seed of the sampling (default: 0)", CLI_GROUP_COMMAND + 1},
    {0}};

static error_t generate_parse(int key, char *value, struct argp_state *state) {
    generate_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        return cli_share(state, &o->shared);
    case KEY_PROMPT:
        o->prompt = value;
        return 0;
    case KEY_MAX_TOKENS:
        return cli_take_integer("max-tokens", value, 1, CLI_TOKENS_MAX, &o->max_tokens);
    case KEY_TEMPERATURE:
        return cli_take_real("temperature", value, 0, 100, &o->sampling.temperature);
    case KEY_TOP_P:
        return cli_take_real("top-p", value, 0, 1, &o->sampling.top_p);
    case KEY_SEED:
        return cli_take_integer("seed", value, 0, CLI_COUNT_MAX, &o->seed);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child generate_children[] = {{&cli_argp_model, 0, NULL, 0},
                                                      {&cli_argp_mask, 0, NULL, 0},
                                                      {&cli_argp_batch, 0, NULL, 0},
                                                      {&cli_argp_json, 0, NULL, 0},
                                                      {&cli_argp_output, 0, NULL, 0},
                                                      {&cli_argp_help, 0, NULL, 0},
                                                      {0}};
const struct argp cli_generate_argp = {.options = generate_argp_options,
                                       .parser = generate_parse,
                                       .doc = "Continues a prompt, greedily or by sampling.",
                                       .children = generate_children};

/* ------------------------------------------------------------------- text */

/* The generated text on rank 0. Ids are decoded from the first one each time: the bytes of a token may depend on the
 * tokens before it. */
typedef struct generated_text {
    const espl_tokenizer *t;
    bool silent;   /* print nothing while the text grows */
    espl_str text; /* decoded so far */
    int64_t shown; /* bytes of it already printed */
} generated_text;

/* Prints the text up to byte `end`, and at once: a person is watching. */
static void generated_show(generated_text *g, int64_t end) {
    if (g->silent || end <= g->shown) return;
    fwrite(g->text.data + g->shown, 1, (size_t)(end - g->shown), stdout);
    fflush(stdout);
    g->shown = end;
}

/* Called after each token. Holds back a U+FFFD at the end of the text: it may be the first half of a character that the
 * next token completes. Errors are reported by the last call of espl_chat_decode. */
static bool generated_on_token(void *context, const int32_t *ids, int64_t n) {
    static const char replacement[] = "\xEF\xBF\xBD";
    generated_text *g = context;
    if (espl_chat_decode(g->t, ids, n, &g->text) != ESPL_OK) return true;
    int64_t end = g->text.len;
    while (end >= 3 && memcmp(g->text.data + end - 3, replacement, 3) == 0) end -= 3;
    generated_show(g, end);
    return true;
}

/* Rank 0 only. */
static espl_status generated_print_json(const generated_text *g, const generate_options *o, int64_t prompt_tokens,
                                        const int32_t *ids, int64_t n, double seconds) {
    espl_str out = {0};
    espl_json_writer w = espl_json_writer_on(&out);
    espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
    espl_json_put_text(&w, "prompt", o->prompt);
    espl_json_put_bytes(&w, "text", g->text.len ? g->text.data : "", g->text.len);
    espl_json_put_i64(&w, "prompt_tokens", prompt_tokens);
    espl_json_open_array(&w, "ids", ESPL_JSON_SPACED);
    for (int64_t i = 0; i < n; i++) espl_json_put_i64(&w, NULL, ids[i]);
    espl_json_close(&w);
    espl_json_put_fixed(&w, "seconds", seconds, 3);
    espl_json_close(&w);
    espl_status st = espl_str_status(&out);
    if (st == ESPL_OK) puts(out.data);
    espl_str_free(&out);
    return st;
}

/* ---------------------------------------------------------------- command */

/* All ranks compute each token together; the tokenizer, the growing text and the output are rank 0's. */
espl_status cli_generate(espl_comm *c, int argc, char **argv) {
    generate_options o = {
        .shared.batch = CLI_DEFAULT_BATCH, .max_tokens = DEFAULT_TOKENS, .sampling = {.temperature = 0, .top_p = 1}};
    espl_tokenizer *t = NULL;
    espl_corpus prompt = {0};
    cli_model model = {0};
    int32_t *ids = NULL;
    espl_generated result;
    espl_comm *working;
    espl_status st;
    ESPL_TRY(cli_parse(c, &cli_generate_argp, argc, argv, &o, &o.shared));
    if (o.shared.done) return ESPL_OK;
    if (!o.shared.model) return ESPL_FAIL(ESPL_USAGE, "generate: --model is required");
    if (!o.prompt) return ESPL_FAIL(ESPL_USAGE, "generate: --prompt is required");
    ESPL_TRY(cli_arrange(c, &o.shared, true, &working));
    if (!working) return ESPL_OK;
    c = working;

    generated_text g = {.silent = o.shared.json};
    ESPL_CHECK(st, done, cli_tokenizer_open(c, o.shared.model, &t));
    g.t = t;
    st = strcmp(o.prompt, "-") == 0 ? espl_corpus_read_stdin(c, t, &prompt)
                                    : espl_corpus_encode(c, t, o.prompt, (int64_t)strlen(o.prompt), &prompt);
    if (st == ESPL_OK && prompt.n == 0)
        st = ESPL_FAIL(ESPL_USAGE, "--prompt: an empty prompt gives the model nothing to continue");
    if (st != ESPL_OK) goto done;

    int64_t context = prompt.n + o.max_tokens;
    /* The KV cache holds the prompt and all that is generated; logits are needed for one position at a time. */
    espl_model_options mo = {
        .context = context, .batch_tokens = espl_min_i64(o.shared.batch, context), .slots = 1, .logits_rows = 1};
    ESPL_CHECK(st, done, cli_model_open(c, &o.shared, &mo, &model));
    double start = espl_clock_now();
    ESPL_CHECK(st, done, espl_comm_agree(c, espl_mem_alloc(&ids, o.max_tokens, sizeof *ids, "generated ids")));
    espl_generation generation = {.prompt = prompt.ids,
                                  .n_prompt = prompt.n,
                                  .max_tokens = o.max_tokens,
                                  .sampling = o.sampling,
                                  .seed = (uint64_t)o.seed,
                                  .end = -1,
                                  .context = &g,
                                  .on_token = generated_on_token};
    ESPL_CHECK(st, done, espl_chat_generate(c, model.m, &generation, ids, &result));
    if (espl_comm_rank(c) != 0) goto done;
    double seconds = espl_clock_now() - start;
    ESPL_CHECK(st, done, espl_chat_decode(t, ids, result.n, &g.text));
    if (o.shared.json) {
        ESPL_CHECK(st, done, generated_print_json(&g, &o, prompt.n, ids, result.n, seconds));
    } else {
        generated_show(&g, g.text.len);
        putchar('\n');
    }
    ESPL_INFO("%" PRId64 " tokens in %.2f s, prompt of %" PRId64 " included", prompt.n + result.n, seconds, prompt.n);
done:
    espl_mem_free(&ids);
    espl_str_free(&g.text);
    cli_model_close(&model);
    espl_corpus_free(&prompt);
    espl_tokenizer_close(&t);
    espl_comm_release(&working);
    return st;
}
