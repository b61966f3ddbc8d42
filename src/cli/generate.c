#include "espalier/eval/generate.h"
#include "cli.h"

#include <string.h>

/* What has been shown so far, on rank 0. */
typedef struct stream {
    const espl_tokenizer *t;
    bool silent;
    int64_t shown; /* bytes of the decoded text already printed */
    espl_str text;
    int32_t *known; /* scratch of decode */
} stream;

/* Bytes of the text that will not change when tokens are added: all but a trailing U+FFFD, which may be the first half
 * of a character. */
static int64_t settled(const espl_str *s) {
    int64_t n = s->len;
    while (n >= 3 && memcmp(s->data + n - 3, "\xEF\xBF\xBD", 3) == 0) n -= 3;
    return n;
}

static void show(stream *s, int64_t upto) {
    if (s->silent || upto <= s->shown) return;
    fwrite(s->text.data + s->shown, 1, (size_t)(upto - s->shown), stdout);
    fflush(stdout);
    s->shown = upto;
}

/* The text of all ids so far. A model's vocabulary may be padded past its tokenizer's: ids without a token stand for
 * nothing, as in Hugging Face's decode(). */
static espl_status decode(stream *s, const int32_t *ids, int64_t n) {
    espl_str bytes = {0};
    espl_status st = espl_mem_resize(&s->known, n, sizeof *s->known, "generated ids");
    int64_t known = 0;
    for (int64_t i = 0; i < n && st == ESPL_OK; i++)
        if (espl_tokenizer_token_bytes(s->t, ids[i], &bytes) == ESPL_OK) s->known[known++] = ids[i];
    espl_str_free(&bytes);
    s->text.len = 0;
    ESPL_TRY(st);
    ESPL_TRY(espl_tokenizer_decode(s->t, s->known, known, true, &s->text));
    return espl_str_status(&s->text);
}

static bool on_token(void *context, const int32_t *ids, int64_t n) {
    stream *s = context;
    if (decode(s, ids, n) == ESPL_OK) show(s, settled(&s->text)); /* a failure is reported at the end */
    return true;
}

static void print_json(const cli_options *o, const espl_corpus *prompt, const int32_t *ids, int64_t n, double seconds,
                       const espl_str *text) {
    espl_str s = {0};
    espl_str_puts(&s, "{\"prompt\": ");
    espl_str_put_json(&s, o->prompt, (int64_t)strlen(o->prompt));
    espl_str_puts(&s, ", \"text\": ");
    espl_str_put_json(&s, text->len ? text->data : "", text->len);
    espl_str_printf(&s, ", \"prompt_tokens\": %lld, \"ids\": [", (long long)prompt->n);
    for (int64_t i = 0; i < n; i++) espl_str_printf(&s, "%s%d", i ? ", " : "", ids[i]);
    espl_str_printf(&s, "], \"seconds\": %.3f}\n", seconds);
    if (espl_str_status(&s) == ESPL_OK) fputs(s.data, stdout);
    espl_str_free(&s);
}

static espl_status finish(stream *s, const cli_options *o, const espl_corpus *prompt, const int32_t *ids, int64_t n,
                          double seconds) {
    ESPL_TRY(decode(s, ids, n));
    if (o->json) {
        print_json(o, prompt, ids, n, seconds, &s->text);
    } else {
        show(s, s->text.len);
        putchar('\n');
    }
    ESPL_INFO("%lld tokens in %.2f s, prompt of %lld included", (long long)(prompt->n + n), seconds,
              (long long)prompt->n);
    return ESPL_OK;
}

static espl_status generate(espl_comm *c, const cli_options *o, espl_model *m, const espl_tokenizer *t,
                            const espl_corpus *prompt) {
    espl_sampling sampling = {.temperature = o->temperature, .top_p = o->top_p};
    stream s = {.t = t, .silent = o->json};
    int32_t *ids;
    int64_t n = 0;
    double start = espl_clock_now();
    ESPL_TRY(espl_comm_agree(c, espl_mem_alloc(&ids, o->max_tokens, sizeof *ids, "generated ids")));
    espl_status st =
        espl_eval_generate(c, m, prompt, o->max_tokens, &sampling, (uint64_t)o->seed, on_token, &s, ids, &n);
    if (st == ESPL_OK && espl_comm_rank(c) == 0) st = finish(&s, o, prompt, ids, n, espl_clock_now() - start);
    espl_mem_free(&ids);
    espl_str_free(&s.text);
    espl_mem_free(&s.known);
    return st;
}

static espl_status with_prompt(espl_comm *c, const cli_options *o, const espl_tokenizer *t, const espl_corpus *prompt) {
    espl_model *m;
    espl_masks mask;
    if (prompt->n == 0) return ESPL_FAIL(ESPL_USAGE, "--prompt: an empty prompt gives the model nothing to continue");
    espl_model_options mo = {
        .context = prompt->n + o->max_tokens, .batch_tokens = o->batch, .slots = 1, .logits_rows = 1};
    if (mo.batch_tokens > mo.context) mo.batch_tokens = mo.context;
    ESPL_TRY(espl_model_open(c, o->model, &mo, &m));
    cli_warn_threads(c);
    espl_status st = cli_mask_apply(c, o, m, &mask);
    if (st == ESPL_OK) st = generate(c, o, m, t, prompt);
    espl_model_close(&m);
    espl_masks_free(&mask);
    return st;
}

espl_status cli_generate(espl_comm *c, const cli_options *o) {
    espl_tokenizer *t;
    espl_corpus prompt = {0};
    bool in = strcmp(o->prompt, "-") == 0;
    espl_status st = cli_open_tokenizer(c, o->model, &t);
    if (st == ESPL_OK)
        st = in ? espl_corpus_read(c, t, "-", &prompt)
                : espl_corpus_encode(c, t, o->prompt, (int64_t)strlen(o->prompt), &prompt);
    if (st == ESPL_OK) st = with_prompt(c, o, t, &prompt);
    espl_corpus_free(&prompt);
    espl_tokenizer_close(&t);
    return st;
}
