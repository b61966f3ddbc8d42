/* SPDX-License-Identifier: Apache-2.0 */
/* espalier tokenize: standard input as token ids, one per line, or ids as text. Rank 0 does all of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "espalier/base/file.h"
#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include "espalier/base/str.h"
#include "espalier/tokenizer.h"
#include "options.h"

enum { INPUT_BYTES_MAX = INT32_MAX }; /* bound of the memory for a text and its ids */

typedef struct tokenize_options {
    cli_shared shared;
    bool decode, no_special;
} tokenize_options;

enum { KEY_DECODE = CLI_KEY_FIRST, KEY_NO_SPECIAL };

static const struct argp_option tokenize_argp_options[] = {
    {NULL, 0, NULL, 0, "Tokens:", CLI_GROUP_COMMAND},
    {"decode", KEY_DECODE, NULL, 0, "turn ids into text instead", CLI_GROUP_COMMAND},
    {"no-special", KEY_NO_SPECIAL, NULL, 0, "encoding: add no special tokens; decoding: leave them out",
     CLI_GROUP_COMMAND},
    {0}};

static error_t tokenize_parse(int key, char *value, struct argp_state *state) {
    tokenize_options *o = state->input;
    (void)value;
    switch (key) {
    case ARGP_KEY_INIT:
        return cli_share(state, &o->shared);
    case KEY_DECODE:
        o->decode = true;
        return 0;
    case KEY_NO_SPECIAL:
        o->no_special = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child tokenize_children[] = {
    {&cli_argp_model, 0, NULL, 0}, {&cli_argp_output, 0, NULL, 0}, {&cli_argp_help, 0, NULL, 0}, {0}};
const struct argp cli_tokenize_argp = {.options = tokenize_argp_options,
                                       .parser = tokenize_parse,
                                       .doc = "Turns standard input into token ids, one per line, or back.",
                                       .children = tokenize_children};

/* Reads the ids that white space separates, as the encoder prints them. */
static espl_status tokens_parse_ids(const char *text, espl_ids *ids) {
    static const char blanks[] = " \n\t\r";
    enum { QUOTED_MAX = 20 }; /* bytes of a wrong line in the message */
    for (const char *p = text + strspn(text, blanks); *p; p += strspn(p, blanks)) {
        char *end;
        errno = 0;
        long id = strtol(p, &end, 10);
        if (end == p || errno || id < 0 || id > INT32_MAX)
            return ESPL_FAIL(ESPL_FORMAT, "standard input: expected token ids, found \"%.*s\"",
                             (int)espl_min_i64((int64_t)strcspn(p, "\n"), QUOTED_MAX), p);
        if (ids->len == ids->cap) {
            int64_t cap = ids->cap ? ids->cap * 2 : 256;
            ESPL_TRY(espl_mem_resize(&ids->data, cap, sizeof *ids->data, "token ids"));
            ids->cap = cap;
        }
        ids->data[ids->len++] = (int32_t)id;
        p = end;
    }
    return ESPL_OK;
}

/* Rank 0 only: mpirun gives standard input to it alone. */
static espl_status tokenize(const tokenize_options *o) {
    espl_tokenizer *t = NULL;
    char *input = NULL;
    int64_t len;
    espl_ids ids = {0};
    espl_str text = {0};
    espl_status st;
    ESPL_CHECK(st, done, espl_tokenizer_open(o->shared.model, &t));
    ESPL_CHECK(st, done, espl_file_read("-", INPUT_BYTES_MAX, &input, &len));
    if (o->decode) {
        ESPL_CHECK(st, done, tokens_parse_ids(input, &ids));
        ESPL_CHECK(st, done, espl_tokenizer_decode(t, ids.data, ids.len, o->no_special, &text));
        ESPL_CHECK(st, done, espl_str_status(&text));
        if (text.len > 0) fwrite(text.data, 1, (size_t)text.len, stdout); /* no newline: the bytes of the text */
    } else {
        ESPL_CHECK(st, done, espl_tokenizer_encode(t, input, len, !o->no_special, &ids));
        for (int64_t i = 0; i < ids.len; i++) printf("%d\n", ids.data[i]);
    }
done:
    espl_str_free(&text);
    espl_ids_free(&ids);
    espl_mem_free(&input);
    espl_tokenizer_close(&t);
    return st;
}

espl_status cli_tokenize(espl_comm *c, int argc, char **argv) {
    tokenize_options o = {0};
    ESPL_TRY(cli_parse(c, &cli_tokenize_argp, argc, argv, &o, &o.shared));
    if (o.shared.done) return ESPL_OK;
    if (!o.shared.model) return ESPL_FAIL(ESPL_USAGE, "tokenize: --model is required");
    return espl_comm_agree(c, espl_comm_rank(c) == 0 ? tokenize(&o) : ESPL_OK);
}
