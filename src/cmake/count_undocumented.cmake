# SPDX-License-Identifier: Apache-2.0
# cmake -DWARNINGS=<Doxygen's log> -P: prints the number of public functions without a comment, and of other warnings.
file(STRINGS ${WARNINGS} all REGEX "warning:")
set(functions ${all})
list(FILTER functions INCLUDE REGEX "\\(function\\) of .* is not documented")
list(FILTER all EXCLUDE REGEX "is not documented")
list(LENGTH functions undocumented)
list(LENGTH all others)
message("${undocumented} public functions without a comment, ${others} other warnings (${WARNINGS})")
