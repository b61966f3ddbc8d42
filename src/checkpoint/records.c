/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file's tables as C arrays, and the run's data packed into them. A column is declared once, in the field lists of
 * records.h: struct member, HDF5 type and offset follow from it. Descriptions are stored in the file: changing one
 * changes the bytes of every checkpoint.
 */
#include "records.h"

#include "h5.h"

#include <string.h>

/* A column: a member of a record type, under its own name in the file. */
typedef struct record_field {
    const char *name;
    size_t offset;
    char kind; /* 'I', 'F' or 'N', see records.h */
} record_field;

#define FIELD_OF(record, member, letter) {#member, offsetof(record, member), #letter[0]},
#define PROFILE_FIELD(member, letter) FIELD_OF(profile_record, member, letter)
#define PROBE_FIELD(member, letter) FIELD_OF(probe_record, member, letter)
#define ITEM_FIELD(member, letter) FIELD_OF(item_record, member, letter)
#define OUTCOME_FIELD(member, letter) FIELD_OF(outcome_record, member, letter)
static const record_field profile_fields[] = {PROFILE_FIELDS(PROFILE_FIELD){0}};
static const record_field probe_fields[] = {PROBE_FIELDS(PROBE_FIELD){0}};
static const record_field item_fields[] = {ITEM_FIELDS(ITEM_FIELD){0}};
static const record_field outcome_fields[] = {OUTCOME_FIELDS(OUTCOME_FIELD){0}};

/* The HDF5 compound of a record, little-endian on every machine. < 0 on failure. */
static hid_t records_make_type(const record_field *f, size_t bytes) {
    hid_t type = H5Tcreate(H5T_COMPOUND, bytes), name = espl_h5_text_type(RECORD_NAME_BYTES);
    bool ok = type >= 0 && name >= 0;
    for (; ok && f->name; f++) {
        hid_t member = f->kind == 'I' ? H5T_STD_I64LE : f->kind == 'F' ? H5T_IEEE_F64LE : name;
        ok = H5Tinsert(type, f->name, f->offset, member) >= 0;
    }
    H5_CLOSE(T, name);
    if (ok) return type;
    H5_CLOSE(T, type);
    return -1;
}

espl_status espl_records_tables(checkpoint_records *r, record_table tables[RECORD_TABLES]) {
    static const char probe[] =
        "measures of a whole model: perplexity on the validation windows, its logarithm and that "
        "one's standard error, loss of the answers to the judge's questions and its standard error, questions "
        "answered; "
        "NaN and 0 where a probe is off";
    const record_field *fields[RECORD_TABLES] = {profile_fields, outcome_fields, item_fields, probe_fields,
                                                 probe_fields};
    const record_table list[RECORD_TABLES] = {
        {"/profile", "sensitivity profile of all linears behind the newest decision, or no rows", "[layers * 7]", -1, 1,
         (void **)&r->profile, &r->n_profile, NULL, sizeof *r->profile},
        {"/history",
         "one row per iteration, oldest first: decision, outcome, measures before and after; texts are bytes "
         "of /history_text",
         "[iterations]", -1, 1, (void **)&r->history, &r->n_history, NULL, sizeof *r->history},
        {"/history_items",
         "what the decisions asked for: sparsity to add to a linear (layer * 7 + kind); n > 0: by keeping n of "
         "every m inputs",
         "[items]", -1, 1, (void **)&r->items, &r->n_items, NULL, sizeof *r->items},
        {"/probes/dense", probe, NULL, -1, 0, NULL, NULL, &r->dense, sizeof r->dense},
        {"/probes/last", probe, NULL, -1, 0, NULL, NULL, &r->last, sizeof r->last}};
    memcpy(tables, list, sizeof list);
    bool ok = true;
    for (int i = 0; i < RECORD_TABLES; i++) {
        tables[i].type = records_make_type(fields[i], tables[i].row_bytes);
        ok = ok && tables[i].type >= 0;
    }
    if (ok) return ESPL_OK;
    espl_records_close_tables(tables);
    return ESPL_FAIL(ESPL_INTERNAL, "HDF5 refuses the checkpoint's table types");
}

void espl_records_close_tables(record_table tables[RECORD_TABLES]) {
    for (int i = 0; i < RECORD_TABLES; i++) H5_CLOSE(T, tables[i].type);
}

void espl_records_texts(checkpoint_records *r, record_text texts[RECORD_TEXTS]) {
    const record_text list[RECORD_TEXTS] = {
        {"/history_text", "reasons and reflections of the decisions, end to end", &r->history_text},
        {"/agent", "what the agent remembers, JSON", &r->agent},
        {"/config", "effective configuration of the run, JSON", &r->config},
        {"/identity", "which model and data the run is about, JSON", &r->identity},
        {"/milestones", "what was measured at sparsities on the way, JSON", &r->milestones}};
    memcpy(texts, list, sizeof list);
}

void espl_records_free(checkpoint_records *r) {
    espl_mem_free(&r->profile);
    espl_mem_free(&r->history);
    espl_mem_free(&r->items);
    espl_str_free(&r->history_text);
    espl_str_free(&r->agent);
    espl_str_free(&r->config);
    espl_str_free(&r->identity);
    espl_str_free(&r->milestones);
    *r = (checkpoint_records){0};
}

