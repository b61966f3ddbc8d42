/*
 * checkpoint: the only home of HDF5.
 */
#ifndef ESPALIER_CHECKPOINT_H
#define ESPALIER_CHECKPOINT_H

#include "espalier/base.h"

/* Local. Version of the HDF5 library in use, "1.10.8". Borrowed. */
const char *espl_checkpoint_library(void);

#endif
