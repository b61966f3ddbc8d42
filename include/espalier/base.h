/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base: what every room builds on. Includes all headers of the room; include a single one where that is enough. No MPI
 * here. All functions are Local.
 */
#ifndef ESPALIER_BASE_H
#define ESPALIER_BASE_H

#include "espalier/base/absent.h"
#include "espalier/base/fault.h"
#include "espalier/base/file.h"
#include "espalier/base/hash.h"
#include "espalier/base/integer.h"
#include "espalier/base/journal.h"
#include "espalier/base/json.h"
#include "espalier/base/json_writer.h"
#include "espalier/base/log.h"
#include "espalier/base/memory.h"
#include "espalier/base/region.h"
#include "espalier/base/rng.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"
#include "espalier/base/typo.h"

/* Callers rely on these too. */
#include <stddef.h>
#include <stdio.h>

#endif
