/* SPDX-License-Identifier: Apache-2.0 */
/* The versions of the program and of its libraries. */
#ifndef ESPL_CLI_VERSION_H
#define ESPL_CLI_VERSION_H

/* Local. Prints them to stdout, one per line. */
void cli_version_print(void);

#endif
