/* Private to the room: the configuration's options as rows of one table. */
#ifndef ESPALIER_CONFIG_TABLE_H
#define ESPALIER_CONFIG_TABLE_H

#include "espalier/config/config.h"

#include "espalier/config/reader.h"

typedef enum espl_option_type {
    ESPL_OPTION_TEXT,
    ESPL_OPTION_INTEGER,
    ESPL_OPTION_REAL,
    ESPL_OPTION_FLAG
} espl_option_type;

typedef struct espl_option {
    const char *section, *key, *meaning;
    espl_option_type type;
    size_t at;            /* offset in espl_config */
    const char *text;     /* default of a TEXT */
    const char *values;   /* what a TEXT may be, "a|b|c"; NULL: anything */
    double value, lo, hi; /* default and range of the others; integers are exact */
} espl_option;

/* The rows' numbers, and how many there are. */
enum {
#define X(type, section, key, value, lo, hi, meaning) ESPL_OPTION_OF_##section##_##key,
    ESPL_CONFIG_OPTIONS(X)
#undef X
#define X(type, key, value, lo, hi, meaning) ESPL_OPTION_OF_policy_##key,
        ESPL_POLICY_LIST(X)
#undef X
            ESPL_OPTIONS
};
enum {
#define X(name, meaning) ESPL_SECTION_OF_##name,
    ESPL_CONFIG_SECTIONS(X)
#undef X
        ESPL_SECTIONS
};

/* Rows of a section stand together, sections in the order of espl_section_table. */
extern const espl_option espl_option_table[ESPL_OPTIONS];

typedef struct espl_section {
    const char *name, *meaning;
} espl_section;
extern const espl_section espl_section_table[ESPL_SECTIONS];

/* Where an option is held: char *, int64_t, double or bool. */
static inline void *espl_option_field(const espl_option *row, espl_config *o) { return (char *)o + row->at; }
static inline const void *espl_option_value(const espl_option *row, const espl_config *o) {
    return (const char *)o + row->at;
}

/* NULL: there is no such option or section. */
const espl_option *espl_option_find(const char *section, const char *key);
const espl_section *espl_section_find(const char *name);

/* "an integer from 2 to 16": what an option may be, appended. */
void espl_option_put_expected(espl_str *s, const espl_option *row);
/* Appends a number that reads back as the same double, in as few digits as that takes. */
void espl_option_put_real(espl_str *s, double v);

/* Appends what somebody may have meant who wrote section.key, of which there is none, or, with key "", such a section:
 * the nearest known name, or a list of those there are. */
void espl_option_suggest(espl_str *s, const char *section, const char *key);

/* Takes the option's value at r->at into *o: ESPL_CONFIG if it does not fit. */
espl_status espl_option_take(espl_reader *r, const espl_option *row, espl_config *o);
/* ESPL_CONFIG: there is no such option, or, with key "", no such section. */
espl_status espl_option_fail_unknown(const espl_reader *r, int64_t at, const char *section, const char *key);

#endif
