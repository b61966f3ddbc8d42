/* SPDX-License-Identifier: Apache-2.0 */
/* The checksum of summary.json. espl_run_summary_reads (espalier/run/job.h) verifies it. All functions are Local. */
#ifndef ESPL_RUN_SUMMARY_H
#define ESPL_RUN_SUMMARY_H

#include "espalier/base/json_writer.h"

/* Puts the last member of the summary: "crc32", of all bytes before the comma in front of it, as 8 hexadecimal digits.
 * CRC-32 because every scripting language has it. */
void espl_summary_put_checksum(espl_json_writer *w);

#endif
