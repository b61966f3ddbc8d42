/* What somebody may have meant who wrote a name that there is not. */
#include "espalier/config/table.h"

#include <string.h>

enum { NAME_MAX = 48 }; /* longer than any name of ours, with room for slips */

static int least(int a, int b) { return a < b ? a : b; }

/* Insertions, deletions and replacements that turn a into b (Levenshtein 1966); both at most NAME_MAX bytes. */
static int distance(const char *a, const char *b) {
    int row[NAME_MAX + 1], n = (int)strlen(b);
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 0; a[i]; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 0; j < n; j++) {
            int replaced = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = least(replaced, least(row[j], row[j + 1]) + 1);
        }
    }
    return row[n];
}

/* Twice the distance if `a` may be a slip for `name`, one more if they begin differently (slips seldom do); else a
 * large number. */
static int slip(const char *a, const char *name) {
    int n = (int)strlen(name);
    if (!*a || strlen(a) > NAME_MAX) return NAME_MAX;
    int d = distance(a, name);
    return d <= 1 + n / 4 ? 2 * d + (*a != *name) : NAME_MAX;
}

/* How far an option is from section.key: a wrong section costs as much as two slips in the key. */
static int option_distance(const espl_option *row, const char *section, const char *key) {
    int d = slip(key, row->key);
    return strcmp(row->section, section) == 0 ? d : d + 4;
}

static const espl_option *nearest_option(const char *section, const char *key) {
    int best = NAME_MAX;
    const espl_option *found = NULL;
    for (int i = 0; i < ESPL_OPTIONS; i++) {
        int d = option_distance(&espl_option_table[i], section, key);
        if (d >= best) continue;
        best = d;
        found = &espl_option_table[i];
    }
    return found;
}

static const char *nearest_section(const char *name) {
    int best = NAME_MAX;
    const char *found = NULL;
    for (int i = 0; i < ESPL_SECTIONS; i++) {
        int d = slip(name, espl_section_table[i].name);
        if (d >= best) continue;
        best = d;
        found = espl_section_table[i].name;
    }
    return found;
}

static void put_keys(espl_str *s, const char *section) {
    const char *between = "";
    espl_str_printf(s, "%s has: ", section);
    for (int i = 0; i < ESPL_OPTIONS; i++) {
        if (strcmp(espl_option_table[i].section, section) != 0) continue;
        espl_str_printf(s, "%s%s", between, espl_option_table[i].key);
        between = ", ";
    }
}

static void put_sections(espl_str *s) {
    espl_str_puts(s, "sections are: ");
    for (int i = 0; i < ESPL_SECTIONS; i++) espl_str_printf(s, "%s%s", i ? ", " : "", espl_section_table[i].name);
}

void espl_option_suggest(espl_str *s, const char *section, const char *key) {
    bool known = espl_section_find(section) != NULL;
    const char *other = known ? NULL : nearest_section(section);
    const espl_option *row = *key ? nearest_option(other ? other : section, key) : NULL;
    if (!*key && !other) row = nearest_option("", section); /* an option outside its section */
    if (row)
        espl_str_printf(s, "did you mean %s.%s?", row->section, row->key);
    else if (other)
        espl_str_printf(s, "did you mean %s?", other);
    else if (known)
        put_keys(s, section);
    else
        put_sections(s);
}
