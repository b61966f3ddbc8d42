/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The categories of the 57 subjects, from categories.py of hendrycks/test (subject, subcategory, category). Other
 * subjects, and the 14 that categories.py puts there, count as "other"; lm-evaluation-harness counts anatomy as STEM
 * instead.
 */
#include "espalier/eval/mmlu.h"

#include <string.h>

static const struct {
    espl_mmlu_category category;
    const char *subject;
} mmlu_categories[] = {
    {ESPL_MMLU_STEM, "abstract_algebra"},
    {ESPL_MMLU_STEM, "astronomy"},
    {ESPL_MMLU_STEM, "college_biology"},
    {ESPL_MMLU_STEM, "college_chemistry"},
    {ESPL_MMLU_STEM, "college_computer_science"},
    {ESPL_MMLU_STEM, "college_mathematics"},
    {ESPL_MMLU_STEM, "college_physics"},
    {ESPL_MMLU_STEM, "computer_security"},
    {ESPL_MMLU_STEM, "conceptual_physics"},
    {ESPL_MMLU_STEM, "electrical_engineering"},
    {ESPL_MMLU_STEM, "elementary_mathematics"},
    {ESPL_MMLU_STEM, "high_school_biology"},
    {ESPL_MMLU_STEM, "high_school_chemistry"},
    {ESPL_MMLU_STEM, "high_school_computer_science"},
    {ESPL_MMLU_STEM, "high_school_mathematics"},
    {ESPL_MMLU_STEM, "high_school_physics"},
    {ESPL_MMLU_STEM, "high_school_statistics"},
    {ESPL_MMLU_STEM, "machine_learning"},
    {ESPL_MMLU_HUMANITIES, "formal_logic"},
    {ESPL_MMLU_HUMANITIES, "high_school_european_history"},
    {ESPL_MMLU_HUMANITIES, "high_school_us_history"},
    {ESPL_MMLU_HUMANITIES, "high_school_world_history"},
    {ESPL_MMLU_HUMANITIES, "international_law"},
    {ESPL_MMLU_HUMANITIES, "jurisprudence"},
    {ESPL_MMLU_HUMANITIES, "logical_fallacies"},
    {ESPL_MMLU_HUMANITIES, "moral_disputes"},
    {ESPL_MMLU_HUMANITIES, "moral_scenarios"},
    {ESPL_MMLU_HUMANITIES, "philosophy"},
    {ESPL_MMLU_HUMANITIES, "prehistory"},
    {ESPL_MMLU_HUMANITIES, "professional_law"},
    {ESPL_MMLU_HUMANITIES, "world_religions"},
    {ESPL_MMLU_SOCIAL, "econometrics"},
    {ESPL_MMLU_SOCIAL, "high_school_geography"},
    {ESPL_MMLU_SOCIAL, "high_school_government_and_politics"},
    {ESPL_MMLU_SOCIAL, "high_school_macroeconomics"},
    {ESPL_MMLU_SOCIAL, "high_school_microeconomics"},
    {ESPL_MMLU_SOCIAL, "high_school_psychology"},
    {ESPL_MMLU_SOCIAL, "human_sexuality"},
    {ESPL_MMLU_SOCIAL, "professional_psychology"},
    {ESPL_MMLU_SOCIAL, "public_relations"},
    {ESPL_MMLU_SOCIAL, "security_studies"},
    {ESPL_MMLU_SOCIAL, "sociology"},
    {ESPL_MMLU_SOCIAL, "us_foreign_policy"},
};

static const char *const mmlu_category_labels[] = {
#define X(name, label) label,
    ESPL_MMLU_CATEGORY_LIST(X)
#undef X
};

const char *espl_mmlu_category_name(espl_mmlu_category c) {
    return (unsigned)c < ESPL_MMLU_CATEGORY_COUNT ? mmlu_category_labels[c] : "?";
}

espl_mmlu_category espl_mmlu_category_of(const char *subject) {
    for (size_t i = 0; i < sizeof mmlu_categories / sizeof *mmlu_categories; i++)
        if (strcmp(mmlu_categories[i].subject, subject) == 0) return mmlu_categories[i].category;
    return ESPL_MMLU_OTHER;
}
