/* The tables of the file as C arrays, and the run's data packed into them. */
#include "internal.h"

#include <string.h>

typedef struct field {
    const char *name;
    size_t offset;
    char kind;
} field;

#define FIELD_OF(record, member, letter) {#member, offsetof(record, member), #letter[0]},
#define PROFILE_FIELD(member, letter) FIELD_OF(profile_record, member, letter)
#define PROBE_FIELD(member, letter) FIELD_OF(probe_record, member, letter)
#define ITEM_FIELD(member, letter) FIELD_OF(item_record, member, letter)
#define OUTCOME_FIELD(member, letter) FIELD_OF(outcome_record, member, letter)
static const field profile_fields[] = {PROFILE_FIELDS(PROFILE_FIELD){0}};
static const field probe_fields[] = {PROBE_FIELDS(PROBE_FIELD){0}};
static const field item_fields[] = {ITEM_FIELDS(ITEM_FIELD){0}};
static const field outcome_fields[] = {OUTCOME_FIELDS(OUTCOME_FIELD){0}};

static hid_t compound(const field *f, size_t bytes) {
    hid_t type = H5Tcreate(H5T_COMPOUND, bytes), name = espl_h5_text_type(NAME_BYTES);
    bool ok = type >= 0 && name >= 0;
    for (; ok && f->name; f++) {
        hid_t member = f->kind == 'I' ? H5T_STD_I64LE : f->kind == 'F' ? H5T_IEEE_F64LE : name;
        ok = H5Tinsert(type, f->name, f->offset, member) >= 0;
    }
    if (name >= 0) H5Tclose(name);
    if (ok || type < 0) return type;
    H5Tclose(type);
    return -1;
}

espl_status espl_records_tables(records *r, table_entry tables[TABLES]) {
    static const char probe[] =
        "measures of a whole model: perplexity on the validation windows, its logarithm and that "
        "one's standard error, questions answered; NaN and 0 where a probe is off";
    const field *fields[TABLES] = {profile_fields, outcome_fields, item_fields, probe_fields, probe_fields};
    const table_entry list[TABLES] = {
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
    for (int i = 0; i < TABLES; i++) ok = (tables[i].type = compound(fields[i], tables[i].row_bytes)) >= 0 && ok;
    if (ok) return ESPL_OK;
    espl_records_close_tables(tables);
    return ESPL_FAIL(ESPL_INTERNAL, "HDF5 refuses the checkpoint's table types");
}

void espl_records_close_tables(table_entry tables[TABLES]) {
    for (int i = 0; i < TABLES; i++)
        if (tables[i].type >= 0) H5Tclose(tables[i].type);
}

void espl_records_texts(records *r, text_entry texts[TEXTS]) {
    const text_entry list[TEXTS] = {
        {"/history_text", "reasons and reflections of the decisions, end to end", &r->history_text},
        {"/agent", "what the agent remembers, JSON", &r->agent},
        {"/config", "effective configuration of the run, JSON", &r->config},
        {"/identity", "which model and data the run is about, JSON", &r->identity}};
    memcpy(texts, list, sizeof list);
}

void espl_records_free(records *r) {
    espl_mem_free(&r->profile);
    espl_mem_free(&r->history);
    espl_mem_free(&r->items);
    espl_str_free(&r->history_text);
    espl_str_free(&r->agent);
    espl_str_free(&r->config);
    espl_str_free(&r->identity);
    *r = (records){0};
}

/* -------------------------------------------------------------- packing */

static probe_record pack_probe(const espl_probe *p) {
    return (probe_record){p->perplexity,       p->nll,        p->nll_stderr, p->freebaseqa_right,
                          p->freebaseqa_total, p->mmlu_right, p->mmlu_total};
}

static espl_status pack_profile(const espl_checkpoint *k, const espl_checkpoint_shape *shape, records *r) {
    r->n_profile = k->rows ? shape->layers * ESPL_LINEAR_KINDS : 0;
    ESPL_TRY(espl_mem_alloc(&r->profile, r->n_profile, sizeof *r->profile, "profile of a checkpoint"));
    for (int64_t i = 0; k->rows && i < r->n_profile; i++) {
        const espl_profile_row *p = &k->rows[i];
        r->profile[i] = (profile_record){.layer = espl_linear_layer(i),
                                         .weights = p->weights,
                                         .pruned = p->pruned,
                                         .s = p->s,
                                         .g = p->g,
                                         .z_s = p->z_s,
                                         .z_g = p->z_g};
        espl_linear_name(i, r->profile[i].name);
    }
    return ESPL_OK;
}

/* The outcome's own columns, then its two probes: they stand next to each other, in the order of probe_record. */
static outcome_record pack_outcome(const espl_outcome *o, espl_str *pool) {
    const espl_decision *d = &o->decision;
    outcome_record x = {.iteration = o->iteration,
                        .accepted = o->accepted,
                        .stop = d->stop,
                        .items = d->n,
                        .sparsity_before = o->sparsity_before,
                        .sparsity_after = o->sparsity_after,
                        .reason_at = pool->len};
    probe_record before = pack_probe(&o->before), after = pack_probe(&o->after);
    memcpy(&x.before_perplexity, &before, sizeof before);
    memcpy(&x.after_perplexity, &after, sizeof after);
    espl_str_puts(pool, d->reason ? d->reason : "");
    x.reason_bytes = pool->len - x.reason_at;
    x.reflection_at = pool->len;
    espl_str_puts(pool, d->reflection ? d->reflection : "");
    x.reflection_bytes = pool->len - x.reflection_at;
    return x;
}

static item_record pack_item(int64_t iteration, const espl_decision_item *item) {
    return (item_record){iteration, item->linear, item->step, item->pattern.n, item->pattern.m};
}

static espl_status pack_history(const espl_checkpoint *k, records *r) {
    r->n_history = k->n_history;
    for (int64_t i = 0; i < k->n_history; i++) r->n_items += k->history[i].decision.n;
    ESPL_TRY(espl_mem_alloc(&r->history, r->n_history, sizeof *r->history, "history of a checkpoint"));
    ESPL_TRY(espl_mem_alloc(&r->items, r->n_items, sizeof *r->items, "history of a checkpoint"));
    for (int64_t i = 0, at = 0; i < k->n_history; i++) {
        const espl_outcome *o = &k->history[i];
        r->history[i] = pack_outcome(o, &r->history_text);
        for (int64_t j = 0; j < o->decision.n; j++) r->items[at++] = pack_item(o->iteration, &o->decision.items[j]);
    }
    return espl_str_status(&r->history_text);
}

static espl_status copy_text(const espl_str *from, espl_str *to) {
    espl_str_put(to, from->data ? from->data : "", from->len);
    return espl_str_status(to);
}

espl_status espl_records_pack(const espl_checkpoint *k, const espl_checkpoint_shape *shape, records *r) {
    *r = (records){.dense = pack_probe(&k->dense), .last = pack_probe(&k->last)};
    ESPL_TRY(pack_profile(k, shape, r));
    ESPL_TRY(pack_history(k, r));
    ESPL_TRY(copy_text(&k->agent, &r->agent));
    ESPL_TRY(copy_text(&k->config, &r->config));
    return copy_text(&k->identity, &r->identity);
}
