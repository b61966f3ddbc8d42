/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared options and the call of argp.
 *
 * argp is made for programs that own their process: by default it prints and exits as soon as it meets an error or
 * --help. Here that would print once per rank, and a rank that leaves before MPI_Finalize makes mpirun kill the others.
 * So it must not exit, only rank 0 may print, and all ranks agree on the outcome. Its automatic --help is off for the
 * same reason: it would go on parsing and complain about what is missing.
 */
#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/base/log.h"
#include "espalier/base/typo.h"
#include "espalier/model/locate.h"
#include "version.h"

/* A key that is a letter makes a one-letter option: -h and -V are the only ones. */
enum { KEY_HELP = 'h', KEY_VERSION = 'V', KEY_USAGE = CLI_KEY_FIRST };
enum {
    KEY_QUIET = KEY_USAGE + 1,
    KEY_VERBOSE,
    KEY_PROGRESS,
    KEY_JSON,
    KEY_MODEL,
    KEY_MASK,
    KEY_WINDOW,
    KEY_BATCH,
    KEY_REPLICAS,
    KEY_SET
};

static const struct argp_option help_options[] = {
    {NULL, 0, NULL, 0, "Help:", CLI_GROUP_HELP},
    {"help", KEY_HELP, NULL, 0, "print this help", CLI_GROUP_HELP},
    {"usage", KEY_USAGE, NULL, 0, "print the options in short", CLI_GROUP_HELP},
    {"version", KEY_VERSION, NULL, 0, "print the versions of the program and of its libraries", CLI_GROUP_HELP},
    {0}};

static const struct argp_option output_options[] = {
    {NULL, 0, NULL, 0, "Output:", CLI_GROUP_OUTPUT},
    {"quiet", KEY_QUIET, NULL, 0, "no progress, no notes", CLI_GROUP_OUTPUT},
    {"verbose", KEY_VERBOSE, NULL, 0, "more detail, and where in the source an error arose", CLI_GROUP_OUTPUT},
    {"progress", KEY_PROGRESS, "FORM", 0,
     "line: one line that is redrawn; log: lines with date and time (default: line on a terminal, also behind mpirun "
     "and srun --pty; behind srun alone it must be asked for)",
     CLI_GROUP_OUTPUT},
    {0}};

/* For commands whose result is one object. `score` prints JSON in any case. */
static const struct argp_option json_options[] = {
    {"json", KEY_JSON, NULL, 0, "print one JSON object", CLI_GROUP_OUTPUT}, {0}};

static const struct argp_option model_options[] = {
    {NULL, 0, NULL, 0, "Model:", CLI_GROUP_MODEL},
    {"model", KEY_MODEL, "DIR", 0,
     "Hugging Face model directory (config.json, tokenizer.json, *.safetensors), or OWNER/NAME[@REVISION] in the hub's "
     "cache (required)",
     CLI_GROUP_MODEL},
    {0}};

/* A pruned model is its source plus a checkpoint: no export is needed to measure it. */
static const struct argp_option mask_options[] = {
    {"mask", KEY_MASK, "CHECKPOINT.h5", 0,
     "prune the model: apply the masks, and updated weights if any, of a run's checkpoint for this model",
     CLI_GROUP_MODEL},
    {0}};

static const struct argp_option window_options[] = {
    {"window", KEY_WINDOW, "TOKENS", 0, "tokens per window (default: 2048; of score: the model's maximum context)",
     CLI_GROUP_MODEL},
    {0}};

/* Sums are added in another order for another number of tokens at once, hence "by rounding". */
static const struct argp_option batch_options[] = {
    {"batch", KEY_BATCH, "TOKENS", 0,
     "tokens per micro-batch (default: 1024); changes speed and memory, and results only by rounding", CLI_GROUP_MODEL},
    {0}};

static const struct argp_option replicas_options[] = {
    {"replicas", KEY_REPLICAS, "N", 0,
     "replicas of the model, which share windows and questions; the ranks of each hold slices of its layers (default: "
     "one on each rank, or as many as there is memory for)",
     CLI_GROUP_MODEL},
    {0}};

static const struct argp_option set_options[] = {{"set", KEY_SET, "SECTION.KEY=VALUE", 0,
                                                  "replace a value of the configuration; may be given several times",
                                                  CLI_GROUP_COMMAND},
                                                 {0}};

/* One parser for all children. argp hands it only the options of the children that a command attached, so it need not
 * know which command it serves. */
