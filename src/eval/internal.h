/* Private to the eval room. */
#ifndef ESPL_EVAL_INTERNAL_H
#define ESPL_EVAL_INTERNAL_H

#include "espalier/eval.h"

/* Local. Which of n questions a limited evaluation asks: `want` of them (all if want is 0 or >= n), drawn without
 * replacement from `seed`, in ascending order. chosen [n] takes the indices; returns their number. */
int64_t espl_eval_sample(int64_t n, int64_t want, uint64_t seed, int64_t *chosen);

/* ------------------------------------------------------------- sharing */

/* Collective. Rank 0's array of n elements (n as rank 0 has it) to all; elsewhere *inout (T **) is allocated. On
 * failure the same status everywhere. */
espl_status espl_eval_share_array(espl_comm *c, void *inout, int64_t n, size_t size, const char *what);

/* ----------------------------------------------------------------- CSV */

/* Cells as NUL-terminated strings. */
typedef struct csv {
    char *text;
    int64_t *cells; /* [rows * columns] offsets in text */
    int64_t *lines; /* [rows] line of the file a row starts on, from 1 */
    int64_t rows, columns;
} csv;

/* RFC 4180: quoted fields with doubled quotes, commas and line breaks in them; LF or CRLF. Empty lines are skipped, a
 * byte order mark too. ESPL_FORMAT naming `name` and the line: another number of columns, a quote that is not closed,
 * text after a closing quote, a NUL byte. */
espl_status csv_parse(const char *text, int64_t len, const char *name, int64_t columns, csv *out);
espl_status csv_read(const char *path, int64_t columns, csv *out);
const char *csv_cell(const csv *c, int64_t row, int64_t column);
void csv_free(csv *c);

/* ---------------------------------------------------------------- text */

/* Where text without white space at its ends starts and ends, as Python's strip() sees it. */
void text_strip(const char **text, int64_t *len);
/* Bytes of text without white space at its end. */
int64_t text_rstrip(const char *text, int64_t len);
/* Code points; a byte that is no UTF-8 counts as one. */
int64_t text_characters(const char *text, int64_t len);
/* SQuAD's normalisation (Rajpurkar et al. 2016): lower case, no ASCII punctuation, no articles, single spaces;
 * appended to *out. Lower case for ASCII, Latin, Greek, Cyrillic and Armenian letters. */
void espl_text_normalise(const char *text, int64_t len, espl_str *out);
/* Does normalised text a contain normalised text b as whole words? Never if b is empty. */
bool espl_text_has_words(const char *a, const char *b);
/* Lower case without spaces (0x20), nor white space at the ends: llm-kick's comparison. Appended to *out. */
void text_squeeze(const char *text, int64_t len, espl_str *out);
/* Appends `before` and v with so many digits, or JSON's null if v is not finite. */
void text_put_number(const char *before, double v, int digits, espl_str *out);

/* ------------------------------------------------------ building prompts */

/* One prompt as it is collected: full ids. */
typedef struct collected {
    int64_t at, n, scored; /* the last `scored` positions must be its own */
    int64_t group;         /* prompts of equal group, one after the other, make a family */
} collected;

typedef struct prompt_builder {
    espl_ids ids;
    collected *prompts;
    int64_t n, cap;
} prompt_builder;

espl_status builder_add(prompt_builder *b, const int32_t *ids, int64_t n, int64_t scored, int64_t group);
/* Finds the longest common beginning of each family. Local. */
espl_status builder_finish(const prompt_builder *b, espl_prompts *out);
void builder_free(prompt_builder *b);
/* Collective. Rank 0's prompts to all. */
espl_status prompts_share(espl_comm *c, espl_prompts *p);

/* ------------------------------------------------------------- packing */

/* The prompts as segments of micro-batches. */
typedef struct packing {
    espl_segment *segments;
    int64_t *owner; /* [n] prompt of each segment, -1: a family's prefix */
    espl_batch *batches;
    int64_t n, cap, n_batches, cap_batches;
} packing;

/* For a model opened with these options. ESPL_CONFIG: a prompt does not fit the model's context. */
espl_status packing_create(const espl_prompts *p, const espl_model_options *o, packing *out);
void packing_free(packing *p);
/* Is this the last segment of its prompt? */
bool packing_ends(const packing *k, const espl_prompts *p, int64_t segment);
/* Runs all micro-batches, with a progress line. Collective. */
espl_status packing_run(espl_comm *c, espl_model *m, const packing *k, const char *what);

#endif
