/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/locate: from what people call a model to its directory. All functions are Local; nothing is ever downloaded.
 */
#ifndef ESPALIER_MODEL_LOCATE_H
#define ESPALIER_MODEL_LOCATE_H

#include "espalier/base/status.h"
#include "espalier/base/str.h"

/* Sets *dir to the directory of the model `given`, which is
 *   - a directory with a config.json or, for its tokenizer, a tokenizer.json; it goes before a hub id of the same name;
 *   - a hub id, OWNER/NAME or OWNER/NAME@REVISION: its snapshot in the cache of the Hugging Face hub (HF_HUB_CACHE,
 *     HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub or ~/.cache/huggingface/hub). The default revision is main.
 * ESPL_IO: not there; the message says which command downloads it, or what the directory is instead. ESPL_UNSUPPORTED:
 * an adapter. *dir must be empty; free it with espl_str_free in any case. */
espl_status espl_model_locate(const char *given, espl_str *dir);

/* Appends the name of the model in `dir`: the last part of the path or, for a snapshot of the hub's cache, which is
 * named by a hash, that of its repository. */
void espl_model_put_name(const char *dir, espl_str *out);
/* The same, but for a snapshot of the hub's cache the hub id, OWNER/NAME. */
void espl_model_put_id(const char *dir, espl_str *out);

#endif
