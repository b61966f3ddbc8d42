#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static espl_status encode(const espl_tokenizer *t, const cli_options *o, const char *text, int64_t len) {
    espl_ids ids = {0};
    espl_status st = espl_tokenizer_encode(t, text, len, !o->no_special, &ids);
    for (int64_t i = 0; i < ids.len && st == ESPL_OK; i++) printf("%d\n", ids.data[i]);
    espl_ids_free(&ids);
    return st;
}

/* White-space separated ids. *at moves behind the id; *found is false at the end of the text. */
static espl_status next_id(const char **at, int32_t *id, bool *found) {
    const char *p = *at;
    while (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r') p++;
    *found = *p != '\0';
    if (!*found) return ESPL_OK;
    char *end;
    errno = 0;
    long v = strtol(p, &end, 10);
    if (end == p || errno || v < 0 || v > INT32_MAX)
        return ESPL_FAIL(ESPL_FORMAT, "standard input: expected token ids, found \"%.*s\"",
                         (int)(strcspn(p, "\n") < 20 ? strcspn(p, "\n") : 20), p);
    *id = (int32_t)v;
    *at = end;
    return ESPL_OK;
}

static espl_status read_ids(const char *text, espl_ids *ids) {
    for (bool found = true;;) {
        int32_t id = 0;
        ESPL_TRY(next_id(&text, &id, &found));
        if (!found) return ESPL_OK;
        if (ids->len == ids->cap) {
            int64_t cap = ids->cap ? ids->cap * 2 : 256;
            ESPL_TRY(espl_mem_resize(&ids->data, cap, sizeof *ids->data, "token ids"));
            ids->cap = cap;
        }
        ids->data[ids->len++] = id;
    }
}

static espl_status decode(const espl_tokenizer *t, const cli_options *o, const char *text) {
    espl_ids ids = {0};
    espl_str out = {0};
    espl_status st = read_ids(text, &ids);
    if (st == ESPL_OK) st = espl_tokenizer_decode(t, ids.data, ids.len, o->no_special, &out);
    if (st == ESPL_OK) st = espl_str_status(&out);
    if (st == ESPL_OK && out.len) fwrite(out.data, 1, (size_t)out.len, stdout);
    espl_ids_free(&ids);
    espl_str_free(&out);
    return st;
}

static espl_status convert(const cli_options *o) {
    espl_tokenizer *t;
    char *text;
    int64_t len;
    ESPL_TRY(espl_tokenizer_open(o->model, &t));
    espl_status st = espl_file_read("-", INT32_MAX, &text, &len);
    if (st == ESPL_OK) st = o->decode ? decode(t, o, text) : encode(t, o, text, len);
    espl_mem_free(&text);
    espl_tokenizer_close(&t);
    return st;
}

espl_status cli_tokenize(espl_comm *c, const cli_options *o) {
    return espl_comm_agree(c, espl_comm_rank(c) == 0 ? convert(o) : ESPL_OK);
}
