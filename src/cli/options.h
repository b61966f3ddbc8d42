/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command-line options, parsed by argp of the C library. Each command has an argp for its own options and attaches the
 * shared ones below as children, so that a shared option has one name, one range and one meaning everywhere.
 *
 * A command's options are a struct that holds a cli_shared. Its parser handles its own keys, from CLI_KEY_FIRST on, and
 * calls cli_share at ARGP_KEY_INIT. Parsers check one option at a time; what depends on several options is checked by
 * the command afterwards.
 */
#ifndef ESPL_CLI_OPTIONS_H
#define ESPL_CLI_OPTIONS_H

#include <argp.h>

#include "espalier/base/log.h"
#include "espalier/comm.h"

enum {
    CLI_KEY_FIRST = 256,       /* argp takes smaller keys for one-letter options */
    CLI_SET_MAX = 64,          /* --set options on one command line */
    CLI_PATH_MAX = 4096,       /* bytes of the path of a model */
    CLI_TOKENS_MAX = 1 << 24,  /* of a window or a context: more than any model has */
    CLI_RANKS_MAX = 1 << 20,   /* to plan for */
    CLI_DEFAULT_WINDOW = 2048, /* the window of published perplexities on WikiText-2 */
    CLI_DEFAULT_BATCH = 1024   /* tokens of a micro-batch */
};
/* Maximum of counts and seeds. They are exact in JSON output, where numbers are doubles. */
#define CLI_COUNT_MAX INT64_C(9000000000000000)

/* Groups of options in the help text, from top to bottom: argp sorts negative numbers last, up to -1, where it also
 * puts --help and --version. A group's header is the option without a name in the argp named here. */
enum {
    CLI_GROUP_MODEL = -6,   /* cli_argp_model; commands without it bring their own header */
    CLI_GROUP_COMMAND = -5, /* -5 to -3: the command's own */
    CLI_GROUP_OUTPUT = -2,  /* cli_argp_output */
    CLI_GROUP_HELP = -1     /* cli_argp_help */
};

/* Values of the shared options. Texts are borrowed from argv. NULL, 0 and false: not given. */
typedef struct cli_shared {
    bool done; /* cli_parse has answered --help, --usage or --version: nothing else to do */
    bool help, usage, version, quiet, verbose, json;
    espl_log_progress_form progress;
    const char *operand;      /* the argument that is not an option; refused unless the command's argp has args_doc */
    const char *second;       /* another one; refused unless args_doc has two words */
    const char *model, *mask; /* model: after cli_parse, its directory */
    char directory[CLI_PATH_MAX]; /* of a model that was given by its hub id */
    int64_t window, batch, replicas;
    const char *set[CLI_SET_MAX]; /* [n_set], in the order given */
    int n_set;
} cli_shared;

/* The children. Each reads and writes a cli_shared. Every command needs cli_argp_help and cli_argp_output. */
extern const struct argp cli_argp_help;     /* --help, --usage, --version; the operand */
extern const struct argp cli_argp_output;   /* --quiet, --verbose, --progress */
extern const struct argp cli_argp_json;     /* --json */
extern const struct argp cli_argp_model;    /* --model */
extern const struct argp cli_argp_mask;     /* --mask */
extern const struct argp cli_argp_window;   /* --window */
extern const struct argp cli_argp_batch;    /* --batch */
extern const struct argp cli_argp_set;      /* --set */
extern const struct argp cli_argp_replicas; /* --replicas */

/* Gives all children of the command's argp their values. Returns 0, for the parser to return. */
error_t cli_share(struct argp_state *state, cli_shared *shared);

/* Read the value of option --NAME. On failure they record ESPL_USAGE with option, value and what was expected, and
 * return EINVAL, for the parser to return. */
error_t cli_take_integer(const char *name, const char *value, int64_t lo, int64_t hi, int64_t *out);
error_t cli_take_real(const char *name, const char *value, double lo, double hi, double *out);
/* For a value that is none of an enumeration: `known` is the list's X(name, label) with X = CLI_LABEL. */
error_t cli_fail_choice(const char *name, const char *value, const char *known);
#define CLI_LABEL(name, label) " \"" label "\""

/* Local. Makes *model, a directory or hub id, that model's directory, which may lie in shared->directory. A status of
 * espl_model_locate. */
espl_status cli_locate_model(cli_shared *shared, const char **model);

/* Collective. Parses argv [argc] into `options`, of which `shared` is a part, sets the level of the log, and answers
 * --help, --usage and --version on rank 0. argv[0] names the command in messages. ESPL_USAGE with a text, or without
 * one where the C library has printed its own message (an unknown option, a missing value); a status of
 * espl_model_locate for --model. */
espl_status cli_parse(espl_comm *c, const struct argp *argp, int argc, char **argv, void *options, cli_shared *shared);

#endif
