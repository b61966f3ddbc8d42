/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What rank 0 stores besides masks and updates: the run's profile, history, quality and texts, in the form of the
 * file's tables. Private to the checkpoint room.
 */
#ifndef ESPL_CHECKPOINT_RECORDS_H
#define ESPL_CHECKPOINT_RECORDS_H

#include "espalier/checkpoint.h"

#include <hdf5.h>

enum { RECORD_NAME_BYTES = ESPL_LINEAR_NAME_MAX };

/* X(field, kind): I integer, F float, N name. All members have 8 bytes or RECORD_NAME_BYTES, so that the structs have
 * no padding and equal the rows of the file byte for byte. docs/checkpoint-format.md describes the columns. */
#define PROFILE_FIELDS(X)                                                                                              \
    X(layer, I) X(name, N) X(weights, I) X(pruned, I) X(s, F) X(g, F) X(z_s, F) X(z_g, F) X(z_k, F)
/* The columns of an espl_quality; "probe" in the stored names. */
#define PROBE_COLUMNS(X, when)                                                                                         \
    X(when##perplexity, F)                                                                                             \
    X(when##nll, F)                                                                                                    \
    X(when##nll_stderr, F)                                                                                             \
    X(when##answers, F)                                                                                                \
    X(when##answers_stderr, F)                                                                                         \
    X(when##freebaseqa_right, I)                                                                                       \
    X(when##freebaseqa_total, I)                                                                                       \
    X(when##mmlu_right, I)                                                                                             \
    X(when##mmlu_total, I)                                                                                             \
    X(when##mmlu_stem_right, I)                                                                                        \
    X(when##mmlu_stem_total, I)                                                                                        \
    X(when##mmlu_humanities_right, I)                                                                                  \
    X(when##mmlu_humanities_total, I)                                                                                  \
    X(when##mmlu_social_sciences_right, I)                                                                             \
    X(when##mmlu_social_sciences_total, I)                                                                             \
    X(when##mmlu_other_right, I)                                                                                       \
    X(when##mmlu_other_total, I)
/* X(column, topic): the categories of MMLU. */
#define PROBE_CATEGORIES(X)                                                                                            \
    X(mmlu_stem, STEM) X(mmlu_humanities, HUMANITIES) X(mmlu_social_sciences, SOCIAL) X(mmlu_other, OTHER)
#define PROBE_FIELDS(X) PROBE_COLUMNS(X, )
/* n and m: the pattern n:m that the linear became; both 0: pruned by step. */
#define ITEM_FIELDS(X) X(iteration, I) X(linear, I) X(step, F) X(n, I) X(m, I)
#define OUTCOME_FIELDS(X)                                                                                              \
    X(iteration, I)                                                                                                    \
    X(accepted, I)                                                                                                     \
    X(stop, I)                                                                                                         \
    X(items, I)                                                                                                        \
    X(sparsity_before, F)                                                                                              \
    X(sparsity_after, F)                                                                                               \
    X(power, F)                                                                                                        \
    X(expected_text, F)                                                                                                \
    X(expected_answers, F)                                                                                             \
    PROBE_COLUMNS(X, before_)                                                                                          \
    PROBE_COLUMNS(X, after_)                                                                                           \
    X(reason_at, I)                                                                                                    \
    X(reason_bytes, I)                                                                                                 \
    X(reflection_at, I)                                                                                                \
    X(reflection_bytes, I)

#define MEMBER_I(field) int64_t field;
#define MEMBER_F(field) double field;
#define MEMBER_N(field) char field[RECORD_NAME_BYTES];
#define MEMBER(field, kind) MEMBER_##kind(field)
typedef struct profile_record {
    PROFILE_FIELDS(MEMBER)
} profile_record;
typedef struct probe_record {
    PROBE_FIELDS(MEMBER)
} probe_record;
typedef struct item_record {
    ITEM_FIELDS(MEMBER)
} item_record;
typedef struct outcome_record {
    OUTCOME_FIELDS(MEMBER)
} outcome_record;

/* All members are owned: espl_records_free. */
typedef struct checkpoint_records {
    profile_record *profile; /* [n_profile]: one per linear, or none */
    outcome_record *history; /* [n_history] */
    item_record *items;      /* [n_items], in the order of history */
    int64_t n_profile, n_history, n_items;
    espl_str history_text; /* reasons and reflections, end to end */
    probe_record dense, last;
    espl_str agent, config, identity, milestones;
} checkpoint_records;

/* A table of the file, bound to a member of checkpoint_records. */
typedef struct record_table {
    const char *path, *description, *axes;
    hid_t type; /* owned by the list */
    int rank;
    void **rows; /* rank 1: where the rows are, and how many */
    int64_t *n;
    void *row; /* rank 0: where the only row is */
    size_t row_bytes;
} record_table;
enum { RECORD_TABLES = 5 };
/* Binds the tables to r. Close with espl_records_close_tables after ESPL_OK. ESPL_INTERNAL. */
espl_status espl_records_tables(checkpoint_records *r, record_table tables[RECORD_TABLES]);
void espl_records_close_tables(record_table tables[RECORD_TABLES]);

/* A text of the file, bound to a member of checkpoint_records. */
typedef struct record_text {
    const char *path, *description;
    espl_str *s;
} record_text;
enum { RECORD_TEXTS = 5 };
void espl_records_texts(checkpoint_records *r, record_text texts[RECORD_TEXTS]);

/* Converts the run's data; *r is overwritten. ESPL_NOMEM; free *r also then. */
espl_status espl_records_pack(const espl_checkpoint *k, const espl_checkpoint_shape *shape, checkpoint_records *r);
/* Checks every value as hostile input and converts the records to members of *k, which are owned there: free with
 * espl_checkpoint_free, also after a failure. ESPL_FORMAT naming dataset, row, found and expected; ESPL_CONFIG for a
 * profile of other widths. */
espl_status espl_records_unpack(const checkpoint_records *r, const espl_checkpoint_shape *shape, int64_t iteration,
                                const char *path, espl_checkpoint *k);
void espl_records_free(checkpoint_records *r);

#endif
