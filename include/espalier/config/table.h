/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options as rows of a table: for code that handles options it does not know by name (sweeps, the documentation).
 * All functions are Local.
 */
#ifndef ESPALIER_CONFIG_TABLE_H
#define ESPALIER_CONFIG_TABLE_H

#include "espalier/config/config.h"
#include "espalier/config/jsonc.h"

typedef enum espl_option_type {
    ESPL_OPTION_TEXT,
    ESPL_OPTION_CHOICE,
    ESPL_OPTION_INTEGER,
    ESPL_OPTION_REAL,
    ESPL_OPTION_FLAG,
    ESPL_OPTION_NUMBERS
} espl_option_type;

/* A value of an enumeration by name. Lists end with name NULL. */
typedef struct espl_choice {
    const char *name;
    int value;
} espl_choice;

typedef struct espl_option {
    const char *section, *key, *meaning;
    espl_option_type type;
    espl_resume resume;
    size_t offset;              /* of the field in espl_config */
    const char *text;           /* default of a TEXT or NUMBERS */
    const espl_choice *choices; /* of a CHOICE; else NULL */
    double value, lo, hi;       /* default and range of the others, range of NUMBERS; integers are exact up to 2^53 */
} espl_option;

/* Numbers of the rows, and how many there are. */
enum {
#define X(type, section, key, value, lo, hi, resume, meaning) ESPL_OPTION_OF_##section##_##key,
    ESPL_CONFIG_OPTIONS(X)
#undef X
#define X(type, key, value, lo, hi, meaning) ESPL_OPTION_OF_policy_##key,
        ESPL_POLICY_LIST(X)
#undef X
            ESPL_OPTIONS
};
/* Rows of a section stand together, in the order of espl_section_table. */
extern const espl_option espl_option_table[ESPL_OPTIONS];

enum {
#define X(name, meaning) ESPL_SECTION_OF_##name,
    ESPL_CONFIG_SECTIONS(X)
#undef X
        ESPL_SECTIONS
};
typedef struct espl_section {
    const char *name, *meaning;
} espl_section;
extern const espl_section espl_section_table[ESPL_SECTIONS];

/* The row of section.key, and the row of a section; NULL if there is none. */
const espl_option *espl_option_find(const char *section, const char *key);
const espl_section *espl_section_find(const char *name);

/* Is the value a path of a file or directory to read? */
bool espl_option_is_path(const espl_option *row);
/* Appends an option's value as JSON. */
void espl_option_put_value(espl_str *s, const espl_option *row, const espl_config *o);
/* Appends an option's default as JSON; a TEXT without a default prints as "". */
void espl_option_put_default(espl_str *s, const espl_option *row);
/* Appends the value as it stands in a name or a table: a text without quotes. */
void espl_option_put_plain(espl_str *s, const espl_option *row, const espl_config *o);
/* Appends what the value may be, in words: "an integer from 2 to 16". */
void espl_option_put_expected(espl_str *s, const espl_option *row);
/* Appends "did you mean section.key?" for an unknown name, or the list of known ones. key "": a section is unknown. */
void espl_option_put_suggestion(espl_str *s, const char *section, const char *key);
/* Appends "; did you mean \"value\"?" if what was typed for a CHOICE is near one of its values, or a name of the
 * literature for one; otherwise nothing. */
void espl_option_put_choice_suggestion(espl_str *s, const espl_option *row, const char *typed);

/* Sets the option of *o to its default. The text that the field holds is freed. ESPL_NOMEM. */
espl_status espl_option_reset(const espl_option *row, espl_config *o);
bool espl_option_equal(const espl_option *row, const espl_config *a, const espl_config *b);

/* Reads the value at r->at into *o. ESPL_CONFIG if it does not fit. */
espl_status espl_option_take(espl_jsonc *r, const espl_option *row, espl_config *o);
/* Fails with "no such option", or, with key "", "no such section", and a suggestion. */
espl_status espl_option_fail_unknown(const espl_jsonc *r, int64_t at, const char *section, const char *key);

#endif
