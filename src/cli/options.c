/* The option table: it drives parsing, validation and --help. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "espl_revision.h"

#include "espalier/checkpoint.h"
#include "espalier/sweep.h"

enum { EVAL = 1, SCORE = 2, TOKENIZE = 4, GENERATE = 8, INSPECT = 16, PRUNE = 32, SWEEP = 64, ALL = 127 };

const cli_command cli_commands[] = {
    {"prune", "CONFIG.json", "the pruning job: profile, ask the agent, prune, judge, roll back or keep", cli_prune,
     PRUNE},
    {"sweep", "SWEEP.json", "a grid of pruning runs: one after another, or as an array of Slurm jobs", cli_sweep,
     SWEEP},
    {"eval", NULL, "perplexity of a text (WikiText-2 convention), MMLU, FreebaseQA, multiple choice", cli_eval, EVAL},
    {"score", NULL, "log-probability of every token of standard input, one JSON line each", cli_score, SCORE},
    {"tokenize", NULL, "standard input to token ids, one per line, or back", cli_tokenize, TOKENIZE},
    {"generate", NULL, "continue a prompt", cli_generate, GENERATE},
    {"inspect", "MODEL_DIR", "architecture, parameters, layer-to-rank map and memory", cli_inspect, INSPECT},
    {NULL, NULL, NULL, NULL, 0}};

typedef enum option_type { FLAG, TEXT, LIST, INTEGER, REAL } option_type;

static const struct option {
    const char *name;
    option_type type;
    size_t at; /* offset in cli_options */
    unsigned commands, required;
    double lo, hi;
    const char *metavar, *help;
} options[] = {
#define AT(field) offsetof(cli_options, field)
    {"set", LIST, AT(set), PRUNE | SWEEP, 0, 0, 0, "SECTION.KEY=VALUE",
     "replace a value of the configuration; may be given several times"},
    {"resume", FLAG, AT(resume), PRUNE, 0, 0, 0, NULL,
     "continue from the newest complete checkpoint of run.dir; without one, start anew"},
    {"dry-run", FLAG, AT(dry_run), PRUNE, 0, 0, 0, NULL,
     "check everything, print layer-to-rank map, memory and time per iteration, and end"},
    {"ranks", INTEGER, AT(plan_ranks), PRUNE, 0, 1, 1 << 20, "N", "with --dry-run: for N ranks (those running)"},
    {"list", FLAG, AT(list), SWEEP, 0, 0, 0, NULL, "print the runs, numbered, and how far they are, and end"},
    {"only", INTEGER, AT(only), SWEEP, 0, 1, ESPL_SWEEP_MAX, "N", "only run N, as of --list"},
    {"slurm", FLAG, AT(slurm), SWEEP, 0, 0, 0, NULL,
     "print the sbatch command that submits what is still to be done, and end"},
    {"print-config", FLAG, AT(print_config), PRUNE | SWEEP, 0, 0, 0, NULL,
     "print the effective configuration with every option's meaning, and end (prune without CONFIG.json: the "
     "defaults; sweep: of run --only)"},
    {"model", TEXT, AT(model), EVAL | SCORE | TOKENIZE | GENERATE, EVAL | SCORE | TOKENIZE | GENERATE, 0, 0, "DIR",
     "Hugging Face model directory (config.json, tokenizer.json, *.safetensors)"},
    {"mask", TEXT, AT(mask), EVAL | SCORE | GENERATE, 0, 0, 0, "CHECKPOINT.h5",
     "as pruned: with the masks, and updated weights, of a run's checkpoint for this model"},
    {"text", TEXT, AT(text), EVAL, 0, 0, 0, "FILE", "text whose perplexity is measured; - is standard input"},
    {"mmlu", TEXT, AT(mmlu), EVAL, 0, 0, 0, "DIR", "MMLU's directory: dev/, val/ and test/ with a CSV per subject"},
    {"mmlu-split", TEXT, AT(mmlu_split), EVAL, 0, 0, 0, "NAME", "test, val or dev (test)"},
    {"mmlu-style", TEXT, AT(mmlu_style), EVAL, 0, 0, 0, "NAME", "prompts as of hendrycks or lm-eval (hendrycks)"},
    {"freebaseqa", TEXT, AT(freebaseqa), EVAL, 0, 0, 0, "FILE", "FreebaseQA's JSON (FreebaseQA-eval.json)"},
    {"freebaseqa-mode", TEXT, AT(freebaseqa_mode), EVAL, 0, 0, 0, "NAME", "standard or llm-kick (standard)"},
    {"freebaseqa-examples", TEXT, AT(freebaseqa_examples), EVAL, 0, 0, 0, "FILE",
     "where FreebaseQA's examples come from (the file's own first questions, which are then not asked)"},
    {"choices", TEXT, AT(choices), EVAL, 0, 0, 0, "FILE", "multiple choice by likelihood, JSON Lines"},
    {"shots", INTEGER, AT(shots), EVAL, 0, 0, 1000, "K", "examples before a question, MMLU and FreebaseQA (5)"},
    {"context", INTEGER, AT(context), EVAL, 0, 16, 1 << 24, "TOKENS",
     "longest prompt of a benchmark (the model's longest context)"},
    {"questions", INTEGER, AT(questions), EVAL, 0, 1, 9e15, "N",
     "ask a sample of N questions of each benchmark, drawn by --seed"},
    {"details", TEXT, AT(details), EVAL, 0, 0, 0, "FILE", "write one JSON line per question"},
    {"window", INTEGER, AT(window), EVAL | SCORE | INSPECT, 0, 2, 1 << 24, "TOKENS",
     "tokens per window (eval, inspect: 2048; score: the model's longest context)"},
    {"limit", INTEGER, AT(limit), EVAL, 0, 1, 9e15, "N",
     "evaluate only the first N tokens of --text; without --text the same as --questions"},
    {"prompt", TEXT, AT(prompt), GENERATE, GENERATE, 0, 0, "TEXT", "text to continue; - reads standard input"},
    {"max-tokens", INTEGER, AT(max_tokens), GENERATE, 0, 1, 1 << 24, "N", "tokens to generate at most (128)"},
    {"temperature", REAL, AT(temperature), GENERATE, 0, 0, 100, "T", "sampling temperature; 0 is greedy (0)"},
    {"top-p", REAL, AT(top_p), GENERATE, 0, 0, 1, "P",
     "sample among the most likely tokens of total probability P (1)"},
    {"seed", INTEGER, AT(seed), GENERATE | EVAL, 0, 0, 9e15, "N", "seed of the sampling (0)"},
    {"decode", FLAG, AT(decode), TOKENIZE, 0, 0, 0, NULL, "ids to text instead"},
    {"no-special", FLAG, AT(no_special), TOKENIZE, 0, 0, 0, NULL,
     "add no special tokens when encoding, leave them out when decoding"},
    {"ranks", INTEGER, AT(ranks), INSPECT, 0, 1, 1 << 20, "N", "show the layer-to-rank map for N ranks (1)"},
    {"batch", INTEGER, AT(batch), EVAL | SCORE | GENERATE | INSPECT, 0, 1, 1 << 20, "TOKENS",
     "tokens per micro-batch (1024); changes speed and memory, and results only by rounding"},
    {"json", FLAG, AT(json), EVAL | GENERATE | INSPECT, 0, 0, 0, NULL, "print one JSON object"},
    {"quiet", FLAG, AT(quiet), ALL, 0, 0, 0, NULL, "no progress, no notes"},
    {"verbose", FLAG, AT(verbose), ALL, 0, 0, 0, NULL, "more detail, and where an error arose"},
    {"help", FLAG, AT(help), ALL, 0, 0, 0, NULL, "this help"},
#undef AT
};

