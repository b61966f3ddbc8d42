/* SPDX-License-Identifier: Apache-2.0 */
/* Hints for MPI-IO, from the text of an option to an MPI_Info. */
#include <mpi.h>
#include <string.h>

#include "espalier/comm.h"

typedef struct comm_hint {
    char name[MPI_MAX_INFO_KEY], value[MPI_MAX_INFO_VAL];
} comm_hint;

/* Copies text[0..len) without the spaces around it. False if it is empty, or longer than MPI takes. */
static bool hints_copy(const char *text, size_t len, char *out, size_t size) {
    while (len > 0 && *text == ' ') text++, len--;
    while (len > 0 && text[len - 1] == ' ') len--;
    if (len == 0 || len >= size) return false;
    memcpy(out, text, len);
    out[len] = '\0';
    return true;
}

/* Takes the next hint from *at, which moves behind it. */
static espl_status hints_next(const char **at, comm_hint *hint) {
    const char *text = *at;
    size_t len = strcspn(text, ",");
    const char *equals = memchr(text, '=', len);
    *at = text[len] ? text + len + 1 : text + len;
    if (equals && hints_copy(text, (size_t)(equals - text), hint->name, sizeof hint->name) &&
        hints_copy(equals + 1, len - (size_t)(equals + 1 - text), hint->value, sizeof hint->value))
        return ESPL_OK;
    return ESPL_FAIL(ESPL_CONFIG,
                     "\"%.*s\" is no hint for MPI-IO, expected name=value, such as striping_factor=8 (names of at most "
                     "%d bytes, values of at most %d, commas between hints)",
                     (int)len, text, MPI_MAX_INFO_KEY - 1, MPI_MAX_INFO_VAL - 1);
}

espl_status espl_comm_hints_check(const char *hints) {
    comm_hint hint;
    while (*hints) ESPL_TRY(hints_next(&hints, &hint));
    return ESPL_OK;
}

espl_status espl_comm_hints_create(const char *hints, void *mpi_info) {
    comm_hint hint;
    MPI_Info info;
    ESPL_TRY(espl_comm_hints_check(hints));
    MPI_Info_create(&info);
    while (*hints) {
        (void)hints_next(&hints, &hint);
        MPI_Info_set(info, hint.name, hint.value);
    }
    memcpy(mpi_info, &info, sizeof info);
    return ESPL_OK;
}

void espl_comm_hints_free(void *mpi_info) { MPI_Info_free(mpi_info); }
