/* Private to the run room: the job, and what its files do for each other. "Collective" and "Local" as in the headers.
 */
#ifndef ESPL_RUN_INTERNAL_H
#define ESPL_RUN_INTERNAL_H

#include "espalier/agent/agent.h"
#include "espalier/agent/reply.h"
#include "espalier/checkpoint.h"
#include "espalier/config/config.h"
#include "espalier/eval/corpus.h"
#include "espalier/eval/freebaseqa.h"
#include "espalier/eval/mmlu.h"
#include "espalier/eval/perplexity.h"
#include "espalier/export.h"
#include "espalier/methods/oneshot.h"
#include "espalier/model/masks.h"
#include "espalier/model/shape.h"
#include "espalier/prune/linear.h"
#include "espalier/run.h"
#include "espalier/run/checkpoint_shape.h"
#include "espalier/sensitivity.h"
#include "espalier/tensor/statistics.h"

/* ------------------------------------------------------------------- data */

/* Questions that are asked of the model; the same on every rank. */
typedef struct knowledge {
    bool has_mmlu, has_freebaseqa;
    espl_mmlu mmlu;
    espl_freebaseqa freebaseqa;
} knowledge;

/* Everything read from files. */
typedef struct job_data {
    int32_t *calibration; /* [windows, window], owned */
    int64_t windows;
    espl_corpus validation, report; /* report.n = 0: none */
    knowledge probe, final;
} job_data;

/* -------------------------------------------------------------------- job */

typedef struct job {
    espl_comm *c;
    const espl_config *o;
    bool root; /* rank 0 */
    espl_model_config config;
    espl_model *m;
    espl_tokenizer *t; /* rank 0 */
    job_data data;
    espl_masks masks;
    espl_checkpoint_shape shape;
    espl_calibration calibration; /* of the current masks, if has_profile */
    bool has_profile;
    espl_profile_row *rows;           /* [linears] */
    espl_pattern *patterns;           /* [linears] N:M pattern of a linear's mask, else all zero; on every rank */
    int64_t linears, weights, pruned; /* of the model; pruned as the accepted masks have it */
    int64_t iteration, revision;      /* done so far */
    espl_probe dense, last;
    espl_outcome *history; /* [n_history], rank 0 */
    int64_t n_history, rollbacks;
    espl_str identity;     /* rank 0 */
    espl_agent *agent;     /* rank 0 */
    espl_journal *events;  /* rank 0 */
    const char *end;       /* why the loop ended; NULL while it runs */
    double start, longest; /* clock at the start; longest iteration in seconds */
    double first_sparsity; /* of this process's first iteration, for the ETA */
    int64_t first_iteration;
} job;

/* Rank 0's path inside the run directory, into s. Local. */
espl_status espl_job_path(const job *j, const char *name, espl_str *s);
/* Rank 0 only. The history takes over the outcome and its decision. */
espl_status espl_job_remember(job *j, espl_outcome *o);
/* Collective. Reads config.json, tokenizer, texts and questions. */
espl_status espl_job_inputs(job *j);
void espl_job_free(job *j);
double espl_job_sparsity(const job *j, int64_t pruned);          /* of the linears */
double espl_job_sparsity_of_model(const job *j, int64_t pruned); /* of all parameters */

/* ------------------------------------------------------------- data.c */

/* Collective. Reads all texts and questions of the configuration. */
espl_status espl_data_read(job *j);
void espl_data_free(job_data *d);
/* Local. The options of a model that can do everything the job asks of it, on that many ranks. */
espl_model_options espl_data_model_options(const job *j, int ranks);

/* ------------------------------------------------------------ measure.c */

/* What the report says of one model. */
typedef struct measures {
    espl_perplexity validation, test; /* windows = 0: not measured */
    espl_mmlu_result mmlu;
    espl_freebaseqa_result freebaseqa;
} measures;

/* Collective. Perplexity on the validation windows; the rest of *out becomes 0. */
espl_status espl_measure_perplexity(job *j, espl_probe *out);
/* Collective. Adds what the probe's questions find to *out. */
espl_status espl_measure_knowledge(job *j, espl_probe *out);
/* Collective. All that the report wants of the model as it is masked now. */
espl_status espl_measure_all(job *j, measures *out);
void espl_measures_free(measures *m);

/* Collective. Perplexity of any corpus. */
espl_status espl_measure_corpus(job *j, const espl_corpus *corpus, int64_t window, int64_t limit, espl_perplexity *out);

/* ------------------------------------------------------------ oneshot.c */

/* Collective. The whole of it, as iteration 1; nothing if the job was resumed behind it. */
espl_status espl_run_oneshot(job *j);

/* --------------------------------------------------------------- stop.c */

/* Collective. ESPL_STOPPED on every rank if any was told to stop, the stop file is there, or (`iteration`) the next
 * iteration might end after the time limit. */
espl_status espl_stop_check(job *j, bool iteration);

/* --------------------------------------------------------- iteration.c */

/* Collective. One iteration: profile, ask, prune, judge, roll back or accept. j->end is set when the loop is over. */
espl_status espl_iterate(job *j);

/* ------------------------------------------------------------- store.c */

/* Collective. Writes the checkpoint of the state after j->iteration and deletes old ones. */
espl_status espl_store_write(job *j);
/* Collective. Takes up the newest checkpoint; *found is false if there is none. */
espl_status espl_store_resume(job *j, bool *found);
/* Collective. What model and data are, as JSON with hashes, on rank 0. */
espl_status espl_store_identify(job *j);

/* ------------------------------------------------------------ events.c */

/* Rank 0 only; elsewhere nothing happens. Lines of events.jsonl. */
espl_status espl_event_start(job *j, bool resumed);
espl_status espl_event_profile(job *j);
espl_status espl_event_outcome(job *j, const espl_outcome *o, double seconds);
espl_status espl_event_text(job *j, const char *type, const char *text);
/* Appends a probe as a JSON object. */
void espl_put_probe(espl_str *s, const espl_probe *p);
/* Appends a number that reads back as the same double; null if it is not finite. */
void espl_put_double(espl_str *s, double v);
/* Progress for people. */
void espl_show_start(const job *j, bool resumed);
void espl_show_outcome(const job *j, const espl_outcome *o, double seconds);

/* ---------------------------------------------------------- manifest.c */

/* Collective. manifest.json: versions, hosts, layout, configuration, hashes. */
espl_status espl_manifest_write(job *j);

/* ------------------------------------------------------------ report.c */

/* Collective. Measures dense and pruned model, exports, writes summary.json and timing.json, prints the summary. */
espl_status espl_report(job *j);

#endif