static error_t shared_parse(int key, char *value, struct argp_state *state) {
    cli_shared *o = state->input;
    switch (key) {
    case KEY_HELP:
        o->help = true;
        return 0;
    case KEY_USAGE:
        o->usage = true;
        return 0;
    case KEY_VERSION:
        o->version = true;
        return 0;
    case KEY_QUIET:
        o->quiet = true;
        return 0;
    case KEY_VERBOSE:
        o->verbose = true;
        return 0;
    case KEY_PROGRESS:
        o->progress = strcmp(value, "line") == 0  ? ESPL_PROGRESS_LINE
                      : strcmp(value, "log") == 0 ? ESPL_PROGRESS_LOG
                                                  : ESPL_PROGRESS_AUTO;
        return o->progress != ESPL_PROGRESS_AUTO ? 0 : cli_fail_choice("progress", value, " \"line\" \"log\"");
    case KEY_JSON:
        o->json = true;
        return 0;
    case KEY_MODEL:
        o->model = value;
        return 0;
    case KEY_MASK:
        o->mask = value;
        return 0;
    case KEY_WINDOW: /* from 2: a window of one token predicts nothing */
        return cli_take_integer("window", value, 2, CLI_TOKENS_MAX, &o->window);
    case KEY_BATCH:
        return cli_take_integer("batch", value, 1, 1 << 20, &o->batch);
    case KEY_REPLICAS:
        return cli_take_integer("replicas", value, 1, CLI_RANKS_MAX, &o->replicas);
    case KEY_SET:
        if (o->n_set == CLI_SET_MAX) {
            (void)ESPL_FAIL(ESPL_USAGE, "--set may be given %d times", CLI_SET_MAX);
            return EINVAL;
        }
        o->set[o->n_set++] = value;
        return 0;
    case ARGP_KEY_ARG: /* a word that is not an option; only the program itself takes it before its children do */
        if (state->root_argp->args_doc && !o->operand)
            o->operand = value;
        else if (state->root_argp->args_doc && strchr(state->root_argp->args_doc, ' ') && !o->second)
            o->second = value;
        else {
            (void)ESPL_FAIL(ESPL_USAGE, "unexpected argument \"%s\"", value);
            return EINVAL;
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp cli_argp_help = {.options = help_options, .parser = shared_parse};
const struct argp cli_argp_output = {.options = output_options, .parser = shared_parse};
const struct argp cli_argp_json = {.options = json_options, .parser = shared_parse};
const struct argp cli_argp_model = {.options = model_options, .parser = shared_parse};
const struct argp cli_argp_mask = {.options = mask_options, .parser = shared_parse};
const struct argp cli_argp_window = {.options = window_options, .parser = shared_parse};
const struct argp cli_argp_batch = {.options = batch_options, .parser = shared_parse};
const struct argp cli_argp_replicas = {.options = replicas_options, .parser = shared_parse};
const struct argp cli_argp_set = {.options = set_options, .parser = shared_parse};

/* argp asks each child's parser for its own input: without this, state->input would be NULL there. */
error_t cli_share(struct argp_state *state, cli_shared *shared) {
    for (int i = 0; state->root_argp->children[i].argp; i++) state->child_inputs[i] = shared;
    return 0;
}

/* ---------------------------------------------------------------- values
 *
 * The whole word must be a number: "9x" and "" are refused, so that a slip of the finger is not a silent 9 or 0. */

error_t cli_take_integer(const char *name, const char *value, int64_t lo, int64_t hi, int64_t *out) {
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (end == value || *end || errno || v < lo || v > hi) {
        (void)ESPL_FAIL(ESPL_USAGE, "--%s: \"%s\" is not an integer from %" PRId64 " to %" PRId64, name, value, lo, hi);
        return EINVAL;
    }
    *out = v;
    return 0;
}

error_t cli_take_real(const char *name, const char *value, double lo, double hi, double *out) {
    char *end;
    double v = strtod(value, &end);
    if (end == value || *end || !(v >= lo && v <= hi)) { /* NaN is in no range */
        (void)ESPL_FAIL(ESPL_USAGE, "--%s: \"%s\" is not a number from %g to %g", name, value, lo, hi);
        return EINVAL;
    }
    *out = v;
    return 0;
}

error_t cli_fail_choice(const char *name, const char *value, const char *known) {
    char nearest[ESPL_TYPO_BYTES_MAX + 1] = "";
    int best = ESPL_TYPO_NONE;
    for (const char *p = strchr(known, '"'); p; p = strchr(p + 1, '"')) { /* CLI_LABEL puts each name in quotes */
        char label[ESPL_TYPO_BYTES_MAX + 1];
        snprintf(label, sizeof label, "%.*s", (int)strcspn(p + 1, "\""), p + 1);
        if (espl_typo_nearer(value, label, &best)) snprintf(nearest, sizeof nearest, "%s", label);
        p += 1 + strlen(label);
    }
    (void)ESPL_FAIL(ESPL_USAGE, "--%s: \"%s\" is not one of%s%s%s%s", name, value, known,
                    *nearest ? "; did you mean " : "", nearest, *nearest ? "?" : "");
    return EINVAL;
}

/* ------------------------------------------------------------- misspelled
 *
 * The C library would report an unknown option too, but without a suggestion, and as soon as it meets it. */

/* The option of this name in an argp or its children, or the only one that begins so; NULL: none. */
static const struct argp_option *option_find(const struct argp *argp, const char *name, size_t length) {
    const struct argp_option *begins = NULL;
    for (const struct argp_option *o = argp->options; o && (o->name || o->key || o->doc); o++) {
        if (!o->name || (o->flags & OPTION_DOC) || strncmp(o->name, name, length) != 0) continue;
        if (strlen(o->name) == length) return o;
        begins = o; /* an ambiguous beginning is the C library's to report */
    }
    for (const struct argp_child *child = argp->children; child && child->argp; child++) {
        const struct argp_option *o = option_find(child->argp, name, length);
        if (o && strlen(o->name) == length) return o;
        if (o) begins = o;
    }
    return begins;
}

static void option_find_nearest(const struct argp *argp, const char *typed, const char **nearest, int *best) {
    for (const struct argp_option *o = argp->options; o && (o->name || o->key || o->doc); o++)
        if (o->name && !(o->flags & OPTION_DOC) && espl_typo_nearer(typed, o->name, best)) *nearest = o->name;
    for (const struct argp_child *child = argp->children; child && child->argp; child++)
        option_find_nearest(child->argp, typed, nearest, best);
}

/* Finds the first word that looks like an option and is none. Values of options are skipped. ESPL_USAGE. */
static espl_status cli_check_spelling(const struct argp *argp, int argc, char **argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const char *word = argv[i], *name = word + strspn(word, "-"), *nearest = NULL;
        bool letters = word[0] == '-' && word[1] != '-' && strspn(name, "hV") == strlen(name); /* -h, -V and "-" */
        int best = ESPL_TYPO_NONE;
        if (word[0] != '-' || letters) continue;
        char typed[ESPL_TYPO_BYTES_MAX + 2];
        size_t length = strcspn(name, "=");
        const struct argp_option *o = word[1] == '-' ? option_find(argp, name, length) : NULL;
        if (o) {
            i += o->arg && name[length] != '='; /* its value is the next word */
            continue;
        }
        snprintf(typed, sizeof typed, "%.*s", (int)length, name);
        option_find_nearest(argp, typed, &nearest, &best);
        return ESPL_FAIL(ESPL_USAGE, "unknown option \"%.*s\"%s%s%s", (int)(name - word + (ptrdiff_t)length), word,
                         nearest ? ": did you mean --" : "", nearest ? nearest : "", nearest ? "?" : "");
    }
    return ESPL_OK;
}

/* --------------------------------------------------------------- parsing
 *
 * All ranks parse the same words and come to the same result; they agree on it all the same, since mpirun can start
 * ranks with different arguments. */

espl_status cli_locate_model(cli_shared *shared, const char **model) {
    espl_str dir = {0};
    espl_status st = espl_model_locate(*model, &dir);
    if (st == ESPL_OK && dir.len >= CLI_PATH_MAX) st = ESPL_FAIL(ESPL_IO, "%.64s...: path too long", dir.data);
    if (st == ESPL_OK) {
        snprintf(shared->directory, sizeof shared->directory, "%s", dir.data);
        *model = shared->directory;
    }
    espl_str_free(&dir);
    return st;
}

espl_status cli_parse(espl_comm *c, const struct argp *argp, int argc, char **argv, void *options, cli_shared *shared) {
    bool root = espl_comm_rank(c) == 0;
    /* In order: the program's own options end at the command's name, which has options of its own. */
    unsigned flags = ARGP_NO_EXIT | ARGP_NO_HELP | ARGP_IN_ORDER | (root ? 0 : ARGP_NO_ERRS);
    ESPL_TRY(espl_comm_agree(c, cli_check_spelling(argp, argc, argv)));
    espl_base_error_clear(); /* an empty text afterwards: argp has printed the message */
    error_t error = argp_parse(argp, argc, argv, flags, NULL, options);
    espl_status st = error == 0 ? ESPL_OK : ESPL_USAGE;
    if (error == ENOMEM) st = ESPL_FAIL(ESPL_NOMEM, "no memory to parse the command line");
    /* Matters only if rank 0, which prints, was started with other arguments. */
    if (st == ESPL_USAGE && !root && !*espl_base_error_text())
        st = ESPL_FAIL(ESPL_USAGE, "rank %d: wrong options", espl_comm_rank(c));
    ESPL_TRY(espl_comm_agree(c, st));

    espl_log_init(shared->quiet ? ESPL_LOG_QUIET : shared->verbose ? ESPL_LOG_DEBUG : ESPL_LOG_INFO, espl_comm_rank(c));
    espl_log_set_progress(shared->progress);
    shared->done = shared->help || shared->usage || shared->version;
    if (!shared->done && shared->model) ESPL_TRY(espl_comm_agree(c, cli_locate_model(shared, &shared->model)));
    if (!root) return ESPL_OK;
    if (shared->version)
        cli_version_print();
    else if (shared->help)
        argp_help(argp, stdout, ARGP_HELP_SHORT_USAGE | ARGP_HELP_DOC | ARGP_HELP_LONG, argv[0]);
    else if (shared->usage)
        argp_help(argp, stdout, ARGP_HELP_USAGE, argv[0]);
    return ESPL_OK;
}