enum { N_OPTIONS = sizeof options / sizeof *options };

static const struct option *find_option(const char *name, size_t len, unsigned command) {
    for (int i = 0; i < N_OPTIONS; i++)
        if ((options[i].commands & command) && strlen(options[i].name) == len &&
            strncmp(options[i].name, name, len) == 0)
            return &options[i];
    return NULL;
}

static espl_status bad_value(const struct option *opt, const char *value) {
    return ESPL_FAIL(ESPL_USAGE, "--%s: \"%s\" is not a%s from %.15g to %.15g", opt->name, value,
                     opt->type == INTEGER ? "n integer" : " number", opt->lo, opt->hi);
}

static espl_status set_integer(const struct option *opt, const char *value, void *field) {
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (end == value || *end || errno || (double)v < opt->lo || (double)v > opt->hi) return bad_value(opt, value);
    *(int64_t *)field = v;
    return ESPL_OK;
}

static espl_status set_real(const struct option *opt, const char *value, void *field) {
    char *end;
    double v = strtod(value, &end);
    if (end == value || *end || !(v >= opt->lo && v <= opt->hi)) return bad_value(opt, value);
    *(double *)field = v;
    return ESPL_OK;
}

static espl_status add_to_list(const struct option *opt, const char *value, cli_list *list) {
    int most = (int)(sizeof list->values / sizeof *list->values);
    if (list->n == most) return ESPL_FAIL(ESPL_USAGE, "--%s may be given %d times", opt->name, most);
    list->values[list->n++] = value;
    return ESPL_OK;
}

static espl_status set_option(const struct option *opt, const char *value, cli_options *o) {
    void *field = (char *)o + opt->at;
    switch (opt->type) {
    case FLAG:
        *(bool *)field = true;
        return ESPL_OK;
    case TEXT:
        *(const char **)field = value;
        return ESPL_OK;
    case LIST:
        return add_to_list(opt, value, field);
    case INTEGER:
        return set_integer(opt, value, field);
    case REAL:
        return set_real(opt, value, field);
    }
    return ESPL_OK;
}

