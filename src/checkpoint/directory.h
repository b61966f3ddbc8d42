/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of the files in a directory of checkpoints. Private to the checkpoint room.
 */
#ifndef ESPL_CHECKPOINT_DIRECTORY_H
#define ESPL_CHECKPOINT_DIRECTORY_H

#include "espalier/base.h"

/* Endings after "dir/iteration-000012.h5". */
#define CHECKPOINT_WHOLE ""
#define CHECKPOINT_PART ".part"       /* being written */
#define CHECKPOINT_DAMAGED ".damaged" /* set aside */

/* Appends "dir/iteration-000012.h5" and the ending to *s. */
void espl_checkpoint_put_path(espl_str *s, const char *dir, int64_t iteration, const char *ending);

#endif