/* -------------------------------------------------------------- packing */

/* NaN, for measures that are switched off, is stored as it is. */
static probe_record records_pack_probe(const espl_quality *p) {
    probe_record x = {.perplexity = p->perplexity,
                      .nll = p->nll,
                      .nll_stderr = p->nll_stderr,
                      .answers = p->answers,
                      .answers_stderr = p->answers_stderr,
                      .freebaseqa_right = p->freebaseqa_right,
                      .freebaseqa_total = p->freebaseqa_total,
                      .mmlu_right = p->mmlu_right,
                      .mmlu_total = p->mmlu_total};
#define PACK_CATEGORY(column, topic)                                                                                   \
    x.column##_right = p->mmlu_category_right[ESPL_TOPIC_##topic - ESPL_TOPIC_STEM],                                   \
    x.column##_total = p->mmlu_category_total[ESPL_TOPIC_##topic - ESPL_TOPIC_STEM];
    PROBE_CATEGORIES(PACK_CATEGORY)
#undef PACK_CATEGORY
    return x;
}

/* Texts of any length do not fit into fixed rows: they are appended to `texts`, and the row holds their place. */
static outcome_record records_pack_outcome(const espl_outcome *o, espl_str *texts) {
    const espl_decision *d = &o->decision;
    outcome_record x = {.iteration = o->iteration,
                        .accepted = o->accepted,
                        .stop = d->stop,
                        .items = d->n,
                        .sparsity_before = o->sparsity_before,
                        .sparsity_after = o->sparsity_after,
                        .power = d->power,
                        .expected_text = d->expected_text,
                        .expected_answers = d->expected_answers,
                        .reason_at = texts->len};
    /* Column by column, under their names. */
    probe_record before = records_pack_probe(&o->before), after = records_pack_probe(&o->after);
#define PACK_COLUMN(member, kind) x.before_##member = before.member, x.after_##member = after.member;
    PROBE_FIELDS(PACK_COLUMN)
#undef PACK_COLUMN
    espl_str_puts(texts, d->reason ? d->reason : "");
    x.reason_bytes = texts->len - x.reason_at;
    x.reflection_at = texts->len;
    espl_str_puts(texts, d->reflection ? d->reflection : "");
    x.reflection_bytes = texts->len - x.reflection_at;
    return x;
}

espl_status espl_records_pack(const espl_checkpoint *k, const espl_checkpoint_shape *shape, checkpoint_records *r) {
    *r = (checkpoint_records){.dense = records_pack_probe(&k->dense), .last = records_pack_probe(&k->last)};
    /* One-shot methods and the dense model have no profile; the table then has no rows. */
    r->n_profile = k->rows ? espl_layout_linears(espl_checkpoint_layout(shape)) : 0;
    ESPL_TRY(espl_mem_alloc(&r->profile, r->n_profile, sizeof *r->profile, "profile of a checkpoint"));
    for (int64_t i = 0; k->rows && i < r->n_profile; i++) {
        const espl_profile_row *p = &k->rows[i];
        r->profile[i] = (profile_record){.layer = espl_linear_layer(espl_checkpoint_layout(shape), i),
                                         .weights = p->weights,
                                         .pruned = p->pruned,
                                         .s = p->s,
                                         .g = p->g,
                                         .z_s = p->z_s,
                                         .z_g = p->z_g,
                                         .z_k = p->z_k};
        espl_linear_name(espl_checkpoint_layout(shape), i, r->profile[i].name);
    }
    r->n_history = k->n_history;
    for (int64_t i = 0; i < k->n_history; i++) r->n_items += k->history[i].decision.n;
    ESPL_TRY(espl_mem_alloc(&r->history, r->n_history, sizeof *r->history, "history of a checkpoint"));
    ESPL_TRY(espl_mem_alloc(&r->items, r->n_items, sizeof *r->items, "history of a checkpoint"));
    item_record *to = r->items; /* of all decisions, end to end; each row of the history says how many are its own */
    for (int64_t i = 0; i < k->n_history; i++) {
        const espl_outcome *o = &k->history[i];
        r->history[i] = records_pack_outcome(o, &r->history_text);
        for (int64_t j = 0; j < o->decision.n; j++) {
            const espl_decision_item *item = &o->decision.items[j];
            *to++ = (item_record){.iteration = o->iteration,
                                  .linear = item->linear,
                                  .step = item->step,
                                  .n = item->pattern.n,
                                  .m = item->pattern.m};
        }
    }
    espl_str_put(&r->agent, k->agent.data, k->agent.len);
    espl_str_put(&r->config, k->config.data, k->config.len);
    espl_str_put(&r->identity, k->identity.data, k->identity.len);
    ESPL_TRY(espl_str_status(&r->history_text));
    ESPL_TRY(espl_str_status(&r->agent));
    ESPL_TRY(espl_str_status(&r->config));
    ESPL_TRY(espl_str_status(&r->identity));
    espl_str_put(&r->milestones, k->milestones.data, k->milestones.len);
    return espl_str_status(&r->milestones);
}