static espl_status find_command(const char *name, const cli_command **command) {
    for (const cli_command *k = cli_commands; k->name; k++)
        if (strcmp(k->name, name) == 0) return *command = k, ESPL_OK;
    return ESPL_FAIL(ESPL_USAGE, "unknown command \"%s\"", name);
}

/* argv[*i] begins with "--": takes it, and its value, which may be the next word or follow an '='. */
static espl_status take_option(int argc, char **argv, int *i, const cli_command *command, cli_options *o) {
    const char *name = argv[*i] + 2, *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const struct option *opt = find_option(name, len, command->bit);
    if (!opt) return ESPL_FAIL(ESPL_USAGE, "%s: unknown option --%.*s", command->name, (int)len, name);
    const char *value = equals ? equals + 1 : NULL;
    if (opt->type == FLAG && value) return ESPL_FAIL(ESPL_USAGE, "--%s takes no value", opt->name);
    if (opt->type != FLAG && !value) {
        if (*i + 1 >= argc) return ESPL_FAIL(ESPL_USAGE, "--%s needs a value", opt->name);
        value = argv[++*i];
    }
    return set_option(opt, value, o);
}

static espl_status take_word(char *word, const cli_command *command, cli_options *o) {
    if (!command->operand || o->positional)
        return ESPL_FAIL(ESPL_USAGE, "%s: unexpected argument \"%s\"", command->name, word);
    o->positional = word;
    return ESPL_OK;
}

static espl_status check_required(const cli_command *command, const cli_options *o) {
    if (command->operand && !o->positional && !o->print_config)
        return ESPL_FAIL(ESPL_USAGE, "%s: %s is missing", command->name, command->operand);
    for (int i = 0; i < N_OPTIONS; i++)
        if ((options[i].required & command->bit) && !*(char *const *)((const char *)o + options[i].at))
            return ESPL_FAIL(ESPL_USAGE, "%s: --%s is required", command->name, options[i].name);
    return ESPL_OK;
}

espl_status cli_parse(int argc, char **argv, const cli_command **command, cli_options *o, bool *version) {
    *o = (cli_options){.max_tokens = 128, .top_p = 1, .ranks = 1, .batch = 1024, .shots = 5};
    *command = NULL;
    if (argc < 2) return ESPL_FAIL(ESPL_USAGE, "a command is missing");
    if (strcmp(argv[1], "--version") == 0) return *version = true, ESPL_OK;
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) return o->help = true, ESPL_OK;
    ESPL_TRY(find_command(argv[1], command));
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "-h") == 0)
            o->help = true;
        else if (strncmp(argv[i], "--", 2) == 0)
            ESPL_TRY(take_option(argc, argv, &i, *command, o));
        else
            ESPL_TRY(take_word(argv[i], *command, o));
    }
    return o->help ? ESPL_OK : check_required(*command, o);
}

/* ------------------------------------------------------------------ help */

static void print_options(unsigned commands) {
    for (int i = 0; i < N_OPTIONS; i++) {
        char left[64];
        if (!(options[i].commands & commands)) continue;
        snprintf(left, sizeof left, "--%s %s", options[i].name, options[i].metavar ? options[i].metavar : "");
        printf("  %-20s %s%s\n", left, options[i].help, options[i].required & commands ? " [required]" : "");
    }
}

void cli_print_help(const cli_command *command) {
    if (command) {
        printf("Usage: espalier %s%s%s [options]\n\n%s\n\nOptions:\n", command->name, command->operand ? " " : "",
               command->operand ? command->operand : "", command->summary);
        print_options(command->bit);
        return;
    }
    puts("Usage: [mpirun -n N] espalier COMMAND [options]\n\n"
         "espalier compresses large language models by agent-guided adaptive pruning.\n\nCommands:");
    for (const cli_command *k = cli_commands; k->name; k++) printf("  %-10s %s\n", k->name, k->summary);
    puts("\n'espalier COMMAND --help' lists a command's options; 'espalier --version' the versions.\n"
         "Threads per rank: OMP_NUM_THREADS. With one rank on several cores: mpirun --bind-to none.\n\n"
         "Exit codes: 0 done, 1 run failed, 2 usage or configuration, 69 agent unreachable, 74 input/output,\n"
         "75 stopped early with a valid checkpoint.");
}

void cli_print_version(void) {
    printf("espalier %s (%s)\nMPI: %s\nHDF5: %s (parallel)\nOpenBLAS: %s\n", ESPL_VERSION, ESPL_REVISION,
           espl_comm_library(), espl_checkpoint_library(), espl_tensor_blas_init());
}
